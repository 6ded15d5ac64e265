//! Pods' whole network, for real: both families, ports of the machine, limits, recovery, and CNI
//! in the bridge's place. Needs root, ip, nft, tc and Debian's containernetworking-plugins.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use cofferdam_network::hostports::Held;
use cofferdam_network::{Bandwidth, Config, HostPort, HostPorts, Network, PodRef, Pool, Protocol, Request, Subnet6, Wired};
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;
use world::{Namespace, World, config, id, output};

fn plugins(state: &Path) -> cofferdam_cni::Options {
    cofferdam_cni::Options {
        conf_dir: state.join("net.d"),
        ..cofferdam_cni::Options::new(state.join("cni"))
    }
}

fn network(state: &Path) -> Network {
    Network::open(config(), state, plugins(state)).unwrap()
}

fn port(protocol: Protocol, host_ip: &str, host_port: u16, container_port: u16) -> HostPort {
    HostPort {
        protocol,
        host_ip: host_ip.parse().ok(),
        host_port,
        container_port,
    }
}

fn ports(list: &[HostPort]) -> Request {
    Request {
        host_ports: list.to_vec(),
        ..Request::default()
    }
}

fn attach(network: &Network, number: u8, request: &Request) -> cofferdam_network::Result<(Namespace, Wired)> {
    let namespace = Namespace::new();
    let (id, name) = (id(number), format!("pod{number}"));
    let pod = PodRef {
        id: &id,
        name: &name,
        namespace: "ns",
        uid: "",
    };
    network.attach(&pod, &namespace.path(), request).map(|wired| (namespace, wired))
}

fn held(state: &Path) -> Vec<Held> {
    HostPorts::new(&config(), state).list().unwrap()
}

fn recover(network: &Network, known: &[u8]) {
    let known: BTreeSet<String> = known.iter().map(|n| id(*n)).collect();
    network.recover(&network.attached().unwrap(), &known).unwrap();
}

#[test]
fn pods_have_ipv6_at_once_and_leave_behind_the_machine() {
    let world = World::new();
    world.on_machine(|state| {
        fs::write("/proc/sys/net/ipv6/conf/eth0/accept_ra", "1").unwrap();
        let network = network(state);
        let (a, at_a) = attach(&network, 1, &Request::default()).unwrap();
        let (b, at_b) = attach(&network, 2, &Request::default()).unwrap();
        let six = |n| Ipv6Addr::new(0xfdc0, 0xff3d, 0x0ad5, 0, 0, 0, 0, n);
        assert_eq!(at_a.ips, [IpAddr::V4(Ipv4Addr::new(10, 213, 0, 2)), six(2).into()]);
        assert_eq!(at_b.ips[1], six(3));
        let inside = a.sh("ip -6 -o addr show dev eth0; ip -6 route");
        assert!(
            inside.contains("fdc0:ff3d:ad5::2/64") && inside.contains("default via fdc0:ff3d:ad5::1 dev eth0"),
            "{inside}"
        );
        assert!(!inside.contains("tentative"), "{inside}");
        // Nobody waits for anything first.
        let in_b = b.listen("[::]:80");
        assert_eq!(a.reach("[fdc0:ff3d:ad5::3]:80", &in_b), Some(six(2).into()));
        assert!(world.machine.reach("[fdc0:ff3d:ad5::3]:80", &in_b).is_some());
        let outside = world.outside.listen("[::]:80");
        assert_eq!(a.reach("[fd00:214::1]:80", &outside), Some("fd00:214::2".parse().unwrap()));
        // Outside has a route, and is kept out all the same.
        world.outside.sh("ip -6 route add fdc0:ff3d:ad5::/64 via fd00:214::2");
        assert_eq!(world.outside.reach("[fdc0:ff3d:ad5::3]:80", &in_b), None);
        // Routers are still listened to.
        assert_eq!(fs::read_to_string("/proc/sys/net/ipv6/conf/eth0/accept_ra").unwrap().trim(), "2");
        assert_eq!(fs::read_to_string("/proc/sys/net/ipv6/conf/all/forwarding").unwrap().trim(), "1");
    });
}

#[test]
fn ipv6_is_off_where_it_is_switched_off_or_not_wanted() {
    for (setting, subnet6) in [("1", Subnet6::Auto), ("0", Subnet6::Off)] {
        let world = World::new();
        world.on_machine(|state| {
            fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", setting).unwrap();
            let config = Config { subnet6, ..config() };
            let network = Network::open(config, state, plugins(state)).unwrap();
            let (_a, at_a) = attach(&network, 1, &Request::default()).unwrap();
            assert_eq!(at_a.ips.len(), 1);
            assert!(!output("nft list ruleset").contains("ip6"));
            assert_eq!(fs::read_to_string("/proc/sys/net/ipv6/conf/all/forwarding").unwrap().trim(), "0");
            let error = attach(&network, 2, &ports(&[port(Protocol::Tcp, "fd00:214::2", 80, 80)]))
                .map(|_| ())
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("port tcp [fd00:214::2]:80 of the machine cannot lead to the pod ns/pod2"),
                "{error}"
            );
        });
    }
    let world = World::new();
    world.on_machine(|state| {
        let config = Config {
            subnet6: "fd00:214::/64".parse().unwrap(),
            ..config()
        };
        let network = Network::open(config, state, plugins(state)).unwrap();
        for error in [
            network.status().unwrap_err(),
            attach(&network, 1, &Request::default()).map(|_| ()).unwrap_err(),
        ] {
            assert!(
                error.to_string().contains("IPv6 subnet fd00:214::/64 overlaps fd00:214::"),
                "{error}"
            );
        }
    });
}

/// A listener for IPv6 alone.
fn listen6(namespace: &Namespace, port: u16) -> TcpListener {
    use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};
    namespace.run(|| {
        let socket = socket(AddressFamily::INET6, SocketType::STREAM, None).unwrap();
        sockopt::set_ipv6_v6only(&socket, true).unwrap();
        bind(&socket, &std::net::SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).unwrap();
        listen(&socket, 16).unwrap();
        TcpListener::from(socket)
    })
}

/// Frames on a bridge pass the packet filter or do not (Kubernetes' proxy asks that they do).
#[test]
fn a_port_of_the_machine_leads_to_the_pod_from_everywhere() {
    for filtered in ["0", "1"] {
        let world = World::new();
        world.on_machine(|state| {
            for setting in ["iptables", "ip6tables"] {
                fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{setting}"), filtered).unwrap();
            }
            from_everywhere(&world, state);
        });
    }
}

fn from_everywhere(world: &World, state: &Path) {
    let network = network(state);
    let asked = [port(Protocol::Tcp, "", 8080, 80), port(Protocol::Udp, "", 5353, 53)];
    let (a, _) = attach(&network, 1, &ports(&asked)).unwrap();
    let (b, _) = attach(&network, 2, &Request::default()).unwrap();
    let (tcp4, tcp6) = (a.listen("0.0.0.0:80"), listen6(&a, 80));
    let ip = |text: &str| Some(text.parse::<IpAddr>().unwrap());
    // Another machine is seen as itself, and so is this one; pods are hidden, or they would get
    // the answer past the machine.
    assert_eq!(world.outside.reach("10.214.0.2:8080", &tcp4), ip("10.214.0.1"));
    assert_eq!(world.outside.reach("[fd00:214::2]:8080", &tcp6), ip("fd00:214::1"));
    assert_eq!(world.machine.reach("10.214.0.2:8080", &tcp4), ip("10.214.0.2"));
    assert_eq!(world.machine.reach("[fd00:214::2]:8080", &tcp6), ip("fd00:214::2"));
    for from in [&a, &b] {
        assert_eq!(from.reach("10.214.0.2:8080", &tcp4), ip("10.213.0.1"));
        assert_eq!(from.reach("10.213.0.1:8080", &tcp4), ip("10.213.0.1"));
        assert_eq!(from.reach("[fd00:214::2]:8080", &tcp6), ip("fdc0:ff3d:ad5::1"));
    }
    assert_eq!(world.machine.reach("127.0.0.1:8080", &tcp4), ip("10.213.0.1"));
    // Refused at once, so that who was told `localhost` goes on to 127.0.0.1.
    let refused = TcpStream::connect_timeout(&"[::1]:8080".parse().unwrap(), Duration::from_secs(60)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);

    let udp = a.run(|| UdpSocket::bind("0.0.0.0:53").unwrap());
    for (from, to) in [
        (&world.outside, "10.214.0.2:5353"),
        (&world.machine, "127.0.0.1:5353"),
        (&b, "10.213.0.1:5353"),
    ] {
        assert!(from.ask(to, &udp), "{to}");
    }
    // A pod cannot use what lets the loopback out to come in to it (CVE-2020-8558): a packet to
    // 127.0.0.1 that it manages to send is dropped.
    let private = world.machine.listen("127.0.0.1:9090");
    b.sh(
        "ip route add 127.0.0.0/8 via 10.213.0.1 dev eth0 table 7; ip rule add to 127.0.0.1 lookup 7 pref 0
          ip rule del pref 0 lookup local; ip rule add pref 1 lookup local; echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet
          ip link set lo down",
    );
    assert_eq!(b.reach("127.0.0.1:9090", &private), None);
    output("nft flush chain inet cofferdam loopback");
    assert!(b.reach("127.0.0.1:9090", &private).is_some(), "it is that rule which keeps it out");
    // Addresses that are not the machine's are nobody's here.
    let elsewhere = world.outside.listen("0.0.0.0:8080");
    assert_eq!(a.reach("10.214.0.1:8080", &elsewhere), ip("10.214.0.2"));

    network.detach(&id(1), None).unwrap();
    assert_eq!(held(state), []);
    assert_eq!(world.outside.reach("10.214.0.2:8080", &tcp4), None);
}

#[test]
fn datagrams_that_were_sent_before_do_not_go_on_as_before() {
    let world = World::new();
    world.on_machine(|state| {
        let network = network(state);
        // With the rules the kernel begins to remember.
        attach(&network, 9, &Request::default()).unwrap();
        let client = world.outside.run(|| UdpSocket::bind("0.0.0.0:7777").unwrap());
        client.connect("10.214.0.2:5353").unwrap();
        // Somebody asks before there is a pod, and another pod follows the first.
        let before = UdpSocket::bind("0.0.0.0:5353").unwrap();
        client.send(b"early").unwrap();
        before.recv(&mut [0; 8]).unwrap();
        drop(before);
        for number in [1, 2] {
            let (pod, _) = attach(&network, number, &ports(&[port(Protocol::Udp, "", 5353, 53)])).unwrap();
            let server = pod.run(|| UdpSocket::bind("0.0.0.0:53").unwrap());
            server.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
            client.send(b"now").unwrap();
            let (_, from) = server.recv_from(&mut [0; 8]).unwrap();
            assert_eq!(from.ip(), IpAddr::V4(Ipv4Addr::new(10, 214, 0, 1)));
            network.detach(&id(number), None).unwrap();
            // Nor on to an address that is somebody else's by and by.
            let after = UdpSocket::bind("0.0.0.0:5353").unwrap();
            after.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
            client.send(b"late").unwrap();
            after.recv(&mut [0; 8]).unwrap();
        }
    });
}

#[test]
fn of_many_that_ask_at_once_one_gets_the_port() {
    let world = World::new();
    world.on_machine(|state| {
        let network = network(state);
        let won = std::thread::scope(|scope| {
            let asking: Vec<_> = (1..=8)
                .map(|n| {
                    scope.spawn({
                        let network = &network;
                        move || attach(network, n, &ports(&[port(Protocol::Tcp, "", 8080, 80)]))
                    })
                })
                .collect();
            asking.into_iter().filter_map(|a| a.join().unwrap().ok()).collect::<Vec<_>>()
        });
        assert_eq!(won.len(), 1);
        let to: BTreeSet<IpAddr> = held(state).into_iter().map(|h| h.to).collect();
        assert_eq!(to, won[0].1.ips.iter().copied().collect());
        assert_eq!(
            fs::read_dir(state.join("addresses")).unwrap().count(),
            2,
            "the winner's address, and the lock"
        );
    });
}

#[test]
fn a_port_of_one_address_is_of_that_one() {
    let world = World::new();
    world.on_machine(|state| {
        let network = network(state);
        let asked = [
            port(Protocol::Tcp, "127.0.0.1", 8080, 80),
            port(Protocol::Tcp, "fd00:214::2", 8080, 80),
            port(Protocol::Sctp, "10.214.0.2", 8080, 80),
        ];
        let (a, _) = attach(&network, 1, &ports(&asked)).unwrap();
        let listener = a.listen("[::]:80");
        assert!(world.machine.reach("127.0.0.1:8080", &listener).is_some());
        assert!(world.outside.reach("[fd00:214::2]:8080", &listener).is_some());
        assert_eq!(world.outside.reach("10.214.0.2:8080", &listener), None);
        // nft reads what netlink wrote.
        let rules = output("nft list ruleset");
        let comment = format!("comment \"{} ns/pod1\"", id(1));
        assert!(
            rules.contains(&format!("127.0.0.1 . tcp . 8080 {comment} : 10.213.0.2 . 80")),
            "{rules}"
        );
        assert!(rules.contains("10.214.0.2 . sctp . 8080"), "{rules}");
        let mut listed: Vec<String> = held(state)
            .iter()
            .map(|h| format!("{} {} {}", h.pod == id(1), h.name, h.port))
            .collect();
        listed.sort();
        assert_eq!(
            listed,
            [
                "true ns/pod1 sctp 10.214.0.2:8080",
                "true ns/pod1 tcp 127.0.0.1:8080",
                "true ns/pod1 tcp [fd00:214::2]:8080"
            ]
        );
        // The rules are written anew, as after an update of ours; the ports stay.
        output("nft -f - <<E\ntable inet cofferdam { comment \"x\"; }\nE");
        assert!(world.machine.reach("127.0.0.1:8080", &listener).is_some());
    });
}

#[test]
fn what_is_taken_is_refused_in_a_sentence_and_leaves_nothing() {
    let world = World::new();
    world.on_machine(|state| {
        let network = network(state);
        let (_a, _) = attach(
            &network,
            1,
            &ports(&[port(Protocol::Tcp, "", 8080, 80), port(Protocol::Udp, "127.0.0.1", 53, 53)]),
        )
        .unwrap();
        let _process = (
            TcpListener::bind("127.0.0.1:9000").unwrap(),
            UdpSocket::bind("0.0.0.0:9001").unwrap(),
        );
        let before = held(state);
        use Protocol::{Tcp, Udp};
        for (asked, expected) in [
            (
                vec![port(Tcp, "", 8080, 1)],
                "port tcp 8080 of the machine cannot lead to the pod ns/pod2: the pod ns/pod1 has tcp 8080 already",
            ),
            (
                vec![port(Tcp, "10.214.0.2", 8080, 1)],
                "port tcp 10.214.0.2:8080 of the machine cannot lead to the pod ns/pod2: the pod ns/pod1 has tcp 8080 already",
            ),
            (
                vec![port(Tcp, "", 8081, 1), port(Udp, "", 53, 1)],
                "the pod ns/pod1 has udp 127.0.0.1:53 already",
            ),
            (
                vec![port(Tcp, "", 8081, 1), port(Tcp, "127.0.0.1", 8081, 2)],
                "the pod ns/pod2 has tcp 8081 already",
            ),
            (
                vec![port(Tcp, "", 8081, 1), port(Tcp, "", 9000, 1)],
                "port tcp 9000 of the machine cannot lead to the pod ns/pod2: a process of the machine uses it",
            ),
            (vec![port(Udp, "127.0.0.1", 9001, 1)], "a process of the machine uses it"),
            (vec![port(Tcp, "::1", 80, 80)], "use 127.0.0.1"),
            (vec![port(Tcp, "10.99.99.99", 80, 80)], "the machine has no address 10.99.99.99"),
        ] {
            let error = attach(&network, 2, &ports(&asked)).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert_eq!(held(state), before);
            assert_eq!(output("ip -o link | grep -c 'cd0202' || true").trim(), "0");
            assert_eq!(
                fs::read_dir(state.join("addresses")).unwrap().count(),
                2,
                "one address, and the lock"
            );
        }
        // The same number of another protocol, address or process that is elsewhere is free.
        attach(
            &network,
            3,
            &ports(&[
                port(Udp, "", 8080, 80),
                port(Udp, "10.214.0.2", 53, 53),
                port(Tcp, "10.214.0.2", 9000, 80),
            ]),
        )
        .unwrap();
        // Without rules there are no ports, and no silence.
        output("nft delete table inet cofferdam");
        let error = attach(&network, 4, &ports(&[port(Tcp, "", 8082, 1)]))
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(error.contains("the nftables table cofferdam is not there"), "{error}");
    });
}

#[test]
fn limits_are_set_where_the_pod_cannot_undo_them() {
    let world = World::new();
    world.on_machine(|state| {
        let network = network(state);
        let request = Request {
            bandwidth: Bandwidth {
                ingress: Some(8_000_000),
                egress: Some(50_000_000_000),
            },
            ..Request::default()
        };
        let (a, _) = attach(&network, 1, &request).unwrap();
        let found = output("tc qdisc show");
        assert!(
            found.contains("qdisc tbf 1: dev cd010101010101 root") && found.contains("rate 8Mbit"),
            "{found}"
        );
        assert!(
            found.contains("qdisc tbf 1: dev cb010101010101 root") && found.contains("rate 50Gbit"),
            "{found}"
        );
        assert!(!a.sh("tc qdisc show dev eth0").contains("tbf"), "nothing to undo inside");
        // What comes and goes passes through both.
        let listener = a.listen("0.0.0.0:80");
        assert!(world.machine.reach("10.213.0.2:80", &listener).is_some());
        let outside = world.outside.listen("0.0.0.0:80");
        assert!(a.reach("10.214.0.1:80", &outside).is_some());
        for link in ["cd010101010101", "cb010101010101"] {
            let counted = output(&format!("tc -s qdisc show dev {link}"));
            let sent: u64 = counted.split("Sent ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
            assert!(sent > 100_000, "{counted}");
        }
        // 100 kB at 1 MB/s with a burst of 50 kB had to wait.
        let slow = output("tc -s qdisc show dev cd010101010101");
        let bucket = slow.split("qdisc ingress").next().unwrap();
        assert!(!bucket.contains("overlimits 0 "), "{slow}");
        drop(a);
        network.detach(&id(1), None).unwrap();
        assert!(!output("ip -o link").contains("cb0101"));
        // A pod attached again, as after a recovery that did not come to its end.
        let (_b, _) = attach(&network, 2, &request).unwrap();
        network.tear_down().unwrap();
        assert!(!output("ip -o link").contains("cb0202"));
    });
}

#[test]
fn what_killed_processes_left_is_found_by_the_pods_ids() {
    let world = World::new();
    world.on_machine(|state| {
        let request = |n: u16| Request {
            bandwidth: Bandwidth {
                ingress: None,
                egress: Some(1_000_000),
            },
            ..ports(&[port(Protocol::Tcp, "", 8000 + n, 80)])
        };
        let first = network(state);
        let (_a, at_a) = attach(&first, 1, &request(1)).unwrap();
        let (b, _) = attach(&first, 2, &request(2)).unwrap();
        drop((first, b));
        let later = network(state);
        recover(&later, &[1]);
        let left: Vec<_> = held(state).into_iter().map(|h| (h.pod, h.port.host_port)).collect();
        assert_eq!(left, [(id(1), 8001), (id(1), 8001)], "one a family");
        let links = output("ip -o link");
        assert!(links.contains("cb0101") && !links.contains("cb0202"), "{links}");
        // The address is free again, and the port, too.
        let (_c, at_c) = attach(&later, 3, &request(2)).unwrap();
        assert_ne!(at_c.ips, at_a.ips);
        recover(&later, &[]);
        assert_eq!(held(state), []);
        assert!(later.attached().unwrap().is_empty());
    });
}

#[test]
fn plugins_take_the_bridges_place_and_give_it_back() {
    let world = World::new();
    world.on_machine(|state| {
        let network = network(state);
        assert!(!network.uses_cni().unwrap());
        let (a, _) = attach(&network, 1, &Request::default()).unwrap();
        fs::create_dir(state.join("net.d")).unwrap();
        let file = state.join("net.d/1.conflist");
        fs::write(&file, "{").unwrap();
        let error = attach(&network, 2, &Request::default()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("1.conflist cannot be used"), "{error}");
        let leases = state.join("leases").display().to_string();
        fs::write(&file, format!(r#"{{"cniVersion":"1.0.0","name":"n","plugins":[
            {{"type":"ptp","ipam":{{"type":"host-local","dataDir":"{leases}","ranges":[[{{"subnet":"10.219.0.0/24"}}]],"routes":[{{"dst":"0.0.0.0/0"}}]}}}},
            {{"type":"portmap","capabilities":{{"portMappings":true}},"snat":true}},
            {{"type":"bandwidth","capabilities":{{"bandwidth":true}}}}]}}"#)).unwrap();
        assert!(network.uses_cni().unwrap());
        network.status().unwrap();
        let request = Request { bandwidth: Bandwidth { ingress: Some(1_000_000), egress: Some(1_000_000) }, ..ports(&[port(Protocol::Tcp, "", 8080, 80)]) };
        let (b, at_b) = attach(&network, 2, &request).unwrap();
        assert_eq!((at_b.ips, at_b.host_link), (vec![IpAddr::V4(Ipv4Addr::new(10, 219, 0, 2))], None));
        assert!(b.sh("ip -o addr").contains("127.0.0.1/8"), "lo is up");
        let listener = b.listen("0.0.0.0:80");
        assert!(world.machine.reach("127.0.0.1:8080", &listener).is_some());
        assert!(a.sh("ip -o link").contains("eth0"));
        assert!(network.check(&id(1), &a.path()).unwrap());
        assert!(output("tc qdisc").contains("rate 1Mbit"));
        // The configuration is gone, and both are found and taken off.
        fs::remove_dir_all(state.join("net.d")).unwrap();
        network.detach(&id(2), Some(&b.path())).unwrap();
        assert!(!b.sh("ip -o link").contains("eth0"));
        assert!(!output("iptables-save").contains("8080"));
        recover(&network, &[]);
        assert_eq!(fs::read_dir(state.join("addresses")).unwrap().count(), 1);
        attach(&network, 3, &Request::default()).unwrap();
    });
}

#[test]
fn the_machines_own_namespace_is_never_configured() {
    let world = World::new();
    world.on_machine(|state| {
        let network = network(state);
        let pod = PodRef {
            id: &id(1),
            name: "a",
            namespace: "ns",
            uid: "",
        };
        let error = network
            .attach(&pod, Path::new("/proc/thread-self/ns/net"), &Request::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains("is the machine's own"), "{error}");
    });
}

#[test]
fn namespaces_made_ahead_are_ready_and_leave_nothing() {
    let pool = Pool::new(3).unwrap();
    let mut taken = Vec::new();
    for _ in 0..10 {
        taken.push(Namespace(pool.take().unwrap()));
    }
    let mut inodes = BTreeSet::new();
    for namespace in &taken {
        assert!(namespace.sh("ip -o addr").contains("127.0.0.1/8"));
        inodes.insert(namespace.sh("stat -Lc %i /proc/self/ns/net"));
    }
    assert_eq!(inodes.len(), 10, "each is another one");
    for _ in 0..1000 {
        if pool.ready() == 3 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(pool.ready(), 3);
    let count = || {
        fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter(|e| fs::read_link(e.as_ref().unwrap().path()).is_ok_and(|l| l.to_string_lossy().starts_with("net:")))
            .count()
    };
    assert!(count() >= 13);
    assert!(
        !fs::read_to_string("/proc/self/mountinfo").unwrap().contains("nsfs"),
        "no path leads to them"
    );
    drop(pool);
    let drained = Pool::new(0).unwrap();
    drained.take().unwrap();
}
