//! What a run says: JSON, a table for a terminal, a page with a picture.

use crate::chart::{self, Parts, Scale};
use comfy_table::{Table, presets};
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// A runtime that was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Side {
    /// Its name and version, by itself.
    pub name: String,
    /// Its socket.
    pub socket: PathBuf,
}

/// Which value is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// The smaller.
    Less,
    /// The greater.
    More,
}

/// One thing that was measured of every runtime.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// A name for programs.
    pub key: &'static str,
    /// What it is.
    pub what: String,
    /// Of the values.
    pub unit: &'static str,
    /// Which value is the better one.
    pub better: Better,
    /// In the order of the runtimes; none where it could not be told.
    pub values: Vec<Option<f64>>,
}

impl Row {
    /// The value of a runtime over that of the first.
    pub fn ratio(&self, side: usize) -> Option<f64> {
        let value = (*self.values.get(side)?)?;
        let first = (*self.values.first()?)?;
        (first > 0.0).then(|| value / first)
    }

    fn cell(&self, side: usize) -> String {
        let Some(value) = self.values.get(side).copied().flatten() else {
            return "-".into();
        };
        match self.unit {
            "" => format!("{value:.0}"),
            "MiB" => format!("{value:.2} MiB"),
            unit => format!("{value:.1} {unit}"),
        }
    }

    fn ratio_cell(&self, side: usize) -> String {
        self.ratio(side).map_or_else(|| "-".into(), |r| format!("{r:.2} ×"))
    }
}

/// What was measured under one handler.
#[derive(Debug, Clone, Serialize)]
pub struct Handler {
    /// Its name; empty for the default one.
    pub name: String,
    /// The values.
    pub rows: Vec<Row>,
    /// Medians of each verb, of each runtime, milliseconds.
    pub verbs: Vec<(String, Parts)>,
    /// Medians of each stage, of the runtimes that tell, milliseconds.
    pub stages: Vec<(String, Parts)>,
    /// What was measured beside: name, p50, p95, milliseconds.
    pub references: Vec<(String, f64, f64)>,
}

impl Handler {
    /// The row of a key.
    pub fn row(&self, key: &str) -> Option<&Row> {
        self.rows.iter().find(|r| r.key == key)
    }
}

/// Everything that one run measured.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The runtimes; ratios are to the first.
    pub runtimes: Vec<Side>,
    /// CPUs of the machine.
    pub cpus: usize,
    /// Its kernel.
    pub kernel: String,
    /// Processes that ran or waited for a CPU in the minute before.
    pub load: f64,
    /// Reasons to measure again.
    pub warnings: Vec<String>,
    /// The handlers.
    pub handlers: Vec<Handler>,
}

impl Report {
    /// Of this machine, with nothing measured yet.
    pub(super) fn new(runtimes: Vec<Side>) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = text.split_whitespace().next().and_then(|f| f.parse().ok()).unwrap_or(0.0);
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        Self {
            runtimes,
            cpus,
            kernel,
            load,
            warnings: busy(load, cpus).into_iter().collect(),
            handlers: vec![],
        }
    }
}

/// Names that differ: two runtimes of the same kind get a number.
pub(super) fn distinct(names: &[String]) -> Vec<String> {
    let same = |index: usize, name: &String| names.iter().take(index).filter(|n| *n == name).count();
    let number = |(index, name): (usize, &String)| match same(index, name) {
        0 => name.clone(),
        before => format!("{name} #{}", before + 1),
    };
    names.iter().enumerate().map(number).collect()
}

/// The warning for a machine that does something else.
fn busy(load: f64, cpus: usize) -> Option<String> {
    (load > cpus as f64 / 4.0).then(|| format!("the machine is busy (load {load:.1} on {cpus} CPUs): measure again when nothing else runs"))
}

/// A handler's name for people.
pub(super) fn name(handler: &str) -> &str {
    if handler.is_empty() { "default handler" } else { handler }
}

/// One thing that was promised, and whether it is kept.
#[derive(Debug, Clone)]
pub struct Bar {
    /// What was promised.
    pub promise: String,
    /// What was measured.
    pub measured: String,
    /// Whether that is as promised.
    pub kept: bool,
}

fn header(report: &Report) -> Vec<String> {
    let mut header: Vec<String> = report.runtimes.iter().map(|r| r.name.clone()).collect();
    match report.runtimes.len() {
        0 | 1 => {}
        2 => header.push("ratio".into()),
        _ => header.extend(report.runtimes.iter().skip(1).map(|r| format!("ratio of {}", r.name))),
    }
    header
}

fn cells(report: &Report, row: &Row) -> Vec<String> {
    let sides = report.runtimes.len();
    (0..sides)
        .map(|s| row.cell(s))
        .chain((1..sides).map(|s| row.ratio_cell(s)))
        .collect()
}

/// The text for a terminal.
pub fn table(report: &Report) -> String {
    let mut out = String::new();
    for handler in &report.handlers {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let title = [name(&handler.name).to_uppercase()].into_iter();
        table.set_header(title.chain(header(report).into_iter().map(|h| h.to_uppercase())));
        for row in &handler.rows {
            table.add_row([row.what.clone()].into_iter().chain(cells(report, row)));
        }
        for (what, p50, p95) in &handler.references {
            table.add_row([format!("{what}: {p50:.1} ms, p95 {p95:.1} ms")]);
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let _ = writeln!(out, "{table}\n");
        for (runtime, stages) in &handler.stages {
            let _ = writeln!(out, "stages of {runtime}, p50: {}\n", parts(stages));
        }
    }
    if report.runtimes.len() > 1 {
        let first = report.runtimes.first().map_or("", |r| &r.name);
        let _ = writeln!(
            out,
            "Ratios are to {first}; of times and memory a smaller one is better, of pods a second a greater one."
        );
    }
    for warning in &report.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    out
}

fn parts(parts: &Parts) -> String {
    parts
        .iter()
        .map(|(name, millis)| format!("{name} {millis:.2} ms"))
        .collect::<Vec<_>>()
        .join(" · ")
}

/// A name in a cell of Markdown.
fn plain(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

/// Writes a page, and its picture beside it.
pub fn page(path: &Path, report: &Report, bars: &[Bar], by: &str) -> Result<(), super::Error> {
    let picture = path.with_extension("svg");
    let failed = |path: &Path| {
        let what = format!("cannot write {}", path.display());
        move |source| super::Error::Machine { what, source }
    };
    let all: Vec<_> = report
        .handlers
        .iter()
        .flat_map(|h| {
            h.verbs
                .iter()
                .map(|(runtime, parts)| (format!("{runtime}, {}", name(&h.name)), parts.clone()))
        })
        .collect();
    std::fs::write(&picture, chart::bars(&all, Scale::Common)).map_err(failed(&picture))?;
    let shown = picture.file_name().unwrap_or_default().to_string_lossy();
    std::fs::write(path, text(report, bars, by, &shown)).map_err(failed(path))
}

fn text(report: &Report, bars: &[Bar], by: &str, picture: &str) -> String {
    let mut out = String::from("# Runtimes beside each other, over CRI\n\n");
    let _ = writeln!(
        out,
        "Written by `{by}`; one run, runtimes in turn, on {} CPUs, Linux {}, load {:.1}. Compare ratios, not machines. A ratio is to the \
         first runtime; of times and memory a smaller one is better, of pods a second a greater one.\n",
        report.cpus, report.kernel, report.load
    );
    for warning in &report.warnings {
        let _ = writeln!(out, "**Warning**: {warning}.\n");
    }
    if !bars.is_empty() {
        let _ = writeln!(out, "| promise | measured | kept |\n| --- | --- | --- |");
        for bar in bars {
            let _ = writeln!(
                out,
                "| {} | {} | {} |",
                bar.promise,
                bar.measured,
                if bar.kept { "yes" } else { "**no**" }
            );
        }
        out.push('\n');
    }
    for handler in &report.handlers {
        let header = header(report);
        let _ = writeln!(
            out,
            "| {} | {} |",
            plain(name(&handler.name)),
            plain(&header.join("\u{0}")).replace('\u{0}', " | ")
        );
        let _ = writeln!(out, "| ---{} |", " | ---".repeat(header.len()));
        for row in &handler.rows {
            let _ = writeln!(out, "| {} | {} |", row.what, cells(report, row).join(" | "));
        }
        out.push('\n');
        for (what, p50, p95) in &handler.references {
            let _ = writeln!(out, "{what}: p50 {p50:.1} ms, p95 {p95:.1} ms.\n");
        }
    }
    let _ = writeln!(out, "## Where the time goes\n\n![verbs]({picture})\n");
    for handler in &report.handlers {
        for (runtime, all) in handler.verbs.iter().chain(&handler.stages) {
            let _ = writeln!(
                out,
                "- {}, {}, p50: {}",
                plain(runtime),
                plain(name(&handler.name)),
                plain(&parts(all))
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn row(values: &[Option<f64>]) -> Row {
        Row {
            key: "up_p50",
            what: "pod up, p50".into(),
            unit: "ms",
            better: Better::Less,
            values: values.to_vec(),
        }
    }

    fn report() -> Report {
        let side = |name: &str| Side {
            name: name.into(),
            socket: "/run/x".into(),
        };
        let mut report = Report::new(distinct(&["a 1", "a 1", "b 2"].map(String::from)).iter().map(|n| side(n)).collect());
        report.warnings.clear();
        report.handlers.push(Handler {
            name: "crun".into(),
            rows: vec![row(&[Some(200.0), Some(50.0), None])],
            verbs: vec![("a 1".into(), vec![("RunPodSandbox".into(), 3.0)])],
            stages: vec![],
            references: vec![("bare".into(), 20.0, 30.0)],
        });
        report
    }

    #[test]
    fn a_ratio_is_to_the_first() {
        for (values, ratio) in [
            (vec![Some(200.0), Some(50.0)], Some(0.25)),
            (vec![Some(200.0), None], None),
            (vec![None, Some(50.0)], None),
            (vec![Some(0.0), Some(50.0)], None),
            (vec![Some(1.0)], None),
        ] {
            assert_eq!(row(&values).ratio(1), ratio, "{values:?}");
        }
    }

    #[test]
    fn a_table_has_each_runtime_and_its_ratio() {
        let text = table(&report());
        let lines: Vec<String> = text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[0], "CRUN A 1 A 1 #2 B 2 RATIO OF A 1 #2 RATIO OF B 2");
        assert_eq!(lines[1], "pod up, p50 200.0 ms 50.0 ms - 0.25 × -");
        assert_eq!(lines[2], "bare: 20.0 ms, p95 30.0 ms");
    }

    #[test]
    fn a_page_says_which_promise_is_kept() {
        let bars = [true, false].map(|kept| Bar {
            promise: "p".into(),
            measured: "m".into(),
            kept,
        });
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.md");
        page(&path, &report(), &bars, "make bench").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("| p | m | yes |\n| p | m | **no** |"), "{text}");
        assert!(
            text.contains("| crun | a 1 | a 1 #2 | b 2 | ratio of a 1 #2 | ratio of b 2 |\n| --- | --- | --- | --- | --- | --- |"),
            "{text}"
        );
        assert!(std::fs::read_to_string(dir.path().join("x.svg")).unwrap().contains("RunPodSandbox"));
        let error = page(Path::new("/nowhere/x.md"), &report(), &[], "make bench").unwrap_err();
        assert!(error.to_string().starts_with("cannot write /nowhere/x.svg: "), "{error}");
    }

    #[test]
    fn a_busy_machine_is_told() {
        assert_eq!(busy(0.2, 2), None);
        assert_eq!(
            busy(2.0, 2).unwrap(),
            "the machine is busy (load 2.0 on 2 CPUs): measure again when nothing else runs"
        );
    }
}
