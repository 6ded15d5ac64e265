#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::testing::{container, object, pod, show};
use serde_json::{Value, json};

fn quota(spec: Value) -> ResourceQuota {
    object(json!({"metadata": {"name": "q"}, "spec": spec}))
}

fn whole(cpu: &str, memory: &str) -> Value {
    json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}})
}

/// The reason of the denial, or nothing.
fn reason(pod: &Pod, quota: &ResourceQuota, running: &[Pod]) -> String {
    let quotas = std::slice::from_ref(quota);
    let answer = check(pod, quotas, &Used::of(quotas, running))
        .map_or_else(|e| e.to_string(), |()| String::new());
    answer
        .trim_start_matches("pods \"p\" is forbidden: ")
        .to_string()
}

#[test]
fn usage_counts_requests_limits_and_overhead() {
    let rows = [
        (json!({}), "count/pods=1,pods=1"),
        (
            json!({"containers": [container("a", whole("1", "1Gi"))]}),
            "count/pods=1,cpu=1,limits.cpu=1,limits.memory=1Gi,memory=1Gi,pods=1,requests.cpu=1,requests.memory=1Gi",
        ),
        // overhead: in requests always, in limits where there are any
        (
            json!({"containers": [container("a", json!({"limits": {"cpu": "1"}}))], "overhead": {"cpu": "250m", "memory": "120Mi"}}),
            "count/pods=1,cpu=250m,limits.cpu=1250m,memory=120Mi,pods=1,requests.cpu=250m,requests.memory=120Mi",
        ),
        (
            json!({"containers": [container("a", json!({"requests": {"ephemeral-storage": "1Gi"}, "limits": {"ephemeral-storage": "2Gi"}}))]}),
            "count/pods=1,ephemeral-storage=1Gi,limits.ephemeral-storage=2Gi,pods=1,requests.ephemeral-storage=1Gi",
        ),
        (
            json!({"containers": [container("a", json!({"requests": {"hugepages-2Mi": "4Mi", "example.com/gpu": "1"}}))]}),
            "count/pods=1,hugepages-2Mi=4Mi,pods=1,requests.example.com/gpu=1,requests.hugepages-2Mi=4Mi",
        ),
    ];
    for (spec, expected) in rows {
        assert_eq!(show(&usage(&pod(spec.clone()))), expected, "{spec}");
    }
}

#[test]
fn what_is_used_and_asked_must_fit() {
    let asking = |cpu: &str| pod(json!({"containers": [container("c", whole(cpu, "1Gi"))]}));
    let one = asking("1");
    let sandboxed = pod(
        json!({"containers": [container("c", whole("1", "1Gi"))], "overhead": {"cpu": "250m"}}),
    );
    let rows = [
        (json!({"hard": {"cpu": "2"}}), &one, vec![one.clone()], ""),
        (
            json!({"hard": {"cpu": "2"}}),
            &one,
            vec![one.clone(), one.clone()],
            "exceeded quota: q, requested: cpu=1, used: cpu=2, limited: cpu=2",
        ),
        (json!({"hard": {"cpu": "1"}}), &one, vec![], ""),
        (
            json!({"hard": {"cpu": "900m"}}),
            &one,
            vec![],
            "exceeded quota: q, requested: cpu=1, used: cpu=0, limited: cpu=900m",
        ),
        (
            json!({"hard": {"requests.cpu": "500m", "limits.memory": "512Mi", "pods": "5"}}),
            &one,
            vec![],
            "exceeded quota: q, requested: limits.memory=1Gi,requests.cpu=1, used: limits.memory=0,requests.cpu=0, limited: limits.memory=512Mi,requests.cpu=500m",
        ),
        (
            json!({"hard": {"cpu": "1"}}),
            &sandboxed,
            vec![],
            "exceeded quota: q, requested: cpu=1250m, used: cpu=0, limited: cpu=1",
        ),
        (
            json!({"hard": {"cpu": "2"}}),
            &one,
            vec![sandboxed.clone()],
            "exceeded quota: q, requested: cpu=1, used: cpu=1250m, limited: cpu=2",
        ),
        (
            json!({"hard": {"pods": "1"}}),
            &one,
            vec![one.clone()],
            "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1",
        ),
        (
            json!({"hard": {"count/pods": "0"}}),
            &one,
            vec![],
            "exceeded quota: q, requested: count/pods=1, used: count/pods=0, limited: count/pods=0",
        ),
        // what is not of pods is not looked at
        (json!({"hard": {"configmaps": "0"}}), &one, vec![], ""),
    ];
    for (spec, pod, running, expected) in rows {
        assert_eq!(
            reason(pod, &quota(spec.clone()), &running),
            expected,
            "{spec}"
        );
    }
    let mut elsewhere = quota(json!({"hard": {"pods": "0"}}));
    elsewhere.metadata.namespace = Some("other".to_string());
    assert_eq!(reason(&one, &elsewhere, &[]), "");
    // What is asked in no amount fits even where more is used than there is.
    let idle = pod(json!({"containers": [container("c", whole("0", "1Gi"))]}));
    assert_eq!(
        reason(&idle, &quota(json!({"hard": {"cpu": "500m"}})), &[one]),
        ""
    );
}

#[test]
fn containers_must_say_what_a_quota_limits() {
    let open =
        |names: &[&str]| -> Vec<Value> { names.iter().map(|n| container(n, json!({}))).collect() };
    let rows = [
        (
            json!({"containers": open(&["b", "a"])}),
            "limits.cpu",
            "failed quota: q: must specify limits.cpu for: a,b",
        ),
        (
            json!({"containers": open(&["c"]), "initContainers": open(&["i"])}),
            "cpu",
            "failed quota: q: must specify cpu for: c,i",
        ),
        (
            json!({"containers": [container("c", json!({"requests": {"cpu": "1"}}))], "initContainers": open(&["i"])}),
            "requests.cpu",
            "failed quota: q: must specify requests.cpu for: i",
        ),
        // overhead does not stand for a container's own word
        (
            json!({"containers": open(&["c"]), "overhead": {"cpu": "1"}}),
            "cpu",
            "failed quota: q: must specify cpu for: c",
        ),
        // ephemeral storage need not be said
        (
            json!({"containers": open(&["c"])}),
            "requests.ephemeral-storage",
            "",
        ),
        (json!({"containers": open(&["c"])}), "pods", ""),
        // nor anything where the pod as a whole says it
        (
            json!({"containers": open(&["c"]), "resources": {"requests": {"cpu": "1"}}}),
            "cpu",
            "",
        ),
    ];
    for (spec, hard, expected) in rows {
        assert_eq!(
            reason(
                &pod(spec.clone()),
                &quota(json!({"hard": {hard: "10"}})),
                &[]
            ),
            expected,
            "{spec}"
        );
    }
    let both = quota(json!({"hard": {"limits.cpu": "10", "limits.memory": "10Gi"}}));
    let halves = pod(
        json!({"containers": [container("a", json!({"limits": {"cpu": "1"}})), container("b", json!({}))]}),
    );
    assert_eq!(
        reason(&halves, &both, &[]),
        "failed quota: q: must specify limits.cpu for: b; limits.memory for: a,b"
    );
}

#[test]
fn scopes_choose_pods() {
    let best_effort = pod(json!({}));
    let burstable = pod(json!({"containers": [container("c", json!({"requests": {"cpu": "1"}}))]}));
    let ending = pod(json!({"activeDeadlineSeconds": 5}));
    let rows = [
        ("BestEffort", &best_effort, true),
        ("BestEffort", &burstable, false),
        ("NotBestEffort", &best_effort, false),
        ("NotBestEffort", &burstable, true),
        ("Terminating", &ending, true),
        ("Terminating", &best_effort, false),
        ("NotTerminating", &ending, false),
        ("NotTerminating", &best_effort, true),
    ];
    for (scope, pod, counted) in rows {
        let quota = quota(json!({"hard": {"pods": "0"}, "scopes": [scope]}));
        let expected = if counted {
            "exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0"
        } else {
            ""
        };
        assert_eq!(reason(pod, &quota, &[]), expected, "{scope}");
    }
}

#[test]
fn wrong_scopes_are_refused() {
    let rows = [
        (
            json!({"hard": {"pods": "1"}, "scopes": ["Terminating", "NotBestEffort"]}),
            "",
        ),
        (
            json!({"hard": {"pods": "1"}, "scopes": ["X"]}),
            "spec.scopes: Invalid value: [\"X\"]: unsupported scope",
        ),
        (
            json!({"hard": {"pods": "1"}, "scopes": ["PriorityClass"]}),
            "spec.scopes: Unsupported value: \"PriorityClass\": supported values: \"BestEffort\", \"NotBestEffort\", \"NotTerminating\", \"Terminating\"",
        ),
        (
            json!({"hard": {"pods": "1"}, "scopes": ["BestEffort", "NotBestEffort"]}),
            "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes",
        ),
        (
            json!({"hard": {"pods": "1"}, "scopes": ["Terminating", "NotTerminating"]}),
            "spec.scopes: Invalid value: [\"Terminating\",\"NotTerminating\"]: conflicting scopes",
        ),
        (
            json!({"hard": {"cpu": "1"}, "scopes": ["BestEffort"]}),
            "spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource",
        ),
        (
            json!({"hard": {"secrets": "1"}, "scopes": ["Terminating"]}),
            "spec.scopes: Invalid value: [\"Terminating\"]: unsupported scope applied to resource",
        ),
    ];
    for (spec, expected) in rows {
        let quota = quota(spec);
        let answer = validate(&quota).map_or_else(|e| e.to_string(), |()| String::new());
        assert_eq!(
            answer.trim_start_matches("ResourceQuota \"q\" is invalid: "),
            expected
        );
        // A quota that cannot be understood lets no pod in.
        assert_eq!(
            check(&pod(json!({})), &[quota], &Used::default()).is_err(),
            !expected.is_empty()
        );
    }
}

#[test]
fn charging_adds_up() {
    let quotas = [quota(json!({"hard": {"cpu": "10", "pods": "3"}}))];
    let one = pod(json!({"containers": [container("c", whole("1", "1Gi"))]}));
    let mut used = Used::of(&quotas, &[one.clone(), one.clone()]);
    used.charge(&quotas, &one);
    assert_eq!(used.get(&quotas[0], "cpu").to_string(), "3");
    assert_eq!(used.get(&quotas[0], "pods").to_string(), "3");
    assert!(used.get(&quotas[0], "memory").is_zero());
    assert_eq!(used, Used::of(&quotas, &[one.clone(), one.clone(), one]));
}
