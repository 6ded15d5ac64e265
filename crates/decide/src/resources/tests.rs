#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::testing::{container, pod, show};
use cofferdam_model::cri::LinuxResources;
use serde_json::{Value, json};

fn sidecar(name: &str, resources: Value) -> Value {
    let mut sidecar = container(name, resources);
    sidecar["restartPolicy"] = json!("Always");
    sidecar
}

fn requests_of(cpu: &str) -> Value {
    json!({"requests": {"cpu": cpu}})
}

/// Request and limit alike.
fn held(cpu: &str, memory: &str) -> Value {
    json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}})
}

#[test]
fn requests_of_pods() {
    let two = json!([container("a", requests_of("100m")), container("b", requests_of("200m"))]);
    let rows = [
        (json!({"containers": two}), "cpu=300m"),
        // an init container alone, above the sum
        (
            json!({"containers": two, "initContainers": [container("i", requests_of("1"))]}),
            "cpu=1",
        ),
        (
            json!({"containers": two, "initContainers": [container("i", requests_of("250m"))]}),
            "cpu=300m",
        ),
        // a sidecar runs beside the containers
        (
            json!({"containers": two, "initContainers": [sidecar("s", requests_of("50m"))]}),
            "cpu=350m",
        ),
        // and beside the init containers after it
        (
            json!({"containers": two, "initContainers": [sidecar("s", requests_of("50m")), container("i", requests_of("1"))]}),
            "cpu=1050m",
        ),
        (
            json!({"containers": two, "initContainers": [container("i", requests_of("1")), sidecar("s", requests_of("50m"))]}),
            "cpu=1",
        ),
        (
            json!({"containers": two, "initContainers": [sidecar("s", requests_of("2")), sidecar("t", requests_of("3"))]}),
            "cpu=5300m",
        ),
        // pod-level requests stand for cpu, memory and huge pages
        (
            json!({"containers": two, "resources": {"requests": {"cpu": "2", "memory": "1Gi"}}}),
            "cpu=2,memory=1Gi",
        ),
        (
            json!({"containers": two, "resources": {"requests": {"hugepages-2Mi": "4Mi"}}}),
            "cpu=300m,hugepages-2Mi=4Mi",
        ),
        (
            json!({"containers": two, "resources": {"requests": {"example.com/x": "4"}}}),
            "cpu=300m",
        ),
        // overhead always
        (
            json!({"containers": two, "overhead": {"cpu": "10m", "memory": "1Mi"}}),
            "cpu=310m,memory=1Mi",
        ),
        (json!({"overhead": {"memory": "1Mi"}}), "memory=1Mi"),
        (
            json!({"resources": {"requests": {"cpu": "2"}}, "overhead": {"cpu": "500m"}}),
            "cpu=2500m",
        ),
    ];
    for (spec, expected) in rows {
        assert_eq!(show(&pod_requests(&pod(spec.clone()))), expected, "{spec}");
    }
    let with = pod(json!({"containers": two, "overhead": {"cpu": "10m"}}));
    assert_eq!(show(&requests_without_overhead(&with)), "cpu=300m");
}

#[test]
fn limits_of_pods() {
    let limit = |cpu: &str| json!({"limits": {"cpu": cpu}});
    let one = json!([container("a", limit("100m"))]);
    let rows = [
        (json!({"containers": one}), "cpu=100m"),
        (
            json!({"containers": one, "initContainers": [sidecar("s", limit("50m")), container("i", limit("1"))]}),
            "cpu=1050m",
        ),
        // overhead only where there is a limit that is not zero
        (json!({"containers": one, "overhead": {"cpu": "10m", "memory": "1Mi"}}), "cpu=110m"),
        (
            json!({"containers": [container("a", limit("0"))], "overhead": {"cpu": "10m"}}),
            "cpu=0",
        ),
        (
            json!({"containers": one, "resources": {"limits": {"cpu": "2", "memory": "1Gi"}}, "overhead": {"cpu": "10m"}}),
            "cpu=2010m,memory=1Gi",
        ),
    ];
    for (spec, expected) in rows {
        assert_eq!(show(&pod_limits(&pod(spec.clone()))), expected, "{spec}");
    }
    let with = pod(json!({"containers": one, "overhead": {"cpu": "10m"}}));
    assert_eq!(show(&limits_without_overhead(&with)), "cpu=100m");
}

#[test]
fn qos_classes() {
    let whole = held("100m", "100Mi");
    let rows = [
        (json!({}), Qos::BestEffort),
        (
            json!({"containers": [container("a", json!({"requests": {"cpu": "0"}}))]}),
            Qos::BestEffort,
        ),
        (
            json!({"containers": [container("a", json!({"requests": {"ephemeral-storage": "1Gi"}}))]}),
            Qos::BestEffort,
        ),
        (json!({"overhead": {"cpu": "1"}}), Qos::BestEffort),
        (json!({"containers": [container("a", whole.clone())]}), Qos::Guaranteed),
        (
            json!({"containers": [container("a", held("0.1", "102400Ki")), container("b", whole.clone())]}),
            Qos::Guaranteed,
        ),
        (
            json!({"containers": [container("a", whole.clone()), container("b", json!({}))]}),
            Qos::Burstable,
        ),
        (
            json!({"containers": [container("a", whole.clone())], "initContainers": [container("i", json!({}))]}),
            Qos::Burstable,
        ),
        (
            json!({"containers": [container("a", json!({"limits": {"cpu": "1", "memory": "1Gi"}}))]}),
            Qos::Burstable,
        ),
        (
            json!({"containers": [container("a", json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}))]}),
            Qos::Burstable,
        ),
        (json!({"containers": [container("a", requests_of("1"))]}), Qos::Burstable),
        // pod-level resources stand for the containers'
        (json!({"resources": held("1", "1Gi")}), Qos::Guaranteed),
        (json!({"resources": {"requests": {"cpu": "1"}}}), Qos::Burstable),
        (
            json!({"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}}),
            Qos::Burstable,
        ),
        (json!({"containers": [container("a", whole)], "resources": {}}), Qos::BestEffort),
    ];
    for (spec, expected) in rows {
        assert_eq!(qos(&pod(spec.clone())), expected, "{spec}");
    }
}

fn linux(cpu_shares: u64, cpu_quota: i64, memory_limit: i64) -> LinuxResources {
    let cpu_period = if cpu_quota == 0 { 0 } else { 100_000 };
    LinuxResources {
        cpu_shares,
        cpu_quota,
        cpu_period,
        memory_limit,
        ..LinuxResources::default()
    }
}

#[test]
fn cgroups_of_pods() {
    let limited = container(
        "a",
        json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "200m", "memory": "100Mi"}}),
    );
    let overhead = json!({"cpu": "200m", "memory": "140Mi"});
    let rows = [
        // guaranteed: everything includes overhead
        (
            json!({"containers": [container("a", held("100m", "100Mi"))], "overhead": overhead}),
            linux(307, 30_000, 251_658_240),
        ),
        (
            json!({"containers": [container("a", held("100m", "100Mi"))]}),
            linux(102, 10_000, 104_857_600),
        ),
        // burstable: held only in what every container is held in
        (
            json!({"containers": [limited], "overhead": overhead}),
            linux(307, 40_000, 251_658_240),
        ),
        (
            json!({"containers": [limited, container("b", json!({"limits": {"cpu": "1"}}))], "overhead": overhead}),
            linux(307, 140_000, 0),
        ),
        (json!({"containers": [limited, container("b", json!({}))]}), linux(102, 0, 0)),
        (
            json!({"containers": [limited], "initContainers": [container("i", json!({"limits": {"cpu": "1"}}))]}),
            linux(102, 100_000, 0),
        ),
        (
            json!({"containers": [limited], "initContainers": [container("i", json!({}))]}),
            linux(102, 0, 0),
        ),
        // a sidecar's limit counts for the init containers after it
        (
            json!({"containers": [limited], "initContainers": [sidecar("s", json!({"limits": {"cpu": "1", "memory": "1Mi"}})), container("i", json!({}))]}),
            linux(102, 120_000, 105_906_176),
        ),
        (
            json!({"containers": [limited, container("b", json!({}))], "resources": {"limits": {"cpu": "1"}}}),
            linux(102, 100_000, 0),
        ),
        (json!({"containers": [container("a", requests_of("1"))]}), linux(1024, 0, 0)),
        // best effort: the least shares, overhead or not
        (json!({}), linux(2, 0, 0)),
        (json!({"overhead": overhead}), linux(2, 0, 0)),
        // bounds
        (
            json!({"containers": [container("a", json!({"requests": {"cpu": "1m"}, "limits": {"cpu": "1m"}}))]}),
            linux(2, 1_000, 0),
        ),
        (json!({"containers": [container("a", requests_of("10k"))]}), linux(262_144, 0, 0)),
        (
            json!({"containers": [container("a", held("1E", "9E"))], "overhead": {"memory": "9E"}}),
            linux(262_144, i64::MAX, i64::MAX),
        ),
    ];
    for (spec, expected) in rows {
        assert_eq!(pod_cgroup(&pod(spec.clone())), expected, "{spec}");
    }
}

#[test]
fn sandboxes_get_overhead_and_resources_apart() {
    let spec = json!({"containers": [container("a", held("100m", "100Mi"))], "overhead": {"cpu": "200m", "memory": "140Mi"}});
    assert_eq!(sandbox_resources(&pod(spec.clone())), linux(102, 10_000, 104_857_600));
    assert_eq!(sandbox_overhead(&pod(spec)), linux(204, 20_000, 146_800_640));
    assert_eq!(sandbox_overhead(&pod(json!({}))), LinuxResources::default());
    assert_eq!(sandbox_resources(&pod(json!({}))), linux(2, 0, 0));
}

#[test]
fn containers_get_their_limits_and_else_the_pods() {
    let memory = 10 << 30;
    let of = |spec: Value| {
        let pod = pod(spec);
        container_resources(&pod, &pod.spec.containers[0], memory)
    };
    let rows = [
        (json!({}), linux(2, 0, 0), 1000),
        (
            json!({"containers": [container("a", held("500m", "1Gi"))]}),
            linux(512, 50_000, 1 << 30),
            -997,
        ),
        (
            json!({"containers": [container("a", json!({"limits": {"cpu": "1"}}))]}),
            linux(1024, 100_000, 0),
            999,
        ),
        (json!({"containers": [container("a", requests_of("1"))]}), linux(1024, 0, 0), 999),
        (
            json!({"containers": [container("a", requests_of("1"))], "resources": {"limits": {"cpu": "2", "memory": "1Gi"}}}),
            linux(1024, 200_000, 1 << 30),
            999,
        ),
    ];
    for (spec, expected, oom) in rows {
        assert_eq!(
            of(spec.clone()),
            LinuxResources {
                oom_score_adj: Some(oom),
                ..expected
            },
            "{spec}"
        );
    }
}

#[test]
fn the_kernel_kills_in_the_order_of_requests() {
    let memory = |amount: &str| json!({"requests": {"memory": amount}});
    let score = |spec: Value, init: bool, capacity: i64| {
        let pod = pod(spec);
        let container = if init {
            &pod.spec.init_containers[0]
        } else {
            &pod.spec.containers[0]
        };
        oom_score_adj(&pod, container, capacity)
    };
    let machine = 10 << 30;
    let rows = [
        (json!({}), false, 1000),
        (json!({"containers": [container("a", held("1", "1Gi"))]}), false, -997),
        (json!({"containers": [container("a", memory("1Gi"))]}), false, 900),
        (json!({"containers": [container("a", memory("1"))]}), false, 999),
        (json!({"containers": [container("a", memory("10Gi"))]}), false, 3),
        (json!({"containers": [container("a", memory("1E"))]}), false, 3),
        // a sidecar is no earlier than the containers that it serves
        (
            json!({"containers": [container("a", memory("2Gi"))], "initContainers": [sidecar("s", memory("1Gi"))]}),
            true,
            800,
        ),
        (
            json!({"containers": [container("a", memory("1Gi"))], "initContainers": [sidecar("s", memory("2Gi"))]}),
            true,
            800,
        ),
        (
            json!({"containers": [container("a", memory("2Gi"))], "initContainers": [container("i", memory("1Gi"))]}),
            true,
            900,
        ),
        // what the pod requests beyond its containers is shared out
        (
            json!({"containers": [container("a", memory("1Gi")), container("b", json!({}))], "resources": memory("3Gi")}),
            false,
            800,
        ),
    ];
    for (spec, init, expected) in rows {
        assert_eq!(score(spec.clone(), init, machine), expected, "{spec}");
    }
    assert_eq!(
        score(json!({"containers": [container("a", memory("1Gi"))]}), false, 0),
        3,
        "a machine without memory"
    );
}

#[test]
fn defaulting_fills_requests_from_limits() {
    let mut spec = json!({
        "containers": [container("a", json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}}))],
        "initContainers": [container("i", json!({"limits": {"cpu": "2"}}))],
    });
    let filled = |spec: &Value| {
        let mut pod = pod(spec.clone());
        crate::defaults::apply(&mut pod);
        let once = pod.clone();
        crate::defaults::apply(&mut pod);
        assert_eq!(pod, once);
        pod
    };
    let first = filled(&spec);
    assert_eq!(show(requests(&first.spec.containers[0])), "cpu=100m,memory=1Gi");
    assert_eq!(show(requests(&first.spec.init_containers[0])), "cpu=2");
    assert_eq!(first.spec.resources, None);

    spec["resources"] = json!({"limits": {"memory": "4Gi"}});
    let own = filled(&spec).spec.resources.unwrap();
    assert_eq!(
        (show(&own.requests), show(&own.limits)),
        ("cpu=2,memory=1Gi".into(), "memory=4Gi".into())
    );

    let ports = json!({"hostNetwork": true, "containers": [{"name": "a", "image": "i", "ports": [{"containerPort": 80}, {"containerPort": 81, "hostPort": 82}]}]});
    let ports: Vec<Option<i32>> = filled(&ports).spec.containers[0].ports.iter().map(|p| p.host_port).collect();
    assert_eq!(ports, [Some(80), Some(82)]);
}

#[test]
fn a_kubelet_refuses_what_does_not_fit() {
    let list = |json: Value| -> ResourceList { serde_json::from_value(json).unwrap() };
    let asks = json!({"containers": [container("a", json!({"requests": {"cpu": "500m", "memory": "1Gi", "example.com/gpu": "1"}}))]});
    let boxed = json!({"containers": [container("a", json!({"requests": {"cpu": "500m"}}))], "overhead": {"cpu": "250m"}});
    let node = json!({"cpu": "1", "memory": "2Gi", "example.com/gpu": "1", "pods": "2"});
    let rows = [
        (&asks, node.clone(), json!({}), ""),
        (&asks, node.clone(), json!({"cpu": "500m", "memory": "1Gi", "pods": "1"}), ""),
        (
            &asks,
            node.clone(),
            json!({"cpu": "501m", "pods": "1"}),
            "OutOfcpu: Pod was rejected: Node didn't have enough resource: cpu, requested: 500, used: 501, capacity: 1000",
        ),
        (
            &asks,
            node.clone(),
            json!({"memory": "1025Mi"}),
            "OutOfmemory: Pod was rejected: Node didn't have enough resource: memory, requested: 1073741824, used: 1074790400, capacity: 2147483648",
        ),
        (
            &asks,
            node.clone(),
            json!({"example.com/gpu": "1"}),
            "OutOfexample.com/gpu: Pod was rejected: Node didn't have enough resource: example.com/gpu, requested: 1, used: 1, capacity: 1",
        ),
        // a vendor's resource that no node has can be the cluster's
        (&asks, json!({"cpu": "1", "memory": "2Gi", "pods": "2"}), json!({}), ""),
        // the first that is short is told: pods, cpu, memory, then the rest
        (
            &asks,
            json!({"pods": "2"}),
            json!({}),
            "OutOfcpu: Pod was rejected: Node didn't have enough resource: cpu, requested: 500, used: 0, capacity: 0",
        ),
        (
            &asks,
            node.clone(),
            json!({"pods": "2", "cpu": "1"}),
            "OutOfpods: Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: 2, capacity: 2",
        ),
        // overhead counts
        (&boxed, json!({"cpu": "750m", "pods": "1"}), json!({}), ""),
        (
            &boxed,
            json!({"cpu": "749m", "pods": "1"}),
            json!({}),
            "OutOfcpu: Pod was rejected: Node didn't have enough resource: cpu, requested: 750, used: 0, capacity: 749",
        ),
        // what is not asked for may be overdrawn
        (&json!({}), json!({"pods": "1"}), json!({"cpu": "5"}), ""),
    ];
    for (spec, node, used, expected) in rows {
        let answer = kubelet_admits(&pod(spec.clone()), &list(node), &list(used.clone()));
        assert_eq!(
            answer.map_or_else(|e| format!("{}: {e}", e.reason()), |()| String::new()),
            expected,
            "{spec} beside {used}"
        );
    }
}

#[test]
fn huge_pages_of_cgroups() {
    let pages = |resources: &LinuxResources| resources.hugepages.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",");
    let held = |list: Value| json!({"requests": list, "limits": list});
    let two = container("a", held(json!({"cpu": "1", "hugepages-2Mi": "4Mi"})));
    let gib = container("b", held(json!({"cpu": "1", "hugepages-1Gi": "1Gi", "hugepages-2Mi": "2Mi"})));
    let of = pod(json!({"containers": [two, gib], "overhead": {"memory": "1Mi"}}));
    let each: Vec<_> = of.spec.containers.iter().map(|c| pages(&container_resources(&of, c, 1 << 30))).collect();
    assert_eq!(each, ["2MB=4194304", "1GB=1073741824,2MB=2097152"]);
    assert_eq!(pages(&pod_cgroup(&of)), "1GB=1073741824,2MB=6291456");
    assert_eq!(pages(&sandbox_resources(&of)), "1GB=1073741824,2MB=6291456");
    // The pod's hold for containers that say nothing.
    let of = pod(json!({
        "resources": held(json!({"cpu": "1", "memory": "1Gi", "hugepages-64Ki": "1Mi"})),
        "containers": [container("a", json!({})), container("b", held(json!({"cpu": "1", "hugepages-64Ki": "64Ki"})))],
    }));
    let each: Vec<_> = of.spec.containers.iter().map(|c| pages(&container_resources(&of, c, 1 << 30))).collect();
    assert_eq!(each, ["64KB=1048576", "64KB=65536"]);
    assert_eq!(pages(&pod_cgroup(&of)), "64KB=1048576");
}
