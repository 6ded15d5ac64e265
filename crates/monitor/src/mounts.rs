//! Operations on a mount namespace.

use crate::sys::{self, sentence};
use cofferdam_monitor::protocol::MountOp;
use rustix::mount::UnmountFlags;
use std::fs::{DirBuilder, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Enters a new mount namespace whose mounts get from outside what `propagation` says
/// (`MS_SLAVE` or `MS_PRIVATE`) and give nothing back.
pub(crate) fn unshare(propagation: u64) -> Result<(), String> {
    sys::unshare(libc::CLONE_NEWNS).map_err(|e| format!("A mount namespace cannot be made: {e}"))?;
    sys::mount(Path::new(""), Path::new("/"), "", propagation | libc::MS_REC, "")
}

/// Does all of `ops`, in order; stops at the first that fails.
pub(crate) fn apply(ops: &[MountOp]) -> Result<(), String> {
    ops.iter().try_for_each(apply_one)
}

fn apply_one(op: &MountOp) -> Result<(), String> {
    match op {
        MountOp::Mkdir(path) => DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(|e| sentence(path, "cannot be made a directory", e)),
        MountOp::Touch(path) => match OpenOptions::new().write(true).create_new(true).mode(0o644).open(path) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(sentence(path, "cannot be made a file", e)),
            _ => Ok(()),
        },
        MountOp::Mount { source, target, fstype, flags, data } => sys::mount(source, target, fstype, *flags, data),
        MountOp::Unmount(path) => {
            rustix::mount::unmount(path, UnmountFlags::DETACH).map_err(|e| sentence(path, "cannot be unmounted", e))
        }
    }
}
