//! The pods' IPv6: an address of their own where the kernel has it, and none where it is switched off.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::web::{PORT, SERVES, get_from, until_get};
use common::{ALL, WAITS, World, app, container, message, pod};
use serde_json::{Value, json};
use std::fs;
use std::net::{IpAddr, Ipv6Addr, TcpListener};

const TELL: &str = "/dev/termination-log";

/// Whether this machine has IPv6, as the links that are made on it do.
fn machine_has_it() -> bool {
    let off = |of: &str| fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{of}/disable_ipv6")).map_or(true, |text| text.trim() != "0");
    !off("all") && !off("default")
}

/// `$IPS` is the pod's addresses, comma between.
fn knows_its_addresses(pod: &mut Value) {
    pod["spec"]["containers"][0]["env"] = json!([{"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}}]);
}

/// The IPv6 address of a pod that goes on and was made by [`knows_its_addresses`].
#[track_caller]
fn address6(world: &World, pod: &str) -> Ipv6Addr {
    let told = world.call(&["exec", pod, "--", "sh", "-c", "echo $IPS"]).good().out;
    told.trim()
        .split(',')
        .nth(1)
        .unwrap_or_else(|| panic!("{pod} has only {told}"))
        .parse()
        .unwrap()
}

#[test]
fn the_pod_has_the_address_that_it_is_told_and_a_way_out() {
    let world = World::new();
    // `/proc/net/if_inet6` of gVisor has the same form: address, link, prefix, scope, flags, name.
    let script = format!("(echo $IPS; grep eth0 /proc/net/if_inet6 | cut -d' ' -f1,3,4,5; grep -c ^fd /etc/hosts) > {TELL}");
    for (handler, told) in world.ask(&ALL, &script, knows_its_addresses) {
        let lines: Vec<&str> = told.lines().collect();
        let ips: Vec<IpAddr> = lines[0].split(',').map(|ip| ip.parse().unwrap()).collect();
        assert!(ips[0].is_ipv4(), "{handler}: the IPv4 address comes first: {told}");
        if !machine_has_it() {
            assert_eq!(ips.len(), 1, "{handler}: {told}");
            continue;
        }
        let IpAddr::V6(six) = ips[1] else { panic!("{handler}: {told}") };
        assert!(ips.len() == 2 && six.is_unique_local(), "{handler}: {told}");
        let digits: String = six.octets().iter().map(|byte| format!("{byte:02x}")).collect();
        let line = lines
            .iter()
            .find(|line| line.starts_with(&digits))
            .unwrap_or_else(|| panic!("{handler}: {told}"));
        // Global, and of a network of 64 bits; `40` in the flags is an address that is not to be used yet.
        let fields: Vec<&str> = line.split(' ').collect();
        assert!(
            fields[1] == "40" && fields[2] == "00" && fields[3] != "40" && fields[3] != "c0",
            "{handler}: {line}"
        );
        assert_eq!(*lines.last().unwrap(), "1", "{handler}: /etc/hosts has it");
    }
}

#[test]
fn pods_and_the_machine_reach_each_other_by_ipv6_under_all_handlers() {
    if !machine_has_it() {
        // That there is none then is asserted above.
        return;
    }
    let world = World::new();
    let of_machine = 16_000 + world.net.split('.').nth(2).unwrap().parse::<u16>().unwrap();
    world.detach(&ALL.map(|handler| {
        let mut serving = pod(handler, handler, &[app(SERVES)]);
        knows_its_addresses(&mut serving);
        if handler == "crun" {
            serving["spec"]["containers"][0]["ports"] = json!([{"containerPort": PORT, "hostPort": of_machine}]);
        }
        serving
    }));
    let all = ALL.map(|pod| address6(&world, pod));
    let gateway = Ipv6Addr::from(u128::from(all[0]) & !0xffff_ffff_ffff_ffff | 1);
    for (to, ip) in ALL.iter().zip(all) {
        assert_eq!(until_get(ip, PORT), format!("{to} {gateway}"), "the machine to {to}");
        for (from, own) in ALL.iter().zip(all) {
            assert_eq!(get_from(&world, from, ip, PORT), Some(format!("{to} {own}")), "{from} to {to}");
        }
    }
    // A port of the machine leads by IPv6, too.
    assert_eq!(until_get(gateway, of_machine), format!("crun {gateway}"));
    for from in ALL {
        assert_eq!(
            get_from(&world, from, gateway, of_machine),
            Some(format!("crun {gateway}")),
            "{from}"
        );
    }
    let listener = TcpListener::bind((gateway, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    for (pod, ip) in ALL.iter().zip(all) {
        let script = format!("nc -w 5 {gateway} {port} < /dev/null");
        let asked = std::thread::scope(|scope| {
            let peer = scope.spawn(|| listener.accept().unwrap().1.ip());
            world.call(&["exec", pod, "--", "sh", "-c", &script]).good();
            peer.join().unwrap()
        });
        assert_eq!(asked, IpAddr::V6(ip), "{pod} comes as itself");
    }
}

#[test]
fn where_it_is_switched_off_there_is_none() {
    let world = World::new();
    world.drop_in("net.toml", "[network]\nsubnet6 = \"off\"\n");
    let script = format!("(echo $IPS; grep eth0 /proc/net/if_inet6 | grep -v ^fe80) > {TELL}; true");
    for (handler, told) in world.ask(&ALL, &script, knows_its_addresses) {
        assert!(
            told.trim().parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4()),
            "{handler} has one address, of IPv4: {told}"
        );
    }
    world.detach(&[pod("p", "crun", &[app(WAITS)])]);
    let bridge = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let ours: Vec<&str> = bridge
        .lines()
        .filter(|l| l.ends_with(&format!(" {}", world.bridge)) && !l.starts_with("fe80"))
        .collect();
    assert_eq!(ours, [""; 0], "the bridge has none either");
}

#[test]
fn a_network_of_ones_own_choice_is_used_and_one_that_cannot_be_is_refused() {
    let world = World::new();
    let number: u16 = world.net.split('.').nth(2).unwrap().parse().unwrap();
    world.drop_in("net.toml", &format!("[network]\nsubnet6 = \"fd5c:7:{number:x}::/64\"\n"));
    let mut two = pod("p", "runc", &[app(&format!("echo $IPS > {TELL}")), container("other", "exit 0")]);
    knows_its_addresses(&mut two);
    let (code, report) = world.report(&[two]);
    assert_eq!(code, 0, "{}", common::brief(&report));
    let told = message(&report, "p", "app");
    assert_eq!(told.contains(&format!(",fd5c:7:{number:x}::")), machine_has_it(), "{told}");
    for wrong in ["fe80::/64", "words", "fd00::1/64"] {
        world.drop_in("net.toml", &format!("[network]\nsubnet6 = \"{wrong}\"\n"));
        let answer = world.run(&[pod("p", "crun", &[app("exit 0")])], &[]);
        assert!(
            answer.code == Some(120) && answer.err.contains("subnet") && answer.err.contains(wrong),
            "{answer:?}"
        );
    }
    world.drop_in("net.toml", "");
}
