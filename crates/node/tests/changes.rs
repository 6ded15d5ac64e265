//! Changes of running pods: containers that are added, and resources that change in place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use cofferdam_model::cri::{Error, LinuxResources};
use cofferdam_model::pod::EphemeralContainer;
use cofferdam_node::*;
use common::{bed, condition, ended, pod, text, told, until, up};
use serde_json::{Value, json};

fn added(container: Value) -> EphemeralContainer {
    serde_json::from_value(container).unwrap()
}

fn debug() -> EphemeralContainer {
    added(json!({"name": "debug", "image": "busybox", "command": ["sh"], "targetContainerName": "a"}))
}

fn of(view: &PodView) -> String {
    let state = |c: &ContainerView| match &c.state {
        ContainerPhase::Waiting { reason, .. } => format!("{} {}={reason}", c.kind, c.name),
        ContainerPhase::Running { .. } => format!("{} {}=up", c.kind, c.name),
        ContainerPhase::Terminated(end) => format!("{} {}={}", c.kind, c.name, end.exit_code),
    };
    view.ephemeral.iter().map(state).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_container_is_added_and_ends_with_its_pod() {
    let bed = bed();
    let handle = bed.start(pod(json!({"containers": [{"name": "a"}]})));
    until(&handle, |v| up(v, "a"));
    assert_eq!(handle.add_ephemeral("default", "p", debug()), Ok(()));
    let view = until(&handle, |v| of(v) == "ephemeral debug=up");
    assert_eq!((view.containers.len(), view.ready, view.restarts), (1, true, 0));
    assert_eq!(bed.fake.config("debug").pid_of, Some(bed.fake.id("a")));
    assert_eq!(
        handle.log_path("default", "p", "debug").map(|p| p.ends_with("debug/0.log")),
        Some(true)
    );
    bed.fake.exit("debug", 3);
    until(&handle, |v| of(v) == "ephemeral debug=3");
    let second = EphemeralContainer {
        target_container_name: None,
        ..added(json!({"name": "more", "image": "busybox"}))
    };
    assert_eq!(handle.add_ephemeral("default", "p", second), Ok(()));
    until(&handle, |v| of(v).ends_with("more=up"));
    assert_eq!(bed.fake.count("start debug"), 1, "it is not started again");
    handle.stop_all(None);
    let view = ended(&handle);
    assert_eq!(
        (text(&view).as_str(), of(&view).as_str()),
        ("Failed Stopped: a=143", "ephemeral debug=3 ephemeral more=143")
    );
    assert_eq!(exit_code(&[(*view).clone()]), 143);
    assert!(bed.is_clean());
}

#[test]
fn the_work_does_not_wait_for_what_was_added() {
    let bed = bed();
    let handle = bed.start(pod(json!({"restartPolicy": "Never", "containers": [{"name": "a"}]})));
    until(&handle, |v| up(v, "a"));
    handle.add_ephemeral("default", "p", debug()).unwrap();
    until(&handle, |v| of(v) == "ephemeral debug=up");
    bed.fake.exit("a", 0);
    assert_eq!(text(&ended(&handle)), "Succeeded : a=0");
    let late = handle.add_ephemeral("default", "p", debug());
    assert_eq!(late, Err("the pod is being ended, or is over".to_owned()));
}

#[test]
fn what_cannot_be_added_is_refused_and_harms_nobody() {
    let bed = bed();
    let handle = bed.start(pod(
        json!({"restartPolicy": "Never", "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}),
    ));
    until(&handle, |v| up(v, "i"));
    bed.fake.exit("i", 0);
    until(&handle, |v| up(v, "a"));
    let base = |more: Value| {
        let mut container = json!({"name": "x", "image": "busybox"});
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        handle.add_ephemeral("default", "p", added(container)).unwrap_err()
    };
    let forbidden = |field: &str| {
        format!("container \"x\" cannot be added: {field}: Forbidden: cannot be set for an Ephemeral Container; leave it out")
    };
    for (more, why) in [
        (
            json!({"name": "a"}),
            "container \"a\" cannot be added: the pod has a container of this name; use another name".to_owned(),
        ),
        (
            json!({"image": ""}),
            "container \"x\" cannot be added: image: Required value; name its image".into(),
        ),
        (json!({"ports": [{"containerPort": 1}]}), forbidden("ports")),
        (json!({"readinessProbe": {}}), forbidden("readinessProbe")),
        (json!({"lifecycle": {}}), forbidden("lifecycle")),
        (json!({"resources": {"limits": {"cpu": "1"}}}), forbidden("resources")),
        (json!({"restartPolicy": "Always"}), forbidden("restartPolicy")),
        (
            json!({"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "s"}]}),
            forbidden("volumeMounts.subPath"),
        ),
        (
            json!({"targetContainerName": "b"}),
            "container \"x\" cannot be added: targetContainerName \"b\" is no container of the pod".into(),
        ),
        (
            json!({"targetContainerName": "i"}),
            "container \"x\" cannot be added: its target, container \"i\", does not run".into(),
        ),
    ] {
        assert_eq!(base(more), why);
    }
    assert!(base(json!({"name": "../x"})).contains("cannot be used as a file name"));
    let other = common::bed();
    other.fake.hold("run");
    let waiting = other
        .node
        .start(vec![common::named("q", json!({"containers": [{"name": "a"}]}))], 1)
        .unwrap();
    let early = waiting.add_ephemeral("default", "q", debug());
    assert_eq!(early, Err("pod \"q\" does not run yet; ask again when it does".to_owned()));
    other.fake.let_go("run");
    let nobody = handle.add_ephemeral("default", "q", debug());
    assert_eq!(nobody, Err("no pod \"q\" is kept here in namespace \"default\"".to_owned()));
    // One that cannot be made only waits.
    bed.fake.fail("create", [Error::Invalid("bad".into())]);
    handle.add_ephemeral("default", "p", debug()).unwrap();
    let view = until(&handle, |v| of(v) == "ephemeral debug=CreateContainerError");
    assert_eq!(view.phase, Phase::Running);
    bed.seconds(300);
    until(&handle, |v| of(v) == "ephemeral debug=up");
}

#[test]
fn a_pod_that_is_being_ended_takes_no_changes() {
    let bed = bed();
    bed.fake.stubborn("a");
    let handle = bed.start(held("Always"));
    until(&handle, |v| up(v, "a"));
    handle.stop_all(None);
    bed.fake.wait_call("stop a 30");
    let over = Err("the pod is being ended, or is over".to_owned());
    assert_eq!(handle.add_ephemeral("default", "p", debug()), over);
    assert_eq!(handle.resize("default", "p", request(200, 210, false)), over);
    handle.stop_all(Some(std::time::Duration::ZERO));
    ended(&handle);
}

fn memory(bytes: i64) -> LinuxResources {
    LinuxResources {
        memory_limit: bytes,
        ..LinuxResources::default()
    }
}

fn request(bytes: i64, pod: i64, restart: bool) -> ResizeRequest {
    let resources = json!({"requests": {"memory": bytes.to_string()}, "limits": {"memory": bytes.to_string()}});
    ResizeRequest {
        container: "a".into(),
        resources: serde_json::from_value(resources).unwrap(),
        limits: memory(bytes),
        pod_limits: memory(pod),
        restart,
    }
}

/// A pod whose container `a` is held to 100 and the pod to 110 bytes, 10 being overhead.
fn held(restart: &str) -> PodSetup {
    let mut setup = pod(json!({"restartPolicy": restart, "containers": [{"name": "a"}]}));
    setup.containers.insert("a".into(), memory(100));
    (setup.pod_resources, setup.overhead) = (memory(110), memory(10));
    setup
}

#[test]
fn more_goes_to_the_pod_first_and_less_last() {
    for (bytes, pod, calls) in [
        (200, 210, vec!["update-sandbox 10 of 210", "update a 200"]),
        (50, 60, vec!["update a 50", "update-sandbox 10 of 60"]),
        (100, 110, vec!["update a 100"]),
        (0, 0, vec!["update-sandbox 10 of 0", "update a 0"]),
    ] {
        let bed = bed();
        let handle = bed.start(held("Always"));
        until(&handle, |v| up(v, "a"));
        assert_eq!(handle.resize("default", "p", request(bytes, pod, false)), Ok(()));
        let view = until(&handle, |v| v.containers[0].resources.is_some());
        assert_eq!(bed.fake.calls()[3..], calls, "{bytes}");
        assert_eq!(view.containers[0].allocated_resources["memory"].to_string(), bytes.to_string());
        let said = format!(
            "Pod resize completed: {{\"containers\":[{{\"name\":\"a\",\"resources\":{{\"requests\":{{\"memory\":\"{bytes}\"}},\"limits\":{{\"memory\":\"{bytes}\"}}}}}}]}}"
        );
        assert_eq!(told(&view, "ResizeCompleted"), [said]);
        assert_eq!((view.restarts, condition(&view, "PodResizeInProgress").as_str()), (0, "-"));
        // What was changed holds for the next run too.
        bed.fake.exit("a", 1);
        until(&handle, |v| v.restarts == 1 && up(v, "a"));
        assert_eq!(bed.fake.config("a").resources.memory_limit, bytes);
    }
}

#[test]
fn a_change_that_needs_a_restart_starts_the_container_again() {
    let bed = bed();
    let handle = bed.start(held("OnFailure"));
    until(&handle, |v| up(v, "a"));
    bed.fake.hold("stop");
    assert_eq!(handle.resize("default", "p", request(50, 60, true)), Ok(()));
    let view = until(&handle, |v| condition(v, "PodResizeInProgress") == "True");
    assert_eq!(told(&view, "Killing"), ["Container a resize requires restart, will be restarted"]);
    let second = handle.resize("default", "p", request(70, 80, false)).unwrap_err();
    assert!(
        second.ends_with("another change of this pod is under way; try again when it is done"),
        "{second}"
    );
    bed.fake.let_go("stop");
    let view = until(&handle, |v| v.restarts == 1 && up(v, "a"));
    assert_eq!(
        bed.fake.calls()[3..],
        ["stop a 30", "update-sandbox 10 of 60", "remove a", "create a", "start a"]
    );
    assert_eq!(bed.fake.config("a").resources.memory_limit, 50);
    assert_eq!(
        (
            told(&view, "ResizeCompleted").len(),
            condition(&view, "PodResizeInProgress").as_str()
        ),
        (1, "-")
    );
}

#[test]
fn a_change_that_fails_leaves_all_as_it_was() {
    for (verb, calls) in [
        ("update-sandbox", vec!["update-sandbox 10 of 210", "update-sandbox 10 of 110"]),
        (
            "update",
            vec!["update-sandbox 10 of 210", "update a 200", "update-sandbox 10 of 110"],
        ),
    ] {
        let bed = bed();
        let handle = bed.start(held("Always"));
        until(&handle, |v| up(v, "a"));
        bed.fake.fail(verb, [Error::Failed("no".into())]);
        let failed = handle.resize("default", "p", request(200, 210, false));
        assert_eq!(failed, Err("resources of container \"a\" cannot be changed: no".to_owned()));
        assert_eq!(bed.fake.calls()[3..], calls);
        let view = until(&handle, |v| !told(v, "ResizeError").is_empty());
        assert_eq!(
            (told(&view, "ResizeError"), &view.containers[0].resources),
            (vec!["container \"a\": no".to_owned()], &None)
        );
    }
}

#[test]
fn what_cannot_be_changed_is_refused() {
    let bed = bed();
    let handle = bed.start(held("Never"));
    until(&handle, |v| up(v, "a"));
    let refused = |request| handle.resize("default", "p", request).unwrap_err();
    let other = ResizeRequest {
        container: "b".into(),
        ..request(1, 1, false)
    };
    assert_eq!(
        refused(other),
        "resources of container \"b\" cannot be changed: the pod has no container or sidecar of this name"
    );
    assert_eq!(
        refused(request(200, 210, true)),
        "resources of container \"a\" cannot be changed: its resizePolicy is RestartContainer, and the pod's restartPolicy is Never"
    );
    bed.fake.uses_memory("a", 60);
    assert_eq!(
        refused(request(50, 60, false)),
        "resources of container \"a\" cannot be changed: cannot decrease memory limits: attempting to set container \"a\" memory limit (50) below current usage (60)"
    );
    assert_eq!(bed.fake.calls()[3..], [""; 0]);
    assert!(refused(request(60, 70, false)).ends_with("memory limit (60) below current usage (60)"));
    assert_eq!(handle.resize("default", "p", request(61, 71, false)), Ok(()));
}
