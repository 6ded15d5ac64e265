//! What was attached, in libcni's format (`libcni/api.go`, kind `cniCacheV1`), so that other tools
//! read it. Unlike libcni's, a file is there before the first plugin is called, still without a
//! result: whoever is killed half way leaves what is needed to take all of it back.

use crate::{Error, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cofferdam_host::files::{Durability, atomic_write, is_temporary, private_dir, read_bounded};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const KIND: &str = "cniCacheV1";
/// The name of a pod's interface: CRI knows no other.
pub const INTERFACE: &str = "eth0";
/// A configuration (base64) and a result.
const MAX_ENTRY: u64 = 4 << 20;

/// An attachment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    kind: String,
    /// The pod's id.
    pub container_id: String,
    /// The list of plugins as JSON, in base64.
    config: String,
    if_name: String,
    /// The network's name.
    pub network_name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    netns: String,
    /// `CNI_ARGS`.
    #[serde(default)]
    pub cni_args: Vec<[String; 2]>,
    /// What was asked of capable plugins.
    #[serde(default)]
    pub capability_args: Map<String, Value>,
    /// What the last plugin answered; `None` while the chain is not through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
}

impl Entry {
    /// An attachment that has not been made yet.
    pub fn new(id: &str, network: &str, netns: &str, config: &[u8]) -> Self {
        Self {
            kind: KIND.to_owned(),
            container_id: id.to_owned(),
            config: STANDARD.encode(config),
            if_name: INTERFACE.to_owned(),
            network_name: network.to_owned(),
            netns: netns.to_owned(),
            cni_args: Vec::new(),
            capability_args: Map::new(),
            result: None,
        }
    }

    /// Reads a file's content; `None` where it is no attachment of ours.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let entry: Self = serde_json::from_slice(bytes).ok()?;
        let usable = entry.kind == KIND && entry.if_name == INTERFACE && crate::config::is_name(&entry.container_id);
        usable.then_some(entry)
    }

    /// The list of plugins that it was made with.
    pub fn config(&self) -> Option<Vec<u8>> {
        STANDARD.decode(&self.config).ok()
    }
}

/// A file of the cache.
#[derive(Debug, Clone)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// The pod's id.
    pub id: String,
    /// What it holds; `None` where that cannot be read.
    pub entry: Option<Entry>,
}

/// The directory; attachments are in its folder `results`, as libcni has it.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    results: PathBuf,
    lock: PathBuf,
}

impl Cache {
    pub(crate) fn new(directory: &Path) -> Self {
        Self {
            results: directory.join("results"),
            lock: directory.join("cni.lock"),
        }
    }

    /// Held while plugins are called with ADD, so that no garbage collection that did not know of
    /// the pod runs meanwhile.
    pub(crate) fn adding(&self) -> Result<File> {
        private_dir(&self.results)?;
        let file = self.open_lock()?;
        loop {
            match flock(&file, FlockOperation::LockShared) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => {
                    return Err(Error::Path {
                        action: "lock",
                        path: self.lock.clone(),
                        source: e.into(),
                    });
                }
            }
        }
    }

    /// `None` while somebody is adding.
    pub(crate) fn collecting(&self) -> Result<Option<File>> {
        private_dir(&self.results)?;
        let file = self.open_lock()?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(Error::Path {
                action: "lock",
                path: self.lock.clone(),
                source: e.into(),
            }),
        }
    }

    fn open_lock(&self) -> Result<File> {
        let open = File::options().create(true).append(true).open(&self.lock);
        open.map_err(|source| Error::Path {
            action: "open",
            path: self.lock.clone(),
            source,
        })
    }

    pub(crate) fn write(&self, entry: &Entry, durability: Durability) -> Result<()> {
        let path = self
            .results
            .join(format!("{}-{}-{}", entry.network_name, entry.container_id, entry.if_name));
        let bytes = serde_json::to_vec(entry).map_err(|e| Error::Path {
            action: "encode",
            path: path.clone(),
            source: e.into(),
        })?;
        Ok(atomic_write(path, &bytes, durability)?)
    }

    /// The attachments of one pod, or of all, by the files' names.
    pub(crate) fn find(&self, id: Option<&str>) -> Result<Vec<Found>> {
        let fail = |source| Error::Path {
            action: "list",
            path: self.results.clone(),
            source,
        };
        let entries = match std::fs::read_dir(&self.results) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(fail(e)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(fail)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let named = name
                .strip_suffix(INTERFACE)
                .and_then(|n| n.strip_suffix('-'))
                .and_then(|n| n.rsplit_once('-'));
            let Some((_, named)) = named.filter(|(_, n)| !is_temporary(&name) && id.is_none_or(|id| id == *n)) else {
                continue;
            };
            let id = named.to_owned();
            match read_bounded(&path, MAX_ENTRY) {
                Ok(bytes) => found.push(Found {
                    id,
                    entry: Entry::parse(&bytes),
                    path,
                }),
                Err(e) if e.is_absent() => {}
                Err(_) => found.push(Found { id, entry: None, path }),
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    pub(crate) fn remove(&self, path: &Path) -> Result<()> {
        match std::fs::remove_file(path) {
            Err(source) if source.kind() != ErrorKind::NotFound => Err(Error::Path {
                action: "remove",
                path: path.to_owned(),
                source,
            }),
            _ => Ok(()),
        }
    }
}
