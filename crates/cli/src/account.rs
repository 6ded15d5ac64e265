//! All that is known of one pod, whoever knows it: the process that keeps it, its sandbox's records,
//! or the last view of one that is over; its events from the view or from the file beside its logs.

use crate::commands::cri;
use crate::commands::pods::{self, Census, is_meant, text};
use anyhow::{Result, bail};
use cofferdam_engine::Engine;
use cofferdam_host::files;
use cofferdam_model::cri::{ContainerState, ContainerStatus, PodStats, SandboxState, SandboxStatus};
use cofferdam_node::EVENTS_FILE;
use serde::Serialize;
use serde_json::{Value, json};
use std::path::Path;

/// Most that is read of a file of events, bytes: the file takes no more.
const MAX_EVENTS_FILE: u64 = 4 << 20;

/// One pod.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Account {
    /// As its keeper shows it; made of the records where nobody keeps it.
    pub(crate) view: Value,
    /// The binary that runs it, from its record.
    pub(crate) binary: Option<std::path::PathBuf>,
    /// What it uses, or used.
    pub(crate) usage: Option<PodStats>,
    /// Whether a process keeps it: restarts it, and removes it at its end.
    pub(crate) kept: bool,
    /// What happened, oldest first.
    pub(crate) events: Vec<Value>,
    #[serde(skip)]
    pub(crate) sandbox: Option<SandboxStatus>,
}

impl Account {
    /// Of the pod that a person means.
    pub(crate) fn of(engine: &Engine, wanted: &str) -> Result<Self> {
        let census = Census::take(engine)?;
        let mut all = Self::meant(engine, &census, |namespace, name, id| is_meant(wanted, namespace, name, id));
        match all.len() {
            0 => Err(census.absent(wanted)),
            1 => Ok(all.remove(0)),
            // A name that runs again hides those of before; an id that is too short does not tell.
            _ if !wanted.contains('/') && all.iter().all(|a| text(&a.view, "name") != wanted) => {
                bail!("\"{wanted}\" begins the id of {} pods; give more of it", all.len())
            }
            _ => Ok(all.remove(0)),
        }
    }

    /// Of every pod, those that run first.
    pub(crate) fn all(engine: &Engine) -> Result<Vec<Self>> {
        Ok(Self::meant(engine, &Census::take(engine)?, |_, _, _| true))
    }

    fn meant(engine: &Engine, census: &Census, is: impl Fn(&str, &str, &str) -> bool) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        let of_view = |v: &Value| is(text(v, "namespace"), text(v, "name"), text(v, "sandbox"));
        for view in census.peers.views().filter(|v| of_view(v)) {
            let sandbox = census.sandboxes.iter().find(|s| view["sandbox"] == s.id.as_str());
            all.push(Self::make(engine, view.clone(), sandbox, true));
        }
        for sandbox in census.sandboxes.iter().filter(|s| is(&s.config.namespace, &s.config.name, s.id.as_str())) {
            if !all.iter().any(|a| a.sandbox.as_ref().is_some_and(|s| s.id == sandbox.id)) {
                let kept = sandbox.config.served && cri::holder(engine.layout()).is_some();
                all.push(Self::make(engine, of_records(engine, sandbox), Some(sandbox), kept));
            }
        }
        for ended in census.ended.iter().rev().filter(|e| of_view(&e.view)) {
            if !all.iter().any(|a| a.view["uid"] == ended.view["uid"]) {
                all.push(Self::make(engine, ended.view.clone(), None, false));
            }
        }
        // What goes on stands before what is over.
        all.sort_by_key(|a| a.view["ended"] == true);
        all
    }

    fn make(engine: &Engine, mut view: Value, sandbox: Option<&SandboxStatus>, kept: bool) -> Self {
        let logs = crate::ended::log_name(text(&view, "namespace"), text(&view, "name"), text(&view, "uid"));
        let file = logs.map(|name| crate::commands::run::dirs(engine.layout()).logs.join(name).join(EVENTS_FILE));
        // The file has all of them; the view only the newest.
        let of_view = || view["events"].as_array().cloned().unwrap_or_default();
        let events = file.and_then(|file| read_events(&file)).unwrap_or_else(of_view);
        if let Some(fields) = view.as_object_mut() {
            fields.remove("events");
        }
        let last = || serde_json::from_value(view["usage"].clone()).ok().flatten();
        let usage = sandbox.and_then(|s| engine.pod_stats(&s.id).ok()).or_else(last);
        let binary = sandbox.and_then(|s| engine.sandbox_binary(&s.id).ok());
        Self { binary, usage, kept, events, sandbox: sandbox.cloned(), view }
    }
}

fn read_events(file: &Path) -> Option<Vec<Value>> {
    let text = files::read_text(file, MAX_EVENTS_FILE).ok()?;
    // A last line that was cut by a kill is none.
    Some(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// The view of a pod that nobody keeps, as far as its records tell.
fn of_records(engine: &Engine, pod: &SandboxStatus) -> Value {
    let containers = engine.list_containers(Some(&pod.id)).unwrap_or_default();
    let (phase, reason) = match (pod.state, &pod.reason) {
        (SandboxState::Ready, _) if containers.iter().any(|c| c.state == ContainerState::Running) => ("Running", ""),
        (SandboxState::Ready, _) => ("Pending", ""),
        (SandboxState::NotReady, _) => ("Failed", "SandboxNotReady"),
    };
    let config = &pod.config;
    json!({
        "name": config.name, "namespace": config.namespace, "uid": config.uid,
        "class": config.annotations.get(cofferdam_node::CLASS_ANNOTATION),
        "handler": pod.handler, "sandbox": pod.id, "phase": phase, "reason": reason,
        "message": pod.reason.clone().unwrap_or_default(), "ip": pod.ip, "startedAt": pod.created_at,
        "stages": pod.stages, "containers": pods::newest(containers).iter().map(container_view).collect::<Vec<_>>(),
        "ended": false,
    })
}

fn container_view(container: &ContainerStatus) -> Value {
    let state = match container.state {
        ContainerState::Running => json!({"running": {"startedAt": container.started_at}}),
        ContainerState::Exited => json!({"terminated": {
            "exitCode": container.exit_code, "reason": container.reason, "message": container.message,
            "startedAt": container.started_at, "finishedAt": container.finished_at,
        }}),
        _ => json!({"waiting": {"reason": "ContainerCreating", "message": ""}}),
    };
    json!({
        "name": container.config.name, "kind": "container", "image": container.config.image, "id": container.id,
        "state": state, "last": null, "restarts": container.config.attempt,
        "ready": container.state == ContainerState::Running, "stages": container.stages,
    })
}
