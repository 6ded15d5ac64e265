//! A machine in a network namespace of its own, beside an outside that it reaches through its
//! default route: nothing of the machine that runs the tests is changed. Needs root and ip.
#![allow(dead_code)]

use cofferdam_host::netns;
use cofferdam_network::Config;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub(crate) const BRIDGE: &str = "cdtest0";

pub(crate) fn config() -> Config {
    Config {
        bridge: BRIDGE.into(),
        subnet: "10.213.0.0/16".parse().unwrap(),
        ..Config::default()
    }
}

pub(crate) fn id(number: u8) -> String {
    format!("{number:02x}").repeat(16)
}

pub(crate) fn output(command: &str) -> String {
    let out = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(out.status.success(), "{command}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// A namespace, and a path to it that lasts as long.
pub(crate) struct Namespace(pub(crate) OwnedFd);

impl Namespace {
    pub(crate) fn new() -> Self {
        Self(netns::create().unwrap())
    }

    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }

    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        netns::run_in(self.0.as_fd(), work).unwrap()
    }

    pub(crate) fn sh(&self, command: &str) -> String {
        self.run(|| output(command))
    }

    pub(crate) fn listen(&self, address: &str) -> TcpListener {
        self.run(|| TcpListener::bind(address).unwrap())
    }

    /// Connects, sends bytes through, and tells whom the listener saw.
    pub(crate) fn reach(&self, to: &str, listener: &TcpListener) -> Option<IpAddr> {
        let to: SocketAddr = to.parse().unwrap();
        let mut stream = self.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(3)).ok())?;
        let (mut accepted, peer) = listener.accept().unwrap();
        let sent = [7u8; 100_000];
        let mut got = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                stream.write_all(&sent).unwrap();
                drop(stream);
            });
            accepted.read_to_end(&mut got).unwrap();
        });
        assert_eq!(got, sent);
        Some(peer.ip())
    }

    /// Sends a datagram to and fro; false where nothing comes back.
    pub(crate) fn ask(&self, to: &str, server: &UdpSocket) -> bool {
        let bind = if to.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
        let socket = self.run(|| UdpSocket::bind(bind).unwrap());
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut buffer = [0; 16];
        if socket.connect(to).and_then(|()| socket.send(b"ping")).is_err() {
            return false;
        }
        let Ok((_, from)) = server.recv_from(&mut buffer) else {
            return false;
        };
        server.send_to(b"pong", from).unwrap();
        socket.recv(&mut buffer).is_ok_and(|count| &buffer[..count] == b"pong")
    }
}

/// A machine (10.214.0.2, fd00:214::2) behind an outside (10.214.0.1, fd00:214::1).
pub(crate) struct World {
    pub(crate) outside: Namespace,
    pub(crate) machine: Namespace,
    state: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let world = Self {
            outside: Namespace::new(),
            machine: Namespace::new(),
            state: tempfile::tempdir().unwrap(),
        };
        let fd = world.machine.path();
        world.outside.sh(&format!(
            "ip link set lo up; ip link add out0 type veth peer name eth0 netns {}; ip link set out0 up
             ip addr add 10.214.0.1/24 dev out0; ip -6 addr add fd00:214::1/64 dev out0 nodad",
            fd.display()
        ));
        world.machine.sh(
            "ip link set lo up; ip link set eth0 up; ip addr add 10.214.0.2/24 dev eth0; ip -6 addr add fd00:214::2/64 dev eth0 nodad
             ip route add default via 10.214.0.1; ip -6 route add default via fd00:214::1",
        );
        world
    }

    pub(crate) fn state(&self) -> &Path {
        self.state.path()
    }

    pub(crate) fn on_machine<T: Send>(&self, work: impl FnOnce(&Path) -> T + Send) -> T {
        self.machine.run(|| work(self.state.path()))
    }
}
