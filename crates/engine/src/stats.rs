//! What a pod uses: its containers, and apart the enclosure itself.

use crate::Engine;
use crate::sandbox::{Known, failed};
use cofferdam_model::cri::{ContainerState, ContainerStats, ContainerStatus, PodStats, Result};
use cofferdam_model::{ContainerId, PodId};
use cofferdam_runtimes::Usage;

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
            let of = |(container, used): (ContainerStatus, Usage)| ContainerStats {
                name: container.config.name,
                memory_working_set: used.memory,
                cpu_nanos: used.cpu_nanos,
                pids: used.pids,
            };
            return Ok(running.into_iter().zip(told).map(of).collect());
        }
        running.into_iter().map(|c| Ok(ContainerStats { name: c.config.name, ..self.usage(&known, &c.id)? })).collect()
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
