//! Paths that stay beneath a directory, whoever writes in it meanwhile.

use crate::sys::sentence;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fchmod, fstat, mkdirat, openat2};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

const PATH: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Opens (`O_PATH`) what lies at `sub` beneath `root`: links are followed and may not lead out. An
/// empty `sub` is `root`. With `make`, missing directories are made with the mode of `root`, as the
/// kubelet makes them for a subPath (`pkg/volume/util/subpath/subpath_linux.go`).
pub(crate) fn open(root: &Path, sub: &Path, make: bool) -> Result<OwnedFd, String> {
    let top = rustix::fs::openat(CWD, root, PATH, Mode::empty()).map_err(|e| sentence(root, "cannot be opened", e))?;
    if sub.as_os_str().is_empty() {
        return Ok(top);
    }
    let wrong = |e: Errno| match e {
        Errno::XDEV | Errno::LOOP => format!("{} leads out of {} through a link; it may only lead within.", sub.display(), root.display()),
        e => sentence(&root.join(sub), "cannot be opened", e),
    };
    if !sub.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(format!("{} is no relative path without '..'.", sub.display()));
    }
    match beneath(&top, sub) {
        Err(Errno::NOENT) if make => {
            make_beneath(&top, sub).map_err(wrong)?;
            beneath(&top, sub).map_err(wrong)
        }
        found => found.map_err(wrong),
    }
}

/// Whether what was opened is a directory.
pub(crate) fn is_dir(fd: &OwnedFd, path: &Path) -> Result<bool, String> {
    let stat = fstat(fd).map_err(|e| sentence(path, "cannot be looked at", e))?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn beneath(top: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    resolve(top, path, PATH)
}

fn resolve(top: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    // The kernel answers EAGAIN where something was renamed meanwhile, and asks for another try.
    for _ in 0..64 {
        match openat2(&top, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            found => return found,
        }
    }
    Err(Errno::AGAIN)
}

fn make_beneath(top: &OwnedFd, sub: &Path) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(fstat(top)?.st_mode & 0o7777);
    let mut done = PathBuf::new();
    for part in sub.components() {
        let parent = beneath(top, &done)?;
        done.push(part);
        match beneath(top, &done) {
            Err(Errno::NOENT) => {}
            found => {
                found?;
                continue;
            }
        }
        match mkdirat(&parent, part.as_os_str(), Mode::RWXU) {
            // Made by another in between; or it is a link that leads nowhere, which opening tells.
            Err(Errno::EXIST) => continue,
            made => made?,
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // By descriptor: mkdirat minds the umask and drops setgid.
        fchmod(resolve(&parent, Path::new(part.as_os_str()), flags)?, mode)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn paths_stay_within_and_missing_ones_are_made() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outer) = (dir.path().join("root"), dir.path().join("outer"));
        std::fs::create_dir_all(root.join("real")).unwrap();
        std::fs::create_dir(&outer).unwrap();
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o2771)).unwrap();
        symlink("real", root.join("good")).unwrap();
        symlink(&outer, root.join("absolute")).unwrap();
        symlink("../outer", root.join("relative")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        super::open(&root, Path::new("good/a/b"), true).unwrap();
        let mode = |p: &str| std::fs::metadata(root.join(p)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("real/a"), mode("real/a/b")), (0o2771, 0o2771));
        for (sub, told) in [
            ("absolute/x", "leads out of"),
            ("relative/x", "leads out of"),
            ("relative", "leads out of"),
            ("../outer", "no relative path"),
            ("/etc", "no relative path"),
            ("dangling/x", "cannot be opened"),
        ] {
            let why = super::open(&root, Path::new(sub), true).unwrap_err();
            assert!(why.contains(told), "{sub}: {why}");
        }
        assert!(super::open(&root, Path::new("none"), false).is_err());
        assert_eq!(std::fs::read_dir(&outer).unwrap().count(), 0);
        assert!(!root.join("none").exists());
    }
}
