//! Groups of processes and their limits, on cgroup v1, hybrid and v2 (cgroups(7), and the kernel's
//! `Documentation/admin-guide/cgroup-v1` and `cgroup-v2.rst`).
//!
//! A [`Group`] is one path below the mount of each controller that Cofferdam uses, so that callers
//! need not know the mode. Processes join by themselves, writing `0` into [`Group::join_files`]:
//! on v1 that costs a tenth of moving them from outside.
//!
//! On v2 a group that has children with limits holds no processes itself (the kernel's "no
//! internal processes" rule): who wants both puts its own processes into a child.

mod counters;
mod devices;
mod devices_v2;
mod extra;
mod group;
mod kill;
mod limits;
mod stats;
mod usage;
mod warm;

pub use counters::{Counters, DiskSize, DiskTraffic, HugePages, disk_size};
pub use devices::{Access, DEFAULT_DEVICES, DeviceKind, DeviceRule};
pub use group::Group;
pub use limits::Limits;
pub use stats::Stats;
pub use usage::{Interface, MemoryUsage, Pressure, PressureLine, Usage, interfaces, interfaces_of};
pub use warm::FastMoves;

use crate::{Error, Result, files, mountinfo};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which interface holds the controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// All on v1.
    V1,
    /// On v1, with v2 mounted beside, which may hold those that v1 does not (hugetlb, say).
    Hybrid,
    /// All on v2 (unified).
    V2,
}

/// A controller that Cofferdam uses. Others (cpuset, blkio, …) leave processes where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Controller {
    Memory,
    Cpu,
    Cpuacct,
    Pids,
    Devices,
    Freezer,
}

impl Controller {
    const ALL: [Self; 6] = [
        Self::Memory,
        Self::Cpu,
        Self::Cpuacct,
        Self::Pids,
        Self::Devices,
        Self::Freezer,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Pids => "pids",
            Self::Devices => "devices",
            Self::Freezer => "freezer",
        }
    }
}

/// Names of v1 controllers among the options of a mount, which also hold `rw`, `xattr` and more.
const V1_NAMES: [&str; 14] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "debug",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "misc",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
];

/// The cgroup mounts of the machine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cgroups(Arc<Mounts>);

#[derive(Debug)]
struct Mounts {
    mode: Mode,
    /// Directories in which a group has a directory each: v1 mounts of our controllers, co-mounted
    /// ones once, or the one of v2.
    points: Vec<PathBuf>,
    /// Each of our v1 controllers' mount.
    v1: Vec<(Controller, PathBuf)>,
    v2: Option<PathBuf>,
    named: BTreeMap<String, PathBuf>,
}

impl Cgroups {
    /// Finds the mounts in `/proc/self/mountinfo`.
    pub fn detect() -> Result<Self> {
        Self::from_mountinfo(
            &files::read_text("/proc/self/mountinfo", 16 << 20)?,
            Path::new("/"),
        )
    }

    /// Finds the mounts in a text of that form, every mount point taken below `root`: `/`, or a
    /// test's directory.
    pub fn from_mountinfo(text: &str, root: &Path) -> Result<Self> {
        let mut named = BTreeMap::new();
        let mut v2 = None;
        for mount in mountinfo::parse(text) {
            let point = root.join(mount.point.strip_prefix("/").unwrap_or(&mount.point));
            match mount.fstype.as_str() {
                "cgroup" => {
                    for option in mount.super_options.split(',') {
                        if V1_NAMES.contains(&option) || option.starts_with("name=") {
                            named
                                .entry(option.to_owned())
                                .or_insert_with(|| point.clone());
                        }
                    }
                }
                "cgroup2" if v2.is_none() => v2 = Some(point),
                _ => {}
            }
        }
        let v1: Vec<_> = Controller::ALL
            .into_iter()
            .filter_map(|c| named.get(c.name()).map(|p| (c, p.clone())))
            .collect();
        let mode = match (v1.is_empty(), &v2) {
            (true, None) => return Err(Error::NoCgroups),
            (true, Some(_)) => Mode::V2,
            (false, None) => Mode::V1,
            (false, Some(_)) => Mode::Hybrid,
        };
        let mut points: Vec<PathBuf> = Vec::new();
        match (mode, &v2) {
            (Mode::V2, Some(point)) => points.push(point.clone()),
            _ => {
                for (_, point) in &v1 {
                    if !points.contains(point) {
                        points.push(point.clone());
                    }
                }
            }
        }
        Ok(Self(Arc::new(Mounts {
            mode,
            points,
            v1,
            v2,
            named,
        })))
    }

    /// Which interface holds the controllers.
    pub fn mode(&self) -> Mode {
        self.0.mode
    }

    /// Mount point of each v1 controller (and named hierarchy, `name=systemd`), used by us or not.
    pub fn mounts(&self) -> &BTreeMap<String, PathBuf> {
        &self.0.named
    }

    /// Mount point of v2, where it is mounted.
    pub fn unified(&self) -> Option<&Path> {
        self.0.v2.as_deref()
    }

    /// Controllers that v2 holds. In hybrid mode crun 1.8 refuses to run where there is one.
    pub fn v2_controllers(&self) -> Result<Vec<String>> {
        let Some(point) = &self.0.v2 else {
            return Ok(Vec::new());
        };
        let text = files::read_text(point.join("cgroup.controllers"), 4096)?;
        Ok(text.split_ascii_whitespace().map(str::to_owned).collect())
    }

    /// The group at `path` below the mounts (`cofferdam/<pod>`), made or not. Each part of the path
    /// is letters, digits, `_`, `-` and `.`, and does not begin with a dot.
    pub fn group(&self, path: impl AsRef<Path>) -> Result<Group> {
        Group::new(self.clone(), path.as_ref())
    }

    pub(crate) fn points(&self) -> &[PathBuf] {
        &self.0.points
    }

    /// Directory that holds the files of `controller`, without a group's path.
    pub(crate) fn point_of(&self, controller: Controller) -> Option<&Path> {
        match self.0.mode {
            Mode::V2 => self.0.v2.as_deref(),
            Mode::V1 | Mode::Hybrid => self
                .0
                .v1
                .iter()
                .find(|(c, _)| *c == controller)
                .map(|(_, p)| p.as_path()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const V1: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        36 31 0:33 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n\
        37 31 0:34 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n\
        38 31 0:34 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio\n\
        39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
        40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n";
    const HYBRID: &str = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    const V2: &str =
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn modes_are_told_from_the_mounts() {
        let root = Path::new("/");
        for (text, mode) in [
            (V1.to_owned(), Mode::V1),
            (format!("{V1}{HYBRID}"), Mode::Hybrid),
            (V2.to_owned(), Mode::V2),
        ] {
            assert_eq!(Cgroups::from_mountinfo(&text, root).unwrap().mode(), mode);
        }
        assert!(matches!(
            Cgroups::from_mountinfo("", root),
            Err(Error::NoCgroups)
        ));
        // systemd's own hierarchy on v1 carries no controller.
        let text = format!("{V2}40 31 0:37 / /x rw - cgroup cgroup rw,name=systemd\n");
        assert_eq!(
            Cgroups::from_mountinfo(&text, root).unwrap().mode(),
            Mode::V2
        );
    }

    #[test]
    fn a_hierarchy_with_two_controllers_is_joined_once() {
        let cgroups = Cgroups::from_mountinfo(V1, Path::new("/root")).unwrap();
        let group = cgroups.group("cofferdam/pod").unwrap();
        let files: Vec<_> = group
            .join_files()
            .iter()
            .map(|f| f.display().to_string())
            .collect();
        assert_eq!(
            files,
            ["memory", "cpu,cpuacct", "pids", "devices", "freezer"]
                .map(|c| format!("/root/sys/fs/cgroup/{c}/cofferdam/pod/tasks"))
        );
        assert_eq!(
            cgroups.mounts()["blkio"],
            Path::new("/root/sys/fs/cgroup/blkio")
        );
        assert_eq!(cgroups.mounts()["cpuacct"], cgroups.mounts()["cpu"]);
        assert_eq!(cgroups.unified(), None);

        let v2 = Cgroups::from_mountinfo(V2, Path::new("/")).unwrap();
        assert_eq!(
            v2.group("a/b").unwrap().join_files(),
            [Path::new("/sys/fs/cgroup/a/b/cgroup.procs")]
        );
    }

    #[test]
    fn paths_stay_below_the_mount() {
        let cgroups = Cgroups::from_mountinfo(V2, Path::new("/")).unwrap();
        for bad in [
            "", "/", "/abs", "a/../b", "..", "a//../..", "a b", "a\n", ".hidden", "a/./b/.c",
        ] {
            assert!(cgroups.group(bad).is_err(), "{bad:?}");
        }
        assert!(cgroups.group("cofferdam/0123abc/ctr-1").is_ok());
    }
}
