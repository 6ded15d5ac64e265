//! Verbs and the coming of plugins do not mix: a plugin learns of each pod either from the snapshot or
//! by an event, not by neither (upstream's `BlockPluginSync`).

use crate::connection::lock;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<Verbs>,
    changed: Condvar,
}

#[derive(Default)]
struct Verbs {
    running: usize,
    /// A plugin comes or wants to: new verbs wait.
    shut: bool,
}

impl Gate {
    /// For the time of a verb. Waits while a plugin is told the state.
    pub(crate) fn enter(&self) {
        let state = lock(&self.state);
        let mut state = self
            .changed
            .wait_while(state, |verbs| verbs.shut)
            .unwrap_or_else(PoisonError::into_inner);
        state.running += 1;
    }

    pub(crate) fn leave(&self) {
        let mut state = lock(&self.state);
        state.running = state.running.saturating_sub(1);
        // Nobody waits otherwise, and waking nobody is a system call too.
        if state.shut {
            self.changed.notify_all();
        }
    }

    /// For the time that a plugin is told the state: waits for verbs to end, at most `timeout`; whether
    /// they did. Where so, [`Gate::open`] follows.
    pub(crate) fn shut(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let state = lock(&self.state);
        // Another plugin first.
        let mut state = self
            .changed
            .wait_while(state, |verbs| verbs.shut)
            .unwrap_or_else(PoisonError::into_inner);
        state.shut = true;
        let left = deadline.saturating_duration_since(Instant::now());
        let (mut state, _) = self
            .changed
            .wait_timeout_while(state, left, |verbs| verbs.running > 0)
            .unwrap_or_else(PoisonError::into_inner);
        if state.running > 0 {
            state.shut = false;
            self.changed.notify_all();
            return false;
        }
        true
    }

    pub(crate) fn open(&self) {
        lock(&self.state).shut = false;
        self.changed.notify_all();
    }
}

/// A verb that runs: as long as it is held, no plugin is told the state. See [`Nri::hold`](crate::Nri::hold).
#[must_use]
pub struct Hold<'a>(pub(crate) &'a Gate);

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}
