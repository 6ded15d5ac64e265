//! What a run left behind: processes, mounts, namespaces, cgroups, links, counted against a snapshot
//! from before.

use cofferdam_plan::Layout;
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The machine as it was.
#[derive(Debug)]
pub(crate) struct Snapshot {
    namespaces: BTreeSet<String>,
    mounts: usize,
}

/// What is there now and was not then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    processes: usize,
    mounts: usize,
    namespaces: usize,
    cgroups: usize,
    links: usize,
}

impl Left {
    pub(crate) fn is_nothing(self) -> bool {
        self == Self { processes: 0, mounts: 0, namespaces: 0, cgroups: 0, links: 0 }
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processes, mounts, namespaces, cgroups, links } = self;
        write!(f, "processes {processes}, mounts {mounts}, namespaces {namespaces}, cgroups {cgroups}, links {links}")
    }
}

impl Snapshot {
    /// Looks now.
    pub(crate) fn take() -> Self {
        Self { namespaces: namespaces(), mounts: mounts() }
    }

    /// What is left, once it has had `patience` to go: the kernel drops namespaces after the call
    /// that lets go of them has returned.
    pub(crate) fn left_now(&self, layout: &Layout, patience: Duration) -> Left {
        let deadline = Instant::now() + patience;
        loop {
            let left = self.left(layout);
            if left.is_nothing() || Instant::now() > deadline {
                return left;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn left(&self, layout: &Layout) -> Left {
        Left {
            processes: processes(&layout.bin()),
            mounts: mounts().saturating_sub(self.mounts),
            namespaces: namespaces().difference(&self.namespaces).count(),
            cgroups: cgroups(),
            links: links(),
        }
    }
}

fn pids() -> impl Iterator<Item = PathBuf> {
    let numeric = |e: &std::fs::DirEntry| e.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit());
    std::fs::read_dir("/proc").into_iter().flatten().flatten().filter(numeric).map(|e| e.path())
}

/// Processes in a cgroup of ours, and monitors.
fn processes(bin: &Path) -> usize {
    let ours = |pid: &PathBuf| {
        let in_cgroup = std::fs::read_to_string(pid.join("cgroup")).is_ok_and(|text| text.contains(":/cofferdam/"));
        in_cgroup || std::fs::read_link(pid.join("exe")).is_ok_and(|exe| exe.starts_with(bin))
    };
    pids().filter(ours).count()
}

fn mounts() -> usize {
    std::fs::read_to_string("/proc/self/mountinfo").map_or(0, |text| text.lines().count())
}

/// Every namespace that some process is in.
fn namespaces() -> BTreeSet<String> {
    let of = |pid: PathBuf| {
        let links = std::fs::read_dir(pid.join("ns")).into_iter().flatten().flatten();
        links.filter_map(|l| std::fs::read_link(l.path()).ok()).map(|l| l.to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    pids().flat_map(of).collect()
}

fn cgroups() -> usize {
    let root = cofferdam_plan::layout::CGROUP_ROOT;
    let places = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|e| e.path().join(root));
    places.chain([Path::new("/sys/fs/cgroup").join(root)]).filter(|p| p.is_dir()).count()
}

fn links() -> usize {
    let names = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let ours = |name: &str| name.starts_with("cofferdam") || (name.len() == 14 && name.starts_with("cd"));
    names.filter(|e| ours(&e.file_name().to_string_lossy())).count()
}
