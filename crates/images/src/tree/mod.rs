//! Trees of files on disk that were written by strangers: opening, comparing and removing them
//! without ever leaving them.

pub(crate) mod digest;
pub(crate) mod merge;
pub(crate) mod stack;
pub(crate) mod writeback;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::{Errno, Result};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Attribute by which overlayfs knows a directory that hides those below it.
pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";

const DIR: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Opens `path` with `root` as its `/`: links and `..` stay in it, as under chroot.
pub(crate) fn open_in_root(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let mut tries = 0;
    loop {
        // EAGAIN: something was renamed somewhere while `..` was resolved.
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tries < 100 => tries += 1,
            result => return result,
        }
    }
}

/// Opens the directory `path` below `root`, where no part of the path is a link.
pub(crate) fn open_real(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(root, path, DIR, Mode::empty(), resolve)
}

/// Opens the directory `name` in `dir`; `name` has no slash.
pub(crate) fn open_dir(dir: impl AsFd, name: &[u8]) -> Result<OwnedFd> {
    rustix::fs::openat(dir, name, DIR, Mode::empty())
}

/// The attributes of `name` in `dir`, or `None` where there is nothing.
pub(crate) fn lstat(dir: impl AsFd, name: &[u8]) -> Result<Option<Stat>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

pub(crate) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Whether it is overlayfs's sign for "removed": the character device 0:0.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    kind(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Whether a directory hides those below it.
pub(crate) fn is_opaque(dir: impl AsFd) -> bool {
    let mut value = [0u8; 1];
    rustix::fs::fgetxattr(dir, OPAQUE, &mut value[..]) == Ok(1) && value == *b"y"
}

/// Removes `name` from `dir` with all that is in it. Directories are moved to `trash` (on the same
/// file system, ours alone) first, so that neither depth nor names matter: a stranger's tree may be
/// deeper than paths are long.
pub(crate) fn remove(dir: impl AsFd, name: &[u8], trash: BorrowedFd<'_>) -> Result<()> {
    match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(e),
    }
    let mut next = 0u64;
    let mut bury = |dir: BorrowedFd<'_>, name: &[u8]| loop {
        let grave = format!("{next:x}");
        next += 1;
        match rustix::fs::renameat_with(
            dir,
            name,
            trash,
            grave.as_str(),
            rustix::fs::RenameFlags::NOREPLACE,
        ) {
            Err(Errno::EXIST) => {}
            result => return result.map(|()| grave),
        }
    };
    let mut graves = vec![bury(dir.as_fd(), name)?];
    while let Some(grave) = graves.pop() {
        let fd = open_dir(trash, grave.as_bytes())?;
        for entry in Dir::read_from(&fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            match rustix::fs::unlinkat(&fd, name, AtFlags::empty()) {
                Ok(()) => {}
                Err(Errno::ISDIR | Errno::PERM) => graves.push(bury(fd.as_fd(), name)?),
                Err(e) => return Err(e),
            }
        }
        match rustix::fs::unlinkat(trash, grave.as_str(), AtFlags::REMOVEDIR) {
            // Some file systems skip names while a directory shrinks: once more.
            Err(Errno::NOTEMPTY) => graves.push(grave),
            result => result?,
        }
    }
    Ok(())
}

/// The extended attributes of an open file, without those of overlayfs.
pub(crate) fn xattrs(fd: impl AsFd) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut names = vec![0; 64 << 10];
    let length = match rustix::fs::flistxattr(&fd, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(e) => return Err(e),
    };
    let mut all = Vec::new();
    for name in names[..length]
        .split(|b| *b == 0)
        .filter(|n| !n.is_empty() && !n.starts_with(b"trusted.overlay."))
    {
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::fgetxattr(&fd, name, &mut value[..])?;
        value.truncate(length);
        all.push((name.to_vec(), value));
    }
    Ok(all)
}

/// Whether an attribute is part of an image. Labels and signatures of the machine that built it are
/// not, and those of overlayfs would let a layer steer the host's mount.
pub(crate) fn is_image_attribute(name: &[u8]) -> bool {
    let overlay = name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
    let known = name.starts_with(b"user.")
        || name.starts_with(b"trusted.")
        || name.starts_with(b"system.posix_acl_");
    (known && !overlay) || name == b"security.capability"
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::fs;

    #[test]
    fn trees_deeper_than_a_path_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("trash")).unwrap();
        fs::create_dir(dir.path().join("trash/0")).unwrap();
        let open = |name: &str| fs::File::open(dir.path().join(name)).unwrap();
        let (top, trash) = (open("."), open("trash"));
        let mut at: OwnedFd = open(".").into();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "deeper", Mode::RWXU).unwrap();
            rustix::fs::symlinkat("/etc", &at, "link").unwrap();
            at = open_dir(&at, b"deeper").unwrap();
        }
        remove(&top, b"deeper", trash.as_fd()).unwrap();
        remove(&top, b"link", trash.as_fd()).unwrap();
        remove(&top, b"none", trash.as_fd()).unwrap();
        assert!(fs::metadata("/etc").is_ok());
        let left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(
            left,
            ["trash"],
            "and what was in the trash before is not ours"
        );
        assert!(fs::metadata(dir.path().join("trash/0")).is_ok());
    }
}
