//! What could not be cleaned up is tried again, until nothing of it is left; and memory is given back.

use crate::core::Core;
use cofferdam_model::PodId;
use cofferdam_telemetry::attribute::SANDBOX;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often it is looked for failed clean-ups, and how soon one is tried again first.
const EVERY: Duration = Duration::from_secs(10);
/// How many times of those between two times that memory is given back which nobody uses.
const GIVE_BACK: u32 = 6;
/// The longest time between two tries.
const LONGEST: Duration = Duration::from_secs(300);
/// Stack of the thread, bytes.
const STACK: usize = 1 << 20;

/// When failed clean-ups are due: each round that mends nothing doubles the wait, and a new one begins anew.
#[derive(Debug)]
struct Rounds {
    failed: BTreeSet<PodId>,
    wait: Duration,
    next: Instant,
}

impl Rounds {
    fn new(now: Instant) -> Self {
        Self {
            failed: BTreeSet::new(),
            wait: EVERY,
            next: now,
        }
    }

    /// Whether these are to be tried again now.
    fn due(&mut self, failed: BTreeSet<PodId>, now: Instant) -> bool {
        if !failed.is_subset(&self.failed) {
            self.wait = EVERY;
            self.next = now;
        }
        self.failed = failed;
        !self.failed.is_empty() && now >= self.next
    }

    /// A round is over, and these are left.
    fn over(&mut self, left: BTreeSet<PodId>, now: Instant) {
        self.next = now + self.wait;
        self.wait = if left.len() < self.failed.len() {
            EVERY
        } else {
            (self.wait * 2).min(LONGEST)
        };
        self.failed = left;
    }
}

/// Tries again, by a thread of its own, for as long as `core` lives.
pub(crate) fn retry(core: &Arc<Core>) -> std::io::Result<()> {
    let weak = Arc::downgrade(core);
    let work = move || {
        let mut rounds = Rounds::new(Instant::now());
        for time in 1_u32.. {
            std::thread::sleep(EVERY);
            let Some(core) = weak.upgrade() else { return };
            if time.is_multiple_of(GIVE_BACK) {
                cofferdam_host::memory::give_back();
            }
            let failed = core.engine.failed_cleanups().into_iter().map(|(id, _)| id).collect();
            if rounds.due(failed, Instant::now()) {
                let left = round(&core);
                rounds.over(left, Instant::now());
            }
        }
    };
    std::thread::Builder::new()
        .name("clean-ups".into())
        .stack_size(STACK)
        .spawn(work)
        .map(drop)
}

/// Tries all once; those that failed again. A round is a span, and each pod an event of it.
fn round(core: &Core) -> BTreeSet<PodId> {
    let log = core.telemetry.log();
    let mut span = core.telemetry.work("clean-up");
    let mut left = BTreeSet::new();
    let outcomes = core.engine.retry_cleanups();
    span.count("cofferdam.cleanups.tried", outcomes.len());
    for (id, outcome) in outcomes {
        let pod = ("sandbox", id.as_str());
        match outcome {
            Ok(()) => {
                log.info("what was left of a pod is cleaned up", &[pod]);
                span.event("cleaned up", &[(SANDBOX, id.as_str())]);
            }
            Err(why) => {
                let why = why.to_string();
                log.warn(
                    "what is left of a pod cannot be cleaned up; it is tried again",
                    &[pod, ("error", &why)],
                );
                span.event("failed", &[(SANDBOX, id.as_str()), ("error.message", &why)]);
                left.insert(id);
            }
        }
    }
    span.count("cofferdam.cleanups.failed", left.len());
    span.end(if left.is_empty() {
        Ok(())
    } else {
        Err("not everything could be cleaned up; it is tried again")
    });
    left
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pods(ids: &[&str]) -> BTreeSet<PodId> {
        ids.iter().map(|id| PodId::new(id.repeat(32)).unwrap()).collect()
    }

    #[test]
    fn a_clean_up_is_tried_at_once_then_ever_later_and_a_new_one_at_once() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut rounds = Rounds::new(start);
        assert!(!rounds.due(pods(&[]), at(0)));
        // Tried at 10, 20, 40, 80 seconds.
        let mut tried = Vec::new();
        for second in (10..=100).step_by(10) {
            if rounds.due(pods(&["a"]), at(second)) {
                tried.push(second);
                rounds.over(pods(&["a"]), at(second));
            }
        }
        assert_eq!(tried, [10, 20, 40, 80]);
        assert!(rounds.due(pods(&["a", "b"]), at(110)));
        // One of two is done: the other is not to wait for long.
        rounds.over(pods(&["a"]), at(110));
        assert!(!rounds.due(pods(&["a"]), at(115)));
        assert!(rounds.due(pods(&["a"]), at(120)));
        for _ in 0..20 {
            rounds.over(pods(&["a"]), at(130));
        }
        assert!(rounds.wait <= LONGEST);
        assert!(!rounds.due(pods(&[]), at(10_000)), "nothing is left");
    }
}
