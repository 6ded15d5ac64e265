//! `cofferdam describe`: one pod, stage by stage: what it is, how long each stage of its start took,
//! what happened to it and why.

use crate::account::Account;
use crate::args::{Global, Output};
use crate::commands::events;
use crate::commands::pods::text;
use crate::settings::Settings;
use crate::show::{self, Colour, paint};
use anyhow::Result;
use cofferdam_model::cri::PodStats;
use serde_json::{Value, json};

/// Width of the names at the left.
const NAMES: usize = 14;
/// Width of the bar of the longest stage.
const BAR: u64 = 24;

/// Prints all that is known of pods.
pub(crate) fn describe(global: &Global, wanted: &[String], output: Output) -> Result<u8> {
    let settings = Settings::read(global).insist()?;
    let engine = settings.open()?;
    let accounts = wanted.iter().map(|pod| Account::of(&engine, pod)).collect::<Result<Vec<_>>>()?;
    match output {
        Output::Json => show::json(&accounts)?,
        Output::Table => show::say(accounts.iter().map(page).collect::<Vec<_>>().join("\n\n")),
    }
    Ok(0)
}

fn page(account: &Account) -> String {
    let view = &account.view;
    let mut lines = Lines::default();
    lines.pair("Name", text(view, "name"));
    lines.pair("Namespace", text(view, "namespace"));
    lines.pair("UID", text(view, "uid"));
    lines.pair("Class", if text(view, "class").is_empty() { "<none>" } else { text(view, "class") });
    lines.pair("Handler", &handler(account));
    lines.pair("Status", &status(account));
    lines.pair("Reason", text(view, "reason"));
    lines.pair("Message", &show::harmless(text(view, "message")));
    lines.pair("Address", text(view, "ip"));
    lines.pair("Sandbox", text(view, "sandbox"));
    if let Some(exit) = view["exitCode"].as_i64() {
        lines.pair("Exit code", &exit.to_string());
    }
    let began = view["startedAt"].as_i64().unwrap_or_default();
    lines.pair("Age", &show::age(began));
    if let Some(took) = view["startMicros"].as_u64() {
        lines.pair("Start took", &show::micros(took));
    }
    if let Some(usage) = &account.usage {
        lines.pair("Usage", &used(usage, view["ended"] == true));
        lines.pair("Refused calls", &usage.refused_calls.join(", "));
    }
    lines.pair("Left behind", text(view, "leftBehind"));
    stages(&mut lines, view);
    lines.push("Containers:");
    for container in view["containers"].as_array().into_iter().flatten() {
        of_container(&mut lines, container);
    }
    let added = view["ephemeral"].as_array().filter(|all| !all.is_empty());
    if let Some(added) = added {
        lines.push("Ephemeral containers:");
        added.iter().for_each(|container| of_container(&mut lines, container));
    }
    of_events(&mut lines, &account.events);
    lines.0.join("\n")
}

#[derive(Debug, Default)]
struct Lines(Vec<String>);

impl Lines {
    fn push(&mut self, line: impl Into<String>) {
        self.0.push(line.into());
    }

    /// A name and its value; nothing where there is no value.
    fn pair(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.push(format!("{:NAMES$} {value}", format!("{name}:")));
        }
    }
}

fn handler(account: &Account) -> String {
    let name = text(&account.view, "handler");
    match (&account.binary, name) {
        (Some(binary), _) => format!("{name} ({})", binary.display()),
        (None, "") => "<default>".to_owned(),
        (None, _) => name.to_owned(),
    }
}

fn status(account: &Account) -> String {
    let (view, phase) = (&account.view, text(&account.view, "phase"));
    let colour = match phase {
        "Running" | "Succeeded" => Colour::Good,
        "Failed" => Colour::Bad,
        _ => Colour::Busy,
    };
    let over = view["ended"] == true;
    let note = match (over, account.kept) {
        (true, _) => " (over)",
        (false, true) => "",
        (false, false) => " (no process keeps it: nothing restarts it)",
    };
    format!("{}{note}", paint(phase, colour))
}

fn used(usage: &PodStats, over: bool) -> String {
    let peak = usage.memory_peak.map(|peak| format!("at most {} of memory", show::bytes(peak)));
    let cpu = format!("{:.2} s of cpu", usage.cpu_nanos as f64 / 1e9);
    if over {
        return [Some(cpu), peak].into_iter().flatten().collect::<Vec<_>>().join(", ");
    }
    let now = format!("{} of memory now, of which the enclosure {}", show::bytes(usage.memory_working_set), show::bytes(usage.enclosure_memory));
    [Some(now), peak, Some(cpu), Some(format!("{} tasks", usage.pids))].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// How long each stage of the start took, the sandbox's first, with a bar each on one scale.
fn stages(lines: &mut Lines, view: &Value) {
    let mut all: Vec<(String, String, u64)> = of_stages("sandbox", &view["stages"]);
    for container in view["containers"].as_array().into_iter().flatten() {
        all.extend(of_stages(text(container, "name"), &container["stages"]));
    }
    let Some(longest) = all.iter().map(|s| s.2).max().filter(|m| *m > 0) else { return };
    lines.push("Stages:");
    let width = all.iter().map(|s| s.0.chars().count()).max().unwrap_or(0);
    for (of, name, micros) in all {
        let bar = "#".repeat(usize::try_from(micros * BAR / longest).unwrap_or(0));
        let line = format!("  {of:width$}  {name:10} {:>9}  {}", show::micros(micros), paint(&bar, Colour::Faint));
        lines.push(line.trim_end().to_owned());
    }
}

fn of_stages(of: &str, stages: &Value) -> Vec<(String, String, u64)> {
    let stage = |s: &Value| (of.to_owned(), text(s, "name").to_owned(), s["micros"].as_u64().unwrap_or(0));
    stages.as_array().into_iter().flatten().map(stage).collect()
}

fn of_container(lines: &mut Lines, container: &Value) {
    lines.push(format!("  {}:", text(container, "name")));
    let mut pair = |name: &str, value: &str| {
        if !value.is_empty() {
            lines.push(format!("    {:NAMES$} {value}", format!("{name}:")));
        }
    };
    if text(container, "kind") != "container" {
        pair("Kind", text(container, "kind"));
    }
    pair("Image", text(container, "image"));
    pair("State", &state(&container["state"]));
    if !container["last"].is_null() {
        pair("Last state", &state(&json!({"terminated": container["last"]})));
    }
    if let Some(restarts) = container["restarts"].as_u64().filter(|r| *r > 0) {
        pair("Restarts", &restarts.to_string());
    }
}

fn state(state: &Value) -> String {
    let with = |first: String, value: &Value| match text(value, "message").trim() {
        "" => first,
        message => format!("{first}: {}", show::harmless(message)),
    };
    if let Some(running) = state.get("running") {
        return format!("{} for {}", paint("Running", Colour::Good), show::age(running["startedAt"].as_i64().unwrap_or(0)));
    }
    if let Some(end) = state.get("terminated") {
        let code = end["exitCode"].as_i64().unwrap_or(-1);
        let colour = if code == 0 { Colour::Faint } else { Colour::Bad };
        let nanos = end["finishedAt"].as_i64().unwrap_or(0) - end["startedAt"].as_i64().unwrap_or(0);
        let ran = match end["startedAt"].as_i64() {
            Some(at) if at > 0 && nanos > 0 => format!(" after {}", show::micros(nanos.unsigned_abs() / 1000)),
            _ => String::new(),
        };
        return with(format!("{} with exit code {code}{ran}", paint(text(end, "reason"), colour)), end);
    }
    let waiting = &state["waiting"];
    with(format!("{} ({})", paint("Waiting", Colour::Busy), text(waiting, "reason")), waiting)
}

fn of_events(lines: &mut Lines, events: &[Value]) {
    if events.is_empty() {
        return lines.push("Events:        <none>");
    }
    lines.push("Events:");
    let mut table = show::table(&["age", "type", "reason", "message"]);
    for event in events {
        table.add_row(events::cells(event));
    }
    lines.0.extend(table.to_string().lines().map(|line| format!("  {}", line.trim_end())));
}
