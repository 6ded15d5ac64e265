//! Metrics of pods and containers, for a kubelet's `/metrics/cadvisor`: names and labels are cAdvisor's.

use crate::core::Core;
use crate::error;
use cofferdam_cri_api::v1::{self, MetricType};
use cofferdam_model::cri::{CgroupUsage, ContainerState, ContainerStatus, FsUsage, InterfaceUsage, SandboxState, SandboxStatus};
use tonic::Status;

/// Labels of every metric, in the order of their values.
const LABELS: [&str; 6] = ["container", "id", "image", "name", "namespace", "pod"];
const NANOS: u64 = 1_000_000_000;
const MICROS: u64 = 1_000_000;

/// A metric of pods and containers.
struct Of<T: 'static> {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    value: fn(&T) -> Option<u64>,
}

const USAGE: [Of<CgroupUsage>; 16] = [
    Of {
        name: "container_cpu_usage_seconds_total",
        help: "CPU time used, seconds.",
        kind: MetricType::Counter,
        value: |u| u.cpu_nanos.map(|n| n / NANOS),
    },
    Of {
        name: "container_memory_working_set_bytes",
        help: "Memory that cannot be dropped at once, bytes.",
        kind: MetricType::Gauge,
        value: |u| u.memory.working_set,
    },
    Of {
        name: "container_memory_usage_bytes",
        help: "Memory used, page cache included, bytes.",
        kind: MetricType::Gauge,
        value: |u| u.memory.usage,
    },
    Of {
        name: "container_memory_rss",
        help: "Anonymous memory, bytes.",
        kind: MetricType::Gauge,
        value: |u| u.memory.rss,
    },
    Of {
        name: "container_memory_swap",
        help: "Swap used, bytes.",
        kind: MetricType::Gauge,
        value: |u| u.memory.swap,
    },
    Of {
        name: "container_memory_failures_total",
        help: "Page faults.",
        kind: MetricType::Counter,
        value: |u| u.memory.page_faults,
    },
    Of {
        name: "container_processes",
        help: "Processes and threads.",
        kind: MetricType::Gauge,
        value: |u| u.processes,
    },
    Of {
        name: "container_threads",
        help: "Threads.",
        kind: MetricType::Gauge,
        value: |u| u.processes,
    },
    Of {
        name: "container_last_seen",
        help: "When it was measured, seconds since 1970.",
        kind: MetricType::Gauge,
        value: |u| u64::try_from(u.at).ok().map(|n| n / NANOS),
    },
    Of {
        name: "container_pressure_cpu_waiting_seconds_total",
        help: "Time in which some waited for the CPU, seconds.",
        kind: MetricType::Counter,
        value: |u| u.cpu_pressure.map(|p| p.some.total / MICROS),
    },
    Of {
        name: "container_pressure_cpu_stalled_seconds_total",
        help: "Time in which all waited for the CPU, seconds.",
        kind: MetricType::Counter,
        value: |u| u.cpu_pressure.map(|p| p.full.total / MICROS),
    },
    Of {
        name: "container_pressure_memory_waiting_seconds_total",
        help: "Time in which some waited for memory, seconds.",
        kind: MetricType::Counter,
        value: |u| u.memory_pressure.map(|p| p.some.total / MICROS),
    },
    Of {
        name: "container_pressure_memory_stalled_seconds_total",
        help: "Time in which all waited for memory, seconds.",
        kind: MetricType::Counter,
        value: |u| u.memory_pressure.map(|p| p.full.total / MICROS),
    },
    Of {
        name: "container_pressure_io_waiting_seconds_total",
        help: "Time in which some waited for disks, seconds.",
        kind: MetricType::Counter,
        value: |u| u.io_pressure.map(|p| p.some.total / MICROS),
    },
    Of {
        name: "container_pressure_io_stalled_seconds_total",
        help: "Time in which all waited for disks, seconds.",
        kind: MetricType::Counter,
        value: |u| u.io_pressure.map(|p| p.full.total / MICROS),
    },
    Of {
        name: "container_memory_major_failures_total",
        help: "Page faults that waited for a disk.",
        kind: MetricType::Counter,
        value: |u| u.memory.major_page_faults,
    },
];

/// Of a container's writable layer.
const LAYER: [Of<FsUsage>; 2] = [
    Of {
        name: "container_fs_usage_bytes",
        help: "Room that the writable layer takes, bytes.",
        kind: MetricType::Gauge,
        value: |f| Some(f.used_bytes),
    },
    Of {
        name: "container_fs_inodes_total",
        help: "Inodes of the writable layer.",
        kind: MetricType::Gauge,
        value: |f| Some(f.inodes_used),
    },
];

/// Of a pod's links; one more label says which.
const LINKS: [Of<InterfaceUsage>; 8] = [
    Of {
        name: "container_network_receive_bytes_total",
        help: "Bytes received.",
        kind: MetricType::Counter,
        value: |i| Some(i.rx_bytes),
    },
    Of {
        name: "container_network_receive_packets_total",
        help: "Packets received.",
        kind: MetricType::Counter,
        value: |i| Some(i.rx_packets),
    },
    Of {
        name: "container_network_receive_errors_total",
        help: "Errors of receiving.",
        kind: MetricType::Counter,
        value: |i| Some(i.rx_errors),
    },
    Of {
        name: "container_network_receive_packets_dropped_total",
        help: "Packets dropped in receiving.",
        kind: MetricType::Counter,
        value: |i| Some(i.rx_dropped),
    },
    Of {
        name: "container_network_transmit_bytes_total",
        help: "Bytes sent.",
        kind: MetricType::Counter,
        value: |i| Some(i.tx_bytes),
    },
    Of {
        name: "container_network_transmit_packets_total",
        help: "Packets sent.",
        kind: MetricType::Counter,
        value: |i| Some(i.tx_packets),
    },
    Of {
        name: "container_network_transmit_errors_total",
        help: "Errors of sending.",
        kind: MetricType::Counter,
        value: |i| Some(i.tx_errors),
    },
    Of {
        name: "container_network_transmit_packets_dropped_total",
        help: "Packets dropped in sending.",
        kind: MetricType::Counter,
        value: |i| Some(i.tx_dropped),
    },
];

/// Of a container's request and its start.
const CONTAINER: [Of<ContainerStatus>; 6] = [
    Of {
        name: "container_start_time_seconds",
        help: "When it was started, seconds since 1970.",
        kind: MetricType::Gauge,
        value: |c| u64::try_from(c.started_at).ok().map(|n| n / NANOS),
    },
    Of {
        name: "container_spec_cpu_shares",
        help: "CPU shares asked for.",
        kind: MetricType::Gauge,
        value: |c| Some(c.config.resources.cpu_shares),
    },
    Of {
        name: "container_spec_cpu_period",
        help: "Period of the CPU quota, microseconds.",
        kind: MetricType::Gauge,
        value: |c| Some(c.config.resources.cpu_period),
    },
    Of {
        name: "container_spec_cpu_quota",
        help: "CPU quota, microseconds a period; absent for none.",
        kind: MetricType::Gauge,
        value: |c| u64::try_from(c.config.resources.cpu_quota).ok(),
    },
    Of {
        name: "container_spec_memory_swap_limit_bytes",
        help: "Limit of memory and swap together, bytes; 0 for none.",
        kind: MetricType::Gauge,
        value: |c| u64::try_from(c.config.resources.memory_swap_limit.max(0)).ok(),
    },
    Of {
        name: "container_spec_memory_limit_bytes",
        help: "Memory limit, bytes; 0 for none.",
        kind: MetricType::Gauge,
        value: |c| u64::try_from(c.config.resources.memory_limit).ok(),
    },
];

/// What [`Core::pod_metrics`] tells of.
pub(crate) fn descriptors() -> Vec<v1::MetricDescriptor> {
    fn of<T>(all: &[Of<T>], more: &[&str]) -> Vec<v1::MetricDescriptor> {
        let keys: Vec<String> = LABELS.iter().chain(more).map(|l| (*l).to_owned()).collect();
        all.iter()
            .map(|m| v1::MetricDescriptor {
                name: m.name.into(),
                help: m.help.into(),
                label_keys: keys.clone(),
            })
            .collect()
    }
    [of(&USAGE, &[]), of(&LAYER, &[]), of(&LINKS, &["interface"]), of(&CONTAINER, &[])].concat()
}

fn metrics<T>(all: &[Of<T>], of: &T, at: i64, labels: &[String]) -> Vec<v1::Metric> {
    let metric = |m: &Of<T>| {
        Some(v1::Metric {
            name: m.name.into(),
            timestamp: at,
            metric_type: m.kind.into(),
            label_values: labels.to_vec(),
            value: Some(v1::UInt64Value { value: (m.value)(of)? }),
        })
    };
    all.iter().filter_map(metric).collect()
}

impl Core {
    /// Metrics of the pods that are ready and of their containers that run.
    pub(crate) fn pod_metrics(&self) -> Result<Vec<v1::PodSandboxMetrics>, Status> {
        let pods = self.pods().map_err(error::status)?;
        // A pod that ends while it is measured is left out.
        Ok(pods
            .iter()
            .filter(|p| p.state == SandboxState::Ready)
            .filter_map(|pod| self.metrics_of(pod).ok())
            .collect())
    }

    fn metrics_of(&self, pod: &SandboxStatus) -> Result<v1::PodSandboxMetrics, Status> {
        let labels = |container: &str, id: &str, image: &str| -> Vec<String> {
            [container, id, image, id, &pod.config.namespace, &pod.config.name]
                .map(str::to_owned)
                .to_vec()
        };
        let (usage, _) = self.usage_of_pod(pod)?;
        let own = labels("", pod.id.as_str(), "");
        let mut all = metrics(&USAGE, &usage.cgroup, usage.cgroup.at, &own);
        for link in &usage.network {
            all.extend(metrics(
                &LINKS,
                link,
                usage.network_at,
                &[own.as_slice(), std::slice::from_ref(&link.name)].concat(),
            ));
        }
        let containers = self.engine.list_containers(Some(&pod.id)).map_err(error::status)?;
        let running = containers.iter().filter(|c| c.state == ContainerState::Running);
        let of = |c: &ContainerStatus| {
            let (usage, _) = self.usage_of(c).ok()?;
            let at = usage.cgroup.at;
            let labels = labels(&c.config.name, c.id.as_str(), &c.config.image);
            let layer = if usage.writable.at == 0 {
                vec![]
            } else {
                metrics(&LAYER, &usage.writable, usage.writable.at, &labels)
            };
            let all = [
                metrics(&USAGE, &usage.cgroup, at, &labels),
                layer,
                metrics(&CONTAINER, c, at, &labels),
            ]
            .concat();
            Some(v1::ContainerMetrics {
                container_id: c.id.to_string(),
                metrics: all,
            })
        };
        Ok(v1::PodSandboxMetrics {
            pod_sandbox_id: pod.id.to_string(),
            metrics: all,
            container_metrics: running.filter_map(of).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_descriptor_with_as_many_labels() {
        let all = descriptors();
        let names: std::collections::BTreeSet<_> = all.iter().map(|d| &d.name).collect();
        assert_eq!(names.len(), all.len());
        let usage = CgroupUsage {
            cpu_nanos: Some(3 * NANOS),
            processes: Some(1),
            ..CgroupUsage::default()
        };
        let labels: Vec<String> = LABELS.map(str::to_owned).to_vec();
        let told = metrics(&USAGE, &usage, 7, &labels);
        // What nobody counts is not told as zero.
        assert_eq!(told.len(), 4, "{told:?}");
        assert_eq!(told.first().and_then(|m| m.value).map(|v| v.value), Some(3));
        for metric in told {
            let descriptor = all.iter().find(|d| d.name == metric.name);
            assert_eq!(descriptor.map(|d| d.label_keys.len()), Some(metric.label_values.len()));
        }
    }
}
