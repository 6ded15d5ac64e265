//! Requests and limits of whole pods (`k8s.io/component-helpers/resource/helpers.go`), their QoS
//! class, and the values that cgroups get.

mod cgroup;
mod kubelet;
mod qos;

pub use cgroup::{container_resources, oom_score_adj, pod_cgroup, sandbox_overhead, sandbox_resources};
pub use kubelet::{OutOf, kubelet_admits};
pub use qos::{Qos, qos};

use crate::requirements::is_pod_level;
use cofferdam_model::ResourceList;
use cofferdam_model::pod::{Container, Pod, Resources, RestartPolicy};

static NONE: ResourceList = ResourceList::new();

/// What a container asks to be reserved.
pub fn requests(container: &Container) -> &ResourceList {
    container.resources.as_ref().map_or(&NONE, |r| &r.requests)
}

/// What a container is held to.
pub fn limits(container: &Container) -> &ResourceList {
    container.resources.as_ref().map_or(&NONE, |r| &r.limits)
}

/// Whether it is an init container that keeps running beside the containers (KEP-753).
pub fn is_sidecar(init_container: &Container) -> bool {
    init_container.restart_policy == Some(RestartPolicy::Always)
}

/// What a pod needs to have reserved. Overhead is added always, even to nothing.
pub fn pod_requests(pod: &Pod) -> ResourceList {
    let mut total = requests_without_overhead(pod);
    if let Some(overhead) = &pod.spec.overhead {
        add(&mut total, overhead);
    }
    total
}

/// What a pod needs to have reserved, without the cost of its enclosure.
pub fn requests_without_overhead(pod: &Pod) -> ResourceList {
    let mut total = sum_of_containers(pod, requests);
    overlay_pod_level(&mut total, pod_level(pod).map(|r| &r.requests));
    total
}

/// What a pod is held to. Overhead is added only where there is a limit that is not zero.
pub fn pod_limits(pod: &Pod) -> ResourceList {
    let mut total = limits_without_overhead(pod);
    for (name, cost) in pod.spec.overhead.iter().flatten() {
        if let Some(limit) = total.get_mut(name).filter(|l| !l.is_zero()) {
            *limit = limit.saturating_add(cost);
        }
    }
    total
}

/// What a pod is held to, without the cost of its enclosure.
pub fn limits_without_overhead(pod: &Pod) -> ResourceList {
    let mut total = sum_of_containers(pod, limits);
    overlay_pod_level(&mut total, pod_level(pod).map(|r| &r.limits));
    total
}

/// Pod-level resources, where any of them can be set for a pod.
pub(crate) fn pod_level(pod: &Pod) -> Option<&Resources> {
    let resources = pod.spec.resources.as_ref()?;
    let mut names = resources.requests.keys().chain(resources.limits.keys());
    names.any(|n| is_pod_level(n)).then_some(resources)
}

fn overlay_pod_level(total: &mut ResourceList, own: Option<&ResourceList>) {
    let own = own.into_iter().flatten().filter(|(name, _)| is_pod_level(name));
    total.extend(own.map(|(name, quantity)| (name.clone(), quantity.clone())));
}

/// The greater of what runs in the end (containers and sidecars), and what runs while each init
/// container does (it and the sidecars before it).
pub(crate) fn sum_of_containers(pod: &Pod, of: fn(&Container) -> &ResourceList) -> ResourceList {
    let mut total = ResourceList::new();
    for container in &pod.spec.containers {
        add(&mut total, of(container));
    }
    let mut most = ResourceList::new();
    for (container, while_starting) in pod.spec.init_containers.iter().zip(while_starting(pod, of)) {
        if is_sidecar(container) {
            add(&mut total, of(container));
        }
        raise(&mut most, &while_starting);
    }
    raise(&mut total, &most);
    total
}

/// For each init container, what it and the sidecars before it use together.
fn while_starting(pod: &Pod, of: fn(&Container) -> &ResourceList) -> Vec<ResourceList> {
    let mut sidecars = ResourceList::new();
    let one = |container: &Container| {
        let mut now = sidecars.clone();
        add(&mut now, of(container));
        if is_sidecar(container) {
            sidecars = now.clone();
        }
        now
    };
    pod.spec.init_containers.iter().map(one).collect()
}

/// Adds each of `more` to `list`. Totals of hostile input are held at the greatest quantity, which
/// is above every limit.
pub(crate) fn add(list: &mut ResourceList, more: &ResourceList) {
    for (name, quantity) in more {
        let sum = list.get(name).map_or_else(|| quantity.clone(), |own| own.saturating_add(quantity));
        list.insert(name.clone(), sum);
    }
}

fn raise(list: &mut ResourceList, to: &ResourceList) {
    for (name, quantity) in to {
        if list.get(name).is_none_or(|own| quantity > own) {
            list.insert(name.clone(), quantity.clone());
        }
    }
}

#[cfg(test)]
mod tests;
