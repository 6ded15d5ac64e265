//! Atomic writes, bounded reads, locks, private directories.

use crate::{Error, Result};
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Whether a write must outlive a loss of power. A killed process never loses what it wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// In the page cache: enough for what only this boot needs.
    Cached,
    /// On the disk when the call returns: file and directory are synced.
    Synced,
}

/// Replaces `path` by a file of mode 0600 that holds `bytes`: a reader, and a crash at any point,
/// finds the old content or the new, never a part.
pub fn atomic_write(path: impl AsRef<Path>, bytes: &[u8], durability: Durability) -> Result<()> {
    atomic_write_mode(path, bytes, durability, 0o600)
}

/// As [`atomic_write`], with a mode of the caller's, which the umask does not change.
pub fn atomic_write_mode(
    path: impl AsRef<Path>,
    bytes: &[u8],
    durability: Durability,
    mode: u32,
) -> Result<()> {
    let path = path.as_ref();
    let temporary = temporary_beside(path)?;
    let result = write_new(&temporary, bytes, durability, mode)
        .and_then(|()| std::fs::rename(&temporary, path).map_err(Error::path("replace", path)));
    if result.is_err() {
        // Its own failure adds nothing: the write's error is the one to tell.
        let _ = std::fs::remove_file(&temporary);
    }
    result?;
    if durability == Durability::Synced {
        sync_directory(path.parent().unwrap_or(Path::new("/")))?;
    }
    Ok(())
}

fn temporary_beside(path: &Path) -> Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().ok_or_else(|| Error::BadPath {
        path: path.to_owned(),
        reason: "it names no file",
    })?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(
        ".{}.{}.tmp",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    ));
    Ok(path.with_file_name(temporary))
}

/// Whether `name` is what a killed [`atomic_write`] left behind.
pub fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".tmp")
}

fn write_new(path: &Path, bytes: &[u8], durability: Durability, mode: u32) -> Result<()> {
    // A killed writer whose process id came back may have left this very name.
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(Error::path("create", path))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))
        .map_err(Error::path("set the mode of", path))?;
    file.write_all(bytes).map_err(Error::path("write", path))?;
    if durability == Durability::Synced {
        file.sync_data().map_err(Error::path("sync", path))?;
    }
    Ok(())
}

/// Makes what was created, renamed or removed in `directory` outlive a loss of power.
pub fn sync_directory(directory: impl AsRef<Path>) -> Result<()> {
    let directory = directory.as_ref();
    File::open(directory)
        .and_then(|d| d.sync_all())
        .map_err(Error::path("sync", directory))
}

/// Reads a whole file of at most `max` bytes.
pub fn read_bounded(path: impl AsRef<Path>, max: u64) -> Result<Vec<u8>> {
    let path = path.as_ref();
    let file = File::open(path).map_err(Error::path("open", path))?;
    // As long as it says: one call reads it, and one more finds its end. Files of the kernel say nothing.
    let length = file.metadata().map_or(0, |meta| meta.len()).min(max);
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0).saturating_add(1));
    file.take(max.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(Error::path("read", path))?;
    if bytes.len() as u64 > max {
        return Err(Error::TooLarge {
            path: path.to_owned(),
            max,
        });
    }
    Ok(bytes)
}

/// As [`read_bounded`], for a file that must be UTF-8.
pub fn read_text(path: impl AsRef<Path>, max: u64) -> Result<String> {
    let path = path.as_ref();
    String::from_utf8(read_bounded(path, max)?).map_err(|_| Error::Malformed {
        path: path.to_owned(),
        reason: "it is not UTF-8".to_owned(),
    })
}

/// Makes `path` and its parents, and the last of them private: mode 0700, owned by us, no link.
/// One that is there already is taken only where it is private.
pub fn private_dir(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(Error::path("create", parent))?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => check_private(path),
        Err(e) => Err(Error::path("create", path)(e)),
    }
}

/// Asks the file system to put what each new directory in `path` will hold far from what its neighbours hold:
/// `FS_TOPDIR_FL`, see chattr(1), `T`. ext4 uses no inode again for minutes after it was freed, and who makes a file
/// steps over all such inodes of the block group (`recently_deleted`, `fs/ext4/ialloc.c`): where directories
/// come and go near one another, each file costs tenths of a millisecond. Other file systems have no use for it.
pub fn spread_below(path: impl AsRef<Path>) -> Result<()> {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    let path = path.as_ref();
    let directory = File::open(path).map_err(Error::path("open", path))?;
    // What is only faster so is not worth an error, be it not known or not permitted.
    if let Ok(flags) = ioctl_getflags(&directory)
        && !flags.contains(IFlags::TOPDIR)
    {
        let _ = ioctl_setflags(&directory, flags | IFlags::TOPDIR);
    }
    Ok(())
}

fn check_private(path: &Path) -> Result<()> {
    let meta = std::fs::symlink_metadata(path).map_err(Error::path("look at", path))?;
    let reason = if !meta.is_dir() {
        "it is not a directory"
    } else if meta.uid() != rustix::process::geteuid().as_raw() {
        "it belongs to another user"
    } else if meta.mode() & 0o022 != 0 {
        "others can write into it (chmod 0700 it, or remove it)"
    } else {
        return Ok(());
    };
    Err(Error::BadPath {
        path: path.to_owned(),
        reason,
    })
}

/// A lock of one file, exclusive among processes and among holders in one process; it ends when
/// dropped, and with the process. The file may be removed by who holds it.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock. Where the file was removed meanwhile, the one that took its place is
    /// locked in its stead: a lock on a file that nobody can find excludes nobody.
    pub fn exclusive(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        loop {
            let file = open_lock(path)?;
            match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
                Ok(()) if is_at(&file, path) => return Ok(Self { _file: file }),
                Ok(()) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(Error::path("lock", path)(e)),
            }
        }
    }

    /// Takes the lock, or says who holds it ([`Error::Locked`]), and writes our process id into it.
    pub fn try_exclusive(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut file = loop {
            let file = open_lock(path)?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if is_at(&file, path) => break file,
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(held(&file, path)),
                Err(e) => return Err(Error::path("lock", path)(e)),
            }
        };
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(Error::path("write", path))?;
        Ok(Self { _file: file })
    }
}

/// Whether `path` still is the file that was opened: not gone, and not made anew.
fn is_at(file: &File, path: &Path) -> bool {
    let same = |a: std::fs::Metadata, b: std::fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    file.metadata().is_ok_and(|ours| std::fs::symlink_metadata(path).is_ok_and(|there| same(ours, there)))
}

/// The error that names who holds a lock.
fn held(file: &File, path: &Path) -> Error {
    let mut text = [0u8; 16];
    let read = file.read_at(&mut text, 0).unwrap_or(0);
    let pid = std::str::from_utf8(&text[..read]).ok().and_then(|t| t.trim().parse().ok());
    Error::Locked { path: path.to_owned(), pid: pid.unwrap_or(0) }
}

fn open_lock(path: &Path) -> Result<File> {
    rustix::fs::open(
        path,
        OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::from_raw_mode(0o600),
    )
    .map(File::from)
    .map_err(Error::path("open", path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_write_replaces_the_whole_and_leaves_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        for (content, durability) in [
            ("first, long", Durability::Synced),
            ("second", Durability::Cached),
        ] {
            atomic_write(&path, content.as_bytes(), durability).unwrap();
            assert_eq!(read_text(&path, 100).unwrap(), content);
        }
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("in the way"), "").unwrap();
        assert!(atomic_write(&path, b"x", Durability::Cached).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(is_temporary(
            temporary_beside(&path)
                .unwrap()
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
        ));
        assert!(!is_temporary("record"));
        assert!(atomic_write("/", b"x", Durability::Cached).is_err());
    }

    #[test]
    fn reads_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, [b'x'; 10]).unwrap();
        assert_eq!(read_bounded(&path, 10).unwrap().len(), 10);
        assert!(matches!(
            read_bounded(&path, 9),
            Err(Error::TooLarge { max: 9, .. })
        ));
        assert!(read_bounded("/dev/zero", 4096).is_err());
        assert!(
            read_bounded(dir.path().join("none"), 1)
                .unwrap_err()
                .is_absent()
        );
        std::fs::write(&path, [0xff]).unwrap();
        assert!(matches!(read_text(&path, 9), Err(Error::Malformed { .. })));
    }

    #[test]
    fn a_private_directory_is_ours_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        private_dir(&path).unwrap();
        private_dir(&path).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o700
        );
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(private_dir(&path), Err(Error::BadPath { .. })));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("a"), &link).unwrap();
        assert!(matches!(private_dir(&link), Err(Error::BadPath { .. })));
    }

    #[test]
    fn a_lock_excludes_and_names_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = Lock::try_exclusive(&path).unwrap();
        let Err(Error::Locked { pid, .. }) = Lock::try_exclusive(&path) else {
            panic!("locked twice")
        };
        assert_eq!(pid, std::process::id() as i32);
        drop(held);
        let held = Lock::exclusive(&path).unwrap();
        assert!(matches!(
            Lock::try_exclusive(&path),
            Err(Error::Locked { .. })
        ));
        drop(held);
        Lock::try_exclusive(&path).unwrap();
    }

    #[test]
    fn a_lock_that_was_waited_for_is_one_that_others_find() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::exclusive(&path).unwrap();
        let waiting = {
            let path = path.clone();
            std::thread::spawn(move || Lock::exclusive(&path).unwrap())
        };
        // Whether the other waits already cannot be seen; either way it must end with the new file.
        std::thread::sleep(std::time::Duration::from_millis(50));
        std::fs::remove_file(&path).unwrap();
        drop(first);
        let second = waiting.join().unwrap();
        assert!(path.exists());
        assert!(matches!(Lock::try_exclusive(&path), Err(Error::Locked { .. })));
        drop(second);
        std::fs::remove_dir_all(dir.path()).unwrap();
        assert!(Lock::exclusive(&path).unwrap_err().is_absent(), "its directory is gone: nothing is made");
    }

    #[test]
    fn directories_are_spread_where_the_file_system_can() {
        use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
        // Not in memory, where there is nothing to spread.
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        spread_below(dir.path()).unwrap();
        let file = File::open(dir.path()).unwrap();
        let spread = ioctl_getflags(&file).is_ok_and(|flags| flags.contains(IFlags::TOPDIR));
        let can = ioctl_getflags(&file).is_ok_and(|flags| ioctl_setflags(&file, flags | IFlags::TOPDIR).is_ok());
        assert_eq!(spread, can);
        assert!(spread_below(dir.path().join("absent")).is_err());
    }
}
