//! The queue of spans and the thread that empties it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Span;
use super::context::random;
use super::send::{Outcome, Sender};
use super::settings::Settings;
use crate::log::Log;
use crate::{Error, cut, lock};

/// A collector that fails is told of so often.
const COMPLAIN: Duration = Duration::from_secs(60);
/// First and longest wait before the same spans are sent again.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The longest wait that a collector may ask for.
const MOST_ASKED: Duration = Duration::from_secs(600);
/// A longer request is not made (OTLP, "OTLP/gRPC Request" and "OTLP/HTTP Request"), bytes.
const MOST_REQUEST: usize = 64 << 20;
/// Longest sentence of a collector that is told, in bytes.
const MOST_TOLD: usize = 512;
/// The thread reads and writes one connection.
const STACK: usize = 512 * 1024;

/// Takes spans and sees them off. A collector that is down costs the callers nothing: `offer` never waits.
#[derive(Clone)]
pub(crate) struct Exporter {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    version: String,
    log: Log,
    queue: Mutex<Queue>,
    wake: Condvar,
    ended: Condvar,
    exported: AtomicU64,
    rejected: AtomicU64,
    dropped: AtomicU64,
    failures: AtomicU64,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Span>,
    /// Spans taken out to be sent, and not yet taken by the collector; they count toward the bound.
    in_hand: usize,
    /// Set once the daemon ends: by then all must be gone.
    until: Option<Instant>,
    ended: bool,
}

/// What became of spans so far, and how many wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) exported: u64,
    pub(crate) rejected: u64,
    pub(crate) dropped: u64,
    pub(crate) failures: u64,
    pub(crate) queued: u64,
}

impl Exporter {
    /// Starts the thread.
    pub(crate) fn start(settings: Settings, version: &str, log: Log) -> Result<Self, Error> {
        let sender = Sender::new(&settings, version)?;
        let shared = Arc::new(Shared {
            settings,
            version: version.to_owned(),
            log,
            queue: Mutex::default(),
            wake: Condvar::new(),
            ended: Condvar::new(),
            exported: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        });
        let exporter = Self { shared: shared.clone() };
        crate::spawn("spans", STACK, move || {
            Worker {
                shared: &shared,
                sender,
                complained: None,
                unsaid: 0,
            }
            .run()
        })?;
        Ok(exporter)
    }

    /// Whether parents decide, and the ratio for calls without one.
    pub(crate) fn sampling(&self) -> (bool, f64) {
        (self.shared.settings.parent_based, self.shared.settings.ratio)
    }

    /// Takes spans; those that find no room are dropped and counted.
    pub(crate) fn offer(&self, spans: Vec<Span>) {
        let mut queue = lock(&self.shared.queue);
        let used = queue.waiting.len() + queue.in_hand;
        let room = if queue.until.is_some() {
            0
        } else {
            self.shared.settings.queue.saturating_sub(used)
        };
        let lost = spans.len().saturating_sub(room);
        queue.waiting.extend(spans.into_iter().take(room));
        if queue.waiting.len() >= self.shared.settings.batch {
            self.shared.wake.notify_one();
        }
        drop(queue);
        self.shared.dropped.fetch_add(lost as u64, Ordering::Relaxed);
    }

    /// Sends what waits, for at most so long, and ends the thread. What is left is dropped and counted.
    pub(crate) fn shutdown(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let mut queue = lock(&self.shared.queue);
        queue.until.get_or_insert(until);
        self.shared.wake.notify_all();
        while !queue.ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            queue = self
                .shared
                .ended
                .wait_timeout(queue, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let queue = lock(&self.shared.queue);
        let queued = (queue.waiting.len() + queue.in_hand) as u64;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let shared = &self.shared;
        Counts {
            exported: read(&shared.exported),
            rejected: read(&shared.rejected),
            dropped: read(&shared.dropped),
            failures: read(&shared.failures),
            queued,
        }
    }
}

/// The thread's own state.
struct Worker<'a> {
    shared: &'a Shared,
    sender: Sender,
    complained: Option<Instant>,
    /// Failures since the last complaint.
    unsaid: u64,
}

impl Worker<'_> {
    fn run(mut self) {
        while let Some(batch) = self.next_batch() {
            self.see_off(&batch);
            lock(&self.shared.queue).in_hand = 0;
        }
        let mut queue = lock(&self.shared.queue);
        queue.ended = true;
        self.shared.ended.notify_all();
    }

    /// Waits for a full batch or the end of the interval; `None` once the daemon ends and nothing waits.
    fn next_batch(&self) -> Option<Vec<Span>> {
        let settings = &self.shared.settings;
        let mut due = Instant::now() + settings.interval;
        let mut queue = lock(&self.shared.queue);
        loop {
            let left = due.saturating_duration_since(Instant::now());
            let ending = queue.until.is_some();
            if queue.waiting.len() >= settings.batch || (!queue.waiting.is_empty() && (ending || left.is_zero())) {
                let count = queue.waiting.len().min(settings.batch);
                queue.in_hand = count;
                return Some(queue.waiting.drain(..count).collect());
            }
            if ending {
                return None;
            }
            if left.is_zero() {
                // Memory of a burst is given back once it is over.
                queue.waiting.shrink_to(64);
                due = Instant::now() + settings.interval;
            }
            queue = self.shared.wake.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Sends one batch until the collector takes it, refuses it, or the daemon's time is up.
    fn see_off(&mut self, batch: &[Span]) {
        let shared = self.shared;
        let body = self.sender.body(&shared.settings, &shared.version, batch);
        let all = batch.len() as u64;
        if body.len() > MOST_REQUEST {
            shared.dropped.fetch_add(all, Ordering::Relaxed);
            self.failed("spans are given up", &format!("together they are more than {MOST_REQUEST} bytes"));
            return;
        }
        let mut wait = BACK_OFF.0;
        loop {
            let Some(timeout) = self.time_left() else {
                shared.dropped.fetch_add(all, Ordering::Relaxed);
                return;
            };
            match self.sender.send(&body, timeout.min(shared.settings.timeout)) {
                Outcome::Taken(refused, why) => {
                    self.taken(all, refused, &why);
                    return;
                }
                Outcome::Refused(why) => {
                    shared.rejected.fetch_add(all, Ordering::Relaxed);
                    self.failed("the collector refuses spans", &why);
                    return;
                }
                Outcome::Later(why, after) => {
                    self.failed("spans cannot be exported now and are kept as far as there is room", &why);
                    self.rest(after.map_or_else(|| jittered(wait), |asked| asked.min(MOST_ASKED)));
                    wait = (wait * 2).min(BACK_OFF.1);
                }
            }
        }
    }

    /// How long an export may take yet; `None` once the time of an ending daemon is up.
    fn time_left(&self) -> Option<Duration> {
        match lock(&self.shared.queue).until {
            None => Some(self.shared.settings.timeout),
            Some(until) => Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero()),
        }
    }

    /// Waits before the next try, or until the daemon ends; an ending daemon tries twice a second.
    fn rest(&self, wait: Duration) {
        let due = Instant::now() + wait;
        let mut queue = lock(&self.shared.queue);
        let began_ending = queue.until.is_some();
        let due = if began_ending {
            due.min(Instant::now() + Duration::from_millis(500))
        } else {
            due
        };
        while queue.until.is_some() == began_ending {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            queue = self.shared.wake.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn taken(&mut self, all: u64, refused: u64, why: &str) {
        let refused = refused.min(all);
        self.shared.exported.fetch_add(all - refused, Ordering::Relaxed);
        self.shared.rejected.fetch_add(refused, Ordering::Relaxed);
        if refused > 0 {
            self.failed("the collector refuses some spans", why);
            return;
        }
        let (log, endpoint) = (&self.shared.log, ("endpoint", self.shared.settings.url.as_str()));
        if !why.is_empty() {
            // OTLP, "Partial Success": a warning about spans that were taken.
            log.info("the collector warns", &[endpoint, ("warning", cut(why, MOST_TOLD))]);
        }
        if self.complained.take().is_some() {
            self.unsaid = 0;
            log.info("spans are exported again", &[endpoint]);
        }
    }

    /// Counts a failure, and tells of it at most once a minute.
    fn failed(&mut self, what: &str, why: &str) {
        self.shared.failures.fetch_add(1, Ordering::Relaxed);
        self.unsaid += 1;
        if self.complained.is_some_and(|at| at.elapsed() < COMPLAIN) {
            return;
        }
        self.complained = Some(Instant::now());
        let (failures, dropped) = (self.unsaid.to_string(), self.shared.dropped.load(Ordering::Relaxed).to_string());
        self.unsaid = 0;
        let fields = [
            ("endpoint", self.shared.settings.url.as_str()),
            ("error", cut(why, MOST_TOLD)),
            ("failures", &failures),
            ("dropped", &dropped),
        ];
        self.shared.log.warn(what, &fields);
    }
}

/// Somewhere between half of a wait and all of it, so that the nodes of a cluster do not come back at once.
fn jittered(wait: Duration) -> Duration {
    let part = f64::from(u16::from_be_bytes(random())) / f64::from(u16::MAX);
    wait.mul_f64(0.5 + part / 2.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn waits_differ_and_are_never_less_than_half() {
        let waits: std::collections::BTreeSet<Duration> = (0..64).map(|_| jittered(BACK_OFF.1)).collect();
        assert!(waits.len() > 1);
        assert!(waits.iter().all(|wait| (BACK_OFF.1 / 2..=BACK_OFF.1).contains(wait)), "{waits:?}");
    }
}
