//! `port-forward`: a port of this machine leads into a pod, whatever its enclosure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{ALL, Lines, Running, WAITS, World, app, pod, until};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

/// A forwarding, with the local port that it printed.
fn forward(world: &World, args: &[&str]) -> (Running, Lines, u16) {
    let mut child = Running(world.spawn(&[&["port-forward"], args].concat(), b""));
    let lines = Lines::of(child.0.stdout.take().unwrap());
    let line = lines.wait_for("Forwarding from 127.0.0.1:");
    let port = line.split([':', ' ']).nth(3).unwrap().parse().unwrap();
    (child, lines, port)
}

/// What the other side says to these words, once the client has said all.
fn talk(port: u16, words: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(common::patience()))?;
    let (mut writer, words) = (stream.try_clone()?, words.to_vec());
    // Beside the reading: the answer comes while it is still spoken.
    let speaker = std::thread::spawn(move || writer.write_all(&words).and_then(|()| writer.shutdown(Shutdown::Write)));
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    speaker.join().unwrap()?;
    Ok(answer)
}

/// A pod that answers each connection to port 7000 with what it was told, and whose port 7001 serves its
/// name on loopback only.
fn echoing(world: &World, handler: &str) {
    let script = format!("echo {handler} >/tmp/name; httpd -p 127.0.0.1:7001 -h /tmp; nc -ll -p 7000 -e cat & {WAITS}");
    world.detach(&[pod(handler, handler, &[app(&script)])]);
}

#[test]
fn what_is_said_comes_back_from_a_pods_loopback_under_every_handler() {
    let world = World::new();
    let long: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    for handler in ALL {
        echoing(&world, handler);
        let (_forward, lines, port) = forward(&world, &[handler, ":7000"]);
        until("it answers", || talk(port, b"hello").is_ok_and(|a| a == b"hello").then_some(()));
        lines.wait_for("Handling connection for");
        assert!(talk(port, &long).unwrap() == long, "{handler}: not all came back");
        let many: Vec<_> = (0..8).map(|n| std::thread::spawn(move || talk(port, format!("client {n}").as_bytes()).unwrap())).collect();
        for (n, one) in many.into_iter().enumerate() {
            assert_eq!(one.join().unwrap(), format!("client {n}").as_bytes(), "{handler}");
        }
        let (_forward, _lines, port) = forward(&world, &[handler, ":7001"]);
        let page = talk(port, b"GET /name HTTP/1.0\r\n\r\n").unwrap();
        assert!(String::from_utf8_lossy(&page).ends_with(&format!("{handler}\n")), "{handler}: {}", String::from_utf8_lossy(&page));
    }
}

#[test]
fn a_port_on_which_nobody_listens_is_told_and_the_next_connection_is_taken() {
    let world = World::new();
    for handler in ALL {
        world.detach(&[pod(handler, handler, &[app(WAITS)])]);
        let (mut forward, _lines, port) = forward(&world, &[handler, ":7000"]);
        assert_eq!(talk_quietly(port), b"", "{handler}");
        let errors = Lines::of(forward.0.stderr.take().unwrap());
        let line = errors.wait_for("7000");
        assert!(line.contains("refused"), "{handler}: {line}");
        assert_eq!(talk_quietly(port), b"");
        errors.wait_for("7000");
    }
}

/// As [`talk`], where the other side may break off at any moment.
fn talk_quietly(port: u16) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(common::patience())).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn it_ends_with_its_pod() {
    let world = World::new();
    echoing(&world, "crun");
    let (mut forward, _lines, _port) = forward(&world, &["crun", ":7000"]);
    world.call(&["stop", "crun", "--grace", "0"]).good();
    let status = until("it ends", || forward.0.try_wait().unwrap());
    assert_eq!(status.code(), Some(120));
}

#[test]
fn a_taken_port_is_refused_with_the_port() {
    let world = World::new();
    world.detach(&[pod("p", "crun", &[app(WAITS)])]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    world.call(&["port-forward", "p", &format!("{port}:80")]).fails(120, &port);
    world.call(&["port-forward", "p", "http"]).fails(120, "is not a port");
    world.call(&["port-forward", "q", "80"]).fails(120, "is not here");
}
