//! `emptyDir` (`pkg/volume/emptydir/empty_dir.go`).

use super::{Given, Prepared, VolumeError, make_dirs, owner, paths};
use cofferdam_model::Quantity;
use cofferdam_model::pod::{EmptyDir, Pod};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Begins the medium `HugePages-2Mi`.
const HUGE_PAGES: &str = "HugePages";

pub(super) fn prepare(source: &EmptyDir, pod: &Pod, path: PathBuf, group: Option<u32>, given: Given<'_>) -> Result<Prepared, VolumeError> {
    let medium = source.medium.as_deref().unwrap_or_default();
    if source.size_limit.as_ref().is_some_and(|q| q.sign() < 0) {
        return Err(VolumeError("sizeLimit must not be negative".into()));
    }
    if medium.is_empty() {
        make_dirs(&path, 0o700)?;
        paths::chmod(&path, 0o777)?;
        owner::give(&path, group, false)?;
        return Ok(Prepared::Dir { path, readonly: false });
    }
    let (limit, huge_page_size) = match medium {
        "Memory" => (memory(source.size_limit.as_ref(), given), None),
        _ if medium.starts_with(HUGE_PAGES) => (0, Some(page_size(medium, pod)?)),
        other => return Err(VolumeError(format!("unknown storage medium {other:?}"))),
    };
    make_dirs(&path, 0o700)?;
    Ok(Prepared::Tmpfs {
        path,
        limit,
        huge_page_size,
        group,
    })
}

/// Bytes of a memory volume: the lowest of its own limit, the pod's and what the machine has
/// (`calculateEmptyDirMemorySize`).
fn memory(size_limit: Option<&Quantity>, given: Given<'_>) -> u64 {
    let own = size_limit.map_or(0, Quantity::value);
    let limits = [own, given.memory_limit, given.machine.memory];
    limits
        .into_iter()
        .filter_map(|n| u64::try_from(n).ok())
        .filter(|n| *n > 0)
        .min()
        .unwrap_or(0)
}

/// The size of huge pages that a medium means (`getPageSizeMountOption`): the pod must ask for such.
fn page_size(medium: &str, pod: &Pod) -> Result<u64, VolumeError> {
    let containers = pod.spec.containers.iter().chain(&pod.spec.init_containers);
    let resources = containers.filter_map(|c| c.resources.as_ref()).chain(&pod.spec.resources);
    // Requests and limits of huge pages are equal.
    let sizes: BTreeSet<i64> = resources
        .flat_map(|r| r.requests.keys().chain(r.limits.keys()))
        .filter_map(|name| name.strip_prefix("hugepages-")?.parse::<Quantity>().ok())
        .map(|size| size.value())
        .filter(|size| *size > 0)
        .collect();
    let wanted = match medium.strip_prefix(HUGE_PAGES).unwrap_or_default() {
        "" if sizes.len() > 1 => {
            return Err(VolumeError(format!(
                "medium: {medium} can't be used if container requests multiple huge page sizes"
            )));
        }
        "" => sizes.first().copied(),
        rest => {
            let size = rest
                .strip_prefix('-')
                .and_then(|size| size.parse::<Quantity>().ok())
                .map(|size| size.value());
            let size = size.ok_or_else(|| VolumeError(format!("unknown storage medium {medium:?}; write HugePages or HugePages-2Mi")))?;
            sizes.contains(&size).then_some(size)
        }
    };
    let wanted = wanted.and_then(|size| u64::try_from(size).ok());
    wanted.ok_or_else(|| {
        VolumeError(format!(
            "medium {medium}: hugePages storage requested, but there is no resource request for huge pages"
        ))
    })
}
