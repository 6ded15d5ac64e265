//! What is being done, on a terminal and where it takes longer than a moment.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Nothing is shown sooner.
const SILENCE: Duration = Duration::from_secs(1);

/// A moving line on standard error.
#[derive(Debug)]
pub(super) struct Progress {
    begun: Instant,
    /// `None` where standard error is no terminal.
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(super) fn new() -> Self {
        let hidden = || ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        Self {
            begun: Instant::now(),
            bar: std::io::stderr().is_terminal().then(hidden),
        }
    }

    /// This is done now. Call it often: it costs nothing where nothing is shown.
    pub(super) fn about(&self, what: impl FnOnce() -> String) {
        let Some(bar) = self.bar.as_ref().filter(|_| self.begun.elapsed() >= SILENCE) else {
            return;
        };
        if bar.is_hidden() {
            bar.set_style(ProgressStyle::default_spinner());
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        bar.set_message(what());
        bar.tick();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
