//! One digest over a whole tree, so that damage is found by walking it.
//!
//! It covers what a container sees of a layer: names, types, modes, owners, times of change,
//! attributes of the image, devices, link targets, which names are one file, and contents. Contents
//! enter by their [`Checksum`], which the unpacking computes while it writes.

use super::{OPAQUE, is_image_attribute, kind, lstat, open_real};
use crate::checksum::Checksum;
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use rustix::fs::{Dir, FileType, OFlags, Stat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Checksums of the contents of files by inode.
pub(crate) type Contents = HashMap<u64, u64>;

/// The digest of the tree under `root`. Contents that `known` lacks are read; `seen` is told how
/// many bytes. `path` is what messages call the tree.
pub(crate) fn digest(root: BorrowedFd<'_>, path: &Path, known: &Contents, seen: &dyn Fn(u64)) -> Result<Digest> {
    let mut walk = Walk {
        hasher: Hasher::new(),
        groups: HashMap::new(),
        known,
        seen,
    };
    // A stack rather than recursion: a stranger's tree may be deeper than ours.
    let mut left: Vec<Vec<u8>> = vec![Vec::new()];
    while let Some(at) = left.pop() {
        let fail = |e: Errno| Error::Io {
            action: "read",
            path: path.join(OsStr::from_bytes(&at)),
            source: e.into(),
        };
        let dir = open_real(root, &at).map_err(fail)?;
        let below = walk.directory(&dir, &at).map_err(fail)?;
        left.extend(below);
    }
    Ok(walk.hasher.finish())
}

struct Walk<'a> {
    hasher: Hasher,
    /// Files with several names, by inode, in the order in which they were met.
    groups: HashMap<u64, u64>,
    known: &'a Contents,
    seen: &'a dyn Fn(u64),
}

impl Walk<'_> {
    /// Adds a directory and all in it; returns the paths of the directories in it.
    fn directory(&mut self, dir: &OwnedFd, path: &[u8]) -> rustix::io::Result<Vec<Vec<u8>>> {
        let stat = rustix::fs::fstat(dir)?;
        self.field(path);
        self.common(&stat, format!("/proc/self/fd/{}", dir.as_raw_fd()).as_bytes(), true)?;
        let mut names: Vec<Vec<u8>> = Vec::new();
        for entry in Dir::read_from(dir)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        names.sort_unstable();
        let mut below = Vec::new();
        for name in names {
            // The tree is ours alone and changes under nobody's hands, except a checker's.
            let stat = lstat(dir, &name)?.ok_or(Errno::NOENT)?;
            if kind(&stat) == FileType::Directory {
                let sub = if path.is_empty() { name } else { [path, b"/", &name].concat() };
                below.push(sub);
            } else {
                self.entry(dir, &name, &stat)?;
            }
        }
        Ok(below)
    }

    fn entry(&mut self, dir: &OwnedFd, name: &[u8], stat: &Stat) -> rustix::io::Result<()> {
        self.field(name);
        if stat.st_nlink > 1 {
            let next = self.groups.len() as u64;
            let group = *self.groups.entry(stat.st_ino).or_insert(next);
            if group != next {
                self.field(b"same");
                self.number(group);
                return Ok(());
            }
        }
        let path = [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name].concat();
        self.common(stat, &path, false)?;
        match kind(stat) {
            FileType::RegularFile => {
                self.number(stat.st_size.cast_unsigned());
                let sum = match self.known.get(&stat.st_ino) {
                    Some(sum) => *sum,
                    None => self.contents(dir, name)?,
                };
                self.number(sum);
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new())?;
                self.field(target.as_bytes());
            }
            _ => self.number(stat.st_rdev),
        }
        Ok(())
    }

    fn contents(&self, dir: &OwnedFd, name: &[u8]) -> rustix::io::Result<u64> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOATIME;
        let fd = match rustix::fs::openat(dir, name, flags, rustix::fs::Mode::empty()) {
            Err(Errno::PERM) => rustix::fs::openat(dir, name, flags - OFlags::NOATIME, rustix::fs::Mode::empty())?,
            result => result?,
        };
        let mut file = File::from(fd);
        let mut sum = Checksum::new();
        let mut buffer = vec![0; 256 << 10];
        loop {
            let n = match file.read(&mut buffer) {
                Ok(0) => return Ok(sum.finish()),
                Ok(n) => n,
                Err(e) => return Err(Errno::from_io_error(&e).unwrap_or(Errno::IO)),
            };
            sum.update(&buffer[..n]);
            (self.seen)(n as u64);
        }
    }

    fn common(&mut self, stat: &Stat, path: &[u8], directory: bool) -> rustix::io::Result<()> {
        for number in [
            u64::from(stat.st_mode),
            u64::from(stat.st_uid),
            u64::from(stat.st_gid),
            stat.st_mtime.cast_unsigned(),
            stat.st_mtime_nsec,
        ] {
            self.number(number);
        }
        // The attributes of a directory are asked for through its descriptor, which is a link.
        let mut names = [0u8; 4096];
        let mut large = Vec::new();
        let names = list(path, directory, &mut names, &mut large)?;
        let mut names: Vec<&[u8]> = names
            .split(|b| *b == 0)
            .filter(|name| is_image_attribute(name) || *name == OPAQUE.as_bytes())
            .collect();
        names.sort_unstable();
        for name in names {
            self.field(name);
            let mut value = vec![0; 64 << 10];
            let length = match directory {
                true => rustix::fs::getxattr(path, name, &mut value[..])?,
                false => rustix::fs::lgetxattr(path, name, &mut value[..])?,
            };
            self.field(&value[..length]);
        }
        self.field(b"");
        Ok(())
    }

    fn field(&mut self, data: &[u8]) {
        self.number(data.len() as u64);
        self.hasher.update(data);
    }

    fn number(&mut self, number: u64) {
        self.hasher.update(&number.to_le_bytes());
    }
}

/// Names of the attributes of a file, each with a NUL.
fn list<'b>(path: &[u8], follow: bool, small: &'b mut [u8], large: &'b mut Vec<u8>) -> rustix::io::Result<&'b [u8]> {
    let ask = |buffer: &mut [u8]| match follow {
        true => rustix::fs::listxattr(path, buffer),
        false => rustix::fs::llistxattr(path, buffer),
    };
    match ask(small) {
        Ok(length) => Ok(&small[..length]),
        Err(Errno::NOTSUP) => Ok(&[]),
        Err(Errno::RANGE) => {
            large.resize(64 << 10, 0);
            let length = ask(large)?;
            Ok(&large[..length])
        }
        Err(e) => Err(e),
    }
}

/// As [`digest`], of the tree at `path`.
pub(crate) fn of(path: &Path, seen: &dyn Fn(u64)) -> Result<Digest> {
    use crate::error::IoContext;
    let root = File::open(path).at("open", path)?;
    digest(root.as_fd(), path, &Contents::new(), seen)
}
