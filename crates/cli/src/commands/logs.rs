//! `cofferdam logs`: what a container wrote, from its log in CRI's format.

use crate::args::Global;
use crate::commands::{pods, run};
use crate::settings::Settings;
use anyhow::{Context, Result, bail};
use cofferdam_engine::Engine;
use cofferdam_model::ContainerId;
use cofferdam_model::cri::ContainerState;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a followed log is looked at.
const POLL: Duration = Duration::from_millis(100);

/// What is wanted of a log.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Container.
    pub(crate) container: Option<String>,
    /// Go on until it ends.
    pub(crate) follow: bool,
    /// Only the last lines.
    pub(crate) tail: Option<usize>,
    /// Each line with its time.
    pub(crate) timestamps: bool,
}

/// Prints a container's log.
pub(crate) fn logs(global: &Global, pod: &str, wanted: &Wanted) -> Result<u8> {
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

fn print(engine: &Engine, path: &Path, container: Option<&ContainerId>, wanted: &Wanted) -> Result<()> {
    let mut file = BufReader::new(File::open(path).with_context(|| format!("the log {} cannot be read", path.display()))?);
    if let Some(lines) = wanted.tail {
        skip_to_last(&mut file, lines)?;
    }
    let mut line = Vec::new();
    loop {
        // Asked before reading: what was written before the end is still read. A container that
        // went with its pod has ended too.
        let ended = container.is_none_or(|id| engine.container_status(id).map_or(true, |s| s.state == ContainerState::Exited));
        while file.read_until(b'\n', &mut line)? > 0 && line.last() == Some(&b'\n') {
            show(&line, wanted.timestamps)?;
            line.clear();
        }
        if !wanted.follow || ended {
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
}

/// One line of CRI's format: time, stream, `P` (a part) or `F` (full), text.
fn show(line: &[u8], timestamps: bool) -> Result<()> {
    let mut fields = line.splitn(4, |b| *b == b' ');
    let (time, stream, tag, text) = (fields.next(), fields.next(), fields.next(), fields.next());
    let (Some(time), Some(stream), Some(tag), Some(text)) = (time, stream, tag, text) else {
        return Ok(());
    };
    let text = if tag == b"P" {
        text.strip_suffix(b"\n").unwrap_or(text)
    } else {
        text
    };
    let mut out: Box<dyn Write> = if stream == b"stderr" {
        Box::new(std::io::stderr().lock())
    } else {
        Box::new(std::io::stdout().lock())
    };
    if timestamps {
        out.write_all(time)?;
        out.write_all(b" ")?;
    }
    out.write_all(text)?;
    Ok(out.flush()?)
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
