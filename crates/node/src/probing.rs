//! A worker's probes: who is due is tried by the node's probers, and what comes back is judged here.

use crate::control::Message;
use crate::next::{Life, Role};
use crate::probe::{Aim, Kind, Outcome, Watch, attempt, spelled_out};
use crate::stop::{Trouble, stop_one};
use crate::worker::Worker;
use cofferdam_model::ContainerId;
use cofferdam_model::cri;
use cofferdam_model::pod::RestartPolicy;
use std::time::Duration;

impl Worker {
    /// Where probes and hooks of the container at `index` go.
    pub(crate) fn aim(&self, index: usize) -> Option<Aim> {
        let machine = || self.shared.machine.ip.or(Some(std::net::Ipv4Addr::LOCALHOST.into()));
        let ip = if self.setup.pod.spec.host_network { machine() } else { self.ip };
        Some(Aim {
            container: self.records[index].id.clone()?,
            ports: self.container(index).ports.clone(),
            ip,
        })
    }

    /// The container at `index` runs, and its hook is over: from now on it is probed.
    pub(crate) fn watch(&mut self, index: usize) {
        // Init containers that end and added containers have no probes.
        if matches!(self.state.containers[index].role, Role::Regular | Role::Sidecar) {
            // The delay counts from the container's start, and its hook may have taken a while.
            let age = self.shared.clock.unix_nanos().saturating_sub(self.records[index].started_at);
            let age = Duration::from_nanos(u64::try_from(age).unwrap_or(0));
            let started = self.now().saturating_sub(age);
            self.records[index].watches = Watch::all(self.container(index), started);
        }
        let gated = self.records[index].watches.iter().any(|w| w.kind == Kind::Startup);
        self.state.containers[index].started = !gated;
    }

    /// Has tried what is due. Returns when the next is.
    pub(crate) fn try_probes(&mut self) -> Option<Duration> {
        let now = self.now();
        let mut next = None;
        for index in 0..self.records.len() {
            if self.records[index].watches.is_empty() || self.state.containers[index].life != Life::Running || self.records[index].ending {
                continue;
            }
            let started = self.state.containers[index].started;
            for at in 0..self.records[index].watches.len() {
                match self.records[index].watches[at].due(started) {
                    Some(due) if due <= now => {
                        self.records[index].watches[at].begin(now);
                        self.send_prober(index, self.records[index].watches[at].kind);
                    }
                    Some(due) => next = Some(next.map_or(due, |next: Duration| next.min(due))),
                    None => {}
                }
            }
        }
        next
    }

    fn send_prober(&self, index: usize, kind: Kind) {
        let container = self.container(index);
        let (Some(aim), Some(probe)) = (self.aim(index), kind.of(container)) else {
            return;
        };
        let probe = spelled_out(probe, &container.env);
        let (shared, control) = (self.shared.clone(), self.control.clone());
        let id = aim.container.clone();
        let run = self.shared.probers.run(move || {
            let outcome = match probe {
                Ok(probe) => attempt(&*shared.runtime, &aim, &probe),
                Err(long) => Outcome::Errored("unknown", long.to_string()),
            };
            control.send(Message::Probed(aim.container, kind, outcome));
        });
        if let Err(err) = run {
            self.control.send(Message::Probed(
                id,
                kind,
                Outcome::Errored("unknown", format!("no thread to try it: {err}")),
            ));
        }
    }

    /// A try of a probe ended.
    pub(crate) fn probed(&mut self, id: &ContainerId, kind: Kind, outcome: Outcome) {
        // One of a run that is over, or is being ended, says nothing.
        let Some(index) = self.up(id).filter(|index| !self.records[*index].ending) else {
            return;
        };
        let name = kind.name();
        let good = match outcome {
            Outcome::Good => Some(true),
            Outcome::Warning(what) => {
                self.event(true, "ProbeWarning", format!("{name} probe warning: {what}"));
                Some(true)
            }
            Outcome::Bad(what) => {
                self.event(true, "Unhealthy", format!("{name} probe failed: {what}"));
                Some(false)
            }
            Outcome::Errored(state, why) => {
                self.event(
                    true,
                    "Unhealthy",
                    format!("{name} probe errored and resulted in {state} state: {why}"),
                );
                None
            }
        };
        let Some(watch) = self.records[index].watches.iter_mut().find(|w| w.kind == kind) else {
            return;
        };
        if !watch.tried(good) {
            return;
        }
        match (kind, good) {
            (Kind::Startup, Some(true)) => self.state.containers[index].started = true,
            (Kind::Startup | Kind::Liveness, Some(false)) => self.unhealthy(index, kind),
            _ => {}
        }
    }

    /// Whether the container at `index` is ready, which says nothing of whether it runs.
    pub(crate) fn is_ready(&self, index: usize) -> bool {
        let readiness = self.records[index].watches.iter().find(|w| w.kind == Kind::Readiness);
        self.state.containers[index].started && readiness.is_none_or(|w| w.result() == Some(true))
    }

    /// Ends a container that is not alive, by upstream's sentence (`computePodActions`).
    fn unhealthy(&mut self, index: usize, kind: Kind) {
        let container = self.container(index);
        let own = kind.of(container).and_then(|probe| probe.termination_grace_period_seconds);
        let grace = own.map_or_else(|| self.own_grace(), |s| Duration::from_secs(u64::try_from(s).unwrap_or(0)));
        let what = if self.state.containers[index].role == Role::Sidecar {
            "Init container"
        } else {
            "Container"
        };
        let message = format!("{what} {} failed {} probe", container.name, kind.name().to_lowercase());
        self.kill_to_restart(index, grace, message);
    }

    /// Ends a container so that it is started again, where its policy restarts anything.
    pub(crate) fn kill_to_restart(&mut self, index: usize, grace: Duration, message: String) {
        let state = &mut self.state.containers[index];
        state.again = state.role == Role::Sidecar || self.state.restart != RestartPolicy::Never;
        // Upstream's sentence on a sidecar ends without it.
        let then = if state.again && state.role == Role::Regular { ", will be restarted" } else { "" };
        self.kill(index, grace, format!("{message}{then}"));
    }

    /// Ends one container beside the worker, which must stay able to hear of a stop.
    pub(crate) fn kill(&mut self, index: usize, grace: Duration, message: String) {
        let Some(target) = self.target(index) else { return };
        self.event(false, "Killing", message);
        self.records[index].ending = true;
        let (shared, control) = (self.shared.clone(), self.control.clone());
        let id = target.aim.container.clone();
        let run = move || {
            let trouble = stop_one(&*shared.runtime, &*shared.clock, &control, &target, grace);
            control.send(Message::Killed(target.aim.container, trouble));
        };
        if let Err(err) = std::thread::Builder::new()
            .name("kill".into())
            .stack_size(crate::node::STACK)
            .spawn(run)
        {
            let why = format!("no thread to end it: {err}");
            self.control.send(Message::Killed(id, vec![("FailedKillContainer", why)]));
        }
    }

    /// A container was ended. Where it could not be, what asked for its end asks again.
    pub(crate) fn killed(&mut self, id: &ContainerId, trouble: Vec<Trouble>) {
        let failed = trouble.iter().any(|(reason, _)| *reason == "FailedKillContainer");
        for (reason, message) in trouble {
            self.event(true, reason, message);
        }
        let Some(index) = self.up(id) else { return };
        let runs = || {
            self.shared
                .runtime
                .container_status(id)
                .is_ok_and(|s| s.state == cri::ContainerState::Running)
        };
        if !failed || !runs() {
            return self.exited(id, None);
        }
        self.records[index].ending = false;
        self.records[index].watches.iter_mut().for_each(Watch::again);
        if self.state.containers[index].life == Life::Hook {
            // Nothing would ask again: it is watched as one that started.
            self.state.containers[index].life = Life::Running;
            self.watch(index);
        }
    }
}
