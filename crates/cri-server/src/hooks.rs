//! Where others join in: what measures the verbs, and what has a say in a pod's life (NRI). One value
//! that implements [`Hooks`] is given to the server; calls are made from the thread that does the verb.

use cofferdam_model::ContainerId;
use cofferdam_model::cri::{ContainerConfig, ContainerStatus, Error, LinuxResources, SandboxStatus, Stage};
use std::time::Duration;

/// A verb that was done.
#[derive(Debug, Clone)]
pub struct Call {
    /// Name as in the `.proto`: `RunPodSandbox`.
    pub verb: &'static str,
    /// The handler of the pod that it was about; empty where it was about none or none was found.
    pub handler: String,
    /// gRPC's code.
    pub code: tonic::Code,
    /// The error's sentence; empty where there was none.
    pub message: String,
    /// From the request's arrival to its answer.
    pub took: Duration,
    /// Stages of the start of a sandbox or container, where it was one.
    pub stages: Vec<Stage>,
    /// Id of the pod; empty where it was about none.
    pub pod: String,
    /// Id of the container; empty where it was about none.
    pub container: String,
}

/// What has come to pass in a pod's life, for [`Hooks::lifecycle`].
#[derive(Debug, Clone, Copy)]
pub enum Moment<'a> {
    /// A sandbox was made; an error ends it again.
    SandboxMade(&'a SandboxStatus),
    /// A sandbox's limits are about to change; an error keeps them.
    SandboxUpdating(&'a SandboxStatus, &'a LinuxResources, &'a LinuxResources),
    /// They have changed.
    SandboxUpdated(&'a SandboxStatus),
    /// A sandbox was stopped.
    SandboxStopped(&'a SandboxStatus),
    /// A sandbox was removed.
    SandboxRemoved(&'a SandboxStatus),
    /// A container was made; an error removes it again.
    ContainerMade(&'a SandboxStatus, &'a ContainerStatus),
    /// A container is about to start; an error keeps it from it.
    ContainerStarting(&'a SandboxStatus, &'a ContainerStatus),
    /// A container was started.
    ContainerStarted(&'a SandboxStatus, &'a ContainerStatus),
    /// A container's limits have changed.
    ContainerUpdated(&'a SandboxStatus, &'a ContainerStatus),
    /// A container has ended, by itself or by a stop.
    ContainerStopped(&'a SandboxStatus, &'a ContainerStatus),
    /// A container was removed.
    ContainerRemoved(&'a SandboxStatus, &'a ContainerStatus),
}

/// What joins in. Every method does nothing where it is not written.
pub trait Hooks: Send + Sync {
    /// A verb is done.
    fn called(&self, _call: &Call) {}

    /// A moment in a pod's life has come. What an error does is told at each [`Moment`]; where nothing is
    /// told, it is written to standard error and nothing more.
    fn lifecycle(&self, _moment: Moment<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// A container is about to be made: its request may be changed. An error refuses it.
    fn creating(&self, _pod: &SandboxStatus, _config: &mut ContainerConfig) -> Result<(), Error> {
        Ok(())
    }

    /// A container's limits are about to be changed: the change may be changed. An error refuses it.
    fn updating(&self, _pod: &SandboxStatus, _container: &ContainerId, _resources: &mut LinuxResources) -> Result<(), Error> {
        Ok(())
    }

    /// Whether [`Hooks::lifecycle`] wants to be told anything: what it is told has to be read first.
    fn wants_lifecycle(&self) -> bool {
        false
    }
}

/// Nobody joins in.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHooks;

impl Hooks for NoHooks {}
