//! `cofferdam run --detach`: a process of its own keeps the pods, and the caller returns when they run.
//! The pods go on whatever happens to the caller.

use crate::args::{Global, Output, RunArgs};
use crate::commands::run::{self, Kept};
use crate::settings::Settings;
use crate::world::Manifests;
use crate::{EXIT_ERROR, ended, live, show};
use anyhow::{Context, Result, bail};
use cofferdam_node::{Phase, PodView};
use cofferdam_plan::Layout;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// What the process that keeps the pods is given.
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
pub(crate) fn detach(global: &Global, texts: Vec<(String, String)>, args: &RunArgs) -> Result<u8> {
    let mut child = command(global)?
        .spawn()
        .context("the process that keeps the pods could not be started")?;
    pass_signals_on(&child)?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        bail!("the process that keeps the pods has no pipes")
    };
    serde_json::to_writer(
        &mut stdin,
        &Detached {
            texts,
            parallel: args.parallel,
        },
    )?;
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

fn command(global: &Global) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--config").arg(&global.config);
    for (flag, dir) in [("--root", &global.root), ("--state", &global.state)] {
        if let Some(dir) = dir {
            command.arg(flag).arg(dir);
        }
    }
    command
        .arg("supervise")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0);
    Ok(command)
}

/// A Ctrl-C while the pods start means them, as it does without `--detach`.
fn pass_signals_on(child: &Child) -> Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .context("the process that keeps the pods has no id")?;
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).context("signals cannot be taken")?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for _ in signals.forever() {
            // Where it is gone already, so are the pods.
            let _ = kill_process(pid, Signal::INT);
        }
    })?;
    Ok(())
}

/// The process behind `run --detach`: keeps the pods until they are over.
pub(crate) fn supervise(global: &Global) -> Result<u8> {
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input)?;
    let detached: Detached = serde_json::from_str(&input)?;
    let begun = (|| {
        let settings = Settings::read(global).insist()?;
        let manifests = Manifests::decode(&detached.texts)?;
        Ok::<_, anyhow::Error>((run::keep(global, &settings, &manifests, detached.parallel)?, settings.layout))
    })();
    let (kept, layout) = match begun {
        Ok(begun) => begun,
        Err(e) => {
            tell(&Up {
                code: EXIT_ERROR,
                table: String::new(),
                report: json!(null),
                error: Some(format!("{e:#}")),
            });
            return Ok(EXIT_ERROR);
        }
    };
    let views = attend(&kept, &layout);
    Ok(run::code(&views, &kept.started.refused))
}

/// Waits until all pods are over; puts away how each ended, and tells the caller as soon as none is
/// being started any more.
fn attend(kept: &Kept, layout: &Layout) -> Vec<Arc<PodView>> {
    let handle = &kept.started.handle;
    let changes = handle.changes();
    let (mut told, mut over) = (false, BTreeSet::new());
    loop {
        let views = handle.snapshot();
        for view in views.iter().filter(|v| v.ended && over.insert(v.uid.clone())) {
            if let Err(e) = put_away(kept, layout, view) {
                show::tell(format_args!(
                    "cofferdam: pod {}/{}: how it ended could not be kept: {e:#}",
                    view.namespace, view.name
                ));
            }
        }
        if !told && views.iter().all(|v| v.ended || v.phase != Phase::Pending) {
            let (code, report) = (run::code(&views, &kept.started.refused), run::report(&views, &kept.started.refused));
            tell(&Up {
                code,
                table: live::render(&views),
                report,
                error: None,
            });
            told = true;
        }
        if views.iter().all(|v| v.ended) || changes.recv().is_err() {
            return views;
        }
    }
}

/// Keeps how a pod ended by itself; of one that was stopped nothing stays.
fn put_away(kept: &Kept, layout: &Layout, view: &PodView) -> Result<()> {
    if kept.keeper.desk.was_stopped(view) {
        ended::remove_logs(layout, view)
    } else {
        ended::write(layout, view)
    }
}

/// Answers the caller, and lets go of its streams: it must not wait for this process. It may be gone,
/// and the pods go on.
fn tell(up: &Up) {
    let line = serde_json::to_string(up).unwrap_or_default();
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    drop(out);
    let Ok(null) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") else {
        return;
    };
    let _ = rustix::stdio::dup2_stdin(&null);
    let _ = rustix::stdio::dup2_stdout(&null);
    let _ = rustix::stdio::dup2_stderr(&null);
}
