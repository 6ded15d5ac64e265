//! Threads that exist while there is work for them: a node without probes and pulls has none.

use crate::clock::lock;
use crate::node::STACK;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How long a thread stays that has nothing to do.
const IDLE: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

/// Threads that share one queue.
pub(crate) struct Pool {
    name: &'static str,
    most: usize,
    state: Mutex<State>,
    came: Condvar,
}

impl Pool {
    /// At most `most` threads.
    pub(crate) fn new(name: &'static str, most: usize) -> Arc<Self> {
        Arc::new(Self {
            name,
            most,
            state: Mutex::default(),
            came: Condvar::new(),
        })
    }

    /// Has `job` done by one of the threads. Fails where there is none and none can be made.
    pub(crate) fn run(self: &Arc<Self>, job: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.jobs.push_back(Box::new(job));
        if state.idle >= state.jobs.len() || state.threads >= self.most {
            self.came.notify_one();
            return Ok(());
        }
        state.threads += 1;
        drop(state);
        let pool = Seat(self.clone());
        let spawned = std::thread::Builder::new()
            .name(self.name.into())
            .stack_size(STACK)
            .spawn(move || pool.work());
        match spawned {
            Err(err) if lock(&self.state).threads == 0 => {
                lock(&self.state).jobs.pop_back();
                Err(err)
            }
            // The threads that there are come to it.
            _ => Ok(()),
        }
    }
}

/// A thread's place in its pool, given back when dropped, whatever ended the thread.
struct Seat(Arc<Pool>);

impl Seat {
    fn work(&self) {
        let pool = &*self.0;
        let mut state = lock(&pool.state);
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                job();
                state = lock(&pool.state);
                continue;
            }
            state.idle += 1;
            let waited = pool.came.wait_timeout_while(state, IDLE, |state| state.jobs.is_empty());
            let (after, late) = waited.unwrap_or_else(PoisonError::into_inner);
            state = after;
            state.idle -= 1;
            if late.timed_out() && state.jobs.is_empty() {
                return;
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.0.state).threads -= 1;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn every_job_is_done_by_few_threads_and_a_panic_ends_only_its_own() {
        let pool = Pool::new("test", 2);
        let (sender, done) = channel();
        for n in 0..20 {
            let sender = sender.clone();
            pool.run(move || {
                assert!(n != 3, "on purpose");
                sender.send((n, std::thread::current().id())).unwrap();
            })
            .unwrap();
        }
        drop(sender);
        let mut said: Vec<_> = done.iter().collect();
        let mut threads: Vec<_> = said.iter().map(|(_, thread)| format!("{thread:?}")).collect();
        threads.sort();
        threads.dedup();
        // The one that panicked may have been replaced.
        assert!(threads.len() <= 3, "{threads:?}");
        said.sort_by_key(|(n, _)| *n);
        assert_eq!(said.len(), 19);
        assert!(lock(&pool.state).threads <= 2);
    }
}
