//! `cofferdam cri`: the daemon that serves a kubelet. It may end at any moment: the pods go on, and the next
//! one takes them over.
//!
//! - [`hold`]: that there is one of it
//! - [`notify`]: what systemd is told
//! - [`observe`], [`plugins`]: telemetry and NRI, as they are configured
//! - [`recovery`]: what the daemon before it left
//! - [`stop`](mod@stop): how it ends

mod hold;
mod notify;
mod observe;
mod options;
mod plugins;
mod recovery;
mod stop;

pub(crate) use hold::holder;

use crate::args::Global;
use crate::settings::{self, Settings};
use anyhow::{Context, Result};
use cofferdam_engine::Engine;
use cofferdam_telemetry::{Log, Telemetry};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const HELP: &str = "\
Examples:
  cofferdam cri                                what the systemd unit of `cofferdam install` runs
  cofferdam --config ./config.toml cri
  crictl --runtime-endpoint unix:///run/cofferdam/cri.sock info

SIGTERM ends it and no pod. SIGHUP has the configuration read again; a changed file is taken by itself.
What it serves and where stands in [cri] of the configuration: cofferdam config";

/// How long spans that wait may take to be sent at the end.
const PARTING: Duration = Duration::from_secs(2);

/// Serves until SIGTERM or SIGINT.
pub(crate) fn cri(global: &Global) -> Result<u8> {
    // Before any thread is made.
    cofferdam_host::memory::frugal_heap();
    let settings = Settings::read(global).insist()?;
    Settings::need_root()?;
    let held = hold::Hold::take(&settings.layout)?;
    let telemetry = observe::start(&settings)?;
    let served = serve(global, &settings, held, &telemetry);
    // Of a start that failed, too.
    telemetry.shutdown(PARTING);
    served.map(|()| 0)
}

fn serve(global: &Global, settings: &Settings, held: hold::Hold, telemetry: &Telemetry) -> Result<()> {
    let start = telemetry.work("start");
    let log = telemetry.log().clone();
    let told = log.clone();
    cofferdam_engine::tell_through(move |line| told.warn(line, &[]));
    for warning in settings.warnings() {
        log.warn(&warning, &[]);
    }
    let options = options::options(settings, telemetry.clone())?;
    // Signals are ours before anything is made that they could cut short.
    let (stop, end) = stop::pair();
    let signals = stop::Signals::take(end.clone())?;
    let engine = recovery::open(settings, &start, &log)?;
    if let Some(spare) = &settings.loaded.table.settings.cri.spare_networks {
        engine.keep_networks_ready(usize::try_from(spare.value).unwrap_or(usize::MAX));
    }
    let told = log.clone();
    let watcher = settings::watch(global, settings, engine.clone(), Box::new(move |level, text| told.write(level, text, &[])))?;
    signals.on_reload(watcher);
    prove(&engine, &log)?;
    let socket = options.socket.clone();
    let span = start.part("plugins");
    let hooks = plugins::start(settings, &engine, &log)?;
    span.end(Ok(()));
    let (ready, span) = (telemetry.clone(), start.part("serve"));
    let (told, at) = (log.clone(), socket.display().to_string());
    let then = move || {
        ready.set_ready(true);
        told.info("CRI is served", &[("socket", at.as_str()), ("version", env!("CARGO_PKG_VERSION"))]);
        span.end(Ok(()));
        start.end(Ok(()));
    };
    notify::when_served(&socket, end, then)?;
    let served = cofferdam_cri_server::run(options, engine, hooks, stop);
    telemetry.set_ready(false);
    notify::tell("STOPPING=1");
    drop(held);
    served?;
    log.info("ended; the pods go on", &[]);
    Ok(())
}

/// Proves all handlers by a thread of its own: a kubelet is answered at once, and a pod waits only for its own
/// handler's proof. What no pod can start under is told.
fn prove(engine: &Arc<Engine>, log: &Log) -> Result<()> {
    let (engine, log) = (engine.clone(), log.clone());
    let work = move || {
        let table = engine.table();
        let names: BTreeSet<String> = table.names().filter(|name| table.is_wanted(name)).map(str::to_owned).collect();
        engine.prove_ahead(&names);
        for handler in engine.handler_statuses().iter().filter(|handler| table.is_wanted(&handler.name)) {
            if let Some(why) = &handler.unproved {
                log.warn("no pod can start under this handler", &[("handler", handler.name.as_str()), ("error", why.as_str())]);
            }
        }
        cofferdam_host::memory::give_back();
    };
    std::thread::Builder::new().name("proofs".into()).spawn(work).context("handlers cannot be proved ahead")?;
    Ok(())
}
