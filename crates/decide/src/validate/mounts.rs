//! Rules of where containers have volumes.

use super::volumes::local_path;
use crate::field::{Errors, Path};
use cofferdam_model::pod::{Container, VolumeMount};
use std::collections::BTreeSet;

/// Checks the mounts of a container. `volumes`: the names of the volumes that are right.
pub(super) fn validate(container: &Container, volumes: &BTreeSet<&str>, path: &Path, errors: &mut Errors) {
    let is_privileged = container.security_context.as_ref().is_some_and(|s| s.privileged == Some(true));
    let mut places = BTreeSet::new();
    for (at, mount) in container.volume_mounts.iter().enumerate() {
        let entry = path.index(at);
        if mount.name.is_empty() {
            errors.required(&entry.child("name"), "");
        }
        if !volumes.contains(mount.name.as_str()) {
            errors.not_found(&entry.child("name"), &mount.name);
        }
        if mount.mount_path.is_empty() {
            errors.required(&entry.child("mountPath"), "");
        }
        if !places.insert(&mount.mount_path) {
            errors.invalid(&entry.child("mountPath"), &mount.mount_path, "must be unique");
        }
        sub_paths(mount, &entry, path, errors);
        propagation(mount, is_privileged, &path.child("mountPropagation"), errors);
        read_only(mount, &path.child("recursiveReadOnly"), errors);
    }
}

/// Upstream leaves the entry's index out of most of these paths.
fn sub_paths(mount: &VolumeMount, entry: &Path, path: &Path, errors: &mut Errors) {
    let given = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    let sub_path = given(&mount.sub_path);
    if let Some(sub_path) = &sub_path {
        local_path(sub_path, &path.child("subPath"), errors);
    }
    if let Some(expression) = given(&mount.sub_path_expr) {
        if sub_path.is_some() {
            errors.invalid(
                &entry.child("subPathExpr"),
                &expression,
                "subPathExpr and subPath are mutually exclusive",
            );
        }
        local_path(&expression, &path.child("subPathExpr"), errors);
    }
}

fn propagation(mount: &VolumeMount, is_privileged: bool, path: &Path, errors: &mut Errors) {
    let Some(propagation) = mount.mount_propagation.as_deref() else {
        return;
    };
    let known = ["Bidirectional", "HostToContainer", "None"];
    if !known.contains(&propagation) {
        errors.not_supported(path, propagation, &known);
    }
    if propagation == "Bidirectional" && !is_privileged {
        errors.forbidden(path, "Bidirectional mount propagation is available only to privileged containers");
    }
}

fn read_only(mount: &VolumeMount, path: &Path, errors: &mut Errors) {
    match mount.recursive_read_only.as_deref() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !mount.read_only {
                errors.forbidden(path, "may only be specified when readOnly is true");
            }
            if mount.mount_propagation.as_deref().is_some_and(|p| p != "None") {
                errors.forbidden(path, "may only be specified when mountPropagation is None or not specified");
            }
        }
        Some(other) => errors.not_supported(path, other, &["Disabled", "Enabled", "IfPossible"]),
    }
}
