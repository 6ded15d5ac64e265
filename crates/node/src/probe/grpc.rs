//! The gRPC health protocol's `Check` (`grpc.health.v1`), as a client of one call: HTTP/2 without TLS
//! (RFC 9113), one stream, everything that a server sends bounded. Sentences as `pkg/probe/grpc/grpc.go`.

use super::hpack::{Decoder, Header, put};
use super::net::{Patience, Wire, dial, join, said};
use std::io::{self, ErrorKind, Read, Write};

/// Longest frame that is taken; HTTP/2's own default.
const MAX_FRAME: usize = 16 * 1024;
/// Most bytes of all frames of an answer.
const MAX_ANSWER: usize = 256 * 1024;
/// Most frames of an answer.
const MAX_FRAMES: usize = 1024;
/// Longest message that is taken, bytes: one of this protocol has two.
const MAX_MESSAGE: usize = 4096;

// RFC 9113, section 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Asks `host` for `service`; `within` is the time as people write it. `Err`: unhealthy, and why.
pub(crate) fn check(host: &str, port: u16, service: &str, within: &str, patience: &Patience<'_>) -> Result<(), String> {
    let address = join(host, port);
    let mut wire = dial(host, port, patience).map_err(|why| {
        if why.ends_with("i/o timeout") {
            format!("timeout: failed to connect service \"{address}\" within {within}: context deadline exceeded")
        } else {
            format!("error: failed to connect service at \"{address}\": {why}")
        }
    })?;
    let reply = call(&mut wire, &address, service).map_err(|err| match err.kind() {
        ErrorKind::TimedOut => format!("timeout: health rpc did not complete within {within}"),
        _ => format!(
            "error: health rpc probe failed: rpc error: code = Unavailable desc = {}",
            said("read", &err)
        ),
    })?;
    judge(&reply)
}

/// What came before the stream ended.
#[derive(Debug, Default)]
struct Reply {
    headers: Vec<Header>,
    message: Vec<u8>,
}

impl Reply {
    fn header(&self, name: &str) -> Option<String> {
        let found = self.headers.iter().rev().find(|(n, _)| n == name.as_bytes())?;
        Some(String::from_utf8_lossy(&found.1).into_owned())
    }
}

fn judge(reply: &Reply) -> Result<(), String> {
    let failed = |code: &str, why: &str| Err(format!("error: health rpc probe failed: rpc error: code = {code} desc = {why}"));
    let Some(status) = reply.header("grpc-status") else {
        return match reply.header(":status").as_deref() {
            None | Some("200") => failed("Internal", "server closed the stream without sending trailers"),
            Some(status) => failed("Unknown", &format!("unexpected HTTP status code received from server: {status}")),
        };
    };
    let why = unescape(&reply.header("grpc-message").unwrap_or_default());
    match status.as_str() {
        "0" => {}
        "12" => {
            return Err(format!(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {why}"
            ));
        }
        code => return failed(&code_name(code), &why),
    }
    match serving(&reply.message) {
        None => failed("Internal", "the answer is no HealthCheckResponse"),
        Some(1) => Ok(()),
        Some(state) => {
            let name = match state {
                0 => "UNKNOWN".to_owned(),
                2 => "NOT_SERVING".to_owned(),
                3 => "SERVICE_UNKNOWN".to_owned(),
                other => other.to_string(),
            };
            Err(format!("service unhealthy (responded with {name:?})"))
        }
    }
}

/// The names of status codes (`google.golang.org/grpc/codes`).
fn code_name(code: &str) -> String {
    const NAMES: [&str; 17] = [
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    ];
    let name = code.parse::<usize>().ok().and_then(|code| NAMES.get(code));
    name.map_or_else(|| format!("Code({code})"), |name| (*name).to_owned())
}

/// `grpc-message` is percent-encoded.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.filter(|_| *byte == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                at += 3;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The field `status` of a HealthCheckResponse in a gRPC frame, which is 0 where it is absent.
fn serving(message: &[u8]) -> Option<u64> {
    let (head, rest) = message.split_at_checked(5)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    if head[0] != 0 || usize::try_from(length).ok()? != rest.len() {
        return None;
    }
    let mut input = rest;
    let mut status = 0;
    while !input.is_empty() {
        let key = varint(&mut input)?;
        match (key >> 3, key & 7) {
            (1, 0) => status = varint(&mut input)?,
            (_, 0) => drop(varint(&mut input)?),
            (_, 1) => input = input.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(varint(&mut input)?).ok()?;
                input = input.get(length..)?;
            }
            (_, 5) => input = input.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = input.split_first()?;
        *input = rest;
        value |= u64::from(byte & 127) << shift;
        if byte & 128 == 0 {
            return Some(value);
        }
    }
    None
}

fn call(wire: &mut Wire<'_>, authority: &str, service: &str) -> io::Result<Reply> {
    let mut request = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut request, SETTINGS, 0, 0, &[]);
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("user-agent", "kube-probe/1.34"),
        ("te", "trailers"),
    ] {
        put(&mut block, name, value);
    }
    frame(&mut request, HEADERS, END_HEADERS, 1, &block);
    frame(&mut request, DATA, END_STREAM, 1, &question(service)?);
    wire.write_all(&request)?;
    wire.flush()?;
    listen(wire)
}

/// HealthCheckRequest{service} in a gRPC frame.
fn question(service: &str) -> io::Result<Vec<u8>> {
    // Two bytes of length at most, as a varint has them.
    let length = u16::try_from(service.len())
        .ok()
        .filter(|l| *l < 1 << 14)
        .ok_or_else(|| io::Error::other("the name of the service is too long"))?;
    let mut body = Vec::new();
    if length > 0 {
        body.push(0x0a);
        if length >= 128 {
            body.push((length % 128) as u8 | 128);
            body.push((length / 128) as u8);
        } else {
            body.push(length as u8);
        }
        body.extend_from_slice(service.as_bytes());
    }
    let mut message = vec![0];
    message.extend_from_slice(&(body.len() as u32).to_be_bytes());
    message.append(&mut body);
    Ok(message)
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Reads until the stream has ended.
fn listen(wire: &mut Wire<'_>) -> io::Result<Reply> {
    let mut reply = Reply::default();
    let mut decoder = Decoder::default();
    // The block of headers that is being put together, and whether the stream ends with it.
    let mut block: Option<(Vec<u8>, bool)> = None;
    let mut budget = MAX_ANSWER;
    for _ in 0..MAX_FRAMES {
        let mut head = [0; 9];
        wire.read_exact(&mut head)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5] & 127, head[6], head[7], head[8]]);
        budget = budget
            .checked_sub(length)
            .filter(|_| length <= MAX_FRAME)
            .ok_or_else(|| odd("it sends too much"))?;
        let mut payload = vec![0; length];
        wire.read_exact(&mut payload)?;
        if block.is_some() != (kind == CONTINUATION) {
            return Err(odd("a block of headers is interrupted"));
        }
        match (kind, stream) {
            (SETTINGS, 0) if flags & ACK == 0 => answer(wire, SETTINGS, &[])?,
            (PING, 0) if flags & ACK == 0 => answer(wire, PING, &payload)?,
            (GOAWAY, 0) => return Err(odd("it sent GOAWAY")),
            (RST_STREAM, 1) => {
                let code = payload.get(..4).map_or(0, |c| u32::from_be_bytes([c[0], c[1], c[2], c[3]]));
                return Err(odd(&format!("stream terminated by RST_STREAM with error code {code}")));
            }
            (DATA, 1) => {
                reply.message.extend_from_slice(unpadded(&payload, flags, false)?);
                if reply.message.len() > MAX_MESSAGE {
                    return Err(odd("its message is too long"));
                }
                if flags & END_STREAM != 0 {
                    return Ok(reply);
                }
            }
            (HEADERS | CONTINUATION, 1) => {
                let (mut all, ends) = block.take().unwrap_or((Vec::new(), flags & END_STREAM != 0));
                all.extend_from_slice(if kind == HEADERS {
                    unpadded(&payload, flags, true)?
                } else {
                    &payload
                });
                if all.len() > MAX_FRAME {
                    return Err(odd("its headers are too long"));
                }
                if flags & END_HEADERS == 0 {
                    block = Some((all, ends));
                    continue;
                }
                reply
                    .headers
                    .extend(decoder.read(&all).ok_or_else(|| odd("its headers cannot be read"))?);
                if ends {
                    return Ok(reply);
                }
            }
            _ => {}
        }
    }
    Err(odd("it sends too many frames"))
}

fn answer(wire: &mut Wire<'_>, kind: u8, payload: &[u8]) -> io::Result<()> {
    let mut out = Vec::new();
    frame(&mut out, kind, ACK, 0, payload);
    wire.write_all(&out)
}

fn odd(what: &str) -> io::Error {
    io::Error::other(format!("error reading from server: {what}"))
}

/// A payload without its padding, and without a priority.
fn unpadded(payload: &[u8], flags: u8, headers: bool) -> io::Result<&[u8]> {
    let short = || odd("a frame is shorter than it says");
    let (mut rest, mut pad) = (payload, 0);
    if flags & PADDED != 0 {
        let (first, after) = rest.split_first().ok_or_else(short)?;
        (rest, pad) = (after, usize::from(*first));
    }
    if headers && flags & PRIORITY != 0 {
        rest = rest.get(5..).ok_or_else(short)?;
    }
    let end = rest.len().checked_sub(pad).ok_or_else(short)?;
    Ok(&rest[..end])
}

#[cfg(test)]
#[path = "grpc_tests.rs"]
mod tests;
