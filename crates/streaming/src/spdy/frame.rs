//! Frames: eight bytes that say what follows, and what follows. Sizes are bounded before anything is read.

use bytes::{BufMut, Bytes, BytesMut};

use super::headers::{HeaderReader, HeaderWriter, Headers, MAX_HEADER_BLOCK};

/// The version in every control frame.
const VERSION: u16 = 3;
/// SETTINGS' id of the initial window.
const INITIAL_WINDOW_SIZE: u32 = 7;
/// The most entries of a SETTINGS frame that are read.
const MAX_SETTINGS: usize = 64;
const FIN: u8 = 1;
const UNIDIRECTIONAL: u8 = 2;

/// A peer broke the protocol so that the connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A control frame of another version of SPDY.
    #[error("SPDY version {0} is spoken, only version 3 is understood")]
    Version(u16),
    /// A control frame that says it is larger than [`MAX_HEADER_BLOCK`] allows.
    #[error("a SPDY control frame of {0} bytes is too large")]
    TooLarge(usize),
    /// A control frame whose length does not fit its kind, or that names no stream where it must.
    #[error("a SPDY control frame of kind {0} is malformed")]
    Malformed(u16),
    /// A header block that cannot be decompressed or parsed.
    #[error("a SPDY header block is malformed")]
    BadHeaders,
    /// A header block larger than [`MAX_HEADER_BLOCK`], or of too many headers.
    #[error("a SPDY header block has more than {MAX_HEADER_BLOCK} bytes or too many headers")]
    HeadersTooLarge,
}

/// Codes of RST_STREAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(
    /// The number on the wire.
    pub u32,
);

impl Status {
    /// The stream's id breaks the rules.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// A frame for a stream that is not open.
    pub const INVALID_STREAM: Self = Self(2);
    /// The stream is not wanted, nothing was done for it.
    pub const REFUSED_STREAM: Self = Self(3);
    /// The stream is not wanted any more.
    pub const CANCEL: Self = Self(5);
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Opens a stream.
    SynStream {
        /// Its id: odd from clients.
        stream: u32,
        /// The opener sends nothing more.
        fin: bool,
        /// The other side sends nothing.
        unidirectional: bool,
        /// What it is for.
        headers: Headers,
    },
    /// Accepts a stream.
    SynReply {
        /// Its id.
        stream: u32,
        /// The acceptor sends nothing more.
        fin: bool,
        /// Anything said about it.
        headers: Headers,
    },
    /// Ends a stream at once, both ways.
    Rst {
        /// Its id.
        stream: u32,
        /// Why.
        status: Status,
    },
    /// Settings; only the initial window matters here.
    Settings {
        /// Bytes that may be sent on a new stream before a WINDOW_UPDATE.
        initial_window: Option<u32>,
    },
    /// To be answered by the same.
    Ping(u32),
    /// The sender takes no more streams.
    GoAway {
        /// The last stream that it took.
        last: u32,
        /// 0: well; 1: protocol error.
        status: u32,
    },
    /// More headers of a stream.
    Headers {
        /// Its id.
        stream: u32,
        /// The sender sends nothing more.
        fin: bool,
        /// The headers.
        headers: Headers,
    },
    /// More may be sent.
    WindowUpdate {
        /// The stream, or 0 for the whole session (3.1).
        stream: u32,
        /// By how many bytes.
        delta: u32,
    },
    /// Bytes of a stream; only written this way, reading goes piece by piece.
    Data {
        /// Its id.
        stream: u32,
        /// The sender sends nothing more.
        fin: bool,
        /// The bytes.
        data: Bytes,
    },
}

/// What a frame's first eight bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefix {
    /// Bytes of a stream follow.
    Data {
        /// The stream.
        stream: u32,
        /// Whether they are its last.
        fin: bool,
        /// How many: up to 16 MiB, so they are read in pieces.
        length: usize,
    },
    /// A control frame's payload follows.
    Control {
        /// SYN_STREAM is 1, and so on.
        kind: u16,
        /// FIN is 1, UNIDIRECTIONAL 2.
        flags: u8,
        /// The payload's length, within bounds.
        length: usize,
    },
}

/// Reads a frame's first eight bytes.
///
/// # Errors
/// A control frame of another version, or larger than any that is useful.
pub fn decode_prefix(bytes: [u8; 8]) -> Result<Prefix, ProtocolError> {
    let [a, b, c, d, flags, x, y, z] = bytes;
    let length = u32::from_be_bytes([0, x, y, z]) as usize;
    if a & 0x80 == 0 {
        return Ok(Prefix::Data {
            stream: u32::from_be_bytes([a, b, c, d]),
            fin: flags & FIN != 0,
            length,
        });
    }
    let version = u16::from_be_bytes([a & 0x7f, b]);
    if version != VERSION {
        return Err(ProtocolError::Version(version));
    }
    if length > MAX_HEADER_BLOCK {
        return Err(ProtocolError::TooLarge(length));
    }
    Ok(Prefix::Control {
        kind: u16::from_be_bytes([c, d]),
        flags,
        length,
    })
}

/// Reads a control frame's payload; `None` for a kind that is not known, which the draft says to ignore.
///
/// # Errors
/// The payload does not fit the kind.
pub fn decode(kind: u16, flags: u8, payload: &[u8], headers: &mut HeaderReader) -> Result<Option<Frame>, ProtocolError> {
    let malformed = ProtocolError::Malformed(kind);
    let fin = flags & FIN != 0;
    let word = |at: usize| {
        payload
            .get(at..at + 4)
            .and_then(|part| part.try_into().ok())
            .map(u32::from_be_bytes)
            .ok_or(malformed)
    };
    let exactly = |length: usize| if payload.len() == length { Ok(()) } else { Err(malformed) };
    let stream = || {
        word(0)
            .map(|id| id & 0x7fff_ffff)
            .and_then(|id| if id == 0 { Err(malformed) } else { Ok(id) })
    };
    let mut block = |from: usize| headers.read(payload.get(from..).ok_or(malformed)?);
    Ok(Some(match kind {
        1 => Frame::SynStream {
            stream: stream()?,
            fin,
            unidirectional: flags & UNIDIRECTIONAL != 0,
            headers: block(10)?,
        },
        2 => Frame::SynReply {
            stream: stream()?,
            fin,
            headers: block(4)?,
        },
        3 => {
            exactly(8)?;
            Frame::Rst {
                stream: stream()?,
                status: Status(word(4)?),
            }
        }
        4 => Frame::Settings {
            initial_window: initial_window(payload, malformed)?,
        },
        6 => {
            exactly(4)?;
            Frame::Ping(word(0)?)
        }
        7 => {
            exactly(8)?;
            Frame::GoAway {
                last: word(0)? & 0x7fff_ffff,
                status: word(4)?,
            }
        }
        8 => Frame::Headers {
            stream: stream()?,
            fin,
            headers: block(4)?,
        },
        9 => {
            exactly(8)?;
            Frame::WindowUpdate {
                stream: word(0)? & 0x7fff_ffff,
                delta: word(4)? & 0x7fff_ffff,
            }
        }
        _ => return Ok(None),
    }))
}

fn initial_window(payload: &[u8], malformed: ProtocolError) -> Result<Option<u32>, ProtocolError> {
    let (count, entries) = payload.split_first_chunk::<4>().ok_or(malformed)?;
    let count = u32::from_be_bytes(*count) as usize;
    if count > MAX_SETTINGS || entries.len() != count * 8 {
        return Err(malformed);
    }
    let (pairs, _) = entries.as_chunks::<8>();
    let found = pairs
        .iter()
        .rev()
        .find(|[_, a, b, c, ..]| u32::from_be_bytes([0, *a, *b, *c]) == INITIAL_WINDOW_SIZE);
    Ok(found.map(|[_, _, _, _, a, b, c, d]| u32::from_be_bytes([*a, *b, *c, *d]) & 0x7fff_ffff))
}

/// Writes one frame.
///
/// # Errors
/// Its headers are too large.
pub fn encode(frame: &Frame, headers: &mut HeaderWriter, out: &mut BytesMut) -> Result<(), ProtocolError> {
    let fin_flag = |fin: bool| if fin { FIN } else { 0 };
    match frame {
        Frame::SynStream {
            stream,
            fin,
            unidirectional,
            headers: list,
        } => {
            let block = headers.write(list)?;
            put_control(
                out,
                1,
                fin_flag(*fin) | if *unidirectional { UNIDIRECTIONAL } else { 0 },
                10 + block.len(),
            );
            out.put_u32(*stream);
            // No associated stream, priority 0, no credential slot.
            out.put_slice(&[0; 6]);
            out.put_slice(&block);
        }
        Frame::SynReply {
            stream,
            fin,
            headers: list,
        } => put_headers(out, 2, fin_flag(*fin), *stream, &headers.write(list)?),
        Frame::Headers {
            stream,
            fin,
            headers: list,
        } => put_headers(out, 8, fin_flag(*fin), *stream, &headers.write(list)?),
        Frame::Rst { stream, status } => put_pair(out, 3, *stream, status.0),
        Frame::Settings { initial_window } => {
            let entries = u32::from(initial_window.is_some());
            put_control(out, 4, 0, 4 + 8 * entries as usize);
            out.put_u32(entries);
            if let Some(window) = initial_window {
                out.put_u32(INITIAL_WINDOW_SIZE);
                out.put_u32(*window);
            }
        }
        Frame::Ping(id) => {
            put_control(out, 6, 0, 4);
            out.put_u32(*id);
        }
        Frame::GoAway { last, status } => put_pair(out, 7, *last, *status),
        Frame::WindowUpdate { stream, delta } => put_pair(out, 9, *stream, *delta),
        Frame::Data { stream, fin, data } => {
            out.put_u32(*stream & 0x7fff_ffff);
            put_length(out, fin_flag(*fin), data.len());
            out.put_slice(data);
        }
    }
    Ok(())
}

fn put_control(out: &mut BytesMut, kind: u16, flags: u8, length: usize) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    put_length(out, flags, length);
}

fn put_length(out: &mut BytesMut, flags: u8, length: usize) {
    out.put_u32(u32::from(flags) << 24 | (u32::try_from(length).unwrap_or(u32::MAX) & 0xff_ffff));
}

fn put_headers(out: &mut BytesMut, kind: u16, flags: u8, stream: u32, block: &[u8]) {
    put_control(out, kind, flags, 4 + block.len());
    out.put_u32(stream);
    out.put_slice(block);
}

fn put_pair(out: &mut BytesMut, kind: u16, first: u32, second: u32) {
    put_control(out, kind, 0, 8);
    out.put_u32(first);
    out.put_u32(second);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn read_back(bytes: &[u8], headers: &mut HeaderReader) -> Result<Option<Frame>, ProtocolError> {
        let Prefix::Control { kind, flags, length } = decode_prefix(bytes[..8].try_into().unwrap())? else {
            panic!("a data frame")
        };
        assert_eq!(length, bytes.len() - 8);
        decode(kind, flags, &bytes[8..], headers)
    }

    #[test]
    fn every_control_frame_comes_back() {
        let list = vec![("streamtype".to_string(), "stdout".to_string())];
        let frames = [
            Frame::SynStream {
                stream: 1,
                fin: true,
                unidirectional: false,
                headers: list.clone(),
            },
            Frame::SynStream {
                stream: 3,
                fin: false,
                unidirectional: true,
                headers: vec![],
            },
            Frame::SynReply {
                stream: 1,
                fin: false,
                headers: vec![],
            },
            Frame::Headers {
                stream: 1,
                fin: true,
                headers: list,
            },
            Frame::Rst {
                stream: 5,
                status: Status::CANCEL,
            },
            Frame::Settings {
                initial_window: Some(65536),
            },
            Frame::Settings { initial_window: None },
            Frame::Ping(7),
            Frame::GoAway { last: 9, status: 1 },
            Frame::WindowUpdate { stream: 0, delta: 32768 },
        ];
        let (mut writer, mut reader) = (HeaderWriter::default(), HeaderReader::default());
        for frame in frames {
            let mut bytes = BytesMut::new();
            encode(&frame, &mut writer, &mut bytes).unwrap();
            assert_eq!(read_back(&bytes, &mut reader).unwrap(), Some(frame));
        }
    }

    #[test]
    fn bytes_are_as_the_draft_says() {
        let rows: [(Frame, &[u8]); 4] = [
            (Frame::Ping(1), &[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1]),
            (
                Frame::Rst {
                    stream: 1,
                    status: Status::REFUSED_STREAM,
                },
                &[0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 3],
            ),
            (
                Frame::Settings { initial_window: Some(1) },
                &[0x80, 3, 0, 4, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 1],
            ),
            (
                Frame::Data {
                    stream: 3,
                    fin: true,
                    data: Bytes::from_static(b"hi"),
                },
                &[0, 0, 0, 3, 1, 0, 0, 2, b'h', b'i'],
            ),
        ];
        for (frame, wanted) in rows {
            let mut bytes = BytesMut::new();
            encode(&frame, &mut HeaderWriter::default(), &mut bytes).unwrap();
            assert_eq!(&bytes[..], wanted, "{frame:?}");
        }
    }

    #[test]
    fn hostile_prefixes_are_refused() {
        assert_eq!(decode_prefix([0x80, 2, 0, 1, 0, 0, 0, 10]), Err(ProtocolError::Version(2)));
        assert_eq!(
            decode_prefix([0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff]),
            Err(ProtocolError::TooLarge(0xff_ffff))
        );
        let data = Prefix::Data {
            stream: 0x7fff_ffff,
            fin: false,
            length: 0xff_ffff,
        };
        assert_eq!(decode_prefix([0x7f, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0xff]), Ok(data));
    }

    #[test]
    fn payloads_that_do_not_fit_are_refused() {
        let rows: [(u16, &[u8]); 8] = [
            (1, &[0, 0, 0, 1]),
            (1, &[0; 10]),
            (3, &[0, 0, 0, 1]),
            (4, &[0xff; 4]),
            (4, &[0, 0, 0, 1, 0]),
            (6, &[0; 5]),
            (7, &[0; 4]),
            (9, &[0; 9]),
        ];
        for (kind, payload) in rows {
            assert_eq!(
                decode(kind, 0, payload, &mut HeaderReader::default()),
                Err(ProtocolError::Malformed(kind)),
                "{payload:?}"
            );
        }
        assert_eq!(decode(99, 0, &[1, 2, 3], &mut HeaderReader::default()), Ok(None));
    }
}
