//! What goes over the socket: frames of several logical connections (upstream's `pkg/net/multiplex`), in
//! which ttrpc messages go (containerd/ttrpc, `PROTOCOL.md`). All numbers are big-endian.
//!
//! - a frame: connection id u32, length u32, and as many bytes
//! - a message: length u32, stream id u32, kind u8, flags u8, and as many bytes

use std::io::{self, ErrorKind, Read};

/// Longest payload of a message.
pub(crate) const MAX_MESSAGE: usize = 4 << 20;
/// Length of a message's head.
const HEAD: usize = 10;
/// Longest payload of a frame.
const MAX_FRAME: usize = HEAD + MAX_MESSAGE;
/// What upstream's reader takes at once, as its buffer is that long: a longer frame ends its connection,
/// unless it is exactly the rest of a message.
const READER: usize = 4096;

/// The logical connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Calls of the runtime to the plugin.
    Plugin = 1,
    /// Calls of the plugin to the runtime.
    Runtime = 2,
}

/// Kinds of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A call.
    Request,
    /// Its answer.
    Response,
    /// Anything else: part of a stream, or of a later protocol.
    Other,
}

/// A ttrpc message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) stream: u32,
    pub(crate) kind: Kind,
    pub(crate) payload: Vec<u8>,
}

/// A request (or an answer to one) as the bytes of the socket. The payload is at most [`MAX_MESSAGE`] long.
///
/// A message goes in one frame or in two, as upstream's buffered writer cuts it: its reader counts on it.
pub(crate) fn encode(lane: Lane, kind: Kind, stream: u32, payload: &[u8]) -> Vec<u8> {
    let kind = match kind {
        Kind::Request => 1,
        Kind::Response => 2,
        Kind::Other => 3,
    };
    let mut message = Vec::with_capacity(HEAD + payload.len());
    message.extend((payload.len() as u32).to_be_bytes());
    message.extend(stream.to_be_bytes());
    message.extend([kind, 0]);
    message.extend(payload);
    let (first, rest) = message.split_at(message.len().min(READER));
    let mut bytes = Vec::with_capacity(message.len() + 16);
    for part in [first, rest].into_iter().filter(|part| !part.is_empty()) {
        bytes.extend((lane as u32).to_be_bytes());
        bytes.extend((part.len() as u32).to_be_bytes());
        bytes.extend(part);
    }
    bytes
}

/// Reads frames and puts messages together.
#[derive(Default)]
pub(crate) struct Reader {
    plugin: Buffer,
    runtime: Buffer,
}

/// What came on a lane and is not given out yet: less than a message, between two frames.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// Bytes that were copied or moved, ever: what a plugin sends must cost no more than in proportion.
    #[cfg(test)]
    copied: usize,
}

impl Buffer {
    /// Takes out all whole messages. What is left is part of the last frame, so that however the frames are
    /// cut, each byte is moved to the front at most once and copied at most once.
    fn take(&mut self) -> io::Result<Vec<Message>> {
        let (mut messages, mut at) = (Vec::new(), 0);
        while let Some((message, length)) = first(self.bytes.get(at..).unwrap_or_default())? {
            self.count(message.payload.len());
            messages.push(message);
            at += length;
        }
        if at > 0 {
            self.count(self.bytes.len() - at);
            self.bytes.drain(..at);
        }
        Ok(messages)
    }

    #[cfg(test)]
    fn count(&mut self, bytes: usize) {
        self.copied += bytes;
    }

    #[cfg(not(test))]
    fn count(&self, _bytes: usize) {}
}

impl Reader {
    /// Reads frames until one completes messages; what it completes. An error, a clean end of the
    /// stream included, ends the connection: what follows could not be understood.
    pub(crate) fn read(&mut self, from: &mut impl Read) -> io::Result<Vec<(Lane, Message)>> {
        loop {
            let mut head = [0; 8];
            from.read_exact(&mut head)?;
            let [a, b, c, d, e, f, g, h] = head;
            let id = u32::from_be_bytes([a, b, c, d]);
            let length = u32::from_be_bytes([e, f, g, h]);
            if length as usize > MAX_FRAME {
                return Err(garbage(format!("a frame of {length} bytes, more than {MAX_FRAME}")));
            }
            let (lane, buffer) = match id {
                1 => (Lane::Plugin, &mut self.plugin),
                2 => (Lane::Runtime, &mut self.runtime),
                _ => {
                    // Upstream skips what goes to a connection that nobody opened.
                    skip(from, length.into())?;
                    continue;
                }
            };
            // Room is taken as bytes come, not as they are promised.
            let came = from.take(length.into()).read_to_end(&mut buffer.bytes)?;
            if came != length as usize {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let messages = buffer.take()?;
            if !messages.is_empty() {
                return Ok(messages.into_iter().map(|message| (lane, message)).collect());
            }
        }
    }
}

/// The message that `bytes` begin with, where it is whole, and its length, head and all.
fn first(bytes: &[u8]) -> io::Result<Option<(Message, usize)>> {
    let Some((&[a, b, c, d, e, f, g, h, kind, _flags], rest)) = bytes.split_first_chunk::<HEAD>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > MAX_MESSAGE {
        return Err(garbage(format!("a message of {length} bytes, more than {MAX_MESSAGE}")));
    }
    let Some(payload) = rest.get(..length) else {
        return Ok(None);
    };
    let kind = match kind {
        1 => Kind::Request,
        2 => Kind::Response,
        _ => Kind::Other,
    };
    let message = Message {
        stream: u32::from_be_bytes([e, f, g, h]),
        kind,
        payload: payload.to_vec(),
    };
    Ok(Some((message, HEAD + length)))
}

fn skip(from: &mut impl Read, length: u64) -> io::Result<()> {
    let skipped = io::copy(&mut from.take(length), &mut io::sink())?;
    if skipped == length {
        Ok(())
    } else {
        Err(ErrorKind::UnexpectedEof.into())
    }
}

fn garbage(what: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn all(bytes: &[u8]) -> (Vec<(Lane, Message)>, ErrorKind) {
        let (mut reader, mut from, mut found) = (Reader::default(), bytes, Vec::new());
        loop {
            match reader.read(&mut from) {
                Ok(messages) => found.extend(messages),
                Err(e) => return (found, e.kind()),
            }
        }
    }

    #[test]
    fn bytes_are_those_of_upstream() {
        assert_eq!(
            encode(Lane::Plugin, Kind::Request, 3, b"ab"),
            [0, 0, 0, 1, 0, 0, 0, 12, 0, 0, 0, 2, 0, 0, 0, 3, 1, 0, b'a', b'b']
        );
        assert_eq!(
            encode(Lane::Runtime, Kind::Response, 1, b""),
            [0, 0, 0, 2, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0]
        );
    }

    #[test]
    fn long_messages_go_in_two_frames() {
        for (length, frames) in [(4086, vec![4096]), (4087, vec![4096, 1]), (1 << 20, vec![4096, (1 << 20) - 4086])] {
            let payload = vec![7; length];
            let bytes = encode(Lane::Plugin, Kind::Request, 1, &payload);
            let (mut at, mut found) = (0, Vec::new());
            while at < bytes.len() {
                let length = u32::from_be_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
                found.push(length);
                at += 8 + length;
            }
            assert_eq!(found, frames);
            let message = Message {
                stream: 1,
                kind: Kind::Request,
                payload,
            };
            assert_eq!(all(&bytes), (vec![(Lane::Plugin, message)], ErrorKind::UnexpectedEof));
        }
    }

    #[test]
    fn messages_come_in_any_pieces() {
        let first = encode(Lane::Plugin, Kind::Response, 1, b"one");
        let second = encode(Lane::Plugin, Kind::Response, 3, b"two");
        let other = encode(Lane::Runtime, Kind::Request, 1, b"else");
        // Both messages of one lane in frames of a byte each, the other lane's in between, an unknown lane too.
        let joined: Vec<u8> = [&first[8..], &second[8..]].concat();
        let mut bytes = vec![0, 0, 0, 9, 0, 0, 0, 2, 1, 1];
        for (index, byte) in joined.iter().enumerate() {
            bytes.extend([0, 0, 0, 1, 0, 0, 0, 1, *byte]);
            if index == 5 {
                bytes.extend(&other);
            }
        }
        let (found, _) = all(&bytes);
        let texts: Vec<_> = found
            .iter()
            .map(|(lane, m)| (*lane, m.stream, String::from_utf8_lossy(&m.payload)))
            .collect();
        assert_eq!(
            texts,
            [
                (Lane::Runtime, 1, "else".into()),
                (Lane::Plugin, 1, "one".into()),
                (Lane::Plugin, 3, "two".into())
            ]
        );
    }

    #[test]
    fn a_frame_of_many_messages_costs_what_it_is_long() {
        // 400 KiB of messages with a byte each, in one frame, and in frames
        // whose ends are never those of messages.
        let message: Vec<u8> = encode(Lane::Plugin, Kind::Other, 1, b"x").split_off(8);
        let count = (400 << 10) / message.len();
        let stream: Vec<u8> = message.iter().copied().cycle().take(count * message.len()).collect();
        for length in [stream.len(), 4096, 7, 1] {
            let mut bytes = Vec::new();
            for part in stream.chunks(length) {
                bytes.extend([0, 0, 0, 1]);
                bytes.extend((part.len() as u32).to_be_bytes());
                bytes.extend(part);
            }
            let (mut reader, mut from, mut found) = (Reader::default(), bytes.as_slice(), 0);
            while let Ok(messages) = reader.read(&mut from) {
                found += messages.len();
            }
            assert_eq!(found, count, "frames of {length}");
            let copied = reader.plugin.copied;
            assert!(
                copied <= 2 * stream.len(),
                "frames of {length}: {copied} bytes were copied for {}",
                stream.len()
            );
        }
    }

    #[test]
    fn hostile_lengths_end_the_connection() {
        for (bytes, kind) in [
            (vec![0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff], ErrorKind::InvalidData),
            (vec![0, 0, 0, 9, 0, 0x50, 0, 0], ErrorKind::InvalidData),
            (
                vec![0, 0, 0, 1, 0, 0, 0, 10, 0, 0x40, 0, 1, 0, 0, 0, 1, 2, 0],
                ErrorKind::InvalidData,
            ),
            (vec![0, 0, 0, 1, 0, 0, 1, 0, 1], ErrorKind::UnexpectedEof),
            (vec![0, 0, 0, 9, 0, 0, 1, 0, 1], ErrorKind::UnexpectedEof),
            (vec![0, 0, 0], ErrorKind::UnexpectedEof),
        ] {
            assert_eq!(all(&bytes), (vec![], kind), "{bytes:?}");
        }
    }
}
