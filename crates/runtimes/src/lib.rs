//! Runtime drivers: one module each behind one narrow trait, in which the sandbox is first-class:
//! it may be nothing beside the monitor (runc, crun), a root container (gVisor), or a virtual
//! machine (not built yet).
//!
//! A driver never decides whether a pod may run; it is given one binary and runs that one.

pub mod failpoint;
mod features;
pub mod oci;
mod probe;
mod refuse;
pub mod runsc;
mod state;

use cofferdam_model::cri::{ContainerConfig, LinuxResources, SandboxConfig};
use cofferdam_model::{ContainerId, PodId};
use cofferdam_monitor::protocol::{Exit, MountOp, Stdio};
use cofferdam_plan::layout::{ContainerDirs, PodDirs};
use cofferdam_plan::spec::{ContainerSpec, Process};
use cofferdam_plan::userns::IdRange;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Why a driver could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The monitor did not answer or refused.
    #[error("monitor of pod {pod}: {reason}")]
    Monitor {
        /// Short pod id.
        pod: String,
        /// What happened.
        reason: String,
    },
    /// The runtime's command failed.
    #[error("{command} failed: {reason}")]
    Runtime {
        /// For example `crun create`.
        command: String,
        /// What the runtime said.
        reason: String,
    },
    /// A file of ours could not be read or written.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
    /// The handler cannot do this.
    #[error("{0}")]
    Unsupported(String),
}

/// Result of a driver's verb.
pub type Result<T> = std::result::Result<T, Error>;

/// What a driver is given of a pod.
#[derive(Debug)]
pub struct Pod<'a> {
    /// Id.
    pub id: &'a PodId,
    /// Files.
    pub dirs: PodDirs,
    /// The request.
    pub config: &'a SandboxConfig,
    /// The monitor's process id: `/proc/<pid>/ns/*` are the pod's namespaces.
    pub monitor_pid: i32,
    /// First process of the enclosure's own container, where there is one.
    pub enclosure_pid: Option<i32>,
    /// Files by which a process joins the enclosure's cgroup.
    pub cgroup_files: Vec<PathBuf>,
    /// Mount points, as seen from the monitor, of cgroup controllers that the pod's cgroups are not in.
    pub foreign_cgroups: Vec<PathBuf>,
    /// The monitor's binary, which is also the pause process.
    pub pause: PathBuf,
    /// Ids of the pod's user namespace, which is at [`PodDirs::user_namespace`]; `None` where it has none.
    pub ids: Option<IdRange>,
    /// oom_score_adj of the enclosure's own processes: neutral, or the least that may be set.
    pub oom_score_adj: i32,
}

/// What a driver is given of a container.
#[derive(Debug)]
pub struct Container<'a> {
    /// Id; also its key at the monitor.
    pub id: &'a ContainerId,
    /// Files.
    pub dirs: ContainerDirs,
    /// What it is to be; namespaces and cgroup path are the driver's to fill in.
    pub spec: ContainerSpec,
    /// Done in the runtime's own mount namespace before its root is mounted there.
    pub before: Vec<MountOp>,
    /// Read-only layers of the root, top first.
    pub lower: Vec<PathBuf>,
    /// Files by which a process joins the container's cgroup.
    pub cgroup_files: Vec<PathBuf>,
    /// Standard streams.
    pub stdio: Stdio,
}

/// A further process of a container.
#[derive(Debug)]
pub struct Exec<'a> {
    /// Its key at the monitor; unique in the pod.
    pub key: String,
    /// The container.
    pub container: &'a ContainerId,
    /// Where the process description and pid file go; exists.
    pub dir: PathBuf,
    /// What it is.
    pub process: Process,
    /// Files by which a process joins the container's cgroup.
    pub cgroup_files: Vec<PathBuf>,
    /// Standard streams.
    pub stdio: Stdio,
}

/// What can be told of a runtime's binary without running a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probe {
    /// What it calls itself.
    pub version: String,
    /// Features: CRI's names to support.
    pub features: BTreeMap<String, bool>,
}

/// What one container uses, as far as its enclosure can tell it from the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Memory, bytes.
    pub memory: Option<u64>,
    /// CPU time, nanoseconds.
    pub cpu_nanos: Option<u64>,
    /// The same of all containers that the pod has or had, where `cpu_nanos` is by a clock of the
    /// enclosure's own, which goes on while the machine gives it no time: what they used is then this
    /// one's share of what the enclosure used.
    pub cpu_nanos_of_all: Option<u64>,
    /// Processes.
    pub pids: Option<u64>,
}

/// Feature: seccomp profiles hold.
pub const FEATURE_SECCOMP: &str = "seccomp";
/// Feature: AppArmor profiles hold, where the kernel has it.
pub const FEATURE_APPARMOR: &str = "apparmor";
/// Feature: SELinux labels hold, where the kernel has it.
pub const FEATURE_SELINUX: &str = "selinux";
/// Feature: pods can have namespaces of the machine.
pub const FEATURE_HOST_NAMESPACES: &str = "host_namespaces";
/// Feature: devices of the machine can be given to containers.
pub const FEATURE_DEVICES: &str = "devices";
/// Feature: what a container mounts can show on the machine.
pub const FEATURE_BIDIRECTIONAL_MOUNTS: &str = "bidirectional_mounts";
/// Feature: images can be mounted as volumes (KEP-4639).
pub const FEATURE_IMAGE_VOLUMES: &str = "image_volumes";
/// Feature: kernel settings of the pod can be set.
pub const FEATURE_SYSCTLS: &str = "sysctls";
/// Feature: volumes of huge pages.
pub const FEATURE_HUGE_PAGES: &str = "huge_pages";

/// A kind of runtime.
pub trait Driver: Send + Sync {
    /// Runs the binary's `--version`; an error is one sentence for people.
    fn probe(&self) -> std::result::Result<Probe, String>;
    /// Whether the runtime moves its container's process between cgroups, although it is born where
    /// it belongs.
    fn moves_processes(&self) -> bool {
        false
    }
    /// Why this driver cannot honour the pod, before anything is made.
    fn refuses(&self, config: &SandboxConfig) -> Option<String>;
    /// Why this driver cannot honour a container, before anything is made; `features` are those that
    /// [`Driver::probe`] found.
    fn refuses_container(&self, config: &ContainerConfig, features: &BTreeMap<String, bool>) -> Option<String>;
    /// Makes what the sandbox needs beside the monitor; its first process, where there is one.
    fn make_enclosure(&self, pod: &Pod<'_>) -> Result<Option<i32>>;
    /// Makes a container, whose first process then waits; its process id, where it has one.
    fn create(&self, pod: &Pod<'_>, container: Container<'_>) -> Result<Option<i32>>;
    /// Lets a made container's first process go.
    fn start(&self, pod: &Pod<'_>, container: &ContainerId, stdio: &Stdio) -> Result<()>;
    /// Sends a signal to a container's first process, or to all of its processes.
    fn signal(&self, pod: &Pod<'_>, container: &ContainerId, signal: i32, all: bool) -> Result<()>;
    /// Runs a further process in a container; its exit comes under the key.
    fn exec(&self, pod: &Pod<'_>, exec: Exec<'_>) -> Result<()>;
    /// The exit code in what the monitor kept.
    fn exit_code(&self, exit: &Exit) -> i32;
    /// What else the enclosure said of an end, in one sentence; empty for nothing.
    fn exit_message(&self, _exit: &Exit) -> String {
        String::new()
    }
    /// Whether a container did not end by itself, but with its enclosure.
    fn lost_enclosure(&self, _exit: &Exit) -> bool {
        false
    }
    /// Tells the enclosure of new limits of a container; the cgroups are changed by the caller. Nothing
    /// to do where the runtime looks at its cgroup alone.
    fn update(&self, _pod: &Pod<'_>, _container: &ContainerId, _resources: &LinuxResources) -> Result<()> {
        Ok(())
    }
    /// A byte stream to a TCP port that listens on the pod's loopback, or on all of its addresses.
    fn dial(&self, pod: &Pod<'_>, port: u16) -> Result<OwnedFd>;
    /// What each of these running containers uses; `None` where their cgroups tell.
    fn stats(&self, _pod: &Pod<'_>, _containers: &[ContainerId]) -> Result<Option<Vec<Usage>>> {
        Ok(None)
    }
    /// Ends a further process that [`Driver::exec`] began, with all that it started where it can.
    fn kill_exec(&self, pod: &Pod<'_>, key: &str, dir: &Path, container: &ContainerId) -> Result<()>;
    /// Removes what the runtime kept of a container whose processes are gone; the enclosure's own has
    /// the pod's id. Repeatable.
    fn forget(&self, dirs: &PodDirs, container: &str) -> Result<()>;
}

/// Longest text of a runtime's error that is shown.
pub(crate) const MAX_REASON: usize = 600;
