//! Drives container runtimes over CRI, in turn, and says what they took and how they compare.
//!
//! Rounds alternate between the runtimes, so that a machine that slows down slows all of them. All
//! pods bear a label, by which they are removed at the end, after a signal, and at the beginning of
//! the next run.

mod client;
mod driver;
mod error;
mod memory;
mod pod;
mod report;
mod soak;

#[cfg(test)]
mod tests;

pub use error::Error;
pub use report::{Bar, Better, Handler, Report, Row, Side, page, table};

use client::Peer;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// What is measured.
#[derive(Debug, Clone)]
pub struct Options {
    /// CRI sockets; ratios are to the first.
    pub sockets: Vec<PathBuf>,
    /// Runtime handlers, by their names in CRI; the empty one is the runtime's default.
    pub handlers: Vec<String>,
    /// Image of the containers; it has `true` and what `command` names.
    pub image: String,
    /// What the containers run.
    pub command: Vec<String>,
    /// Pull the image where it is missing.
    pub pull: bool,
    /// Pods one at a time, of each runtime.
    pub rounds: usize,
    /// Pods started at once.
    pub at_once: usize,
    /// Pods up together; 0 leaves that out.
    pub density: usize,
    /// Between many pods of one runtime and those of the next; [`REST`] where machines are compared.
    pub rest: Duration,
    /// In place of all that: this many pods up and down, and what the daemon holds.
    pub soak: Option<usize>,
}

/// After many pods the kernel clears their network namespaces away for seconds, and who comes next pays for it.
pub const REST: Duration = Duration::from_secs(4);

impl Options {
    fn check(&self) -> Result<(), Error> {
        if self.sockets.is_empty() {
            return Err(Error::NoSocket);
        }
        let counts = [
            ("--rounds", self.rounds),
            ("--at-once", self.at_once),
            ("--soak", self.soak.unwrap_or(1)),
        ];
        counts
            .into_iter()
            .find(|(_, n)| *n == 0)
            .map_or(Ok(()), |(option, _)| Err(Error::Zero { option }))
    }
}

/// Something else that is measured once a round of one handler, as a bare runtime.
pub struct Reference<'a> {
    /// What it is.
    pub name: String,
    /// In whose rounds.
    pub handler: String,
    /// Does it once: milliseconds, or why it failed.
    #[allow(clippy::type_complexity)]
    pub once: Box<dyn FnMut() -> Result<f64, String> + 'a>,
}

impl std::fmt::Debug for Reference<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reference")
            .field("name", &self.name)
            .field("handler", &self.handler)
            .finish_non_exhaustive()
    }
}

/// Runs a bench; `tell` gets a line for each thing that begins. What was made is removed, whatever
/// happens: after SIGINT and SIGTERM too, which end it with [`Error::Interrupted`].
pub fn run(options: &Options, references: &mut [Reference<'_>], tell: &dyn Fn(&str)) -> Result<Report, Error> {
    options.check()?;
    let machine = |what: &str| {
        let what = what.to_owned();
        move |source| Error::Machine { what, source }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(machine("cannot start threads"))?;
    runtime.block_on(async {
        let stop = Arc::new(AtomicBool::new(false));
        let mut ends = [SignalKind::interrupt(), SignalKind::terminate()].map(signal).into_iter();
        let (Some(Ok(mut int)), Some(Ok(mut term))) = (ends.next(), ends.next()) else {
            return Err(machine("cannot wait for signals")(std::io::Error::last_os_error()));
        };
        let (asked, twice) = (stop.clone(), tokio::sync::oneshot::channel::<()>());
        let (second, abandoned) = twice;
        let watch = tokio::spawn(async move {
            for _ in 0..2 {
                tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
                // What is under way comes to its end; then all is removed.
                asked.store(true, Ordering::Relaxed);
            }
            let _ = second.send(());
        });
        let done = tokio::select! {
            done = whole(options, references, tell, &stop) => done,
            Ok(()) = abandoned => Err(Error::Abandoned),
        };
        watch.abort();
        done
    })
}

async fn whole(options: &Options, references: &mut [Reference<'_>], tell: &dyn Fn(&str), stop: &Arc<AtomicBool>) -> Result<Report, Error> {
    let mut peers = Vec::new();
    for socket in &options.sockets {
        peers.push(Peer::connect(socket, stop.clone()).await?);
    }
    let names: Vec<String> = peers.iter().map(|p| p.name.clone()).collect();
    for (peer, name) in peers.iter_mut().zip(report::distinct(&names)) {
        peer.name = name;
        pod::sweep(peer).await?;
    }
    let logs = std::env::temp_dir().join(format!("cofferdam-bench-{}-{}", std::process::id(), peers.len()));
    std::fs::create_dir_all(&logs).map_err(|source| Error::Machine {
        what: logs.display().to_string(),
        source,
    })?;
    let bench = driver::Bench::new(options, peers, &logs, tell);
    let measured = bench.all(references).await;
    let mut left = Ok(());
    for peer in &bench.peers {
        left = left.and(pod::sweep(peer).await);
    }
    // A runtime may write the last line of a log at any time; nothing depends on it.
    let _ = std::fs::remove_dir_all(&logs);
    // The first reason is the one to know.
    let report = measured?;
    left.map(|()| report)
}
