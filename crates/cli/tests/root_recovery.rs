//! Killed at any step, by SIGKILL, and found again by the next command: what ran goes on, what was
//! half made is undone, and nothing leaks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use cofferdam_plan::steps::{ContainerStep, SandboxStep};
use common::traces::Traces;
use common::{ALL, Running, SHARED, WAITS, World, app, brief, manifest, pod, pod_in, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What of a killed pod is there after the next command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Nothing.
    Nothing,
    /// Its record, with the reason, for its owner to remove.
    Record,
    /// The pod: it was up.
    Pod,
}

/// Every place at which the engine can be killed, in the order in which a pod comes by.
const PLACES: [(&str, Left); 21] = [
    ("sandbox.run-dir", Left::Nothing),
    ("sandbox.intent", Left::Nothing),
    ("sandbox.cgroup", Left::Nothing),
    ("sandbox.monitor", Left::Nothing),
    ("sandbox.network", Left::Nothing),
    ("sandbox.enclosure", Left::Nothing),
    ("sandbox.result", Left::Pod),
    ("container.intent", Left::Pod),
    ("container.bundle", Left::Pod),
    ("container.cgroup", Left::Pod),
    ("container.create", Left::Pod),
    ("container.result", Left::Pod),
    ("container.undo.cgroup", Left::Pod),
    ("start.before", Left::Pod),
    ("start.after", Left::Pod),
    ("end.monitor", Left::Record),
    ("end.cgroup", Left::Record),
    ("undo.marked", Left::Nothing),
    ("undo.ended", Left::Nothing),
    ("undo.forgot", Left::Nothing),
    ("undo.record", Left::Nothing),
];

/// As [`PLACES`], where limits are changed in place.
const CHANGES: [&str; 4] = ["update.intent", "update.limits", "update.done", "update.recorded"];

/// Places that the daemon's test kills it at (`root_cri_recovery`), under verbs that are the daemon's own or that a
/// foreground run comes by at no certain time.
const OF_THE_DAEMON: [&str; 18] = [
    "start.recorded",
    "stop.asked",
    "stop.ended",
    "kill.signalled",
    "kill.swept",
    "end.containers",
    "end.network",
    "container.undo.forgot",
    "container.undo.files",
    "container.undo.exit",
    "exec.owned",
    "exec.began",
    "exec.ended",
    "exec.forgot",
    "exec.files",
    "log.reopened",
    "image.marked",
    "image.untagged",
];

#[test]
fn the_places_are_all_that_the_engine_has() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/src");
    let files = fs::read_dir(&source).unwrap().flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "rs"));
    let text: String = files.map(|file| fs::read_to_string(file).unwrap()).collect();
    let mut found = BTreeSet::new();
    for call in text.split("reach(").skip(1) {
        match call.split('"').nth(1).filter(|_| call.starts_with('"') || call.starts_with("&format!")) {
            Some("sandbox.{}") => {
                let reached = SandboxStep::ALL.into_iter().filter(|s| text.contains(&format!("done(SandboxStep::{s:?})")));
                found.extend(reached.map(|s| format!("sandbox.{}", s.name())));
            }
            Some("container.{}") => {
                let reached = ContainerStep::ALL.into_iter().filter(|s| text.contains(&format!("done(ContainerStep::{s:?})")));
                found.extend(reached.map(|s| format!("container.{}", s.name())));
            }
            Some(place) => drop(found.insert(place.to_owned())),
            None => {}
        }
    }
    let all = PLACES.iter().map(|(place, _)| *place).chain(CHANGES).chain(OF_THE_DAEMON);
    assert_eq!(found, all.map(str::to_owned).collect());
}

/// Runs the command that is killed at `place`.
#[track_caller]
fn kill_at(world: &World, place: &str, victim: &Value) {
    let mut command = world.command(&["run", "-f", "-"]);
    command.env("COFFERDAM_KILL_AT", place);
    let answer = common::answer(command, manifest(std::slice::from_ref(victim)).as_bytes());
    assert_eq!(answer.code, None, "{place} was not come by: {answer:?}");
}

/// Kills at each place in turn, beside a pod that goes on, and looks after the next command.
fn kill_everywhere(handler: &str) {
    let world = World::new();
    world.detach(&[pod("stays", handler, &[app(WAITS)])]);
    let stays = world.id_of("stays");
    let pids = || common::traces::settled(&world, std::slice::from_ref(&stays));
    let before = pids();
    for (place, left) in PLACES {
        kill_at(&world, place, &victim(handler, place));
        let ids: Vec<String> = world.pod_ids().into_iter().filter(|id| *id != stays).collect();
        assert_eq!(ids.len(), 1, "{place}: the half-made pod has a trace by which it is found");
        let traces = Traces::of(&world, &ids);
        let statuses = world.statuses();
        match left {
            Left::Nothing => assert!(!statuses.contains_key("victim"), "{place}: {statuses:?}"),
            Left::Record => {
                assert_eq!(statuses["victim"], "NotReady", "{place}");
                traces.assert_ended(&world);
                world.call(&["stop", "victim", "--grace", "0"]).good();
            }
            Left::Pod => {
                assert_ne!(statuses["victim"], "NotReady", "{place}");
                world.call(&["stop", "victim", "--grace", "0"]).good();
            }
        }
        traces.assert_gone(&world);
        assert_eq!(world.statuses()["stays"], "Running", "{place}");
        assert_eq!(pids(), before, "{place}: the other pod's processes are the same");
    }
}

#[test]
fn a_kill_at_any_step_of_a_pod_under_runc_leaves_nothing() {
    kill_everywhere("runc");
}

#[test]
fn a_kill_at_any_step_of_a_pod_under_crun_leaves_nothing() {
    kill_everywhere("crun");
}

#[test]
fn a_kill_at_any_step_of_a_pod_under_gvisor_leaves_nothing() {
    kill_everywhere("runsc");
}

/// The canary that proves a handler is a pod too, which nobody lists.
#[test]
fn a_kill_at_any_step_of_a_canary_leaves_nothing() {
    let world = World::new();
    for handler in ["crun", "runsc"] {
        for (place, _) in PLACES.iter().filter(|(place, _)| *place != "container.undo.cgroup") {
            for proof in common::names(&world.state().join("handlers")) {
                fs::remove_file(world.state().join("handlers").join(proof)).unwrap();
            }
            kill_at(&world, place, &pod("victim", handler, &[app("exit 0")]));
            let traces = world.traces();
            assert_eq!(traces.ids.len(), 1, "{place}");
            world.ps();
            traces.assert_gone(&world);
        }
    }
}

/// The victim of a kill at `place`.
fn victim(handler: &str, place: &str) -> Value {
    let mut victim = pod("victim", handler, &[app("exit 0")]);
    if place == "container.undo.cgroup" {
        // gVisor finds out when it starts it: there a container that is made again will do.
        victim["spec"]["containers"][0]["command"] = if handler == "runsc" { json!(["false"]) } else { json!(["/not/there"]) };
        victim["spec"]["restartPolicy"] = json!("OnFailure");
    }
    victim
}

/// The power goes: every process of the pods ends, what is in memory is gone, the machine has a new start.
fn lose_power(world: &World, ids: &[String]) {
    until("all processes are dead", || {
        let alive = common::traces::processes(world, ids);
        for pid in &alive {
            let pid = pid.file_name().unwrap().to_str().unwrap().parse().ok().and_then(rustix::process::Pid::from_raw);
            // It may have ended just before.
            let _ = rustix::process::kill_process(pid.unwrap(), Signal::KILL);
        }
        alive.is_empty().then_some(())
    });
    // Proofs are of one start of the machine, and there is none but this.
    for name in common::names(&world.state()).iter().filter(|name| *name != "handlers") {
        let path = world.state().join(name);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
    for id in ids {
        let file = world.root().join("pods").join(id).join("pod.json");
        if let Ok(text) = fs::read(&file) {
            let mut record: Value = serde_json::from_slice(&text).unwrap();
            record["boot_id"] = json!("00000000-0000-0000-0000-000000000000");
            fs::write(&file, record.to_string()).unwrap();
        }
    }
}

#[test]
fn power_that_goes_at_any_step_leaves_what_was_up_as_not_ready_and_nothing_else() {
    for handler in ["crun", "runsc"] {
        let world = World::new();
        world.call(&["handlers"]).good();
        for (place, left) in PLACES {
            kill_at(&world, place, &victim(handler, place));
            let traces = world.traces();
            lose_power(&world, &traces.ids);
            let row = world.ps().into_iter().find(|p| p["name"] == "victim");
            match left {
                Left::Nothing => assert_eq!(row, None, "{handler} {place}"),
                Left::Record | Left::Pod => {
                    let row = row.unwrap_or_else(|| panic!("{handler} {place}: the pod is forgotten"));
                    let told = (row["status"].as_str(), row["reason"].as_str());
                    assert_eq!(told, (Some("NotReady"), Some("the machine was restarted")), "{handler} {place}");
                    traces.assert_ended(&world);
                    world.call(&["stop", "victim", "--grace", "0"]).good();
                }
            }
            traces.assert_gone(&world);
        }
    }
}

/// Memory limit of a pod's or container's record, MiB.
fn limit(text: &Value) -> i64 {
    text["memory_limit"].as_i64().unwrap_or_else(|| panic!("no limit in {text}")) >> 20
}

#[test]
fn a_kill_while_limits_change_is_finished_by_the_next_command() {
    for handler in ALL {
        for place in CHANGES {
            let world = World::new();
            let mut changing = pod("p", handler, &[app(WAITS)]);
            changing["spec"]["containers"][0]["resources"] = json!({"requests": {"memory": "32Mi"}, "limits": {"memory": "64Mi", "cpu": "1"}});
            let mut command = world.command(&["run", "-f", "-"]);
            command.env("COFFERDAM_KILL_AT", place);
            let run = std::thread::scope(|scope| {
                let text = manifest(&[changing]);
                let run = scope.spawn(move || common::answer(command, text.as_bytes()));
                until("it runs", || (world.statuses().get("p")? == "Running").then_some(()));
                let before = common::traces::settled(&world, &world.pod_ids());
                let resized = world.call(&["resize", "p", "--limits", "memory=128Mi"]);
                assert_eq!((resized.code, resized.err.lines().count()), (Some(120), 1), "{handler} {place}: {resized:?}");
                let told = world.call(&["ps"]).good().err;
                let finished = told.contains("a change of its limits that was begun is finished");
                assert!(finished, "{handler} {place}: {told}");
                assert_eq!(common::traces::settled(&world, &world.pod_ids()), before, "{handler} {place}");
                run.join().unwrap()
            });
            assert_eq!(run.code, None, "{place} was not come by: {run:?}");
            let dir = world.root().join("pods").join(world.id_of("p"));
            let read = |path: PathBuf| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
            let of_pod = read(dir.join("status.json"));
            assert_eq!(of_pod["changing"], Value::Null, "{handler} {place}");
            let container = dir.join("c").join(&common::names(&dir.join("c"))[0]);
            // The first change is the pod's, as it grows; the container's is made by nobody then.
            let overhead = if handler == "runsc" { 64 } else { 0 };
            let wanted = (128 + overhead, if place == "update.recorded" { 128 } else { 64 });
            let of_container = read(container.join("status.json"))["resources"].clone();
            let of_container = if of_container.is_null() { read(container.join("container.json"))["config"]["resources"].clone() } else { of_container };
            assert_eq!((limit(&of_pod["resources"][1]), limit(&of_container)), wanted, "{handler} {place}");
            assert_eq!(world.call(&["exec", "p", "--", "echo", "alive"]).good().out, "alive\n");
            assert_eq!(world.call(&["ps"]).good().err, "", "{handler} {place}: it is told once");
        }
    }
}

#[test]
fn what_a_kill_left_is_told_by_the_next_command() {
    let world = World::new();
    kill_at(&world, "sandbox.network", &pod("victim", "crun", &[app("exit 0")]));
    let told = world.call(&["ps"]).good().err;
    assert!(told.contains("recovered: pod ") && told.contains("is undone"), "{told}");
    assert_eq!(world.call(&["ps"]).good().err, "", "it is told once");
}

#[test]
fn stop_all_removes_what_a_kill_left_too() {
    for place in ["sandbox.network", "container.create", "undo.ended"] {
        let world = World::new();
        kill_at(&world, place, &pod("victim", "runc", &[app("exit 0")]));
        // The world's own end asserts that nothing is left.
        drop(world);
    }
}

/// A run in the foreground whose pods all run.
fn foreground(world: &World, pods: &[Value]) -> Running {
    let run = Running(world.spawn(&["run", "-f", "-", "-o", "json"], manifest(pods).as_bytes()));
    until("all run", || {
        let statuses = world.statuses();
        pods.iter().all(|p| statuses.get(p["metadata"]["name"].as_str().unwrap()).is_some_and(|s| s == "Running")).then_some(())
    });
    run
}

fn wait(mut run: Running) -> common::Answer {
    let mut out = String::new();
    use std::io::Read;
    run.0.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    let status = until("it ends", || run.0.try_wait().unwrap());
    common::Answer { code: status.code(), out, err: String::new() }
}

#[test]
fn pods_outlive_the_command_that_started_them() {
    let world = World::new();
    let mut run = foreground(&world, &ALL.map(|h| pod(h, h, &[app(WAITS)])));
    let traces = world.traces();
    let before = common::traces::settled(&world, &traces.ids);
    common::signal(run.0.id(), Signal::KILL);
    until("it is dead", || run.0.try_wait().unwrap());
    let statuses = world.statuses();
    assert!(ALL.iter().all(|h| statuses[*h] == "Running"), "{statuses:?}");
    assert_eq!(common::traces::settled(&world, &traces.ids), before);
    for handler in ALL {
        assert_eq!(world.call(&["exec", handler, "--", "echo", "alive"]).good().out, "alive\n");
        world.call(&["logs", handler]).good();
        world.call(&["stop", handler]).good();
    }
    traces.assert_gone(&world);
}

#[test]
fn the_exit_of_a_container_is_kept_while_nobody_watches() {
    let world = World::new();
    let script = "until [ -e /v/go ]; do sleep 0.05; done; exit 9";
    let mut run = foreground(&world, &ALL.map(|h| {
        let mut pod = pod(h, h, &[app(script)]);
        common::with_volume(&mut pod, &json!({"hostPath": {"path": world.out()}}));
        pod
    }));
    common::signal(run.0.id(), Signal::KILL);
    until("it is dead", || run.0.try_wait().unwrap());
    fs::write(world.out().join("go"), "").unwrap();
    until("all have ended", || world.statuses().values().all(|s| s == "Exited").then_some(()));
}

/// The process of a pod whose binary is the monitor.
fn monitor(world: &World, pod: &str) -> u32 {
    let id = world.id_of(pod);
    let record = fs::read(world.root().join("pods").join(id).join("status.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    u32::try_from(record["monitor_pid"].as_i64().unwrap()).unwrap()
}

#[test]
fn a_pod_whose_monitor_dies_fails_with_the_reason_and_nothing_of_it_stays() {
    for handler in ALL {
        let world = World::new();
        let run = foreground(&world, &[pod("p", handler, &[app(WAITS)])]);
        let traces = world.traces();
        common::signal(monitor(&world, "p"), Signal::KILL);
        let answer = wait(run);
        let report = answer.json();
        assert_eq!((answer.code, pod_in(&report, "p")["reason"].as_str()), (Some(123), Some("SandboxDied")), "{handler}: {}", brief(&report));
        assert!(pod_in(&report, "p")["message"].as_str().unwrap().contains("its monitor died"), "{}", brief(&report));
        traces.assert_gone(&world);
    }
}

#[test]
fn a_pod_whose_monitor_dies_while_nobody_watches_is_found_dead_with_the_reason() {
    for handler in ALL {
        let world = World::new();
        let mut run = foreground(&world, &[pod("p", handler, &[app(WAITS)])]);
        common::signal(run.0.id(), Signal::KILL);
        until("it is dead", || run.0.try_wait().unwrap());
        let traces = world.traces();
        common::signal(monitor(&world, "p"), Signal::KILL);
        let row = until("it is seen", || world.ps().into_iter().find(|p| p["status"] == "NotReady"));
        assert_eq!(row["reason"], "its monitor died", "{handler}");
        traces.assert_ended(&world);
        world.call(&["stop", "p"]).good();
        traces.assert_gone(&world);
    }
}

#[test]
fn a_gvisor_pod_whose_sentry_dies_fails_with_the_reason_and_nothing_of_it_stays() {
    let world = World::new();
    let run = foreground(&world, &[pod("p", "runsc", &[app(WAITS)])]);
    let traces = world.traces();
    let sentry = |p: &PathBuf| fs::read_to_string(p.join("cmdline")).is_ok_and(|l| l.starts_with("runsc-sandbox"));
    let sentry = common::traces::processes(&world, &traces.ids).into_iter().find(sentry).expect("no sentry");
    common::signal(sentry.file_name().unwrap().to_str().unwrap().parse().unwrap(), Signal::KILL);
    let answer = wait(run);
    let report = answer.json();
    assert_eq!(pod_in(&report, "p")["phase"], "Failed", "{}", brief(&report));
    assert_ne!(answer.code, Some(0));
    traces.assert_gone(&world);
}

/// Spoils a record of one of two pods, and looks at what the next command makes of it.
fn spoil(change: impl Fn(&Path)) {
    for handler in ALL {
        let world = World::new();
        let mut run = foreground(&world, &[pod("spoilt", handler, &[app(WAITS)]), pod("other", handler, &[app(WAITS)])]);
        common::signal(run.0.id(), Signal::KILL);
        until("it is dead", || run.0.try_wait().unwrap());
        let id = world.id_of("spoilt");
        let traces = Traces::of(&world, std::slice::from_ref(&id));
        let other = [world.id_of("other")];
        let before = common::traces::settled(&world, &other);
        change(&world.root().join("pods").join(&id));
        let told = world.call(&["ps"]).good().err;
        assert!(told.contains(&id[..12]) && told.contains("cannot be read"), "{handler}: {told}");
        traces.assert_gone(&world);
        let aside = common::names(&world.root().join("unreadable"));
        assert!(aside.len() == 1 && aside[0].starts_with(&id), "{handler}: {aside:?}");
        assert_eq!(world.statuses().into_iter().collect::<Vec<_>>(), [("other".to_owned(), "Running".to_owned())]);
        assert_eq!(common::traces::settled(&world, &other), before, "{handler}");
        assert_eq!(world.call(&["ps"]).good().err, "", "{handler}: it is told once");
    }
}

#[test]
fn a_cut_record_is_put_aside_and_its_processes_are_ended() {
    spoil(|dir| {
        let file = dir.join("pod.json");
        let text = fs::read(&file).unwrap();
        fs::write(&file, &text[..text.len() / 2]).unwrap();
    });
}

#[test]
fn an_empty_status_is_put_aside_and_its_processes_are_ended() {
    spoil(|dir| fs::write(dir.join("status.json"), "").unwrap());
}

#[test]
fn a_record_of_a_newer_version_is_put_aside_and_its_processes_are_ended() {
    spoil(|dir| {
        let file = dir.join("pod.json");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replacen("\"version\":1", "\"version\":99", 1)).unwrap();
    });
}

#[test]
fn a_pod_of_before_a_restart_of_the_machine_is_kept_as_not_ready() {
    let world = World::new();
    let mut run = foreground(&world, &[pod("p", "crun", &[app(WAITS)])]);
    common::signal(run.0.id(), Signal::KILL);
    until("it is dead", || run.0.try_wait().unwrap());
    let traces = world.traces();
    let file = world.root().join("pods").join(world.id_of("p")).join("pod.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    record["boot_id"] = json!("00000000-0000-0000-0000-000000000000");
    fs::write(&file, record.to_string()).unwrap();
    let rows = world.ps();
    assert_eq!((rows[0]["status"].as_str(), rows[0]["reason"].as_str()), (Some("NotReady"), Some("the machine was restarted")));
    traces.assert_ended(&world);
}

#[test]
fn commands_side_by_side_do_not_take_each_others_pods_for_dead_ones() {
    let world = World::new();
    let runs: Vec<Running> = (0..6)
        .map(|n| {
            let handler = SHARED[n % 2];
            Running(world.spawn(&["run", "-f", "-", "-o", "json"], manifest(&[pod(&format!("p{n}"), handler, &[app("sleep 0.2; exit 0")])]).as_bytes()))
        })
        .collect();
    for _ in 0..30 {
        world.call(&["ps"]).good();
    }
    for run in runs {
        let answer = wait(run);
        assert_eq!(answer.code, Some(0), "{}", answer.out);
    }
}
