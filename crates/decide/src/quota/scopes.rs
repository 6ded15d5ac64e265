//! Which pods a quota counts (`podMatchesScopeFunc` in `pkg/quota/v1/evaluator/core/pods.go`).

use crate::resources::{Qos, qos};
use cofferdam_model::affinity::{PodAffinity, PodAffinityTerm};
use cofferdam_model::objects::{ResourceQuotaSpec, ScopeRequirement};
use cofferdam_model::pod::Pod;

pub(super) const TERMINATING: &str = "Terminating";
pub(super) const NOT_TERMINATING: &str = "NotTerminating";
pub(super) const BEST_EFFORT: &str = "BestEffort";
pub(super) const NOT_BEST_EFFORT: &str = "NotBestEffort";
pub(super) const PRIORITY_CLASS: &str = "PriorityClass";
pub(super) const CROSS_NAMESPACE: &str = "CrossNamespacePodAffinity";
/// Of volume claims, which no pod is.
pub(super) const VOLUME_ATTRIBUTES: &str = "VolumeAttributesClass";

/// Whether the pod is in all scopes of the quota.
pub(super) fn hold(spec: &ResourceQuotaSpec, pod: &Pod) -> bool {
    let expressions = spec.scope_selector.iter().flat_map(|s| &s.match_expressions);
    spec.scopes.iter().all(|scope| holds(scope, None, pod)) && expressions.into_iter().all(|e| holds(&e.scope_name, Some(e), pod))
}

/// Whether the pod is in a scope. Only the scope of priority classes looks at the expression: the
/// others can only be asked whether they exist.
fn holds(scope: &str, expression: Option<&ScopeRequirement>, pod: &Pod) -> bool {
    let terminating = || pod.spec.active_deadline_seconds.is_some_and(|s| s >= 0);
    match scope {
        TERMINATING => terminating(),
        NOT_TERMINATING => !terminating(),
        BEST_EFFORT => qos(pod) == Qos::BestEffort,
        NOT_BEST_EFFORT => qos(pod) != Qos::BestEffort,
        PRIORITY_CLASS => of_priority_class(expression, pod),
        CROSS_NAMESPACE => names_other_namespaces(pod),
        _ => false,
    }
}

fn of_priority_class(expression: Option<&ScopeRequirement>, pod: &Pod) -> bool {
    let class = pod.spec.priority_class_name.as_deref().filter(|c| !c.is_empty());
    let Some(ScopeRequirement { operator, values, .. }) = expression else {
        return class.is_some();
    };
    let named = || class.is_some_and(|class| values.iter().any(|v| v == class));
    match operator.as_str() {
        "Exists" => class.is_some(),
        "DoesNotExist" => class.is_none(),
        "In" => named(),
        // As with labels: a pod without a class is not in any of the values.
        "NotIn" => !named(),
        _ => false,
    }
}

/// Whether a term of affinity to pods, or against them, says namespaces.
fn names_other_namespaces(pod: &Pod) -> bool {
    let Some(affinity) = &pod.spec.affinity else {
        return false;
    };
    let says = |term: &PodAffinityTerm| !term.namespaces.is_empty() || term.namespace_selector.is_some();
    let any = |a: &PodAffinity| a.required.iter().any(says) || a.preferred.iter().any(|w| says(&w.pod_affinity_term));
    [&affinity.pod_affinity, &affinity.pod_anti_affinity].into_iter().flatten().any(any)
}
