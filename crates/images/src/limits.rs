//! Bounds on hostile input, and who is told how a load gets on.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bounds on what an archive may hold. What exceeds one is refused with a sentence that names it.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of an archive that is spooled: one read from a stream, or a compressed one unpacked.
    pub archive_bytes: u64,
    /// Bytes of all layers of one image, decompressed; holes of sparse files count.
    pub image_bytes: u64,
    /// Bytes that a compressed layer may grow to whatever its ratio.
    pub free_growth_bytes: u64,
    /// Beyond `free_growth_bytes`: decompressed bytes for each compressed one.
    pub ratio: u64,
    /// Files, directories and links of all layers of one image.
    pub entries: u64,
    /// Bytes of the names of all directories of one layer, which are kept while it is unpacked.
    pub directory_name_bytes: usize,
    /// Bytes of one path; Linux takes no more than 4095.
    pub path_bytes: usize,
    /// Layers of one image. overlayfs takes 500, and docker 127.
    pub layers: usize,
    /// Bytes of one manifest, index or configuration.
    pub json_bytes: u64,
    /// Members of the outer archive, and images in it.
    pub members: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            archive_bytes: 64 << 30,
            image_bytes: 64 << 30,
            free_growth_bytes: 1 << 30,
            ratio: 100,
            entries: 4_000_000,
            directory_name_bytes: 256 << 20,
            path_bytes: 4095,
            layers: 127,
            json_bytes: 8 << 20,
            members: 100_000,
        }
    }
}

/// What is left of the bounds on one image, shared by those who unpack its layers.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes: AtomicU64,
    entries: AtomicU64,
}

impl Budget {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            bytes: limits.image_bytes.into(),
            entries: limits.entries.into(),
        }
    }

    /// Takes bytes and entries, or says which bound is reached.
    pub(crate) fn spend(&self, bytes: u64, entries: u64, limits: &Limits) -> Result<(), String> {
        let take = |from: &AtomicU64, by: u64| {
            let taken = from.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(by));
            taken.is_ok()
        };
        if !take(&self.entries, entries) {
            return Err(format!("the image has more than {} entries", limits.entries));
        }
        if !take(&self.bytes, bytes) {
            return Err(format!("the image has more than {} bytes", limits.image_bytes));
        }
        Ok(())
    }

    /// Undoes what was spent on a layer that is unpacked again.
    pub(crate) fn give_back(&self, (bytes, entries): (u64, u64)) {
        self.bytes.fetch_add(bytes, Relaxed);
        self.entries.fetch_add(entries, Relaxed);
    }
}

/// Where a load is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// Copying a stream, or decompressing an archive, into the store's temporary files.
    Spool,
    /// Unpacking and verifying layer `number` of `count`.
    Layer {
        /// From 1.
        number: usize,
        /// Of the image.
        count: usize,
    },
    /// Syncing and recording.
    Commit,
}

/// Is told how a load gets on. Called often: draw no more than you want to.
pub trait Progress {
    /// `done` bytes of `total` (where that is known) of `stage` are read.
    fn progress(&self, stage: &Stage, done: u64, total: Option<u64>);
}

/// Tells nobody.
impl Progress for () {
    fn progress(&self, _: &Stage, _: u64, _: Option<u64>) {}
}
