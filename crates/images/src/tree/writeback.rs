//! Lets the disk write while files still grow. Everything is synced before an image is recorded; what
//! the disk has by then need not be waited for.

use rustix::fs::Advice;
use std::fs::File;
use std::num::NonZeroU64;

/// Bytes after which the disk is given work.
const STEP: u64 = 4 << 20;
/// Smaller files are left to the final sync: a call for each costs more than it gains.
pub(crate) const WORTH: u64 = 128 << 10;

/// How far a growing file has been given to the disk.
pub(crate) struct Writeback {
    begun: u64,
}

impl Writeback {
    pub(crate) fn new(from: u64) -> Self {
        Self { begun: from }
    }

    /// Begins to write what is there, where that is much. `done` is the file's length.
    pub(crate) fn begin(&mut self, file: &File, done: u64) {
        if done.saturating_sub(self.begun) >= STEP {
            begin(file, self.begun, done - self.begun);
            self.begun = done;
        }
    }
}

/// Begins to write a part of a file. Linux does so for pages that are said to be needed no more, and
/// keeps them until they are written (`mm/fadvise.c`); that they are not needed is true enough.
pub(crate) fn begin(file: &File, from: u64, length: u64) {
    // Only a hint: the sync at the end counts.
    let _ = rustix::fs::fadvise(file, from, NonZeroU64::new(length), Advice::DontNeed);
}
