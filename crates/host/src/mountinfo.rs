//! The kernel's mount table, `/proc/self/mountinfo` (proc(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

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
    let mut after = after.splitn(3, ' ');
    Some(Mount {
        root,
        point,
        fstype: after.next()?.to_owned(),
        source: after.next()?.to_owned(),
        super_options: after.next().unwrap_or("").to_owned(),
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
        for odd in ["", " - ", "a b c - d", "1 2 3 /\\9 /\\ - a b"] {
            parse(odd);
        }
    }
}
