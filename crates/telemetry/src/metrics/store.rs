//! What is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::families::BOUNDS;
use crate::{Code, lock};

/// More handlers than this are never told apart.
const MOST_HANDLERS: usize = 64;
/// More names of stages than this are never told apart.
const MOST_STAGES: usize = 64;
/// Label value of a handler that is not configured.
const UNKNOWN: &str = "unknown";
/// Label value of a stage beyond the bound.
const OTHER: &str = "other";

/// Durations by upper bound.
#[derive(Debug, Clone, Default)]
pub(crate) struct Histogram {
    /// Observations up to each bound and above the one before.
    pub(crate) buckets: [u64; BOUNDS.len()],
    /// All observations.
    pub(crate) count: u64,
    micros: u64,
}

impl Histogram {
    fn observe(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        if let Some(bucket) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.buckets[bucket] += 1;
        }
        self.count += 1;
        self.micros = self.micros.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// Sum of the observations in seconds; kept in whole microseconds, so that it does not drift.
    pub(crate) fn sum(&self) -> f64 {
        self.micros as f64 / 1e6
    }
}

/// The counts, under one lock that is held for a few map accesses.
#[derive(Debug, Default)]
pub(crate) struct Store {
    handlers: Mutex<BTreeSet<Arc<str>>>,
    counts: Mutex<Counts>,
}

/// One state of the counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    /// Ended calls by verb, handler and code.
    pub(crate) requests: BTreeMap<(&'static str, Arc<str>, Code), u64>,
    /// Their durations.
    pub(crate) durations: BTreeMap<(&'static str, Arc<str>), Histogram>,
    /// Durations of their stages.
    pub(crate) stages: BTreeMap<(&'static str, Arc<str>, Arc<str>), Histogram>,
    /// Calls being worked on.
    pub(crate) in_flight: BTreeMap<&'static str, u64>,
    stage_names: BTreeSet<Arc<str>>,
}

impl Counts {
    fn stage_label(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.stage_names.get(name) {
            return known.clone();
        }
        if self.stage_names.len() >= MOST_STAGES {
            return OTHER.into();
        }
        let label: Arc<str> = name.into();
        self.stage_names.insert(label.clone());
        label
    }
}

impl Store {
    /// Names the handlers that become labels; any other is `unknown`.
    pub(crate) fn set_handlers<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        *lock(&self.handlers) = names.into_iter().take(MOST_HANDLERS).map(Arc::from).collect();
    }

    /// The label of a handler: itself where it is configured, empty where the call has none.
    pub(crate) fn handler_label(&self, handler: &str) -> Arc<str> {
        if handler.is_empty() {
            return "".into();
        }
        lock(&self.handlers).get(handler).cloned().unwrap_or_else(|| UNKNOWN.into())
    }

    pub(crate) fn begin(&self, verb: &'static str) {
        *lock(&self.counts).in_flight.entry(verb).or_default() += 1;
    }

    pub(crate) fn end<'a>(
        &self,
        verb: &'static str,
        handler: &str,
        code: Code,
        took: Duration,
        stages: impl Iterator<Item = (&'a str, Duration)>,
    ) {
        let handler = self.handler_label(handler);
        let mut counts = lock(&self.counts);
        if let Some(count) = counts.in_flight.get_mut(verb) {
            *count = count.saturating_sub(1);
        }
        for (name, took) in stages {
            let stage = counts.stage_label(name);
            counts.stages.entry((verb, handler.clone(), stage)).or_default().observe(took);
        }
        counts.durations.entry((verb, handler.clone())).or_default().observe(took);
        *counts.requests.entry((verb, handler, code)).or_default() += 1;
    }

    /// A copy, so that no call waits for a scrape to be written.
    pub(crate) fn counts(&self) -> Counts {
        lock(&self.counts).clone()
    }
}
