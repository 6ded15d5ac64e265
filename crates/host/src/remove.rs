//! Removing a tree without following links or crossing mounts.

use crate::{Error, Result, ids};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// How deep one pass goes. A tree may be far deeper than descriptors or stack allow, because who
/// wrote it was hostile: what lies deeper is moved up to the top and removed by the next pass.
const DEPTH: usize = 64;

/// Removes `path` and all below it; what is not there is no error. Links are removed, never
/// followed. A mount anywhere below is refused with `EXDEV` or `EBUSY`, and left whole: unmount
/// it first.
pub fn remove_tree(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let fail = |e: Errno| Error::path("remove", path)(e);
    let name = path.file_name().ok_or_else(|| Error::BadPath {
        path: path.to_owned(),
        reason: "it names no file",
    })?;
    let parent = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    let parent = match rustix::fs::open(
        parent,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened.map_err(fail)?,
    };
    let name = CString::new(name.as_encoded_bytes()).map_err(|_| fail(Errno::INVAL))?;
    match rustix::fs::unlinkat(&parent, &name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(fail(e)),
    }
    let top = open_child(parent.as_fd(), &name).map_err(fail)?;
    let mut again = true;
    while again {
        again = false;
        empty(top.as_fd(), top.as_fd(), 0, &mut again).map_err(fail)?;
    }
    drop(top);
    rustix::fs::unlinkat(&parent, &name, AtFlags::REMOVEDIR).map_err(fail)
}

/// Opens a directory that is neither a link nor a mount point.
fn open_child(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    loop {
        match rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return done,
        }
    }
}

fn empty(
    dir: BorrowedFd<'_>,
    top: BorrowedFd<'_>,
    depth: usize,
    again: &mut bool,
) -> rustix::io::Result<()> {
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if entry.file_type() != FileType::Directory {
            match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                // Only where the file system does not tell types.
                Err(Errno::ISDIR) => {}
                Err(e) => return Err(e),
            }
        }
        if depth >= DEPTH {
            let aside = CString::new(format!(".deep-{:032x}", u128::from_ne_bytes(unique()?)))
                .map_err(|_| Errno::INVAL)?;
            rustix::fs::renameat(dir, name, top, &aside)?;
            *again = true;
            continue;
        }
        let child = open_child(dir, name)?;
        empty(child.as_fd(), top, depth + 1, again)?;
        drop(child);
        rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

fn unique() -> rustix::io::Result<[u8; 16]> {
    ids::random_bytes().map_err(|_| Errno::IO)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn links_are_removed_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, kept) = (dir.path().join("tree"), dir.path().join("kept"));
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        std::fs::create_dir(&kept).unwrap();
        std::fs::write(kept.join("file"), "x").unwrap();
        std::os::unix::fs::symlink(&kept, tree.join("a/link")).unwrap();
        std::fs::write(tree.join("a/b/file"), "x").unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert!(kept.join("file").exists());

        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&kept, &link).unwrap();
        remove_tree(&link).unwrap();
        assert!(kept.join("file").exists() && !link.is_symlink());
        remove_tree(dir.path().join("absent/too")).unwrap();
        remove_tree(&link).unwrap();
    }

    #[test]
    fn a_tree_deeper_than_descriptors_and_paths_goes() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("deep");
        std::fs::create_dir(&top).unwrap();
        let mut at =
            rustix::fs::open(&top, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "d", Mode::from_raw_mode(0o700)).unwrap();
            at = rustix::fs::openat(&at, "d", OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
                .unwrap();
        }
        remove_tree(&top).unwrap();
        assert!(!top.exists());
    }
}
