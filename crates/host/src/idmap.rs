//! Clones of mounts (open_tree(2), mount_setattr(2), move_mount(2); Linux 5.12): a bind that may have
//! other ids than what it shows, be read-only with all beneath, or propagate otherwise. It has all of
//! that before anybody can see it.
#![allow(unsafe_code)]

use crate::{Error, Result};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How a clone differs from what it shows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bind<'a> {
    /// With what is mounted beneath.
    pub recursive: bool,
    /// Nothing in it can be written; with `recursive` nothing beneath either.
    pub readonly: bool,
    /// Ids are those of this user namespace: id 0 on disk is its first one's.
    pub users: Option<BorrowedFd<'a>>,
    /// `MS_PRIVATE`, `MS_SLAVE` or `MS_SHARED`; 0 leaves it.
    pub propagation: u64,
}

/// `struct mount_attr` (mount_setattr(2)).
#[repr(C)]
#[derive(Default)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    users: u64,
}

const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
const MOUNT_ATTR_RDONLY: u64 = 1;
const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;

/// Binds `source` at `target`, which is there, in this thread's mount namespace. A file system that
/// cannot map ids (overlay, NFS; tmpfs before Linux 6.3) answers EINVAL.
pub fn bind(source: impl AsRef<Path>, target: impl AsRef<Path>, how: &Bind<'_>) -> Result<()> {
    let (source, target) = (source.as_ref(), target.as_ref());
    let clone = clone(source, how)?;
    attach(clone.as_fd(), target)
}

/// The clone alone, which is mounted nowhere yet: it may be carried into another mount namespace.
pub fn clone(source: impl AsRef<Path>, how: &Bind<'_>) -> Result<OwnedFd> {
    let source = source.as_ref();
    let path = text(source)?;
    let beneath = if how.recursive { libc::AT_RECURSIVE as libc::c_uint } else { 0 };
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint | beneath;
    // SAFETY: the path is a C string that outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    if fd < 0 {
        return Err(Error::path("clone the mount of", source)(std::io::Error::last_os_error()));
    }
    // SAFETY: the kernel just made this descriptor, and nobody else has it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let attributes = Attributes {
        set: if how.readonly { MOUNT_ATTR_RDONLY } else { 0 } | how.users.map_or(0, |_| MOUNT_ATTR_IDMAP),
        clear: 0,
        propagation: how.propagation,
        users: how.users.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    if attributes.set != 0 || attributes.propagation != 0 {
        set(fd.as_fd(), beneath, &attributes).map_err(Error::path("change the mount of", source))?;
    }
    Ok(fd)
}

/// Mounts a clone at `target`.
pub fn attach(clone: BorrowedFd<'_>, target: impl AsRef<Path>) -> Result<()> {
    let target = target.as_ref();
    let path = text(target)?;
    // SAFETY: both paths are C strings that outlive the call; the descriptor is open.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            clone.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            path.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    if answer < 0 {
        Err(Error::path("mount on", target)(std::io::Error::last_os_error()))
    } else {
        Ok(())
    }
}

fn set(fd: BorrowedFd<'_>, beneath: libc::c_uint, attributes: &Attributes) -> std::io::Result<()> {
    let flags = libc::AT_EMPTY_PATH as libc::c_uint | beneath;
    // SAFETY: the attributes are as long as said, and outlive the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<Attributes>(),
        )
    };
    if answer < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

fn text(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::BadPath {
        path: path.to_owned(),
        reason: "it holds a NUL byte",
    })
}
