//! Changes of a running pod's resources in place (KEP-1287): what may be asked
//! (`ValidatePodResize` in `pkg/apis/core/validation`), and what is then to be done
//! (`computePodResizeAction` and `validateMemoryResizeAction` in `pkg/kubelet/kuberuntime`).

mod validate;

pub use validate::validate;

use crate::resources::{container_resources, is_sidecar, limits, pod_cgroup, pod_requests, requests, sandbox_overhead};
use cofferdam_model::ResourceList;
use cofferdam_model::cri::LinuxResources;
use cofferdam_model::pod::{Container, Pod};

/// What is to be done, in this order: the pod's limits raised, the containers changed (those that shrink
/// first), the pod's limits lowered. So no container is ever wider than its pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resize {
    /// The pod's limits before the containers are changed; `None` where none of them grows.
    pub before: Option<PodLimits>,
    /// The containers that change.
    pub containers: Vec<ContainerResize>,
    /// The pod's limits after the containers are changed; `None` where they are the first ones.
    pub after: Option<PodLimits>,
}

/// Limits of a pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodLimits {
    /// Cost of the enclosure, already part of `resources`.
    pub overhead: LinuxResources,
    /// Limits of the pod's cgroup, overhead included.
    pub resources: LinuxResources,
}

/// A container that changes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContainerResize {
    /// Its name.
    pub name: String,
    /// All of its limits as they are to be.
    pub resources: LinuxResources,
    /// Its policy asks for a restart: it is ended and started with the new limits, rather than changed.
    pub restart: bool,
    /// Its memory limit falls, or there was none: above it there may be memory in use already.
    pub memory_shrinks: bool,
}

/// Why a change must wait or cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It can never be (`Infeasible`).
    #[error("Node didn't have enough capacity: {resource}, requested: {requested}, capacity: {capacity}")]
    Infeasible {
        /// The resource.
        resource: &'static str,
        /// What the pod would need: thousandths of cpu, bytes of memory.
        requested: i64,
        /// What the node has for pods.
        capacity: i64,
    },
    /// It can be tried again when others are gone (`Deferred`).
    #[error("{0}")]
    Deferred(#[from] crate::resources::OutOf),
    /// More memory is in use than the pod would be held to.
    #[error("attempting to set pod memory limit ({limit}) below current usage ({usage})")]
    PodMemory {
        /// The limit, bytes.
        limit: i64,
        /// What is in use, bytes.
        usage: u64,
    },
    /// More memory is in use than the container would be held to.
    #[error("attempting to set container {name:?} memory limit ({limit}) below current usage ({usage})")]
    ContainerMemory {
        /// The container.
        name: String,
        /// The limit, bytes.
        limit: i64,
        /// What is in use, bytes.
        usage: u64,
    },
}

/// What a change of `old` into `new` takes; both are admitted, and [`validate()`] had nothing against it.
/// `memory_capacity`: the machine's memory, bytes.
pub fn plan(new: &Pod, old: &Pod, memory_capacity: i64) -> Resize {
    let pairs = |pod: &Pod| -> Vec<Container> {
        let sidecars = pod.spec.init_containers.iter().filter(|c| is_sidecar(c));
        sidecars.chain(&pod.spec.containers).cloned().collect()
    };
    let mut containers: Vec<ContainerResize> = pairs(new)
        .iter()
        .zip(&pairs(old))
        .filter_map(|(container, before)| change(new, container, before, memory_capacity))
        .collect();
    // Stable: those that shrink come first, and else the pod's order stays.
    containers.sort_by_key(|c| !c.memory_shrinks);
    let (first, last) = (pod_limits_of(old), pod_limits_of(new));
    let widest = PodLimits {
        overhead: last.overhead.clone(),
        resources: wider(&first.resources, &last.resources),
    };
    Resize {
        before: (widest.resources != first.resources).then(|| widest.clone()),
        after: (last.resources != widest.resources).then_some(last),
        containers,
    }
}

fn pod_limits_of(pod: &Pod) -> PodLimits {
    PodLimits {
        overhead: sandbox_overhead(pod),
        resources: pod_cgroup(pod),
    }
}

fn change(pod: &Pod, container: &Container, before: &Container, memory_capacity: i64) -> Option<ContainerResize> {
    let amount = |list: &ResourceList, name: &str| {
        let quantity = list.get(name);
        quantity.map_or(0, |q| if name == "cpu" { q.milli_value() } else { q.value() })
    };
    let changes = |name: &str| {
        amount(requests(container), name) != amount(requests(before), name)
            || amount(limits(container), name) != amount(limits(before), name)
    };
    let changed: Vec<&str> = ["cpu", "memory"].into_iter().filter(|name| changes(name)).collect();
    if changed.is_empty() {
        return None;
    }
    let asks_for_restart = |name: &str| {
        let mut policies = container.resize_policy.iter();
        policies.any(|p| p.resource_name == name && p.restart_policy == "RestartContainer")
    };
    let (limit, last) = (amount(limits(container), "memory"), amount(limits(before), "memory"));
    Some(ContainerResize {
        name: container.name.clone(),
        resources: container_resources(pod, container, memory_capacity),
        restart: changed.into_iter().any(asks_for_restart),
        memory_shrinks: limit != 0 && (last == 0 || limit < last),
    })
}

/// The wider of each limit; 0 is none, and so the widest.
fn wider(a: &LinuxResources, b: &LinuxResources) -> LinuxResources {
    let limit = |a: i64, b: i64| if a == 0 || b == 0 { 0 } else { a.max(b) };
    let cpu_quota = limit(a.cpu_quota, b.cpu_quota);
    LinuxResources {
        cpu_shares: a.cpu_shares.max(b.cpu_shares),
        cpu_quota,
        cpu_period: if cpu_quota == 0 { 0 } else { b.cpu_period },
        memory_limit: limit(a.memory_limit, b.memory_limit),
        ..b.clone()
    }
}

impl Resize {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Refuses limits of memory below what is in use: `usage_of_pod`, and `usage_of` each container, in
    /// bytes; what is not known is not looked at. Containers that are restarted begin anew.
    ///
    /// # Errors
    /// [`Refused::PodMemory`] and [`Refused::ContainerMemory`].
    pub fn check_usage(&self, usage_of_pod: Option<u64>, usage_of: impl Fn(&str) -> Option<u64>) -> Result<(), Refused> {
        let exceeds = |usage: u64, limit: i64| limit > 0 && usage >= limit.unsigned_abs();
        let lowered = self.after.as_ref().map_or(0, |limits| limits.resources.memory_limit);
        if let Some(usage) = usage_of_pod.filter(|usage| exceeds(*usage, lowered)) {
            return Err(Refused::PodMemory { limit: lowered, usage });
        }
        for container in self.containers.iter().filter(|c| c.memory_shrinks && !c.restart) {
            let limit = container.resources.memory_limit;
            if let Some(usage) = usage_of(&container.name).filter(|usage| exceeds(*usage, limit)) {
                let name = container.name.clone();
                return Err(Refused::ContainerMemory { name, limit, usage });
            }
        }
        Ok(())
    }
}

/// Refuses a change that the node has no room for (`canResizePod` in `pkg/kubelet/allocation`). `used`:
/// the requests of the other pods on the node, and their number as `pods`.
///
/// # Errors
/// [`Refused::Infeasible`] and [`Refused::Deferred`].
pub fn kubelet_admits(new: &Pod, allocatable: &ResourceList, used: &ResourceList) -> Result<(), Refused> {
    let needed = pod_requests(new);
    let of = |list: &ResourceList, name: &str| {
        let quantity = list.get(name);
        quantity.map_or(0, |q| if name == "cpu" { q.milli_value() } else { q.value() })
    };
    for resource in ["memory", "cpu"] {
        let (requested, capacity) = (of(&needed, resource), of(allocatable, resource));
        if requested > capacity {
            return Err(Refused::Infeasible {
                resource,
                requested,
                capacity,
            });
        }
    }
    Ok(crate::resources::kubelet_admits(new, allocatable, used)?)
}

#[cfg(test)]
mod tests;
