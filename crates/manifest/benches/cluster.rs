//! How long the nodes of a large cluster take to read, and how much memory. Run it with
//! `cargo bench -p cofferdam-manifest --bench cluster`; it prints and asserts nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cofferdam_manifest::cluster::decode;
use serde_json::{Value, json};
use std::time::Instant;

/// A node with fifty images and its managed fields, about 20 KiB.
fn node(at: usize) -> Value {
    let images: Vec<Value> = (0..50)
        .map(|i| json!({"names": [format!("images.example/team/application-{i}@sha256:{i:064}"), format!("images.example/team/application-{i}:v1")], "sizeBytes": 123_456_789}))
        .collect();
    let managed: Value = (0..100)
        .map(|i| (format!("f:field-{i}"), json!({"f:value": {}, "f:status": {}})))
        .collect::<serde_json::Map<_, _>>()
        .into();
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": format!("n{at}"), "labels": {"kubernetes.io/hostname": format!("n{at}"), "topology.kubernetes.io/zone": "a"}, "managedFields": [{"manager": "kubelet", "fieldsV1": managed}]},
        "spec": {"podCIDR": "10.0.0.0/24", "taints": [{"key": "runtime", "value": "kata", "effect": "NoSchedule"}]},
        "status": {"allocatable": {"cpu": "8", "memory": "16Gi", "pods": "110"}, "images": images, "runtimeHandlers": [{"name": ""}, {"name": "kata"}]},
    })
}

/// The most memory that this process has had, MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

fn main() {
    let items: Vec<String> = (0..5000).map(|i| serde_json::to_string_pretty(&node(i)).unwrap()).collect();
    let json = format!("{{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{}]}}", items.join(","));
    drop(items);
    let yaml: String = (0..1000)
        .map(|i| format!("---\n{}", serde_saphyr::to_string(&node(i)).unwrap()))
        .collect();
    for (form, text) in [("json", json), ("yaml", yaml)] {
        let (before, begun) = (peak(), Instant::now());
        let count = decode("f", &text).unwrap().nodes.len();
        let seconds = begun.elapsed().as_secs_f64();
        let mib = text.len() as f64 / f64::from(1 << 20);
        println!(
            "{form}: {count} nodes, {mib:.0} MiB in {seconds:.2} s, {:.0} MiB/s, {} MiB more than the text",
            mib / seconds,
            peak() - before
        );
    }
}
