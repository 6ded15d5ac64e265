//! A change of the configuration takes effect while pods run.

use super::reading::{read_all, roots};
use super::{Settings, definitions};
use crate::args::Global;
use anyhow::Result;
use cofferdam_engine::Engine;
use cofferdam_handlers::{Loaded, Roots, Wanted};
use cofferdam_telemetry::Level;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often it is looked whether a file is another one: a dozen calls of `stat`.
const RELOAD_EVERY: Duration = Duration::from_secs(1);
/// A file changed so lately may be changed once more and look the same: clocks of file systems are coarse.
const FRESH: u64 = 2;

/// Who is told what comes of a change.
pub(crate) type Tell = Box<dyn Fn(Level, &str) + Send>;

/// Watches the configuration while it lives: a handler added or removed takes effect at once, with no
/// harm to running pods. A file with an error changes nothing.
#[derive(Debug)]
pub(crate) struct Watcher {
    /// The thread ends when this is dropped.
    asked: Sender<()>,
}

impl Watcher {
    /// Reads all again now, and tells what came of it.
    pub(crate) fn look_now(&self) {
        // A thread that is gone has nothing to read for.
        let _ = self.asked.send(());
    }
}

/// Starts watching. What `settings` were read from is what a change is a change of, however long ago
/// that was.
pub(crate) fn watch(global: &Global, settings: &Settings, engine: Arc<Engine>, tell: Tell) -> Result<Watcher> {
    let (asked, orders) = channel();
    let (roots, first) = (roots(global), settings.loaded.clone());
    std::thread::Builder::new().name("configuration".into()).spawn(move || follow(&roots, first, &engine, &orders, &tell))?;
    Ok(Watcher { asked })
}

fn follow(roots: &Roots, first: Loaded, engine: &Engine, orders: &Receiver<()>, tell: &Tell) {
    let mut taken = first.table.clone();
    let mut last = first;
    let mut seen = None;
    loop {
        let asked = match orders.recv_timeout(RELOAD_EVERY) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let look = Look::at(&last);
        if !asked && !look.fresh && seen.as_ref() == Some(&look) {
            continue;
        }
        seen = Some(look);
        let now = read_all(roots);
        if now == last && !asked {
            continue;
        }
        if now.errors.is_empty() {
            let change = cofferdam_handlers::diff(&taken, &now.table);
            for (what, names) in [("added", &change.added), ("removed", &change.removed), ("changed", &change.changed)] {
                for name in names {
                    tell(Level::Info, &format!("handler {name} was {what}"));
                }
            }
            if asked && change.is_empty() {
                tell(Level::Info, "the configuration was read again; no handler is another");
            }
            if now.table.settings.cri != taken.settings.cri {
                tell(Level::Warn, "[cri] was changed; that takes effect when the daemon is started again");
            }
            engine.set_table(definitions(&now.table));
            taken = now.table.clone();
        } else {
            for error in &now.errors {
                tell(Level::Error, &format!("configuration not taken: {error}"));
            }
        }
        last = now;
    }
}

/// How the files looked from outside.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    /// Device, inode, size, and times of change in nanoseconds; `None` is what is not there.
    files: Vec<Option<[u64; 5]>>,
    fresh: bool,
}

impl Look {
    fn at(loaded: &Loaded) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let mut fresh = false;
        let files = loaded.watch.iter().map(|(Wanted::File(path) | Wanted::Folder(path))| {
            let meta = std::fs::metadata(path).ok()?;
            fresh |= now.abs_diff(meta.ctime().unsigned_abs()) <= FRESH;
            let nanos = |seconds: i64, nanos: i64| (seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos)) as u64;
            Some([meta.dev(), meta.ino(), meta.len(), nanos(meta.mtime(), meta.mtime_nsec()), nanos(meta.ctime(), meta.ctime_nsec())])
        });
        Self { files: files.collect(), fresh }
    }
}
