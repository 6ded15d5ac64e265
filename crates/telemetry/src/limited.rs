//! A function of somebody else's that may hang.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::lock;

/// What runs aside asks and formats, no more.
const STACK: usize = 256 * 1024;

/// Runs a function in a thread of its own and waits for a bounded time. However often it is asked, at most one run is
/// under way; who asks meanwhile shares its answer.
pub(crate) struct Limited<T> {
    run: Arc<dyn Fn() -> T + Send + Sync>,
    limit: Duration,
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    done: Condvar,
}

struct State<T> {
    /// When the run under way began.
    running: Option<Instant>,
    /// Runs that ended.
    runs: u64,
    last: Option<T>,
}

/// Ends a run even where the function panics, so that the next can begin.
struct Running<T> {
    shared: Arc<Shared<T>>,
    answer: Option<T>,
}

impl<T> Running<T> {
    fn end(mut self, answer: T) {
        self.answer = Some(answer);
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.running = None;
        state.runs += 1;
        state.last = self.answer.take();
        self.shared.done.notify_all();
    }
}

impl<T: Clone + Send + 'static> Limited<T> {
    pub(crate) fn new(limit: Duration, run: impl Fn() -> T + Send + Sync + 'static) -> Self {
        let state = Mutex::new(State {
            running: None,
            runs: 0,
            last: None,
        });
        Self {
            run: Arc::new(run),
            limit,
            shared: Arc::new(Shared {
                state,
                done: Condvar::new(),
            }),
        }
    }

    /// Begins a run unless one is under way; gives what `wait` needs.
    pub(crate) fn begin(&self) -> u64 {
        let mut state = lock(&self.shared.state);
        let before = state.runs;
        if state.running.is_some() {
            return before;
        }
        state.running = Some(Instant::now());
        drop(state);
        let (run, running) = (
            self.run.clone(),
            Running {
                shared: self.shared.clone(),
                answer: None,
            },
        );
        // Without a thread the closure is dropped, which ends the run without an answer.
        let _ = crate::spawn("check", STACK, move || running.end(run()));
        before
    }

    /// The answer of the run that was under way at `begin`, or why there is none.
    pub(crate) fn wait(&self, before: u64) -> Result<T, String> {
        let asked = Instant::now();
        let mut state = lock(&self.shared.state);
        while state.runs == before {
            let began = state.running.unwrap_or(asked);
            let left = self.limit.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Err(format!(
                    "it has not answered for {:.1} s, its limit is {:.1} s",
                    began.elapsed().as_secs_f32(),
                    self.limit.as_secs_f32()
                ));
            }
            state = self.shared.done.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.last.clone().ok_or_else(|| "it could not be run".to_owned())
    }
}
