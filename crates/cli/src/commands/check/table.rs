//! The answer for people: a row a pod, then only what there is to say.

use super::place::pods;
use super::report::{Explained, Finding, Move, ObjectRow, One, Outcome, Report, Row};
use crate::show::{self, Colour, paint};
use cofferdam_model::ResourceList;
use cofferdam_model::pod::Toleration;
use std::collections::HashMap;
use std::fmt::Write;

/// Most nodes that a row names.
const MOST_NODES: usize = 3;
/// Most pods that a sentence names beside its first.
const MOST_NAMES: usize = 3;

/// Prints it.
pub(super) fn print(report: &Report, verbose: bool) {
    let mut parts = Vec::new();
    if !report.rows.is_empty() {
        parts.push(overview(report));
    }
    if verbose {
        parts.extend(report.rows.iter().map(block));
    }
    parts.push(sentences(report));
    parts.push(drained(report, verbose));
    parts.extend(report.explained.as_ref().map(explained));
    parts.push(report.notes.iter().fold(String::new(), |text, note| text + "note: " + note + "\n"));
    parts.push(summary(report));
    let shown: Vec<&str> = parts.iter().map(|p| p.trim_end()).filter(|p| !p.is_empty()).collect();
    show::say(shown.join("\n\n"));
}

fn overview(report: &Report) -> String {
    let mut header = vec![
        "namespace",
        "pod",
        "class",
        "handler",
        "overhead",
        "qos",
        "requests",
        "limits",
        "result",
    ];
    header.extend(report.has_nodes.then_some("node"));
    let mut table = show::table(&header);
    for row in &report.rows {
        let kind = &row.kind;
        let (word, colour) = match kind.result {
            Outcome::Admitted => ("admitted", Colour::Good),
            Outcome::Placed => ("placed", Colour::Good),
            Outcome::NoNode => ("no node", Colour::Bad),
            Outcome::Gated => ("gated", Colour::Busy),
            Outcome::Refused => ("refused", Colour::Bad),
        };
        let mut cells = vec![
            clean(&kind.namespace),
            clean(&name(row)),
            dash(kind.class.as_deref()),
            dash(kind.handler.as_deref()),
            amounts(&kind.overhead),
            format!("{:?}", kind.qos),
            amounts(&kind.requests),
            amounts(&kind.limits),
            paint(word, colour),
        ];
        cells.extend(report.has_nodes.then(|| nodes(&row.pods)));
        table.add_row(cells);
    }
    lines(&table)
}

/// A table without the blanks at the ends of its lines.
fn lines(table: &comfy_table::Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// `web`, or `deployment/web (3)`.
fn name(row: &Row) -> String {
    match (&row.kind.owner, row.pods.as_slice()) {
        (Some(owner), pods) => format!("{} ({})", owner.replacen('D', "d", 1), pods.len()),
        (None, [pod, ..]) => pod.name.clone(),
        (None, []) => String::new(),
    }
}

/// `node-1`, or `node-1 (2), node-2`, in the order in which they were found.
fn nodes(pods: &[One]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    let mut index: HashMap<&str, usize> = HashMap::new();
    for node in pods.iter().filter_map(|p| p.node.as_deref()) {
        let at = *index.entry(node).or_insert(counts.len());
        if at == counts.len() {
            counts.push((node, 0));
        }
        counts[at].1 += 1;
    }
    if counts.is_empty() {
        return "-".into();
    }
    let one = |(node, count): &(&str, usize)| {
        if *count == 1 {
            clean(node)
        } else {
            format!("{} ({count})", clean(node))
        }
    };
    let mut text = counts.iter().take(MOST_NODES).map(one).collect::<Vec<_>>().join(", ");
    if counts.len() > MOST_NODES {
        let _ = write!(text, " and {} more", counts.len() - MOST_NODES);
    }
    text
}

/// All that a pod becomes.
fn block(row: &Row) -> String {
    let kind = &row.kind;
    let mut lines = vec![format!("{}/{} ({})", kind.namespace, name(row), kind.spot)];
    let mut add = |what: &str, value: String| {
        if value != "-" {
            lines.push(format!("  {what:<14} {value}"));
        }
    };
    add("class", dash(kind.class.as_deref()));
    let default = if kind.result == Outcome::Refused { "-" } else { "the default" };
    add("handler", kind.handler.as_deref().unwrap_or(default).to_owned());
    add("overhead", amounts(&kind.overhead));
    add(
        "node selector",
        or_dash(kind.node_selector.iter().map(|(k, v)| format!("{k}={v}")).collect()),
    );
    add("tolerations", or_dash(kind.tolerations.iter().map(toleration).collect()));
    add("qos", format!("{:?}", kind.qos));
    add("requests", amounts(&kind.requests));
    add("limits", amounts(&kind.limits));
    for quota in row.pods.last().iter().flat_map(|p| &p.quotas) {
        add("quota left", format!("{}: {}", quota.name, amounts(&quota.left)));
    }
    for pod in row.pods.iter().filter(|p| p.node.is_some()) {
        let score = pod.score.map_or_else(String::new, |score| format!(" (score {score})"));
        let name = if kind.owner.is_some() {
            format!("{}: ", pod.name)
        } else {
            String::new()
        };
        add("node", format!("{name}{}{score}", dash(pod.node.as_deref())));
    }
    lines.iter().map(|line| clean(line)).collect::<Vec<_>>().join("\n")
}

/// `key=value:NoSchedule`, as kubectl describes them.
fn toleration(toleration: &Toleration) -> String {
    let Toleration { key, value, effect, .. } = toleration;
    let mut text = if key.is_empty() { "*".to_owned() } else { key.clone() };
    if !value.is_empty() {
        let _ = write!(text, "={value}");
    }
    if !effect.is_empty() {
        let _ = write!(text, ":{effect}");
    }
    if let Some(seconds) = toleration.toleration_seconds {
        let _ = write!(text, " for {seconds}s");
    }
    text
}

/// Sentences, each once: of pods to which the same is said, the first stands for all.
#[derive(Default)]
struct Sentences<'a> {
    all: Vec<Sentence<'a>>,
    index: HashMap<(&'static str, &'a str, Option<&'a str>), usize>,
}

struct Sentence<'a> {
    text: String,
    below: Vec<String>,
    /// The other pods.
    others: Vec<&'a str>,
    count: usize,
}

impl<'a> Sentences<'a> {
    /// Adds what is said to `pods`; `say` makes it of the first.
    fn add(&mut self, severity: &'static str, message: &'a str, hint: Option<&'a str>, pods: &'a [One], say: impl FnOnce() -> String) {
        let at = *self.index.entry((severity, message, hint)).or_insert(self.all.len());
        let is_new = at == self.all.len();
        if is_new {
            let below = hint.iter().flat_map(|h| h.lines()).map(str::to_owned).collect();
            self.all.push(Sentence {
                text: say(),
                below,
                others: Vec::new(),
                count: 0,
            });
        }
        let sentence = &mut self.all[at];
        let others = pods.iter().skip(usize::from(is_new));
        sentence.count += others.len();
        let room = MOST_NAMES.saturating_sub(sentence.others.len());
        sentence.others.extend(others.take(room).map(|p| p.name.as_str()));
    }

    fn text(self) -> String {
        let mut text = String::new();
        for mut sentence in self.all {
            text += &clean(&sentence.text);
            text.push('\n');
            if sentence.count > 0 {
                let etc = if sentence.count > sentence.others.len() { ", …" } else { "" };
                sentence.below.push(format!(
                    "the same for {} more: {}{etc}",
                    pods(sentence.count),
                    sentence.others.join(", ")
                ));
            }
            for line in &sentence.below {
                let _ = writeln!(text, "    {}", clean(line));
            }
        }
        text
    }
}

fn sentences(report: &Report) -> String {
    let (error, warning) = (paint("error", Colour::Bad), paint("warning", Colour::Busy));
    let mut all = Sentences::default();
    let mut text = String::new();
    for finding in report.objects.iter().flat_map(|o| &o.errors) {
        text += &plain(&error, finding);
    }
    for row in &report.rows {
        let Some(first) = row.pods.first() else { continue };
        for finding in &row.kind.errors {
            let say = || format!("{}: {error}: {}", finding.spot, said(first, row, finding));
            all.add("error", &finding.message, finding.hint.as_deref(), &row.pods, say);
        }
        if let Some(message) = row.kind.message.as_deref().filter(|_| row.kind.result == Outcome::NoNode) {
            let say = || {
                format!(
                    "{}: {}: pod {:?}: {message}",
                    row.kind.spot,
                    paint("no node", Colour::Bad),
                    first.name
                )
            };
            all.add("no node", message, row.kind.hint.as_deref(), &row.pods, say);
        }
        if let Some(preempts) = &row.kind.preempts {
            let say = || {
                let victims = preempts.victims.join(", ");
                format!(
                    "{}: {warning}: pod {:?} fits on {} once {victims} is preempted, which is of less priority",
                    row.kind.spot, first.name, preempts.node
                )
            };
            all.add("preempts", &preempts.node, None, &row.pods, say);
        }
        if let Some(message) = row.kind.message.as_deref().filter(|_| row.kind.result == Outcome::Gated) {
            let say = || format!("{}: {warning}: pod {:?}: {message}", row.kind.spot, first.name);
            all.add("gated", message, None, &row.pods, say);
        }
    }
    text += &all.text();
    let objects = report.objects.iter().flat_map(|o| &o.warnings);
    for finding in report.warnings.iter().chain(objects) {
        text += &plain(&warning, finding);
    }
    let mut all = Sentences::default();
    for row in &report.rows {
        let Some(first) = row.pods.first() else { continue };
        for finding in &row.warnings {
            let field = finding.field.as_deref().unwrap_or_default();
            let say = || format!("{}: {warning}: Pod {:?}: {field}: {}", finding.spot, first.name, finding.message);
            all.add("warning", &finding.message, finding.hint.as_deref(), &row.pods, say);
        }
    }
    text + &all.text()
}

/// An error of a pod in the API server's words.
fn said(first: &One, row: &Row, finding: &Finding) -> String {
    let denial = first.denial.as_deref().unwrap_or_default();
    if row.kind.errors.len() == 1 {
        return denial.to_owned();
    }
    let envelope = [" is invalid: ", " is forbidden: "]
        .into_iter()
        .find_map(|end| Some(denial.find(end)? + end.len()));
    format!("{}{}", &denial[..envelope.unwrap_or_default()], finding.message)
}

fn plain(severity: &str, finding: &Finding) -> String {
    let mut text = format!("{}: {severity}: {}\n", clean(&finding.spot.to_string()), clean(&finding.message));
    for line in finding.hint.iter().flat_map(|h| h.lines()) {
        let _ = writeln!(text, "    {}", clean(line));
    }
    text
}

fn drained(report: &Report, verbose: bool) -> String {
    let mut text = String::new();
    for node in report.nodes.iter().filter(|n| n.drained) {
        let leaving: Vec<&Move> = report.drained.iter().filter(|m| m.from == node.name).collect();
        let stranded = leaving.iter().filter(|m| m.node.is_none()).count();
        let rest = match (leaving.len(), stranded) {
            (0, _) => String::new(),
            (_, 0) => ", all to other nodes".to_owned(),
            (all, stranded) => format!(", {} to other nodes and {stranded} nowhere", all - stranded),
        };
        let _ = writeln!(text, "drained {}: {} moved{rest}", clean(&node.name), pods(leaving.len()));
        for moved in leaving.iter().filter(|_| verbose) {
            if let Some(to) = &moved.node {
                let _ = writeln!(text, "    {}/{} to {}", clean(&moved.namespace), clean(&moved.name), clean(to));
            }
        }
        text += &nowhere(&leaving);
    }
    text
}

/// The pods of a drained node that find no other: those of one reason together.
fn nowhere(leaving: &[&Move]) -> String {
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    let mut index: HashMap<&str, usize> = HashMap::new();
    for moved in leaving {
        let Some(why) = moved.message.as_deref() else { continue };
        let at = *index.entry(why).or_insert(reasons.len());
        if at == reasons.len() {
            reasons.push((why, Vec::new()));
        }
        reasons[at].1.push(format!("{}/{}", moved.namespace, moved.name));
    }
    let word = paint("no node", Colour::Bad);
    let line = |(why, names): &(&str, Vec<String>)| format!("    {word}: {}: {}\n", clean(&names.join(", ")), clean(why));
    reasons.iter().map(line).collect()
}

fn explained(explained: &Explained) -> String {
    let mut table = show::table(&[
        "node",
        "taints x3",
        "affinity x2",
        "room",
        "balance",
        "spread x2",
        "pods x2",
        "total",
        "why not",
    ]);
    for node in &explained.nodes {
        let mut cells = vec![clean(&node.name)];
        match &node.scores {
            Some(s) => {
                cells.extend([s.taints, s.affinity, s.room, s.balance, s.spread, s.pods, s.total].map(|n| n.to_string()));
                cells.push("-".into());
            }
            None => {
                cells.extend(std::iter::repeat_n("-".to_owned(), 7));
                cells.push(clean(&node.reasons.join(", ")));
            }
        }
        table.add_row(cells);
    }
    format!(
        "Nodes for {}/{}:\n{}",
        clean(&explained.namespace),
        clean(&explained.name),
        lines(&table)
    )
}

fn summary(report: &Report) -> String {
    let total: usize = report.rows.iter().map(|r| r.pods.len()).sum();
    let told: Vec<String> = [
        (Outcome::Admitted, "admitted"),
        (Outcome::Placed, "placed"),
        (Outcome::Gated, "gated"),
        (Outcome::NoNode, "without a node"),
        (Outcome::Refused, "refused"),
    ]
    .into_iter()
    .map(|(outcome, word)| (report.count(outcome), word))
    .filter(|(count, _)| *count > 0)
    .map(|(count, word)| format!("{count} {word}"))
    .collect();
    let mut text = pods(total);
    if !told.is_empty() {
        let _ = write!(text, ": {}", told.join(", "));
    }
    let right = report.objects.iter().filter(|o| is_class(o)).count();
    match report.invalid() {
        0 if total == 0 => drop(write!(
            text,
            "; {right} RuntimeClass{}, and nothing is wrong",
            if right == 1 { "" } else { "es" }
        )),
        0 => {}
        1 => text += "; 1 object is wrong",
        many => drop(write!(text, "; {many} objects are wrong")),
    }
    match report.stranded() {
        0 => {}
        stranded => drop(write!(text, "; {} of drained nodes without a node", pods(stranded))),
    }
    text
}

fn is_class(object: &ObjectRow) -> bool {
    object.kind == "RuntimeClass"
}

fn amounts(list: &ResourceList) -> String {
    or_dash(list.iter().map(|(name, amount)| format!("{name}={amount}")).collect())
}

fn or_dash(all: Vec<String>) -> String {
    if all.is_empty() { "-".into() } else { clean(&all.join(",")) }
}

fn dash(text: Option<&str>) -> String {
    text.filter(|t| !t.is_empty()).map_or_else(|| "-".into(), clean)
}

/// Text that cannot speak to a terminal, but for our own colours.
fn clean(text: &str) -> String {
    const COLOURS: [&str; 5] = ["[32m", "[31m", "[33m", "[2m", "[0m"];
    let mut rest = text;
    let mut clean = String::with_capacity(text.len());
    while let Some(at) = rest.find(char::is_control) {
        clean += &rest[..at];
        let c = rest[at..].chars().next().unwrap_or_default();
        rest = &rest[at + c.len_utf8()..];
        let ours = c == '\u{1b}' && COLOURS.iter().any(|colour| rest.starts_with(colour));
        clean.push(if ours { c } else { ' ' });
    }
    clean + rest
}
