//! `:authority` of clients on a Unix socket. Many send the socket's path, escaped or not: gRPC's C core (C++, Python,
//! Ruby) since 1.57, grpc-java, and kubelets and crictl before 1.31, whose grpc-go is given a bare path. The HTTP/2
//! library refuses what is no host (hyperium/h2#487 is open). It means nothing on such a socket, so each one that is
//! sent in full is replaced before that library reads it.
//!
//! HPACK (RFC 7541) permits this without knowing its tables: a literal with the name's static index, or with the
//! name itself as the C core has it, is found by lengths alone. Later requests refer to it by a dynamic index, which counts from the newest entry. What is put
//! there is no longer than what was, so the reader's table evicts no entry before the writer's does.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

/// What is put in the place of any authority: as short as a host can be.
const HOST: &[u8] = b"x";
/// The static index of `:authority` (RFC 7541, appendix A).
const AUTHORITY: usize = 1;
/// The name, with its length.
const NAME: &[u8] = b"\x0a:authority";
/// What a client sends first (RFC 9113, 3.4), bytes.
const PREFACE: usize = 24;
/// The head of a frame (RFC 9113, 4.1), bytes.
const HEAD: usize = 9;
/// Type of a frame of fields, and its flags.
const HEADERS: u8 = 1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Greatest payload of a frame that is looked into, bytes: what HTTP/2 allows unless more is agreed on.
const MOST: usize = 16384;
/// Bytes that are read at once.
const CHUNK: usize = 4096;

/// A connection whose requests name no path as their authority.
#[derive(Debug)]
pub(crate) struct Plain {
    inner: UnixStream,
    frames: Frames,
    ready: Vec<u8>,
    taken: usize,
}

impl Plain {
    pub(crate) fn new(inner: UnixStream) -> Self {
        Self {
            inner,
            frames: Frames::default(),
            ready: Vec::new(),
            taken: 0,
        }
    }
}

impl AsyncRead for Plain {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        loop {
            let left = me.ready.get(me.taken..).unwrap_or_default();
            if !left.is_empty() {
                let fits = left.len().min(into.remaining());
                into.put_slice(left.get(..fits).unwrap_or_default());
                me.taken += fits;
                return Poll::Ready(Ok(()));
            }
            me.ready.clear();
            me.taken = 0;
            let mut chunk = [0; CHUNK];
            let mut chunk = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut me.inner).poll_read(context, &mut chunk))?;
            if chunk.filled().is_empty() {
                // The end; what was begun goes as it is.
                me.ready = std::mem::take(&mut me.frames.held);
                if me.ready.is_empty() {
                    return Poll::Ready(Ok(()));
                }
            } else {
                me.frames.pass(chunk.filled(), &mut me.ready);
            }
        }
    }
}

impl AsyncWrite for Plain {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context<'_>, all: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(context, all)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}

/// Where in the frames of a connection it is.
#[derive(Debug)]
struct Frames {
    /// Bytes yet to come that are passed as they are.
    plain: usize,
    /// The beginning of a frame: of its head, or of a whole one of fields.
    held: Vec<u8>,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            plain: PREFACE,
            held: Vec::new(),
        }
    }
}

impl Frames {
    /// Passes what came on, or holds it until its frame is whole.
    fn pass(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            if self.plain > 0 {
                let (now, rest) = bytes.split_at(self.plain.min(bytes.len()));
                out.extend_from_slice(now);
                self.plain -= now.len();
                bytes = rest;
                continue;
            }
            let missing = HEAD.saturating_sub(self.held.len());
            let wanted = if missing > 0 {
                missing
            } else {
                HEAD + length(&self.held) - self.held.len()
            };
            let (now, rest) = bytes.split_at(wanted.min(bytes.len()));
            self.held.extend_from_slice(now);
            bytes = rest;
            self.settle(out);
        }
    }

    /// Lets go of what is held where it is known what it is.
    fn settle(&mut self, out: &mut Vec<u8>) {
        let &[_, _, _, kind, flags, ..] = self.held.as_slice() else {
            return;
        };
        if self.held.len() < HEAD {
            return;
        }
        let length = length(&self.held);
        if kind != HEADERS || flags & END_HEADERS == 0 || length > MOST {
            out.append(&mut self.held);
            self.plain = length;
        } else if self.held.len() == HEAD + length {
            match replaced(&self.held) {
                Some(frame) => out.extend_from_slice(&frame),
                None => out.extend_from_slice(&self.held),
            }
            self.held.clear();
        }
    }
}

/// The length of a frame's payload, by its head.
fn length(head: &[u8]) -> usize {
    head.iter().take(3).fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}

/// A frame of fields with another authority; `None` where it cannot be read: who reads it next says so.
fn replaced(frame: &[u8]) -> Option<Vec<u8>> {
    let flags = *frame.get(4)?;
    let padding = if flags & PADDED == 0 {
        None
    } else {
        Some(usize::from(*frame.get(HEAD)?))
    };
    let start = HEAD + usize::from(padding.is_some()) + if flags & PRIORITY == 0 { 0 } else { 5 };
    let end = frame.len().checked_sub(padding.unwrap_or(0))?;
    let mut out = frame.get(..start)?.to_vec();
    let mut rest = frame.get(start..end)?;
    while !rest.is_empty() {
        let (size, value) = field(rest)?;
        let (whole, next) = rest.split_at_checked(size)?;
        match value {
            Some(name) => {
                out.extend_from_slice(whole.get(..name)?);
                out.push(u8::try_from(HOST.len()).ok()?);
                out.extend_from_slice(HOST);
            }
            None => out.extend_from_slice(whole),
        }
        rest = next;
    }
    out.extend_from_slice(frame.get(end..)?);
    let length = u32::try_from(out.len() - HEAD).ok()?.to_be_bytes();
    out.get_mut(..3)?.copy_from_slice(length.get(1..)?);
    Some(out)
}

/// The size of the field that `bytes` begin with, and where its value begins if that is an authority with
/// something in it (RFC 7541, 6).
fn field(bytes: &[u8]) -> Option<(usize, Option<usize>)> {
    let bits = match *bytes.first()? {
        // Indexed; and a change of the table's size.
        first if first & 0x80 != 0 => return Some((integer(bytes, 7)?.1, None)),
        first if first & 0xe0 == 0x20 => return Some((integer(bytes, 5)?.1, None)),
        first if first & 0x40 != 0 => 6,
        _ => 4,
    };
    let (index, mut at) = integer(bytes, bits)?;
    let mut is_authority = index == AUTHORITY;
    if index == 0 {
        let name = bytes.get(at..)?;
        is_authority = name.starts_with(NAME);
        at += string(name)?.1;
    }
    let (value, size) = string(bytes.get(at..)?)?;
    is_authority &= value >= HOST.len();
    Some((at + size, is_authority.then_some(at)))
}

/// The length of a string, and how many bytes it takes with that (RFC 7541, 5.2).
fn string(bytes: &[u8]) -> Option<(usize, usize)> {
    let (length, at) = integer(bytes, 7)?;
    Some((length, at.checked_add(length)?))
}

/// An integer whose first byte has so many bits of it, and how many bytes it takes (RFC 7541, 5.1).
fn integer(bytes: &[u8], bits: u32) -> Option<(usize, usize)> {
    let most = (1_usize << bits) - 1;
    let first = usize::from(*bytes.first()?) & most;
    if first < most {
        return Some((first, 1));
    }
    let mut value = most;
    // Three more bytes name more than any frame that is looked into can hold.
    for (at, byte) in bytes.iter().enumerate().skip(1).take(3) {
        value += (usize::from(*byte) & 0x7f) << (7 * (at - 1));
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A frame of fields.
    fn headers(flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[HEADERS, flags], &[0, 0, 0, 1], payload].concat()
    }

    fn through(parts: &[&[u8]]) -> Vec<u8> {
        let (mut frames, mut out) = (Frames::default(), Vec::new());
        let all = [&[b'.'; PREFACE][..], &parts.concat()].concat();
        // However it is cut.
        for byte in &all {
            frames.pass(std::slice::from_ref(byte), &mut out);
        }
        let (mut whole, mut at_once) = (Frames::default(), Vec::new());
        whole.pass(&all, &mut at_once);
        assert_eq!((&out, &frames.held), (&at_once, &whole.held));
        out.split_off(PREFACE)
    }

    #[test]
    fn an_authority_is_replaced_however_it_is_written_and_nothing_else() {
        let path = b"%2Frun%2Fcri.sock";
        let literal = |first: u8, value: &[u8]| [&[first, u8::try_from(value.len()).unwrap()], value].concat();
        let huffman = |first: u8| [&[first, 0x80 | 3][..], b"\x60\x61\x62"].concat();
        let own_name = [&[0x40, 1][..], b"a", &[1], b"A"].concat();
        let long_name = [&[0x40, 0x7f, 73][..], &[b'n'; 200], &[0]].concat();
        for (before, after) in [
            (literal(0x41, path), literal(0x41, HOST)),
            (literal(0x01, path), literal(0x01, HOST)),
            (literal(0x11, path), literal(0x11, HOST)),
            (huffman(0x41), literal(0x41, HOST)),
            (literal(0x41, b""), literal(0x41, b"")),
            (
                literal(0x44, b"/runtime.v1.RuntimeService/Version"),
                literal(0x44, b"/runtime.v1.RuntimeService/Version"),
            ),
            (
                [&[0x40][..], NAME, &[4], b"%2Fx"].concat(),
                [&[0x40][..], NAME, &[1], HOST].concat(),
            ),
            (own_name.clone(), own_name.clone()),
            (long_name.clone(), long_name),
            (vec![0x83, 0x3f, 0xe1, 0x1f, 0xbe], vec![0x83, 0x3f, 0xe1, 0x1f, 0xbe]),
            (
                [vec![0x83], literal(0x41, path), own_name.clone()].concat(),
                [vec![0x83], literal(0x41, HOST), own_name].concat(),
            ),
        ] {
            assert_eq!(
                through(&[&headers(END_HEADERS, &before)]),
                headers(END_HEADERS, &after),
                "{before:02x?}"
            );
            let around = |fields: &[u8]| {
                headers(
                    END_HEADERS | PADDED | PRIORITY,
                    &[&[2, 9, 9, 9, 9, 9][..], fields, &[0, 0]].concat(),
                )
            };
            assert_eq!(through(&[&around(&before)]), around(&after), "{before:02x?}");
        }
    }

    #[test]
    fn what_is_no_whole_frame_of_fields_goes_as_it_came() {
        let authority = [0x41, 4, b'/', b'r', b'u', b'n'];
        let data = |kind: u8| [&[0, 0, 6, kind, END_HEADERS, 0, 0, 0, 1][..], &authority].concat();
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        for plain in [
            data(0),
            data(9),
            headers(0, &authority),
            headers(END_HEADERS, &[0x41, 0x7f]),
            headers(END_HEADERS, &[0x41, 9, b'/']),
            headers(END_HEADERS, &[0x41, 0xff, 0xff, 0xff, 0xff, 0xff]),
            headers(END_HEADERS | PADDED, &[200, 0x41, 1, b'/']),
            headers(END_HEADERS | PADDED, &[]),
            headers(END_HEADERS, &[0x80; MOST + 1]),
        ] {
            let after = headers(END_HEADERS, &authority);
            let wanted = [&settings[..], &plain, &headers(END_HEADERS, &[0x41, 1, b'x'])].concat();
            assert_eq!(through(&[&settings, &plain, &after]), wanted, "{plain:02x?}");
        }
    }
}
