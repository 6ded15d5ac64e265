//! Processes as `/proc` shows them.

use cofferdam_plan::layout::CGROUP_ROOT;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One process.
#[derive(Debug)]
pub(super) struct Process {
    dir: PathBuf,
    /// The pod whose cgroup it is in.
    pod: Option<String>,
}

/// All processes.
pub(super) fn all() -> Vec<Process> {
    let numeric = |e: &std::fs::DirEntry| e.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit());
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten().filter(numeric);
    entries
        .map(|e| Process {
            pod: pod_of(&e.path()),
            dir: e.path(),
        })
        .collect()
}

/// The id in a line such as `4:memory:/cofferdam/<id>/sandbox`.
fn pod_of(dir: &Path) -> Option<String> {
    let text = std::fs::read_to_string(dir.join("cgroup")).ok()?;
    let below = text
        .lines()
        .find_map(|line| line.split_once(&format!("/{CGROUP_ROOT}/")).map(|(_, below)| below.to_owned()))?;
    below.split('/').next().map(str::to_owned)
}

impl Process {
    pub(super) fn pod(&self) -> Option<&str> {
        self.pod.as_deref()
    }

    /// Whether its binary is in `dir`.
    pub(super) fn runs_from(&self, dir: &Path) -> bool {
        std::fs::read_link(self.dir.join("exe")).is_ok_and(|exe| exe.starts_with(dir))
    }

    /// The namespaces that it is in.
    pub(super) fn namespaces(&self) -> BTreeSet<String> {
        namespaces(&self.dir)
    }

    /// When it began, hundredths of a second since the machine's start (`proc(5)`: field 22 of `stat`).
    pub(super) fn began(&self) -> u64 {
        let ticks = |text: String| text.rsplit(')').next()?.split_whitespace().nth(19)?.parse().ok();
        // One that is gone has no namespaces either.
        std::fs::read_to_string(self.dir.join("stat"))
            .ok()
            .and_then(ticks)
            .unwrap_or(u64::MAX)
    }
}

fn namespaces(dir: &Path) -> BTreeSet<String> {
    let links = std::fs::read_dir(dir.join("ns")).into_iter().flatten().flatten();
    links
        .filter_map(|l| std::fs::read_link(l.path()).ok())
        .map(|l| l.to_string_lossy().into_owned())
        .collect()
}

/// The namespaces of this process: the machine's.
pub(super) fn own_namespaces() -> BTreeSet<String> {
    namespaces(Path::new("/proc/self"))
}

/// Hundredths of a second since the machine's start.
pub(super) fn uptime() -> u64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds: f64 = text.split(' ').next().and_then(|t| t.parse().ok()).unwrap_or_default();
    (seconds * 100.0) as u64
}

/// Every mount of every mount namespace but this process's own.
pub(super) fn mount_tables(running: &[Process]) -> BTreeSet<String> {
    let mut seen: BTreeSet<PathBuf> = std::fs::read_link("/proc/self/ns/mnt").into_iter().collect();
    let mut all = BTreeSet::new();
    for process in running {
        let Ok(namespace) = std::fs::read_link(process.dir.join("ns/mnt")) else {
            continue;
        };
        if seen.insert(namespace.clone()) {
            let text = std::fs::read_to_string(process.dir.join("mountinfo")).unwrap_or_default();
            all.extend(text.lines().map(|line| format!("{} {line}", namespace.display())));
        }
    }
    all
}
