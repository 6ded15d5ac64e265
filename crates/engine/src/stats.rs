//! What a pod uses: its containers, and apart the enclosure itself.

use crate::Engine;
use crate::sandbox::failed;
use cofferdam_model::PodId;
use cofferdam_model::cri::{PodStats, Result};

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
        })
    }
}
