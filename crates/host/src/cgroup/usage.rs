//! What a group uses, in all the detail that a kubelet asks for.

use super::stats::malformed;
use super::{Controller, Group, Mode};
use crate::{Result, files};
use std::path::Path;

/// Limits from here on are none: v1 writes the greatest multiple of a page (`PAGE_COUNTER_MAX`).
const NO_LIMIT: u64 = 1 << 60;
/// Most that is read of one file, bytes.
const MAX_FILE: u64 = 1 << 16;

/// Memory of a group, bytes where nothing else is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// All of it, page cache included.
    pub usage: u64,
    /// Usage less inactive page cache.
    pub working_set: u64,
    /// Anonymous memory.
    pub rss: Option<u64>,
    /// The limit less the working set; `None` without a limit.
    pub available: Option<u64>,
    /// Page faults, since the beginning.
    pub page_faults: Option<u64>,
    /// Of these, those that had to wait for a disk.
    pub major_page_faults: Option<u64>,
    /// Swap in use; `None` where the kernel does not count it.
    pub swap: Option<u64>,
    /// Swap that may still be used; `None` without a limit.
    pub swap_available: Option<u64>,
}

/// One line of a pressure file (kernel, `Documentation/accounting/psi.rst`).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PressureLine {
    /// Share of the last 10 seconds, percent.
    pub avg10: f64,
    /// Share of the last 60 seconds, percent.
    pub avg60: f64,
    /// Share of the last 300 seconds, percent.
    pub avg300: f64,
    /// All stalls, microseconds.
    pub total: u64,
}

/// How long processes waited for one resource (v2 with PSI).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// Some of them.
    pub some: PressureLine,
    /// All of them at once.
    pub full: PressureLine,
}

/// What a group and all below it used.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    /// CPU time since the beginning, nanoseconds.
    pub cpu_nanos: u64,
    /// Memory.
    pub memory: MemoryUsage,
    /// Tasks (threads count).
    pub processes: u64,
    /// Waiting for the CPU.
    pub cpu_pressure: Option<Pressure>,
    /// Waiting for memory.
    pub memory_pressure: Option<Pressure>,
    /// Waiting for disks.
    pub io_pressure: Option<Pressure>,
}

/// Traffic of one network interface since it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// Name.
    pub name: String,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Errors in receiving.
    pub rx_errors: u64,
    /// Packets that were received and dropped.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Errors in sending.
    pub tx_errors: u64,
    /// Packets that were to be sent and dropped.
    pub tx_dropped: u64,
}

impl Group {
    /// Usage now of the group and all below it, in detail.
    ///
    /// # Errors
    /// Where a file cannot be read; see [`crate::Error::is_absent`] for a group that is gone.
    pub fn usage(&self) -> Result<Usage> {
        let plain = self.stats()?;
        let v2 = self.cgroups.mode() == Mode::V2;
        let text = |name: &str| files::read_text(self.file(Controller::Memory, name, "usage")?, MAX_FILE);
        let stat = text("memory.stat")?;
        let field = |v1: &str, on_v2: &str| field(&stat, if v2 { on_v2 } else { v1 });
        let number = |v1: &str, on_v2: &str| {
            let name = if v2 { on_v2 } else { v1 };
            text(name).ok().and_then(|t| t.trim().parse::<u64>().ok()).filter(|n| *n < NO_LIMIT)
        };
        let limit = number("memory.limit_in_bytes", "memory.max");
        let swap = if v2 { number("", "memory.swap.current") } else { field("total_swap", "") };
        // On v1 that limit is of both together.
        let swap_limit = match (number("memory.memsw.limit_in_bytes", "memory.swap.max"), limit) {
            (Some(both), Some(memory)) if !v2 => Some(both.saturating_sub(memory)),
            (limit, _) if v2 => limit,
            _ => None,
        };
        let pressure = |name: &str| if v2 { text(name).ok().map(|t| pressure(&t)) } else { None };
        Ok(Usage {
            cpu_nanos: plain.cpu_nanos,
            memory: MemoryUsage {
                usage: plain.memory_usage,
                working_set: plain.memory_working_set,
                rss: field("total_rss", "anon"),
                available: limit.map(|limit| limit.saturating_sub(plain.memory_working_set)),
                page_faults: field("total_pgfault", "pgfault"),
                major_page_faults: field("total_pgmajfault", "pgmajfault"),
                swap,
                swap_available: swap_limit.map(|limit| limit.saturating_sub(swap.unwrap_or_default())),
            },
            processes: plain.pids,
            cpu_pressure: pressure("cpu.pressure"),
            memory_pressure: pressure("memory.pressure"),
            io_pressure: pressure("io.pressure"),
        })
    }

    /// Writes files of a v2 group as they are given (`memory.high` to `1000000`), as the OCI runtime
    /// specification's `unified` has them.
    ///
    /// # Errors
    /// On v1, for a name that is no file of a controller, and where the kernel refuses the value.
    pub fn set_unified(&self, files: &std::collections::BTreeMap<String, String>) -> Result<()> {
        for (name, value) in files {
            let path = self.directories().into_iter().next().unwrap_or_default().join(name);
            let wrong = |reason: &str| Err(malformed(&path, reason.to_owned()));
            if self.cgroups.mode() != Mode::V2 {
                return wrong("files of cgroup v2 were given, and this machine's controllers are on v1; leave them out");
            }
            let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._".contains(&b));
            if !plain || name.len() > 128 || !name.contains('.') || name.starts_with(['.', '_']) || name.contains("..") || name.starts_with("cgroup.") {
                return wrong("it is not a file of a controller of cgroup v2");
            }
            if value.len() > 4096 || value.contains('\0') {
                return wrong("its value is longer than 4096 bytes, or has a zero byte");
            }
            self.give_for_file(name)?;
            super::group::write(&path, value)?;
        }
        Ok(())
    }
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// A pressure file: lines of `some` and `full` with `name=value` fields. What is not there is 0.
fn pressure(text: &str) -> Pressure {
    let line = |kind: &str| {
        let rest = text.lines().find_map(|l| l.strip_prefix(kind)).unwrap_or_default();
        let value = |name: &str| rest.split_ascii_whitespace().find_map(|f| f.strip_prefix(name)?.strip_prefix('='));
        let share = |name: &str| value(name).and_then(|v| v.parse().ok()).unwrap_or_default();
        PressureLine {
            avg10: share("avg10"),
            avg60: share("avg60"),
            avg300: share("avg300"),
            total: value("total").and_then(|v| v.parse().ok()).unwrap_or_default(),
        }
    };
    Pressure { some: line("some"), full: line("full") }
}

/// The interfaces of a text as `/proc/net/dev` (proc_net(5)), `lo` left out.
pub fn interfaces(text: &str) -> Vec<Interface> {
    let one = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let numbers: Vec<u64> = rest.split_ascii_whitespace().map_while(|n| n.parse().ok()).collect();
        let at = |index: usize| numbers.get(index).copied();
        Some(Interface {
            name: name.trim().to_owned(),
            rx_bytes: at(0)?,
            rx_packets: at(1)?,
            rx_errors: at(2)?,
            rx_dropped: at(3)?,
            tx_bytes: at(8)?,
            tx_packets: at(9)?,
            tx_errors: at(10)?,
            tx_dropped: at(11)?,
        })
    };
    text.lines().filter_map(one).filter(|i| i.name != "lo").collect()
}

/// The interfaces of the network namespace of a process.
///
/// # Errors
/// Where the process is gone.
pub fn interfaces_of(pid: i32) -> Result<Vec<Interface>> {
    Ok(interfaces(&files::read_text(Path::new("/proc").join(pid.to_string()).join("net/dev"), 1 << 20)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cgroup::Cgroups;
    use std::collections::BTreeMap;

    fn group(mountinfo: &str, dir: &Path, files: &[(&str, &str)]) -> Group {
        for (path, content) in files {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        Cgroups::from_mountinfo(mountinfo, dir).unwrap().group("pod").unwrap()
    }

    #[test]
    fn detail_is_read_from_both() {
        let dir = tempfile::tempdir().unwrap();
        let v2 = group(
            "1 1 0:2 / /u rw - cgroup2 cgroup2 rw\n",
            dir.path(),
            &[
                ("u/pod/memory.current", "1000\n"),
                ("u/pod/memory.stat", "anon 400\ninactive_file 300\npgfault 7\npgmajfault 2\n"),
                ("u/pod/memory.max", "2000\n"),
                ("u/pod/memory.swap.current", "30\n"),
                ("u/pod/memory.swap.max", "100\n"),
                ("u/pod/cpu.stat", "usage_usec 5000\n"),
                ("u/pod/pids.current", "3\n"),
                ("u/pod/memory.events", "oom_kill 0\n"),
                ("u/pod/cpu.pressure", "some avg10=1.50 avg60=0.10 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n"),
            ],
        );
        let memory = MemoryUsage {
            usage: 1000,
            working_set: 700,
            rss: Some(400),
            available: Some(1300),
            page_faults: Some(7),
            major_page_faults: Some(2),
            swap: Some(30),
            swap_available: Some(70),
        };
        let found = v2.usage().unwrap();
        assert_eq!((&found.memory, found.cpu_nanos, found.processes), (&memory, 5_000_000, 3));
        let cpu = found.cpu_pressure.unwrap();
        assert_eq!((cpu.some.avg10, cpu.some.total, cpu.full.total), (1.5, 77, 5));
        assert_eq!(found.io_pressure, None, "a kernel without it");

        let mounts = ["memory", "cpuacct", "pids"].map(|c| format!("1 1 0:2 / /{c} rw - cgroup cgroup rw,{c}\n")).concat();
        let v1 = group(
            &mounts,
            dir.path(),
            &[
                ("memory/pod/memory.usage_in_bytes", "1000\n"),
                ("memory/pod/memory.stat", "rss 1\ntotal_rss 400\ntotal_inactive_file 300\ntotal_pgfault 7\ntotal_pgmajfault 2\ntotal_swap 30\n"),
                ("memory/pod/memory.limit_in_bytes", "2000\n"),
                ("memory/pod/memory.max_usage_in_bytes", "1000\n"),
                ("memory/pod/memory.memsw.limit_in_bytes", "2100\n"),
                ("memory/pod/memory.oom_control", "oom_kill 0\n"),
                ("cpuacct/pod/cpuacct.usage", "5000000\n"),
                ("pids/pod/pids.current", "3\n"),
            ],
        );
        assert_eq!(v1.usage().unwrap().memory, memory);
        std::fs::write(dir.path().join("memory/pod/memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        assert_eq!(v1.usage().unwrap().memory.available, None, "no limit");
        assert!(v1.set_unified(&[("memory.high".into(), "1".into())].into()).unwrap_err().to_string().contains("on v1"));

        std::fs::write(dir.path().join("u/pod/memory.high"), "").unwrap();
        v2.set_unified(&[("memory.high".to_owned(), "900".to_owned())].into()).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("u/pod/memory.high")).unwrap(), "900");
        for bad in ["cgroup.procs", "../memory.high", "memory", "memory..high", "", "a/b.c"] {
            assert!(v2.set_unified(&BTreeMap::from([(bad.to_owned(), "1".to_owned())])).is_err(), "{bad}");
        }
    }

    #[test]
    fn interfaces_are_counted() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0:1000 10 1 2 0 0 0 0 500 5 3 4 0 0 0 0\n bad: 1 2\n";
        let found = interfaces(text);
        assert_eq!(found.len(), 1);
        let i = &found[0];
        assert_eq!(
            (i.name.as_str(), i.rx_bytes, i.rx_packets, i.rx_errors, i.rx_dropped, i.tx_bytes, i.tx_packets, i.tx_errors, i.tx_dropped),
            ("eth0", 1000, 10, 1, 2, 500, 5, 3, 4)
        );
    }
}
