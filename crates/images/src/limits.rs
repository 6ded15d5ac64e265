//! Bounds on hostile input, and who is told how a load gets on.

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
