//! The socket, the presence and the signals of a process that keeps pods: all there before its first
//! pod begins.

use super::{Desk, MAX_REQUEST, Order, PATIENCE, Request, dir};
use crate::show;
use anyhow::{Context, Result};
use cofferdam_plan::Layout;
use rustix::fs::{FlockOperation, flock};
use serde_json::json;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Stack of the thread of a connection: it makes JSON of views, and decides on changes. Only the pages
/// that are touched cost memory.
const STACK: usize = 1024 * 1024;

/// This process as one that keeps pods, until it is dropped.
pub(crate) struct Keeper {
    pub(crate) desk: Arc<Desk>,
    path: PathBuf,
    _present: Presence,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Where it cannot be removed, the next command that finds nobody behind it does.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Keeper {
    /// From now on this process is seen, answers, and ends its pods at a signal. Call it before
    /// anything of a pod is made.
    pub(crate) fn open(layout: &Layout) -> Result<Self> {
        let dir = dir(layout);
        cofferdam_host::files::private_dir(&dir)?;
        let present = Presence::shared(&dir)?;
        let desk = Arc::new(Desk::default());
        stop_on_signal(desk.clone())?;
        let path = dir.join(format!("{}.sock", std::process::id()));
        let listener = listen(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        let keeper = Self {
            desk: desk.clone(),
            path,
            _present: present,
        };
        std::thread::Builder::new().name("owner".into()).spawn(move || {
            for stream in listener.incoming().flatten() {
                let desk = desk.clone();
                // One that cannot have a thread breaks off, as does one that is slow: its own loss.
                let _ = std::thread::Builder::new()
                    .name("asked".into())
                    .stack_size(STACK)
                    .spawn(move || answer(stream, &desk));
            }
        })?;
        Ok(keeper)
    }
}

/// Listens before the socket has its name: whoever finds one on which nobody listens removes it.
fn listen(path: &Path) -> std::io::Result<UnixListener> {
    let new = path.with_extension("new");
    for old in [path, &new] {
        let _ = std::fs::remove_file(old);
    }
    let listener = UnixListener::bind(&new)?;
    std::fs::rename(&new, path)?;
    Ok(listener)
}

fn answer(mut stream: UnixStream, desk: &Desk) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new((&stream).take(MAX_REQUEST)).read_line(&mut line)?;
    let request: Request = serde_json::from_str(&line)?;
    match request {
        Request::Views => writeln!(stream, "{}", json!(desk.views()))?,
        Request::Stop(order) => {
            let told = writeln!(stream, "{}", json!(desk.take(&order)));
            desk.carry_out(&order);
            told?;
        }
        Request::Pod(name) => writeln!(stream, "{}", json!(desk.kept(&name)))?,
        Request::Add(addition) => writeln!(stream, "{}", json!(desk.add(*addition)))?,
        Request::Resize(amounts) => writeln!(stream, "{}", json!(desk.resize(&amounts)))?,
    }
    Ok(())
}

/// The first Ctrl-C ends the pods with their own grace, the second at once.
fn stop_on_signal(desk: Arc<Desk>) -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]).context("signals cannot be taken")?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for (count, _) in signals.forever().enumerate() {
            if count == 0 {
                show::tell("cofferdam: ending all pods; once more to kill them at once");
            }
            let order = Order {
                pod: None,
                grace: (count > 0).then_some(0),
            };
            desk.take(&order);
            desk.carry_out(&order);
        }
    })?;
    Ok(())
}

/// A lock of the owners' folder, shared by those who keep pods.
#[derive(Debug)]
struct Presence {
    _lock: File,
}

/// The same lock, exclusive: the right to tear down what all pods need.
#[derive(Debug)]
pub(crate) struct Alone {
    _lock: File,
}

impl Presence {
    fn shared(dir: &Path) -> Result<Self> {
        let file = open(dir)?;
        loop {
            match flock(&file, FlockOperation::LockShared) {
                Err(rustix::io::Errno::INTR) => {}
                locked => {
                    locked.with_context(|| format!("{} cannot be locked", dir.display()))?;
                    return Ok(Self { _lock: file });
                }
            }
        }
    }
}

/// The right to tear down: `None` while some process keeps pods. Who wants to keep pods waits for it to
/// be dropped.
pub(crate) fn alone(layout: &Layout) -> Result<Option<Alone>> {
    let dir = dir(layout);
    cofferdam_host::files::private_dir(&dir)?;
    let file = open(&dir)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Alone { _lock: file })),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(e) => Err(e).with_context(|| format!("{} cannot be locked", dir.display())),
    }
}

fn open(dir: &Path) -> Result<File> {
    File::open(dir).with_context(|| format!("{} cannot be opened", dir.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::owner::peers;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Who looks for owners removes a socket on which nobody listens; a new one must never be taken
    /// for that.
    #[test]
    fn a_socket_that_is_being_made_is_not_taken_for_one_that_was_left() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("l"), dir.path().join("s"));
        let sockets = super::dir(&layout);
        std::fs::create_dir_all(&sockets).unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        peers(&layout);
                    }
                });
            }
            let lost = (0..2000).find(|pid| {
                // One process id after the other, as a name is only used again when its process is gone.
                let path = sockets.join(format!("{pid}.sock"));
                let listener = listen(&path).unwrap();
                listener.set_nonblocking(true).unwrap();
                let there = path.exists();
                // Whoever has asked breaks off at once.
                listener.incoming().take(1).for_each(drop);
                !there
            });
            over.store(true, Ordering::Relaxed);
            assert_eq!(lost, None);
        });
        peers(&layout);
        assert_eq!(std::fs::read_dir(&sockets).unwrap().count(), 0, "those that were left are removed");
    }

    #[test]
    fn who_tears_down_is_alone() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("l"), dir.path().join("s"));
        let first = alone(&layout).unwrap().unwrap();
        assert!(alone(&layout).unwrap().is_none());
        drop(first);
        let (one, other) = (
            Presence::shared(&super::dir(&layout)).unwrap(),
            Presence::shared(&super::dir(&layout)).unwrap(),
        );
        assert!(alone(&layout).unwrap().is_none());
        drop((one, other));
        assert!(alone(&layout).unwrap().is_some());
    }
}
