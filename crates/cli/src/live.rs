//! The table of a run, which fills while pods start: redrawn in place on a terminal, one line a
//! change elsewhere.

use crate::show::{self, Colour};
use cofferdam_node::{ContainerPhase, Phase, PodView};
use std::io::{IsTerminal, Write};
use std::sync::Arc;

/// Draws views as they change.
pub(crate) struct Live {
    terminal: bool,
    drawn: usize,
    said: Vec<String>,
}

impl Live {
    pub(crate) fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), drawn: 0, said: Vec::new() }
    }

    /// Shows `views` as they are now. Goes to standard error, so that output stays for programs.
    pub(crate) fn show(&mut self, views: &[Arc<PodView>]) {
        if self.terminal { self.redraw(views) } else { self.say(views) }
    }

    fn redraw(&mut self, views: &[Arc<PodView>]) {
        let text = render(views);
        let mut out = std::io::stderr().lock();
        if self.drawn > 0 {
            let _ = write!(out, "\x1b[{}A\x1b[J", self.drawn);
        }
        let _ = write!(out, "{text}");
        let _ = out.flush();
        self.drawn = text.lines().count();
    }

    fn say(&mut self, views: &[Arc<PodView>]) {
        self.said.resize(views.len(), String::new());
        for (view, said) in views.iter().zip(&mut self.said) {
            let line = sentence(view);
            if *said != line && !line.is_empty() {
                show::tell(&line);
                *said = line;
            }
        }
    }
}

/// The table of pods.
pub(crate) fn render(views: &[Arc<PodView>]) -> String {
    let mut table = show::table(&["pod", "class", "handler", "status", "ready", "restarts", "start", "ip"]);
    for view in views {
        let (word, colour) = status(view);
        let ready = view.containers.iter().filter(|c| c.kind != "init" && c.ready).count();
        let all = view.containers.iter().filter(|c| c.kind != "init").count();
        table.add_row([
            name(view),
            view.class.clone().unwrap_or_else(|| "-".into()),
            if view.handler.is_empty() { "(default)".into() } else { view.handler.clone() },
            show::paint(&word, colour),
            format!("{ready}/{all}"),
            view.restarts.to_string(),
            view.start_micros.map_or_else(|| "-".into(), show::micros),
            view.ip.map_or_else(|| "-".into(), |ip| ip.to_string()),
        ]);
    }
    let mut text = format!("{table}\n");
    for view in views.iter().filter(|v| v.phase == Phase::Failed || !v.message.is_empty()) {
        if !view.message.is_empty() {
            text.push_str(&format!("{}: {}\n", name(view), show::harmless(&view.message)));
        }
    }
    text
}

/// `NAME`, or `NAMESPACE/NAME` outside the default namespace.
pub(crate) fn name(view: &PodView) -> String {
    if view.namespace == "default" { view.name.clone() } else { format!("{}/{}", view.namespace, view.name) }
}

/// One word for a pod, as kubectl's STATUS column has it, and its colour.
pub(crate) fn status(view: &PodView) -> (String, Colour) {
    let waiting = view.containers.iter().find_map(|c| match &c.state {
        ContainerPhase::Waiting { reason, .. } if !reason.is_empty() => Some(reason.clone()),
        _ => None,
    });
    match view.phase {
        Phase::Succeeded => ("Completed".into(), Colour::Faint),
        Phase::Failed if !view.reason.is_empty() => (view.reason.clone(), Colour::Bad),
        Phase::Failed => ("Error".into(), Colour::Bad),
        Phase::Running => match waiting {
            Some(reason) => (reason, Colour::Busy),
            None => ("Running".into(), Colour::Good),
        },
        Phase::Pending => (waiting.unwrap_or_else(|| "Pending".into()), Colour::Busy),
    }
}

fn sentence(view: &PodView) -> String {
    let (word, _) = status(view);
    let start = view.start_micros.map(|m| format!(" in {}", show::micros(m))).filter(|_| view.phase == Phase::Running);
    let why = if view.message.is_empty() { String::new() } else { format!(": {}", show::harmless(&view.message)) };
    let handler = if view.handler.is_empty() { String::new() } else { format!(" ({})", view.handler) };
    format!("{}{handler}: {word}{}{why}", name(view), start.unwrap_or_default())
}
