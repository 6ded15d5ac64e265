//! Finding a pod that is to be changed, and the process that keeps it: nobody else can change it.

use super::cri;
use super::pods::{Census, is_meant, text};
use crate::owner::{Peer, PodName, PodNow};
use anyhow::{Result, anyhow, bail};
use cofferdam_engine::Engine;
use serde_json::Value;

/// A pod that goes on, and who keeps it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) peer: Peer,
    pub(super) name: PodName,
    /// The handler that runs it; empty for the default one that has not been chosen yet.
    pub(super) handler: String,
    pub(super) now: PodNow,
}

/// The pod of `NAME`, `NAMESPACE/NAME` or the beginning of its id.
pub(super) fn find(engine: &Engine, wanted: &str) -> Result<Found> {
    let census = Census::take(engine)?;
    let meant = |v: &Value| v["ended"] == false && is_meant(wanted, text(v, "namespace"), text(v, "name"), text(v, "sandbox"));
    let of = |peer: &Peer| {
        peer.views
            .iter()
            .filter(|v| meant(v))
            .map(|v| (peer.clone(), v.clone()))
            .collect::<Vec<_>>()
    };
    let mut all: Vec<(Peer, Value)> = census.peers.answering.iter().flat_map(of).collect();
    match (all.pop(), all.len()) {
        (Some((peer, view)), 0) => {
            let name = PodName {
                namespace: text(&view, "namespace").to_owned(),
                name: text(&view, "name").to_owned(),
            };
            let now = peer
                .pod(&name)?
                .ok_or_else(|| anyhow!("pod \"{wanted}\" is over; see: cofferdam ps --all"))?;
            let handler = text(&view, "handler").to_owned();
            Ok(Found { peer, name, handler, now })
        }
        (Some(_), others) => bail!("\"{wanted}\" begins the id of {} pods; give more of it", others + 1),
        (None, _) => Err(not_kept(engine, &census, wanted)),
    }
}

/// The error for a pod that no process keeps.
fn not_kept(engine: &Engine, census: &Census, wanted: &str) -> anyhow::Error {
    let mut all = census.sandboxes.iter();
    let here = all.find(|p| is_meant(wanted, &p.config.namespace, &p.config.name, p.id.as_str()));
    if here.is_some_and(|p| p.config.served) && cri::holder(engine.layout()).is_some() {
        return anyhow!("pod \"{wanted}\" is a kubelet's, and changed by it alone: use kubectl");
    }
    match (here.is_some(), census.peers.silent.first()) {
        (true, Some(pid)) => anyhow!("pod \"{wanted}\" cannot be changed: process {pid}, which keeps pods, does not answer"),
        (true, None) => anyhow!("pod \"{wanted}\" cannot be changed: no process keeps it any more; stop it, and run it again"),
        (false, _) => census.absent(wanted),
    }
}
