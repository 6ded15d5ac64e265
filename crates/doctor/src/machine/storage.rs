//! Our folders and their file systems.

use super::Sources;
use crate::facts::Storage;
use cofferdam_host::mountinfo::{self, Mount};
use rustix::fs::{Access, StatVfsMountFlags};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Most unreadable records that are named.
const MAX_ASIDE: usize = 20;

pub(super) fn storage(sources: &Sources<'_>, unknown: &mut Vec<String>) -> Vec<Storage> {
    let mounts = sources
        .table_file("/proc/self/mountinfo", unknown)
        .map(|t| mountinfo::parse(&t))
        .unwrap_or_default();
    let one = |(role, path): (&'static str, &PathBuf)| look(sources, role, path, &mounts, unknown);
    [("root", &sources.root), ("state", &sources.state)]
        .into_iter()
        .filter_map(one)
        .collect()
}

fn look(sources: &Sources<'_>, role: &'static str, path: &Path, mounts: &[Mount], unknown: &mut Vec<String>) -> Option<Storage> {
    let looked_at = path.ancestors().find(|p| sources.at(p).exists()).unwrap_or(Path::new("/"));
    let at = sources.at(looked_at);
    let told = |e: std::io::Error| format!("cannot look at {}: {e}", looked_at.display());
    let space = rustix::fs::statvfs(&at).map_err(|e| unknown.push(told(e.into()))).ok()?;
    let meta = std::fs::metadata(&at).map_err(|e| unknown.push(told(e))).ok()?;
    let unit = space.f_frsize;
    Some(Storage {
        role,
        path: path.to_owned(),
        looked_at: looked_at.to_owned(),
        fstype: fstype(mounts, looked_at),
        free_bytes: space.f_bavail.saturating_mul(unit),
        total_bytes: space.f_blocks.saturating_mul(unit),
        free_inodes: space.f_favail,
        total_inodes: space.f_files,
        read_only: space.f_flag.contains(StatVfsMountFlags::RDONLY),
        noexec: space.f_flag.contains(StatVfsMountFlags::NOEXEC),
        not_writable: rustix::fs::access(&at, Access::WRITE_OK)
            .err()
            .map(|e| std::io::Error::from(e).to_string()),
        // Only our own folder must be private; `/var/lib` is what it is.
        open_to_others: looked_at == path && meta.mode() & 0o022 != 0,
    })
}

/// Of the last mount over the nearest point above `path`.
fn fstype(mounts: &[Mount], path: &Path) -> String {
    let above = mounts.iter().filter(|m| path.starts_with(&m.point));
    above
        .max_by_key(|m| m.point.components().count())
        .map(|m| m.fstype.clone())
        .unwrap_or_default()
}

/// Records that recovery could not read.
pub(super) fn aside(sources: &Sources<'_>) -> Vec<PathBuf> {
    let folder = sources.root.join("unreadable");
    sources
        .names(&folder)
        .into_iter()
        .take(MAX_ASIDE)
        .map(|name| folder.join(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_and_last_mount_counts() {
        let mounts = mountinfo::parse(
            "1 0 8:1 / / rw - ext4 a rw\n2 1 8:2 / /var/lib rw - xfs b rw\n3 1 8:3 / /var rw - btrfs c rw\n4 2 8:4 / /var/lib rw - tmpfs d rw\n",
        );
        for (path, expected) in [
            ("/var/lib/cofferdam", "tmpfs"),
            ("/var/log", "btrfs"),
            ("/variant", "ext4"),
            ("/", "ext4"),
        ] {
            assert_eq!(fstype(&mounts, Path::new(path)), expected, "{path}");
        }
    }
}
