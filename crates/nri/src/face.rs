//! What the runtime gives and gets: plain types.

use cofferdam_model::cri::{
    ContainerConfig, ContainerState, ContainerStatus, Device, LinuxResources, Mount, OciHook, Profile, SandboxConfig, SandboxStatus,
};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How loud something is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A plugin came or left as it should.
    Info,
    /// A plugin failed or was dropped.
    Warn,
}

/// Who is told what happens outside of any verb: one sentence each.
pub type Log = Arc<dyn Fn(Level, &str) + Send + Sync>;

/// How NRI is set up. The defaults are upstream's.
#[derive(Clone)]
pub struct Options {
    /// The runtime's name, as plugins are told.
    pub runtime_name: String,
    /// The runtime's version, as plugins are told.
    pub runtime_version: String,
    /// Where external plugins connect; `None`: they may not.
    pub socket: Option<PathBuf>,
    /// Directory of pre-installed plugins (`NN-name`), started by [`Nri::start`](crate::Nri::start).
    pub plugin_dir: PathBuf,
    /// Directory of their configurations: `NN-name.conf`, else `name.conf`.
    pub config_dir: PathBuf,
    /// How long a plugin may take to register after it connected or was started.
    pub registration_timeout: Duration,
    /// How long a plugin may take for an answer.
    pub request_timeout: Duration,
    /// Plugins, as `name` or `NN-name`, without which no pod and no container starts.
    pub required: Vec<String>,
    /// Pods whose annotation of this key is `true` start without the required ones, annotated ones too.
    pub tolerate_missing_annotation: Option<String>,
    /// Who is told what happens outside of any verb.
    pub log: Log,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            runtime_name: "cofferdam".to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            socket: Some("/var/run/nri/nri.sock".into()),
            plugin_dir: "/opt/nri/plugins".into(),
            config_dir: "/etc/nri/conf.d".into(),
            registration_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(2),
            required: Vec::new(),
            tolerate_missing_annotation: None,
            log: Arc::new(|_, _| {}),
        }
    }
}

/// What plugins see of the runtime and may ask of it at any time. Its methods are called from threads of
/// this crate, several at once, also while a verb waits for a plugin; they do not call [`Nri`](crate::Nri).
pub trait State: Send + Sync {
    /// All pods and containers, for a plugin that just came.
    fn snapshot(&self) -> (Vec<Pod>, Vec<Container>);
    /// Changes a container's limits, as a plugin asks on its own; an error in one sentence.
    fn update(&self, update: &Update) -> Result<(), String>;
    /// Ends a container, as a plugin asks on its own; an error in one sentence.
    fn evict(&self, eviction: &Eviction) -> Result<(), String>;
}

/// A pod as plugins are told.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pod {
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Namespace.
    pub namespace: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// The handler that runs it.
    pub handler: String,
    /// Cost of the enclosure.
    pub overhead: LinuxResources,
    /// Limits of the pod's cgroup.
    pub resources: LinuxResources,
    /// The cgroup's parent, as the kubelet named it.
    pub cgroup_parent: String,
    /// Process id of the sandbox; 0 where it has none.
    pub pid: u32,
    /// Addresses.
    pub ips: Vec<String>,
}

impl Pod {
    /// The pod of a request.
    pub fn new(id: &str, config: &SandboxConfig, handler: &str) -> Self {
        Self {
            id: id.to_owned(),
            name: config.name.clone(),
            uid: config.uid.clone(),
            namespace: config.namespace.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            handler: handler.to_owned(),
            overhead: config.overhead.clone(),
            resources: config.resources.clone(),
            cgroup_parent: config.cgroup_parent.to_string_lossy().into_owned(),
            pid: 0,
            ips: Vec::new(),
        }
    }
}

impl From<&SandboxStatus> for Pod {
    fn from(status: &SandboxStatus) -> Self {
        let ips = status.ips.iter().map(ToString::to_string).collect();
        Self {
            ips,
            ..Self::new(status.id.as_str(), &status.config, &status.handler)
        }
    }
}

/// A container as plugins are told.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Container {
    /// Id.
    pub id: String,
    /// Id of its pod.
    pub pod: String,
    /// Name in the pod.
    pub name: String,
    /// State; `None` while it is being created.
    pub state: Option<ContainerState>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// The command that it runs, the image's included where that counts.
    pub args: Vec<String>,
    /// The image's environment, in order; plugins cannot take it away.
    pub image_env: Vec<(String, String)>,
    /// The environment of its request, in order.
    pub env: Vec<(String, String)>,
    /// Mounts of its request.
    pub mounts: Vec<Mount>,
    /// Devices of its request.
    pub devices: Vec<Device>,
    /// CDI devices of its request.
    pub cdi_devices: Vec<String>,
    /// Hooks by stage.
    pub hooks: Vec<(String, OciHook)>,
    /// Limits of its processes: name, soft, hard.
    pub rlimits: Vec<(String, u64, u64)>,
    /// Limits.
    pub resources: LinuxResources,
    /// Seccomp profile.
    pub seccomp: Profile,
    /// User and group, where they are known.
    pub user: Option<(u32, u32)>,
    /// Further groups.
    pub groups: Vec<u32>,
    /// The image as the pod names it, and its id (digest of its configuration).
    pub image: (String, String),
    /// Process id; 0 where it has none.
    pub pid: u32,
    /// Nanoseconds since 1970; 0 where it has not happened.
    pub created_at: i64,
    /// As above.
    pub started_at: i64,
    /// As above.
    pub finished_at: i64,
    /// Exit code.
    pub exit_code: i32,
    /// Why it ended, in a word.
    pub reason: String,
    /// One sentence beside the reason.
    pub message: String,
}

impl Container {
    /// The container of a request. Who knows the image adds [`Container::image_env`] and what of its
    /// command counts.
    pub fn new(id: &str, pod: &str, config: &ContainerConfig) -> Self {
        let id_of = |value: Option<i64>| value.and_then(|id| u32::try_from(id).ok());
        let security = &config.security;
        let image = if config.user_image.is_empty() {
            &config.image
        } else {
            &config.user_image
        };
        Self {
            id: id.to_owned(),
            pod: pod.to_owned(),
            name: config.name.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            args: config.command.iter().chain(&config.args).cloned().collect(),
            env: config.env.clone(),
            mounts: config.mounts.clone(),
            devices: config.devices.clone(),
            cdi_devices: config.cdi_devices.clone(),
            hooks: config.hooks.clone(),
            rlimits: config.rlimits.clone(),
            resources: config.resources.clone(),
            seccomp: security.seccomp.clone(),
            user: id_of(security.run_as_user).map(|user| (user, id_of(security.run_as_group).unwrap_or(0))),
            groups: security
                .supplemental_groups
                .iter()
                .filter_map(|group| id_of(Some(*group)))
                .collect(),
            image: (image.clone(), String::new()),
            ..Self::default()
        }
    }
}

impl From<&ContainerStatus> for Container {
    fn from(status: &ContainerStatus) -> Self {
        let mut container = Self::new(status.id.as_str(), status.pod.as_str(), &status.config);
        container.state = Some(status.state);
        container.image.1.clone_from(&status.image_id);
        container.pid = status.pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
        container.created_at = status.created_at;
        container.started_at = status.started_at;
        container.finished_at = status.finished_at;
        container.exit_code = status.exit_code;
        container.reason.clone_from(&status.reason);
        container.message.clone_from(&status.message);
        container
    }
}

/// A change of a container's limits that a plugin asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// The container's id.
    pub container: String,
    /// What changes.
    pub resources: ResourceChange,
    /// The plugin does not mind if it fails.
    pub ignore_failure: bool,
}

/// A container that a plugin wants ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Eviction {
    /// The container's id.
    pub container: String,
    /// Why, in the plugin's words.
    pub reason: String,
}

/// What all plugins together make of a container's creation. Evictions that they asked for were given to
/// [`State::evict`] already.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Created {
    /// Changes of the container itself.
    pub adjustment: Adjustment,
    /// Changes of other containers.
    pub updates: Vec<Update>,
}

/// What all plugins together make of a container's update.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Updated {
    /// The limits to set: those asked for with the plugins' changes.
    pub resources: LinuxResources,
    /// Changes of other containers.
    pub updates: Vec<Update>,
}

/// Limits that change; `None` and empty for what stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResourceChange {
    /// CPU shares (cgroup v1 scale).
    pub cpu_shares: Option<u64>,
    /// CPU quota, microseconds a period.
    pub cpu_quota: Option<i64>,
    /// CPU period, microseconds.
    pub cpu_period: Option<u64>,
    /// CPUs that may be used; empty: no change.
    pub cpuset_cpus: String,
    /// Memory nodes that may be used; empty: no change.
    pub cpuset_mems: String,
    /// Memory limit, bytes.
    pub memory_limit: Option<i64>,
    /// Limit of memory and swap together, bytes.
    pub memory_swap_limit: Option<i64>,
    /// Greatest number of processes.
    pub pids_limit: Option<i64>,
    /// oom_score_adj of the processes; at creation only.
    pub oom_score_adj: Option<i32>,
    /// Limits of huge pages: size to bytes.
    pub hugepages: BTreeMap<String, u64>,
    /// Files of a cgroup v2 and what to write into each.
    pub unified: BTreeMap<String, String>,
}

impl ResourceChange {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Changes `resources`.
    pub fn apply(&self, resources: &mut LinuxResources) {
        fn set<T: Copy>(value: Option<T>, into: &mut T) {
            if let Some(value) = value {
                *into = value;
            }
        }
        set(self.cpu_shares, &mut resources.cpu_shares);
        set(self.cpu_quota, &mut resources.cpu_quota);
        set(self.cpu_period, &mut resources.cpu_period);
        set(self.memory_limit, &mut resources.memory_limit);
        set(self.memory_swap_limit, &mut resources.memory_swap_limit);
        set(self.pids_limit, &mut resources.pids_limit);
        if self.oom_score_adj.is_some() {
            resources.oom_score_adj = self.oom_score_adj;
        }
        for (value, into) in [
            (&self.cpuset_cpus, &mut resources.cpuset_cpus),
            (&self.cpuset_mems, &mut resources.cpuset_mems),
        ] {
            if !value.is_empty() {
                into.clone_from(value);
            }
        }
        resources
            .hugepages
            .extend(self.hugepages.iter().map(|(size, limit)| (size.clone(), *limit)));
        resources
            .unified
            .extend(self.unified.iter().map(|(file, value)| (file.clone(), value.clone())));
    }
}

/// Changes of a container that is being created; `None` in place of a value removes it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Adjustment {
    /// Annotations.
    pub annotations: BTreeMap<String, Option<String>>,
    /// Environment, in order.
    pub env: Vec<(String, Option<String>)>,
    /// The whole command; empty: no change.
    pub args: Vec<String>,
    /// Mounts by their path in the container, in order.
    pub mounts: Vec<(PathBuf, Option<Mount>)>,
    /// Devices by their path in the container, in order.
    pub devices: Vec<(PathBuf, Option<Device>)>,
    /// CDI devices that are added.
    pub cdi_devices: Vec<String>,
    /// Hooks that are added, by stage.
    pub hooks: Vec<(String, OciHook)>,
    /// Limits of its processes that are set: name, soft, hard.
    pub rlimits: Vec<(String, u64, u64)>,
    /// Limits.
    pub resources: ResourceChange,
}

impl Adjustment {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Changes the request.
    pub fn apply(&self, config: &mut ContainerConfig) {
        for (key, value) in &self.annotations {
            match value {
                Some(value) => drop(config.annotations.insert(key.clone(), value.clone())),
                None => drop(config.annotations.remove(key)),
            }
        }
        for (name, value) in &self.env {
            config.env.retain(|(other, _)| other != name);
            config.env.extend(value.iter().map(|value| (name.clone(), value.clone())));
        }
        if !self.args.is_empty() {
            config.command.clone_from(&self.args);
            config.args.clear();
        }
        for (path, mount) in &self.mounts {
            config.mounts.retain(|other| other.container_path != *path);
            config.mounts.extend(mount.clone());
        }
        for (path, device) in &self.devices {
            config.devices.retain(|other| other.container_path != *path);
            config.devices.extend(device.clone());
        }
        for name in &self.cdi_devices {
            if !config.cdi_devices.contains(name) {
                config.cdi_devices.push(name.clone());
            }
        }
        config.hooks.extend(self.hooks.iter().cloned());
        for rlimit in &self.rlimits {
            config.rlimits.retain(|(name, ..)| *name != rlimit.0);
            config.rlimits.push(rlimit.clone());
        }
        self.resources.apply(&mut config.resources);
    }
}
