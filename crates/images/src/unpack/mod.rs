//! Unpacks one layer into a tree that overlayfs takes as a lower directory.
//!
//! The rules are those of the OCI image specification's `layer.md`, as containerd applies them for
//! its overlay snapshotter: whiteouts become character devices 0:0, opaque markers the attribute
//! `trusted.overlay.opaque`, and directories that the layer does not describe take their attributes
//! from the layers below. Whatever a layer says, nothing outside its tree is written: each path is
//! opened by `openat2` with the tree as its root, and its last part is made with flags that follow
//! no link.

mod node;
mod settle;

use crate::error::{Error, Result};
use crate::limits::{Budget, Limits};
use crate::tarball::{Entry, Kind, TarReader, Time};
use crate::tree::digest::Contents;
use crate::tree::stack::Stack;
use crate::tree::{self, OPAQUE, is_whiteout, kind, lstat};
use rustix::fs::{FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
pub(crate) use node::{copy_attributes, timestamps};
pub(crate) use settle::Unpacked;
use std::collections::HashSet;
use std::io::{self, BufRead};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE_MARK: &[u8] = b".wh..wh..opq";
/// Links that the making of one path may lead through.
const MAX_LINKS: u32 = 40;

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

/// What became of a layer.
pub(crate) enum Outcome {
    /// It is unpacked; the layers below are to be asked yet.
    Unpacked(Box<Unpacked>),
    /// It links to a file of a layer below: it can be unpacked only when those are there.
    NeedsLower,
}

/// One layer being unpacked.
pub(crate) struct Unpacker<'a> {
    root: OwnedFd,
    trash: BorrowedFd<'a>,
    /// The layers below, where they are there already.
    lower: Option<&'a Stack>,
    needs_lower: bool,
    limits: &'a Limits,
    budget: &'a Budget,
    /// What was taken from the budget.
    spent: (u64, u64),
    report: Report,
    /// The directory that the last entry lay in: the next one most often does too.
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
    /// Where the root is, to tell the paths of what is in it.
    root_path: Option<Vec<u8>>,
    /// Times of directories, to be set when nothing is put into them any more.
    times: Vec<(Vec<u8>, Time)>,
    /// Directories that no entry described so far, and whiteouts: what becomes of them is decided
    /// by the layers below, which may be unpacked at the same time.
    implied: HashSet<Vec<u8>>,
    whiteouts: HashSet<Vec<u8>>,
    names_bytes: usize,
    contents: Contents,
    buffer: Vec<u8>,
}

impl<'a> Unpacker<'a> {
    /// Unpacks into `root`, which is empty. `trash` is an empty directory on the same file system;
    /// `lower` are the layers below, where they are complete.
    pub(crate) fn new(
        root: OwnedFd,
        trash: BorrowedFd<'a>,
        lower: Option<&'a Stack>,
        limits: &'a Limits,
        budget: &'a Budget,
    ) -> Self {
        Self {
            root,
            trash,
            lower,
            needs_lower: false,
            limits,
            budget,
            spent: (0, 0),
            report: Report::default(),
            last: None,
            root_path: None,
            times: Vec::new(),
            implied: HashSet::new(),
            whiteouts: HashSet::new(),
            names_bytes: 0,
            contents: Contents::new(),
            buffer: Vec::new(),
        }
    }

    /// Unpacks the whole of `data`. `layer` is what messages call it.
    pub(crate) fn run(mut self, data: impl BufRead, layer: &str) -> Result<Outcome> {
        let mut reader = TarReader::new(data);
        let mut previous = Vec::new();
        loop {
            let entry = match reader.next() {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(e) => {
                    return Err(fail(layer, &previous, format!("at or after it: {e}")));
                }
            };
            if let Err(why) = self.entry(&entry, &mut reader) {
                if self.needs_lower {
                    self.budget.give_back(self.spent);
                    return Ok(Outcome::NeedsLower);
                }
                return Err(fail(layer, &entry.path, why));
            }
            previous = entry.path;
        }
        Ok(Outcome::Unpacked(Box::new(Unpacked {
            root: self.root,
            implied: self.implied,
            whiteouts: self.whiteouts,
            times: self.times,
            contents: self.contents,
            report: self.report,
        })))
    }

    /// Whether nothing lies below.
    fn is_lowest(&self) -> bool {
        self.lower.is_some_and(Stack::is_empty)
    }

    /// Takes from what is left of the bounds on the image.
    fn spend(&mut self, bytes: u64, entries: u64) -> Result<(), Why> {
        self.budget.spend(bytes, entries, self.limits)?;
        self.spent.0 += bytes;
        self.spent.1 += entries;
        Ok(())
    }

    fn entry(&mut self, entry: &Entry, data: &mut TarReader<impl BufRead>) -> Result<(), Why> {
        self.spend(entry.size, 1)?;
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
        let stat = rustix::fs::fstat(&fd).map_err(text)?;
        self.attributes(fd.as_fd(), &stat, entry)?;
        self.keep_time(Vec::new(), entry.mtime)
    }

    /// The directory that `parts` name, made where it is missing.
    fn parent(&mut self, parts: &[&[u8]]) -> Result<Rc<OwnedFd>, Why> {
        if let Some((last, fd)) = &self.last
            && is_joined(last, parts)
        {
            return Ok(fd.clone());
        }
        let fd = Rc::new(self.directory(parts, &mut 0)?);
        self.last = Some((parts.join(&b'/'), fd.clone()));
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
        self.spend(0, 1)?;
        rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o755)).map_err(text)?;
        let made = tree::open_dir(&dir, name).map_err(text)?;
        rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755)).map_err(text)?;
        if old.is_some() {
            // It was removed, and is made anew: nothing below shows through.
            set_opaque(&made)?;
        } else if !self.is_lowest() {
            let path = self.real_path(&made)?.join(&b'/');
            self.keep_name(&path)?;
            self.implied.insert(path);
        }
        Ok(made)
    }

    /// The path of an open directory in the tree, without links.
    fn real_path(&mut self, dir: impl AsFd) -> Result<Vec<Vec<u8>>, Why> {
        let root = match &mut self.root_path {
            Some(root) => root,
            none => none.insert(node::proc_target(self.root.as_fd()).map_err(text)?),
        };
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
            None if self.is_lowest() => Ok(()),
            None => {
                let mut path = self.real_path(dir)?;
                path.push(name.to_vec());
                let path = path.join(&b'/');
                self.keep_name(&path)?;
                self.whiteouts.insert(path);
                rustix::fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0)
                    .map_err(text)
            }
        }
    }

    fn keep_time(&mut self, path: Vec<u8>, time: Time) -> Result<(), Why> {
        self.keep_name(&path)?;
        self.times.push((path, time));
        Ok(())
    }

    /// Counts a path that is kept until the layer is unpacked.
    fn keep_name(&mut self, path: &[u8]) -> Result<(), Why> {
        self.names_bytes += path.len() + 64;
        if self.names_bytes > self.limits.directory_name_bytes {
            return Err(format!(
                "the names of its directories have more than {} bytes",
                self.limits.directory_name_bytes
            ));
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

/// Whether `path` is `parts` with a slash between each.
fn is_joined(path: &[u8], parts: &[&[u8]]) -> bool {
    let length = parts.iter().map(|part| part.len() + 1).sum::<usize>();
    length == path.len() + usize::from(!parts.is_empty())
        && path.split(|b| *b == b'/').zip(parts).all(|(a, b)| a == *b)
}

/// The error about one entry.
fn fail(layer: &str, entry: &[u8], why: Why) -> Error {
    let entry: String = String::from_utf8_lossy(entry).chars().take(300).collect();
    Error::Unpack {
        layer: layer.to_owned(),
        entry,
        why,
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
