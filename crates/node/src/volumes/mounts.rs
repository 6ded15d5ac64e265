//! Where a container has the pod's volumes (`pkg/kubelet/kubelet_pods.go`, `makeMounts`).

use super::{PodVolumes, Prepared, VolumeError, paths};
use crate::env::Environment;
use cofferdam_model::cri::{FEATURE_RECURSIVE_READ_ONLY, Mount, Propagation};
use cofferdam_model::pod::{Container, VolumeMount};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

impl PodVolumes {
    /// The mounts of `container`, in its order. `env` is its environment, for `subPathExpr`.
    pub(crate) fn mounts(&self, container: &Container, env: &Environment) -> Result<Vec<Mount>, VolumeError> {
        container
            .volume_mounts
            .iter()
            .map(|mount| self.mount(container, mount, env))
            .collect()
    }

    fn mount(&self, container: &Container, mount: &VolumeMount, env: &Environment) -> Result<Mount, VolumeError> {
        let volume = self.volumes.get(&mount.name).ok_or_else(|| {
            VolumeError(format!(
                "cannot find volume {:?} to mount into container {:?}",
                mount.name, container.name
            ))
        })?;
        let sub_path = sub_path(mount, env)?;
        let mut found = Mount {
            // A relative path is taken from the root (`volumeutil.MakeAbsolutePath`).
            container_path: Path::new("/").join(&mount.mount_path),
            readonly: mount.read_only,
            recursive_read_only: recursive(mount, self.recursive_read_only)?,
            propagation: propagation(container, mount)?,
            ..Mount::default()
        };
        match volume {
            Prepared::Image { reference } => {
                found.image = Some(reference.clone());
                found.image_sub_path = sub_path;
                found.readonly = true;
            }
            Prepared::Tmpfs {
                path,
                limit,
                huge_page_size,
                group,
            } => {
                found.host_path = path.clone();
                found.tmpfs = Some(*limit);
                found.huge_page_size = *huge_page_size;
                found.group = *group;
                found.sub_path = sub_path;
            }
            Prepared::Dir { path, .. } | Prepared::Host { path } => {
                if !sub_path.as_os_str().is_empty() {
                    paths::make_sub_path(path, &sub_path).map_err(|err| {
                        // The kubelet's sentence, then why.
                        let (volume, container) = (&mount.name, &container.name);
                        VolumeError(format!(
                            "failed to prepare subPath for volumeMount {volume:?} of container {container:?}: {err}"
                        ))
                    })?;
                }
                found.host_path = path.clone();
                found.sub_path = sub_path;
                found.readonly |= matches!(volume, Prepared::Dir { readonly: true, .. });
            }
        }
        Ok(found)
    }
}

/// The path within the volume; empty for all of it. Nobody follows it by name: who writes in the
/// volume could put a link there at any moment (CVE-2017-1002101), so the engine resolves it within
/// the volume when it mounts ([`Mount::sub_path`]).
fn sub_path(mount: &VolumeMount, env: &Environment) -> Result<PathBuf, VolumeError> {
    let given = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    let text = match given(&mount.sub_path_expr) {
        Some(expression) => Some(env.expand_known(&expression).map_err(|err| VolumeError(err.0))?),
        None => given(&mount.sub_path),
    };
    let wrong = |why: String| Err(VolumeError(why));
    match text.filter(|t| !t.is_empty()) {
        None => Ok(PathBuf::new()),
        // The kubelet's sentences.
        Some(text) if text.starts_with('/') => wrong(format!("error SubPath `{text}` must not be an absolute path")),
        Some(text) if text.split('/').any(|part| part == "..") => {
            wrong(format!("unable to provision SubPath `{text}`: must not contain '..'"))
        }
        Some(text) => paths::descending(&text).map_err(|err| VolumeError(format!("unable to provision SubPath `{text}`: {err}"))),
    }
}

/// What can be told of a container's mounts before anything is made.
pub(crate) fn check(container: &Container, features: &BTreeMap<String, bool>) -> Result<(), String> {
    let supported = features.get(FEATURE_RECURSIVE_READ_ONLY) == Some(&true);
    let both = |m: &VolumeMount| {
        [&m.sub_path, &m.sub_path_expr]
            .into_iter()
            .all(|s| s.as_ref().is_some_and(|s| !s.is_empty()))
    };
    for mount in &container.volume_mounts {
        recursive(mount, supported)
            .and(propagation(container, mount))
            .map_err(|err| err.0)?;
        if both(mount) {
            return Err(format!(
                "volumeMount {:?}: subPathExpr and subPath are mutually exclusive; remove one",
                mount.name
            ));
        }
    }
    Ok(())
}

/// Whether a mount is read-only with what is mounted beneath (`resolveRecursiveReadOnly`).
fn recursive(mount: &VolumeMount, supported: bool) -> Result<bool, VolumeError> {
    let mode = mount.recursive_read_only.as_deref().unwrap_or("Disabled");
    let volume = &mount.name;
    let refused = |why: String| Err(VolumeError(format!("failed to resolve recursive read-only mode: {why}")));
    if mode == "Disabled" {
        return Ok(false);
    }
    if !mount.read_only {
        return refused(format!(
            "volume {volume:?} requested recursive read-only mode, but it is not read-only"
        ));
    }
    if let Some(propagation) = mount.mount_propagation.as_deref().filter(|p| *p != "None") {
        return refused(format!(
            "volume {volume:?} requested recursive read-only mode, but it is not compatible with propagation {propagation:?}"
        ));
    }
    match mode {
        "IfPossible" => Ok(supported),
        "Enabled" if supported => Ok(true),
        "Enabled" => refused(format!(
            "volume {volume:?} requested recursive read-only mode, but it is not supported by the runtime"
        )),
        other => refused(format!("unknown recursive read-only mode {other:?}")),
    }
}

/// `translateMountPropagation`; and what only a privileged container may (`validateMountPropagation`).
fn propagation(container: &Container, mount: &VolumeMount) -> Result<Propagation, VolumeError> {
    let privileged = container.security_context.as_ref().is_some_and(|s| s.privileged == Some(true));
    match mount.mount_propagation.as_deref() {
        None | Some("None") => Ok(Propagation::Private),
        Some("HostToContainer") => Ok(Propagation::HostToContainer),
        Some("Bidirectional") if privileged => Ok(Propagation::Bidirectional),
        Some("Bidirectional") => Err(VolumeError(
            "Bidirectional mount propagation is available only to privileged containers".into(),
        )),
        Some(other) => Err(VolumeError(format!("invalid MountPropagation mode: {other:?}"))),
    }
}
