//! Pods from their start to their end, over a runtime that only remembers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use cofferdam_model::cri::Error;
use cofferdam_node::*;
use common::{bed, ended, named, pod, text, told, until, up};
use serde_json::json;
use std::time::Duration;

#[test]
fn a_pod_runs_to_its_end_and_leaves_nothing() {
    let bed = bed();
    let handle = bed.start(pod(
        json!({"restartPolicy": "Never", "containers": [{"name": "a"}, {"name": "b"}]}),
    ));
    let view = until(&handle, |v| v.phase == Phase::Running);
    assert!(view.ready && view.began && view.start_micros.is_some());
    assert_eq!(
        (
            view.handler.as_str(),
            view.class.as_deref(),
            view.stages.len()
        ),
        ("crun", Some("fast"), 1)
    );
    assert_eq!(view.ip, Some([10, 88, 0, 1].into()));
    assert_eq!(
        bed.fake.sandbox_config().annotations[CLASS_ANNOTATION],
        "fast"
    );
    bed.fake.exit("a", 0);
    bed.fake.exit("b", 0);
    let view = ended(&handle);
    assert_eq!(text(&view), "Succeeded : a=0 b=0");
    assert_eq!(
        bed.fake.calls(),
        [
            "run p crun",
            "create a",
            "start a",
            "create b",
            "start b",
            "stop-sandbox",
            "remove-sandbox"
        ]
    );
    assert!(bed.is_clean());
    assert_eq!(exit_code(&[(*view).clone()]), 0);
    assert!(
        bed.dir
            .path()
            .join("logs")
            .read_dir()
            .unwrap()
            .next()
            .is_some()
    );
    assert_eq!(handle.remove_logs(), [""; 0]);
    assert!(
        bed.dir
            .path()
            .join("logs")
            .read_dir()
            .unwrap()
            .next()
            .is_none()
    );
}

#[test]
fn init_containers_and_sidecars_have_their_order_both_ways() {
    let bed = bed();
    let handle = bed.start(pod(json!({
        "restartPolicy": "Never",
        "initContainers": [{"name": "i"}, {"name": "s1", "restartPolicy": "Always"}, {"name": "s2", "restartPolicy": "Always"}],
        "containers": [{"name": "a"}],
    })));
    until(&handle, |v| up(v, "i"));
    assert_eq!(bed.fake.calls(), ["run p crun", "create i", "start i"]);
    bed.fake.exit("i", 0);
    until(&handle, |v| v.phase == Phase::Running);
    handle.stop_all(None);
    assert_eq!(
        text(&ended(&handle)),
        "Failed Stopped: i=0 s1=143 s2=143 a=143"
    );
    let order = [
        "create s1",
        "start s1",
        "create s2",
        "start s2",
        "create a",
        "start a",
        "stop a 30",
        "stop s2 30",
        "stop s1 30",
        "stop-sandbox",
        "remove-sandbox",
    ];
    assert_eq!(bed.fake.calls()[3..], order);
    assert!(bed.is_clean());
}

#[test]
fn a_sidecar_waits_for_no_init_container() {
    let bed = bed();
    bed.fake.stubborn("i");
    let handle = bed.start(pod(json!({
        "initContainers": [{"name": "s", "restartPolicy": "Always"}, {"name": "i"}],
        "containers": [{"name": "a"}],
    })));
    until(&handle, |v| up(v, "i"));
    handle.stop_all(None);
    bed.fake.wait_call("stop i 30");
    bed.fake.wait_call("stop s 30");
    handle.stop_all(Some(Duration::ZERO));
    assert!(text(&ended(&handle)).ends_with("i=137 a=PodInitializing"));
}

#[test]
fn longer_waits_are_told_as_go_tells_them() {
    let bed = bed();
    let handle = bed.start(pod(json!({"containers": [{"name": "a"}]})));
    for (restarts, wait) in (0..).zip(["", "10s", "20s", "40s", "1m20s"]) {
        until(&handle, |v| v.restarts == restarts && up(v, "a"));
        bed.fake.exit("a", 1);
        if wait.is_empty() {
            continue;
        }
        let view = until(&handle, |v| text(v).contains("CrashLoopBackOff"));
        let ContainerPhase::Waiting { message, .. } = &view.containers[0].state else { panic!("it waits") };
        assert!(message.starts_with(&format!("back-off {wait} restarting failed container=a")), "{message}");
        bed.seconds(10 << (restarts - 1));
    }
}

#[test]
fn more_name_servers_than_a_resolver_reads_are_left_out() {
    let bed = bed();
    let dns = json!({"nameservers": ["1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"]});
    let handle = bed.start(pod(json!({"dnsPolicy": "None", "dnsConfig": dns, "containers": [{"name": "a"}]})));
    let view = until(&handle, |v| up(v, "a"));
    let line = "the applied nameserver line is: 1.1.1.1 2.2.2.2 3.3.3.3";
    assert_eq!(
        told(&view, "DNSConfigForming"),
        [format!("Nameserver limits were exceeded, some nameservers have been omitted, {line}")]
    );
}

#[test]
fn every_container_of_a_pod_with_init_containers_waits_for_initialisation() {
    let bed = bed();
    bed.fake.fail("run", [Error::Invalid("no".into())]);
    let view = ended(&bed.start(pod(json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}))));
    assert_eq!(text(&view), "Failed FailedCreatePodSandBox: i=PodInitializing a=PodInitializing");
}

#[test]
fn sidecars_end_when_the_work_is_over() {
    let bed = bed();
    let handle = bed.start(pod(json!({"restartPolicy": "OnFailure", "initContainers": [{"name": "s", "restartPolicy": "Always"}], "containers": [{"name": "a"}]})));
    until(&handle, |v| v.phase == Phase::Running);
    bed.fake.exit("a", 0);
    assert_eq!(text(&ended(&handle)), "Succeeded : s=143 a=0");
}

#[test]
fn a_failed_init_container_fails_the_pod() {
    let bed = bed();
    let handle = bed.start(pod(json!({"restartPolicy": "Never", "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]})));
    until(&handle, |v| up(v, "i"));
    bed.fake.exit("i", 4);
    let view = ended(&handle);
    assert_eq!(text(&view), "Failed : i=4 a=PodInitializing");
    assert_eq!(view.message, "init container \"i\" ended with exit code 4");
    assert_eq!(exit_code(&[(*view).clone()]), 4);
}

#[test]
fn restarts_back_off() {
    let bed = bed();
    let handle = bed.start(pod(
        json!({"restartPolicy": "OnFailure", "containers": [{"name": "a"}]}),
    ));
    until(&handle, |v| up(v, "a"));
    bed.fake.exit("a", 1);
    until(&handle, |v| v.restarts == 1 && up(v, "a"));
    bed.fake.exit("a", 1);
    let view = until(&handle, |v| text(v).contains("CrashLoopBackOff"));
    assert_eq!(view.phase, Phase::Running);
    let ContainerPhase::Waiting { message, .. } = &view.containers[0].state else {
        panic!("it waits")
    };
    assert_eq!(
        *message,
        format!(
            "back-off 10s restarting failed container=a pod=p_default({})",
            view.uid
        )
    );
    assert_eq!(view.containers[0].last.as_ref().unwrap().exit_code, 1);
    bed.seconds(10);
    until(&handle, |v| v.restarts == 2 && up(v, "a"));
    assert_eq!(bed.fake.config("a").attempt, 2);
    bed.fake.exit("a", 0);
    assert_eq!(text(&ended(&handle)), "Succeeded : a=0");
    assert_eq!(
        bed.fake.calls().iter().filter(|c| *c == "remove a").count(),
        2,
        "each run but the last"
    );
    assert!(bed.is_clean());
}

#[test]
fn a_refusing_handler_fails_the_pod_and_no_other_is_tried() {
    let bed = bed();
    bed.fake.fail(
        "run",
        [Error::Handler(
            "handler \"crun\" is not proved: its binary is missing".into(),
        )],
    );
    let view = ended(&bed.start(pod(
        json!({"restartPolicy": "Always", "containers": [{"name": "a"}]}),
    )));
    assert_eq!(
        (view.phase, view.reason.as_str()),
        (Phase::Failed, REASON_HANDLER)
    );
    assert_eq!(
        view.message,
        "not started, and not started anywhere weaker: handler \"crun\" is not proved: its binary is missing"
    );
    assert_eq!(bed.fake.calls(), ["run p crun"]);
    assert_eq!(exit_code(&[(*view).clone()]), EXIT_NOT_STARTED);
    assert!(bed.is_clean());
}

#[test]
fn a_sandbox_that_cannot_be_made_is_tried_again_a_few_times() {
    for faults in 1..=3 {
        let bed = bed();
        bed.fake
            .fail("run", (0..faults).map(|_| Error::Failed("no space".into())));
        let handle = bed.start(pod(json!({"containers": [{"name": "a"}]})));
        // Tried again after 1 s, and after 2 s more.
        for (wait, due) in [(1, 1), (2, 3)].into_iter().take(faults) {
            assert!(bed.clock.awaited(Duration::from_secs(due)));
            bed.seconds(wait);
        }
        if faults < 3 {
            until(&handle, |v| up(v, "a"));
            assert_eq!(
                bed.fake.sandbox_config().attempt,
                u32::try_from(faults).unwrap()
            );
            handle.stop_all(None);
            ended(&handle);
        } else {
            let view = ended(&handle);
            assert_eq!(
                (view.reason.as_str(), view.message.as_str()),
                (
                    REASON_SANDBOX,
                    "its sandbox could not be made in 3 tries: no space"
                )
            );
        }
        assert!(bed.is_clean());
    }
}

#[test]
fn a_container_that_cannot_be_made() {
    for (error, reason, message) in [
        (
            Error::Invalid("bad path".into()),
            REASON_CREATE,
            "container \"a\" could not be made: bad path",
        ),
        (
            Error::Handler("gone".into()),
            REASON_HANDLER,
            "not started, and not started anywhere weaker: gone",
        ),
    ] {
        let bed = bed();
        bed.fake.fail("create", [error]);
        let view = ended(&bed.start(pod(json!({"containers": [{"name": "a"}]}))));
        assert_eq!(
            (view.reason.as_str(), view.message.as_str()),
            (reason, message)
        );
        assert!(bed.is_clean());
    }
    let bed = bed();
    bed.fake.fail("create", [Error::Failed("busy".into())]);
    let handle = bed.start(pod(json!({"containers": [{"name": "a"}]})));
    until(&handle, |v| text(v) == "Pending : a=CreateContainerError");
    bed.seconds(1);
    until(&handle, |v| up(v, "a"));
}

#[test]
fn a_container_that_cannot_be_started_ends_with_128() {
    let bed = bed();
    bed.fake
        .fail("start", [Error::Failed("exec: \"x\": not found".into())]);
    let view = ended(&bed.start(pod(
        json!({"restartPolicy": "Never", "containers": [{"name": "a"}]}),
    )));
    assert_eq!(text(&view), "Failed : a=128");
    let ContainerPhase::Terminated(end) = &view.containers[0].state else {
        panic!("it ended")
    };
    assert_eq!(
        (end.reason.as_str(), end.message.as_str()),
        (REASON_START, "exec: \"x\": not found")
    );
    assert_eq!(exit_code(&[(*view).clone()]), 128);
    assert!(bed.is_clean());
}

#[test]
fn a_dead_sandbox_fails_the_pod_whatever_its_policy() {
    let bed = bed();
    let handle = bed.start(pod(
        json!({"restartPolicy": "Always", "containers": [{"name": "a"}]}),
    ));
    until(&handle, |v| up(v, "a"));
    bed.fake.sandbox_dies("its monitor (pid 7) was killed");
    let view = ended(&handle);
    assert_eq!(text(&view), "Failed SandboxDied: a=137");
    assert_eq!(
        view.message,
        "its sandbox died and is not made again: its monitor (pid 7) was killed"
    );
    assert_eq!(bed.fake.calls()[3..], ["stop-sandbox", "remove-sandbox"]);
    assert_eq!(exit_code(&[(*view).clone()]), EXIT_SANDBOX_DIED);
    assert!(bed.is_clean());
}

#[test]
fn a_removal_that_failed_is_shown_and_tried_again() {
    let bed = bed();
    bed.fake.fail(
        "remove-sandbox",
        [
            Error::Failed("busy".into()),
            Error::Failed("still busy".into()),
        ],
    );
    let handle = bed.start(pod(
        json!({"restartPolicy": "Never", "containers": [{"name": "a"}]}),
    ));
    until(&handle, |v| up(v, "a"));
    bed.fake.exit("a", 0);
    let view = until(&handle, |v| v.left_behind.is_some());
    assert!(
        view.left_behind
            .as_ref()
            .unwrap()
            .ends_with("could not be removed: busy; tried again in 1 s"),
        "{view:?}"
    );
    assert!(
        !view.ended
            && bed
                .dir
                .path()
                .join("volumes")
                .read_dir()
                .unwrap()
                .next()
                .is_some(),
        "volumes stay under a sandbox"
    );
    bed.seconds(1);
    until(&handle, |v| {
        v.left_behind
            .as_ref()
            .is_some_and(|l| l.ends_with("still busy; tried again in 2 s"))
    });
    bed.seconds(2);
    let view = ended(&handle);
    assert_eq!((view.phase, &view.left_behind), (Phase::Succeeded, &None));
    assert!(bed.is_clean());
}

#[test]
fn a_removal_that_never_works_is_told_at_the_end() {
    let bed = bed();
    bed.fake.fail(
        "stop-sandbox",
        (0..MAX_REMOVALS).map(|_| Error::Failed("stuck".into())),
    );
    let handle = bed.start(pod(
        json!({"restartPolicy": "Never", "containers": [{"name": "a"}]}),
    ));
    until(&handle, |v| up(v, "a"));
    bed.fake.exit("a", 0);
    for tries in 1..MAX_REMOVALS {
        let wait = format!("tried again in {} s", 1 << (tries - 1));
        until(&handle, |v| {
            v.left_behind.as_ref().is_some_and(|l| l.ends_with(&wait))
        });
        bed.seconds(1 << (tries - 1));
    }
    let view = ended(&handle);
    assert!(
        view.left_behind
            .as_ref()
            .unwrap()
            .contains("could not be removed in 6 tries"),
        "{view:?}"
    );
    assert_eq!(
        (view.phase, exit_code(&[(*view).clone()])),
        (Phase::Succeeded, EXIT_LEFT_BEHIND)
    );
    assert!(!bed.is_clean());
}

#[test]
fn a_deadline_fails_the_pod() {
    let bed = bed();
    let handle = bed.start(pod(json!({"activeDeadlineSeconds": 60, "terminationGracePeriodSeconds": 5, "containers": [{"name": "a"}]})));
    until(&handle, |v| up(v, "a"));
    bed.seconds(60);
    let view = ended(&handle);
    assert_eq!(text(&view), "Failed DeadlineExceeded: a=143");
    assert_eq!(
        view.message,
        "Pod was active on the node longer than the specified deadline"
    );
    assert!(bed.fake.calls().contains(&"stop a 5".to_owned()));
}

#[test]
fn hooks_come_before_the_end_and_a_second_stop_hurries() {
    let bed = bed();
    bed.fake.stubborn("a");
    bed.fake.hook("bye", 1);
    let lifecycle = json!({"preStop": {"exec": {"command": ["bye", "now"]}}});
    let handle = bed.start(pod(
        json!({"containers": [{"name": "a", "lifecycle": lifecycle}]}),
    ));
    until(&handle, |v| up(v, "a"));
    assert!(!handle.stop("default", "other", None));
    assert!(handle.stop("default", "p", Some(Duration::from_secs(9))));
    bed.fake.wait_call("stop a 9");
    handle.stop_all(Some(Duration::ZERO));
    let view = ended(&handle);
    assert_eq!(text(&view), "Failed Stopped: a=137");
    assert_eq!(
        bed.fake.calls()[3..6],
        ["exec a bye now", "stop a 9", "stop a 0"]
    );
    assert!(
        view.events.iter().any(
            |e| e.reason == "FailedPreStopHook" && e.message == "preStop hook of container \"a\" failed: command 'bye now' exited with 1: oh no\n, message: \"oh no\\n\""
        ),
        "{view:?}"
    );
}

#[test]
fn a_sleeping_hook_spends_the_grace_but_two_seconds_of_it() {
    for (sleep, ends_after, call) in [(4, 4, "stop a 6"), (9, 9, "stop a 2"), (60, 10, "stop a 2")]
    {
        let bed = bed();
        let lifecycle = json!({"preStop": {"sleep": {"seconds": sleep}}});
        let handle = bed.start(pod(json!({"terminationGracePeriodSeconds": 10, "containers": [{"name": "a", "lifecycle": lifecycle}]})));
        until(&handle, |v| up(v, "a"));
        handle.stop_all(None);
        assert!(bed.clock.awaited(Duration::from_secs(ends_after)));
        bed.seconds(ends_after);
        ended(&handle);
        assert!(
            bed.fake.calls().contains(&call.to_owned()),
            "{sleep}: {:?}",
            bed.fake.calls()
        );
    }
}

#[test]
fn a_failed_post_start_hook_ends_its_container() {
    let bed = bed();
    bed.fake.hook("hello", 3);
    let lifecycle = json!({"postStart": {"exec": {"command": ["hello"]}}});
    let handle = bed.start(pod(json!({"restartPolicy": "Never", "containers": [{"name": "a", "lifecycle": lifecycle}, {"name": "b"}]})));
    until(&handle, |v| up(v, "b"));
    bed.fake.exit("b", 0);
    let view = ended(&handle);
    assert_eq!(text(&view), "Failed : a=143 b=0");
    let ContainerPhase::Terminated(end) = &view.containers[0].state else {
        panic!("it ended")
    };
    let why = "command 'hello' exited with 3: oh no\n, message: \"oh no\\n\"";
    let said = format!("Exec lifecycle hook ([hello]) for Container \"a\" in Pod \"p_default({})\" failed - error: {why}", view.uid);
    assert_eq!((end.reason.as_str(), &end.message), (REASON_HOOK, &said));
    assert_eq!(told(&view, "FailedPostStartHook"), [format!("postStart hook of container \"a\" failed: {why}")]);
    assert_eq!(
        bed.fake.calls()[2..5],
        ["start a", "exec a hello", "stop a 30"],
        "before b is made"
    );
}

#[test]
fn a_pod_that_cannot_start_says_why() {
    let env = json!([{"name": "K", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "q"}}}]);
    let rows = [
        (
            json!({"containers": [{"name": "a", "image": "gone", "imagePullPolicy": "Never"}]}),
            "ErrImageNeverPull",
            "image \"gone\" is not on this machine; load it with: cofferdam image load -i FILE",
            0,
        ),
        (
            json!({"containers": [{"name": "a", "env": env}]}),
            REASON_CONFIG,
            "container \"a\": couldn't find key q in ConfigMap default/cm",
            3,
        ),
        (
            json!({"containers": [{"name": "a"}], "volumes": [{"name": "v", "configMap": {"name": "none"}}]}),
            REASON_MOUNT,
            "MountVolume.SetUp failed for volume \"v\" : configmap \"none\" not found",
            0,
        ),
        (
            json!({"containers": [{"name": "a", "ports": [{"containerPort": 1, "hostPort": 70000}]}]}),
            REASON_UNSUPPORTED,
            "a port of container \"a\": hostPort 70000 must be between 1 and 65535",
            0,
        ),
        (
            json!({"containers": []}),
            REASON_UNSUPPORTED,
            "the pod has no containers; give it at least one",
            0,
        ),
        (
            json!({"containers": [{"name": "../a"}]}),
            REASON_UNSUPPORTED,
            "container name \"../a\" cannot be used as a file name: use 1 to 253 letters, digits, '-', '_' or '.', not beginning with '..'",
            0,
        ),
    ];
    for (spec, reason, message, calls) in rows {
        let bed = bed();
        bed.fake.lose_image("gone");
        let view = ended(&bed.start(pod(spec)));
        assert_eq!(
            (view.phase, view.reason.as_str(), view.message.as_str()),
            (Phase::Failed, reason, message)
        );
        assert_eq!(bed.fake.calls().len(), calls, "{reason}");
        assert_eq!(exit_code(&[(*view).clone()]), EXIT_NOT_STARTED);
        assert!(bed.is_clean());
    }
}

#[test]
fn what_a_container_is_given() {
    let bed = bed();
    let env = json!([{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}, {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "a"}}}]);
    let container = json!({"name": "a", "image": "busybox", "command": ["sh", "$(A)"], "env": env, "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "s"}]});
    let mut setup =
        pod(json!({"containers": [container], "volumes": [{"name": "v", "emptyDir": {}}]}));
    setup.containers.insert(
        "a".into(),
        cofferdam_model::cri::LinuxResources {
            memory_limit: 5,
            ..Default::default()
        },
    );
    let handle = bed.start(setup);
    until(&handle, |v| up(v, "a"));
    let config = bed.fake.config("a");
    assert_eq!(
        config.env,
        [
            ("IP".to_owned(), "10.88.0.1".to_owned()),
            ("A".to_owned(), "1".to_owned())
        ]
    );
    assert_eq!(
        (config.command, config.resources.memory_limit),
        (vec!["sh".to_owned(), "1".to_owned()], 5)
    );
    assert_eq!(config.mounts[0].container_path.to_str(), Some("/v"));
    assert!(
        config.mounts[0].host_path.ends_with("volumes/v") && config.mounts[0].host_path.join("s").is_dir() && config.mounts[0].sub_path.ends_with("s")
    );
    let log = handle.log_path("default", "p", "a").unwrap();
    assert_eq!(
        log,
        bed.fake
            .sandbox_config()
            .log_directory
            .join(&config.log_path)
    );
    assert!(
        log.parent().unwrap().is_dir(),
        "the folder of the log is there"
    );

    std::fs::write(&config.mounts[1].host_path, "last word").unwrap();
    bed.fake.exit("a", 3);
    let view = until(&handle, |v| v.restarts == 1);
    assert_eq!(
        view.containers[0].last.as_ref().unwrap().message,
        "last word"
    );
}

#[test]
fn a_lost_event_is_made_up_for() {
    let bed = bed();
    let handle = bed.start(pod(
        json!({"restartPolicy": "Never", "containers": [{"name": "a"}]}),
    ));
    until(&handle, |v| up(v, "a"));
    bed.fake.exit_as("a", 6, false);
    bed.seconds(60);
    assert_eq!(text(&ended(&handle)), "Failed : a=6");
}

#[test]
fn pods_start_in_order_and_not_too_many_at_once() {
    let bed = bed();
    bed.fake.hold("run");
    let pods: Vec<_> = (0..5)
        .map(|i| {
            named(
                &format!("p{i}"),
                json!({"containers": [{"name": format!("a{i}")}]}),
            )
        })
        .collect();
    let handle = bed.node.start(pods, 2).unwrap();
    bed.fake.wait_inside(2);
    handle.stop("default", "p4", None);
    bed.fake.let_go("run");
    for index in 0..4 {
        bed.fake.wait_call(&format!("start a{index}"));
    }
    assert!(bed.fake.most_inside() <= 2);
    handle.stop_all(None);
    let views = handle.wait_all();
    assert_eq!(text(&views[4]), "Failed Stopped: a4=ContainerCreating");
    assert!(
        !bed.fake.calls().contains(&"run p4 crun".to_owned()),
        "stopped before its turn"
    );
    let runs: Vec<_> = bed
        .fake
        .calls()
        .into_iter()
        .filter(|c| c.starts_with("run"))
        .collect();
    let mut first: Vec<_> = runs[..2].to_vec();
    first.sort();
    assert_eq!(first, ["run p0 crun", "run p1 crun"]);
    assert!(bed.is_clean());
}
