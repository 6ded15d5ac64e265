//! Makes the single files, links and devices of a layer.

use super::{Unpacker, Why, set_opaque, text};
use crate::tarball::{Entry, Kind, Time};
use crate::tree::stack::Found;
use crate::tree::{self, is_whiteout, kind, lstat};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

const NEW_FILE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

impl Unpacker<'_> {
    /// Makes `entry` as `base` in `dir`, in the place of what an earlier entry made there.
    pub(super) fn node(
        &mut self,
        dir: &OwnedFd,
        base: &[u8],
        entry: &Entry,
        data: &mut impl Read,
    ) -> Result<(), Why> {
        if entry.kind == Kind::HardLink {
            return self.hard_link(dir, base, &entry.link);
        }
        if entry.kind == Kind::Char && entry.device == (0, 0) {
            // It would be a whiteout to overlayfs, so it is treated as one.
            return self.whiteout(dir, base);
        }
        let (exists, renewed) = self.make_room(dir, base, entry.kind == Kind::Dir)?;
        match entry.kind {
            Kind::File => self.file(dir, base, entry, data)?,
            Kind::Dir => self.plain_directory(dir, base, entry, exists, renewed)?,
            Kind::Symlink => self.symlink(dir, base, entry)?,
            Kind::Fifo | Kind::Char | Kind::Block => self.device(dir, base, entry)?,
            Kind::HardLink => {}
        }
        Ok(())
    }

    /// Removes what stands in the way. Returns whether a directory is there already that can stay,
    /// and whether it was removed from the layers below before.
    fn make_room(
        &mut self,
        dir: &OwnedFd,
        base: &[u8],
        directory: bool,
    ) -> Result<(bool, bool), Why> {
        let Some(old) = lstat(dir, base).map_err(text)? else {
            return Ok((false, false));
        };
        let is_directory = kind(&old) == FileType::Directory;
        if is_directory && directory {
            return Ok((true, false));
        }
        if is_directory || kind(&old) == FileType::Symlink {
            self.last = None;
        }
        tree::remove(dir, base, self.trash).map_err(text)?;
        Ok((false, is_whiteout(&old)))
    }

    fn file(
        &mut self,
        dir: &OwnedFd,
        base: &[u8],
        entry: &Entry,
        data: &mut impl Read,
    ) -> Result<(), Why> {
        let fd = rustix::fs::openat(dir, base, NEW_FILE, Mode::RUSR | Mode::WUSR).map_err(text)?;
        let mut file = File::from(fd);
        let written = match &entry.pieces {
            None => io::copy(data, &mut file).map(|_| ()),
            Some(pieces) => write_pieces(&file, pieces, entry.size, data),
        };
        written.map_err(|e| e.to_string())?;
        self.report.bytes += entry.size;
        self.attributes(file.as_fd(), entry)?;
        file.flush().map_err(|e| e.to_string())?;
        rustix::fs::futimens(&file, &timestamps(entry.mtime)).map_err(text)
    }

    fn plain_directory(
        &mut self,
        dir: &OwnedFd,
        base: &[u8],
        entry: &Entry,
        exists: bool,
        renewed: bool,
    ) -> Result<(), Why> {
        if !exists {
            rustix::fs::mkdirat(dir, base, Mode::RWXU).map_err(text)?;
        }
        let fd = tree::open_dir(dir, base).map_err(text)?;
        if renewed {
            set_opaque(&fd)?;
        }
        self.attributes(fd.as_fd(), entry)?;
        let mut path = self.real_path(&fd)?.join(&b'/');
        path.shrink_to_fit();
        self.keep_time(path, entry.mtime)
    }

    fn symlink(&mut self, dir: &OwnedFd, base: &[u8], entry: &Entry) -> Result<(), Why> {
        if entry.link.is_empty() || entry.link.len() > self.limits.path_bytes {
            return Err(format!(
                "a link's target has 1 to {} bytes",
                self.limits.path_bytes
            ));
        }
        // A target is only text: whoever follows it, does so inside the container.
        rustix::fs::symlinkat(&entry.link, dir, base).map_err(text)?;
        self.nameless(dir, base, entry)
    }

    /// Devices are legal in a layer; the container's device cgroup guards them, and the store's
    /// directory keeps them from the users of the host.
    fn device(&mut self, dir: &OwnedFd, base: &[u8], entry: &Entry) -> Result<(), Why> {
        let kind = match entry.kind {
            Kind::Char => FileType::CharacterDevice,
            Kind::Block => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let (major, minor) = entry.device;
        // What the kernel's device numbers hold: 12 and 20 bits.
        if major >= 1 << 12 || minor >= 1 << 20 {
            return Err(format!("there is no device {major}:{minor}"));
        }
        rustix::fs::mknodat(
            dir,
            base,
            kind,
            Mode::RUSR,
            rustix::fs::makedev(major, minor),
        )
        .map_err(text)?;
        self.nameless(dir, base, entry)
    }

    /// Attributes of what cannot be opened for reading without effect.
    fn nameless(&mut self, dir: &OwnedFd, base: &[u8], entry: &Entry) -> Result<(), Why> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, base, flags, Mode::empty()).map_err(text)?;
        self.attributes(fd.as_fd(), entry)?;
        rustix::fs::utimensat(
            dir,
            base,
            &timestamps(entry.mtime),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(text)
    }

    /// Owner, then mode (a change of owner clears setuid), then extended attributes (it clears
    /// capabilities too).
    pub(super) fn attributes(&mut self, fd: BorrowedFd<'_>, entry: &Entry) -> Result<(), Why> {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        rustix::fs::chownat(fd, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH).map_err(text)?;
        if entry.kind != Kind::Symlink {
            rustix::fs::chmod(proc_path(fd), Mode::from_raw_mode(entry.mode)).map_err(text)?;
        }
        for (name, value) in &entry.xattrs {
            let shown = String::from_utf8_lossy(name).into_owned();
            if !is_image_attribute(name) {
                self.warn(format!(
                    "extended attribute {shown:?} belongs to the builder's machine and is left out"
                ));
                continue;
            }
            match rustix::fs::setxattr(proc_path(fd), name, value, XattrFlags::empty()) {
                Ok(()) => {}
                // As containerd does: file systems differ in what they keep. Never for capabilities,
                // whose absence changes what a program may do.
                Err(Errno::NOTSUP | Errno::PERM) if name != b"security.capability" => {
                    self.warn(format!(
                        "extended attribute {shown:?} is not kept by this file system"
                    ));
                }
                Err(e) => {
                    return Err(format!(
                        "cannot set extended attribute {shown:?}: {}",
                        text(e)
                    ));
                }
            }
        }
        Ok(())
    }

    fn hard_link(&mut self, dir: &OwnedFd, base: &[u8], target: &[u8]) -> Result<(), Why> {
        let parts = self
            .parts(target)
            .map_err(|why| format!("its link target: {why}"))?;
        let (name, parents) = parts
            .split_last()
            .ok_or("a hard link cannot lead to the root")?;
        let owned = match self.open(parents) {
            Ok(fd) => Some((lstat(&fd, name).map_err(text)?, fd)),
            Err(Errno::NOENT | Errno::NOTDIR) => None,
            Err(e) => return Err(text(e)),
        };
        let from = match owned {
            Some((Some(stat), _)) if is_whiteout(&stat) => {
                return Err("its link target is removed".into());
            }
            Some((Some(stat), _)) if kind(&stat) == FileType::Directory => {
                return Err("its link target is a directory".into());
            }
            Some((Some(stat), fd)) => {
                let here = lstat(dir, base).map_err(text)?;
                if here.is_some_and(|here| (here.st_dev, here.st_ino) == (stat.st_dev, stat.st_ino))
                {
                    // It is that file already; an archive may name a link twice.
                    return Ok(());
                }
                fd
            }
            _ => self.copy_up(&parts)?,
        };
        self.make_room(dir, base, false)?;
        rustix::fs::linkat(from, *name, dir, base, AtFlags::empty())
            .map_err(|e| format!("cannot link it: {}", text(e)))
    }

    /// Brings a file of a layer below into this one, so that it can be linked to, as overlayfs
    /// would. Returns the directory that it is in.
    fn copy_up(&mut self, parts: &[&[u8]]) -> Result<OwnedFd, Why> {
        let Some((name, parents)) = parts.split_last() else {
            return Err("a hard link cannot lead to the root".into());
        };
        let (from, stat) = match self.lower.find(parts).map_err(text)? {
            Some(Found::Node(fd, stat)) if kind(&stat) == FileType::RegularFile => (fd, stat),
            _ => return Err("its link target does not exist".into()),
        };
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let over = || format!("the image has more than {} bytes", self.limits.image_bytes);
        self.budget.bytes = self.budget.bytes.checked_sub(size).ok_or_else(over)?;
        let dir = self.directory(parents, &mut 0)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut source =
            File::from(rustix::fs::openat(from, *name, flags, Mode::empty()).map_err(text)?);
        let mut copy = File::from(
            rustix::fs::openat(&dir, *name, NEW_FILE, Mode::RUSR | Mode::WUSR).map_err(text)?,
        );
        io::copy(&mut source, &mut copy).map_err(|e| e.to_string())?;
        self.report.bytes += size;
        copy_attributes(source.as_fd(), copy.as_fd(), &stat).map_err(text)?;
        let time = (
            stat.st_mtime,
            u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        );
        rustix::fs::futimens(&copy, &timestamps(time)).map_err(text)?;
        Ok(dir)
    }
}

/// Whether an attribute is part of an image. Labels and signatures of the machine that built it are
/// not, and those of overlayfs would let a layer steer the host's mount.
fn is_image_attribute(name: &[u8]) -> bool {
    let overlay = name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
    let known = name.starts_with(b"user.")
        || name.starts_with(b"trusted.")
        || name.starts_with(b"system.posix_acl_");
    (known && !overlay) || name == b"security.capability"
}

fn write_pieces(
    file: &File,
    pieces: &[(u64, u64)],
    size: u64,
    data: &mut impl Read,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    for (offset, length) in pieces {
        let mut done = 0;
        while done < *length {
            let want = buffer
                .len()
                .min(usize::try_from(length - done).unwrap_or(usize::MAX));
            data.read_exact(&mut buffer[..want])?;
            file.write_all_at(&buffer[..want], offset + done)?;
            done += want as u64;
        }
    }
    file.set_len(size)
}

/// Gives `to` owner, mode and extended attributes of `from`, which `stat` is about.
pub(super) fn copy_attributes(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    stat: &Stat,
) -> rustix::io::Result<()> {
    rustix::fs::fchown(
        to,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    for (name, value) in tree::xattrs(from)? {
        rustix::fs::fsetxattr(to, &name, &value, XattrFlags::empty())?;
    }
    Ok(())
}

pub(super) fn timestamps((seconds, nanos): Time) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: i64::from(nanos),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// A path that leads to an open file, for calls that take no descriptor of this kind.
pub(super) fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

pub(super) fn proc_target(fd: BorrowedFd<'_>) -> rustix::io::Result<Vec<u8>> {
    rustix::fs::readlink(proc_path(fd), Vec::new()).map(std::ffi::CString::into_bytes)
}
