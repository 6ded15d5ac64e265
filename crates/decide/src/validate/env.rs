//! Rules of environment variables.

use crate::field::{Errors, Path};
use crate::format;
use cofferdam_model::Quantity;
use cofferdam_model::pod::{EnvFrom, EnvSource, EnvVar, FieldRef, KeyRef, LocalRef, ResourceFieldRef};

/// What a field of the pod is taken for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Taker {
    Variable,
    File,
}

/// Fields of the pod that a variable may take, sorted as upstream prints them.
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of the pod that a file may show.
const FILE_FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];
/// Fields that upstream knows, and that neither may take.
const OTHER_FIELDS: [&str; 3] = [
    "spec.restartPolicy",
    "spec.schedulerName",
    "status.phase",
];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const SIZES: &str = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei";

/// Checks the variables of the list at `path`.
pub(super) fn validate(vars: &[EnvVar], path: &Path, errors: &mut Errors) {
    for (at, var) in vars.iter().enumerate() {
        let path = path.index(at);
        if var.name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            errors.invalid_each(&path.child("name"), &var.name, format::env_name(&var.name));
        }
        if let Some(source) = &var.value_from {
            let has_value = var.value.as_ref().is_some_and(|v| !v.is_empty());
            validate_source(source, has_value, &path.child("valueFrom"), errors);
        }
    }
}

/// Checks the whole-object sources of the list at `path`.
pub(super) fn validate_from(sources: &[EnvFrom], path: &Path, errors: &mut Errors) {
    for (at, source) in sources.iter().enumerate() {
        let entry = path.index(at);
        if let Some(prefix) = source.prefix.as_ref().filter(|p| !p.is_empty()) {
            errors.invalid_each(&entry.child("prefix"), prefix, format::env_name(prefix));
        }
        let refs = [("configMapRef", &source.config_map_ref), ("secretRef", &source.secret_ref)];
        for (name, reference) in refs {
            if let Some(reference) = reference {
                validate_object(reference, &entry.child(name).child("name"), errors);
            }
        }
        // Both of these sit at the list, not at the entry.
        match refs.iter().filter(|(_, r)| r.is_some()).count() {
            0 => errors.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => errors.invalid(path, "", "may not have more than one field specified at a time"),
        }
    }
}

fn validate_object(reference: &LocalRef, path: &Path, errors: &mut Errors) {
    if reference.name.is_empty() {
        errors.required(path, "");
    } else {
        errors.invalid_each(path, &reference.name, format::dns_subdomain(&reference.name));
    }
}

fn validate_source(source: &EnvSource, has_value: bool, path: &Path, errors: &mut Errors) {
    let mut given = 0;
    if let Some(field) = &source.field_ref {
        given += 1;
        validate_field(field, Taker::Variable, &path.child("fieldRef"), errors);
    }
    if let Some(resource) = &source.resource_field_ref {
        given += 1;
        validate_resource(resource, Taker::Variable, &path.child("resourceFieldRef"), errors);
    }
    for (name, key) in [
        ("configMapKeyRef", &source.config_map_key_ref),
        ("secretKeyRef", &source.secret_key_ref),
    ] {
        if let Some(key) = key {
            given += 1;
            validate_key(key, &path.child(name), errors);
        }
    }
    if given == 0 {
        errors.invalid(
            path,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
        );
    } else if has_value {
        errors.invalid(path, "", "may not be specified when `value` is not empty");
    } else if given > 1 {
        errors.invalid(path, "", "may not have more than one field specified at a time");
    }
}

fn validate_key(key: &KeyRef, path: &Path, errors: &mut Errors) {
    errors.invalid_each(&path.child("name"), &key.name, format::dns_subdomain(&key.name));
    if key.key.is_empty() {
        errors.required(&path.child("key"), "");
    } else {
        errors.invalid_each(&path.child("key"), &key.key, format::config_key(&key.key));
    }
}

/// Checks a field of the pod.
pub(super) fn validate_field(field: &FieldRef, taker: Taker, path: &Path, errors: &mut Errors) {
    let allowed: &[&str] = if taker == Taker::File { &FILE_FIELDS } else { &FIELDS };
    let is_known = |name: &&str| [&FIELDS[..], &FILE_FIELDS, &OTHER_FIELDS].concat().contains(name);
    let at = path.child("fieldPath");
    let name = field.field_path.as_str();
    if name.is_empty() {
        errors.required(&at, "");
        return;
    }
    let mut cannot_convert = |why: String| errors.invalid(&at, name, &format!("error converting fieldPath: {why}"));
    if let Some(version) = field.api_version.as_deref().filter(|v| !v.is_empty() && *v != "v1") {
        return cannot_convert(format!("unsupported pod version: {version}"));
    }
    match name
        .strip_suffix("']")
        .and_then(|n| n.split_once("['"))
        .filter(|(map, _)| !map.is_empty())
    {
        Some(("metadata.labels", key)) => errors.invalid_each(path, key, format::qualified_name(key)),
        Some(("metadata.annotations", key)) => {
            let key = key.to_lowercase();
            errors.invalid_each(path, &key, format::qualified_name(&key));
        }
        Some(_) => cannot_convert(format!("field label does not support subscript: {name}")),
        None if allowed.contains(&name) => {}
        None if is_known(&name) => errors.not_supported(&at, name, allowed),
        None => cannot_convert(format!("field label not supported: {name}")),
    }
}

/// Checks a resource of a container. A file must name the container, a variable is within one.
pub(super) fn validate_resource(field: &ResourceFieldRef, taker: Taker, path: &Path, errors: &mut Errors) {
    let name = field.resource.as_str();
    let pages = name.starts_with("requests.hugepages-") || name.starts_with("limits.hugepages-");
    if taker == Taker::File && field.container_name.as_deref().unwrap_or_default().is_empty() {
        errors.required(&path.child("containerName"), "");
    } else if name.is_empty() {
        errors.required(&path.child("resource"), "");
    } else if !RESOURCES.contains(&name) && !pages {
        errors.not_supported(&path.child("resource"), name, &RESOURCES);
    }
    if let Some(divisor) = field.divisor.as_ref().filter(|d| !d.is_zero()) {
        validate_divisor(name, divisor, pages, &path.child("divisor"), errors);
    }
}

/// The rule shows the resource's name in place of the divisor, as upstream does.
fn validate_divisor(name: &str, divisor: &Quantity, pages: bool, path: &Path, errors: &mut Errors) {
    let divisor = divisor.to_string();
    let what = match name.split_once('.').map_or("", |(_, resource)| resource) {
        "cpu" => {
            if divisor != "1m" && divisor != "1" {
                errors.invalid(path, name, "only divisor's values 1m and 1 are supported with the cpu resource");
            }
            return;
        }
        "memory" => "memory",
        "ephemeral-storage" => "local ephemeral storage",
        _ if pages => "hugepages",
        _ => return,
    };
    if !SIZES.split(", ").any(|size| size == divisor) {
        errors.invalid(
            path,
            name,
            &format!("only divisor's values {SIZES} are supported with the {what} resource"),
        );
    }
}
