//! What is put up of a pod: its view, made anew after each step.

use crate::next::{Life, Role, SandboxLife};
use crate::status::*;
use crate::words::{go_duration, pod_name, rfc3339};
use crate::worker::Worker;
use cofferdam_model::pod::Resources;

impl Worker {
    /// Puts up what is seen of the pod.
    pub(crate) fn publish(&mut self) {
        let mut containers: Vec<_> = (0..self.records.len()).map(|i| self.container_view(i)).collect();
        self.view.ephemeral = containers.split_off(self.records.len() - self.ephemeral.len());
        let view = &mut self.view;
        view.restarts = containers.iter().map(|c| c.restarts).sum();
        let ready = |c: &ContainerView| c.kind == "init" || c.ready;
        if !view.ended && view.phase != Phase::Failed && view.phase != Phase::Succeeded {
            view.phase = phase(&self.state);
        }
        view.ready = view.phase == Phase::Running && containers.iter().all(ready);
        view.began = self.state.containers.iter().any(|c| c.ran);
        view.containers = containers;
        self.set_conditions();
        self.board.put(self.index, self.view.clone());
    }

    fn set_conditions(&mut self) {
        let changes = self.resizing.is_some();
        let facts = Facts {
            began: self.has_begun,
            sandbox: self.sandbox.is_some() && matches!(self.state.sandbox, SandboxLife::Ready),
            work_ran: self.state.containers.iter().any(|c| c.role == Role::Regular && c.ran),
            changes,
        };
        let mut new = conditions(&self.view, facts);
        let now = self.shared.clock.unix_nanos();
        for condition in &mut new {
            let old = self
                .view
                .conditions
                .iter()
                .find(|c| c.kind == condition.kind && c.status == condition.status);
            condition.last_transition_time = old.map_or_else(|| rfc3339(now), |old| old.last_transition_time.clone());
        }
        self.view.conditions = new;
    }

    fn container_view(&self, index: usize) -> ContainerView {
        let (state, record, container) = (&self.state.containers[index], &self.records[index], self.container(index));
        let over = self.view.phase == Phase::Failed || self.view.phase == Phase::Succeeded;
        let waiting = |reason: &str, message: String| ContainerPhase::Waiting {
            reason: reason.to_owned(),
            message,
        };
        let (phase, last) = match (&state.life, &record.end) {
            (Life::Hook | Life::Running, end) => (
                ContainerPhase::Running {
                    started_at: record.started_at,
                },
                end,
            ),
            (Life::Exited { .. }, Some(end)) if over || state.is_over(self.state.restart) => {
                (ContainerPhase::Terminated(end.clone()), &record.last)
            }
            (Life::Exited { at, .. }, end) => {
                // The kubelet's sentence (`doBackOff`).
                let wait = go_duration(state.due(*at).saturating_sub(*at));
                let pod = pod_name(&self.setup.pod.metadata);
                (
                    waiting(
                        REASON_CRASH_LOOP,
                        format!("back-off {wait} restarting failed container={} pod={pod}", container.name),
                    ),
                    end,
                )
            }
            (_, end) => match &record.waiting {
                Some((reason, message)) => (waiting(reason, message.clone()), end),
                // Whatever the container is (`convertToAPIContainerStatuses`).
                None if !self.setup.pod.spec.init_containers.is_empty() => {
                    (waiting("PodInitializing", String::new()), end)
                }
                None => (waiting("ContainerCreating", String::new()), end),
            },
        };
        let resources = container.resources.as_ref().filter(|r| **r != Resources::default());
        ContainerView {
            name: container.name.clone(),
            kind: match state.role {
                Role::Init => "init",
                Role::Sidecar => "sidecar",
                Role::Regular => "container",
                Role::Ephemeral => "ephemeral",
            },
            image: container.image.clone(),
            id: record.id.clone(),
            ready: match state.role {
                Role::Init => matches!(state.life, Life::Exited { code: 0, .. }),
                // Upstream never says it of these.
                Role::Ephemeral => false,
                _ => state.life == Life::Running && self.is_ready(index),
            },
            started: matches!(state.role, Role::Regular | Role::Sidecar).then_some(state.life == Life::Running && state.started),
            allocated_resources: resources.map(|r| r.requests.clone()).unwrap_or_default(),
            resources: resources.cloned(),
            state: phase,
            last: last.clone(),
            restarts: record.made.saturating_sub(1),
            stages: record.stages.clone(),
        }
    }
}
