//! Answers of HTTP/1.1 servers (RFC 9112), which are not trusted: everything is bounded.

use super::http::MAX_BODY;
use super::net::said;
use std::io::{self, ErrorKind, Read, Write};

/// Most that is read before a body, bytes.
const MAX_HEAD: usize = 64 * 1024;
/// Most answers of status 1xx before the one that counts (Go's `max1xxResponses`).
const MAX_INTERIM: usize = 5;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    /// The beginning of the body, or why it broke off.
    pub(crate) body: Result<Vec<u8>, String>,
}

/// Why there is none: one phrase.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// It does not speak TLS.
    Plain,
    Io(String),
    Malformed(String),
}

/// Sends `request` and reads what is said to it.
pub(crate) fn ask(mut stream: impl Read + Write, request: &[u8]) -> Result<Answer, Broken> {
    let wrote = stream.write_all(request).and_then(|()| stream.flush());
    wrote.map_err(|err| broken("write", &err))?;
    let mut reader = Reader {
        stream,
        buffer: Vec::new(),
        start: 0,
        budget: MAX_HEAD,
    };
    for _ in 0..=MAX_INTERIM {
        let head = reader.head()?;
        if !(100..200).contains(&head.status) || head.status == 101 {
            let body = reader.body(&head).map_err(|err| match err.kind() {
                ErrorKind::UnexpectedEof => "unexpected EOF".to_owned(),
                ErrorKind::TimedOut => "context deadline exceeded (Client.Timeout or context cancellation while reading body)".to_owned(),
                _ => said("read", &err),
            });
            return Ok(Answer {
                status: head.status,
                location: head.location,
                body,
            });
        }
    }
    Err(Broken::Malformed("net/http: too many 1xx informational responses".into()))
}

fn broken(call: &str, err: &io::Error) -> Broken {
    let tls = err.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => Broken::Plain,
        Some(tls) => Broken::Io(format!("tls: {tls}")),
        None => Broken::Io(said(call, err)),
    }
}

fn malformed(what: &str, line: &[u8]) -> Broken {
    let line = String::from_utf8_lossy(&line[..line.len().min(64)]);
    Broken::Malformed(format!("net/http: HTTP/1.x transport connection broken: malformed {what} {line:?}"))
}

#[derive(Debug, Default)]
struct Head {
    status: u16,
    location: Option<String>,
    length: Option<u64>,
    chunked: bool,
}

struct Reader<S> {
    stream: S,
    buffer: Vec<u8>,
    start: usize,
    budget: usize,
}

impl<S: Read> Reader<S> {
    fn head(&mut self) -> Result<Head, Broken> {
        let line = self.line().map_err(|err| broken("read", &err))?;
        let status = status(&line).ok_or_else(|| malformed("HTTP response", &line))?;
        let mut head = Head { status, ..Head::default() };
        loop {
            let line = self.line().map_err(|err| match err.kind() {
                ErrorKind::UnexpectedEof => Broken::Io("unexpected EOF".into()),
                _ => broken("read", &err),
            })?;
            if line.is_empty() {
                return Ok(head);
            }
            let colon = line.iter().position(|b| *b == b':').filter(|at| *at > 0);
            let (name, value) = line.split_at(colon.ok_or_else(|| malformed("MIME header", &line))?);
            let value = String::from_utf8_lossy(&value[1..]).trim().to_owned();
            match name.to_ascii_lowercase().as_slice() {
                b"location" => head.location = Some(value).filter(|v| !v.is_empty()),
                b"content-length" => head.length = Some(value.parse().map_err(|_| malformed("Content-Length", value.as_bytes()))?),
                b"transfer-encoding" => head.chunked = value.to_ascii_lowercase().ends_with("chunked"),
                _ => {}
            }
        }
    }

    /// A line without its end.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        loop {
            let byte = self.byte()?;
            self.budget = self
                .budget
                .checked_sub(1)
                .ok_or_else(|| io::Error::other(format!("net/http: server response headers exceeded {MAX_HEAD} bytes; aborted")))?;
            match byte {
                Some(b'\n') => break,
                Some(byte) => line.push(byte),
                None => return Err(ErrorKind::UnexpectedEof.into()),
            }
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(line)
    }

    fn byte(&mut self) -> io::Result<Option<u8>> {
        if self.start == self.buffer.len() {
            self.buffer.resize(4096, 0);
            self.start = 0;
            let read = self.stream.read(&mut self.buffer);
            self.buffer.truncate(*read.as_ref().unwrap_or(&0));
            match read {
                Ok(_) => {}
                // A peer that closes without TLS's own goodbye has closed.
                Err(err) if err.kind() == ErrorKind::UnexpectedEof => {}
                Err(err) => return Err(err),
            }
        }
        let byte = self.buffer.get(self.start).copied();
        self.start += usize::from(byte.is_some());
        Ok(byte)
    }

    /// The beginning of the body. What is beyond it does not matter.
    fn body(&mut self, head: &Head) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if matches!(head.status, 101 | 204 | 304) {
            return Ok(body);
        }
        self.budget = 8 * MAX_BODY;
        if head.chunked {
            while body.len() < MAX_BODY {
                let size = self.line()?;
                let digits = size.split(|b| *b == b';').next().unwrap_or_default();
                let text = std::str::from_utf8(digits).unwrap_or_default().trim();
                let size = u64::from_str_radix(text, 16).map_err(|_| io::Error::other("invalid byte in chunk length"))?;
                if size == 0 {
                    break;
                }
                self.some(&mut body, Some(size))?;
                if body.len() < MAX_BODY && !self.line()?.is_empty() {
                    return Err(io::Error::other("malformed chunked encoding"));
                }
            }
        } else {
            self.some(&mut body, head.length)?;
        }
        Ok(body)
    }

    /// Adds `most` bytes to `body`, or what there is, until `body` is full.
    fn some(&mut self, body: &mut Vec<u8>, most: Option<u64>) -> io::Result<()> {
        let mut left = most.unwrap_or(u64::MAX);
        while left > 0 && body.len() < MAX_BODY {
            match (self.byte()?, most) {
                (Some(byte), _) => body.push(byte),
                (None, None) => return Ok(()),
                (None, Some(_)) => return Err(ErrorKind::UnexpectedEof.into()),
            }
            left -= 1;
        }
        Ok(())
    }
}

/// The status of `HTTP/1.1 200 OK`.
fn status(line: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.splitn(3, ' ');
    let version = words.next()?.strip_prefix("HTTP/")?;
    let status = words.next()?;
    let good = matches!(version, "1.0" | "1.1") && status.len() == 3 && status.bytes().all(|b| b.is_ascii_digit());
    good.then(|| status.parse().ok()).flatten()
}
