//! Metrics: what is counted, and the text of a scrape.

pub(crate) mod families;
mod process;
pub(crate) mod store;
pub(crate) mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use families as f;
use text::{Format, Writer};

/// What the engine knows at the moment of a scrape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Pod sandboxes: handler, state, how many.
    pub pods: Vec<(String, &'static str, u64)>,
    /// Containers: handler, state, how many.
    pub containers: Vec<(String, &'static str, u64)>,
    /// Clean-ups that failed and wait to be tried again.
    pub cleanups_failed: u64,
    /// Image pulls in progress.
    pub pulls_in_progress: u64,
}

/// Counts that other parts of this crate keep.
#[derive(Debug, Clone, Default)]
pub(crate) struct Own {
    pub(crate) exported: u64,
    pub(crate) rejected: u64,
    pub(crate) dropped: u64,
    pub(crate) queued: u64,
    pub(crate) export_failures: u64,
    pub(crate) lines: [(&'static str, u64); 4],
    pub(crate) lines_held: u64,
    pub(crate) refused: u64,
}

/// The text of one scrape. `gauges` is `None` where the engine did not answer in time.
pub(crate) fn write(format: Format, store: &store::Store, gauges: Option<&Gauges>, own: &Own, version: &str) -> String {
    let mut out = Writer::new(format);
    calls(&mut out, &store.counts());
    if let Some(gauges) = gauges {
        by_state(&mut out, &f::PODS, store, &gauges.pods);
        by_state(&mut out, &f::CONTAINERS, store, &gauges.containers);
        out.single(&f::CLEANUPS, gauges.cleanups_failed as f64);
        out.single(&f::PULLS, gauges.pulls_in_progress as f64);
    }
    out.single(&f::GAUGES_UP, if gauges.is_some() { 1.0 } else { 0.0 });
    own_counts(&mut out, own);
    out.family(&f::BUILD);
    out.sample(&f::BUILD, &[version], 1.0);
    process::write(&mut out);
    out.finish()
}

fn calls(out: &mut Writer, counts: &store::Counts) {
    out.family(&f::REQUESTS);
    for ((verb, handler, code), count) in &counts.requests {
        out.sample(&f::REQUESTS, &[verb, handler, code.name()], *count as f64);
    }
    out.family(&f::IN_FLIGHT);
    for (verb, count) in &counts.in_flight {
        out.sample(&f::IN_FLIGHT, &[verb], *count as f64);
    }
    out.family(&f::DURATION);
    for ((verb, handler), histogram) in &counts.durations {
        out.histogram(&f::DURATION, &[verb, handler], histogram);
    }
    out.family(&f::STAGE);
    for ((verb, handler, stage), histogram) in &counts.stages {
        out.histogram(&f::STAGE, &[verb, handler, stage], histogram);
    }
}

/// Handlers that share a label are summed: a series must not stand twice in a scrape.
fn by_state(out: &mut Writer, family: &f::Family, store: &store::Store, rows: &[(String, &'static str, u64)]) {
    let mut sums: BTreeMap<(Arc<str>, &str), u64> = BTreeMap::new();
    for (handler, state, count) in rows {
        *sums.entry((store.handler_label(handler), state)).or_default() += count;
    }
    out.family(family);
    for ((handler, state), count) in &sums {
        out.sample(family, &[handler, state], *count as f64);
    }
}

fn own_counts(out: &mut Writer, own: &Own) {
    out.family(&f::SPANS);
    for (outcome, count) in [("exported", own.exported), ("rejected", own.rejected), ("dropped", own.dropped)] {
        out.sample(&f::SPANS, &[outcome], count as f64);
    }
    out.single(&f::SPANS_QUEUED, own.queued as f64);
    out.single(&f::EXPORT_FAILURES, own.export_failures as f64);
    out.family(&f::LOG_LINES);
    for (level, count) in own.lines {
        out.sample(&f::LOG_LINES, &[level], count as f64);
    }
    out.single(&f::LOG_HELD, own.lines_held as f64);
    out.single(&f::HTTP_REFUSED, own.refused as f64);
}
