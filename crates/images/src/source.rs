//! An archive as a set of named blobs: a directory, or a tar file with an index.

use crate::compress::{self, Format};
use crate::digest::{Digest, Metered};
use crate::error::{Error, IoContext, Result, invalid};
use crate::limits::Limits;
use crate::tarball::{Kind, TarReader};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Named blobs, wherever they come from: an archive today, a registry too.
pub(crate) trait Blobs: Sync {
    /// The blob and its length.
    fn open(&self, name: &str) -> Result<(Box<dyn Read + Send + '_>, u64)>;

    /// Whether a blob comes from afar.
    fn is_remote(&self, _: &Digest, _size: u64) -> bool {
        false
    }

    /// The blob from `offset` on, where it comes from afar and what was read of it before is kept;
    /// `None` where it is at hand.
    fn resume(&self, _: &Digest, _size: u64, _offset: u64) -> Option<Result<Box<dyn Read + Send + '_>>> {
        None
    }

    /// All of a small blob.
    fn small(&self, name: &str, limits: &Limits) -> Result<Vec<u8>> {
        let (reader, size) = self.open(name)?;
        if size > limits.json_bytes {
            return Err(Error::Archive {
                archive: name.to_owned(),
                why: format!("it is larger than {} bytes", limits.json_bytes),
            });
        }
        let mut data = Vec::new();
        reader
            .take(limits.json_bytes)
            .read_to_end(&mut data)
            .at("read", Path::new(name))?;
        Ok(data)
    }
}

/// An archive on this machine.
pub(crate) enum Source {
    Dir {
        path: PathBuf,
        fd: OwnedFd,
    },
    Tar {
        path: PathBuf,
        file: File,
        members: HashMap<String, Member>,
    },
}

/// Where the data of a member lies, or which member it stands for.
pub(crate) enum Member {
    Data(u64, u64),
    Link(String),
}

impl Source {
    /// A directory with the files of an archive.
    pub(crate) fn dir(path: &Path) -> Result<Self> {
        let fd = rustix::fs::open(
            path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .at("open", path)?;
        Ok(Self::Dir {
            path: path.to_path_buf(),
            fd,
        })
    }

    /// An uncompressed tar file. `path` is what messages call it.
    pub(crate) fn tar(path: &Path, file: File, limits: &Limits) -> Result<Self> {
        let members = index(&file, limits).map_err(|e| Error::Archive {
            archive: path.display().to_string(),
            why: e.to_string(),
        })?;
        Ok(Self::Tar {
            path: path.to_path_buf(),
            file,
            members,
        })
    }

    /// What messages call it.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Dir { path, .. } | Self::Tar { path, .. } => path,
        }
    }

    /// Whether it has `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.open(name).is_ok()
    }

    fn missing(&self, name: &str) -> Error {
        Error::Archive {
            archive: self.path().display().to_string(),
            why: format!("it has no {name:?}"),
        }
    }
}

impl Blobs for Source {
    fn open(&self, name: &str) -> Result<(Box<dyn Read + Send + '_>, u64)> {
        match self {
            Self::Dir { path, fd } => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
                let file: File = match openat2(fd, name, flags, Mode::empty(), resolve) {
                    Ok(fd) => fd.into(),
                    Err(rustix::io::Errno::NOENT) => return Err(self.missing(name)),
                    Err(e) => return Err(e).at("open", &path.join(name)),
                };
                let meta = file.metadata().at("open", &path.join(name))?;
                if !meta.is_file() {
                    return Err(Error::Archive {
                        archive: path.display().to_string(),
                        why: format!("{name:?} is not a file"),
                    });
                }
                Ok((Box::new(file), meta.len()))
            }
            Self::Tar { file, members, .. } => {
                let (mut name_now, mut hops) = (clean(name.as_bytes()), 0);
                // Layers that occur twice are symbolic links from the second on.
                while let Some(Member::Link(target)) =
                    name_now.as_ref().and_then(|n| members.get(n))
                {
                    hops += 1;
                    name_now = (hops < 8).then(|| target.clone());
                }
                match name_now.and_then(|n| members.get(&n)) {
                    Some(Member::Data(at, length)) => {
                        Ok((Box::new(Range::new(file, *at, *length)), *length))
                    }
                    _ => Err(self.missing(name)),
                }
            }
        }
    }
}

/// A part of a file, read without its cursor.
pub(crate) struct Range<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl<'a> Range<'a> {
    pub(crate) fn new(file: &'a File, at: u64, length: u64) -> Self {
        Self {
            file,
            at,
            end: at.saturating_add(length),
        }
    }

    pub(crate) fn position(&self) -> u64 {
        self.at
    }

    pub(crate) fn advance(&mut self, by: u64) {
        self.at = self.at.saturating_add(by);
    }
}

impl Read for Range<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let want = buffer.len().min(left);
        let n = self.file.read_at(&mut buffer[..want], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// Members of a tar file by name.
fn index(file: &File, limits: &Limits) -> io::Result<HashMap<String, Member>> {
    let length = file.metadata()?.len();
    let mut reader = TarReader::new(Range::new(file, 0, length));
    let mut members = HashMap::new();
    while let Some(entry) = reader.next()? {
        if members.len() >= limits.members {
            return Err(invalid(format!(
                "the archive has more than {} members",
                limits.members
            )));
        }
        if entry.path.len() > limits.path_bytes || entry.link.len() > limits.path_bytes {
            return Err(invalid(format!(
                "a name in the archive is longer than {} bytes",
                limits.path_bytes
            )));
        }
        let Some(name) = clean(&entry.path) else {
            continue;
        };
        let member = match entry.kind {
            Kind::File if entry.pieces.is_none() => {
                let (at, size) = reader.pass();
                if at.checked_add(size).is_none_or(|end| end > length) {
                    return Err(invalid(format!(
                        "it ends in the middle of {name:?}: it is cut off"
                    )));
                }
                Member::Data(at, size)
            }
            Kind::Symlink => {
                let beside = name.rfind('/').map_or("", |i| &name[..=i]);
                let Some(target) = clean(&[beside.as_bytes(), &entry.link].concat()) else {
                    continue;
                };
                Member::Link(target)
            }
            Kind::HardLink => match clean(&entry.link) {
                Some(target) => Member::Link(target),
                None => continue,
            },
            _ => continue,
        };
        // As with an unpacked archive, the last member of a name stands.
        members.insert(name, member);
    }
    Ok(members)
}

/// The name without `.`, `..` and doubled slashes; `None` where it leaves the archive, is empty or
/// not UTF-8: no manifest can name such a member.
fn clean(name: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    for part in std::str::from_utf8(name).ok()?.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// Copies a stream, decompressed, to `to`.
pub(crate) fn spool(
    from: impl Read,
    to: &mut File,
    limits: &Limits,
    seen: &dyn Fn(u64),
) -> io::Result<()> {
    let over = format!("the archive has more than {} bytes", limits.archive_bytes);
    let packed = Metered::new(from, limits.archive_bytes, over.clone()).watched(seen);
    let mut plain = Metered::new(compress::decoder(io::BufReader::new(packed))?, limits.archive_bytes, over);
    io::copy(&mut plain, to)?;
    Ok(())
}

/// How a regular file is compressed.
pub(crate) fn format(file: &File) -> io::Result<Format> {
    let mut head = [0; compress::SNIFF];
    let n = file.read_at(&mut head, 0)?;
    compress::sniff(&head[..n])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn names_stay_in_the_archive() {
        for (name, want) in [
            ("./a//b", Some("a/b")),
            ("a/../b", Some("b")),
            ("/a", Some("a")),
            ("../a", None),
            ("a/../../b", None),
            (".", None),
        ] {
            assert_eq!(clean(name.as_bytes()).as_deref(), want, "{name}");
        }
    }

    #[test]
    fn a_directory_gives_nothing_from_outside_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        let inner = dir.path().join("layout");
        std::fs::create_dir(&inner).unwrap();
        std::os::unix::fs::symlink("../secret", inner.join("out")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), inner.join("absolute")).unwrap();
        std::fs::write(inner.join("in"), "y").unwrap();
        let source = Source::dir(&inner).unwrap();
        assert_eq!(source.small("in", &Limits::default()).unwrap(), b"y");
        for name in ["out", "absolute", "../secret", "."] {
            assert!(source.open(name).is_err(), "{name}");
        }
    }

    #[test]
    fn links_in_a_tar_are_followed_a_few_times() {
        let mut builder = tar::Builder::new(tempfile::tempfile().unwrap());
        let mut put = |name: &str, kind, link: &str, data: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(data.len() as u64);
            if link.is_empty() {
                builder.append_data(&mut header, name, data).unwrap();
            } else {
                builder.append_link(&mut header, name, link).unwrap();
            }
        };
        put("a/layer.tar", tar::EntryType::Regular, "", b"hello");
        put(
            "b/layer.tar",
            tar::EntryType::Symlink,
            "../a/layer.tar",
            b"",
        );
        put("loop", tar::EntryType::Symlink, "loop", b"");
        put("out", tar::EntryType::Symlink, "../../etc/passwd", b"");
        let source = Source::tar(
            Path::new("x.tar"),
            builder.into_inner().unwrap(),
            &Limits::default(),
        )
        .unwrap();
        assert_eq!(
            source.small("b/layer.tar", &Limits::default()).unwrap(),
            b"hello"
        );
        for name in ["loop", "out", "none"] {
            assert!(source.open(name).is_err(), "{name}");
        }
        let few = Limits {
            members: 2,
            ..Limits::default()
        };
        let Source::Tar { file, .. } = source else {
            panic!()
        };
        assert!(Source::tar(Path::new("x.tar"), file, &few).is_err());
    }

    #[test]
    fn a_spooled_bomb_stops_at_the_bound() {
        let limits = Limits {
            archive_bytes: 1 << 20,
            ..Limits::default()
        };
        let bomb =
            flate2::read::GzEncoder::new(io::repeat(0).take(1 << 24), flate2::Compression::fast());
        let error = spool(bomb, &mut tempfile::tempfile().unwrap(), &limits, &|_| ()).unwrap_err();
        assert!(
            error.to_string().contains("more than 1048576 bytes"),
            "{error}"
        );
        assert!(
            spool(
                io::repeat(7),
                &mut tempfile::tempfile().unwrap(),
                &limits,
                &|_| ()
            )
            .is_err()
        );
    }
}
