//! CRI v1 over gRPC: a face on the engine, a file per group of verbs.
//!
//! - [`run`], [`serve`], [`Options`]: the server
//! - [`hooks`], [`Plugins`]: who has a say in a pod's life: NRI
//! - `observe`, `cleanups`: what is told of the daemon itself, and what it does by itself
//! - `convert`: wire to model, once, at the door, and back
//! - `sandbox`, `container`, `exec`, `stats`, `metrics`, `images`, `runtime`, `events`: the verbs
//! - `streams`: exec, attach and port-forward, behind the streaming server
//!
//! The engine's verbs block: each request has a thread from a bounded pool, which ends its work though the
//! caller may have gone.

mod authority;
mod cleanups;
mod connections;
mod container;
mod convert;
mod core;
mod error;
mod events;
mod exec;
mod grpc;
pub mod hooks;
mod images;
mod metrics;
mod names;
mod observe;
mod plugins;
mod rates;
mod runtime;
mod sandbox;
mod serve;
mod sources;
mod shares;
mod stats;
mod streams;
mod verbose;

pub use hooks::{Hooks, Moment, NoHooks};
pub use plugins::Plugins;
pub use serve::{Error, run, serve};

use cofferdam_telemetry::Telemetry;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// How CRI is served.
#[derive(Debug, Clone)]
pub struct Options {
    /// Unix socket to listen on; made with mode 0600. At most 107 bytes.
    pub socket: PathBuf,
    /// Where exec, attach and port-forward are served: loopback, port 0 for any that is free.
    pub streaming: SocketAddr,
    /// Who makes cgroups for pods, as a kubelet is told.
    pub cgroup_driver: CgroupDriver,
    /// References of images that garbage collection keeps.
    pub pinned_images: Vec<String>,
    /// Most that is kept of each stream of an ExecSync, bytes.
    pub max_exec_output: usize,
    /// Where calls and what happens are told; `None` for log lines on standard error alone.
    pub telemetry: Option<Telemetry>,
}

/// Most that is kept of each stream of an ExecSync, bytes, unless told otherwise; containerd's own (`maxExecSyncSize`).
const MAX_EXEC_OUTPUT: usize = 16 << 20;

impl Options {
    /// The usual settings, on `socket`.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            streaming: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            cgroup_driver: CgroupDriver::detect(),
            pinned_images: Vec::new(),
            max_exec_output: MAX_EXEC_OUTPUT,
            telemetry: None,
        }
    }
}

/// Who makes cgroups for pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupDriver {
    /// systemd, as slices.
    Systemd,
    /// Who wants one makes a directory.
    Cgroupfs,
}

impl CgroupDriver {
    /// systemd where it is the machine's init (sd_booted(3)).
    pub fn detect() -> Self {
        if Path::new("/run/systemd/system").is_dir() {
            Self::Systemd
        } else {
            Self::Cgroupfs
        }
    }
}

/// Nanoseconds since 1970.
fn now() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// The machine's host name.
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
