//! Rules of a pod's spec (`pkg/apis/core/validation/validation.go` of Kubernetes 1.34).

use super::{Check, container, security, volume};
use crate::path::{Path, quoted};
use cofferdam_model::meta::ObjectMeta;
use cofferdam_model::pod::{Pod, PodSpec};
use std::collections::BTreeSet;

/// Greatest number of containers, init containers, volumes, … of one pod. Kubernetes has no such
/// bound of its own, but the size of an object: this one keeps a hostile manifest cheap.
pub(super) const MAX_ITEMS: usize = 1000;
/// Greatest length of a host name (Linux, `HOST_NAME_MAX`).
const MAX_HOST_NAME: usize = 64;
/// Greatest length of a part of a name.
const MAX_LABEL: usize = 63;

/// Checks a whole pod.
pub(super) fn pod(check: &mut Check<'_>, pod: &Pod) {
    let path = Path::default().key("spec");
    spec(check, &path, &pod.spec);
    full_name(check, &path, &pod.metadata, &pod.spec);
}

/// Checks a pod's spec that stands at `path`.
pub(super) fn spec(check: &mut Check<'_>, path: &Path, spec: &PodSpec) {
    if spec.containers.is_empty() {
        check.refuse(&path.key("containers"), "is empty; name at least one container");
    }
    names(check, path, spec);
    volume::volumes(check, path, spec);
    let all = [("initContainers", &spec.init_containers), ("containers", &spec.containers)];
    for (list, containers) in all {
        for (i, one) in containers.iter().enumerate().take(MAX_ITEMS) {
            let place = container::Place {
                path: path.key(list).index(i),
                is_init: list == "initContainers",
                spec,
            };
            container::container(check, &place, one);
        }
    }
    super::affinity::bounds(check, path, spec);
    host_ports(check, path, spec);
    dns(check, path, spec);
    host_users(check, path, spec);
    if spec.share_process_namespace == Some(true) && spec.host_pid {
        check.refuse(&path.key("shareProcessNamespace"), "and hostPID cannot both be true; remove one");
    }
    security::pod(check, path, spec);
}

fn names(check: &mut Check<'_>, path: &Path, spec: &PodSpec) {
    let mut seen = BTreeSet::new();
    for (list, containers) in [("initContainers", &spec.init_containers), ("containers", &spec.containers)] {
        if containers.len() > MAX_ITEMS {
            check.refuse(&path.key(list), format!("has more than {MAX_ITEMS} items; split this pod"));
        }
        for (i, container) in containers.iter().enumerate().take(MAX_ITEMS) {
            if !seen.insert(container.name.as_str()) {
                let rule = format!("is {} a second time; rename one of the containers", quoted(&container.name));
                check.refuse(&path.key(list).index(i).key("name"), rule);
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
                check.refuse(&path.key("hostPort"), "must equal containerPort where hostNetwork is true");
            }
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            if !seen.insert((host_port, protocol, port.host_ip.as_deref())) {
                check.refuse(&path.key("hostPort"), format!("is {host_port} a second time; choose another"));
            }
        }
    }
}

fn dns(check: &mut Check<'_>, path: &Path, spec: &PodSpec) {
    let config = spec.dns_config.as_ref();
    if spec.dns_policy.as_deref() == Some("None") && config.is_none_or(|c| c.nameservers.is_empty()) {
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

/// A user namespace cannot own namespaces that are the machine's (KEP-127).
fn host_users(check: &mut Check<'_>, path: &Path, spec: &PodSpec) {
    if spec.host_users != Some(false) {
        return;
    }
    let shared = [
        ("hostNetwork", spec.host_network),
        ("hostPID", spec.host_pid),
        ("hostIPC", spec.host_ipc),
    ];
    for (field, _) in shared.iter().filter(|(_, is_shared)| *is_shared) {
        check.refuse(&path.key(field), "cannot be true where hostUsers is false; remove one");
    }
}

/// The kubelet never starts a pod whose full name the kernel does not take as a host name
/// (`pkg/kubelet/util/util.go`, `GetNodenameForKernel`).
fn full_name(check: &mut Check<'_>, path: &Path, meta: &ObjectMeta, spec: &PodSpec) {
    let Some(subdomain) = spec.subdomain.as_deref().filter(|s| !s.is_empty()) else {
        return;
    };
    if spec.set_hostname_as_fqdn != Some(true) || meta.name.is_empty() {
        return;
    }
    let own = spec.hostname.as_deref().filter(|h| !h.is_empty()).unwrap_or(&meta.name);
    let own: String = own.chars().take(MAX_LABEL).collect();
    let full = format!("{own}.{subdomain}.{}.svc.cluster.local", meta.namespace_or_default());
    if full.len() > MAX_HOST_NAME {
        let rule = format!(
            "makes a host name of {} characters (HOSTNAME.SUBDOMAIN.NAMESPACE.svc.cluster.local), and Linux takes {MAX_HOST_NAME}; shorten hostname or subdomain, or remove this",
            full.len()
        );
        check.refuse(&path.key("setHostnameAsFQDN"), rule);
    }
}
