//! The CRI-shaped verbs over our own types. `engine` implements [`Runtime`]; `node` drives it;
//! a CRI server converts the wire to it. Shapes follow CRI v1's `RuntimeService`.

use crate::{ContainerId, PodId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Why a verb failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The sandbox, container or image does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The handler is unknown, broken or unproved. Nothing was started, and nothing weaker was tried.
    #[error("{0}")]
    Handler(String),
    /// The state forbids the verb now.
    #[error("{0}")]
    Precondition(String),
    /// It took too long.
    #[error("{0}")]
    Timeout(String),
    /// Anything else, in one sentence.
    #[error("{0}")]
    Failed(String),
}

/// Result of a verb.
pub type Result<T> = std::result::Result<T, Error>;

/// Where a namespace comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespaceMode {
    /// Shared by the pod's containers.
    #[default]
    Pod,
    /// One per container.
    Container,
    /// The machine's.
    Node,
}

/// The pod-level request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxConfig {
    /// Pod name.
    pub name: String,
    /// Pod namespace.
    pub namespace: String,
    /// Pod UID.
    pub uid: String,
    /// How often this pod's sandbox was made before.
    pub attempt: u32,
    /// Host name inside.
    pub hostname: String,
    /// Directory of the containers' logs; `ContainerConfig::log_path` is relative to it.
    pub log_directory: PathBuf,
    /// Resolver settings; `None` takes the machine's.
    pub dns: Option<Dns>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Network namespace: `Pod` or `Node`.
    pub network: NamespaceMode,
    /// Process id namespace: `Container`, `Pod` or `Node`.
    pub pid: NamespaceMode,
    /// IPC namespace: `Pod` or `Node`.
    pub ipc: NamespaceMode,
    /// Kernel settings of the pod's namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Cost of the enclosure, from the class; already part of `resources`.
    pub overhead: LinuxResources,
    /// Limits of the pod's cgroup, overhead included.
    pub resources: LinuxResources,
    /// Ports of the machine that lead to the pod.
    pub port_mappings: Vec<PortMapping>,
    /// Additional lines of `/etc/hosts`: an address and its names.
    pub host_aliases: Vec<(String, Vec<String>)>,
    /// Full name of the pod, for `/etc/hosts`; empty where it has none.
    pub fqdn: String,
    /// The pod gets a user namespace of its own; the engine chooses its ids, unless `ids` does.
    pub user_namespace: bool,
    /// With `user_namespace`: the ids on the machine, chosen by the caller (a kubelet does).
    pub ids: Option<IdMapping>,
    /// Cgroup in which the pod's own is made, as a kubelet names it: `/kubepods/burstable/podUID`
    /// (driver `cgroupfs`) or `kubepods-burstable-podUID.slice` (driver `systemd`). Empty for ours.
    pub cgroup_parent: PathBuf,
    /// It was made over CRI, so that a kubelet keeps it; over CRI no other is seen or touched.
    pub served: bool,
}

/// Ids of a user namespace: from 0 inside, from `host_id` on the machine, for users and groups alike.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    /// First id on the machine.
    pub host_id: u32,
    /// How many.
    pub length: u32,
}

/// Resolver settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

/// Limits that a cgroup can enforce. Zero or `None` means none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinuxResources {
    /// CPU shares (cgroup v1 scale, 2 to 262144).
    pub cpu_shares: u64,
    /// CPU quota, microseconds a period.
    pub cpu_quota: i64,
    /// CPU period, microseconds.
    pub cpu_period: u64,
    /// Memory limit, bytes.
    pub memory_limit: i64,
    /// Greatest number of processes.
    pub pids_limit: i64,
    /// oom_score_adj of the processes.
    pub oom_score_adj: Option<i32>,
    /// CPUs that may be used, as `0-3,8`; empty for all.
    pub cpuset_cpus: String,
    /// Memory nodes that may be used; empty for all.
    pub cpuset_mems: String,
    /// Limits of huge pages: size as the kernel writes it (`2MB`, `1GB`) to bytes.
    pub hugepages: BTreeMap<String, u64>,
    /// Limit of memory and swap together, bytes; 0 for none, -1 for no limit.
    pub memory_swap_limit: i64,
    /// Files of a cgroup v2 and what to write into each (`memory.high`).
    pub unified: BTreeMap<String, String>,
}

/// A port of the machine that leads to a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortMapping {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Port in the pod.
    pub container_port: u16,
    /// Port of the machine.
    pub host_port: u16,
    /// Address of the machine; `None` for all.
    pub host_ip: Option<std::net::IpAddr>,
}

/// The container-level request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerConfig {
    /// Name in the pod.
    pub name: String,
    /// How often this container was made before.
    pub attempt: u32,
    /// Image reference as the user wrote it.
    pub image: String,
    /// Replaces the image's entrypoint.
    pub command: Vec<String>,
    /// Replaces the image's arguments.
    pub args: Vec<String>,
    /// Working directory; empty takes the image's.
    pub working_dir: String,
    /// Environment, in order; the image's comes first.
    pub env: Vec<(String, String)>,
    /// Mounts of host paths.
    pub mounts: Vec<Mount>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Log file, relative to the sandbox's `log_directory`; empty for none.
    pub log_path: PathBuf,
    /// Keep standard input open.
    pub stdin: bool,
    /// Close standard input after the first attach.
    pub stdin_once: bool,
    /// Allocate a terminal.
    pub tty: bool,
    /// Limits.
    pub resources: LinuxResources,
    /// Security settings.
    pub security: Security,
    /// Devices of the machine.
    pub devices: Vec<Device>,
    /// Devices by their qualified CDI name (`vendor/class=name`).
    pub cdi_devices: Vec<String>,
    /// Container whose process ids this one sees, in place of the sandbox's `pid`.
    pub pid_of: Option<ContainerId>,
    /// The image as the pod names it, where `image` is an id.
    pub user_image: String,
    /// Signal that asks it to end, in place of the image's; `None` for that.
    pub stop_signal: Option<i32>,
    /// Limits of its processes (setrlimit(2)): name (`RLIMIT_NOFILE`), soft and hard value.
    pub rlimits: Vec<(String, u64, u64)>,
    /// Hooks of the OCI runtime specification (config.md, "POSIX-platform Hooks"), by their stage
    /// (`createRuntime`, `poststop`, …), in order.
    pub hooks: Vec<(String, OciHook)>,
}

/// A command that the OCI runtime runs at one stage of a container's life.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OciHook {
    /// Absolute path on the machine.
    pub path: PathBuf,
    /// Arguments, the program's name first.
    pub args: Vec<String>,
    /// Environment, `NAME=value`.
    pub env: Vec<String>,
    /// Seconds until it is ended; `None` for never.
    pub timeout: Option<i64>,
}

/// A device of the machine for a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Device {
    /// Path on the machine.
    pub host_path: PathBuf,
    /// Path in the container.
    pub container_path: PathBuf,
    /// Of `r`, `w`, `m`.
    pub permissions: String,
}

/// How mounts made on one side show on the other (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Not at all (`rprivate`).
    #[default]
    Private,
    /// The machine's show in the container (`rslave`).
    HostToContainer,
    /// Both ways (`rshared`).
    Bidirectional,
}

/// One mount of a host path.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Absolute path in the container.
    pub container_path: PathBuf,
    /// Absolute path on the machine.
    pub host_path: PathBuf,
    /// Whether it cannot be written.
    pub readonly: bool,
    /// A fresh tmpfs of the pod in place of `host_path`, with its size limit in bytes (0: none);
    /// containers that give the same `host_path` share it.
    pub tmpfs: Option<u64>,
    /// With `tmpfs`: of huge pages of this many bytes.
    pub huge_page_size: Option<u64>,
    /// With `tmpfs`: the group that owns it, with setgid (mode 2777), so that new files belong to it.
    pub group: Option<u32>,
    /// With `readonly`: what is mounted beneath cannot be written either.
    pub recursive_read_only: bool,
    /// Propagation.
    pub propagation: Propagation,
    /// An image whose files are mounted in place of `host_path`, always read-only.
    pub image: Option<String>,
    /// Path within the image; empty for all of it.
    pub image_sub_path: PathBuf,
    /// Path within `host_path` or the tmpfs, relative and without `..`; empty for all of it. Who writes in
    /// the volume cannot lead it out: links are followed within only, when the container is made. What
    /// is missing is made as directories.
    pub sub_path: PathBuf,
}

/// A profile that confines a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Profile {
    /// None.
    #[default]
    Unconfined,
    /// The runtime's own.
    RuntimeDefault,
    /// Seccomp: absolute path of a file in Docker's JSON form. AppArmor: name of a loaded profile.
    Localhost(String),
}

/// Security settings of a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// User id; `None` takes the image's user.
    pub run_as_user: Option<i64>,
    /// User by name, of the image's `/etc/passwd`, in place of `run_as_user`; empty for none.
    pub run_as_username: String,
    /// Group id.
    pub run_as_group: Option<i64>,
    /// Refuse to start as user 0.
    pub run_as_non_root: bool,
    /// Additional groups.
    pub supplemental_groups: Vec<i64>,
    /// All capabilities and devices.
    pub privileged: bool,
    /// Sets no_new_privs.
    pub no_new_privs: bool,
    /// The root file system cannot be written.
    pub readonly_rootfs: bool,
    /// Capabilities added, without `CAP_`.
    pub add_capabilities: Vec<String>,
    /// Capabilities dropped, without `CAP_`.
    pub drop_capabilities: Vec<String>,
    /// Seccomp profile.
    pub seccomp: Profile,
    /// The container names one, `Unconfined` included; where not, the handler's own default counts.
    pub seccomp_named: bool,
    /// AppArmor profile; `None` takes the runtime's own where the kernel has AppArmor.
    pub apparmor: Option<Profile>,
    /// SELinux label.
    pub selinux: Option<crate::pod::SeLinuxOptions>,
    /// Nothing of `/proc` is masked or read-only.
    pub unmasked_proc: bool,
    /// Paths that are masked, in place of the usual ones; `None` for those.
    pub masked_paths: Option<Vec<PathBuf>>,
    /// Paths that are read-only, in place of the usual ones; `None` for those.
    pub readonly_paths: Option<Vec<PathBuf>>,
    /// The groups of the image's `/etc/group` are not added (KEP-3619, `Strict`).
    pub strict_groups: bool,
}

/// State of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SandboxState {
    /// It can take containers.
    Ready,
    /// It was stopped, died, or could not be cleaned up.
    NotReady,
}

/// State of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Running.
    Running,
    /// Ended.
    Exited,
    /// Cannot be told.
    Unknown,
}

/// What is known of a sandbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SandboxStatus {
    /// Id.
    pub id: PodId,
    /// The request.
    pub config: SandboxConfig,
    /// The handler that runs it.
    pub handler: String,
    /// State.
    pub state: SandboxState,
    /// Why it is not ready, in one sentence.
    pub reason: Option<String>,
    /// Nanoseconds since 1970.
    pub created_at: i64,
    /// Pod address; `None` in the machine's network.
    pub ip: Option<std::net::IpAddr>,
    /// All of its addresses, at most one a family; the first is `ip`.
    #[serde(default)]
    pub ips: Vec<std::net::IpAddr>,
    /// How long each stage of its start took.
    pub stages: Vec<Stage>,
}

/// How long one stage took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Name of the stage.
    pub name: String,
    /// Microseconds.
    pub micros: u64,
}

/// What is known of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// Id.
    pub id: ContainerId,
    /// The sandbox.
    pub pod: PodId,
    /// The request.
    pub config: ContainerConfig,
    /// Digest of the image that it runs.
    pub image_id: String,
    /// State.
    pub state: ContainerState,
    /// Nanoseconds since 1970; 0 where it has not happened.
    pub created_at: i64,
    /// Nanoseconds since 1970; 0 where it has not happened.
    pub started_at: i64,
    /// Nanoseconds since 1970; 0 where it has not happened.
    pub finished_at: i64,
    /// Exit code; 128 + signal for a signal.
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`, or what went wrong.
    pub reason: String,
    /// One sentence beside the reason.
    pub message: String,
    /// Process id on the machine, where the driver has one.
    pub pid: Option<i32>,
    /// How long each stage of its start took.
    pub stages: Vec<Stage>,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A container ended.
    ContainerExited {
        /// The sandbox.
        pod: PodId,
        /// The container.
        container: ContainerId,
        /// Exit code; 128 + signal for a signal.
        exit_code: i32,
    },
    /// A sandbox is no longer ready (its monitor or sandbox process died).
    SandboxDied {
        /// The sandbox.
        pod: PodId,
        /// Why, in one sentence.
        reason: String,
    },
}

/// Result of a command run in a container.
#[derive(Debug, Clone, Default)]
pub struct ExecOutput {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// Exit code; 128 + signal for a signal.
    pub exit_code: i32,
}

/// A command to be run in a container with streams.
#[derive(Debug, Clone, Default)]
pub struct ExecRequest {
    /// Command and arguments.
    pub command: Vec<String>,
    /// Allocate a terminal.
    pub tty: bool,
    /// Give it the caller's standard input.
    pub stdin: bool,
}

/// Usage of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStats {
    /// Working set of the pod's cgroup, bytes: containers and enclosure.
    pub memory_working_set: u64,
    /// Of it, what the enclosure itself uses (monitor, sentry, gofer), bytes.
    pub enclosure_memory: u64,
    /// CPU time of the pod, nanoseconds.
    pub cpu_nanos: u64,
    /// Processes of the pod.
    pub pids: u64,
    /// Most memory that the pod used at once, bytes, page cache included; `None` where the kernel
    /// does not tell (cgroup v2 before Linux 5.19).
    pub memory_peak: Option<u64>,
    /// Of the enclosure alone, as [`PodStats::memory_peak`].
    pub enclosure_peak: Option<u64>,
    /// System calls that the enclosure's own kernel does not have and that were asked for, each once
    /// (gVisor).
    pub refused_calls: Vec<String>,
}

/// Usage of one container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStats {
    /// Name in the pod.
    pub name: String,
    /// Working set, bytes; `None` where the enclosure does not tell its containers apart.
    pub memory_working_set: Option<u64>,
    /// CPU time, nanoseconds; `None` as above.
    pub cpu_nanos: Option<u64>,
    /// Processes; `None` as above.
    pub pids: Option<u64>,
}

/// Memory of a cgroup, bytes where nothing else is said; `None` where the enclosure or the kernel does not
/// tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemoryUsage {
    /// All of it, page cache included.
    pub usage: Option<u64>,
    /// Usage less inactive page cache.
    pub working_set: Option<u64>,
    /// Anonymous memory.
    pub rss: Option<u64>,
    /// The limit less the working set; `None` without a limit.
    pub available: Option<u64>,
    /// Page faults, since the beginning.
    pub page_faults: Option<u64>,
    /// Of these, those that had to wait for a disk.
    pub major_page_faults: Option<u64>,
    /// Swap in use.
    pub swap: Option<u64>,
    /// Swap that may still be used; `None` without a limit.
    pub swap_available: Option<u64>,
}

/// One line of a pressure file (kernel, `Documentation/accounting/psi.rst`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PressureLine {
    /// Share of the last 10 seconds, percent.
    pub avg10: f64,
    /// Share of the last 60 seconds, percent.
    pub avg60: f64,
    /// Share of the last 300 seconds, percent.
    pub avg300: f64,
    /// All stalls, microseconds.
    pub total: u64,
}

/// How long processes waited for one resource (cgroup v2 with PSI).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pressure {
    /// Some of them.
    pub some: PressureLine,
    /// All of them at once.
    pub full: PressureLine,
}

/// What one cgroup used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CgroupUsage {
    /// When this was read, nanoseconds since 1970.
    pub at: i64,
    /// CPU time since the beginning, nanoseconds; `None` where the enclosure does not tell its
    /// containers apart.
    pub cpu_nanos: Option<u64>,
    /// Memory.
    pub memory: MemoryUsage,
    /// Tasks (threads count).
    pub processes: Option<u64>,
    /// Waiting for the CPU.
    pub cpu_pressure: Option<Pressure>,
    /// Waiting for memory.
    pub memory_pressure: Option<Pressure>,
    /// Waiting for disks.
    pub io_pressure: Option<Pressure>,
}

/// What a file system, or a part of one, holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FsUsage {
    /// When this was counted, nanoseconds since 1970.
    pub at: i64,
    /// Directory of what was counted.
    pub mountpoint: PathBuf,
    /// Bytes in use.
    pub used_bytes: u64,
    /// Inodes in use.
    pub inodes_used: u64,
}

/// Usage of one container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerUsage {
    /// Of its cgroup, or as its enclosure counts. Of an ended one: nothing.
    pub cgroup: CgroupUsage,
    /// Its writable layer, as it was counted at most some seconds ago.
    pub writable: FsUsage,
}

/// Traffic of one network interface since the pod's beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InterfaceUsage {
    /// Name in the pod.
    pub name: String,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Errors in receiving.
    pub rx_errors: u64,
    /// Packets that were received and dropped.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Errors in sending.
    pub tx_errors: u64,
    /// Packets that were to be sent and dropped.
    pub tx_dropped: u64,
}

/// Usage of one pod.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodUsage {
    /// Of the pod's cgroup: containers and enclosure.
    pub cgroup: CgroupUsage,
    /// Its interfaces but `lo`; empty in the machine's network.
    pub network: Vec<InterfaceUsage>,
    /// When the interfaces were read, nanoseconds since 1970.
    pub network_at: i64,
    /// Its running containers.
    pub containers: Vec<(ContainerId, ContainerUsage)>,
}

/// An image to be pulled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PullRequest {
    /// Reference as the user wrote it.
    pub image: String,
    /// Contents of docker configurations (`.dockerconfigjson` of pull secrets) with credentials, tried
    /// before the machine's own.
    pub docker_configs: Vec<Vec<u8>>,
}

/// Feature: the limits of each container hold for it alone; where not, only the pod's hold.
pub const FEATURE_CONTAINER_LIMITS: &str = "container_limits";
/// Feature: read-only mounts of volumes hold for what is mounted beneath, too (KEP-3857).
pub const FEATURE_RECURSIVE_READ_ONLY: &str = "recursive_read_only_mounts";
/// Feature: pods can have a user namespace of their own (KEP-127).
pub const FEATURE_USER_NAMESPACES: &str = "user_namespaces";

/// A handler as the runtime offers it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HandlerStatus {
    /// Name; the default handler is listed under its own name.
    pub name: String,
    /// Whether a pod that names none gets it.
    pub default: bool,
    /// Binary that it runs, where it has one.
    pub binary: Option<PathBuf>,
    /// What the binary calls itself.
    pub version: Option<String>,
    /// What was asked of the driver: `oci`, `shim`, `vm`.
    pub driver: String,
    /// `None` where it is proved; else why not, in one sentence.
    pub unproved: Option<String>,
    /// Features: name to support.
    pub features: BTreeMap<String, bool>,
}

/// The verbs of CRI's RuntimeService that a node needs. Calls block; each may be made from any
/// thread, and verbs on different pods run side by side.
pub trait Runtime: Send + Sync {
    /// Makes and starts a sandbox under `handler` (`""` is the default handler).
    /// An unknown, broken or unproved handler is an error, never another handler.
    fn run_pod_sandbox(&self, config: &SandboxConfig, handler: &str) -> Result<PodId>;
    /// Kills what runs in the sandbox and gives its network back. Repeatable.
    fn stop_pod_sandbox(&self, pod: &PodId) -> Result<()>;
    /// Stops where needed and removes the sandbox and its containers. Repeatable.
    fn remove_pod_sandbox(&self, pod: &PodId) -> Result<()>;
    /// One sandbox.
    fn pod_sandbox_status(&self, pod: &PodId) -> Result<SandboxStatus>;
    /// All sandboxes.
    fn list_pod_sandboxes(&self) -> Result<Vec<SandboxStatus>>;
    /// Makes a container; its process waits to be started.
    fn create_container(&self, pod: &PodId, config: &ContainerConfig) -> Result<ContainerId>;
    /// Lets a made container's process go.
    fn start_container(&self, container: &ContainerId) -> Result<()>;
    /// SIGTERM (or the image's stop signal), and SIGKILL after `grace`. Repeatable.
    fn stop_container(&self, container: &ContainerId, grace: Duration) -> Result<()>;
    /// Removes a container that has ended or was not started. Repeatable.
    fn remove_container(&self, container: &ContainerId) -> Result<()>;
    /// One container.
    fn container_status(&self, container: &ContainerId) -> Result<ContainerStatus>;
    /// All containers of a sandbox, or of all.
    fn list_containers(&self, pod: Option<&PodId>) -> Result<Vec<ContainerStatus>>;
    /// Runs a command in a container and collects its output.
    fn exec_sync(&self, container: &ContainerId, command: &[String], timeout: Duration) -> Result<ExecOutput>;
    /// Usage of a pod.
    fn pod_stats(&self, pod: &PodId) -> Result<PodStats>;
    /// The handlers, proved or not.
    fn handlers(&self) -> Result<Vec<HandlerStatus>>;
    /// An error unless pods can be started under `handler` (`""` is the default handler) now; else its
    /// features. Asked before anything is made for a pod; [`Runtime::run_pod_sandbox`] asks again.
    fn handler_ready(&self, handler: &str) -> Result<BTreeMap<String, bool>>;
    /// Whether `image` is there: its id (digest of its configuration).
    fn image_status(&self, image: &str) -> Result<Option<String>>;
    /// Pulls an image, though it may be there already under the same name (only what differs is
    /// fetched); its id. [`Error::Invalid`] (a name that cannot be), [`Error::NotFound`] (no such image) and
    /// [`Error::Precondition`] (no credentials, or no pull at all) are answers for good; after any other
    /// error it may be tried again.
    fn pull_image(&self, request: &PullRequest) -> Result<String> {
        Err(Error::Precondition(format!("image {:?} cannot be pulled by this runtime", request.image)))
    }
    /// Changes a running container's limits in place.
    fn update_container(&self, container: &ContainerId, _resources: &LinuxResources) -> Result<()> {
        Err(Error::Failed(format!("limits of container {container} cannot be changed by this runtime")))
    }
    /// Changes a running pod's limits in place.
    fn update_pod_sandbox(&self, pod: &PodId, _overhead: &LinuxResources, _resources: &LinuxResources) -> Result<()> {
        Err(Error::Failed(format!("limits of pod {pod} cannot be changed by this runtime")))
    }
    /// Usage of each running container of a pod.
    fn container_stats(&self, pod: &PodId) -> Result<Vec<ContainerStats>> {
        Err(Error::Failed(format!("containers of pod {pod} cannot be measured by this runtime")))
    }
    /// What happens from now on.
    fn events(&self) -> std::sync::mpsc::Receiver<Event>;
}
