//! Records: immutable versioned metadata, and beside it a small status. A record that cannot be
//! read is an error that names it; nothing here deletes one.

use cofferdam_host::files::{self, Durability};
use cofferdam_host::process::Identity;
use cofferdam_model::cri::{ContainerConfig, Error, LinuxResources, Result, SandboxConfig, SandboxState, Stage};
use cofferdam_model::{ContainerId, PodId};
use cofferdam_plan::userns::IdRange;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Version of the records. A reader refuses a newer one.
pub(crate) const VERSION: u32 = 1;
/// Greatest size of a record, bytes.
const MAX_RECORD: u64 = 4 << 20;

/// The intent of a sandbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    pub(crate) version: u32,
    pub(crate) id: PodId,
    pub(crate) boot_id: String,
    pub(crate) created_at: i64,
    pub(crate) handler: String,
    /// The handler's definition as it was: an edit later does no harm to a running pod.
    pub(crate) definition: crate::handlers::Definition,
    pub(crate) config: SandboxConfig,
    /// Of a canary: the process that waits for it.
    #[serde(default)]
    pub(crate) prover: Option<Identity>,
    /// The ids of the pod's user namespace on the machine, where it has one.
    #[serde(default)]
    pub(crate) ids: Option<IdRange>,
}

/// The result of a sandbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SandboxResult {
    pub(crate) version: u32,
    pub(crate) state: SandboxState,
    pub(crate) removing: bool,
    pub(crate) reason: Option<String>,
    /// Whether the machine killed a process of the enclosure for want of memory.
    #[serde(default)]
    pub(crate) oom: bool,
    /// The pod's addresses, at most one a family.
    #[serde(default)]
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) monitor_pid: i32,
    pub(crate) enclosure_pid: Option<i32>,
    pub(crate) stages: Vec<Stage>,
    /// Limits as they were changed, in place of the record's: overhead, and all.
    #[serde(default)]
    pub(crate) resources: Option<(LinuxResources, LinuxResources)>,
    /// A change of limits that was begun; it is finished by whoever finds it.
    #[serde(default)]
    pub(crate) changing: Option<Change>,
    /// Why not all of it is gone, where it was stopped or removed.
    #[serde(default)]
    pub(crate) left: Option<String>,
}

/// A change of limits.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Change {
    /// Of the pod: overhead, and all.
    Pod(LinuxResources, LinuxResources),
    /// Of a container.
    Container(ContainerId, LinuxResources),
}

/// The intent of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub(crate) version: u32,
    pub(crate) id: ContainerId,
    pub(crate) pod: PodId,
    pub(crate) created_at: i64,
    pub(crate) image_id: String,
    pub(crate) stop_signal: i32,
    pub(crate) config: ContainerConfig,
    /// Ids of the images that it mounts beside its own.
    #[serde(default)]
    pub(crate) image_mounts: Vec<String>,
}

/// The result of a container. Its end is not here: the monitor writes that.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct ContainerResult {
    pub(crate) version: u32,
    pub(crate) pid: Option<i32>,
    pub(crate) started_at: i64,
    /// Set where the end is known otherwise than by the monitor.
    pub(crate) finished_at: i64,
    pub(crate) reason: Option<String>,
    /// Whether the machine killed a process of it for want of memory; written as its cgroup goes, which
    /// counts that until then.
    #[serde(default)]
    pub(crate) oom: bool,
    pub(crate) stages: Vec<Stage>,
    /// Limits as they were changed, in place of the record's.
    #[serde(default)]
    pub(crate) resources: Option<LinuxResources>,
}

/// Reads a record; `None` where it is not there.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let bytes = match files::read_bounded(path, MAX_RECORD) {
        Ok(bytes) => bytes,
        Err(e) if e.is_absent() => return Ok(None),
        Err(e) => return Err(Error::Failed(format!("record {}: {e}", path.display()))),
    };
    let bad = |e: serde_json::Error| Error::Failed(format!("record {} cannot be read: {e}", path.display()));
    let Versioned { version } = serde_json::from_slice(&bytes).map_err(bad)?;
    if version > VERSION {
        let text = format!("record {} is of version {version}; this build reads up to {VERSION}", path.display());
        return Err(Error::Failed(text));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(bad)
}

/// Writes a record whole or not at all.
pub(crate) fn write<T: Serialize>(path: &Path, record: &T, durability: Durability) -> Result<()> {
    let failed = |e: &dyn std::fmt::Display| Error::Failed(format!("record {} cannot be written: {e}", path.display()));
    let bytes = serde_json::to_vec(record).map_err(|e| failed(&e))?;
    // One that cannot be read would keep all others from being listed.
    if bytes.len() as u64 > MAX_RECORD {
        let (size, path) = (bytes.len(), path.display());
        let text = format!("record {path} is too large to be kept: {size} bytes, more than {MAX_RECORD}; shorten environment, arguments or annotations");
        return Err(Error::Invalid(text));
    }
    files::atomic_write(path, &bytes, durability).map_err(|e| failed(&e))
}

/// What a record may grow by between [`Prepared::write`] and [`Prepared::replace`], bytes.
const ROOM: usize = 512;

/// A record that is written before what it tells of is done: that it was done can then be told on a full disk too.
#[derive(Debug)]
pub(crate) struct Prepared {
    at: PathBuf,
    room: usize,
}

impl Prepared {
    /// Writes `record`, with room for what it will say more.
    pub(crate) fn write<T: Serialize>(at: PathBuf, record: &T) -> Result<Self> {
        let mut prepared = Self { at, room: usize::MAX };
        let text = prepared.text(record)?;
        prepared.room = text.len() + ROOM;
        prepared.put(&text, OpenOptions::new().create(true).truncate(true))?;
        Ok(prepared)
    }

    /// Writes `record` over it, and puts it in the place of the record at `path`.
    pub(crate) fn replace<T: Serialize>(self, path: &Path, record: &T) -> Result<()> {
        let text = self.text(record)?;
        // In place: no room is asked for.
        self.put(&text, &mut OpenOptions::new())?;
        std::fs::rename(&self.at, path).map_err(|e| self.failed(&e))
    }

    fn text<T: Serialize>(&self, record: &T) -> Result<Vec<u8>> {
        serde_json::to_vec(record).map_err(|e| self.failed(&e))
    }

    fn put(&self, text: &[u8], options: &mut OpenOptions) -> Result<()> {
        // JSON may end with white space.
        let filler = self.room.checked_sub(text.len()).ok_or_else(|| self.failed(&"it grew by more than its room"))?;
        let mut all = text.to_vec();
        all.resize(text.len() + filler, b' ');
        let written = options.write(true).mode(0o600).open(&self.at).and_then(|mut file| file.write_all(&all));
        written.map_err(|e| {
            // Half of it tells nothing.
            let _ = std::fs::remove_file(&self.at);
            self.failed(&e)
        })
    }

    fn failed(&self, why: &dyn std::fmt::Display) -> Error {
        Error::Failed(format!("record {} cannot be written: {why}", self.at.display()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_prepared_record_replaces_another_and_has_its_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let (path, next) = (dir.path().join("status.json"), dir.path().join("next.json"));
        let mut result = ContainerResult { version: VERSION, pid: Some(7), ..ContainerResult::default() };
        write(&path, &result, Durability::Cached).unwrap();
        let prepared = Prepared::write(next.clone(), &result).unwrap();
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
        let before = inode(&next);
        result.started_at = 1;
        result.stages.push(Stage { name: "start".into(), micros: u64::MAX });
        prepared.replace(&path, &result).unwrap();
        assert_eq!((inode(&path), next.exists()), (before, false), "the file that there was room for");
        let read = read::<ContainerResult>(&path).unwrap().unwrap();
        assert_eq!((read.pid, read.started_at, read.stages.len()), (Some(7), 1, 1));

        let prepared = Prepared::write(next.clone(), &result).unwrap();
        result.reason = Some("x".repeat(2 * ROOM));
        let why = prepared.replace(&path, &result).unwrap_err().to_string();
        assert!(why.contains("next.json cannot be written: it grew by more"), "{why}");
        assert!(super::read::<ContainerResult>(&path).unwrap().unwrap().reason.is_none(), "the record is as it was");
    }
}
