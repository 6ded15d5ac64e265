//! `cofferdam run`: manifests in, every pod in the enclosure that its RuntimeClass names.

use crate::args::{Global, Output, RunArgs};
use crate::live::Live;
use crate::owner;
use crate::settings::Settings;
use crate::show;
use crate::world::{Manifests, Refused};
use crate::{EXIT_DENIED, EXIT_ERROR};
use anyhow::{Context, Result, bail};
use cofferdam_engine::{Engine, Shared};
use cofferdam_node::{Dirs, Handle, Machine, Node, Phase, PodSetup, PodView, exit_code};
use cofferdam_plan::Layout;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
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
        return detach(global, texts, args);
    }
    let engine = settings.open()?;
    let watcher = crate::settings::watch(global, engine.clone())?;
    let started = start(&settings, &engine, &manifests, args.parallel)?;
    let _owner = owner::serve(&settings.layout, started.handle.clone())?;
    stop_on_signal(started.handle.clone())?;
    let views = follow(&started.handle, args.output == Output::Table);
    drop(watcher);
    for left in started.handle.remove_logs() {
        show::tell(format_args!("cofferdam: {left}"));
    }
    if args.output == Output::Json {
        show::json(&report(&views, &started.refused))?;
    }
    Ok(code(&views, &started.refused))
}

/// Pods that were started, and those that were not admitted.
pub(crate) struct Started {
    pub(crate) handle: Arc<Handle>,
    pub(crate) refused: Vec<Refused>,
}

/// Where a node keeps files under a layout.
pub(crate) fn dirs(layout: &Layout) -> Dirs {
    Dirs { volumes: layout.root.join("volumes"), secrets: layout.state.join("secrets"), logs: layout.root.join("logs") }
}

/// Admits and starts the pods of manifests.
pub(crate) fn start(settings: &Settings, engine: &Arc<Engine>, manifests: &Manifests, parallel: usize) -> Result<Started> {
    let dirs = dirs(&settings.layout);
    let memory = Machine::detect(&dirs).memory;
    let (setups, refused, warnings) = manifests.admit(settings.untrusted().as_deref(), memory);
    for warning in warnings {
        show::tell(format_args!("cofferdam: warning: {warning}"));
    }
    for refused in &refused {
        show::tell(format_args!("cofferdam: not admitted: {}", refused.reason));
    }
    unique(engine, &setups)?;
    engine.prove_ahead(&setups.iter().map(|s| s.handler.clone()).collect());
    let node = Node::new(Arc::new(Shared(engine.clone())), dirs, manifests.objects())?;
    let handle = Arc::new(node.start(setups, parallel)?);
    // The node lives as long as its pods: its threads hold what they need.
    Ok(Started { handle, refused })
}

/// A pod of a name that runs already is not started again.
fn unique(engine: &Engine, setups: &[PodSetup]) -> Result<()> {
    let running = engine.list_sandboxes()?;
    for setup in setups {
        let meta = &setup.pod.metadata;
        let twin = running.iter().find(|s| s.config.name == meta.name && s.config.namespace == meta.namespace_or_default());
        if let Some(twin) = twin {
            bail!(
                "pod {}/{} is here already (sandbox {}); end it first: cofferdam stop {}/{}",
                twin.config.namespace, twin.config.name, twin.id.short(), twin.config.namespace, twin.config.name
            );
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

/// The first Ctrl-C ends the pods with their own grace, the second at once.
pub(crate) fn stop_on_signal(handle: Arc<Handle>) -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]).context("signals cannot be taken")?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for (count, _) in signals.forever().enumerate() {
            if count == 0 {
                show::tell("cofferdam: ending all pods; once more to kill them at once");
            }
            handle.stop_all((count > 0).then_some(Duration::ZERO));
        }
    })?;
    Ok(())
}

/// The exit code of a run: a pod that was not admitted stands before those that failed.
pub(crate) fn code(views: &[Arc<PodView>], refused: &[Refused]) -> u8 {
    let owned: Vec<PodView> = views.iter().map(|v| (**v).clone()).collect();
    match (exit_code(&owned), refused.is_empty()) {
        (0, false) => EXIT_DENIED,
        (code, _) => u8::try_from(code).unwrap_or(EXIT_ERROR),
    }
}

fn report(views: &[Arc<PodView>], refused: &[Refused]) -> serde_json::Value {
    let pods: Vec<PodView> = views.iter().map(|v| (**v).clone()).collect();
    let denied: Vec<_> = refused
        .iter()
        .map(|r| json!({"name": r.pod.metadata.name, "namespace": r.pod.metadata.namespace_or_default(), "reason": r.reason}))
        .collect();
    json!({"pods": pods, "denied": denied})
}

/// What the detached process is given.
#[derive(Debug, Serialize, Deserialize)]
struct Detached {
    texts: Vec<(String, String)>,
    parallel: usize,
}

/// What it answers, once.
#[derive(Debug, Serialize, Deserialize)]
struct Up {
    code: u8,
    table: String,
    report: serde_json::Value,
    error: Option<String>,
}

/// Starts a process that keeps the pods, and returns when they run.
fn detach(global: &Global, texts: Vec<(String, String)>, args: &RunArgs) -> Result<u8> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--config").arg(&global.config);
    for (flag, dir) in [("--root", &global.root), ("--state", &global.state)] {
        if let Some(dir) = dir {
            command.arg(flag).arg(dir);
        }
    }
    let mut child = command
        .arg("supervise")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .context("the process that keeps the pods could not be started")?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else { bail!("the process that keeps the pods has no pipes") };
    serde_json::to_writer(&mut stdin, &Detached { texts, parallel: args.parallel })?;
    drop(stdin);
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let up: Up = serde_json::from_str(&line).context("the process that keeps the pods ended before they ran")?;
    if let Some(error) = up.error {
        bail!("{error}");
    }
    match args.output {
        Output::Table => show::say(up.table.trim_end()),
        Output::Json => show::json(&up.report)?,
    }
    Ok(up.code)
}

/// The process behind `run --detach`: keeps the pods until they are over.
pub(crate) fn supervise(global: &Global) -> Result<u8> {
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input)?;
    let detached: Detached = serde_json::from_str(&input)?;
    let tell = |up: &Up| -> Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(up)?)?;
        Ok(out.flush()?)
    };
    let begun = (|| {
        let settings = Settings::read(global).insist()?;
        let manifests = Manifests::decode(&detached.texts)?;
        let engine = settings.open()?;
        let watcher = crate::settings::watch(global, engine.clone())?;
        let started = start(&settings, &engine, &manifests, detached.parallel)?;
        let owner = owner::serve(&settings.layout, started.handle.clone())?;
        Ok::<_, anyhow::Error>((settings, started, owner, watcher))
    })();
    let (_settings, started, _owner, _watcher) = match begun {
        Ok(begun) => begun,
        Err(e) => {
            let error = Some(format!("{e:#}"));
            tell(&Up { code: EXIT_ERROR, table: String::new(), report: json!(null), error })?;
            return Ok(EXIT_ERROR);
        }
    };
    stop_on_signal(started.handle.clone())?;
    let views = settle(&started.handle);
    let up = Up {
        code: code(&views, &started.refused),
        table: crate::live::render(&views),
        report: report(&views, &started.refused),
        error: None,
    };
    tell(&up)?;
    release_output()?;
    let views = started.handle.wait_all();
    Ok(code(&views, &started.refused))
}

/// Waits until no pod is still being started.
fn settle(handle: &Arc<Handle>) -> Vec<Arc<PodView>> {
    let changes = handle.changes();
    loop {
        let views = handle.snapshot();
        if views.iter().all(|v| v.ended || v.phase != Phase::Pending) || changes.recv().is_err() {
            return views;
        }
    }
}

/// Nobody reads the output of a detached process: its caller must not wait for it.
fn release_output() -> Result<()> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(rustix::stdio::dup2_stderr(&null)?)
}
