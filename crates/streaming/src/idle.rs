//! When a connection has been silent for too long.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

/// The time of the last message on a connection, either way.
#[derive(Debug)]
pub(crate) struct Idle {
    started: Instant,
    /// Milliseconds from `started` to the last message.
    last: AtomicU64,
    limit: Duration,
}

impl Idle {
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            started: Instant::now(),
            last: AtomicU64::new(0),
            limit,
        }
    }

    /// A message came or went.
    pub(crate) fn touch(&self) {
        self.last
            .store(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Waits until there was no message for the limit.
    pub(crate) async fn expired(&self) {
        loop {
            let end = self.started + Duration::from_millis(self.last.load(Relaxed)) + self.limit;
            if Instant::now() >= end {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}
