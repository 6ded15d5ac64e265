//! What a RuntimeClass may say (`pkg/apis/node/validation`, `pkg/registry/node/runtimeclass`).

use crate::field::{Errors, Path, Warning};
use crate::requirements::{self, Owner};
use crate::selection::{DEFAULT_CLASS, LEGACY};
use crate::{Denied, format, meta, tolerations};
use cofferdam_model::ResourceList;
use cofferdam_model::objects::{Overhead, RuntimeClass, Scheduling};
use cofferdam_model::pod::Toleration;
use std::collections::BTreeSet;

const KIND: &str = "RuntimeClass.node.k8s.io";

/// Labels of nodes that have been replaced, with what upstream says of them (`pkg/api/node/util.go`).
const DEPRECATED_LABELS: [(&str, &str); 8] = [
    (
        "beta.kubernetes.io/arch",
        "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
    ),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    (
        "node-role.kubernetes.io/master",
        "use \"node-role.kubernetes.io/control-plane\" instead",
    ),
];

/// Checks a class that is to be created.
///
/// Beside upstream's rules: the name `legacy` is reserved (KEP-585: it asks for the default handler
/// with no class), and the default mark must be `"true"` or `"false"`, as a misread mark would let
/// pods into a weaker enclosure.
pub fn validate_create(class: &RuntimeClass) -> Result<(), Denied> {
    Denied::unless_valid(KIND, &class.metadata.name, create_errors(class))
}

/// Checks a class that is to replace `old`: everything that creation checks, then what may not
/// change. Overhead and scheduling may.
pub fn validate_update(new: &RuntimeClass, old: &RuntimeClass) -> Result<(), Denied> {
    let metadata = Path::new("metadata");
    let (name, version) = (&new.metadata.name, new.metadata.resource_version.as_deref().unwrap_or_default());
    let mut errors = Errors::default();
    if version.is_empty() || version == "0" {
        // The store says so before any rule is looked at, and in the words of its own envelope.
        errors.invalid(&metadata.child("resourceVersion"), 0_i64, "must be specified for an update");
        return Denied::unless_valid("runtimeclasses.node.k8s.io", name, errors);
    }
    errors.append(create_errors(new));
    let mut immutable = |path: &Path, new: &str, old: &str| {
        if new != old {
            errors.invalid(path, new, "field is immutable");
        }
    };
    immutable(&metadata.child("name"), name, &old.metadata.name);
    if let (Some(new), Some(old)) = (&new.metadata.uid, &old.metadata.uid) {
        immutable(&metadata.child("uid"), new, old);
    }
    immutable(&Path::new("handler"), &new.handler, &old.handler);
    Denied::unless_valid(KIND, name, errors)
}

/// What the API server warns of when a class is created or updated, in its words.
pub fn warnings(class: &RuntimeClass) -> Vec<String> {
    let found = deprecated_labels(class);
    found.map(|(_, text)| format!("scheduling.nodeSelector: {text}")).collect()
}

/// The same, each at the label that it is about.
pub fn placed_warnings(class: &RuntimeClass) -> Vec<Warning> {
    let path = Path::new("scheduling").child("nodeSelector");
    deprecated_labels(class)
        .map(|(label, text)| Warning::new(path.key(label), text))
        .collect()
}

fn deprecated_labels(class: &RuntimeClass) -> impl Iterator<Item = (&String, &'static str)> {
    let selector = class.scheduling.iter().flat_map(|s| s.node_selector.keys());
    selector.filter_map(|key| Some((key, deprecated_label(key)?)))
}

/// What is said of a node label that has been replaced.
pub(crate) fn deprecated_label(key: &str) -> Option<&'static str> {
    DEPRECATED_LABELS.iter().find(|(label, _)| *label == key).map(|(_, text)| *text)
}

fn create_errors(class: &RuntimeClass) -> Errors {
    let mut errors = Errors::default();
    meta::validate(&class.metadata, false, &mut errors);
    validate_own_rules(class, &mut errors);
    errors.invalid_each(&Path::new("handler"), &class.handler, format::dns_label(&class.handler));
    if let Some(overhead) = &class.overhead {
        validate_overhead(overhead, &mut errors);
    }
    if let Some(scheduling) = &class.scheduling {
        validate_scheduling(scheduling, &mut errors);
    }
    errors
}

fn validate_own_rules(class: &RuntimeClass, errors: &mut Errors) {
    let metadata = Path::new("metadata");
    if class.metadata.name == LEGACY {
        let rule = "\"legacy\" is reserved: pods name it to ask for the default handler with no class; choose another name";
        errors.forbidden(&metadata.child("name"), rule);
    }
    if let Some(mark) = class.metadata.annotations.get(DEFAULT_CLASS)
        && mark != "true"
        && mark != "false"
    {
        errors.not_supported(&metadata.child("annotations").key(DEFAULT_CLASS), mark, &["true", "false"]);
    }
}

/// Overhead is checked as a container's limits, and so its path has `limits` in it.
fn validate_overhead(overhead: &Overhead, errors: &mut Errors) {
    let limits = overhead.pod_fixed.clone().unwrap_or_default();
    requirements::validate(&ResourceList::new(), &limits, Owner::Container, &Path::new("overhead"), errors);
}

fn validate_scheduling(scheduling: &Scheduling, errors: &mut Errors) {
    let path = Path::new("scheduling");
    meta::labels(&scheduling.node_selector, &path.child("nodeSelector"), errors);
    let path = path.child("tolerations");
    // Upstream adds the field's name twice here.
    tolerations::validate(&scheduling.tolerations, &path.child("tolerations"), errors);
    let mut seen = BTreeSet::new();
    for (at, toleration) in scheduling.tolerations.iter().enumerate() {
        let Toleration {
            key,
            operator,
            value,
            effect,
            ..
        } = toleration;
        if !seen.insert((key, operator, value, effect)) {
            errors.duplicate(&path.index(at), internal_json(toleration));
        }
    }
}

/// A toleration as upstream's internal type, which has no JSON names, prints it.
fn internal_json(t: &Toleration) -> serde_json::Value {
    serde_json::json!({
        "Key": t.key, "Operator": t.operator, "Value": t.value, "Effect": t.effect,
        "TolerationSeconds": t.toleration_seconds,
    })
}

#[cfg(test)]
mod tests;
