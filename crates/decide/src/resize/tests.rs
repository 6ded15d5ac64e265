#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::testing::{container, object, pod};
use serde_json::{Value, json};

const MIB: i64 = 1024 * 1024;

fn of(cpu: &str, memory: &str) -> Value {
    json!({"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"cpu": cpu, "memory": memory}})
}

fn one(resources: Value) -> Pod {
    pod(json!({"containers": [container("c", resources)]}))
}

fn planned(new: &Pod, old: &Pod) -> Resize {
    plan(&validate(new, old).unwrap(), old, 1 << 30)
}

/// Quota of the pod's cpu and its memory in MiB.
type Limits = Option<(i64, i64)>;

/// Before, after.
fn pod_steps(resize: &Resize) -> (Limits, Limits) {
    let shown = |limits: &Option<PodLimits>| limits.as_ref().map(|l| (l.resources.cpu_quota, l.resources.memory_limit / MIB));
    (shown(&resize.before), shown(&resize.after))
}

#[test]
fn a_pod_is_raised_before_its_containers_and_lowered_after_them() {
    let old = one(of("200m", "128Mi"));
    let rows = [
        (of("200m", "128Mi"), (None, None)),
        (of("400m", "256Mi"), (Some((40_000, 256)), None)),
        (of("100m", "64Mi"), (None, Some((10_000, 64)))),
        (of("400m", "64Mi"), (Some((40_000, 128)), Some((40_000, 64)))),
    ];
    for (resources, expected) in rows {
        let resize = planned(&one(resources.clone()), &old);
        assert_eq!(pod_steps(&resize), expected, "{resources}");
        assert_eq!(resize.is_empty(), expected == (None, None));
    }
    // A limit that comes is narrower than none.
    let old = one(json!({"requests": {"cpu": "100m", "memory": "32Mi"}}));
    assert_eq!(pod_steps(&planned(&one(of("200m", "64Mi")), &old)), (None, Some((20_000, 64))));
}

#[test]
fn what_containers_get() {
    let named = |a: Value, b: Value| pod(json!({"containers": [container("a", a), container("b", b)]}));
    let old = named(of("200m", "128Mi"), of("200m", "128Mi"));
    let resize = planned(&named(of("300m", "256Mi"), of("200m", "64Mi")), &old);
    let told: Vec<_> = resize
        .containers
        .iter()
        .map(|c| {
            (
                c.name.as_str(),
                c.resources.cpu_quota,
                c.resources.memory_limit / MIB,
                c.memory_shrinks,
                c.restart,
            )
        })
        .collect();
    assert_eq!(told, [("b", 20_000, 64, true, false), ("a", 30_000, 256, false, false)]);
    // One that does not change is left alone.
    let resize = planned(&named(of("300m", "128Mi"), of("200m", "128Mi")), &old);
    assert_eq!(resize.containers.len(), 1);
    // A request alone moves the shares.
    let mut more = of("200m", "128Mi");
    more["requests"]["cpu"] = json!("150m");
    let resize = planned(&named(more, of("200m", "128Mi")), &old);
    assert_eq!((resize.containers[0].resources.cpu_shares, resize.before.is_some()), (153, true));
}

#[test]
fn policies_ask_for_restarts() {
    let with = |cpu: &str, memory: &str| {
        let mut c = container("c", of(cpu, memory));
        c["resizePolicy"] = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}, {"resourceName": "cpu", "restartPolicy": "NotRequired"}]);
        pod(json!({"containers": [c]}))
    };
    let old = with("200m", "128Mi");
    for (cpu, memory, restart) in [("300m", "128Mi", false), ("200m", "256Mi", true), ("300m", "64Mi", true)] {
        assert_eq!(planned(&with(cpu, memory), &old).containers[0].restart, restart, "{cpu} {memory}");
    }
}

#[test]
fn memory_in_use_is_not_cut() {
    let resize = planned(&one(of("200m", "64Mi")), &one(of("200m", "128Mi")));
    let mib = |n: u64| Some(n * MIB as u64);
    assert_eq!(resize.check_usage(mib(63), |_| mib(63)), Ok(()));
    assert_eq!(resize.check_usage(None, |_| None), Ok(()));
    let pod = resize.check_usage(mib(64), |_| mib(1)).unwrap_err();
    assert_eq!(
        pod.to_string(),
        "attempting to set pod memory limit (67108864) below current usage (67108864)"
    );
    let container = resize.check_usage(mib(10), |_| mib(70)).unwrap_err();
    assert_eq!(
        container.to_string(),
        "attempting to set container \"c\" memory limit (67108864) below current usage (73400320)"
    );
    let grown = planned(&one(of("200m", "256Mi")), &one(of("200m", "128Mi")));
    assert_eq!(grown.check_usage(mib(900), |_| mib(900)), Ok(()));
}

#[test]
fn room_on_the_node() {
    let node: ResourceList = object(json!({"cpu": "1", "memory": "1Gi", "pods": "10"}));
    let used: ResourceList = object(json!({"cpu": "800m", "memory": "0", "pods": "1"}));
    let asks = |cpu: &str, memory: &str| one(json!({"requests": {"cpu": cpu, "memory": memory}}));
    let rows = [
        (asks("200m", "1Gi"), ""),
        (
            asks("2", "1Gi"),
            "Node didn't have enough capacity: cpu, requested: 2000, capacity: 1000",
        ),
        (
            asks("2", "2Gi"),
            "Node didn't have enough capacity: memory, requested: 2147483648, capacity: 1073741824",
        ),
        (
            asks("300m", "1Gi"),
            "Pod was rejected: Node didn't have enough resource: cpu, requested: 300, used: 800, capacity: 1000",
        ),
    ];
    for (pod, expected) in rows {
        let told = kubelet_admits(&pod, &node, &used).map_or_else(|e| e.to_string(), |()| String::new());
        assert_eq!(told, expected);
    }
}
