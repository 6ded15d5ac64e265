//! What is seen of pods that run: `attach`, `top`, `wait`, `events --watch`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{ALL, Lines, Running, SHARED, WAITS, World, app, container, pod, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::Write;

#[test]
fn attach_passes_streams_on_and_ends_with_the_containers_code() {
    let world = World::new();
    for handler in ALL {
        let mut reader = pod(handler, handler, &[app("while read line; do echo \"got $line\"; [ $line = end ] && exit 7; done")]);
        reader["spec"]["containers"][0]["stdin"] = json!(true);
        world.detach(&[reader]);
        let mut child = world.command(&["attach", "-i", handler]);
        child.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut attach = Running(child.spawn().unwrap());
        let lines = Lines::of(attach.0.stdout.take().unwrap());
        let mut input = attach.0.stdin.take().unwrap();
        input.write_all(b"one\n").unwrap();
        lines.wait_for("got one");
        input.write_all(b"end\n").unwrap();
        lines.wait_for("got end");
        assert_eq!(until("it ends", || attach.0.try_wait().unwrap()).code(), Some(7), "{handler}");
    }
}

#[test]
fn who_attaches_may_go_and_another_may_come() {
    let world = World::new();
    let script = "n=0; while true; do echo tick; sleep 0.1; done";
    world.detach(&SHARED.map(|h| pod(h, h, &[app(script)])));
    for handler in SHARED {
        for _ in 0..2 {
            let mut attach = Running(world.spawn(&["attach", handler], b""));
            Lines::of(attach.0.stdout.take().unwrap()).wait_for("tick");
        }
        assert_eq!(world.statuses()[handler], "Running");
    }
}

#[test]
fn attach_refuses_what_a_container_was_not_made_for() {
    let world = World::new();
    world.detach(&[pod("p", "crun", &[app(WAITS)])]);
    world.call(&["attach", "-i", "p"]).fails(120, "stdin: true");
    world.call(&["attach", "q"]).fails(120, "is not here");
    world.call(&["attach", "p", "-c", "ap"]).fails(120, "did you mean app?");
}

#[test]
fn top_tells_containers_and_the_enclosure_apart() {
    let world = World::new();
    let busy = "while :; do :; done";
    world.detach(&ALL.map(|h| pod(h, h, &[container("busy", busy), container("idle", WAITS)])));
    let all = world.call(&["top", "-o", "json"]).good().json();
    for row in all.as_array().unwrap() {
        let name = row["name"].as_str().unwrap();
        let of = |c: &str| row["containers"].as_array().unwrap().iter().find(|x| x["name"] == c).unwrap_or_else(|| panic!("{row}"));
        assert!(row["cpuMillis"].as_u64().unwrap() > 50, "{name}: {row}");
        assert!(row["enclosure"]["memoryBytes"].as_u64().unwrap() > 0, "{name}: {row}");
        if name != "runsc" {
            let (busy, idle) = (&of("busy")["cpuMillis"], &of("idle")["cpuMillis"]);
            assert!(busy.as_u64().unwrap() > 10 * idle.as_u64().unwrap().max(1), "{name}: {row}");
            assert!(of("idle")["memoryBytes"].as_u64().is_some() && of("idle")["pids"].as_u64() >= Some(1), "{name}: {row}");
        }
    }
    assert_eq!(all.as_array().unwrap().len(), 3);
    // A sentry is a kernel of its own, and weighs as one.
    let weight = |name: &str| all.as_array().unwrap().iter().find(|r| r["name"] == name).unwrap()["enclosure"]["memoryBytes"].as_u64().unwrap();
    assert!(weight("runsc") > 4 * weight("crun"), "{all}");
    let table = world.call(&["top", "crun"]).good().out;
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.starts_with("NAMESPACE") && table.contains("CPU(CORES)") && table.contains("(enclosure)"), "{table}");
    world.call(&["top", "nothing"]).fails(120, "is not here");
}

#[test]
fn wait_ends_when_it_is_so() {
    let world = World::new();
    let mut late = pod("p", "crun", &[app(&format!("sleep 0.5; touch /tmp/up; {WAITS}"))]);
    late["spec"]["containers"][0]["readinessProbe"] = json!({"exec": {"command": ["cat", "/tmp/up"]}, "periodSeconds": 1});
    world.detach(&[late]);
    let met = |args: &[&str]| world.call(&[&["wait", "pod/p"], args].concat()).good();
    assert_eq!(met(&["--for=condition=Ready"]).out, "pod/p condition met\n");
    met(&["--for=jsonpath={.status.phase}=Running"]);
    met(&["--for=jsonpath={.status.containerStatuses[0].restartCount}=0"]);
    world.call(&["wait", "p", "--for=condition=Ready=false", "--timeout=1s"]).fails(120, "timed out waiting for the condition on pods/p");
    world.call(&["wait", "q", "--for=condition=Ready"]).fails(120, "is not here");
    let mut waits = Running(world.spawn(&["wait", "p", "--for=delete"], b""));
    world.call(&["stop", "p", "--grace", "0"]).good();
    assert!(until("it ends", || waits.0.try_wait().unwrap()).success());
}

#[test]
fn events_are_watched_as_they_happen() {
    let world = World::new();
    let mut watch = Running(world.spawn(&["events", "--watch"], b""));
    let lines = Lines::of(watch.0.stdout.take().unwrap());
    world.detach(&[pod("p", "crun", &[app("exit 0")])]);
    let started = lines.wait_for("Started");
    assert!(started.contains("default/p"), "{started}");
    common::signal(watch.0.id(), Signal::INT);
    let warnings = world.call(&["events", "--for", "pod/p", "--types", "Warning", "-o", "json"]).good().json();
    assert_eq!(warnings, Value::Array(vec![]));
    world.call(&["events", "--for", "node/n"]).fails(120, "pod/NAME");
}
