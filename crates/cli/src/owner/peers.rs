//! How a command finds the processes that keep pods, and asks them.

use super::{MAX_ANSWER, Order, PATIENCE, Request, dir};
use anyhow::Result;
use cofferdam_plan::Layout;
use serde_json::Value;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// The processes that keep pods.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    /// Those that answer.
    pub(crate) answering: Vec<Peer>,
    /// Process ids of those that are there and do not answer: stopped, or too busy.
    pub(crate) silent: Vec<u32>,
}

/// A process that keeps pods.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    path: PathBuf,
    /// Process id.
    pub(crate) pid: u32,
    /// Its pods, as it showed them.
    pub(crate) views: Vec<Value>,
}

/// All owners; a socket on which nobody listens is removed.
pub(crate) fn peers(layout: &Layout) -> Peers {
    let mut all = Peers::default();
    let entries = std::fs::read_dir(dir(layout)).into_iter().flatten().flatten();
    for path in entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "sock")) {
        let Some(pid) = path.file_stem().and_then(|s| s.to_str()?.parse().ok()) else {
            continue;
        };
        match ask(&path, &Request::Views) {
            Ok(Value::Array(views)) => all.answering.push(Peer { path, pid, views }),
            Err(e) if is(&e, ErrorKind::ConnectionRefused) => drop(std::fs::remove_file(&path)),
            Err(e) if is(&e, ErrorKind::NotFound) => {}
            // One that ended as it was asked, or another that breaks off: looked at once more.
            _ if is_gone(&path) => {}
            _ => all.silent.push(pid),
        }
    }
    all
}

fn is(error: &anyhow::Error, kind: ErrorKind) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == kind)
}

fn is_gone(path: &Path) -> bool {
    UnixStream::connect(path).is_err_and(|e| matches!(e.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound))
}

impl Peers {
    /// The views of all that answer.
    pub(crate) fn views(&self) -> impl Iterator<Item = &Value> {
        self.answering.iter().flat_map(|peer| &peer.views)
    }
}

impl Peer {
    /// Gives it an order: the seconds that it may take; `None` where it has no such pod, or is gone.
    pub(crate) fn stop(&self, order: &Order) -> Result<Option<u64>> {
        match ask(&self.path, &Request::Stop(order.clone())) {
            Ok(answer) => Ok(answer.as_u64()),
            Err(_) if is_gone(&self.path) => Ok(None),
            Err(e) => Err(e.context(format!("process {}, which keeps pods, does not answer", self.pid))),
        }
    }
}

fn ask(path: &Path, request: &Request) -> Result<Value> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    writeln!(stream, "{}", serde_json::to_string(request)?)?;
    let mut line = String::new();
    BufReader::new((&stream).take(MAX_ANSWER)).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}
