//! Ports of the machine that lead to pods (`hostPort`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::web::{PORT, SERVES, gateway, get, get_from, kill_all, machine_addresses, tool, until_get};
use common::{ALL, WAITS, World, app, brief, pod, pod_in, until};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::time::Duration;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A port of the machine that no other test uses.
fn port(world: &World, number: u16) -> u16 {
    let of_world: u16 = world.bridge.trim_start_matches("cdt").parse().unwrap();
    20_000 + of_world % 1_500 * 8 + number
}

/// A pod that serves, at these ports of the machine: port, address or "".
fn served(name: &str, handler: &str, ports: &[(u16, &str)]) -> Value {
    let mut served = pod(name, handler, &[app(SERVES)]);
    let of_machine = |(number, (port, ip)): (usize, &(u16, &str))| {
        let mut asked = json!({"name": format!("p{number}"), "containerPort": PORT, "hostPort": port});
        if !ip.is_empty() {
            asked["hostIP"] = json!(ip);
        }
        asked
    };
    served["spec"]["containers"][0]["ports"] = ports.iter().enumerate().map(of_machine).collect();
    served
}

/// The comments of what leads ports to pods: the pod's id and name.
fn holders(world: &World) -> BTreeSet<String> {
    let text = tool("nft", &["list", "table", "inet", &format!("cofferdam_{}", world.bridge)]);
    let elements = text.split("elements = {").skip(1).filter_map(|rest| rest.split('}').next());
    elements
        .flat_map(|list| list.split(','))
        .filter_map(|element| element.split('"').nth(1))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_port_leads_to_its_pod_from_everywhere_under_all_handlers() {
    let world = World::new();
    let number = |handler: &str| port(&world, ALL.iter().position(|h| *h == handler).unwrap() as u16);
    world.detach(&ALL.map(|handler| served(handler, handler, &[(number(handler), "")])));
    for handler in ALL {
        assert_eq!(
            until_get(LOCALHOST, number(handler)),
            format!("{handler} {}", gateway(&world)),
            "the loopback hides behind the bridge"
        );
        for ip in machine_addresses() {
            assert_eq!(
                until_get(ip, number(handler)),
                format!("{handler} {ip}"),
                "the machine is seen as itself"
            );
        }
    }
    let outer = machine_addresses().into_iter().next();
    for (from, to) in [
        ("runc", "crun"),
        ("crun", "runsc"),
        ("runsc", "runc"),
        ("runc", "runc"),
        ("crun", "crun"),
        ("runsc", "runsc"),
    ] {
        for ip in [Some(gateway(&world)), outer].into_iter().flatten() {
            let answer = get_from(&world, from, ip, number(to));
            assert_eq!(answer, Some(format!("{to} {}", gateway(&world))), "{from} to {to} by {ip}");
        }
    }
    let ids = ALL.map(|pod| world.id_of(pod));
    assert_eq!(
        holders(&world),
        (0..3).map(|n| format!("{} default/{}", ids[n], ALL[n])).collect(),
        "each is found by its pod's id"
    );
    world.call(&["stop", "crun", "--grace", "0"]).good();
    assert_eq!(get(LOCALHOST, number("crun")), None);
    assert!(!holders(&world).iter().any(|e| e.contains(&ids[1])), "{:?}", holders(&world));
    assert!(get(LOCALHOST, number("runc")).is_some() && get(LOCALHOST, number("runsc")).is_some());
}

#[test]
fn an_address_of_the_machine_has_ports_of_its_own() {
    let world = World::new();
    let port = port(&world, 0);
    world.detach(&[pod("bridge", "crun", &[app(WAITS)])]);
    let outer = gateway(&world);
    world.detach(&[
        served("inner", "runc", &[(port, "127.0.0.1")]),
        served("outer", "crun", &[(port, &outer.to_string())]),
    ]);
    assert!(until_get(LOCALHOST, port).starts_with("inner "));
    assert!(until_get(outer, port).starts_with("outer "));
    for ip in machine_addresses() {
        assert_eq!(get(ip, port), None, "{ip} was not asked for");
    }
    world.call(&["stop", "inner", "--grace", "0"]).good();
    assert_eq!(get(LOCALHOST, port), None);
    assert!(get(outer, port).is_some());
}

/// An answer to each datagram, by the machine's perl: the image has nothing for it.
fn answers_datagrams(name: &str, handler: &str, port: u16) -> Value {
    let program = "my $s = IO::Socket::INET->new(LocalPort => 5353, Proto => \"udp\") or die $!; \
                   while (defined $s->recv(my $m, 100)) { $s->send(\"$ENV{HOSTNAME} has $m\") }";
    let mut pod = pod(
        name,
        handler,
        &[app(&format!(
            "HOSTNAME=$(hostname) exec /usr/bin/perl -MIO::Socket::INET -e '{program}'"
        ))],
    );
    let dirs: Vec<&str> = ["/usr", "/lib", "/lib64"].into_iter().filter(|d| Path::new(d).exists()).collect();
    let volume = |(n, dir): (usize, &&str)| json!({"name": format!("v{n}"), "hostPath": {"path": std::fs::canonicalize(dir).unwrap()}});
    let mount = |(n, dir): (usize, &&str)| json!({"name": format!("v{n}"), "mountPath": dir, "readOnly": true});
    pod["spec"]["volumes"] = dirs.iter().enumerate().map(volume).collect();
    pod["spec"]["containers"][0]["volumeMounts"] = dirs.iter().enumerate().map(mount).collect();
    pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 5353, "hostPort": port, "protocol": "UDP"}]);
    pod
}

#[test]
fn datagrams_come_to_the_pod_that_has_the_port_now() {
    let world = World::new();
    let port = port(&world, 0);
    // One socket for all: what the kernel remembers of it must not lead to a pod that is gone.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    for handler in ALL {
        world.detach(&[answers_datagrams(handler, handler, port)]);
        let answer = until(&format!("{handler} answers"), || {
            socket.send_to(b"mail", ("127.0.0.1", port)).ok()?;
            let mut buffer = [0; 64];
            let (length, from) = socket.recv_from(&mut buffer).ok()?;
            Some((String::from_utf8_lossy(&buffer[..length]).into_owned(), from))
        });
        assert_eq!(
            answer,
            (format!("{handler} has mail"), format!("127.0.0.1:{port}").parse().unwrap())
        );
        // Datagrams and streams have ports of their own.
        assert_eq!(get(LOCALHOST, port), None);
        // What was under way twice.
        while socket.recv(&mut [0; 64]).is_ok() {}
        world.call(&["stop", handler, "--grace", "0"]).good();
    }
}

#[test]
fn a_port_that_a_pod_has_is_refused_naming_that_pod() {
    let world = World::new();
    let port = port(&world, 0);
    world.detach(&[served("first", "runc", &[(port, "")])]);
    until_get(LOCALHOST, port);
    let (code, report) = world.report(&ALL.map(|handler| served(handler, handler, &[(port, "127.0.0.1")])));
    assert_ne!(code, 0);
    for handler in ALL {
        let pod = pod_in(&report, handler);
        let want = format!(
            "port tcp 127.0.0.1:{port} of the machine cannot lead to the pod default/{handler}: the pod default/first has tcp {port} already"
        );
        assert!(
            pod["phase"] == "Failed" && pod["message"].as_str().unwrap().contains(&want),
            "{}",
            brief(&report)
        );
    }
    assert!(get(LOCALHOST, port).unwrap().starts_with("first "), "the first is unharmed");
    common::traces::until_ports(&world, 1);
    assert_eq!(holders(&world).len(), 1, "{:?}", holders(&world));
    world.call(&["stop", "--all", "--grace", "0"]).good();
    world.detach(&[served("second", "crun", &[(port, "")])]);
    assert!(until_get(LOCALHOST, port).starts_with("second "));
}

#[test]
fn a_port_that_a_process_has_is_refused_and_left_to_it() {
    let world = World::new();
    let (streams, datagrams) = (TcpListener::bind("0.0.0.0:0").unwrap(), UdpSocket::bind("0.0.0.0:0").unwrap());
    let (stream, datagram) = (streams.local_addr().unwrap().port(), datagrams.local_addr().unwrap().port());
    let rows = [
        ("a", "runc", "TCP", stream),
        ("b", "crun", "TCP", stream),
        ("c", "runsc", "TCP", stream),
        ("d", "crun", "UDP", datagram),
    ];
    let (code, report) = world.report(&rows.map(|(name, handler, protocol, port)| {
        let mut asked = pod(name, handler, &[app(WAITS)]);
        asked["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": port, "protocol": protocol}]);
        asked
    }));
    assert_ne!(code, 0);
    for (name, _, protocol, port) in rows {
        let (pod, protocol) = (pod_in(&report, name), protocol.to_lowercase());
        let want = format!("port {protocol} {port} of the machine cannot lead to the pod default/{name}: a process of the machine uses it");
        assert!(
            pod["phase"] == "Failed" && pod["message"].as_str().unwrap().contains(&want),
            "{}",
            brief(&report)
        );
    }
    assert_eq!(holders(&world), BTreeSet::new());
}

#[test]
fn a_pod_that_asks_for_a_port_twice_is_refused_before_anything_starts() {
    let world = World::new();
    let port = port(&world, 0);
    let told = format!("Pod \"p\": spec.containers[0].ports[1].hostPort is {port} a second time");
    world.run(&[served("p", "crun", &[(port, ""), (port, "")])], &[]).fails(120, &told);
}

/// After the owner, the monitors and all that ran were killed, the next command finds what is left.
#[test]
fn after_everything_is_killed_the_ports_are_free_again() {
    let world = World::new();
    let ports = [0, 1, 2].map(|number| port(&world, number));
    let pods: Vec<Value> = ALL
        .iter()
        .zip(ports)
        .map(|(handler, port)| served(handler, handler, &[(port, "")]))
        .collect();
    let mut run = common::Running(world.spawn(&["run", "-f", "-"], common::manifest(&pods).as_bytes()));
    for (handler, port) in ALL.iter().zip(ports) {
        common::until_runs(&world, &mut run, handler);
        until_get(LOCALHOST, port);
    }
    kill_all(&world, &mut run);
    let statuses = world.statuses();
    assert!(statuses.values().all(|status| status == "NotReady"), "{statuses:?}");
    assert_eq!(holders(&world), BTreeSet::new());
    // Each port goes to a pod of another handler.
    let others = ALL.iter().zip(ports.iter().cycle().skip(1));
    let next: Vec<Value> = others
        .clone()
        .map(|(handler, port)| served(&format!("next-{handler}"), handler, &[(*port, "")]))
        .collect();
    world.detach(&next);
    for (handler, port) in others {
        assert!(until_get(LOCALHOST, *port).starts_with(&format!("next-{handler} ")));
    }
}
