//! The daemon killed at any step of any verb, by SIGKILL, and started again: what ran goes on, what was half
//! made is undone or finished, no exit and no line of a log is lost, and a kubelet that tries again succeeds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod cri;

use cofferdam_cri_api::v1::{self, ContainerEventType, ContainerState, PodSandboxState};
use cofferdam_plan::steps::{ContainerStep, SandboxStep};
use common::traces::Traces;
use common::{ALL, World, names, until};
use cri::bystander::{Bystander, COUNTS, CgroupParent, assert_no_gap, counted};
use cri::stream::{End, Stream};
use cri::{Daemon, Kubelet};
use std::cell::Cell;
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
    Exec,
    Stream,
    Reopen,
    Stop,
    RemoveContainer,
    StopPod,
    RemovePod,
}

/// The handlers whose way leads by a place.
type Handlers = &'static [&'static str];
const EACH: Handlers = &["runc", "crun", "runsc"];

/// Every place at which engine and drivers can be killed but for [`OF_IMAGES`], and a verb that comes by it.
const PLACES: [(&str, Verb, Handlers); 52] = [
    ("sandbox.run-dir", Verb::RunPod, EACH),
    ("sandbox.intent", Verb::RunPod, EACH),
    ("sandbox.cgroup", Verb::RunPod, EACH),
    ("sandbox.monitor", Verb::RunPod, EACH),
    ("sandbox.network", Verb::RunPod, EACH),
    ("enclosure.created", Verb::RunPod, &["runc", "crun"]),
    ("sandbox.enclosure", Verb::RunPod, EACH),
    ("sandbox.result", Verb::RunPod, EACH),
    ("container.intent", Verb::Create, EACH),
    ("container.bundle", Verb::Create, EACH),
    ("container.cgroup", Verb::Create, EACH),
    ("container.create", Verb::Create, EACH),
    ("container.result", Verb::Create, EACH),
    ("start.before", Verb::Start, EACH),
    ("release.written", Verb::Start, &["crun"]),
    ("release.read", Verb::Start, &["runc"]),
    ("start.after", Verb::Start, EACH),
    ("start.recorded", Verb::Start, EACH),
    ("update.intent", Verb::Update, EACH),
    ("update.limits", Verb::Update, EACH),
    ("update.done", Verb::Update, EACH),
    ("update.recorded", Verb::Update, EACH),
    ("exec.owned", Verb::Exec, EACH),
    ("exec.began", Verb::Exec, EACH),
    ("exec.ended", Verb::Exec, EACH),
    ("exec.forgot", Verb::Exec, EACH),
    ("exec.files", Verb::Exec, EACH),
    ("exec.began", Verb::Stream, EACH),
    ("log.reopened", Verb::Reopen, EACH),
    ("stop.asked", Verb::Stop, EACH),
    ("kill.signalled", Verb::Stop, EACH),
    ("kill.swept", Verb::Stop, EACH),
    ("stop.ended", Verb::Stop, EACH),
    ("kill.signalled", Verb::RemoveContainer, EACH),
    ("kill.swept", Verb::RemoveContainer, EACH),
    ("container.undo.cgroup", Verb::RemoveContainer, EACH),
    ("container.undo.forgot", Verb::RemoveContainer, EACH),
    ("container.undo.files", Verb::RemoveContainer, EACH),
    ("container.undo.exit", Verb::RemoveContainer, EACH),
    ("end.containers", Verb::StopPod, EACH),
    ("end.monitor", Verb::StopPod, EACH),
    ("end.cgroup", Verb::StopPod, EACH),
    ("end.network", Verb::StopPod, EACH),
    ("end.containers", Verb::RemovePod, EACH),
    ("end.monitor", Verb::RemovePod, EACH),
    ("end.cgroup", Verb::RemovePod, EACH),
    ("end.network", Verb::RemovePod, EACH),
    ("undo.marked", Verb::RemovePod, EACH),
    ("undo.ended", Verb::RemovePod, EACH),
    ("undo.forgot", Verb::RemovePod, EACH),
    ("undo.record", Verb::RemovePod, EACH),
    // A pod that was stopped before.
    ("undo.marked", Verb::StopPod, EACH),
];

/// As [`PLACES`], where an image is removed that a container has.
const OF_IMAGES: [&str; 2] = ["image.marked", "image.untagged"];

#[test]
fn the_places_are_all_that_the_engine_has() {
    let sources = ["engine/src", "runtimes/src", "runtimes/src/runsc"].map(|s| Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(s));
    let files = sources.iter().flat_map(|source| fs::read_dir(source).unwrap().flatten().map(|e| e.path()));
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
    let known = PLACES.iter().map(|(place, ..)| *place).chain(OF_IMAGES);
    assert_eq!(found, known.map(str::to_owned).collect());
}

/// A command that ends only when it is ended.
const HANGS: &str = "exec sleep 300";
/// A command that says more than a pipe holds, and then leaves a sign.
const TALKS: &str = "head -c 300000 /dev/zero; touch /tmp/done";

/// A pod that a verb is tried on, in a kubelet's cgroup.
struct Victim<'a> {
    world: &'a World,
    kubelet: &'a Kubelet,
    handler: &'a str,
    parent: &'a CgroupParent,
    /// Process and time of start of a container that is to go on.
    seen: Cell<Option<(i64, i64)>>,
}

impl Victim<'_> {
    fn config(&self, place: &str, attempt: u32) -> v1::PodSandboxConfig {
        let mut config = self.kubelet.pod_config("victim", attempt);
        let linux = config.linux.as_mut().unwrap();
        linux.cgroup_parent.clone_from(&self.parent.path);
        if place == "enclosure.created" {
            let options = linux.security_context.as_mut().unwrap().namespace_options.as_mut().unwrap();
            options.set_pid(v1::NamespaceMode::Pod);
        }
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
        let pod = kubelet.run_pod(self.config(place, 0), self.handler)?;
        let container = kubelet.create(&pod, self.container(0))?;
        if verb == Verb::Create {
            return Ok(());
        }
        kubelet.start(&container)?;
        if verb == Verb::Start {
            return Ok(());
        }
        let status = kubelet.status(&container)?;
        self.seen.set(Some((kubelet.container_pid(&container), status.started_at)));
        let log = Path::new(&status.log_path);
        until("it counts", || (!counted(log).is_empty()).then_some(()));
        match verb {
            Verb::Exec => kubelet.exec(&container, if place == "exec.began" { HANGS } else { "echo well" }, 60).map(drop),
            Verb::Stream => Stream::try_exec(kubelet, &container, TALKS).and_then(|stream| match stream.end() {
                End::Broken => Err(tonic::Status::unavailable("the stream broke")),
                End::Told(_) => Ok(()),
            }),
            Verb::Reopen => {
                fs::rename(log, log.with_extension("before")).unwrap();
                kubelet.reopen(&container)
            }
            Verb::Stop => kubelet.stop(&container, if place == "stop.asked" { 30 } else { 0 }),
            Verb::RemoveContainer if place.starts_with("kill.") => kubelet.remove(&container),
            Verb::Update => kubelet.update(&container, 128 << 20),
            Verb::RemoveContainer => kubelet.stop(&container, 1).and_then(|()| kubelet.remove(&container)),
            Verb::StopPod if place.starts_with("end.") => kubelet.stop_pod(&pod),
            Verb::StopPod => kubelet.stop_pod(&pod).and_then(|()| kubelet.remove_pod(&pod)),
            Verb::RemovePod => kubelet.remove_pod(&pod),
            Verb::RunPod | Verb::Create | Verb::Start => Ok(()), // came by before
        }
    }

    /// After the restart: what a kubelet finds, and does again.
    #[track_caller]
    fn go_on(&self, place: &str, verb: Verb) {
        let kubelet = self.kubelet;
        let found = kubelet.pods_named("victim");
        assert!(found.len() <= 1, "{place}: {found:?}");
        let pod = match (verb, found.first()) {
            (Verb::RunPod, None) => kubelet.run_pod(self.config(place, 0), self.handler).unwrap(),
            (Verb::RunPod, Some(pod)) => {
                assert_eq!((place, pod.state()), ("sandbox.result", PodSandboxState::SandboxReady));
                // Who asks for the very same is given it, and nobody else the name.
                assert_eq!(kubelet.run_pod(self.config(place, 0), self.handler).unwrap(), pod.id);
                let mut other = self.config(place, 0);
                other.hostname = "other".into();
                let told = kubelet.run_pod(other, self.handler).unwrap_err().message().to_owned();
                assert!(told.contains("is reserved for"), "{told}");
                kubelet.end_pod(&pod.id);
                kubelet.run_pod(self.config(place, 1), self.handler).unwrap()
            }
            (Verb::RemovePod, None) => return,
            (Verb::StopPod, None) if place.starts_with("undo.") => return,
            (_, None) => panic!("{place}: the pod is forgotten"),
            // It is up still, and is stopped again.
            (Verb::RemovePod | Verb::StopPod, Some(pod)) if place == "end.containers" => {
                assert_eq!(pod.state(), PodSandboxState::SandboxReady, "{place}");
                kubelet.stop_pod(&pod.id).unwrap();
                return self.assert_killed(&kubelet.containers_in(&pod.id)[0].id, place);
            }
            (Verb::RemovePod | Verb::StopPod, Some(pod)) => {
                assert_eq!(pod.state(), PodSandboxState::SandboxNotready, "{place}");
                // The counter has ended with its pod, and how is told.
                return self.assert_killed(&kubelet.containers_in(&pod.id)[0].id, place);
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
                assert_eq!(kubelet.create(&pod, self.container(0)).unwrap(), made.id);
                let mut other = self.container(0);
                other.tty = true;
                let told = kubelet.create(&pod, other).unwrap_err().message().to_owned();
                assert!(told.contains("is reserved for"), "{told}");
                kubelet.start(&made.id).unwrap();
                self.assert_runs(&made.id, place);
                kubelet.remove(&made.id).unwrap();
            }
            (Verb::Start, Some(started)) => {
                // What was begun was finished: a second one beside it would be one too many.
                assert_eq!(started.state(), ContainerState::ContainerRunning, "{place}");
                let told = kubelet.start(&started.id).unwrap_err().message().to_owned();
                assert!(told.contains("failed to set starting state"), "{told}");
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
            (Verb::Exec | Verb::Stream, Some(runs)) => {
                let status = kubelet.status(&runs.id).unwrap();
                assert_eq!(self.seen.get(), Some((kubelet.container_pid(&runs.id), status.started_at)), "{place}");
                if verb == Verb::Stream {
                    // Nobody reads what it says, and it goes on.
                    let done = || kubelet.exec(&runs.id, "test -e /tmp/done", 20).unwrap().exit_code == 0;
                    until("the command of a broken stream ends", || done().then_some(()));
                }
                self.assert_no_commands(&pod, place);
                let processes = kubelet.exec(&runs.id, "ps", 20).unwrap().stdout;
                let processes = String::from_utf8_lossy(&processes);
                assert!(!processes.contains("sleep 300"), "{place}: {processes}");
                self.assert_runs(&runs.id, place);
                kubelet.remove(&runs.id).unwrap();
            }
            (Verb::Reopen, Some(runs)) => {
                let status = kubelet.status(&runs.id).unwrap();
                assert_eq!(self.seen.get(), Some((kubelet.container_pid(&runs.id), status.started_at)), "{place}");
                kubelet.reopen(&runs.id).unwrap();
                let log = Path::new(&status.log_path);
                until("the new log is written", || (!counted(log).is_empty()).then_some(()));
                let old = log.with_extension("before");
                assert_no_gap(&[counted(&old), counted(log)].concat(), place);
                fs::remove_file(old).unwrap();
                self.assert_runs(&runs.id, place);
                kubelet.remove(&runs.id).unwrap();
            }
            (Verb::Stop, Some(stopped)) => {
                let status = kubelet.ended(&stopped.id);
                assert_eq!(status.exit_code, if place == "stop.asked" { 0 } else { 137 }, "{place}: {status:?}");
                assert_no_gap(&counted(Path::new(&status.log_path)), place);
                for _ in 0..2 {
                    kubelet.stop(&stopped.id, 5).unwrap();
                }
                let again = kubelet.status(&stopped.id).unwrap();
                assert_eq!((again.exit_code, again.finished_at), (status.exit_code, status.finished_at), "{place}");
                assert_ne!(again.finished_at, 0, "{place}");
                kubelet.remove(&stopped.id).unwrap();
                fs::remove_file(&status.log_path).unwrap();
            }
            (Verb::RemoveContainer, None) => {
                assert!(["container.undo.files", "container.undo.exit"].contains(&place), "{place}");
                let ends = names(&self.run_dir(&pod).join("exits"));
                assert!(ends.iter().all(|name| name == "pause"), "{place}: {ends:?}");
            }
            (Verb::RemoveContainer, Some(half)) => {
                kubelet.ended(&half.id);
                let half = kubelet.containers_in(&pod).remove(0);
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

    fn run_dir(&self, pod: &str) -> PathBuf {
        self.world.state().join("pods").join(pod)
    }

    /// Waits until nothing is kept of any command in a pod.
    #[track_caller]
    fn assert_no_commands(&self, pod: &str, place: &str) {
        let left = || {
            let run = self.run_dir(pod);
            let all = [names(&run), names(&run.join("exits"))].concat();
            all.into_iter().filter(|name| name.starts_with("x-")).collect::<Vec<_>>()
        };
        until(&format!("nothing is left of the command that was killed at {place}"), || {
            left().is_empty().then_some(())
        });
    }

    /// Fails unless a counter was killed, and when is told.
    #[track_caller]
    fn assert_killed(&self, id: &str, place: &str) {
        let status = self.kubelet.status(id).unwrap();
        assert_eq!(
            (status.state(), status.exit_code),
            (ContainerState::ContainerExited, 137),
            "{place}: {status:?}"
        );
        assert_ne!(status.finished_at, 0, "{place}: {status:?}");
        assert_no_gap(&counted(Path::new(&status.log_path)), place);
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
        seen: Cell::new(None),
    };
    for (place, verb, _) in PLACES.into_iter().filter(|(.., handlers)| handlers.contains(&handler)) {
        daemon.end();
        // Every victim's log has the same path.
        let _ = fs::remove_dir_all(kubelet.log("victim", "app", 0).parent().unwrap());
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

/// One that is removed while a container has it goes with that container, whatever is killed when.
#[test]
fn a_kill_while_an_image_is_removed_leaves_none() {
    const NAME: &str = "test/other:1";
    let world = World::new();
    let kubelet = Kubelet::new(&world);
    for place in OF_IMAGES.into_iter().chain(["container.undo.exit", "end.network"]) {
        let images = || world.call(&["image", "ls", "-o", "json"]).good().out;
        let before = images();
        world.input(&["image", "load"], &common::image::docker_archive(NAME, place)).good();
        let daemon = Daemon::killed_at(&world, place);
        let pod = kubelet.run_pod(kubelet.pod_config("p", 0), "crun").unwrap();
        let mut config = kubelet.container_config("app", 0, COUNTS);
        config.image.as_mut().unwrap().image = NAME.into();
        let container = kubelet.begin(&pod, config);
        let removed = kubelet.remove_image(NAME);
        match place {
            "container.undo.exit" => removed.and_then(|()| kubelet.remove(&container)),
            "end.network" => removed.and_then(|()| kubelet.remove_pod(&pod)),
            _ => removed,
        }
        .expect_err(place);
        daemon.wait_killed(place);
        let daemon = Daemon::start(&world);
        if OF_IMAGES.contains(&place) {
            kubelet.assert_alive(&container);
            kubelet.remove_image(NAME).unwrap();
            kubelet.assert_alive(&container);
            kubelet.remove(&container).unwrap();
        }
        kubelet.stop_pod(&pod).unwrap();
        kubelet.remove_pod(&pod).unwrap();
        assert_eq!(images(), before, "{place}");
        assert_eq!(names(&world.root().join("unwanted-images")), Vec::<String>::new(), "{place}");
        daemon.end();
    }
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
        seen: Cell::new(None),
    };
    let twice = |first: &str, verb, second: &str| {
        let daemon = Daemon::killed_at(&world, first);
        victim.drive(first, verb).unwrap_err();
        daemon.wait_killed(first);
        let mut command = world.command(&["cri"]);
        command.env("COFFERDAM_KILL_AT", second);
        let traces = world.traces();
        let again = common::answer(command, b"");
        assert_eq!(again.code, None, "{second}: {again:?}");
        traces
    };
    for (first, verb, second) in [
        ("exec.began", Verb::Exec, "exec.files"),
        ("container.create", Verb::Create, "container.undo.files"),
    ] {
        let traces = twice(first, verb, second);
        let daemon = Daemon::start(&world);
        victim.go_on(first, verb);
        kubelet.pods().iter().for_each(|pod| kubelet.end_pod(&pod.id));
        traces.assert_gone(&world);
        daemon.end();
    }
    for second in ["end.containers", "end.monitor", "end.cgroup", "end.network", "undo.ended", "undo.forgot", "undo.record"] {
        let traces = twice("sandbox.network", Verb::RunPod, second);
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
