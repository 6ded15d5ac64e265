//! The daemon killed at any step of any verb, by SIGKILL, and started again: what ran goes on, what was half
//! made is undone or finished, no exit and no line of a log is lost, and a kubelet that tries again succeeds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod cri;

use cofferdam_cri_api::v1::{self, ContainerEventType, ContainerState, PodSandboxState};
use cofferdam_plan::steps::{ContainerStep, SandboxStep};
use common::traces::Traces;
use common::{ALL, World, until};
use cri::bystander::{Bystander, COUNTS, CgroupParent, assert_no_gap, counted};
use cri::{Daemon, Kubelet};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::Code;

/// The verb within which the daemon is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    RunPod,
    Create,
    Start,
    Update,
    RemoveContainer,
    StopPod,
    RemovePod,
}

/// Every place at which the engine can be killed, and a verb that comes by it.
const PLACES: [(&str, Verb); 27] = [
    ("sandbox.run-dir", Verb::RunPod),
    ("sandbox.intent", Verb::RunPod),
    ("sandbox.cgroup", Verb::RunPod),
    ("sandbox.monitor", Verb::RunPod),
    ("sandbox.network", Verb::RunPod),
    ("sandbox.enclosure", Verb::RunPod),
    ("sandbox.result", Verb::RunPod),
    ("container.intent", Verb::Create),
    ("container.bundle", Verb::Create),
    ("container.cgroup", Verb::Create),
    ("container.create", Verb::Create),
    ("container.result", Verb::Create),
    ("start.before", Verb::Start),
    ("start.after", Verb::Start),
    ("update.intent", Verb::Update),
    ("update.done", Verb::Update),
    ("update.recorded", Verb::Update),
    ("container.undo.cgroup", Verb::RemoveContainer),
    ("end.monitor", Verb::StopPod),
    ("end.cgroup", Verb::StopPod),
    ("end.monitor", Verb::RemovePod),
    ("end.cgroup", Verb::RemovePod),
    ("undo.marked", Verb::RemovePod),
    ("undo.ended", Verb::RemovePod),
    ("undo.forgot", Verb::RemovePod),
    ("undo.record", Verb::RemovePod),
    // A pod that was stopped before.
    ("undo.marked", Verb::StopPod),
];

#[test]
fn the_places_are_all_that_the_engine_has() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/src");
    let files = fs::read_dir(&source).unwrap().flatten().map(|e| e.path());
    let text: String = files
        .filter(|p| p.extension().is_some_and(|e| e == "rs"))
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    let mut found: BTreeSet<String> = text
        .split("reach(\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap().to_owned())
        .collect();
    let of_pod = SandboxStep::ALL
        .into_iter()
        .filter(|s| text.contains(&format!("done(SandboxStep::{s:?})")));
    found.extend(of_pod.map(|s| format!("sandbox.{}", s.name())));
    let of_container = ContainerStep::ALL
        .into_iter()
        .filter(|s| text.contains(&format!("done(ContainerStep::{s:?})")));
    found.extend(of_container.map(|s| format!("container.{}", s.name())));
    assert_eq!(found, PLACES.iter().map(|(place, _)| (*place).to_owned()).collect());
}

/// A pod that a verb is tried on, in a kubelet's cgroup.
struct Victim<'a> {
    world: &'a World,
    kubelet: &'a Kubelet,
    handler: &'a str,
    parent: &'a CgroupParent,
}

impl Victim<'_> {
    fn config(&self, attempt: u32) -> v1::PodSandboxConfig {
        let mut config = self.kubelet.pod_config("victim", attempt);
        config.linux.as_mut().unwrap().cgroup_parent.clone_from(&self.parent.path);
        config
    }

    fn container(&self, attempt: u32) -> v1::ContainerConfig {
        let mut config = self.kubelet.container_config("app", attempt, COUNTS);
        let resources = v1::LinuxContainerResources {
            memory_limit_in_bytes: 256 << 20,
            ..Default::default()
        };
        config.linux = Some(v1::LinuxContainerConfig {
            resources: Some(resources),
            ..Default::default()
        });
        config
    }

    /// The verb, and all that comes before it.
    fn drive(&self, place: &str, verb: Verb) -> Result<(), tonic::Status> {
        let Self { kubelet, .. } = self;
        let pod = kubelet.run_pod(self.config(0), self.handler)?;
        let container = kubelet.create(&pod, self.container(0))?;
        if verb == Verb::Create {
            return Ok(());
        }
        kubelet.start(&container)?;
        match verb {
            Verb::Update => kubelet.update(&container, 128 << 20),
            Verb::RemoveContainer => kubelet.stop(&container, 1).and_then(|()| kubelet.remove(&container)),
            Verb::StopPod if place.starts_with("end.") => kubelet.stop_pod(&pod),
            Verb::StopPod => kubelet.stop_pod(&pod).and_then(|()| kubelet.remove_pod(&pod)),
            Verb::RemovePod => kubelet.remove_pod(&pod),
            Verb::RunPod | Verb::Create | Verb::Start => Ok(()),
        }
    }

    /// After the restart: what a kubelet finds, and does again.
    #[track_caller]
    fn go_on(&self, place: &str, verb: Verb) {
        let kubelet = self.kubelet;
        let found = kubelet.pods_named("victim");
        assert!(found.len() <= 1, "{place}: {found:?}");
        let pod = match (verb, found.first()) {
            (Verb::RunPod, None) => kubelet.run_pod(self.config(0), self.handler).unwrap(),
            (Verb::RunPod, Some(pod)) => {
                assert_eq!((place, pod.state()), ("sandbox.result", PodSandboxState::SandboxReady));
                let again = kubelet.run_pod(self.config(0), self.handler);
                let told = again.unwrap_err().message().to_owned();
                assert!(told.contains("is reserved for"), "{told}");
                kubelet.end_pod(&pod.id);
                kubelet.run_pod(self.config(1), self.handler).unwrap()
            }
            (Verb::RemovePod, None) => return,
            (Verb::StopPod, None) if place.starts_with("undo.") => return,
            (_, None) => panic!("{place}: the pod is forgotten"),
            (Verb::RemovePod | Verb::StopPod, Some(pod)) => {
                assert_eq!(pod.state(), PodSandboxState::SandboxNotready, "{place}");
                // The counter has ended with its pod, and how is told.
                let container = &kubelet.containers_in(&pod.id)[0];
                let status = kubelet.status(&container.id).unwrap();
                assert_eq!(
                    (status.state(), status.exit_code),
                    (ContainerState::ContainerExited, 137),
                    "{place}: {status:?}"
                );
                assert_ne!(status.finished_at, 0, "{place}: {status:?}");
                return;
            }
            (_, Some(pod)) => {
                assert_eq!(pod.state(), PodSandboxState::SandboxReady, "{place}");
                pod.id.clone()
            }
        };
        let found = kubelet.containers_in(&pod);
        assert!(found.len() <= 1, "{place}: {found:?}");
        match (verb, found.first()) {
            (Verb::RunPod, None) => {}
            (Verb::Create, None) => assert_ne!(place, "container.result"),
            (Verb::Create, Some(made)) => {
                assert_eq!((place, made.state()), ("container.result", ContainerState::ContainerCreated));
                let told = kubelet.create(&pod, self.container(0)).unwrap_err().message().to_owned();
                assert!(told.contains("is reserved for"), "{told}");
                kubelet.start(&made.id).unwrap();
                self.assert_runs(&made.id, place);
                kubelet.remove(&made.id).unwrap();
            }
            (Verb::Start, Some(started)) => {
                // What was begun was finished: a second one beside it would be one too many.
                assert_eq!(started.state(), ContainerState::ContainerRunning, "{place}");
                assert_eq!(kubelet.start(&started.id).unwrap_err().code(), Code::FailedPrecondition);
                self.assert_runs(&started.id, place);
                kubelet.stop(&started.id, 5).unwrap();
                kubelet.remove(&started.id).unwrap();
            }
            (Verb::Update, Some(changed)) => {
                self.assert_runs(&changed.id, place);
                let status = kubelet.status(&changed.id).unwrap();
                let limit = status.resources.unwrap().linux.unwrap().memory_limit_in_bytes;
                assert_eq!(limit >> 20, 128, "{place}");
                kubelet.update(&changed.id, 192 << 20).unwrap();
                kubelet.remove(&changed.id).unwrap();
            }
            (Verb::RemoveContainer, Some(half)) => {
                assert_eq!(half.state(), ContainerState::ContainerExited, "{place}");
                kubelet.remove(&half.id).unwrap();
                kubelet.remove(&half.id).unwrap();
            }
            (verb, other) => panic!("{place}: {verb:?} left {other:?}"),
        }
        assert_eq!(kubelet.containers_in(&pod), [], "{place}");
        // The same metadata, and the next attempt.
        for attempt in [0, 1] {
            let again = kubelet.begin(&pod, self.container(attempt));
            self.assert_runs(&again, place);
        }
    }

    /// Fails unless a counter runs and has its log.
    #[track_caller]
    fn assert_runs(&self, id: &str, place: &str) {
        let status = self.kubelet.status(id).unwrap();
        assert_eq!(status.state(), ContainerState::ContainerRunning, "{place}");
        self.kubelet.assert_alive(id);
        let log = Path::new(&status.log_path);
        until("it counts", || (counted(log).len() > 1).then_some(()));
        // A container of the same attempt that was there before wrote into the same file.
        fs::remove_file(log).unwrap();
    }
}

/// Kills at each place in turn, beside pods that go on, and looks after the restart.
fn kill_everywhere(handler: &str) {
    let world = World::new();
    world.call(&["handlers"]).good();
    let kubelet = Kubelet::new(&world);
    let parent = CgroupParent::new(&world);
    let mut daemon = Daemon::start(&world);
    let bystanders: Vec<Bystander> = ["crun", handler]
        .into_iter()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .map(|h| Bystander::new(&world, &kubelet, h))
        .collect();
    let victim = Victim {
        world: &world,
        kubelet: &kubelet,
        handler,
        parent: &parent,
    };
    for (place, verb) in PLACES {
        daemon.end();
        daemon = Daemon::killed_at(&world, place);
        let told = victim.drive(place, verb).expect_err(place);
        assert!(
            matches!(told.code(), Code::Unavailable | Code::Unknown | Code::Cancelled),
            "{place}: {told:?}"
        );
        daemon.wait_killed(place);
        let traces = of_victim(&world, &bystanders);
        assert_eq!(traces.ids.len(), 1, "{place}: the half-made pod has a trace by which it is found");
        daemon = Daemon::start(&world);
        let after = format!("killed at {place}");
        for bystander in &bystanders {
            bystander.assert_untouched(&world, &kubelet, &after);
        }
        victim.go_on(place, verb);
        let more = of_victim(&world, &bystanders);
        for pod in kubelet.pods_named("victim") {
            kubelet.end_pod(&pod.id);
        }
        for traces in [traces, more] {
            traces.assert_gone(victim.world);
            // What is gone may be removed again.
            for id in &traces.ids {
                kubelet.stop_pod(id).unwrap();
                kubelet.remove_pod(id).unwrap();
            }
        }
        assert_eq!(parent.within(), Vec::<PathBuf>::new(), "{place}");
    }
    for bystander in &bystanders {
        kubelet.end_pod(&bystander.pod);
    }
    daemon.end();
}

fn of_victim(world: &World, bystanders: &[Bystander]) -> Traces {
    let ids: Vec<String> = world
        .pod_ids()
        .into_iter()
        .filter(|id| bystanders.iter().all(|b| b.pod != *id))
        .collect();
    Traces::of(world, &ids)
}

#[test]
fn a_kill_at_any_step_of_a_verb_under_runc_loses_nothing() {
    kill_everywhere("runc");
}

#[test]
fn a_kill_at_any_step_of_a_verb_under_crun_loses_nothing() {
    kill_everywhere("crun");
}

#[test]
fn a_kill_at_any_step_of_a_verb_under_gvisor_loses_nothing() {
    kill_everywhere("runsc");
}

/// Recovery is killed too, where it comes by the same places.
#[test]
fn a_kill_within_recovery_is_recovered_from() {
    let world = World::new();
    world.call(&["handlers"]).good();
    let kubelet = Kubelet::new(&world);
    let parent = CgroupParent::new(&world);
    let victim = Victim {
        world: &world,
        kubelet: &kubelet,
        handler: "crun",
        parent: &parent,
    };
    for second in ["end.monitor", "end.cgroup", "undo.ended", "undo.forgot", "undo.record"] {
        let daemon = Daemon::killed_at(&world, "sandbox.network");
        victim.drive("sandbox.network", Verb::RunPod).unwrap_err();
        daemon.wait_killed("sandbox.network");
        let traces = world.traces();
        let mut command = world.command(&["cri"]);
        command.env("COFFERDAM_KILL_AT", second);
        let again = common::answer(command, b"");
        assert_eq!(again.code, None, "{second}: {again:?}");
        let daemon = Daemon::start(&world);
        assert_eq!(kubelet.pods(), [], "{second}");
        traces.assert_gone(&world);
        daemon.end();
    }
    assert_eq!(parent.within(), Vec::<PathBuf>::new());
}

#[test]
fn a_kill_while_a_container_is_stopped_or_a_command_runs_is_no_end_of_anything_else() {
    let world = World::new();
    let kubelet = Kubelet::new(&world);
    for handler in ALL {
        let daemon = Daemon::start(&world);
        let pod = kubelet.run_pod(kubelet.pod_config(handler, 0), handler).unwrap();
        // It hears the signal and says so, but does not end.
        let stubborn = "trap 'echo 1' TERM; echo 0; i=2; while :; do sleep 0.05; [ -e /tmp/told ] && echo $i && i=$((i+1)); done";
        let stubborn = kubelet.begin(&pod, kubelet.container_config("stubborn", 0, stubborn));
        let other = kubelet.begin(&pod, kubelet.container_config("other", 0, COUNTS));
        let log = kubelet.log(handler, "stubborn", 0);
        until("it listens", || (counted(&log) == [0]).then_some(()));
        std::thread::scope(|scope| {
            let stop = scope.spawn(|| kubelet.stop(&stubborn, 60));
            let exec = scope.spawn(|| kubelet.exec(&other, "touch /tmp/began; sleep 300", 60));
            until("it was asked to end", || (counted(&log) == [0, 1]).then_some(()));
            until("the command runs", || {
                (kubelet.exec(&other, "test -e /tmp/began", 20).unwrap().exit_code == 0).then_some(())
            });
            daemon.kill();
            assert!(stop.join().unwrap().is_err() && exec.join().unwrap().is_err(), "{handler}");
        });
        let daemon = Daemon::start(&world);
        for id in [&stubborn, &other] {
            assert_eq!(kubelet.status(id).unwrap().state(), ContainerState::ContainerRunning, "{handler}");
        }
        kubelet.exec(&stubborn, "touch /tmp/told", 20).unwrap();
        until("it says more", || (counted(&log).len() > 3).then_some(()));
        assert_no_gap(&counted(&log), handler);
        kubelet.stop(&stubborn, 0).unwrap();
        let status = kubelet.status(&stubborn).unwrap();
        assert_eq!(
            (status.state(), status.exit_code),
            (ContainerState::ContainerExited, 137),
            "{handler}"
        );
        kubelet.assert_alive(&other);
        let traces = world.traces();
        kubelet.end_pod(&pod);
        traces.assert_gone(&world);
        daemon.end();
    }
}

/// A container that ends with 7 as soon as it is let.
fn ends_when_let(kubelet: &Kubelet, world: &World) -> v1::ContainerConfig {
    let mut config = kubelet.container_config("ends", 0, "echo 0; until [ -e /v/go ]; do sleep 0.05; done; echo 1; echo 2; exit 7");
    config.mounts = vec![v1::Mount {
        container_path: "/v".into(),
        host_path: world.out().to_string_lossy().into_owned(),
        ..Default::default()
    }];
    config
}

#[test]
fn the_end_of_a_container_is_told_though_the_daemon_was_dead() {
    let world = World::new();
    let kubelet = Kubelet::new(&world);
    let daemon = Daemon::start(&world);
    let begun = ALL.map(|handler| {
        let pod = kubelet.run_pod(kubelet.pod_config(handler, 0), handler).unwrap();
        let id = kubelet.begin(&pod, ends_when_let(&kubelet, &world));
        (handler, pod, id)
    });
    daemon.kill();
    fs::write(world.out().join("go"), "").unwrap();
    for handler in ALL {
        let log = kubelet.log(handler, "ends", 0);
        until("it says its last", || (counted(&log) == [0, 1, 2]).then_some(()));
    }
    // The end is written down by the pod's monitor, which nobody asks.
    for (_, pod, id) in &begun {
        let exit = world.state().join("pods").join(pod).join("exits").join(id);
        until("its end is written down", || exit.exists().then_some(()));
    }
    let daemon = Daemon::start(&world);
    // A kubelet connects some time after the start.
    std::thread::sleep(Duration::from_millis(300));
    let events = kubelet.events();
    let mut wanted: BTreeSet<&str> = begun.iter().map(|(.., id)| id.as_str()).collect();
    while !wanted.is_empty() {
        let event = events
            .0
            .recv_timeout(common::patience())
            .unwrap_or_else(|e| panic!("{wanted:?} were not told: {e}"));
        assert_eq!(event.container_event_type(), ContainerEventType::ContainerStoppedEvent);
        let status = event.containers_statuses.iter().find(|s| s.id == event.container_id).unwrap();
        assert_eq!((status.exit_code, status.reason.as_str()), (7, "Error"));
        wanted.remove(event.container_id.as_str());
    }
    for (handler, pod, id) in &begun {
        let status = kubelet.status(id).unwrap();
        assert_eq!(
            (status.state(), status.exit_code),
            (ContainerState::ContainerExited, 7),
            "{handler}"
        );
        assert!(
            status.started_at <= status.finished_at && status.started_at > 0,
            "{handler}: {status:?}"
        );
        kubelet.end_pod(pod);
    }
    daemon.end();
}
