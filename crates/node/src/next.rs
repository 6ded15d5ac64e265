//! What a pod needs next: a pure function of its state and the time, by the rules of the kubelet
//! (`kuberuntime_manager.go`, `computePodActions`; `kuberuntime_container.go`,
//! `computeInitContainerActions`).
//!
//! ```text
//!            ┌──── tried again ────┐
//!            ▼                     │
//!   no sandbox ── MakeSandbox ── failed ── too often, or for good ─────────┐
//!            │                                                             │
//!            ▼                                                             │
//!   sandbox ready ── Start: init containers and sidecars, one by one,      │
//!            │              then the containers, in order                  │
//!            │       Start again: after an end, by policy and back-off     │
//!            │       Wait: for an exit, a hook, a time                     │
//!            ▼                                                             ▼
//!   all ended for good · init failed · stop asked · deadline · sandbox died
//!            │
//!            ▼
//!        Terminate ── containers, sidecars last ── sandbox ── volumes ── ended
//! ```

use crate::backoff::Backoff;
use cofferdam_model::pod::RestartPolicy;
use std::time::Duration;

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Never made.
    New,
    /// It could not be made, or not again yet; tried at this time.
    Retry(Duration),
    /// Its image is being pulled.
    Pulling,
    /// It runs; its postStart hook has not ended.
    Hook,
    /// It runs.
    Running,
    /// It ended.
    Exited {
        /// Its exit code.
        code: i32,
        /// When.
        at: Duration,
    },
}

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the next begins.
    Init,
    /// An init container that keeps running (KEP-753).
    Sidecar,
    /// A container of the pod's work.
    Regular,
    /// Added to a running pod; never started again (KEP-277).
    Ephemeral,
}

/// One container, as far as decisions need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerState {
    /// What it is for.
    pub role: Role,
    /// Where it is.
    pub life: Life,
    /// Exit code of its last end, where it ended at least once.
    pub last_code: Option<i32>,
    /// Whether it ever ran.
    pub ran: bool,
    /// While it runs: whether its startup probe has succeeded, or it has none.
    pub started: bool,
    /// It is started again whatever its code and the policy: the node ended it for that.
    pub again: bool,
    /// When the run before the last ended.
    pub before: Option<Duration>,
    /// Its back-off.
    pub backoff: Backoff,
}

impl ContainerState {
    /// A container that was never made.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            life: Life::New,
            last_code: None,
            ran: false,
            started: false,
            again: false,
            before: None,
            backoff: Backoff::default(),
        }
    }

    /// When it may be started again, having ended `at`. One that the node ended may start at once
    /// where the wait since the end before is over: upstream ends and starts it in one go.
    pub fn due(&self, at: Duration) -> Duration {
        let waited = self.before.is_none_or(|before| self.backoff.due(before) <= at);
        if self.again && waited { at } else { self.backoff.due(at) }
    }

    /// Whether it ended and is not started again.
    pub fn is_over(&self, policy: RestartPolicy) -> bool {
        matches!(self.life, Life::Exited { code, .. } if !self.again && !restarts_as(self.role, policy, code))
    }

    fn up(&self) -> bool {
        matches!(self.life, Life::Hook | Life::Running)
    }
}

/// The pod's sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SandboxLife {
    /// Not made yet; not before this time.
    None(Duration),
    /// It takes containers.
    Ready,
    /// It died, and why.
    Died(String),
}

/// Why a pod is ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every container ended and none is started again.
    Completed,
    /// An init container failed and is not started again.
    InitFailed {
        /// Place among the containers.
        index: usize,
        /// Its exit code.
        code: i32,
    },
    /// Somebody asked for it.
    Stopped,
    /// `activeDeadlineSeconds` are over.
    Deadline,
    /// The sandbox died, and why.
    SandboxDied(String),
    /// It cannot be started, or must not go on: reason and one sentence.
    Impossible {
        /// One word, as Kubernetes writes reasons.
        reason: &'static str,
        /// One sentence.
        message: String,
    },
}

/// A pod, as far as decisions need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodState {
    /// The pod's policy.
    pub restart: RestartPolicy,
    /// When the pod is failed for taking too long.
    pub deadline: Option<Duration>,
    /// The sandbox.
    pub sandbox: SandboxLife,
    /// Init containers and sidecars in order, then the containers.
    pub containers: Vec<ContainerState>,
    /// Set where something else ended the pod.
    pub verdict: Option<Verdict>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make the sandbox.
    MakeSandbox,
    /// Make and start the container at this place.
    Start(usize),
    /// Wait for something to happen, at most until this time.
    Wait(Option<Duration>),
    /// End everything.
    Terminate(Verdict),
}

/// What `pod` needs at `now`.
pub fn next(pod: &PodState, now: Duration) -> Action {
    if let SandboxLife::Died(why) = &pod.sandbox {
        return Action::Terminate(Verdict::SandboxDied(why.clone()));
    }
    if let Some(verdict) = &pod.verdict {
        return Action::Terminate(verdict.clone());
    }
    if pod.deadline.is_some_and(|deadline| now >= deadline) {
        return Action::Terminate(Verdict::Deadline);
    }
    let mut wake = Wake {
        now,
        at: pod.deadline,
    };
    let action = match pod.sandbox {
        SandboxLife::None(from) => wake.due(from).then_some(Action::MakeSandbox),
        _ => ephemeral_action(pod, &mut wake)
            .or_else(|| init_action(pod, &mut wake).unwrap_or_else(|| regular_action(pod, &mut wake))),
    };
    action.unwrap_or(Action::Wait(wake.at))
}

/// The earliest time at which something is due.
struct Wake {
    now: Duration,
    at: Option<Duration>,
}

impl Wake {
    /// Whether `time` has come; if not, it is remembered.
    fn due(&mut self, time: Duration) -> bool {
        if time > self.now {
            self.at = Some(self.at.map_or(time, |at| at.min(time)));
        }
        time <= self.now
    }

    /// Whether `container`, which does not run, may be started now.
    fn may_start(&mut self, container: &ContainerState) -> bool {
        match container.life {
            Life::New => true,
            Life::Retry(at) => self.due(at),
            Life::Exited { at, .. } => self.due(container.due(at)),
            Life::Pulling | Life::Hook | Life::Running => false,
        }
    }
}

/// They come first: they are there to look at a pod that does not get on.
fn ephemeral_action(pod: &PodState, wake: &mut Wake) -> Option<Action> {
    let mut new = pod.containers.iter().enumerate().filter(|(_, c)| c.role == Role::Ephemeral && !c.ran);
    new.find(|(_, c)| !matches!(c.life, Life::Exited { .. }) && wake.may_start(c)).map(|(index, _)| Action::Start(index))
}

/// `None`: initialisation is over. `Some(None)`: it goes on, and there is nothing to do now.
fn init_action(pod: &PodState, wake: &mut Wake) -> Option<Option<Action>> {
    let initialised = pod
        .containers
        .iter()
        .any(|c| c.role == Role::Regular && c.ran);
    for (index, container) in pod.containers.iter().enumerate() {
        // Once something later has run, only a sidecar is started again.
        let passed = pod.containers[index + 1..]
            .iter()
            .any(|later| later.ran && later.role != Role::Ephemeral && (later.role != Role::Sidecar || later.up()));
        match (container.role, container.life) {
            (Role::Regular | Role::Ephemeral, _) => break,
            (Role::Init, _) if initialised => {}
            (Role::Init, Life::Exited { code: 0, .. }) => {}
            (Role::Sidecar, Life::Running) if container.started => {}
            (Role::Init, Life::Exited { code, .. }) if pod.restart == RestartPolicy::Never => {
                return Some(Some(Action::Terminate(Verdict::InitFailed { index, code })));
            }
            (Role::Init, _) => {
                return Some(wake.may_start(container).then_some(Action::Start(index)));
            }
            (Role::Sidecar, _) => {
                if finished(pod) {
                    continue;
                }
                if wake.may_start(container) {
                    return Some(Some(Action::Start(index)));
                }
                if !passed {
                    return Some(None);
                }
            }
        }
    }
    None
}

fn regular_action(pod: &PodState, wake: &mut Wake) -> Option<Action> {
    if finished(pod) {
        return Some(Action::Terminate(Verdict::Completed));
    }
    for (index, container) in pod.containers.iter().enumerate() {
        if container.role != Role::Regular {
            continue;
        }
        match container.life {
            Life::Running => {}
            // The next container is not started before this one's postStart hook has ended.
            Life::Hook => return None,
            _ if container.is_over(pod.restart) => {}
            _ if wake.may_start(container) => return Some(Action::Start(index)),
            _ => {}
        }
    }
    None
}

/// Whether all the pod's work has ended for good.
fn finished(pod: &PodState) -> bool {
    let mut work = pod
        .containers
        .iter()
        .filter(|c| c.role == Role::Regular)
        .peekable();
    work.peek().is_some()
        && work.all(|c| c.is_over(pod.restart))
}

/// Whether a container that ended with `code` is started again.
pub fn restarts(policy: RestartPolicy, code: i32) -> bool {
    match policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => code != 0,
        RestartPolicy::Never => false,
    }
}

/// Whether a container of this role that ended with `code` is started again.
pub fn restarts_as(role: Role, policy: RestartPolicy, code: i32) -> bool {
    match role {
        Role::Sidecar => true,
        Role::Init => code != 0 && policy != RestartPolicy::Never,
        Role::Regular => restarts(policy, code),
        Role::Ephemeral => false,
    }
}

#[cfg(test)]
#[path = "next_tests.rs"]
mod tests;
