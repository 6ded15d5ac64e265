//! Pods on the network: the bridge, ports of the machine, and CNI plugins that work, fail and hang. Needs
//! root and Debian's containernetworking-plugins.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use cofferdam_engine::{Engine, NetworkMode};
use cofferdam_model::cri::{NamespaceMode, PortMapping, SandboxState};
use common::{SHARED, World, until};
use std::io::Read;
use std::net::{IpAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

const SERVE: &str = "while true; do echo hello | nc -l -p 8080; done";

fn hear(mut stream: impl Read) -> String {
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    text
}

#[test]
fn a_pod_has_its_addresses_ports_and_names() {
    let world = World::new();
    for handler in SHARED {
        let port = 20_000 + (std::process::id() % 10_000) as u16;
        let pod = world.pod_with(handler, |c| {
            c.network = NamespaceMode::Pod;
            c.port_mappings = vec![PortMapping { protocol: "TCP".into(), container_port: 8080, host_port: port, host_ip: None }];
            c.fqdn = "pod.sub.default.svc.cluster.local".into();
            c.host_aliases = vec![("10.1.2.3".into(), vec!["one".into(), "two".into()])];
        });
        let status = world.engine.sandbox_status(&pod).unwrap();
        assert_eq!(status.ip, status.ips.first().copied());
        assert!(matches!(status.ip, Some(IpAddr::V4(_))));
        let hosts = world.good(&pod, "cat /etc/hosts", |_| {});
        assert!(hosts.contains(&format!("{}\tpod.sub.default.svc.cluster.local\tpod", status.ip.unwrap())), "{hosts}");
        assert!(hosts.contains("10.1.2.3\tone\ttwo"), "{hosts}");
        world.start(&pod, SERVE, |_| {});
        let direct = |at: String| until("it answers", || TcpStream::connect(&at).ok().map(hear).filter(|t| !t.is_empty()));
        assert_eq!(direct(format!("{}:8080", status.ip.unwrap())), "hello\n", "{handler}");
        assert_eq!(direct(format!("127.0.0.1:{port}")), "hello\n", "{handler}: by a port of the machine");
        assert!(world.engine.check_network(&pod).unwrap());
        let taken = world.try_pod(handler, |c| {
            c.network = NamespaceMode::Pod;
            c.port_mappings = vec![PortMapping { protocol: "TCP".into(), container_port: 1, host_port: port, host_ip: None }];
        });
        assert!(taken.unwrap_err().to_string().contains(&port.to_string()), "a port is one pod's");
        world.engine.remove_sandbox(&pod).unwrap();
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
        assert!(world.engine.list_sandboxes().unwrap().is_empty());
    }
}

#[test]
fn namespaces_made_ahead_are_each_one_pods_and_work_like_any_other() {
    let world = World::new();
    world.engine.keep_networks_ready(2);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        for handler in SHARED {
            let pod = world.pod_with(handler, |c| c.network = NamespaceMode::Pod);
            let ip = world.engine.sandbox_status(&pod).unwrap().ip.unwrap();
            world.start(&pod, SERVE, |_| {});
            let answer = until("it answers", || TcpStream::connect((ip, 8080)).ok().map(hear).filter(|t| !t.is_empty()));
            assert_eq!(answer, "hello\n", "{handler}");
            assert!(seen.insert(world.good(&pod, "readlink /proc/self/ns/net; ping -c 1 -W 1 127.0.0.1 >/dev/null && echo up", |_| {})));
            assert!(seen.iter().all(|s| s.ends_with("up\n")), "{seen:?}");
        }
    }
    // They are descriptors of this process and its one thread, and nothing else.
    let held = |world: &World| std::fs::read_dir("/proc/self/fd").unwrap().flatten().filter(|f| {
        std::fs::read_link(f.path()).is_ok_and(|to| to.to_string_lossy().starts_with("net:["))
    }).count().min(world.engine.list_sandboxes().unwrap().len() + 2);
    assert_eq!(until("two are ready again", || Some(held(&world)).filter(|n| *n == 2)), 2);
}

#[test]
fn a_port_of_a_pod_is_dialled_wherever_the_pod_is() {
    let world = World::new();
    for handler in SHARED {
        for network in [NamespaceMode::Pod, NamespaceMode::Node] {
            let pod = world.pod_with(handler, |c| c.network = network);
            let port = 30_000 + (std::process::id() % 10_000) as u16;
            world.start(&pod, &format!("while true; do echo hello | nc -l -p {port}; done"), |_| {});
            let heard = until("it answers", || {
                Some(hear(TcpStream::from(world.engine.dial(&pod, port).ok()?))).filter(|t| !t.is_empty())
            });
            assert_eq!(heard, "hello\n", "{handler} {network:?}");
            let why = world.engine.dial(&pod, 1).unwrap_err().to_string();
            assert!(why.contains('1'), "{why}");
            world.engine.remove_sandbox(&pod).unwrap();
        }
    }
}

/// A CNI network of a stub plugin that writes down what it is asked, and of Debian's host-local.
fn cni(world: &World, body: &str) -> (std::sync::Arc<Engine>, std::path::PathBuf) {
    let (conf, bin, log) = (world.path("net.d"), world.path("plugins"), world.path("asked"));
    for dir in [&conf, &bin] {
        std::fs::create_dir_all(dir).unwrap();
    }
    std::fs::write(conf.join("10-test.conflist"), r#"{"cniVersion":"1.0.0","name":"test","plugins":[{"type":"stub"}]}"#).unwrap();
    let script = format!(
        "#!/bin/sh\ncat > /dev/null\necho $CNI_COMMAND >> {}\ncase $CNI_COMMAND in\nVERSION) echo '{{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[\"1.0.0\"]}}';;\n{body}\nesac\n",
        log.display()
    );
    std::fs::write(bin.join("stub"), script).unwrap();
    std::fs::set_permissions(bin.join("stub"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let plugins = cofferdam_cni::Options {
        conf_dir: conf,
        bin_dirs: vec![bin],
        timeout: Duration::from_secs(2),
        ..cofferdam_cni::Options::new(world.path("cni-cache"))
    };
    let (engine, _) = world.reopen(|o| (o.cni, o.network_mode) = (Some(plugins), NetworkMode::Cni));
    (engine, log)
}

const ADD: &str = "ADD) echo '{\"cniVersion\":\"1.0.0\",\"interfaces\":[{\"name\":\"eth0\",\"sandbox\":\"/x\"}],\"ips\":[{\"address\":\"10.9.8.7/24\",\"interface\":0}]}';;";

fn asked(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().filter(|l| *l != "VERSION").map(str::to_owned).collect()
}

#[test]
fn plugins_add_check_and_delete() {
    let world = World::new();
    let (engine, log) = cni(&world, &format!("{ADD}\nCHECK) ;;\nDEL) [ -e $CNI_NETNS ] && echo living >> {};;", world.path("asked").display()));
    let pod = world.pod_in(&engine, "crun", |c| c.network = NamespaceMode::Pod).unwrap();
    assert_eq!(engine.sandbox_status(&pod).unwrap().ips, ["10.9.8.7".parse::<IpAddr>().unwrap()]);
    assert!(engine.check_network(&pod).unwrap());
    engine.remove_sandbox(&pod).unwrap();
    assert_eq!(asked(&log), ["ADD", "CHECK", "DEL", "living"], "and while the namespace lives");
    std::fs::remove_dir_all(world.path("net.d")).unwrap();
    let why = world.pod_in(&engine, "crun", |c| c.network = NamespaceMode::Pod).unwrap_err().to_string();
    assert!(why.contains("has no CNI configuration"), "{why}");
}

#[test]
fn a_plugin_that_fails_or_hangs_leaves_nothing_unsaid() {
    let world = World::new();
    let gate = world.path("gate");
    let body = format!("ADD) case $(cat {0}) in fail) echo '{{\"cniVersion\":\"1.0.0\",\"code\":7,\"msg\":\"no room\"}}'; exit 1;; hang) sleep 1000;; *) {1} esac;;\nDEL) [ \"$(cat {0})\" = stuck ] && exit 1; true;;", gate.display(), ADD.trim_start_matches("ADD) "));
    let (engine, log) = cni(&world, &body);
    let pod = |what: &str| {
        std::fs::write(&gate, what).unwrap();
        world.pod_in(&engine, "crun", |c| c.network = NamespaceMode::Pod)
    };
    let why = pod("fail").unwrap_err().to_string();
    assert!(why.contains("no room"), "{why}");
    let why = pod("hang").unwrap_err().to_string();
    assert!(why.contains("2 s") || why.contains("time"), "{why}");
    assert!(engine.list_sandboxes().unwrap().is_empty(), "nothing is left of them");
    assert!(asked(&log).contains(&"DEL".to_owned()), "what was begun is taken off");

    let id = pod("well").unwrap();
    std::fs::write(&gate, "stuck").unwrap();
    assert!(engine.stop_sandbox(&id).is_err());
    assert!(engine.sandbox_status(&id).unwrap().reason.unwrap().contains("not all of it is gone"));
    assert!(engine.remove_sandbox(&id).is_err());
    let status = engine.sandbox_status(&id).unwrap();
    assert_eq!(status.state, SandboxState::NotReady);
    assert!(status.reason.unwrap().contains("tried again"), "it is seen");
    std::fs::write(&gate, "well").unwrap();
    engine.remove_sandbox(&id).unwrap();
    assert!(engine.sandbox_status(&id).is_err());
}

#[test]
fn what_plugins_attached_is_taken_off_after_a_kill() {
    let world = World::new();
    let (engine, log) = cni(&world, &format!("{ADD}\nDEL) ;;"));
    let pod = world.pod_in(&engine, "crun", |c| c.network = NamespaceMode::Pod).unwrap();
    // As a kill in the middle of making leaves it: a record without a result.
    std::fs::remove_file(engine.layout().pod(&pod).status()).unwrap();
    let findings = engine.recover();
    assert!(findings.iter().any(|f| f.contains("is undone")), "{findings:?}");
    assert_eq!(asked(&log), ["ADD", "DEL"]);
}
