//! The pods' network: address, neighbours, the machine, names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{ALL, WAITS, World, app, pod};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;

const TELL: &str = "/dev/termination-log";
const SERVES: &str = "while :; do echo from $(hostname) | nc -l -p 8080; done";

/// A world in which a pod of each handler answers on port 8080.
fn serving() -> World {
    let world = World::new();
    world.detach(&ALL.map(|handler| pod(handler, handler, &[app(SERVES)])));
    world
}

fn address(world: &World, pod: &str) -> String {
    let rows = world.ps();
    let row = rows.iter().find(|r| r["name"] == pod).unwrap();
    row["ip"].as_str().unwrap().to_owned()
}

#[test]
fn every_pod_has_an_address_of_the_subnet_of_its_own() {
    let world = serving();
    let all: BTreeSet<String> = ALL.iter().map(|pod| address(&world, pod)).collect();
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|ip| ip.starts_with(&format!("{}.", world.net)) && !ip.ends_with(".1")), "{all:?}");
}

#[test]
fn pods_reach_each_other_by_address_under_all_handlers() {
    let world = serving();
    for to in ALL {
        let ip = address(&world, to);
        let script = format!("until nc -w 2 {ip} 8080 < /dev/null > /tmp/x && [ -s /tmp/x ]; do sleep 0.1; done; cat /tmp/x > {TELL}");
        let pods = ALL.map(|from| pod(&format!("from-{from}"), from, &[app(&script)]));
        let (code, report) = world.report(&pods);
        assert_eq!(code, 0, "{}", common::brief(&report));
        for from in ALL {
            assert_eq!(common::message(&report, &format!("from-{from}"), "app").trim(), format!("from {to}"), "{from} to {to}");
        }
    }
}

#[test]
fn the_machine_reaches_pods() {
    let world = serving();
    for handler in ALL {
        let ip = address(&world, handler);
        let answer = common::until("it answers", || {
            let mut stream = std::net::TcpStream::connect((ip.as_str(), 8080)).ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).ok()?;
            (!text.is_empty()).then_some(text)
        });
        assert_eq!(answer.trim(), format!("from {handler}"));
    }
}

#[test]
fn pods_reach_the_machine_at_the_gateway() {
    let world = World::new();
    // The bridge, and with it the gateway, comes with the first pod.
    world.detach(&[pod("first", "crun", &[app(WAITS)])]);
    let gateway = format!("{}.1", world.net);
    let listener = TcpListener::bind((gateway.as_str(), 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().flatten().take(3).for_each(|mut s| s.write_all(b"machine\n").unwrap()));
    world.asserts(&ALL, &format!("nc -w 5 {gateway} {port} < /dev/null > {TELL}"), "machine", |_| {});
}

#[test]
fn the_default_route_is_the_bridge() {
    let world = World::new();
    let want = format!("{}.1", world.net);
    world.asserts(&["runc", "crun"], &format!("ip route | awk '/^default/ {{print $3}}' > {TELL}"), &want, |_| {});
}

#[test]
fn resolv_conf_is_the_machines_without_its_loopback_servers() {
    let world = World::new();
    let machine = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers = |text: &str| -> Vec<String> {
        let of = |l: &str| l.strip_prefix("nameserver ").map(|s| s.trim().to_owned());
        text.lines().filter_map(of).filter(|s| !s.starts_with("127.") && s != "::1").collect()
    };
    for (handler, text) in world.ask(&ALL, &format!("cat /etc/resolv.conf > {TELL}"), |_| {}) {
        assert!(!text.contains("127.0.0."), "{handler}: {text}");
        if !servers(&machine).is_empty() {
            assert_eq!(servers(&text), servers(&machine), "{handler}");
        }
    }
}

#[test]
fn dns_settings_of_the_pod_are_in_resolv_conf() {
    let world = World::new();
    let want = "nameserver 192.0.2.53\nsearch example.test\noptions ndots:3";
    let script = format!("(grep nameserver /etc/resolv.conf; grep search /etc/resolv.conf; grep options /etc/resolv.conf) > {TELL}");
    world.asserts(&ALL, &script, want, |pod| {
        pod["spec"]["dnsPolicy"] = json!("None");
        pod["spec"]["dnsConfig"] = json!({"nameservers": ["192.0.2.53"], "searches": ["example.test"], "options": [{"name": "ndots", "value": "3"}]});
    });
}

#[test]
fn a_pod_finds_its_own_name_in_hosts() {
    let world = World::new();
    for (handler, line) in world.ask(&ALL, &format!("grep $(hostname) /etc/hosts > {TELL}"), |_| {}) {
        assert!(line.starts_with(&world.net) && line.trim().ends_with(handler.as_str()), "{handler}: {line}");
    }
}

#[test]
fn link_and_address_go_with_the_pod() {
    let world = World::new();
    world.detach(&ALL.map(|handler| pod(handler, handler, &[app(WAITS)])));
    common::traces::until_ports(&world, 3);
    world.call(&["stop", "crun", "--grace", "0"]).good();
    common::traces::until_ports(&world, 2);
    let held = std::fs::read_dir(world.root().join("network/addresses")).unwrap().flatten();
    assert_eq!(held.filter(|e| e.file_name().to_string_lossy().starts_with(&world.net)).count(), 2);
}

#[test]
fn a_subnet_that_cannot_be_starts_nothing() {
    let world = World::new();
    let path = world.dir.join("etc/config.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, good.replace(".0/24", ".7/24")).unwrap();
    let answer = world.run(&[pod("p", "crun", &[app("exit 0")])], &[]);
    assert!(answer.code == Some(120) && answer.err.contains("subnet"), "{answer:?}");
    std::fs::write(&path, good).unwrap();
}
