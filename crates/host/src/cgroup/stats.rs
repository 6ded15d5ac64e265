//! What a group uses.

use super::{Controller, Group, Mode};
use crate::{Error, Result, files};
use std::path::Path;

/// Usage of a group and all below it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Memory, bytes, page cache included.
    pub memory_usage: u64,
    /// Most memory used at once, bytes; `None` where the kernel does not tell (v2 before Linux 5.19).
    pub memory_peak: Option<u64>,
    /// Memory less inactive page cache, bytes: what the kubelet calls the working set.
    pub memory_working_set: u64,
    /// CPU time, nanoseconds.
    pub cpu_nanos: u64,
    /// Tasks (threads count).
    pub pids: u64,
    /// Processes that the kernel killed for memory. v1 counts only those of the group itself, v2
    /// those below it too.
    pub oom_kills: u64,
}

impl Group {
    /// Usage now.
    pub fn stats(&self) -> Result<Stats> {
        let v2 = self.cgroups.mode() == Mode::V2;
        let at = |controller, name: &str| self.file(controller, name, "usage");
        let usage_file = if v2 {
            "memory.current"
        } else {
            "memory.usage_in_bytes"
        };
        let memory_usage = number(&at(Controller::Memory, usage_file)?)?;
        let inactive = if v2 {
            "inactive_file"
        } else {
            "total_inactive_file"
        };
        let inactive = field(&at(Controller::Memory, "memory.stat")?, inactive)?;
        let peak_file = if v2 { "memory.peak" } else { "memory.max_usage_in_bytes" };
        let memory_peak = match number(&at(Controller::Memory, peak_file)?) {
            Err(e) if e.is_absent() => None,
            peak => Some(peak?),
        };
        Ok(Stats {
            memory_usage,
            memory_peak,
            memory_working_set: memory_usage.saturating_sub(inactive),
            cpu_nanos: if v2 {
                field(&at(Controller::Cpu, "cpu.stat")?, "usage_usec")?.saturating_mul(1000)
            } else {
                number(&at(Controller::Cpuacct, "cpuacct.usage")?)?
            },
            pids: number(&at(Controller::Pids, "pids.current")?)?,
            oom_kills: self.oom_kills()?,
        })
    }

    /// Processes that the kernel killed for memory; see [`Stats::oom_kills`].
    pub fn oom_kills(&self) -> Result<u64> {
        let name = if self.cgroups.mode() == Mode::V2 {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        field(&self.file(Controller::Memory, name, "usage")?, "oom_kill")
    }
}

fn number(path: &Path) -> Result<u64> {
    files::read_text(path, 64)?
        .trim()
        .parse()
        .map_err(|_| malformed(path, "it holds no number".to_owned()))
}

/// The number after `name` in a file of `name number` lines.
fn field(path: &Path, name: &str) -> Result<u64> {
    let text = files::read_text(path, 1 << 16)?;
    text.lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
        .ok_or_else(|| malformed(path, format!("it has no number named {name}")))
}

pub(super) fn malformed(path: &Path, reason: String) -> Error {
    Error::Malformed {
        path: path.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::cgroup::Cgroups;

    fn group(mountinfo: &str, dir: &Path, files: &[(&str, &str)]) -> Group {
        let group = Cgroups::from_mountinfo(mountinfo, dir)
            .unwrap()
            .group("pod")
            .unwrap();
        for (path, content) in files {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        group
    }

    #[test]
    fn usage_is_the_same_on_both() {
        let expected = Stats {
            memory_usage: 1000,
            memory_peak: Some(1500),
            memory_working_set: 700,
            cpu_nanos: 5_000_000,
            pids: 3,
            oom_kills: 2,
        };
        let dir = tempfile::tempdir().unwrap();
        let v2 = group(
            "1 1 0:2 / /u rw - cgroup2 cgroup2 rw\n",
            dir.path(),
            &[
                ("u/pod/memory.current", "1000\n"),
                ("u/pod/memory.peak", "1500\n"),
                (
                    "u/pod/memory.stat",
                    "anon 1\ninactive_file_x 9\ninactive_file 300\n",
                ),
                ("u/pod/cpu.stat", "usage_usec 5000\nuser_usec 1\n"),
                ("u/pod/pids.current", "3\n"),
                (
                    "u/pod/memory.events",
                    "oom 5\noom_kill 2\noom_group_kill 7\n",
                ),
            ],
        );
        assert_eq!(v2.stats().unwrap(), expected);
        let mounts = ["memory", "cpuacct", "pids"]
            .map(|c| format!("1 1 0:2 / /{c} rw - cgroup cgroup rw,{c}\n"))
            .concat();
        let v1 = group(
            &mounts,
            dir.path(),
            &[
                ("memory/pod/memory.usage_in_bytes", "1000\n"),
                ("memory/pod/memory.max_usage_in_bytes", "1500\n"),
                (
                    "memory/pod/memory.stat",
                    "inactive_file 1\ntotal_inactive_file 300\n",
                ),
                ("cpuacct/pod/cpuacct.usage", "5000000\n"),
                ("pids/pod/pids.current", "3\n"),
                (
                    "memory/pod/memory.oom_control",
                    "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
                ),
            ],
        );
        assert_eq!(v1.stats().unwrap(), expected);
        std::fs::remove_file(dir.path().join("u/pod/memory.peak")).unwrap();
        assert_eq!(v2.stats().unwrap().memory_peak, None, "an older kernel");
        std::fs::write(dir.path().join("u/pod/pids.current"), "many").unwrap();
        assert!(matches!(v2.stats(), Err(Error::Malformed { .. })));
        assert!(v2.child("none").unwrap().stats().unwrap_err().is_absent());
    }
}
