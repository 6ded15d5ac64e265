//! Limits of controllers that most groups need not be in: CPU sets and huge pages. On v1 every
//! hierarchy that a process joins costs it time, so a group is made in these only where it is asked for;
//! in hybrid mode either may be on v2 alone.

use super::group::write;
use super::{Cgroups, Group, Mode};
use crate::{Error, Result, files};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const CPUSET: &str = "cpuset";
const HUGETLB: &str = "hugetlb";
/// Longest list of CPUs or memory nodes, bytes.
const MAX_LIST: usize = 4096;

/// Where a controller is, and whether that is v2.
struct Place {
    point: PathBuf,
    unified: bool,
}

impl Cgroups {
    fn place_of(&self, controller: &str) -> Result<Option<Place>> {
        let unified = || {
            self.unified().map(|point| Place {
                point: point.to_owned(),
                unified: true,
            })
        };
        if self.mode() == Mode::V2 {
            return Ok(unified());
        }
        if let Some(point) = self.mounts().get(controller) {
            return Ok(Some(Place {
                point: point.clone(),
                unified: false,
            }));
        }
        let on_v2 = self.v2_controllers()?.iter().any(|c| c == controller);
        Ok(if on_v2 { unified() } else { None })
    }
}

impl Group {
    /// Where the group's huge pages are counted, and whether that is v2; `None` without the controller.
    pub(super) fn huge_pages_at(&self) -> Option<(PathBuf, bool)> {
        let place = self.cgroups.place_of(HUGETLB).ok()??;
        Some((place.point.join(&self.path), place.unified))
    }

    /// Binds the group to CPUs and memory nodes, each written as `0-3,8` and left as it is where empty.
    /// What comes back must be joined beside [`Group::join_files`].
    pub fn set_cpuset(&self, cpus: &str, mems: &str) -> Result<Vec<PathBuf>> {
        if cpus.is_empty() && mems.is_empty() {
            return Ok(vec![]);
        }
        let wanted = "a set of CPUs";
        let (directory, join) = self.extra(CPUSET, wanted)?;
        for (file, list) in [("cpuset.cpus", cpus), ("cpuset.mems", mems)] {
            let good = list.len() <= MAX_LIST && list.bytes().all(|b| b.is_ascii_digit() || b == b'-' || b == b',');
            if !good {
                return Err(Error::Malformed {
                    path: directory.join(file),
                    reason: format!("{list:?} is not a list as 0-3,8"),
                });
            }
            if !list.is_empty() {
                write(&directory.join(file), list)?;
            }
        }
        Ok(join)
    }

    /// Limits huge pages: each size as the kernel writes it (`2MB`, `1GB`) to bytes. A size that the
    /// machine does not have is an error, and so is a missing controller, unless every limit is 0: a
    /// kubelet sends that for each size that the machine has, asked for or not. What comes back must be
    /// joined beside [`Group::join_files`].
    pub fn set_hugepages(&self, limits: &BTreeMap<String, u64>) -> Result<Vec<PathBuf>> {
        if limits.is_empty() {
            return Ok(vec![]);
        }
        let wanted = "a limit of huge pages";
        let (directory, join) = match self.extra(HUGETLB, wanted) {
            Err(Error::NoController { .. }) if limits.values().all(|bytes| *bytes == 0) => return Ok(vec![]),
            made => made?,
        };
        let unified = directory.join("cgroup.controllers").exists();
        for (size, bytes) in limits {
            let name = |what: &str| directory.join(format!("hugetlb.{size}.{what}"));
            let plain = size.ends_with("KB") || size.ends_with("MB") || size.ends_with("GB");
            if !plain || !size.bytes().all(|b| b.is_ascii_alphanumeric()) || !name("current").exists() && !name("usage_in_bytes").exists() {
                return Err(Error::Malformed {
                    path: directory.clone(),
                    reason: format!("this machine has no huge pages of {size:?}"),
                });
            }
            let (limit, reserved) = if unified {
                ("max", "rsvd.max")
            } else {
                ("limit_in_bytes", "rsvd.limit_in_bytes")
            };
            write(&name(limit), &bytes.to_string())?;
            // Reservations are counted since Linux 5.7.
            match write(&name(reserved), &bytes.to_string()) {
                Err(e) if e.is_absent() => {}
                written => written?,
            }
        }
        Ok(join)
    }

    /// On v2: lets the group have the controller that a file's name begins with, where it is a rare one.
    pub(super) fn give_for_file(&self, name: &str) -> Result<()> {
        const RARE: [&str; 4] = [CPUSET, HUGETLB, "misc", "rdma"];
        let controller = RARE.into_iter().find(|c| name.strip_prefix(c).is_some_and(|rest| rest.starts_with('.')));
        controller.map_or(Ok(()), |controller| self.extra(controller, "a file of cgroup v2").map(drop))
    }

    /// The group's directory for a controller, made where it is not there, and what must be joined.
    fn extra(&self, controller: &'static str, wanted: &'static str) -> Result<(PathBuf, Vec<PathBuf>)> {
        let missing = || Error::NoController {
            controller,
            wanted,
            group: self.path.clone(),
        };
        let place = self.cgroups.place_of(controller)?.ok_or_else(missing)?;
        let mut directory = place.point.clone();
        for (depth, component) in self.path.components().enumerate() {
            let parent = directory.clone();
            directory.push(component);
            if place.unified {
                self.give(depth, &directory, &[controller])?;
            }
            match std::fs::create_dir(&directory) {
                Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(Error::path("create", &directory)(e)),
                _ => {}
            }
            if controller == CPUSET && !place.unified {
                inherit(&parent, &directory)?;
            }
        }
        if place.unified {
            let has = files::read_text(directory.join("cgroup.controllers"), 4096)?;
            if !has.split_ascii_whitespace().any(|c| c == controller) {
                return Err(missing());
            }
        }
        let join = match (self.cgroups.mode(), place.unified) {
            (Mode::V2, _) => vec![],
            (_, true) => vec![directory.join("cgroup.procs")],
            (_, false) => vec![directory.join("tasks")],
        };
        Ok((directory, join))
    }

    /// The directories that [`Group::set_cpuset`] and [`Group::set_hugepages`] may have made.
    pub(super) fn extra_directories(&self) -> Vec<PathBuf> {
        let mounts = self.cgroups.mounts();
        let points = [
            mounts.get(CPUSET).map(PathBuf::as_path),
            mounts.get(HUGETLB).map(PathBuf::as_path),
            self.cgroups.unified(),
        ];
        points.into_iter().flatten().map(|point| point.join(&self.path)).collect()
    }
}

/// On v1 a new CPU set is empty, and takes no process until it has CPUs and memory nodes.
fn inherit(parent: &Path, child: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if files::read_text(child.join(file), 1 << 16)?.trim().is_empty() {
            write(&child.join(file), files::read_text(parent.join(file), 1 << 16)?.trim())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A directory that looks like a v2 mount whose root has these controllers, with a group `pod`.
    fn unified(controllers: &str) -> (tempfile::TempDir, Group) {
        let dir = tempfile::tempdir().unwrap();
        let cgroups = Cgroups::from_mountinfo("30 23 0:26 / /cg rw - cgroup2 cgroup2 rw\n", dir.path()).unwrap();
        std::fs::create_dir_all(dir.path().join("cg/cofferdam/pod")).unwrap();
        for at in ["", "cofferdam", "cofferdam/pod"] {
            let write = |name: &str, text: &str| std::fs::write(dir.path().join("cg").join(at).join(name), text).unwrap();
            write("cgroup.controllers", controllers);
            for empty in [
                "cgroup.subtree_control",
                "cpuset.cpus",
                "cpuset.mems",
                "hugetlb.2MB.current",
                "hugetlb.2MB.max",
            ] {
                write(empty, "");
            }
        }
        let group = cgroups.group("cofferdam/pod").unwrap();
        (dir, group)
    }

    #[test]
    fn on_v2_parents_enable_the_controller_and_nothing_more_is_joined() {
        let (dir, group) = unified("cpuset cpu hugetlb memory");
        let read = |at: &str| std::fs::read_to_string(dir.path().join("cg").join(at)).unwrap();
        assert_eq!(group.set_cpuset("0-3,8", "").unwrap(), Vec::<PathBuf>::new());
        assert_eq!(
            (read("cgroup.subtree_control"), read("cofferdam/cgroup.subtree_control")),
            ("+cpuset".into(), "+cpuset".into())
        );
        assert_eq!(
            (read("cofferdam/pod/cpuset.cpus"), read("cofferdam/pod/cpuset.mems")),
            ("0-3,8".into(), String::new())
        );
        let limit = |size: &str| BTreeMap::from([(size.to_owned(), 2 << 20)]);
        assert_eq!(group.set_hugepages(&limit("2MB")).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(read("cofferdam/pod/hugetlb.2MB.max"), (2 << 20).to_string());
        for bad in ["1GB", "../x.2MB", "2"] {
            assert!(group.set_hugepages(&limit(bad)).is_err(), "{bad}");
        }
        assert!(group.set_hugepages(&BTreeMap::new()).unwrap().is_empty());
        let file = |name: &str| BTreeMap::from([(name.to_owned(), "7".to_owned())]);
        group.set_unified(&file("hugetlb.2MB.max")).unwrap();
        assert_eq!((read("cgroup.subtree_control"), read("cofferdam/pod/hugetlb.2MB.max")), ("+hugetlb".into(), "7".into()));
        let error = group.set_unified(&file("misc.max")).unwrap_err();
        assert!(matches!(error, Error::NoController { controller: "misc", .. }), "{error}");
    }

    #[test]
    fn a_controller_that_is_not_there_is_told() {
        let (_dir, group) = unified("cpu memory");
        let error = group.set_cpuset("0", "").unwrap_err();
        assert!(matches!(error, Error::NoController { controller: CPUSET, .. }), "{error}");
        let limits = |bytes| BTreeMap::from([("1GB".to_owned(), 0), ("2MB".to_owned(), bytes)]);
        let error = group.set_hugepages(&limits(2 << 20)).unwrap_err();
        assert!(matches!(error, Error::NoController { controller: HUGETLB, .. }), "{error}");
        assert_eq!(group.set_hugepages(&limits(0)).unwrap(), Vec::<PathBuf>::new(), "a kubelet's");
    }
}
