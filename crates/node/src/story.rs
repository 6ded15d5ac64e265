//! What happens to a pod, told: each event once in its view, and once as a line of JSON in
//! `events.log` beside the pod's logs, where it is read when the pod is over.

use crate::node::log_directory;
use crate::setup::PodSetup;
use crate::status::{MAX_EVENTS, Phase, PodEvent, Terminated};
use crate::worker::Worker;
use cofferdam_model::cri::{LinuxResources, PodStats, Stage};
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Name of the file of a pod's events in the directory of its logs; a [`PodEvent`] a line, as JSON.
pub const EVENTS_FILE: &str = "events.log";
/// Size at which the file takes no more, bytes: a pod that is restarted for ever writes for ever.
const MAX_FILE: u64 = 1 << 20;

/// System calls that C libraries try in every program and do well without (glibc, `sysdeps/nptl`).
pub const HARMLESS: [&str; 1] = ["rseq"];

impl Worker {
    /// Tells of something that happened. What happens again and again is counted.
    pub(crate) fn event(&mut self, warning: bool, reason: &str, message: String) {
        let at = self.shared.clock.unix_nanos();
        let event = PodEvent { at, count: 1, warning, reason: reason.to_owned(), message };
        let told = remember(&mut self.view.events, event);
        // What goes on for ever does not fill the file: it is told at the first, second, fourth, eighth time.
        if let (true, Ok(logs)) = (told.count.is_power_of_two(), log_directory(&self.shared.dirs, &self.view)) {
            // A line that cannot be written is still in the view, which is what the pod is judged by.
            let _ = append(&logs, &told);
        }
    }

    /// Tells who runs the pod, and why.
    pub(crate) fn tell_admitted(&mut self) {
        let message = admitted(&self.setup);
        self.event(false, "Admitted", message);
    }

    /// Tells of the made sandbox.
    pub(crate) fn tell_sandbox(&mut self) {
        let view = &self.view;
        let id = view.sandbox.as_ref().map(|id| id.short().to_owned()).unwrap_or_default();
        let mut message = format!("sandbox {id} under handler {:?} in {}", view.handler, took(&view.stages));
        if let Some(ip) = view.ip {
            let _ = write!(message, "; address {ip}");
        }
        self.event(false, "SandboxStarted", message);
    }

    /// Tells of a started container.
    pub(crate) fn tell_started(&mut self, index: usize) {
        let message = format!("container {:?} in {}", self.container(index).name, took(&self.records[index].stages));
        self.event(false, "Started", message);
    }

    /// Tells how a container ended.
    pub(crate) fn tell_exit(&mut self, index: usize, end: &Terminated) {
        let mut message = format!("container {:?} ended with exit code {} ({})", self.container(index).name, end.exit_code, end.reason);
        if !end.message.is_empty() {
            let _ = write!(message, ": {}", end.message.trim());
        }
        self.event(end.exit_code != 0, "Exited", message);
    }

    /// Tells how the pod ended and what it used.
    pub(crate) fn tell_end(&mut self) {
        let view = &self.view;
        let mut message = match view.phase {
            Phase::Succeeded => "the pod succeeded".to_owned(),
            _ => "the pod failed".to_owned(),
        };
        if !view.reason.is_empty() {
            let _ = write!(message, " ({})", view.reason);
        }
        // What was told just now is not told twice.
        let told = view.events.last().is_some_and(|e| e.message == view.message);
        if !view.message.is_empty() && !told {
            let _ = write!(message, ": {}", view.message);
        }
        if let Some(usage) = &view.usage {
            message += &used(usage);
        }
        let reason = format!("{:?}", view.phase);
        self.event(view.phase != Phase::Succeeded, &reason, message);
    }
}

/// Reasons of events that come again and again with others in between.
const RECURRING: [&str; 3] = ["Unhealthy", "ProbeWarning", "BackOff"];

/// Adds an event; one that repeats the last, or one that recurs, is counted there. Returns it as it is now.
fn remember(events: &mut Vec<PodEvent>, event: PodEvent) -> PodEvent {
    let same = |e: &PodEvent| (e.warning, &e.reason, &e.message) == (event.warning, &event.reason, &event.message);
    let recurs = RECURRING.contains(&event.reason.as_str());
    let found = events.iter().rposition(same).filter(|at| recurs || at + 1 == events.len());
    let count = found.map_or(1, |at| events.remove(at).count + 1);
    let event = PodEvent { count, ..event };
    events.push(event.clone());
    let excess = events.len().saturating_sub(MAX_EVENTS);
    events.drain(..excess);
    event
}

fn append(logs: &Path, event: &PodEvent) -> std::io::Result<()> {
    let path = logs.join(EVENTS_FILE);
    let open = || std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
    let mut file = match open() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir_all(logs)?;
            open()?
        }
        opened => opened?,
    };
    if file.metadata()?.len() > MAX_FILE {
        return Ok(());
    }
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    file.write_all(&line)
}

fn admitted(setup: &PodSetup) -> String {
    let handler = if setup.handler.is_empty() { "the default handler".to_owned() } else { format!("handler {:?}", setup.handler) };
    match &setup.class {
        Some(class) => format!("class {class:?} names {handler}{}", overhead(&setup.overhead)),
        None => format!("it names no class: {handler}"),
    }
}

fn overhead(cost: &LinuxResources) -> String {
    let mut parts = Vec::new();
    if cost.cpu_quota > 0 && cost.cpu_period > 0 {
        let period = i64::try_from(cost.cpu_period).unwrap_or(i64::MAX);
        parts.push(format!("{} m of cpu", cost.cpu_quota.saturating_mul(1000) / period));
    }
    if cost.memory_limit > 0 {
        parts.push(format!("{} of memory", mebibytes(u64::try_from(cost.memory_limit).unwrap_or(0))));
    }
    if parts.is_empty() { String::new() } else { format!("; its overhead is {}", parts.join(" and ")) }
}

/// `12.3 ms (cgroup 0.4, monitor 3.1)`.
fn took(stages: &[Stage]) -> String {
    let total: u64 = stages.iter().map(|s| s.micros).sum();
    // What takes less than a twentieth of a millisecond is noise to a reader.
    let parts: Vec<_> = stages.iter().filter(|s| s.micros >= 50).map(|s| format!("{} {}", s.name, millis(s.micros))).collect();
    let parts = if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) };
    format!("{} ms{parts}", millis(total))
}

fn used(usage: &PodStats) -> String {
    let mut text = format!("; it used {} s of cpu", millis(usage.cpu_nanos / 1_000_000));
    if let Some(peak) = usage.memory_peak {
        let _ = write!(text, " and at most {} of memory", mebibytes(peak));
    }
    let missed: Vec<&str> = usage.refused_calls.iter().map(String::as_str).filter(|c| !HARMLESS.contains(c)).collect();
    if !missed.is_empty() {
        let _ = write!(text, "; its kernel does not have the system calls that it asked for: {}", missed.join(", "));
    }
    text
}

/// Thousandths with one figure after the point.
fn millis(thousandths: u64) -> String {
    format!("{}.{}", thousandths / 1000, thousandths % 1000 / 100)
}

fn mebibytes(bytes: u64) -> String {
    format!("{}.{} MiB", bytes >> 20, ((bytes & 0xf_ffff) * 10) >> 20)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn event(message: &str) -> PodEvent {
        PodEvent { at: 1, count: 1, warning: true, reason: "R".into(), message: message.into() }
    }

    #[test]
    fn what_repeats_is_counted_and_the_oldest_go_first() {
        let mut events = vec![];
        for message in ["a", "a", "b", "a"] {
            remember(&mut events, event(message));
        }
        let recurring = |message: &str| PodEvent { reason: "Unhealthy".into(), ..event(message) };
        let mut probes = vec![];
        for message in ["a", "b", "a", "b", "a"] {
            remember(&mut probes, recurring(message));
        }
        let counted: Vec<_> = probes.iter().map(|e| (e.message.as_str(), e.count)).collect();
        assert_eq!(counted, [("b", 2), ("a", 3)], "with others in between");
        let told: Vec<_> = events.iter().map(|e| (e.message.as_str(), e.count)).collect();
        assert_eq!(told, [("a", 2), ("b", 1), ("a", 1)]);
        for n in 0..2 * MAX_EVENTS {
            remember(&mut events, event(&n.to_string()));
        }
        assert_eq!((events.len(), events[0].message.as_str()), (MAX_EVENTS, MAX_EVENTS.to_string().as_str()));
    }

    #[test]
    fn the_file_takes_lines_until_it_is_full() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("logs");
        append(&logs, &event("one")).unwrap();
        append(&logs, &event("two")).unwrap();
        let text = std::fs::read_to_string(logs.join(EVENTS_FILE)).unwrap();
        let told: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!((told.len(), told[1]["message"].as_str(), told[1]["warning"].as_bool()), (2, Some("two"), Some(true)));
        std::fs::write(logs.join(EVENTS_FILE), vec![b' '; MAX_FILE as usize + 1]).unwrap();
        append(&logs, &event("three")).unwrap();
        assert_eq!(std::fs::metadata(logs.join(EVENTS_FILE)).unwrap().len(), MAX_FILE + 1);
    }

    #[test]
    fn sentences_have_the_figures() {
        let stage = |name: &str, micros| Stage { name: name.into(), micros };
        assert_eq!(took(&[stage("cgroup", 410), stage("noise", 49), stage("monitor", 3_149)]), "3.6 ms (cgroup 0.4, monitor 3.1)");
        let usage = PodStats { cpu_nanos: 1_250_000_000, memory_peak: Some(3 << 19), refused_calls: vec!["bpf".into(), "rseq".into()], ..PodStats::default() };
        assert_eq!(used(&usage), "; it used 1.2 s of cpu and at most 1.5 MiB of memory; its kernel does not have the system calls that it asked for: bpf");
        let overhead = LinuxResources { cpu_quota: 25_000, cpu_period: 100_000, memory_limit: 64 << 20, ..LinuxResources::default() };
        let setup = PodSetup { handler: "runsc".into(), class: Some("gvisor".into()), overhead, ..PodSetup::default() };
        assert_eq!(admitted(&setup), "class \"gvisor\" names handler \"runsc\"; its overhead is 250 m of cpu and 64.0 MiB of memory");
        assert_eq!(admitted(&PodSetup::default()), "it names no class: the default handler");
    }
}
