//! SPDY/3.1, as far as exec, attach and port-forward need it: frames, header blocks, sessions.
//!
//! The protocol is Chromium's "SPDY Protocol - Draft 3.1". The peers are clients that use
//! `moby/spdystream`, which knows no windows: it neither sends WINDOW_UPDATE nor heeds it. A session
//! therefore counts windows always, heeds them only for a peer that has shown that it has them, and
//! bounds its own memory by not reading on.

mod frame;
mod headers;
mod session;
mod stream;
mod tasks;

pub use frame::{Frame, Prefix, ProtocolError, Status, decode, decode_prefix, encode};
pub use headers::{HeaderReader, HeaderWriter, Headers, MAX_HEADER_BLOCK};
pub use session::{Incoming, Role, Session, Stream, StreamError, StreamReader, StreamWriter};
