//! `cofferdam ps`: the pods of this machine.

use crate::args::{Global, Output};
use crate::commands::pods;
use crate::owner;
use crate::settings::Settings;
use crate::show::{self, Colour, paint};
use anyhow::Result;
use cofferdam_model::cri::{ContainerState, PodStats, SandboxState, SandboxStatus};
use serde::Serialize;

/// A pod as `ps` shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    namespace: String,
    name: String,
    id: String,
    class: Option<String>,
    handler: String,
    status: String,
    reason: Option<String>,
    ready: usize,
    containers: usize,
    ip: Option<std::net::IpAddr>,
    created_at: i64,
    kept: bool,
    stats: Option<PodStats>,
}

/// Lists the pods.
pub(crate) fn ps(global: &Global, output: Output) -> Result<u8> {
    let settings = Settings::read(global).insist()?;
    let engine = settings.open()?;
    let views: Vec<_> = owner::peers(&settings.layout).into_iter().flat_map(|p| p.views).collect();
    let mut rows = Vec::new();
    for pod in pods::all(&engine)? {
        let containers = pods::newest(engine.list_containers(Some(&pod.id))?);
        let ready = containers.iter().filter(|c| c.state == ContainerState::Running).count();
        let view = views.iter().find(|v| v["sandbox"] == pod.id.as_str());
        let status = match (pod.state, ready) {
            (SandboxState::NotReady, _) => "NotReady",
            (_, 0) if containers.iter().all(|c| c.state == ContainerState::Exited) && !containers.is_empty() => "Exited",
            (_, 0) => "Starting",
            _ => "Running",
        };
        rows.push(Row {
            class: view.and_then(|v| v["class"].as_str()).map(str::to_owned),
            kept: view.is_some(),
            stats: engine.pod_stats(&pod.id).ok(),
            ready,
            containers: containers.len(),
            status: status.into(),
            ..row(pod)
        });
    }
    // Pods that are over are still known to the process that keeps them.
    for view in views.iter().filter(|v| v["ended"] == true) {
        let text = |key: &str| view[key].as_str().unwrap_or_default().to_owned();
        rows.push(Row {
            namespace: text("namespace"),
            name: text("name"),
            id: String::new(),
            class: view["class"].as_str().map(str::to_owned),
            handler: text("handler"),
            status: if view["phase"] == "Succeeded" { "Completed".into() } else { "Failed".into() },
            reason: Some(text("message")).filter(|m| !m.is_empty()),
            ready: 0,
            containers: view["containers"].as_array().map_or(0, Vec::len),
            ip: None,
            created_at: view["startedAt"].as_i64().unwrap_or_default(),
            kept: true,
            stats: None,
        });
    }
    match output {
        Output::Json => show::json(&rows)?,
        Output::Table => print(&rows),
    }
    Ok(0)
}

fn row(pod: SandboxStatus) -> Row {
    Row {
        namespace: pod.config.namespace,
        name: pod.config.name,
        id: pod.id.short().to_owned(),
        class: None,
        handler: pod.handler,
        status: String::new(),
        reason: pod.reason,
        ready: 0,
        containers: 0,
        ip: pod.ip,
        created_at: pod.created_at,
        kept: false,
        stats: None,
    }
}

fn print(rows: &[Row]) {
    if rows.is_empty() {
        show::say("No pods run here.");
        return;
    }
    let mut table = show::table(&["namespace", "pod", "class", "handler", "status", "ready", "ip", "memory", "age", "id"]);
    for row in rows {
        let colour = match row.status.as_str() {
            "Running" => Colour::Good,
            "NotReady" | "Failed" => Colour::Bad,
            "Starting" => Colour::Busy,
            _ => Colour::Faint,
        };
        table.add_row([
            row.namespace.clone(),
            row.name.clone(),
            row.class.clone().unwrap_or_else(|| "-".into()),
            row.handler.clone(),
            paint(&row.status, colour),
            format!("{}/{}", row.ready, row.containers),
            row.ip.map_or_else(|| "-".into(), |ip| ip.to_string()),
            row.stats.as_ref().map_or_else(|| "-".into(), |s| show::bytes(s.memory_working_set)),
            show::age(row.created_at),
            row.id.clone(),
        ]);
    }
    show::say(table);
    for row in rows {
        if let Some(reason) = &row.reason {
            show::say(format_args!("{}/{}: {reason}", row.namespace, row.name));
        }
    }
}
