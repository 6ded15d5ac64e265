//! Images of pods: what is pulled when, and what a pull that fails means.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use cofferdam_model::cri::Error;
use cofferdam_node::*;
use common::{bed, ended, named, pod, text, told, until, up};
use serde_json::{Value, json};
use std::time::Duration;

fn spec(image: &str, policy: Option<&str>, restart: &str) -> Value {
    let mut container = json!({"name": "a", "image": image});
    if let Some(policy) = policy {
        container["imagePullPolicy"] = json!(policy);
    }
    json!({"restartPolicy": restart, "containers": [container]})
}

#[test]
fn what_is_pulled_and_what_not() {
    for (image, policy, present, pulled) in [
        ("x:1", None, true, false),
        ("x:1", None, false, true),
        ("x:latest", None, true, false),
        ("x:1", Some("Always"), true, true),
        ("x:1", Some("IfNotPresent"), true, false),
        ("x:1", Some("IfNotPresent"), false, true),
        ("x:1", Some("Never"), true, false),
    ] {
        let bed = bed();
        if !present {
            bed.fake.lose_image(image);
        }
        let handle = bed.start(pod(spec(image, policy, "Never")));
        let view = until(&handle, |v| up(v, "a"));
        let calls = bed.fake.calls();
        assert_eq!(calls[0] == format!("pull {image}"), pulled, "{image} {policy:?}: {calls:?}");
        let pulling = if pulled {
            vec![format!("Pulling image \"{image}\"")]
        } else {
            vec![]
        };
        assert_eq!(told(&view, "Pulling"), pulling);
        if pulled {
            assert_eq!(
                told(&view, "Pulled"),
                [format!("Successfully pulled image \"{image}\" in 0s (0s including waiting)")]
            );
        }
        bed.fake.exit("a", 0);
        assert_eq!(text(&ended(&handle)), "Succeeded : a=0");
        assert_eq!(bed.fake.count(&format!("pull {image}")), usize::from(pulled));
    }
}

#[test]
fn a_definite_answer_fails_the_pod_at_once() {
    let reason = "ErrImagePull";
    for error in [
        Error::NotFound("manifest unknown".into()),
        Error::Precondition("unauthorized".into()),
        Error::Invalid("no such platform".into()),
    ] {
        let bed = bed();
        bed.fake.lose_image("gone");
        let why = error.to_string();
        bed.fake.fail("pull", [error]);
        let view = ended(&bed.start(pod(spec("gone", None, "Always"))));
        assert_eq!((view.phase, view.reason.as_str()), (Phase::Failed, reason));
        assert_eq!(view.message, format!("Failed to pull image \"gone\": {why}"));
        assert_eq!(text(&view), format!("Failed {reason}: a={reason}"));
        assert_eq!(bed.fake.calls(), ["pull gone"], "nothing else was made");
        assert_eq!(exit_code(&[(*view).clone()]), EXIT_NOT_STARTED);
        assert!(bed.is_clean());
    }
}

#[test]
fn an_impossible_name_is_not_even_asked_for() {
    let bed = bed();
    bed.fake.lose_image("Gone");
    let view = ended(&bed.start(pod(spec("Gone", None, "Always"))));
    let why = "Failed to apply default image tag \"Gone\": couldn't parse image name \"Gone\": invalid reference format";
    assert_eq!((view.reason.as_str(), view.message.as_str()), ("InvalidImageName", why));
    assert_eq!(bed.fake.calls(), [""; 0]);
}

#[test]
fn another_failure_is_tried_again() {
    for faults in 1..=3u64 {
        let bed = bed();
        bed.fake.lose_image("gone");
        bed.fake.fail("pull", (0..faults).map(|_| Error::Failed("no route".into())));
        let handle = bed.start(pod(spec("gone", None, "Never")));
        for (wait, due) in [(10, 10), (20, 30)].into_iter().take(faults.min(2) as usize) {
            let view = until(&handle, |v| text(v).contains("ImagePullBackOff"));
            let ContainerPhase::Waiting { message, .. } = &view.containers[0].state else {
                panic!("it waits")
            };
            assert_eq!(message, "Back-off pulling image \"gone\": ErrImagePull: no route");
            assert!(bed.clock.awaited(Duration::from_secs(due)));
            bed.seconds(wait);
        }
        if faults < 3 {
            let view = until(&handle, |v| up(v, "a"));
            assert_eq!(
                told(&view, "BackOff"),
                [if faults == 1 {
                    "Back-off pulling image \"gone\""
                } else {
                    "Back-off pulling image \"gone\" x2"
                }]
            );
            let failed = told(&view, "Failed");
            for reason in ["ErrImagePull", "ImagePullBackOff"] {
                let told = failed.iter().filter(|m| **m == format!("Error: {reason}")).count();
                assert_eq!(told as u64, faults, "{reason}: {failed:?}");
            }
        } else {
            let view = ended(&handle);
            assert_eq!(
                (view.reason.as_str(), view.message.as_str()),
                ("ErrImagePull", "Failed to pull image \"gone\": no route (3 tries)")
            );
        }
    }
}

#[test]
fn always_asks_again_at_each_start_and_a_running_pod_is_patient() {
    let bed = bed();
    let handle = bed.start(pod(spec("x:1", Some("Always"), "Always")));
    until(&handle, |v| up(v, "a"));
    bed.fake.fail("pull", (0..4).map(|_| Error::NotFound("gone since".into())));
    bed.fake.exit("a", 1);
    for (times, wait) in [("", 10), (" x2", 20), (" x3", 40), (" x4", 80)] {
        let waits = format!("Back-off pulling image \"x:1\"{times}");
        until(&handle, |v| {
            text(v) == "Running : a=ImagePullBackOff" && told(v, "BackOff").contains(&waits)
        });
        bed.seconds(wait - 1);
        assert_eq!(bed.fake.count("create a"), 1, "not yet");
        bed.seconds(1);
    }
    until(&handle, |v| v.restarts == 1 && up(v, "a"));
    assert_eq!(bed.fake.count("pull x:1"), 6);
}

#[test]
fn one_that_was_removed_meanwhile_is_pulled_again() {
    let bed = bed();
    let handle = bed.start(pod(spec("x:1", None, "Always")));
    until(&handle, |v| up(v, "a"));
    bed.fake.lose_image("x:1");
    bed.fake.exit("a", 1);
    until(&handle, |v| v.restarts == 1 && up(v, "a"));
    assert_eq!(bed.fake.count("pull x:1"), 1);
}

#[test]
fn an_image_is_pulled_once_for_all_and_holds_up_no_other_pod() {
    let bed = bed();
    bed.fake.lose_image("big");
    bed.fake.hold("pull");
    let pods = ["p0", "p1"].map(|name| named(name, spec("big", None, "Never")));
    let small = named("p2", json!({"containers": [{"name": "s"}]}));
    let handle = bed.node.start(pods.into_iter().chain([small]).collect(), 1).unwrap();
    let changes = handle.changes();
    bed.fake.wait_call("start s");
    while handle.snapshot()[..2].iter().any(|v| told(v, "Pulling").is_empty()) {
        changes.recv_timeout(Duration::from_secs(20)).expect("both ask");
    }
    bed.fake.wait_call("pull big");
    assert_eq!(bed.fake.count("pull big"), 1);
    bed.fake.let_go("pull");
    while !handle.snapshot().iter().all(|v| v.phase == Phase::Running) {
        changes.recv_timeout(Duration::from_secs(20)).expect("both go on");
    }
    assert_eq!(bed.fake.count("pull big"), 1);
}

#[test]
fn images_of_volumes_are_pulled_too_and_each_once() {
    let bed = bed();
    bed.fake.lose_image("data");
    bed.fake.lose_image("x");
    let spec = json!({
        "containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "x"}],
        "volumes": [{"name": "v", "image": {"reference": "data"}}],
    });
    let handle = bed.start(pod(spec));
    until(&handle, |v| up(v, "b"));
    let mut pulls: Vec<_> = bed.fake.calls().into_iter().filter(|c| c.starts_with("pull")).collect();
    pulls.sort();
    assert_eq!(pulls, ["pull data", "pull x"]);
}

#[test]
fn a_stop_or_a_deadline_is_heard_while_a_pull_hangs() {
    for (deadline, reason) in [(None, "Stopped"), (Some(60), "DeadlineExceeded")] {
        let bed = bed();
        bed.fake.lose_image("gone");
        bed.fake.hold("pull");
        let mut spec = spec("gone", None, "Never");
        spec["activeDeadlineSeconds"] = json!(deadline);
        let handle = bed.start(pod(spec));
        bed.fake.wait_call("pull gone");
        match deadline {
            None => handle.stop_all(None),
            Some(seconds) => bed.seconds(seconds),
        }
        assert_eq!(text(&ended(&handle)), format!("Failed {reason}: a=ContainerCreating"));
        bed.fake.let_go("pull");
    }
}

#[test]
fn a_handler_that_is_not_there_is_asked_for_nothing_else() {
    let bed = bed();
    bed.fake.lose_image("gone");
    let mut setup = pod(spec("gone", None, "Never"));
    setup.handler = "broken".into();
    let view = ended(&bed.start(setup));
    assert_eq!(view.reason, REASON_HANDLER);
    let mut refused = spec("gone", None, "Never");
    refused["automountServiceAccountToken"] = json!(true);
    assert_eq!(ended(&bed.start(pod(refused))).reason, REASON_UNSUPPORTED);
    assert_eq!(bed.fake.calls(), [""; 0], "nothing is fetched for it");
}

#[test]
fn secrets_go_with_the_pull_and_a_missing_one_is_told() {
    let bed = bed();
    bed.fake.lose_image("gone");
    let mut spec = spec("gone", None, "Never");
    spec["imagePullSecrets"] = json!([{"name": "registry"}, {"name": "none"}, {"name": "cm"}]);
    let handle = bed.start(pod(spec));
    let view = until(&handle, |v| up(v, "a"));
    assert_eq!(
        told(&view, "FailedToRetrieveImagePullSecret"),
        ["Unable to retrieve some image pull secrets (none, cm); attempting to pull the image may not succeed."]
    );
    assert_eq!(bed.fake.credentials(), [[b"{\"auths\":{}}".to_vec()]]);
}
