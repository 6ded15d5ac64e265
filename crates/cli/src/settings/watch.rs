//! A change of the configuration takes effect while pods run.

use super::reading::{read_all, roots};
use super::{Settings, definitions};
use crate::args::Global;
use crate::show;
use anyhow::Result;
use cofferdam_engine::Engine;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often the files are looked at: a dozen small reads.
const RELOAD_EVERY: Duration = Duration::from_secs(1);

/// Watches the configuration while it lives: a handler added or removed takes effect at once, with no
/// harm to running pods. A file with an error changes nothing.
pub(crate) struct Watcher {
    stop: Arc<AtomicBool>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Starts watching. What `settings` were read from is what a change is a change of, however long ago
/// that was.
pub(crate) fn watch(global: &Global, settings: &Settings, engine: Arc<Engine>) -> Result<Watcher> {
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, roots, first) = (stop.clone(), roots(global), settings.loaded.clone());
    std::thread::Builder::new().name("configuration".into()).spawn(move || {
        let mut last = first;
        let mut taken = last.table.clone();
        while !stopped.load(Ordering::Relaxed) {
            std::thread::sleep(RELOAD_EVERY);
            let now = read_all(&roots);
            if now == last {
                continue;
            }
            if now.errors.is_empty() {
                let change = cofferdam_handlers::diff(&taken, &now.table);
                for (what, names) in [("added", &change.added), ("removed", &change.removed), ("changed", &change.changed)] {
                    for name in names {
                        show::tell(format_args!("cofferdam: handler {name} was {what}"));
                    }
                }
                engine.set_table(definitions(&now.table));
                taken = now.table.clone();
            } else {
                for error in &now.errors {
                    show::tell(format_args!("cofferdam: configuration not taken: {error}"));
                }
            }
            last = now;
        }
    })?;
    Ok(Watcher { stop })
}
