//! What a pod may say: the rules of `pkg/apis/core/validation` for the fields that Cofferdam
//! honours, after API defaulting ([`crate::defaults`]), in upstream's words and order.

mod action;
mod affinity;
mod containers;
mod env;
mod mounts;
pub(crate) mod security;
mod volumes;

use crate::field::{Errors, Path};
use crate::requirements::{self, Owner, is_huge_pages};
use crate::resources::{limits, requests, sum_of_containers};
use crate::{Denied, app_armor, format, meta, tolerations};
use cofferdam_model::ResourceList;
use cofferdam_model::pod::{Container, DnsConfig, HostAlias, Pod, PodSpec, SchedulingGate};
use std::collections::BTreeSet;
use std::net::IpAddr;

const NO_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
/// libc's limits, as upstream has them.
const MOST_NAMESERVERS: usize = 3;
const MOST_SEARCHES: usize = 32;
const MOST_SEARCH_CHARS: usize = 2048;

/// Refuses a pod that breaks a rule of its fields.
pub fn pod(pod: &Pod) -> Result<(), Denied> {
    let mut errors = Errors::default();
    meta::validate(&pod.metadata, true, &mut errors);
    let annotations = Path::new("metadata").child("annotations");
    security::seccomp_annotations(&pod.metadata.annotations, &annotations, &mut errors);
    app_armor::annotations(pod, &annotations, &mut errors);
    let path = Path::new("spec");
    validate_spec(pod, &path, &mut errors);
    images(&pod.spec, &path, &mut errors);
    if !pod.spec.scheduling_gates.is_empty() && pod.spec.node_name.as_ref().is_some_and(|n| !n.is_empty()) {
        errors.forbidden(&path.child("nodeName"), "cannot be set until all schedulingGates have been cleared");
    }
    security::seccomp_same_as_fields(pod, &path, &mut errors);
    app_armor::same_as_fields(pod, &path, &mut errors);
    // Upstream shows the generated name here; nothing is generated before admission in this crate.
    let name = if pod.metadata.name.is_empty() {
        pod.metadata.generate_name.as_deref().unwrap_or_default()
    } else {
        &pod.metadata.name
    };
    Denied::unless_valid("Pod", name, errors)
}

/// Checks what every kind of container holds to, of one that is added to a running pod.
pub(crate) fn ephemeral(container: &Container, spec: &PodSpec, path: &Path, errors: &mut Errors) {
    // The pod's own volumes were right when it was let in.
    let volumes = spec.volumes.iter().map(|v| v.name.as_str()).collect();
    containers::common(container, spec, &volumes, path, errors);
}

fn validate_spec(pod: &Pod, path: &Path, errors: &mut Errors) {
    let spec = &pod.spec;
    let volumes = volumes::validate(&spec.volumes, &path.child("volumes"), errors);
    containers::validate(spec, &volumes, path, errors);
    pod_level_resources(pod, &path.child("resources"), errors);
    host_network_ports(spec, path, errors);
    dns_policy(spec, path, errors);
    meta::labels(&spec.node_selector, &path.child("nodeSelector"), errors);
    security::pod(spec, &path.child("securityContext"), errors);
    if let Some(affinity) = &spec.affinity {
        affinity::affinity(affinity, &path.child("affinity"), errors);
    }
    dns_config(spec, &path.child("dnsConfig"), errors);
    scheduling_gates(&spec.scheduling_gates, &path.child("schedulingGates"), errors);
    affinity::topology_spread(&spec.topology_spread_constraints, &path.child("topologySpreadConstraints"), errors);
    host_users(spec, path, errors);
    if let Some(account) = spec.service_account_name.as_ref().filter(|a| !a.is_empty()) {
        errors.invalid_each(&path.child("serviceAccountName"), account, format::dns_subdomain(account));
    }
    if let Some(node) = spec.node_name.as_ref().filter(|n| !n.is_empty()) {
        errors.invalid_each(&path.child("nodeName"), node, format::dns_subdomain(node));
    }
    if let Some(seconds) = spec.active_deadline_seconds {
        for wrong in format::in_range(seconds, 1, i32::MAX.into()) {
            errors.invalid(&path.child("activeDeadlineSeconds"), seconds, &wrong);
        }
    }
    if let Some(hostname) = spec.hostname.as_ref().filter(|h| !h.is_empty()) {
        errors.invalid_each(&path.child("hostname"), hostname, format::dns_label(hostname));
    }
    if let Some(subdomain) = spec.subdomain.as_ref().filter(|s| !s.is_empty()) {
        errors.invalid_each(&path.child("subdomain"), subdomain, format::dns_label(subdomain));
    }
    tolerations::validate(&spec.tolerations, &path.child("tolerations"), errors);
    host_aliases(&spec.host_aliases, &path.child("hostAliases"), errors);
    // The empty name means the default handler here; upstream refuses it.
    if let Some(class) = spec.runtime_class_name.as_ref().filter(|c| !c.is_empty()) {
        errors.invalid_each(&path.child("runtimeClassName"), class, format::dns_subdomain(class));
    }
    if let Some(overhead) = &spec.overhead {
        requirements::validate(&ResourceList::new(), overhead, Owner::Container, &path.child("overhead"), errors);
    }
}

fn scheduling_gates(gates: &[SchedulingGate], path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (at, SchedulingGate { name }) in gates.iter().enumerate() {
        errors.invalid_each(&path.index(at), name, format::qualified_name(name));
        if !seen.insert(name) {
            errors.duplicate(&path.index(at), name);
        }
    }
}

/// Of the paths only the first is spelt as the field is.
fn host_users(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    if spec.host_users != Some(false) {
        return;
    }
    let shared = [
        ("hostNetwork", spec.host_network),
        ("HostPID", spec.host_pid),
        ("HostIPC", spec.host_ipc),
    ];
    for (field, _) in shared.iter().filter(|(_, is_shared)| *is_shared) {
        errors.forbidden(&path.child(field), "when `hostUsers` is false");
    }
}

fn host_aliases(aliases: &[HostAlias], path: &Path, errors: &mut Errors) {
    for (at, alias) in aliases.iter().enumerate() {
        let path = path.index(at);
        if alias.ip.parse::<IpAddr>().is_err() {
            errors.invalid(&path.child("ip"), &alias.ip, NO_ADDRESS);
        }
        for (at, name) in alias.hostnames.iter().enumerate() {
            errors.invalid_each(&path.child("hostnames").index(at), name, format::dns_subdomain(name));
        }
    }
}

/// Pod-level resources, and that containers stay within them.
fn pod_level_resources(pod: &Pod, path: &Path, errors: &mut Errors) {
    let Some(own) = &pod.spec.resources else {
        return;
    };
    requirements::validate(&own.requests, &own.limits, Owner::Pod, path, errors);
    for (name, sum) in sum_of_containers(pod, requests) {
        if let Some(request) = own.requests.get(&name).filter(|r| sum > **r) {
            let rule = format!("must be greater than or equal to aggregate container requests of {sum}");
            errors.invalid(&path.child("requests").key(&name), &request.to_string(), &rule);
        }
    }
    for (name, sum) in sum_of_containers(pod, limits).into_iter().filter(|(name, _)| is_huge_pages(name)) {
        if let Some(limit) = own.limits.get(&name).filter(|l| sum > **l) {
            let rule = format!("must be greater than or equal to aggregate container limits of {sum}");
            errors.invalid(&path.child("limits").key(&name), &limit.to_string(), &rule);
        }
    }
    for (at, container) in pod.spec.containers.iter().enumerate() {
        for (name, limit) in limits(container) {
            if let Some(most) = own.limits.get(name).filter(|most| limit > most) {
                let place = path.child("containers").index(at).key(name).child("limits");
                errors.invalid(
                    &place,
                    &limit.to_string(),
                    &format!("must be less than or equal to pod limits of {most}"),
                );
            }
        }
    }
}

fn host_network_ports(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    if !spec.host_network {
        return;
    }
    for (at, container) in spec.containers.iter().enumerate() {
        for (port_at, port) in container.ports.iter().enumerate() {
            // An absent host port takes the container's, by defaulting.
            let host = port.host_port.filter(|p| *p != 0).unwrap_or(port.container_port);
            if host != port.container_port {
                let place = path.child("containers").index(at).child("ports").index(port_at).child("hostPort");
                errors.invalid(&place, host, "must match `containerPort` when `hostNetwork` is true");
            }
        }
    }
}

fn dns_policy(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let policy = spec.dns_policy.as_deref().unwrap_or_default();
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    if !policy.is_empty() && !policies.contains(&policy) {
        errors.not_supported(&path.child("dnsPolicy"), policy, &policies);
    }
}

fn dns_config(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let policy = spec.dns_policy.as_deref().unwrap_or_default();
    match &spec.dns_config {
        None if policy == "None" => errors.required(path, "must provide `dnsConfig` when `dnsPolicy` is None"),
        Some(config) if policy == "None" && config.nameservers.is_empty() => {
            errors.required(
                &path.child("nameservers"),
                "must provide at least one DNS nameserver when `dnsPolicy` is None",
            );
        }
        Some(config) => dns_settings(config, path, errors),
        None => {}
    }
}

fn dns_settings(config: &DnsConfig, path: &Path, errors: &mut Errors) {
    let (nameservers, searches) = (path.child("nameservers"), path.child("searches"));
    if config.nameservers.len() > MOST_NAMESERVERS {
        let all = serde_json::json!(config.nameservers);
        errors.invalid(
            &nameservers,
            all,
            &format!("must not have more than {MOST_NAMESERVERS} nameservers"),
        );
    }
    for (at, server) in config.nameservers.iter().enumerate() {
        if server.parse::<IpAddr>().is_err() {
            errors.invalid(&nameservers.index(at), server, NO_ADDRESS);
        }
    }
    let all = serde_json::json!(config.searches);
    if config.searches.len() > MOST_SEARCHES {
        errors.invalid(
            &searches,
            all.clone(),
            &format!("must not have more than {MOST_SEARCHES} search paths"),
        );
    }
    if config.searches.join(" ").len() > MOST_SEARCH_CHARS {
        let rule = format!("must not have more than {MOST_SEARCH_CHARS} characters (including spaces) in the search list");
        errors.invalid(&searches, all, &rule);
    }
    for (at, search) in config.searches.iter().enumerate().filter(|(_, s)| *s != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        errors.invalid_each(&searches.index(at), search, format::dns_subdomain_with_underscore(search));
    }
    for (at, _) in config.options.iter().enumerate().filter(|(_, o)| o.name.is_empty()) {
        errors.required(&path.child("options").index(at), "must not be empty");
    }
}

/// Pods, unlike templates of pods, may not have spaces around an image's name.
fn images(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    for (list, containers) in [("containers", &spec.containers), ("initContainers", &spec.init_containers)] {
        for (at, container) in containers.iter().enumerate().filter(|(_, c)| c.image.trim() != c.image) {
            let place = path.child(list).index(at).child("image");
            errors.invalid(&place, &container.image, "must not have leading or trailing whitespace");
        }
    }
}

#[cfg(test)]
mod tests;
