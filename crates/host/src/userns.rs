//! User namespaces by descriptor: for mounts whose ids are mapped (mount_setattr(2)).
#![allow(unsafe_code)]

use crate::{Error, Result};
use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;

/// Makes a user namespace with these ids and returns it; it has no process. `users` and `groups` are
/// lines of `/proc/<pid>/uid_map` and `gid_map` (user_namespaces(7)).
pub fn with_maps(users: &str, groups: &str) -> Result<OwnedFd> {
    let child = Sleeper::in_new_namespace()?;
    for (file, map) in [("uid_map", users), ("gid_map", groups)] {
        let path = format!("/proc/{}/{file}", child.0);
        std::fs::write(&path, map).map_err(Error::path("write", &path))?;
    }
    let path = format!("/proc/{}/ns/user", child.0);
    rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(Error::path("open", &path))
}

/// A process that does nothing but hold its namespace; ended and reaped when dropped.
struct Sleeper(libc::pid_t);

impl Sleeper {
    fn in_new_namespace() -> Result<Self> {
        let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
        // SAFETY: as fork(2): the child has a copy of the memory and runs on its copy of this stack. It
        // calls nothing but the kernel, as another thread of ours may hold a lock of the C library.
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
        if pid == 0 {
            loop {
                // SAFETY: no pointers. It ends with us, whatever happens to us.
                unsafe {
                    libc::syscall(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
                    libc::syscall(libc::SYS_ppoll, 0, 0, 0, 0, 0);
                }
            }
        }
        match libc::pid_t::try_from(pid) {
            Ok(pid) if pid > 0 => Ok(Self(pid)),
            _ => Err(Error::system("make a user namespace")(std::io::Error::last_os_error())),
        }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        // SAFETY: the process is our child and not reaped yet, so that its id is no other's.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}
