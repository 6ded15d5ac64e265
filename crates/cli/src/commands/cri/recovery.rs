//! What the daemon before left: the engine puts it right when it is opened, and here that is told.

use crate::settings::Settings;
use anyhow::Result;
use cofferdam_engine::Engine;
use cofferdam_telemetry::{Log, Work};
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// Opens the engine. What recovery found is a log line each, and an event each of the span `recovery`, which counts them.
pub(super) fn open(settings: &Settings, start: &Work, log: &Log) -> Result<Arc<Engine>> {
    let span = RefCell::new(start.part("recovery"));
    let findings = Cell::new(0_usize);
    let opened = settings.open_telling(&|finding| {
        log.warn("something was recovered", &[("finding", finding)]);
        span.borrow_mut().event("finding", &[("cofferdam.finding", finding)]);
        findings.set(findings.get() + 1);
    });
    let mut span = span.into_inner();
    span.count("cofferdam.recovery.findings", findings.get());
    match opened {
        Ok(engine) => {
            span.count("cofferdam.recovery.cleanups_failed", engine.failed_cleanups().len());
            span.end(Ok(()));
            Ok(engine)
        }
        Err(why) => {
            span.end(Err(&format!("{why:#}")));
            Err(why)
        }
    }
}
