#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::testing::{container, object, pod, show};
use serde_json::{Value, json};

fn range(items: Value) -> LimitRange {
    object(json!({"metadata": {"name": "r"}, "spec": {"limits": items}}))
}

#[test]
fn defaults_come_from_default_max_and_min() {
    let rows = [
        // given in the range, in the container, requests, limits, note
        (
            json!({"default": {"cpu": "1"}, "defaultRequest": {"cpu": "100m"}}),
            json!({}),
            "cpu=100m",
            "cpu=1",
            "cpu request for container c; cpu limit for container c",
        ),
        (
            json!({"default": {"cpu": "1"}}),
            json!({}),
            "cpu=1",
            "cpu=1",
            "cpu request for container c; cpu limit for container c",
        ),
        (
            json!({"max": {"cpu": "2"}}),
            json!({}),
            "cpu=2",
            "cpu=2",
            "cpu request for container c; cpu limit for container c",
        ),
        (
            json!({"max": {"cpu": "2"}, "default": {"cpu": "1"}}),
            json!({}),
            "cpu=1",
            "cpu=1",
            "cpu request for container c; cpu limit for container c",
        ),
        (
            json!({"min": {"cpu": "10m"}}),
            json!({}),
            "cpu=10m",
            "",
            "cpu request for container c",
        ),
        (
            json!({"default": {"cpu": "1", "memory": "1Gi"}}),
            json!({"requests": {"cpu": "5m"}, "limits": {"cpu": "5m"}}),
            "cpu=5m,memory=1Gi",
            "cpu=5m,memory=1Gi",
            "memory request for container c; memory limit for container c",
        ),
        (
            json!({"default": {"cpu": "1"}}),
            json!({"requests": {"cpu": "5m"}, "limits": {"cpu": "5m"}}),
            "cpu=5m",
            "cpu=5m",
            "",
        ),
    ];
    for (item, own, expected_requests, expected_limits, note) in rows {
        let mut item = item;
        item["type"] = json!("Container");
        let mut pod = pod(json!({"containers": [container("c", own)]}));
        apply_defaults(&mut pod, &[range(json!([item]))]);
        assert_eq!(
            show(requests(&pod.spec.containers[0])),
            expected_requests,
            "{item}"
        );
        assert_eq!(
            show(limits(&pod.spec.containers[0])),
            expected_limits,
            "{item}"
        );
        let noted = pod
            .metadata
            .annotations
            .get("kubernetes.io/limit-ranger")
            .map(String::as_str);
        assert_eq!(
            noted
                .unwrap_or_default()
                .trim_start_matches("LimitRanger plugin set: "),
            note,
            "{item}"
        );
    }
}

#[test]
fn init_containers_get_defaults_and_other_namespaces_do_not() {
    let item = json!([{"type": "Container", "default": {"cpu": "1"}}]);
    let mut with_init = pod(json!({"initContainers": [container("i", json!({}))]}));
    apply_defaults(&mut with_init, &[range(item.clone())]);
    assert_eq!(show(limits(&with_init.spec.init_containers[0])), "cpu=1");
    assert!(
        with_init.metadata.annotations["kubernetes.io/limit-ranger"]
            .ends_with("cpu request for init container i; cpu limit for init container i")
    );

    let mut elsewhere = range(item);
    elsewhere.metadata.namespace = Some("other".to_string());
    let mut untouched = pod(json!({}));
    apply_defaults(&mut untouched, &[elsewhere]);
    assert_eq!(untouched, pod(json!({})));
}

#[test]
fn bounds() {
    let asks = |request: &str, limit: &str| json!({"requests": {"cpu": request}, "limits": {"cpu": limit}});
    let only = |what: &str, amount: &str| json!({what: {"cpu": amount}});
    let rows = [
        (
            "Container",
            json!({"min": {"cpu": "1"}}),
            asks("1", "2"),
            "",
        ),
        (
            "Container",
            json!({"min": {"cpu": "1"}}),
            json!({}),
            "minimum cpu usage per Container is 1.  No request is specified",
        ),
        (
            "Container",
            json!({"min": {"cpu": "1"}}),
            asks("999m", "2"),
            "minimum cpu usage per Container is 1, but request is 999m",
        ),
        (
            "Container",
            json!({"min": {"cpu": "1"}}),
            asks("1", "500m"),
            "minimum cpu usage per Container is 1, but limit is 500m",
        ),
        (
            "Container",
            json!({"max": {"cpu": "1"}}),
            asks("500m", "1"),
            "",
        ),
        (
            "Container",
            json!({"max": {"cpu": "1"}}),
            only("requests", "1"),
            "maximum cpu usage per Container is 1.  No limit is specified",
        ),
        (
            "Container",
            json!({"max": {"cpu": "1"}}),
            asks("500m", "1001m"),
            "maximum cpu usage per Container is 1, but limit is 1001m",
        ),
        (
            "Container",
            json!({"max": {"cpu": "1"}}),
            asks("2", "1"),
            "maximum cpu usage per Container is 1, but request is 2",
        ),
        (
            "Container",
            json!({"max": {"cpu": "1E"}}),
            asks("1", "2E"),
            "maximum cpu usage per Container is 1E, but limit is 2E",
        ),
        (
            "Container",
            json!({"maxLimitRequestRatio": {"cpu": "2"}}),
            asks("1", "2"),
            "",
        ),
        (
            "Container",
            json!({"maxLimitRequestRatio": {"cpu": "2"}}),
            asks("1", "3"),
            "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
        ),
        (
            "Container",
            json!({"maxLimitRequestRatio": {"cpu": "1500m"}}),
            asks("300m", "500m"),
            "cpu max limit to request ratio per Container is 1500m, but provided ratio is 1.666667",
        ),
        (
            "Container",
            json!({"maxLimitRequestRatio": {"cpu": "2"}}),
            only("limits", "1"),
            "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
        ),
        (
            "Container",
            json!({"maxLimitRequestRatio": {"cpu": "2"}}),
            only("requests", "1"),
            "cpu max limit to request ratio per Container is 2, but no limit is specified or limit is 0",
        ),
        (
            "Container",
            json!({"min": {"cpu": "1"}, "max": {"cpu": "1"}}),
            json!({}),
            "[minimum cpu usage per Container is 1.  No request is specified, maximum cpu usage per Container is 1.  No limit is specified]",
        ),
        ("Pod", json!({"max": {"cpu": "1"}}), asks("500m", "1"), ""),
        (
            "Pod",
            json!({"max": {"cpu": "1"}}),
            asks("500m", "2"),
            "maximum cpu usage per Pod is 1, but limit is 2",
        ),
        (
            "Pod",
            json!({"min": {"cpu": "1"}}),
            asks("500m", "2"),
            "minimum cpu usage per Pod is 1, but request is 500m",
        ),
        (
            "PersistentVolumeClaim",
            json!({"max": {"storage": "1"}}),
            json!({}),
            "",
        ),
    ];
    for (kind, item, own, expected) in rows {
        let mut item = item;
        item["type"] = json!(kind);
        // Overhead plays no part, in either type.
        let pod = pod(json!({"containers": [container("c", own)], "overhead": {"cpu": "100"}}));
        let answer =
            check(&pod, &[range(json!([item]))]).map_or_else(|e| e.to_string(), |()| String::new());
        assert_eq!(
            answer.trim_start_matches("pods \"p\" is forbidden: "),
            expected,
            "{item}"
        );
    }
}

#[test]
fn pods_are_bounded_in_their_sum_and_init_containers_too() {
    let half = || {
        container(
            "c",
            json!({"requests": {"cpu": "600m"}, "limits": {"cpu": "600m"}}),
        )
    };
    let max = |kind: &str| range(json!([{"type": kind, "max": {"cpu": "1"}}]));
    let two = pod(json!({"containers": [half(), half()]}));
    assert_eq!(check(&two, &[max("Container")]), Ok(()));
    let denied = check(&two, &[max("Pod")]).unwrap_err();
    assert_eq!(
        denied.to_string(),
        "pods \"p\" is forbidden: maximum cpu usage per Pod is 1, but limit is 1200m"
    );
    let init = pod(
        json!({"containers": [half()], "initContainers": [container("i", json!({"requests": {"cpu": "2"}, "limits": {"cpu": "2"}}))]}),
    );
    let denied = check(&init, &[max("Container")]).unwrap_err();
    assert_eq!(
        denied.to_string(),
        "pods \"p\" is forbidden: maximum cpu usage per Container is 1, but limit is 2"
    );
}

#[test]
fn an_unknown_type_is_refused_by_name() {
    let denied = validate(&range(json!([{"type": "Pod"}, {"type": "Node"}]))).unwrap_err();
    assert_eq!(
        denied.to_string(),
        "LimitRange \"r\" is invalid: spec.limits[1].type: Unsupported value: \"Node\": supported values: \"Container\", \"Pod\", \"PersistentVolumeClaim\""
    );
    assert!(check(&pod(json!({})), &[range(json!([{"type": "Node"}]))]).is_err());
}
