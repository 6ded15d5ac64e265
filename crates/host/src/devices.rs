//! The machine's device files.

use crate::cgroup::DeviceKind;
use crate::{Error, Result};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A device file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Where it is.
    pub path: PathBuf,
    /// Character or block.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Directories and files of `/dev` that every container has as its own (containerd,
/// `oci/spec_opts_linux.go`, `getDevices`).
const OWN: [&str; 8] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"];
/// Deepest directory that is looked into, and most devices that are listed: `/dev` is the machine's
/// own, but a listing must end.
const MAX_DEPTH: usize = 6;
const MAX_DEVICES: usize = 16_384;

/// The device files under `dir`, by path; links are left out, as what they point to is listed.
pub fn list(dir: impl AsRef<Path>) -> Result<Vec<Device>> {
    let mut found = Vec::new();
    walk(dir.as_ref(), 0, &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn walk(dir: &Path, depth: usize, found: &mut Vec<Device>) -> Result<()> {
    for entry in std::fs::read_dir(dir).map_err(Error::path("list", dir))?.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        // One that went since it was listed is no device of this machine any more.
        let Ok(meta) = entry.metadata() else { continue };
        if OWN.iter().any(|own| name == *own) || found.len() >= MAX_DEVICES {
            continue;
        }
        if meta.is_dir() && depth < MAX_DEPTH {
            walk(&path, depth + 1, found)?;
            continue;
        }
        let kind = match meta.file_type() {
            t if t.is_char_device() => DeviceKind::Char,
            t if t.is_block_device() => DeviceKind::Block,
            _ => continue,
        };
        let number = meta.rdev();
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        found.push(Device { path, kind, major, minor, mode: meta.mode() & 0o7777, uid: meta.uid(), gid: meta.gid() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_machines_devices_are_listed_without_terminals_and_links() {
        let all = list("/dev").unwrap();
        let null = all.iter().find(|d| d.path == Path::new("/dev/null")).unwrap();
        assert_eq!((null.kind, null.major, null.minor), (DeviceKind::Char, 1, 3));
        for absent in ["/dev/pts", "/dev/console", "/dev/stdin", "/dev/fd"] {
            assert!(!all.iter().any(|d| d.path.starts_with(absent)), "{absent}");
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert_eq!(list(dir.path()).unwrap(), []);
    }
}
