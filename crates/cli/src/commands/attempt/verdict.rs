//! What a pod did under a handler, beside what it did under the reference: the differences, and one
//! sentence. Pure.

use super::diff::{self, LineDifference};
use super::output::{Output, Stream};
use crate::show;
use serde::Serialize;

/// Exit codes of a process that SIGKILL and SIGTERM ended.
const KILLED: i32 = 137;
const TERMINATED: i32 = 143;
/// Start times that differ by less are not told, microseconds.
const START_STEP: i64 = 1_000;
/// Memory that differs by less is not told, bytes.
const MEMORY_STEP: i64 = 1 << 20;
/// Run times that differ by less are not told, microseconds.
const RUN_STEP: u64 = 100_000;
/// What the C library asks for at the start of every program, and does without (glibc's NEWS, 2.35).
const DISPENSABLE: [&str; 1] = ["rseq"];
/// Name of the output of `--exec` among those of containers.
pub(crate) const EXEC: &str = "--exec";

/// What a pod did under one handler.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Trial {
    /// The handler.
    pub(crate) handler: String,
    /// Whether a container of it ever ran.
    pub(crate) started: bool,
    /// One word on why it ended, where it was for another reason than its containers.
    pub(crate) reason: String,
    /// The same in one sentence.
    pub(crate) message: String,
    /// Whether it was ended by us: it is a server, or ran for too long.
    pub(crate) stopped: bool,
    /// Whether that was because it ran for too long.
    pub(crate) limit_reached: bool,
    /// Its containers, init containers first.
    pub(crate) containers: Vec<Ran>,
    /// How `--until` went.
    pub(crate) until: Option<Reached>,
    /// How `--exec` went.
    pub(crate) exec: Option<Load>,
    /// From the beginning of its start to the last container having been started.
    pub(crate) start_micros: Option<u64>,
    /// From there to the end of its last container.
    pub(crate) run_micros: Option<u64>,
    /// Most memory that it used at once, bytes.
    pub(crate) memory_peak: Option<u64>,
    /// Of the enclosure alone. Where it is a kernel of its own (gVisor), the containers' memory is in it.
    pub(crate) enclosure_peak: Option<u64>,
    /// Whether the handler keeps the containers' memory apart from the enclosure's.
    pub(crate) apart: bool,
    /// What the enclosure itself needs at most, bytes: what a class's overhead should cover.
    pub(crate) overhead: Option<u64>,
    /// System calls that the enclosure's kernel does not have and that were asked for.
    pub(crate) refused_calls: Vec<String>,
    /// What of the pod's settings the handler does not enforce, a sentence each.
    pub(crate) weaker: Vec<String>,
    /// What could not be removed, in one sentence.
    pub(crate) left_behind: Option<String>,
}

/// What a container did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ran {
    /// Name.
    pub(crate) name: String,
    /// `init`, `sidecar` or `container`.
    pub(crate) kind: &'static str,
    /// Exit code; absent where it never ended, as it never began.
    pub(crate) exit_code: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, …
    pub(crate) reason: String,
    /// What it wrote.
    pub(crate) output: Output,
}

/// How `--until` went.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Reached {
    /// From the beginning of the start; absent where it was never reached.
    pub(crate) micros: Option<u64>,
    /// Why not.
    pub(crate) why: String,
}

/// How `--exec` went.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Load {
    /// Exit code; absent where it could not be run.
    pub(crate) exit_code: Option<i32>,
    /// Why not.
    pub(crate) why: String,
    /// What it wrote.
    pub(crate) output: Output,
    /// How long it took.
    pub(crate) micros: u64,
}

/// An output that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Difference {
    /// The container, or [`EXEC`].
    pub(crate) container: String,
    /// `stdout` or `stderr`.
    pub(crate) stream: &'static str,
    /// The lines that differ.
    pub(crate) lines: Vec<LineDifference>,
}

/// What is thought of a trial.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Judgement {
    /// Whether the pod behaved as under the reference.
    pub(crate) same: bool,
    /// What differs in the output.
    pub(crate) differences: Vec<Difference>,
    /// One sentence.
    pub(crate) verdict: String,
}

/// Judges `here` by `reference`, which is judged by itself.
pub(crate) fn judge(reference: &Trial, here: &Trial) -> Judgement {
    if reference.handler == here.handler {
        return Judgement {
            same: true,
            differences: vec![],
            verdict: of_reference(here),
        };
    }
    let facts = facts(reference, here);
    let differences = differences(reference, here);
    let same = facts.is_empty() && differences.is_empty();
    let verdict = sentence(reference, here, &facts, &differences);
    Judgement {
        same,
        differences,
        verdict,
    }
}

/// Works out each enclosure's own need. Where a handler does not keep the containers' memory apart, it
/// is what goes beyond the least that they took under a handler that does.
pub(crate) fn overheads(trials: &mut [Trial]) {
    let of_containers = |t: &Trial| {
        t.memory_peak
            .zip(t.enclosure_peak)
            .map(|(all, enclosure)| all.saturating_sub(enclosure))
    };
    let need = trials.iter().filter(|t| t.apart).filter_map(of_containers).min();
    for trial in trials {
        trial.overhead = if trial.apart {
            trial.enclosure_peak
        } else {
            trial.memory_peak.zip(need).map(|(all, need)| all.saturating_sub(need))
        };
    }
}

fn of_reference(here: &Trial) -> String {
    let name = &here.handler;
    if !here.started {
        return format!("{name}: the reference: does not run: {}", plain(&here.message));
    }
    let mut parts = vec![format!("{name}: the reference: {}", did(here))];
    parts.extend(here.start_micros.map(|micros| format!("starts in {}", time(micros))));
    parts.extend(here.memory_peak.map(|bytes| format!("uses {} at most", memory(bytes))));
    parts.extend(refused(here, true));
    parts.join("; ")
}

fn sentence(reference: &Trial, here: &Trial, facts: &[String], differences: &[Difference]) -> String {
    let (name, other) = (&here.handler, &reference.handler);
    let mut parts = Vec::new();
    let same = facts.is_empty() && differences.is_empty();
    match (reference.started, here.started) {
        (false, false) => return format!("{name}: does not run, as under {other}: {}", plain(&here.message)),
        (true, false) => return format!("{name}: does not run: {}", plain(&here.message)),
        (false, true) => parts.push(format!("runs, and under {other} it does not: {}", did(here))),
        _ if same => parts.push(format!(
            "runs the same: {} and {}",
            did(here),
            if is_silent(here) { "no output" } else { "the same output" }
        )),
        _ if facts.is_empty() => parts.push(format!("runs, but what it writes differs in {}", count(differences))),
        _ => {
            parts.push(format!("does not run the same: {}", facts.join("; ")));
            if !differences.is_empty() {
                parts.push(format!("what it writes differs in {}", count(differences)));
            }
        }
    }
    parts.extend(refused(here, same));
    if facts.is_empty() {
        parts.extend(costs(reference, here));
    }
    format!("{name}: {}", parts.join("; "))
}

/// What a pod did, in a few words: `becomes ready, the command ends with exit code 0`.
fn did(here: &Trial) -> String {
    let mut parts = Vec::new();
    match &here.until {
        Some(Reached { micros: Some(_), .. }) => parts.push("becomes ready".to_owned()),
        Some(Reached { why, .. }) => parts.push(format!("never becomes ready ({})", plain(why))),
        None => {}
    }
    match &here.exec {
        Some(Load { exit_code: Some(code), .. }) => parts.push(format!("the command ends with exit code {code}")),
        Some(Load { why, .. }) => parts.push(format!("the command cannot be run ({})", plain(why))),
        None => {}
    }
    if here.limit_reached {
        parts.push("runs until it is ended".to_owned());
    }
    if !here.stopped {
        parts.push(exit_codes(&here.containers));
    }
    parts.join(", ")
}

fn is_silent(here: &Trial) -> bool {
    here.containers.iter().all(|c| c.output.is_empty()) && here.exec.as_ref().is_none_or(|e| e.output.is_empty())
}

/// `exit code 0`, or `exit codes 0 (app) and 1 (other)`.
fn exit_codes(containers: &[Ran]) -> String {
    let code = |ran: &Ran| ran.exit_code.map_or_else(|| "none".to_owned(), |code| code.to_string());
    match containers {
        [first, rest @ ..] if rest.iter().all(|ran| ran.exit_code == first.exit_code) => format!("exit code {}", code(first)),
        all => format!(
            "exit codes {}",
            list(&all.iter().map(|ran| format!("{} ({})", code(ran), ran.name)).collect::<Vec<_>>())
        ),
    }
}

/// In what the pod behaved otherwise than under the reference, but for its output.
fn facts(reference: &Trial, here: &Trial) -> Vec<String> {
    let mut facts = Vec::new();
    // Each runtime says in its own words why a pod cannot be started.
    if !reference.started && !here.started {
        return facts;
    }
    if reference.started != here.started || reference.reason != here.reason {
        facts.push(match here.reason.as_str() {
            "" => format!("goes on, and under {} does not: {}", reference.handler, plain(&reference.message)),
            _ => plain(&here.message),
        });
    }
    for ran in &here.containers {
        let old = reference.containers.iter().find(|c| c.name == ran.name);
        let prefix = if here.containers.len() > 1 {
            format!("container {}: ", ran.name)
        } else {
            String::new()
        };
        facts.extend(
            old.and_then(|old| ended(old, ran, ran.kind == "sidecar" || (here.stopped && reference.stopped)))
                .map(|fact| prefix + &fact),
        );
    }
    let ready = |trial: &Trial| trial.until.as_ref().map(|u| u.micros.is_some());
    match (ready(reference), ready(here)) {
        (Some(true), Some(false)) => facts.push(format!(
            "never becomes ready ({})",
            here.until.as_ref().map(|u| plain(&u.why)).unwrap_or_default()
        )),
        (Some(false), Some(true)) => facts.push(format!("becomes ready, and under {} does not", reference.handler)),
        _ => {}
    }
    facts.extend(load(reference, here));
    match (reference.limit_reached, here.limit_reached) {
        (false, true) => facts.push("does not end in time".into()),
        (true, false) => facts.push(format!("ends, and under {} does not in time", reference.handler)),
        _ => {}
    }
    facts
}

fn load(reference: &Trial, here: &Trial) -> Option<String> {
    match (reference.exec.as_ref(), here.exec.as_ref()?) {
        (Some(old), new) if old.exit_code == new.exit_code => None,
        (old, Load { exit_code: Some(code), .. }) => {
            let before = old
                .and_then(|o| o.exit_code)
                .map_or_else(String::new, |old| format!(" in place of {old}"));
            Some(format!("the command ends with exit code {code}{before}"))
        }
        (_, Load { why, .. }) => Some(format!("the command cannot be run ({})", plain(why))),
    }
}

/// How a container ended otherwise. Whether SIGTERM or the SIGKILL after it ended a server is not its
/// own behaviour.
fn ended(old: &Ran, new: &Ran, by_us: bool) -> Option<String> {
    let signalled = |ran: &Ran| by_us && matches!(ran.exit_code, Some(KILLED | TERMINATED));
    if old.exit_code == new.exit_code || (signalled(old) && signalled(new)) {
        return None;
    }
    let word = match new.reason.as_str() {
        "" | "Error" | "Completed" => String::new(),
        reason => format!(" ({reason})"),
    };
    Some(match (old.exit_code, new.exit_code) {
        (Some(old), Some(new)) => format!("exit code {new}{word} in place of {old}"),
        (None, Some(new)) => format!("exit code {new}{word}, and no end under the reference"),
        (_, None) => "never ran to its end".into(),
    })
}

/// What differs in what was written.
fn differences(reference: &Trial, here: &Trial) -> Vec<Difference> {
    let mut found = Vec::new();
    if !reference.started || !here.started {
        return found;
    }
    let mut compare = |container: &str, old: &Output, new: &Output| {
        for (stream, old, new) in [("stdout", &old.stdout, &new.stdout), ("stderr", &old.stderr, &new.stderr)] {
            let lines = lines(old, new);
            if !lines.is_empty() {
                found.push(Difference {
                    container: container.to_owned(),
                    stream,
                    lines,
                });
            }
        }
    };
    for ran in &here.containers {
        if let Some(old) = reference.containers.iter().find(|c| c.name == ran.name) {
            compare(&ran.name, &old.output, &ran.output);
        }
    }
    if let (Some(old), Some(new)) = (&reference.exec, &here.exec) {
        compare(EXEC, &old.output, &new.output);
    }
    found
}

/// The line at which an output was cut off is not compared, nor is what follows it in the other where
/// both were.
fn lines(old: &Stream, new: &Stream) -> Vec<LineDifference> {
    let (mut old_text, mut new_text) = (whole(old), whole(new));
    if old.truncated && new.truncated {
        let count = old_text.lines().count().min(new_text.lines().count());
        (old_text, new_text) = (first(old_text, count), first(new_text, count));
    }
    diff::lines(old_text, new_text)
}

fn whole(stream: &Stream) -> &str {
    let end = if stream.truncated {
        stream.text.rfind('\n').map_or(0, |at| at + 1)
    } else {
        stream.text.len()
    };
    &stream.text[..end]
}

fn first(text: &str, count: usize) -> &str {
    let length = text.split_inclusive('\n').take(count).map(str::len).sum();
    &text[..length]
}

fn count(differences: &[Difference]) -> String {
    match differences.iter().map(|d| d.lines.len()).sum::<usize>() {
        1 => "1 line".into(),
        many => format!("{many} lines"),
    }
}

/// Which system calls the kernel of the enclosure does not have. Those that every program asks for and
/// does without are no cause of a difference.
fn refused(here: &Trial, same: bool) -> Option<String> {
    let calls: Vec<String> = here
        .refused_calls
        .iter()
        .filter(|call| same || !DISPENSABLE.contains(&call.as_str()))
        .cloned()
        .collect();
    let harm = if same { ", and it did no harm" } else { "" };
    (!calls.is_empty()).then(|| format!("asked for {}, which gVisor does not have{harm}", list(&calls)))
}

/// What the handler costs beside the reference.
fn costs(reference: &Trial, here: &Trial) -> Option<String> {
    let mut parts = Vec::new();
    let gap = |of: fn(&Trial) -> Option<u64>| Some(of(here)?.cast_signed().saturating_sub(of(reference)?.cast_signed()));
    if let Some(gap) = gap(|t| t.start_micros).filter(|gap| gap.abs() >= START_STEP) {
        parts.push(format!(
            "starts {} {}",
            time(gap.unsigned_abs()),
            if gap > 0 { "later" } else { "sooner" }
        ));
    }
    // How long a server ran says nothing.
    if let (Some(old), Some(new), false) = (reference.run_micros, here.run_micros, here.stopped)
        && old.abs_diff(new) >= RUN_STEP
    {
        parts.push(format!("runs for {} in place of {}", time(new), time(old)));
    }
    if let (Some(old), Some(new)) = (&reference.exec, &here.exec)
        && old.micros.abs_diff(new.micros) >= RUN_STEP
    {
        parts.push(format!(
            "takes {} for the command in place of {}",
            time(new.micros),
            time(old.micros)
        ));
    }
    if let Some(gap) = gap(|t| t.memory_peak).filter(|gap| gap.abs() >= MEMORY_STEP) {
        parts.push(format!(
            "costs {} {}",
            memory(gap.unsigned_abs()),
            if gap > 0 { "more" } else { "less" }
        ));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// `a, b and c`.
pub(crate) fn list(all: &[String]) -> String {
    match all {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// A sentence within another.
fn plain(text: &str) -> String {
    show::harmless(text.trim().trim_end_matches('.'))
}

/// `8.5 ms`, `160 ms`, `2.41 s`.
pub(crate) fn time(micros: u64) -> String {
    match micros {
        0..10_000 => format!("{:.1} ms", micros as f64 / 1e3),
        10_000..1_000_000 => format!("{:.0} ms", micros as f64 / 1e3),
        _ => format!("{:.2} s", micros as f64 / 1e6),
    }
}

/// `3.4 MiB`, `21 MiB`.
pub(crate) fn memory(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 10.0 {
        format!("{mib:.1} MiB")
    } else {
        format!("{mib:.0} MiB")
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
