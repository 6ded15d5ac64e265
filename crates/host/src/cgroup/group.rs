//! One group: made, entered, listed, removed.

use super::{Cgroups, Controller, Mode};
use crate::{Error, Result, files};
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

/// A path below the mounts of the controllers that Cofferdam uses. Its directories may or may not
/// be there; each call says what it does where they are not.
#[derive(Debug, Clone)]
pub struct Group {
    pub(super) cgroups: Cgroups,
    pub(super) path: PathBuf,
    /// How many of the path's first groups are somebody else's.
    theirs: usize,
}

/// v2 controllers that are given to children; devices are an eBPF program and freezing is built in. `io`
/// is for counting alone, where v1 would cost each process a further hierarchy to join.
const V2_ENABLED: [&str; 4] = ["cpu", "io", "memory", "pids"];

impl Group {
    pub(super) fn new(cgroups: Cgroups, path: &Path) -> Result<Self> {
        let good = |c: Component<'_>| match c {
            Component::Normal(name) => {
                let bytes = name.as_encoded_bytes();
                bytes[0] != b'.'
                    && bytes
                        .iter()
                        .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(b))
            }
            _ => false,
        };
        if path.as_os_str().is_empty() || !path.components().all(good) {
            return Err(Error::BadPath {
                path: path.to_owned(),
                reason: "a cgroup is a relative path of letters, digits, `_`, `-` and `.`",
            });
        }
        Ok(Self {
            cgroups,
            path: path.to_owned(),
            theirs: 0,
        })
    }

    /// The path below the mounts.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The group `name` inside this one.
    pub fn child(&self, name: &str) -> Result<Self> {
        let child = Self::new(self.cgroups.clone(), &self.path.join(name))?;
        Ok(Self { theirs: self.theirs, ..child })
    }

    /// The same group, where `parent`, a group above it, is somebody else's. On v2 all groups down to it
    /// let their children have the controllers, as OCI runtimes do it for a parent that is named to them
    /// (a kubelet's have them already); those above `parent` that cannot stay as they are, and a limit
    /// that needs what is missing says so.
    #[must_use]
    pub fn within(mut self, parent: &Path) -> Self {
        self.theirs = parent.components().count();
        self
    }

    /// Lets the group at `child`, at `depth` of the path, and its siblings have these controllers.
    pub(super) fn give(&self, depth: usize, child: &Path, controllers: &[&str]) -> Result<()> {
        let Some(directory) = child.parent() else { return Ok(()) };
        match enable(directory, controllers) {
            Err(_) if depth < self.theirs && child.is_dir() => Ok(()),
            given => given,
        }
    }

    /// The group's directories, one a hierarchy.
    pub fn directories(&self) -> Vec<PathBuf> {
        self.cgroups
            .points()
            .iter()
            .map(|p| p.join(&self.path))
            .collect()
    }

    /// Makes the group and its missing parents; one that is there is no error. On v2 the parents
    /// give their children the controllers that limits need.
    pub fn create(&self) -> Result<()> {
        for point in self.cgroups.points() {
            let mut directory = point.clone();
            for (depth, component) in self.path.components().enumerate() {
                directory.push(component);
                if self.cgroups.mode() == Mode::V2 {
                    self.give(depth, &directory, &V2_ENABLED)?;
                }
                match std::fs::create_dir(&directory) {
                    Ok(()) => {}
                    Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                    Err(e) => return Err(Error::path("create", &directory)(e)),
                }
            }
        }
        Ok(())
    }

    /// Whether any of its directories is there.
    pub fn exists(&self) -> bool {
        self.directories().iter().any(|d| d.is_dir())
    }

    /// Files by which a further process joins process `pid` of the group: where that one is. A container
    /// that gives controllers to groups which it made itself (systemd, Docker) has its processes in these
    /// alone, as v2 wants it; who joined the group itself would be refused.
    pub fn join_files_beside(&self, pid: i32) -> Vec<PathBuf> {
        self.inner_group_of(pid).unwrap_or_else(|| self.join_files())
    }

    fn inner_group_of(&self, pid: i32) -> Option<Vec<PathBuf>> {
        let point = self.cgroups.unified().filter(|_| self.cgroups.mode() == Mode::V2)?;
        let given = files::read_text(point.join(&self.path).join("cgroup.subtree_control"), 4096).ok()?;
        if given.trim().is_empty() {
            return None;
        }
        let text = files::read_text(format!("/proc/{pid}/cgroup"), 1 << 16).ok()?;
        let within = Path::new(text.lines().find_map(|line| line.strip_prefix("0::/"))?);
        let plain = within.components().all(|c| matches!(c, Component::Normal(_)));
        (plain && within.starts_with(&self.path)).then(|| vec![point.join(within).join("cgroup.procs")])
    }

    /// Files into which a process writes `0` to join: on v1 `tasks`, which moves the calling
    /// thread alone (so: before it has others), on v2 `cgroup.procs`.
    pub fn join_files(&self) -> Vec<PathBuf> {
        let file = if self.cgroups.mode() == Mode::V2 {
            "cgroup.procs"
        } else {
            "tasks"
        };
        self.directories()
            .into_iter()
            .map(|d| d.join(file))
            .collect()
    }

    /// Ids of the processes in the group and below it, in any hierarchy: one that joined only some
    /// of them before it was killed is found too. Empty where the group is not there.
    pub fn procs(&self) -> Result<BTreeSet<i32>> {
        let mut pids = BTreeSet::new();
        for directory in self.directories() {
            for directory in tree(&directory)? {
                read_pids(&directory.join("cgroup.procs"), &mut pids)?;
            }
        }
        Ok(pids)
    }

    /// Names of the groups right inside this one, in any hierarchy.
    pub fn list_children(&self) -> Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for directory in self.directories() {
            for child in subdirectories(&directory)? {
                names.extend(
                    child
                        .file_name()
                        .and_then(|n| n.to_str())
                        .map(str::to_owned),
                );
            }
        }
        Ok(names)
    }

    /// Removes the group and those below it, deepest first; what is not there is no error. The
    /// kernel says EBUSY until the last process is wholly gone: that is tried again for `timeout`.
    pub fn remove(&self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        let own = self.directories();
        let other = self.extra_directories();
        for directory in own.iter().chain(other.iter().filter(|d| !own.contains(d))) {
            for directory in tree(directory)? {
                remove_one(&directory, deadline)?;
            }
        }
        Ok(())
    }

    /// The file `name` of `controller`, which `wanted` needs.
    pub(super) fn file(
        &self,
        controller: Controller,
        name: &str,
        wanted: &'static str,
    ) -> Result<PathBuf> {
        let point = self
            .cgroups
            .point_of(controller)
            .ok_or_else(|| self.without(controller, wanted))?;
        Ok(point.join(&self.path).join(name))
    }

    pub(super) fn without(&self, controller: Controller, wanted: &'static str) -> Error {
        Error::NoController {
            controller: controller.name(),
            wanted,
            group: self.path.clone(),
        }
    }
}

fn remove_one(directory: &Path, deadline: Instant) -> Result<()> {
    let mut pause = Duration::from_micros(100);
    loop {
        match std::fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(10));
            }
            Err(e) => return Err(Error::path("remove", directory)(e)),
        }
    }
}

/// Lets the children of `directory` have the controllers, those of them that it has itself. One
/// that it has not shows when a limit needs it.
fn enable(directory: &Path, controllers: &[&str]) -> Result<()> {
    let read = |name: &str| files::read_text(directory.join(name), 4096);
    let (available, enabled) = (read("cgroup.controllers")?, read("cgroup.subtree_control")?);
    let has = |text: &str, name: &str| text.split_ascii_whitespace().any(|c| c == name);
    let missing: Vec<String> = controllers
        .iter()
        .filter(|c| has(&available, c) && !has(&enabled, c))
        .map(|c| format!("+{c}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let file = directory.join("cgroup.subtree_control");
    match write(&file, &missing.join(" ")) {
        Err(e) if e.io().and_then(std::io::Error::raw_os_error) == Some(libc::EBUSY) => Err(Error::Inhabited { group: directory.to_owned() }),
        written => written,
    }
}

/// Writes a value into a file of the kernel's; never makes one.
pub(super) fn write(path: &Path, value: &str) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(path)
        .and_then(|mut f| f.write_all(value.as_bytes()))
        .map_err(Error::path("write", path))
}

fn read_pids(path: &Path, pids: &mut BTreeSet<i32>) -> Result<()> {
    match files::read_text(path, 64 << 20) {
        // 0 stands for a process of a pid namespace that we do not see.
        Ok(text) => pids.extend(
            text.lines()
                .filter_map(|l| l.trim().parse::<i32>().ok())
                .filter(|p| *p > 0),
        ),
        Err(e) if gone(&e) => {}
        Err(e) => return Err(e),
    }
    Ok(())
}

/// A group removed while its file was open answers ENODEV. One of threads, which a container may make,
/// answers EOPNOTSUPP: its processes are listed by the group above that it is of.
fn gone(error: &Error) -> bool {
    let code = error.io().and_then(std::io::Error::raw_os_error);
    error.is_absent() || code == Some(libc::ENODEV) || code == Some(libc::EOPNOTSUPP)
}

/// `directory` and all directories below it, the deepest first; nothing where it is absent.
fn tree(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if directory.is_dir() {
        found.push(directory.to_owned());
    }
    let mut next = 0;
    while let Some(directory) = found.get(next) {
        found.extend(subdirectories(&directory.clone())?);
        next += 1;
    }
    found.reverse();
    Ok(found)
}

fn subdirectories(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::path("list", directory)(e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::path("list", directory))?;
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// A directory that looks like a v2 mount, as far as plain files can.
    fn fixture() -> (tempfile::TempDir, Cgroups) {
        let dir = tempfile::tempdir().unwrap();
        let cgroups =
            Cgroups::from_mountinfo("30 23 0:26 / /cg rw - cgroup2 cgroup2 rw\n", dir.path())
                .unwrap();
        let root = dir.path().join("cg");
        std::fs::create_dir_all(root.join("cofferdam")).unwrap();
        for (at, controllers, enabled) in [
            ("", "cpuset cpu io memory pids", "memory"),
            ("cofferdam", "cpu memory", ""),
        ] {
            std::fs::write(root.join(at).join("cgroup.controllers"), controllers).unwrap();
            std::fs::write(root.join(at).join("cgroup.subtree_control"), enabled).unwrap();
        }
        (dir, cgroups)
    }

    #[test]
    fn parents_enable_what_they_have_and_children_lack() {
        let (dir, cgroups) = fixture();
        let group = cgroups.group("cofferdam/pod").unwrap();
        assert!(!group.exists());
        group.create().unwrap();
        assert!(group.exists());
        let read = |p: &str| std::fs::read_to_string(dir.path().join("cg").join(p)).unwrap();
        assert_eq!(read("cgroup.subtree_control"), "+cpu +io +pids");
        assert_eq!(read("cofferdam/cgroup.subtree_control"), "+cpu +memory");
        assert!(
            !dir.path()
                .join("cg/cofferdam/pod/cgroup.subtree_control")
                .exists()
        );
    }

    #[test]
    fn what_is_above_somebody_elses_group_gives_what_it_can() {
        let (dir, cgroups) = fixture();
        let at = |p: &str| dir.path().join("cg").join(p);
        let group = cgroups.group("cofferdam/pod").unwrap().within(Path::new("cofferdam"));
        group.create().unwrap();
        let read = |p: &str| std::fs::read_to_string(at(p)).unwrap();
        assert_eq!(read("cgroup.subtree_control"), "+cpu +io +pids");
        assert_eq!(read("cofferdam/cgroup.subtree_control"), "+cpu +memory");
        // What cannot be written there is no error; in the parent itself it is.
        for file in ["cgroup.subtree_control", "cofferdam/cgroup.subtree_control"] {
            std::fs::remove_file(at(file)).unwrap();
            std::fs::create_dir(at(file)).unwrap();
            assert_eq!(group.create().is_ok(), file == "cgroup.subtree_control", "{file}");
        }
        assert!(cgroups.group("cofferdam/pod").unwrap().create().is_err());
    }

    #[test]
    fn a_further_process_joins_where_the_first_is() {
        let (dir, cgroups) = fixture();
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        // On a machine of v1 alone no process is in any group of v2, and all join the group itself.
        let within = own.lines().find_map(|l| l.strip_prefix("0::/")).unwrap_or_default().trim();
        let group = cgroups.group("cofferdam").unwrap();
        assert_eq!(group.join_files_beside(pid), group.join_files());
        if let Some(Component::Normal(top)) = Path::new(within).components().next() {
            let group = cgroups.group(top).unwrap();
            std::fs::create_dir(&group.directories()[0]).unwrap();
            let given = group.directories()[0].join("cgroup.subtree_control");
            for (text, joined) in [("\n", top), ("memory\n", within.as_ref())] {
                std::fs::write(&given, text).unwrap();
                assert_eq!(group.join_files_beside(pid), [dir.path().join("cg").join(joined).join("cgroup.procs")]);
            }
        }
    }

    #[test]
    fn a_group_is_listed_and_removed_with_what_is_below() {
        let (_dir, cgroups) = fixture();
        let pod = cgroups.group("cofferdam/pod").unwrap();
        pod.create().unwrap();
        let directory = &pod.directories()[0];
        for child in ["a", "b"] {
            std::fs::create_dir_all(directory.join(child).join("inner")).unwrap();
        }
        assert_eq!(
            pod.list_children().unwrap().into_iter().collect::<Vec<_>>(),
            ["a", "b"]
        );
        assert!(pod.procs().unwrap().is_empty());
        std::fs::write(directory.join("a/inner/cgroup.procs"), "7\n0\n9\n").unwrap();
        std::fs::write(directory.join("cgroup.procs"), "8\n").unwrap();
        assert_eq!(
            pod.procs().unwrap().into_iter().collect::<Vec<_>>(),
            [7, 8, 9]
        );
        std::fs::remove_file(directory.join("a/inner/cgroup.procs")).unwrap();
        std::fs::remove_file(directory.join("cgroup.procs")).unwrap();
        for _ in 0..2 {
            pod.remove(Duration::ZERO).unwrap();
            assert!(
                !pod.exists()
                    && pod.procs().unwrap().is_empty()
                    && pod.list_children().unwrap().is_empty()
            );
        }
    }
}
