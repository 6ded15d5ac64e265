//! `cofferdam stop`: ends pods, and removes all that is theirs.
//!
//! The processes that keep pods are asked first, for pods too that have not begun; what then is left
//! belongs to no living process, and is ended here.

use crate::args::{Global, StopArgs};
use crate::commands::pods::{self, Census, is_meant, text};
use crate::commands::{cri, run};
use crate::ended;
use crate::owner::desk::DEFAULT_GRACE;
use crate::owner::{self, Order};
use crate::settings::Settings;
use crate::show;
use anyhow::{Result, bail};
use cofferdam_engine::Engine;
use cofferdam_model::cri::SandboxStatus;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How often the processes that keep pods are asked whether these are over.
const POLL: Duration = Duration::from_millis(20);
/// What a pod's end may take beyond its grace: an image that is being unpacked, a removal that is tried
/// again.
const MARGIN: Duration = Duration::from_secs(60);
/// Waiting for longer than this is told.
const SILENCE: Duration = Duration::from_secs(1);

/// Namespace and name of a pod.
type Name = (String, String);

/// Stops pods by name, or all.
pub(crate) fn stop(global: &Global, args: &StopArgs) -> Result<u8> {
    let settings = Settings::read(global).insist()?;
    let engine = settings.open()?;
    if args.all {
        stop_all(&engine, args)?
    } else {
        stop_some(&engine, args)?
    }
    Ok(0)
}

/// Refuses pods that a kubelet keeps, before anything is stopped: it would start them anew.
fn leave_kubelets(engine: &Engine, pods: &[&SandboxStatus], args: &StopArgs) -> Result<()> {
    if args.force || cri::holder(engine.layout()).is_none() {
        return Ok(());
    }
    let kept = pods.iter().filter(|p| p.config.served);
    let names: BTreeSet<String> = kept.map(|p| format!("{}/{}", p.config.namespace, p.config.name)).collect();
    let list = names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => Ok(()),
        _ if args.all => bail!("a kubelet keeps {list}, and nothing is stopped: use kubectl drain, or give --force to end them all the same"),
        _ => bail!("a kubelet keeps {list}, and nothing is stopped: use kubectl delete pod, or give --force to end it all the same"),
    }
}

fn stop_some(engine: &Engine, args: &StopArgs) -> Result<()> {
    let census = Census::take(engine)?;
    let grace = args.grace;
    let names = args.pods.iter().map(|w| choose(&census, w)).collect::<Result<BTreeSet<Name>>>()?;
    let here = census.sandboxes.iter().filter(|p| names.contains(&(p.config.namespace.clone(), p.config.name.clone())));
    leave_kubelets(engine, &here.collect::<Vec<_>>(), args)?;
    let meant = |v: &Value| v["ended"] == false && names.contains(&name_of(v));
    let mut wait = Wait::new();
    // All are asked before any is waited for.
    for peer in &census.peers.answering {
        for view in peer.views.iter().filter(|v| meant(v)) {
            let order = Order {
                pod: Some(name_of(view)),
                grace,
            };
            wait.allow(peer.stop(&order)?);
        }
    }
    loop {
        let peers = owner::peers(engine.layout());
        let left: Vec<String> = peers.views().filter(|v| meant(v)).map(|v| full(&name_of(v))).collect();
        if left.is_empty() {
            break;
        }
        wait.go_on(left)?;
    }
    let left = engine
        .list_sandboxes()?
        .into_iter()
        .filter(|p| names.contains(&(p.config.namespace.clone(), p.config.name.clone())));
    end_all(engine, &left.collect::<Vec<_>>(), grace)?;
    for old in ended::all(engine.layout()).iter().filter(|e| names.contains(&name_of(&e.view))) {
        old.remove(engine.layout())?;
    }
    names.iter().for_each(|name| show::say(format_args!("{} stopped", full(name))));
    Ok(())
}

/// The pod that a person means: one that runs or will, or one that is over.
fn choose(census: &Census, wanted: &str) -> Result<Name> {
    let of_views = census.live().map(|v| (name_of(v), text(v, "sandbox")));
    let of_sandboxes = census
        .sandboxes
        .iter()
        .map(|p| ((p.config.namespace.clone(), p.config.name.clone()), p.id.as_str()));
    let of_ended = census.ended.iter().map(|e| (name_of(&e.view), ""));
    let all: Vec<(Name, &str)> = of_views.chain(of_sandboxes).chain(of_ended).collect();
    let (namespace, name) = pods::split(wanted);
    let named = (namespace.to_owned(), name.to_owned());
    if all.iter().any(|(name, _)| *name == named) {
        return Ok(named);
    }
    let meant: BTreeSet<Name> = all
        .into_iter()
        .filter(|((n, p), id)| is_meant(wanted, n, p, id))
        .map(|(name, _)| name)
        .collect();
    match meant.len() {
        0 => Err(census.absent(wanted)),
        1 => Ok(meant.into_iter().next().unwrap_or(named)),
        many => bail!("\"{wanted}\" begins the id of {many} pods; give more of it"),
    }
}

fn stop_all(engine: &Engine, args: &StopArgs) -> Result<()> {
    let census = Census::take(engine)?;
    let grace = args.grace;
    leave_kubelets(engine, &census.sandboxes.iter().collect::<Vec<_>>(), args)?;
    let of_sandboxes = census.sandboxes.iter().map(|p| (p.config.namespace.clone(), p.config.name.clone()));
    let names: BTreeSet<Name> = census.live().map(name_of).chain(of_sandboxes).collect();
    // Held until all is torn down: who wants to keep pods meanwhile waits.
    let _alone = ask_all(engine, grace)?;
    end_all(engine, &engine.list_sandboxes()?, grace)?;
    match cri::holder(engine.layout()) {
        // What all pods need, its next ones will.
        Some(pid) => show::tell(format_args!("cofferdam: the daemon runs (process {pid}): the bridge and its rules stay")),
        None => engine.tear_down()?,
    }
    let dirs = run::dirs(engine.layout());
    for dir in [dirs.volumes, dirs.secrets, dirs.logs] {
        ended::clear(&dir)?;
    }
    ended::clear_all(engine.layout())?;
    names.iter().for_each(|name| show::say(format_args!("{} stopped", full(name))));
    Ok(())
}

/// Asks every process that keeps pods to end all of them, and waits until there is none.
fn ask_all(engine: &Engine, grace: Option<u64>) -> Result<owner::Alone> {
    let mut wait = Wait::new();
    let mut asked = BTreeSet::new();
    loop {
        if let Some(alone) = owner::alone(engine.layout())? {
            return Ok(alone);
        }
        let peers = owner::peers(engine.layout());
        for peer in &peers.answering {
            // One that does not answer now is asked again.
            if !asked.contains(&peer.pid)
                && let Ok(patience) = peer.stop(&Order { pod: None, grace })
            {
                wait.allow(patience);
                asked.insert(peer.pid);
            }
        }
        let pods = peers.views().filter(|v| v["ended"] == false).map(|v| full(&name_of(v)));
        let silent = peers
            .silent
            .iter()
            .map(|pid| format!("process {pid}, which keeps pods and does not answer"));
        wait.go_on(pods.chain(silent).collect())?;
    }
}

/// How long pods are waited for.
struct Wait {
    began: Instant,
    patience: Duration,
    said: Vec<String>,
}

impl Wait {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            patience: Duration::ZERO,
            said: Vec::new(),
        }
    }

    /// Pods that may take so many seconds from now on were asked.
    fn allow(&mut self, seconds: Option<u64>) {
        let until = self.began.elapsed() + Duration::from_secs(seconds.unwrap_or_default());
        self.patience = self.patience.max(until);
    }

    /// Waits a moment for `left`, and tells for what where that takes long.
    fn go_on(&mut self, left: Vec<String>) -> Result<()> {
        let so_far = self.began.elapsed();
        let list = if left.is_empty() {
            "a process that keeps pods".to_owned()
        } else {
            left.join(", ")
        };
        if so_far > self.patience + MARGIN {
            bail!(
                "after {} s this is still there, and is left to the process that keeps it: {list}",
                so_far.as_secs()
            );
        }
        if so_far > SILENCE && left != self.said {
            show::tell(format_args!("cofferdam: waiting for the end of {list}"));
            self.said = left;
        }
        std::thread::sleep(POLL);
        Ok(())
    }
}

/// Ends pods that nobody keeps, side by side.
fn end_all(engine: &Engine, pods: &[SandboxStatus], grace: Option<u64>) -> Result<()> {
    let failed: Vec<String> = std::thread::scope(|scope| {
        let ends: Vec<_> = pods.iter().map(|pod| (pod, scope.spawn(move || end(engine, pod, grace)))).collect();
        let outcome = |(pod, end): (&SandboxStatus, std::thread::ScopedJoinHandle<'_, Result<()>>)| {
            let why = match end.join() {
                Ok(ended) => ended.err()?.to_string(),
                Err(_) => "a fault in Cofferdam ended the attempt".to_owned(),
            };
            Some(format!("{}/{}: {why}", pod.config.namespace, pod.config.name))
        };
        ends.into_iter().filter_map(outcome).collect()
    });
    if !failed.is_empty() {
        bail!(
            "not all is gone, and what stays is tried again by the next command: {}",
            failed.join("; ")
        );
    }
    Ok(())
}

/// Ends a pod that nobody keeps, and what is left of one that somebody kept.
fn end(engine: &Engine, pod: &SandboxStatus, grace: Option<u64>) -> Result<()> {
    let grace = Duration::from_secs(grace.unwrap_or(DEFAULT_GRACE));
    let containers = engine.list_containers(Some(&pod.id))?;
    std::thread::scope(|scope| {
        for container in &containers {
            // Removal kills what this could not end.
            scope.spawn(|| engine.stop_container(&container.id, grace));
        }
    });
    engine.remove_sandbox(&pod.id)?;
    let dirs = run::dirs(engine.layout());
    if !pod.config.uid.is_empty() && !pod.config.uid.contains('/') && !pod.config.uid.contains("..") {
        for dir in [dirs.volumes, dirs.secrets] {
            ended::clear(&dir.join(&pod.config.uid))?;
        }
    }
    if pod.config.log_directory.starts_with(&dirs.logs) {
        ended::clear(&pod.config.log_directory)?;
    }
    Ok(())
}

fn name_of(view: &Value) -> Name {
    (text(view, "namespace").to_owned(), text(view, "name").to_owned())
}

fn full((namespace, name): &Name) -> String {
    format!("{namespace}/{name}")
}
