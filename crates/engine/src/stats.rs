//! What a pod uses: its containers, and apart the enclosure itself.

use crate::Engine;
use crate::sandbox::{Known, failed};
use cofferdam_host::cgroup::{self, Group};
use cofferdam_host::ids;
use cofferdam_model::cri::{
    CgroupUsage, ContainerState, ContainerStats, ContainerStatus, ContainerUsage, InterfaceUsage, MemoryUsage, NamespaceMode, PodStats,
    PodUsage, Pressure, PressureLine, Result, SandboxState,
};
use cofferdam_model::{ContainerId, PodId};
use cofferdam_plan::layout::ContainerDirs;
use cofferdam_runtimes::Usage;

pub use cofferdam_host::cgroup::{Counters, DiskSize, DiskTraffic, HugePages, disk_size};

impl Engine {
    /// Usage of a pod, from its cgroups.
    pub fn pod_stats(&self, pod: &PodId) -> Result<PodStats> {
        let known = self.must_know(pod)?;
        let all = self.group(known.dirs.cgroup())?.stats().map_err(failed)?;
        let enclosure = self.group(known.dirs.sandbox_cgroup())?.stats().map_err(failed)?;
        Ok(PodStats {
            memory_working_set: all.memory_working_set,
            enclosure_memory: enclosure.memory_working_set,
            cpu_nanos: all.cpu_nanos,
            pids: all.pids,
            memory_peak: all.memory_peak,
            enclosure_peak: enclosure.memory_peak,
            refused_calls: refused_calls(&known.dirs.refused_calls()),
        })
    }

    /// Usage of each running container of a pod.
    pub fn container_stats(&self, pod: &PodId) -> Result<Vec<ContainerStats>> {
        let known = self.must_know(pod)?;
        let running: Vec<_> = self.list_containers(Some(pod))?.into_iter().filter(|c| c.state == ContainerState::Running).collect();
        let ids: Vec<_> = running.iter().map(|c| c.id.clone()).collect();
        if let Some(told) = known.driver()?.stats(&known.pod(self)?, &ids).map_err(failed)? {
            let of = |(container, used): (ContainerStatus, Usage)| {
                let cpu_nanos = self.share_of_cpu(&known, &used)?;
                Ok(ContainerStats { name: container.config.name, memory_working_set: used.memory, cpu_nanos, pids: used.pids })
            };
            return running.into_iter().zip(told).map(of).collect();
        }
        running.into_iter().map(|c| Ok(ContainerStats { name: c.config.name, ..self.usage(&known, &c.id)? })).collect()
    }

    /// Usage of one container in detail; of one that has ended, of its files alone.
    ///
    /// # Errors
    /// Where there is no such container, or its cgroup cannot be read.
    pub fn stats_of_container(&self, id: &ContainerId) -> Result<ContainerUsage> {
        let (known, container) = self.must_know_container(id)?;
        let runs = self.exit(&known, id)?.is_none() && known.result.state == SandboxState::Ready;
        self.detail(&known, id, &container.dirs, runs)
    }

    fn detail(&self, known: &Known, id: &ContainerId, dirs: &ContainerDirs, runs: bool) -> Result<ContainerUsage> {
        let writable = self.counts.recent(&dirs.upper());
        let nothing = CgroupUsage { at: ids::now_nanos(), ..CgroupUsage::default() };
        if !runs {
            return Ok(ContainerUsage { cgroup: nothing, writable });
        }
        let told = known.driver()?.stats(&known.pod(self)?, std::slice::from_ref(id)).map_err(failed)?;
        let cgroup = match told.and_then(|all| all.into_iter().next()) {
            Some(used) => {
                let memory = match used.memory {
                    Some(_) => MemoryUsage { usage: used.memory, working_set: used.memory, ..MemoryUsage::default() },
                    None => self.share_of_memory(known)?,
                };
                CgroupUsage { cpu_nanos: self.share_of_cpu(known, &used)?, processes: used.pids, memory, ..nothing }
            }
            None => cgroup_usage(&self.group_of(known, id)?)?.unwrap_or(nothing),
        };
        Ok(ContainerUsage { cgroup, writable })
    }

    /// CPU time of a container whose enclosure counts by a clock of its own: its share of what the machine
    /// counts for the enclosure, as runsc has it for containerd (gVisor, `runsc/container/container.go`).
    fn share_of_cpu(&self, known: &Known, used: &Usage) -> Result<Option<u64>> {
        let (Some(of_one), Some(of_all)) = (used.cpu_nanos, used.cpu_nanos_of_all.filter(|all| *all > 0)) else { return Ok(used.cpu_nanos) };
        let enclosure = cgroup_usage(&self.group(known.dirs.sandbox_cgroup())?)?.and_then(|all| all.cpu_nanos);
        let share = |all: u64| u64::try_from(u128::from(all) * u128::from(of_one.min(of_all)) / u128::from(of_all)).ok();
        Ok(enclosure.map_or(used.cpu_nanos, share))
    }

    /// What each running container of a pod is told to use, where one kernel of their own holds all their
    /// memory and does not count it by container (gVisor): an equal share of the enclosure's, itself
    /// included, so that their sum is what the pod uses. Of a pod of one container that is the truth; and
    /// metrics-server leaves out a pod of which any container has none.
    fn share_of_memory(&self, known: &Known) -> Result<MemoryUsage> {
        let mut running = 0;
        for id in self.container_ids(&known.dirs)? {
            let started = self.container_result(&known.dirs.container(&id))?.started_at != 0;
            running += u64::from(started && self.exit(known, &id)?.is_none());
        }
        let all = cgroup_usage(&self.group(known.dirs.sandbox_cgroup())?)?.unwrap_or_default().memory;
        let share = |bytes: Option<u64>| bytes.map(|bytes| bytes / running.max(1));
        let (usage, working_set, rss) = (share(all.usage), share(all.working_set), share(all.rss));
        Ok(MemoryUsage { usage, working_set, rss, ..MemoryUsage::default() })
    }

    /// Usage of a pod and each of its running containers in detail. A pod that is not ready uses nothing.
    ///
    /// # Errors
    /// Where there is no such pod, or its cgroup cannot be read.
    pub fn stats_of_pod(&self, pod: &PodId) -> Result<PodUsage> {
        let known = self.must_know(pod)?;
        let at = ids::now_nanos();
        if known.result.state != SandboxState::Ready {
            let cgroup = CgroupUsage { at, ..CgroupUsage::default() };
            return Ok(PodUsage { cgroup, network_at: at, ..PodUsage::default() });
        }
        let usage = cgroup_usage(&self.group(known.dirs.cgroup())?)?.unwrap_or_default();
        let network = match known.record.config.network {
            NamespaceMode::Node => vec![],
            // A monitor that died just now is told of by the pod's state.
            _ => cgroup::interfaces_of(known.result.monitor_pid).or_else(|e| if e.is_absent() { Ok(vec![]) } else { Err(failed(e)) })?,
        };
        let network = network.into_iter().map(interface).collect();
        let mut containers = Vec::new();
        for id in self.container_ids(&known.dirs)? {
            let dirs = known.dirs.container(&id);
            if self.container_result(&dirs)?.started_at != 0 && self.exit(&known, &id)?.is_none() {
                containers.push((id.clone(), self.detail(&known, &id, &dirs, true)?));
            }
        }
        Ok(PodUsage { cgroup: usage, network, network_at: at, containers })
    }

    /// What a metrics page tells of a pod beyond its usage; nothing of one that is not ready.
    ///
    /// # Errors
    /// Where there is no such pod.
    pub fn counters_of_pod(&self, pod: &PodId) -> Result<Option<Counters>> {
        let known = self.must_know(pod)?;
        let ready = known.result.state == SandboxState::Ready;
        ready.then(|| self.group(known.dirs.cgroup()).map(|group| group.counters())).transpose()
    }

    /// What a metrics page tells of a running container beyond its usage; nothing where its enclosure does
    /// not tell its containers apart.
    ///
    /// # Errors
    /// Where there is no such container.
    pub fn counters_of_container(&self, id: &ContainerId) -> Result<Option<Counters>> {
        let (known, _) = self.must_know_container(id)?;
        let told = known.driver()?.stats(&known.pod(self)?, std::slice::from_ref(id)).map_err(failed)?;
        Ok(match told {
            Some(_) => None,
            None => Some(self.group_of(&known, id)?.counters()),
        })
    }

    /// What the container's own cgroup counts; nothing where it has ended since it was listed.
    fn usage(&self, known: &Known, id: &ContainerId) -> Result<ContainerStats> {
        let used = match self.group_of(known, id)?.stats() {
            Err(e) if e.is_absent() => return Ok(ContainerStats::default()),
            used => used.map_err(failed)?,
        };
        Ok(ContainerStats {
            name: String::new(),
            memory_working_set: Some(used.memory_working_set),
            cpu_nanos: Some(used.cpu_nanos),
            pids: Some(used.pids),
        })
    }
}

/// Usage of a group; `None` where it went meanwhile.
fn cgroup_usage(group: &Group) -> Result<Option<CgroupUsage>> {
    match group.usage() {
        Err(e) if e.is_absent() => Ok(None),
        used => used.map(|used| Some(told(used))).map_err(failed),
    }
}

fn told(used: cgroup::Usage) -> CgroupUsage {
    let line = |l: cgroup::PressureLine| PressureLine { avg10: l.avg10, avg60: l.avg60, avg300: l.avg300, total: l.total };
    let pressure = |p: Option<cgroup::Pressure>| p.map(|p| Pressure { some: line(p.some), full: line(p.full) });
    let memory = used.memory;
    CgroupUsage {
        at: ids::now_nanos(),
        cpu_nanos: Some(used.cpu_nanos),
        memory: MemoryUsage {
            usage: Some(memory.usage),
            working_set: Some(memory.working_set),
            rss: memory.rss,
            available: memory.available,
            page_faults: memory.page_faults,
            major_page_faults: memory.major_page_faults,
            swap: memory.swap,
            swap_available: memory.swap_available,
        },
        processes: Some(used.processes),
        cpu_pressure: pressure(used.cpu_pressure),
        memory_pressure: pressure(used.memory_pressure),
        io_pressure: pressure(used.io_pressure),
    }
}

fn interface(i: cgroup::Interface) -> InterfaceUsage {
    InterfaceUsage {
        name: i.name,
        rx_bytes: i.rx_bytes,
        rx_packets: i.rx_packets,
        rx_errors: i.rx_errors,
        rx_dropped: i.rx_dropped,
        tx_bytes: i.tx_bytes,
        tx_packets: i.tx_packets,
        tx_errors: i.tx_errors,
        tx_dropped: i.tx_dropped,
    }
}

/// Most that is read of what a sentry wrote for its user, bytes: it writes each call once.
const MAX_REFUSED: u64 = 256 * 1024;

/// The system calls in a sentry's log for its user (gVisor, `runsc/boot/compat.go`:
/// `Unsupported syscall NAME(...`). A log that is not there tells of none.
fn refused_calls(log: &std::path::Path) -> Vec<String> {
    let Ok(bytes) = cofferdam_host::files::read_bounded(log, MAX_REFUSED) else { return vec![] };
    let text = String::from_utf8_lossy(&bytes);
    let name = |line: &str| {
        let after = line.split_once("Unsupported syscall ")?.1;
        let name = after.split_once('(')?.0;
        let plain = !name.is_empty() && name.len() < 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        plain.then(|| name.to_owned())
    };
    let mut calls: Vec<String> = text.lines().filter_map(name).collect();
    calls.sort();
    calls.dedup();
    calls
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn refused_calls_are_read_each_once() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let line = |name: &str| format!("{{\"log\":\"Unsupported syscall {name}(0x1,0x2). It is likely that\",\"level\":\"info\"}}\n");
        std::fs::write(&log, [line("io_uring_setup"), line("bpf"), line("bpf"), "Unsupported syscall \n".into(), line("rm -rf /")].concat()).unwrap();
        assert_eq!(refused_calls(&log), ["bpf", "io_uring_setup"]);
        assert_eq!(refused_calls(&dir.path().join("none")), Vec::<String>::new());
    }
}
