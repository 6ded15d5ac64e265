//! `cofferdam cri` within the cgroups of a kubelet, on either version of cgroups: ends for memory, containers that
//! make cgroups themselves, and parents that are not as a kubelet's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod cri;
mod kubelet_cgroup;

use cofferdam_cri_api::v1;
use common::{SHARED, World, names, until};
use cri::{Daemon, Kubelet};
use kubelet_cgroup::{MIB, POD_MEMORY, Parent, assert_held, hierarchies, read, resources, unified, with};
use std::fs;
use std::path::Path;

#[test]
fn a_container_that_needs_too_much_memory_ends_as_the_kubelet_wants_it() {
    let world = World::new();
    let kubelet = Kubelet::new(&world);
    let daemon = Daemon::start(&world);
    let script = "(x=a; while :; do x=$x$x; done); echo outlived; exit 5";
    for handler in SHARED {
        let parent = Parent::paths(&world);
        let pod = kubelet.run_pod(parent.pod_config(&kubelet, handler), handler).unwrap();
        for (name, together) in [("together", true), ("single", false)] {
            let config = with(
                kubelet.container_config(name, 0, script),
                resources(&parent, 24 * MIB, 0, 2, together),
            );
            let ended = kubelet.ended(&kubelet.begin(&pod, config));
            // v1 has no such thing as ending them together.
            let (code, said) = if together && unified() { (137, false) } else { (5, true) };
            assert_eq!((ended.exit_code, ended.reason.as_str()), (code, "OOMKilled"), "{handler} {name}");
            let log = fs::read_to_string(kubelet.log(handler, name, 0)).unwrap();
            assert_eq!(log.contains("outlived"), said, "{handler} {name}: {log}");
        }
        // Without a limit of its own, what the kubelet's cgroup allows the pod holds.
        fs::write(parent.memory("memory.max"), (64 * MIB).to_string()).unwrap();
        let alone = with(
            kubelet.container_config("limitless", 0, "x=a; while :; do x=$x$x; done"),
            v1::LinuxContainerResources {
                oom_score_adj: 1000,
                ..Default::default()
            },
        );
        let ended = kubelet.ended(&kubelet.begin(&pod, alone));
        assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "OOMKilled"), "{handler}");
        fs::write(parent.memory("memory.max"), POD_MEMORY).unwrap();
        assert_eq!(
            kubelet.pod_status(&pod).unwrap().state(),
            v1::PodSandboxState::SandboxReady,
            "{handler}"
        );
        let next = kubelet.begin(&pod, kubelet.container_config("next", 0, "exit 137"));
        assert_eq!(kubelet.ended(&next).reason, "Error", "{handler}");
        kubelet.end_pod(&pod);
        parent.assert_untouched(handler);
    }
    daemon.end();
}

#[test]
fn a_command_fits_into_a_small_container() {
    let world = World::new();
    let kubelet = Kubelet::new(&world);
    let daemon = Daemon::start(&world);
    for handler in SHARED {
        let parent = Parent::paths(&world);
        let pod = kubelet.run_pod(parent.pod_config(&kubelet, handler), handler).unwrap();
        let config = with(
            kubelet.container_config("small", 0, "sleep 100000"),
            resources(&parent, 16 * MIB, 0, 2, true),
        );
        let id = kubelet.begin(&pod, config);
        for _ in 0..3 {
            kubelet.assert_alive(&id);
        }
        assert_eq!(
            kubelet.status(&id).unwrap().state(),
            v1::ContainerState::ContainerRunning,
            "{handler}"
        );
        kubelet.end_pod(&pod);
    }
    daemon.end();
}

/// A container of the kind that runs systemd or Docker.
fn privileged(kubelet: &Kubelet, mut pod: v1::PodSandboxConfig, handler: &str, script: &str) -> (String, String) {
    pod.linux.as_mut().unwrap().security_context.as_mut().unwrap().privileged = true;
    let pod = kubelet.run_pod(pod, handler).unwrap();
    let mut config = kubelet.container_config("nests", 0, script);
    config
        .linux
        .get_or_insert_default()
        .security_context
        .get_or_insert_default()
        .privileged = true;
    let id = kubelet.begin(&pod, config);
    (pod, id)
}

#[test]
fn a_container_that_makes_cgroups_of_its_own_is_entered_and_ended() {
    let world = World::new();
    let kubelet = Kubelet::new(&world);
    let daemon = Daemon::start(&world);
    // On v2 it is to have its processes in these alone, once they have controllers; and one may be of threads.
    let nests = if unified() {
        "cd /sys/fs/cgroup; mkdir in t t/u; echo threaded > t/u/cgroup.type; \
         sh -c 'echo $$ > t/cgroup.procs; echo $$ > t/u/cgroup.threads; exec sleep 100000' & \
         until [ \"$(cat t/u/cgroup.threads)\" ]; do sleep 0.1; done; \
         echo $$ > in/cgroup.procs; echo +memory > cgroup.subtree_control && echo nested; wait"
    } else {
        "cd /sys/fs/cgroup/memory; mkdir in; echo $$ > in/cgroup.procs && echo nested; sleep 100000"
    };
    for handler in SHARED {
        let parent = Parent::paths(&world);
        let (pod, id) = privileged(&kubelet, parent.pod_config(&kubelet, handler), handler, nests);
        let log = kubelet.log(handler, "nests", 0);
        until("it has made its own", || {
            fs::read_to_string(&log).ok().filter(|l| l.contains("nested"))
        });
        kubelet.assert_alive(&id);
        let group = parent.file("memory", &pod).join(&id);
        assert_ne!(read(group.join("in/cgroup.procs")), "", "{handler}");
        if unified() {
            let within = String::from_utf8(kubelet.exec(&id, "cat /proc/self/cgroup", 60).unwrap().stdout).unwrap();
            assert!(within.trim().ends_with(&format!("{id}/in")), "{handler}: {within}");
        }
        kubelet.stop(&id, 0).unwrap();
        kubelet.remove(&id).unwrap();
        assert!(!group.exists(), "{handler}");
        kubelet.end_pod(&pod);
        parent.assert_untouched(handler);
    }
    daemon.end();
}

#[test]
fn a_parent_without_controllers_gets_them_and_one_with_processes_is_told() {
    let world = World::new();
    let kubelet = Kubelet::new(&world);
    let daemon = Daemon::start(&world);
    let lies = format!("{}bare/inner/pod", world.bridge);
    for handler in SHARED {
        let parent = Parent {
            asked: format!("/{lies}"),
            lies: lies.clone().into(),
        }
        .made(false);
        let pod = kubelet.run_pod(parent.pod_config(&kubelet, handler), handler).unwrap();
        let config = with(
            kubelet.container_config("app", 0, "sleep 100000"),
            resources(&parent, 64 * MIB, 50_000, 512, true),
        );
        let id = kubelet.begin(&pod, config);
        assert_held(&parent, &Path::new(&pod).join(&id), 64 * MIB, 50_000, ("512", "20"), handler);
        kubelet.end_pod(&pod);
        drop(parent);

        let parent = Parent {
            asked: format!("/{lies}"),
            lies: lies.clone().into(),
        }
        .made(false);
        let mut other = std::process::Command::new("sleep").arg("100000").spawn().unwrap();
        for at in hierarchies() {
            fs::write(at.join(&parent.lies).join("cgroup.procs"), other.id().to_string()).unwrap();
        }
        let asked = kubelet.run_pod(parent.pod_config(&kubelet, handler), handler);
        if unified() {
            let why = asked.unwrap_err();
            assert!(
                why.message().contains(&format!("{lies} has processes of its own, and cgroup v2")),
                "{why}"
            );
        } else {
            kubelet.end_pod(&asked.unwrap());
        }
        assert_eq!(kubelet.pods(), vec![], "{handler}");
        assert!(
            names(&parent.memory("")).iter().all(|n| !parent.memory(n).is_dir()),
            "{handler}: nothing is left"
        );
        assert!(other.try_wait().unwrap().is_none(), "{handler}: what is the other's is left alone");
        other.kill().unwrap();
        other.wait().unwrap();
        for at in hierarchies() {
            until("it has left", || fs::remove_dir(at.join(&lies)).is_ok().then_some(()));
        }
    }
    daemon.end();
}
