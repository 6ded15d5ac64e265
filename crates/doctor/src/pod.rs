//! One of our pods: what is known of it, and what that says. Pure; the caller fills the story from
//! the node's views, the engine's records and the logs.

use crate::diagnose::{Case, Enclosure, Heard, Voice, by_id, diagnose_named, found, without_generic};
use crate::finding::{Finding, Severity, World, settle};
use crate::names::{Names, shown};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Most events that are looked at, the newest.
pub const MAX_EVENTS: usize = 200;
/// Most of a container's output that is looked at, bytes, the newest.
pub const MAX_LOG: usize = 64 << 10;
/// Most lines of it.
const MAX_LINES: usize = 300;
/// A start that takes longer has got stuck, seconds.
const LONG_START: u64 = 10;

/// Something as it is now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Now<T> {
    /// Nobody looked.
    #[default]
    Unknown,
    /// It is gone.
    Gone,
    /// It is there.
    There(T),
}

/// What is known of a pod. Every field may be empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStory {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// The class that it names.
    pub class: Option<String>,
    /// Its handler; once it runs, the one that runs it.
    pub handler: String,
    /// `Pending`, `Running`, `Succeeded`, `Failed`.
    pub phase: String,
    /// One word on the phase.
    pub reason: String,
    /// One sentence on the phase.
    pub message: String,
    /// Whether every container runs as it should: then what happened before is history.
    pub ready: bool,
    /// Why its sandbox is not ready.
    pub sandbox_reason: Option<String>,
    /// What of it could not be removed.
    pub left_behind: Option<String>,
    /// Whether it has a sandbox and no process of ours answers for it.
    pub abandoned: bool,
    /// Its containers.
    pub containers: Vec<ContainerStory>,
    /// What happened, the newest last.
    pub events: Vec<EventStory>,
    /// The binary that its record names.
    pub binary: Option<PathBuf>,
    /// The binary that its handler has in the configuration now; of a pod whose record is gone, what
    /// most likely ran it.
    pub binary_now: Now<PathBuf>,
    /// Whether the file of `binary` was written anew after the pod was made.
    pub binary_replaced: bool,
    /// System calls that it asked for and that gVisor's kernel does not have.
    pub refused_calls: Vec<String>,
    /// Seconds since its start began; 0 where that is not known.
    pub age: u64,
    /// Handler and overhead of its class when it was admitted, as text that can be compared:
    /// `runsc, cpu=100m, memory=64Mi`.
    pub class_then: Option<String>,
    /// The same, now.
    pub class_now: Now<String>,
}

/// What is known of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerStory {
    /// Name.
    pub name: String,
    /// Image, as the user wrote it.
    pub image: String,
    /// One word: `OOMKilled`, `CreateContainerError`, …
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// How it ended, or its last run did.
    pub exit_code: Option<i32>,
    /// Whether it has ended and is not started again, or waits to be.
    pub down: bool,
    /// How often it was started again.
    pub restarts: u32,
    /// The end of what it printed.
    pub log: String,
}

/// Something that happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EventStory {
    /// Whether it is a warning; others say nothing of causes.
    pub warning: bool,
    /// One word.
    pub reason: String,
    /// One sentence.
    pub message: String,
}

/// Names the causes of what is wrong with a pod of ours; empty where nothing is.
pub fn diagnose_pod(story: &PodStory) -> Vec<Finding> {
    let enclosure = match (&story.binary, &story.binary_now) {
        (Some(binary), _) | (None, Now::There(binary)) => Enclosure::of(&binary.file_name().unwrap_or_default().to_string_lossy()),
        (None, _) => Enclosure::of(&story.handler),
    };
    let mut listener = Listener::new(World::Machine, enclosure, &story.namespace, &story.name, story.ready);
    listener.know("handler", &story.handler);
    listener.know("class", story.class.as_deref().unwrap_or_default());
    if let [only] = story.containers.as_slice() {
        listener.know("container", &only.name);
        listener.know("image", &only.image);
    }
    listener.hear(&story.reason, &story.message);
    listener.hear("", story.sandbox_reason.as_deref().unwrap_or_default());
    for container in &story.containers {
        listener.hear_container(container);
    }
    for event in story.events.iter().rev().take(MAX_EVENTS).filter(|e| e.warning) {
        listener.hear_history(&event.reason, &event.message);
    }
    let mut findings = listener.finish();
    // What a container itself printed of it says more.
    if findings.iter().all(|f| f.id != REFUSED) {
        findings.splice(0..0, refused(story));
    }
    findings.extend(changes(story));
    let waits = story.phase == "Pending" && !story.ready && (story.age == 0 || story.age >= LONG_START);
    if waits && findings.iter().all(|f| f.severity == Severity::Note) {
        findings.extend(stuck(story));
    }
    settle(findings)
}

/// The diagnosis of a call that gVisor lacks.
const REFUSED: &str = "gvisor-unsupported-call";

/// System calls that gVisor refused. Many programs ask for more than they need and go on without, so
/// it is the cause only of a pod that failed, and perhaps.
fn refused(story: &PodStory) -> Option<Finding> {
    let failed = !story.ready && story.containers.iter().any(|c| c.down && c.exit_code.is_some_and(|code| code != 0));
    let case = Case {
        names: Names::of([("pod", story.name.as_str()), ("namespace", story.namespace.as_str())]),
        evidence: format!("system calls that were refused: {}", story.refused_calls.join(", ")),
        subject: format!("pod {}/{}", story.namespace, story.name),
        severity: (!failed).then_some(Severity::Note),
    };
    let found = found(REFUSED, case, World::Machine);
    found.filter(|_| !story.refused_calls.is_empty())
}

/// What changed under a pod that goes on.
fn changes(story: &PodStory) -> Vec<Finding> {
    let mut findings = Vec::new();
    let names = || {
        Names::of([
            ("pod", story.name.as_str()),
            ("namespace", story.namespace.as_str()),
            ("handler", story.handler.as_str()),
        ])
    };
    let case = |evidence: String| Case {
        names: names(),
        evidence,
        subject: format!("pod {}/{}", story.namespace, story.name),
        severity: None,
    };
    match (&story.binary, &story.binary_now) {
        (_, Now::Gone) => findings.extend(found(
            "handler-removed",
            case(format!("no handler {} is configured", story.handler)),
            World::Machine,
        )),
        (Some(then), Now::There(now)) if then != now => {
            let case = case(format!("{} then, {} now", then.display(), now.display()));
            findings.extend(found(
                "handler-changed",
                case.with("binary", now.display()).with("other", then.display()),
                World::Machine,
            ));
        }
        (Some(then), _) if story.binary_replaced => {
            let case = case(format!("{} was written anew after the pod was made", then.display()));
            findings.extend(found(
                "handler-changed",
                case.with("binary", format!("the new {}", then.display()))
                    .with("other", "what that file was before"),
                World::Machine,
            ));
        }
        _ => {}
    }
    findings.extend(
        story
            .left_behind
            .as_ref()
            .and_then(|what| found("left-behind", case(what.clone()), World::Machine)),
    );
    let abandoned = || found("keeper-gone", case("nobody answers for it".into()), World::Machine);
    findings.extend(story.abandoned.then(abandoned).flatten());
    let class = story.class.as_deref().unwrap_or_default();
    let change = match (&story.class_then, &story.class_now) {
        (Some(_), Now::Gone) => Some("it does not exist any more".to_owned()),
        (Some(then), Now::There(now)) if then != now => Some(format!("{then} then, {now} now")),
        _ => None,
    };
    findings.extend(change.and_then(|change| {
        let case = case(change.clone()).with("class", class).with("change", &change);
        found("class-edited", case, World::Machine)
    }));
    findings
}

/// A pod that waits and of which nothing known was said.
fn stuck(story: &PodStory) -> Option<Finding> {
    let last = story.events.last();
    let message = last.map_or_else(|| "nothing at all".to_owned(), |e| format!("{}: {}", e.reason, e.message));
    let case = Case::new(message.clone())
        .with("message", &message)
        .with("pod", &story.name)
        .with("namespace", &story.namespace)
        .about(format!("pod {}/{}", story.namespace, story.name));
    found("stuck-container-creating", case, World::Machine)
}

/// Collects what texts about one pod say.
pub(crate) struct Listener {
    world: World,
    enclosure: Enclosure,
    subject: String,
    names: Names,
    ready: bool,
    findings: Vec<Finding>,
}

impl Listener {
    pub(crate) fn new(world: World, enclosure: Enclosure, namespace: &str, pod: &str, ready: bool) -> Self {
        let names = Names::of([("namespace", namespace), ("pod", pod)]);
        Self {
            world,
            enclosure,
            subject: format!("pod {namespace}/{pod}"),
            names,
            ready,
            findings: Vec::new(),
        }
    }

    /// A name that texts may leave out.
    pub(crate) fn know(&mut self, key: &str, value: &str) {
        self.names.set(key, value);
    }

    /// What is said of the pod as it is.
    pub(crate) fn hear(&mut self, reason: &str, message: &str) {
        let text = [reason, message]
            .into_iter()
            .filter(|t| !t.is_empty())
            .collect::<Vec<_>>()
            .join(": ");
        let heard = Heard {
            text: &text,
            voice: Voice::System,
            enclosure: self.enclosure,
            world: self.world,
            subject: &self.subject,
        };
        let found = diagnose_named(&heard, &self.names);
        self.findings.extend(found);
    }

    /// What was said of it at some time; of a pod that is well now it is only worth a note.
    pub(crate) fn hear_history(&mut self, reason: &str, message: &str) {
        let before = self.findings.len();
        self.hear(reason, message);
        if self.ready {
            self.findings[before..].iter_mut().for_each(|f| f.severity = Severity::Note);
        }
    }

    /// A container: its state, then the end of what it printed.
    pub(crate) fn hear_container(&mut self, container: &ContainerStory) {
        let (subject, names) = (self.subject.clone(), self.names.clone());
        self.subject = format!("container {}", container.name);
        self.names.set("container", &container.name);
        self.names.set("image", &container.image);
        let code = container.exit_code.map_or_else(|| "not known".into(), |c| c.to_string());
        self.names.set("code", code);
        let before = self.findings.len();
        self.hear(&container.reason, &container.message);
        self.hear_log(&container.log, container.down || !self.ready);
        // A crash loop says only when it goes on; why is in what was printed.
        let loops = self.findings[before..].iter_mut().filter(|f| f.id == "crash-loop");
        loops.for_each(|f| f.evidence = last_words(container));
        let failed = container.exit_code.is_some_and(|c| c != 0) && container.down;
        // A cause that is known says more than that it failed.
        if failed
            && self.findings[before..]
                .iter()
                .all(|f| f.severity == Severity::Note || f.id == "permission-denied-inside")
        {
            let case = Case {
                names: self.names.clone(),
                subject: self.subject.clone(),
                evidence: last_words(container),
                severity: None,
            };
            self.findings.extend(found("container-failed", case, self.world));
        }
        (self.subject, self.names) = (subject, names);
    }

    /// What a container printed: each diagnosis once, by the first line that it claims.
    fn hear_log(&mut self, log: &str, matters: bool) {
        let mut start = log.len().saturating_sub(MAX_LOG);
        while !log.is_char_boundary(start) {
            start += 1;
        }
        let lines: Vec<_> = log[start..].lines().rev().take(MAX_LINES).collect();
        for line in lines.into_iter().rev().filter(|l| !l.trim().is_empty()) {
            let heard = Heard {
                text: line,
                voice: Voice::Container,
                enclosure: self.enclosure,
                world: self.world,
                subject: &self.subject,
            };
            for mut finding in diagnose_named(&heard, &self.names) {
                if self.findings.iter().any(|f| f.id == finding.id && f.subject == finding.subject) {
                    continue;
                }
                if !matters {
                    finding.severity = Severity::Note;
                }
                self.findings.push(finding);
            }
        }
    }

    /// What was heard.
    pub(crate) fn finish(mut self) -> Vec<Finding> {
        // With the enclosure gone, or the pod failed for a reason of its own, its containers end too.
        let of_pod = |f: &Finding| f.severity == Severity::StopsPods && f.subject == self.subject;
        let generic = |f: &Finding| by_id(f.id).is_some_and(|d| d.generic);
        if self.findings.iter().any(|f| of_pod(f) && !generic(f)) {
            self.findings.retain(|f| f.id != "container-failed");
        }
        without_generic(self.findings)
    }
}

/// The end of a container, and the last line that it printed.
fn last_words(container: &ContainerStory) -> String {
    let code = container.exit_code.map_or_else(String::new, |c| format!("exit code {c}"));
    let last = container.log.lines().rev().find(|l| !l.trim().is_empty());
    match last {
        Some(line) => format!("{code}; last line: {}", shown(line, 300)),
        None => format!("{code}; it printed nothing"),
    }
}

#[cfg(test)]
#[path = "pod_tests.rs"]
mod tests;
