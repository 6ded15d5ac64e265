//! The steps by which a sandbox and a container come to be, each with its undo.
//!
//! Undoing runs the undo of *all* steps in reverse, each tolerating that its step was never done.
//! So roll-back after a failure, recovery after a kill and an ordinary removal are one procedure,
//! and none of them needs to know how far the making got.
//!
//! ```text
//! sandbox    RunDir → Intent → Cgroup → Monitor → Network → Enclosure → Result      (Ready)
//! container  Intent → Bundle → Cgroup → Runtime → Result → (start) Start            (Running)
//! ```

/// A step of making a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxStep {
    /// Run-time directory and lock: nobody takes a pod that is being made for a dead one. Undo:
    /// removed, last of all.
    RunDir,
    /// The record is written: it names the pod's id, from which all else derives. Undo: the pod's
    /// directory is removed.
    Intent,
    /// Cgroups of the pod and its enclosure. Undo: killed until empty, removed.
    Cgroup,
    /// The monitor, which owns the pod's namespaces. Undo: told to end, or killed with its cgroup.
    Monitor,
    /// Address, link, routes. Undo: address given back; the link goes with the namespace.
    Network,
    /// What the driver needs beside the monitor: gVisor's sandbox, a virtual machine. Undo: the
    /// driver's clean-up.
    Enclosure,
    /// The status is written and synced. Undo: removed with the record.
    Result,
}

impl SandboxStep {
    /// All steps, in the order of making.
    pub const ALL: [SandboxStep; 7] =
        [Self::RunDir, Self::Intent, Self::Cgroup, Self::Monitor, Self::Network, Self::Enclosure, Self::Result];

    /// Name, as stages and failpoints show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::RunDir => "run-dir",
            Self::Cgroup => "cgroup",
            Self::Monitor => "monitor",
            Self::Network => "network",
            Self::Enclosure => "enclosure",
            Self::Result => "result",
        }
    }

    /// The order of undoing.
    pub fn undo_order() -> impl Iterator<Item = SandboxStep> {
        Self::ALL.into_iter().rev()
    }
}

/// A step of making a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerStep {
    /// The record is written. Undo: the container's directory is removed, last.
    Intent,
    /// Writable layer and OCI spec. Undo: with the directory.
    Bundle,
    /// Cgroup and its limits. Undo: killed until empty, removed.
    Cgroup,
    /// The runtime's `create`. Undo: killed with the cgroup; the runtime's state is removed.
    Runtime,
    /// The status is written. Undo: with the directory.
    Result,
}

impl ContainerStep {
    /// All steps, in the order of making.
    pub const ALL: [ContainerStep; 5] = [Self::Intent, Self::Bundle, Self::Cgroup, Self::Runtime, Self::Result];

    /// Name, as stages and failpoints show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Bundle => "bundle",
            Self::Cgroup => "cgroup",
            Self::Runtime => "create",
            Self::Result => "result",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_comes_before_what_it_names_and_goes_after() {
        let at = |s| SandboxStep::ALL.iter().position(|x| *x == s);
        assert!(at(SandboxStep::Intent) < at(SandboxStep::Cgroup), "nothing is made that no record names");
        assert_eq!(SandboxStep::undo_order().last(), Some(SandboxStep::RunDir));
        // The cgroup holds every process, so it must exist before the first one.
        assert!(at(SandboxStep::Cgroup) < at(SandboxStep::Monitor));
    }
}
