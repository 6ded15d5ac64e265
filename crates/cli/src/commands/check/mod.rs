//! `cofferdam check`: what becomes of manifests, told without running anything. It needs no root, and
//! touches no state.
//!
//! - [`input`]: the manifests, decoded, and what is not a pod validated
//! - [`given`]: the cluster that they are for, from files or its API
//! - [`judge`]: each pod admitted and placed; [`place`]: the nodes
//! - [`near`]: what was meant, perhaps
//! - [`report`]: the answer, and its JSON; [`table`]: for people; [`junit`]: for continuous integration

mod given;
mod input;
mod judge;
mod junit;
mod near;
mod place;
mod progress;
mod report;
mod table;

use crate::args::Global;
use crate::settings::Settings;
use crate::{EXIT_DENIED, show};
use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use cofferdam_decide::check::Namespaces;
use cofferdam_decide::quota::Used;
use cofferdam_manifest::{ObjectKind, nearest};
use cofferdam_model::{HandlerName, Quantity};
use given::Given;
use input::{Input, key};
use judge::{Judge, Judged};
use place::Placer;
use progress::Progress;
use report::{Outcome, Report, Row};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Write;
use std::path::PathBuf;

/// Exit code where everything is admitted and a pod finds no node. Below ours of 120 and more, which
/// tell of runs; 126 and 127 are the shell's.
const EXIT_NO_NODE: u8 = 119;

/// Options of `check`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CheckArgs {
    /// Manifests: files, folders, or - for standard input
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Place the pods on the nodes of this file, JSON or YAML as kubectl get -o prints it; pods, classes,
    /// namespaces, limit ranges and quotas in it count too
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kubeconfig", "context"])]
    nodes: Vec<PathBuf>,
    /// Place the pods on the nodes of the cluster of this kubeconfig; its pods, classes, namespaces, limit
    /// ranges and quotas count too
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig; without --kubeconfig, in the one that kubectl takes
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// What if these RuntimeClasses existed; one of the same name is replaced
    #[arg(long = "add-class", value_name = "FILE")]
    add_classes: Vec<PathBuf>,
    /// What if this node were drained: its pods are placed first
    #[arg(long, value_name = "NODE")]
    drain: Vec<String>,
    /// Show what each node says to this pod: NAME or NAMESPACE/NAME, or a Deployment's, which means its first
    #[arg(long, value_name = "POD")]
    explain: Option<String>,
    /// All that each pod becomes: selector, tolerations, quota left
    #[arg(short, long)]
    verbose: bool,
    /// Format
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// How to print.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// For continuous integration.
    Junit,
}

/// Examples and exit codes, for `--help`.
pub(crate) const HELP: &str = "Examples:
  cofferdam check -f pods.yaml
  cofferdam check -f manifests/ --nodes nodes.json        where pods land, or why nowhere
  cofferdam check -f pods.yaml --kubeconfig config --context prod
  cofferdam check -f pods.yaml --nodes nodes.json --explain web
  cofferdam check -f pods.yaml --nodes nodes.json --add-class kata.yaml --drain node-1
  cofferdam check -f manifests/ -o junit > check.xml
  kubectl get nodes,pods,runtimeclasses,namespaces -A -o json | cofferdam check -f pods.yaml --nodes -

Pods are placed in the order of the manifests; those of the cluster keep their places, so that an
updated Deployment is placed beside its old pods. Nothing is preempted: it is told where it would be.

Exit codes:
  0    every pod is admitted, and has a node where nodes were given
  119  every pod is admitted, and one of them, or of a drained node, finds no node
  120  nothing was checked: a file, an option or the cluster is at fault
  121  a pod is not admitted, or an object is wrong";

/// Checks manifests.
pub(crate) fn check(global: &Global, args: &CheckArgs) -> Result<u8> {
    let progress = Progress::new();
    progress.about(|| "reading".to_owned());
    let given = Given::read(args)?;
    if given.is_none() && !args.drain.is_empty() {
        bail!(
            "--drain {}: there are no nodes; give them with --nodes FILE or --kubeconfig FILE",
            args.drain[0]
        );
    }
    if let (None, Some(pod)) = (&given, &args.explain) {
        bail!("--explain {pod}: there are no nodes; give them with --nodes FILE or --kubeconfig FILE");
    }
    let mut input = Input::read(args, given.as_ref())?;
    let mut notes = std::mem::take(&mut input.notes);
    notes.extend(given.iter().flat_map(|g| g.notes.clone()));
    let settings = Settings::read(global);
    let untrusted = match &given {
        // What a cluster's nodes call the handler of untrusted pods is what they offer under containerd's name.
        Some(given) => offers_untrusted(given).then(|| "untrusted".to_owned()),
        None => settings.untrusted(),
    };
    let namespaces = given.as_ref().map_or(Namespaces::Implicit, |g| g.namespaces);
    let used = used(&input, given.as_ref());
    let placer = given
        .map(|given| Placer::new(given, &input.namespaces, &input.classes, &args.drain))
        .transpose()?;
    let has_nodes = placer.is_some();
    if let Some(placer) = &placer {
        notes.extend(placer.unoffered(input.own_classes()));
    }
    let mut judge = Judge {
        input: &input,
        namespaces,
        used,
        untrusted: untrusted.as_deref(),
        // What the handlers of other machines are is not known by their names.
        handlers: (!has_nodes).then_some(&settings.loaded.table),
        placer,
        explain: args.explain.as_deref(),
        progress: &progress,
    };
    let Judged {
        rows,
        explained,
        notes: more,
    } = judge.all()?;
    notes.extend(more);
    let (nodes, drained, more) = judge.placer.map(Placer::end).unwrap_or_default();
    notes.extend(more);
    if !has_nodes {
        notes.extend(handlers_here(&settings, &input, &rows));
    }
    input.objects.sort_by_key(|o| (o.origin, o.spot.line, o.spot.column));
    let mut report = Report {
        files: input.files.into_iter().map(|f| f.name).collect(),
        has_nodes,
        rows,
        objects: input.objects,
        nodes,
        drained,
        explained,
        warnings: input.warnings,
        notes,
        exit_code: 0,
    };
    report.exit_code = exit_code(&report);
    drop(progress);
    match args.output {
        Format::Table => table::print(&report, args.verbose),
        Format::Json => json(&report)?,
        Format::Junit => show::say(junit::document(&report)),
    }
    Ok(report.exit_code)
}

fn exit_code(report: &Report) -> u8 {
    if report.count(Outcome::Refused) + report.invalid() > 0 {
        EXIT_DENIED
    } else if report.count(Outcome::NoNode) + report.stranded() > 0 {
        EXIT_NO_NODE
    } else {
        0
    }
}

/// Written as it is made: as one text it would be larger than all the rest.
fn json(report: &Report) -> Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let written = report
        .serialize(&mut serde_json::Serializer::pretty(&mut out))
        .map_err(std::io::Error::from);
    // Whether anybody reads it to its end is their business.
    match written.and_then(|()| writeln!(out)).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(()),
    }
}

fn offers_untrusted(given: &Given) -> bool {
    let handlers = given.cluster.nodes.iter().filter_map(|n| n.status.runtime_handlers.as_ref());
    handlers.flatten().any(|h| h.name == "untrusted")
}

/// What quotas have been charged before the first pod: what their status says, else what the pods of the
/// cluster take. A pod that a manifest replaces is not counted.
fn used(input: &Input, given: Option<&Given>) -> Used {
    let Some(given) = given else { return Used::default() };
    let pods_here = input.files.iter().flat_map(|f| &f.objects).filter_map(|o| match &o.kind {
        ObjectKind::Pod(pod) if !pod.metadata.name.is_empty() => Some(key(&pod.metadata)),
        _ => None,
    });
    let here: HashSet<(String, String)> = pods_here.collect();
    let (replaced, staying): (Vec<_>, Vec<_>) = given
        .cluster
        .pods
        .iter()
        .map(|p| &p.pod)
        .partition(|p| here.contains(&key(&p.metadata)));
    let (counted, stated): (Vec<_>, Vec<_>) = input
        .quotas
        .iter()
        .cloned()
        .partition(|q| input.unstated.contains(&key(&q.metadata)));
    let mut used = Used::default();
    staying.into_iter().for_each(|pod| used.charge(&counted, pod));
    let mut freed = Used::default();
    replaced.into_iter().for_each(|pod| freed.charge(&stated, pod));
    let status: BTreeMap<_, _> = given.cluster.quotas.iter().map(|q| (key(&q.quota.metadata), q)).collect();
    for quota in &stated {
        let Some(status) = status.get(&key(&quota.metadata)) else {
            continue;
        };
        let left = |(name, amount): (&String, &Quantity)| {
            let left = amount.checked_sub(&freed.get(quota, name));
            (name.clone(), left.unwrap_or_else(|| amount.clone()))
        };
        used.state(quota, status.hard.clone(), status.used.iter().flatten().map(left).collect());
    }
    used
}

/// Whether the handlers that pods need are configured on this machine: its own question where there are
/// no nodes. None is tried.
fn handlers_here(settings: &Settings, input: &Input, rows: &[Row]) -> Vec<String> {
    let mut classes: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for class in input.own_classes() {
        classes.entry(&class.handler).or_default().insert(&class.metadata.name);
    }
    for row in rows {
        if let Some(handler) = &row.kind.handler {
            classes.entry(handler).or_default().extend(row.kind.class.as_deref());
        }
    }
    if classes.is_empty() {
        return Vec::new();
    }
    if !settings.loaded.errors.is_empty() {
        return vec![
            "whether this machine has the handlers is not known, as its configuration has errors: see cofferdam config".to_owned(),
        ];
    }
    let here = &settings.loaded.table.handlers;
    let note = |(handler, classes): (&str, BTreeSet<&str>)| {
        let classes = classes.into_iter().collect::<Vec<_>>().join(", ");
        let of = if classes.is_empty() {
            String::new()
        } else {
            format!(" (class {classes})")
        };
        let found = HandlerName::new(handler).ok().and_then(|name| here.get(&name));
        match found.map(|h| &h.unusable) {
            Some(None) => format!("handler {handler:?}{of} is configured on this machine; cofferdam handlers proves it"),
            Some(Some(why)) => format!("handler {handler:?}{of} is configured on this machine, and cannot be used: {why}"),
            None => {
                let near = nearest(handler, here.keys().map(HandlerName::as_str));
                let near = near.map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
                format!("handler {handler:?}{of} is not configured on this machine{near}")
            }
        }
    };
    classes.into_iter().map(note).collect()
}
