//! What the API server fills in before admission (`pkg/apis/core/v1/defaults.go`), as far as it
//! changes decisions. Fields whose default is only a reading of absence stay absent.

use crate::requirements::{can_overcommit, is_huge_pages, is_pod_level};
use crate::resources::{limits, requests, sum_of_containers};
use cofferdam_model::ResourceList;
use cofferdam_model::pod::{Container, Pod};

/// Fills in requests from limits, pod-level requests, and host ports of pods on the machine's
/// network. Filling in twice changes nothing.
pub fn apply(pod: &mut Pod) {
    let spec = &mut pod.spec;
    let host_network = spec.host_network;
    for container in spec.containers.iter_mut().chain(&mut spec.init_containers) {
        if let Some(resources) = &mut container.resources {
            fill(&mut resources.requests, &resources.limits);
        }
        if host_network {
            fill_host_ports(container);
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
