//! `cofferdam ps`: the pods of this machine.

use crate::args::{Global, Output};
use crate::commands::cri;
use crate::commands::pods::{self, Census, text};
use crate::settings::Settings;
use crate::show::{self, Colour, paint};
use anyhow::Result;
use cofferdam_engine::Engine;
use cofferdam_model::cri::{ContainerState, PodStats, SandboxState, SandboxStatus};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;

/// A pod as `ps` shows it.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    namespace: String,
    name: String,
    uid: String,
    /// The beginning of its sandbox's id; empty where it has none.
    id: String,
    class: Option<String>,
    handler: String,
    status: String,
    reason: Option<String>,
    ready: usize,
    containers: usize,
    ip: Option<std::net::IpAddr>,
    /// Nanoseconds since 1970; 0 where it has not begun.
    created_at: i64,
    /// Whether a process keeps it: restarts it, and removes it at its end.
    kept: bool,
    over: bool,
    exit_code: Option<i64>,
    stats: Option<PodStats>,
}

/// Lists the pods; those too that are over where `all` is set.
pub(crate) fn ps(global: &Global, all: bool, output: Output) -> Result<u8> {
    let settings = Settings::read(global).insist()?;
    let engine = settings.open()?;
    let mut rows = rows(&engine, &Census::take(&engine)?)?;
    let over = rows.iter().filter(|r| r.over).count();
    if !all {
        rows.retain(|r| !r.over);
    }
    match output {
        Output::Json => show::json(&rows)?,
        Output::Table => print(&rows, all, over),
    }
    Ok(0)
}

fn rows(engine: &Engine, census: &Census) -> Result<Vec<Row>> {
    let views: Vec<&Value> = census.peers.views().collect();
    let mut rows = Vec::new();
    for pod in &census.sandboxes {
        let view = views.iter().find(|v| v["sandbox"] == pod.id.as_str()).copied();
        rows.push(with_sandbox(engine, pod, view)?);
    }
    let mut shown: BTreeSet<String> = rows.iter().map(|r| r.uid.clone()).collect();
    for ended in &census.ended {
        if shown.insert(ended.text("uid").to_owned()) {
            rows.push(Row {
                kept: false,
                ..of_view(&ended.view)
            });
        }
    }
    rows.extend(views.into_iter().filter(|v| !shown.contains(text(v, "uid"))).map(of_view));
    Ok(rows)
}

fn with_sandbox(engine: &Engine, pod: &SandboxStatus, view: Option<&Value>) -> Result<Row> {
    let containers = pods::newest(engine.list_containers(Some(&pod.id))?);
    let ready = containers.iter().filter(|c| c.state == ContainerState::Running).count();
    let exited = !containers.is_empty() && containers.iter().all(|c| c.state == ContainerState::Exited);
    let status = match (pod.state, ready) {
        (SandboxState::NotReady, _) => "NotReady",
        (_, 0) if exited => "Exited",
        (_, 0) => "Starting",
        _ => "Running",
    };
    // Who keeps it knows of probes, and of what is not to run beside the others.
    let kept = view.and_then(|v| v["containers"].as_array()).map(|all| {
        let counted = || all.iter().filter(|c| text(c, "kind") != "init");
        (counted().filter(|c| c["ready"] == true).count(), counted().count())
    });
    let (ready, count) = kept.unwrap_or((ready, containers.len()));
    let config = &pod.config;
    Ok(Row {
        namespace: config.namespace.clone(),
        name: config.name.clone(),
        uid: config.uid.clone(),
        id: pod.id.short().to_owned(),
        class: view.and_then(|v| v["class"].as_str()).map(str::to_owned),
        handler: pod.handler.clone(),
        status: status.into(),
        reason: pod.reason.clone(),
        ready,
        containers: count,
        ip: pod.ip,
        created_at: pod.created_at,
        kept: view.is_some() || (config.served && cri::holder(engine.layout()).is_some()),
        over: false,
        exit_code: None,
        stats: engine.pod_stats(&pod.id).ok(),
    })
}

/// A pod that has no sandbox: not yet, or not any more.
fn of_view(view: &Value) -> Row {
    let over = view["ended"] == true;
    Row {
        namespace: text(view, "namespace").into(),
        name: text(view, "name").into(),
        uid: text(view, "uid").into(),
        class: view["class"].as_str().map(str::to_owned),
        handler: text(view, "handler").into(),
        status: match (over, text(view, "phase")) {
            (true, "Succeeded") => "Completed",
            (true, _) => "Failed",
            (false, _) => "Pending",
        }
        .into(),
        reason: Some(text(view, "message").to_owned()).filter(|m| !m.is_empty()),
        containers: view["containers"].as_array().map_or(0, Vec::len),
        created_at: view["startedAt"].as_i64().unwrap_or_default(),
        kept: true,
        over,
        exit_code: view["exitCode"].as_i64(),
        ..Row::default()
    }
}

fn print(rows: &[Row], all: bool, over: usize) {
    let hidden = if all { 0 } else { over };
    if rows.is_empty() {
        match hidden {
            0 => show::say("No pods run here."),
            n => show::say(format_args!("No pods run here; {n} are over: cofferdam ps --all shows them.")),
        }
        return;
    }
    let mut header = vec![
        "namespace",
        "pod",
        "class",
        "handler",
        "status",
        "ready",
        "ip",
        "memory",
        "age",
        "id",
    ];
    if all {
        header.insert(5, "exit");
    }
    let mut table = show::table(&header);
    for row in rows {
        let mut cells = cells(row);
        if all {
            cells.insert(5, row.exit_code.map_or_else(|| "-".into(), |code| code.to_string()));
        }
        table.add_row(cells);
    }
    show::say(table);
    for row in rows {
        if let Some(reason) = &row.reason {
            show::say(format_args!("{}/{}: {reason}", row.namespace, row.name));
        }
    }
}

fn cells(row: &Row) -> Vec<String> {
    let colour = match row.status.as_str() {
        "Running" => Colour::Good,
        "NotReady" | "Failed" => Colour::Bad,
        "Starting" | "Pending" => Colour::Busy,
        _ => Colour::Faint,
    };
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    vec![
        row.namespace.clone(),
        row.name.clone(),
        or_dash(row.class.as_deref().unwrap_or_default()),
        or_dash(&row.handler),
        paint(&row.status, colour),
        format!("{}/{}", row.ready, row.containers),
        row.ip.map_or_else(|| "-".into(), |ip| ip.to_string()),
        row.stats.as_ref().map_or_else(|| "-".into(), |s| show::bytes(s.memory_working_set)),
        show::age(row.created_at),
        or_dash(&row.id),
    ]
}
