//! A client's connection.

use cofferdam_monitor::frame::{self, Garbage};
use cofferdam_monitor::protocol::MAX_FRAME;
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

/// Most that is read at once.
const CHUNK: usize = 16 << 10;

/// What a connection is for at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It has not said hello.
    New,
    /// It may ask.
    Idle,
    /// It waits for the answer to a spawn.
    Busy,
    /// It waits for the exit of this process.
    Waiting(u64),
    /// It is told of all exits.
    Events,
    /// It is attached to this process.
    Attached(u64),
    /// It is closed once everything is sent.
    Closing,
}

/// A connection and what is half read and half written of it.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) id: u64,
    pub(crate) fd: OwnedFd,
    pub(crate) mode: Mode,
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
}

impl Conn {
    pub(crate) fn new(id: u64, fd: OwnedFd) -> Self {
        Self { id, fd, mode: Mode::New, input: Vec::new(), output: Vec::new(), sent: 0 }
    }

    /// Bytes that wait to be sent.
    pub(crate) fn backlog(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Reads what is there; `false` at the end of the connection. A frame's length is looked at
    /// before more of it is taken, so no more than a frame and a chunk is ever held.
    pub(crate) fn fill(&mut self) -> bool {
        let mut buffer = [MaybeUninit::<u8>::uninit(); CHUNK];
        match rustix::io::read(&self.fd, &mut buffer[..]) {
            Ok((piece, _)) => {
                self.input.extend_from_slice(piece);
                !piece.is_empty()
            }
            Err(Errno::AGAIN | Errno::INTR) => true,
            Err(_) => false,
        }
    }

    /// Takes a whole frame from what was read.
    pub(crate) fn take<T: DeserializeOwned>(&mut self, max: usize) -> Result<Option<T>, Garbage> {
        let Some((value, used)) = frame::decode(&self.input, max)? else {
            return Ok(None);
        };
        if used == self.input.len() {
            self.input = Vec::new();
        } else {
            self.input.drain(..used);
        }
        Ok(Some(value))
    }

    /// Queues a frame.
    pub(crate) fn push<T: Serialize>(&mut self, value: &T) -> Result<(), Garbage> {
        frame::encode(value, MAX_FRAME, &mut self.output)
    }

    /// Queues frames that are encoded already.
    pub(crate) fn push_encoded(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// Sends what the peer takes; `false` where the connection is to be dropped.
    pub(crate) fn flush(&mut self) -> bool {
        while self.backlog() > 0 {
            match rustix::net::send(&self.fd, &self.output[self.sent..], rustix::net::SendFlags::NOSIGNAL) {
                Ok(n) => self.sent += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    // What is sent must not pile up in front of what is not.
                    self.output.drain(..self.sent);
                    self.sent = 0;
                    return true;
                }
                Err(_) => return false,
            }
        }
        self.output = Vec::new();
        self.sent = 0;
        self.mode != Mode::Closing
    }
}
