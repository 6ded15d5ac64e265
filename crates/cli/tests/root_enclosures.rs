//! What the definition of a handler changes for its pods, and what a handler cannot do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{ALL, World, app, container, message, pod};
use serde_json::{Value, json};

/// A class of a handler of the same name.
fn class(name: &str) -> Value {
    json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": name})
}

const TELL: &str = "/dev/termination-log";

#[test]
fn a_privileged_container_gets_the_machines_devices_unless_its_handler_says_no() {
    let world = World::new();
    world.drop_in("x.toml", "[handlers.bare]\nbinary = \"crun\"\nprivileged_without_host_devices = true\n");
    let disks = common::names(std::path::Path::new("/sys/block"));
    let disk = disks.iter().find(|d| std::path::Path::new("/dev").join(d).exists()).expect("a machine without any disk in /dev");
    let script = format!("[ -b /dev/{disk} ] && echo there > {TELL} || echo absent > {TELL}");
    let privileged = |pod: &mut Value| common::merge(&mut pod["spec"]["containers"][0]["securityContext"], &json!({"privileged": true}));
    world.asserts(&["runc", "crun"], &script, "there", privileged);
    let mut bare = pod("bare", "bare", &[app(&script)]);
    privileged(&mut bare);
    let (code, report) = world.report(&[class("bare"), bare]);
    assert_eq!((code, message(&report, "bare", "app").trim()), (0, "absent"));
    world.asserts(&["runc", "crun"], &script, "absent", |_| {});
}

#[test]
fn pods_of_handlers_with_one_state_directory_do_not_meet() {
    let world = World::new();
    let shared = world.dir.join("rt");
    for (name, binary) in [("a", "crun"), ("b", "runc"), ("c", "runsc")] {
        // One directory for each kind of runtime, as people have it: two pods in each.
        world.drop_in(&format!("{name}.toml"), &format!("[handlers.{name}]\nbinary = {binary:?}\nroot = {:?}\n", shared.join(binary)));
    }
    let script = format!("sleep 1; echo well > {TELL}");
    let mut pods = Vec::from(["a", "b", "c"].map(class));
    for handler in ["a", "b", "c"] {
        for number in 0..2 {
            let mut pod = pod(&format!("{handler}{number}"), handler, &[app(&script), container("other", "sleep 1")]);
            // A process id namespace of the pod's needs a pause process, which is a container too.
            pod["spec"]["shareProcessNamespace"] = json!(handler != "c");
            pods.push(pod);
        }
    }
    let (code, report) = world.report(&pods);
    assert_eq!(code, 0, "{}", common::brief(&report));
    for handler in ["a", "b", "c"] {
        for number in 0..2 {
            assert_eq!(message(&report, &format!("{handler}{number}"), "app").trim(), "well");
        }
    }
    for binary in ["crun", "runc", "runsc"] {
        assert_eq!(common::names(&shared.join(binary)), Vec::<String>::new(), "left in the state directory of {binary}");
    }
}

#[test]
fn a_label_of_ours_on_a_users_pod_does_not_hide_it() {
    let world = World::new();
    let mut hidden = pod("p", "crun", &[app(common::WAITS)]);
    hidden["metadata"]["labels"] = json!({"cofferdam.dev/canary": "1-1"});
    world.detach(&[hidden]);
    assert_eq!(world.statuses().keys().collect::<Vec<_>>(), ["p"]);
}

#[test]
fn a_read_only_root_covers_the_files_of_etc_too() {
    let world = World::new();
    let script = format!("for f in hosts hostname resolv.conf; do (echo x >> /etc/$f) 2> /dev/null && echo $f written > {TELL}; done; [ -s {TELL} ] || echo none > {TELL}");
    world.asserts(&ALL, &script, "none", |pod| {
        common::merge(&mut pod["spec"]["containers"][0]["securityContext"], &json!({"readOnlyRootFilesystem": true}));
    });
}

#[test]
fn a_pod_in_the_machines_network_has_the_machines_name() {
    let world = World::new();
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned();
    for at in ["cat /etc/hostname", "hostname"] {
        world.asserts(&common::SHARED, &format!("{at} > {TELL}"), &name, |pod| pod["spec"]["hostNetwork"] = json!(true));
    }
}

#[test]
fn a_limit_that_a_handler_does_not_enforce_is_told() {
    let world = World::new();
    let limited = |handler: &str| {
        let mut pod = pod(handler, handler, &[app("true"), container("other", "true")]);
        pod["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "64Mi"}});
        pod
    };
    let told = |handler: &str| {
        let (code, report) = world.report(&[limited(handler)]);
        assert_eq!(code, 0, "{handler}");
        common::pod_in(&report, handler)["events"].to_string()
    };
    let gvisor = told("runsc");
    assert!(gvisor.contains("the memory limit of container \\\"app\\\" is not enforced"), "{gvisor}");
    assert!(!told("crun").contains("is not enforced"));
}

/// youki is no package of Debian's: `cargo install youki --features v1`, then
/// `cargo test -p cofferdam-cli --test root_handlers -- --ignored`.
#[test]
#[ignore = "needs youki in the PATH"]
fn youki_runs_pods_like_the_others() {
    let world = World::new();
    world.drop_in("y.toml", "[handlers.youki]\nbinary = \"youki\"\n");
    let mut shared = pod("shared", "youki", &[app(common::WAITS), container("other", "sleep 1000")]);
    shared["spec"]["shareProcessNamespace"] = json!(true);
    let limited = json!({"limits": {"memory": "64Mi"}});
    shared["spec"]["containers"][0]["resources"] = limited;
    world.detach(&[class("youki"), shared]);
    let seen = world.call(&["exec", "shared", "-c", "app", "--", "sh", "-c", "grep -l sleep.1000 /proc/[0-9]*/cmdline | head -1; exit 4"]);
    assert_eq!((seen.code, seen.out.starts_with("/proc/")), (Some(4), true), "{seen:?}");
    let (code, report) = world.report(&[class("youki"), pod("p", "youki", &[app(&format!("echo well > {TELL}; exit 7"))])]);
    assert_eq!((code, message(&report, "p", "app").trim()), (7, "well"));
}
