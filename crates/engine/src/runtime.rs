//! The engine as a [`Runtime`]: one line a verb.

use crate::Engine;
use crate::images::PullOptions;
use cofferdam_model::cri::{
    ContainerConfig, ContainerStats, ContainerStatus, Event, ExecOutput, HandlerStatus, LinuxResources, PodStats, PullRequest, Result, Runtime, SandboxConfig, SandboxStatus,
};
use cofferdam_model::{ContainerId, PodId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// An engine shared between threads, as [`Runtime`] wants it.
#[derive(Debug, Clone)]
pub struct Shared(pub Arc<Engine>);

impl Runtime for Shared {
    fn run_pod_sandbox(&self, config: &SandboxConfig, handler: &str) -> Result<PodId> {
        self.0.run_sandbox(config, handler)
    }
    fn stop_pod_sandbox(&self, pod: &PodId) -> Result<()> {
        self.0.stop_sandbox(pod)
    }
    fn remove_pod_sandbox(&self, pod: &PodId) -> Result<()> {
        self.0.remove_sandbox(pod)
    }
    fn pod_sandbox_status(&self, pod: &PodId) -> Result<SandboxStatus> {
        self.0.sandbox_status(pod)
    }
    fn list_pod_sandboxes(&self) -> Result<Vec<SandboxStatus>> {
        self.0.list_sandboxes()
    }
    fn create_container(&self, pod: &PodId, config: &ContainerConfig) -> Result<ContainerId> {
        self.0.create_container(pod, config)
    }
    fn start_container(&self, container: &ContainerId) -> Result<()> {
        self.0.start_container(container)
    }
    fn stop_container(&self, container: &ContainerId, grace: Duration) -> Result<()> {
        self.0.stop_container(container, grace)
    }
    fn remove_container(&self, container: &ContainerId) -> Result<()> {
        self.0.remove_container(container)
    }
    fn container_status(&self, container: &ContainerId) -> Result<ContainerStatus> {
        self.0.container_status(container)
    }
    fn list_containers(&self, pod: Option<&PodId>) -> Result<Vec<ContainerStatus>> {
        self.0.list_containers(pod)
    }
    fn exec_sync(&self, container: &ContainerId, command: &[String], timeout: Duration) -> Result<ExecOutput> {
        self.0.exec_sync(container, command, timeout)
    }
    fn pod_stats(&self, pod: &PodId) -> Result<PodStats> {
        self.0.pod_stats(pod)
    }
    fn handlers(&self) -> Result<Vec<HandlerStatus>> {
        Ok(self.0.handler_statuses())
    }
    fn handler_ready(&self, handler: &str) -> Result<BTreeMap<String, bool>> {
        self.0.handler_ready(handler)
    }
    fn image_status(&self, image: &str) -> Result<Option<String>> {
        match self.0.images().resolve(image) {
            Ok(found) => Ok(Some(found.id.to_string())),
            Err(cofferdam_images::Error::NotFound(_)) => Ok(None),
            Err(e) => Err(crate::sandbox::failed(e)),
        }
    }
    fn pull_image(&self, request: &PullRequest) -> Result<String> {
        let options = PullOptions { docker_configs: &request.docker_configs, ..PullOptions::default() };
        self.0.pull(&request.image, options).map(|pulled| pulled.id.to_string())
    }
    fn update_container(&self, container: &ContainerId, resources: &LinuxResources) -> Result<()> {
        self.0.update_container(container, resources)
    }
    fn update_pod_sandbox(&self, pod: &PodId, overhead: &LinuxResources, resources: &LinuxResources) -> Result<()> {
        self.0.update_sandbox(pod, overhead, resources)
    }
    fn container_stats(&self, pod: &PodId) -> Result<Vec<ContainerStats>> {
        self.0.container_stats(pod)
    }
    fn events(&self) -> Receiver<Event> {
        self.0.events()
    }
}
