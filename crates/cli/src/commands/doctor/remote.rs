//! A pod of a real cluster: from the pod itself, its events, the classes and the nodes.

use super::{Answer, Subject};
use crate::args::DoctorArgs;
use crate::commands::pods::text;
use anyhow::{Context, Result};
use cofferdam_cluster::{Cluster, Error, Listing};
use cofferdam_doctor::cluster::MAX_NODES;
use cofferdam_doctor::{ClusterPod, diagnose_cluster_pod};
use serde_json::Value;

/// Asks the cluster, and names what is wrong. Lists that the user may not see are told of as not known.
pub(super) fn ask(args: &DoctorArgs) -> Result<Answer> {
    let wanted = args
        .pod
        .as_deref()
        .context("a cluster is asked about one pod: give NAMESPACE/POD")?;
    let cluster = Cluster::open(args.kubeconfig.as_deref(), args.context.as_deref())?;
    let (namespace, name) = wanted.split_once('/').unwrap_or((cluster.default_namespace(), wanted));
    let pod = cluster.pod(namespace, name)?;
    let mut unknown = Vec::new();
    let mut known = |list: Result<Vec<Value>, Error>| {
        list.map_or_else(
            |e| {
                unknown.push(e.to_string());
                Value::Null
            },
            Value::Array,
        )
    };
    let all = ClusterPod {
        events: known(cluster.events_of(namespace, name)),
        classes: known(cluster.runtime_classes()),
        nodes: known(nodes(&cluster, pod["spec"]["nodeName"].as_str().unwrap_or_default())),
        pod,
        ..ClusterPod::default()
    };
    let status = &all.pod["status"];
    let subject = Subject {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        phase: text(status, "phase").to_owned(),
        reason: text(status, "reason").to_owned(),
    };
    Ok(Answer {
        pod: Some(subject),
        unknown,
        findings: diagnose_cluster_pod(&all),
        ..Answer::default()
    })
}

/// Its own node where it has one, else every node that it might have had.
fn nodes(cluster: &Cluster, own: &str) -> Result<Vec<Value>, Error> {
    let mut nodes = Vec::new();
    cluster.each(&Listing::Nodes, |node| {
        let wanted = own.is_empty() || text(&node["metadata"], "name") == own;
        if wanted && nodes.len() < MAX_NODES {
            nodes.push(node);
        }
    })?;
    Ok(nodes)
}
