//! `cofferdam run`: manifests in, every pod in the enclosure that its RuntimeClass names.

use crate::args::{Global, Output, RunArgs};
use crate::commands::detach;
use crate::live::Live;
use crate::owner::{self, Desk, Keeper};
use crate::settings::{Settings, Watcher};
use crate::show;
use crate::world::{Manifests, Refused};
use crate::{EXIT_DENIED, EXIT_ERROR};
use anyhow::{Result, bail};
use cofferdam_engine::{Engine, Shared};
use cofferdam_node::{Dirs, Handle, Machine, Node, SystemClock, PodSetup, PodView, exit_code};
use cofferdam_plan::Layout;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often a table is drawn at most.
const FRAME: Duration = Duration::from_millis(80);

/// Runs manifests.
pub(crate) fn run(global: &Global, args: &RunArgs) -> Result<u8> {
    let settings = Settings::read(global).insist()?;
    settings.warn();
    let texts = Manifests::texts(&args.files)?;
    let manifests = Manifests::decode(&texts)?;
    for warning in &manifests.warnings {
        show::tell(format_args!("cofferdam: warning: {warning}"));
    }
    if manifests.is_empty() {
        bail!("the manifests hold no Pod and no Deployment: there is nothing to run");
    }
    if args.detach {
        return detach::detach(global, texts, args);
    }
    let kept = keep(global, &settings, &manifests, args.parallel)?;
    let views = follow(&kept.started.handle, args.output == Output::Table);
    let refused = kept.end();
    if args.output == Output::Json {
        show::json(&report(&views, &refused))?;
    }
    Ok(code(&views, &refused))
}

/// Pods that this process keeps, and what it needs for it.
pub(crate) struct Kept {
    pub(crate) started: Started,
    pub(crate) keeper: Keeper,
    _watcher: Watcher,
}

/// Starts the pods of manifests, to be kept by this process.
pub(crate) fn keep(global: &Global, settings: &Settings, manifests: &Manifests, parallel: usize) -> Result<Kept> {
    Settings::need_root()?;
    let keeper = Keeper::open(&settings.layout)?;
    let engine = settings.open()?;
    let watcher = crate::settings::watch(global, settings, engine.clone(), Box::new(|_, text| show::tell(format_args!("cofferdam: {text}"))))?;
    let started = start(settings, &engine, manifests, parallel, &keeper.desk)?;
    Ok(Kept {
        started,
        keeper,
        _watcher: watcher,
    })
}

impl Kept {
    /// Removes the pods' logs, and what makes this process seen: whatever it still has to
    /// say, nobody need wait for that.
    fn end(self) -> Vec<Refused> {
        for left in self.started.handle.remove_logs() {
            show::tell(format_args!("cofferdam: {left}"));
        }
        self.started.refused
    }
}

/// Pods that were started, and those that were not admitted.
pub(crate) struct Started {
    pub(crate) handle: Arc<Handle>,
    pub(crate) refused: Vec<Refused>,
}

/// Where a node keeps files under a layout.
pub(crate) fn dirs(layout: &Layout) -> Dirs {
    Dirs {
        volumes: layout.root.join("volumes"),
        secrets: layout.state.join("secrets"),
        logs: layout.root.join("logs"),
    }
}

/// A node that runs pods by this engine on this machine.
pub(crate) fn node(settings: &Settings, engine: &Arc<Engine>, dirs: Dirs, manifests: &Manifests) -> Result<Node> {
    let mut machine = Machine { cdi: engine.cdi_devices(), ..Machine::detect(&dirs) };
    if let Some(root) = &settings.loaded.table.settings.seccomp_root {
        machine.seccomp_root.clone_from(&root.value);
    }
    let runtime = Arc::new(Shared(engine.clone()));
    Ok(Node::with(runtime, dirs, manifests.objects(), machine, Arc::new(SystemClock::default()))?)
}

/// Admits and starts the pods of manifests; `desk` knows them before anything of them is made.
pub(crate) fn start(settings: &Settings, engine: &Arc<Engine>, manifests: &Manifests, parallel: usize, desk: &Desk) -> Result<Started> {
    let dirs = dirs(&settings.layout);
    let memory = Machine::detect(&dirs).memory;
    let (mut setups, refused, warnings) = manifests.admit(&settings.loaded.table, memory);
    for warning in warnings {
        show::tell(format_args!("cofferdam: warning: {warning}"));
    }
    for refused in &refused {
        show::tell(format_args!("cofferdam: not admitted: {}", refused.reason));
    }
    // Of two runs that want one name at once, none gets it.
    desk.plan(&mut setups)?;
    unique(engine, &setups)?;
    engine.prove_ahead(&setups.iter().map(|s| s.handler.clone()).collect());
    let node = node(settings, engine, dirs, manifests)?;
    let handle = Arc::new(node.start(setups, parallel)?);
    desk.keep(handle.clone());
    // The node lives as long as its pods: its threads hold what they need.
    Ok(Started { handle, refused })
}

/// A pod of a name that is here already is not started again.
pub(crate) fn unique(engine: &Engine, setups: &[PodSetup]) -> Result<()> {
    let mut here: BTreeMap<(String, String), String> = BTreeMap::new();
    for peer in owner::peers(engine.layout())
        .answering
        .iter()
        .filter(|p| p.pid != std::process::id())
    {
        for view in peer.views.iter().filter(|v| v["ended"] == false) {
            let text = |key: &str| view[key].as_str().unwrap_or_default().to_owned();
            here.insert((text("namespace"), text("name")), format!("process {}", peer.pid));
        }
    }
    for pod in engine.list_sandboxes()? {
        here.insert((pod.config.namespace, pod.config.name), format!("sandbox {}", pod.id.short()));
    }
    for meta in setups.iter().map(|s| &s.pod.metadata) {
        let (namespace, name) = (meta.namespace_or_default(), &meta.name);
        if let Some(twin) = here.get(&(namespace.to_owned(), name.clone())) {
            bail!("pod {namespace}/{name} is here already ({twin}); end it first: cofferdam stop {namespace}/{name}");
        }
    }
    Ok(())
}

/// Shows the pods until all are over.
fn follow(handle: &Arc<Handle>, table: bool) -> Vec<Arc<PodView>> {
    let changes = handle.changes();
    let mut live = Live::new();
    loop {
        let views = handle.snapshot();
        if table {
            live.show(&views);
        }
        if views.iter().all(|v| v.ended) {
            return views;
        }
        // Many changes at once are one picture.
        if changes.recv().is_err() {
            return handle.wait_all();
        }
        std::thread::sleep(if table { FRAME } else { Duration::ZERO });
        while changes.try_recv().is_ok() {}
    }
}

/// The exit code of a run: a pod that was not admitted stands before those that failed.
pub(crate) fn code(views: &[Arc<PodView>], refused: &[Refused]) -> u8 {
    let owned: Vec<PodView> = views.iter().map(|v| (**v).clone()).collect();
    match (exit_code(&owned), refused.is_empty()) {
        (0, false) => EXIT_DENIED,
        (code, _) => u8::try_from(code).unwrap_or(EXIT_ERROR),
    }
}

pub(crate) fn report(views: &[Arc<PodView>], refused: &[Refused]) -> serde_json::Value {
    let pods: Vec<PodView> = views.iter().map(|v| (**v).clone()).collect();
    let denied: Vec<_> = refused
        .iter()
        .map(|r| json!({"name": r.pod.metadata.name, "namespace": r.pod.metadata.namespace_or_default(), "reason": r.reason}))
        .collect();
    json!({"pods": pods, "denied": denied})
}
