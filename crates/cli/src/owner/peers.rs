//! How a command finds the processes that keep pods, and asks them.

use super::{Addition, Amounts, CHANGE_PATIENCE, MAX_ANSWER, MAX_REQUEST, Order, PATIENCE, PodName, PodNow, Request, Resized, dir};
use anyhow::{Result, bail};
use cofferdam_plan::Layout;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
        match ask(&path, &Request::Views, PATIENCE) {
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
        match ask(&self.path, &Request::Stop(order.clone()), PATIENCE) {
            Ok(answer) => Ok(answer.as_u64()),
            Err(_) if is_gone(&self.path) => Ok(None),
            Err(e) => Err(self.mute(e)),
        }
    }

    /// Its pods as they are now; none where it is gone.
    pub(crate) fn look(&self) -> Result<Vec<Value>> {
        match ask(&self.path, &Request::Views, PATIENCE) {
            Ok(Value::Array(views)) => Ok(views),
            Err(_) if is_gone(&self.path) => Ok(Vec::new()),
            Ok(_) => bail!("process {}, which keeps pods, does not tell which", self.pid),
            Err(e) => Err(self.mute(e)),
        }
    }

    /// One of its pods as it is now; `None` where it is over.
    pub(crate) fn pod(&self, name: &PodName) -> Result<Option<PodNow>> {
        self.answer(&Request::Pod(name.clone()), PATIENCE)
    }

    /// Has a container added to a pod.
    pub(crate) fn add(&self, addition: Addition) -> Result<()> {
        let done: Result<(), String> = self.answer(&Request::Add(Box::new(addition)), CHANGE_PATIENCE)?;
        done.map_err(anyhow::Error::msg)
    }

    /// Has a pod's resources changed.
    pub(crate) fn resize(&self, amounts: Amounts) -> Result<Resized> {
        let done: Result<Resized, String> = self.answer(&Request::Resize(amounts), CHANGE_PATIENCE)?;
        done.map_err(anyhow::Error::msg)
    }

    fn answer<T: DeserializeOwned>(&self, request: &Request, patience: Duration) -> Result<T> {
        let answer = ask(&self.path, request, patience).map_err(|e| self.mute(e))?;
        serde_json::from_value(answer).map_err(|e| self.mute(e.into()))
    }

    fn mute(&self, error: anyhow::Error) -> anyhow::Error {
        error.context(format!("process {}, which keeps pods, does not answer", self.pid))
    }
}

fn ask(path: &Path, request: &Request, patience: Duration) -> Result<Value> {
    let request = serde_json::to_string(request)?;
    if request.len() as u64 >= MAX_REQUEST {
        bail!("what is asked is {} bytes long, and at most {MAX_REQUEST} are read", request.len());
    }
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    writeln!(stream, "{request}")?;
    let mut line = String::new();
    BufReader::new((&stream).take(MAX_ANSWER)).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}
