//! The kernel's mount table, `/proc/self/mountinfo` (proc(5)).

use crate::{Error, Result, files};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The part of the file system that is mounted.
    pub root: PathBuf,
    /// Where it is mounted.
    pub point: PathBuf,
    /// Type of the file system.
    pub fstype: String,
    /// What is mounted.
    pub source: String,
    /// Options of the file system (not of the mount), separated by commas.
    pub super_options: String,
    /// It has peers, in which what is mounted on it shows, and the other way.
    pub shared: bool,
    /// What is mounted on its master shows in it.
    pub slave: bool,
}

/// The mount that `path` is on, links followed, as this thread sees it.
pub fn mount_of(path: impl AsRef<Path>) -> Result<Mount> {
    let path = path.as_ref();
    let real = path.canonicalize().map_err(Error::path("find", path))?;
    let text = files::read_text("/proc/thread-self/mountinfo", 16 << 20)?;
    containing(parse(&text), &real).ok_or_else(|| Error::BadPath { path: path.to_owned(), reason: "no mount of this namespace holds it" })
}

/// The deepest mount that holds `path`; of those at one point the last, which hides the others.
fn containing(mounts: Vec<Mount>, path: &Path) -> Option<Mount> {
    let holds = mounts.into_iter().filter(|m| path.starts_with(&m.point));
    holds.max_by_key(|m| m.point.components().count())
}

/// Reads the table; lines of a form that proc(5) does not have are left out.
pub fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Mount> {
    // id parent major:minor root point options [optional…] - fstype source super_options
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let root = unescape(before.next()?);
    let point = unescape(before.next()?);
    let optional: Vec<&str> = before.skip(1).collect();
    let has = |tag: &str| optional.iter().any(|field| field.starts_with(tag));
    let mut after = after.splitn(3, ' ');
    Some(Mount {
        root,
        point,
        fstype: after.next()?.to_owned(),
        source: after.next()?.to_owned(),
        super_options: after.next().unwrap_or("").to_owned(),
        shared: has("shared:"),
        slave: has("master:"),
    })
}

/// Undoes the kernel's octal escapes of space, tab, newline and backslash.
fn unescape(field: &str) -> PathBuf {
    let bytes = field.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes.get(at..at + 4) {
            Some([b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7']) => {
                out.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                at += 4;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_path_is_on_the_deepest_and_last_mount_that_holds_it() {
        let mounts = || {
            parse(
                "1 0 8:1 / / rw shared:1 - ext4 a rw\n2 1 8:2 / /data rw - ext4 b rw\n\
                 3 2 8:3 / /data rw master:1 - ext4 c rw\n4 1 8:4 / /datas rw - ext4 d rw\n",
            )
        };
        for (path, source) in [("/etc", "a"), ("/data", "c"), ("/data/x/y", "c"), ("/datas", "d"), ("/database", "a")] {
            assert_eq!(containing(mounts(), Path::new(path)).map(|m| m.source).as_deref(), Some(source), "{path}");
        }
        assert_eq!(mount_of("/proc/self").unwrap().fstype, "proc");
    }

    #[test]
    fn lines_are_read_with_and_without_optional_fields() {
        let mounts = parse(
            "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n\
             31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
             nonsense\n",
        );
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].point, PathBuf::from("/mnt 2"));
        assert_eq!(mounts[0].root, PathBuf::from("/mnt1"));
        assert_eq!(mounts[0].fstype, "ext3");
        assert_eq!(mounts[1].super_options, "rw,mode=755");
        assert_eq!((mounts[0].shared, mounts[0].slave), (true, true));
        assert_eq!((mounts[1].shared, mounts[1].slave), (false, false));
        for odd in ["", " - ", "a b c - d", "1 2 3 /\\9 /\\ - a b"] {
            parse(odd);
        }
    }
}
