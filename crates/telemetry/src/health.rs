//! Health: named checks, each with a time limit.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::limited::Limited;
use crate::{cut, lock};

/// Longest sentence of a check, in bytes.
const MOST_SENTENCE: usize = 1024;

type Answer = Result<(), String>;

/// The checks, and whether the daemon is past its start.
#[derive(Default)]
pub(crate) struct Health {
    checks: Mutex<Vec<Arc<Check>>>,
    ready: AtomicBool,
}

struct Check {
    name: String,
    /// Asked by `/readyz` only.
    for_ready: bool,
    run: Limited<Answer>,
}

impl Health {
    pub(crate) fn add(&self, name: &str, for_ready: bool, limit: Duration, check: impl Fn() -> Answer + Send + Sync + 'static) {
        let check = Check {
            name: name.to_owned(),
            for_ready,
            run: Limited::new(limit, check),
        };
        lock(&self.checks).push(Arc::new(check));
    }

    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// One line a failing check, empty where all is well. The checks run side by side.
    pub(crate) fn failing(&self, for_ready: bool) -> String {
        let checks: Vec<Arc<Check>> = lock(&self.checks)
            .iter()
            .filter(|check| for_ready || !check.for_ready)
            .cloned()
            .collect();
        let begun: Vec<u64> = checks.iter().map(|check| check.run.begin()).collect();
        let mut out = String::new();
        if for_ready && !self.ready.load(Ordering::Relaxed) {
            out.push_str("start: the daemon is not ready yet\n");
        }
        for (check, before) in checks.iter().zip(begun) {
            if let Err(sentence) = check.run.wait(before).and_then(|answer| answer) {
                let sentence: String = cut(&sentence, MOST_SENTENCE)
                    .chars()
                    .map(|char| if char.is_control() { ' ' } else { char })
                    .collect();
                out.push_str(&format!("{}: {sentence}\n", check.name));
            }
        }
        out
    }
}
