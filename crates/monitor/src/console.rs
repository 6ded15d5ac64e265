//! The console socket, by which an OCI runtime hands over the master of a terminal: one descriptor
//! as `SCM_RIGHTS` (opencontainers/runc, docs/terminals.md).

use crate::streams::set_size;
use crate::sys::sentence;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags, SocketType,
    accept_with, bind, listen, recvmsg, socket_with,
};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A terminal that is yet to come. Its socket file is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Console {
    path: PathBuf,
    listener: OwnedFd,
    peer: Option<OwnedFd>,
    /// Rows and columns to set.
    pub(crate) size: (u16, u16),
}

impl Console {
    pub(crate) fn listen(path: &Path, size: (u16, u16)) -> Result<Self, String> {
        let failed = |e| sentence(path, "cannot be made a console socket", e);
        let address = SocketAddrUnix::new(path).map_err(failed)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)?;
        bind(&listener, &address).map_err(failed)?;
        let console = Self { path: path.to_owned(), listener, peer: None, size };
        listen(&console.listener, 1).map_err(failed)?;
        Ok(console)
    }

    /// What to wait for, readable.
    pub(crate) fn fd(&self) -> &OwnedFd {
        self.peer.as_ref().unwrap_or(&self.listener)
    }

    /// Goes on as far as is possible without waiting; the terminal where it has come.
    pub(crate) fn step(&mut self) -> Option<OwnedFd> {
        if self.peer.is_none() {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            self.peer = accept_with(&self.listener, flags).ok();
        }
        match receive(self.peer.as_ref()?) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => None,
            Ok(Some(terminal)) if rustix::termios::isatty(&terminal) => {
                // A size that cannot be set, or a terminal that cannot be made not to block, would
                // show in its use.
                let _ = set_size(terminal.as_fd(), self.size.0, self.size.1);
                rustix::io::ioctl_fionbio(&terminal, true).ok().map(|()| terminal)
            }
            // It was not the runtime: the next may be.
            _ => {
                self.peer = None;
                None
            }
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = rustix::fs::unlink(&self.path);
    }
}

/// Receives one message with a descriptor; further descriptors are closed.
fn receive(peer: &OwnedFd) -> Result<Option<OwnedFd>, rustix::io::Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 256];
    recvmsg(peer, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok(descriptors.next().and_then(|mut d| d.next()))
}
