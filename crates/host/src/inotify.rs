//! Waiting for files to change. Directories are watched rather than files: editors and package
//! managers replace a file by a rename, and a watch of the file would stay with the old one.

use crate::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Watches directories.
#[derive(Debug)]
pub struct Watcher {
    fd: OwnedFd,
    directories: BTreeMap<i32, PathBuf>,
}

impl Watcher {
    /// A watcher of nothing yet.
    pub fn new() -> Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(Error::system("watch files"))?;
        Ok(Self {
            fd,
            directories: BTreeMap::new(),
        })
    }

    /// Watches the entries of `directory`: written and closed, renamed in or out, made or removed.
    pub fn watch(&mut self, directory: impl AsRef<Path>) -> Result<()> {
        let directory = directory.as_ref();
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let watch = inotify::add_watch(&self.fd, directory, flags)
            .map_err(Error::path("watch", directory))?;
        self.directories.insert(watch, directory.to_owned());
        Ok(())
    }

    /// Waits at most `timeout` (`None`: for ever) and returns what changed, each path once; empty
    /// where nothing did. A watched directory that went, or changes too many to be told, give the
    /// directory itself: read all of it again, and watch it again where it went.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Vec<PathBuf>> {
        let limit = timeout.map(|t| Timespec {
            tv_sec: t.as_secs() as i64,
            tv_nsec: t.subsec_nanos().into(),
        });
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        match rustix::event::poll(&mut fds, limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => self.take(),
            Err(e) => Err(Error::system("wait for files to change")(e)),
        }
    }

    fn take(&mut self) -> Result<Vec<PathBuf>> {
        let mut changed = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.fd, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => continue,
                Err(e) => return Err(Error::system("read what files changed")(e)),
            };
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                changed.extend(self.directories.values().cloned());
                continue;
            }
            let Some(directory) = self.directories.get(&event.wd()) else {
                continue;
            };
            changed.push(match event.file_name() {
                Some(name) => directory.join(OsStr::from_bytes(name.to_bytes())),
                None => directory.clone(),
            });
            if event.events().contains(ReadFlags::IGNORED) {
                self.directories.remove(&event.wd());
            }
        }
        changed.sort();
        changed.dedup();
        Ok(changed)
    }
}

impl AsFd for Watcher {
    /// Readable once something changed, for a caller's own poll.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::files;

    #[test]
    fn changes_are_told_by_path() {
        let dir = tempfile::tempdir().unwrap();
        let watched = dir.path().join("conf.d");
        std::fs::create_dir(&watched).unwrap();
        let mut watcher = Watcher::new().unwrap();
        watcher.watch(&watched).unwrap();
        assert!(
            watcher
                .wait(Some(Duration::from_millis(1)))
                .unwrap()
                .is_empty()
        );

        let file = watched.join("10-kata.toml");
        files::atomic_write(&file, b"x", files::Durability::Cached).unwrap();
        assert!(
            watcher
                .wait(Some(Duration::from_secs(10)))
                .unwrap()
                .contains(&file)
        );
        std::fs::remove_file(&file).unwrap();
        assert_eq!(watcher.wait(Some(Duration::from_secs(10))).unwrap(), [file]);
        std::fs::remove_dir(&watched).unwrap();
        assert_eq!(
            watcher.wait(Some(Duration::from_secs(10))).unwrap(),
            [watched]
        );
        assert!(watcher.watch(dir.path().join("none")).is_err());
    }
}
