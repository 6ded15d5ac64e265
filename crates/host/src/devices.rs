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

/// The device at `path`, links followed, or, where that is a directory, all beneath it; their paths
/// begin with `path` as it was given. Anything else is an error, as is a directory without devices.
pub fn at(path: impl AsRef<Path>) -> Result<Vec<Device>> {
    let path = path.as_ref();
    let real = path.canonicalize().map_err(Error::path("find the device", path))?;
    let meta = real.metadata().map_err(Error::path("look at", path))?;
    let mut found = if meta.is_dir() { list(&real)? } else { Vec::from_iter(device(real.clone(), &meta)) };
    if found.is_empty() {
        return Err(Error::BadPath { path: path.to_owned(), reason: "it is not a device, nor a directory of devices" });
    }
    for device in &mut found {
        let rest = device.path.strip_prefix(&real).unwrap_or(Path::new(""));
        device.path = if rest.as_os_str().is_empty() { path.to_owned() } else { path.join(rest) };
    }
    Ok(found)
}

fn device(path: PathBuf, meta: &std::fs::Metadata) -> Option<Device> {
    let kind = match meta.file_type() {
        t if t.is_char_device() => DeviceKind::Char,
        t if t.is_block_device() => DeviceKind::Block,
        _ => return None,
    };
    let number = meta.rdev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    Some(Device { path, kind, major, minor, mode: meta.mode() & 0o7777, uid: meta.uid(), gid: meta.gid() })
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
        found.extend(device(path, &meta));
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
        let one = at("/dev/null").unwrap();
        assert_eq!((one.len(), one[0].minor, one[0].path.as_path()), (1, 3, Path::new("/dev/null")));
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/null", dir.path().join("link")).unwrap();
        assert_eq!(at(dir.path().join("link")).unwrap()[0].path, dir.path().join("link"));
        assert!(at(dir.path()).unwrap_err().to_string().contains("it is not a device"));
        assert!(at("/dev/no-such-device").unwrap_err().is_absent());
        std::fs::remove_file(dir.path().join("link")).unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert_eq!(list(dir.path()).unwrap(), []);
    }
}
