//! A pod's volumes: made before its sandbox, removed after it.
//!
//! - `emptyDir`: a directory of mode 0777 under the volumes root; media `Memory` and `HugePages` are
//!   mounted by the engine ([`Mount::tmpfs`](cofferdam_model::cri::Mount::tmpfs)), as a node makes no
//!   mounts of its own. What a directory may hold is looked at from time to time ([`PodVolumes::over_limit`]).
//! - `configMap`, `downwardAPI`, `projected`: files under the volumes root, or under the secrets root
//!   where a secret is among them; `secret`: under the secrets root. They have the kubelet's layout,
//!   with the `..data` link, and are always mounted read-only.
//! - `hostPath`: checked, and resolved to the real path, which is what is mounted.
//! - `image`: mounted by the engine, read-only.
//!
//! Every directory above a volume is for root only (mode 0700), so no other user of the machine
//! reaches a file that is open to the pod.

mod atomic;
mod empty_dir;
mod files;
mod mounts;
mod owner;
mod paths;
mod usage;

pub(crate) use mounts::check as check_mounts;
pub(crate) use paths::component;

use crate::setup::{Dirs, Machine, Objects};
use cofferdam_model::pod::{Pod, Volume};
use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Why a volume could not be made or mounted: one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct VolumeError(pub String);

/// What volumes are made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given<'a> {
    /// Config maps and secrets.
    pub objects: &'a Objects,
    /// Where the volumes are made.
    pub dirs: &'a Dirs,
    /// The machine.
    pub machine: &'a Machine,
    /// Bytes of memory that the containers may use together; 0 for no limit.
    pub memory_limit: i64,
    /// Features of the pod's handler.
    pub features: &'a BTreeMap<String, bool>,
}

/// What a volume became.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Prepared {
    /// A directory of ours.
    Dir { path: PathBuf, readonly: bool },
    /// A tmpfs that the engine makes: its greatest size, bytes, 0 for no limit; the size of its huge
    /// pages; the group that owns it.
    Tmpfs {
        path: PathBuf,
        limit: u64,
        huge_page_size: Option<u64>,
        group: Option<u32>,
    },
    /// A path of the machine.
    Host { path: PathBuf },
    /// The files of an image.
    Image { reference: String },
}

/// The volumes of one pod, and the folders that hold them.
#[derive(Debug)]
pub(crate) struct PodVolumes {
    folder: PathBuf,
    secrets: Option<PathBuf>,
    volumes: BTreeMap<String, Prepared>,
    recursive_read_only: bool,
    limits: usage::Limits,
    /// Sentences about what is weaker than asked.
    pub warnings: Vec<String>,
}

impl PodVolumes {
    /// Makes the volumes of `pod`. What was made is removed again on an error.
    pub(crate) fn prepare(pod: &Pod, given: Given<'_>) -> Result<Self, VolumeError> {
        let uid = component("metadata.uid", pod.metadata.uid.as_deref().unwrap_or_default())?;
        let mut this = Self {
            folder: make_own(&given.dirs.volumes, uid)?,
            secrets: None,
            volumes: BTreeMap::new(),
            recursive_read_only: given.features.get(cofferdam_model::cri::FEATURE_RECURSIVE_READ_ONLY) == Some(&true),
            limits: usage::Limits::default(),
            warnings: Vec::new(),
        };
        match this.prepare_all(pod, uid, given) {
            Ok(()) => Ok(this),
            Err(err) => match this.remove() {
                Ok(()) => Err(err),
                Err(left) => Err(VolumeError(format!(
                    "{err}; and what was made of its volumes could not be removed: {left}"
                ))),
            },
        }
    }

    fn prepare_all(&mut self, pod: &Pod, uid: &str, given: Given<'_>) -> Result<(), VolumeError> {
        if pod.spec.volumes.iter().any(has_secret) {
            self.secrets = Some(make_own(&given.dirs.secrets, uid)?);
        }
        for volume in &pod.spec.volumes {
            let prepared = self.prepare_one(volume, pod, given).map_err(|err| {
                // The kubelet's sentence (`operation_generator.go`).
                VolumeError(format!("MountVolume.SetUp failed for volume {:?} : {err}", volume.name))
            })?;
            self.volumes.insert(volume.name.clone(), prepared);
        }
        self.limits = usage::Limits::of(pod, given.dirs, |name| match self.volumes.get(name) {
            Some(Prepared::Dir { path, readonly: false }) => Some(path.clone()),
            _ => None,
        });
        self.warnings.extend(self.limits.warning());
        Ok(())
    }

    fn prepare_one(&self, volume: &Volume, pod: &Pod, given: Given<'_>) -> Result<Prepared, VolumeError> {
        let name = component("name", &volume.name)?;
        if sources(volume) > 1 {
            return Err(VolumeError("may not specify more than 1 volume type; keep one".into()));
        }
        if let Some(host) = &volume.host_path {
            let path = paths::host_path(&host.path, host.kind.as_deref().unwrap_or_default())?;
            return Ok(Prepared::Host { path });
        }
        if let Some(image) = &volume.image {
            if image.reference.is_empty() {
                return Err(VolumeError("image volume has no reference; name an image".into()));
            }
            return Ok(Prepared::Image {
                reference: image.reference.clone(),
            });
        }
        let group = owner::group(pod)?;
        let root = if has_secret(volume) {
            self.secrets.as_ref().map(|s| s.join(name))
        } else {
            None
        };
        let path = root.unwrap_or_else(|| self.folder.join("volumes").join(name));
        match files::payload(volume, pod, given)? {
            Some(payload) => {
                atomic::write(&path, &payload)?;
                owner::give(&path, group, true)?;
                Ok(Prepared::Dir { path, readonly: true })
            }
            None => empty_dir::prepare(&volume.empty_dir.clone().unwrap_or_default(), pod, path, group, given),
        }
    }

    /// Whether [`Self::over_limit`] can find anything.
    pub(crate) fn is_limited(&self) -> bool {
        self.limits.are_any()
    }

    /// Why the pod must be evicted, in the kubelet's words, where it wrote more than it may. It reads
    /// directories for a second or so at most, and where that takes long it looks less often; ask it
    /// every ten seconds, as the kubelet looks (`evictionMonitoringPeriod`).
    pub(crate) fn over_limit(&self) -> Option<String> {
        self.limits.exceeded()
    }

    /// Makes the file in which `container` may leave a last word, empty and open to every user of the
    /// container. One file an attempt.
    pub(crate) fn termination_file(&self, container: &str, attempt: u32) -> Result<PathBuf, VolumeError> {
        let path = self.termination_path(component("container name", container)?, attempt);
        make_dirs(path.parent().unwrap_or(&path), 0o700)?;
        let made = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path);
        made.map_err(|err| failed("make", &path, &err))?;
        paths::chmod(&path, 0o666)?;
        Ok(path)
    }

    /// Where that file is.
    pub(crate) fn termination_path(&self, container: &str, attempt: u32) -> PathBuf {
        self.folder.join("containers").join(container).join(attempt.to_string())
    }

    /// Removes everything that [`Self::prepare`] made. Repeatable.
    pub(crate) fn remove(&self) -> io::Result<()> {
        [Some(&self.folder), self.secrets.as_ref()]
            .into_iter()
            .flatten()
            .try_for_each(|dir| remove_tree(dir))
    }
}

/// How many sources a volume has.
fn sources(volume: &Volume) -> usize {
    let Volume {
        name: _,
        empty_dir,
        config_map,
        secret,
        host_path,
        downward_api,
        projected,
        image,
    } = volume;
    [
        empty_dir.is_some(),
        config_map.is_some(),
        secret.is_some(),
        host_path.is_some(),
        downward_api.is_some(),
        projected.is_some(),
        image.is_some(),
    ]
    .into_iter()
    .filter(|is_there| *is_there)
    .count()
}

/// Whether a volume shows a secret.
fn has_secret(volume: &Volume) -> bool {
    let projected = volume
        .projected
        .as_ref()
        .is_some_and(|p| p.sources.iter().any(|s| s.secret.is_some()));
    volume.secret.is_some() || projected
}

/// Makes `root/name`, which must not be there: two pods never share a folder.
fn make_own(root: &Path, name: &str) -> Result<PathBuf, VolumeError> {
    make_dirs(root, 0o700)?;
    let path = root.join(name);
    DirBuilder::new().mode(0o700).create(&path).map_err(|err| match err.kind() {
        io::ErrorKind::AlreadyExists => VolumeError(format!(
            "{} is there already: another pod has the same UID, or it was left by a crash; remove it or leave metadata.uid out",
            path.display()
        )),
        _ => failed("make", &path, &err),
    })?;
    Ok(path)
}

pub(crate) fn make_dirs(path: &Path, mode: u32) -> Result<(), VolumeError> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|err| failed("make", path, &err))
}

/// Removes what pods wrote, who may have made it deeper than descriptors and a thread's stack allow.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    cofferdam_host::remove::remove_tree(path).map_err(|err| io::Error::other(err.to_string()))
}

fn failed(verb: &str, path: &Path, err: &io::Error) -> VolumeError {
    VolumeError(format!("could not {verb} {}: {err}", path.display()))
}

#[cfg(test)]
mod tests;
