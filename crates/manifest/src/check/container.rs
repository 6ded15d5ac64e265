//! Rules of containers and init containers.

use super::{Check, probe, security, volume};
use crate::path::{Path, quoted};
use crate::schema::container::{ENV_FROM_SOURCES, ENV_SOURCES};
use cofferdam_model::pod::{Container, PodSpec, ResourceFieldRef, RestartPolicy};
use std::collections::BTreeSet;

/// A container's place in a pod.
pub(super) struct Place<'a> {
    pub(super) path: Path,
    /// Whether it stands among the init containers.
    pub(super) is_init: bool,
    pub(super) spec: &'a PodSpec,
}

/// Checks one container.
pub(super) fn container(check: &mut Check<'_>, place: &Place<'_>, container: &Container) {
    let path = &place.path;
    env(check, place, container);
    volume::mounts(check, path, container, place.spec);
    let mut names = BTreeSet::new();
    for (i, port) in container.ports.iter().enumerate() {
        if let Some(name) = port.name.as_deref().filter(|name| !names.insert(*name)) {
            let rule = format!("is {} a second time; rename one of the ports", quoted(name));
            check.refuse(&path.key("ports").index(i).key("name"), rule);
        }
    }
    if let Some(security) = &container.security_context {
        security::container(check, &path.key("securityContext"), security, place.spec);
    }
    probe::actions(check, place, container);
    restart(check, place, container);
    resize(check, place, container);
}

fn env(check: &mut Check<'_>, place: &Place<'_>, container: &Container) {
    for (i, var) in container.env.iter().enumerate() {
        let Some(source) = &var.value_from else { continue };
        let path = place.path.key("env").index(i).key("valueFrom");
        if var.value.as_deref().is_some_and(|v| !v.is_empty()) {
            check.refuse(&path, "cannot stand beside a value; remove one");
        }
        check.exactly_one(&path, &ENV_SOURCES);
        if let Some(resource) = &source.resource_field_ref {
            resource_field(check, &path.key("resourceFieldRef"), resource, place.spec);
        }
    }
    for i in 0..container.env_from.len() {
        check.exactly_one(&place.path.key("envFrom").index(i), &ENV_FROM_SOURCES);
    }
}

/// Checks a field that names a resource of a container: the kubelet starts no container whose field
/// it does not find.
pub(super) fn resource_field(check: &mut Check<'_>, path: &Path, field: &ResourceFieldRef, spec: &PodSpec) {
    let Some(name) = field.container_name.as_deref().filter(|n| !n.is_empty()) else {
        return;
    };
    let is_there = spec.containers.iter().chain(&spec.init_containers).any(|c| c.name == name);
    if !is_there {
        let rule = format!("is {}, but the pod has no container of that name", quoted(name));
        check.refuse(&path.key("containerName"), rule);
    }
}

/// KEP-753: only an init container has a restart policy of its own.
fn restart(check: &mut Check<'_>, place: &Place<'_>, container: &Container) {
    if !place.is_init && container.restart_policy.is_some() {
        check.not_here(
            &place.path.key("restartPolicy"),
            "Kubernetes 1.34 drops it unless a gate is set; write restartPolicy in the pod's spec",
        );
    }
}

/// KEP-1287.
fn resize(check: &mut Check<'_>, place: &Place<'_>, container: &Container) {
    let mut seen = BTreeSet::new();
    for (i, policy) in container.resize_policy.iter().enumerate() {
        let path = place.path.key("resizePolicy").index(i);
        if !seen.insert(policy.resource_name.as_str()) {
            check.refuse(
                &path.key("resourceName"),
                format!("is {} a second time; remove one", quoted(&policy.resource_name)),
            );
        }
        if policy.restart_policy == "RestartContainer" && place.spec.restart_policy == Some(RestartPolicy::Never) {
            check.refuse(
                &path.key("restartPolicy"),
                "must be NotRequired where the pod's restartPolicy is Never; change one",
            );
        }
    }
}
