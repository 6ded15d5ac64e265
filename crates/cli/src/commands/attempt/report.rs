//! What a person and a program are shown of the tries.

use super::diff::LineDifference;
use super::verdict::{Difference, Judgement, Trial, list, memory, time};
use crate::show::{self, Colour, paint};
use cofferdam_model::cri::HandlerStatus;
use serde_json::{Value, json};

/// Most lines that are shown of what one container wrote otherwise; JSON has all.
const MOST_LINES: usize = 5;
/// Most of a line that is shown, characters.
const MOST_CHARS: usize = 160;
/// Most refused calls that a row names.
const MOST_CALLS: usize = 4;

/// The tries of one pod.
#[derive(Debug)]
pub(crate) struct Tried {
    /// `NAME`, or `NAMESPACE/NAME` outside the default namespace.
    pub(crate) pod: String,
    /// How many pods of the manifest it stands for.
    pub(crate) stands_for: usize,
    /// The reference first.
    pub(crate) trials: Vec<(Trial, Judgement)>,
}

impl Tried {
    /// Whether it behaved the same under every handler.
    pub(crate) fn same(&self) -> bool {
        self.trials.iter().all(|(_, judged)| judged.same)
    }
}

/// The table, what differs and the verdicts.
pub(crate) fn text(tried: &[Tried], unproved: &[HandlerStatus]) -> String {
    let mut text = String::new();
    for pod in tried {
        if tried.len() > 1 {
            text += &format!("Pod {}\n", pod.pod);
        }
        text += &format!("{}\n", table(pod, unproved));
        text += &differences(pod);
        text += "\nVerdict\n";
        for (trial, judged) in &pod.trials {
            let weaker = trial.weaker.iter().map(|note| format!("{}: {note}", trial.handler));
            for line in [judged.verdict.clone()].into_iter().chain(weaker) {
                text += &format!("  {}\n", clean(&line, usize::MAX));
            }
        }
        text += "\n";
    }
    for handler in unproved {
        text += &format!(
            "{}: not tried: {}\n",
            handler.name,
            clean(handler.unproved.as_deref().unwrap_or_default(), usize::MAX)
        );
    }
    text.trim_end().to_owned()
}

fn table(pod: &Tried, unproved: &[HandlerStatus]) -> comfy_table::Table {
    let any = |has: fn(&Trial) -> bool| pod.trials.iter().any(|(trial, _)| has(trial));
    let (until, exec) = (any(|t| t.until.is_some()), any(|t| t.exec.is_some()));
    let mut header = vec!["handler", "result", "exit", "start"];
    header.extend(until.then_some("ready"));
    header.extend(exec.then_some("command"));
    header.extend(["run", "peak memory", "overhead", "refused calls"]);
    let mut table = show::table(&header);
    for (number, (trial, judged)) in pod.trials.iter().enumerate() {
        table.add_row(row(trial, judged, number == 0, until, exec));
    }
    for handler in unproved {
        let mut row = vec![handler.name.clone(), paint("not proved", Colour::Bad)];
        row.resize(header.len(), "-".into());
        table.add_row(row);
    }
    table
}

fn row(trial: &Trial, judged: &Judgement, reference: bool, until: bool, exec: bool) -> Vec<String> {
    let dash = || "-".to_owned();
    let duration = |micros: Option<u64>| micros.map_or_else(dash, time);
    let bytes = |bytes: Option<u64>| bytes.map_or_else(dash, memory);
    let mut row = vec![
        trial.handler.clone(),
        result(trial, judged, reference),
        exits(trial),
        duration(trial.start_micros),
    ];
    if until {
        row.push(duration(trial.until.as_ref().and_then(|u| u.micros)));
    }
    if exec {
        row.push(trial.exec.as_ref().map_or_else(dash, |load| {
            let code = load.exit_code.map_or_else(|| "not run".to_owned(), |code| code.to_string());
            format!("{code} in {}", time(load.micros))
        }));
    }
    let more = trial.refused_calls.len().saturating_sub(MOST_CALLS);
    let calls = trial
        .refused_calls
        .iter()
        .take(MOST_CALLS)
        .cloned()
        .chain((more > 0).then(|| format!("{more} more")));
    let calls: Vec<String> = calls.collect();
    row.extend([
        // How long a server ran is our doing.
        duration(trial.run_micros.filter(|_| !trial.stopped)),
        bytes(trial.memory_peak),
        bytes(trial.overhead),
        if calls.is_empty() { dash() } else { calls.join(",") },
    ]);
    row
}

fn result(trial: &Trial, judged: &Judgement, reference: bool) -> String {
    match (reference, judged.same, trial.started) {
        (_, _, false) => paint("does not run", Colour::Bad),
        (true, ..) => paint("reference", Colour::Faint),
        (_, true, _) => paint("same", Colour::Good),
        _ => paint("differs", Colour::Bad),
    }
}

/// `0`, or `app=0 other=1`.
fn exits(trial: &Trial) -> String {
    let code = |code: Option<i32>| code.map_or_else(|| "-".to_owned(), |code| code.to_string());
    match trial.containers.as_slice() {
        [] => "-".into(),
        [only] => code(only.exit_code),
        all => all
            .iter()
            .map(|ran| format!("{}={}", ran.name, code(ran.exit_code)))
            .collect::<Vec<_>>()
            .join(" "),
    }
}

fn differences(pod: &Tried) -> String {
    let Some((reference, _)) = pod.trials.first() else {
        return String::new();
    };
    let mut text = String::new();
    for (trial, judged) in &pod.trials {
        let mut shown: Vec<(&str, usize)> = Vec::new();
        for difference in &judged.differences {
            // The bound holds for a container's two streams together.
            let so_far: usize = shown
                .iter()
                .filter(|(name, _)| *name == difference.container)
                .map(|(_, count)| count)
                .sum();
            let room = MOST_LINES.saturating_sub(so_far);
            shown.push((&difference.container, difference.lines.len().min(room)));
            text += &section(difference, &reference.handler, &trial.handler, room);
        }
    }
    if text.is_empty() { text } else { format!("\nDifferences\n{text}") }
}

fn section(difference: &Difference, reference: &str, handler: &str, room: usize) -> String {
    let what = if difference.container == super::verdict::EXEC {
        "the command".to_owned()
    } else {
        format!("container {}", difference.container)
    };
    let mut text = format!("  {handler}, {what}, {}:\n", difference.stream);
    let width = reference.len().max(handler.len());
    for LineDifference {
        line,
        reference: old,
        here: new,
    } in difference.lines.iter().take(room)
    {
        let side = |name: &str, text: &Option<String>| {
            format!(
                "{name:width$}  {}\n",
                text.as_ref().map_or_else(|| "(no such line)".into(), |t| clean(t, MOST_CHARS))
            )
        };
        text += &format!("    {line:>4}  {}          {}", side(reference, old), side(handler, new));
    }
    match difference.lines.len().saturating_sub(room) {
        0 => {}
        1 => text += "          and 1 line more\n",
        more => text += &format!("          and {more} lines more\n"),
    }
    text
}

/// A text of the pod as a terminal may be given it: nothing in it moves the cursor or changes colours.
fn clean(text: &str, most: usize) -> String {
    let mut out = String::new();
    for (number, c) in text.chars().enumerate() {
        if number == most {
            out.push('…');
            break;
        }
        match c {
            '\t' => out.push(' '),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// The same for programs: everything that was measured, every line that differs, what was written.
pub(crate) fn value(tried: &[Tried], unproved: &[HandlerStatus], denied: &[Value]) -> Value {
    let trial = |(number, (trial, judged)): (usize, &(Trial, Judgement))| {
        let mut value = json!(trial);
        value["reference"] = json!(number == 0);
        value["same"] = json!(judged.same);
        value["differences"] = json!(judged.differences);
        value["verdict"] = json!(judged.verdict);
        value
    };
    let pods: Vec<Value> = tried
        .iter()
        .map(|pod| {
            let trials: Vec<Value> = pod.trials.iter().enumerate().map(trial).collect();
            json!({"pod": pod.pod, "standsFor": pod.stands_for, "same": pod.same(), "trials": trials})
        })
        .collect();
    let unproved: Vec<Value> = unproved.iter().map(|h| json!({"handler": h.name, "reason": h.unproved})).collect();
    // Of pods of which none was tried nothing can be said.
    let same = !tried.is_empty() && tried.iter().all(Tried::same);
    json!({"same": same, "pods": pods, "unproved": unproved, "denied": denied})
}

/// Names for a sentence.
pub(crate) fn names<'a>(all: impl IntoIterator<Item = &'a str>) -> String {
    list(&all.into_iter().map(str::to_owned).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::attempt::verdict::judge;

    fn tried() -> Tried {
        let trial = |handler: &str, text: &str| {
            let mut trial = Trial {
                handler: handler.into(),
                started: true,
                start_micros: Some(41_000),
                ..Trial::default()
            };
            let output = crate::commands::attempt::output::Output {
                stdout: super::super::output::Stream::of(text.as_bytes()),
                ..Default::default()
            };
            trial.containers.push(super::super::verdict::Ran {
                name: "app".into(),
                kind: "container",
                exit_code: Some(0),
                reason: String::new(),
                output,
            });
            trial
        };
        let (runc, runsc) = (trial("runc", "1\n2\n3\n4\n5\n6\n7\n"), trial("runsc", "\x1b[31mred\n"));
        let judged = [judge(&runc, &runc), judge(&runc, &runsc)];
        Tried {
            pod: "web".into(),
            stands_for: 1,
            trials: [runc, runsc].into_iter().zip(judged).collect(),
        }
    }

    #[test]
    fn the_picture_is_bounded_and_keeps_a_pods_signs_to_itself() {
        let text = text(&[tried()], &[]);
        let want = "Differences\n  runsc, container app, stdout:\n       1  runc   1\n          runsc  \\u{1b}[31mred\n       2  runc   2\n          runsc  (no such line)\n";
        assert!(text.contains(want), "{text}");
        assert!(text.contains("    and 2 lines more\n\nVerdict\n  runc: the reference"), "{text}");
        assert!(text.ends_with("runsc: runs, but what it writes differs in 7 lines"), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
    }

    #[test]
    fn programs_are_given_all() {
        let value = value(&[tried()], &[], &[]);
        let trial = &value["pods"][0]["trials"][1];
        assert_eq!(
            (&value["same"], &trial["same"], &trial["reference"]),
            (&json!(false), &json!(false), &json!(false))
        );
        assert_eq!(trial["differences"][0]["lines"].as_array().map(Vec::len), Some(7));
        assert_eq!(trial["containers"][0]["output"]["stdout"]["text"], "\u{1b}[31mred\n");
    }
}
