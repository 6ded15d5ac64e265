//! How much a directory holds: writable layers and images, counted now and then.

use cofferdam_host::ids;
use cofferdam_model::cri::FsUsage;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a count holds.
const FRESH: Duration = Duration::from_secs(10);
/// Most entries that are counted of one directory.
const MAX_ENTRIES: u64 = 2_000_000;
/// Most directories that are open while one is counted; what is in more than so many is not counted.
const MAX_OPEN: usize = 4096;
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

/// Counts a tree on one file system: no link is followed, and a file with many names counts once. Each directory
/// is opened from the one that it is in: a container may make paths longer than the kernel takes, and may put a
/// link in the place of what was looked at.
fn count(dir: &Path) -> FsUsage {
    let mut usage = FsUsage { at: ids::now_nanos(), mountpoint: dir.to_owned(), ..FsUsage::default() };
    let Ok(top) = rustix::fs::lstat(dir) else { return usage };
    let is_dir = |stat: &Stat| FileType::from_raw_mode(stat.st_mode).is_dir();
    let mut seen = HashSet::new();
    let mut add = |stat: &Stat| {
        if stat.st_nlink > 1 && !is_dir(stat) && !seen.insert(stat.st_ino) {
            return;
        }
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
        usage.used_bytes = usage.used_bytes.saturating_add(blocks.saturating_mul(512));
        usage.inodes_used += 1;
    };
    add(&top);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut next = rustix::fs::open(dir, flags, Mode::empty()).ok();
    // Directories to be opened, with what they are in.
    let mut left: Vec<(Rc<OwnedFd>, CString)> = Vec::new();
    let (mut entries, mut held) = (0, 0);
    loop {
        if let Some(folder) = next.take().map(Rc::new) {
            // What goes while it is counted is not counted.
            for entry in Dir::read_from(&folder).into_iter().flatten().flatten() {
                let name = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                entries += 1;
                if entries > MAX_ENTRIES {
                    return usage;
                }
                let Ok(stat) = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
                if stat.st_dev != top.st_dev {
                    continue;
                }
                add(&stat);
                if is_dir(&stat) && held < MAX_OPEN {
                    left.push((folder.clone(), name.to_owned()));
                }
            }
            held += usize::from(Rc::strong_count(&folder) > 1);
        }
        let Some((parent, name)) = left.pop() else { return usage };
        next = rustix::fs::openat(&parent, &name, flags, Mode::empty()).ok();
        held -= usize::from(Rc::strong_count(&parent) == 1);
    }
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

    #[test]
    fn what_lies_deeper_than_a_path_may_be_long_is_counted_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        std::fs::write(other.path().join("theirs"), vec![1; 1 << 20]).unwrap();
        std::os::unix::fs::symlink(other.path(), dir.path().join("link")).unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut at = rustix::fs::open(dir.path(), flags, Mode::empty()).unwrap();
        let name = "d".repeat(200);
        for _ in 0..30 {
            rustix::fs::mkdirat(&at, name.as_str(), Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, name.as_str(), flags, Mode::empty()).unwrap();
        }
        let file = rustix::fs::openat(&at, "hidden", OFlags::WRONLY | OFlags::CREATE, Mode::RUSR).unwrap();
        std::io::Write::write_all(&mut std::fs::File::from(file), &vec![1; 256 << 10]).unwrap();
        let found = count(dir.path());
        assert_eq!(found.inodes_used, 1 + 1 + 30 + 1);
        assert!((256 << 10..1 << 20).contains(&found.used_bytes), "{found:?}");
    }
}
