//! What is being tried, told where it takes longer than a moment.

use crate::show;
use indicatif::{ProgressBar, ProgressDrawTarget};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Nothing is told sooner.
const SILENCE: Duration = Duration::from_secs(1);

/// One line on standard error: a moving one on a terminal, one a step elsewhere.
#[derive(Debug)]
pub(crate) struct Progress {
    began: Instant,
    bar: Option<ProgressBar>,
    text: String,
    told: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let bar = std::io::stderr()
            .is_terminal()
            .then(|| ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()));
        Self {
            began: Instant::now(),
            bar,
            text: String::new(),
            told: false,
        }
    }

    /// This is done from now on.
    pub(crate) fn about(&mut self, text: String) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.clone());
        }
        (self.text, self.told) = (text, false);
        self.tick();
    }

    /// Call it now and then.
    pub(crate) fn tick(&mut self) {
        if self.began.elapsed() < SILENCE {
            return;
        }
        match &self.bar {
            Some(bar) if bar.is_hidden() => {
                bar.set_style(indicatif::ProgressStyle::default_spinner());
                bar.set_draw_target(ProgressDrawTarget::stderr());
                bar.enable_steady_tick(Duration::from_millis(100));
            }
            Some(_) => {}
            None if self.told => {}
            None => {
                show::tell(format_args!("cofferdam: {}", self.text));
                self.told = true;
            }
        }
    }

    /// A line beside the moving one.
    pub(crate) fn tell(&self, line: impl std::fmt::Display) {
        match &self.bar {
            Some(bar) => bar.suspend(|| show::tell(line)),
            None => show::tell(line),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
