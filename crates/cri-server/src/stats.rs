//! Verbs on usage.

use crate::convert::usage;
use crate::convert::{filter, status};
use crate::core::{Core, Note};
use crate::error;
use cofferdam_cri_api::v1;
use cofferdam_model::cri::{ContainerState, ContainerStatus, ContainerUsage, PodUsage, SandboxState, SandboxStatus};
use tonic::Status;

impl Core {
    pub(crate) fn one_container_stats(
        &self,
        request: v1::ContainerStatsRequest,
        note: &mut Note,
    ) -> Result<v1::ContainerStatsResponse, Status> {
        // `container_stats.go`.
        let (_, container) = self.named_container(&request.container_id, |id| format!("failed to find container {id:?}"), note)?;
        Ok(v1::ContainerStatsResponse {
            stats: Some(self.container_stats_on_wire(&container)?),
        })
    }

    pub(crate) fn list_container_stats(&self, wanted: Option<v1::ContainerStatsFilter>) -> Result<Vec<v1::ContainerStats>, Status> {
        let wanted = wanted.unwrap_or_default();
        let takes = |c: &ContainerStatus| {
            filter::names(&wanted.id, c.id.as_str())
                && filter::names(&wanted.pod_sandbox_id, c.pod.as_str())
                && filter::selects(&wanted.label_selector, &c.config.labels)
        };
        let all = self.containers().map_err(error::status)?;
        Ok(self.stats_of(all.iter().filter(|c| takes(c))))
    }

    pub(crate) fn one_pod_stats(
        &self,
        request: v1::PodSandboxStatsRequest,
        note: &mut Note,
    ) -> Result<v1::PodSandboxStatsResponse, Status> {
        // `sandbox_stats.go` and `sandbox_stats_linux.go`.
        let words = |id: &str| format!("an error occurred when trying to find sandbox {id}");
        let pod = self.named_pod(&request.pod_sandbox_id, words, note)?;
        if pod.state != SandboxState::Ready {
            let id = &pod.id;
            return Err(Status::unavailable(format!(
                "failed to decode pod sandbox metrics {id}: failed to get pod sandbox stats since sandbox container \"{id}\" \
                 is not in ready state: unavailable"
            )));
        }
        Ok(v1::PodSandboxStatsResponse {
            stats: Some(self.pod_stats_on_wire(&pod)?),
        })
    }

    pub(crate) fn list_pod_sandbox_stats(&self, wanted: Option<v1::PodSandboxStatsFilter>) -> Result<Vec<v1::PodSandboxStats>, Status> {
        let wanted = wanted.unwrap_or_default();
        let takes = |p: &SandboxStatus| {
            p.state == SandboxState::Ready
                && filter::names(&wanted.id, p.id.as_str())
                && filter::selects(&wanted.label_selector, &p.config.labels)
        };
        let all = self.pods().map_err(error::status)?;
        // One that ends while it is measured is no error of the list.
        Ok(all
            .iter()
            .filter(|p| takes(p))
            .filter_map(|pod| self.pod_stats_on_wire(pod).ok())
            .collect())
    }

    fn pod_stats_on_wire(&self, pod: &SandboxStatus) -> Result<v1::PodSandboxStats, Status> {
        let (usage, rate) = self.usage_of_pod(pod)?;
        let containers = self.engine.list_containers(Some(&pod.id)).map_err(error::status)?;
        Ok(usage::pod(
            status::sandbox_attributes(pod),
            &usage,
            rate,
            self.stats_of(containers.iter()),
        ))
    }

    fn container_stats_on_wire(&self, container: &ContainerStatus) -> Result<v1::ContainerStats, Status> {
        let (usage, rate) = self.usage_of(container)?;
        Ok(usage::container(status::container_attributes(container), &usage, rate))
    }

    /// Of those that run; one that has ended since it was listed is left out.
    fn stats_of<'a>(&self, containers: impl Iterator<Item = &'a ContainerStatus>) -> Vec<v1::ContainerStats> {
        let running = containers.filter(|c| c.state == ContainerState::Running);
        running.filter_map(|c| self.container_stats_on_wire(c).ok()).collect()
    }

    /// A container's usage, and its CPU time a second, nanoseconds, once it was measured twice.
    pub(crate) fn usage_of(&self, container: &ContainerStatus) -> Result<(ContainerUsage, Option<u64>), Status> {
        let usage = self.engine.stats_of_container(&container.id).map_err(error::status)?;
        let rate = usage
            .cgroup
            .cpu_nanos
            .and_then(|nanos| self.rates.take(container.id.as_str(), usage.cgroup.at, nanos));
        Ok((usage, rate))
    }

    /// As [`Core::usage_of`], of a pod.
    pub(crate) fn usage_of_pod(&self, pod: &SandboxStatus) -> Result<(PodUsage, Option<u64>), Status> {
        let usage = self.engine.stats_of_pod(&pod.id).map_err(error::status)?;
        let rate = usage
            .cgroup
            .cpu_nanos
            .and_then(|nanos| self.rates.take(pod.id.as_str(), usage.cgroup.at, nanos));
        Ok((usage, rate))
    }
}
