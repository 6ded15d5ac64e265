//! Makes the single files, links and devices of a layer.

use super::{Unpacker, Why, set_opaque, text};
use crate::checksum::Checksum;
use crate::tarball::{Entry, Kind, TarReader, Time};
use crate::tree::stack::Found;
use crate::tree::writeback;
use crate::tree::{self, is_image_attribute, is_whiteout, kind, lstat};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, BufRead, Read, Write};
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
        data: &mut TarReader<impl BufRead>,
    ) -> Result<(), Why> {
        match entry.kind {
            Kind::HardLink => self.hard_link(dir, base, &entry.link),
            // It would be a whiteout to overlayfs, so it is treated as one.
            Kind::Char if entry.device == (0, 0) => self.whiteout(dir, base),
            Kind::File => self.file(dir, base, entry, data),
            Kind::Dir => self.plain_directory(dir, base, entry),
            Kind::Symlink => self.symlink(dir, base, entry),
            Kind::Fifo | Kind::Char | Kind::Block => self.device(dir, base, entry),
        }
    }

    /// Makes what is no directory; what stands in the way is removed, which is seldom needed.
    fn fresh<T>(
        &mut self,
        dir: &OwnedFd,
        base: &[u8],
        make: impl Fn() -> rustix::io::Result<T>,
    ) -> Result<T, Why> {
        match make() {
            Err(Errno::EXIST) => {
                self.make_room(dir, base)?;
                make().map_err(text)
            }
            result => result.map_err(text),
        }
    }

    /// Removes what stands in the way. Returns whether it was a whiteout.
    fn make_room(&mut self, dir: &OwnedFd, base: &[u8]) -> Result<bool, Why> {
        let Some(old) = lstat(dir, base).map_err(text)? else {
            return Ok(false);
        };
        if kind(&old) == FileType::Directory || kind(&old) == FileType::Symlink {
            self.last = None;
        }
        if kind(&old) == FileType::RegularFile && old.st_nlink == 1 {
            self.contents.remove(&old.st_ino);
        }
        tree::remove(dir, base, self.trash).map_err(text)?;
        Ok(is_whiteout(&old))
    }

    fn file(
        &mut self,
        dir: &OwnedFd,
        base: &[u8],
        entry: &Entry,
        data: &mut TarReader<impl BufRead>,
    ) -> Result<(), Why> {
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let fd = self.fresh(dir, base, || rustix::fs::openat(dir, base, NEW_FILE, mode))?;
        let stat = rustix::fs::fstat(&fd).map_err(text)?;
        let file = File::from(fd);
        let mut sum = Checksum::new();
        let written = match &entry.pieces {
            None => data.copy_to(|bytes| {
                sum.update(bytes);
                (&file).write_all(bytes)
            }),
            Some(pieces) => {
                self.buffer.resize(64 << 10, 0);
                write_pieces(&file, pieces, entry.size, data, &mut self.buffer, &mut sum)
            }
        };
        written.map_err(|e| e.to_string())?;
        if entry.size >= writeback::WORTH {
            writeback::begin(&file, 0, entry.size);
        }
        self.contents.insert(stat.st_ino, sum.finish());
        self.report.bytes += entry.size;
        self.attributes(file.as_fd(), &stat, entry)?;
        rustix::fs::futimens(&file, &timestamps(entry.mtime)).map_err(text)
    }

    fn plain_directory(&mut self, dir: &OwnedFd, base: &[u8], entry: &Entry) -> Result<(), Why> {
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let mut renewed = false;
        match rustix::fs::mkdirat(dir, base, mode) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let old = lstat(dir, base).map_err(text)?;
                if old.is_none_or(|old| kind(&old) != FileType::Directory) {
                    renewed = self.make_room(dir, base)?;
                    rustix::fs::mkdirat(dir, base, mode).map_err(text)?;
                }
            }
            Err(e) => return Err(text(e)),
        }
        let fd = tree::open_dir(dir, base).map_err(text)?;
        if renewed {
            set_opaque(&fd)?;
        }
        let stat = rustix::fs::fstat(&fd).map_err(text)?;
        self.attributes(fd.as_fd(), &stat, entry)?;
        let mut path = self.real_path(&fd)?.join(&b'/');
        path.shrink_to_fit();
        self.implied.remove(&path);
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
        self.fresh(dir, base, || rustix::fs::symlinkat(&entry.link, dir, base))?;
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
        let device = rustix::fs::makedev(major, minor);
        self.fresh(dir, base, || {
            rustix::fs::mknodat(dir, base, kind, Mode::RUSR, device)
        })?;
        self.nameless(dir, base, entry)
    }

    /// Attributes of what cannot be opened for reading without effect.
    fn nameless(&mut self, dir: &OwnedFd, base: &[u8], entry: &Entry) -> Result<(), Why> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, base, flags, Mode::empty()).map_err(text)?;
        let stat = rustix::fs::fstat(&fd).map_err(text)?;
        self.attributes(fd.as_fd(), &stat, entry)?;
        rustix::fs::utimensat(
            dir,
            base,
            &timestamps(entry.mtime),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(text)
    }

    /// Owner, then mode (a change of owner clears setuid), then extended attributes (it clears
    /// capabilities too); of what `stat` says already, nothing is set again.
    pub(super) fn attributes(
        &mut self,
        fd: BorrowedFd<'_>,
        stat: &Stat,
        entry: &Entry,
    ) -> Result<(), Why> {
        let owned = (stat.st_uid, stat.st_gid) == (entry.uid, entry.gid);
        if !owned {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            rustix::fs::chownat(fd, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
                .map_err(text)?;
        }
        let same = stat.st_mode & 0o7777 == entry.mode && (owned || entry.mode & 0o6000 == 0);
        if !same && entry.kind != Kind::Symlink {
            let mode = Mode::from_raw_mode(entry.mode);
            match entry.kind {
                Kind::File | Kind::Dir => rustix::fs::fchmod(fd, mode),
                _ => rustix::fs::chmod(proc_path(fd), mode),
            }
            .map_err(text)?;
        }
        for (name, value) in &entry.xattrs {
            self.xattr(fd, name, value)?;
        }
        Ok(())
    }

    fn xattr(&mut self, fd: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> Result<(), Why> {
        let shown = String::from_utf8_lossy(name).into_owned();
        if !is_image_attribute(name) {
            self.warn(format!(
                "extended attribute {shown:?} belongs to the builder's machine and is left out"
            ));
            return Ok(());
        }
        match rustix::fs::setxattr(proc_path(fd), name, value, XattrFlags::empty()) {
            Ok(()) => Ok(()),
            // As containerd does: file systems differ in what they keep. Never for capabilities,
            // whose absence changes what a program may do.
            Err(Errno::NOTSUP | Errno::PERM) if name != b"security.capability" => {
                self.warn(format!(
                    "extended attribute {shown:?} is not kept by this file system"
                ));
                Ok(())
            }
            Err(e) => Err(format!(
                "cannot set extended attribute {shown:?}: {}",
                text(e)
            )),
        }
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
        let link = || rustix::fs::linkat(&from, *name, dir, base, AtFlags::empty());
        self.fresh(dir, base, link)
            .map_err(|why| format!("cannot link it: {why}"))
    }

    /// Brings a file of a layer below into this one, so that it can be linked to, as overlayfs
    /// would. Returns the directory that it is in.
    fn copy_up(&mut self, parts: &[&[u8]]) -> Result<OwnedFd, Why> {
        let Some((name, parents)) = parts.split_last() else {
            return Err("a hard link cannot lead to the root".into());
        };
        let Some(lower) = self.lower else {
            self.needs_lower = true;
            return Err("the layers below are not there yet".into());
        };
        let (from, stat) = match lower.find(parts).map_err(text)? {
            Some(Found::Node(fd, stat)) if kind(&stat) == FileType::RegularFile => (fd, stat),
            _ => return Err("its link target does not exist".into()),
        };
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        self.spend(size, 0)?;
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

fn write_pieces(
    file: &File,
    pieces: &[(u64, u64)],
    size: u64,
    data: &mut impl Read,
    buffer: &mut [u8],
    sum: &mut Checksum,
) -> io::Result<()> {
    let mut end = 0;
    for (offset, length) in pieces {
        sum.zeros(offset.saturating_sub(end));
        let mut done = 0;
        while done < *length {
            let want = buffer
                .len()
                .min(usize::try_from(length - done).unwrap_or(usize::MAX));
            data.read_exact(&mut buffer[..want])?;
            file.write_all_at(&buffer[..want], offset + done)?;
            sum.update(&buffer[..want]);
            done += want as u64;
        }
        end = offset + length;
    }
    sum.zeros(size.saturating_sub(end));
    file.set_len(size)
}

/// Gives `to` owner, mode and extended attributes of `from`, which `stat` is about.
pub(crate) fn copy_attributes(
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

pub(crate) fn timestamps((seconds, nanos): Time) -> Timestamps {
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
