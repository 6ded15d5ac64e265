//! The HTTP server of metrics and health.
//!
//! Threads, not the daemon's async runtime: it must answer when that one is stuck. Each connection carries one request and
//! has deadlines; when too many are open the oldest is cut, so that slow clients cannot keep others out.

mod request;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::log::Log;
use crate::{Error, lock};
use request::{Asked, Problem};

/// A request's head must be there within this time.
const READ: Duration = Duration::from_secs(3);
/// An answer must be taken within this time.
const WRITE: Duration = Duration::from_secs(10);
/// Open connections; one more cuts the oldest.
const MOST_OPEN: usize = 8;
/// Threads that still work on an answer nobody may want; beyond it, connections are refused.
const MOST_THREADS: usize = 16;
/// A thread holds one head of 8 KiB and formats one answer.
const STACK: usize = 256 * 1024;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn text(status: u16, body: impl Into<String>) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: body.into(),
        }
    }
}

/// Answers a GET of a path; the second argument is the `Accept` header.
pub(crate) type Answering = Arc<dyn Fn(&str, &str) -> Answer + Send + Sync>;

/// The server. It ends with its last handle's `shutdown`.
pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    answering: Answering,
    open: Mutex<Vec<(u64, TcpStream)>>,
    threads: AtomicUsize,
    refused: AtomicU64,
    ending: AtomicBool,
    log: Log,
}

/// Takes a connection off the list, whatever becomes of its thread.
struct Connection {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Connection {
    fn drop(&mut self) {
        lock(&self.shared.open).retain(|(id, _)| *id != self.id);
        self.shared.threads.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Server {
    /// Binds, and serves from a thread.
    pub(crate) fn start(address: SocketAddr, answering: Answering, log: Log) -> Result<Self, Error> {
        let listener = TcpListener::bind(address).map_err(|source| Error::Listen { address, source })?;
        let address = listener.local_addr().map_err(|source| Error::Listen { address, source })?;
        let shared = Arc::new(Shared {
            answering,
            open: Mutex::default(),
            threads: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            ending: AtomicBool::new(false),
            log,
        });
        let accepting = shared.clone();
        crate::spawn("metrics", STACK, move || accept(&listener, &accepting))?;
        Ok(Self { address, shared })
    }

    /// Where it listens; the port is the real one where 0 was asked for.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections cut or refused.
    pub(crate) fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Stops accepting.
    pub(crate) fn shutdown(&self) {
        if !self.shared.ending.swap(true, Ordering::Relaxed) {
            // accept() wakes for nothing but a connection.
            let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut next = 0;
    loop {
        let accepted = listener.accept();
        if shared.ending.load(Ordering::Relaxed) {
            return;
        }
        match accepted {
            Ok((stream, _)) => {
                next += 1;
                take(shared, stream, next);
            }
            Err(error) => {
                shared.log.warn(
                    "a connection to the metrics could not be accepted",
                    &[("error", &error.to_string())],
                );
                // Without descriptors, accept() fails at once, again and again.
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// Gives a connection its thread, at the cost of the oldest where there are too many.
fn take(shared: &Arc<Shared>, stream: TcpStream, id: u64) {
    let handle = if has_thread(shared) { stream.try_clone().ok() } else { None };
    let Some(handle) = handle else {
        shared.refused.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let mut open = lock(&shared.open);
    if open.len() >= MOST_OPEN {
        let (_, oldest) = open.remove(0);
        let _ = oldest.shutdown(Shutdown::Both);
        shared.refused.fetch_add(1, Ordering::Relaxed);
    }
    open.push((id, handle));
    drop(open);
    shared.threads.fetch_add(1, Ordering::Relaxed);
    let connection = Connection {
        shared: shared.clone(),
        id,
    };
    let _ = crate::spawn("scrape", STACK, move || serve(&connection.shared, stream));
}

/// Whether there is room for one more thread, after a moment for those whose connections were cut to end.
fn has_thread(shared: &Shared) -> bool {
    for _ in 0..100 {
        if shared.threads.load(Ordering::Relaxed) < MOST_THREADS {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

fn serve(shared: &Shared, mut stream: TcpStream) {
    let (answer, head_only) = match request::read(&mut stream, Instant::now() + READ) {
        Ok(Asked { path, accept, head_only }) => ((shared.answering)(&path, &accept), head_only),
        Err(Problem::Gone) => return,
        Err(Problem::Bad(status, sentence)) => (Answer::text(status, format!("{sentence}\n")), false),
    };
    let reason = match answer.status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    };
    let allow = if answer.status == 405 { "allow: GET, HEAD\r\n" } else { "" };
    let mut bytes = format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: {}\r\ncontent-length: {}\r\n{allow}cache-control: no-store\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\n",
        answer.status,
        answer.content_type,
        answer.body.len(),
    );
    if !head_only {
        bytes.push_str(&answer.body);
    }
    write(&mut stream, bytes.as_bytes());
    let _ = stream.shutdown(Shutdown::Write);
}

/// Writes all until the deadline; a client that stopped reading is left.
fn write(stream: &mut TcpStream, mut bytes: &[u8]) {
    let deadline = Instant::now() + WRITE;
    while !bytes.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_write_timeout(Some(left)).is_err() {
            return;
        }
        match stream.write(bytes) {
            Ok(0) => return,
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
