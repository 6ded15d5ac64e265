//! What the daemon tells of itself beside its calls: what there is, and whether it is well.

use crate::core::Core;
use cofferdam_model::cri::{ContainerState, SandboxState};
use cofferdam_telemetry::Gauges;
use std::collections::{BTreeMap, HashMap};
use std::io::{Error, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How long a check may take.
const LIMIT: Duration = Duration::from_secs(5);
/// What begins an HTTP/2 connection (RFC 9113, 3.4): the preface, and a SETTINGS frame that sets nothing.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Length of a frame's head, and where in it its type stands; SETTINGS is 4 (RFC 9113, 4.1 and 6.5).
const HEAD: usize = 9;
const TYPE: usize = 3;
const SETTINGS: u8 = 4;

/// Has the telemetry ask `core` from now on, for as long as that lives.
pub(crate) fn attach(core: &Arc<Core>) {
    let telemetry = &core.telemetry;
    let weak = Arc::downgrade(core);
    telemetry.set_gauges(move || weak.upgrade().map(|core| gauges(&core)).unwrap_or_default());
    let check = |name: &str, check: fn(&Core) -> Result<(), String>| {
        let weak = Arc::downgrade(core);
        telemetry.health_check(name, LIMIT, move || check(&*alive(&weak)?));
    };
    check("engine", |core| core.engine.list_sandboxes().map(drop).map_err(|e| e.to_string()));
    check("network", |core| core.engine.network_status().map_err(|e| e.to_string()));
    check("socket", |core| answers(&core.options.socket));
    let weak = Arc::downgrade(core);
    telemetry.ready_check("handlers", LIMIT, move || handlers(&*alive(&weak)?));
}

fn alive(core: &Weak<Core>) -> Result<Arc<Core>, String> {
    core.upgrade().ok_or_else(|| "the daemon ends".to_owned())
}

/// An error where pods cannot be expected to start: the default handler is not proved, or none is.
fn handlers(core: &Core) -> Result<(), String> {
    let all = core.engine.handler_statuses();
    match all.iter().find(|h| h.default) {
        Some(default) => default.unproved.clone().map_or(Ok(()), Err),
        None if all.iter().any(|h| h.unproved.is_none()) => Ok(()),
        None => Err("no handler is proved".to_owned()),
    }
}

/// An error unless who listens on the socket speaks HTTP/2.
fn answers(socket: &Path) -> Result<(), String> {
    let greet = || -> Result<[u8; HEAD], Error> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        stream.write_all(HELLO)?;
        let mut head = [0; HEAD];
        stream.read_exact(&mut head)?;
        Ok(head)
    };
    match greet() {
        Ok(head) if head.get(TYPE) == Some(&SETTINGS) => Ok(()),
        Ok(_) => Err(format!("who listens on {} speaks no HTTP/2", socket.display())),
        Err(e) => Err(format!("{} does not answer: {e}", socket.display())),
    }
}

fn gauges(core: &Core) -> Gauges {
    let pods = core.engine.list_sandboxes().unwrap_or_default();
    let containers = core.engine.list_containers(None).unwrap_or_default();
    let handlers: HashMap<_, _> = pods.iter().map(|pod| (&pod.id, pod.handler.as_str())).collect();
    let of_pod = |state| match state {
        SandboxState::Ready => "ready",
        SandboxState::NotReady => "notready",
    };
    let of_container = |state| match state {
        ContainerState::Created => "created",
        ContainerState::Running => "running",
        ContainerState::Exited => "exited",
        ContainerState::Unknown => "unknown",
    };
    Gauges {
        pods: counted(pods.iter().map(|pod| (pod.handler.as_str(), of_pod(pod.state)))),
        containers: counted(
            containers
                .iter()
                .map(|c| (handlers.get(&c.pod).copied().unwrap_or_default(), of_container(c.state))),
        ),
        cleanups_failed: core.engine.failed_cleanups().len() as u64,
        pulls_in_progress: core.pulls.load(Ordering::Relaxed),
    }
}

fn counted<'a>(all: impl Iterator<Item = (&'a str, &'static str)>) -> Vec<(String, &'static str, u64)> {
    let mut counts = BTreeMap::<_, u64>::new();
    for row in all {
        *counts.entry(row).or_default() += 1;
    }
    counts
        .into_iter()
        .map(|((handler, state), count)| (handler.to_owned(), state, count))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn what_speaks_no_http2_does_not_answer() {
        let dir = std::env::temp_dir().join(format!("cofferdam-observe-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for (number, (reply, well)) in [
            (&b"\0\0\0\x04\0\0\0\0\0"[..], true),
            (b"HTTP/1.1 400 Bad Request", false),
            (b"", false),
        ]
        .iter()
        .enumerate()
        {
            let path = dir.join(number.to_string());
            let listener = UnixListener::bind(&path).unwrap();
            let reply = *reply;
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                stream.read_exact(&mut [0; HELLO.len()]).unwrap();
                stream.write_all(reply).unwrap();
            });
            assert_eq!(answers(&path).is_ok(), *well, "{reply:?}");
            server.join().unwrap();
        }
        assert!(answers(&dir.join("none")).unwrap_err().contains("does not answer"));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn rows_are_counted() {
        let rows = counted([("crun", "ready"), ("runc", "ready"), ("crun", "ready"), ("crun", "notready")].into_iter());
        let rows: Vec<_> = rows
            .iter()
            .map(|(handler, state, count)| (handler.as_str(), *state, *count))
            .collect();
        assert_eq!(rows, [("crun", "notready", 1), ("crun", "ready", 2), ("runc", "ready", 1)]);
    }
}
