//! Bounds of affinity and topology spread constraints, which Kubernetes does not have: every term
//! costs a scheduler something on every node.

use super::Check;
use crate::path::Path;
use cofferdam_model::affinity::{NodeSelectorTerm, PodAffinity, PodAffinityTerm, Requirement};
use cofferdam_model::objects::LabelSelector;
use cofferdam_model::pod::PodSpec;

/// Greatest number of terms, requirements, values, … of one pod's affinity and constraints together.
const MAX_PARTS: usize = 1000;

/// Checks the affinity and constraints of a pod's spec that stands at `path`.
pub(super) fn bounds(check: &mut Check<'_>, path: &Path, spec: &PodSpec) {
    let affinity = spec.affinity.as_ref();
    let nodes = affinity.and_then(|a| a.node_affinity.as_ref()).map_or(0, |a| {
        let required = a.required.iter().flat_map(|r| &r.node_selector_terms);
        required.chain(a.preferred.iter().map(|p| &p.preference)).map(node_term).sum()
    });
    let pods = |affinity: Option<&PodAffinity>| {
        affinity.map_or(0, |a| {
            a.required
                .iter()
                .chain(a.preferred.iter().map(|p| &p.pod_affinity_term))
                .map(pod_term)
                .sum::<usize>()
        })
    };
    let near = pods(affinity.and_then(|a| a.pod_affinity.as_ref()));
    let far = pods(affinity.and_then(|a| a.pod_anti_affinity.as_ref()));
    let spread = spec
        .topology_spread_constraints
        .iter()
        .map(|c| 1 + selector(c.label_selector.as_ref()) + c.match_label_keys.len())
        .sum();
    for (field, count) in [("affinity", nodes + near + far), ("topologySpreadConstraints", spread)] {
        if count > MAX_PARTS {
            check.refuse(
                &path.key(field),
                format!("has more than {MAX_PARTS} terms, requirements and values; select by fewer labels"),
            );
        }
    }
}

fn node_term(term: &NodeSelectorTerm) -> usize {
    1 + requirements(&term.match_expressions) + requirements(&term.match_fields)
}

fn pod_term(term: &PodAffinityTerm) -> usize {
    let lists = [&term.namespaces, &term.match_label_keys, &term.mismatch_label_keys];
    1 + selector(term.label_selector.as_ref()) + selector(term.namespace_selector.as_ref()) + lists.iter().map(|l| l.len()).sum::<usize>()
}

fn selector(selector: Option<&LabelSelector>) -> usize {
    selector.map_or(0, |s| s.match_labels.len() + requirements(&s.match_expressions))
}

fn requirements(all: &[Requirement]) -> usize {
    all.iter().map(|r| 1 + r.values.len()).sum()
}
