//! A descriptor of ours for a child, at a number that the child knows.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

/// Starts `command` with `fd` as its descriptor `number`, open in the child alone; ours is closed.
/// `number` is greater than 2: the standard streams have their own way ([`Command::stdin`], …).
///
/// # Errors
/// What the kernel said to the copy, or to the start of the command.
pub fn spawn_with_fd(command: &mut Command, fd: OwnedFd, number: i32) -> io::Result<Child> {
    if number <= 2 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // The standard library tells of a failed exec over a pipe, which takes the lowest free numbers: where
    // `number` is free, this copy keeps it taken until the child is there.
    let copy = rustix::io::fcntl_dupfd_cloexec(&fd, number)?;
    let source = fd.as_fd().as_raw_fd();
    // SAFETY: between fork and exec only dup2 and fcntl are called, which are async-signal-safe; `source` is
    // open until the command was spawned.
    unsafe {
        command.pre_exec(move || {
            let done = if source == number {
                // dup2 would leave it closed on exec.
                libc::fcntl(source, libc::F_SETFD, 0)
            } else {
                libc::dup2(source, number)
            };
            if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        });
    }
    let child = command.spawn();
    drop((copy, fd));
    child
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_child_has_it_at_its_number() {
        for number in [3, 7, 200] {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            let mut sh = Command::new("sh");
            sh.args(["-c", &format!("test -S /proc/self/fd/{number}")]);
            let mut child = spawn_with_fd(&mut sh, theirs.into(), number).unwrap();
            assert!(child.wait().unwrap().success());
            // Nobody else holds the other end: once the child is gone, reading ends.
            assert_eq!(ours.read(&mut [0; 1]).unwrap(), 0);
        }
    }

    #[test]
    fn a_failed_exec_is_told() {
        let (_ours, theirs) = UnixStream::pair().unwrap();
        let error = spawn_with_fd(&mut Command::new("/no/such/program"), theirs.into(), 3).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let (_ours, theirs) = UnixStream::pair().unwrap();
        assert!(spawn_with_fd(&mut Command::new("true"), theirs.into(), 1).is_err());
    }
}
