#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::testing::{container, pod};
use serde_json::json;

/// What is said of an update, without the envelope; the fixed part of the last message as `…`.
fn told(new: Value, old: Value) -> String {
    let whole = format!("spec: Forbidden: pod updates may not change fields other than {UPDATABLE}\n");
    match validate_update(&pod(new), &pod(old)) {
        Ok(()) => String::new(),
        Err(denied) => {
            assert_eq!(denied.code(), 422);
            denied.to_string().trim_start_matches("Pod \"p\" is invalid: ").replace(&whole, "…")
        }
    }
}

#[test]
fn the_message_is_upstreams() {
    let denied = validate_update(&pod(json!({"runtimeClassName": "b"})), &pod(json!({"runtimeClassName": "a"}))).unwrap_err();
    assert_eq!(
        denied.to_string(),
        "Pod \"p\" is invalid: spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n- runtimeClassName: \"a\"\n+ runtimeClassName: \"b\"\n"
    );
}

/// One row a field: new, old, what is said.
#[test]
fn what_an_update_may_change() {
    let image = |image: &str| json!([{"name": "c", "image": image, "imagePullPolicy": "Always"}]);
    let gated = |more: Value| {
        let mut spec = json!({"schedulingGates": [{"name": "example.com/g"}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let toleration = |seconds: Option<i64>| json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
    let rows = [
        (json!({}), json!({}), ""),
        // never
        (json!({"runtimeClassName": "a"}), json!({}), "…+ runtimeClassName: \"a\"\n"),
        (json!({}), json!({"runtimeClassName": "a"}), "…- runtimeClassName: \"a\"\n"),
        (
            gated(json!({"runtimeClassName": "b"})),
            gated(json!({"runtimeClassName": "a"})),
            "…- runtimeClassName: \"a\"\n+ runtimeClassName: \"b\"\n",
        ),
        (json!({"overhead": {"cpu": "1"}}), json!({}), "…+ overhead: {\"cpu\":\"1\"}\n"),
        (
            json!({"overhead": {"cpu": "2"}}),
            json!({"overhead": {"cpu": "1"}}),
            "…- overhead.cpu: \"1\"\n+ overhead.cpu: \"2\"\n",
        ),
        (json!({"overhead": {"cpu": "1000m"}}), json!({"overhead": {"cpu": "1"}}), ""),
        (json!({"overhead": {}}), json!({}), ""),
        (
            json!({"restartPolicy": "Never"}),
            json!({}),
            "…- restartPolicy: \"Always\"\n+ restartPolicy: \"Never\"\n",
        ),
        (json!({"nodeName": "n"}), json!({}), "…- nodeName: \"\"\n+ nodeName: \"n\"\n"),
        // defaults written out are no change
        (
            json!({"subdomain": "", "containers": [{"name": "c", "image": "i",
                "livenessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "initialDelaySeconds": 0, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
                "lifecycle": {"preStop": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}}}}]}),
            json!({"containers": [{"name": "c", "image": "i", "livenessProbe": {"httpGet": {"port": 80}}, "lifecycle": {"preStop": {"httpGet": {"port": 80}}}}]}),
            "",
        ),
        (
            json!({"volumes": [{"name": "d", "downwardAPI": {"defaultMode": 420}}, {"name": "p", "projected": {"defaultMode": 420}}, {"name": "i", "image": {"reference": "a:1", "pullPolicy": "IfNotPresent"}}]}),
            json!({"volumes": [{"name": "d", "downwardAPI": {}}, {"name": "p", "projected": {}}, {"name": "i", "image": {"reference": "a:1"}}]}),
            "",
        ),
        (json!({"hostUsers": true}), json!({}), "…+ hostUsers: true\n"),
        // absent or written out is the same
        (
            json!({"restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst", "securityContext": {}, "enableServiceLinks": true}),
            json!({}),
            "",
        ),
        (
            json!({"containers": [{"name": "c", "image": "i", "imagePullPolicy": "Always", "resources": {}, "terminationMessagePolicy": "File"}]}),
            json!({}),
            "",
        ),
        (
            json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
            json!({"volumes": [{"name": "v"}]}),
            "",
        ),
        // images
        (json!({"containers": image("new")}), json!({"containers": image("old")}), ""),
        (
            json!({"initContainers": [{"name": "i", "image": "new:1"}]}),
            json!({"initContainers": [{"name": "i", "image": "old:1"}]}),
            "",
        ),
        (
            json!({"containers": image("")}),
            json!({"containers": image("old")}),
            "spec.containers[0].image: Required value",
        ),
        (
            json!({"containers": image(" new")}),
            json!({"containers": image("old")}),
            "spec.containers[0].image: Invalid value: \" new\": must not have leading or trailing whitespace",
        ),
        (
            json!({"containers": [container("c", json!({})), container("d", json!({}))]}),
            json!({}),
            "spec.containers: Forbidden: pod updates may not add or remove containers",
        ),
        (
            json!({}),
            json!({"initContainers": [container("i", json!({}))]}),
            "spec.initContainers: Forbidden: pod updates may not add or remove containers",
        ),
        (
            json!({"containers": [container("d", json!({}))]}),
            json!({}),
            "…- containers[0].name: \"c\"\n+ containers[0].name: \"d\"\n",
        ),
        (
            json!({"containers": [container("c", json!({"limits": {"cpu": "2"}}))]}),
            json!({"containers": [container("c", json!({"limits": {"cpu": "1"}}))]}),
            "…- containers[0].resources.limits.cpu: \"1\"\n+ containers[0].resources.limits.cpu: \"2\"\n- containers[0].resources.requests.cpu: \"1\"\n+ containers[0].resources.requests.cpu: \"2\"\n",
        ),
        // a policy of its own is dropped, unless the pod has one
        (
            json!({"containers": [{"name": "c", "image": "i", "restartPolicy": "Never"}]}),
            json!({}),
            "",
        ),
        (
            json!({"containers": [{"name": "c", "image": "i", "restartPolicy": "Never"}]}),
            json!({"containers": [{"name": "c", "image": "i", "restartPolicy": "Always"}]}),
            "…- containers[0].restartPolicy: \"Always\"\n+ containers[0].restartPolicy: \"Never\"\n",
        ),
        // the deadline
        (json!({"activeDeadlineSeconds": 5}), json!({}), ""),
        (json!({"activeDeadlineSeconds": 5}), json!({"activeDeadlineSeconds": 6}), ""),
        (
            json!({"activeDeadlineSeconds": 7}),
            json!({"activeDeadlineSeconds": 6}),
            "spec.activeDeadlineSeconds: Invalid value: 7: must be less than or equal to previous value",
        ),
        (
            json!({}),
            json!({"activeDeadlineSeconds": 6}),
            "spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value",
        ),
        (
            json!({"activeDeadlineSeconds": -1}),
            json!({}),
            "[spec.activeDeadlineSeconds: Invalid value: -1: must be between 1 and 2147483647, inclusive, spec.activeDeadlineSeconds: Invalid value: -1: must be between 0 and 2147483647, inclusive]",
        ),
        // grace
        (
            json!({"terminationGracePeriodSeconds": 1}),
            json!({"terminationGracePeriodSeconds": -5}),
            "",
        ),
        (
            json!({"terminationGracePeriodSeconds": 1}),
            json!({"terminationGracePeriodSeconds": 5}),
            "…- terminationGracePeriodSeconds: 5\n+ terminationGracePeriodSeconds: 1\n",
        ),
        (
            json!({"terminationGracePeriodSeconds": 2}),
            json!({"terminationGracePeriodSeconds": -5}),
            "…- terminationGracePeriodSeconds: -5\n+ terminationGracePeriodSeconds: 2\n",
        ),
        // tolerations are added only
        (json!({"tolerations": [toleration(None)]}), json!({}), ""),
        (
            json!({"tolerations": [{"key": "b", "operator": "Exists"}, toleration(None)]}),
            json!({"tolerations": [toleration(None)]}),
            "",
        ),
        (
            json!({"tolerations": [toleration(Some(9))]}),
            json!({"tolerations": [toleration(Some(5))]}),
            "",
        ),
        (
            json!({}),
            json!({"tolerations": [toleration(None)]}),
            "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
        ),
        (
            json!({"tolerations": [{"key": "b", "operator": "Exists"}]}),
            json!({"tolerations": [{"key": "a", "operator": "Exists"}]}),
            "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
        ),
        (
            json!({"tolerations": [{"key": "a", "operator": "X"}]}),
            json!({}),
            "spec.tolerations[0].operator: Unsupported value: \"X\": supported values: \"Equal\", \"Exists\"",
        ),
        // gates are removed only
        (json!({}), gated(json!({})), ""),
        (
            gated(json!({})),
            json!({}),
            "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'example.com/g'",
        ),
        // the node selector, while gated
        (json!({"nodeSelector": {"a": "b"}}), json!({}), "…+ nodeSelector: {\"a\":\"b\"}\n"),
        (
            gated(json!({"nodeSelector": {"a": "b", "c": "d"}})),
            gated(json!({"nodeSelector": {"a": "b"}})),
            "",
        ),
        // …even in the update that removes the last gate
        (json!({"nodeSelector": {"a": "b"}}), gated(json!({})), ""),
        (
            gated(json!({"nodeSelector": {"a": "z", "c": "d"}})),
            gated(json!({"nodeSelector": {"a": "b"}})),
            "spec.nodeSelector: Invalid value: {\"a\":\"z\",\"c\":\"d\"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)",
        ),
        (
            gated(json!({})),
            gated(json!({"nodeSelector": {"a": "b"}})),
            "spec.nodeSelector: Invalid value: null: only additions to spec.nodeSelector are allowed (no mutations or deletions)",
        ),
    ];
    for (new, old, expected) in rows {
        assert_eq!(told(new.clone(), old.clone()), expected, "{new} over {old}");
    }
}

#[test]
fn node_affinity_of_a_gated_pod_may_be_narrowed() {
    let nodes = |terms: Value| json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}});
    let term =
        |keys: &[&str]| json!({"matchExpressions": keys.iter().map(|k| json!({"key": k, "operator": "Exists"})).collect::<Vec<_>>()});
    let spec = |affinity: Value| json!({"schedulingGates": [{"name": "example.com/g"}], "affinity": affinity});
    let path = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    let shown = |key: &str| {
        format!("{{\"MatchExpressions\":[{{\"Key\":\"{key}\",\"Operator\":\"Exists\",\"Values\":null}}],\"MatchFields\":null}}")
    };
    let near = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]}});
    let rows = [
        (nodes(json!([term(&["a"])])), Value::Null, String::new()),
        (nodes(json!([term(&["a", "b"])])), nodes(json!([term(&["a"])])), String::new()),
        (
            nodes(json!([term(&["b"])])),
            nodes(json!([term(&["a"])])),
            format!(
                "{path}[0]: Invalid value: {}: only additions are allowed (no mutations or deletions)",
                shown("b")
            ),
        ),
        (
            nodes(json!([term(&["a"]), term(&["b"])])),
            nodes(json!([term(&["a"])])),
            format!(
                "{path}: Invalid value: [{},{}]: no additions/deletions to non-empty NodeSelectorTerms list are allowed",
                shown("a"),
                shown("b")
            ),
        ),
        (
            Value::Null,
            nodes(json!([term(&["a"])])),
            format!("{path}: Invalid value: null: no additions/deletions to non-empty NodeSelectorTerms list are allowed"),
        ),
        (
            nodes(json!([term(&["a"])])),
            nodes(json!([{}])),
            format!(
                "{path}[0]: Invalid value: {}: only additions are allowed (no mutations or deletions)",
                shown("a")
            ),
        ),
        // affinity to pods never changes
        (near.clone(), Value::Null, format!("…+ affinity: {near}\n")),
    ];
    for (new, old, expected) in rows {
        assert_eq!(told(spec(new.clone()), spec(old.clone())), expected, "{new} over {old}");
    }
}

#[test]
fn metadata_that_names_the_pod_never_changes() {
    let rows = [
        (json!({"name": "q"}), "metadata.name: Invalid value: \"q\": field is immutable"),
        (
            json!({"name": "p", "namespace": "n"}),
            "metadata.namespace: Invalid value: \"n\": field is immutable",
        ),
        (
            json!({"name": "p", "uid": "2"}),
            "metadata.uid: Invalid value: \"2\": field is immutable",
        ),
        (
            json!({"name": "p", "namespace": "default", "labels": {"a": "b"}, "annotations": {"a": "b"}}),
            "",
        ),
    ];
    for (metadata, expected) in rows {
        let mut old = pod(json!({}));
        old.metadata.uid = Some("1".to_string());
        let mut new = old.clone();
        new.metadata = crate::testing::object(metadata.clone());
        let answer = validate_update(&new, &old).map_or_else(|e| e.to_string(), |()| String::new());
        assert!(
            answer.ends_with(expected) && answer.is_empty() == expected.is_empty(),
            "{metadata}: {answer}"
        );
    }
}
