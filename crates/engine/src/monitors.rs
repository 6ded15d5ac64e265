//! How a pod's monitor is started, and what is where as seen from it.

use crate::Engine;
use crate::record::SandboxRecord;
use crate::sandbox::{Known, MS_NOSUID_NODEV, failed};
use cofferdam_host::cgroup::{Group, Mode};
use cofferdam_host::privilege;
use cofferdam_model::ContainerId;
use cofferdam_model::cri::{ContainerStatus, Error, LinuxResources, NamespaceMode, Result, SandboxConfig};
use cofferdam_monitor::client;
use cofferdam_monitor::protocol::{MountOp, Start, UserNamespace};
use cofferdam_plan::userns::IdRange;

use cofferdam_plan::layout::PodDirs;
use std::collections::{BTreeMap, BTreeSet};
use cofferdam_network::Pool;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// Room for the files of `/etc` that containers share: a hosts file may have some thousand aliases.
const ETC: &str = "mode=755,size=1m,nr_inodes=64";
const MS_NOEXEC: u64 = 8;
const MS_MOVE: u64 = 8192;

impl Engine {
    pub(crate) fn start_monitor(&self, record: &SandboxRecord, dirs: &PodDirs, enclosure: &Group) -> Result<i32> {
        let (config, ids) = (&record.config, record.ids);
        let own_network = config.network != NamespaceMode::Node;
        // One that is owned by the pod's user namespace cannot be made ahead. Held until the monitor has it.
        let spare = (own_network && ids.is_none()).then(|| self.spare_network()).flatten();
        let start = Start {
            net: spare.as_ref().map(|fd| format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd()).into()),
            socket: dirs.socket(),
            exit_dir: dirs.exits(),
            cgroup_files: enclosure.join_files(),
            unshare_net: own_network,
            unshare_ipc: config.ipc != NamespaceMode::Node,
            hostname: own_network.then(|| config.hostname.clone()),
            mounts: self.monitor_mounts(dirs, config, ids),
            sysctls: sysctl_files(config)?,
            oom_score_adj: Some(privilege::clamp_oom_score_adj(MONITOR_OOM_SCORE).map_err(failed)?),
            user_namespace: ids.map(|ids| UserNamespace { file: dirs.user_namespace(), first: ids.first, count: ids.count }),
        };
        let (client, child) = client::start_monitor(&self.monitor, &start)
            .map_err(|e| Error::Failed(format!("the pod's monitor did not start: {e}")))?;
        self.hub.adopt(&record.id, child);
        Ok(client.monitor_pid())
    }

    /// A network namespace that was made ahead, where the engine makes any and one is ready.
    fn spare_network(&self) -> Option<OwnedFd> {
        let count = self.spare_networks.load(Ordering::Relaxed);
        if count == 0 {
            return None;
        }
        // Without the thread that makes them each pod makes its own, as ever.
        self.pool.get_or_init(|| Pool::new(count).ok()).as_ref()?.take_ready()
    }

    /// What is mounted in the monitor's own mount namespace: the pod's `/dev/shm`, and the cgroup
    /// controllers moved away, so that runtimes leave them alone.
    fn monitor_mounts(&self, dirs: &PodDirs, config: &SandboxConfig, ids: Option<IdRange>) -> Vec<MountOp> {
        let mut ops = Vec::new();
        for (at, target) in self.moved_cgroups() {
            ops.push(MountOp::Mkdir(target.clone()));
            ops.push(MountOp::Mount { source: at, target, fstype: String::new(), flags: MS_MOVE, data: String::new() });
        }
        ops.push(MountOp::Mkdir(dirs.etc()));
        ops.push(tmpfs(dirs.etc(), ETC, MS_NOSUID_NODEV));
        if config.ipc != NamespaceMode::Node {
            ops.push(MountOp::Mkdir(dirs.shm()));
            let owner = ids.map(|ids| format!(",uid={0},gid={0}", ids.first)).unwrap_or_default();
            ops.push(tmpfs(dirs.shm(), &format!("mode=1777,size=65536k{owner}"), MS_NOSUID_NODEV | MS_NOEXEC));
        }
        ops
    }

    /// The cgroup mounts that a monitor moves away, and where to: all but the one of the devices
    /// controller, without which runc refuses to run. On v2 there is but one, and it stays.
    fn moved_cgroups(&self) -> Vec<(PathBuf, PathBuf)> {
        if self.cgroups.mode() == Mode::V2 {
            return vec![];
        }
        let named = self.cgroups.mounts();
        let kept = named.get("devices");
        let all: BTreeSet<PathBuf> = named.values().cloned().chain(self.cgroups.unified().map(Into::into)).collect();
        let target = |at: &PathBuf| self.layout.moved_cgroups().join(at.file_name().unwrap_or_default());
        all.into_iter().filter(|at| Some(at) != kept).map(|at| (at.clone(), target(&at))).collect()
    }

    /// Where a monitor sees the controllers that our groups are not in.
    pub(crate) fn foreign_cgroups(&self) -> Result<Vec<PathBuf>> {
        let all = self.group(cofferdam_plan::layout::CGROUP_ROOT)?.directories();
        let ours: BTreeSet<PathBuf> = all.iter().filter_map(|dir| dir.parent().map(Into::into)).collect();
        Ok(self.moved_cgroups().into_iter().filter(|(at, _)| !ours.contains(at)).map(|(_, target)| target).collect())
    }

    /// The files by which a process that a monitor spawns joins a group: as seen from there.
    pub(crate) fn inner_join_files(&self, group: &Group) -> Vec<PathBuf> {
        let moved = self.moved_cgroups();
        group.join_files().into_iter().map(|file| seen_inside(&moved, file)).collect()
    }

    /// The files by which a process that a monitor spawns joins a container's cgroup, those of controllers
    /// that only few need among them.
    pub(crate) fn container_join_files(&self, known: &Known, id: &ContainerId, resources: &LinuxResources) -> Result<Vec<PathBuf>> {
        let group = self.group_of(known, id)?;
        let mut files = self.inner_join_files(&group);
        let more = self.rare_limits(known, &group, resources)?;
        if !more.is_empty() {
            let moved = self.moved_cgroups();
            files.extend(more.into_iter().map(|file| seen_inside(&moved, file)));
        }
        Ok(files)
    }

    /// As above, for a process that comes to those of a running container.
    pub(crate) fn further_join_files(&self, known: &Known, id: &ContainerId, now: &ContainerStatus) -> Result<Vec<PathBuf>> {
        match now.pid {
            Some(pid) if self.cgroups.mode() == Mode::V2 => Ok(self.group_of(known, id)?.join_files_beside(pid)),
            _ => self.container_join_files(known, id, &now.config.resources),
        }
    }

    /// Sets a container's limits of CPUs and huge pages, where it or its pod has any; the files by which
    /// their controllers are joined.
    pub(crate) fn rare_limits(&self, known: &Known, group: &Group, resources: &LinuxResources) -> Result<Vec<PathBuf>> {
        let mut files = group.set_cpuset(&resources.cpuset_cpus, &resources.cpuset_mems).map_err(failed)?;
        if !resources.hugepages.is_empty() {
            files.extend(limit_huge_pages(group, &resources.hugepages)?);
            return Ok(files);
        }
        // A pod's limit holds for those that have joined the controller.
        let (_, of_pod) = known.resources();
        if !of_pod.hugepages.is_empty() {
            files.extend(limit_huge_pages(&self.group_in(&known.dirs, known.dirs.cgroup())?, &of_pod.hugepages)?);
        }
        Ok(files)
    }

    /// The directories of a group as seen from a monitor, each with the name of its hierarchy.
    pub(crate) fn inner_directories(&self, group: &Group) -> Vec<(PathBuf, PathBuf)> {
        let moved = self.moved_cgroups();
        let named = |dir: PathBuf| {
            // The hierarchy's mount point: what is left without the group's own path.
            let point = dir.ancestors().nth(group.path().components().count()).unwrap_or(&dir);
            (point.file_name().unwrap_or_default().into(), seen_inside(&moved, dir.clone()))
        };
        group.directories().into_iter().map(named).collect()
    }
}

/// Limits huge pages. Where the machine cannot, the pod starts all the same, and that is noted, as
/// containerd has it by default (`tolerate_missing_hugetlb_controller`).
pub(crate) fn limit_huge_pages(group: &Group, limits: &BTreeMap<String, u64>) -> Result<Vec<PathBuf>> {
    match group.set_hugepages(limits) {
        Err(missing @ cofferdam_host::Error::NoController { .. }) => {
            crate::tell(format_args!("warning: {missing}; what is asked for is started without it"));
            Ok(vec![])
        }
        set => set.map_err(failed),
    }
}

/// A path below a cgroup mount that a monitor has moved away, as seen from there.
fn seen_inside(moved: &[(PathBuf, PathBuf)], path: PathBuf) -> PathBuf {
    let seen = moved.iter().find_map(|(at, target)| Some(target.join(path.strip_prefix(at).ok()?)));
    seen.unwrap_or(path)
}

/// A monitor is worth more than what it watches, but must not outlive the machine's own services.
const MONITOR_OOM_SCORE: i32 = -998;

/// A setting's path below `/proc/sys`: dots part its names, and a slash stands for a dot within one, as
/// that of a VLAN's link (sysctl.d(5)).
fn path_of(name: &str) -> String {
    let turned = |c| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    name.chars().map(turned).collect()
}

/// A tmpfs; programs may be run from a volume, and not from `/dev/shm`.
pub(crate) fn tmpfs(target: PathBuf, data: &str, flags: u64) -> MountOp {
    MountOp::Mount {
        source: "tmpfs".into(),
        target,
        fstype: "tmpfs".into(),
        flags,
        data: data.to_owned(),
    }
}

/// Kernel settings that belong to the pod's namespaces, as upstream's safe and unsafe lists name
/// them (`pkg/kubelet/sysctl/namespaces.go`); any other would change the machine.
fn sysctl_files(config: &SandboxConfig) -> Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    for (name, value) in &config.sysctls {
        let network = name.starts_with("net.") && config.network != NamespaceMode::Node;
        let ipc = (name.starts_with("kernel.shm") || name.starts_with("kernel.msg") || name == "kernel.sem" || name.starts_with("fs.mqueue."))
            && config.ipc != NamespaceMode::Node;
        let path = path_of(name);
        let beneath = Path::new(&path).components().all(|part| matches!(part, std::path::Component::Normal(_)));
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b)) && !name.contains("..") && beneath;
        if !plain || !(network || ipc) {
            return Err(Error::Invalid(format!("sysctl \"{name}\" does not belong to a namespace of the pod; it would change the machine")));
        }
        files.push((PathBuf::from("/proc/sys").join(path), value.clone()));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_part_a_settings_names_and_a_slash_is_a_dot_within_one() {
        assert_eq!(path_of("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(path_of("net.ipv4.conf.eth0/1.forwarding"), "net/ipv4/conf/eth0.1/forwarding");
    }

    #[test]
    fn a_setting_outside_the_pods_namespaces_is_refused_however_it_is_written() {
        let asks = |name: &str| {
            let sysctls = [(name.to_owned(), "1".to_owned())].into();
            sysctl_files(&SandboxConfig { sysctls, ..SandboxConfig::default() })
        };
        assert!(asks("net.ipv4.ip_forward").is_ok());
        for bad in ["kernel.panic", "net.//.kernel.panic", "net/../kernel/panic", "net..kernel", "net.x y", "/kernel.panic", "net.//"] {
            assert!(asks(bad).is_err(), "{bad}: {:?}", asks(bad));
        }
    }
}
