//! One pod's worker: carries out what [`next`](crate::next::next) says until the pod is over. The
//! states are drawn there. How containers start is in `start.rs`, how the pod ends in `end.rs`.

use crate::board::Board;
use crate::clock::lock;
use crate::devices::Devices;
use crate::change::Resizing;
use crate::control::{Control, Gate, Message};
use crate::fetch::Pull;
use crate::next::{Action, ContainerState, Life, PodState, Role, SandboxLife, Verdict, next};
use crate::node::{Shared, lost};
use crate::probe::Watch;
use crate::setup::PodSetup;
use crate::status::*;
use crate::volumes::PodVolumes;
use cofferdam_model::cri::{self, Stage};
use cofferdam_model::pod::{Container, EphemeralContainer, RestartPolicy};
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
    /// It is being ended, and its pod goes on.
    pub(crate) ending: bool,
    /// Its image is there for the next start.
    pub(crate) image_ready: bool,
    /// The probes of this run.
    pub(crate) watches: Vec<Watch>,
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
    /// Its devices; they are given back with its volumes.
    pub(crate) devices: Devices,
    pub(crate) sandbox: Option<PodId>,
    /// How often making the sandbox failed.
    pub(crate) sandbox_tries: u32,
    pub(crate) ip: Option<IpAddr>,
    /// All of its addresses; the first is `ip`.
    pub(crate) ips: Vec<IpAddr>,
    /// What is pulled for it.
    pub(crate) pulls: Vec<Pull>,
    /// Why an image cannot be used: reason and one sentence.
    pub(crate) image_trouble: Option<(&'static str, String)>,
    /// Containers that were added; they follow the others in `records`.
    pub(crate) ephemeral: Vec<EphemeralContainer>,
    /// A change of resources that waits for its container to end.
    pub(crate) resizing: Option<Resizing>,
    /// Whether the start began, and when.
    pub(crate) has_begun: bool,
    pub(crate) began: Duration,
    /// Parts of the view that this worker sets as it goes.
    pub(crate) view: PodView,
    looked: Duration,
    /// When is looked next at what the pod has written.
    pub(crate) disk_due: Duration,
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
            devices: Devices::default(),
            sandbox: None,
            sandbox_tries: 0,
            ip: None,
            ips: Vec::new(),
            pulls: Vec::new(),
            image_trouble: None,
            ephemeral: Vec::new(),
            resizing: None,
            has_begun: false,
            began: zero,
            view,
            looked: zero,
            disk_due: zero,
        }
    }

    /// Runs the pod to its end. What it lacks is fetched before it enters `gate`.
    pub(crate) fn run(mut self, gate: &Arc<Gate>) {
        let mut permit = if self.look_for_images() {
            gate.step_aside(self.index);
            self.begin();
            // The first questions: nothing is fetched for a pod whose enclosure cannot be had, or that asks for
            // what it cannot have.
            if self.handler_features().is_some_and(|features| self.is_possible(&features)) {
                self.fetch();
            }
            self.state.verdict.is_none().then(|| gate.enter_late())
        } else {
            let permit = gate.enter(self.index);
            self.begin();
            Some(permit)
        };
        loop {
            // Read before looking: a message after this makes the wait below return at once.
            let seen = self.control.bell.count();
            self.read_mail();
            // A pod that is being ended needs none of it.
            let goes_on = self.state.verdict.is_none();
            let due = if goes_on { [self.try_probes(), self.pull(), self.watch_disk()] } else { [None; 3] };
            match next(&self.state, self.now()) {
                Action::MakeSandbox => self.make_sandbox(),
                Action::Start(index) => self.start_container(index),
                Action::Wait(until) => {
                    permit = None;
                    self.publish();
                    let look = self.looked + RELIST;
                    let until = due.into_iter().flatten().chain(until).fold(look, Duration::min);
                    self.shared.clock.wait(&self.control.bell, seen, Some(until));
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

    fn begin(&mut self) {
        self.has_begun = true;
        self.began = self.now();
        self.looked = self.began;
        self.view.started_at = self.shared.clock.unix_nanos();
        let seconds = self.setup.pod.spec.active_deadline_seconds;
        self.state.deadline = seconds.map(|s| self.began + Duration::from_secs(u64::try_from(s).unwrap_or(0)));
        self.tell_admitted();
    }

    pub(crate) fn now(&self) -> Duration {
        self.shared.clock.now()
    }

    /// The container at `index` of the state, as the manifest has it.
    pub(crate) fn container(&self, index: usize) -> &Container {
        let spec = &self.setup.pod.spec;
        let (init, regular) = (spec.init_containers.len(), spec.containers.len());
        match index.checked_sub(init) {
            None => &spec.init_containers[index],
            Some(index) if index < regular => &spec.containers[index],
            Some(index) => &self.ephemeral[index - regular].container,
        }
    }

    /// The pod cannot be started.
    pub(crate) fn give_up(&mut self, reason: &'static str, message: String) {
        self.event(true, reason, message.clone());
        self.state.verdict = Some(Verdict::Impossible { reason, message });
    }

    pub(crate) fn read_mail(&mut self) {
        while let Some(message) = self.control.take() {
            match message {
                Message::Exited(id, code) => self.exited(&id, Some(code)),
                Message::SandboxDied(why) => self.state.sandbox = SandboxLife::Died(why),
                Message::HookDone(id, result) => self.hook_done(&id, result),
                Message::Probed(id, kind, outcome) => self.probed(&id, kind, outcome),
                Message::Killed(id, trouble) => self.killed(&id, trouble),
                Message::Pulled(pulled) => self.pulled(pulled),
                // Who asked may have gone.
                Message::AddEphemeral(container, answer) => drop(answer.send(self.add_ephemeral(*container))),
                Message::Resize(request, answer) => drop(answer.send(self.resize(*request))),
            }
        }
        if self.control.stop_asked().is_some() && self.state.verdict.is_none() {
            self.state.verdict = Some(Verdict::Stopped);
        }
    }

    pub(crate) fn up(&self, id: &ContainerId) -> Option<usize> {
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
        let at = self.shared.clock.now();
        state.life = Life::Exited { code: end.exit_code, at };
        state.last_code = Some(end.exit_code);
        self.tell_exit(index, &end);
        let record = &mut self.records[index];
        record.last = record.end.replace(end);
        record.ending = false;
        record.watches.clear();
        self.resized_by_end(index);
        let state = &self.state.containers[index];
        if self.state.verdict.is_none() && !state.is_over(self.state.restart) {
            let wait = state.due(at).saturating_sub(at).as_secs();
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
                "The container could not be located when the pod was terminated".into(),
                now,
            ),
        };
        let reason = match reason.as_str() {
            "" if exit_code == 0 => "Completed".to_owned(),
            "" => "Error".to_owned(),
            _ => reason,
        };
        let message = crate::termination::joined(message, self.last_word(index, exit_code));
        let message = crate::termination::share(message, self.records.len());
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
        self.control.stop_reading();
        let view = self.board.get(self.index);
        if !view.ended {
            self.board.put(self.index, lost(&view));
        }
    }
}
