//! The whole network, for real. Each test builds its own "machine" in a network namespace, beside
//! an "outside" that the machine reaches through its default route, so that nothing of the machine
//! that runs the tests is changed. Needs root, nft and ip.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cofferdam_host::netns;
use cofferdam_network::link::{delete_link, link_exists, list_links};
use cofferdam_network::{Attached, Bridge, Config, Error, Ipam, Probe, lo_up, probe};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn config(bridge: &str, subnet: &str) -> Config {
    Config {
        bridge: bridge.into(),
        subnet: subnet.parse().unwrap(),
        ..Config::default()
    }
}

fn pod(number: u8) -> String {
    format!("{number:02x}").repeat(16)
}

/// A machine (address 10.214.0.2) behind an outside (10.214.0.1).
struct World {
    outside: OwnedFd,
    machine: OwnedFd,
    _outside_state: tempfile::TempDir,
    state: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self {
            outside: netns::create().unwrap(),
            machine: netns::create().unwrap(),
            _outside_state: tempfile::tempdir().unwrap(),
            state: tempfile::tempdir().unwrap(),
        };
        netns::run_in(world.outside.as_fd(), || {
            let outside = Config {
                mtu: Some(1400),
                ..config("cdout0", "10.214.0.0/16")
            };
            let bridge = Bridge::ensure(&outside, world._outside_state.path()).unwrap();
            bridge
                .attach(
                    world.machine.as_fd(),
                    &pod(0xee),
                    Ipv4Addr::new(10, 214, 0, 2),
                )
                .unwrap();
        })
        .unwrap();
        world
    }

    fn on_machine<T: Send>(&self, work: impl FnOnce(&Path) -> T + Send) -> T {
        netns::run_in(self.machine.as_fd(), || work(self.state.path())).unwrap()
    }
}

/// A pod's namespace and how it is attached.
fn attach(bridge: &Bridge, ipam: &Ipam, number: u8) -> (OwnedFd, Attached) {
    let namespace = netns::create().unwrap();
    let ip = ipam.allocate(&pod(number)).unwrap();
    let attached = bridge.attach(namespace.as_fd(), &pod(number), ip).unwrap();
    (namespace, attached)
}

fn listen(namespace: &OwnedFd) -> TcpListener {
    netns::run_in(namespace.as_fd(), || {
        TcpListener::bind("0.0.0.0:0").unwrap()
    })
    .unwrap()
}

/// Connects from `namespace` to `address`, sends bytes through, and tells whom the listener saw.
fn reach(namespace: &OwnedFd, address: Ipv4Addr, listener: &TcpListener) -> Option<IpAddr> {
    let to = SocketAddr::from((address, listener.local_addr().unwrap().port()));
    let connect = || TcpStream::connect_timeout(&to, Duration::from_secs(3));
    let mut stream = netns::run_in(namespace.as_fd(), connect).unwrap().ok()?;
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

fn output(command: &str) -> String {
    let out = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(
        out.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn pods_reach_one_another_the_machine_and_outside_but_are_not_reached_from_there() {
    let world = World::new();
    world.on_machine(|state| {
        let config = config("cdtest0", "10.213.0.0/16");
        let bridge = Bridge::ensure(&config, state).unwrap();
        assert_eq!(bridge.warnings(), []);
        assert_eq!(bridge.mtu(), 1400, "that of the default route's link");
        let ipam = Ipam::open(&config, state).unwrap();
        let (a, at_a) = attach(&bridge, &ipam, 0xa1);
        let (b, at_b) = attach(&bridge, &ipam, 0xb2);
        assert_eq!(
            (at_a.ip, at_b.ip),
            (Ipv4Addr::new(10, 213, 0, 2), Ipv4Addr::new(10, 213, 0, 3))
        );
        assert_eq!(
            (at_a.gateway, at_a.prefix),
            (Ipv4Addr::new(10, 213, 0, 1), 16)
        );
        assert_eq!(
            (at_a.mac.as_str(), at_a.host_link.as_str()),
            ("0a:58:0a:d5:00:02", "cda1a1a1a1a1a1")
        );

        let in_b = listen(&b);
        assert_eq!(reach(&a, at_b.ip, &in_b), Some(at_a.ip.into()));
        // lo is up too.
        assert!(reach(&b, Ipv4Addr::LOCALHOST, &in_b).is_some());
        assert_eq!(
            reach(&world.machine, at_b.ip, &in_b),
            Some(at_a.gateway.into())
        );
        let on_machine = listen(&world.machine);
        assert_eq!(reach(&a, at_a.gateway, &on_machine), Some(at_a.ip.into()));
        // Outside sees the machine's address, for it could not answer a pod's.
        let outside = listen(&world.outside);
        let machine = Ipv4Addr::new(10, 214, 0, 2);
        assert_eq!(
            reach(&a, Ipv4Addr::new(10, 214, 0, 1), &outside),
            Some(machine.into())
        );
        // Somebody outside who sends to the pods by a route of his own is not let through.
        netns::run_in(world.outside.as_fd(), || {
            output("ip route add 10.213.0.0/16 via 10.214.0.2")
        })
        .unwrap();
        assert_eq!(reach(&world.outside, at_b.ip, &in_b), None);
        // With the rules gone he would be: it is they that keep him out.
        output("nft delete table inet cofferdam");
        assert!(reach(&world.outside, at_b.ip, &in_b).is_some());
        // And they come back.
        Bridge::ensure(&config, state).unwrap();
        assert_eq!(
            reach(&a, Ipv4Addr::new(10, 214, 0, 1), &outside),
            Some(machine.into())
        );
    });
}

#[test]
fn the_namespace_is_set_up_as_asked() {
    let world = World::new();
    world.on_machine(|state| {
        let config = Config {
            mtu: Some(1300),
            ..config("cdtest0", "10.213.0.0/16")
        };
        let bridge = Bridge::ensure(&config, state).unwrap();
        let ipam = Ipam::open(&config, state).unwrap();
        let (ns, _) = attach(&bridge, &ipam, 0xa1);
        let inside =
            netns::run_in(ns.as_fd(), || output("ip -o addr; ip -o link; ip route")).unwrap();
        assert!(
            inside.contains("eth0    inet 10.213.0.2/16 brd 10.213.255.255"),
            "{inside}"
        );
        assert!(
            inside.contains("mtu 1300") && inside.contains("link/ether 0a:58:0a:d5:00:02"),
            "{inside}"
        );
        assert!(
            inside.contains("default via 10.213.0.1 dev eth0"),
            "{inside}"
        );
        assert!(inside.contains("inet 127.0.0.1/8"), "{inside}");
        let outside = output("ip -o link show cda1a1a1a1a1a1");
        assert!(
            outside.contains("master cdtest0")
                && outside.contains("mtu 1300")
                && outside.contains(",UP"),
            "{outside}"
        );
        // Only a kernel with IPv6 has this setting.
        if Path::new("/proc/sys/net/ipv6").exists() {
            let setting =
                || std::fs::read_to_string("/proc/sys/net/ipv6/conf/eth0/accept_ra").unwrap();
            assert_eq!(netns::run_in(ns.as_fd(), setting).unwrap().trim(), "0");
        }
        assert_eq!(
            std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward")
                .unwrap()
                .trim(),
            "1"
        );
    });
}

#[test]
fn a_dropped_namespace_takes_its_links_and_teardown_leaves_nothing() {
    let world = World::new();
    world.on_machine(|state| {
        let before = output("ip -o link; ip route; nft list ruleset");
        let config = config("cdtest0", "10.213.0.0/16");
        let bridge = Bridge::ensure(&config, state).unwrap();
        let ipam = Ipam::open(&config, state).unwrap();
        let (a, at_a) = attach(&bridge, &ipam, 0xa1);
        let (b, at_b) = attach(&bridge, &ipam, 0xb2);
        let mut ours = list_links().unwrap();
        ours.sort();
        assert_eq!(ours, [at_a.host_link.clone(), at_b.host_link.clone()]);

        drop(a);
        for _ in 0..1000 {
            if !link_exists(&at_a.host_link).unwrap() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(list_links().unwrap(), [at_b.host_link.as_str()]);
        delete_link(&at_b.host_link).unwrap();
        delete_link(&at_b.host_link).unwrap();
        assert_eq!(list_links().unwrap(), [""; 0]);
        // Attached again under the same id, as after a recovery; and torn down while attached.
        bridge.attach(b.as_fd(), &pod(0xb2), at_b.ip).unwrap();
        for _ in 0..2 {
            Bridge::teardown(&config, state).unwrap();
        }
        assert_eq!(output("ip -o link; ip route; nft list ruleset"), before);
    });
}

#[test]
fn ensure_is_idempotent_at_once_and_after_a_kill_half_way() {
    let world = World::new();
    world.on_machine(|state| {
        let config = config("cdtest0", "10.213.0.0/16");
        let indexes = std::thread::scope(|scope| {
            // Threads of this thread: they stay in its namespace.
            let threads: Vec<_> =
                (0..6).map(|_| scope.spawn(|| Bridge::ensure(&config, state).unwrap().mtu())).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(indexes, [1400; 6]);
        let rules = output("nft list ruleset");
        assert_eq!(rules.matches("hook postrouting").count(), 1, "{rules}");
        // Killed before the address was set, or the link was up.
        output("ip addr flush dev cdtest0; ip link set cdtest0 down");
        Bridge::ensure(&config, state).unwrap();
        let link = output("ip -o addr show cdtest0; ip -o link show cdtest0");
        assert!(link.contains("10.213.0.1/16") && link.contains(",UP"), "{link}");
        // A table of another build or subnet is replaced.
        output("nft -f - <<E\ntable inet cofferdam {}\ndelete table inet cofferdam\ntable inet cofferdam { comment \"old\"; }\nE");
        Bridge::ensure(&config, state).unwrap();
        assert_eq!(output("nft list ruleset"), rules);
    });
}

#[test]
fn what_is_in_the_way_is_refused_and_left_as_it_was() {
    let world = World::new();
    world.on_machine(|state| {
        let before = output("ip -o link; ip route; nft list ruleset");
        for taken in ["10.214.0.0/16", "10.214.7.0/24", "10.0.0.0/8"] {
            let overlapping = config("cdtest0", taken);
            for result in [
                Bridge::check(&overlapping),
                Bridge::ensure(&overlapping, state).map(|_| ()),
            ] {
                let Err(Error::Overlap { link, .. }) = result else {
                    panic!("{taken}: {result:?}")
                };
                assert_eq!(link, "eth0");
            }
        }
        let result = Bridge::ensure(&config("eth0", "10.213.0.0/16"), state);
        assert!(
            matches!(result, Err(Error::NotABridge { .. })),
            "{result:?}"
        );
        assert!(Bridge::teardown(&config("eth0", "10.213.0.0/16"), state).is_err());
        assert_eq!(output("ip -o link; ip route; nft list ruleset"), before);

        let good = config("cdtest0", "10.213.0.0/16");
        Bridge::check(&good).unwrap();
        let bridge = Bridge::ensure(&good, state).unwrap();
        Bridge::check(&good).unwrap();
        let result = Bridge::ensure(&config("cdtest0", "10.215.0.0/16"), state);
        assert!(
            matches!(result, Err(Error::OtherAddress { .. })),
            "{result:?}"
        );

        // The machine's own namespace is never configured, nor a wrong address given.
        let own = netns::open("/proc/thread-self/ns/net").unwrap();
        let ip = Ipv4Addr::new(10, 213, 0, 9);
        assert!(matches!(
            bridge.attach(own.as_fd(), &pod(1), ip),
            Err(Error::OwnNamespace { .. })
        ));
        let ns = netns::create().unwrap();
        for bad in [
            [10, 213, 0, 0],
            [10, 213, 0, 1],
            [10, 213, 255, 255],
            [10, 214, 0, 9],
        ] {
            assert!(
                matches!(
                    bridge.attach(ns.as_fd(), &pod(1), bad.into()),
                    Err(Error::Address { .. })
                ),
                "{bad:?}"
            );
        }
        // A namespace that cannot be configured keeps no link behind.
        netns::run_in(ns.as_fd(), || output("ip link add eth0 type bridge")).unwrap();
        assert!(bridge.attach(ns.as_fd(), &pod(1), ip).is_err());
        assert_eq!(list_links().unwrap(), [""; 0]);
    });
}

#[test]
fn a_namespace_without_a_network_has_its_loopback() {
    let ns = netns::create().unwrap();
    let listener = listen(&ns);
    assert!(reach(&ns, Ipv4Addr::LOCALHOST, &listener).is_none());
    lo_up(&ns).unwrap();
    assert!(reach(&ns, Ipv4Addr::LOCALHOST, &listener).is_some());
}

#[test]
fn the_kernel_can_make_what_is_needed() {
    assert_eq!(
        probe().unwrap(),
        Probe {
            bridge: true,
            veth: true,
            nf_tables: true
        }
    );
}
