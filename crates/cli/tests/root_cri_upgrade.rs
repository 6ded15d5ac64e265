//! The next daemon, of the same or another binary, takes over what runs: containers, their logs, events, and
//! clean-ups that failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod cri;

use cofferdam_cri_api::v1::{ContainerEventType, PodSandboxState};
use common::traces::Traces;
use common::{ALL, SHARED, WAITS, World, until};
use cri::bystander::{Bystander, assert_no_gap, counted};
use cri::{Daemon, Kubelet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use tonic::Code;

#[test]
fn an_upgrade_takes_over_what_runs() {
    let world = World::new();
    let kubelet = Kubelet::new(&world);
    let old = Daemon::start(&world);
    let pods = ALL.map(|handler| Bystander::new(&world, &kubelet, handler));
    let events = kubelet.events();
    // The same build elsewhere, as a package manager puts one in place of the other.
    let binary = world.dir.join("cofferdam-new");
    fs::copy(env!("CARGO_BIN_EXE_cofferdam"), &binary).unwrap();
    old.end();
    events.assert_ends();
    for (n, handler) in ALL.into_iter().enumerate() {
        let log = kubelet.log(&pods[n].name, "counts", 0);
        let so_far = counted(&log).len();
        until(&format!("{handler} counts on without a daemon"), || {
            (counted(&log).len() > so_far + 1).then_some(())
        });
    }
    let mut command = Command::new(&binary);
    command.args(world.command(&["cri"]).get_args());
    let new = Daemon::start_as(&world, command);
    assert_eq!(fs::read_link(format!("/proc/{}/exe", new.pid())).unwrap(), binary);
    let events = kubelet.events();
    for pod in &pods {
        pod.assert_untouched(&world, &kubelet, "upgrade");
        kubelet.assert_alive(&pod.container);
        // Rotated as a kubelet does: renamed, then reopened.
        let log = kubelet.log(&pod.name, "counts", 0);
        let aside = log.with_extension("log.1");
        fs::rename(&log, &aside).unwrap();
        kubelet.reopen(&pod.container).unwrap();
        until("the new log is written", || (counted(&log).len() > 1).then_some(()));
        let all = [counted(&aside), counted(&log)].concat();
        assert_no_gap(&all, &pod.name);
        // A container more in a pod whose monitor is of the old daemon.
        let more = kubelet.begin(&pod.pod, kubelet.container_config("more", 0, "exit 4"));
        events.wait_for(ContainerEventType::ContainerStartedEvent, &more);
        assert_eq!(kubelet.ended(&more).exit_code, 4);
        events.wait_for(ContainerEventType::ContainerStoppedEvent, &more);
        kubelet.stop(&pod.container, 20).unwrap();
        assert_eq!(
            kubelet.status(&pod.container).unwrap().exit_code,
            0,
            "{}: it heard the signal",
            pod.name
        );
    }
    for pod in kubelet.pods() {
        kubelet.end_pod(&pod.id);
    }
    new.end();
}

#[test]
fn a_log_that_is_rotated_across_a_kill_loses_no_line() {
    let world = World::new();
    let kubelet = Kubelet::new(&world);
    let mut daemon = Daemon::start(&world);
    let pods = SHARED.map(|handler| Bystander::new(&world, &kubelet, handler));
    for round in 1..4 {
        for pod in &pods {
            let log = kubelet.log(&pod.name, "counts", 0);
            fs::rename(&log, log.with_extension(format!("log.{round}"))).unwrap();
        }
        daemon.kill();
        daemon = Daemon::start(&world);
        for pod in &pods {
            kubelet.reopen(&pod.container).unwrap();
        }
    }
    for pod in &pods {
        let log = kubelet.log(&pod.name, "counts", 0);
        until("the new log is written", || (!counted(&log).is_empty()).then_some(()));
        let parts = (1..4).map(|n| counted(&log.with_extension(format!("log.{n}"))));
        let all: Vec<u64> = parts.chain([counted(&log)]).flatten().collect();
        assert_no_gap(&all, &pod.name);
        kubelet.end_pod(&pod.pod);
    }
    daemon.end();
}

/// Makes the removal of a pod's directory impossible until it is dropped.
struct Busy(PathBuf);

impl Busy {
    fn new(world: &World, pod: &str) -> Self {
        let at = world.root().join("pods").join(pod).join("busy");
        fs::create_dir(&at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "none"]).arg(&at);
        common::answer(mount, b"").good();
        Self(at)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut umount = Command::new("umount");
        umount.arg(&self.0);
        let answer = common::answer(umount, b"");
        if !std::thread::panicking() {
            answer.good();
        }
    }
}

#[test]
fn a_clean_up_that_fails_is_told_and_tried_again() {
    let world = World::new();
    let kubelet = Kubelet::new(&world);
    let mut daemon = Daemon::start(&world);
    for by in ["a kubelet", "the next daemon", "the daemon"] {
        let pod = kubelet.run_pod(kubelet.pod_config("p", 0), "crun").unwrap();
        kubelet.begin(&pod, kubelet.container_config("app", 0, WAITS));
        let traces = Traces::of(&world, std::slice::from_ref(&pod));
        let busy = Busy::new(&world, &pod);
        let failed = kubelet.remove_pod(&pod).unwrap_err();
        assert!(failed.message().contains("busy"), "{failed:?}");
        let (status, reason) = kubelet.pod_told(&pod).unwrap();
        assert_eq!(status.state(), PodSandboxState::SandboxNotready);
        assert!(reason.contains("its removal failed and is tried again"), "{reason}");
        assert_eq!(kubelet.pods().len(), 1, "it stays listed");
        if by == "the next daemon" {
            // While it still fails, and then.
            daemon.kill();
            daemon = Daemon::start(&world);
            let (_, reason) = kubelet.pod_told(&pod).unwrap();
            assert!(reason.contains("its removal failed and is tried again"), "{reason}");
        }
        drop(busy);
        match by {
            "a kubelet" => kubelet.remove_pod(&pod).unwrap(),
            "the next daemon" => {
                daemon.kill();
                daemon = Daemon::start(&world);
            }
            _ => until("the daemon tries again", || kubelet.pod_status(&pod).is_err().then_some(())),
        }
        assert_eq!(kubelet.pod_status(&pod).unwrap_err().code(), Code::NotFound, "by {by}");
        traces.assert_gone(&world);
    }
    daemon.end();
}
