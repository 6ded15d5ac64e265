//! The annotations that named AppArmor profiles before Kubernetes 1.30: their rules
//! (`pkg/apis/core/validation`), and the fields that take their place (`applyAppArmorVersionSkew` in
//! `pkg/registry/core/pod/strategy.go`).

use crate::field::{Errors, Path, Warning, go_quote};
use cofferdam_model::pod::{AppArmorProfile, Container, Pod, PodSpec};

const PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
const LOCALHOST: &str = "localhost/";
/// `PATH_MAX` - 1.
const MOST_BYTES: usize = 4095;

/// Writes the fields of containers that only have the annotation, and gives the server's warnings.
pub(crate) fn fill_fields(pod: &mut Pod) -> Vec<Warning> {
    let of_pod = pod.spec.security_context.as_ref().and_then(|s| s.app_armor_profile.clone());
    let mut warnings = Vec::new();
    let spec = &mut pod.spec;
    for container in spec.init_containers.iter_mut().chain(&mut spec.containers) {
        let key = format!("{PREFIX}{}", container.name);
        let Some(annotation) = pod.metadata.annotations.get(&key) else {
            continue;
        };
        if own(container).is_some() {
            continue;
        }
        let meant = meant_by(annotation).filter(is_right);
        if meant.is_some() && meant == of_pod {
            continue;
        }
        if meant.is_some() {
            container.security_context.get_or_insert_default().app_armor_profile = meant;
        }
        let path = Path::new("metadata").child("annotations").key(&key);
        warnings.push(Warning::new(
            path,
            "deprecated since v1.30; use the \"appArmorProfile\" field instead",
        ));
    }
    warnings
}

fn own(container: &Container) -> Option<&AppArmorProfile> {
    container.security_context.as_ref()?.app_armor_profile.as_ref()
}

/// The profile that an annotation names.
fn meant_by(annotation: &str) -> Option<AppArmorProfile> {
    let profile = |kind: &str, name: Option<&str>| AppArmorProfile {
        kind: kind.to_string(),
        localhost_profile: name.map(str::to_string),
    };
    match annotation {
        "unconfined" => Some(profile("Unconfined", None)),
        "runtime/default" => Some(profile("RuntimeDefault", None)),
        _ => annotation.strip_prefix(LOCALHOST).map(|name| profile("Localhost", Some(name))),
    }
}

fn is_right(profile: &AppArmorProfile) -> bool {
    let mut errors = Errors::default();
    validate(Some(profile), &Path::new(""), &mut errors);
    errors.is_empty()
}

/// Checks a profile.
pub(crate) fn validate(profile: Option<&AppArmorProfile>, path: &Path, errors: &mut Errors) {
    let Some(profile) = profile else { return };
    let (kind, place) = (path.child("type"), path.child("localhostProfile"));
    let needed = "must be set when AppArmor type is Localhost";
    match (profile.kind.as_str(), profile.localhost_profile.as_deref()) {
        ("Localhost", None) => errors.required(&place, needed),
        ("Localhost", Some(name)) => {
            if name.trim() != name {
                errors.invalid(&place, name, "must not be padded with whitespace");
            } else if name.is_empty() {
                errors.required(&place, needed);
            }
            if name.len() > MOST_BYTES {
                errors.too_long(&place, MOST_BYTES);
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(name)) => {
            errors.invalid(&place, name, "can only be set when AppArmor type is Localhost");
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => errors.required(&kind, "type is required when appArmorProfile is set"),
        (other, _) => errors.not_supported(&kind, other, &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
}

/// Checks the annotations at `path`, by themselves.
pub(crate) fn annotations(pod: &Pod, path: &Path, errors: &mut Errors) {
    for (key, value) in &pod.metadata.annotations {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        let path = path.key(key);
        let spec = &pod.spec;
        if !spec.containers.iter().chain(&spec.init_containers).any(|c| c.name == name) {
            errors.invalid(&path, name, "container not found");
        }
        if !["", "runtime/default", "unconfined"].contains(&value.as_str()) && !value.starts_with(LOCALHOST) {
            let rule = format!("invalid AppArmor profile name: {}", go_quote(value));
            errors.invalid(&path, value, &rule);
        }
    }
}

/// Checks that annotations say what the fields below `path`, the spec's, say.
pub(crate) fn same_as_fields(pod: &Pod, path: &Path, errors: &mut Errors) {
    let PodSpec {
        init_containers,
        containers,
        security_context,
        ..
    } = &pod.spec;
    let of_pod = security_context.as_ref().and_then(|s| s.app_armor_profile.as_ref());
    for (list, containers) in [("initContainers", init_containers), ("containers", containers)] {
        for (at, container) in containers.iter().enumerate() {
            let Some(profile) = own(container).or(of_pod) else { continue };
            let Some(annotation) = pod.metadata.annotations.get(&format!("{PREFIX}{}", container.name)) else {
                continue;
            };
            let path = path.child(list).index(at).child("securityContext").child("appArmorProfile");
            match differs(profile, annotation) {
                Some("type") => errors.forbidden(&path.child("type"), "apparmor type in annotation and field must match"),
                Some(field) => errors.forbidden(&path.child(field), "apparmor profile in annotation and field must match"),
                None => {}
            }
        }
    }
}

/// The field in which the two differ.
fn differs(profile: &AppArmorProfile, annotation: &str) -> Option<&'static str> {
    match profile.kind.as_str() {
        "Unconfined" => (annotation != "unconfined").then_some("type"),
        "RuntimeDefault" => (annotation != "runtime/default").then_some("type"),
        "Localhost" => match annotation.strip_prefix(LOCALHOST) {
            None => Some("type"),
            Some(name) => (profile.localhost_profile.as_deref() != Some(name)).then_some("localhostProfile"),
        },
        _ => None,
    }
}
