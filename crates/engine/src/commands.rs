//! Commands in containers whose caller is gone: a process that was killed, or a client that left. One whose
//! output was to be collected is ended, as nobody takes that nor watches its time any more; one of a stream
//! runs on. Of either nothing is kept once it has ended.
//!
//! Each command has a small file, written before all else of it and removed after, that says who waits for it.

use crate::Engine;
use crate::record;
use crate::sandbox::{Known, failed, names_in};
use cofferdam_host::files::Durability;
use cofferdam_host::process::Identity;
use cofferdam_model::cri::{Error, Result, SandboxState};
use cofferdam_model::{ContainerId, PodId};
use cofferdam_monitor::client;
use cofferdam_monitor::protocol::Process;
use cofferdam_plan::layout::PodDirs;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a command that was killed may take to end.
pub(crate) const KILLED: Duration = Duration::from_secs(5);
/// How soon it is tried again: a runtime that is about to start the command cannot be told to end it.
const AGAIN: Duration = Duration::from_millis(200);
/// How the name of a command's file ends; before that is its key.
const SUFFIX: &str = ".by";
/// How a command's key at the monitor begins.
pub(crate) const PREFIX: &str = "x-";

/// Who waits for a command.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Waiting {
    version: u32,
    container: ContainerId,
    /// The process that waits; `None` once it has left.
    owner: Option<Identity>,
    /// Whether it collects the output, and ends the command in time.
    collected: bool,
}

/// Writes down that this process waits for a command.
pub(crate) fn own(dirs: &PodDirs, key: &str, container: &ContainerId, collected: bool) -> Result<()> {
    let owner = Some(Identity::own().map_err(failed)?);
    let waiting = Waiting {
        version: record::VERSION,
        container: container.clone(),
        owner,
        collected,
    };
    record::write(&file(dirs, key), &waiting, Durability::Cached)
}

/// Removes what there is of a command beside the monitor. What cannot be removed now goes with the pod.
pub(crate) fn remove(dirs: &PodDirs, key: &str) {
    let _ = std::fs::remove_file(dirs.exits().join(key));
    let _ = std::fs::remove_dir_all(directory(dirs, key));
    crate::failpoint::reach("exec.files");
    let _ = std::fs::remove_file(file(dirs, key));
}

/// Where a command's own files are.
pub(crate) fn directory(dirs: &PodDirs, key: &str) -> PathBuf {
    dirs.run.join(key)
}

fn file(dirs: &PodDirs, key: &str) -> PathBuf {
    dirs.run.join(format!("{key}{SUFFIX}"))
}

fn find(monitor: &mut client::Client, key: &str) -> Result<Option<Process>> {
    Ok(monitor.list().map_err(failed)?.into_iter().find(|p| p.key == key))
}

impl Engine {
    /// Nobody waits for a command any more, which may run still: the last of it goes with its end.
    pub(crate) fn disown_command(&self, known: &Known, key: &str) {
        let Ok(Some(waiting)) = record::read::<Waiting>(&file(&known.dirs, key)) else {
            return;
        };
        // Where this cannot be written, what there is of it goes with this process or the pod.
        let _ = record::write(&file(&known.dirs, key), &Waiting { owner: None, ..waiting }, Durability::Cached);
        // It may have ended meanwhile.
        let _ = self.collect_command(known, key);
    }

    /// What a killed process left of commands in a pod that is up; one sentence for each that is ended.
    pub(crate) fn collect_commands(&self, known: &Known) -> Result<Vec<String>> {
        let mut findings = Vec::new();
        self.unended().remove(&known.record.id);
        for name in names_in(&known.dirs.run)? {
            let Some(key) = name.strip_suffix(SUFFIX).filter(|key| key.starts_with(PREFIX)) else {
                continue;
            };
            let Some((mut monitor, waiting)) = self.abandoned(known, key)? else {
                continue;
            };
            if find(&mut monitor, key)?.is_none_or(|p| p.exit.is_some()) {
                // It has ended, or never began.
            } else if waiting.collected {
                if !self.end_command(known, key, &waiting.container)? {
                    let why = format!(
                        "a command in container {}, which nobody waits for any more, does not end",
                        waiting.container
                    );
                    self.unended().insert(known.record.id.clone(), why.clone());
                    findings.push(why);
                    continue;
                }
                findings.push(format!(
                    "a command in container {}, which nobody waited for any more, is ended",
                    waiting.container
                ));
            } else {
                // What it says is not waited for: without this, its pipe would be full once.
                let _ = monitor.attach(key);
                continue;
            }
            self.forget_command(known, key);
        }
        Ok(findings)
    }

    /// Drops what is kept of a command that has ended, unless somebody waits for it.
    pub(crate) fn collect_command(&self, known: &Known, key: &str) -> Result<()> {
        if key.starts_with(PREFIX)
            && let Some((mut monitor, _)) = self.abandoned(known, key)?
            && find(&mut monitor, key)?.is_none_or(|p| p.exit.is_some())
        {
            self.forget_command(known, key);
        }
        Ok(())
    }

    /// A command whose caller is gone.
    fn abandoned(&self, known: &Known, key: &str) -> Result<Option<(client::Client, Waiting)>> {
        let Some(waiting) = record::read::<Waiting>(&file(&known.dirs, key))? else {
            return Ok(None);
        };
        match waiting.owner {
            Some(owner) if owner.is_alive().map_err(failed)? => Ok(None),
            _ => Ok(Some((self.monitor(known)?, waiting))),
        }
    }

    /// Whether it ended in time.
    fn end_command(&self, known: &Known, key: &str, container: &ContainerId) -> Result<bool> {
        let (driver, pod) = (known.driver()?, known.pod(self)?);
        let deadline = Instant::now() + KILLED;
        loop {
            // An error here is a command that has not begun, or that ended just now.
            let _ = driver.kill_exec(&pod, key, &directory(&known.dirs, key), container);
            match self.monitor(known)?.wait_timeout(key, AGAIN) {
                // A command that could not be started is not known any more.
                Ok(Some(_)) | Err(client::Error::Refused(_)) => return Ok(true),
                Ok(None) if Instant::now() > deadline => return Ok(false),
                Ok(None) => {}
                Err(e) => return Err(failed(e)),
            }
        }
    }

    fn forget_command(&self, known: &Known, key: &str) {
        if let Ok(mut monitor) = self.monitor(known) {
            // Where it is not known to the monitor there is nothing to forget.
            let _ = monitor.forget(key);
        }
        remove(&known.dirs, key);
    }

    /// Pods with a command that was to end and does not, each with a sentence: for [`Engine::failed_cleanups`].
    pub(crate) fn unended(&self) -> MutexGuard<'_, BTreeMap<PodId, String>> {
        self.unended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries again to end what [`Engine::unended`] has of a pod.
    pub(crate) fn retry_commands(&self, pod: &PodId) -> Result<()> {
        let Some((_lock, known)) = self.locked(pod)?.filter(|(_, known)| known.result.state == SandboxState::Ready) else {
            self.unended().remove(pod);
            return Ok(());
        };
        self.collect_commands(&known)?;
        self.unended().get(pod).map_or(Ok(()), |why| Err(Error::Timeout(why.clone())))
    }

    /// Whether the monitor has a command that has not ended.
    pub(crate) fn command_runs(&self, known: &Known, key: &str) -> bool {
        let found = self.monitor(known).and_then(|mut monitor| find(&mut monitor, key));
        found.is_ok_and(|found| found.is_some_and(|p| p.exit.is_none()))
    }
}
