//! Probes and hooks of pods: what they are tried against, and what comes of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use cofferdam_node::*;
use common::{bed, condition, ended, pod, text, told, until, up};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

/// A container that is probed by a command of this name.
fn probed(kind: &str, command: &str, more: Value) -> Value {
    let mut probe = json!({"exec": {"command": [command]}, "periodSeconds": 5, "failureThreshold": 1});
    probe.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"name": "a", kind: probe})
}

#[test]
fn readiness_makes_a_pod_ready_and_unready() {
    let bed = bed();
    bed.fake.hook("ready", 1);
    let container = probed("readinessProbe", "ready", json!({"failureThreshold": 2}));
    let handle = bed.start(pod(json!({"containers": [container, {"name": "b"}]})));
    let view = until(&handle, |v| up(v, "b") && !told(v, "Unhealthy").is_empty());
    assert!(!view.ready && !view.containers[0].ready && view.containers[1].ready);
    assert_eq!(view.containers[0].started, Some(true));
    assert_eq!(
        condition(&view, "Ready"),
        "False ContainersNotReady containers with unready status: [a]"
    );
    assert_eq!(condition(&view, "Initialized"), "True");
    assert_eq!(told(&view, "Unhealthy"), ["Readiness probe failed: oh no"]);
    bed.fake.hook("ready", 0);
    bed.seconds(5);
    let view = until(&handle, |v| v.ready);
    assert_eq!(
        (condition(&view, "Ready"), condition(&view, "ContainersReady")),
        ("True".into(), "True".into())
    );
    let ready = view.conditions.iter().find(|c| c.kind == "Ready").unwrap();
    assert_eq!(ready.last_transition_time, "1970-01-01T00:00:05Z");
    let initialized = view.conditions.iter().find(|c| c.kind == "Initialized").unwrap();
    assert_eq!(initialized.last_transition_time, "1970-01-01T00:00:00Z", "it has not changed since");
    bed.fake.hook("ready", 1);
    bed.seconds(5);
    let view = until(&handle, |v| told(v, "Unhealthy") == ["Readiness probe failed: oh no x2"]);
    assert!(view.ready, "once is not enough");
    bed.seconds(5);
    let view = until(&handle, |v| !v.ready);
    assert_eq!((view.phase, view.restarts), (Phase::Running, 0));
    handle.stop_all(None);
    let view = ended(&handle);
    assert_eq!(condition(&view, "Ready"), "False PodFailed");
    // It failed three times; the file of events has the first and the second.
    let log = handle.log_path("default", "p", "a").unwrap();
    let lines = std::fs::read_to_string(log.parent().unwrap().with_file_name(EVENTS_FILE)).unwrap();
    assert_eq!(lines.lines().filter(|line| line.contains("Unhealthy")).count(), 2);
    assert!(bed.is_clean());
}

#[test]
fn a_container_that_is_not_alive_is_ended_and_started_again() {
    let bed = bed();
    let container = probed("livenessProbe", "alive", json!({"terminationGracePeriodSeconds": 7}));
    let handle = bed.start(pod(json!({"containers": [container]})));
    until(&handle, |v| up(v, "a"));
    bed.fake.wait_call("exec a alive");
    bed.fake.hook("alive", 1);
    bed.seconds(5);
    let view = until(&handle, |v| v.restarts == 1);
    assert!(bed.fake.calls().contains(&"stop a 7".to_owned()), "the probe's own grace");
    assert_eq!(told(&view, "Killing"), ["Container a failed liveness probe, will be restarted"]);
    assert_eq!(told(&view, "Unhealthy"), ["Liveness probe failed: oh no"]);
    assert_eq!(view.containers[0].last.as_ref().unwrap().exit_code, 143);
    // Its second run is not alive from the start on. As upstream, which ends and starts it in one go, the
    // wait counts from the end before: the third comes at once, and only the fourth waits.
    let view = until(&handle, |v| v.restarts == 2 && text(v).contains("CrashLoopBackOff"));
    assert_eq!(told(&view, "BackOff").last().unwrap(), "container \"a\" is started again in 10 s");
    handle.stop_all(None);
    ended(&handle);
    assert!(bed.is_clean());
}

#[test]
fn without_restarts_it_is_only_ended() {
    let bed = bed();
    bed.fake.hook("alive", 1);
    let handle = bed.start(pod(
        json!({"restartPolicy": "Never", "containers": [probed("livenessProbe", "alive", json!({}))]}),
    ));
    let view = ended(&handle);
    assert_eq!(text(&view), "Failed : a=143");
    assert_eq!(told(&view, "Killing"), ["Container a failed liveness probe"]);
    assert!(bed.fake.calls().contains(&"stop a 30".to_owned()), "the pod's grace");
}

#[test]
fn a_sidecar_is_started_again_whatever_the_policy() {
    let bed = bed();
    let mut sidecar = probed("livenessProbe", "alive", json!({}));
    sidecar["restartPolicy"] = json!("Always");
    let handle = bed.start(pod(
        json!({"restartPolicy": "Never", "initContainers": [sidecar], "containers": [{"name": "b"}]}),
    ));
    until(&handle, |v| up(v, "b"));
    bed.fake.wait_call("exec a alive");
    bed.fake.fail("exec", [cofferdam_model::cri::Error::Timeout("late".into())]);
    bed.seconds(5);
    let view = until(&handle, |v| v.restarts == 1 && up(v, "a"));
    assert_eq!(told(&view, "Killing"), ["Init container a failed liveness probe"]);
    assert_eq!((view.phase, view.containers[1].restarts), (Phase::Running, 0));
}

#[test]
fn one_that_does_not_end_holds_up_no_stop() {
    let bed = bed();
    bed.fake.hook("alive", 1);
    bed.fake.stubborn("a");
    let mut container = probed("livenessProbe", "alive", json!({}));
    container["lifecycle"] = json!({"preStop": {"exec": {"command": ["bye"]}}});
    let handle = bed.start(pod(json!({"containers": [container]})));
    bed.fake.wait_call("stop a 30");
    handle.stop_all(Some(Duration::from_secs(9)));
    bed.fake.wait_call("stop a 9");
    handle.stop_all(Some(Duration::ZERO));
    assert_eq!(text(&ended(&handle)), "Failed Stopped: a=137");
    assert_eq!(bed.fake.count("exec a bye"), 1, "the hook of one end is not run by another");
    assert!(bed.is_clean());
}

#[test]
fn the_startup_probe_comes_before_the_others_and_sidecars_before_the_work() {
    let bed = bed();
    bed.fake.hook("up", 1);
    let mut sidecar = probed("startupProbe", "up", json!({"failureThreshold": 3}));
    sidecar["livenessProbe"] = json!({"exec": {"command": ["alive"]}});
    sidecar["restartPolicy"] = json!("Always");
    let handle = bed.start(pod(json!({"initContainers": [sidecar], "containers": [{"name": "b"}]})));
    let view = until(&handle, |v| !told(v, "Unhealthy").is_empty());
    assert_eq!(text(&view), "Pending : a=up b=PodInitializing");
    assert_eq!((view.containers[0].started, view.containers[0].ready), (Some(false), false));
    assert_eq!(
        condition(&view, "Initialized"),
        "False ContainersNotInitialized containers with incomplete status: [a]"
    );
    assert_eq!(bed.fake.count("exec a alive"), 0);
    bed.fake.hook("up", 0);
    bed.seconds(5);
    let view = until(&handle, |v| up(v, "b"));
    assert_eq!((view.containers[0].started, view.containers[0].ready), (Some(true), true));
    bed.fake.wait_call("exec a alive");
    let tries = bed.fake.count("exec a up");
    bed.seconds(5);
    bed.seconds(5);
    bed.fake.wait_call("exec a alive");
    assert_eq!(bed.fake.count("exec a up"), tries, "it is not tried any more");
}

#[test]
fn one_that_never_starts_is_started_again() {
    let bed = bed();
    bed.fake.hook("up", 1);
    let container = probed("startupProbe", "up", json!({"failureThreshold": 2, "initialDelaySeconds": 3}));
    let handle = bed.start(pod(json!({"containers": [container]})));
    until(&handle, |v| up(v, "a"));
    assert!(bed.clock.awaited(Duration::from_secs(3)), "the delay");
    bed.seconds(3);
    assert!(bed.clock.awaited(Duration::from_secs(8)), "the period");
    bed.seconds(5);
    let view = until(&handle, |v| v.restarts == 1);
    assert_eq!(told(&view, "Killing"), ["Container a failed startup probe, will be restarted"]);
}

/// A server that says `bytes` to everybody who asks it something; its port.
fn says(bytes: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(bytes);
        }
    });
    port
}

/// A server that says nothing for ever.
fn silent() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let kept: Vec<_> = listener.incoming().collect();
        drop(kept);
    });
    port
}

#[test]
fn each_kind_good_bad_slow_and_hostile() {
    let closed = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let get = |port: u16| json!({"httpGet": {"path": "/h", "port": port}});
    let grpc = |port: u16| json!({"grpc": {"port": port}});
    let (ok, moved, bad, rude, mute, gone) = (
        says(b"HTTP/1.1 200 OK\r\n\r\n"),
        says(b"HTTP/1.1 302 x\r\nLocation: http://far.example/\r\n\r\nbye"),
        says(b"HTTP/1.1 500 x\r\n\r\n"),
        says(b"\0\xff"),
        silent(),
        closed(),
    );
    // A DATA frame that says SERVING, and HEADERS with grpc-status 0 that end the stream.
    let serving = says(b"\0\0\x07\0\0\0\0\0\x01\0\0\0\0\x02\x08\x01\0\0\x0f\x01\x05\0\0\0\x01\0\x0bgrpc-status\x010");
    let late = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
    let named = json!({"httpGet": {"port": "web"}});
    let rows = vec![
        ("http", get(ok), vec![]),
        ("http by name", named, vec![]),
        (
            "http redirect away",
            get(moved),
            vec!["ProbeWarning: Readiness probe warning: Probe terminated redirects, Response body: bye".to_owned()],
        ),
        (
            "http bad",
            get(bad),
            vec!["Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 500".into()],
        ),
        (
            "http hostile",
            get(rude),
            vec![format!("Unhealthy: Readiness probe failed: Get \"http://127.0.0.1:{rude}/h\": EOF")],
        ),
        (
            "http slow",
            get(mute),
            vec![format!(
                "Unhealthy: Readiness probe failed: Get \"http://127.0.0.1:{mute}/h\": {late}"
            )],
        ),
        (
            "http refused",
            get(gone),
            vec![format!(
                "Unhealthy: Readiness probe failed: Get \"http://127.0.0.1:{gone}/h\": dial tcp 127.0.0.1:{gone}: connect: connection refused"
            )],
        ),
        (
            "http without such a port",
            json!({"httpGet": {"port": "none"}}),
            vec!["Unhealthy: Readiness probe errored and resulted in unknown state: the container has no port named \"none\"".into()],
        ),
        ("tcp", json!({"tcpSocket": {"port": mute}}), vec![]),
        (
            "tcp refused",
            json!({"tcpSocket": {"port": gone}}),
            vec![format!(
                "Unhealthy: Readiness probe failed: dial tcp 127.0.0.1:{gone}: connect: connection refused"
            )],
        ),
        ("grpc", grpc(serving), vec![]),
        (
            "grpc slow",
            grpc(mute),
            vec!["Unhealthy: Readiness probe failed: timeout: health rpc did not complete within 1s".into()],
        ),
        ("exec", json!({"exec": {"command": ["good"]}}), vec![]),
        (
            "exec bad",
            json!({"exec": {"command": ["bad"]}}),
            vec!["Unhealthy: Readiness probe failed: oh no".into()],
        ),
    ];
    for (what, mut probe, events) in rows {
        let bed = bed();
        bed.fake.hook("bad", 1);
        probe["failureThreshold"] = json!(1);
        let container = json!({"name": "a", "ports": [{"name": "web", "containerPort": ok}], "readinessProbe": probe});
        let handle = bed.start(pod(json!({"hostNetwork": true, "containers": [container]})));
        let of = |view: &PodView| -> Vec<String> {
            let mine = view
                .events
                .iter()
                .filter(|e| matches!(e.reason.as_str(), "Unhealthy" | "ProbeWarning"));
            mine.map(|e| format!("{}: {}", e.reason, e.message)).collect()
        };
        let view = until(&handle, |v| v.ready || of(v).iter().any(|e| e.starts_with("Unhealthy")));
        assert_eq!(of(&view), events, "{what}");
        assert_eq!(view.ready, !events.iter().any(|e| e.starts_with("Unhealthy")), "{what}");
    }
}

#[test]
fn a_command_that_takes_too_long_fails_and_one_that_cannot_be_run_says_nothing() {
    use cofferdam_model::cri::Error;
    let bed = bed();
    bed.fake.fail("exec", [Error::Timeout("late".into())]);
    let handle = bed.start(pod(
        json!({"containers": [probed("readinessProbe", "slow", json!({"timeoutSeconds": 2}))]}),
    ));
    let view = until(&handle, |v| !told(v, "Unhealthy").is_empty());
    assert_eq!(
        told(&view, "Unhealthy"),
        ["Readiness probe failed: command timed out: \"slow\" timed out after 2s"]
    );
    bed.seconds(5);
    until(&handle, |v| v.ready);
    bed.fake.fail("exec", (0..3).map(|_| Error::Failed("no exec".into())));
    bed.seconds(5);
    let view = until(&handle, |v| told(v, "Unhealthy").len() == 2);
    assert_eq!(
        told(&view, "Unhealthy")[1],
        "Readiness probe errored and resulted in unknown state: no exec"
    );
    assert!(view.ready, "it counts for nothing");
    assert_eq!(bed.fake.count("exec a slow"), 5, "of three tries, the last was tried three times");
}

#[test]
fn hooks_ask_web_servers_and_take_any_answer() {
    let unwell = says(b"HTTP/1.1 500 x\r\n\r\n");
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let get = |port: u16, scheme: &str| json!({"httpGet": {"port": port, "path": "/x", "scheme": scheme}});
    let bed = bed();
    // By HTTPS it is asked again without, as this server does not speak it.
    let lifecycle = json!({"postStart": get(unwell, "HTTPS"), "preStop": get(gone, "HTTP")});
    let handle = bed.start(pod(
        json!({"hostNetwork": true, "containers": [{"name": "a", "lifecycle": lifecycle}]}),
    ));
    until(&handle, |v| up(v, "a") && v.containers[0].ready);
    handle.stop_all(None);
    let view = ended(&handle);
    let why = format!("Get \"http://127.0.0.1:{gone}/x\": dial tcp 127.0.0.1:{gone}: connect: connection refused");
    assert_eq!(
        told(&view, "FailedPreStopHook"),
        [format!("preStop hook of container \"a\" failed: {why}")]
    );
    assert_eq!(told(&view, "FailedPostStartHook"), [""; 0]);
    assert_eq!(
        told(&view, "LifecycleHTTPFallback"),
        [format!("request to HTTPS lifecycle hook 127.0.0.1:{unwell} got HTTP response, retry with HTTP succeeded")]
    );
    assert_eq!(told(&view, "Killing"), ["Stopping container a"]);

    let bed = common::bed();
    let lifecycle = json!({"postStart": get(gone, "HTTP")});
    let handle = bed.start(pod(
        json!({"restartPolicy": "Never", "hostNetwork": true, "containers": [{"name": "a", "lifecycle": lifecycle}]}),
    ));
    let view = ended(&handle);
    assert_eq!(
        told(&view, "FailedPostStartHook"),
        [format!("postStart hook of container \"a\" failed: {why}")]
    );
    assert_eq!(text(&view), "Failed : a=143");
    let ContainerPhase::Terminated(end) = &view.containers[0].state else { panic!("it ended") };
    let said = format!("HTTP lifecycle hook (/x) for Container \"a\" in Pod \"p_default({})\" failed - error: {why}", view.uid);
    assert_eq!(end.message, said);
}

#[test]
fn a_probes_command_sees_the_environment() {
    let bed = bed();
    let mut container = probed("readinessProbe", "is-$(WHAT)", json!({}));
    container["env"] = json!([{"name": "WHAT", "value": "ready"}]);
    let handle = bed.start(pod(json!({"containers": [container]})));
    bed.fake.wait_call("exec a is-ready");
    until(&handle, |v| v.ready);
}

#[test]
fn a_post_start_hook_holds_probes_back() {
    let bed = bed();
    bed.fake.hold("exec");
    let mut container = probed("readinessProbe", "ready", json!({}));
    container["lifecycle"] = json!({"postStart": {"exec": {"command": ["hello"]}}});
    let handle = bed.start(pod(json!({"containers": [container]})));
    bed.fake.wait_call("exec a hello");
    bed.seconds(30);
    bed.fake.let_go("exec");
    until(&handle, |v| v.ready);
    let calls = bed.fake.calls();
    assert_eq!(
        calls.iter().filter(|c| c.starts_with("exec")).collect::<Vec<_>>(),
        ["exec a hello", "exec a ready"]
    );
}
