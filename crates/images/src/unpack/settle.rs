//! What is left to do with an unpacked layer when the layers below it are there.

use super::{Report, Why, fail, node, text};
use crate::digest::Digest;
use crate::error::Result;
use crate::tarball::Time;
use crate::tree::digest::{self, Contents};
use crate::tree::stack::{Found, Stack};
use crate::tree::{self, is_whiteout, lstat};
use rustix::fs::AtFlags;
use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// A layer whose entries are all on disk.
pub(crate) struct Unpacked {
    pub(super) root: OwnedFd,
    pub(super) implied: HashSet<Vec<u8>>,
    pub(super) whiteouts: HashSet<Vec<u8>>,
    pub(super) times: Vec<(Vec<u8>, Time)>,
    pub(super) contents: Contents,
    pub(super) report: Report,
}

impl Unpacked {
    /// Whether the layers below have a say in it.
    pub(crate) fn needs_lower(&self) -> bool {
        !self.implied.is_empty() || !self.whiteouts.is_empty()
    }

    /// Asks the layers below, sets the times of directories, and measures the tree. `layer` and
    /// `path` are what messages call layer and tree.
    pub(crate) fn settle(mut self, lower: &Stack, layer: &str, path: &Path) -> Result<(Report, Digest)> {
        for directory in std::mem::take(&mut self.implied) {
            self.inherit(lower, directory).map_err(|why| fail(layer, b"", why))?;
        }
        for whiteout in std::mem::take(&mut self.whiteouts) {
            self.whiteout(lower, &whiteout).map_err(|why| fail(layer, &whiteout, why))?;
        }
        for (directory, time) in std::mem::take(&mut self.times) {
            // What was replaced by something else since has the other's time.
            if let Ok(fd) = self.open(&directory) {
                rustix::fs::futimens(fd, &node::timestamps(time)).map_err(|e| fail(layer, &directory, text(e)))?;
            }
        }
        let digest = digest::digest(self.root.as_fd(), path, &self.contents, &|_| ())?;
        Ok((self.report, digest))
    }

    fn open(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        tree::open_real(self.root.as_fd(), path)
    }

    /// Gives a directory that no entry describes the attributes that it has in the layers below.
    fn inherit(&mut self, lower: &Stack, path: Vec<u8>) -> Result<(), Why> {
        let parts: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
        let (Ok(made), Some(Found::Dir(merged))) = (self.open(&path), lower.find(&parts).map_err(text)?) else {
            return Ok(());
        };
        let Some(below) = merged.first() else {
            return Ok(());
        };
        let stat = rustix::fs::fstat(below).map_err(text)?;
        node::copy_attributes(below.as_fd(), made.as_fd(), &stat).map_err(text)?;
        self.times
            .push((path, (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0))));
        Ok(())
    }

    /// Removes a whiteout that hides nothing: it would show in listings of directories that are not
    /// merged.
    fn whiteout(&mut self, lower: &Stack, path: &[u8]) -> Result<(), Why> {
        let parts: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
        if lower.find(&parts).map_err(text)?.is_some() {
            return Ok(());
        }
        let Some((name, above)) = parts.split_last() else {
            return Ok(());
        };
        let Ok(dir) = self.open(&above.join(&b'/')) else {
            return Ok(());
        };
        if lstat(&dir, name).map_err(text)?.is_some_and(|stat| is_whiteout(&stat)) {
            rustix::fs::unlinkat(&dir, *name, AtFlags::empty()).map_err(text)?;
        }
        Ok(())
    }
}
