//! Pods that write more than they may are ended (`pkg/kubelet/eviction/eviction_manager.go`,
//! `localStorageEviction`).

use crate::next::SandboxLife;
use crate::worker::Worker;
use std::time::Duration;

/// Reason of a pod that was ended for what it used.
pub const REASON_EVICTED: &str = "Evicted";
/// How often is looked (`evictionMonitoringPeriod`).
pub const EVICTION_PERIOD: Duration = Duration::from_secs(10);
/// Most seconds that such a pod has to end (`immediateEvictionGracePeriodSeconds`).
const GRACE: i64 = 1;

impl Worker {
    /// Looks at what the pod has written, where it may not write as it likes, and says when it looks again.
    pub(crate) fn watch_disk(&mut self) -> Option<Duration> {
        let volumes = self.volumes.as_ref().filter(|volumes| volumes.is_limited())?;
        if self.state.verdict.is_some() || self.state.sandbox != SandboxLife::Ready {
            return None;
        }
        let now = self.now();
        if now >= self.disk_due {
            self.disk_due = now + EVICTION_PERIOD;
            if let Some(message) = volumes.over_limit() {
                let grace = &mut self.setup.pod.spec.termination_grace_period_seconds;
                *grace = Some(grace.map_or(GRACE, |own| own.min(GRACE)));
                self.give_up(REASON_EVICTED, message);
                return None;
            }
        }
        Some(self.disk_due)
    }
}
