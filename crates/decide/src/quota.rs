//! ResourceQuota for pods (`pkg/quota/v1/evaluator/core/pods.go`,
//! `k8s.io/apiserver/pkg/admission/plugin/resourcequota`). Overhead counts, in usage alone.

use crate::Denied;
use crate::field::{Errors, Path};
use crate::requirements::{is_extended, is_huge_pages, is_native, is_standard_quota};
use crate::resources::{Qos, add, limits, pod_level, pod_limits, pod_requests, qos, requests};
use cofferdam_model::objects::ResourceQuota;
use cofferdam_model::pod::{Container, Pod};
use cofferdam_model::{Quantity, ResourceList};
use std::collections::{BTreeMap, BTreeSet};

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
const MUST_SPECIFY: [&str; 6] = [
    "cpu",
    "memory",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
];
const SCOPES: [&str; 4] = [
    "BestEffort",
    "NotBestEffort",
    "NotTerminating",
    "Terminating",
];
/// Scopes that upstream knows, and that need fields which pods do not have here.
const SCOPES_ELSEWHERE: [&str; 3] = [
    "CrossNamespacePodAffinity",
    "PriorityClass",
    "VolumeAttributesClass",
];

/// How much of each quota is used, by namespace and name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Used(BTreeMap<(String, String), ResourceList>);

impl Used {
    /// The usage of these pods. Leave out those that have ended: they hold nothing.
    pub fn of(quotas: &[ResourceQuota], pods: &[Pod]) -> Self {
        let mut used = Self::default();
        for pod in pods {
            used.charge(quotas, pod);
        }
        used
    }

    /// Adds the usage of a pod that was admitted.
    pub fn charge(&mut self, quotas: &[ResourceQuota], pod: &Pod) {
        let usage = usage(pod);
        for quota in quotas.iter().filter(|q| matches(q, pod)) {
            let hard = &quota.spec.hard;
            let counted = usage.iter().filter(|(name, _)| hard.contains_key(*name));
            let counted = counted.map(|(n, q)| (n.clone(), q.clone())).collect();
            add(self.0.entry(key(quota)).or_default(), &counted);
        }
    }

    /// What is used of one resource of a quota.
    pub fn get(&self, quota: &ResourceQuota, resource: &str) -> Quantity {
        self.0
            .get(&key(quota))
            .and_then(|used| used.get(resource))
            .cloned()
            .unwrap_or_default()
    }
}

fn key(quota: &ResourceQuota) -> (String, String) {
    (
        quota.metadata.namespace_or_default().to_string(),
        quota.metadata.name.clone(),
    )
}

/// Checks the scopes of a quota.
pub fn validate(quota: &ResourceQuota) -> Result<(), Denied> {
    let path = Path::new("spec").child("scopes");
    let scopes = &quota.spec.scopes;
    let all = serde_json::json!(scopes);
    let mut errors = Errors::default();
    for scope in scopes {
        if SCOPES_ELSEWHERE.contains(&scope.as_str()) {
            errors.not_supported(&path, scope, &SCOPES);
        } else if !SCOPES.contains(&scope.as_str()) {
            errors.invalid(&path, all.clone(), "unsupported scope");
        }
        let misapplied = |name: &&String| is_standard_quota(name) && !applies_to(scope, name);
        for _ in quota.spec.hard.keys().filter(misapplied) {
            errors.invalid(&path, all.clone(), "unsupported scope applied to resource");
        }
    }
    for pair in [
        ["BestEffort", "NotBestEffort"],
        ["Terminating", "NotTerminating"],
    ] {
        if pair.iter().all(|scope| scopes.iter().any(|s| s == scope)) {
            errors.invalid(&path, all.clone(), "conflicting scopes");
        }
    }
    Denied::unless_valid("ResourceQuota", &quota.metadata.name, errors)
}

fn applies_to(scope: &str, resource: &str) -> bool {
    match scope {
        "BestEffort" => resource == "pods",
        "NotBestEffort" | "Terminating" | "NotTerminating" => {
            resource == "pods" || MUST_SPECIFY.contains(&resource)
        }
        _ => true,
    }
}

/// Refuses a pod that a quota of its namespace has no room for, or that leaves open what a quota
/// must know.
pub fn check(pod: &Pod, quotas: &[ResourceQuota], used: &Used) -> Result<(), Denied> {
    let usage = usage(pod);
    for quota in quotas
        .iter()
        .filter(|q| q.metadata.namespace_or_default() == pod.metadata.namespace_or_default())
    {
        validate(quota)?;
        if !matches(quota, pod) {
            continue;
        }
        let name = &quota.metadata.name;
        if let Some(missing) = unspecified(quota, pod) {
            return Err(Denied::pod(
                pod,
                format!("failed quota: {name}: must specify {missing}"),
            ));
        }
        let over = quota.spec.hard.iter().filter_map(|(resource, hard)| {
            let requested = usage.get(resource).filter(|q| !q.is_zero())?;
            let used = used.get(quota, resource);
            (used.saturating_add(requested) > *hard).then(|| Over {
                resource,
                requested,
                used,
                hard,
            })
        });
        let over: Vec<Over<'_>> = over.collect();
        if !over.is_empty() {
            let list =
                |show: fn(&Over<'_>) -> String| over.iter().map(show).collect::<Vec<_>>().join(",");
            let requested = list(|o| format!("{}={}", o.resource, o.requested));
            let used = list(|o| format!("{}={}", o.resource, o.used));
            let hard = list(|o| format!("{}={}", o.resource, o.hard));
            let reason = format!(
                "exceeded quota: {name}, requested: {requested}, used: {used}, limited: {hard}"
            );
            return Err(Denied::pod(pod, reason));
        }
    }
    Ok(())
}

/// A resource of which a quota has not enough left.
struct Over<'a> {
    resource: &'a str,
    requested: &'a Quantity,
    used: Quantity,
    hard: &'a Quantity,
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
        let plain =
            ["cpu", "memory", "ephemeral-storage"].contains(&name.as_str()) || is_huge_pages(name);
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
fn matches(quota: &ResourceQuota, pod: &Pod) -> bool {
    quota.metadata.namespace_or_default() == pod.metadata.namespace_or_default()
        && quota.spec.hard.keys().any(|name| counts_pods(name))
        && quota.spec.scopes.iter().all(|scope| in_scope(scope, pod))
}

fn counts_pods(name: &str) -> bool {
    let pages = is_huge_pages(name.strip_prefix("requests.").unwrap_or(name));
    COUNTED.contains(&name) || pages || (!is_native(name) && name.starts_with("requests."))
}

fn in_scope(scope: &str, pod: &Pod) -> bool {
    let terminating = pod.spec.active_deadline_seconds.is_some_and(|s| s >= 0);
    match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => qos(pod) == Qos::BestEffort,
        "NotBestEffort" => qos(pod) != Qos::BestEffort,
        _ => false,
    }
}

/// What containers leave open of what the quota limits: `limits.cpu for: a,b; …`. Not asked of pods
/// with pod-level resources.
fn unspecified(quota: &ResourceQuota, pod: &Pod) -> Option<String> {
    if pod_level(pod).is_some() {
        return None;
    }
    let containers: Vec<&Container> = pod
        .spec
        .containers
        .iter()
        .chain(&pod.spec.init_containers)
        .collect();
    let required = quota
        .spec
        .hard
        .keys()
        .filter(|name| MUST_SPECIFY.contains(&name.as_str()));
    let missing = required.filter_map(|name| {
        let open = containers
            .iter()
            .filter(|c| !declared(requests(c), limits(c)).contains_key(name));
        let open: BTreeSet<&str> = open.map(|c| c.name.as_str()).collect();
        let names: Vec<&str> = open.into_iter().collect();
        (!names.is_empty()).then(|| format!("{name} for: {}", names.join(",")))
    });
    let missing: Vec<String> = missing.collect();
    (!missing.is_empty()).then(|| missing.join("; "))
}

#[cfg(test)]
mod tests;
