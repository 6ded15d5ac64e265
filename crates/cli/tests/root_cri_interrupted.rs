//! What goes wrong while a verb waits: the daemon is killed while a runtime's command is under way, the monitor
//! is killed or the disk is full while a container is stopped or a command runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod cri;

use cofferdam_cri_api::v1::{ContainerState, NamespaceMode, PodSandboxState};
use common::disk::Disk;
use common::traces::Traces;
use common::{ALL, SHARED, World, names, until};
use cri::bystander::{Bystander, COUNTS, assert_no_gap, counted};
use cri::stream::Stream;
use cri::{Daemon, Kubelet};
use rustix::process::Signal;
use std::fs;

/// A runtime that waits at the verb that the file `hold` names, for as long as that is there.
const SLOW: &str = r#"#!/bin/sh
verb=
for word; do
  case "$word" in create|run|exec) [ -z "$verb" ] && verb=$word;; esac
done
if [ "$(cat DIR/hold 2>/dev/null)" = "$verb" ]; then
  : > DIR/held
  while [ -e DIR/hold ]; do sleep 0.02; done
fi
exec REAL "$@"
"#;

/// A command that ends only when it is ended.
const HANGS: &str = "exec sleep 300";
/// It hears the signal and says so, but does not end.
const STUBBORN: &str = "trap 'echo 1' TERM; echo 0; while :; do sleep 0.05; done";

/// What is asked of the daemon while the runtime waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    RunPod,
    Create,
    Start,
    Exec,
}

/// The daemon is killed while the runtime's command is under way. That goes on before the next daemon looks, or
/// after it has looked.
fn under_way(real: &'static str, verbs: &[(Verb, &str)]) {
    let world = World::new();
    let handler = &format!("{real}-slow");
    let script = SLOW.replace("REAL", real).replace("DIR", &world.dir.display().to_string());
    let binary = world.script(handler, &script);
    world.drop_in("slow.toml", &format!("[handlers.{handler}]\nbinary = {binary:?}\n"));
    let (hold, held) = (world.dir.join("hold"), world.dir.join("held"));
    let kubelet = &Kubelet::new(&world);
    let mut daemon = Daemon::start(&world);
    let bystander = Bystander::new(&world, kubelet, handler);
    for (verb, of_runtime) in verbs {
        for looks_later in [true, false] {
            let row = format!("{handler} {verb:?} {looks_later}");
            let pod = || kubelet.run_pod(kubelet.pod_config("victim", 0), handler);
            let counter = || kubelet.container_config("app", 0, COUNTS);
            let made = (*verb != Verb::RunPod).then(|| pod().unwrap());
            let container = matches!(verb, Verb::Start | Verb::Exec).then(|| kubelet.create(made.as_ref().unwrap(), counter()).unwrap());
            if *verb == Verb::Exec {
                kubelet.start(container.as_ref().unwrap()).unwrap();
            }
            fs::write(&hold, of_runtime).unwrap();
            std::thread::scope(|scope| {
                let asked = scope.spawn(|| match verb {
                    Verb::RunPod => pod().map(drop),
                    Verb::Create => kubelet.create(made.as_ref().unwrap(), counter()).map(drop),
                    Verb::Start => kubelet.start(container.as_ref().unwrap()),
                    Verb::Exec => kubelet.exec(container.as_ref().unwrap(), HANGS, 60).map(drop),
                });
                until("the runtime waits", || held.exists().then_some(()));
                daemon.kill();
                asked.join().unwrap().expect_err(&row);
            });
            let ids: Vec<String> = world.pod_ids().into_iter().filter(|id| *id != bystander.pod).collect();
            let traces = Traces::of(&world, &ids);
            fs::remove_file(&held).unwrap();
            if looks_later {
                fs::remove_file(&hold).unwrap();
            }
            daemon = Daemon::start(&world);
            if !looks_later {
                fs::remove_file(&hold).unwrap();
            }
            bystander.assert_untouched(&world, kubelet, &row);
            let made = made.unwrap_or_else(|| {
                assert_eq!(kubelet.pods_named("victim"), [], "{row}");
                pod().unwrap()
            });
            let container = container.unwrap_or_else(|| {
                assert_eq!(kubelet.containers_in(&made), [], "{row}");
                kubelet.begin(&made, counter())
            });
            until("it runs", || {
                (kubelet.status(&container).unwrap().state() == ContainerState::ContainerRunning).then_some(())
            });
            let log = kubelet.log("victim", "app", 0);
            until("it counts", || (counted(&log).len() > 1).then_some(()));
            assert_no_gap(&counted(&log), &row);
            let run = world.state().join("pods").join(&made);
            until("nothing is left of the command", || {
                let left = [names(&run), names(&run.join("exits"))].concat();
                (!left.iter().any(|name| name.starts_with("x-"))).then_some(())
            });
            let processes = kubelet.exec(&container, "ps", 20).unwrap().stdout;
            let processes = String::from_utf8_lossy(&processes);
            assert!(!processes.contains("sleep 300"), "{row}: {processes}");
            kubelet.stop(&container, 20).unwrap();
            assert_eq!(kubelet.status(&container).unwrap().exit_code, 0, "{row}");
            kubelet.end_pod(&made);
            traces.assert_gone(&world);
            fs::remove_file(log).unwrap();
        }
    }
    kubelet.end_pod(&bystander.pod);
    daemon.end();
}

#[test]
fn a_kill_while_runc_works_is_recovered_from() {
    under_way("runc", &[(Verb::Create, "create"), (Verb::Exec, "exec")]);
}

#[test]
fn a_kill_while_crun_works_is_recovered_from() {
    under_way("crun", &[(Verb::Create, "create"), (Verb::Exec, "exec")]);
}

#[test]
fn a_kill_while_gvisor_works_is_recovered_from() {
    under_way("runsc", &[(Verb::RunPod, "run"), (Verb::Start, "run"), (Verb::Exec, "exec")]);
}

#[test]
fn a_monitor_that_dies_while_a_container_is_stopped_or_a_command_runs_is_told() {
    let world = World::new();
    let kubelet = &Kubelet::new(&world);
    let daemon = Daemon::start(&world);
    let bystander = Bystander::new(&world, kubelet, "crun");
    for handler in ALL {
        let pod = kubelet.run_pod(kubelet.pod_config(handler, 0), handler).unwrap();
        let stubborn = kubelet.begin(&pod, kubelet.container_config("stubborn", 0, STUBBORN));
        let other = kubelet.begin(&pod, kubelet.container_config("other", 0, COUNTS));
        let log = kubelet.log(handler, "stubborn", 0);
        until("it listens", || (counted(&log) == [0]).then_some(()));
        let traces = Traces::of(&world, std::slice::from_ref(&pod));
        std::thread::scope(|scope| {
            let stop = scope.spawn(|| kubelet.stop(&stubborn, 60));
            let exec = scope.spawn(|| kubelet.exec(&other, "touch /tmp/began; sleep 300", 60));
            until("it was asked to end", || (counted(&log) == [0, 1]).then_some(()));
            until("the command runs", || {
                (kubelet.exec(&other, "test -e /tmp/began", 20).unwrap().exit_code == 0).then_some(())
            });
            let record = fs::read(world.root().join("pods").join(&pod).join("status.json")).unwrap();
            let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
            common::signal(record["monitor_pid"].as_i64().unwrap().try_into().unwrap(), Signal::KILL);
            // It has ended, with its pod; how the command ended nobody knows.
            stop.join().unwrap().unwrap();
            exec.join().unwrap().expect_err(handler);
        });
        let (_, reason) = until("it is seen", || {
            kubelet
                .pod_told(&pod)
                .ok()
                .filter(|(status, _)| status.state() == PodSandboxState::SandboxNotready)
        });
        assert_eq!(reason, "its monitor died", "{handler}");
        for id in [&stubborn, &other] {
            let status = kubelet.status(id).unwrap();
            assert_eq!(
                (status.state(), status.exit_code),
                (ContainerState::ContainerExited, 137),
                "{handler}: {status:?}"
            );
            kubelet.stop(id, 5).unwrap();
        }
        traces.assert_ended(&world);
        assert_eq!(counted(&log), [0, 1], "{handler}");
        kubelet.end_pod(&pod);
        traces.assert_gone(&world);
        bystander.assert_untouched(&world, kubelet, handler);
    }
    kubelet.end_pod(&bystander.pod);
    daemon.end();
}

#[test]
fn a_full_disk_while_a_container_is_stopped_or_a_command_runs_loses_nothing() {
    let world = World::bare();
    let disk = Disk::new(&world, 24);
    disk.input(&["image", "load"], common::image::archive()).good();
    disk.call(&["handlers"]).good();
    let kubelet = Kubelet::new(&world);
    let mut daemon = Daemon::start_as(&world, disk.command(&["cri"]));
    for handler in ALL {
        let pod = kubelet.run_pod(kubelet.pod_config(handler, 0), handler).unwrap();
        let begin = |name, script| {
            let id = kubelet.begin(&pod, kubelet.container_config(name, 0, script));
            let log = kubelet.log(handler, name, 0);
            until("it says something", || (!counted(&log).is_empty()).then_some(()));
            id
        };
        let ends = [
            (begin("counts", COUNTS), 20, 0),
            (begin("stubborn", STUBBORN), 1, 137),
            (begin("killed", COUNTS), 0, 137),
        ];
        disk.leave(0);
        let traces = Traces::of(&world, std::slice::from_ref(&pod));
        for (id, grace, code) in &ends {
            kubelet.assert_alive(id);
            kubelet.exec(id, "sleep 300", 1).expect_err(handler);
            kubelet.stop(id, *grace).unwrap();
            let status = kubelet.status(id).unwrap();
            assert_eq!(
                (status.state(), status.exit_code),
                (ContainerState::ContainerExited, *code),
                "{handler}: {status:?}"
            );
        }
        daemon.kill();
        daemon = Daemon::start_as(&world, disk.command(&["cri"]));
        for (id, _, code) in &ends {
            assert_eq!(kubelet.status(id).unwrap().exit_code, *code, "{handler}: it is known still");
        }
        assert_no_gap(&counted(&kubelet.log(handler, "counts", 0)), handler);
        kubelet.remove(&ends[0].0).unwrap();
        kubelet.end_pod(&pod);
        traces.assert_gone(&world);
        disk.empty();
    }
    daemon.end();
}

/// Where processes share their ids, others do not end with a container's first one.
#[test]
fn what_a_first_process_leaves_behind_ends_with_the_next_stop() {
    let world = World::new();
    world.call(&["handlers"]).good();
    let kubelet = Kubelet::new(&world);
    for handler in SHARED {
        let daemon = Daemon::killed_at(&world, "kill.signalled");
        let mut config = kubelet.pod_config(handler, 0);
        let security = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
        security.namespace_options.as_mut().unwrap().set_pid(NamespaceMode::Pod);
        let pod = kubelet.run_pod(config, handler).unwrap();
        let container = kubelet.begin(
            &pod,
            kubelet.container_config("app", 0, "sleep 100000 & echo 0; while :; do sleep 0.05; done"),
        );
        let log = kubelet.log(handler, "app", 0);
        until("it runs", || (counted(&log) == [0]).then_some(()));
        kubelet.stop(&container, 0).unwrap_err();
        daemon.wait_killed("kill.signalled");
        let daemon = Daemon::start(&world);
        assert_eq!(kubelet.ended(&container).exit_code, 137, "{handler}");
        let left = || common::traces::processes(&world, std::slice::from_ref(&container));
        assert!(!left().is_empty(), "{handler}: it left nothing, so that this shows nothing");
        kubelet.stop(&container, 5).unwrap();
        assert_eq!(left(), Vec::<std::path::PathBuf>::new(), "{handler}");
        let traces = Traces::of(&world, std::slice::from_ref(&pod));
        kubelet.end_pod(&pod);
        traces.assert_gone(&world);
        daemon.end();
    }
}

#[test]
fn nothing_is_kept_of_a_command_that_ends_after_its_client_left() {
    let world = World::new();
    let kubelet = Kubelet::new(&world);
    let daemon = Daemon::start(&world);
    for handler in ALL {
        let pod = kubelet.run_pod(kubelet.pod_config(handler, 0), handler).unwrap();
        let container = kubelet.begin(&pod, kubelet.container_config("app", 0, COUNTS));
        let run = world.state().join("pods").join(&pod);
        let kept = || {
            let all = [names(&run), names(&run.join("exits"))].concat();
            all.into_iter().filter(|name| name.starts_with("x-")).collect::<Vec<_>>()
        };
        let mut stream = Stream::exec(
            &kubelet,
            &container,
            "echo here; until [ -e /tmp/go ]; do sleep 0.05; done; touch /tmp/done; exit 3",
        );
        stream.wait_for("here");
        drop(stream);
        let done = || kubelet.exec(&container, "touch /tmp/go; test -e /tmp/done", 20).unwrap().exit_code == 0;
        until("the command is at its end", || done().then_some(()));
        // The monitor writes its end down.
        std::thread::sleep(std::time::Duration::from_millis(500));
        until("nothing is kept of the command", || kept().is_empty().then_some(()));
        kubelet.end_pod(&pod);
    }
    daemon.end();
}
