//! Operations on a mount namespace.

use crate::sys::{self, sentence};
use cofferdam_monitor::protocol::MountOp;
use rustix::mount::UnmountFlags;
use crate::within;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::OnceLock;

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
        MountOp::Mkdir(path) => make_dir(path),
        MountOp::Touch(path) => make_file(path),
        MountOp::Mount { source, target, fstype, flags, data } => sys::mount(source, target, fstype, *flags, data),
        MountOp::Unmount(path) => {
            rustix::mount::unmount(path, UnmountFlags::DETACH).map_err(|e| sentence(path, "cannot be unmounted", e))
        }
        MountOp::Within { root, sub, target, make } => {
            let found = within::open(root, sub, *make)?;
            make_target(target, within::is_dir(&found, root)?)?;
            // Through the descriptor: the path may lead elsewhere by now.
            sys::clone_mount(found.as_fd(), target)
        }
        MountOp::Mapped { source, target, user_namespace } => {
            let found = within::open(source, Path::new(""), false)?;
            make_target(target, within::is_dir(&found, source)?)?;
            let namespace = File::open(user_namespace).map_err(|e| sentence(user_namespace, "cannot be opened", e))?;
            sys::mapped_mount(found.as_fd(), source, target, namespace.as_fd())
        }
        MountOp::Shared { root, sub, target } => shared(root, sub, target),
    }
}

/// The machine's mount namespace: the one that this process was started in.
static MACHINE: OnceLock<File> = OnceLock::new();

/// Remembers the mount namespace that this process is in as the machine's.
pub(crate) fn remember_machine() -> Result<(), String> {
    let _ = MACHINE.set(own_namespace()?);
    Ok(())
}

fn own_namespace() -> Result<File, String> {
    let path = Path::new("/proc/self/ns/mnt");
    File::open(path).map_err(|e| sentence(path, "cannot be opened", e))
}

/// Only in the machine's own namespace can a mount be copied that is the machine's peer; it may be put
/// into another.
fn shared(root: &Path, sub: &Path, target: &Path) -> Result<(), String> {
    let machine = MACHINE.get().ok_or_else(|| "The machine's mount namespace is not known.".to_owned())?;
    let own = own_namespace()?;
    let enter = |namespace: &File| sys::enter(namespace.as_fd()).map_err(|e| format!("A mount namespace cannot be entered: {e}."));
    enter(machine)?;
    let found = within::open(root, sub, true).and_then(|found| {
        let dir = within::is_dir(&found, root)?;
        let tree = sys::open_tree(found.as_fd()).map_err(|e| sentence(root, "cannot be mounted", e))?;
        Ok((tree, dir))
    });
    enter(&own)?;
    let (tree, dir) = found?;
    make_target(target, dir)?;
    sys::move_mount(&tree, target)
}

fn make_target(target: &Path, dir: bool) -> Result<(), String> {
    if dir { make_dir(target) } else { make_file(target) }
}

fn make_dir(path: &Path) -> Result<(), String> {
    DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(|e| sentence(path, "cannot be made a directory", e))
}

/// An empty file, where nothing is.
pub(crate) fn make_file(path: &Path) -> Result<(), String> {
    match OpenOptions::new().write(true).create_new(true).mode(0o644).open(path) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(sentence(path, "cannot be made a file", e)),
        _ => Ok(()),
    }
}
