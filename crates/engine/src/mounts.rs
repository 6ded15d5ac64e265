//! What a container sees of volumes. What a mount needs beside its source is done in the mount
//! namespace of the runtime's own command, under the container's directory: nothing of it is ever
//! mounted on the machine, so nothing can stay mounted. A mount that needs nothing costs nothing.

use crate::Engine;
use crate::monitors::tmpfs;
use crate::sandbox::{Known, MS_NOSUID_NODEV, failed};
use cofferdam_host::mountinfo;
use cofferdam_model::ContainerId;
use cofferdam_model::cri::{ContainerConfig, Error, Mount, Propagation, Result};
use cofferdam_images::Image;
use cofferdam_monitor::protocol::MountOp;
use cofferdam_plan::layout::ContainerDirs;
use cofferdam_plan::spec::{self, SpecMount};
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

const MS_RDONLY: u64 = 1;

/// A container's mounts.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    /// Done before the runtime runs.
    pub(crate) before: Vec<MountOp>,
    /// What the runtime is told.
    pub(crate) list: Vec<SpecMount>,
    /// Ids of the images among them.
    pub(crate) images: Vec<String>,
}

impl Engine {
    /// The mounts that were asked for.
    pub(crate) fn mounts(&self, known: &Known, id: &ContainerId, config: &ContainerConfig) -> Result<Mounts> {
        let mut all = Mounts::default();
        for (number, mount) in config.mounts.iter().enumerate() {
            check(config, mount)?;
            let at = known.dirs.container(id).bundle.join(format!("m{number}"));
            let source = self.source(known, mount, &at, &mut all)?;
            let readonly = mount.readonly || mount.image.is_some();
            let mut told = SpecMount::volume(source, &mount.container_path, readonly, mount.recursive_read_only, mount.propagation);
            told.options.extend(match mount.tmpfs.is_some() || mount.image.is_some() {
                true if known.record.ids.is_some() => ["nosuid", "nodev"].map(str::to_owned).to_vec(),
                true => vec![],
                false => kept_flags(known, &mount.host_path),
            });
            all.list.push(told);
        }
        Ok(all)
    }

    /// Where the runtime finds what is to be mounted; `at` is a place for what has to be prepared.
    fn source(&self, known: &Known, mount: &Mount, at: &Path, all: &mut Mounts) -> Result<PathBuf> {
        let within = |root: PathBuf, sub: &Path, make| MountOp::Within { root, sub: sub.to_owned(), target: at.to_owned(), make };
        let plain = mount.sub_path.as_os_str().is_empty();
        if let Some(image) = &mount.image {
            return self.image_source(known, mount, image, at, all);
        }
        if mount.tmpfs.is_some() {
            let volume = tmpfs_at(known, &mount.host_path);
            // Made with the pod's own ids, so that none have to be mapped.
            return Ok(if plain {
                volume
            } else {
                all.before.push(within(volume, &mount.sub_path, true));
                at.to_owned()
            });
        }
        // As containerd does: what is mounted is what the path leads to now, for the look below too.
        let host_path = std::fs::canonicalize(&mount.host_path).unwrap_or_else(|_| mount.host_path.clone());
        if mount.propagation == Propagation::Bidirectional {
            let on = mountinfo::mount_of(&host_path).map_err(|e| Error::Invalid(e.to_string()))?;
            if !on.shared {
                // containerd's words (`pkg/cri/opts`).
                let (path, point) = (mount.host_path.display(), on.point.display());
                return Err(Error::Invalid(format!("path \"{path}\" is mounted on \"{point}\" but it is not a shared mount")));
            }
        }
        // A pod has a mount namespace of its own. What was mounted on the machine since that was made shows
        // in it where the machine shares its mounts; where not, and for a peer of the machine's, the
        // machine is asked.
        let asked = mount.propagation == Propagation::Bidirectional || !machine_shares() || !is_the_same(&host_path, known.result.monitor_pid);
        let source = if asked {
            all.before.push(MountOp::Shared { root: host_path, sub: mount.sub_path.clone(), target: at.to_owned() });
            at.to_owned()
        } else if !plain {
            all.before.push(within(host_path, &mount.sub_path, true));
            at.to_owned()
        } else {
            host_path
        };
        Ok(mapped(known, source, at, &mut all.before))
    }

    /// The files of an image, merged, and the part of them that is wanted.
    fn image_source(&self, known: &Known, mount: &Mount, image: &str, at: &Path, all: &mut Mounts) -> Result<PathBuf> {
        let image = self.store.resolve(image).map_err(|e| match e {
            cofferdam_images::Error::NotFound(_) => Error::NotFound(e.to_string()),
            other => failed(other),
        })?;
        let root = at.with_extension("image");
        let mut layers = self.store.lower_dirs(&image).map_err(failed)?;
        if !may_have(&layers, &mount.image_sub_path) {
            let (sub, name) = (mount.image_sub_path.display(), mount.image.as_deref().unwrap_or_default());
            return Err(Error::Invalid(format!("\"{sub}\" of image {name} cannot be mounted: the image has no such path")));
        }
        if known.record.ids.is_some() {
            layers = self.mapped_layers(known, layers, &root, &mut all.before);
        }
        // An overlay that cannot be written takes two layers or more: one that is empty goes below.
        let empty = at.with_extension("empty");
        layers.push(empty.clone());
        let lower: Vec<_> = layers.iter().map(|p| p.to_string_lossy()).collect();
        all.before.extend([MountOp::Mkdir(empty), MountOp::Mkdir(root.clone())]);
        all.before.push(MountOp::Mount {
            source: "overlay".into(),
            target: root.clone(),
            fstype: "overlay".into(),
            flags: MS_RDONLY | MS_NOSUID_NODEV,
            data: format!("lowerdir={}", lower.join(":")),
        });
        all.images.push(image.id.to_string());
        if mount.image_sub_path.as_os_str().is_empty() {
            return Ok(root);
        }
        all.before.push(MountOp::Within { root, sub: mount.image_sub_path.clone(), target: at.to_owned(), make: false });
        Ok(at.to_owned())
    }

    /// An image as one read-only file system, mounted from its file.
    pub(crate) fn block_root(&self, dirs: &ContainerDirs, image: &Image, before: &mut Vec<MountOp>) -> Result<PathBuf> {
        let block = self.store.block_root(image).map_err(failed)?;
        let target = dirs.bundle.join("block");
        before.push(MountOp::Mkdir(target.clone()));
        before.push(MountOp::Mount { source: block.path, target: target.clone(), fstype: block.fstype.into(), flags: MS_RDONLY, data: String::new() });
        Ok(target)
    }

    /// Layers with their ids as the pod's user namespace has them: an overlay's own cannot be mapped.
    pub(crate) fn mapped_layers(&self, known: &Known, layers: Vec<PathBuf>, at: &Path, before: &mut Vec<MountOp>) -> Vec<PathBuf> {
        let mut mapped = Vec::with_capacity(layers.len());
        for (number, source) in layers.into_iter().enumerate() {
            let target = at.with_extension(format!("l{number}"));
            before.push(MountOp::Mapped { source, target: target.clone(), user_namespace: known.dirs.user_namespace() });
            mapped.push(target);
        }
        mapped
    }

    /// Mounts the pod's memory volumes in the monitor's mount namespace, each once.
    pub(crate) fn mount_tmpfs(&self, known: &Known, config: &ContainerConfig) -> Result<()> {
        let mut ops = Vec::new();
        for mount in &config.mounts {
            let Some(limit) = mount.tmpfs else { continue };
            let at = tmpfs_at(known, &mount.host_path);
            if !at.exists() && !ops.iter().any(|op| matches!(op, MountOp::Mkdir(p) if *p == at)) {
                ops.push(MountOp::Mkdir(at.clone()));
                ops.push(memory(at, limit, mount, known));
            }
        }
        if ops.is_empty() {
            return Ok(());
        }
        self.monitor(known)?.mounts(&ops).map_err(|e| {
            // A directory that stayed would be taken for the mounted volume by the next container.
            for op in &ops {
                if let MountOp::Mkdir(at) = op {
                    let _ = std::fs::remove_dir(at);
                }
            }
            failed(e)
        })
    }
}

/// `source` with its ids as the pod's user namespace has them, where it has one; `at` is a place for it.
pub(crate) fn mapped(known: &Known, source: PathBuf, at: &Path, before: &mut Vec<MountOp>) -> PathBuf {
    if known.record.ids.is_none() {
        return source;
    }
    let target = at.with_extension("mapped");
    before.push(MountOp::Mapped { source, target: target.clone(), user_namespace: known.dirs.user_namespace() });
    target
}

/// What a mount's source cannot do, as options: in a user namespace no bind of it may lose them, and runc
/// 1.1 loses what it is not told.
fn kept_flags(known: &Known, source: &Path) -> Vec<String> {
    use rustix::fs::StatVfsMountFlags as Flags;
    if known.record.ids.is_none() {
        return vec![];
    }
    // One that is not there is for the runtime to tell.
    let Ok(found) = rustix::fs::statvfs(source) else { return vec![] };
    let all = [(Flags::NOSUID, "nosuid"), (Flags::NODEV, "nodev"), (Flags::NOEXEC, "noexec")];
    all.iter().filter(|(flag, _)| found.f_flag.contains(*flag)).map(|(_, name)| (*name).to_owned()).collect()
}

/// A memory volume; the root of the pod's user namespace owns it.
fn memory(at: PathBuf, limit: u64, mount: &Mount, known: &Known) -> MountOp {
    match mount.huge_page_size {
        None => tmpfs(at, &spec::memory_options(limit, mount.group, known.record.ids), MS_NOSUID_NODEV),
        Some(size) => {
            let data = spec::hugetlbfs_options(size, limit, mount.group, known.record.ids);
            MountOp::Mount { source: "nodev".into(), target: at, fstype: "hugetlbfs".into(), flags: MS_NOSUID_NODEV, data }
        }
    }
}

/// Whether a path may be found in layers that are put together; told before a runtime runs, as some mount
/// only when a container starts. Where a link is on the way, only the kernel can tell.
fn may_have(layers: &[PathBuf], sub: &Path) -> bool {
    let in_layer = |layer: &PathBuf| {
        let mut at = layer.clone();
        for part in sub.components() {
            at.push(part);
            match std::fs::symlink_metadata(&at) {
                Ok(found) if found.is_symlink() => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
        true
    };
    sub.as_os_str().is_empty() || layers.iter().any(in_layer)
}

/// Whether a path leads to the same on the machine and in the mount namespace of a pod's monitor. It may not below
/// a mount that is not shared, though the machine's root is.
fn is_the_same(path: &Path, monitor_pid: i32) -> bool {
    use std::os::unix::fs::MetadataExt;
    let there = Path::new("/proc").join(monitor_pid.to_string()).join("root").join(path.strip_prefix("/").unwrap_or(path));
    let what = |path: &Path| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    what(path) == what(&there)
}

/// Whether the machine's mounts are shared with the namespaces made from it, as systemd has it: looked at
/// once, for it costs as much as all else of a container's mounts.
fn machine_shares() -> bool {
    static SHARED: OnceLock<bool> = OnceLock::new();
    *SHARED.get_or_init(|| mountinfo::mount_of("/").is_ok_and(|root| root.shared))
}

/// An error, with the user's paths in place of those where what is mounted was prepared.
pub(crate) fn by_their_names(error: String, dir: &Path, config: &ContainerConfig) -> String {
    // The last first: `m1` begins `m10`.
    config.mounts.iter().enumerate().rev().fold(error, |error, (number, mount)| {
        let source = if mount.image.is_some() { &mount.container_path } else { &mount.host_path };
        error.replace(&dir.join(format!("m{number}")).display().to_string(), &source.display().to_string())
    })
}

fn check(config: &ContainerConfig, mount: &Mount) -> Result<()> {
    let at = mount.container_path.display();
    let wrong = |what: String, rule: &str| Error::Invalid(format!("{what} of container \"{}\" must be {rule}, without \"..\"", config.name));
    if !spec::is_mount_target(&mount.container_path) {
        return Err(wrong(format!("mount path \"{at}\""), "absolute"));
    }
    for sub in [&mount.sub_path, &mount.image_sub_path] {
        if !sub.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(wrong(format!("path \"{}\" within the volume at \"{at}\"", sub.display()), "relative"));
        }
    }
    Ok(())
}

/// Where a memory volume is mounted in the monitor's mount namespace.
pub(crate) fn tmpfs_at(known: &Known, volume: &Path) -> PathBuf {
    let name = volume.to_string_lossy().bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    known.dirs.run.join(format!("tmpfs-{name:016x}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_path_that_no_layer_has_is_missed() {
        let dir = tempfile::tempdir().unwrap();
        let layers = ["a", "b"].map(|name| dir.path().join(name)).to_vec();
        std::fs::create_dir_all(layers[1].join("x/y")).unwrap();
        std::fs::create_dir(&layers[0]).unwrap();
        std::os::unix::fs::symlink("x", layers[0].join("link")).unwrap();
        for (sub, there) in [("", true), ("x/y", true), ("x/./y", true), ("link/y", true), ("y", false), ("x/z", false)] {
            assert_eq!(may_have(&layers, Path::new(sub)), there, "{sub}");
        }
    }

    #[test]
    fn errors_name_the_users_paths() {
        let from = |path: &str| Mount { host_path: path.into(), ..Mount::default() };
        let mounts = (0..11).map(|number| from(&format!("/data/{number}"))).collect();
        let config = ContainerConfig { mounts, ..ContainerConfig::default() };
        let told = by_their_names("/l/c/m10 and /l/c/m1 are gone".into(), Path::new("/l/c"), &config);
        assert_eq!(told, "/data/10 and /data/1 are gone");
    }

    #[test]
    fn paths_that_could_lead_out_are_refused() {
        let config = ContainerConfig { name: "app".into(), ..ContainerConfig::default() };
        let mount = |container_path: &str, sub_path: &str| Mount { container_path: container_path.into(), sub_path: sub_path.into(), ..Mount::default() };
        check(&config, &mount("/a", "b/c")).unwrap();
        for (mount, told) in [
            (mount("/a/../b", ""), "mount path \"/a/../b\" of container \"app\" must be absolute, without \"..\""),
            (mount("a", ""), "must be absolute"),
            (mount("/a", "../b"), "path \"../b\" within the volume at \"/a\" of container \"app\" must be relative, without \"..\""),
            (mount("/a", "/b"), "must be relative"),
        ] {
            let why = check(&config, &mount).unwrap_err().to_string();
            assert!(why.contains(told), "{why}");
        }
    }
}
