//! The process that keeps pods (`run`, attached or not) answers to other commands on a socket of its
//! own: what its pods are, and that one is to be stopped. One JSON line each way.

use anyhow::{Context, Result};
use cofferdam_node::Handle;
use cofferdam_plan::Layout;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Longest request or answer, bytes.
const MAX_LINE: u64 = 64 << 20;
/// How long an owner may take to answer; it never waits for a pod.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "verb")]
pub(crate) enum Request {
    /// The pods.
    Views,
    /// That a pod is stopped.
    Stop {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// Seconds, in place of the pod's own.
        grace: Option<u64>,
    },
}

fn dir(layout: &Layout) -> PathBuf {
    layout.state.join("owners")
}

/// The socket of this process, removed when dropped.
#[derive(Debug)]
pub(crate) struct Owner {
    path: PathBuf,
}

impl Drop for Owner {
    fn drop(&mut self) {
        // Where it cannot be removed, the next command that finds nobody behind it does.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Answers for the pods of `handle` until the process ends.
pub(crate) fn serve(layout: &Layout, handle: Arc<Handle>) -> Result<Owner> {
    let dir = dir(layout);
    cofferdam_host::files::private_dir(&dir)?;
    let path = dir.join(format!("{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).with_context(|| format!("{} cannot be made", path.display()))?;
    std::thread::Builder::new().name("owner".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that breaks off is its own loss.
            let _ = answer(stream, &handle);
        }
    })?;
    Ok(Owner { path })
}

fn answer(mut stream: UnixStream, handle: &Handle) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new((&stream).take(64 * 1024)).read_line(&mut line)?;
    let reply = match serde_json::from_str(&line)? {
        Request::Views => serde_json::to_value(handle.snapshot().iter().map(|v| (**v).clone()).collect::<Vec<_>>())?,
        Request::Stop { namespace, name, grace } => json!(handle.stop(&namespace, &name, grace.map(Duration::from_secs))),
    };
    writeln!(stream, "{reply}")?;
    Ok(())
}

/// An owner that answers.
#[derive(Debug)]
pub(crate) struct Peer {
    path: PathBuf,
    /// Its pods, as it showed them.
    pub(crate) views: Vec<Value>,
}

/// All owners that answer; a socket that nobody listens on is removed.
pub(crate) fn peers(layout: &Layout) -> Vec<Peer> {
    let entries = std::fs::read_dir(dir(layout)).into_iter().flatten().flatten();
    let mut all = Vec::new();
    for path in entries.map(|e| e.path()) {
        match ask(&path, &Request::Views) {
            Ok(Value::Array(views)) => all.push(Peer { path, views }),
            Ok(_) => {}
            Err(e) if e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused) => {
                let _ = std::fs::remove_file(&path);
            }
            Err(_) => {}
        }
    }
    all
}

impl Peer {
    /// Asks it to stop a pod; whether it has such a pod.
    pub(crate) fn stop(&self, namespace: &str, name: &str, grace: Option<u64>) -> Result<bool> {
        let request = Request::Stop { namespace: namespace.into(), name: name.into(), grace };
        Ok(ask(&self.path, &request)? == json!(true))
    }

    /// Whether a pod of it is not over yet; an owner that is gone has none.
    pub(crate) fn keeps(&self, namespace: &str, name: &str) -> bool {
        let Ok(Value::Array(views)) = ask(&self.path, &Request::Views) else { return false };
        views.iter().any(|v| v["namespace"] == namespace && v["name"] == name && v["ended"] == false)
    }
}

fn ask(path: &std::path::Path, request: &Request) -> Result<Value> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    writeln!(stream, "{}", serde_json::to_string(request)?)?;
    let mut line = String::new();
    BufReader::new((&stream).take(MAX_LINE)).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}
