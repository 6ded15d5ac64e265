//! Debian's plugins (package containernetworking-plugins), for real. Each test plays the machine
//! in a network namespace of its own, for bridge, portmap and firewall change the rules of the
//! machine that they run on. Needs root, iptables, ip, nft and tc.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cofferdam_cni::{Bandwidth, Capabilities, Check, Cni, Options, PodRef, PortMapping};
use cofferdam_host::netns;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const A: PodRef<'static> = PodRef {
    id: "aaaa",
    name: "a",
    namespace: "default",
    uid: "",
};
const B: PodRef<'static> = PodRef {
    id: "bbbb",
    name: "b",
    namespace: "default",
    uid: "",
};

fn output(command: &str) -> String {
    let out = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(out.status.success(), "{command}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// A namespace and a path to it that lasts as long.
struct Namespace(OwnedFd);

impl Namespace {
    fn new() -> Self {
        let made = Self(netns::create().unwrap());
        made.run(|| output("ip link set lo up"));
        made
    }

    fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }

    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        netns::run_in(self.0.as_fd(), work).unwrap()
    }
}

const ALL: [&str; 5] = ["bridge", "portmap", "bandwidth", "firewall", "tuning"];

fn configure(dir: &Path, kinds: &[&str]) -> Options {
    let conf = dir.join("net.d");
    fs::create_dir_all(&conf).unwrap();
    let ranges = json!([[{"subnet": "10.217.0.0/24"}], [{"subnet": "fdc0:217::/64"}]]);
    let routes = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]);
    let ipam = json!({"type": "host-local", "dataDir": dir.join("leases"), "ranges": ranges, "routes": routes});
    let plugins = json!([
            {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true, "ipam": ipam},
            {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true},
            {"type": "bandwidth", "capabilities": {"bandwidth": true}},
            {"type": "firewall", "backend": "iptables"},
            {"type": "tuning", "capabilities": {"mac": true}, "sysctl": {"net.core.somaxconn": "321"}},
    ]);
    let chosen = plugins
        .as_array()
        .unwrap()
        .iter()
        .filter(|p| kinds.contains(&p["type"].as_str().unwrap()));
    let plugins = chosen.collect::<Vec<_>>();
    let list = json!({"cniVersion": "0.4.0", "cniVersions": ["1.0.0", "1.1.0"], "name": "real", "plugins": plugins});
    fs::write(conf.join("10-real.conflist"), list.to_string()).unwrap();
    Options {
        conf_dir: conf,
        ..Options::new(dir.join("cache"))
    }
}

fn leases(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join("leases/real")).into_iter().flatten();
    let names = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|n| n.starts_with("10.") || n.starts_with("fdc0")).collect()
}

fn reach(from: &Namespace, to: SocketAddr, listener: &TcpListener) -> Option<IpAddr> {
    let mut stream = from.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(3)).ok())?;
    let (mut accepted, peer) = listener.accept().unwrap();
    stream.write_all(b"hello").unwrap();
    drop(stream);
    let mut got = String::new();
    accepted.read_to_string(&mut got).unwrap();
    assert_eq!(got, "hello");
    Some(peer.ip())
}

#[test]
fn a_pod_is_attached_reached_checked_and_taken_off() {
    let (machine, dir) = (Namespace::new(), tempfile::tempdir().unwrap());
    let (a, b) = (Namespace::new(), Namespace::new());
    let cni = Cni::load(configure(dir.path(), &ALL)).unwrap().unwrap();
    machine.run(|| {
        cni.status().unwrap();
        assert_eq!(cni.version().unwrap().to_string(), "1.0.0", "Debian's know no 1.1.0");
        let wanted = Capabilities {
            port_mappings: vec![PortMapping {
                host_port: 8080,
                container_port: 80,
                protocol: "tcp",
                host_ip: None,
            }],
            bandwidth: Some(Bandwidth {
                ingress_rate: 8_000_000,
                ingress_burst: 800_000,
                egress_rate: 16_000_000,
                egress_burst: 800_000,
            }),
            mac: Some("0a:58:0a:d9:00:63".into()),
            ..Capabilities::default()
        };
        let in_a = cni.add(&A, &a.path(), &wanted).unwrap();
        let in_b = cni.add(&B, &b.path(), &Capabilities::default()).unwrap();
        let text = |ips: &[IpAddr]| ips.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(text(&in_a.ips), ["10.217.0.2", "fdc0:217::2"]);
        assert_eq!(text(&in_b.ips), ["10.217.0.3", "fdc0:217::3"]);
        let inside = a.run(|| output("ip -o addr show eth0; ip link show eth0; ip route; sysctl -n net.core.somaxconn"));
        for expected in [
            "10.217.0.2/24",
            "fdc0:217::2/64",
            "default via 10.217.0.1",
            "0a:58:0a:d9:00:63",
            "321",
        ] {
            assert!(inside.contains(expected), "{expected}: {inside}");
        }
        let shaped = output("tc qdisc; ip -o link");
        assert!(
            shaped.contains("tbf") && shaped.contains("rate 8Mbit") && shaped.contains("rate 16Mbit"),
            "{shaped}"
        );

        let listener = a.run(|| TcpListener::bind("0.0.0.0:80").unwrap());
        assert!(reach(&b, SocketAddr::from((in_a.ips[0], 80)), &listener).is_some());
        assert!(reach(&b, "10.217.0.1:8080".parse().unwrap(), &listener).is_some());
        assert!(reach(&machine, "127.0.0.1:8080".parse().unwrap(), &listener).is_some());
        assert_eq!(leases(dir.path()).len(), 4);
        cni.del(A.id, Some(&a.path())).unwrap();
        assert!(!a.run(|| output("ip -o link")).contains("eth0"));
        assert!(!output("iptables-save").contains("8080"));
        // B's namespace is gone.
        drop(b);
        cni.del(B.id, None).unwrap();
        assert_eq!(leases(dir.path()), [""; 0]);
        assert_eq!(cni.attached().unwrap(), [""; 0]);
        let rules = output("iptables-save");
        // Without a namespace the bridge plugin 1.1.1 forgets its masquerade: B's stays.
        assert!(!rules.contains("10.217.0.2"), "{rules}");
        assert!(!output("ip -o link").contains("ifb"));
    });
}

/// Without portmap, whose 1.1.1 looks for its IPv4 rules among those of IPv6, and bandwidth, whose
/// 1.1.1 falls over a pod without limits.
#[test]
fn a_check_finds_what_is_gone() {
    let (machine, dir) = (Namespace::new(), tempfile::tempdir().unwrap());
    let a = Namespace::new();
    let cni = Cni::load(configure(dir.path(), &["bridge", "firewall", "tuning"]))
        .unwrap()
        .unwrap();
    machine.run(|| {
        cni.add(&A, &a.path(), &Capabilities::default()).unwrap();
        assert_eq!(cni.check(A.id, &a.path()).unwrap(), Check::Passed);
        a.run(|| output("ip addr del 10.217.0.2/24 dev eth0"));
        let error = cni.check(A.id, &a.path()).unwrap_err().to_string();
        assert!(
            error.starts_with("the CNI plugin bridge of the network real refused CHECK with code"),
            "{error}"
        );
    });
}

#[test]
fn an_add_that_fails_half_way_leaves_nothing() {
    let (machine, dir) = (Namespace::new(), tempfile::tempdir().unwrap());
    let a = Namespace::new();
    let cni = Cni::load(configure(dir.path(), &ALL)).unwrap().unwrap();
    machine.run(|| {
        // The bandwidth plugin, third in the chain, refuses a rate without a burst.
        let wanted = Capabilities {
            port_mappings: vec![PortMapping {
                host_port: 8081,
                container_port: 80,
                protocol: "tcp",
                host_ip: None,
            }],
            bandwidth: Some(Bandwidth {
                ingress_rate: 1000,
                ..Bandwidth::default()
            }),
            ..Capabilities::default()
        };
        let error = cni.add(&A, &a.path(), &wanted).unwrap_err().to_string();
        assert!(
            error.contains("the CNI plugin bandwidth of the network real refused ADD") && error.contains("burst must also be set"),
            "{error}"
        );
        // It refuses DEL for the same reason: what is left is recorded, and the others are done.
        assert_eq!(cni.attached().unwrap(), [A.id]);
        assert_eq!(leases(dir.path()), [""; 0]);
        assert!(!output("iptables-save").contains("8081"));
        assert!(!a.run(|| output("ip -o link")).contains("eth0"));
    });
}

#[test]
fn what_a_killed_process_left_is_collected() {
    let (machine, dir) = (Namespace::new(), tempfile::tempdir().unwrap());
    let (a, b) = (Namespace::new(), Namespace::new());
    let options = configure(dir.path(), &ALL);
    machine.run(|| {
        let cni = Cni::load(options.clone()).unwrap().unwrap();
        cni.add(&A, &a.path(), &Capabilities::default()).unwrap();
        cni.add(&B, &b.path(), &Capabilities::default()).unwrap();
        // As if killed between the first plugin and the end: no result in the record.
        let path = dir.path().join("cache/results/real-bbbb-eth0");
        let mut entry: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        entry.as_object_mut().unwrap().remove("result");
        fs::write(&path, entry.to_string()).unwrap();
        drop(b);
        let later = Cni::open(options.clone()).unwrap();
        assert!(later.gc(|| BTreeSet::from([A.id.to_owned()])).unwrap());
        assert_eq!(later.attached().unwrap(), [A.id]);
        assert_eq!(leases(dir.path()).len(), 2);
        assert!(a.run(|| output("ip -o link")).contains("eth0"));
    });
}

#[test]
fn configurations_of_old_versions_work() {
    for version in ["0.2.0", "0.3.1", "0.4.0", "1.0.0"] {
        let (machine, dir) = (Namespace::new(), tempfile::tempdir().unwrap());
        let a = Namespace::new();
        let conf = dir.path().join("net.d");
        fs::create_dir(&conf).unwrap();
        let ipam = json!({"type": "host-local", "dataDir": dir.path().join("leases"), "subnet": "10.218.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]});
        let single = json!({"cniVersion": version, "name": "real", "type": "ptp", "ipam": ipam});
        fs::write(conf.join("10-old.conf"), single.to_string()).unwrap();
        let cni = Cni::load(Options {
            conf_dir: conf,
            ..Options::new(dir.path().join("cache"))
        })
        .unwrap()
        .unwrap();
        machine.run(|| {
            let made = cni.add(&A, &a.path(), &Capabilities::default()).unwrap();
            assert_eq!(made.ips, ["10.218.0.2".parse::<IpAddr>().unwrap()], "{version}");
            assert!(made.raw.contains(&format!("\"cniVersion\":\"{version}\"")), "{}", made.raw);
            assert!(a.run(|| output("ip route")).contains("default via 10.218.0.1"), "{version}");
            cni.del(A.id, Some(&a.path())).unwrap();
            assert_eq!(leases(dir.path()), [""; 0], "{version}");
        });
    }
}
