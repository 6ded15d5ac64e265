//! How the rest of the node speaks to a pod's worker: a mailbox, and a stop that may be hurried.

use crate::clock::{Bell, Clock, lock};
use cofferdam_model::ContainerId;
use cofferdam_model::cri::Runtime;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// A container ended with this code.
    Exited(ContainerId, i32),
    /// The sandbox died, and why.
    SandboxDied(String),
    /// The postStart hook of this container ended; an error is one sentence.
    HookDone(ContainerId, Result<(), String>),
}

#[derive(Debug, Default)]
struct Inner {
    mail: VecDeque<Message>,
    /// A stop was asked for; with its grace, where one was given.
    stop: Option<Option<Duration>>,
    /// Set while the pod's containers are being ended: when the patience ends, and who still runs.
    until: Option<Duration>,
    live: Vec<ContainerId>,
    closed: bool,
}

/// One worker's mailbox.
#[derive(Debug, Default)]
pub(crate) struct Control {
    inner: Mutex<Inner>,
    pub(crate) bell: Arc<Bell>,
}

impl Control {
    pub(crate) fn send(&self, message: Message) {
        lock(&self.inner).mail.push_back(message);
        self.bell.ring();
    }

    pub(crate) fn take(&self) -> Option<Message> {
        lock(&self.inner).mail.pop_front()
    }

    /// Asks for the pod's end. Where it is being ended already, a shorter grace takes effect at once.
    pub(crate) fn stop(&self, grace: Option<Duration>, clock: &dyn Clock, runtime: &dyn Runtime) {
        let mut inner = lock(&self.inner);
        inner.stop = Some(match (inner.stop.flatten(), grace) {
            (Some(old), Some(new)) => Some(old.min(new)),
            (old, new) => new.or(old),
        });
        let sooner = grace.map(|grace| (grace, clock.now() + grace));
        let mut live = Vec::new();
        if let (Some((_, sooner)), Some(until)) = (sooner, inner.until)
            && sooner < until
        {
            inner.until = Some(sooner);
            live.clone_from(&inner.live);
        }
        drop(inner);
        self.bell.ring();
        for container in live {
            // The worker's own call reports what goes wrong; this one only makes it end sooner.
            let _ = runtime.stop_container(&container, grace.unwrap_or_default());
        }
    }

    pub(crate) fn stop_asked(&self) -> Option<Option<Duration>> {
        lock(&self.inner).stop
    }

    /// From now on [`Self::stop`] hurries those in `live`.
    pub(crate) fn begin_end(&self, until: Duration, live: Vec<ContainerId>) {
        let mut inner = lock(&self.inner);
        inner.until = Some(until);
        inner.live = live;
    }

    /// When the patience ends.
    pub(crate) fn until(&self) -> Duration {
        lock(&self.inner).until.unwrap_or_default()
    }

    /// This container has ended: nobody hurries it any more.
    pub(crate) fn gone(&self, container: &ContainerId) {
        lock(&self.inner).live.retain(|id| id != container);
        self.bell.ring();
    }

    pub(crate) fn close(&self) {
        lock(&self.inner).closed = true;
        self.bell.ring();
    }

    pub(crate) fn closed(&self) -> bool {
        lock(&self.inner).closed
    }
}

/// Lets so many pods start at once, in the order of their tickets.
#[derive(Debug)]
pub(crate) struct Gate {
    most: usize,
    /// The next ticket to be let in, and how many are inside.
    state: Mutex<(usize, usize)>,
    moved: Condvar,
}

impl Gate {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            state: Mutex::new((0, 0)),
            moved: Condvar::new(),
        }
    }

    pub(crate) fn enter(self: &Arc<Self>, ticket: usize) -> Permit {
        let wait = |state: &mut (usize, usize)| state.0 != ticket || state.1 >= self.most;
        let mut state = self
            .moved
            .wait_while(lock(&self.state), wait)
            .unwrap_or_else(PoisonError::into_inner);
        *state = (ticket + 1, state.1 + 1);
        self.moved.notify_all();
        Permit(self.clone())
    }

    /// Lets nobody in with this ticket: its holder could not come.
    pub(crate) fn skip(self: &Arc<Self>, ticket: usize) {
        drop(self.enter(ticket));
    }
}

/// The right to start; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Gate>);

impl Drop for Permit {
    fn drop(&mut self) {
        lock(&self.0.state).1 -= 1;
        self.0.moved.notify_all();
    }
}
