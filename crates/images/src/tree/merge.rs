//! Layers as one tree of links, merged by overlayfs's rules.

use super::open_real;
use super::stack::{Found, Stack, child};
use crate::error::{Error, Result};
use crate::unpack::{copy_attributes, timestamps};
use rustix::fs::{AtFlags, Dir, Mode};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Makes the merged tree of `stack` in the empty directory `to`, on the same file system. Everything
/// but directories is a hard link to what the layers have.
pub(crate) fn link(stack: &Stack, to: &Path) -> Result<()> {
    let fail = |path: &[u8], e: Errno| Error::Io {
        action: "merge",
        path: to.join(OsStr::from_bytes(path)),
        source: e.into(),
    };
    let root: OwnedFd = File::open(to)
        .map_err(|e| Error::Io {
            action: "open",
            path: to.to_path_buf(),
            source: e,
        })?
        .into();
    // Paths rather than descriptors: 127 layers of many directories would be too many of these.
    let mut left: Vec<Vec<u8>> = vec![Vec::new()];
    let mut made: Vec<Vec<u8>> = Vec::new();
    while let Some(path) = left.pop() {
        let below = directory(stack, &root, &path).map_err(|e| fail(&path, e))?;
        left.extend(below);
        made.push(path);
    }
    // From the inside out: what is put into a directory changes its time.
    for path in made.iter().rev() {
        attributes(stack, &root, path).map_err(|e| fail(path, e))?;
    }
    Ok(())
}

fn find(stack: &Stack, path: &[u8]) -> rustix::io::Result<Option<Found>> {
    let parts: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|part| !part.is_empty()).collect();
    stack.find(&parts)
}

/// Fills one directory; returns the directories in it.
fn directory(stack: &Stack, root: &OwnedFd, path: &[u8]) -> rustix::io::Result<Vec<Vec<u8>>> {
    let Some(Found::Dir(merged)) = find(stack, path)? else {
        return Ok(Vec::new());
    };
    let to = open_real(root.as_fd(), path)?;
    let mut names = BTreeSet::new();
    for dir in merged.iter() {
        for entry in Dir::read_from(dir)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.insert(name);
            }
        }
    }
    let mut below = Vec::new();
    for name in names {
        match child(&merged, &name)? {
            None => {}
            Some(Found::Dir(_)) => {
                rustix::fs::mkdirat(&to, &name, Mode::RWXU)?;
                below.push(if path.is_empty() { name } else { [path, b"/", &name].concat() });
            }
            Some(Found::Node(from, _)) => rustix::fs::linkat(&from, &name, &to, &name, AtFlags::empty())?,
        }
    }
    Ok(below)
}

fn attributes(stack: &Stack, root: &OwnedFd, path: &[u8]) -> rustix::io::Result<()> {
    let Some(Found::Dir(merged)) = find(stack, path)? else {
        return Ok(());
    };
    let to = open_real(root.as_fd(), path)?;
    let Some(top) = merged.first() else {
        return rustix::fs::fchmod(&to, Mode::from_raw_mode(0o755));
    };
    let stat = rustix::fs::fstat(top)?;
    copy_attributes(top.as_fd(), to.as_fd(), &stat)?;
    rustix::fs::futimens(&to, &timestamps((stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0))))
}
