//! Rules of containers and init containers.

use super::{action, env, mounts, security};
use crate::field::{Errors, Path};
use crate::format;
use crate::requirements::{self, Owner};
use crate::resources::{is_sidecar, limits, requests};
use cofferdam_model::pod::{Container, ContainerPort, PodSpec, RestartPolicy};
use std::collections::BTreeSet;

/// Seconds between SIGTERM and SIGKILL where the pod says nothing.
const GRACE_PERIOD: i64 = 30;

/// Checks all containers of a pod. `volumes`: the names of the volumes that are right.
pub(super) fn validate(spec: &PodSpec, volumes: &BTreeSet<&str>, path: &Path, errors: &mut Errors) {
    let (containers, inits) = (path.child("containers"), path.child("initContainers"));
    let grace = spec.termination_grace_period_seconds.unwrap_or(GRACE_PERIOD);
    if spec.containers.is_empty() {
        errors.required(&containers, "");
    }
    let mut names = BTreeSet::new();
    for (at, container) in spec.containers.iter().enumerate() {
        let path = containers.index(at);
        common(container, spec, volumes, &path, errors);
        if !names.insert(container.name.as_str()) {
            errors.duplicate(&path.child("name"), &container.name);
        }
        action::validate(container, grace, &path, errors);
    }
    let mut host_ports = BTreeSet::new();
    for (at, container) in spec.containers.iter().enumerate() {
        unique_host_ports(container, &mut host_ports, &containers.index(at), errors);
    }
    for (at, container) in spec.init_containers.iter().enumerate() {
        let path = inits.index(at);
        common(container, spec, volumes, &path, errors);
        if names.contains(container.name.as_str()) {
            errors.duplicate(&path.child("name"), &container.name);
        } else if !container.name.is_empty() {
            names.insert(&container.name);
        }
        // Init containers run one by one, and so each may take the same port. Upstream looks at
        // each as a list of one, and so names the first.
        unique_host_ports(container, &mut BTreeSet::new(), &inits.index(0), errors);
        if is_sidecar(container) {
            action::validate(container, grace, &path, errors);
        } else {
            action::refuse(container, &path, errors);
        }
    }
}

/// What holds for every kind of container.
pub(super) fn common(container: &Container, spec: &PodSpec, volumes: &BTreeSet<&str>, path: &Path, errors: &mut Errors) {
    let name = path.child("name");
    if container.name.is_empty() {
        errors.required(&name, "");
    } else {
        errors.invalid_each(&name, &container.name, format::dns_label(&container.name));
    }
    if container.image.is_empty() {
        errors.required(&path.child("image"), "");
    }
    if let Some(policy) = container.termination_message_policy.as_deref().filter(|p| !p.is_empty()) {
        let policies = ["File", "FallbackToLogsOnError"];
        if !policies.contains(&policy) {
            errors.not_supported(&path.child("terminationMessagePolicy"), policy, &policies);
        }
    }
    ports(&container.ports, &path.child("ports"), errors);
    env::validate(&container.env, &path.child("env"), errors);
    env::validate_from(&container.env_from, &path.child("envFrom"), errors);
    mounts::validate(container, volumes, &path.child("volumeMounts"), errors);
    requirements::validate(
        requests(container),
        limits(container),
        Owner::Container,
        &path.child("resources"),
        errors,
    );
    resize_policy(container, spec.restart_policy, &path.child("resizePolicy"), errors);
    if let Some(context) = &container.security_context {
        let host_users = spec.host_users != Some(false);
        security::container(context, host_users, &path.child("securityContext"), errors);
    }
}

fn ports(ports: &[ContainerPort], path: &Path, errors: &mut Errors) {
    let mut names = BTreeSet::new();
    for (at, port) in ports.iter().enumerate() {
        let path = path.index(at);
        if let Some(name) = port.name.as_ref().filter(|n| !n.is_empty()) {
            let wrong = format::port_name(name);
            if wrong.is_empty() && !names.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
            errors.invalid_each(&path.child("name"), name, wrong);
        }
        if port.container_port == 0 {
            errors.required(&path.child("containerPort"), "");
        } else {
            port_number(port.container_port, &path.child("containerPort"), errors);
        }
        if let Some(host) = port.host_port.filter(|p| *p != 0) {
            port_number(host, &path.child("hostPort"), errors);
        }
        let protocol = protocol(port);
        if !["SCTP", "TCP", "UDP"].contains(&protocol) {
            errors.not_supported(&path.child("protocol"), protocol, &["SCTP", "TCP", "UDP"]);
        }
    }
}

fn protocol(port: &ContainerPort) -> &str {
    port.protocol.as_deref().filter(|p| !p.is_empty()).unwrap_or("TCP")
}

fn port_number(port: i32, path: &Path, errors: &mut Errors) {
    for wrong in format::in_range(port.into(), 1, 65535) {
        errors.invalid(path, port, &wrong);
    }
}

fn unique_host_ports(container: &Container, seen: &mut BTreeSet<String>, path: &Path, errors: &mut Errors) {
    for (at, port) in container.ports.iter().enumerate() {
        let Some(host) = port.host_port.filter(|p| *p != 0) else {
            continue;
        };
        let key = format!("{}/{}/{host}", protocol(port), port.host_ip.as_deref().unwrap_or_default());
        if seen.contains(&key) {
            errors.duplicate(&path.child("ports").index(at).child("hostPort"), &key);
        }
        seen.insert(key);
    }
}

/// What a change of resources in place does to the container (KEP-1287). Upstream leaves the entry's
/// index out of most of these paths.
fn resize_policy(container: &Container, restart: Option<RestartPolicy>, path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (at, policy) in container.resize_policy.iter().enumerate() {
        let (resource, action) = (policy.resource_name.as_str(), policy.restart_policy.as_str());
        if !seen.insert(resource) {
            errors.duplicate(&path.index(at), resource);
        }
        for (value, known) in [(resource, ["cpu", "memory"]), (action, ["NotRequired", "RestartContainer"])] {
            if value.is_empty() {
                errors.required(path, "");
            } else if !known.contains(&value) {
                errors.not_supported(path, value, &known);
            }
        }
        if restart == Some(RestartPolicy::Never) && action != "NotRequired" {
            errors.invalid(path, action, "must be 'NotRequired' when `restartPolicy` is 'Never'");
        }
    }
}
