#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
//! Short ways to write clusters, and the tables.

mod affinity;
mod drain;
mod filters;
mod preemption;
mod properties;
mod sampling;
mod scores;
mod spread;

use super::{Decision, Options, Request, Snapshot};
use crate::testing::object;
use cofferdam_model::node::Node;
use cofferdam_model::objects::Namespace;
use cofferdam_model::pod::Pod;
use serde_json::{Value, json};

/// Every node, whatever their number.
pub(super) const ALL: Options = Options {
    percentage_of_nodes_to_score: 100,
};

/// A node with 4 cpus, 8 GiB and room for 110 pods, which has these fields besides; `zone` of its
/// labels may be given in short.
pub(super) fn node(name: &str, labels: Value, more: Value) -> Node {
    let mut all = json!({"kubernetes.io/hostname": name});
    for (key, value) in labels.as_object().unwrap() {
        let key = if key == "zone" { "topology.kubernetes.io/zone" } else { key };
        all[key] = value.clone();
    }
    let mut node = json!({
        "metadata": {"name": name, "labels": all},
        "spec": {},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "ephemeral-storage": "100Gi", "pods": "110"}},
    });
    for (part, fields) in more.as_object().unwrap() {
        for (key, value) in fields.as_object().unwrap() {
            node[part][key] = value.clone();
        }
    }
    object(node)
}

/// A pod with labels; a container that requests nothing is added where it has none.
pub(super) fn pod(name: &str, labels: Value, mut spec: Value) -> Pod {
    let fields = spec.as_object_mut().unwrap();
    fields.entry("containers").or_insert_with(|| json!([{"name": "c", "image": "i"}]));
    object(json!({"metadata": {"name": name, "labels": labels}, "spec": spec}))
}

/// A pod that requests so much cpu.
pub(super) fn hungry(name: &str, cpu: &str) -> Pod {
    pod(name, json!({}), requesting(json!({"cpu": cpu})))
}

/// A spec that requests this.
pub(super) fn requesting(requests: Value) -> Value {
    json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": requests}}]})
}

pub(super) fn snapshot(nodes: Vec<Node>) -> Snapshot {
    Snapshot::new(nodes, &[], ALL).unwrap()
}

pub(super) fn with_namespaces(nodes: Vec<Node>, namespaces: Value) -> Snapshot {
    let all: Vec<Namespace> = object(namespaces);
    Snapshot::new(nodes, &all, ALL).unwrap()
}

/// Decides and places; the node's name, or the message.
pub(super) fn run(snapshot: &mut Snapshot, pod: &Pod) -> String {
    match snapshot.decide(&Request::new(pod)) {
        Decision::Placed(placement) => {
            snapshot.place(pod.clone(), &placement.node).unwrap();
            placement.node
        }
        Decision::Unschedulable(why) => why.message,
    }
}

/// The nodes that are feasible, in one text.
pub(super) fn feasible(snapshot: &mut Snapshot, pod: &Pod) -> String {
    let reports = snapshot.report(&Request::new(pod));
    let mut names: Vec<_> = reports.into_iter().filter(|r| r.outcome.is_ok()).map(|r| r.node).collect();
    names.sort();
    names.join(" ")
}

/// Why one node is not feasible; empty where it is.
pub(super) fn reason(snapshot: &mut Snapshot, pod: &Pod, node: &str) -> String {
    let reports = snapshot.report(&Request::new(pod));
    let report = reports.into_iter().find(|r| r.node == node).unwrap();
    report.outcome.map_or_else(|reasons| reasons.join(", "), |_| String::new())
}
