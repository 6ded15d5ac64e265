//! Limits, in the terms of the OCI runtime specification (`config-linux.md`, "Control groups"),
//! and what they are on v1 and v2.

use super::group::write;
use super::{Controller, Group, Mode};
use crate::{Error, Result};
use std::path::PathBuf;

/// What a group may use. Zero leaves a limit as it is; a negative one lifts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Weight against siblings, 2 to 262144, 1024 being one CPU's.
    pub cpu_shares: u64,
    /// CPU time a period, microseconds.
    pub cpu_quota: i64,
    /// The period, microseconds.
    pub cpu_period: u64,
    /// Memory, bytes. Swap comes on top of it only where `memory_swap_limit` says so, as the kubelet's
    /// default has it.
    pub memory_limit: i64,
    /// Memory and swap together, bytes.
    pub memory_swap_limit: i64,
    /// Number of tasks.
    pub pids_limit: i64,
}

/// One file to be written.
#[derive(Debug, PartialEq, Eq)]
struct Setting {
    controller: Controller,
    file: &'static str,
    value: String,
    /// What a person asked for, for errors.
    wanted: &'static str,
    /// Kernels without swap accounting have no such file.
    optional: bool,
}

fn setting(
    controller: Controller,
    file: &'static str,
    value: impl ToString,
    wanted: &'static str,
) -> Setting {
    Setting {
        controller,
        file,
        value: value.to_string(),
        wanted,
        optional: false,
    }
}

fn swap(file: &'static str, value: impl ToString) -> Setting {
    Setting {
        optional: true,
        ..setting(Controller::Memory, file, value, "a memory limit")
    }
}

fn settings_v1(limits: &Limits) -> Vec<Setting> {
    use Controller::{Cpu, Memory, Pids};
    let mut settings = Vec::new();
    if limits.cpu_shares != 0 {
        settings.push(setting(
            Cpu,
            "cpu.shares",
            limits.cpu_shares,
            "a CPU weight",
        ));
    }
    if limits.cpu_period != 0 {
        settings.push(setting(
            Cpu,
            "cpu.cfs_period_us",
            limits.cpu_period,
            "a CPU limit",
        ));
    }
    if limits.cpu_quota != 0 {
        settings.push(setting(
            Cpu,
            "cpu.cfs_quota_us",
            limits.cpu_quota.max(-1),
            "a CPU limit",
        ));
    }
    if limits.memory_limit != 0 {
        let value = limits.memory_limit.max(-1);
        settings.push(setting(
            Memory,
            "memory.limit_in_bytes",
            value,
            "a memory limit",
        ));
    }
    if limits.memory_limit != 0 || limits.memory_swap_limit != 0 {
        let both = if limits.memory_swap_limit == 0 { limits.memory_limit } else { limits.memory_swap_limit };
        settings.push(swap("memory.memsw.limit_in_bytes", both.max(-1)));
    }
    if limits.pids_limit != 0 {
        settings.push(setting(
            Pids,
            "pids.max",
            or_max(limits.pids_limit),
            "a limit of processes",
        ));
    }
    settings
}

fn settings_v2(limits: &Limits) -> Vec<Setting> {
    use Controller::{Cpu, Memory, Pids};
    let mut settings = Vec::new();
    if limits.cpu_shares != 0 {
        settings.push(setting(
            Cpu,
            "cpu.weight",
            weight(limits.cpu_shares),
            "a CPU weight",
        ));
    }
    if limits.cpu_quota != 0 || limits.cpu_period != 0 {
        let quota = if limits.cpu_quota > 0 {
            limits.cpu_quota.to_string()
        } else {
            "max".to_owned()
        };
        let period = if limits.cpu_period > 0 {
            limits.cpu_period
        } else {
            100_000
        };
        settings.push(setting(
            Cpu,
            "cpu.max",
            format!("{quota} {period}"),
            "a CPU limit",
        ));
    }
    if limits.memory_limit != 0 {
        settings.push(setting(
            Memory,
            "memory.max",
            or_max(limits.memory_limit),
            "a memory limit",
        ));
    }
    if limits.memory_limit != 0 || limits.memory_swap_limit != 0 {
        settings.push(swap("memory.swap.max", swap_alone(limits)));
    }
    if limits.pids_limit != 0 {
        settings.push(setting(
            Pids,
            "pids.max",
            or_max(limits.pids_limit),
            "a limit of processes",
        ));
    }
    settings
}

/// v2 counts swap by itself.
fn swap_alone(limits: &Limits) -> String {
    match (limits.memory_limit, limits.memory_swap_limit) {
        (memory, 0) => if memory > 0 { "0" } else { "max" }.to_owned(),
        (_, both) if both < 0 => "max".to_owned(),
        (memory, both) => both.saturating_sub(memory.max(0)).max(0).to_string(),
    }
}

fn or_max(limit: i64) -> String {
    if limit > 0 {
        limit.to_string()
    } else {
        "max".to_owned()
    }
}

/// v1's 2 to 262144 onto v2's 1 to 10000, by the line of KEP-2254 (cgroup v2).
fn weight(shares: u64) -> u64 {
    1 + ((shares.clamp(2, 262_144) - 2) * 9999) / 262_142
}

impl Group {
    /// Sets the limits; the group must be there. A limit whose controller is missing is an error.
    pub fn set_limits(&self, limits: &Limits) -> Result<()> {
        let settings = match self.cgroups.mode() {
            Mode::V2 => settings_v2(limits),
            Mode::V1 | Mode::Hybrid => settings_v1(limits),
        };
        // On v1, quota must fit period and memory must not exceed memory with swap at any moment,
        // so raising needs one order and lowering the other: what is refused is tried once more.
        let mut refused: Vec<(Setting, PathBuf)> = Vec::new();
        for setting in settings {
            let path = self.file(setting.controller, setting.file, setting.wanted)?;
            match write(&path, &setting.value) {
                Err(e) if setting.optional && e.is_absent() => {}
                Err(e) if e.io().and_then(std::io::Error::raw_os_error) == Some(libc::EINVAL) => {
                    refused.push((setting, path));
                }
                other => other.map_err(|e| self.explain(e, &setting))?,
            }
        }
        refused
            .iter()
            .try_for_each(|(setting, path)| write(path, &setting.value))
    }

    /// Lets the kernel end the whole group where it ends one of its processes for memory, as the
    /// kubelet does (`memory.oom.group`, Kubernetes 1.28). v1 has no such thing, nor has v2 where the
    /// memory controller is missing: there a process is ended by itself, and that is no error.
    pub fn kill_together(&self) -> Result<()> {
        if self.cgroups.mode() != Mode::V2 {
            return Ok(());
        }
        match write(&self.directories()[0].join("memory.oom.group"), "1") {
            Err(e) if e.is_absent() => Ok(()),
            written => written,
        }
    }

    /// A missing file of a group that is there means that its controller is not enabled.
    fn explain(&self, error: Error, setting: &Setting) -> Error {
        if error.is_absent() && self.exists() {
            return self.without(setting.controller, setting.wanted);
        }
        error
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::cgroup::Cgroups;

    fn written(settings: &[Setting]) -> String {
        settings
            .iter()
            .map(|s| format!("{}={}", s.file, s.value))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn limits_become_files() {
        let none = Limits::default();
        for (limits, v1, v2) in [
            (none, "", ""),
            (
                Limits {
                    cpu_shares: 1024,
                    ..none
                },
                "cpu.shares=1024",
                "cpu.weight=39",
            ),
            (
                Limits {
                    cpu_shares: 2,
                    ..none
                },
                "cpu.shares=2",
                "cpu.weight=1",
            ),
            (
                Limits {
                    cpu_shares: 262_144,
                    ..none
                },
                "cpu.shares=262144",
                "cpu.weight=10000",
            ),
            (
                Limits {
                    cpu_quota: 50_000,
                    cpu_period: 100_000,
                    ..none
                },
                "cpu.cfs_period_us=100000 cpu.cfs_quota_us=50000",
                "cpu.max=50000 100000",
            ),
            (
                Limits {
                    cpu_quota: 20_000,
                    ..none
                },
                "cpu.cfs_quota_us=20000",
                "cpu.max=20000 100000",
            ),
            (
                Limits {
                    cpu_quota: -1,
                    ..none
                },
                "cpu.cfs_quota_us=-1",
                "cpu.max=max 100000",
            ),
            (
                Limits {
                    memory_limit: 1 << 20,
                    ..none
                },
                "memory.limit_in_bytes=1048576 memory.memsw.limit_in_bytes=1048576",
                "memory.max=1048576 memory.swap.max=0",
            ),
            (
                Limits {
                    memory_limit: 1 << 20,
                    memory_swap_limit: 3 << 20,
                    ..none
                },
                "memory.limit_in_bytes=1048576 memory.memsw.limit_in_bytes=3145728",
                "memory.max=1048576 memory.swap.max=2097152",
            ),
            (
                Limits {
                    memory_limit: 1 << 20,
                    memory_swap_limit: -1,
                    ..none
                },
                "memory.limit_in_bytes=1048576 memory.memsw.limit_in_bytes=-1",
                "memory.max=1048576 memory.swap.max=max",
            ),
            (
                Limits {
                    memory_limit: -1,
                    ..none
                },
                "memory.limit_in_bytes=-1 memory.memsw.limit_in_bytes=-1",
                "memory.max=max memory.swap.max=max",
            ),
            (
                Limits {
                    pids_limit: 100,
                    ..none
                },
                "pids.max=100",
                "pids.max=100",
            ),
            (
                Limits {
                    pids_limit: -1,
                    ..none
                },
                "pids.max=max",
                "pids.max=max",
            ),
        ] {
            assert_eq!(written(&settings_v1(&limits)), v1, "{limits:?}");
            assert_eq!(written(&settings_v2(&limits)), v2, "{limits:?}");
        }
        assert_eq!((weight(0), weight(u64::MAX)), (1, 10_000));
    }

    #[test]
    fn a_limit_without_its_controller_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let cgroups =
            Cgroups::from_mountinfo("30 23 0:26 / /cg rw - cgroup2 cgroup2 rw\n", dir.path())
                .unwrap();
        let group = cgroups.group("pod").unwrap();
        let directory = &group.directories()[0];
        std::fs::create_dir_all(directory).unwrap();
        std::fs::write(
            directory.join("memory.max"),
            "a value longer than the new one",
        )
        .unwrap();
        // No swap accounting: no such file, no error.
        group
            .set_limits(&Limits {
                memory_limit: 4096,
                ..Limits::default()
            })
            .unwrap();
        assert_eq!(
            std::fs::read_to_string(directory.join("memory.max")).unwrap(),
            "4096"
        );
        let pids = Limits {
            pids_limit: 5,
            ..Limits::default()
        };
        assert!(matches!(
            group.set_limits(&pids),
            Err(Error::NoController {
                controller: "pids",
                ..
            })
        ));

        let v1 = Cgroups::from_mountinfo(
            "30 23 0:26 / /memory rw - cgroup cgroup rw,memory\n",
            dir.path(),
        )
        .unwrap();
        let group = v1.group("pod").unwrap();
        assert!(matches!(
            group.set_limits(&pids),
            Err(Error::NoController {
                controller: "pids",
                ..
            })
        ));
    }
}
