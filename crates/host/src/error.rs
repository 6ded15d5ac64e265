//! Why something failed: each error names the file, process or group that it is about.

use std::io;
use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call on a path failed.
    #[error("cannot {action} {path}: {source}")]
    Path {
        /// What was tried: `read`, `create`, …
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A system call on a process failed.
    #[error("cannot {action} process {pid}: {source}")]
    Process {
        /// What was tried: `signal`, `open`, …
        action: &'static str,
        /// Its process id.
        pid: i32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A system call on no path and no process failed.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file is larger than it may be.
    #[error("{path} is larger than {max} bytes, the most that is read from it")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The bound, bytes.
        max: u64,
    },
    /// Somebody else holds a lock.
    #[error("{path} is locked by process {pid}: stop it, or wait until it has ended")]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// Who holds it, as it wrote itself; 0 where it wrote nothing.
        pid: i32,
    },
    /// A file has a form that was not expected.
    #[error("{path} is not understood: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A path is not one that may be used.
    #[error("{path} cannot be used: {reason}")]
    BadPath {
        /// The path.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// A controller that a limit needs is not mounted, or not enabled for the group.
    #[error("the cgroup controller {controller} that {wanted} needs is not available to {group}")]
    NoController {
        /// `memory`, `cpu`, …
        controller: &'static str,
        /// The limit or action.
        wanted: &'static str,
        /// Path of the group, below the mount.
        group: PathBuf,
    },
    /// A group is to give its children controllers (v2), and has processes itself.
    #[error("cgroup {group} has processes of its own, and cgroup v2 lets such a one limit no others within it: move them elsewhere, or name another parent")]
    Inhabited {
        /// Its directory.
        group: PathBuf,
    },
    /// No cgroup hierarchy is mounted.
    #[error("no cgroup hierarchy is mounted on this machine: mount cgroup2 on /sys/fs/cgroup")]
    NoCgroups,
    /// Processes of a group did not end in time.
    #[error(
        "{count} processes of the cgroup {group} are still there after {millis} ms, the first is {pid}"
    )]
    StillAlive {
        /// Path of the group, below the mount.
        group: PathBuf,
        /// How many.
        count: usize,
        /// One of them.
        pid: i32,
        /// How long they were waited for.
        millis: u128,
    },
}

impl Error {
    /// For `map_err`: wraps the kernel's answer to `action` on `path`.
    pub(crate) fn path<E: Into<io::Error>>(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Path {
            action,
            path: path.as_ref().to_owned(),
            source: source.into(),
        }
    }

    /// For `map_err`: wraps the kernel's answer to `action` on a process.
    pub(crate) fn process<E: Into<io::Error>>(
        action: &'static str,
        pid: i32,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Process {
            action,
            pid,
            source: source.into(),
        }
    }

    /// For `map_err`: wraps the kernel's answer to `action`.
    pub(crate) fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System {
            action,
            source: source.into(),
        }
    }

    /// The kernel's answer, where there was one.
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Path { source, .. }
            | Self::Process { source, .. }
            | Self::System { source, .. } => Some(source),
            _ => None,
        }
    }

    /// Whether it failed because the file or process is not there.
    pub fn is_absent(&self) -> bool {
        self.io().is_some_and(|e| {
            e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ESRCH)
        })
    }
}
