//! What a pod's runtime is asked for, over a runtime that only remembers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use cofferdam_model::cri::Profile;
use cofferdam_node::{EVICTION_PERIOD, Phase, REASON_EVICTED};
use common::{bed, ended, named, pod, text, until, up};
use serde_json::json;

#[test]
fn a_pod_that_cannot_be_had_makes_nothing() {
    let gpu = json!([{"name": "a", "resources": {"limits": {"nvidia.com/gpu": 2}}}]);
    let rows = [
        (
            json!({"containers": gpu}),
            "Insufficient nvidia.com/gpu: the containers of pod \"p\" ask for 2, and of the 1 on this machine 0 are in use",
        ),
        (
            json!({"hostUsers": false, "containers": [{"name": "a"}]}),
            "can't set `spec.hostUsers: false`, RuntimeClass handler \"crun\" does not support user namespaces",
        ),
        (
            json!({"containers": [{"name": "a", "securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "../x"}}}]}),
            "container \"a\": cannot load seccomp profile",
        ),
    ];
    for (spec, expected) in rows {
        let bed = bed();
        bed.fake.lose_image("gone");
        let mut spec = spec;
        if !expected.starts_with("Insufficient") {
            // What can be told of the pod alone is told before its image is fetched.
            spec["containers"][0]["image"] = json!("gone");
        }
        let view = ended(&bed.start(pod(spec.clone())));
        assert_eq!(view.phase, Phase::Failed, "{spec}: {}", text(&view));
        assert!(view.message.starts_with(expected), "{spec}: {}", view.message);
        assert!(
            !bed.fake.calls().iter().any(|call| call.starts_with("run ") || call.starts_with("pull ")),
            "{spec}: {:?}",
            bed.fake.calls()
        );
        assert!(bed.is_clean());
    }
}

#[test]
fn a_device_goes_from_pod_to_pod() {
    let bed = bed();
    let wants = |name: &str| {
        named(
            name,
            json!({"restartPolicy": "Never", "containers": [{"name": name, "resources": {"limits": {"nvidia.com/gpu": 1}}}]}),
        )
    };
    let first = bed.start(wants("one"));
    until(&first, |v| up(v, "one"));
    assert_eq!(bed.fake.config("one").cdi_devices, ["nvidia.com/gpu=0"]);
    let refused = ended(&bed.start(wants("two")));
    assert!(refused.message.starts_with("Insufficient nvidia.com/gpu"), "{}", refused.message);
    bed.fake.exit("one", 0);
    ended(&first);
    let again = bed.start(wants("three"));
    until(&again, |v| up(v, "three"));
    assert_eq!(bed.fake.config("three").cdi_devices, ["nvidia.com/gpu=0"], "it was given back");
    again.stop_all(None);
    ended(&again);
    assert!(bed.is_clean());
}

#[test]
fn what_is_asked_reaches_the_runtime() {
    let bed = bed();
    let handle = bed.start(pod(json!({
        "subdomain": "s", "setHostnameAsFQDN": true,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": "v"}, {"name": "i", "image": {"reference": "files:1"}}],
        "containers": [{
            "name": "a", "ports": [{"containerPort": 80, "hostPort": 8080}],
            "env": [
                {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}},
            ],
            "volumeMounts": [
                {"name": "v", "mountPath": "/v", "subPathExpr": "logs/$(POD)", "readOnly": true, "recursiveReadOnly": "IfPossible"},
                {"name": "i", "mountPath": "/i", "subPath": "etc"},
            ],
        }],
    })));
    until(&handle, |v| up(v, "a"));
    let (sandbox, config) = (bed.fake.sandbox_config(), bed.fake.config("a"));
    assert_eq!(
        (sandbox.hostname.as_str(), sandbox.port_mappings[0].host_port),
        ("p.s.default.svc.cluster.local", 8080)
    );
    assert_eq!(config.env[1], ("IPS".to_owned(), "10.88.0.1,fd00::1".to_owned()));
    assert_eq!(config.security.seccomp, Profile::RuntimeDefault);
    let [v, i] = &config.mounts[..2] else {
        panic!("{:?}", config.mounts)
    };
    assert!(
        v.host_path.join("logs/p").is_dir() && v.sub_path.to_str() == Some("logs/p") && v.readonly && !v.recursive_read_only,
        "{v:?}"
    );
    assert_eq!((i.image.as_deref(), i.image_sub_path.to_str()), (Some("files:1"), Some("etc")));
    handle.stop_all(None);
    ended(&handle);
    assert!(bed.is_clean());
}

#[test]
fn a_pod_that_writes_too_much_is_evicted() {
    let bed = bed();
    let handle = bed.start(pod(json!({
        "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}],
        "containers": [{"name": "a", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
    })));
    until(&handle, |v| up(v, "a"));
    let dir = bed.fake.config("a").mounts[0].host_path.clone();
    std::fs::write(dir.join("f"), vec![1; 512 << 10]).unwrap();
    bed.seconds(EVICTION_PERIOD.as_secs());
    std::fs::write(dir.join("g"), vec![1; 1 << 20]).unwrap();
    bed.seconds(EVICTION_PERIOD.as_secs());
    let view = ended(&handle);
    assert_eq!(
        (view.phase, view.reason.as_str(), view.message.as_str()),
        (Phase::Failed, REASON_EVICTED, "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". ")
    );
    assert!(bed.fake.calls().contains(&"stop a 2".to_owned()), "the least time to end: {:?}", bed.fake.calls());
    assert!(bed.is_clean());
}
