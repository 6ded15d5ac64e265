//! What is done in a run, and in which order.

use super::client::Peer;
use super::error::Error;
use super::memory::{self, Memory};
use super::pod::{self, Recipe, Up};
use super::report::{Better, Handler, Report, Row, Side, name};
use super::{Options, Reference, soak};
use crate::sample::{Series, medians};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Turns of each runtime with many at once, of which the median counts.
const TURNS: usize = 3;
/// Pods of a turn, for each that is started at once.
const PODS_AT_ONCE: usize = 4;
/// Commands executed in each pod.
const EXECS: usize = 3;
/// Between one contestant and the next, so that nobody profits from what the one before left warm, or pays
/// for what the kernel still clears away of its network namespaces.
const REST: Duration = Duration::from_millis(400);
/// Number of a pod beside which others may be up.
const ALONE: usize = 1_000_000;

/// One run.
pub(super) struct Bench<'a> {
    pub(super) options: &'a Options,
    pub(super) peers: Vec<Peer>,
    logs: &'a Path,
    pub(super) tell: &'a dyn Fn(&str),
}

/// What one runtime did under one handler.
#[derive(Debug, Default)]
struct Took {
    up: Series,
    verbs: [Series; 3],
    exec: Series,
    stop: Series,
    remove: Series,
    stages: Vec<Vec<(String, f64)>>,
    rates: Series,
    crowd: Series,
    /// Idle, then with the pods of the density.
    idle: Option<Memory>,
    dense: Option<Memory>,
    all_up: f64,
    dense_up: Series,
    dense_exec: Series,
}

impl<'a> Bench<'a> {
    pub(super) fn new(options: &'a Options, peers: Vec<Peer>, logs: &'a Path, tell: &'a dyn Fn(&str)) -> Self {
        Self {
            options,
            peers,
            logs,
            tell,
        }
    }

    /// Every handler, in their order.
    pub(super) async fn all(&self, references: &mut [Reference<'_>]) -> Result<Report, Error> {
        let mut report = Report::new(
            self.peers
                .iter()
                .map(|p| Side {
                    name: p.name.clone(),
                    socket: p.socket.clone(),
                })
                .collect(),
        );
        for warning in &report.warnings {
            (self.tell)(&format!("warning: {warning}"));
        }
        for handler in &self.options.handlers {
            for peer in &self.peers {
                peer.image(&self.options.image, handler, self.options.pull).await?;
            }
            report.handlers.push(match self.options.soak {
                Some(count) => soak::handler(self, handler, count).await?,
                None => self.handler(handler, references).await?,
            });
        }
        Ok(report)
    }

    pub(super) fn recipe(&self, handler: &str) -> Arc<Recipe> {
        let Options { image, command, .. } = self.options;
        Arc::new(Recipe {
            handler: handler.into(),
            image: image.clone(),
            command: command.clone(),
            logs: self.logs.to_owned(),
        })
    }

    async fn handler(&self, handler: &str, references: &mut [Reference<'_>]) -> Result<Handler, Error> {
        let recipe = self.recipe(handler);
        let mut all: Vec<Took> = self.peers.iter().map(|_| Took::default()).collect();
        (self.tell)(&format!("{}: one at a time", name(handler)));
        let mut beside: Vec<_> = references
            .iter_mut()
            .filter(|r| r.handler == handler)
            .map(|r| (Series::new(&r.name), r))
            .collect();
        for (peer, took) in self.peers.iter().zip(&mut all) {
            // The first pod pays for what is made once.
            one(peer, &recipe, &mut Took::default()).await?;
            tokio::time::sleep(REST).await;
            took.idle = peer.daemon.and_then(|pid| memory::look(pid, &[], &[]));
        }
        for _ in 0..self.options.rounds {
            for (peer, took) in self.peers.iter().zip(&mut all) {
                tokio::time::sleep(REST).await;
                one(peer, &recipe, took).await?;
            }
            for (series, reference) in &mut beside {
                tokio::time::sleep(REST).await;
                let time = (reference.once)().map_err(|reason| Error::Reference {
                    name: reference.name.clone(),
                    reason,
                })?;
                series.push(time);
            }
        }
        (self.tell)(&format!("{}: {} at once", name(handler), self.options.at_once));
        for _ in 0..TURNS {
            for (peer, took) in self.peers.iter().zip(&mut all) {
                tokio::time::sleep(self.options.rest).await;
                let count = self.options.at_once * PODS_AT_ONCE;
                let (rate, ups) = many(peer, &recipe, count, self.options.at_once).await?;
                took.rates.push(rate);
                for up in ups {
                    took.crowd.push(up.total());
                    pod::down(peer, &up).await?;
                }
            }
        }
        if self.options.density > 0 {
            (self.tell)(&format!("{}: {} pods together", name(handler), self.options.density));
            for (peer, took) in self.peers.iter().zip(&mut all) {
                self.dense(peer, &recipe, took).await?;
            }
        }
        let named = |parts: &dyn Fn(&Took) -> Vec<(String, f64)>| {
            let of = self.peers.iter().zip(&all).map(|(peer, took)| (peer.name.clone(), parts(took)));
            of.filter(|(_, parts)| !parts.is_empty()).collect()
        };
        Ok(Handler {
            name: handler.into(),
            rows: self.rows(&all),
            verbs: named(&verbs),
            stages: named(&|took| medians(&took.stages)),
            references: beside
                .into_iter()
                .map(|(s, _)| (s.name.clone(), s.p50(), s.quantile(0.95)))
                .collect(),
        })
    }

    async fn dense(&self, peer: &Peer, recipe: &Arc<Recipe>, took: &mut Took) -> Result<(), Error> {
        tokio::time::sleep(self.options.rest).await;
        let count = self.options.density;
        let (rate, ups) = many(peer, recipe, count, self.options.at_once.min(count)).await?;
        took.all_up = count as f64 / rate;
        tokio::time::sleep(REST).await;
        let ids: Vec<String> = ups.iter().flat_map(|up| [up.pod.clone(), up.container.clone()]).collect();
        took.dense = peer.daemon.and_then(|pid| memory::look(pid, &ids, &recipe.command));
        for up in ups.iter().take(10) {
            took.dense_exec.push(pod::exec(peer, up).await?);
            // One more, beside all of them.
            let more = pod::up(peer, recipe, ALONE).await?;
            took.dense_up.push(more.total());
            pod::down(peer, &more).await?;
        }
        for up in &ups {
            pod::down(peer, up).await?;
        }
        Ok(())
    }

    fn rows(&self, all: &[Took]) -> Vec<Row> {
        let Options { at_once, density, .. } = self.options;
        let mut rows = Vec::new();
        let mut row = |key, what: String, unit, better, value: &dyn Fn(&Took) -> Option<f64>| {
            // Not a number: nothing was measured.
            let values = all.iter().map(|took| value(took).filter(|v| v.is_finite())).collect();
            rows.push(Row {
                key,
                what,
                unit,
                better,
                values,
            });
        };
        let p95 = |s: &Series| Some(s.quantile(0.95));
        row("up_p50", "pod up, one at a time, p50".into(), "ms", Better::Less, &|t| {
            Some(t.up.p50())
        });
        row("up_p95", "pod up, one at a time, p95".into(), "ms", Better::Less, &|t| p95(&t.up));
        row("exec_p50", "exec of true, p50".into(), "ms", Better::Less, &|t| Some(t.exec.p50()));
        row("exec_p95", "exec of true, p95".into(), "ms", Better::Less, &|t| p95(&t.exec));
        row("stop_p50", "stop, p50".into(), "ms", Better::Less, &|t| Some(t.stop.p50()));
        row("remove_p50", "remove, p50".into(), "ms", Better::Less, &|t| Some(t.remove.p50()));
        row("rate", format!("pods a second, {at_once} at once"), "pods/s", Better::More, &|t| {
            Some(t.rates.p50())
        });
        row("crowd_p50", format!("pod up, {at_once} at once, p50"), "ms", Better::Less, &|t| {
            Some(t.crowd.p50())
        });
        row("crowd_p95", format!("pod up, {at_once} at once, p95"), "ms", Better::Less, &|t| {
            p95(&t.crowd)
        });
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        row("daemon", "memory of the daemon, no pods, PSS".into(), "MiB", Better::Less, &|t| {
            t.idle.map(|m| mib(m.daemon))
        });
        if *density > 0 {
            let each = |bytes: u64| mib(bytes) / *density as f64;
            row("dense_all", format!("until {density} pods are up"), "s", Better::Less, &|t| {
                Some(t.all_up)
            });
            row("dense_up", format!("pod up beside {density}, p50"), "ms", Better::Less, &|t| {
                Some(t.dense_up.p50())
            });
            row(
                "dense_exec",
                format!("exec of true beside {density}, p50"),
                "ms",
                Better::Less,
                &|t| Some(t.dense_exec.p50()),
            );
            row(
                "daemon_dense",
                format!("memory of the daemon, {density} pods, PSS"),
                "MiB",
                Better::Less,
                &|t| t.dense.map(|m| mib(m.daemon)),
            );
            row(
                "beside",
                "memory of the runtime's own per pod, PSS".into(),
                "MiB",
                Better::Less,
                &|t| t.dense.map(|m| each(m.beside)),
            );
            row(
                "enclosure",
                "gVisor or virtual machine per pod, PSS".into(),
                "MiB",
                Better::Less,
                &|t| t.dense.map(|m| each(m.enclosures)).filter(|v| *v > 0.0),
            );
            row(
                "workload",
                "what the container runs per pod, PSS".into(),
                "MiB",
                Better::Less,
                &|t| t.dense.map(|m| each(m.workload)),
            );
        }
        rows.retain(|row| row.values.iter().any(Option::is_some));
        rows
    }
}

/// The medians of the verbs, in the order of a pod's life.
fn verbs(took: &Took) -> Vec<(String, f64)> {
    let [run, create, start] = &took.verbs;
    let all = [
        ("RunPodSandbox", run),
        ("CreateContainer", create),
        ("StartContainer", start),
        ("stop", &took.stop),
        ("remove", &took.remove),
    ];
    all.map(|(name, series)| (name.to_owned(), series.p50())).to_vec()
}

/// One pod up, looked at, and down.
async fn one(peer: &Peer, recipe: &Recipe, took: &mut Took) -> Result<(), Error> {
    let up = pod::up(peer, recipe, 0).await?;
    took.up.push(up.total());
    for (series, time) in took.verbs.iter_mut().zip(up.verbs) {
        series.push(time);
    }
    let stages = pod::stages(peer, &up).await?;
    if !stages.is_empty() {
        took.stages.push(stages);
    }
    for _ in 0..EXECS {
        took.exec.push(pod::exec(peer, &up).await?);
    }
    let down = pod::down(peer, &up).await?;
    took.stop.push(down.stop);
    took.remove.push(down.remove);
    Ok(())
}

/// Starts `count` pods, `at_once` side by side: pods per second, and the pods. When it returns, no
/// call is under way.
pub(super) async fn many(peer: &Peer, recipe: &Arc<Recipe>, count: usize, at_once: usize) -> Result<(f64, Vec<Up>), Error> {
    let next = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..at_once {
        let (peer, recipe, next) = (peer.clone(), recipe.clone(), next.clone());
        workers.spawn(async move {
            let mut done = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(done);
                }
                match pod::up(&peer, &recipe, number).await {
                    Ok(up) => done.push(up),
                    Err(e) => {
                        // The others begin nothing more.
                        next.store(count, Ordering::Relaxed);
                        return Err(e);
                    }
                }
            }
        });
    }
    let ended = workers.join_all().await;
    let seconds = start.elapsed().as_secs_f64();
    let ups: Vec<Up> = ended.into_iter().collect::<Result<Vec<_>, Error>>()?.concat();
    Ok((count as f64 / seconds, ups))
}
