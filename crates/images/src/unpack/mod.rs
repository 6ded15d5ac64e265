//! Unpacks one layer into a tree that overlayfs takes as a lower directory.
//!
//! The rules are those of the OCI image specification's `layer.md`, as containerd applies them for
//! its overlay snapshotter: whiteouts become character devices 0:0, opaque markers the attribute
//! `trusted.overlay.opaque`, and directories that the layer does not describe take their attributes
//! from the layers below. Whatever a layer says, nothing outside its tree is written: each path is
//! opened by `openat2` with the tree as its root, and its last part is made with flags that follow
//! no link.

mod node;

use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::tarball::{Entry, Kind, TarReader, Time};
use crate::tree::stack::{Found, Stack};
use crate::tree::{self, OPAQUE, is_whiteout, kind, lstat};
use rustix::fs::{FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE_MARK: &[u8] = b".wh..wh..opq";
/// Links that the making of one path may lead through.
const MAX_LINKS: u32 = 40;

/// What is left of the bounds on one image.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
}

/// Why one entry was refused.
pub(crate) type Why = String;

/// What was made.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Bytes of all files, holes included.
    pub(crate) bytes: u64,
    /// Sentences about what was left out.
    pub(crate) warnings: Vec<String>,
}

/// One layer being unpacked.
pub(crate) struct Unpacker<'a> {
    root: OwnedFd,
    trash: BorrowedFd<'a>,
    lower: &'a Stack,
    limits: &'a Limits,
    budget: &'a mut Budget,
    report: Report,
    /// The directory that the last entry lay in: the next one most often does too.
    last: Option<(Vec<u8>, OwnedFd)>,
    /// Times of directories, to be set when nothing is put into them any more.
    times: Vec<(Vec<u8>, Time)>,
    times_bytes: usize,
}

impl<'a> Unpacker<'a> {
    /// Unpacks into `root`, which is empty. `trash` is an empty directory on the same file system;
    /// `lower` are the layers below.
    pub(crate) fn new(
        root: OwnedFd,
        trash: BorrowedFd<'a>,
        lower: &'a Stack,
        limits: &'a Limits,
        budget: &'a mut Budget,
    ) -> Self {
        Self {
            root,
            trash,
            lower,
            limits,
            budget,
            report: Report::default(),
            last: None,
            times: Vec::new(),
            times_bytes: 0,
        }
    }

    /// Unpacks the whole of `data`. `layer` is what messages call it.
    pub(crate) fn run(mut self, data: impl Read, layer: &str) -> Result<Report> {
        let fail = |entry: &[u8], why: Why| {
            let entry: String = String::from_utf8_lossy(entry).chars().take(300).collect();
            Error::Unpack {
                layer: layer.to_owned(),
                entry,
                why,
            }
        };
        let mut reader = TarReader::new(data);
        let mut previous = Vec::new();
        loop {
            let entry = match reader.next() {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(e) => return Err(fail(&previous, format!("at or after it: {e}"))),
            };
            self.entry(&entry, &mut reader)
                .map_err(|why| fail(&entry.path, why))?;
            previous = entry.path;
        }
        self.finish().map_err(|why| fail(b"", why))?;
        Ok(self.report)
    }

    fn entry(&mut self, entry: &Entry, data: &mut impl Read) -> Result<(), Why> {
        let spent = "the image has more than";
        self.budget.entries = self
            .budget
            .entries
            .checked_sub(1)
            .ok_or_else(|| format!("{spent} {} entries", self.limits.entries))?;
        self.budget.bytes = self
            .budget
            .bytes
            .checked_sub(entry.size)
            .ok_or_else(|| format!("{spent} {} bytes", self.limits.image_bytes))?;
        let parts = self.parts(&entry.path)?;
        let Some((base, parents)) = parts.split_last() else {
            return if entry.kind == Kind::Dir {
                self.root_entry(entry)
            } else {
                Err("only a directory can be the root".into())
            };
        };
        // aufs kept its own files under such names; they are no part of the image.
        if parts[0].starts_with(b".wh..wh.") && parts[0] != OPAQUE_MARK {
            return Ok(());
        }
        if parents.iter().any(|part| part.starts_with(WHITEOUT)) {
            return Err("a whiteout cannot be a directory".into());
        }
        let dir = self.parent(parents)?;
        if *base == OPAQUE_MARK {
            set_opaque(&dir)
        } else if let Some(name) = base.strip_prefix(WHITEOUT) {
            self.whiteout(&dir, name)
        } else {
            self.node(&dir, base, entry, data)
        }
    }

    /// The parts of a path. An absolute one begins at the root of the tree, as everywhere; `..` is
    /// refused, although containerd would let it stop at the root: no honest tool writes one.
    fn parts<'p>(&self, path: &'p [u8]) -> Result<Vec<&'p [u8]>, Why> {
        if path.len() > self.limits.path_bytes {
            return Err(format!(
                "its path is longer than {} bytes",
                self.limits.path_bytes
            ));
        }
        let parts: Vec<_> = path
            .split(|b| *b == b'/')
            .filter(|part| !part.is_empty() && *part != b".")
            .collect();
        match parts.iter().any(|part| *part == b"..") {
            true => Err("its path has '..' in it".into()),
            false => Ok(parts),
        }
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<(), Why> {
        let fd = tree::open_dir(&self.root, b".").map_err(text)?;
        self.attributes(fd.as_fd(), entry)?;
        self.keep_time(Vec::new(), entry.mtime)
    }

    /// The directory that `parts` name, made where it is missing.
    fn parent(&mut self, parts: &[&[u8]]) -> Result<OwnedFd, Why> {
        let path = parts.join(&b'/');
        if let Some((last, fd)) = &self.last
            && *last == path
        {
            return fd.try_clone().map_err(|e| e.to_string());
        }
        let fd = self.directory(parts, &mut 0)?;
        self.last = Some((path, fd.try_clone().map_err(|e| e.to_string())?));
        Ok(fd)
    }

    fn open(&self, parts: &[&[u8]]) -> rustix::io::Result<OwnedFd> {
        tree::open_in_root(
            self.root.as_fd(),
            &parts.join(&b'/'),
            OFlags::PATH | OFlags::DIRECTORY,
        )
    }

    fn directory(&mut self, parts: &[&[u8]], links: &mut u32) -> Result<OwnedFd, Why> {
        if let Ok(fd) = self.open(parts) {
            return Ok(fd);
        }
        let mut at = self.open(&[]).map_err(text)?;
        for (i, part) in parts.iter().enumerate() {
            at = match self.open(&parts[..=i]) {
                Ok(fd) => fd,
                Err(Errno::NOENT | Errno::NOTDIR) => self.make(at, &parts[..i], part, links)?,
                Err(e) => return Err(text(e)),
            };
        }
        Ok(at)
    }

    /// Makes the directory `name` in `dir`, whose path is `above`.
    fn make(
        &mut self,
        dir: OwnedFd,
        above: &[&[u8]],
        name: &[u8],
        links: &mut u32,
    ) -> Result<OwnedFd, Why> {
        if name == b".." {
            return Err("a link in its path leads to a directory that does not exist".into());
        }
        let old = lstat(&dir, name).map_err(text)?;
        match &old {
            None => {}
            Some(stat) if is_whiteout(stat) => {
                tree::remove(&dir, name, self.trash).map_err(text)?
            }
            Some(stat) if kind(stat) == FileType::Symlink => {
                // The link's target may lie in a layer below only: make it here, where the link leads.
                *links += 1;
                if *links > MAX_LINKS {
                    return Err("its path leads through too many links".into());
                }
                let target = rustix::fs::readlinkat(&dir, name, Vec::new())
                    .map_err(text)?
                    .into_bytes();
                let rest = target
                    .split(|b| *b == b'/')
                    .filter(|part| !part.is_empty() && *part != b".");
                let above = if target.starts_with(b"/") { &[] } else { above };
                let parts: Vec<&[u8]> = above.iter().copied().chain(rest).collect();
                if parts.iter().map(|part| part.len() + 1).sum::<usize>() > self.limits.path_bytes {
                    return Err("a link in its path leads to a path that is too long".into());
                }
                return self.directory(&parts, links);
            }
            Some(_) => return Err("its parent is not a directory".into()),
        }
        self.budget.entries =
            self.budget.entries.checked_sub(1).ok_or_else(|| {
                format!("the image has more than {} entries", self.limits.entries)
            })?;
        rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o755)).map_err(text)?;
        let made = tree::open_dir(&dir, name).map_err(text)?;
        rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755)).map_err(text)?;
        if old.is_some() {
            // It was removed, and is made anew: nothing below shows through.
            set_opaque(&made)?;
        } else {
            self.inherit(&dir, name, &made)?;
        }
        Ok(made)
    }

    /// Gives a directory that no entry describes the attributes that it has in the layers below.
    fn inherit(&mut self, dir: &OwnedFd, name: &[u8], made: &OwnedFd) -> Result<(), Why> {
        let mut path = self.real_path(dir)?;
        path.push(name.to_vec());
        let parts: Vec<&[u8]> = path.iter().map(Vec::as_slice).collect();
        let Some(Found::Dir(merged)) = self.lower.find(&parts).map_err(text)? else {
            return Ok(());
        };
        let Some(below) = merged.first() else {
            return Ok(());
        };
        let stat = rustix::fs::fstat(below).map_err(text)?;
        node::copy_attributes(below.as_fd(), made.as_fd(), &stat).map_err(text)?;
        self.keep_time(
            path.join(&b'/'),
            (
                stat.st_mtime,
                u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            ),
        )
    }

    /// The path of an open directory in the tree, without links.
    fn real_path(&self, dir: impl AsFd) -> Result<Vec<Vec<u8>>, Why> {
        let root = node::proc_target(self.root.as_fd()).map_err(text)?;
        let path = node::proc_target(dir.as_fd()).map_err(text)?;
        let inside = path
            .strip_prefix(&root[..])
            .ok_or("its directory was moved away")?;
        Ok(inside
            .split(|b| *b == b'/')
            .filter(|part| !part.is_empty())
            .map(<[u8]>::to_vec)
            .collect())
    }

    fn whiteout(&mut self, dir: &OwnedFd, name: &[u8]) -> Result<(), Why> {
        if name.is_empty() || name == b"." || name == b".." || name.starts_with(WHITEOUT) {
            return Err("it is not the name of a whiteout".into());
        }
        match lstat(dir, name).map_err(text)? {
            // A whiteout only hides what lies below: what this layer itself has, stays.
            Some(stat) if kind(&stat) == FileType::Directory => {
                set_opaque(&tree::open_dir(dir, name).map_err(text)?)
            }
            Some(_) => Ok(()),
            None => {
                let mut path = self.real_path(dir)?;
                path.push(name.to_vec());
                let parts: Vec<&[u8]> = path.iter().map(Vec::as_slice).collect();
                // One that hides nothing would show in listings of directories that are not merged.
                if self.lower.find(&parts).map_err(text)?.is_none() {
                    return Ok(());
                }
                rustix::fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0)
                    .map_err(text)
            }
        }
    }

    fn keep_time(&mut self, path: Vec<u8>, time: Time) -> Result<(), Why> {
        self.times_bytes += path.len() + 64;
        if self.times_bytes > self.limits.directory_name_bytes {
            return Err(format!(
                "the names of its directories have more than {} bytes",
                self.limits.directory_name_bytes
            ));
        }
        self.times.push((path, time));
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Why> {
        for (path, time) in std::mem::take(&mut self.times) {
            // What was replaced by something else since has the other's time.
            if let Ok(fd) = tree::open_in_root(
                self.root.as_fd(),
                &path,
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW,
            ) {
                rustix::fs::futimens(fd, &node::timestamps(time)).map_err(text)?;
            }
        }
        Ok(())
    }

    fn warn(&mut self, warning: String) {
        const MOST: usize = 20;
        if self.report.warnings.len() < MOST && !self.report.warnings.contains(&warning) {
            self.report.warnings.push(warning);
        }
    }
}

fn set_opaque(dir: &OwnedFd) -> Result<(), Why> {
    // The descriptor may be one that only names the directory.
    rustix::fs::setxattr(
        node::proc_path(dir.as_fd()),
        OPAQUE,
        b"y",
        XattrFlags::empty(),
    )
    .map_err(|e| format!("cannot set {OPAQUE}: {}", text(e)))
}

fn text(e: Errno) -> Why {
    io::Error::from(e).to_string()
}
