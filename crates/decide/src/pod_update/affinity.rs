//! Affinity to nodes of a pod that is not placed yet: its required terms may be narrowed.

use crate::field::{Errors, Path};
use cofferdam_model::affinity::{Affinity, NodeAffinity, NodeSelectorTerm, Requirement};
use cofferdam_model::pod::PodSpec;
use serde_json::{Value, json};

/// Checks what changed (`validateNodeAffinityMutation`), and makes it equal.
pub(super) fn node(new: &mut PodSpec, old: &PodSpec, path: &Path, errors: &mut Errors) {
    let of = |spec: &PodSpec| spec.affinity.as_ref().and_then(|a| a.node_affinity.clone());
    let (now, before) = (of(new), of(old));
    if now == before {
        return;
    }
    let path = path
        .child("requiredDuringSchedulingIgnoredDuringExecution")
        .child("nodeSelectorTerms");
    required(&terms(now.as_ref()), &terms(before.as_ref()), &path, errors);
    match &mut new.affinity {
        None => {
            new.affinity = Some(Affinity {
                node_affinity: before,
                ..Affinity::default()
            })
        }
        Some(affinity) => affinity.node_affinity = before,
    }
    if old.affinity.is_none() && new.affinity == Some(Affinity::default()) {
        new.affinity = None;
    }
}

fn terms(affinity: Option<&NodeAffinity>) -> Vec<NodeSelectorTerm> {
    let required = affinity.and_then(|a| a.required.as_ref());
    required.map(|r| r.node_selector_terms.clone()).unwrap_or_default()
}

fn required(new: &[NodeSelectorTerm], old: &[NodeSelectorTerm], path: &Path, errors: &mut Errors) {
    if old.is_empty() {
        return;
    }
    if new.len() != old.len() {
        let shown = if new.is_empty() {
            Value::Null
        } else {
            new.iter().map(internal_json).collect()
        };
        errors.invalid(
            path,
            shown,
            "no additions/deletions to non-empty NodeSelectorTerms list are allowed",
        );
        return;
    }
    for (at, (new, old)) in new.iter().zip(old).enumerate() {
        if !only_adds(new, old) {
            errors.invalid(
                &path.index(at),
                internal_json(new),
                "only additions are allowed (no mutations or deletions)",
            );
        }
    }
}

/// Whether the new term begins with the old one. An empty term matches no node, so that adding to it
/// would widen it.
fn only_adds(new: &NodeSelectorTerm, old: &NodeSelectorTerm) -> bool {
    let is_empty = |t: &NodeSelectorTerm| t.match_expressions.is_empty() && t.match_fields.is_empty();
    (!is_empty(old) || is_empty(new))
        && new.match_expressions.starts_with(&old.match_expressions)
        && new.match_fields.starts_with(&old.match_fields)
}

/// A term as upstream's internal type, which has no JSON names, prints it.
fn internal_json(term: &NodeSelectorTerm) -> Value {
    let absent = |list: Vec<Value>| if list.is_empty() { Value::Null } else { Value::Array(list) };
    let one = |r: &Requirement| {
        let values = absent(r.values.iter().map(|v| json!(v)).collect());
        json!({"Key": r.key, "Operator": r.operator, "Values": values})
    };
    let list = |all: &[Requirement]| absent(all.iter().map(one).collect());
    json!({"MatchExpressions": list(&term.match_expressions), "MatchFields": list(&term.match_fields)})
}
