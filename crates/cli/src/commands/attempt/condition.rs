//! `--until`: when a server is ready.

use anyhow::{Result, bail};
use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long one request, or one command, may take.
pub(crate) const ATTEMPT: Duration = Duration::from_secs(5);
/// Longest answer that is looked at, bytes: only its first line matters.
const MAX_ANSWER: usize = 8 << 10;
/// The port of a URL that gives none.
const PORT: u16 = 80;

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Until {
    /// A 2xx answer of the pod's address.
    Http {
        /// Port.
        port: u16,
        /// Path and query, with the slash.
        path: String,
    },
    /// A shell command in the pod's first container ends with 0.
    Exec(String),
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { port, path } => write!(f, "http://:{port}{path}"),
            Self::Exec(command) => write!(f, "exec:{command}"),
        }
    }
}

impl Until {
    /// Reads `http://:PORT/PATH` or `exec:COMMAND`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if let Some(command) = text.strip_prefix("exec:") {
            if command.trim().is_empty() {
                bail!("--until exec: needs a command, for example exec:test -e /ready");
            }
            return Ok(Self::Exec(command.to_owned()));
        }
        let Some(rest) = text.strip_prefix("http://") else {
            bail!("--until {text:?} is neither http://:PORT/PATH nor exec:COMMAND");
        };
        let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let port = match host.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|p| *p > 0),
            None if host.is_empty() => Some(PORT),
            None => bail!("--until {text:?} names a host; leave it out, as it is the pod's address that is asked: http://:8080/health"),
        };
        let Some(port) = port else {
            bail!("--until {text:?} has no valid port; write http://:8080/health")
        };
        if path.bytes().any(|b| !b.is_ascii_graphic()) {
            bail!("--until {text:?} has a path with blanks or signs that a URL must encode");
        }
        Ok(Self::Http {
            port,
            path: path.to_owned(),
        })
    }
}

/// Asks for `path` once: an error is one sentence on why the answer was no 2xx.
pub(crate) fn ask(address: SocketAddr, path: &str) -> std::result::Result<(), String> {
    let deadline = Instant::now() + ATTEMPT;
    let status = status(address, path, deadline).map_err(|e| match e.kind() {
        std::io::ErrorKind::WouldBlock => "no answer in time".to_owned(),
        _ => e.to_string(),
    })?;
    match status {
        Some(200..300) => Ok(()),
        Some(code) => Err(format!("it answered {code}")),
        None => Err("its answer is not HTTP".into()),
    }
}

fn status(address: SocketAddr, path: &str, deadline: Instant) -> std::io::Result<Option<u16>> {
    let mut stream = TcpStream::connect_timeout(&address, ATTEMPT)?;
    stream.set_write_timeout(Some(ATTEMPT))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: cofferdam\r\nAccept: */*\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 1024]);
    while !answer.contains(&b'\n') && answer.len() < MAX_ANSWER {
        let left = deadline.saturating_duration_since(Instant::now());
        // A timeout of zero would be none.
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match stream.read(&mut buffer)? {
            0 => break,
            count => answer.extend(&buffer[..count]),
        }
        if left.is_zero() {
            return Err(std::io::ErrorKind::WouldBlock.into());
        }
    }
    Ok(code(&answer))
}

/// The status code of `HTTP/1.1 200 OK`.
fn code(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|b| *b == b'\n').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split_whitespace();
    words.next().filter(|version| version.starts_with("HTTP/"))?;
    words.next().filter(|code| code.len() == 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn conditions_are_read_or_refused_with_what_to_write() {
        let http = |port, path: &str| Ok(Until::Http { port, path: path.into() });
        for (text, want) in [
            ("http://:8080/health", http(8080, "/health")),
            ("http://:8080", http(8080, "/")),
            ("http:///x?a=b", http(80, "/x?a=b")),
            ("exec:test -e /ready", Ok(Until::Exec("test -e /ready".into()))),
            ("http://web:8080/", Err("leave it out")),
            ("http://:0/", Err("no valid port")),
            ("http://:99999/", Err("no valid port")),
            ("http://:80/a b", Err("must encode")),
            ("http://:80/a\r\nX: y", Err("must encode")),
            ("https://:8443/", Err("neither")),
            ("exec: ", Err("needs a command")),
            ("", Err("neither")),
        ] {
            match (Until::parse(text), want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want, "{text}"),
                (Err(got), Err(want)) => assert!(got.to_string().contains(want), "{text}: {got}"),
                (got, want) => assert_eq!(got.map_err(|e| e.to_string()), want.map_err(str::to_owned), "{text}"),
            }
        }
        assert_eq!(Until::parse("http://:8080/health").unwrap().to_string(), "http://:8080/health");
    }

    #[test]
    fn only_a_2xx_answer_is_ready() {
        for (answer, want) in [
            ("HTTP/1.1 200 OK\r\n\r\n", Ok(())),
            ("HTTP/1.0 204\n", Ok(())),
            ("HTTP/1.1 503 Busy\r\n\r\n", Err("it answered 503")),
            ("HTTP/1.1 301 Moved\r\n\r\n", Err("it answered 301")),
            ("SSH-2.0-x\r\n", Err("its answer is not HTTP")),
            ("HTTP/1.1 20000 OK\r\n", Err("its answer is not HTTP")),
            ("", Err("its answer is not HTTP")),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 512];
                let count = stream.read(&mut request).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
                String::from_utf8_lossy(&request[..count]).into_owned()
            });
            assert_eq!(ask(address, "/health"), want.map_err(str::to_owned), "{answer:?}");
            assert!(server.join().unwrap().starts_with("GET /health HTTP/1.1\r\n"));
        }
    }
}
