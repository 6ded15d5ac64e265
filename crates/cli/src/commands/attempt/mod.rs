//! `cofferdam try`: the same pod once in every proved handler, one after another, and what was
//! different.
//!
//! - [`copy`]: the pod as it is tried under a handler
//! - [`trial`]: one try, from start to removal; [`condition`]: when a server is ready
//! - [`output`], [`diff`]: what was written, and which lines differ
//! - [`verdict`]: what is thought of it; [`report`]: what is shown

mod condition;
mod copy;
mod diff;
mod output;
mod progress;
mod report;
mod trial;
mod verdict;

use crate::args::{Global, Output};
use crate::commands::run;
use crate::owner::Keeper;
use crate::settings::Settings;
use crate::world::Manifests;
use crate::{EXIT_DENIED, show};
use anyhow::{Result, bail};
use clap::Args;
use cofferdam_engine::Engine;
use cofferdam_manifest::nearest;
use cofferdam_handlers::HandlerTable;
use cofferdam_model::cri::{FEATURE_CONTAINER_LIMITS, HandlerStatus};
use cofferdam_node::{EXIT_ENDED, EXIT_LEFT_BEHIND, EXIT_NOT_STARTED, Machine, PodSetup};
use condition::Until;
use progress::Progress;
use report::Tried;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;
use trial::Stage;
use verdict::{Trial, judge, overheads};

/// Exit code where a pod behaved differently under some handler.
const EXIT_DIFFERS: u8 = 1;

/// Options of `try`.
#[derive(Debug, Clone, Args)]
pub(crate) struct TryArgs {
    /// Manifests: files, folders, or - for standard input
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Only under this handler; may be given several times
    #[arg(long = "handler", value_name = "NAME")]
    handlers: Vec<String>,
    /// The handler that the others are compared with [default: the default handler]
    #[arg(long, value_name = "NAME")]
    reference: Option<String>,
    /// The pod is a server, ready when http://:PORT/PATH answers 2xx or exec:COMMAND ends with 0 in its
    /// first container; then it is ended
    #[arg(long, value_name = "CONDITION")]
    until: Option<String>,
    /// Seconds until a server must be ready, and other pods must have ended
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    until_timeout: u64,
    /// Shell command to run in the first container once the pod is ready, or runs; its exit code, output
    /// and time are compared too, and then the pod is ended
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
    /// Format
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Examples and what a person should know, for `--help`.
pub(crate) const HELP: &str = "Examples:
  cofferdam try -f job.yaml
  cofferdam try -f web.yaml --until http://:8080/health --exec 'wget -qO- localhost:8080/load'
  cofferdam try -f job.yaml --handler runc --handler gvisor -o json

The pod runs under weaker handlers than its class names too: try only what you trust.
Each container is started once, whatever restartPolicy says.

Exit code: 0 the pod behaved the same under every handler that was tried, 1 it did not,
120 an error, 121 a pod was not admitted, 124 it became ready under none, 125 it started
under none.";

/// Tries the pods of manifests.
pub(crate) fn attempt(global: &Global, args: &TryArgs) -> Result<u8> {
    let until = args.until.as_deref().map(Until::parse).transpose()?;
    Settings::need_root()?;
    let settings = Settings::read(global).insist()?;
    settings.warn();
    let manifests = read(args)?;
    let keeper = Keeper::open(&settings.layout)?;
    let engine = settings.open()?;
    let mut progress = Progress::new();
    progress.about("proving handlers".into());
    let chosen = Chosen::of(&prove(&engine), args)?;

    let dirs = run::dirs(&settings.layout);
    // Each pod is tried under every handler, and what one of them refuses is part of the answer.
    let table = HandlerTable { untrusted: settings.loaded.table.untrusted.clone(), ..HandlerTable::default() };
    let (setups, refused, warnings) = manifests.admit(&table, Machine::detect(&dirs).memory);
    warnings
        .iter()
        .for_each(|warning| progress.tell(format_args!("cofferdam: warning: {warning}")));
    refused
        .iter()
        .for_each(|refused| progress.tell(format_args!("cofferdam: not admitted: {}", refused.reason)));
    let node = run::node(&settings, &engine, dirs, &manifests)?;
    let limit = Duration::from_secs(args.until_timeout);
    let stage = Stage {
        engine,
        desk: &keeper.desk,
        node,
        until,
        limit,
        exec: args.exec.clone(),
    };
    let mut tried = Vec::new();
    for (setup, count) in copy::without_replicas(setups) {
        tried.push(try_one(&stage, &setup, count, &chosen, &mut progress)?);
    }
    drop(progress);
    let denied: Vec<_> = refused
        .iter()
        .map(|r| json!({"name": r.pod.metadata.name, "namespace": r.pod.metadata.namespace_or_default(), "reason": r.reason}))
        .collect();
    match args.output {
        Output::Json => show::json(&report::value(&tried, &chosen.unproved, &denied))?,
        Output::Table => show::say(report::text(&tried, &chosen.unproved)),
    }
    Ok(code(&tried, !denied.is_empty()))
}

fn read(args: &TryArgs) -> Result<Manifests> {
    let manifests = Manifests::decode(&Manifests::texts(&args.files)?)?;
    for warning in &manifests.warnings {
        show::tell(format_args!("cofferdam: warning: {warning}"));
    }
    if manifests.is_empty() {
        bail!("the manifests hold no Pod and no Deployment: there is nothing to try");
    }
    Ok(manifests)
}

fn prove(engine: &Engine) -> Vec<HandlerStatus> {
    engine.prove_ahead(&engine.table().names().map(str::to_owned).collect());
    engine.handler_statuses()
}

/// One pod under every chosen handler.
fn try_one(stage: &Stage<'_>, setup: &PodSetup, count: usize, chosen: &Chosen, progress: &mut Progress) -> Result<Tried> {
    let meta = &setup.pod.metadata;
    let pod = match meta.namespace_or_default() {
        "default" => meta.name.clone(),
        namespace => format!("{namespace}/{}", meta.name),
    };
    let own = if setup.handler.is_empty() {
        chosen.default.as_str()
    } else {
        setup.handler.as_str()
    };
    for note in notes(setup, &pod, count, own, chosen) {
        progress.tell(format_args!("cofferdam: {note}"));
    }
    let mut trials: Vec<Trial> = Vec::new();
    for (number, handler) in chosen.handlers.iter().enumerate() {
        progress.about(format!(
            "trying {pod} under {handler} ({} of {})",
            number + 1,
            chosen.handlers.len()
        ));
        let mut trial = stage.run(copy::for_handler(setup, handler, own), progress)?;
        trial.apart = chosen.apart.contains(handler);
        if let Some(left) = &trial.left_behind {
            progress.tell(format_args!("cofferdam: {pod} under {handler}: {left}"));
        }
        trials.push(trial);
    }
    overheads(&mut trials);
    let judged: Vec<_> = trials.iter().map(|trial| judge(&trials[0], trial)).collect();
    Ok(Tried {
        pod,
        stands_for: count,
        trials: trials.into_iter().zip(judged).collect(),
    })
}

/// What a person should know before a pod is tried, in sentences.
fn notes(setup: &PodSetup, pod: &str, count: usize, own: &str, chosen: &Chosen) -> Vec<String> {
    let mut notes = Vec::new();
    let others: Vec<&str> = chosen.handlers.iter().map(String::as_str).filter(|name| *name != own).collect();
    if let Some(class) = setup.class.as_ref().filter(|_| !others.is_empty()) {
        notes.push(format!(
            "warning: pod {pod} names RuntimeClass \"{class}\", and is tried under {} too",
            report::names(others)
        ));
    }
    if count > 1 {
        notes.push(format!("pod {pod} is tried for {count} pods of the same specification"));
    }
    notes.extend(copy::dependence(&setup.pod).map(|note| format!("warning: pod {pod}: {note}")));
    notes
}

/// The handlers that are tried.
#[derive(Debug)]
struct Chosen {
    /// By name; the reference first.
    handlers: Vec<String>,
    /// Those of them that keep the containers' memory apart from the enclosure's.
    apart: BTreeSet<String>,
    /// The default handler; empty where there is none.
    default: String,
    /// Those that are never run.
    unproved: Vec<HandlerStatus>,
}

impl Chosen {
    /// Those of `all` that `args` ask for. One that is asked for by name must be there and proved.
    fn of(all: &[HandlerStatus], args: &TryArgs) -> Result<Self> {
        for name in args.handlers.iter().chain(&args.reference) {
            let Some(status) = all.iter().find(|h| h.name == *name) else {
                return Err(unknown(all, name));
            };
            if let Some(reason) = &status.unproved {
                bail!("{}", unproved(name, reason));
            }
        }
        let asked =
            |h: &HandlerStatus| args.handlers.is_empty() || args.handlers.contains(&h.name) || args.reference.as_ref() == Some(&h.name);
        let (mut handlers, mut left) = (Vec::new(), Vec::new());
        for handler in all.iter().filter(|h| asked(h)) {
            if handler.unproved.is_none() {
                handlers.push(handler.name.clone())
            } else {
                left.push(handler.clone())
            }
        }
        let default = all.iter().find(|h| h.default).map(|h| h.name.clone()).unwrap_or_default();
        let reference = args.reference.as_ref().unwrap_or(&default);
        // Stable: the others stay in the order of their names.
        handlers.sort_by_key(|name| name != reference);
        if handlers.is_empty() {
            let reasons: Vec<_> = left
                .iter()
                .map(|h| unproved(&h.name, h.unproved.as_deref().unwrap_or_default()))
                .collect();
            bail!(
                "there is no proved handler to try a pod under; see: cofferdam handlers\n{}",
                reasons.join("\n")
            );
        }
        let apart = |h: &&HandlerStatus| h.features.get(FEATURE_CONTAINER_LIMITS) == Some(&true);
        let apart = all.iter().filter(apart).map(|h| h.name.clone()).collect();
        Ok(Self {
            handlers,
            apart,
            default,
            unproved: left,
        })
    }
}

fn unknown(all: &[HandlerStatus], name: &str) -> anyhow::Error {
    let names: Vec<&str> = all.iter().map(|h| h.name.as_str()).collect();
    match nearest(name, names.iter().copied()) {
        Some(near) => anyhow::anyhow!("there is no handler \"{name}\"; did you mean handler \"{near}\"?"),
        None => anyhow::anyhow!("there is no handler \"{name}\"; there are: {}", names.join(", ")),
    }
}

/// The reason names the handler already where a canary failed.
fn unproved(name: &str, reason: &str) -> String {
    if reason.contains(&format!("\"{name}\"")) {
        reason.to_owned()
    } else {
        format!("handler \"{name}\" is not proved: {reason}")
    }
}

/// The exit code: a difference stands before what was the same and not as wanted.
fn code(tried: &[Tried], denied: bool) -> u8 {
    let all = |of: fn(&Trial) -> bool| tried.iter().any(|pod| pod.trials.iter().all(|(trial, _)| of(trial)));
    let ours = |code: i32| u8::try_from(code).unwrap_or(crate::EXIT_ERROR);
    match () {
        () if tried.iter().any(|pod| !pod.same()) => EXIT_DIFFERS,
        () if all(|t| !t.started) => ours(EXIT_NOT_STARTED),
        () if all(|t| t.until.as_ref().is_some_and(|u| u.micros.is_none())) => ours(EXIT_ENDED),
        () if denied => EXIT_DENIED,
        () if tried
            .iter()
            .flat_map(|pod| &pod.trials)
            .any(|(trial, _)| trial.left_behind.is_some()) =>
        {
            ours(EXIT_LEFT_BEHIND)
        }
        () => 0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeMap;
    use verdict::Reached;

    fn status(name: &str, default: bool, unproved: Option<&str>) -> HandlerStatus {
        let unproved = unproved.map(str::to_owned);
        HandlerStatus {
            name: name.into(),
            default,
            binary: None,
            version: None,
            driver: "oci".into(),
            unproved,
            features: BTreeMap::new(),
        }
    }

    fn args(handlers: &[&str], reference: Option<&str>) -> TryArgs {
        TryArgs {
            files: vec![],
            handlers: handlers.iter().map(|h| (*h).to_owned()).collect(),
            reference: reference.map(str::to_owned),
            until: None,
            until_timeout: 60,
            exec: None,
            output: Output::Table,
        }
    }

    #[test]
    fn proved_handlers_are_tried_and_the_reference_first() {
        let all = [
            status("crun", false, None),
            status("kata", false, Some("no KVM")),
            status("runc", true, None),
            status("runsc", false, None),
        ];
        for (handlers, reference, want) in [
            (&[][..], None, Ok("runc crun runsc not kata")),
            (&[], Some("runsc"), Ok("runsc crun runc not kata")),
            (&["runsc", "crun"], None, Ok("crun runsc not ")),
            (&["runsc"], Some("crun"), Ok("crun runsc not ")),
            (&["kata"], None, Err("handler \"kata\" is not proved: no KVM")),
            (&[], Some("kata"), Err("handler \"kata\" is not proved: no KVM")),
            (&["runcs"], None, Err("did you mean handler \"runc\"?")),
            (&["firecracker"], None, Err("there are: crun, kata, runc, runsc")),
        ] {
            let got = Chosen::of(&all, &args(handlers, reference)).map_err(|e| e.to_string());
            let got = got.map(|c| {
                format!(
                    "{} not {}",
                    c.handlers.join(" "),
                    c.unproved.iter().map(|h| h.name.as_str()).collect::<Vec<_>>().join(" ")
                )
            });
            match want {
                Ok(want) => assert_eq!(got.as_deref(), Ok(want)),
                Err(want) => assert!(got.as_ref().is_err_and(|e| e.contains(want)), "{got:?}"),
            }
        }
        let none = Chosen::of(&all[1..2], &args(&[], None)).unwrap_err().to_string();
        assert!(none.contains("no proved handler") && none.contains("no KVM"), "{none}");
    }

    #[test]
    fn the_exit_code_tells_how_it_went() {
        let good = |handler: &str| Trial {
            handler: handler.into(),
            started: true,
            ..Trial::default()
        };
        let change = |change: fn(&mut Trial)| {
            let mut trial = good("crun");
            change(&mut trial);
            trial
        };
        let waits = |trial: &mut Trial| trial.until = Some(Reached::default());
        let both = |of: fn(&mut Trial)| {
            let mut first = good("runc");
            of(&mut first);
            vec![first, change(of)]
        };
        for (trials, denied, want) in [
            (vec![good("runc"), good("crun")], false, 0),
            (vec![good("runc"), good("crun")], true, 121),
            (vec![good("runc"), change(|t| t.started = false)], true, 1),
            (both(|t| t.started = false), false, 125),
            (both(waits), false, 124),
            (vec![good("runc"), change(|t| t.left_behind = Some("x".into()))], false, 122),
        ] {
            let judged: Vec<_> = trials.iter().map(|t| judge(&trials[0], t)).collect();
            let tried = Tried {
                pod: "p".into(),
                stands_for: 1,
                trials: trials.into_iter().zip(judged).collect(),
            };
            assert_eq!(code(&[tried], denied), want);
        }
        assert_eq!(code(&[], true), 121);
    }
}
