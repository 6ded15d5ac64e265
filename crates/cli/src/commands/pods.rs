//! The pods that there are, and finding one by what a person types.

use crate::ended::{self, Ended};
use crate::owner::{self, Peers};
use anyhow::{Result, bail};
use cofferdam_engine::Engine;
use cofferdam_manifest::nearest;
use cofferdam_model::cri::{ContainerState, ContainerStatus, SandboxStatus};
use serde_json::Value;
use std::collections::BTreeSet;

/// Digits of an id that are enough to name a pod.
const LEAST_ID: usize = 4;

/// Everything that is known of pods: their sandboxes, what the processes that keep them say, and how
/// those ended that nobody keeps any more.
#[derive(Debug)]
pub(crate) struct Census {
    pub(crate) peers: Peers,
    pub(crate) sandboxes: Vec<SandboxStatus>,
    pub(crate) ended: Vec<Ended>,
}

impl Census {
    /// Looks now. A pod goes from its owner's views to the ended ones, so it is asked in that order.
    pub(crate) fn take(engine: &Engine) -> Result<Self> {
        let peers = owner::peers(engine.layout());
        Ok(Self {
            peers,
            sandboxes: engine.list_sandboxes()?,
            ended: ended::all(engine.layout()),
        })
    }

    /// The views of pods that are not over.
    pub(crate) fn live(&self) -> impl Iterator<Item = &Value> {
        self.peers.views().filter(|v| v["ended"] == false)
    }

    /// The error for a pod that has no sandbox.
    pub(crate) fn absent(&self, wanted: &str) -> anyhow::Error {
        let of = |v: &Value| is_meant(wanted, text(v, "namespace"), text(v, "name"), "");
        if self.live().any(of) {
            return anyhow::anyhow!("pod \"{wanted}\" has not begun yet");
        }
        if self.peers.views().chain(self.ended.iter().map(|e| &e.view)).any(of) {
            return anyhow::anyhow!("pod \"{wanted}\" is over; see: cofferdam ps --all");
        }
        self.unknown(wanted)
    }

    /// The error for a pod that is not here: which was meant, or which there are.
    fn unknown(&self, wanted: &str) -> anyhow::Error {
        let of_views = self.live().map(|v| (text(v, "namespace"), text(v, "name")));
        let of_sandboxes = self.sandboxes.iter().map(|s| (s.config.namespace.as_str(), s.config.name.as_str()));
        let ended = self.ended.iter().map(|e| (e.text("namespace"), e.text("name")));
        let all: BTreeSet<String> = of_views.chain(of_sandboxes).chain(ended).map(|(n, p)| format!("{n}/{p}")).collect();
        let (namespace, name) = split(wanted);
        let full = format!("{namespace}/{name}");
        // Perhaps the namespace is missing, perhaps there is a typing mistake.
        let elsewhere = all
            .iter()
            .find(|other| !wanted.contains('/') && other.rsplit('/').next() == Some(name));
        match elsewhere
            .map(String::as_str)
            .or_else(|| nearest(&full, all.iter().map(String::as_str)))
        {
            Some(near) => anyhow::anyhow!("pod \"{wanted}\" is not here; did you mean {near}?"),
            None if all.is_empty() => anyhow::anyhow!("pod \"{wanted}\" is not here; there is none"),
            None => anyhow::anyhow!(
                "pod \"{wanted}\" is not here; there are: {}",
                all.into_iter().collect::<Vec<_>>().join(", ")
            ),
        }
    }
}

/// A text of a view; empty where there is none.
pub(crate) fn text<'a>(view: &'a Value, key: &str) -> &'a str {
    view[key].as_str().unwrap_or_default()
}

/// Whether a person means the pod of this namespace, name and id.
pub(crate) fn is_meant(wanted: &str, namespace: &str, name: &str, id: &str) -> bool {
    (namespace, name) == split(wanted) || (wanted.len() >= LEAST_ID && id.starts_with(wanted))
}

/// The pod of `NAME`, `NAMESPACE/NAME` or the beginning of its id, where it has a sandbox.
pub(crate) fn find(engine: &Engine, wanted: &str) -> Result<SandboxStatus> {
    let pods = engine.list_sandboxes()?;
    let (namespace, name) = split(wanted);
    let by_name = |p: &&SandboxStatus| p.config.name == name && p.config.namespace == namespace;
    if let Some(pod) = pods.iter().find(by_name) {
        return Ok(pod.clone());
    }
    let by_id: Vec<_> = pods
        .iter()
        .filter(|p| wanted.len() >= LEAST_ID && p.id.as_str().starts_with(wanted))
        .collect();
    match by_id.as_slice() {
        [pod] => Ok((*pod).clone()),
        [] => Err(Census::take(engine)?.absent(wanted)),
        _ => bail!("\"{wanted}\" begins the id of {} pods; give more of it", by_id.len()),
    }
}

/// Namespace and name of what a person types.
pub(crate) fn split(wanted: &str) -> (&str, &str) {
    wanted.split_once('/').unwrap_or(("default", wanted))
}

/// The newest container of each name, in the order in which the first were made.
pub(crate) fn newest(all: Vec<ContainerStatus>) -> Vec<ContainerStatus> {
    let mut kept: Vec<ContainerStatus> = Vec::new();
    for container in all {
        match kept.iter_mut().find(|k| k.config.name == container.config.name) {
            Some(old) => *old = container,
            None => kept.push(container),
        }
    }
    kept
}

/// The container of a name, or the only one, or (where `first` will do) the first.
pub(crate) fn container(engine: &Engine, pod: &SandboxStatus, wanted: Option<&str>, first: bool) -> Result<ContainerStatus> {
    choose(pod, engine.list_containers(Some(&pod.id))?, wanted, first)
}

/// The same among those that were listed.
pub(crate) fn choose(pod: &SandboxStatus, all: Vec<ContainerStatus>, wanted: Option<&str>, first: bool) -> Result<ContainerStatus> {
    let all = newest(all);
    let names: Vec<_> = all.iter().map(|c| c.config.name.clone()).collect();
    let chosen = match wanted {
        Some(name) => all.into_iter().find(|c| c.config.name == name),
        None if all.len() > 1 && !first => {
            bail!(
                "pod \"{}\" has several containers; choose one with -c: {}",
                pod.config.name,
                names.join(", ")
            )
        }
        None => {
            let running = all.iter().find(|c| c.state == ContainerState::Running).cloned();
            running.or_else(|| all.into_iter().next())
        }
    };
    match (chosen, wanted) {
        (Some(container), _) => Ok(container),
        (None, Some(name)) => Err(no_container(&pod.config.name, name, &names)),
        (None, None) => bail!("pod \"{}\" has no container yet", pod.config.name),
    }
}

/// The error for a container that a pod does not have.
pub(crate) fn no_container(pod: &str, wanted: &str, names: &[String]) -> anyhow::Error {
    match nearest(wanted, names.iter().map(String::as_str)) {
        Some(near) => anyhow::anyhow!("pod \"{pod}\" has no container \"{wanted}\"; did you mean {near}?"),
        None => anyhow::anyhow!("pod \"{pod}\" has no container \"{wanted}\"; it has: {}", names.join(", ")),
    }
}
