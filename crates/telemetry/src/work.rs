//! Work that nobody called for.

use std::sync::Arc;
use std::time::Instant;

use crate::call::{MOST_ATTRIBUTES, MOST_VALUE};
use crate::trace::context::Context;
use crate::trace::{Attributes, Event, Span, Value};
use crate::{Inner, cut, nanos_now};

/// Events of one piece of work; more are counted.
const MOST_EVENTS: usize = 128;

/// Work of the daemon's own: its start, its recovery, a clean-up tried again. Ended, it is a span; dropped without an end,
/// one that failed. Where no spans are wanted it costs nothing.
#[must_use = "work that is dropped counts as failed"]
pub struct Work {
    /// `None` where it is not recorded, or has ended.
    recorded: Option<Recorded>,
}

struct Recorded {
    inner: Arc<Inner>,
    span: Span,
    began: Instant,
}

impl Work {
    pub(crate) fn begin(inner: Arc<Inner>, name: &'static str) -> Self {
        let context = inner.context(None);
        Self::at(inner, context, None, name)
    }

    fn at(inner: Arc<Inner>, context: Option<Context>, parent: Option<[u8; 8]>, name: &'static str) -> Self {
        let recorded = context.filter(|context| context.sampled).map(|context| Recorded {
            inner,
            span: Span {
                context,
                parent,
                remote: false,
                server: false,
                name: name.to_owned(),
                start: nanos_now(),
                end: 0,
                attributes: vec![],
                dropped_attributes: 0,
                events: vec![],
                dropped_events: 0,
                failure: None,
            },
            began: Instant::now(),
        });
        Self { recorded }
    }

    /// Begins a part of this work: a span below this one's.
    pub fn part(&self, name: &'static str) -> Self {
        match &self.recorded {
            None => Self { recorded: None },
            Some(Recorded { inner, span, .. }) => Self::at(inner.clone(), Some(span.context.child()), Some(span.context.span), name),
        }
    }

    /// Adds what the work is about.
    pub fn attribute(&mut self, name: &'static str, value: &str) {
        self.add(name, || Value::Text(cut(value, MOST_VALUE).to_owned()));
    }

    /// Adds how many there were of something.
    pub fn count(&mut self, name: &'static str, count: usize) {
        self.add(name, || Value::Number(i64::try_from(count).unwrap_or(i64::MAX)));
    }

    fn add(&mut self, name: &'static str, value: impl FnOnce() -> Value) {
        let Some(Recorded { span, .. }) = &mut self.recorded else {
            return;
        };
        if span.attributes.len() < MOST_ATTRIBUTES {
            span.attributes.push((name.to_owned(), value()));
        } else {
            span.dropped_attributes += 1;
        }
    }

    /// Adds something that happened now.
    pub fn event(&mut self, name: &'static str, attributes: &[(&'static str, &str)]) {
        let Some(Recorded { span, began, .. }) = &mut self.recorded else {
            return;
        };
        if span.events.len() >= MOST_EVENTS {
            span.dropped_events = span.dropped_events.saturating_add(1);
            return;
        }
        let text = |(name, value): &(&str, &str)| ((*name).to_owned(), Value::Text(cut(value, MOST_VALUE).to_owned()));
        let attributes: Attributes = attributes.iter().take(MOST_ATTRIBUTES).map(text).collect();
        let at = after(span.start, *began);
        span.events.push(Event { at, name, attributes });
    }

    /// Ends the work: done, or failed with one sentence.
    pub fn end(mut self, outcome: Result<(), &str>) {
        self.close(outcome);
    }

    fn close(&mut self, outcome: Result<(), &str>) {
        if let Some(Recorded { inner, mut span, began }) = self.recorded.take() {
            span.end = after(span.start, began);
            span.failure = outcome.err().map(|why| cut(why, MOST_VALUE).to_owned());
            inner.offer(vec![span]);
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.close(Err("it was given up"));
    }
}

/// Now, by the clock that never goes back.
fn after(start: u64, began: Instant) -> u64 {
    start.saturating_add(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX))
}
