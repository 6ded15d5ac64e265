//! Rules of containers and init containers.

use super::{env, security};
use crate::field::{Errors, Path};
use crate::format;
use crate::requirements::{self, Owner};
use crate::resources::{is_sidecar, limits, requests};
use crate::validate::volumes::local_path;
use cofferdam_model::pod::{Container, ContainerPort, Lifecycle, LifecycleHandler, PodSpec, VolumeMount};
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
        common(container, volumes, &path, errors);
        if !names.insert(container.name.as_str()) {
            errors.duplicate(&path.child("name"), &container.name);
        }
        lifecycle(container.lifecycle.as_ref(), grace, &path.child("lifecycle"), errors);
    }
    let mut host_ports = BTreeSet::new();
    for (at, container) in spec.containers.iter().enumerate() {
        unique_host_ports(container, &mut host_ports, &containers.index(at), errors);
    }
    for (at, container) in spec.init_containers.iter().enumerate() {
        let path = inits.index(at);
        common(container, volumes, &path, errors);
        init_container(container, grace, &path, errors);
        if names.contains(container.name.as_str()) {
            errors.duplicate(&path.child("name"), &container.name);
        } else if !container.name.is_empty() {
            names.insert(&container.name);
        }
        // Init containers run one by one, and so each may take the same port. Upstream looks at
        // each as a list of one, and so names the first.
        unique_host_ports(container, &mut BTreeSet::new(), &inits.index(0), errors);
    }
}

fn init_container(container: &Container, grace: i64, path: &Path, errors: &mut Errors) {
    let hooks = path.child("lifecycle");
    if is_sidecar(container) {
        lifecycle(container.lifecycle.as_ref(), grace, &hooks, errors);
    } else if container.lifecycle.is_some() {
        errors.forbidden(&hooks, "may not be set for init containers without restartPolicy=Always");
    }
}

/// What holds for every kind of container.
fn common(container: &Container, volumes: &BTreeSet<&str>, path: &Path, errors: &mut Errors) {
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
    mounts(&container.volume_mounts, volumes, &path.child("volumeMounts"), errors);
    requirements::validate(
        requests(container),
        limits(container),
        Owner::Container,
        &path.child("resources"),
        errors,
    );
    if let Some(context) = &container.security_context {
        security::container(context, &path.child("securityContext"), errors);
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

fn mounts(mounts: &[VolumeMount], volumes: &BTreeSet<&str>, path: &Path, errors: &mut Errors) {
    let mut places = BTreeSet::new();
    for (at, mount) in mounts.iter().enumerate() {
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
        if let Some(sub_path) = mount.sub_path.as_ref().filter(|p| !p.is_empty()) {
            // Upstream leaves the entry's index out of this path.
            local_path(sub_path, &path.child("subPath"), errors);
        }
    }
}

fn lifecycle(lifecycle: Option<&Lifecycle>, grace: i64, path: &Path, errors: &mut Errors) {
    let Some(lifecycle) = lifecycle else { return };
    for (name, hook) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
        if let Some(hook) = hook {
            validate_hook(hook, grace, &path.child(name), errors);
        }
    }
}

fn validate_hook(hook: &LifecycleHandler, grace: i64, path: &Path, errors: &mut Errors) {
    if hook.exec.as_ref().is_some_and(|e| e.command.is_empty()) {
        errors.required(&path.child("exec").child("command"), "");
    }
    match (&hook.exec, &hook.sleep) {
        (Some(_), Some(_)) => errors.forbidden(&path.child("sleep"), "may not specify more than 1 handler type"),
        (None, Some(sleep)) if !(0..=grace).contains(&sleep.seconds) => {
            let rule = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
            errors.invalid(&path.child("sleep"), sleep.seconds, &rule);
        }
        (None, None) => errors.required(path, "must specify a handler type"),
        _ => {}
    }
}
