//! What only a metrics page asks of a group: where CPU time went, how often limits were met, traffic to
//! disks, open files. Read apart from [`Group::usage`], as some of it means a look at every process.

use super::{Controller, Group, Mode};
use crate::files;
use std::path::{Path, PathBuf};

/// Most that is read of one file, bytes.
const MAX_FILE: u64 = 1 << 16;
/// Most open files of one group that are looked at, so that a process with millions delays nobody.
const MAX_DESCRIPTORS: u64 = 1 << 16;

/// Counters of a group and all below it; `None` for what the kernel does not tell there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// CPU time in user mode, nanoseconds.
    pub cpu_user_nanos: Option<u64>,
    /// CPU time in the kernel, nanoseconds.
    pub cpu_system_nanos: Option<u64>,
    /// Periods of the CPU quota that have passed.
    pub periods: Option<u64>,
    /// Periods at whose end the quota was used up.
    pub throttled_periods: Option<u64>,
    /// Time that was waited for the next period, nanoseconds.
    pub throttled_nanos: Option<u64>,
    /// Page cache, bytes.
    pub memory_cache: Option<u64>,
    /// Files that are mapped, bytes.
    pub memory_mapped: Option<u64>,
    /// Memory of the kernel, bytes.
    pub memory_kernel: Option<u64>,
    /// Most memory used at once, bytes.
    pub memory_peak: Option<u64>,
    /// How often the memory limit was met.
    pub memory_limit_hits: Option<u64>,
    /// Processes that the kernel killed for memory.
    pub oom_kills: Option<u64>,
    /// Most tasks that there may be; 0 for no limit.
    pub tasks_max: Option<u64>,
    /// Traffic to each disk; empty on v1, where no group is in `blkio`.
    pub disks: Vec<DiskTraffic>,
    /// Huge pages of each size.
    pub huge_pages: Vec<HugePages>,
    /// Processes.
    pub processes: u64,
    /// Open files of all processes.
    pub descriptors: u64,
    /// Of these, sockets.
    pub sockets: u64,
    /// How many files the first process may open (its soft limit); `None` for no limit.
    pub open_files_soft: Option<u64>,
}

/// Traffic to one disk since the beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskTraffic {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Device file, as `/dev/vda`; empty where there is none.
    pub device: String,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}

/// Huge pages of one size, bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HugePages {
    /// Their size as the kernel writes it, `2MB`.
    pub size: String,
    /// In use.
    pub usage: u64,
    /// Most in use at once; v2 does not tell.
    pub peak: Option<u64>,
}

impl Group {
    /// Counters now. What cannot be read is not there: no error is worth a metrics page.
    pub fn counters(&self) -> Counters {
        let v2 = self.cgroups.mode() == Mode::V2;
        let text = |controller, name: &str| {
            let path = self.file(controller, name, "counters").ok()?;
            files::read_text(path, MAX_FILE).ok()
        };
        let number = |controller, name: &str| text(controller, name)?.trim().parse::<u64>().ok();
        let of = |all: &Option<String>, name: &str| all.as_deref().and_then(|t| field(t, name));
        let cpu = text(Controller::Cpu, "cpu.stat");
        let memory = text(Controller::Memory, "memory.stat");
        let micros = |name: &str| of(&cpu, name).map(|n| n.saturating_mul(1000));
        let pids = self.procs().unwrap_or_default();
        let (descriptors, sockets) = descriptors(&pids);
        let mut counters = Counters {
            periods: of(&cpu, "nr_periods"),
            throttled_periods: of(&cpu, "nr_throttled"),
            oom_kills: self.oom_kills().ok(),
            tasks_max: text(Controller::Pids, "pids.max").and_then(|t| if t.trim() == "max" { Some(0) } else { t.trim().parse().ok() }),
            huge_pages: self.huge_pages(),
            processes: pids.len() as u64,
            descriptors,
            sockets,
            open_files_soft: pids
                .first()
                .and_then(|pid| files::read_text(format!("/proc/{pid}/limits"), MAX_FILE).ok())
                .and_then(|t| open_files(&t)),
            ..Counters::default()
        };
        if v2 {
            counters.cpu_user_nanos = micros("user_usec");
            counters.cpu_system_nanos = micros("system_usec");
            counters.throttled_nanos = micros("throttled_usec");
            counters.memory_cache = of(&memory, "file");
            counters.memory_mapped = of(&memory, "file_mapped");
            counters.memory_kernel = of(&memory, "kernel");
            counters.memory_peak = number(Controller::Memory, "memory.peak");
            counters.memory_limit_hits = text(Controller::Memory, "memory.events").and_then(|t| field(&t, "max"));
            counters.disks = text(Controller::Memory, "io.stat").map(|t| traffic(&t)).unwrap_or_default();
        } else {
            counters.cpu_user_nanos = number(Controller::Cpuacct, "cpuacct.usage_user");
            counters.cpu_system_nanos = number(Controller::Cpuacct, "cpuacct.usage_sys");
            counters.throttled_nanos = of(&cpu, "throttled_time");
            counters.memory_cache = of(&memory, "total_cache");
            counters.memory_mapped = of(&memory, "total_mapped_file");
            counters.memory_kernel = number(Controller::Memory, "memory.kmem.usage_in_bytes");
            counters.memory_peak = number(Controller::Memory, "memory.max_usage_in_bytes");
            counters.memory_limit_hits = number(Controller::Memory, "memory.failcnt");
        }
        counters
    }

    fn huge_pages(&self) -> Vec<HugePages> {
        let Some((directory, unified)) = self.huge_pages_at() else {
            return vec![];
        };
        let Ok(entries) = std::fs::read_dir(&directory) else {
            return vec![];
        };
        let usage = if unified { "current" } else { "usage_in_bytes" };
        let number = |name: &str| files::read_text(directory.join(name), 64).ok()?.trim().parse().ok();
        let one = |name: &str| {
            let size = name.strip_prefix("hugetlb.")?.strip_suffix(usage)?.strip_suffix('.')?;
            // `2MB.rsvd` is of what was only reserved.
            let plain = size.bytes().all(|b| b.is_ascii_alphanumeric());
            plain.then(|| HugePages {
                size: size.to_owned(),
                usage: number(name).unwrap_or_default(),
                peak: number(&format!("hugetlb.{size}.max_usage_in_bytes")),
            })
        };
        let mut all: Vec<_> = entries.flatten().filter_map(|e| one(e.file_name().to_str()?)).collect();
        all.sort_by(|a, b| a.size.cmp(&b.size));
        all
    }
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// `io.stat`: lines as `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`.
fn traffic(text: &str) -> Vec<DiskTraffic> {
    let one = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (major, minor) = fields.next()?.split_once(':')?;
        let mut disk = DiskTraffic {
            device: device(major, minor),
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            ..DiskTraffic::default()
        };
        for (name, value) in fields.filter_map(|f| f.split_once('=')) {
            let value = value.parse().unwrap_or_default();
            match name {
                "rbytes" => disk.read_bytes = value,
                "wbytes" => disk.written_bytes = value,
                "rios" => disk.reads = value,
                "wios" => disk.writes = value,
                _ => {}
            }
        }
        Some(disk)
    };
    text.lines().filter_map(one).collect()
}

fn device(major: &str, minor: &str) -> String {
    let link = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}")).unwrap_or_default();
    link.file_name()
        .map(|name| format!("/dev/{}", name.to_string_lossy()))
        .unwrap_or_default()
}

/// Open files and sockets of processes. One that ended since it was listed has none.
fn descriptors(pids: &std::collections::BTreeSet<i32>) -> (u64, u64) {
    let (mut all, mut sockets) = (0, 0);
    for pid in pids {
        let Ok(open) = std::fs::read_dir(PathBuf::from(format!("/proc/{pid}/fd"))) else {
            continue;
        };
        for entry in open.flatten() {
            all += 1;
            let leads = std::fs::read_link(entry.path()).unwrap_or_default();
            sockets += u64::from(leads.as_os_str().as_encoded_bytes().starts_with(b"socket:"));
            if all >= MAX_DESCRIPTORS {
                return (all, sockets);
            }
        }
    }
    (all, sockets)
}

/// The soft limit of open files in a `/proc/<pid>/limits` (proc_pid_limits(5)).
fn open_files(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Size of the file system that holds a path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskSize {
    /// Bytes of all of it.
    pub bytes: u64,
    /// Inodes of all of it.
    pub inodes: u64,
    /// Inodes that are free.
    pub inodes_free: u64,
}

/// The file system that holds `path`; `None` where it cannot be asked.
pub fn disk_size(path: &Path) -> Option<DiskSize> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some(DiskSize {
        bytes: found.f_blocks.saturating_mul(found.f_frsize),
        inodes: found.f_files,
        inodes_free: found.f_ffree,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::cgroup::Cgroups;

    fn group(mountinfo: &str, dir: &Path, files: &[(&str, &str)]) -> Group {
        for (path, content) in files {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        Cgroups::from_mountinfo(mountinfo, dir).unwrap().group("pod").unwrap()
    }

    #[test]
    fn counters_are_read_from_both() {
        let dir = tempfile::tempdir().unwrap();
        let own = std::process::id().to_string();
        let expected = Counters {
            cpu_user_nanos: Some(3000),
            cpu_system_nanos: Some(2000),
            periods: Some(10),
            throttled_periods: Some(4),
            throttled_nanos: Some(5000),
            memory_cache: Some(11),
            memory_mapped: Some(12),
            memory_kernel: Some(13),
            memory_peak: Some(14),
            memory_limit_hits: Some(15),
            oom_kills: Some(1),
            processes: 1,
            ..Counters::default()
        };
        // What this process has open is not the same from one moment to the next.
        let comparable = |c: Counters| {
            assert!(c.descriptors >= 3 && c.open_files_soft.is_some(), "{c:?}");
            Counters {
                descriptors: 0,
                sockets: 0,
                open_files_soft: None,
                disks: vec![],
                huge_pages: vec![],
                tasks_max: None,
                ..c
            }
        };
        let v2 = group(
            "1 1 0:2 / /u rw - cgroup2 cgroup2 rw\n",
            dir.path(),
            &[
                (
                    "u/pod/cpu.stat",
                    "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 10\nnr_throttled 4\nthrottled_usec 5\n",
                ),
                ("u/pod/memory.stat", "file 11\nfile_mapped 12\nkernel 13\nkernel_stack 9\n"),
                ("u/pod/memory.peak", "14\n"),
                ("u/pod/memory.events", "max 15\noom 2\noom_kill 1\n"),
                ("u/pod/pids.max", "max\n"),
                (
                    "u/pod/io.stat",
                    "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=9 dios=9\n259:1 \nbad\n",
                ),
                ("u/pod/hugetlb.2MB.current", "4096\n"),
                ("u/pod/hugetlb.2MB.rsvd.current", "9\n"),
                ("u/pod/cgroup.procs", &own),
            ],
        );
        let found = v2.counters();
        assert_eq!(
            (
                found.disks.len(),
                found.disks[0].written_bytes,
                found.disks[0].reads,
                found.disks[1].major
            ),
            (2, 2, 3, 259)
        );
        assert_eq!(
            found.huge_pages,
            [HugePages {
                size: "2MB".into(),
                usage: 4096,
                peak: None
            }]
        );
        assert_eq!(found.tasks_max, Some(0), "no limit");
        assert_eq!(comparable(found), expected);

        let mounts = ["memory", "cpu", "cpuacct", "pids"]
            .map(|c| format!("1 1 0:2 / /{c} rw - cgroup cgroup rw,{c}\n"))
            .concat();
        let v1 = group(
            &mounts,
            dir.path(),
            &[
                ("cpuacct/pod/cpuacct.usage_user", "3000\n"),
                ("cpuacct/pod/cpuacct.usage_sys", "2000\n"),
                ("cpu/pod/cpu.stat", "nr_periods 10\nnr_throttled 4\nthrottled_time 5000\n"),
                ("memory/pod/memory.stat", "cache 1\ntotal_cache 11\ntotal_mapped_file 12\n"),
                ("memory/pod/memory.kmem.usage_in_bytes", "13\n"),
                ("memory/pod/memory.max_usage_in_bytes", "14\n"),
                ("memory/pod/memory.failcnt", "15\n"),
                ("memory/pod/memory.oom_control", "oom_kill 1\n"),
                ("memory/pod/cgroup.procs", &own),
                ("pids/pod/pids.max", "77\n"),
            ],
        );
        let found = v1.counters();
        assert_eq!(found.tasks_max, Some(77));
        assert_eq!(comparable(found), expected);
        // A group that is gone counts nothing, and is no error.
        assert_eq!(
            Cgroups::from_mountinfo(&mounts, dir.path())
                .unwrap()
                .group("none")
                .unwrap()
                .counters(),
            Counters::default()
        );
    }

    #[test]
    fn limits_of_a_process_are_read() {
        assert_eq!(
            open_files("Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 4096                 files\n"),
            Some(1024)
        );
        assert_eq!(
            open_files("Max open files            unlimited            unlimited            files\n"),
            None
        );
    }
}
