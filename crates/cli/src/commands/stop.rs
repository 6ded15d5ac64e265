//! `cofferdam stop`: ends pods, and removes all that is theirs.

use crate::args::Global;
use crate::commands::{pods, run};
use crate::owner;
use crate::settings::Settings;
use crate::show;
use anyhow::{Result, bail};
use cofferdam_engine::Engine;
use cofferdam_host::remove;
use cofferdam_model::cri::SandboxStatus;
use std::path::Path;
use std::time::Duration;

/// Seconds between SIGTERM and SIGKILL for a pod that nobody keeps: Kubernetes' default.
const GRACE: u64 = 30;
/// How often the process that keeps a pod is asked whether it is over.
const POLL: Duration = Duration::from_millis(20);

/// Stops pods by name, or all.
pub(crate) fn stop(global: &Global, wanted: &[String], all: bool, grace: Option<u64>) -> Result<u8> {
    let settings = Settings::read(global).insist()?;
    let engine = settings.open()?;
    let chosen = if all { pods::all(&engine)? } else { wanted.iter().map(|w| pods::find(&engine, w)).collect::<Result<_>>()? };
    let peers = owner::peers(&settings.layout);
    // All are asked before any is waited for.
    let mut kept = Vec::new();
    for pod in &chosen {
        let (namespace, name) = (&pod.config.namespace, &pod.config.name);
        for peer in &peers {
            if peer.stop(namespace, name, grace)? {
                kept.push((peer, pod));
            }
        }
    }
    for (peer, pod) in &kept {
        while peer.keeps(&pod.config.namespace, &pod.config.name) {
            std::thread::sleep(POLL);
        }
    }
    let mut failed = Vec::new();
    for pod in &chosen {
        match end(&engine, pod, grace) {
            Ok(()) => show::say(format_args!("{}/{} stopped", pod.config.namespace, pod.config.name)),
            Err(e) => failed.push(format!("{}/{}: {e}", pod.config.namespace, pod.config.name)),
        }
    }
    if !failed.is_empty() {
        bail!("not all is gone, and what stays is tried again by the next command: {}", failed.join("; "));
    }
    if all {
        engine.tear_down()?;
        let dirs = run::dirs(&settings.layout);
        for dir in [dirs.volumes, dirs.secrets, dirs.logs] {
            clear(&dir)?;
        }
    }
    Ok(0)
}

/// Ends a pod that nobody keeps, and what is left of one that somebody kept.
fn end(engine: &Engine, pod: &SandboxStatus, grace: Option<u64>) -> Result<()> {
    let grace = Duration::from_secs(grace.unwrap_or(GRACE));
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
            clear(&dir.join(&pod.config.uid))?;
        }
    }
    if pod.config.log_directory.starts_with(engine.layout().root.join("logs")) {
        clear(&pod.config.log_directory)?;
    }
    Ok(())
}

/// Removes a tree, which the process that kept the pod may be removing too.
fn clear(dir: &Path) -> Result<()> {
    match remove::remove_tree(dir) {
        Err(e) if !e.is_absent() => Err(e.into()),
        _ => Ok(()),
    }
}
