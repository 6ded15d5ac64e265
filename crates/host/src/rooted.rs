//! Paths that cannot leave a root: for what is made and opened inside a container's file system,
//! whose links are hostile.

use crate::{Error, Result};
/// How a file is opened.
pub use rustix::fs::OFlags;
use rustix::fs::{Mode, ResolveFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// A directory that paths are resolved in as if it were `/` (openat2(2), `RESOLVE_IN_ROOT`):
/// absolute links start at it, `..` ends at it, and magic links of /proc are refused.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    path: PathBuf,
}

impl Root {
    /// Opens `path`, itself resolved as usual.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let fd = rustix::fs::open(
            path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(Error::path("open", path))?;
        Ok(Self {
            fd,
            path: path.to_owned(),
        })
    }

    /// Opens `inside`, a path below the root with or without a leading `/`. `flags` may create the
    /// file; its parent must be there.
    pub fn open_at(&self, inside: impl AsRef<Path>, flags: OFlags, mode: u32) -> Result<OwnedFd> {
        let inside = inside.as_ref();
        self.resolve(inside, flags, mode)
            .map_err(Error::path("open", self.shown(inside)))
    }

    /// Whether `inside` exists, its last link followed.
    pub fn exists(&self, inside: impl AsRef<Path>) -> Result<bool> {
        let inside = inside.as_ref();
        match self.resolve(inside, OFlags::PATH, 0) {
            Ok(_) => Ok(true),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(false),
            Err(e) => Err(Error::path("look at", self.shown(inside))(e)),
        }
    }

    /// Makes the directory `inside` and its missing parents with `mode` (less the umask), through
    /// the links that are there, and opens it (`O_PATH`). A dangling link on the way is an error.
    pub fn create_dir_all(&self, inside: impl AsRef<Path>, mode: u32) -> Result<OwnedFd> {
        let inside = inside.as_ref();
        let mut done = PathBuf::new();
        let mut current = self
            .fd
            .try_clone()
            .map_err(Error::path("open", &self.path))?;
        for component in inside.components() {
            match component {
                Component::RootDir | Component::CurDir => continue,
                Component::Normal(name) => done.push(name),
                Component::ParentDir | Component::Prefix(_) => {
                    return Err(Error::BadPath {
                        path: inside.to_owned(),
                        reason: "it contains `..`",
                    });
                }
            }
            current = match self.resolve(&done, OFlags::PATH | OFlags::DIRECTORY, 0) {
                Ok(fd) => fd,
                Err(rustix::io::Errno::NOENT) => self.create_dir(current.as_fd(), &done, mode)?,
                Err(e) => return Err(Error::path("open", self.shown(&done))(e)),
            };
        }
        Ok(current)
    }

    fn create_dir(&self, parent: BorrowedFd<'_>, done: &Path, mode: u32) -> Result<OwnedFd> {
        let name = done.file_name().unwrap_or_default();
        match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(mode)) {
            // Where it exists by now, another made it, or it is a dangling link: opening tells.
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(Error::path("create", self.shown(done))(e)),
        }
        self.resolve(done, OFlags::PATH | OFlags::DIRECTORY, 0)
            .map_err(Error::path("open", self.shown(done)))
    }

    fn resolve(&self, inside: &Path, flags: OFlags, mode: u32) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        // The kernel gives EAGAIN where a rename elsewhere raced with `..`; it asks for another try.
        for _ in 0..64 {
            match rustix::fs::openat2(
                &self.fd,
                inside,
                flags | OFlags::CLOEXEC,
                Mode::from_raw_mode(mode),
                resolve,
            ) {
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                done => return done,
            }
        }
        Err(rustix::io::Errno::AGAIN)
    }

    /// The path as a person would look for it.
    fn shown(&self, inside: &Path) -> PathBuf {
        self.path.join(inside.strip_prefix("/").unwrap_or(inside))
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_in_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let (inner, outer) = (dir.path().join("root"), dir.path().join("outer"));
        std::fs::create_dir(&inner).unwrap();
        std::fs::create_dir(&outer).unwrap();
        symlink(&outer, inner.join("absolute")).unwrap();
        symlink("../../outer", inner.join("relative")).unwrap();
        symlink("/real", inner.join("good")).unwrap();
        std::fs::create_dir(inner.join("real")).unwrap();
        let root = Root::open(&inner).unwrap();

        root.create_dir_all("/good/a/b", 0o755).unwrap();
        assert!(inner.join("real/a/b").is_dir());
        assert!(root.exists("good/a").unwrap());
        // Both point at nothing inside the root, so nothing may be made through them.
        for link in ["absolute/x", "relative/x"] {
            assert!(root.create_dir_all(link, 0o755).is_err(), "{link}");
        }
        let create = OFlags::CREATE | OFlags::WRONLY;
        assert!(root.open_at("absolute/file", create, 0o644).is_err());
        root.open_at("../../file", create, 0o644).unwrap();
        assert!(inner.join("file").is_file());
        assert!(root.create_dir_all("a/../b", 0o755).is_err());
        assert_eq!(std::fs::read_dir(&outer).unwrap().count(), 0);
    }

    #[test]
    fn magic_links_are_refused() {
        let root = Root::open("/proc").unwrap();
        assert!(root.open_at("self/root/etc", OFlags::PATH, 0).is_err());
        assert!(root.exists("self/status").unwrap());
        assert!(!root.exists("self/none").unwrap());
    }
}
