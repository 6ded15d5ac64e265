//! An exit that a server knows: a connection that waits for its answer.

use crate::json::Scanner;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

/// Longest reply.
const MAX_REPLY: usize = 64 << 10;

/// A question that was asked.
#[derive(Debug)]
pub(crate) struct Awaited {
    pub(crate) fd: OwnedFd,
    payload: Vec<u8>,
    sent: usize,
    reply: Vec<u8>,
    scanner: Scanner,
}

impl Awaited {
    /// Connects to a Unix socket: a path, or `@name` for the abstract namespace.
    pub(crate) fn connect(socket: &str, payload: Vec<u8>) -> Result<Self, String> {
        let failed = |e: Errno| format!("{socket} cannot be connected to: {e}");
        let address = match socket.strip_prefix('@') {
            Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes()),
            None => SocketAddrUnix::new(socket),
        }
        .map_err(failed)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)?;
        connect(&fd, &address).map_err(failed)?;
        Ok(Self { fd, payload, sent: 0, reply: Vec::new(), scanner: Scanner::default() })
    }

    /// What to wait for.
    pub(crate) fn interest(&self) -> PollFlags {
        if self.sent < self.payload.len() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN }
    }

    /// Goes on as far as is possible without waiting; the reply once it is whole, empty where the
    /// connection broke before.
    pub(crate) fn step(&mut self) -> Option<Vec<u8>> {
        while self.sent < self.payload.len() {
            match rustix::net::send(&self.fd, &self.payload[self.sent..], rustix::net::SendFlags::NOSIGNAL) {
                Ok(n) => self.sent += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => return Some(Vec::new()),
            }
        }
        self.receive()
    }

    fn receive(&mut self) -> Option<Vec<u8>> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        loop {
            let piece = match rustix::io::read(&self.fd, &mut buffer[..]) {
                Ok((piece, _)) if !piece.is_empty() => piece,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return None,
                _ if self.scanner.whole_at_end() => return Some(std::mem::take(&mut self.reply)),
                _ => return Some(Vec::new()),
            };
            let whole = self.scanner.take(piece);
            self.reply.extend_from_slice(&piece[..whole.unwrap_or(piece.len())]);
            if self.reply.len() > MAX_REPLY {
                return Some(Vec::new());
            }
            if whole.is_some() {
                return Some(std::mem::take(&mut self.reply));
            }
        }
    }
}
