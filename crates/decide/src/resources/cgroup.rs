//! What cgroups are given: `pkg/kubelet/cm/helpers_linux.go` for the pod's,
//! `pkg/kubelet/kuberuntime` for the sandbox's and the containers', `pkg/kubelet/qos/policy.go` for
//! the order in which the kernel kills.
//!
//! Differing from the kubelet, no period is set where there is no quota: zero means none.

use super::{Qos, is_sidecar, limits, limits_without_overhead, pod_level, pod_limits, pod_requests, qos, requests};
use super::{requests_without_overhead, sum_of_containers, while_starting};
use crate::requirements::HUGE_PAGES;
use cofferdam_model::cri::LinuxResources;
use cofferdam_model::pod::{Container, Pod};
use cofferdam_model::{Quantity, ResourceList};
use std::collections::BTreeMap;

/// Microseconds.
const PERIOD: i64 = 100_000;
/// The least quota that the kernel takes, microseconds.
const LEAST_QUOTA: i64 = 1_000;
const LEAST_SHARES: i64 = 2;
const MOST_SHARES: i64 = 262_144;

/// The pod's own cgroup, overhead included. A burstable pod is limited only in what every one of
/// its containers limits (or the pod itself does); a best-effort one in nothing.
pub fn pod_cgroup(pod: &Pod) -> LinuxResources {
    let class = qos(pod);
    if class == Qos::BestEffort {
        return LinuxResources {
            cpu_shares: LEAST_SHARES as u64,
            ..LinuxResources::default()
        };
    }
    let (asked, held) = (pod_requests(pod), pod_limits(pod));
    let mut resources = LinuxResources {
        cpu_shares: shares(asked.get("cpu")),
        hugepages: huge_pages(&held),
        ..LinuxResources::default()
    };
    if class == Qos::Guaranteed || is_limited_everywhere(pod, "cpu") {
        set_quota(&mut resources, held.get("cpu"));
    }
    if class == Qos::Guaranteed || is_limited_everywhere(pod, "memory") {
        resources.memory_limit = value(held.get("memory"));
    }
    resources
}

/// The pod's resources without overhead, for `SandboxConfig::resources`.
pub fn sandbox_resources(pod: &Pod) -> LinuxResources {
    let (asked, held) = (requests_without_overhead(pod), limits_without_overhead(pod));
    LinuxResources {
        hugepages: huge_pages(&held),
        ..linux(asked.get("cpu"), held.get("cpu"), held.get("memory"))
    }
}

/// The cost of the enclosure, request equal to limit, for `SandboxConfig::overhead`.
pub fn sandbox_overhead(pod: &Pod) -> LinuxResources {
    match &pod.spec.overhead {
        Some(overhead) => linux(overhead.get("cpu"), overhead.get("cpu"), overhead.get("memory")),
        None => LinuxResources::default(),
    }
}

/// A container's cgroup and `oom_score_adj`. Where the container has no limit and the pod has, the
/// pod's is used. `memory_capacity`: the machine's memory, bytes.
pub fn container_resources(pod: &Pod, container: &Container, memory_capacity: i64) -> LinuxResources {
    let limit = |name: &str| -> Option<&Quantity> {
        let own = limits(container).get(name).filter(|l| !l.is_zero());
        own.or_else(|| pod_level(pod)?.limits.get(name))
    };
    let mut resources = linux(requests(container).get("cpu"), limit("cpu"), limit("memory"));
    resources.oom_score_adj = Some(oom_score_adj(pod, container, memory_capacity));
    resources.hugepages = pod_level(pod).map(|r| huge_pages(&r.limits)).unwrap_or_default();
    resources.hugepages.extend(huge_pages(limits(container)));
    resources
}

/// How early the kernel kills the container's processes: -997 (late) for guaranteed pods, 1000 for
/// best-effort ones, between 3 and 999 for burstable ones, the later the more memory was requested.
pub fn oom_score_adj(pod: &Pod, container: &Container, memory_capacity: i64) -> i32 {
    match qos(pod) {
        Qos::Guaranteed => return -997,
        Qos::BestEffort => return 1000,
        Qos::Burstable => {}
    }
    let unclaimed = unclaimed_memory_per_container(pod);
    let score = |requested: i64| {
        let requested = i128::from(requested) + i128::from(unclaimed);
        1000 - 1000 * requested / i128::from(memory_capacity.max(1))
    };
    let mut adjust = score(memory_request(container));
    if is_sidecar(container) && pod.spec.init_containers.iter().any(|c| c.name == container.name) {
        // A sidecar is killed no earlier than the containers that it serves.
        let least = pod.spec.containers.iter().map(memory_request).min().unwrap_or_default();
        adjust = adjust.min(score(least));
    }
    adjust.clamp(3, 999) as i32
}

fn memory_request(container: &Container) -> i64 {
    value(requests(container).get("memory"))
}

/// Memory that is requested for the pod and not by its containers, shared out equally.
fn unclaimed_memory_per_container(pod: &Pod) -> i64 {
    let own = value(pod_level(pod).and_then(|r| r.requests.get("memory")));
    if own == 0 {
        return 0;
    }
    let claimed = value(sum_of_containers(pod, requests).get("memory"));
    let count = pod.spec.containers.len() + pod.spec.init_containers.len();
    own.saturating_sub(claimed) / count.max(1) as i64
}

fn is_limited_everywhere(pod: &Pod, name: &str) -> bool {
    let limited = |list: &ResourceList| list.get(name).is_some_and(|l| !l.is_zero());
    let whole = pod_level(pod).is_some_and(|r| limited(&r.limits));
    whole || (pod.spec.containers.iter().all(|c| limited(limits(c))) && while_starting(pod, limits).iter().all(limited))
}

fn linux(cpu_request: Option<&Quantity>, cpu_limit: Option<&Quantity>, memory_limit: Option<&Quantity>) -> LinuxResources {
    // A limit without a request stands for the request too, as API defaulting has it.
    let mut resources = LinuxResources {
        cpu_shares: shares(cpu_request.or(cpu_limit)),
        memory_limit: value(memory_limit),
        ..LinuxResources::default()
    };
    set_quota(&mut resources, cpu_limit);
    resources
}

/// Limits of huge pages, their sizes as the kernel writes them. The kubelet holds every size that the
/// machine has and that is not named to nothing; who writes the cgroup knows the sizes.
fn huge_pages(list: &ResourceList) -> BTreeMap<String, u64> {
    let one = |(name, quantity): (&String, &Quantity)| {
        let size: Quantity = name.strip_prefix(HUGE_PAGES)?.parse().ok()?;
        Some((page_size(size.value())?, u64::try_from(quantity.value()).ok()?))
    };
    list.iter().filter_map(one).collect()
}

/// `2MB` for 2 MiB (`HugePageUnitSizeFromByteSize` in `pkg/apis/core/v1/helper`).
fn page_size(bytes: i64) -> Option<String> {
    let units = ["B", "KB", "MB", "GB", "TB", "PB"];
    let mut size = u64::try_from(bytes).ok().filter(|size| size.is_power_of_two())?;
    let mut unit = 0;
    while size >= 1024 && unit + 1 < units.len() {
        size /= 1024;
        unit += 1;
    }
    Some(format!("{size}{}", units[unit]))
}

fn value(quantity: Option<&Quantity>) -> i64 {
    quantity.map_or(0, Quantity::value)
}

fn shares(cpu: Option<&Quantity>) -> u64 {
    let shares = i128::from(cpu.map_or(0, Quantity::milli_value)) * 1024 / 1000;
    shares.clamp(LEAST_SHARES.into(), MOST_SHARES.into()) as u64
}

fn set_quota(resources: &mut LinuxResources, cpu: Option<&Quantity>) {
    let milli = cpu.map_or(0, Quantity::milli_value);
    if milli != 0 {
        let quota = i128::from(milli) * i128::from(PERIOD) / 1000;
        resources.cpu_quota = quota.clamp(LEAST_QUOTA.into(), i64::MAX.into()) as i64;
        resources.cpu_period = PERIOD as u64;
    }
}
