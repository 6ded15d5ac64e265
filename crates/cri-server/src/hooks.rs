//! Who has a say in a pod's life: one value that implements [`Hooks`] is given to the server, and calls are made
//! from the thread that does the verb. [`Plugins`](crate::Plugins) is NRI's.

use cofferdam_model::ContainerId;
use cofferdam_model::cri::{ContainerConfig, ContainerStatus, Error, LinuxResources, SandboxStatus};

/// What has come to pass in a pod's life, for [`Hooks::lifecycle`].
#[derive(Debug, Clone, Copy)]
pub enum Moment<'a> {
    /// A sandbox was made; an error ends it again.
    SandboxMade(&'a SandboxStatus),
    /// A sandbox's limits are about to change, overhead and all; an error keeps them.
    SandboxUpdating(&'a SandboxStatus, &'a LinuxResources, &'a LinuxResources),
    /// They have changed.
    SandboxUpdated(&'a SandboxStatus),
    /// A sandbox was stopped.
    SandboxStopped(&'a SandboxStatus),
    /// A sandbox is about to be removed, its containers before it. Nothing prevents it.
    SandboxRemoved(&'a SandboxStatus),
    /// A container was made; an error removes it again.
    ContainerMade(&'a SandboxStatus, &'a ContainerStatus),
    /// A container is about to start; an error keeps it from it.
    ContainerStarting(&'a SandboxStatus, &'a ContainerStatus),
    /// A container was started.
    ContainerStarted(&'a SandboxStatus, &'a ContainerStatus),
    /// A container's limits have changed.
    ContainerUpdated(&'a SandboxStatus, &'a ContainerStatus),
    /// A container has ended, by itself or by a stop, or could not be started.
    ContainerStopped(&'a SandboxStatus, &'a ContainerStatus),
    /// A container is about to be removed. Nothing prevents it.
    ContainerRemoved(&'a SandboxStatus, &'a ContainerStatus),
}

/// What joins in. Every method does nothing where it is not written.
pub trait Hooks: Send + Sync {
    /// A moment in a pod's life has come. What an error does is told at each [`Moment`]; where nothing is
    /// told, it is logged and nothing more.
    fn lifecycle(&self, _moment: Moment<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// A container is about to be made under this id: its request may be changed. An error refuses it.
    fn creating(&self, _pod: &SandboxStatus, _id: &ContainerId, _config: &mut ContainerConfig) -> Result<(), Error> {
        Ok(())
    }

    /// What [`Hooks::creating`] was asked about, and agreed to, was not made.
    fn undone(&self, _pod: &SandboxStatus, _id: &ContainerId, _config: &ContainerConfig) {}

    /// A container's limits are about to be changed: the change may be changed. An error refuses it.
    fn updating(&self, _pod: &SandboxStatus, _container: &ContainerStatus, _resources: &mut LinuxResources) -> Result<(), Error> {
        Ok(())
    }

    /// Whether [`Hooks::lifecycle`] wants to be told anything: what it is told has to be read first.
    fn wants_lifecycle(&self) -> bool {
        false
    }

    /// Held over a verb that makes or starts something: nobody who comes meanwhile misses it.
    fn hold(&self) -> Option<cofferdam_nri::Hold<'_>> {
        None
    }
}

/// Nobody joins in.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHooks;

impl Hooks for NoHooks {}
