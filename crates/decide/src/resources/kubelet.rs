//! What a kubelet refuses of what it is given (`pkg/kubelet/lifecycle/predicate.go`): a pod that
//! names its node passes no scheduler, and meets only this.

use super::pod_requests;
use crate::requirements::is_extended;
use cofferdam_model::ResourceList;
use cofferdam_model::pod::Pod;

/// A pod that its node has no room for. The pod fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Pod was rejected: Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}")]
pub struct OutOf {
    /// The resource.
    pub resource: String,
    /// What the pod needs: thousandths of cpu, and whole units of the rest.
    pub requested: i64,
    /// What pods on the node hold.
    pub used: i64,
    /// What the node has for pods.
    pub capacity: i64,
}

impl OutOf {
    /// The reason that the pod's status has, `OutOfcpu`.
    pub fn reason(&self) -> String {
        format!("OutOf{}", self.resource)
    }
}

/// Refuses a pod that the node has no room for, overhead included. `used`: the requests of the pods
/// that are on the node, with theirs, and their number as `pods`. Nothing that is not asked for is
/// looked at, nor a vendor's resource that the node does not know: it can be the cluster's.
pub fn kubelet_admits(pod: &Pod, allocatable: &ResourceList, used: &ResourceList) -> Result<(), OutOf> {
    let requests = pod_requests(pod);
    let first = ["cpu", "memory", "ephemeral-storage"];
    let others = requests.keys().map(String::as_str).filter(|name| !first.contains(name));
    let known = |name: &&str| !is_extended(name) || allocatable.contains_key(*name);
    fits("pods", 1, allocatable, used)?;
    first
        .into_iter()
        .chain(others.filter(known))
        .try_for_each(|name| fits(name, amount(&requests, name), allocatable, used))
}

fn fits(name: &str, requested: i64, allocatable: &ResourceList, used: &ResourceList) -> Result<(), OutOf> {
    let (used, capacity) = (amount(used, name), amount(allocatable, name));
    if requested == 0 || used.saturating_add(requested) <= capacity {
        return Ok(());
    }
    Err(OutOf {
        resource: name.to_string(),
        requested,
        used,
        capacity,
    })
}

fn amount(list: &ResourceList, name: &str) -> i64 {
    list.get(name)
        .map_or(0, |q| if name == "cpu" { q.milli_value() } else { q.value() })
}
