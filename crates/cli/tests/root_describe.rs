//! `describe` and `events`: what happened to a pod, stage by stage, while it runs and when it is over.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{ALL, World, app, pod, until};
use serde_json::Value;

fn reasons(events: &Value) -> Vec<String> {
    events.as_array().unwrap().iter().map(|e| e["reason"].as_str().unwrap().to_owned()).collect()
}

/// The one account of a pod.
fn account(world: &World, pod: &str) -> Value {
    world.call(&["describe", pod, "-o", "json"]).good().json()[0].clone()
}

#[test]
fn a_running_pod_is_described_with_its_stages_and_its_story() {
    let world = World::new();
    world.detach(&ALL.map(|handler| pod(handler, handler, &[app(common::WAITS)])));
    for handler in ALL {
        let page = world.call(&["describe", handler]).good().out;
        for line in [&format!("Class:         {handler}") as &str, "Status:        Running", "Stages:", "sandbox  network", "State:         Running for"] {
            assert!(page.contains(line), "{handler}: no {line:?} in\n{page}");
        }
        let told = account(&world, handler);
        assert_eq!(reasons(&told["events"]), ["Admitted", "SandboxStarted", "Started"], "{handler}");
        assert!(told["binary"].as_str().unwrap().ends_with(handler), "{told}");
        assert!(told["usage"]["memoryPeak"].as_u64().unwrap() > 0, "{told}");
        let stages = told["view"]["stages"].as_array().unwrap();
        assert!(stages.iter().any(|s| s["name"] == "monitor" && s["micros"].as_u64().unwrap() > 0), "{told}");
    }
    let story = &account(&world, "runsc")["events"];
    assert!(story[0]["message"].as_str().unwrap().contains("its overhead is 50 m of cpu and 64.0 MiB of memory"), "{story}");
    world.call(&["describe", "rnsc"]).fails(120, "did you mean default/runsc?");
}

#[test]
fn a_pod_that_is_over_is_described_until_it_is_removed() {
    let world = World::new();
    world.detach(&[pod("p", "crun", &[app("sleep 0.3; echo last words > /dev/termination-log; exit 7")])]);
    until("the pod is over", || (world.call(&["ps", "-o", "json"]).json().as_array()?.is_empty()).then_some(()));
    let told = account(&world, "p");
    assert_eq!(told["view"]["exitCode"], 7);
    assert_eq!(reasons(&told["events"]), ["Admitted", "SandboxStarted", "Started", "Exited", "Failed"]);
    assert!(told["events"][3]["message"].as_str().unwrap().ends_with("exit code 7 (Error): last words"), "{told}");
    assert!(told["usage"]["memoryPeak"].as_u64().unwrap() > 0, "{told}");
    let page = world.call(&["describe", "p"]).good().out;
    assert!(page.contains("Failed (over)") && page.contains("Error with exit code 7"), "{page}");
    world.call(&["stop", "p"]).good();
    world.call(&["describe", "p"]).fails(120, "pod \"p\" is not here");
}

#[test]
fn a_pod_that_nobody_keeps_is_described_from_its_records() {
    let world = World::new();
    let mut run = world.spawn(&["run", "-f", "-"], common::manifest(&[pod("p", "crun", &[app(common::WAITS)])]).as_bytes());
    until("the pod runs", || (world.statuses().get("p")? == "Running").then_some(()));
    run.kill().unwrap();
    run.wait().unwrap();
    let told = account(&world, "p");
    assert_eq!((told["kept"].as_bool(), told["view"]["phase"].as_str()), (Some(false), Some("Running")));
    assert_eq!(told["view"]["class"], "crun");
    // The story is in a file beside the logs, so that it outlives who wrote it.
    assert_eq!(reasons(&told["events"]), ["Admitted", "SandboxStarted", "Started"]);
    assert!(world.call(&["describe", "p"]).good().out.contains("no process keeps it"));
}

#[test]
fn events_are_listed_in_order_and_warnings_alone_where_asked() {
    let world = World::new();
    let mut failing = pod("failing", "crun", &[app("exit 3")]);
    failing["spec"]["restartPolicy"] = "OnFailure".into();
    world.detach(&[failing, pod("well", "crun", &[app(common::WAITS)])]);
    let all = until("it is held back", || {
        let all = world.call(&["events", "-o", "json"]).good().json();
        (reasons(&all).iter().filter(|r| *r == "BackOff").count() >= 2).then_some(all)
    });
    let times: Vec<i64> = all.as_array().unwrap().iter().map(|e| e["at"].as_i64().unwrap()).collect();
    assert!(times.is_sorted(), "{all}");
    assert!(all.as_array().unwrap().iter().any(|e| e["pod"] == "well"));
    let warnings = world.call(&["events", "failing", "--warnings", "-o", "json"]).good().json();
    assert!(warnings.as_array().unwrap().iter().all(|e| e["warning"] == true && e["pod"] == "failing"), "{warnings}");
    assert!(reasons(&warnings).contains(&"Exited".to_owned()));
    assert!(world.call(&["events"]).good().out.contains("container \"app\" is started again in 10 s"));
}
