//! `cofferdam logs`: what a container wrote, from its log in CRI's format.

use crate::args::Global;
use crate::commands::{pods, run};
use crate::settings::Settings;
use anyhow::{Context, Result, bail};
use clap::Args;
use cofferdam_engine::Engine;
use cofferdam_model::ContainerId;
use cofferdam_model::cri::ContainerState;
use cofferdam_model::log::LogEntry;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a followed log is looked at.
const POLL: Duration = Duration::from_millis(100);

/// Examples of the command.
pub(crate) const HELP: &str = "\
Examples:
  cofferdam logs web
  cofferdam logs -f default/web -c app
  cofferdam logs web --tail 20 --timestamps
  cofferdam logs web --previous          of the run before the last restart
  cofferdam logs web --since 10m";

/// What is wanted of a log.
#[derive(Debug, Clone, Args)]
pub(crate) struct LogsArgs {
    /// Pod: NAME, NAMESPACE/NAME or the beginning of its id
    pod: String,
    /// Container; needed where the pod has several
    #[arg(short, long)]
    container: Option<String>,
    /// Go on until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Of the run before the last restart
    #[arg(short, long, conflicts_with = "follow")]
    previous: bool,
    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    tail: Option<usize>,
    /// Only what is not older: 30s, 10m, 2h
    #[arg(long, value_name = "TIME", value_parser = super::wait::duration)]
    since: Option<Duration>,
    /// Each line with its time
    #[arg(long)]
    timestamps: bool,
}

/// Prints a container's log.
pub(crate) fn logs(global: &Global, wanted: &LogsArgs) -> Result<u8> {
    let pod = wanted.pod.as_str();
    let settings = Settings::read(global).insist()?;
    let engine = settings.open()?;
    let live = pods::find(&engine, pod).and_then(|found| Ok((engine.list_containers(Some(&found.id))?, found)));
    let (path, container) = match live {
        Ok((all, found)) if !all.is_empty() => {
            let container = pods::choose(&found, all, wanted.container.as_deref(), false)?;
            (found.config.log_directory.join(&container.config.log_path), Some(container.id))
        }
        // A pod that is over, or is being removed, has left its log.
        other => match old_log(&run::dirs(&settings.layout).logs, pod, wanted.container.as_deref())? {
            Some(path) => (path, None),
            None => match other {
                Err(gone) => return Err(gone),
                Ok(_) => bail!("pod \"{pod}\" has no container yet"),
            },
        },
    };
    let (path, container) = if wanted.previous { (before(&path, pod)?, None) } else { (path, container) };
    print(&engine, &path, container.as_ref(), wanted)?;
    Ok(0)
}

/// The newest log of a pod that is over: `LOGS/NAMESPACE_NAME_UID/CONTAINER/N.log`.
fn old_log(logs: &Path, pod: &str, container: Option<&str>) -> Result<Option<PathBuf>> {
    let (namespace, name) = pods::split(pod);
    let prefix = format!("{namespace}_{name}_");
    let named = |e: &std::fs::DirEntry| e.file_name().to_string_lossy().starts_with(&prefix);
    let begun = |e: &std::fs::DirEntry| e.metadata().and_then(|m| m.modified()).ok();
    let Some(dir) = std::fs::read_dir(logs)
        .into_iter()
        .flatten()
        .flatten()
        .filter(named)
        .max_by_key(begun)
    else {
        return Ok(None);
    };
    // What happened to the pod stands beside the folders of its containers.
    let folders = std::fs::read_dir(dir.path())?.flatten().filter(|e| e.path().is_dir());
    let mut containers: Vec<_> = folders.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    containers.sort();
    let chosen = match (container, containers.as_slice()) {
        (Some(name), all) if !all.iter().any(|c| c == name) => return Err(pods::no_container(pod, name, all)),
        (Some(name), _) => name,
        (None, [only]) => only,
        (None, []) => return Ok(None),
        (None, _) => bail!(
            "pod \"{pod}\" has several containers; choose one with -c: {}",
            containers.join(", ")
        ),
    };
    let runs = std::fs::read_dir(dir.path().join(chosen))?.flatten().map(|e| e.path());
    Ok(runs.max_by_key(|p| p.file_stem().and_then(|s| s.to_str()?.parse::<u32>().ok())))
}

fn print(engine: &Engine, path: &Path, container: Option<&ContainerId>, wanted: &LogsArgs) -> Result<()> {
    let mut file = BufReader::new(File::open(path).with_context(|| format!("the log {} cannot be read", path.display()))?);
    if let Some(lines) = wanted.tail {
        skip_to_last(&mut file, lines)?;
    }
    let oldest = wanted.since.map(|since| (cofferdam_host::ids::now_nanos() / 1_000_000_000).saturating_sub(since.as_secs().cast_signed()));
    let mut line = Vec::new();
    loop {
        // Asked before reading: what was written before the end is still read. A container that
        // went with its pod has ended too.
        let ended = container.is_none_or(|id| engine.container_status(id).map_or(true, |s| s.state == ContainerState::Exited));
        while file.read_until(b'\n', &mut line)? > 0 && line.last() == Some(&b'\n') {
            show(&line, wanted, oldest)?;
            line.clear();
        }
        if !wanted.follow || ended {
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
}

/// Prints a line; one that is no entry of a log is left out.
fn show(line: &[u8], wanted: &LogsArgs, oldest: Option<i64>) -> Result<()> {
    let Some(entry) = LogEntry::parse(line) else { return Ok(()) };
    if oldest.is_some_and(|oldest| entry.seconds().is_some_and(|at| at < oldest)) {
        return Ok(());
    }
    let mut out: Box<dyn Write> = if entry.stderr {
        Box::new(std::io::stderr().lock())
    } else {
        Box::new(std::io::stdout().lock())
    };
    if wanted.timestamps {
        write!(out, "{} ", entry.time)?;
    }
    out.write_all(entry.text)?;
    if !entry.partial {
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// The log of the run before the one that wrote this log.
fn before(log: &Path, pod: &str) -> Result<PathBuf> {
    let run = log.file_stem().and_then(|s| s.to_str()?.parse::<u32>().ok());
    let previous = run.and_then(|run| run.checked_sub(1)).map(|run| log.with_file_name(format!("{run}.log")));
    match previous.filter(|p| p.is_file()) {
        Some(path) => Ok(path),
        None => bail!("the container of pod \"{pod}\" was not started again: it has no previous log"),
    }
}

fn skip_to_last(file: &mut BufReader<File>, lines: usize) -> Result<()> {
    let mut starts = std::collections::VecDeque::new();
    let (mut at, mut line) = (0u64, Vec::new());
    loop {
        line.clear();
        let read = file.read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        starts.push_back(at);
        if starts.len() > lines {
            starts.pop_front();
        }
        at += read as u64;
    }
    file.seek(SeekFrom::Start(starts.front().copied().unwrap_or(at)))?;
    Ok(())
}
