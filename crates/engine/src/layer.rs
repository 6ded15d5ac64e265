//! How much a directory holds: writable layers and images, counted now and then.

use cofferdam_host::ids;
use cofferdam_model::cri::FsUsage;
use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a count holds.
const FRESH: Duration = Duration::from_secs(10);
/// Most entries that are counted of one directory.
const MAX_ENTRIES: u64 = 2_000_000;
/// Most counts that are kept.
const MAX_COUNTS: usize = 4096;

/// Counts that were made before.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    recent: Mutex<HashMap<PathBuf, (Instant, FsUsage)>>,
    /// Of what never changes.
    settled: Mutex<HashMap<PathBuf, FsUsage>>,
}

impl Counts {
    /// What is in `dir`, as it was at most [`FRESH`] ago. A directory that is gone holds nothing.
    pub(crate) fn recent(&self, dir: &Path) -> FsUsage {
        let now = Instant::now();
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, usage)) = recent.get(dir).filter(|(at, _)| now.duration_since(*at) < FRESH) {
            let _ = at;
            return usage.clone();
        }
        recent.retain(|_, (at, _)| now.duration_since(*at) < FRESH);
        drop(recent);
        let usage = count(dir);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() < MAX_COUNTS {
            recent.insert(dir.to_owned(), (Instant::now(), usage.clone()));
        }
        usage
    }

    /// What is in `root`, whose directory `layers` has entries that never change once they are there.
    pub(crate) fn images(&self, root: &Path) -> FsUsage {
        let mut all = FsUsage { at: ids::now_nanos(), mountpoint: root.to_owned(), ..FsUsage::default() };
        let mut add = |usage: FsUsage| {
            all.used_bytes += usage.used_bytes;
            all.inodes_used += usage.inodes_used;
        };
        for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
            if entry.file_name() != "layers" {
                add(count(&entry.path()));
                continue;
            }
            let layers: Vec<PathBuf> = std::fs::read_dir(entry.path()).into_iter().flatten().flatten().map(|e| e.path()).collect();
            let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner).clone();
            settled.retain(|path, _| layers.contains(path));
            for layer in layers {
                let usage = settled.entry(layer.clone()).or_insert_with(|| count(&layer));
                add(usage.clone());
            }
            *self.settled.lock().unwrap_or_else(PoisonError::into_inner) = settled;
        }
        all
    }
}

/// Counts a tree on one file system: no link is followed, and a file with many names counts once.
fn count(dir: &Path) -> FsUsage {
    let mut usage = FsUsage { at: ids::now_nanos(), mountpoint: dir.to_owned(), ..FsUsage::default() };
    let Ok(top) = std::fs::symlink_metadata(dir) else { return usage };
    let mut seen = HashSet::new();
    let mut add = |meta: &std::fs::Metadata| {
        if meta.nlink() > 1 && !meta.is_dir() && !seen.insert(meta.ino()) {
            return;
        }
        usage.used_bytes = usage.used_bytes.saturating_add(meta.blocks().saturating_mul(512));
        usage.inodes_used += 1;
    };
    add(&top);
    let mut left = if top.is_dir() { vec![dir.to_owned()] } else { vec![] };
    let mut entries = 0;
    while let Some(dir) = left.pop() {
        // What goes while it is counted is not counted.
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            entries += 1;
            if entries > MAX_ENTRIES {
                return usage;
            }
            let Ok(meta) = entry.metadata() else { continue };
            if meta.dev() != top.dev() {
                continue;
            }
            add(&meta);
            if meta.is_dir() {
                left.push(entry.path());
            }
        }
    }
    usage
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_tree_is_counted_once_in_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let layer = dir.path().join("layers/a");
        std::fs::create_dir_all(&layer).unwrap();
        std::fs::write(layer.join("f"), vec![1; 100_000]).unwrap();
        std::fs::hard_link(layer.join("f"), layer.join("g")).unwrap();
        std::os::unix::fs::symlink("/usr", layer.join("out")).unwrap();
        let counts = Counts::default();
        let found = counts.recent(&layer);
        assert_eq!(found.inodes_used, 3, "the directory, one file, one link");
        assert!((100_000..200_000).contains(&found.used_bytes), "{found:?}");
        std::fs::write(layer.join("h"), "x").unwrap();
        assert_eq!(counts.recent(&layer).inodes_used, 3, "not each time");
        std::fs::write(dir.path().join("names.json"), "{}").unwrap();
        let all = counts.images(dir.path());
        assert_eq!(all.inodes_used, 5);
        assert_eq!(counts.recent(&dir.path().join("none")).inodes_used, 0);
    }
}
