//! What the API server warns of where it lets a pod in (`pkg/api/pod/warnings.go`), of the fields
//! that Cofferdam honours.

use crate::field::{Path, Warning, go_quote};
use crate::runtime_class::deprecated_label;
use crate::validate::security::{SECCOMP_CONTAINER, SECCOMP_POD};
use cofferdam_model::ResourceList;
use cofferdam_model::affinity::NodeSelectorTerm;
use cofferdam_model::pod::{Container, EnvVar, Pod, PodSpec};
use std::collections::BTreeSet;

/// The warnings of an admitted pod, in upstream's words and order.
pub fn of_pod(pod: &Pod) -> Vec<Warning> {
    let spec = &pod.spec;
    let mut warnings = Vec::new();
    labels(spec, &mut warnings);
    let path = Path::new("spec");
    twice(spec.host_aliases.iter().map(|a| a.ip.as_str()), "ip", &path.child("hostAliases"), &mut warnings);
    twice(
        spec.image_pull_secrets.iter().map(|s| s.name.as_str()),
        "name",
        &path.child("imagePullSecrets"),
        &mut warnings,
    );
    fractions(spec.overhead.as_ref(), &path.child("overhead"), &mut warnings);
    let context = spec.security_context.as_ref();
    if context.is_none_or(|c| c.seccomp_profile.is_none()) {
        annotated(pod, SECCOMP_POD, &mut warnings);
    }
    for (list, containers) in [("initContainers", &spec.init_containers), ("containers", &spec.containers)] {
        for (at, one) in containers.iter().enumerate() {
            if one.security_context.as_ref().is_none_or(|c| c.seccomp_profile.is_none()) {
                annotated(pod, &format!("{SECCOMP_CONTAINER}{}", one.name), &mut warnings);
            }
            container(one, &path.child(list).index(at), &mut warnings);
        }
    }
    warnings
}

/// An annotation that named a seccomp profile once.
fn annotated(pod: &Pod, key: &str, warnings: &mut Vec<Warning>) {
    if pod.metadata.annotations.contains_key(key) {
        let path = Path::new("metadata").child("annotations").key(key);
        warnings.push(Warning::new(
            path,
            "non-functional in v1.27+; use the \"seccompProfile\" field instead",
        ));
    }
}

/// An address or name that stands twice.
fn twice<'t>(texts: impl Iterator<Item = &'t str>, field: &str, path: &Path, warnings: &mut Vec<Warning>) {
    let mut seen = BTreeSet::new();
    for (at, text) in texts.enumerate() {
        if !seen.insert(text) {
            let text = format!("duplicate {field} {}", go_quote(text));
            warnings.push(Warning::new(path.index(at).child(field), text));
        }
    }
}

/// Labels of nodes that have been replaced.
fn labels(spec: &PodSpec, warnings: &mut Vec<Warning>) {
    let path = Path::new("spec");
    let selector = path.child("nodeSelector");
    let replaced = spec.node_selector.keys().filter_map(|key| Some((key, deprecated_label(key)?)));
    warnings.extend(replaced.map(|(key, text)| Warning::new(selector.key(key), text)));
    if let Some(nodes) = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref()) {
        let path = path.child("affinity").child("nodeAffinity");
        let required = path
            .child("requiredDuringSchedulingIgnoredDuringExecution")
            .child("nodeSelectorTerms");
        for (at, one) in nodes.required.iter().flat_map(|r| &r.node_selector_terms).enumerate() {
            term(one, &required.index(at), warnings);
        }
        let preferred = path.child("preferredDuringSchedulingIgnoredDuringExecution");
        for (at, one) in nodes.preferred.iter().enumerate() {
            term(&one.preference, &preferred.index(at).child("preference"), warnings);
        }
    }
    for (at, spread) in spec.topology_spread_constraints.iter().enumerate() {
        let path = path.child("topologySpreadConstraints").index(at);
        warnings.extend(replaced_key(&spread.topology_key, &path.child("topologyKey")));
        if spread.label_selector.is_none() {
            let text = "a null labelSelector results in matching no pod";
            warnings.push(Warning::new(path.child("labelSelector"), text));
        }
    }
}

fn term(term: &NodeSelectorTerm, path: &Path, warnings: &mut Vec<Warning>) {
    for (at, expression) in term.match_expressions.iter().enumerate() {
        warnings.extend(replaced_key(
            &expression.key,
            &path.child("matchExpressions").index(at).child("key"),
        ));
    }
}

fn replaced_key(key: &str, path: &Path) -> Option<Warning> {
    deprecated_label(key).map(|text| Warning::new(path, format!("{key} is {text}")))
}

fn container(container: &Container, path: &Path, warnings: &mut Vec<Warning>) {
    let resources = path.child("resources");
    let own = container.resources.as_ref();
    fractions(own.map(|r| &r.limits), &resources.child("limits"), warnings);
    fractions(own.map(|r| &r.requests), &resources.child("requests"), warnings);
    let mut names = BTreeSet::new();
    for (at, variable) in container.env.iter().enumerate() {
        if !names.insert(&variable.name) && hides(variable) {
            let text = format!(
                "hides previous definition of {}, which may be dropped when using apply",
                go_quote(&variable.name)
            );
            warnings.push(Warning::new(path.child("env").index(at), text));
        }
    }
}

/// Whether nothing of the former value is left: it is replaced, or named alone.
fn hides(variable: &EnvVar) -> bool {
    let former = format!("$({})", variable.name);
    let value = variable.value.as_deref().unwrap_or_default();
    variable.value_from.is_some() || value == former || !value.contains(&former)
}

/// Parts of bytes, which most often mean a wrong suffix: `100m` for `100M`.
fn fractions(list: Option<&ResourceList>, path: &Path, warnings: &mut Vec<Warning>) {
    for name in ["memory", "ephemeral-storage"] {
        let quantity = list.and_then(|l| l.get(name));
        if let Some(quantity) = quantity.filter(|q| q.milli_value() % 1000 != 0) {
            let quoted = go_quote(&quantity.to_string());
            let text = format!("fractional byte value {quoted} is invalid, must be an integer");
            warnings.push(Warning::new(path.key(name), text));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{container, pod};
    use serde_json::{Value, json};

    fn with_env(env: Value) -> Value {
        json!({"containers": [{"name": "c", "image": "i", "env": env}]})
    }

    #[test]
    fn each_rule() {
        let is_fraction = "fractional byte value \"100m\" is invalid, must be an integer";
        let terms = json!([{"matchExpressions": [{"key": "beta.kubernetes.io/os", "operator": "Exists"}]}]);
        let hidden = "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply";
        let rows: Vec<(Value, Vec<String>)> = vec![
            (json!({}), vec![]),
            (
                json!({
                    "overhead": {"memory": "100m", "cpu": "100m"},
                    "initContainers": [container("i", json!({"limits": {"ephemeral-storage": "100m"}}))],
                    "containers": [container("c", json!({"requests": {"memory": "100m"}, "limits": {"memory": "1500", "cpu": "100m"}}))],
                }),
                [
                    "spec.overhead[memory]",
                    "spec.initContainers[0].resources.limits[ephemeral-storage]",
                    "spec.containers[0].resources.requests[memory]",
                ]
                .map(|path| format!("{path}: {is_fraction}"))
                .to_vec(),
            ),
            (
                json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}),
                vec!["spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key: beta.kubernetes.io/os is deprecated since v1.14; use \"kubernetes.io/os\" instead".into()],
            ),
            (
                json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "failure-domain.beta.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}]}),
                vec![
                    "spec.topologySpreadConstraints[0].topologyKey: failure-domain.beta.kubernetes.io/zone is deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead".into(),
                    "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod".into(),
                ],
            ),
            (with_env(json!([{"name": "A", "value": "x"}, {"name": "A", "value": "y"}])), vec![hidden.into()]),
            (with_env(json!([{"name": "A", "value": "x"}, {"name": "A", "value": "$(A)"}])), vec![hidden.into()]),
            (with_env(json!([{"name": "A", "value": "x"}, {"name": "A", "value": "$(A)y"}])), vec![]),
        ];
        for (spec, expected) in rows {
            let told: Vec<String> = of_pod(&pod(spec)).iter().map(ToString::to_string).collect();
            assert_eq!(told, expected);
        }
    }
}
