//! ResourceQuota for pods (`pkg/quota/v1/evaluator/core/pods.go`,
//! `k8s.io/apiserver/pkg/admission/plugin/resourcequota`). Overhead counts, in usage alone.

mod scopes;
mod used;
mod validate;

pub use used::Used;
pub use validate::validate;

use crate::Denied;
use crate::denied::Reason;
use crate::field::Path;
use crate::requirements::{is_extended, is_huge_pages, is_native};
use crate::resources::{limits, pod_level, pod_limits, pod_requests, requests};
use cofferdam_model::objects::ResourceQuota;
use cofferdam_model::pod::{Container, Pod};
use cofferdam_model::{Quantity, ResourceList};
use serde::Serialize;
use std::collections::BTreeSet;

/// What a quota can limit of pods, beside huge pages and `requests.` of vendors' resources.
const COUNTED: [&str; 11] = [
    "count/pods",
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];
/// What each container must declare where a quota limits it.
const MUST_SPECIFY: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

/// Refuses a pod that a quota of its namespace has no room for, or that leaves open what a quota
/// must know. A quota that is wrong itself lets no pod in.
pub fn check(pod: &Pod, quotas: &[ResourceQuota], used: &Used) -> Result<(), Denied> {
    let mut matching = Vec::new();
    for quota in of_namespace(pod, quotas) {
        validate(quota)?;
        if matches(quota, pod, used) {
            matching.push(quota);
        }
    }
    if matching.is_empty() {
        return Ok(());
    }
    // Upstream asks every quota what it must know before it asks any for room.
    for quota in &matching {
        let reason = unspecified(quota, pod, used).or_else(|| unknown(quota, used));
        if let Some(reason) = reason {
            return Err(Denied::pod(pod, vec![reason]));
        }
    }
    let usage = usage(pod);
    let negative: Vec<&str> = usage.iter().filter(|(_, q)| q.sign() < 0).map(|(n, _)| n.as_str()).collect();
    if !negative.is_empty() {
        let text = format!("quota usage is negative for resource(s): {}", negative.join(","));
        return Err(Denied::pod(pod, vec![Reason::new("spec.containers", text)]));
    }
    match matching.into_iter().find_map(|quota| exceeded(quota, pod, &usage, used)) {
        Some(reason) => Err(Denied::pod(pod, vec![reason])),
        None => Ok(()),
    }
}

/// What each quota that a pod counts for has left, in the quotas' order: the hard limit less what is
/// used, of every resource that pods take. Below zero where more is used than there is.
pub fn left(pod: &Pod, quotas: &[ResourceQuota], used: &Used) -> Vec<QuotaLeft> {
    let one = |quota: &ResourceQuota| {
        let hard = used.hard(quota).iter().filter(|(name, _)| counts_pods(name));
        let left = hard.map(|(name, hard)| {
            let left = hard.rounded_to_milli().checked_sub(&used.get(quota, name));
            // Beyond 128 bits only where more is used than any quota has.
            (name.clone(), left.unwrap_or_default())
        });
        QuotaLeft {
            name: quota.metadata.name.clone(),
            left: left.collect(),
        }
    };
    of_namespace(pod, quotas).filter(|q| matches(q, pod, used)).map(one).collect()
}

/// What a quota has left.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QuotaLeft {
    /// The quota's name.
    pub name: String,
    /// By the names of resources that the quota has.
    pub left: ResourceList,
}

fn of_namespace<'a>(pod: &'a Pod, quotas: &'a [ResourceQuota]) -> impl Iterator<Item = &'a ResourceQuota> {
    let namespace = pod.metadata.namespace_or_default();
    quotas.iter().filter(move |q| q.metadata.namespace_or_default() == namespace)
}

/// What a pod takes of every quota, overhead included.
pub fn usage(pod: &Pod) -> ResourceList {
    let mut usage = declared(&pod_requests(pod), &pod_limits(pod));
    let one = Quantity::new(1, cofferdam_model::quantity::Format::DecimalSi);
    usage.insert("pods".to_string(), one.clone());
    usage.insert("count/pods".to_string(), one);
    usage
}

/// Requests and limits under the names that quotas know them by.
fn declared(requests: &ResourceList, limits: &ResourceList) -> ResourceList {
    let mut list = ResourceList::new();
    for (name, quantity) in requests {
        let plain = ["cpu", "memory", "ephemeral-storage"].contains(&name.as_str()) || is_huge_pages(name);
        if plain {
            list.insert(name.clone(), quantity.clone());
        }
        if plain || is_extended(name) {
            list.insert(format!("requests.{name}"), quantity.clone());
        }
    }
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(quantity) = limits.get(name) {
            list.insert(format!("limits.{name}"), quantity.clone());
        }
    }
    list
}

/// Whether the quota is of the pod's namespace, counts anything of pods, and has scopes that the
/// pod is in.
fn matches(quota: &ResourceQuota, pod: &Pod, used: &Used) -> bool {
    quota.metadata.namespace_or_default() == pod.metadata.namespace_or_default()
        && used.hard(quota).keys().any(|name| counts_pods(name))
        && scopes::hold(&quota.spec, pod)
}

fn counts_pods(name: &str) -> bool {
    let pages = is_huge_pages(name.strip_prefix("requests.").unwrap_or(name));
    COUNTED.contains(&name) || pages || (!is_native(name) && name.starts_with("requests."))
}

/// What containers leave open of what the quota limits: `limits.cpu for: a,b; …`. Not asked of pods
/// with pod-level resources.
fn unspecified(quota: &ResourceQuota, pod: &Pod, used: &Used) -> Option<Reason> {
    if pod_level(pod).is_some() {
        return None;
    }
    let hard = used.hard(quota).keys();
    let required: Vec<&String> = hard.filter(|name| MUST_SPECIFY.contains(&name.as_str())).collect();
    let mut field = None;
    let mut missing = Vec::new();
    for name in required {
        let leaves_open = |c: &Container| !declared(requests(c), limits(c)).contains_key(name);
        let open: Vec<(Path, &Container)> = containers(pod).filter(|(_, c)| leaves_open(c)).collect();
        if let Some((path, _)) = open.first() {
            field.get_or_insert_with(|| path.child("resources"));
            let names: BTreeSet<&str> = open.iter().map(|(_, c)| c.name.as_str()).collect();
            let names: Vec<&str> = names.into_iter().collect();
            missing.push(format!("{name} for: {}", names.join(",")));
        }
    }
    let text = format!("failed quota: {}: must specify {}", quota.metadata.name, missing.join("; "));
    field.map(|field| Reason::new(field, text))
}

/// A quota whose status a cluster has not worked out yet.
fn unknown(quota: &ResourceQuota, used: &Used) -> Option<Reason> {
    let counted: Vec<&str> = used.hard(quota).keys().map(String::as_str).filter(|n| counts_pods(n)).collect();
    used.lacks(quota, &counted).then(|| {
        let text = format!(
            "status unknown for quota: {}, resources: {}",
            quota.metadata.name,
            counted.join(",")
        );
        Reason::new("metadata.namespace", text)
    })
}

/// A resource of which a quota has not enough left.
struct Over<'a> {
    resource: &'a str,
    requested: &'a Quantity,
    used: Quantity,
    hard: Quantity,
}

fn exceeded(quota: &ResourceQuota, pod: &Pod, usage: &ResourceList, used: &Used) -> Option<Reason> {
    let over = used.hard(quota).iter().filter_map(|(resource, hard)| {
        let hard = hard.rounded_to_milli();
        let requested = usage.get(resource).filter(|q| !q.is_zero())?;
        let used = used.get(quota, resource);
        (used.saturating_add(requested) > hard).then_some(Over {
            resource,
            requested,
            used,
            hard,
        })
    });
    let over: Vec<Over<'_>> = over.collect();
    let field = place_of(over.first()?.resource, pod);
    let list = |show: fn(&Over<'_>) -> String| over.iter().map(show).collect::<Vec<_>>().join(",");
    let requested = list(|o| format!("{}={}", o.resource, o.requested));
    let used = list(|o| format!("{}={}", o.resource, o.used));
    let hard = list(|o| format!("{}={}", o.resource, o.hard));
    let name = &quota.metadata.name;
    Some(Reason::new(
        field,
        format!("exceeded quota: {name}, requested: {requested}, used: {used}, limited: {hard}"),
    ))
}

/// Where a pod asks for what a quota knows as `counted`: its own resources, the first container that
/// asks for it, else the class, whose overhead does.
fn place_of(counted: &str, pod: &Pod) -> String {
    if counted == "pods" || counted == "count/pods" {
        return "metadata.name".to_string();
    }
    let (list, name) = match counted.split_once('.') {
        Some((list @ ("requests" | "limits"), name)) => (list, name),
        _ => ("requests", counted),
    };
    let of = |r: &cofferdam_model::pod::Resources| {
        if list == "limits" {
            r.limits.contains_key(name)
        } else {
            r.requests.contains_key(name)
        }
    };
    if pod_level(pod).is_some_and(of) {
        return Path::new("spec").child("resources").child(list).key(name).to_string();
    }
    let asking = containers(pod).find(|(_, c)| c.resources.as_ref().is_some_and(of));
    asking.map_or_else(
        || crate::selection::CLASS_NAME.to_string(),
        |(path, _)| path.child("resources").child(list).key(name).to_string(),
    )
}

/// All containers with their paths, init containers last.
fn containers(pod: &Pod) -> impl Iterator<Item = (Path, &Container)> {
    let lists = [("containers", &pod.spec.containers), ("initContainers", &pod.spec.init_containers)];
    lists.into_iter().flat_map(|(field, all)| {
        let list = Path::new("spec").child(field);
        all.iter().enumerate().map(move |(at, container)| (list.index(at), container))
    })
}

#[cfg(test)]
mod tests;
