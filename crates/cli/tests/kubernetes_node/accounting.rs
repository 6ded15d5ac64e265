//! Overhead, quota, cgroups and usage.

use crate::cluster::{CLASSES, Cluster, NODE, WAITS, pod};
use std::fs::read_to_string;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

const OVERHEAD: &str = "overhead: {podFixed: {cpu: 200m, memory: 140Mi}}";
const GUARANTEED: &str = "resources: {limits: {cpu: 100m, memory: 100Mi}}";

/// A class of its own for each handler, with overhead.
fn costly(cluster: &Cluster) -> Vec<String> {
    // Of two tests that create the same class at a time, one would fail.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let classes = CLASSES.map(|handler| (format!("costly-{handler}"), handler));
    for (name, handler) in &classes {
        cluster.apply(&format!(
            "{{apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {{name: {name}}}, handler: {handler}, {OVERHEAD}}}"
        ));
    }
    classes.map(|(name, _)| name).into()
}

/// The pod's cgroup of a controller, on either kind of hierarchy, as the kubelet names it.
fn pod_cgroup(controller: &str, uid: &str, class: &str) -> PathBuf {
    let root = Path::new("/sys/fs/cgroup");
    let root = if root.join("cgroup.controllers").exists() {
        root.to_owned()
    } else {
        root.join(controller)
    };
    let class = if class.is_empty() {
        PathBuf::from("kubepods")
    } else {
        Path::new("kubepods").join(class)
    };
    root.join(class).join(format!("pod{uid}"))
}

/// (CPU quota in microseconds, its period, memory limit in bytes)
fn limits(uid: &str) -> (i64, i64, u64) {
    let read = |controller: &str, file: &str| read_to_string(pod_cgroup(controller, uid, "").join(file)).map(|t| t.trim().to_owned());
    if let Ok(max) = read("cpu", "cpu.max") {
        let (quota, period) = max.split_once(' ').unwrap();
        return (
            quota.parse().unwrap(),
            period.parse().unwrap(),
            read("memory", "memory.max").unwrap().parse().unwrap(),
        );
    }
    let number = |controller: &str, file: &str| read(controller, file).unwrap().parse::<i64>().unwrap();
    let memory = number("memory", "memory.limit_in_bytes").try_into().unwrap();
    (number("cpu", "cpu.cfs_quota_us"), number("cpu", "cpu.cfs_period_us"), memory)
}

/// Upstream's node test "Pod cgroup should be sum of overhead and resource limits", its numbers, for every handler.
#[test]
#[ignore = "needs a node"]
fn pod_cgroup_is_the_sum_of_overhead_and_limits() {
    let cluster = Cluster::new();
    for class in costly(&cluster) {
        cluster.apply(&pod(&class, &class, WAITS, GUARANTEED));
        cluster.ready(&[&class]);
        let pod = cluster.get(&format!("pod/{class}"));
        assert_eq!(
            limits(pod["metadata"]["uid"].as_str().unwrap()),
            (30_000, 100_000, 251_658_240),
            "{class}"
        );
    }
}

/// The limits of the cgroups below one: a container's may stand below its sandbox's.
fn memory_limits(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
    {
        let read = |file: &str| read_to_string(entry.path().join(file));
        found.extend(
            read("memory.limit_in_bytes")
                .or_else(|_| read("memory.max"))
                .map(|t| t.trim().to_owned()),
        );
        memory_limits(&entry.path(), found);
    }
}

/// What the sandbox costs is the pod's, not the container's.
#[test]
#[ignore = "needs a node"]
fn containers_keep_their_own_limits() {
    let cluster = Cluster::new();
    cluster.apply(&pod("p", &costly(&cluster)[1], WAITS, GUARANTEED));
    cluster.ready(&["p"]);
    let uid = cluster.get("pod/p")["metadata"]["uid"].as_str().unwrap().to_owned();
    let mut found = Vec::new();
    memory_limits(&pod_cgroup("memory", &uid, ""), &mut found);
    assert!(found.iter().any(|l| l == "104857600"), "{found:?}");
}

#[test]
#[ignore = "needs a node"]
fn overhead_is_in_the_pods_requests() {
    let cluster = Cluster::new();
    let class = &costly(&cluster)[2];
    cluster.apply(&pod("p", class, WAITS, "resources: {requests: {cpu: 100m, memory: 128Mi}}"));
    cluster.ready(&["p"]);
    let overhead = cluster.get("pod/p")["spec"]["overhead"].clone();
    assert_eq!(
        (overhead["cpu"].as_str(), overhead["memory"].as_str()),
        (Some("200m"), Some("140Mi"))
    );
    let node = cluster.kubectl(&["describe", "node", NODE]).good();
    let row = node
        .lines()
        .find(|l| l.split_whitespace().take(2).eq([cluster.namespace.as_str(), "p"]))
        .expect(&node);
    assert!(row.contains("300m") && row.contains("268Mi"), "{row}");
    // What would fit without overhead does not fit with it.
    cluster.apply(&pod("q", class, WAITS, "resources: {requests: {cpu: 1900m}}"));
    cluster.event("q", "FailedScheduling", "Insufficient cpu");
}

#[test]
#[ignore = "needs a node"]
fn quota_counts_overhead() {
    let cluster = Cluster::new();
    let class = &costly(&cluster)[0];
    cluster.apply(
        "{apiVersion: v1, kind: ResourceQuota, metadata: {name: q}, spec: {hard: {requests.cpu: 500m, requests.memory: 1Gi, pods: '5'}}}",
    );
    cluster.until("the quota has its status", || {
        cluster.get("resourcequota/q")["status"]["used"]["pods"] == "0"
    });
    cluster.apply(&pod("p", class, WAITS, GUARANTEED));
    cluster.until("the quota has counted", || {
        let used = cluster.get("resourcequota/q")["status"]["used"].clone();
        used["requests.cpu"] == "300m" && used["requests.memory"] == "240Mi"
    });
    let answer = cluster.feed(&["apply", "--filename", "-"], &pod("second", class, WAITS, GUARANTEED));
    answer.fails("exceeded quota: q, requested: requests.cpu=300m, used: requests.cpu=300m, limited: requests.cpu=500m");
}

/// What `kubectl top` shows is made from the first.
#[test]
#[ignore = "needs a node"]
fn the_kubelet_knows_what_pods_of_every_class_use() {
    let cluster = Cluster::new();
    cluster.one_each("while :; do :; done", "resources: {limits: {cpu: 100m, memory: 64Mi}}");
    let raw = |path: &str| {
        cluster
            .kubectl(&["get", "--raw", &format!("/api/v1/nodes/{NODE}/proxy/{path}")])
            .out
    };
    for class in CLASSES {
        let label = format!("namespace=\"{}\",pod=\"{class}\"", cluster.namespace);
        cluster.until(&format!("/metrics/resource has {label}"), || {
            let metrics = raw("metrics/resource");
            let value = |name: &str| {
                let line = metrics
                    .lines()
                    .find(|l| l.starts_with(&format!("{name}{{")) && l.contains(&label))?;
                line.split_whitespace().nth(1)?.parse::<f64>().ok()
            };
            let all = [
                "container_cpu_usage_seconds_total",
                "container_memory_working_set_bytes",
                "pod_cpu_usage_seconds_total",
                "pod_memory_working_set_bytes",
            ];
            all.iter().all(|name| value(name).is_some_and(|v| v > 0.0))
        });
        cluster.until(&format!("/stats/summary has {class}"), || {
            let summary: serde_json::Value = serde_json::from_str(&raw("stats/summary")).unwrap_or_default();
            let pods = summary["pods"].as_array().cloned().unwrap_or_default();
            let Some(pod) = pods
                .iter()
                .find(|p| p["podRef"]["namespace"] == *cluster.namespace && p["podRef"]["name"] == class)
            else {
                return false;
            };
            let container = &pod["containers"][0];
            let positive = |v: &serde_json::Value| v.as_u64().is_some_and(|n| n > 0);
            positive(&container["cpu"]["usageNanoCores"])
                && positive(&container["memory"]["workingSetBytes"])
                && positive(&container["rootfs"]["usedBytes"])
        });
    }
}

#[test]
#[ignore = "needs a node"]
fn top_tells_what_pods_of_every_class_and_the_node_use() {
    let cluster = Cluster::new();
    let busy = "x=$(head -c 8000000 /dev/zero | tr '\\0' x); while :; do :; done";
    cluster.one_each(busy, "resources: {limits: {cpu: 100m, memory: 128Mi}}");
    // A row: name (of `--containers` two), millicores, and MiB.
    let used = |row: &str, cpu_at: usize, memory_at: usize| -> Option<(u64, u64)> {
        let words: Vec<&str> = row.split_whitespace().collect();
        let number = |at: usize, unit| words.get(at)?.strip_suffix(unit)?.parse::<u64>().ok();
        Some((number(cpu_at, "m")?, number(memory_at, "Mi")?))
    };
    // What is told is within the limits, too, but for how often it is measured.
    let likely = |used: Option<(u64, u64)>| used.is_some_and(|(cpu, memory)| (1..=200).contains(&cpu) && (4..=128).contains(&memory));
    for (args, names) in [
        (&["top", "pods", "--no-headers"][..], 1),
        (&["top", "pods", "--containers", "--no-headers"], 2),
    ] {
        cluster.until(&format!("{args:?} has every class"), || {
            let table = cluster.kubectl(args).out;
            CLASSES.iter().all(|class| {
                table
                    .lines()
                    .any(|row| row.starts_with(class) && likely(used(row, names, names + 1)))
            })
        });
    }
    let node = cluster.kubectl(&["top", "nodes", "--no-headers"]).good();
    assert!(
        node.starts_with(NODE) && used(&node, 1, 3).is_some_and(|(cpu, memory)| cpu > 0 && memory > 0),
        "{node}"
    );
}

#[test]
#[ignore = "needs a node"]
fn a_container_over_its_memory_is_killed_and_told() {
    let cluster = Cluster::new();
    let eats = "x=a; while :; do x=$x$x; done";
    for class in ["crun", "runc"] {
        cluster.apply(&pod(class, class, eats, "resources: {limits: {memory: 16Mi}}").replace("spec: {", "spec: {restartPolicy: Never, "));
    }
    for class in ["crun", "runc"] {
        cluster.phase(class, "Failed");
        let ended = cluster.get(&format!("pod/{class}"))["status"]["containerStatuses"][0]["state"]["terminated"].clone();
        assert_eq!(
            (ended["reason"].as_str(), ended["exitCode"].as_i64()),
            (Some("OOMKilled"), Some(137)),
            "{class}: {ended}"
        );
    }
}

#[test]
#[ignore = "needs a node"]
fn a_running_container_is_resized_in_place() {
    let cluster = Cluster::new();
    for class in ["crun", "runc"] {
        cluster.apply(&pod(class, class, WAITS, GUARANTEED));
        cluster.ready(&[class]);
        let patch = r#"{"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "200m"}, "limits": {"cpu": "200m"}}}]}}"#;
        cluster
            .kubectl(&["patch", "pod", class, "--subresource", "resize", "--patch", patch])
            .good();
        let uid = cluster.get(&format!("pod/{class}"))["metadata"]["uid"].as_str().unwrap().to_owned();
        cluster.until("the pod's cgroup has the new quota", || limits(&uid).0 == 20_000);
        cluster.until("the status tells the new limit", || {
            let status = cluster.get(&format!("pod/{class}"))["status"]["containerStatuses"][0].clone();
            assert_eq!(status["restartCount"], 0);
            status["resources"]["limits"]["cpu"] == "200m"
        });
    }
}
