//! A kubelet's own cgroup of a pod, and what it sends of a container's limits.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::common::{World, names};
use crate::cri::Kubelet;
use cofferdam_cri_api::v1;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A mebibyte.
pub(crate) const MIB: i64 = 1 << 20;
/// Where cgroups are mounted.
pub(crate) const ROOT: &str = "/sys/fs/cgroup";
/// What the kubelet's own cgroup of a pod is limited to.
pub(crate) const POD_MEMORY: &str = "209715200";
pub(crate) const POD_TASKS: &str = "200";

/// Whether this machine has cgroup v2 alone.
pub(crate) fn unified() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// The directories of the hierarchies that a kubelet uses.
pub(crate) fn hierarchies() -> Vec<PathBuf> {
    let v1 = ["memory", "cpu", "pids"].map(|name| Path::new(ROOT).join(name));
    if unified() { vec![ROOT.into()] } else { v1.to_vec() }
}

/// What a file says.
pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.trim().to_owned()
}

/// A kubelet's own cgroup of one pod, as it makes it before it asks for the sandbox.
pub(crate) struct Parent {
    /// As the kubelet names it.
    pub(crate) asked: String,
    /// Below a hierarchy's root.
    pub(crate) lies: PathBuf,
}

impl Parent {
    /// Of the driver `cgroupfs`, with limits.
    pub(crate) fn paths(world: &World) -> Self {
        let lies = format!("{}kube/burstable/pod1-2", world.bridge);
        Self {
            asked: format!("/{lies}"),
            lies: lies.into(),
        }
        .made(true)
        .limited()
    }

    /// Of the driver `systemd`, with limits: named by its path, as a kubelet does it, or by the slice alone.
    pub(crate) fn slices(world: &World, whole: bool) -> Self {
        let top = format!("{}kube", world.bridge);
        let slice = format!("{top}-burstable-pod1_2.slice");
        let lies = format!("{top}.slice/{top}-burstable.slice/{slice}");
        let asked = if whole { format!("/{lies}") } else { slice };
        Self { asked, lies: lies.into() }.made(true).limited()
    }

    /// Makes the directories; with `controllers`, each lets its children have all that it has, as a kubelet's do
    /// (libcontainer).
    pub(crate) fn made(self, controllers: bool) -> Self {
        for mut at in hierarchies() {
            for part in &self.lies {
                if controllers && unified() {
                    let given: String = read(at.join("cgroup.controllers")).split(' ').map(|c| format!("+{c} ")).collect();
                    fs::write(at.join("cgroup.subtree_control"), given.trim()).unwrap();
                }
                at.push(part);
                fs::create_dir_all(&at).unwrap();
            }
        }
        self
    }

    pub(crate) fn limited(self) -> Self {
        fs::write(self.memory("memory.max"), POD_MEMORY).unwrap();
        fs::write(self.file("pids", "pids.max"), POD_TASKS).unwrap();
        self
    }

    /// A file of the cgroup, or of one within it.
    pub(crate) fn file(&self, controller: &str, name: &str) -> PathBuf {
        let point = if unified() { ROOT.into() } else { Path::new(ROOT).join(controller) };
        point.join(&self.lies).join(name)
    }

    pub(crate) fn memory(&self, name: &str) -> PathBuf {
        let v1 = name.replace("memory.max", "memory.limit_in_bytes");
        self.file("memory", if unified() { name } else { &v1 })
    }

    /// A sandbox's request within it.
    pub(crate) fn pod_config(&self, kubelet: &Kubelet, name: &str) -> v1::PodSandboxConfig {
        let mut config = kubelet.pod_config(name, 0);
        config.linux.as_mut().unwrap().cgroup_parent.clone_from(&self.asked);
        config
    }

    /// Fails unless it is as the kubelet made it, and nothing is in it.
    #[track_caller]
    pub(crate) fn assert_untouched(&self, after: &str) {
        assert_eq!(read(self.memory("memory.max")), POD_MEMORY, "{after}");
        assert_eq!(read(self.file("pids", "pids.max")), POD_TASKS, "{after}");
        for at in hierarchies().into_iter().map(|root| root.join(&self.lies)) {
            let within: Vec<_> = names(&at).into_iter().filter(|n| at.join(n).is_dir()).collect();
            assert_eq!(
                (within, read(at.join("cgroup.procs"))),
                (vec![], String::new()),
                "{after}: {}",
                at.display()
            );
        }
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        // On v1 the daemon makes it in further hierarchies.
        let all = names(Path::new(ROOT)).into_iter().map(|name| Path::new(ROOT).join(name));
        for root in all.chain([ROOT.into()]) {
            for part in self.lies.ancestors().filter(|p| !p.as_os_str().is_empty()) {
                let _ = fs::remove_dir(root.join(part));
            }
        }
    }
}

/// What a kubelet sends of a container with limits; on v2 with what it names by file.
pub(crate) fn resources(parent: &Parent, memory: i64, quota: i64, shares: i64, together: bool) -> v1::LinuxContainerResources {
    let mut by_name = BTreeMap::new();
    if unified() {
        if together {
            by_name.insert("memory.oom.group".to_owned(), "1".to_owned());
        }
        if parent.memory("memory.swap.max").exists() {
            by_name.insert("memory.swap.max".to_owned(), "0".to_owned());
        }
    }
    v1::LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: quota,
        cpu_shares: shares,
        memory_limit_in_bytes: memory,
        oom_score_adj: 900,
        // For each size that the machine has, asked for or not.
        hugepage_limits: vec![v1::HugepageLimit {
            page_size: "2MB".into(),
            limit: 0,
        }],
        unified: by_name.into_iter().collect(),
        ..Default::default()
    }
}

/// A container with limits.
pub(crate) fn with(mut config: v1::ContainerConfig, resources: v1::LinuxContainerResources) -> v1::ContainerConfig {
    let linux = config.linux.get_or_insert_default();
    linux.resources = Some(resources);
    config
}

/// What the kernel holds a container to.
#[track_caller]
pub(crate) fn assert_held(parent: &Parent, group: &Path, memory: i64, quota: i64, shares: (&str, &str), after: &str) {
    let file = |controller: &str, name: &str| read(parent.file(controller, "").join(group).join(name));
    if !unified() {
        let held = (
            file("memory", "memory.limit_in_bytes"),
            file("cpu", "cpu.cfs_quota_us"),
            file("cpu", "cpu.shares"),
        );
        assert_eq!(held, (memory.to_string(), quota.to_string(), shares.0.to_owned()), "{after}");
        return;
    }
    let held = ["memory.max", "cpu.max", "cpu.weight", "memory.oom.group", "pids.max"].map(|name| file("", name));
    assert_eq!(
        held,
        [&memory.to_string(), &format!("{quota} 100000"), shares.1, "1", "max"].map(str::to_owned),
        "{after}"
    );
    if parent.memory("memory.swap.max").exists() {
        assert_eq!(file("", "memory.swap.max"), "0", "{after}");
    }
}
