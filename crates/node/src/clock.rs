//! Time and waiting, behind a small trait so that tests need not sleep.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Locks `mutex`; a thread that panicked while it held the lock does not stop the others, as every
/// value behind these locks is whole between statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts how often something happened, so that a waiter misses nothing: read [`Bell::count`], look
/// at the state, then wait for a count other than the one that was read.
#[derive(Debug, Default)]
pub struct Bell {
    count: Mutex<u64>,
    rung: Condvar,
}

impl Bell {
    /// Wakes who waits.
    pub fn ring(&self) {
        let mut count = lock(&self.count);
        *count = count.wrapping_add(1);
        self.rung.notify_all();
    }

    /// How often it rang.
    pub fn count(&self) -> u64 {
        *lock(&self.count)
    }

    fn wait(&self, seen: u64, timeout: Option<Duration>) {
        let count = lock(&self.count);
        match timeout {
            None => drop(self.rung.wait_while(count, |now| *now == seen)),
            Some(limit) => drop(
                self.rung
                    .wait_timeout_while(count, limit, |now| *now == seen),
            ),
        }
    }
}

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// Time since a fixed moment; never goes back.
    fn now(&self) -> Duration;
    /// Nanoseconds since 1970.
    fn unix_nanos(&self) -> i64;
    /// Waits until `bell` has rung since `seen` was read, or `until` has come. May return early.
    fn wait(&self, bell: &Arc<Bell>, seen: u64, until: Option<Duration>);
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn unix_nanos(&self) -> i64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    }

    fn wait(&self, bell: &Arc<Bell>, seen: u64, until: Option<Duration>) {
        bell.wait(seen, until.map(|until| until.saturating_sub(self.now())));
    }
}

/// A clock that moves only when it is told to: for tests.
#[derive(Debug, Default)]
pub struct ManualClock {
    now: Mutex<Duration>,
    waiting: Mutex<Vec<(Weak<Bell>, Option<Duration>)>>,
    registered: Condvar,
}

impl ManualClock {
    /// Lets `by` pass and wakes everyone who waits.
    pub fn advance(&self, by: Duration) {
        *lock(&self.now) += by;
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        for bell in waiting.iter().filter_map(|(bell, _)| bell.upgrade()) {
            bell.ring();
        }
    }

    /// Blocks until somebody waits for the moment `until`; false where nobody does for long.
    pub fn awaited(&self, until: Duration) -> bool {
        let nobody = |waiting: &mut Vec<(Weak<Bell>, Option<Duration>)>| {
            !waiting.iter().any(|(_, u)| *u == Some(until))
        };
        let found = self.registered.wait_timeout_while(
            lock(&self.waiting),
            Duration::from_secs(20),
            nobody,
        );
        !found.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        *lock(&self.now)
    }

    fn unix_nanos(&self) -> i64 {
        i64::try_from(self.now().as_nanos()).unwrap_or(i64::MAX)
    }

    fn wait(&self, bell: &Arc<Bell>, seen: u64, until: Option<Duration>) {
        // Registered first: an `advance` from here on rings this bell.
        lock(&self.waiting).push((Arc::downgrade(bell), until));
        self.registered.notify_all();
        if until.is_some_and(|until| self.now() >= until) {
            return;
        }
        bell.wait(seen, None);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_ring_between_reading_and_waiting_is_not_lost() {
        let bell = Arc::new(Bell::default());
        let seen = bell.count();
        bell.ring();
        SystemClock::default().wait(&bell, seen, None);
        ManualClock::default().wait(&bell, seen, None);
    }

    #[test]
    fn advancing_wakes_a_waiter() {
        let clock = Arc::new(ManualClock::default());
        let bell = Arc::new(Bell::default());
        let waiter = {
            let (clock, bell) = (clock.clone(), bell.clone());
            std::thread::spawn(move || {
                let until = Duration::from_secs(5);
                while clock.now() < until {
                    let seen = bell.count();
                    clock.wait(&bell, seen, Some(until));
                }
            })
        };
        clock.advance(Duration::from_secs(5));
        waiter.join().unwrap();
    }
}
