//! What the API server fills in before admission (`pkg/apis/core/v1/defaults.go`), as far as it
//! changes decisions. Fields whose default is only a reading of absence stay absent.

use crate::requirements::{can_overcommit, is_huge_pages, is_pod_level};
use crate::resources::{is_sidecar, limits, requests, sum_of_containers};
use cofferdam_model::ResourceList;
use cofferdam_model::pod::{Container, Pod, Probe};

/// Fills in requests from limits, pod-level requests, and host ports of pods on the machine's
/// network. Filling in twice changes nothing.
pub fn apply(pod: &mut Pod) {
    let spec = &mut pod.spec;
    let host_network = spec.host_network;
    let levels = spec.resources.iter_mut().flat_map(|r| [&mut r.requests, &mut r.limits]);
    levels.chain(&mut spec.overhead).for_each(round);
    for container in spec.containers.iter_mut().chain(&mut spec.init_containers) {
        if let Some(resources) = &mut container.resources {
            round(&mut resources.requests);
            round(&mut resources.limits);
            fill(&mut resources.requests, &resources.limits);
        }
        if host_network {
            fill_host_ports(container);
        }
        for probe in [
            &mut container.liveness_probe,
            &mut container.readiness_probe,
            &mut container.startup_probe,
        ] {
            probe.iter_mut().for_each(drop_zeros);
        }
    }
    fill_pod_level(pod);
}

/// Adds the entries of `from` that are missing in `list`.
pub(crate) fn fill(list: &mut ResourceList, from: &ResourceList) {
    for (name, quantity) in from {
        list.entry(name.clone()).or_insert_with(|| quantity.clone());
    }
}

/// Rounds amounts up to thousandths (`SetDefaults_ResourceList`): 100u of a cpu is stored as 1m.
pub(crate) fn round(list: &mut ResourceList) {
    for quantity in list.values_mut() {
        *quantity = quantity.rounded_to_milli();
    }
}

/// Whether a container has a restart policy that 1.34 knows of only with its gate
/// `ContainerRestartRules` on, which by default is off.
fn has_own_policy(container: &Container, is_init: bool) -> bool {
    container.restart_policy.is_some() && !(is_init && is_sidecar(container))
}

/// Drops what the API server drops without a word, as its feature is off (`dropDisabledFields` in
/// `pkg/api/pod/util.go`): restart policies of single containers, unless the pod that is updated has
/// one. An init container's `Always` stays.
pub(crate) fn drop_disabled(pod: &mut Pod, old: Option<&Pod>) {
    let uses = |pod: &Pod| {
        let inits = pod.spec.init_containers.iter().any(|c| has_own_policy(c, true));
        inits || pod.spec.containers.iter().any(|c| has_own_policy(c, false))
    };
    if old.is_some_and(uses) {
        return;
    }
    let lists = [(&mut pod.spec.init_containers, true), (&mut pod.spec.containers, false)];
    for (containers, is_init) in lists {
        for container in containers.iter_mut().filter(|c| has_own_policy(c, is_init)) {
            container.restart_policy = None;
        }
    }
}

/// Zero stands for the default in these.
fn drop_zeros(probe: &mut Probe) {
    for number in [
        &mut probe.timeout_seconds,
        &mut probe.period_seconds,
        &mut probe.success_threshold,
        &mut probe.failure_threshold,
    ] {
        *number = number.filter(|n| *n != 0);
    }
}

fn fill_host_ports(container: &mut Container) {
    for port in &mut container.ports {
        if port.host_port.unwrap_or_default() == 0 {
            port.host_port = Some(port.container_port);
        }
    }
}

/// Pod-level resources that are given in part take the rest from the containers (KEP-2837).
fn fill_pod_level(pod: &mut Pod) {
    let held = sum_of_containers(pod, limits);
    let asked = sum_of_containers(pod, requests);
    let Some(own) = &mut pod.spec.resources else {
        return;
    };
    if own.limits.is_empty() && own.requests.is_empty() {
        return;
    }
    let pages = |(name, _): &(&String, &_)| is_huge_pages(name) && !own.requests.contains_key(*name);
    let pages: ResourceList = held.iter().filter(pages).map(|(n, q)| (n.clone(), q.clone())).collect();
    fill(&mut own.limits, &pages);
    if own.limits.is_empty() {
        return;
    }
    let select = |list: &ResourceList, keep: fn(&str) -> bool| -> ResourceList {
        list.iter()
            .filter(|(name, _)| keep(name))
            .map(|(n, q)| (n.clone(), q.clone()))
            .collect()
    };
    fill(
        &mut own.requests,
        &select(&asked, |name| is_pod_level(name) && can_overcommit(name)),
    );
    fill(&mut own.requests, &select(&own.limits, is_pod_level));
}
