//! A server on loopback that answers as a test says, rightly or not.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cofferdam_registry::{Client, Image, Limits, Options, Timeouts};
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
pub const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[]}"#;
/// Of [`MANIFEST`].
pub const DIGEST: &str = "sha256:21d94c4ae81f56d81b98c4468796264cbff924c3fae1fd9e8379120a7d264f31";

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// First byte of its Range.
    pub fn from(&self) -> usize {
        self.header("range").map_or(0, |range| {
            range.strip_prefix("bytes=").unwrap().trim_end_matches('-').parse().unwrap()
        })
    }
}

/// Both directions of a connection, in the clear or not.
pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// What turns an accepted connection into one that can be spoken on; `None` where that fails.
pub type Wrap = Box<dyn Fn(TcpStream) -> Option<Box<dyn Stream>> + Send + Sync>;

pub struct Server {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
}

impl Server {
    /// A server in the clear. The connection is closed after each answer.
    pub fn start(answer: impl Fn(&Seen, &mut dyn Stream) + Send + Sync + 'static) -> Self {
        Self::wrapped(Box::new(|stream| Some(Box::new(stream))), answer)
    }

    pub fn wrapped(wrap: Wrap, answer: impl Fn(&Seen, &mut dyn Stream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let shared = Arc::new((wrap, answer, seen.clone()));
        let stopped = stop.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (shared, stream) = (shared.clone(), stream.unwrap());
                std::thread::spawn(move || {
                    let (wrap, answer, seen) = &*shared;
                    let Some(mut stream) = wrap(stream) else { return };
                    let Some(request) = read_request(&mut *stream) else { return };
                    seen.lock().unwrap().push(request.clone());
                    answer(&request, &mut *stream);
                    let _ = stream.flush();
                });
            }
        });
        Self { address, seen, stop }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The targets of all requests, with their methods.
    pub fn targets(&self) -> Vec<String> {
        self.seen().iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect()
    }

    pub fn image(&self) -> Image {
        image(&self.address.to_string())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // It waits for a connection.
        let _ = TcpStream::connect(self.address);
    }
}

pub fn read_request(stream: &mut dyn Stream) -> Option<Seen> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_lowercase(), value.trim().to_owned())),
            None => break,
        }
    }
    let mut seen = Seen {
        method,
        target,
        headers,
        body: String::new(),
    };
    if let Some(length) = seen.header("content-length") {
        let mut body = vec![0; length.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
        seen.body = String::from_utf8(body).ok()?;
    }
    Some(seen)
}

/// A whole answer. Who hangs up before its end is not this function's concern.
pub fn answer(stream: &mut dyn Stream, status: u16, headers: &[(&str, &str)], body: &[u8]) {
    head(stream, status, headers, Some(body.len()));
    let _ = stream.write_all(body);
}

pub fn head(stream: &mut dyn Stream, status: u16, headers: &[(&str, &str)], length: Option<usize>) {
    let mut text = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(length) = length {
        text.push_str(&format!("Content-Length: {length}\r\n"));
    }
    let _ = stream.write_all(format!("{text}\r\n").as_bytes());
}

/// One piece of a chunked body; an empty one ends it.
pub fn chunk(stream: &mut dyn Stream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(format!("{:x}\r\n", bytes.len()).as_bytes())?;
    stream.write_all(bytes)?;
    stream.write_all(b"\r\n")?;
    stream.flush()
}

/// Says nothing until the other side hangs up.
pub fn hold(stream: &mut dyn Stream) {
    let _ = stream.flush();
    while stream.read(&mut [0; 64]).is_ok_and(|n| n > 0) {}
}

pub fn image(registry: &str) -> Image {
    Image {
        registry: registry.to_owned(),
        repository: "team/app".to_owned(),
    }
}

/// Patient, with no wait between tries.
pub fn options() -> Options {
    Options {
        limits: Limits {
            backoff: Duration::ZERO,
            ..Limits::default()
        },
        ..Options::default()
    }
}

pub fn client() -> Client {
    Client::new(options()).unwrap()
}

/// Gives up soon; only for tests in which the server is silent.
pub fn impatient() -> Client {
    let timeouts = Timeouts {
        stall: Duration::from_secs(1),
        document: Duration::from_secs(3),
        ..Timeouts::default()
    };
    let limits = Limits {
        tries: 2,
        ..options().limits
    };
    Client::new(Options {
        timeouts,
        limits,
        ..options()
    })
    .unwrap()
}

/// Bytes that differ from place to place.
pub fn content(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

pub fn assert_words(error: &impl std::fmt::Display, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}
