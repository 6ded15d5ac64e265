//! What a pod has written, and when that is too much (`pkg/kubelet/eviction/eviction_manager.go`,
//! `localStorageEviction`): its `emptyDir`s by their `sizeLimit`, its containers and all of it by their
//! limits of `ephemeral-storage`.
//!
//! Counted are blocks, as `du` counts them, each file once. A pod could make the counting endless, so
//! it ends at [`MAX_ENTRIES`]; a volume with a limit that holds more than that cannot be measured, and
//! its pod is evicted.

use crate::setup::Dirs;
use cofferdam_model::Quantity;
use cofferdam_model::pod::{Container, Pod, RestartPolicy};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, openat2, statat};
use rustix::io::Errno;
use std::cell::Cell;
use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Most files and directories that are counted of one directory.
const MAX_ENTRIES: usize = 1_000_000;
/// Most bytes of names of directories that are still to be read.
const MAX_PENDING: usize = 16 * 1024 * 1024;
/// Counting takes at most one part in this many of the time.
const SHARE: u32 = 20;
/// What is too short to be spread.
const SHORT: Duration = Duration::from_millis(100);

/// `ephemeral-storage`, as a resource.
const STORAGE: &str = "ephemeral-storage";

/// What a pod may write.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// Disk-backed `emptyDir`s: name, directory, limit.
    dirs: Vec<(String, PathBuf, Option<Quantity>)>,
    /// Containers with a limit, but for those that end before the others begin.
    containers: Vec<(String, Quantity)>,
    /// All containers together.
    pod: Option<Quantity>,
    /// The pod's logs; a folder a container.
    logs: PathBuf,
    /// When was counted last, and how long that took.
    last: Cell<Option<(Instant, Duration)>>,
}

impl Limits {
    /// The limits of `pod`; `dir` gives the directory of an `emptyDir` that is on disk.
    pub(super) fn of(pod: &Pod, dirs: &Dirs, dir: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let limit = |container: &Container| {
            let limit = container.resources.as_ref()?.limits.get(STORAGE)?;
            (limit.sign() > 0).then(|| limit.clone())
        };
        let meta = &pod.metadata;
        let folder = format!(
            "{}_{}_{}",
            meta.namespace_or_default(),
            meta.name,
            meta.uid.as_deref().unwrap_or_default()
        );
        let sidecars = pod
            .spec
            .init_containers
            .iter()
            .filter(|c| c.restart_policy == Some(RestartPolicy::Always));
        // Upstream leaves sidecars out; a limit that was written for one holds here too.
        let lasting = sidecars.chain(&pod.spec.containers);
        let size = |volume: &cofferdam_model::pod::Volume| {
            volume
                .empty_dir
                .as_ref()
                .and_then(|e| e.size_limit.clone())
                .filter(|q| q.sign() > 0)
        };
        Self {
            dirs: pod
                .spec
                .volumes
                .iter()
                .filter_map(|v| Some((v.name.clone(), dir(&v.name)?, size(v))))
                .collect(),
            containers: lasting.filter_map(|c| Some((c.name.clone(), limit(c)?))).collect(),
            pod: of_pod(pod, limit),
            logs: dirs.logs.join(folder),
            last: Cell::new(None),
        }
    }

    /// What is weaker than asked.
    pub(super) fn warning(&self) -> Option<String> {
        let limit = self.pod.as_ref()?;
        Some(format!(
            "the {STORAGE} limits of the containers, {limit} together, are held to their logs and the pod's emptyDir volumes, not to what they write in their root file systems"
        ))
    }

    /// Whether anything is limited.
    pub(super) fn are_any(&self) -> bool {
        self.pod.is_some() || self.dirs.iter().any(|(_, _, limit)| limit.is_some())
    }

    /// The kubelet's sentence, where the pod must be evicted.
    pub(super) fn exceeded(&self) -> Option<String> {
        if !self.are_any() {
            return None;
        }
        if let Some((at, took)) = self.last.get()
            && took > SHORT
            && at.elapsed() < took * SHARE
        {
            return None;
        }
        let began = Instant::now();
        let found = self.look();
        self.last.set(Some((Instant::now(), began.elapsed())));
        found
    }

    fn look(&self) -> Option<String> {
        let beyond = |used: u64, limit: &Quantity| i128::from(used) > i128::from(limit.value());
        let mut total = 0u64;
        for (name, path, limit) in &self.dirs {
            if limit.is_none() && self.pod.is_none() {
                continue;
            }
            let used = match usage(path, MAX_ENTRIES) {
                Ok(used) => used,
                Err(why) => return Some(format!("Usage of EmptyDir volume {name:?} cannot be told: {why}. ")),
            };
            if let Some(limit) = limit.as_ref().filter(|limit| beyond(used, limit)) {
                return Some(format!("Usage of EmptyDir volume {name:?} exceeds the limit \"{limit}\". "));
            }
            total = total.saturating_add(used);
        }
        let pod = self.pod.as_ref()?;
        if let Ok(logs) = usage(&self.logs, MAX_ENTRIES)
            && beyond(total.saturating_add(logs), pod)
        {
            return Some(format!(
                "Pod ephemeral local storage usage exceeds the total limit of containers {pod}. "
            ));
        }
        let of_container = |name: &str| usage(&self.logs.join(name), MAX_ENTRIES).unwrap_or(0);
        let (name, limit) = self.containers.iter().find(|(name, limit)| beyond(of_container(name), limit))?;
        Some(format!("Container {name} exceeded its local ephemeral storage limit \"{limit}\". "))
    }
}

/// The limit of a pod, where any of its containers has one (`component-helpers/resource`, `PodLimits`).
fn of_pod(pod: &Pod, limit: impl Fn(&Container) -> Option<Quantity>) -> Option<Quantity> {
    let sum = |a: Option<Quantity>, b: Option<Quantity>| match (a, b) {
        (Some(a), Some(b)) => Some(a.saturating_add(&b)),
        (a, b) => a.or(b),
    };
    let value = |q: &Option<Quantity>| q.as_ref().map_or(0, Quantity::nano);
    let mut sidecars = None;
    let mut init = None;
    for container in &pod.spec.init_containers {
        let mine = sum(sidecars.clone(), limit(container));
        if container.restart_policy == Some(RestartPolicy::Always) {
            sidecars.clone_from(&mine);
        }
        if value(&mine) > value(&init) {
            init = mine;
        }
    }
    let lasting = pod.spec.containers.iter().map(&limit).fold(sidecars, sum);
    let most = if value(&init) > value(&lasting) { init } else { lasting }?;
    let overhead = pod.spec.overhead.as_ref().and_then(|o| o.get(STORAGE));
    Some(overhead.map_or(most.clone(), |overhead| most.saturating_add(overhead)))
}

/// Bytes of the blocks of everything under `root`, on its file system. The container may change it
/// meanwhile: no link is followed, and what vanishes is passed over. An error is half a sentence.
fn usage(root: &Path, most: usize) -> Result<u64, String> {
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |at: &OwnedFd, path: &Path| openat2(at, path, flags, Mode::empty(), beneath);
    let told = |err: Errno| std::io::Error::from(err).to_string();
    let base = match openat2(CWD, root, flags | OFlags::NOFOLLOW, Mode::empty(), ResolveFlags::NO_MAGICLINKS) {
        Err(Errno::NOENT) => return Ok(0),
        other => other.map_err(told)?,
    };
    let (mut total, mut seen) = (0u64, 0usize);
    let mut linked = HashSet::new();
    let mut pending = vec![PathBuf::from(".")];
    let mut bytes = 1;
    while let Some(folder) = pending.pop() {
        bytes -= folder.as_os_str().len();
        let dir = match open(&base, &folder) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => continue,
            Err(err) => return Err(told(err)),
        };
        let entries = Dir::read_from(&dir).map_err(told)?;
        for entry in entries {
            let Ok(entry) = entry else { continue };
            if matches!(entry.file_name().to_bytes(), b"..") {
                continue;
            }
            seen += 1;
            if seen > most {
                return Err(format!("it has more than {most} files"));
            }
            let Ok(stat) = statat(&dir, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let is_self = entry.file_name().to_bytes() == b".";
            if is_dir && !is_self {
                let path = folder.join(std::ffi::OsStr::from_bytes(entry.file_name().to_bytes()));
                bytes += path.as_os_str().len();
                if bytes > MAX_PENDING {
                    return Err("it has too many directories".into());
                }
                pending.push(path);
                continue;
            }
            if stat.st_nlink > 1 && !is_dir && !linked.insert((stat.st_dev, stat.st_ino)) {
                continue;
            }
            total = total.saturating_add(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512));
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};
    use std::os::unix::fs::symlink;

    #[test]
    fn blocks_are_counted_once_and_within() {
        let dir = tempfile::tempdir().unwrap();
        let (volume, outside) = (dir.path().join("v"), dir.path().join("o"));
        std::fs::create_dir_all(volume.join("d/e")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        let empty = usage(&volume, 100).unwrap();
        std::fs::write(outside.join("big"), vec![1u8; 4 << 20]).unwrap();
        symlink(&outside, volume.join("d/out")).unwrap();
        symlink(outside.join("big"), volume.join("file")).unwrap();
        assert!(usage(&volume, 100).unwrap() - empty < 1 << 20, "links lead to nothing");
        std::fs::write(volume.join("d/e/f"), vec![1u8; 1 << 20]).unwrap();
        std::fs::hard_link(volume.join("d/e/f"), volume.join("g")).unwrap();
        let used = usage(&volume, 100).unwrap() - empty;
        assert!((1 << 20..2 << 20).contains(&used), "{used}");
        std::fs::File::create(volume.join("sparse")).unwrap().set_len(1 << 40).unwrap();
        assert!(usage(&volume, 100).unwrap() - empty < 2 << 20, "holes are not counted");
        assert_eq!(usage(&volume, 5), Err("it has more than 5 files".into()));
        assert_eq!(usage(&dir.path().join("none"), 5), Ok(0));
    }

    #[test]
    fn limits_of_pods() {
        let c = |limit: &str| json!({"name": "c", "resources": {"limits": {"ephemeral-storage": limit}}});
        let init = |limit: &str| json!({"name": "i", "resources": {"limits": {"ephemeral-storage": limit}}});
        let sidecar = |limit: &str| {
            let mut sidecar = c(limit);
            sidecar["restartPolicy"] = json!("Always");
            sidecar
        };
        let none = || json!({"name": "n"});
        let rows: [(&str, Value, Option<&str>); 6] = [
            ("none", json!({"containers": [none()]}), None),
            ("one has", json!({"containers": [c("1Gi"), none()]}), Some("1Gi")),
            ("all together", json!({"containers": [c("1Gi"), c("2Gi")]}), Some("3Gi")),
            (
                "an init container needs more",
                json!({"initContainers": [init("4Gi")], "containers": [c("1Gi")]}),
                Some("4Gi"),
            ),
            (
                "with the sidecars before",
                json!({"initContainers": [sidecar("1Gi"), init("4Gi")], "containers": [c("1Gi")]}),
                Some("5Gi"),
            ),
            (
                "and the overhead",
                json!({"overhead": {"ephemeral-storage": "1Gi"}, "containers": [c("1Gi")]}),
                Some("2Gi"),
            ),
        ];
        for (what, spec, expected) in rows {
            let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
            let limits = Limits::of(&pod, &Dirs::default(), |_| None);
            assert_eq!(limits.are_any(), expected.is_some(), "{what}");
            assert_eq!(limits.warning().is_some(), expected.is_some(), "{what}: what is weaker is told");
            assert!(limits.containers.iter().all(|(name, _)| name != "i"), "{what}: as upstream");
            assert_eq!(limits.pod.map(|q| q.to_string()), expected.map(str::to_owned), "{what}");
        }
    }

    #[test]
    fn what_is_exceeded_is_told_in_the_kubelets_words() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = Dirs {
            logs: dir.path().join("logs"),
            ..Dirs::default()
        };
        let write = |path: &str, size: usize| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, vec![1u8; size]).unwrap();
        };
        write("v/f", 2 << 20);
        write("logs/ns_p_u/c/0.log", 1 << 20);
        let pod = |size: Value, limits: [&str; 2]| -> Pod {
            let container = |name: &str, limit: &str| json!({"name": name, "resources": {"limits": {"ephemeral-storage": limit}}});
            serde_json::from_value(json!({
                "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
                "spec": {"volumes": [{"name": "v", "emptyDir": {"sizeLimit": size}}], "containers": [container("c", limits[0]), container("d", limits[1])]},
            }))
            .unwrap()
        };
        let rows = [
            ("nothing limited", json!(null), ["0", "0"], None),
            ("in bounds", json!("8Mi"), ["8Mi", "8Mi"], None),
            (
                "the volume",
                json!("1Mi"),
                ["0", "0"],
                Some("Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". "),
            ),
            (
                "the pod",
                json!("8Mi"),
                ["1Mi", "1Mi"],
                Some("Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. "),
            ),
            (
                "a container",
                json!(null),
                ["512Ki", "8Mi"],
                Some("Container c exceeded its local ephemeral storage limit \"512Ki\". "),
            ),
        ];
        for (what, size, limits, expected) in rows {
            let found = Limits::of(&pod(size, limits), &dirs, |_| Some(dir.path().join("v"))).exceeded();
            assert_eq!(found.as_deref(), expected, "{what}");
        }
    }
}
