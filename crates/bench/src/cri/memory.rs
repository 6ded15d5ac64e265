//! Memory of a runtime's daemon and of what it keeps beside the containers, from `/proc`.
//!
//! A process belongs to the pods where its arguments or its cgroup name a pod or a container (shims,
//! conmon, pause, what runs in containers), and so do its ancestors up to the daemon or to init (a
//! monitor that names nothing), and its descendants. The rest of the daemon's tree is the daemon.

use cofferdam_host::files::read_bounded;
use cofferdam_host::process::pss;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Bytes read of a file of `/proc`.
const MOST: u64 = 1 << 16;
/// How programs begin that are the enclosure itself, counted apart: gVisor's sentry and gofer, virtual
/// machines and what serves their files.
const ENCLOSURES: [&str; 6] = ["runsc", "qemu", "cloud-hypervisor", "firecracker", "virtiofsd", "dragonball"];

/// PSS in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// The daemon and its children that no pod has.
    pub(super) daemon: u64,
    /// Shims, monitors, pauses.
    pub(super) beside: u64,
    /// gVisor and virtual machines.
    pub(super) enclosures: u64,
    /// What the containers run.
    pub(super) workload: u64,
}

/// A process as far as it matters here.
#[derive(Debug, Clone, Default)]
struct Process {
    parent: i32,
    /// Arguments, parted by zeros.
    line: Vec<u8>,
    cgroups: Vec<u8>,
    program: String,
}

/// What a process is to a bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Daemon,
    Beside,
    Enclosure,
    Workload,
}

/// Looks at all processes; `None` where the kernel does not let us.
pub(super) fn look(daemon: i32, ids: &[String], command: &[String]) -> Option<Memory> {
    let mut memory = Memory::default();
    for (pid, kind) in sort(&processes(), daemon, ids, command) {
        let bytes = match pss(pid) {
            Ok(bytes) => bytes.unwrap_or(0),
            Err(_) if pid == daemon => return None,
            Err(_) => 0,
        };
        *match kind {
            Kind::Daemon => &mut memory.daemon,
            Kind::Beside => &mut memory.beside,
            Kind::Enclosure => &mut memory.enclosures,
            Kind::Workload => &mut memory.workload,
        } += bytes;
    }
    Some(memory)
}

/// Open descriptors and threads of a process.
pub(super) fn held(pid: i32) -> Option<(usize, usize)> {
    let entries = |name: &str| std::fs::read_dir(format!("/proc/{pid}/{name}")).map(Iterator::count).ok();
    Some((entries("fd")?, entries("task")?))
}

fn processes() -> BTreeMap<i32, Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: i32| Some((pid, read(pid)?))).collect()
}

fn read(pid: i32) -> Option<Process> {
    let file = |name: &str| read_bounded(format!("/proc/{pid}/{name}"), MOST).ok();
    let stat = String::from_utf8_lossy(&file("stat")?).into_owned();
    // After the last bracket: state, parent.
    let parent = stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()?;
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let program = exe.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Some(Process {
        parent,
        line: file("cmdline").unwrap_or_default(),
        cgroups: file("cgroup").unwrap_or_default(),
        program,
    })
}

fn sort(all: &BTreeMap<i32, Process>, daemon: i32, ids: &[String], command: &[String]) -> Vec<(i32, Kind)> {
    let own = std::process::id().cast_signed();
    let named = |p: &Process| {
        let text = [&p.line[..], &p.cgroups[..]].map(String::from_utf8_lossy);
        ids.iter().any(|id| text.iter().any(|t| t.contains(id.as_str())))
    };
    let ends = |pid: i32| pid <= 1 || pid == daemon || pid == own;
    let mut pods: BTreeSet<i32> = all
        .iter()
        .filter(|(pid, p)| !ends(**pid) && named(p))
        .map(|(pid, _)| *pid)
        .collect();
    for pid in pods.clone() {
        let mut above = all.get(&pid).map_or(0, |p| p.parent);
        while !ends(above) && pods.insert(above) {
            above = all.get(&above).map_or(0, |p| p.parent);
        }
    }
    let belongs = |pid: i32, to: &dyn Fn(i32) -> bool| {
        let chain = std::iter::successors(Some(pid), |p| all.get(p).map(|p| p.parent).filter(|p| *p > 1));
        chain.take(all.len()).any(to)
    };
    let argv: Vec<u8> = command.iter().flat_map(|word| word.bytes().chain([0])).collect();
    let kind = |(pid, process): (&i32, &Process)| {
        if *pid == own {
            None
        } else if belongs(*pid, &|p| pods.contains(&p)) {
            Some((*pid, of_pod(process, &argv)))
        } else {
            belongs(*pid, &|p| p == daemon).then_some((*pid, Kind::Daemon))
        }
    };
    all.iter().filter_map(kind).collect()
}

fn of_pod(process: &Process, argv: &[u8]) -> Kind {
    let first = process.line.split(|b| *b == 0).next().unwrap_or_default();
    let first = String::from_utf8_lossy(first).into_owned();
    let first = Path::new(&first).file_name().unwrap_or_default().to_string_lossy();
    // A shim's name has the runtime's in it, not at its beginning.
    if ENCLOSURES.iter().any(|e| process.program.starts_with(e) || first.starts_with(e)) {
        Kind::Enclosure
    } else if process.line == argv {
        Kind::Workload
    } else {
        Kind::Beside
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_process_is_counted_where_it_belongs() {
        let id = "0123456789abcdef0123456789abcdef";
        let container = "fedcba9876543210fedcba9876543210";
        // Process id, parent, arguments, cgroup, what it is.
        let rows = [
            (1, 0, "init", "/", None),
            (10, 1, "containerd", "/", Some(Kind::Daemon)),
            (11, 10, "helper", "/", Some(Kind::Daemon)),
            (20, 1, &format!("containerd-shim-runc-v2 -id {id}"), "/", Some(Kind::Beside)),
            (21, 20, "/pause", &format!("/k8s.io/{id}"), Some(Kind::Beside)),
            (22, 20, "sleep 9", &format!("/k8s.io/{container}"), Some(Kind::Workload)),
            // One that names nothing, whose child is in the pod's cgroup.
            (30, 10, "monitor", "/", Some(Kind::Beside)),
            (31, 30, "sleep 9", &format!("/pod/{id}"), Some(Kind::Workload)),
            (40, 30, "runsc-sandbox boot", "/", Some(Kind::Enclosure)),
            (41, 40, "sleep 9 more", "/", Some(Kind::Beside)),
            (50, 1, "sleep 9", "/", None),
            (51, 50, "editor", "/", None),
        ];
        let process = |parent, line: &str, cgroup: &str| Process {
            parent,
            line: line.split(' ').flat_map(|w| w.bytes().chain([0])).collect(),
            cgroups: cgroup.into(),
            program: line.split(' ').next().unwrap().to_owned(),
        };
        let all = rows
            .iter()
            .map(|(pid, parent, line, cgroup, _)| (*pid, process(*parent, line, cgroup)))
            .collect();
        let sorted: BTreeMap<_, _> = sort(&all, 10, &[id.into(), container.into()], &["sleep".into(), "9".into()])
            .into_iter()
            .collect();
        for (pid, _, line, _, kind) in &rows {
            assert_eq!(sorted.get(pid), kind.as_ref(), "{pid} {line}");
        }
    }

    #[test]
    fn this_process_can_be_looked_at() {
        let own = std::process::id().cast_signed();
        let (descriptors, threads) = held(own).unwrap();
        assert!(descriptors > 2 && threads > 0, "{descriptors} {threads}");
        assert!(processes().contains_key(&own));
    }
}
