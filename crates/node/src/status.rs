//! What is seen of a pod: its view, its phase and what a run's exit code is made of.

use crate::next::{ContainerState, Life, PodState, Role, Verdict};
use cofferdam_model::cri::{PodStats, Stage};
use cofferdam_model::pod::{Resources, RestartPolicy};
use cofferdam_model::{ContainerId, PodId, ResourceList};
use serde::Serialize;
use std::net::IpAddr;

/// Exit code of a run in which the first pod that failed had ended well, and something of it could
/// not be removed.
pub const EXIT_LEFT_BEHIND: i32 = 122;
/// Exit code of a run whose first failed pod lost its sandbox.
pub const EXIT_SANDBOX_DIED: i32 = 123;
/// Exit code of a run whose first failed pod was ended, by its deadline or by request, and no
/// container of it ended with a code of its own. 124 is also what `timeout(1)` answers.
pub const EXIT_ENDED: i32 = 124;
/// Exit code of a run whose first failed pod never started a container.
pub const EXIT_NOT_STARTED: i32 = 125;

/// Reason of a pod whose handler is unknown, broken or unproved.
pub const REASON_HANDLER: &str = "HandlerUnavailable";
/// Reason of a pod whose sandbox could not be made (the kubelet's event).
pub const REASON_SANDBOX: &str = "FailedCreatePodSandBox";
/// Reason of a pod whose sandbox died.
pub const REASON_SANDBOX_DIED: &str = "SandboxDied";
/// Reason of a pod that asks for something that cannot be honoured.
pub const REASON_UNSUPPORTED: &str = "Unsupported";
/// Reason of a pod whose volumes could not be made (the kubelet's event).
pub const REASON_MOUNT: &str = "FailedMount";
/// Reason of a container whose settings could not be resolved (the kubelet's).
pub const REASON_CONFIG: &str = "CreateContainerConfigError";
/// Reason of a container that could not be made (the kubelet's).
pub const REASON_CREATE: &str = "CreateContainerError";
/// Reason of a container that could not be started (containerd's, with exit code 128).
pub const REASON_START: &str = "StartError";
/// Reason of a container that waits to be started again (the kubelet's).
pub const REASON_CRASH_LOOP: &str = "CrashLoopBackOff";
/// Reason of a container whose end nobody saw (the kubelet's, with exit code 137).
pub const REASON_UNKNOWN_END: &str = "ContainerStatusUnknown";
/// Reason of a container that was stopped because its postStart hook failed (the kubelet's).
pub const REASON_HOOK: &str = "PostStartHookError";
/// Reason of a pod that ran for too long (the kubelet's).
pub const REASON_DEADLINE: &str = "DeadlineExceeded";
/// Reason of a pod that was ended by request.
pub const REASON_STOPPED: &str = "Stopped";

/// Phase of a pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub enum Phase {
    /// Not every container was started yet.
    #[default]
    Pending,
    /// At least one container runs or is about to run again.
    Running,
    /// Every container ended with code 0 and none is started again.
    Succeeded,
    /// It ended, and not well.
    Failed,
}

/// How a container ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Terminated {
    /// Exit code; 128 + signal for a signal.
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`, …
    pub reason: String,
    /// Its last word, or what went wrong.
    pub message: String,
    /// Nanoseconds since 1970; 0 where it never started.
    pub started_at: i64,
    /// Nanoseconds since 1970.
    pub finished_at: i64,
}

/// State of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ContainerPhase {
    /// It does not run yet, or not again yet.
    Waiting {
        /// One word.
        reason: String,
        /// One sentence, or nothing.
        message: String,
    },
    /// It runs.
    #[serde(rename_all = "camelCase")]
    Running {
        /// Nanoseconds since 1970.
        started_at: i64,
    },
    /// It ended and is not started again.
    Terminated(Terminated),
}

/// What is seen of a container.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerView {
    /// Name.
    pub name: String,
    /// `init`, `sidecar`, `container` or `ephemeral`.
    pub kind: &'static str,
    /// Image reference as the user wrote it.
    pub image: String,
    /// Id of the last one that was made.
    pub id: Option<ContainerId>,
    /// State.
    pub state: ContainerPhase,
    /// How its last run ended, where it was started again or waits to be.
    pub last: Option<Terminated>,
    /// How often it was started again.
    pub restarts: u32,
    /// Whether it runs and its readiness probe says so (an init container: ended well).
    pub ready: bool,
    /// Whether it runs, its postStart hook is over and its startup probe has succeeded; `None` for those
    /// that have no such thing: init containers that end, and added ones.
    pub started: Option<bool>,
    /// The requests that hold for it now.
    #[serde(skip_serializing_if = "ResourceList::is_empty")]
    pub allocated_resources: ResourceList,
    /// The requests and limits that hold for it now; `None` where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// How long each stage of its last start took.
    pub stages: Vec<Stage>,
}

impl ContainerView {
    /// Its exit code, where it has ended and is not started again.
    pub fn exit_code(&self) -> Option<i32> {
        match &self.state {
            ContainerPhase::Terminated(end) => Some(end.exit_code),
            _ => None,
        }
    }
}

/// Something worth telling about a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodEvent {
    /// When it happened last, nanoseconds since 1970.
    pub at: i64,
    /// How often it happened in a row.
    pub count: u32,
    /// Whether it is a warning.
    pub warning: bool,
    /// One word, as Kubernetes writes reasons.
    pub reason: String,
    /// One sentence.
    pub message: String,
}

/// One condition of a pod, as Kubernetes has it in `status.conditions`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `PodScheduled`, `PodReadyToStartContainers`, `Initialized`, `ContainersReady`, `Ready` or
    /// `PodResizeInProgress`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// `True` or `False`.
    pub status: &'static str,
    /// When the status changed last; RFC 3339, to the second.
    pub last_transition_time: String,
    /// One word, where there is something to say.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub reason: &'static str,
    /// One phrase, where there is something to say.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// What is seen of a pod.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodView {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// UID.
    pub uid: String,
    /// The class that named the handler.
    pub class: Option<String>,
    /// The handler asked for; once the sandbox is there, the one that runs it.
    pub handler: String,
    /// Id of its sandbox, while it has one.
    pub sandbox: Option<PodId>,
    /// Phase.
    pub phase: Phase,
    /// One word on the phase, where there is something to say.
    pub reason: String,
    /// One sentence on the phase.
    pub message: String,
    /// Whether every container and sidecar is ready.
    pub ready: bool,
    /// Restarts of all containers.
    pub restarts: u32,
    /// Init containers and sidecars in order, then the containers.
    pub containers: Vec<ContainerView>,
    /// Containers that were added while it ran.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ephemeral: Vec<ContainerView>,
    /// Conditions; none before its start began.
    pub conditions: Vec<Condition>,
    /// Address; `None` before the sandbox is there, and in the machine's network.
    pub ip: Option<IpAddr>,
    /// When its start began, nanoseconds since 1970; 0 while it waits for its turn.
    pub started_at: i64,
    /// Microseconds from there to the last container of its work having been started.
    pub start_micros: Option<u64>,
    /// How long each stage of the sandbox's start took.
    pub stages: Vec<Stage>,
    /// What happened, newest last; at most [`MAX_EVENTS`].
    pub events: Vec<PodEvent>,
    /// What it used, once it is over.
    pub usage: Option<PodStats>,
    /// What could not be removed, and what happens about it, in one sentence.
    pub left_behind: Option<String>,
    /// Whether a container of it ever ran.
    pub began: bool,
    /// Whether the pod is over and, but for `left_behind`, nothing of it stays.
    pub ended: bool,
}

/// Most events that a view keeps.
pub const MAX_EVENTS: usize = 60;

/// The phase of a pod that goes on (`pkg/kubelet/kubelet_pods.go`, `getPhase`).
pub(crate) fn phase(pod: &PodState) -> Phase {
    let of = |role| pod.containers.iter().filter(move |c| c.role == role);
    let initialised = of(Role::Regular).any(|c| c.ran);
    let up = |c: &ContainerState| matches!(c.life, Life::Hook | Life::Running);
    let failed_init =
        of(Role::Init).any(|c| matches!(c.life, Life::Exited { code, .. } if code != 0));
    if failed_init && pod.restart == RestartPolicy::Never && !initialised {
        return Phase::Failed;
    }
    let init_pending = of(Role::Init).any(|c| up(c) || c.last_code.is_none_or(|code| code != 0))
        || of(Role::Sidecar).any(|c| !up(c) && c.last_code.is_none());
    let waiting = of(Role::Regular).any(|c| !up(c) && c.last_code.is_none());
    if (init_pending && !initialised) || waiting {
        return Phase::Pending;
    }
    // What was added counts for nothing.
    if of(Role::Sidecar).chain(of(Role::Regular)).any(up) {
        return Phase::Running;
    }
    ended_phase(pod, false)
}

/// The phase of a pod whose containers have all ended; `for_good` where none is started again.
fn ended_phase(pod: &PodState, for_good: bool) -> Phase {
    let mut codes = pod
        .containers
        .iter()
        .filter(|c| c.role == Role::Regular)
        .map(|c| c.last_code);
    let good = codes.all(|code| code == Some(0));
    match (pod.restart, good) {
        (_, true) if for_good => Phase::Succeeded,
        (_, false) if for_good => Phase::Failed,
        (RestartPolicy::Always, _) => Phase::Running,
        (_, true) => Phase::Succeeded,
        (RestartPolicy::Never, false) => Phase::Failed,
        (RestartPolicy::OnFailure, false) => Phase::Running,
    }
}

/// Phase, reason and message of a pod that was ended.
pub(crate) fn verdict(
    pod: &PodState,
    verdict: &Verdict,
    name_of: impl Fn(usize) -> String,
) -> (Phase, String, String) {
    let failed = |reason: &str, message: String| (Phase::Failed, reason.to_owned(), message);
    match verdict {
        Verdict::Completed => (ended_phase(pod, true), String::new(), String::new()),
        Verdict::InitFailed { index, code } => failed(
            "",
            format!(
                "init container {:?} ended with exit code {code}",
                name_of(*index)
            ),
        ),
        Verdict::Stopped => match ended_phase(pod, true) {
            Phase::Failed => failed(REASON_STOPPED, "it was stopped by request".into()),
            phase => (
                phase,
                REASON_STOPPED.into(),
                "it was stopped by request".into(),
            ),
        },
        // The kubelet's sentence (`pkg/kubelet/active_deadline.go`).
        Verdict::Deadline => failed(
            REASON_DEADLINE,
            "Pod was active on the node longer than the specified deadline".into(),
        ),
        Verdict::SandboxDied(why) => failed(
            REASON_SANDBOX_DIED,
            format!("its sandbox died and is not made again: {why}"),
        ),
        Verdict::Impossible { reason, message } => failed(reason, message.clone()),
    }
}

/// What conditions need to know beside the view.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    /// Its start began.
    pub(crate) began: bool,
    /// Its sandbox takes containers.
    pub(crate) sandbox: bool,
    /// A container of its work ran at least once.
    pub(crate) work_ran: bool,
    /// A change of its resources is under way.
    pub(crate) changes: bool,
}

/// The conditions of a pod (`pkg/kubelet/status/generate.go`), without their times.
pub(crate) fn conditions(view: &PodView, facts: Facts) -> Vec<Condition> {
    if !facts.began {
        return Vec::new();
    }
    let is = |kind, holds: bool| Condition { kind, status: if holds { "True" } else { "False" }, ..Condition::default() };
    let mut all = vec![
        is("PodReadyToStartContainers", facts.sandbox),
        initialized(view, facts),
        containers_ready(view, "Ready"),
        containers_ready(view, "ContainersReady"),
        is("PodScheduled", true),
    ];
    if facts.changes {
        all.push(is("PodResizeInProgress", true));
    }
    all
}

fn initialized(view: &PodView, facts: Facts) -> Condition {
    let done = |c: &&ContainerView| match c.kind {
        "sidecar" => c.started == Some(true),
        _ => c.ready,
    };
    let init = || view.containers.iter().filter(|c| c.kind != "container");
    let missing: Vec<&str> = init().filter(|c| !done(c)).map(|c| c.name.as_str()).collect();
    let good = Condition { kind: "Initialized", status: "True", ..Condition::default() };
    if view.phase == Phase::Succeeded {
        return Condition { reason: "PodCompleted", ..good };
    }
    if facts.work_ran || missing.is_empty() {
        return good;
    }
    let message = format!("containers with incomplete status: [{}]", missing.join(" "));
    Condition { status: "False", reason: "ContainersNotInitialized", message, ..good }
}

fn containers_ready(view: &PodView, kind: &'static str) -> Condition {
    let bad = |reason, message| Condition { kind, status: "False", reason, message, ..Condition::default() };
    match view.phase {
        Phase::Succeeded => return bad("PodCompleted", String::new()),
        Phase::Failed => return bad("PodFailed", String::new()),
        Phase::Pending | Phase::Running => {}
    }
    let unready = view.containers.iter().filter(|c| c.kind != "init" && !c.ready);
    let unready: Vec<&str> = unready.map(|c| c.name.as_str()).collect();
    if unready.is_empty() {
        return Condition { kind, status: "True", ..Condition::default() };
    }
    bad("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" ")))
}

/// The exit code of a run: 0 where every pod succeeded. Else, of the first pod in order that did
/// not: the code of its first container that failed (init containers first, sidecars never), or one
/// of [`EXIT_NOT_STARTED`], [`EXIT_SANDBOX_DIED`] and [`EXIT_ENDED`] where there is none. Pods that
/// go on count as good.
pub fn exit_code(pods: &[PodView]) -> i32 {
    let failed = pods.iter().find(|pod| pod.phase == Phase::Failed);
    let Some(pod) = failed else {
        return if pods.iter().any(|pod| pod.left_behind.is_some()) {
            EXIT_LEFT_BEHIND
        } else {
            0
        };
    };
    // Under gVisor a container that needs too much takes its sandbox with it: the fault is its own.
    let oom = |c: &ContainerView| matches!(&c.state, ContainerPhase::Terminated(end) if end.reason == "OOMKilled");
    if pod.reason == REASON_SANDBOX_DIED && !pod.containers.iter().any(oom) {
        return EXIT_SANDBOX_DIED;
    }
    if !pod.began && !pod.containers.iter().any(|c| c.exit_code().is_some()) {
        return EXIT_NOT_STARTED;
    }
    let codes = pod
        .containers
        .iter()
        .filter(|c| c.kind != "sidecar")
        .filter_map(ContainerView::exit_code);
    codes
        .into_iter()
        .find(|code| *code != 0)
        .unwrap_or(EXIT_ENDED)
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
