//! How a pod ends: its containers, its sandbox, its volumes.

use crate::next::{Life, SandboxLife, Verdict};
use crate::stop::{Target, stop_containers};
use crate::worker::Worker;
use cofferdam_model::PodId;
use cofferdam_model::cri::Error;
use std::time::Duration;

/// How often a removal is tried before it is left to the next start.
pub const MAX_REMOVALS: u32 = 6;
/// The wait before a removal is tried again; it doubles.
pub const FIRST_WAIT: Duration = Duration::from_secs(1);
/// `terminationGracePeriodSeconds` where a pod gives none.
const DEFAULT_GRACE: u64 = 30;

impl Worker {
    /// The pod's own grace.
    pub(crate) fn own_grace(&self) -> Duration {
        let seconds = self.setup.pod.spec.termination_grace_period_seconds;
        Duration::from_secs(seconds.map_or(DEFAULT_GRACE, |s| u64::try_from(s).unwrap_or(0)))
    }

    /// Ends everything, says how the pod ended, and leaves nothing of it.
    pub(crate) fn finish(mut self, verdict: &Verdict) {
        self.control.stop_reading();
        self.pulls.clear();
        self.end_containers();
        let name_of = |index| self.container(index).name.clone();
        let (phase, reason, message) = crate::status::verdict(&self.state, verdict, name_of);
        (self.view.phase, self.view.reason, self.view.message) = (phase, reason, message);
        // Before its cgroups go. A sandbox that died has none any more.
        self.view.usage = self.sandbox.as_ref().and_then(|id| self.shared.runtime.pod_stats(id).ok());
        self.tell_end();
        self.publish();
        let sandbox_gone = match self.sandbox.clone() {
            None => true,
            Some(sandbox) => {
                let gone = self.remove_sandbox(&sandbox);
                self.unroute(&sandbox);
                gone
            }
        };
        if sandbox_gone {
            self.view.sandbox = None;
            self.view.left_behind = None;
            self.remove_volumes();
        }
        self.view.ended = true;
        self.publish();
    }

    fn end_containers(&mut self) {
        let live = |index: &usize| {
            matches!(
                self.state.containers[*index].life,
                Life::Hook | Life::Running
            )
        };
        let indices: Vec<usize> = (0..self.records.len()).filter(live).collect();
        let targets: Vec<Target> = indices.iter().filter_map(|index| self.target(*index)).collect();
        // In a dead sandbox there is nobody to tell.
        if !matches!(self.state.sandbox, SandboxLife::Died(_)) {
            for target in &targets {
                self.event(false, "Killing", format!("Stopping container {}", target.name));
            }
            let grace = self
                .control
                .stop_asked()
                .flatten()
                .unwrap_or_else(|| self.own_grace());
            let trouble = stop_containers(
                &*self.shared.runtime,
                &*self.shared.clock,
                &self.control,
                &targets,
                grace,
            );
            for (reason, message) in trouble {
                self.event(true, reason, message);
            }
        }
        for target in targets {
            self.exited(&target.aim.container, None);
        }
    }

    /// What ends the container at `index`. One that is being ended already had its preStop hook.
    pub(crate) fn target(&self, index: usize) -> Option<Target> {
        let container = self.container(index);
        let hook = container.lifecycle.as_ref().and_then(|l| l.pre_stop.clone());
        Some(Target {
            name: container.name.clone(),
            aim: self.aim(index)?,
            role: self.state.containers[index].role,
            pre_stop: hook.filter(|_| !self.records[index].ending),
        })
    }

    /// Whether the sandbox is gone. A removal that failed is tried again, and shown.
    fn remove_sandbox(&mut self, sandbox: &PodId) -> bool {
        let mut wait = FIRST_WAIT;
        for attempt in 1..=MAX_REMOVALS {
            let runtime = &self.shared.runtime;
            let removed = runtime
                .stop_pod_sandbox(sandbox)
                .and_then(|()| runtime.remove_pod_sandbox(sandbox));
            let err = match removed {
                Ok(()) | Err(Error::NotFound(_)) => return true,
                Err(err) => err,
            };
            self.event(
                true,
                "FailedKillPod",
                format!("its sandbox could not be removed: {err}"),
            );
            if attempt == MAX_REMOVALS {
                self.view.left_behind = Some(format!(
                    "its sandbox {} could not be removed in {attempt} tries, and its volumes stay with it: {err}; it is tried again at the next start of Cofferdam",
                    sandbox.short()
                ));
                break;
            }
            self.view.left_behind = Some(format!(
                "its sandbox {} could not be removed: {err}; tried again in {} s",
                sandbox.short(),
                wait.as_secs()
            ));
            let until = self.now() + wait;
            self.publish();
            self.pause(until);
            wait *= 2;
        }
        false
    }

    fn pause(&self, until: Duration) {
        while self.now() < until {
            let seen = self.control.bell.count();
            self.shared
                .clock
                .wait(&self.control.bell, seen, Some(until));
        }
    }

    fn remove_volumes(&mut self) {
        if let Some(Err(err)) = self.volumes.as_ref().map(|volumes| volumes.remove()) {
            self.view.left_behind = Some(format!(
                "its volumes could not be removed: {err}; remove them by hand"
            ));
        }
    }
}
