//! Keys of containerd's, CRI-O's and gVisor's files: each reaches what runs the pods.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::traces::cgroups;
use common::{WAITS, World, app, pod};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A binary that writes its arguments down, one call a line, and is then the real one.
fn logged(world: &World, real: &str) -> PathBuf {
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {}\nexec {real} \"$@\"\n",
        world.dir.join(format!("{real}.calls")).display()
    );
    world.script(&format!("{real}-logged"), &script)
}

/// The calls of a logged binary that made something.
#[track_caller]
fn calls(world: &World, real: &str) -> Vec<String> {
    let text = fs::read_to_string(world.dir.join(format!("{real}.calls"))).unwrap_or_else(|e| panic!("{real} was never run: {e}"));
    let made = |line: &&str| {
        ["create", "run", "boot"]
            .iter()
            .any(|verb| line.split(' ').any(|word| word == *verb))
    };
    let calls: Vec<String> = text.lines().filter(made).map(str::to_owned).collect();
    assert!(!calls.is_empty(), "{real} made nothing: {text}");
    calls
}

/// Has the world read another's file, and nothing else.
fn import(world: &World, name: &str, text: &str) {
    let path = world.dir.join(name);
    fs::write(&path, text).unwrap();
    let World { bridge, net, .. } = world;
    let own = format!("import = [{path:?}]\n[network]\nbridge = \"{bridge}\"\nsubnet = \"{net}.0/24\"\n");
    fs::write(world.dir.join("etc/config.toml"), own).unwrap();
}

fn class(name: &str) -> Value {
    json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": name})
}

/// Runs one pod of a class and fails unless it ends well.
#[track_caller]
fn runs(world: &World, name: &str, change: impl Fn(&mut Value)) -> Value {
    let mut pod = pod("p", name, &[app("ls /dev | wc -l > /dev/termination-log")]);
    change(&mut pod);
    let (code, report) = world.report(&[class(name), pod]);
    assert_eq!(code, 0, "{}", common::brief(&report));
    report
}

#[test]
fn containerds_binary_and_root_are_what_runs() {
    let world = World::new();
    let (binary, root) = (logged(&world, "runc"), world.dir.join("theirs"));
    let text = format!(
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndefault_runtime_name = \"mine\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.mine]\nruntime_type = \"io.containerd.runc.v2\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.mine.options]\n\
         BinaryName = {binary:?}\nRoot = {root:?}\nSystemdCgroup = true\n"
    );
    import(&world, "containerd.toml", &text);
    // The default handler, as the pod names no class.
    let report = runs(&world, "mine", |pod| {
        drop(pod["spec"].as_object_mut().unwrap().remove("runtimeClassName"))
    });
    assert_eq!(report["pods"][0]["handler"], "mine");
    for call in calls(&world, "runc") {
        assert!(
            call.contains(&format!("--root {}", root.display())) || call.contains(&format!("--root={}", root.display())),
            "{call}"
        );
        assert!(!call.contains("--systemd-cgroup"), "cgroups are ours: {call}");
    }
}

#[test]
fn systemds_cgroup_driver_is_honoured_in_our_own_way() {
    let world = World::new();
    let text = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.mine]\nruntime_type = \"io.containerd.runc.v2\"\n\
                [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.mine.options]\nSystemdCgroup = true\n";
    import(&world, "containerd.toml", text);
    world.detach(&[class("mine"), pod("p", "mine", &[app(WAITS)])]);
    assert!(cgroups(&world.id_of("p")).count() > 0);
    assert!(
        world
            .call(&["config"])
            .good()
            .err
            .contains("SystemdCgroup is honoured in our own way")
    );
}

#[test]
fn gvisors_own_file_names_binary_root_and_flags() {
    let world = World::new();
    let (binary, root) = (logged(&world, "runsc"), world.dir.join("g"));
    let own = world.dir.join("runsc.toml");
    fs::write(
        &own,
        format!("binary_name = {binary:?}\nroot = {root:?}\n[runsc_config]\ndirectfs = \"false\"\n"),
    )
    .unwrap();
    let text = format!(
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.gvisor]\nruntime_type = \"io.containerd.runsc.v1\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.gvisor.options]\n\
         TypeUrl = \"io.containerd.runsc.v1.options\"\nConfigPath = {own:?}\n"
    );
    import(&world, "containerd.toml", &text);
    runs(&world, "gvisor", |_| {});
    for call in calls(&world, "runsc") {
        assert!(call.contains("--directfs=false"), "{call}");
        assert!(call.contains(root.to_str().unwrap()), "{call}");
    }
}

#[test]
fn crios_path_and_root_are_what_runs() {
    for (real, handler) in [("runc", "standard"), ("crun", "fast"), ("runsc", "gvisor")] {
        let world = World::new();
        let (binary, root) = (logged(&world, real), world.dir.join("t"));
        let text = format!(
            "[crio.runtime]\ndefault_runtime = {handler:?}\n[crio.runtime.runtimes.{handler}]\n\
             runtime_path = {binary:?}\nruntime_type = \"oci\"\nruntime_root = {root:?}\n"
        );
        import(&world, "crio.conf", &text);
        runs(&world, handler, |_| {});
        for call in calls(&world, real) {
            assert!(call.contains(root.to_str().unwrap()), "{real}: {call}");
        }
    }
}

#[test]
fn a_handler_without_host_devices_gives_a_privileged_container_none() {
    let world = World::new();
    let with = |without: bool| {
        format!(
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.mine]\nruntime_type = \"io.containerd.runc.v2\"\n\
             privileged_without_host_devices = {without}\n"
        )
    };
    let devices = |without: bool| -> usize {
        import(&world, "containerd.toml", &with(without));
        let report = runs(&world, "mine", |pod| {
            pod["spec"]["containers"][0]["securityContext"] = json!({"privileged": true})
        });
        common::message(&report, "p", "app").trim().parse().unwrap()
    };
    let (all, few) = (devices(false), devices(true));
    assert!(few < all, "{few} devices without the machine's, {all} with them");
    let machine = Command::new("ls").arg("/dev").output().unwrap();
    assert!(
        all > 20 || all >= String::from_utf8_lossy(&machine.stdout).lines().count() / 2,
        "{all}"
    );
}

#[test]
fn what_means_a_virtual_machine_is_listed_with_the_reason_and_never_run() {
    let world = World::new();
    let text = format!(
        "[crio.runtime.runtimes.kata]\nruntime_path = {:?}\nruntime_type = \"oci\"\nruntime_root = \"/run/kata\"\n",
        world.script("kata-runtime", "#!/bin/sh\ntouch ran\n")
    );
    import(&world, "crio.conf", &text);
    let handlers = world.call(&["handlers", "-o", "json"]).good().json();
    let kata = handlers.as_array().unwrap().iter().find(|h| h["name"] == "kata").unwrap().clone();
    assert!(
        kata["unproved"]
            .as_str()
            .unwrap()
            .contains("needs the VM driver, which is not built yet"),
        "{kata}"
    );
    let (code, report) = world.report(&[class("kata"), pod("p", "kata", &[app("exit 0")])]);
    assert_eq!((code, &report["pods"][0]["reason"]), (125, &json!("HandlerUnavailable")));
}
