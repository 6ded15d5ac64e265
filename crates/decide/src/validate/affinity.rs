//! Affinity and topology spread constraints (`validateAffinity`, `validateTopologySpreadConstraints`
//! of `pkg/apis/core/validation`, and `ValidateLabelSelector` of apimachinery).

use crate::field::{Errors, Path};
use crate::{format, meta};
use cofferdam_model::affinity::{Affinity, NodeSelectorTerm, PodAffinity, PodAffinityTerm, Requirement, TopologySpreadConstraint};
use cofferdam_model::objects::LabelSelector;
use std::collections::BTreeSet;

const WEIGHT: &str = "must be in the range 1-100";
const NOT_POSITIVE: &str = "must be greater than zero";
const NO_OPERATOR: &str = "not a valid selector operator";
const NEEDS_VALUES: &str = "must be specified when `operator` is 'In' or 'NotIn'";
const TAKES_NO_VALUES: &str = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
const BOTH_KEYS: &str = "exists in both matchLabelKeys and labelSelector";

pub(super) fn affinity(affinity: &Affinity, path: &Path, errors: &mut Errors) {
    if let Some(nodes) = &affinity.node_affinity {
        let path = path.child("nodeAffinity");
        if let Some(required) = &nodes.required {
            let path = path
                .child("requiredDuringSchedulingIgnoredDuringExecution")
                .child("nodeSelectorTerms");
            if required.node_selector_terms.is_empty() {
                errors.required(&path, "must have at least one node selector term");
            }
            for (at, term) in required.node_selector_terms.iter().enumerate() {
                node_term(term, true, &path.index(at), errors);
            }
        }
        let path = path.child("preferredDuringSchedulingIgnoredDuringExecution");
        for (at, term) in nodes.preferred.iter().enumerate() {
            let path = path.index(at);
            weight(term.weight, &path, errors);
            // Values of preferred terms are not looked at.
            node_term(&term.preference, false, &path.child("preference"), errors);
        }
    }
    for (field, pods) in [
        ("podAffinity", &affinity.pod_affinity),
        ("podAntiAffinity", &affinity.pod_anti_affinity),
    ] {
        if let Some(pods) = pods {
            pod_affinity(pods, &path.child(field), errors);
        }
    }
}

fn weight(weight: i32, path: &Path, errors: &mut Errors) {
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, WEIGHT);
    }
}

fn node_term(term: &NodeSelectorTerm, checks_values: bool, path: &Path, errors: &mut Errors) {
    for (at, requirement) in term.match_expressions.iter().enumerate() {
        node_requirement(requirement, checks_values, &path.child("matchExpressions").index(at), errors);
    }
    for (at, requirement) in term.match_fields.iter().enumerate() {
        field_requirement(requirement, &path.child("matchFields").index(at), errors);
    }
}

fn node_requirement(requirement: &Requirement, checks_values: bool, path: &Path, errors: &mut Errors) {
    match requirement.operator.as_str() {
        "Gt" | "Lt" if requirement.values.len() != 1 => {
            errors.required(
                &path.child("values"),
                "must be specified single value when `operator` is 'Lt' or 'Gt'",
            );
        }
        "Gt" | "Lt" => {}
        _ => values_of(requirement, path, errors),
    }
    key_and_values(requirement, checks_values, path, errors);
}

fn values_of(requirement: &Requirement, path: &Path, errors: &mut Errors) {
    match (requirement.operator.as_str(), requirement.values.is_empty()) {
        ("In" | "NotIn", true) => errors.required(&path.child("values"), NEEDS_VALUES),
        ("Exists" | "DoesNotExist", false) => errors.forbidden(&path.child("values"), TAKES_NO_VALUES),
        ("In" | "NotIn" | "Exists" | "DoesNotExist", _) => {}
        (other, _) => errors.invalid(&path.child("operator"), other, NO_OPERATOR),
    }
}

fn key_and_values(requirement: &Requirement, checks_values: bool, path: &Path, errors: &mut Errors) {
    errors.invalid_each(&path.child("key"), &requirement.key, format::qualified_name(&requirement.key));
    for (at, value) in requirement.values.iter().enumerate().filter(|_| checks_values) {
        errors.invalid_each(&path.child("values").index(at), value, format::label_value(value));
    }
}

fn field_requirement(requirement: &Requirement, path: &Path, errors: &mut Errors) {
    match requirement.operator.as_str() {
        "In" | "NotIn" if requirement.values.len() != 1 => {
            errors.required(
                &path.child("values"),
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            );
        }
        "In" | "NotIn" => {}
        other => errors.invalid(&path.child("operator"), other, NO_OPERATOR),
    }
    if requirement.key != "metadata.name" {
        errors.invalid(&path.child("key"), &requirement.key, "not a valid field selector key");
        return;
    }
    for (at, value) in requirement.values.iter().enumerate() {
        errors.invalid_each(&path.child("values").index(at), value, format::dns_subdomain(value));
    }
}

fn pod_affinity(affinity: &PodAffinity, path: &Path, errors: &mut Errors) {
    let required = path.child("requiredDuringSchedulingIgnoredDuringExecution");
    for (at, term) in affinity.required.iter().enumerate() {
        pod_term(term, &required.index(at), errors);
    }
    let preferred = path.child("preferredDuringSchedulingIgnoredDuringExecution");
    for (at, term) in affinity.preferred.iter().enumerate() {
        let path = preferred.index(at);
        weight(term.weight, &path, errors);
        pod_term(&term.pod_affinity_term, &path.child("podAffinityTerm"), errors);
    }
}

fn pod_term(term: &PodAffinityTerm, path: &Path, errors: &mut Errors) {
    selector(term.label_selector.as_ref(), &path.child("labelSelector"), errors);
    selector(term.namespace_selector.as_ref(), &path.child("namespaceSelector"), errors);
    for name in &term.namespaces {
        errors.invalid_each(&path.child("namespace"), name, format::dns_label(name));
    }
    let has_selector = term.label_selector.is_some();
    label_keys(&term.match_label_keys, has_selector, &path.child("matchLabelKeys"), errors);
    label_keys(&term.mismatch_label_keys, has_selector, &path.child("mismatchLabelKeys"), errors);
    let selected = selected_keys(term.label_selector.as_ref());
    let mismatched: BTreeSet<&str> = term.mismatch_label_keys.iter().map(String::as_str).collect();
    for (at, key) in term.match_label_keys.iter().enumerate() {
        if selected.contains(key.as_str()) {
            // The index stands at the term itself: upstream's path.
            errors.invalid(&path.index(at), key, BOTH_KEYS);
        }
        if mismatched.contains(key.as_str()) {
            errors.invalid(
                &path.child("matchLabelKeys").index(at),
                key,
                "exists in both matchLabelKeys and mismatchLabelKeys",
            );
        }
    }
    let key = path.child("topologyKey");
    if term.topology_key.is_empty() {
        errors.required(&key, "can not be empty");
    }
    errors.invalid_each(&key, &term.topology_key, format::qualified_name(&term.topology_key));
}

fn label_keys(keys: &[String], has_selector: bool, path: &Path, errors: &mut Errors) {
    if !keys.is_empty() && !has_selector {
        errors.forbidden(path, "must not be specified when labelSelector is not set");
        return;
    }
    for (at, key) in keys.iter().enumerate() {
        errors.invalid_each(&path.index(at), key, format::qualified_name(key));
    }
}

fn selected_keys(selector: Option<&LabelSelector>) -> BTreeSet<&str> {
    selector.map_or_else(BTreeSet::new, |s| {
        s.match_labels
            .keys()
            .chain(s.match_expressions.iter().map(|r| &r.key))
            .map(String::as_str)
            .collect()
    })
}

fn selector(selector: Option<&LabelSelector>, path: &Path, errors: &mut Errors) {
    let Some(selector) = selector else { return };
    meta::labels(&selector.match_labels, &path.child("matchLabels"), errors);
    for (at, requirement) in selector.match_expressions.iter().enumerate() {
        let path = path.child("matchExpressions").index(at);
        values_of(requirement, &path, errors);
        key_and_values(requirement, true, &path, errors);
    }
}

pub(super) fn topology_spread(constraints: &[TopologySpreadConstraint], path: &Path, errors: &mut Errors) {
    // Upstream compares each with the later ones; walked backwards, one look is enough.
    let mut later = BTreeSet::new();
    let mut twice: Vec<bool> = constraints
        .iter()
        .rev()
        .map(|c| !later.insert((&c.topology_key, &c.when_unsatisfiable)))
        .collect();
    twice.reverse();
    for (at, (constraint, twice)) in constraints.iter().zip(twice).enumerate() {
        spread(constraint, twice, &path.index(at), errors);
    }
}

fn spread(c: &TopologySpreadConstraint, twice: bool, path: &Path, errors: &mut Errors) {
    if c.max_skew <= 0 {
        errors.invalid(&path.child("maxSkew"), c.max_skew, NOT_POSITIVE);
    }
    if c.topology_key.is_empty() {
        errors.required(&path.child("topologyKey"), "can not be empty");
    }
    let action = c.when_unsatisfiable.as_str();
    if !["DoNotSchedule", "ScheduleAnyway"].contains(&action) {
        errors.not_supported(&path.child("whenUnsatisfiable"), action, &["DoNotSchedule", "ScheduleAnyway"]);
    }
    if twice {
        let both = format!("{{{}, {action}}}", c.topology_key);
        errors.duplicate(&path.child("{topologyKey, whenUnsatisfiable}"), &both);
    }
    if let Some(domains) = c.min_domains {
        let path = path.child("minDomains");
        if domains <= 0 {
            errors.invalid(&path, domains, NOT_POSITIVE);
        }
        if action != "DoNotSchedule" {
            errors.invalid(
                &path,
                domains,
                &format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"),
            );
        }
    }
    for (field, policy) in [
        ("nodeAffinityPolicy", &c.node_affinity_policy),
        ("nodeTaintsPolicy", &c.node_taints_policy),
    ] {
        if let Some(policy) = policy.as_deref().filter(|p| !["Honor", "Ignore"].contains(p)) {
            errors.not_supported(&path.child(field), policy, &["Honor", "Ignore"]);
        }
    }
    let keys = path.child("matchLabelKeys");
    label_keys(&c.match_label_keys, c.label_selector.is_some(), &keys, errors);
    let selected = selected_keys(c.label_selector.as_ref());
    for (at, key) in c
        .match_label_keys
        .iter()
        .enumerate()
        .filter(|(_, key)| selected.contains(key.as_str()))
    {
        errors.invalid(&keys.index(at), key, BOTH_KEYS);
    }
    selector(c.label_selector.as_ref(), &path.child("labelSelector"), errors);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use crate::testing::pod;
    use serde_json::{Value, json};

    const NAME: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

    fn check(rows: Vec<(Value, String)>) {
        for (spec, expected) in rows {
            let answer = super::super::pod(&pod(spec.clone())).map_or_else(|e| e.to_string(), |()| String::new());
            assert_eq!(answer.strip_prefix("Pod \"p\" is invalid: ").unwrap_or(&answer), expected, "{spec}");
        }
    }

    #[test]
    fn node_affinity() {
        let required = |terms: Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}});
        let expression = |fields: Value| required(json!([{"matchExpressions": [fields]}]));
        let field = |fields: Value| required(json!([{"matchFields": [fields]}]));
        let preferred = |weight: i32, fields: Value| json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": weight, "preference": {"matchExpressions": [fields]}}]}}});
        let terms = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
        let wish = "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0]";
        let at = |field: &str, rest: &str| format!("{terms}[0].{field}[0].{rest}");
        check(vec![
            (
                required(json!([])),
                format!("{terms}: Required value: must have at least one node selector term"),
            ),
            (required(json!([{}])), String::new()),
            (expression(json!({"key": "a", "operator": "In", "values": ["b"]})), String::new()),
            (expression(json!({"key": "a", "operator": "Gt", "values": ["1"]})), String::new()),
            (
                expression(json!({"key": "a", "operator": "In"})),
                at(
                    "matchExpressions",
                    "values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
                ),
            ),
            (
                expression(json!({"key": "a", "operator": "Exists", "values": ["b"]})),
                at(
                    "matchExpressions",
                    "values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                ),
            ),
            (
                expression(json!({"key": "a", "operator": "Lt", "values": ["1", "2"]})),
                at(
                    "matchExpressions",
                    "values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'",
                ),
            ),
            (
                expression(json!({"key": "a", "operator": "Near"})),
                at(
                    "matchExpressions",
                    "operator: Invalid value: \"Near\": not a valid selector operator",
                ),
            ),
            (
                expression(json!({"key": "-", "operator": "Exists"})),
                at("matchExpressions", &format!("key: Invalid value: \"-\": {NAME}")),
            ),
            (
                expression(json!({"key": "a", "operator": "In", "values": ["-"]})),
                at("matchExpressions", &format!("values[0]: Invalid value: \"-\": {VALUE}")),
            ),
            (
                field(json!({"key": "metadata.name", "operator": "In", "values": ["n1"]})),
                String::new(),
            ),
            (
                field(json!({"key": "metadata.name", "operator": "In"})),
                at(
                    "matchFields",
                    "values: Required value: must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
                ),
            ),
            (
                field(json!({"key": "metadata.name", "operator": "Exists"})),
                at("matchFields", "operator: Invalid value: \"Exists\": not a valid selector operator"),
            ),
            (
                field(json!({"key": "spec.x", "operator": "In", "values": ["n1"]})),
                at("matchFields", "key: Invalid value: \"spec.x\": not a valid field selector key"),
            ),
            (
                preferred(0, json!({"key": "a", "operator": "Exists"})),
                format!("{wish}.weight: Invalid value: 0: must be in the range 1-100"),
            ),
            (
                preferred(101, json!({"key": "a", "operator": "In", "values": ["-"]})),
                format!("{wish}.weight: Invalid value: 101: must be in the range 1-100"),
            ),
        ]);
    }

    #[test]
    fn pod_affinity() {
        let one = |term: Value| json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}});
        let at = |rest: &str| format!("spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]{rest}");
        let selector = json!({"matchLabels": {"a": "b"}});
        check(vec![
            (one(json!({"topologyKey": "zone", "labelSelector": selector})), String::new()),
            (one(json!({"topologyKey": "zone", "labelSelector": {"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}})), at(".labelSelector.matchExpressions[0].operator: Invalid value: \"Gt\": not a valid selector operator")),
            (one(json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "-"}}})), at(&format!(".labelSelector.matchLabels: Invalid value: \"-\": {VALUE}"))),
            (one(json!({"topologyKey": "zone", "namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}})), at(".namespaceSelector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'")),
            (one(json!({"topologyKey": "zone", "matchLabelKeys": ["a"]})), at(".matchLabelKeys: Forbidden: must not be specified when labelSelector is not set")),
            (one(json!({"topologyKey": "zone", "labelSelector": selector, "matchLabelKeys": ["a"]})), at("[0]: Invalid value: \"a\": exists in both matchLabelKeys and labelSelector")),
            (
                one(json!({"topologyKey": "zone", "labelSelector": selector, "matchLabelKeys": ["c"], "mismatchLabelKeys": ["c"]})),
                at(".matchLabelKeys[0]: Invalid value: \"c\": exists in both matchLabelKeys and mismatchLabelKeys"),
            ),
            (one(json!({"topologyKey": "-"})), at(&format!(".topologyKey: Invalid value: \"-\": {NAME}"))),
            (
                json!({"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 0, "podAffinityTerm": {"topologyKey": "zone"}}]}}}),
                "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100".into(),
            ),
        ]);
    }

    #[test]
    fn topology_spread_constraints() {
        let one = |more: Value| {
            let mut constraint = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"a": "b"}}});
            constraint.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            constraint
        };
        let spec = |list: Value| json!({"topologySpreadConstraints": list});
        let at = |rest: &str| format!("spec.topologySpreadConstraints[0].{rest}");
        check(vec![
            (
                spec(json!([
                    one(json!({})),
                    one(json!({"topologyKey": "host"})),
                    one(json!({"whenUnsatisfiable": "ScheduleAnyway"}))
                ])),
                String::new(),
            ),
            (
                spec(json!([one(json!({"maxSkew": 0}))])),
                at("maxSkew: Invalid value: 0: must be greater than zero"),
            ),
            (
                spec(json!([one(json!({"topologyKey": ""}))])),
                at("topologyKey: Required value: can not be empty"),
            ),
            (
                spec(json!([one(json!({"whenUnsatisfiable": "Hope"}))])),
                at("whenUnsatisfiable: Unsupported value: \"Hope\": supported values: \"DoNotSchedule\", \"ScheduleAnyway\""),
            ),
            (
                spec(json!([one(json!({})), one(json!({"maxSkew": 2}))])),
                at("{topologyKey, whenUnsatisfiable}: Duplicate value: \"{zone, DoNotSchedule}\""),
            ),
            (
                spec(json!([one(json!({"minDomains": 0}))])),
                at("minDomains: Invalid value: 0: must be greater than zero"),
            ),
            (
                spec(json!([one(json!({"minDomains": 2, "whenUnsatisfiable": "ScheduleAnyway"}))])),
                at("minDomains: Invalid value: 2: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway"),
            ),
            (
                spec(json!([one(json!({"nodeTaintsPolicy": "Maybe"}))])),
                at("nodeTaintsPolicy: Unsupported value: \"Maybe\": supported values: \"Honor\", \"Ignore\""),
            ),
            (
                spec(json!([one(json!({"matchLabelKeys": ["a"]}))])),
                at("matchLabelKeys[0]: Invalid value: \"a\": exists in both matchLabelKeys and labelSelector"),
            ),
            (
                spec(json!([one(json!({"matchLabelKeys": ["c"], "labelSelector": null}))])),
                at("matchLabelKeys: Forbidden: must not be specified when labelSelector is not set"),
            ),
            (
                spec(json!([one(
                    json!({"labelSelector": {"matchExpressions": [{"key": "a", "operator": "Gt"}]}})
                )])),
                at("labelSelector.matchExpressions[0].operator: Invalid value: \"Gt\": not a valid selector operator"),
            ),
        ]);
        let rfc = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
        check(vec![(
            json!({"nodeName": "N"}),
            format!("spec.nodeName: Invalid value: \"N\": {rfc}"),
        )]);
    }
}
