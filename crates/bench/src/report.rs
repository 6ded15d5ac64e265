//! What a run says: a text for the terminal, and `docs/benchmarks.md` with its chart.

use crate::images::Pulls;
use crate::{Args, Results};
use cofferdam_bench::chart::{self, Scale};
use anyhow::{Context, Result};
use std::fmt::Write;
use std::path::Path;

fn p50(results: &Results, name: &str) -> Option<f64> {
    results.series.iter().find(|s| s.name == name).map(|s| s.p50())
}

fn of(pairs: &[(String, f64)], name: &str) -> Option<f64> {
    pairs.iter().find(|(n, _)| n == name).map(|(_, v)| *v)
}

/// One promise: what was measured, beside what it is held to.
struct Promise {
    text: String,
    measured: String,
    kept: bool,
}

fn promises(results: &Results) -> Vec<Promise> {
    let mut all = Vec::new();
    let mut add = |text: &str, measured: String, kept: bool| all.push(Promise { text: text.into(), measured, kept });
    if let (Some(own), Some(peer)) = (p50(results, "cofferdam, crun"), p50(results, "containerd, crun")) {
        let ratio = own / peer;
        add("crun pod up, p50, at most 0.25 × containerd's", format!("{own:.1} / {peer:.1} ms = {ratio:.2}"), ratio <= 0.25);
    }
    if let (Some(own), Some(floor)) = (p50(results, "cofferdam, runc"), p50(results, "bare runc create + start")) {
        let more = own - floor;
        add("runc pod up, p50, at most bare create + start and 10 ms", format!("{own:.1} − {floor:.1} = {more:+.1} ms"), more <= 10.0);
    }
    if let (Some(own), Some(floor)) = (p50(results, "cofferdam, runsc"), p50(results, "bare runsc create, start, create, start")) {
        let ratio = own / floor;
        add("gVisor pod up, p50, at most 1.2 × the bare four calls", format!("{own:.1} / {floor:.1} ms = {ratio:.2}"), ratio <= 1.2);
    }
    if let (Some(own), Some(peer)) = (of(&results.rates, "cofferdam, crun"), of(&results.rates, "containerd, crun")) {
        let ratio = own / peer;
        add("crun pods per second, 8 at once, at least 4 × containerd's", format!("{own:.1} / {peer:.1} = {ratio:.1}"), ratio >= 4.0);
    }
    if let Some(own) = of(&results.memory, "cofferdam, crun") {
        let peer = of(&results.memory, "containerd, crun").map_or_else(String::new, |p| format!(" (containerd: {p:.2})"));
        add("memory of ours per pod, PSS, at most 0.6 MiB", format!("{own:.2} MiB{peer}"), own <= 0.6);
    }
    all
}

/// The text for the terminal.
pub(crate) fn text(results: &Results) -> String {
    let mut out = String::from("\n");
    let _ = writeln!(out, "{:50} {:>5} {:>9} {:>9}", "pod up", "n", "p50 ms", "p95 ms");
    for series in &results.series {
        let _ = writeln!(out, "{:50} {:>5} {:>9.1} {:>9.1}", series.name, series.len(), series.p50(), series.quantile(0.95));
    }
    let _ = writeln!(out, "\n{:50} {:>9}", "many at once", "pods/s");
    for (name, rate) in &results.rates {
        let _ = writeln!(out, "{name:50} {rate:>9.1}");
    }
    let _ = writeln!(out, "\n{:50} {:>9}", "memory beside the containers, per pod", "MiB PSS");
    for (name, mib) in &results.memory {
        let _ = writeln!(out, "{name:50} {mib:>9.2}");
    }
    for (name, stages) in &results.stages {
        let _ = writeln!(out, "\nstages of {name}, p50 ms");
        for (stage, millis) in stages {
            let _ = writeln!(out, "  {stage:48} {millis:>9.2}");
        }
    }
    let _ = writeln!(out);
    for promise in promises(results) {
        let _ = writeln!(out, "{} {}: {}", if promise.kept { "kept  " } else { "BROKEN" }, promise.text, promise.measured);
    }
    out
}

/// Ours over the faster of the others, cold.
fn pull_ratio(pulls: &Pulls) -> Option<(f64, f64)> {
    let cold = |name: &str| pulls.series.iter().find(|s| s.name.starts_with(name) && s.name.ends_with("cold")).map(|s| s.p50());
    let others = [cold("containerd"), cold("skopeo")].into_iter().flatten().reduce(f64::min);
    cold("cofferdam").zip(others)
}

/// Pulls, for the terminal.
pub(crate) fn pulls_text(pulls: &Pulls) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "\n{:50} {:>5} {:>9} {:>9}", "pull and unpack", "n", "p50 ms", "p95 ms");
    for series in &pulls.series {
        let _ = writeln!(out, "{:50} {:>5} {:>9.0} {:>9.0}", series.name, series.len(), series.p50(), series.quantile(0.95));
    }
    if let Some((own, other)) = pull_ratio(pulls) {
        let ratio = own / other;
        let kept = if ratio <= 0.75 { "kept  " } else { "BROKEN" };
        let _ = writeln!(out, "\n{kept} a pull takes at most 0.75 of the faster other: {own:.0} / {other:.0} ms = {ratio:.2}");
    }
    let _ = writeln!(out, "greatest memory of ours: {:.1} MiB", pulls.peak);
    out
}

/// Pulls, as a page.
pub(crate) fn pulls_page(pulls: &Pulls) -> String {
    let mib = |bytes: u64| bytes >> 20;
    let mut out = String::from("# Pulling an image\n\n");
    let _ = writeln!(
        out,
        "Written by `make bench-images`: one image of {} layers, {} MiB unpacked and {} MiB packed (gzip), from Debian's docker-registry on \
         loopback, on {} CPUs; commands as a person types them, in turn. Cold has nothing of the image, warm has all of it.\n",
        pulls.layers,
        mib(pulls.unpacked),
        mib(pulls.packed),
        std::thread::available_parallelism().map_or(0, usize::from),
    );
    let _ = writeln!(out, "| pull and unpack | n | p50 ms | p95 ms |\n| --- | --- | --- | --- |");
    for series in &pulls.series {
        let _ = writeln!(out, "| {} | {} | {:.0} | {:.0} |", series.name, series.len(), series.p50(), series.quantile(0.95));
    }
    if let Some((own, other)) = pull_ratio(pulls) {
        let _ = writeln!(out, "\nOurs over the faster of the others, cold: {own:.0} / {other:.0} ms = **{:.2}** (promised: at most 0.75).", own / other);
    }
    let _ = writeln!(out, "\nGreatest memory of ours during a cold pull: {:.1} MiB.", pulls.peak);
    out
}

/// Writes the report and its chart beside it.
pub(crate) fn write(path: &Path, args: &Args, results: &Results) -> Result<()> {
    let picture = path.with_extension("svg");
    std::fs::write(&picture, chart::bars(&results.stages, Scale::Own)).with_context(|| picture.display().to_string())?;
    let mut out = String::from("# Benchmarks\n\n");
    let kernel = rustix::system::uname();
    let _ = writeln!(
        out,
        "Written by `make bench`; one run, contestants in turn, on {} CPUs, Linux {}. Compare ratios, not machines.\n\
         containerd is Debian's, with the same runtime binaries and image, a bridge by the standard CNI plugins, driven over CRI; \
         Cofferdam's three verbs are called as a library (a CRI server is not built yet), its bridge by netlink. \
         The bare runtimes have a network namespace and no image, log or record.\n",
        std::thread::available_parallelism().map_or(0, usize::from),
        kernel.release().to_string_lossy()
    );
    let _ = writeln!(out, "| promise | measured | kept |\n| --- | --- | --- |");
    for promise in promises(results) {
        let _ = writeln!(out, "| {} | {} | {} |", promise.text, promise.measured, if promise.kept { "yes" } else { "**no**" });
    }
    let _ = writeln!(out, "\n| pod up | n | p50 ms | p95 ms |\n| --- | --- | --- | --- |");
    for series in &results.series {
        let _ = writeln!(out, "| {} | {} | {:.1} | {:.1} |", series.name, series.len(), series.p50(), series.quantile(0.95));
    }
    let _ = writeln!(out, "\n| {} at once | pods/s |\n| --- | --- |", args.at_once);
    for (name, rate) in &results.rates {
        let _ = writeln!(out, "| {name} | {rate:.1} |");
    }
    let _ = writeln!(out, "\n| memory beside the containers, per pod | MiB PSS |\n| --- | --- |");
    for (name, mib) in &results.memory {
        let _ = writeln!(out, "| {name} | {mib:.2} |");
    }
    let name = picture.file_name().unwrap_or_default().to_string_lossy();
    let _ = writeln!(out, "\n## Where the time goes\n\n![stages]({name})\n");
    for (name, stages) in &results.stages {
        let parts: Vec<_> = stages.iter().map(|(stage, millis)| format!("{stage} {millis:.2}")).collect();
        let _ = writeln!(out, "- {name}, p50 ms: {}", parts.join(" · "));
    }
    std::fs::write(path, out).with_context(|| path.display().to_string())
}
