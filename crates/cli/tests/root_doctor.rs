//! Set-ups broken on purpose, each in a world of its own: `doctor` names the cause of every one, and
//! shows a person the very path or name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod broken;
mod common;

use broken::{Asked, fails, keeper_pid, kill, machine, manifests, of_command, own, pod_p, recorded_pid, shell};
use common::{IMAGE, WAITS, World, app, image, object, pod, signal, until, with_volume};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::net::TcpListener;
use std::path::Path;

/// One test a row: name, diagnosis, what a person must read (`DIR` is the world's folder), and the
/// set-up.
macro_rules! broken {
    ($($name:ident, $id:literal, $thing:expr, $make:expr;)*) => {$(
        #[test]
        fn $name() {
            let world = World::new();
            let make: fn(&World) -> Asked = $make;
            make(&world).names(&world, $id, $thing);
        }
    )*};
}

broken! {
    // Handlers.
    a_runtime_that_is_not_there, "handler-binary-missing", "DIR/none/runc", |w| {
        let [class, pod] = own(w, &w.dir.join("none/runc"), json!(["true"]));
        w.run(&[class, pod], &["--detach"]);
        pod_p()
    };
    a_runtime_that_is_not_executable, "handler-binary-not-executable", "DIR/runc", |w| {
        fs::write(w.dir.join("runc"), "#!/bin/sh\n").unwrap();
        own(w, &w.dir.join("runc"), json!(["true"]));
        machine()
    };
    a_runtime_for_other_cpus, "runtime-wrong-architecture", "DIR/runsc", |w| {
        own(w, &w.script("runsc", ""), json!(["true"]));
        fs::write(w.dir.join("runsc"), foreign_program()).unwrap();
        machine()
    };
    a_runtime_of_a_version_that_fails, "crun-oci-version", "DIR/crun", |w| {
        let script = "#!/bin/sh\n[ \"$1\" = --version ] && echo crun version 1.8.1 && exit\necho 'unknown version specified' >&2\nexit 1\n";
        own(w, &w.script("crun", script), json!(["true"]));
        machine()
    };
    a_runtime_that_does_not_answer, "runtime-does-not-answer", "DIR/crun", |w| {
        own(w, &w.script("crun", "#!/bin/sh\nexit 1\n"), json!(["true"]));
        machine()
    };
    a_handler_of_which_there_is_none, "handler-not-found", "nobody", |w| {
        let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "own"}, "handler": "nobody"});
        w.run(&[class, of_command("own", json!(["true"]))], &["--detach"]);
        pod_p()
    };
    a_handler_that_is_a_virtual_machine, "handler-not-built", "Handler vm", |w| {
        w.drop_in("vm.toml", "[handlers.vm]\ntype = \"vm\"\n");
        machine()
    };
    a_configuration_with_an_error, "configuration-error", "DIR/etc/conf.d/50-bad.toml", |w| {
        w.drop_in("50-bad.toml", "[handlers.x\n");
        machine().undone_by(format!("rm {}/etc/conf.d/50-bad.toml", w.dir.display()))
    };
    a_handler_that_is_removed_under_its_pod, "handler-removed", "Handler own", |w| {
        w.detach(&own(w, Path::new("/usr/sbin/runc"), json!(["sh", "-c", WAITS])));
        fs::remove_file(w.dir.join("etc/conf.d/own.toml")).unwrap();
        pod_p()
    };
    a_runtime_that_is_replaced_under_its_pod, "handler-changed", "DIR/runc was written anew", |w| {
        let script = "#!/bin/sh\nexec runc \"$@\"\n";
        w.detach(&own(w, &w.script("runc", script), json!(["sh", "-c", WAITS])));
        w.script("runc", &format!("{script}# another\n"));
        pod_p()
    };
    a_class_that_is_edited_under_its_pod, "class-edited", "runc then, runc, memory=10Mi now", |w| {
        w.detach(&[of_command("runc", json!(["sh", "-c", WAITS]))]);
        let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "runc"}, "handler": "runc",
            "overhead": {"podFixed": {"memory": "10Mi"}}});
        fs::write(w.dir.join("classes.json"), class.to_string()).unwrap();
        pod_p().with(&["-f", w.dir.join("classes.json").to_str().unwrap()])
    };
    // The machine, in namespaces of its own.
    no_controller_for_memory, "cgroup-controller-missing", "memory", |_| {
        machine().after("d=/sys/fs/cgroup
            if [ -d $d/memory ]; then umount $d/memory; else tr ' ' '\\n' < $d/cgroup.controllers | grep -v memory > /dev/shm/controllers-$$
                mount --bind /dev/shm/controllers-$$ $d/cgroup.controllers; rm /dev/shm/controllers-$$; fi".into())
    };
    no_cgroups, "cgroups-not-mounted", "/sys/fs/cgroup", |_| machine().after("umount --recursive --lazy /sys/fs/cgroup".into());
    a_state_directory_that_is_read_only, "state-read-only", "DIR/l", |w| {
        machine().after(format!("mount --bind {0} {0}; mount -o remount,bind,ro {0}", w.root().display()))
    };
    a_state_directory_that_is_noexec, "state-noexec", "DIR/l", |w| {
        machine().after(format!("mount -t tmpfs -o noexec,size=256m,mode=700 none {}", w.root().display()))
    };
    a_full_disk, "disk-full", "DIR/l", |w| {
        machine().after(format!("mount -t tmpfs -o size=16m,mode=700 none {0}; head -c 16M /dev/zero > {0}/filler || true", w.root().display()))
    };
    a_disk_without_inodes, "inodes-full", "DIR/l", |w| {
        machine().after(format!(
            "mount -t tmpfs -o size=256m,nr_inodes=20,mode=700 none {0}; for n in $(seq 20); do touch {0}/$n || break; done 2> /dev/null",
            w.root().display()
        ))
    };
    a_state_directory_that_others_can_write, "state-not-private", "DIR/s", |w| {
        machine().after(format!("mount -t tmpfs -o mode=777 none {}", w.state().display()))
    };
    addresses_that_another_link_has, "addresses-overlap", "of the link other0", |w| {
        machine().after(format!("ip link add other0 type veth peer name other1; ip addr add {}.129/25 dev other0; ip link set other0 up", w.net))
    };
    a_link_with_the_bridges_name, "bridge-not-ours", "exists and is no bridge", |w| {
        shell(&format!("ip link add {0} type veth peer name {0}x", w.bridge));
        machine().undone_by(format!("ip link del {}", w.bridge))
    };
    // Processes that die, and records that are damaged.
    a_monitor_that_is_killed, "monitor-dead", "its monitor died", |w| {
        w.detach(&[of_command("crun", json!(["sh", "-c", WAITS]))]);
        kill(recorded_pid(w, "monitor_pid"));
        until("the pod is over", || w.ps().is_empty().then_some(()));
        pod_p()
    };
    a_monitor_that_dies_while_nobody_keeps_its_pod, "monitor-dead", "its monitor died", |w| {
        w.detach(&[of_command("crun", json!(["sh", "-c", WAITS]))]);
        let monitor = recorded_pid(w, "monitor_pid");
        kill(keeper_pid(w));
        kill(monitor);
        pod_p()
    };
    a_monitor_whose_death_another_process_sees_first, "monitor-dead", "its monitor died", |w| {
        w.detach(&[of_command("crun", json!(["sh", "-c", WAITS]))]);
        let keeper = keeper_pid(w);
        signal(keeper, Signal::STOP);
        kill(recorded_pid(w, "monitor_pid"));
        w.call(&["image", "ls"]).good();
        signal(keeper, Signal::CONT);
        until("its keeper knows", || w.ps().is_empty().then_some(()));
        pod_p()
    };
    a_sentry_that_is_killed, "enclosure-dead", "its enclosure died", |w| {
        w.detach(&[of_command("runsc", json!(["sh", "-c", WAITS]))]);
        kill(recorded_pid(w, "enclosure_pid"));
        until("the pod is over", || w.ps().is_empty().then_some(()));
        pod_p()
    };
    a_pod_that_nobody_keeps, "keeper-gone", "default/p", |w| {
        w.detach(&[of_command("crun", json!(["sh", "-c", WAITS]))]);
        kill(keeper_pid(w));
        until("nobody answers", || (w.ps()[0]["kept"] == false).then_some(()));
        pod_p()
    };
    a_record_that_is_damaged, "record-unreadable", "DIR/l/unreadable/", |w| {
        w.detach(&[of_command("crun", json!(["sh", "-c", WAITS]))]);
        fs::write(w.root().join("pods").join(w.id_of("p")).join("pod.json"), "{").unwrap();
        machine()
    };
    // Images.
    an_image_that_is_not_there_and_may_not_be_pulled, "image-never-pulled", "no/such:1", |w| {
        let mut pod = of_command("crun", json!(["true"]));
        pod["spec"]["containers"][0]["image"] = json!("no/such:1");
        pod["spec"]["containers"][0]["imagePullPolicy"] = json!("Never");
        fails(w, [pod])
    };
    a_registry_that_cannot_be_reached, "registry-unreachable", "no/such:1", |w| {
        let mut pod = of_command("crun", json!(["true"]));
        pod["spec"]["containers"][0]["image"] = json!("no/such:1");
        fails(w, [pod])
    };
    an_image_whose_archive_is_damaged, "registry-unreachable", "test/damaged:1", |w| {
        let mut archive = image::docker_archive("test/damaged:1", "a marker that nothing else has");
        let at = archive.windows(8).position(|part| part == b"a marker").unwrap();
        archive[at] = b'A';
        w.input(&["image", "load"], &archive).fails(120, "was promised: the archive is damaged or forged");
        let mut pod = of_command("crun", json!(["true"]));
        pod["spec"]["containers"][0]["image"] = json!("test/damaged:1");
        fails(w, [pod])
    };
    an_image_whose_layer_is_gone, "image-broken", IMAGE, |w| {
        fs::remove_dir_all(w.root().join("images/layers")).unwrap();
        fails(w, [of_command("crun", json!(["true"]))])
    };
    an_image_whose_configuration_is_damaged, "image-broken", "DIR/l/images/blobs/sha256/", |w| {
        let blobs = w.root().join("images/blobs/sha256");
        for name in common::names(&blobs) {
            fs::write(blobs.join(name), "{}").unwrap();
        }
        fails(w, [of_command("crun", json!(["true"]))])
    };
    an_image_for_other_cpus, "image-wrong-architecture", "test/foreign:1", |w| {
        w.input(&["image", "load"], &foreign_image()).good();
        let mut pod = of_command("crun", json!(["true"]));
        pod["spec"]["containers"][0]["image"] = json!("test/foreign:1");
        fails(w, [pod])
    };
    a_command_that_is_not_in_the_image, "entrypoint-not-found", "/no/such", |w| fails(w, [of_command("crun", json!(["/no/such"]))]);
    a_command_that_is_not_in_the_image_under_gvisor, "entrypoint-not-found", "/no/such", |w| fails(w, [of_command("runsc", json!(["/no/such"]))]);
    a_command_that_may_not_be_executed, "entrypoint-permission-denied", "/etc/passwd", |w| fails(w, [of_command("runc", json!(["/etc/passwd"]))]);
    // Pods.
    a_port_that_is_taken, "port-taken", "Address already in use", |w| {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let mut pod = of_command("crun", json!(["httpd", "-f", "-p", format!("127.0.0.1:{port}")]));
        pod["spec"]["hostNetwork"] = json!(true);
        fails(w, [pod])
    };
    a_container_without_enough_memory, "oom-killed", "OOMKilled", |w| {
        let mut pod = of_command("crun", json!(["sh", "-c", "dd if=/dev/zero of=/dev/null bs=64M"]));
        pod["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "16Mi"}});
        fails(w, [pod])
    };
    a_config_map_that_is_missing, "volume-source-missing", "settings", |w| {
        let mut pod = of_command("crun", json!(["true"]));
        with_volume(&mut pod, &json!({"configMap": {"name": "settings"}}));
        fails(w, [pod])
    };
    a_container_that_ends_again_and_again, "crash-loop", "exit code 3; last line: cannot find it", |w| {
        let mut pod = of_command("crun", json!(["sh", "-c", "echo cannot find it; exit 3"]));
        pod["spec"]["restartPolicy"] = json!("Always");
        w.run(&[pod], &["--detach"]);
        until("it waits", || w.call(&["describe", "p"]).out.contains("CrashLoopBackOff").then_some(()));
        pod_p()
    };
    a_hook_that_fails, "hook-failed", "container app", |w| {
        let mut pod = of_command("crun", json!(["sh", "-c", WAITS]));
        pod["spec"]["containers"][0]["lifecycle"] = json!({"postStart": {"exec": {"command": ["false"]}}});
        fails(w, [pod])
    };
    an_image_of_root_where_root_is_forbidden, "run-as-non-root", "runAsNonRoot", |w| {
        let mut pod = of_command("crun", json!(["true"]));
        pod["spec"]["securityContext"] = json!({"runAsNonRoot": true});
        fails(w, [pod])
    };
    a_call_that_gvisor_lacks, "gvisor-unsupported-call", "Operation not supported", |w| {
        fails(w, own(w, Path::new("runsc"), json!(["sh", "-c", "ip rule || exit 1"])))
    };
    // What admission refuses.
    an_overhead_of_the_pods_own, "overhead-conflict", "p", |_| {
        let mut pod = of_command("runsc", json!(["true"]));
        pod["spec"]["overhead"] = json!({"memory": "1Gi"});
        manifests(&[pod])
    };
    a_selector_against_the_classs, "node-selector-conflict", "disk = ssd", |_| {
        let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "runc"}, "handler": "runc",
            "scheduling": {"nodeSelector": {"disk": "ssd"}}});
        let mut pod = of_command("runc", json!(["true"]));
        pod["spec"]["nodeSelector"] = json!({"disk": "hdd"});
        manifests(&[class, pod]).with(&["p"])
    };
    a_quota_that_is_used_up, "quota-exceeded", "ResourceQuota small", |_| {
        manifests(&[object("ResourceQuota", "small", json!({"spec": {"hard": {"pods": "0"}}})), of_command("runc", json!(["true"]))])
    };
    a_class_that_does_not_exist, "runtimeclass-not-found", "vault", |_| manifests(&[of_command("vault", json!(["true"]))]);
}

/// The beginning of a program for CPUs that this machine does not have.
fn foreign_program() -> Vec<u8> {
    // ELF: 64 bits, little endian; an executable for ARM's 64 bits, or for x86's.
    let machine = if cfg!(target_arch = "aarch64") { 62 } else { 183 };
    let mut header = vec![0; 64];
    header[..20].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, machine, 0]);
    header
}

/// The tests' image, which says of itself that it is for other CPUs.
fn foreign_image() -> Vec<u8> {
    let archive = image::docker_archive("test/foreign:1", "foreign");
    let mut foreign = tar::Builder::new(Vec::new());
    for entry in tar::Archive::new(archive.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        let mut data = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut data).unwrap();
        if path == Path::new("config.json") {
            let mut config: Value = serde_json::from_slice(&data).unwrap();
            config["architecture"] = json!("s390x");
            data = config.to_string().into_bytes();
        }
        let mut header = entry.header().clone();
        header.set_size(data.len() as u64);
        foreign.append_data(&mut header, path, data.as_slice()).unwrap();
    }
    foreign.into_inner().unwrap()
}

#[test]
fn a_sound_machine_and_a_sound_pod_have_nothing_that_stops_pods() {
    let world = World::new();
    world.detach(&[pod("p", "crun", &[app(WAITS)])]);
    world.call(&["doctor"]).good();
    let told = world.call(&["doctor", "p"]).good().out;
    assert_eq!(told, "Pod default/p: Running\n\nNothing is wrong that is known here.\n");
    world.call(&["doctor", "q"]).fails(120, "did you mean default/p?");
}

#[test]
fn what_is_no_administrator_is_told_what_it_cannot_see() {
    let world = World::bare();
    let binary = world.dir.join("cofferdam");
    fs::copy(env!("CARGO_BIN_EXE_cofferdam"), &binary).unwrap();
    let mut command = std::process::Command::new("setpriv");
    command
        .args(["--reuid=65534", "--clear-groups"])
        .arg(&binary)
        .arg("--config")
        .arg(world.dir.join("etc/config.toml"));
    command
        .arg("--root")
        .arg(world.root())
        .arg("--state")
        .arg(world.state())
        .args(["doctor", "p"]);
    let told = common::answer(command, b"").good().out;
    assert!(told.starts_with("Nothing can be told of pod p"), "{told}");
    assert!(told.contains("not run as root") && told.contains("kernel       Linux"), "{told}");
}
