//! The head of one HTTP/1 request (RFC 9112), as much of it as a scraper or a probe sends.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::Instant;

/// Longest head.
const MOST_HEAD: usize = 8 * 1024;

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// Path without its query.
    pub(super) path: String,
    /// All `Accept` headers, joined.
    pub(super) accept: String,
    /// HEAD, not GET.
    pub(super) head_only: bool,
}

/// Why there is nothing to answer with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// The client left.
    Gone,
    /// Status and sentence.
    Bad(u16, &'static str),
}

/// Reads a head until the deadline; bytes after it are left alone.
pub(super) fn read(stream: &mut TcpStream, deadline: Instant) -> Result<Asked, Problem> {
    let mut head = Vec::with_capacity(1024);
    let mut chunk = [0; 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Problem::Bad(408, "the request took too long"));
        }
        stream.set_read_timeout(Some(left)).map_err(|_| Problem::Gone)?;
        match stream.read(&mut chunk) {
            Ok(0) => return Err(Problem::Gone),
            Ok(count) => head.extend_from_slice(&chunk[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => continue,
            Err(_) => return Err(Problem::Gone),
        }
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            return parse(&head[..end]);
        }
        if head.len() > MOST_HEAD {
            return Err(Problem::Bad(431, "the request is too long"));
        }
    }
}

/// Reads a head without its last empty line.
fn parse(head: &[u8]) -> Result<Asked, Problem> {
    let bad = Problem::Bad(400, "this is no HTTP/1 request");
    let Ok(text) = std::str::from_utf8(head) else {
        return Err(bad);
    };
    let mut lines = text.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) = (first.next(), first.next(), first.next(), first.next()) else {
        return Err(bad);
    };
    let head_only = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return Err(Problem::Bad(405, "only GET and HEAD are known")),
    };
    if !target.starts_with('/') {
        return Err(bad);
    }
    let path = target.split(['?', '#']).next().unwrap_or_default().to_owned();
    let mut accept = vec![];
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            return Err(bad);
        };
        if name.eq_ignore_ascii_case("accept") {
            accept.push(value.trim());
        }
    }
    Ok(Asked {
        path,
        accept: accept.join(","),
        head_only,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn heads() {
        let asked = |path: &str, accept: &str, head_only| {
            Ok(Asked {
                path: path.to_owned(),
                accept: accept.to_owned(),
                head_only,
            })
        };
        let bad = |status| Err(status);
        // (head, what it asks or the status of the refusal)
        let table: [(&[u8], Result<Asked, u16>); 14] = [
            (
                b"GET /metrics HTTP/1.1\r\nHost: x\r\nACCEPT:  text/plain \r\naccept: a/b",
                asked("/metrics", "text/plain,a/b", false),
            ),
            (b"HEAD /healthz?x=y HTTP/1.0", asked("/healthz", "", true)),
            (b"GET /../../etc/passwd HTTP/1.1", asked("/../../etc/passwd", "", false)),
            (b"POST /metrics HTTP/1.1", bad(405)),
            (b"get /metrics HTTP/1.1", bad(405)),
            (b"GET http://x/metrics HTTP/1.1", bad(400)),
            (b"GET  /metrics HTTP/1.1", bad(400)),
            (b"GET /metrics", bad(400)),
            (b"GET /metrics HTTP/2.0", bad(400)),
            (b"GET /metrics HTTP/1.1 x", bad(400)),
            (b"GET /metrics HTTP/1.1\r\nno colon", bad(400)),
            (b"PRI * HTTP/2.0", bad(400)),
            (b"\x16\x03\x01\x02\x00\x01\xff", bad(400)),
            (b"", bad(400)),
        ];
        for (head, expected) in table {
            let found = parse(head).map_err(|problem| if let Problem::Bad(status, _) = problem { status } else { 0 });
            assert_eq!(found, expected, "{:?}", String::from_utf8_lossy(head));
        }
    }
}
