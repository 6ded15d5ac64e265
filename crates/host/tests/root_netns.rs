//! Network namespaces. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cofferdam_host::netns;
use cofferdam_host::process::Identity;
use std::net::UdpSocket;
use std::os::fd::AsFd;

#[test]
fn work_runs_inside_and_the_caller_stays_outside() {
    let ns = netns::create().unwrap();
    assert!(!netns::is_own(&ns).unwrap());
    assert!(netns::is_own(netns::open("/proc/self/ns/net").unwrap()).unwrap());
    let inside = netns::run_in(ns.as_fd(), || netns::is_own(&ns).unwrap()).unwrap();
    assert!(inside);
    assert!(!netns::is_own(&ns).unwrap());
    // lo is down in a new namespace: a socket made inside stays there.
    let socket = netns::run_in(ns.as_fd(), || UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    assert!(socket.send_to(b"x", "127.0.0.1:9").is_err());
    let outside = UdpSocket::bind("0.0.0.0:0").unwrap();
    outside.send_to(b"x", outside_address(&outside)).unwrap();
    assert!(netns::run_in(std::fs::File::open("/dev/null").unwrap().as_fd(), || ()).is_err());
}

fn outside_address(socket: &UdpSocket) -> (&'static str, u16) {
    ("127.0.0.1", socket.local_addr().unwrap().port())
}

#[test]
fn a_process_lends_its_namespace() {
    let mut child = std::process::Command::new("unshare")
        .args(["-n", "sleep", "100"])
        .spawn()
        .unwrap();
    let identity = Identity::of(child.id() as i32).unwrap().unwrap();
    let opened = netns::open_of(identity).unwrap().unwrap();
    assert!(netns::run_in(opened.as_fd(), || ()).is_ok());
    let other = Identity {
        start_ticks: identity.start_ticks + 1,
        ..identity
    };
    assert!(netns::open_of(other).unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(netns::open_of(identity).unwrap().is_none());
}
