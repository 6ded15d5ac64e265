#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::admission::Selection;
use crate::resources::{limits, pod_cgroup, pod_limits, requests};
use crate::testing::{container, object, pod, show};
use cofferdam_model::pod::RestartPolicy;
use serde_json::json;

fn classes() -> Vec<RuntimeClass> {
    object(json!([{"metadata": {"name": "gvisor"}, "handler": "runsc", "overhead": {"podFixed": {"cpu": "200m", "memory": "140Mi"}}}]))
}

fn ranges() -> Vec<LimitRange> {
    object(
        json!([{"metadata": {"name": "r"}, "spec": {"limits": [{"type": "Container", "default": {"cpu": "100m", "memory": "100Mi"}, "max": {"cpu": "1"}}]}}]),
    )
}

fn quotas() -> Vec<ResourceQuota> {
    object(json!([{"metadata": {"name": "q"}, "spec": {"hard": {"limits.cpu": "500m", "pods": "5"}}}]))
}

fn admit(spec: serde_json::Value, used: &Used) -> Result<Admitted, Denied> {
    let (classes, limit_ranges, quotas) = (classes(), ranges(), quotas());
    let world = World {
        classes: &classes,
        limit_ranges: &limit_ranges,
        quotas: &quotas,
        ..World::default()
    };
    admit_pod(pod(spec), &world, used)
}

#[test]
fn defaults_of_a_range_let_overhead_reach_limits_and_quota() {
    let admitted = admit(json!({"runtimeClassName": "gvisor"}), &Used::default()).unwrap();
    assert_eq!(
        admitted.selection,
        Selection::Class {
            name: "gvisor".into(),
            handler: object(json!("runsc"))
        }
    );
    assert_eq!(show(&pod_limits(&admitted.pod)), "cpu=300m,memory=240Mi");
    let cgroup = pod_cgroup(&admitted.pod);
    assert_eq!((cgroup.cpu_quota, cgroup.memory_limit), (30_000, 251_658_240));

    let mut used = Used::default();
    used.charge(&quotas(), &admitted.pod);
    let denied = admit(json!({"runtimeClassName": "gvisor"}), &used).unwrap_err();
    assert_eq!(
        denied.to_string(),
        "pods \"p\" is forbidden: exceeded quota: q, requested: limits.cpu=300m, used: limits.cpu=300m, limited: limits.cpu=500m"
    );
    assert!(admit(json!({}), &used).is_ok(), "without overhead it fits");
}

#[test]
fn a_limit_of_the_pods_own_stands_for_its_request_before_a_range_fills_in() {
    let spec = json!({"containers": [container("c", json!({"limits": {"cpu": "400m"}}))]});
    let admitted = admit(spec, &Used::default()).unwrap();
    let filled = &admitted.pod.spec.containers[0];
    assert_eq!(show(requests(filled)), "cpu=400m,memory=100Mi");
    assert_eq!(show(limits(filled)), "cpu=400m,memory=100Mi");
}

#[test]
fn each_step_refuses_before_the_next() {
    let wrong = |cpu: &str| json!([container("C", json!({"limits": {"cpu": cpu}}))]);
    let rows = [
        (
            json!({"runtimeClassName": "x", "containers": wrong("9")}),
            "pod rejected: RuntimeClass \"x\" not found",
        ),
        (
            json!({"runtimeClassName": "gvisor", "containers": wrong("9")}),
            "spec.containers[0].name: Invalid value: \"C\": ",
        ),
        (
            json!({"containers": [container("c", json!({"limits": {"cpu": "9"}}))]}),
            "maximum cpu usage per Container is 1, but limit is 9",
        ),
        (
            json!({"overhead": {"cpu": "-1"}, "containers": [container("c", json!({"limits": {"cpu": "9"}}))]}),
            "spec.overhead.limits[cpu]: Invalid value: \"-1\"",
        ),
        (
            json!({"overhead": {"cpu": "1"}, "containers": [container("c", json!({"limits": {"cpu": "9"}}))]}),
            "maximum cpu usage per Container is 1, but limit is 9",
        ),
        (
            json!({"overhead": {"cpu": "1"}, "containers": [container("c", json!({"limits": {"cpu": "1"}}))]}),
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
        (
            json!({"containers": [container("c", json!({"limits": {"cpu": "1"}}))]}),
            "exceeded quota: q, requested: limits.cpu=1, used: limits.cpu=0, limited: limits.cpu=500m",
        ),
    ];
    for (spec, expected) in rows {
        let denied = admit(spec, &Used::default()).unwrap_err().to_string();
        assert!(denied.contains(expected), "{denied}");
    }
}

/// One that kept its policy would restart otherwise than on a cluster.
#[test]
fn restart_policies_of_single_containers_are_dropped_but_for_sidecars() {
    let one = |name: &str, policy: &str| json!({"name": name, "image": "i", "restartPolicy": policy});
    let spec = json!({
        "initContainers": [one("a", "Never"), one("b", "Always")],
        "containers": [one("c", "Always"), one("d", "Never")],
    });
    let spec = admit_pod(pod(spec), &World::default(), &Used::default()).unwrap().pod.spec;
    let all = spec.init_containers.iter().chain(&spec.containers);
    let policies: Vec<_> = all.map(|c| c.restart_policy).collect();
    assert_eq!(policies, [None, Some(RestartPolicy::Always), None, None]);
}

#[test]
fn amounts_are_rounded_up_to_thousandths() {
    let classes: Vec<RuntimeClass> =
        object(json!([{"metadata": {"name": "c"}, "handler": "h", "overhead": {"podFixed": {"cpu": "100u"}}}]));
    let world = World {
        classes: &classes,
        ..World::default()
    };
    let spec = json!({
        "runtimeClassName": "c",
        "resources": {"limits": {"cpu": "2000100u"}},
        "containers": [container("c", json!({"limits": {"cpu": "1000100u"}, "requests": {"memory": "100u"}}))],
    });
    let spec = admit_pod(pod(spec), &world, &Used::default()).unwrap().pod.spec;
    assert_eq!(show(&spec.overhead.unwrap()), "cpu=1m");
    assert_eq!(show(&spec.resources.unwrap().limits), "cpu=2001m");
    assert_eq!(show(limits(&spec.containers[0])), "cpu=1001m");
    assert_eq!(show(requests(&spec.containers[0])), "cpu=1001m,memory=1m");
}

#[test]
fn default_tolerations_stand_before_the_classs_and_yield_to_wider_ones() {
    let classes: Vec<RuntimeClass> = object(json!([
        {"metadata": {"name": "narrow"}, "handler": "a", "scheduling": {"tolerations": [{"key": "x", "operator": "Exists"}]}},
        {"metadata": {"name": "wide"}, "handler": "b", "scheduling": {"tolerations": [{"operator": "Exists"}]}},
    ]));
    let world = World {
        classes: &classes,
        ..World::default()
    };
    let keys = |class: serde_json::Value| -> Vec<String> {
        let admitted = admit_pod(pod(class), &world, &Used::default()).unwrap();
        admitted.pod.spec.tolerations.into_iter().map(|t| t.key).collect()
    };
    let unwell = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
    assert_eq!(keys(json!({})), unwell);
    assert_eq!(keys(json!({"runtimeClassName": "narrow"})), [unwell[0], unwell[1], "x"]);
    assert_eq!(keys(json!({"runtimeClassName": "wide"})), [""]);
}
