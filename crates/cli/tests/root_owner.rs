//! The process that keeps pods: reached at any moment, outlived by nothing, and what is known of pods
//! that are over.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::hold::{self, HELD, Hold};
use common::{Lines, Running, WAITS, World, app, manifest, names, object, pod, until, until_runs, with_volume};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;

/// A pod that leaves a file of its name if it runs at all, and then waits.
fn marking(world: &World, name: &str, class: &str) -> Value {
    let mut pod = pod(name, class, &[app(&format!("echo ran > /v/{name}; {WAITS}"))]);
    with_volume(&mut pod, &json!({"hostPath": {"path": world.out()}}));
    pod
}

/// Three pods, one after the other; the first waits in the middle of its start.
fn three(world: &World) -> String {
    manifest(&[
        hold::class(),
        marking(world, "first", HELD),
        marking(world, "second", "crun"),
        marking(world, "third", "crun"),
    ])
}

const ONE_BY_ONE: [&str; 5] = ["run", "-f", "-", "--parallel", "1"];
const DETACHED: [&str; 6] = ["run", "-f", "-", "--parallel", "1", "--detach"];

/// Begins to start three pods, and returns when the first is in the middle of it.
fn starting<'a>(world: &'a World, args: &[&str]) -> (Hold<'a>, Running) {
    let hold = Hold::new(world);
    let run = Running(world.spawn(args, three(world).as_bytes()));
    hold.until_held();
    (hold, run)
}

/// Starts `stop`, and returns when it waits for pods that were asked.
fn stopping(world: &World, args: &[&str]) -> Running {
    let mut stop = Running(world.spawn(args, b""));
    Lines::of(stop.0.stderr.take().unwrap()).wait_for("waiting for the end of");
    stop
}

#[test]
fn stop_reaches_a_pod_that_has_not_begun() {
    let world = World::new();
    let (hold, mut run) = starting(&world, &DETACHED);
    let statuses = world.statuses();
    assert_eq!(statuses["second"], "Pending", "{statuses:?}");
    let mut stop = stopping(&world, &["stop", "second"]);
    hold.release();
    assert!(until("stop returns", || stop.0.try_wait().unwrap()).success());
    until("the caller returns", || run.0.try_wait().unwrap());
    until("the others run", || (names(&world.out()).len() == 2).then_some(()));
    assert!(!world.out().join("second").exists(), "it ran");
    assert!(!world.statuses().contains_key("second"));
}

#[test]
fn stop_all_in_the_middle_of_a_start_ends_all_and_starts_nothing_more() {
    for args in [&DETACHED[..], &ONE_BY_ONE] {
        let world = World::new();
        let (hold, mut run) = starting(&world, args);
        let traces = world.traces();
        let mut stop = stopping(&world, &["stop", "--all"]);
        assert!(
            names(&world.state()).contains(&"pods".to_owned()),
            "nothing is torn down under a living owner"
        );
        hold.release();
        assert!(until("stop returns", || stop.0.try_wait().unwrap()).success());
        // Whatever comes after this is too late for `stop`.
        traces.assert_gone(&world);
        assert_eq!(
            (names(&world.state().join("owners")), world.pod_ids()),
            (vec![], vec![]),
            "{args:?}"
        );
        assert!(until("the run ends", || run.0.try_wait().unwrap()).code().is_some());
        // The first is let go in the middle of its start, and may have run for a moment.
        assert!(
            names(&world.out()).iter().all(|name| name == "first"),
            "{args:?}: {:?} ran",
            names(&world.out())
        );
    }
}

#[test]
fn ctrl_c_in_the_middle_of_a_start_ends_all_and_starts_nothing_more() {
    for args in [&DETACHED[..], &ONE_BY_ONE] {
        let world = World::new();
        let (hold, mut run) = starting(&world, args);
        let traces = world.traces();
        common::signal(run.0.id(), Signal::INT);
        Lines::of(run.0.stderr.take().unwrap()).wait_for("ending all pods");
        hold.release();
        assert!(!until("the run ends", || run.0.try_wait().unwrap()).success(), "{args:?}");
        until("who kept them ends", || {
            names(&world.state().join("owners")).is_empty().then_some(())
        });
        traces.assert_gone(&world);
        // The first is let go in the middle of its start, and may have run for a moment.
        assert!(
            names(&world.out()).iter().all(|name| name == "first"),
            "{args:?}: {:?} ran",
            names(&world.out())
        );
        assert_eq!(world.call(&["ps", "--all", "-o", "json"]).good().json(), json!([]));
    }
}

#[test]
fn what_is_asked_before_any_pod_begins_counts_too() {
    for args in [&DETACHED[..], &ONE_BY_ONE] {
        let world = World::new();
        let hold = Hold::of_the_proof(&world);
        let mut run = Running(world.spawn(args, three(&world).as_bytes()));
        hold.until_held();
        let mut stop = stopping(&world, &["stop", "second"]);
        common::signal(run.0.id(), Signal::INT);
        Lines::of(run.0.stderr.take().unwrap()).wait_for("ending all pods");
        hold.release();
        assert!(!until("the run ends", || run.0.try_wait().unwrap()).success(), "{args:?}");
        assert!(until("stop returns", || stop.0.try_wait().unwrap()).success());
        until("who kept them ends", || {
            names(&world.state().join("owners")).is_empty().then_some(())
        });
        assert!(names(&world.out()).is_empty(), "{args:?}: {:?} ran", names(&world.out()));
        assert!(world.pod_ids().is_empty());
    }
}

#[test]
fn pods_go_on_where_the_caller_of_detach_is_killed_while_they_start() {
    let world = World::new();
    let (hold, mut run) = starting(&world, &DETACHED);
    run.0.kill().unwrap();
    run.0.wait().unwrap();
    hold.release();
    until("all run", || (names(&world.out()).len() == 3).then_some(()));
    // The answer that nobody takes comes when all run.
    until("all are kept", || {
        let pods = world.ps();
        pods.iter().all(|p| p["status"] == "Running" && p["kept"] == true).then_some(())
    });
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(
        world.ps().iter().all(|p| p["kept"] == true),
        "who keeps them ended: {:?}",
        world.ps()
    );
}

#[test]
fn a_pod_of_a_name_that_another_run_is_about_to_start_is_not_started() {
    let world = World::new();
    let (hold, mut run) = starting(&world, &DETACHED);
    world
        .run(&[pod("third", "crun", &[app("exit 0")])], &[])
        .fails(120, "pod default/third is here already");
    hold.release();
    assert!(until("the caller returns", || run.0.try_wait().unwrap()).success());
}

/// The names, statuses and exit codes of `ps --all`.
fn all(world: &World) -> Vec<(String, String, Option<i64>)> {
    let rows = world.call(&["ps", "--all", "-o", "json"]).good().json();
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let mut all: Vec<_> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|r| (text(&r["name"]), text(&r["status"]), r["exitCode"].as_i64()))
        .collect();
    all.sort();
    all
}

/// Two pods that are over, of which nobody keeps anything but how they ended.
fn over() -> World {
    let world = World::new();
    world.run(
        &[
            pod("bad", "runc", &[app("echo from bad; exit 37")]),
            pod("good", "crun", &[app("echo from good")]),
        ],
        &["--detach"],
    );
    until("nobody keeps them", || {
        (names(&world.state().join("owners")).is_empty()).then_some(())
    });
    world
}

#[test]
fn pods_that_are_over_are_shown_with_their_exit_codes_until_they_are_stopped() {
    let world = over();
    let ended = |name: &str, status: &str, code| (name.to_owned(), status.to_owned(), Some(code));
    assert_eq!(all(&world), [ended("bad", "Failed", 37), ended("good", "Completed", 0)]);
    assert_eq!(world.ps(), Vec::<Value>::new());
    assert!(world.call(&["ps"]).good().out.contains("2 are over"));
    assert_eq!(world.call(&["logs", "bad"]).good().out, "from bad\n");
    world
        .call(&["exec", "bad", "--", "true"])
        .fails(120, "is over; see: cofferdam ps --all");
    world.call(&["stop", "bad"]).good();
    assert_eq!(all(&world), [ended("good", "Completed", 0)]);
    world.call(&["logs", "bad"]).fails(120, "pod \"bad\" is not here");
    assert_eq!(world.call(&["logs", "good"]).good().out, "from good\n");
}

#[test]
fn a_pod_that_never_started_is_shown_with_the_reason() {
    let world = World::new();
    let mut bad = pod("p", "crun", &[app("exit 0")]);
    bad["spec"]["containers"][0]["image"] = json!("no/such:1");
    bad["spec"]["containers"][0]["imagePullPolicy"] = json!("Never");
    world.run(&[bad], &["--detach"]);
    let rows = until("it is over", || {
        let rows = world.call(&["ps", "--all", "-o", "json"]).good().json();
        (rows[0]["status"] == "Failed" && rows[0]["kept"] == false).then_some(rows)
    });
    assert_eq!(rows[0]["exitCode"], 125);
    assert!(rows[0]["reason"].as_str().unwrap().contains("no/such:1"), "{rows}");
}

#[test]
fn of_two_pods_of_one_name_that_are_over_the_newer_has_the_log() {
    let world = over();
    world.run(&[pod("bad", "runc", &[app("echo later; exit 3")])], &["--detach"]);
    until("nobody keeps it", || {
        (names(&world.state().join("owners")).is_empty()).then_some(())
    });
    assert_eq!(all(&world).len(), 3);
    assert_eq!(world.call(&["logs", "bad"]).good().out, "later\n");
    world.call(&["stop", "bad"]).good();
    assert_eq!(all(&world).len(), 1);
}

#[test]
fn of_a_pod_that_was_stopped_nothing_is_kept() {
    let world = World::new();
    world.detach(&[pod("p", "crun", &[app(WAITS)]), pod("q", "crun", &[app(WAITS)])]);
    world.call(&["stop", "p"]).good();
    assert_eq!(all(&world), [("q".to_owned(), "Running".to_owned(), None)]);
    world.call(&["stop", "q"]).good();
    until("nobody keeps them", || {
        (names(&world.state().join("owners")).is_empty()).then_some(())
    });
    assert_eq!((all(&world), names(&world.root().join("logs"))), (vec![], vec![]));
}

#[test]
fn a_hint_tells_which_pod_was_meant() {
    let world = World::new();
    world.detach(&[pod("webserver", "crun", &[app(WAITS)])]);
    for args in [
        &["stop", "websevrer"][..],
        &["logs", "websevrer"],
        &["exec", "websevrer", "--", "true"],
    ] {
        world.call(args).fails(120, "did you mean default/webserver?");
    }
    world.call(&["logs", "webserver", "-c", "ap"]).fails(120, "did you mean app?");
    world.call(&["stop", "nothing-like-it"]).fails(120, "there are: default/webserver");
}

#[test]
fn folders_of_pods_that_are_gone_are_swept_and_no_others() {
    let world = World::new();
    let uid = "01234567-89ab-4cde-8f01-23456789abcd";
    let stale = [
        world.root().join("volumes").join(uid),
        world.state().join("secrets").join(uid),
        world.root().join(format!("logs/default_p_{uid}")),
    ];
    let mut kept = pod("kept", "crun", &[app(&format!("echo before > /v/x; {WAITS}"))]);
    with_volume(&mut kept, &json!({"emptyDir": {}}));
    world.detach(&[kept]);
    world.run(&[pod("over", "crun", &[app("echo from over")])], &["--detach"]);
    for dir in &stale {
        fs::create_dir_all(dir.join("deep")).unwrap();
    }
    world.call(&["ps"]).good();
    assert!(stale.iter().all(|dir| !dir.exists()), "{stale:?}");
    assert_eq!(world.call(&["exec", "kept", "--", "cat", "/v/x"]).good().out, "before\n");
    assert_eq!(world.call(&["logs", "over"]).good().out, "from over\n");
}

#[test]
fn folders_of_a_pod_that_has_no_sandbox_yet_are_left_alone() {
    let world = World::new();
    let hold = Hold::new(&world);
    // With a process id namespace of its own, the sandbox itself is made by the runtime.
    let mut held = pod("held", HELD, &[app("cat /s/k > /dev/termination-log")]);
    held["spec"]["shareProcessNamespace"] = json!(true);
    held["spec"]["volumes"] = json!([{"name": "s", "secret": {"secretName": "s"}}]);
    held["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "s", "mountPath": "/s"}]);
    let text = manifest(&[hold::class(), object("Secret", "s", json!({"stringData": {"k": "secret"}})), held]);
    let run = world.spawn(&["run", "-f", "-", "-o", "json"], text.as_bytes());
    hold.until_held();
    assert!(
        !names(&world.state().join("secrets")).is_empty(),
        "they are made before the sandbox"
    );
    world.call(&["ps"]).good();
    hold.release();
    let answer = common::finish(run).good();
    assert_eq!(common::message(&answer.json(), "held", "app"), "secret");
}

#[test]
fn an_owner_that_was_killed_leaves_pods_that_stop_ends() {
    let world = World::new();
    let mut run = Running(world.spawn(&ONE_BY_ONE, manifest(&[marking(&world, "p", "crun")]).as_bytes()));
    until_runs(&world, &mut run, "p");
    let traces = world.traces();
    run.0.kill().unwrap();
    run.0.wait().unwrap();
    assert_eq!(world.ps()[0]["kept"], false);
    world.call(&["stop", "p", "--grace", "0"]).good();
    traces.assert_gone(&world);
    assert!(
        names(&world.state().join("owners")).is_empty(),
        "its socket is removed by who finds nobody behind it"
    );
}

#[test]
fn an_owner_that_does_not_answer_is_named_and_nothing_is_torn_down() {
    let world = World::new();
    let mut run = Running(world.spawn(&ONE_BY_ONE, manifest(&[marking(&world, "p", "crun")]).as_bytes()));
    until_runs(&world, &mut run, "p");
    common::signal(run.0.id(), Signal::STOP);
    let mut stop = Running(world.spawn(&["stop", "--all"], b""));
    let line = Lines::of(stop.0.stderr.take().unwrap()).wait_for("waiting for the end of");
    assert!(line.contains(&format!("process {}", run.0.id())), "{line}");
    assert_eq!(world.pod_ids().len(), 1);
    common::signal(run.0.id(), Signal::CONT);
    assert!(until("stop returns", || stop.0.try_wait().unwrap()).success());
}
