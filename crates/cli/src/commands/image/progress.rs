//! Bars with bytes and rate, on a terminal only.

use crate::show;
use cofferdam_images::{Progress, PullEvent, Stage};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::cell::RefCell;
use std::io::IsTerminal;

const BYTES: &str = "{msg:12} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}";
/// Bars that fit a screen; further layers count in the last line only.
const MOST_BARS: usize = 30;

/// One bar, for what is done piece by piece.
pub(super) struct Bar(ProgressBar);

impl Bar {
    pub(super) fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        Self(styled(ProgressBar::new(0), BYTES))
    }

    /// Bytes of something whose end is not known.
    pub(super) fn seen(&self, what: &'static str, bytes: u64) {
        self.0.set_style(ProgressStyle::with_template("{msg} {bytes} {bytes_per_sec}").unwrap_or_else(|_| ProgressStyle::default_bar()));
        self.0.set_message(what);
        self.0.set_position(bytes);
    }

    pub(super) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

impl Progress for Bar {
    fn progress(&self, stage: &Stage, done: u64, total: Option<u64>) {
        self.0.set_message(match stage {
            Stage::Spool => "reading".to_owned(),
            Stage::Layer { number, count } => format!("layer {number}/{count}"),
            Stage::Commit => "writing".to_owned(),
        });
        self.0.set_length(total.unwrap_or(done));
        self.0.set_position(done);
    }
}

/// A bar a layer, and one for all of them.
pub(super) struct Layers {
    screen: Option<MultiProgress>,
    bars: RefCell<Vec<ProgressBar>>,
    /// Of each layer: bytes so far.
    done: RefCell<Vec<u64>>,
    all: ProgressBar,
}

impl Layers {
    pub(super) fn new() -> Self {
        let screen = std::io::stderr().is_terminal().then(MultiProgress::new);
        let (bars, done) = (RefCell::default(), RefCell::default());
        Self { screen, bars, done, all: ProgressBar::hidden() }
    }

    /// What a pull tells.
    pub(super) fn told(&self, event: &PullEvent) {
        let Some(screen) = &self.screen else { return };
        match event {
            PullEvent::Resolved { layers } => {
                let bar = |(digest, size): &(cofferdam_images::Digest, u64)| {
                    let bar = styled(screen.add(ProgressBar::new(*size)), BYTES);
                    bar.set_message(digest.short().to_owned());
                    bar
                };
                *self.bars.borrow_mut() = layers.iter().take(MOST_BARS).map(bar).collect();
                *self.done.borrow_mut() = vec![0; layers.len()];
                screen.add(self.all.clone());
                styled(self.all.clone(), BYTES).set_message("all layers");
                self.all.set_length(layers.iter().map(|(_, size)| size).sum());
            }
            PullEvent::Layer { index, done, .. } => {
                if let Some(bar) = self.bars.borrow().get(*index) {
                    bar.set_position(*done);
                }
                if let Some(known) = self.done.borrow_mut().get_mut(*index) {
                    *known = *done;
                }
                self.all.set_position(self.done.borrow().iter().sum());
            }
            PullEvent::LayerDone { index, reused } => {
                if let Some(bar) = self.bars.borrow().get(*index) {
                    if *reused {
                        bar.set_position(bar.length().unwrap_or(0));
                    }
                    bar.finish();
                }
            }
            PullEvent::Commit => self.all.set_message("writing"),
        }
    }

    pub(super) fn clear(&self) {
        if let Some(screen) = &self.screen
            && let Err(e) = screen.clear()
        {
            show::tell(format_args!("cofferdam: the terminal cannot be cleared: {e}"));
        }
    }
}
