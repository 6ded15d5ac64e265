//! `cofferdam cri`: the daemon that serves a kubelet. It may end at any moment: the pods go on, and the next
//! one takes them over.
//!
//! - [`hold`]: that there is one of it
//! - [`notify`]: what systemd is told
//! - [`stop`](mod@stop): how it ends

mod hold;
mod notify;
mod options;
mod stop;

pub(crate) use hold::{holder, is_kubelets};

use crate::args::Global;
use crate::settings::{self, Settings};
use crate::show;
use anyhow::{Context, Result};
use cofferdam_cri_server::NoHooks;
use cofferdam_engine::Engine;
use std::collections::BTreeSet;
use std::sync::Arc;

pub(crate) const HELP: &str = "\
Examples:
  cofferdam cri                                what the systemd unit of `cofferdam install` runs
  cofferdam --config ./config.toml cri
  crictl --runtime-endpoint unix:///run/cofferdam/cri.sock info

SIGTERM ends it and no pod. SIGHUP has the configuration read again; a changed file is taken by itself.
What it serves and where stands in [cri] of the configuration: cofferdam config";

/// Serves until SIGTERM or SIGINT.
pub(crate) fn cri(global: &Global) -> Result<u8> {
    let settings = Settings::read(global).insist()?;
    settings.warn();
    Settings::need_root()?;
    let held = hold::Hold::take(&settings.layout)?;
    let options = options::options(&settings)?;
    // Signals are ours before anything is made that they could cut short.
    let (stop, end) = stop::pair();
    let signals = stop::Signals::take(end.clone())?;
    let engine = settings.open()?;
    if let Some(spare) = &settings.loaded.table.settings.cri.spare_networks {
        engine.keep_networks_ready(usize::try_from(spare.value).unwrap_or(usize::MAX));
    }
    let watcher = settings::watch(global, &settings, engine.clone())?;
    signals.on_reload(watcher);
    prove(&engine)?;
    let socket = options.socket.clone();
    notify::when_served(&socket, end)?;
    let served = cofferdam_cri_server::run(options, engine, Arc::new(NoHooks), stop);
    notify::tell("STOPPING=1");
    drop(held);
    served.with_context(|| format!("{} is not served", socket.display()))?;
    show::tell("cofferdam: ended; the pods go on");
    Ok(0)
}

/// Proves all handlers by a thread of its own: a kubelet is answered at once, and a pod waits only for its own
/// handler's proof.
fn prove(engine: &Arc<Engine>) -> Result<()> {
    let engine = engine.clone();
    let work = move || {
        let names: BTreeSet<String> = engine.table().names().map(str::to_owned).collect();
        engine.prove_ahead(&names);
    };
    std::thread::Builder::new().name("proofs".into()).spawn(work).context("handlers cannot be proved ahead")?;
    Ok(())
}
