//! Metrics of pods and containers, for a kubelet's `/metrics/cadvisor`: names and labels are cAdvisor's
//! (`docs/storage/prometheus.md`).

mod table;

use crate::core::Core;
use crate::error;
use cofferdam_cri_api::v1::{self, MetricType};
use cofferdam_engine::stats::{Counters, disk_size};
use cofferdam_model::cri::{CgroupUsage, ContainerState, ContainerStatus, SandboxState, SandboxStatus};
use tonic::Status;

/// Labels of every metric, in the order of their values.
const LABELS: [&str; 6] = ["container", "id", "image", "name", "namespace", "pod"];

/// A metric of something.
struct Of<T: 'static> {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    /// `None` for what nobody counts, which is not told as zero.
    value: fn(&T) -> Option<u64>,
}

const fn counter<T>(name: &'static str, help: &'static str, value: fn(&T) -> Option<u64>) -> Of<T> {
    let kind = MetricType::Counter;
    Of { name, help, kind, value }
}

const fn gauge<T>(name: &'static str, help: &'static str, value: fn(&T) -> Option<u64>) -> Of<T> {
    let kind = MetricType::Gauge;
    Of { name, help, kind, value }
}

/// What [`Core::pod_metrics`] tells of.
pub(crate) fn descriptors() -> Vec<v1::MetricDescriptor> {
    fn one<T>(metric: &Of<T>, more: &[&str]) -> v1::MetricDescriptor {
        v1::MetricDescriptor {
            name: metric.name.into(),
            help: metric.help.into(),
            label_keys: LABELS.iter().chain(more).map(|l| (*l).to_owned()).collect(),
        }
    }
    fn of<T>(all: &[Of<T>], more: &[&str]) -> Vec<v1::MetricDescriptor> {
        all.iter().map(|m| one(m, more)).collect()
    }
    let mut all = [
        of(&table::USAGE, &[]),
        of(&table::COUNTERS, &[]),
        of(&table::ULIMITS, &["ulimit"]),
        of(&table::HUGE, &["pagesize"]),
        of(&table::DISKS, &["device"]),
        of(&table::LAYER, &[]),
        of(&table::DISK, &[]),
        of(&table::LINKS, &["interface"]),
        of(&table::CONTAINER, &[]),
    ]
    .concat();
    // Those of several kinds have one descriptor.
    all.extend(table::FAULTS.first().map(|(_, m)| one(m, &["failure_type", "scope"])));
    all.extend(
        table::BLKIO
            .first()
            .map(|(_, m)| one(m, &["device", "major", "minor", "operation"])),
    );
    all
}

/// The metrics of one thing: when it was measured, and its labels.
struct Page {
    at: i64,
    labels: Vec<String>,
    metrics: Vec<v1::Metric>,
}

impl Page {
    fn add<T>(&mut self, all: &[Of<T>], of: &T, more: &[&str]) {
        all.iter().for_each(|metric| self.one(metric, of, more));
    }

    fn one<T>(&mut self, metric: &Of<T>, of: &T, more: &[&str]) {
        let Some(value) = (metric.value)(of) else { return };
        self.metrics.push(v1::Metric {
            name: metric.name.into(),
            timestamp: self.at,
            metric_type: metric.kind.into(),
            label_values: self.labels.iter().cloned().chain(more.iter().map(|l| (*l).to_owned())).collect(),
            value: Some(v1::UInt64Value { value }),
        });
    }

    fn cgroup(&mut self, usage: &CgroupUsage, counters: Option<&Counters>) {
        self.add(&table::USAGE, usage, &[]);
        for (kind, metric) in &table::FAULTS {
            self.one(metric, usage, &[*kind, "hierarchy"]);
        }
        let Some(counters) = counters else { return };
        self.add(&table::COUNTERS, counters, &[]);
        for pages in &counters.huge_pages {
            self.add(&table::HUGE, pages, &[pages.size.as_str()]);
        }
        for disk in &counters.disks {
            self.add(&table::DISKS, disk, &[disk.device.as_str()]);
            let (major, minor) = (disk.major.to_string(), disk.minor.to_string());
            for (operation, metric) in &table::BLKIO {
                self.one(metric, disk, &[disk.device.as_str(), major.as_str(), minor.as_str(), *operation]);
            }
        }
    }
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
        let (usage, _) = self.usage_of_pod(pod)?;
        let counters = self.engine.counters_of_pod(&pod.id).map_err(error::status)?;
        let mut page = Page {
            at: usage.cgroup.at,
            labels: labels(pod, "", pod.id.as_str(), ""),
            metrics: vec![],
        };
        page.cgroup(&usage.cgroup, counters.as_ref());
        page.add(&table::POD, pod, &[]);
        page.at = usage.network_at;
        for link in &usage.network {
            page.add(&table::LINKS, link, &[link.name.as_str()]);
        }
        let containers = self.engine.list_containers(Some(&pod.id)).map_err(error::status)?;
        let running = containers.iter().filter(|c| c.state == ContainerState::Running);
        Ok(v1::PodSandboxMetrics {
            pod_sandbox_id: pod.id.to_string(),
            metrics: page.metrics,
            container_metrics: running.filter_map(|c| self.metrics_of_container(pod, c).ok()).collect(),
        })
    }

    fn metrics_of_container(&self, pod: &SandboxStatus, container: &ContainerStatus) -> Result<v1::ContainerMetrics, Status> {
        let (usage, _) = self.usage_of(container)?;
        let counters = self.engine.counters_of_container(&container.id).map_err(error::status)?;
        let mut page = Page {
            at: usage.cgroup.at,
            labels: labels(pod, &container.config.name, container.id.as_str(), &container.config.image),
            metrics: vec![],
        };
        page.cgroup(&usage.cgroup, counters.as_ref());
        page.add(&table::CONTAINER, container, &[]);
        if let Some(counters) = &counters {
            page.add(&table::ULIMITS, counters, &["max_open_files"]);
        }
        if usage.writable.at != 0 {
            page.at = usage.writable.at;
            page.add(&table::LAYER, &usage.writable, &[]);
            if let Some(disk) = disk_size(&usage.writable.mountpoint) {
                page.add(&table::DISK, &disk, &[]);
            }
        }
        Ok(v1::ContainerMetrics {
            container_id: container.id.to_string(),
            metrics: page.metrics,
        })
    }
}

fn labels(pod: &SandboxStatus, container: &str, id: &str, image: &str) -> Vec<String> {
    [container, id, image, id, &pod.config.namespace, &pod.config.name]
        .map(str::to_owned)
        .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_engine::stats::{DiskTraffic, HugePages};

    #[test]
    fn every_metric_has_a_descriptor_with_as_many_labels() {
        let all = descriptors();
        let names: std::collections::BTreeSet<_> = all.iter().map(|d| &d.name).collect();
        assert_eq!(names.len(), all.len());
        let mut usage = CgroupUsage {
            cpu_nanos: Some(3_999_999_999),
            processes: Some(1),
            ..CgroupUsage::default()
        };
        usage.memory.page_faults = Some(7);
        let counters = Counters {
            periods: Some(5),
            disks: vec![DiskTraffic::default()],
            huge_pages: vec![HugePages::default()],
            ..Counters::default()
        };
        let mut page = Page {
            at: 7,
            labels: LABELS.map(str::to_owned).to_vec(),
            metrics: vec![],
        };
        page.cgroup(&usage, Some(&counters));
        let value = |name: &str| page.metrics.iter().find(|m| m.name == name).and_then(|m| m.value).map(|v| v.value);
        for (name, wanted) in [
            ("container_cpu_usage_seconds_total", Some(3)),
            ("container_cpu_cfs_periods_total", Some(5)),
            ("container_memory_failures_total", Some(7)),
            ("container_fs_reads_total", Some(0)),
            ("container_blkio_device_usage_total", Some(0)),
            ("container_hugetlb_usage_bytes", Some(0)),
            // What nobody counts is not told as zero.
            ("container_hugetlb_max_usage_bytes", None),
            ("container_memory_cache", None),
            ("container_memory_rss", None),
        ] {
            assert_eq!(value(name), wanted, "{name}");
        }
        for metric in &page.metrics {
            let descriptor = all.iter().find(|d| d.name == metric.name);
            assert_eq!(
                descriptor.map(|d| d.label_keys.len()),
                Some(metric.label_values.len()),
                "{metric:?}"
            );
        }
    }
}
