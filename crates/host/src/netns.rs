//! Network namespaces: opened, made and entered, each from a thread of its own that ends with the
//! work, so that no other work ever runs in the wrong one.
#![allow(unsafe_code)]

use crate::process::Identity;
use crate::{Error, Result};
use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Opens a namespace by path: `/proc/<pid>/ns/net`, or a file that it is bound to.
pub fn open(path: impl AsRef<Path>) -> Result<OwnedFd> {
    let path = path.as_ref();
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::path("open", path))
}

/// Opens the namespace of a process; `None` where the process is gone, its id in use again or not.
pub fn open_of(process: Identity) -> Result<Option<OwnedFd>> {
    let fd = match open(format!("/proc/{}/ns/net", process.pid)) {
        Ok(fd) => fd,
        Err(e) if e.is_absent() => return Ok(None),
        Err(e) => return Err(e),
    };
    // Looked at after it was opened: the same start time now means that it was this process then.
    Ok((Identity::of(process.pid)? == Some(process)).then_some(fd))
}

/// Makes a namespace that lives as long as the descriptor, or as a process or link in it.
pub fn create() -> Result<OwnedFd> {
    in_new(|| open("/proc/thread-self/ns/net"))?
}

/// Whether `namespace` is the one that this thread is in.
pub fn is_own(namespace: impl AsFd) -> Result<bool> {
    let look = |fd: BorrowedFd<'_>| {
        rustix::fs::fstat(fd).map_err(Error::system("look at a network namespace"))
    };
    let (own, other) = (
        look(open("/proc/thread-self/ns/net")?.as_fd())?,
        look(namespace.as_fd())?,
    );
    Ok((own.st_dev, own.st_ino) == (other.st_dev, other.st_ino))
}

/// Runs `work` on a fresh thread in `namespace` and returns its result. Sockets that it makes
/// belong to the namespace for good and may be returned.
pub fn run_in<T: Send>(namespace: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> Result<T> {
    on_thread(|| {
        rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
            .map_err(Error::system("enter a network namespace"))?;
        Ok(work())
    })
}

/// Runs `work` on a fresh thread in a network namespace of its own, which ends with it unless
/// `work` keeps a descriptor: for probes that must change nothing.
pub fn in_new<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    on_thread(|| {
        // SAFETY: of the flags of unshare(2), NEWNET alone touches neither descriptors nor memory.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
            .map_err(Error::system("make a network namespace"))?;
        Ok(work())
    })
}

fn on_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, work)
            .map_err(Error::system("start a thread"))?;
        match thread.join() {
            Ok(result) => result,
            // The work's own panic goes on where it was asked for.
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
