//! Rules of a pod's spec (`pkg/apis/core/validation/validation.go` of Kubernetes 1.34).

use super::Check;
use crate::path::{Path, quoted};
use crate::schema::container::{ENV_FROM_SOURCES, ENV_SOURCES, HOOKS};
use crate::schema::pod::VOLUME_SOURCES;
use crate::yaml::Node;
use cofferdam_model::pod::{Container, Lifecycle, PodSpec, SeccompProfile};
use std::collections::BTreeSet;

/// Greatest number of containers, init containers, volumes, … of one pod. Kubernetes has no such
/// bound of its own, but the size of an object: this one keeps a hostile manifest cheap.
const MAX_ITEMS: usize = 1000;

/// Checks a pod's spec that stands at `path`.
pub(super) fn spec(check: &mut Check<'_>, path: &Path, spec: &PodSpec) {
    if spec.containers.is_empty() {
        check.refuse(
            &path.key("containers"),
            "is empty; name at least one container",
        );
    }
    names(check, path, spec);
    volumes(check, path, spec);
    let all = [
        ("initContainers", &spec.init_containers),
        ("containers", &spec.containers),
    ];
    for (list, containers) in all {
        for (i, container) in containers.iter().enumerate().take(MAX_ITEMS) {
            let path = path.key(list).index(i);
            self::container(check, &path, container, spec);
            restart(check, &path, container, list == "initContainers");
        }
    }
    super::affinity::bounds(check, path, spec);
    host_ports(check, path, spec);
    dns(check, path, spec);
    if spec.share_process_namespace == Some(true) && spec.host_pid {
        check.refuse(
            &path.key("shareProcessNamespace"),
            "and hostPID cannot both be true; remove one",
        );
    }
    if let Some(security) = &spec.security_context {
        let path = path.key("securityContext");
        seccomp(check, &path, security.seccomp_profile.as_ref());
        let mut seen = BTreeSet::new();
        for (i, sysctl) in security.sysctls.iter().enumerate() {
            if !seen.insert(sysctl.name.replace('/', ".")) {
                check.refuse(
                    &path.key("sysctls").index(i).key("name"),
                    format!("is {} a second time; remove one", quoted(&sysctl.name)),
                );
            }
        }
    }
}

fn names(check: &mut Check<'_>, path: &Path, spec: &PodSpec) {
    let mut seen = BTreeSet::new();
    for (list, containers) in [
        ("initContainers", &spec.init_containers),
        ("containers", &spec.containers),
    ] {
        if containers.len() > MAX_ITEMS {
            check.refuse(
                &path.key(list),
                format!("has more than {MAX_ITEMS} items; split this pod"),
            );
        }
        for (i, container) in containers.iter().enumerate().take(MAX_ITEMS) {
            if !seen.insert(container.name.as_str()) {
                let path = path.key(list).index(i).key("name");
                check.refuse(
                    &path,
                    format!(
                        "is {} a second time; rename one of the containers",
                        quoted(&container.name)
                    ),
                );
            }
        }
    }
}

fn volumes(check: &mut Check<'_>, path: &Path, spec: &PodSpec) {
    let path = path.key("volumes");
    if spec.volumes.len() > MAX_ITEMS {
        check.refuse(
            &path,
            format!("has more than {MAX_ITEMS} items; split this pod"),
        );
    }
    let mut seen = BTreeSet::new();
    for (i, volume) in spec.volumes.iter().enumerate().take(MAX_ITEMS) {
        let path = path.index(i);
        if !seen.insert(volume.name.as_str()) {
            check.refuse(
                &path.key("name"),
                format!(
                    "is {} a second time; rename one of the volumes",
                    quoted(&volume.name)
                ),
            );
        }
        at_most_one(check, &path, &VOLUME_SOURCES);
        let items = [
            ("configMap", volume.config_map.as_ref().map(|c| &c.items)),
            ("secret", volume.secret.as_ref().map(|s| &s.items)),
        ];
        for (source, items) in items {
            let mut paths = BTreeSet::new();
            for (n, item) in items.into_iter().flatten().enumerate() {
                if !paths.insert(item.path.as_str()) {
                    let path = path.key(source).key("items").index(n).key("path");
                    check.refuse(
                        &path,
                        format!(
                            "is {} a second time; give each key a path of its own",
                            quoted(&item.path)
                        ),
                    );
                }
            }
        }
    }
}

fn container(check: &mut Check<'_>, path: &Path, container: &Container, spec: &PodSpec) {
    env(check, path, container);
    let known: BTreeSet<_> = spec.volumes.iter().map(|v| v.name.as_str()).collect();
    let mut mounted = BTreeSet::new();
    for (i, mount) in container.volume_mounts.iter().enumerate() {
        let path = path.key("volumeMounts").index(i);
        if !known.contains(mount.name.as_str()) {
            check.refuse(
                &path.key("name"),
                format!(
                    "is {}, but the pod has no volume of that name; add it to volumes",
                    quoted(&mount.name)
                ),
            );
        }
        if !mounted.insert(mount.mount_path.trim_end_matches('/')) {
            check.refuse(
                &path.key("mountPath"),
                format!(
                    "is {} a second time; mount each volume elsewhere",
                    quoted(&mount.mount_path)
                ),
            );
        }
    }
    let mut names = BTreeSet::new();
    for (i, name) in container
        .ports
        .iter()
        .enumerate()
        .filter_map(|(i, p)| p.name.as_deref().map(|n| (i, n)))
    {
        if !names.insert(name) {
            check.refuse(
                &path.key("ports").index(i).key("name"),
                format!("is {} a second time; rename one of the ports", quoted(name)),
            );
        }
    }
    if let Some(lifecycle) = &container.lifecycle {
        hooks(check, &path.key("lifecycle"), lifecycle);
    }
    if let Some(security) = &container.security_context {
        let path = path.key("securityContext");
        seccomp(check, &path, security.seccomp_profile.as_ref());
        if security.allow_privilege_escalation == Some(false) && security.privileged == Some(true) {
            check.refuse(
                &path.key("allowPrivilegeEscalation"),
                "cannot be false where privileged is true; change one",
            );
        }
    }
}

fn env(check: &mut Check<'_>, path: &Path, container: &Container) {
    for (i, var) in container.env.iter().enumerate() {
        let path = path.key("env").index(i);
        if var.value_from.is_some() {
            if var.value.as_deref().is_some_and(|v| !v.is_empty()) {
                check.refuse(
                    &path.key("valueFrom"),
                    "cannot stand beside a value; remove one",
                );
            }
            exactly_one(check, &path.key("valueFrom"), &ENV_SOURCES);
        }
    }
    for i in 0..container.env_from.len() {
        exactly_one(check, &path.key("envFrom").index(i), &ENV_FROM_SOURCES);
    }
}

/// KEP-753: only an init container has a restart policy of its own, and only a sidecar has hooks.
fn restart(check: &mut Check<'_>, path: &Path, container: &Container, is_init: bool) {
    if !is_init && container.restart_policy.is_some() {
        check.not_yet(
            &path.key("restartPolicy"),
            "write restartPolicy in the pod's spec",
        );
    }
    if is_init && container.restart_policy.is_none() && container.lifecycle.is_some() {
        check.refuse(&path.key("lifecycle"), "cannot be set on an init container; add restartPolicy: Always to make it a sidecar, or remove it");
    }
}

fn hooks(check: &mut Check<'_>, path: &Path, lifecycle: &Lifecycle) {
    for (hook, handler) in [
        ("postStart", &lifecycle.post_start),
        ("preStop", &lifecycle.pre_stop),
    ] {
        if let Some(handler) = handler {
            exactly_one(check, &path.key(hook), &HOOKS);
            if handler.exec.as_ref().is_some_and(|e| e.command.is_empty()) {
                check.refuse(
                    &path.key(hook).key("exec").key("command"),
                    "is empty; name the command to run",
                );
            }
        }
    }
}

fn host_ports(check: &mut Check<'_>, path: &Path, spec: &PodSpec) {
    let mut seen = BTreeSet::new();
    for (i, container) in spec.containers.iter().enumerate().take(MAX_ITEMS) {
        for (n, port) in container.ports.iter().enumerate() {
            let path = path.key("containers").index(i).key("ports").index(n);
            let Some(host_port) = port.host_port else {
                continue;
            };
            if spec.host_network && host_port != port.container_port {
                check.refuse(
                    &path.key("hostPort"),
                    "must equal containerPort where hostNetwork is true",
                );
            }
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            if !seen.insert((host_port, protocol, port.host_ip.as_deref())) {
                check.refuse(
                    &path.key("hostPort"),
                    format!("is {host_port} a second time; choose another"),
                );
            }
        }
    }
}

fn dns(check: &mut Check<'_>, path: &Path, spec: &PodSpec) {
    let config = spec.dns_config.as_ref();
    if spec.dns_policy.as_deref() == Some("None") && config.is_none_or(|c| c.nameservers.is_empty())
    {
        check.refuse(
            &path.key("dnsPolicy"),
            "is None, which needs at least one address in dnsConfig.nameservers",
        );
    }
    let bounds = [
        ("nameservers", config.map_or(0, |c| c.nameservers.len()), 3),
        ("searches", config.map_or(0, |c| c.searches.len()), 32),
    ];
    for (list, count, most) in bounds {
        if count > most {
            check.refuse(
                &path.key("dnsConfig").key(list),
                format!("has {count} items, but at most {most} are used; remove some"),
            );
        }
    }
}

fn seccomp(check: &mut Check<'_>, path: &Path, profile: Option<&SeccompProfile>) {
    let Some(profile) = profile else { return };
    let path = path.key("seccompProfile");
    match (profile.kind.as_str(), &profile.localhost_profile) {
        ("Localhost", None) => check.refuse(&path, "is Localhost, which needs localhostProfile"),
        ("Localhost", Some(_)) | (_, None) => {}
        (_, Some(_)) => check.refuse(
            &path.key("localhostProfile"),
            "has a meaning only where type is Localhost; remove it",
        ),
    }
}

/// Which of `fields` are set at `path`.
fn set<'f>(check: &Check<'_>, path: &Path, fields: &[&'f str]) -> Vec<&'f str> {
    let node: Option<&Node> = path.0.iter().try_fold(check.top, |node, step| match step {
        crate::path::Step::Key(key) => node.get(key),
        crate::path::Step::Index(i) => node.items().get(*i).map(|n| &**n),
    });
    fields
        .iter()
        .copied()
        .filter(|f| node.is_some_and(|n| n.get(f).is_some()))
        .collect()
}

fn at_most_one(check: &mut Check<'_>, path: &Path, fields: &[&str]) {
    if let [first, second, ..] = set(check, path, fields)[..] {
        check.refuse(
            &path.key(second),
            format!("cannot stand beside {first}; remove one"),
        );
    }
}

fn exactly_one(check: &mut Check<'_>, path: &Path, fields: &[&str]) {
    if set(check, path, fields).is_empty() {
        check.refuse(path, format!("must have one of {}", fields.join(", ")));
    }
    at_most_one(check, path, fields);
}
