//! A pod's volumes: made before its sandbox, removed after it.
//!
//! - `emptyDir`: a directory of mode 0777 under the volumes root; medium `Memory` is a tmpfs that the
//!   engine mounts ([`Mount::tmpfs`]), as a node makes no mounts of its own.
//! - `configMap`: files under the volumes root. `secret`: files under the secrets root. Both are
//!   plain files, without the `..data` links that the kubelet needs for updates: a run has none. They
//!   are always mounted read-only, as the kubelet does.
//! - `hostPath`: checked, and resolved to the real path, which is what is mounted.
//!
//! Every directory above a volume is for root only (mode 0700), so no other user of the machine
//! reaches a file that is open to the pod.

mod files;
mod owner;
mod paths;

pub(crate) use paths::component;

use crate::setup::{Dirs, Objects};
use cofferdam_model::cri::Mount;
use cofferdam_model::pod::{Container, EmptyDir, Pod, Volume, VolumeMount};
use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Why a volume could not be made or mounted: one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct VolumeError(pub String);

/// What a volume became.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Prepared {
    /// A directory of ours.
    Dir { path: PathBuf, readonly: bool },
    /// A tmpfs that the engine makes; bytes, 0 for no limit.
    Tmpfs { path: PathBuf, limit: u64 },
    /// A path of the machine.
    Host { path: PathBuf },
}

/// The volumes of one pod, and the folders that hold them.
#[derive(Debug)]
pub(crate) struct PodVolumes {
    folder: PathBuf,
    secrets: Option<PathBuf>,
    volumes: BTreeMap<String, Prepared>,
    /// Sentences about what is weaker than asked.
    pub warnings: Vec<String>,
}

impl PodVolumes {
    /// Makes the volumes of `pod`. `memory_limit` (bytes, 0 for none) bounds its tmpfs volumes.
    /// What was made is removed again on an error.
    pub(crate) fn prepare(
        pod: &Pod,
        objects: &Objects,
        dirs: &Dirs,
        memory_limit: i64,
    ) -> Result<Self, VolumeError> {
        let uid = component(
            "metadata.uid",
            pod.metadata.uid.as_deref().unwrap_or_default(),
        )?;
        let has_secrets = pod.spec.volumes.iter().any(|v| v.secret.is_some());
        let folder = make_own(&dirs.volumes, uid)?;
        let mut this = Self {
            folder,
            secrets: None,
            volumes: BTreeMap::new(),
            warnings: Vec::new(),
        };
        let made = (|| {
            if has_secrets {
                this.secrets = Some(make_own(&dirs.secrets, uid)?);
            }
            for volume in &pod.spec.volumes {
                let prepared = this
                    .prepare_one(volume, pod, objects, memory_limit)
                    .map_err(|err| {
                        // The kubelet's sentence (`operation_generator.go`).
                        VolumeError(format!(
                            "MountVolume.SetUp failed for volume {:?} : {err}",
                            volume.name
                        ))
                    })?;
                this.volumes.insert(volume.name.clone(), prepared);
            }
            Ok(())
        })();
        match made {
            Ok(()) => Ok(this),
            Err(err) => match this.remove() {
                Ok(()) => Err(err),
                Err(left) => Err(VolumeError(format!(
                    "{err}; and what was made of its volumes could not be removed: {left}"
                ))),
            },
        }
    }

    fn prepare_one(
        &mut self,
        volume: &Volume,
        pod: &Pod,
        objects: &Objects,
        memory_limit: i64,
    ) -> Result<Prepared, VolumeError> {
        let name = component("name", &volume.name)?;
        let namespace = pod.metadata.namespace_or_default();
        let fs_group = pod.spec.security_context.as_ref().and_then(|s| s.fs_group);
        let path = self.folder.join("volumes").join(name);
        if let Some(host) = &volume.host_path {
            let path = paths::host_path(&host.path, host.kind.as_deref().unwrap_or_default())?;
            return Ok(Prepared::Host { path });
        }
        if let Some(source) = &volume.config_map {
            let payload = files::config_map(source, objects.config_map(namespace, &source.name))?;
            files::write(&path, &payload)?;
            owner::give(&path, fs_group, true)?;
            return Ok(Prepared::Dir {
                path,
                readonly: true,
            });
        }
        if let Some(source) = &volume.secret {
            let path = self.secrets.as_deref().unwrap_or(&self.folder).join(name);
            let payload = files::secret(source, objects.secret(namespace, &source.secret_name))?;
            files::write(&path, &payload)?;
            owner::give(&path, fs_group, true)?;
            return Ok(Prepared::Dir {
                path,
                readonly: true,
            });
        }
        self.empty_dir(volume, path, fs_group, memory_limit)
    }

    fn empty_dir(
        &mut self,
        volume: &Volume,
        path: PathBuf,
        fs_group: Option<i64>,
        memory_limit: i64,
    ) -> Result<Prepared, VolumeError> {
        let EmptyDir { medium, size_limit } = volume.empty_dir.clone().unwrap_or_default();
        let size = size_limit.map_or(0, |q| u64::try_from(q.value()).unwrap_or(0));
        match medium.as_deref().unwrap_or_default() {
            "" => {
                if size > 0 {
                    self.warnings.push(format!(
                        "volume {:?}: sizeLimit is enforced only where the medium is Memory",
                        volume.name
                    ));
                }
                make_dirs(&path, 0o700)?;
                paths::chmod(&path, 0o777)?;
                owner::give(&path, fs_group, false)?;
                Ok(Prepared::Dir {
                    path,
                    readonly: false,
                })
            }
            // The lower of both (`calculateEmptyDirMemorySize`); its mode is 0777 for every group.
            "Memory" => {
                make_dirs(&path, 0o700)?;
                let memory = u64::try_from(memory_limit).unwrap_or(0);
                let limit = [size, memory]
                    .into_iter()
                    .filter(|n| *n > 0)
                    .min()
                    .unwrap_or(0);
                Ok(Prepared::Tmpfs { path, limit })
            }
            other => Err(VolumeError(format!(
                "unknown storage medium {other:?}; use \"\" or Memory"
            ))),
        }
    }

    /// The mounts of `container`, in its order.
    pub(crate) fn mounts(&self, container: &Container) -> Result<Vec<Mount>, VolumeError> {
        container
            .volume_mounts
            .iter()
            .map(|mount| self.mount(container, mount))
            .collect()
    }

    fn mount(&self, container: &Container, mount: &VolumeMount) -> Result<Mount, VolumeError> {
        let volume = self.volumes.get(&mount.name).ok_or_else(|| {
            VolumeError(format!(
                "cannot find volume {:?} to mount into container {:?}",
                mount.name, container.name
            ))
        })?;
        let sub_path = mount.sub_path.as_deref().filter(|sub| !sub.is_empty());
        let within = |base: &Path| match sub_path {
            None => Ok(base.to_owned()),
            Some(sub) => paths::sub_path(base, sub).map_err(|err| {
                // The kubelet's sentence (`kubelet_pods.go`, `makeMounts`), then why.
                VolumeError(format!(
                    "failed to prepare subPath for volumeMount {:?} of container {:?}: {err}",
                    mount.name, container.name
                ))
            }),
        };
        // A relative path is taken from the root (`volumeutil.MakeAbsolutePath`).
        let container_path = Path::new("/").join(&mount.mount_path);
        let (host_path, readonly, tmpfs) = match volume {
            Prepared::Dir { path, readonly } => (within(path)?, *readonly, None),
            Prepared::Host { path } => (within(path)?, false, None),
            Prepared::Tmpfs { path, limit } if sub_path.is_none() => {
                (path.clone(), false, Some(*limit))
            }
            Prepared::Tmpfs { .. } => {
                let text = format!(
                    "container {:?} mounts subPath {:?} of volume {:?}, whose medium is Memory, which is not built yet; mount the whole volume",
                    container.name,
                    sub_path.unwrap_or_default(),
                    mount.name
                );
                return Err(VolumeError(text));
            }
        };
        Ok(Mount {
            container_path,
            host_path,
            readonly: readonly || mount.read_only,
            tmpfs,
            ..Mount::default()
        })
    }

    /// Makes the file in which `container` may leave a last word, empty and open to every user of the
    /// container. One file an attempt.
    pub(crate) fn termination_file(
        &self,
        container: &str,
        attempt: u32,
    ) -> Result<PathBuf, VolumeError> {
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
        self.folder
            .join("containers")
            .join(container)
            .join(attempt.to_string())
    }

    /// Removes everything that [`Self::prepare`] made. Repeatable.
    pub(crate) fn remove(&self) -> io::Result<()> {
        [Some(&self.folder), self.secrets.as_ref()]
            .into_iter()
            .flatten()
            .try_for_each(|dir| remove_tree(dir))
    }
}

/// Makes `root/name`, which must not be there: two pods never share a folder.
fn make_own(root: &Path, name: &str) -> Result<PathBuf, VolumeError> {
    make_dirs(root, 0o700)?;
    let path = root.join(name);
    DirBuilder::new().mode(0o700).create(&path).map_err(|err| match err.kind() {
        io::ErrorKind::AlreadyExists => {
            VolumeError(format!("{} is there already: another pod has the same UID, or it was left by a crash; remove it or leave metadata.uid out", path.display()))
        }
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

pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(io::Error::new(
            err.kind(),
            format!("{}: {err}", path.display()),
        )),
        _ => Ok(()),
    }
}

fn failed(verb: &str, path: &Path, err: &io::Error) -> VolumeError {
    VolumeError(format!("could not {verb} {}: {err}", path.display()))
}

#[cfg(test)]
mod tests;
