//! Standard input of a process: a pipe or a terminal that the monitor writes to.

use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// No more input is taken from clients while this much waits for the process.
const ROOM: usize = 64 << 10;

/// The writing end and what waits to be written.
#[derive(Debug)]
pub(crate) struct Stdin {
    pub(crate) fd: OwnedFd,
    /// Whether it is a terminal, which has one descriptor for both directions and cannot be closed
    /// for one.
    pub(crate) terminal: bool,
    queue: Vec<u8>,
    sent: usize,
    closing: bool,
}

impl Stdin {
    pub(crate) fn new(fd: OwnedFd, terminal: bool) -> Self {
        Self { fd, terminal, queue: Vec::new(), sent: 0, closing: false }
    }

    /// Whether a client's input may be taken.
    pub(crate) fn has_room(&self) -> bool {
        self.queue.len() - self.sent < ROOM
    }

    /// Whether something waits to be written.
    pub(crate) fn waits(&self) -> bool {
        self.sent < self.queue.len()
    }

    /// Takes input; empty closes once all before it is written.
    pub(crate) fn push(&mut self, input: &[u8]) {
        if input.is_empty() {
            self.closing |= !self.terminal;
        } else if !self.closing {
            self.queue.extend_from_slice(input);
        }
    }

    /// Writes what the process takes; `false` once standard input is to be dropped.
    pub(crate) fn flush(&mut self) -> bool {
        while self.waits() {
            match rustix::io::write(&self.fd, &self.queue[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return true,
                // Nobody reads any more.
                Err(_) => return false,
            }
        }
        self.queue = Vec::new();
        self.sent = 0;
        !self.closing
    }
}
