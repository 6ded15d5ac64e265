//! One pod's worker: carries out what [`next`](crate::next::next) says until the pod is over. The
//! states are drawn there. How containers start is in `start.rs`, how the pod ends in `end.rs`.

use crate::board::Board;
use crate::clock::lock;
use crate::control::{Control, Message, Permit};
use crate::next::{Action, ContainerState, Life, PodState, Role, SandboxLife, Verdict, next};
use crate::node::{Shared, lost};
use crate::setup::PodSetup;
use crate::status::*;
use crate::volumes::PodVolumes;
use cofferdam_model::cri::{self, Stage};
use cofferdam_model::pod::{Container, RestartPolicy};
use cofferdam_model::{ContainerId, PodId};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How often a worker looks for itself, in case an event was lost.
const RELIST: Duration = Duration::from_secs(60);

/// What is kept of one container beside its state.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// Id of the last one that was made.
    pub(crate) id: Option<ContainerId>,
    /// How many were made.
    pub(crate) made: u32,
    /// How often making it failed since one was made.
    pub(crate) tries: u32,
    /// Why it waits.
    pub(crate) waiting: Option<(&'static str, String)>,
    /// Nanoseconds since 1970.
    pub(crate) started_at: i64,
    /// Its last end, and the one before.
    pub(crate) end: Option<Terminated>,
    pub(crate) last: Option<Terminated>,
    /// Why its postStart hook had it stopped.
    pub(crate) hook_failed: Option<String>,
    pub(crate) stages: Vec<Stage>,
}

pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) setup: PodSetup,
    pub(crate) board: Arc<Board>,
    pub(crate) index: usize,
    pub(crate) control: Arc<Control>,
    pub(crate) state: PodState,
    /// In the order of `state.containers`.
    pub(crate) records: Vec<Record>,
    pub(crate) volumes: Option<PodVolumes>,
    pub(crate) sandbox: Option<PodId>,
    /// How often making the sandbox failed.
    pub(crate) sandbox_tries: u32,
    pub(crate) ip: Option<IpAddr>,
    /// When the start began.
    pub(crate) began: Duration,
    /// Parts of the view that this worker sets as it goes.
    pub(crate) view: PodView,
    looked: Duration,
}

impl Worker {
    pub(crate) fn new(
        shared: Arc<Shared>,
        setup: PodSetup,
        board: Arc<Board>,
        index: usize,
        control: Arc<Control>,
    ) -> Self {
        let spec = &setup.pod.spec;
        let role = |c: &Container| {
            if c.restart_policy == Some(RestartPolicy::Always) {
                Role::Sidecar
            } else {
                Role::Init
            }
        };
        let roles = spec
            .init_containers
            .iter()
            .map(role)
            .chain(spec.containers.iter().map(|_| Role::Regular));
        let containers: Vec<_> = roles.map(ContainerState::new).collect();
        let state = PodState {
            restart: spec.restart_policy.unwrap_or(RestartPolicy::Always),
            deadline: None,
            sandbox: SandboxLife::None(Duration::ZERO),
            containers,
            verdict: None,
        };
        let records = state.containers.iter().map(|_| Record::default()).collect();
        let view = (*board.get(index)).clone();
        let zero = Duration::ZERO;
        Self {
            shared,
            setup,
            board,
            index,
            control,
            state,
            records,
            volumes: None,
            sandbox: None,
            sandbox_tries: 0,
            ip: None,
            began: zero,
            view,
            looked: zero,
        }
    }

    /// Runs the pod to its end. `permit` is held while it starts.
    pub(crate) fn run(mut self, permit: Permit) {
        let mut permit = Some(permit);
        self.began = self.now();
        self.looked = self.began;
        self.view.started_at = self.shared.clock.unix_nanos();
        let seconds = self.setup.pod.spec.active_deadline_seconds;
        self.state.deadline =
            seconds.map(|s| self.began + Duration::from_secs(u64::try_from(s).unwrap_or(0)));
        self.tell_admitted();
        loop {
            // Read before looking: a message after this makes the wait below return at once.
            let seen = self.control.bell.count();
            self.read_mail();
            match next(&self.state, self.now()) {
                Action::MakeSandbox => self.make_sandbox(),
                Action::Start(index) => self.start_container(index),
                Action::Wait(until) => {
                    permit = None;
                    self.publish();
                    let look = self.looked + RELIST;
                    self.shared.clock.wait(
                        &self.control.bell,
                        seen,
                        Some(until.map_or(look, |until| until.min(look))),
                    );
                    self.look();
                }
                Action::Terminate(verdict) => {
                    drop(permit.take());
                    return self.finish(&verdict);
                }
            }
            self.publish();
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.shared.clock.now()
    }

    /// The container at `index` of the state, as the manifest has it.
    pub(crate) fn container(&self, index: usize) -> &Container {
        let init = &self.setup.pod.spec.init_containers;
        if index < init.len() {
            &init[index]
        } else {
            &self.setup.pod.spec.containers[index - init.len()]
        }
    }

    /// The pod cannot be started.
    pub(crate) fn give_up(&mut self, reason: &'static str, message: String) {
        self.event(true, reason, message.clone());
        self.state.verdict = Some(Verdict::Impossible { reason, message });
    }

    fn read_mail(&mut self) {
        while let Some(message) = self.control.take() {
            match message {
                Message::Exited(id, code) => self.exited(&id, Some(code)),
                Message::SandboxDied(why) => self.state.sandbox = SandboxLife::Died(why),
                Message::HookDone(id, result) => self.hook_done(&id, result),
            }
        }
        if self.control.stop_asked().is_some() && self.state.verdict.is_none() {
            self.state.verdict = Some(Verdict::Stopped);
        }
    }

    fn up(&self, id: &ContainerId) -> Option<usize> {
        let index = self
            .records
            .iter()
            .position(|r| r.id.as_ref() == Some(id))?;
        matches!(
            self.state.containers[index].life,
            Life::Hook | Life::Running
        )
        .then_some(index)
    }

    /// Takes note of the end of a container that ran. Without a code, the runtime is asked, and an
    /// end that nobody saw counts as 137, as upstream.
    pub(crate) fn exited(&mut self, id: &ContainerId, code: Option<i32>) {
        let Some(index) = self.up(id) else { return };
        let status = self
            .shared
            .runtime
            .container_status(id)
            .ok()
            .filter(|s| s.state == cri::ContainerState::Exited);
        let end = self.end_of(index, status, code);
        let state = &mut self.state.containers[index];
        state.life = Life::Exited {
            code: end.exit_code,
            at: self.shared.clock.now(),
        };
        state.last_code = Some(end.exit_code);
        self.tell_exit(index, &end);
        let record = &mut self.records[index];
        record.last = record.end.replace(end);
        let state = &self.state.containers[index];
        if self.state.verdict.is_none() && !ends_for_good(&self.state, state) {
            let wait = state.backoff.wait().as_secs();
            let when = if wait == 0 { "at once".to_owned() } else { format!("in {wait} s") };
            let message = format!("container {:?} is started again {when}", self.container(index).name);
            self.event(true, "BackOff", message);
        }
    }

    fn end_of(
        &self,
        index: usize,
        status: Option<cri::ContainerStatus>,
        code: Option<i32>,
    ) -> Terminated {
        let record = &self.records[index];
        let now = self.shared.clock.unix_nanos();
        let (exit_code, reason, message, finished_at) = match (status, code) {
            (Some(s), _) => (
                s.exit_code,
                s.reason,
                s.message,
                if s.finished_at > 0 {
                    s.finished_at
                } else {
                    now
                },
            ),
            (None, Some(code)) => (code, String::new(), String::new(), now),
            (None, None) => (
                137,
                REASON_UNKNOWN_END.into(),
                "its end was not seen".into(),
                now,
            ),
        };
        let reason = match reason.as_str() {
            "" if exit_code == 0 => "Completed".to_owned(),
            "" => "Error".to_owned(),
            _ => reason,
        };
        let last_word = self.last_word(index, exit_code);
        let message = if last_word.is_empty() {
            message
        } else {
            last_word
        };
        let (reason, message) = match &record.hook_failed {
            Some(why) => (REASON_HOOK.to_owned(), why.clone()),
            None => (reason, message),
        };
        Terminated {
            exit_code,
            reason,
            message,
            started_at: record.started_at,
            finished_at,
        }
    }

    /// The container's termination message.
    fn last_word(&self, index: usize, exit_code: i32) -> String {
        let container = self.container(index);
        let attempt = self.records[index].made.saturating_sub(1);
        let (Some(volumes), Ok(logs)) = (
            &self.volumes,
            crate::node::log_directory(&self.shared.dirs, &self.view),
        ) else {
            return String::new();
        };
        let file = volumes.termination_path(&container.name, attempt);
        let log = logs.join(crate::config::log_path(&container.name, attempt));
        crate::termination::message(
            &file,
            &log,
            container.termination_message_policy.as_deref(),
            exit_code,
        )
    }

    /// Looks at what should run, now and then: an event may have been lost.
    fn look(&mut self) {
        if self.now() < self.looked + RELIST {
            return;
        }
        self.looked = self.now();
        let ids: Vec<ContainerId> = self
            .records
            .iter()
            .filter_map(|r| r.id.clone())
            .filter(|id| self.up(id).is_some())
            .collect();
        for id in ids {
            match self.shared.runtime.container_status(&id) {
                Ok(status) if status.state == cri::ContainerState::Exited => {
                    self.exited(&id, Some(status.exit_code))
                }
                Err(cri::Error::NotFound(_)) => self.exited(&id, None),
                // Anything else says nothing about the container; it is looked at again.
                _ => {}
            }
        }
        let Some(sandbox) = &self.sandbox else { return };
        match self.shared.runtime.pod_sandbox_status(sandbox) {
            Ok(status) if status.state == cri::SandboxState::NotReady => {
                self.state.sandbox = SandboxLife::Died(
                    status
                        .reason
                        .unwrap_or_else(|| "it is no longer ready".into()),
                );
            }
            Err(cri::Error::NotFound(why)) => self.state.sandbox = SandboxLife::Died(why),
            _ => {}
        }
    }

    /// Puts up what is seen of the pod.
    pub(crate) fn publish(&mut self) {
        let containers: Vec<_> = (0..self.records.len())
            .map(|i| self.container_view(i))
            .collect();
        let view = &mut self.view;
        view.restarts = containers.iter().map(|c| c.restarts).sum();
        let ready = |c: &ContainerView| c.kind == "init" || c.ready;
        if !view.ended && view.phase != Phase::Failed && view.phase != Phase::Succeeded {
            view.phase = phase(&self.state);
        }
        view.ready = view.phase == Phase::Running && containers.iter().all(ready);
        view.began = self.state.containers.iter().any(|c| c.ran);
        view.containers = containers;
        self.board.put(self.index, self.view.clone());
    }

    fn container_view(&self, index: usize) -> ContainerView {
        let (state, record, container) = (
            &self.state.containers[index],
            &self.records[index],
            self.container(index),
        );
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
            (Life::Exited { .. }, Some(end)) if over || ends_for_good(&self.state, state) => {
                (ContainerPhase::Terminated(end.clone()), &record.last)
            }
            (Life::Exited { .. }, end) => {
                // The kubelet's sentence (`doBackOff`).
                let wait = state.backoff.wait().as_secs();
                let pod = format!(
                    "{}_{}({})",
                    self.view.name, self.view.namespace, self.view.uid
                );
                (
                    waiting(
                        REASON_CRASH_LOOP,
                        format!(
                            "back-off {wait}s restarting failed container={} pod={pod}",
                            container.name
                        ),
                    ),
                    end,
                )
            }
            (_, end) => match &record.waiting {
                Some((reason, message)) => (waiting(reason, message.clone()), end),
                None if state.role == Role::Regular
                    && !self.setup.pod.spec.init_containers.is_empty() =>
                {
                    (waiting("PodInitializing", String::new()), end)
                }
                None => (waiting("ContainerCreating", String::new()), end),
            },
        };
        ContainerView {
            name: container.name.clone(),
            kind: match state.role {
                Role::Init => "init",
                Role::Sidecar => "sidecar",
                Role::Regular => "container",
            },
            image: container.image.clone(),
            id: record.id.clone(),
            ready: state.life == Life::Running
                || (state.role == Role::Init && state.last_code == Some(0)),
            state: phase,
            last: last.clone(),
            restarts: record.made.saturating_sub(1),
            stages: record.stages.clone(),
        }
    }

    pub(crate) fn route(&self, sandbox: &PodId) {
        lock(&self.shared.routes).insert(sandbox.clone(), self.control.clone());
    }

    pub(crate) fn unroute(&self, sandbox: &PodId) {
        lock(&self.shared.routes).remove(sandbox);
    }
}

impl Drop for Worker {
    /// A worker that could not be given a thread, or whose thread came to grief, is not waited for.
    fn drop(&mut self) {
        self.control.close();
        let view = self.board.get(self.index);
        if !view.ended {
            self.board.put(self.index, lost(&view));
        }
    }
}
