//! What the targets have in common.

use std::fs;
use std::path::{Path, PathBuf};

/// An error or warning is one line that can be printed.
pub fn one_line(told: impl ToString) {
    let told = told.to_string();
    assert!(!told.trim().is_empty() && !told.chars().any(char::is_control), "{told:?}");
}

/// A fresh folder below `target`, with a file in it that nobody may touch.
#[derive(Debug)]
pub struct Room(PathBuf);

/// Name and content of that file.
const CANARY: &str = "canary";

impl Room {
    /// An empty one for this process.
    pub fn new(target: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../target/fuzz/{target}-{}", std::process::id()));
        // What an earlier input left, which was whole when it was checked.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join(CANARY), CANARY).unwrap();
        Self(path)
    }

    /// What is being tried works in here.
    pub fn inside(&self) -> PathBuf {
        self.0.join("inside")
    }

    /// Nothing was made or changed beside [`Room::inside`].
    pub fn check(&self) {
        use std::os::unix::fs::MetadataExt;
        for name in names(&self.0) {
            assert!(name == "inside" || name == CANARY, "{name:?} was made outside");
        }
        let canary = self.0.join(CANARY);
        let meta = fs::symlink_metadata(&canary).unwrap();
        assert!(
            meta.is_file() && meta.nlink() == 1 && meta.uid() == fs::metadata(&self.0).unwrap().uid(),
            "{meta:?}"
        );
        assert_eq!(fs::read_to_string(&canary).unwrap(), CANARY);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Names in a folder.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}

/// What an input that failed has left in a store of images: nothing.
pub fn store_is_empty(store: &Path) {
    for folder in ["layers", "l", "images", "tmp", "blobs/sha256"] {
        let left = names(&store.join(folder));
        assert!(left.is_empty(), "{folder} has {left:?}");
    }
}

/// Bounds under which an input of a few kilobytes cannot take long.
pub fn small_limits() -> cofferdam_images::Limits {
    cofferdam_images::Limits {
        archive_bytes: 4 << 20,
        image_bytes: 1 << 20,
        free_growth_bytes: 1 << 20,
        entries: 200,
        directory_name_bytes: 4096,
        ..cofferdam_images::Limits::default()
    }
}

/// Gives every tar header its checksum: what fuzzers change would be refused for that alone.
pub fn mend_tar(data: &mut [u8]) {
    for header in data.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}
