//! `fsGroup`: the group that owns a volume (`pkg/volume/volume_linux.go`, `SetVolumeOwnership`).

use super::{VolumeError, failed, paths};
use cofferdam_model::pod::Pod;
use rustix::fs::{AtFlags, CWD, Gid, chownat};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The group that a pod's volumes are given to. `fsGroupChangePolicy` means nothing for volumes that
/// live as long as their pod, as upstream has it: they are always filled anew.
pub(super) fn group(pod: &Pod) -> Result<Option<u32>, VolumeError> {
    let Some(group) = pod.spec.security_context.as_ref().and_then(|s| s.fs_group) else {
        return Ok(None);
    };
    let gid = u32::try_from(group).ok().filter(|gid| *gid < u32::MAX);
    gid.map(Some)
        .ok_or_else(|| VolumeError(format!("fsGroup {group} is not a group id; use 0 to 2147483647")))
}

/// Gives everything in the volume at `path` to `group` and opens it to it: 0660, or 0440 where it is
/// read-only; directories get setgid and 0110 too, so that new files belong to the group. Only
/// called on a volume that this process has just filled.
pub(super) fn give(path: &Path, group: Option<u32>, readonly: bool) -> Result<(), VolumeError> {
    match group {
        None => Ok(()),
        Some(gid) => walk(path, Gid::from_raw(gid), readonly),
    }
}

fn walk(path: &Path, gid: Gid, readonly: bool) -> Result<(), VolumeError> {
    let meta = std::fs::symlink_metadata(path).map_err(|err| failed("read", path, &err))?;
    chownat(CWD, path, None, Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(|err| failed("chown", path, &err.into()))?;
    if meta.is_symlink() {
        return Ok(());
    }
    let mut mask = if readonly { 0o440 } else { 0o660 };
    if meta.is_dir() {
        mask |= 0o2110;
    }
    paths::chmod(path, (meta.permissions().mode() & 0o7777) | mask)?;
    if meta.is_dir() {
        for entry in std::fs::read_dir(path).map_err(|err| failed("read", path, &err))? {
            walk(&entry.map_err(|err| failed("read", path, &err))?.path(), gid, readonly)?;
        }
    }
    Ok(())
}
