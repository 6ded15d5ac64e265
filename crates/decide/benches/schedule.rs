//! How many decisions a second the scheduler makes: ten thousand pods on five thousand nodes. Run it
//! with `cargo bench -p cofferdam-decide`; it prints and asserts nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cofferdam_decide::schedule::{Decision, Options, Request, Snapshot};
use cofferdam_model::node::Node;
use cofferdam_model::pod::Pod;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::time::Instant;

const NODES: usize = 5000;
const PODS: usize = 10_000;
const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";
/// Cpus of the three sizes of nodes.
const SIZES: [usize; 3] = [16, 32, 64];

fn object<T: DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).unwrap()
}

/// Nodes of three sizes in ten zones; every fifth is a tainted one for virtual machines.
fn nodes() -> Vec<Node> {
    let one = |i: usize| {
        let (cpus, vm, name) = (SIZES[i % 3], i.is_multiple_of(5), format!("node-{i:04}"));
        let taints = if vm {
            json!([{"key": "runtime", "value": "kata", "effect": "NoSchedule"}])
        } else {
            json!([])
        };
        let handlers = if vm {
            json!([{"name": ""}, {"name": "kata"}])
        } else {
            json!([{"name": ""}])
        };
        object(json!({
            "metadata": {"name": name, "labels": {HOST: name, ZONE: format!("zone-{}", i / 5 % 10), "runtime": if vm { "kata" } else { "runc" }}},
            "spec": {"taints": taints},
            "status": {"allocatable": {"cpu": cpus.to_string(), "memory": format!("{}Gi", cpus * 4), "pods": "110"}, "runtimeHandlers": handlers},
        }))
    };
    (0..NODES).map(one).collect()
}

fn requests(cpu: usize, memory: usize) -> Value {
    json!([{"name": "c", "image": "i", "resources": {"requests": {"cpu": format!("{cpu}m"), "memory": format!("{memory}Mi")}}}])
}

/// A hundred applications of a hundred pods each, with requests of five sizes. Each pod has a label
/// of its own, as a StatefulSet's have, so that no two are alike.
fn pods(spec: impl Fn(&str) -> Value) -> Vec<Pod> {
    let one = |i: usize| {
        let (app, size) = (format!("app-{}", i % 100), i % 5 + 1);
        let mut spec = spec(&app);
        spec["containers"] = requests(size * 100, size * 128);
        object(json!({"metadata": {"name": format!("pod-{i}"), "labels": {"app": app, "pod": format!("pod-{i}")}}, "spec": spec}))
    };
    (0..PODS).map(one).collect()
}

/// What was there before: so many pods on each node, and of what size.
type Before = Option<(usize, fn(usize) -> usize)>;

fn measure(what: &str, pods: &[Pod], handler: &str, before: Before, options: Options) {
    let begun = Instant::now();
    let mut snapshot = Snapshot::new(nodes(), &[], options).unwrap();
    if let Some((count, cpu)) = before {
        for i in 0..NODES * count {
            let metadata = json!({"name": format!("old-{i}"), "labels": {"app": format!("old-{}", i % 1000)}});
            let pod: Pod = object(json!({"metadata": metadata, "spec": {"containers": requests(cpu(SIZES[i % NODES % 3]), 64)}}));
            snapshot.place(pod, &format!("node-{:04}", i % NODES)).unwrap();
        }
    }
    let (made, begun) = (begun.elapsed().as_secs_f64(), Instant::now());
    let mut placed = 0;
    for pod in pods {
        if let Decision::Placed(p) = snapshot.decide(&Request {
            handler,
            ..Request::new(pod)
        }) {
            snapshot.place(pod.clone(), &p.node).unwrap();
            placed += 1;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let visited = if options.percentage_of_nodes_to_score == 0 {
        "sampled"
    } else {
        "all nodes"
    };
    println!(
        "{what:<44} {visited:<9} {placed:>6} placed, made in {made:.2} s, {seconds:>6.3} s {:>8.0} decisions/s",
        PODS as f64 / seconds
    );
}

/// The most memory that this process has had, MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

fn main() {
    let selector = |app: &str| json!({"matchLabels": {"app": app}});
    // As admission leaves pods of a class for virtual machines.
    let in_vms = |_: &str| json!({"nodeSelector": {"runtime": "kata"}, "tolerations": [{"key": "runtime", "operator": "Equal", "value": "kata"}], "overhead": {"cpu": "250m", "memory": "160Mi"}});
    let spread = |app: &str| json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector(app)}]});
    let far = |app: &str| json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": HOST, "labelSelector": selector(app)}]}}});
    let (plain, nowhere) = (|_: &str| json!({}), |_: &str| json!({"nodeSelector": {"runtime": "none"}}));
    for options in [
        Options::default(),
        Options {
            percentage_of_nodes_to_score: 100,
        },
    ] {
        measure("(a) plain pods with resources", &pods(plain), "", None, options);
        measure("(b) selector, taints and handler by class", &pods(in_vms), "kata", None, options);
        measure("(c) spread over zones", &pods(spread), "", None, options);
        measure("(d) anti-affinity by host", &pods(far), "", None, options);
        measure("(e) no node matches", &pods(nowhere), "", None, options);
        measure(
            "(f) no node has room",
            &pods(plain),
            "",
            Some((1, |cpus| cpus * 1000 - 50)),
            options,
        );
        measure("(g) beside 150,000 pods", &pods(plain), "", Some((30, |cpus| cpus * 10)), options);
        println!("peak {} MiB", peak());
    }
}
