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
        // as the API server stores it, in thousandths
        (
            json!({"min": {"cpu": "10100u"}}),
            json!({}),
            "cpu=11m",
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
        assert_eq!(show(requests(&pod.spec.containers[0])), expected_requests, "{item}");
        assert_eq!(show(limits(&pod.spec.containers[0])), expected_limits, "{item}");
        let noted = pod.metadata.annotations.get("kubernetes.io/limit-ranger").map(String::as_str);
        assert_eq!(
            noted.unwrap_or_default().trim_start_matches("LimitRanger plugin set: "),
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
        ("Container", json!({"min": {"cpu": "1"}}), asks("1", "2"), ""),
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
        ("Container", json!({"max": {"cpu": "1"}}), asks("500m", "1"), ""),
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
        ("Container", json!({"maxLimitRequestRatio": {"cpu": "2"}}), asks("1", "2"), ""),
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
        ("PersistentVolumeClaim", json!({"max": {"storage": "1"}}), json!({}), ""),
    ];
    for (kind, item, own, expected) in rows {
        let mut item = item;
        item["type"] = json!(kind);
        // Overhead plays no part, in either type.
        let pod = pod(json!({"containers": [container("c", own)], "overhead": {"cpu": "100"}}));
        let answer = check(&pod, &[range(json!([item]))]).map_or_else(|e| e.to_string(), |()| String::new());
        assert_eq!(answer.trim_start_matches("pods \"p\" is forbidden: "), expected, "{item}");
    }
}

#[test]
fn pods_are_bounded_in_their_sum_and_init_containers_too() {
    let half = || container("c", json!({"requests": {"cpu": "600m"}, "limits": {"cpu": "600m"}}));
    let max = |kind: &str| range(json!([{"type": kind, "max": {"cpu": "1"}}]));
    let two = pod(json!({"containers": [half(), half()]}));
    assert_eq!(check(&two, &[max("Container")]), Ok(()));
    let denied = check(&two, &[max("Pod")]).unwrap_err();
    assert_eq!(
        denied.to_string(),
        "pods \"p\" is forbidden: maximum cpu usage per Pod is 1, but limit is 1200m"
    );
    let init =
        pod(json!({"containers": [half()], "initContainers": [container("i", json!({"requests": {"cpu": "2"}, "limits": {"cpu": "2"}}))]}));
    let denied = check(&init, &[max("Container")]).unwrap_err();
    assert_eq!(
        denied.to_string(),
        "pods \"p\" is forbidden: maximum cpu usage per Container is 1, but limit is 2"
    );
}

#[test]
fn denials_name_their_field() {
    let asks = |request: &str, limit: &str| json!({"requests": {"cpu": request}, "limits": {"cpu": limit}});
    let container_rows = [
        (json!({"min": {"cpu": "1"}}), json!({}), "spec.containers[0].resources"),
        (
            json!({"min": {"cpu": "1"}}),
            asks("500m", "2"),
            "spec.containers[0].resources.requests[cpu]",
        ),
        (
            json!({"min": {"cpu": "1"}}),
            asks("1", "500m"),
            "spec.containers[0].resources.limits[cpu]",
        ),
        (json!({"max": {"cpu": "1"}}), json!({}), "spec.containers[0].resources"),
        (
            json!({"max": {"cpu": "1"}}),
            asks("1", "2"),
            "spec.containers[0].resources.limits[cpu]",
        ),
        (
            json!({"max": {"cpu": "1"}}),
            asks("2", "1"),
            "spec.containers[0].resources.requests[cpu]",
        ),
        (
            json!({"maxLimitRequestRatio": {"cpu": "2"}}),
            asks("1", "3"),
            "spec.containers[0].resources.limits[cpu]",
        ),
        (
            json!({"maxLimitRequestRatio": {"cpu": "2"}}),
            json!({}),
            "spec.containers[0].resources",
        ),
    ];
    for (item, own, field) in container_rows {
        let mut item = item;
        item["type"] = json!("Container");
        let denied = check(&pod(json!({"containers": [container("c", own)]})), &[range(json!([item]))]).unwrap_err();
        assert_eq!(denied.causes()[0].field, field, "{item}");
    }
    let least = |kind: &str| range(json!([{"type": kind, "min": {"cpu": "1"}}]));
    let rows = [
        (
            json!({"initContainers": [container("i", json!({}))], "containers": [container("c", asks("1", "1"))]}),
            "Container",
            "spec.initContainers[0].resources",
        ),
        (json!({}), "Pod", "spec.containers"),
        (json!({"resources": {"requests": {"cpu": "500m"}}}), "Pod", "spec.resources"),
    ];
    for (spec, kind, field) in rows {
        let causes = check(&pod(spec.clone()), &[least(kind)]).unwrap_err().causes();
        let fields: Vec<&str> = causes.iter().map(|c| c.field.as_str()).collect();
        assert_eq!(fields, [field], "{spec}");
    }
    // Each of several stands for itself.
    let two = pod(json!({"containers": [container("a", json!({})), container("b", asks("500m", "2"))]}));
    let causes = check(&two, &[least("Container")]).unwrap_err().causes();
    let told: Vec<(&str, &str)> = causes.iter().map(|c| (c.field.as_str(), c.text.as_str())).collect();
    assert_eq!(
        told,
        [
            (
                "spec.containers[0].resources",
                "minimum cpu usage per Container is 1.  No request is specified"
            ),
            (
                "spec.containers[1].resources.requests[cpu]",
                "minimum cpu usage per Container is 1, but request is 500m"
            ),
        ]
    );
}

/// One row a rule of `ValidateLimitRange`.
#[test]
fn what_a_range_may_say() {
    const NAME_PART: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    let gpu = "example.com/gpu";
    let rows: Vec<(Value, String)> = vec![
        (json!([]), String::new()),
        (json!([{"type": "Container"}, {"type": "Pod"}, {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}]), String::new()),
        (
            json!([{"type": "Container", "min": {"cpu": "100m"}, "max": {"cpu": "1"}, "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "200m"}, "maxLimitRequestRatio": {"cpu": "10"}}]),
            String::new(),
        ),
        // types
        (json!([{"type": "Node"}]), "spec.limits[0].type: Invalid value: \"Node\": must be a standard limit type or fully qualified".into()),
        (json!([{"type": "example.com/Node", "max": {"memory": "1"}}]), String::new()),
        (json!([{"type": "a b"}]), format!("spec.limits[0].type: Invalid value: \"a b\": {NAME_PART}")),
        (json!([{"type": ""}]), format!("[spec.limits[0].type: Invalid value: \"\": name part must be non-empty, spec.limits[0].type: Invalid value: \"\": {NAME_PART}]")),
        (json!([{"type": "Pod"}, {"type": "Pod"}]), "spec.limits[1].type: Duplicate value: \"Pod\"".into()),
        // names, in every list
        (json!([{"type": "Pod", "max": {"storage": "1"}}]), "spec.limits[0].max[storage]: Invalid value: \"storage\": must be a standard resource for containers".into()),
        (json!([{"type": "Pod", "min": {"storage": "1"}}]), "spec.limits[0].min[storage]: Invalid value: \"storage\": must be a standard resource for containers".into()),
        (
            json!([{"type": "Container", "default": {"a b": "1"}, "defaultRequest": {"a b": "1"}}]),
            format!(
                "[spec.limits[0].default[a b]: Invalid value: \"a b\": {NAME_PART}, spec.limits[0].default[a b]: Invalid value: \"a b\": must be a standard resource for containers, spec.limits[0].defaultRequest[a b]: Invalid value: \"a b\": {NAME_PART}, spec.limits[0].defaultRequest[a b]: Invalid value: \"a b\": must be a standard resource for containers]"
            ),
        ),
        (
            json!([{"type": "Pod", "maxLimitRequestRatio": {"foo": "2"}}]),
            "[spec.limits[0].maxLimitRequestRatio[foo]: Invalid value: \"foo\": must be a standard resource type or fully qualified, spec.limits[0].maxLimitRequestRatio[foo]: Invalid value: \"foo\": must be a standard resource for containers]".into(),
        ),
        (
            json!([{"type": "example.com/x", "max": {"foo": "2"}}]),
            "spec.limits[0].max[foo]: Invalid value: \"foo\": must be a standard resource type or fully qualified".into(),
        ),
        // pods have no defaults
        (json!([{"type": "Pod", "default": {"cpu": "1"}}]), "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'".into()),
        (json!([{"type": "Pod", "defaultRequest": {"cpu": "1"}}]), "spec.limits[0].defaultRequest: Forbidden: may not be specified when `type` is 'Pod'".into()),
        // volume claims need storage
        (
            json!([{"type": "PersistentVolumeClaim"}]),
            "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided".into(),
        ),
        // amounts
        (json!([{"type": "Pod", "min": {"cpu": "2"}, "max": {"cpu": "1"}}]), "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1".into()),
        (
            json!([{"type": "Container", "min": {"cpu": "2"}, "default": {"cpu": "3"}, "defaultRequest": {"cpu": "1"}}]),
            "spec.limits[0].defaultRequest[cpu]: Invalid value: \"1\": min value 2 is greater than default request value 1".into(),
        ),
        (
            json!([{"type": "Container", "max": {"cpu": "2"}, "default": {"cpu": "3"}, "defaultRequest": {"cpu": "3"}}]),
            "[spec.limits[0].defaultRequest[cpu]: Invalid value: \"3\": default request value 3 is greater than max value 2, spec.limits[0].default[cpu]: Invalid value: \"2\": default value 3 is greater than max value 2]".into(),
        ),
        (
            json!([{"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "1500m"}}]),
            "spec.limits[0].defaultRequest[cpu]: Invalid value: \"1500m\": default request value 1500m is greater than default limit value 1".into(),
        ),
        (
            json!([{"type": "Container", "min": {"cpu": "2"}, "default": {"cpu": "1"}, "defaultRequest": {"cpu": "2"}}]),
            "[spec.limits[0].defaultRequest[cpu]: Invalid value: \"2\": default request value 2 is greater than default limit value 1, spec.limits[0].default[cpu]: Invalid value: \"2\": min value 2 is greater than default value 1]".into(),
        ),
        // what defaulting fills in is checked too: the default request is the default limit
        (
            json!([{"type": "Container", "min": {"cpu": "2"}, "default": {"cpu": "1"}}]),
            "[spec.limits[0].defaultRequest[cpu]: Invalid value: \"1\": min value 2 is greater than default request value 1, spec.limits[0].default[cpu]: Invalid value: \"2\": min value 2 is greater than default value 1]".into(),
        ),
        // ratios
        (json!([{"type": "Pod", "maxLimitRequestRatio": {"cpu": "900m"}}]), "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"900m\": ratio 900m is less than 1".into()),
        (
            json!([{"type": "Pod", "min": {"cpu": "300m"}, "max": {"cpu": "500m"}, "maxLimitRequestRatio": {"cpu": "2"}}]),
            "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"2\": ratio 2 is greater than max/min = 1.666667".into(),
        ),
        (json!([{"type": "Pod", "min": {"cpu": "250m"}, "max": {"cpu": "500m"}, "maxLimitRequestRatio": {"cpu": "2"}}]), String::new()),
        (json!([{"type": "Pod", "min": {"cpu": "0"}, "max": {"cpu": "500m"}, "maxLimitRequestRatio": {"cpu": "2"}}]), String::new()),
        (
            json!([{"type": "Pod", "min": {"memory": "8E"}, "max": {"memory": "8E"}, "maxLimitRequestRatio": {"memory": "2"}}]),
            "spec.limits[0].maxLimitRequestRatio[memory]: Invalid value: \"2\": ratio 2 is greater than max/min = 1.000000".into(),
        ),
        // what cannot be overcommitted has one amount
        (
            json!([{"type": "Container", "default": {gpu: "2"}, "defaultRequest": {gpu: "1"}}]),
            "spec.limits[0].defaultRequest[example.com/gpu]: Invalid value: \"1\": default value 2 must equal to defaultRequest value 1 in example.com/gpu".into(),
        ),
        (json!([{"type": "Container", "default": {gpu: "2"}}]), String::new()),
    ];
    for (items, expected) in rows {
        let answer = validate(&range(items.clone())).map_or_else(|e| e.to_string(), |()| String::new());
        assert_eq!(answer.trim_start_matches("LimitRange \"r\" is invalid: "), expected, "{items}");
        // A range that cannot be understood lets no pod in.
        if !expected.is_empty() {
            assert!(matches!(check(&pod(json!({})), &[range(items)]), Err(Denied::Invalid { .. })));
        }
    }
    let nameless: LimitRange = object(json!({"spec": {"limits": []}}));
    assert_eq!(
        validate(&nameless).unwrap_err().to_string(),
        "LimitRange \"\" is invalid: metadata.name: Required value: name or generateName is required"
    );
}
