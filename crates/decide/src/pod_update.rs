//! What an update of a pod may change (`ValidatePodUpdate` in `pkg/apis/core/validation`): images,
//! the deadline, further tolerations, fewer scheduling gates, and of a gated pod further demands on
//! its node. Class and overhead never.

mod affinity;
mod diff;
mod normal;

use crate::field::{Errors, Path};
use crate::{Denied, defaults, format, tolerations, validate};
use cofferdam_model::meta::ObjectMeta;
use cofferdam_model::pod::{Container, Pod, PodSpec, SchedulingGate, Toleration};
use serde_json::{Value, json};

/// The fields that an update may change, in upstream's words.
const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Checks a pod that is to replace `old`, in upstream's words and order.
///
/// `new` is the whole object, as a PUT has it or a patch gives it. Absent fields are read as the API
/// server's defaulting reads them, on both sides. The diff at the end of the last message is in a
/// form of its own: upstream's shows Go structs, and varies by design.
pub fn validate_update(new: &Pod, old: &Pod) -> Result<(), Denied> {
    let (mut new, mut old) = (new.clone(), old.clone());
    defaults::apply(&mut new);
    defaults::apply(&mut old);
    defaults::drop_disabled(&mut new, Some(&old));
    let mut errors = Errors::default();
    metadata(&new.metadata, &old.metadata, &mut errors);
    if let Err(Denied::Invalid { errors: more, .. }) = validate::pod(&new) {
        errors.append(more);
    }
    let name = new.metadata.name.clone();
    spec(new.spec, old.spec, &mut errors);
    Denied::unless_valid("Pod", &name, errors)
}

/// `ValidateObjectMetaUpdate`, of what the model has: an absent uid or namespace is filled in before
/// it is compared.
fn metadata(new: &ObjectMeta, old: &ObjectMeta, errors: &mut Errors) {
    let path = Path::new("metadata");
    let mut same = |field: &str, new: &str, old: &str| {
        if new != old {
            errors.invalid(&path.child(field), new, "field is immutable");
        }
    };
    same("name", &new.name, &old.name);
    same("namespace", new.namespace_or_default(), old.namespace_or_default());
    if let (Some(new), Some(old)) = (&new.uid, &old.uid) {
        same("uid", new, old);
    }
}

fn spec(new: PodSpec, old: PodSpec, errors: &mut Errors) {
    let path = Path::new("spec");
    for (list, new, old) in [
        ("containers", &new.containers, &old.containers),
        ("initContainers", &new.init_containers, &old.init_containers),
    ] {
        if !same_count(new, old, &path.child(list), errors) {
            return;
        }
    }
    if !deadline(
        new.active_deadline_seconds,
        old.active_deadline_seconds,
        &path.child("activeDeadlineSeconds"),
        errors,
    ) {
        return;
    }
    added_tolerations(&new.tolerations, &old.tolerations, &path.child("tolerations"), errors);
    deleted_gates(&new.scheduling_gates, &old.scheduling_gates, &path.child("schedulingGates"), errors);

    let (mut new, old) = (normal::form(new), normal::form(old));
    take_over_what_may_change(&mut new, &old);
    if !old.scheduling_gates.is_empty() {
        node_selector(&mut new, &old, &path.child("nodeSelector"), errors);
        affinity::node(&mut new, &old, &path.child("affinity").child("nodeAffinity"), errors);
    }
    if new != old {
        let diff = diff::of(&json!(old), &json!(new));
        errors.forbidden(&path, &format!("pod updates may not change fields other than {UPDATABLE}\n{diff}"));
    }
}

/// Whether there are as many containers as before, without which nothing else can be compared.
fn same_count(new: &[Container], old: &[Container], path: &Path, errors: &mut Errors) -> bool {
    if new.len() != old.len() {
        errors.forbidden(path, "pod updates may not add or remove containers");
        return false;
    }
    for (at, container) in new.iter().enumerate() {
        let path = path.index(at).child("image");
        if container.image.is_empty() {
            errors.required(&path, "");
        }
        if container.image.trim() != container.image {
            errors.invalid(&path, &container.image, "must not have leading or trailing whitespace");
        }
    }
    true
}

/// Checks the deadline, which may come or shrink; whether the rest is to be checked.
fn deadline(new: Option<i64>, old: Option<i64>, path: &Path, errors: &mut Errors) -> bool {
    match (new, old) {
        (Some(new), _) if !format::in_range(new, 0, i32::MAX.into()).is_empty() => {
            for wrong in format::in_range(new, 0, i32::MAX.into()) {
                errors.invalid(path, new, &wrong);
            }
            false
        }
        (Some(new), Some(old)) if old < new => {
            errors.invalid(path, new, "must be less than or equal to previous value");
            false
        }
        (None, Some(_)) => {
            errors.invalid(path, Value::Null, "must not update from a positive integer to nil value");
            true
        }
        _ => true,
    }
}

fn added_tolerations(new: &[Toleration], old: &[Toleration], path: &Path, errors: &mut Errors) {
    let untimed = |t: &Toleration| Toleration {
        toleration_seconds: None,
        ..t.clone()
    };
    let kept = |old: &Toleration| new.iter().any(|new| untimed(new) == untimed(old));
    if old.iter().all(kept) {
        tolerations::validate(new, path, errors);
    } else {
        errors.forbidden(path, "existing toleration can not be modified except its tolerationSeconds");
    }
}

fn deleted_gates(new: &[SchedulingGate], old: &[SchedulingGate], path: &Path, errors: &mut Errors) {
    for (at, gate) in new.iter().enumerate().filter(|(_, gate)| !old.contains(gate)) {
        let rule = format!("only deletion is allowed, but found new scheduling gate '{}'", gate.name);
        errors.forbidden(&path.index(at).child("name"), &rule);
    }
}

/// What is checked already, or need not be, is made equal.
fn take_over_what_may_change(new: &mut PodSpec, old: &PodSpec) {
    let all = new.containers.iter_mut().zip(&old.containers);
    for (new, old) in all.chain(new.init_containers.iter_mut().zip(&old.init_containers)) {
        new.image.clone_from(&old.image);
    }
    new.active_deadline_seconds = old.active_deadline_seconds;
    new.tolerations.clone_from(&old.tolerations);
    new.scheduling_gates.clone_from(&old.scheduling_gates);
    let grace = |spec: &PodSpec| spec.termination_grace_period_seconds;
    if grace(old).is_some_and(|s| s < 0) && grace(new) == Some(1) {
        new.termination_grace_period_seconds = grace(old);
    }
}

/// The selector of a gated pod may gain entries.
fn node_selector(new: &mut PodSpec, old: &PodSpec, path: &Path, errors: &mut Errors) {
    let kept = |(key, value): (&String, &String)| new.node_selector.get(key) == Some(value);
    if !old.node_selector.iter().all(kept) {
        let shown = if new.node_selector.is_empty() {
            Value::Null
        } else {
            json!(new.node_selector)
        };
        errors.invalid(
            path,
            shown,
            "only additions to spec.nodeSelector are allowed (no mutations or deletions)",
        );
    }
    new.node_selector.clone_from(&old.node_selector);
}

#[cfg(test)]
mod tests;
