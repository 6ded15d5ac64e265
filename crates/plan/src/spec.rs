//! OCI runtime specs (opencontainers/runtime-spec, `config.json`), made per runtime.

pub use crate::capabilities::{DEFAULT_CAPABILITIES, capabilities};
use cofferdam_model::cri::{LinuxResources, Propagation};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The version that every runtime of Debian 12 accepts; crun 1.8.1 refuses newer than 1.1.0.
pub const OCI_VERSION: &str = "1.0.2";

const MASKED_PATHS: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A mount of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecMount {
    /// Path in the container.
    pub destination: PathBuf,
    /// File system type; `bind` for a path of the machine.
    pub kind: String,
    /// Source.
    pub source: PathBuf,
    /// Options.
    pub options: Vec<String>,
}

impl SpecMount {
    /// A bind mount of a machine's path, with what lies beneath it.
    pub fn bind(source: impl Into<PathBuf>, destination: impl Into<PathBuf>, readonly: bool) -> Self {
        let mode = if readonly { "ro" } else { "rw" };
        Self {
            destination: destination.into(),
            kind: "bind".into(),
            source: source.into(),
            options: ["rbind", "rprivate", mode].map(String::from).to_vec(),
        }
    }

    /// A volume: as [`SpecMount::bind`], with propagation, and read-only with what is mounted beneath
    /// (`rro`: runc 1.1, crun 1.4, youki) where `recursive`.
    pub fn volume(
        source: impl Into<PathBuf>,
        destination: impl Into<PathBuf>,
        readonly: bool,
        recursive: bool,
        propagation: Propagation,
    ) -> Self {
        let shown = match propagation {
            Propagation::Private => "rprivate",
            Propagation::HostToContainer => "rslave",
            Propagation::Bidirectional => "rshared",
        };
        let mut mount = Self::bind(source, destination, readonly);
        mount.options[1] = shown.into();
        if readonly && recursive {
            mount.options.push("rro".into());
        }
        mount
    }

    fn new(destination: &str, kind: &str, options: &[&str]) -> Self {
        Self {
            destination: destination.into(),
            kind: kind.into(),
            source: kind.into(),
            options: options.iter().map(|o| (*o).to_owned()).collect(),
        }
    }
}

/// A device file that is made in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecDevice {
    /// Path in the container.
    pub path: PathBuf,
    /// `c` or `b`.
    pub kind: char,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Which devices a container may use, beside the standard ones, where its runtime rules that itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecDeviceRule {
    /// `c` or `b`.
    pub kind: char,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Of `r`, `w`, `m`.
    pub access: String,
}

/// The ids of a user namespace: 0 and what follows inside are `host` and what follows on the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap {
    /// First id on the machine.
    pub host: u32,
    /// How many.
    pub size: u32,
}

/// A program that the runtime runs at a moment of a container's life.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hook {
    /// When: `prestart`, `createRuntime`, `createContainer`, `startContainer`, `poststart`, `poststop`.
    pub moment: String,
    /// Program, absolute.
    pub path: String,
    /// Arguments, the program's name first.
    pub args: Vec<String>,
    /// Environment.
    pub env: Vec<String>,
    /// Seconds until it is killed; none where absent.
    pub timeout: Option<u32>,
}

/// A container that another one shares process ids with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PidOf {
    /// Its id.
    pub container: String,
    /// Its first process on the machine, where it has one.
    pub pid: Option<i32>,
}

/// A namespace of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Namespace {
    /// A new one.
    #[default]
    New,
    /// The one at this path.
    Join(PathBuf),
    /// The machine's.
    Host,
}

/// Whom the process runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Additional groups.
    pub groups: Vec<u32>,
}

/// A process of a container: its first one, or one run in it later.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Process {
    /// Command and arguments.
    pub args: Vec<String>,
    /// Environment, in order; of equal names the last wins.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub cwd: String,
    /// Whom it runs as.
    pub user: User,
    /// Allocate a terminal.
    pub terminal: bool,
    /// Its rows and columns from its first moment.
    pub console_size: Option<(u16, u16)>,
    /// Set no_new_privs.
    pub no_new_privs: bool,
    /// Capabilities; see [`capabilities`].
    pub capabilities: BTreeSet<String>,
    /// oom_score_adj, clamped by the caller.
    pub oom_score_adj: Option<i32>,
    /// AppArmor profile; see [`crate::confine::apparmor`].
    pub apparmor: Option<String>,
    /// SELinux label; see [`crate::confine::selinux`].
    pub selinux: Option<String>,
    /// Limits of the process, soft and hard, by the name that setrlimit(2) has in lower case and without
    /// `RLIMIT_`; `u64::MAX` is none.
    pub rlimits: BTreeMap<String, (u64, u64)>,
}

/// All that a spec is made of.
#[derive(Debug, Clone, Default)]
pub struct ContainerSpec {
    /// First process.
    pub process: Process,
    /// Root file system: absolute, or relative to the bundle.
    pub rootfs: PathBuf,
    /// The root file system cannot be written.
    pub readonly_rootfs: bool,
    /// Nothing masked, `/sys` writable.
    pub privileged: bool,
    /// The process may use every device; else the standard ones.
    pub all_devices: bool,
    /// Devices made beside the standard ones.
    pub devices: Vec<SpecDevice>,
    /// Host name; only where the runtime makes the UTS namespace (gVisor).
    pub hostname: Option<String>,
    /// Mounts beside the standard ones.
    pub mounts: Vec<SpecMount>,
    /// The pod's `/dev/shm` on the machine; `None` makes one.
    pub shm: Option<PathBuf>,
    /// Process id namespace.
    pub pid: Namespace,
    /// Network namespace.
    pub network: Namespace,
    /// IPC namespace.
    pub ipc: Namespace,
    /// UTS namespace.
    pub uts: Namespace,
    /// Cgroup namespace. A new one has the container's own cgroup as its root, and hides the machine's.
    pub cgroup: Namespace,
    /// Cgroup, relative to a controller's root with a leading `/`; `None` where the runtime is told
    /// to leave cgroups alone.
    pub cgroups_path: Option<PathBuf>,
    /// Limits that the runtime itself must see (gVisor sizes its memory by them).
    pub resources: Option<LinuxResources>,
    /// Kernel settings.
    pub sysctls: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Devices that may be used beside the standard ones, for runtimes that rule them.
    pub device_rules: Vec<SpecDeviceRule>,
    /// The pod's user namespace; `None` for the machine's.
    pub user_namespace: Option<PathBuf>,
    /// Ids of the user namespace. Runtimes need them though they join one that has them.
    pub id_map: Option<IdMap>,
    /// `linux.seccomp`; see [`crate::seccomp`].
    pub seccomp: Option<Value>,
    /// SELinux label of the files in the container's own mounts.
    pub mount_label: Option<String>,
    /// Nothing of `/proc` and `/sys` is masked, or read-only beyond its mount.
    pub unmasked_proc: bool,
    /// Paths that cannot be seen, in place of the usual ones.
    pub masked_paths: Option<Vec<PathBuf>>,
    /// Paths that cannot be written, in place of the usual ones.
    pub readonly_paths: Option<Vec<PathBuf>>,
    /// Programs that the runtime runs.
    pub hooks: Vec<Hook>,
    /// The container whose process ids this one sees, in place of what the pod says.
    pub pid_of: Option<PidOf>,
}

impl ContainerSpec {
    /// Whether mounts of the machine are to show in the container, for which the runtime's own mount
    /// namespace must be a slave of the machine's, not a private copy.
    pub fn propagates(&self) -> bool {
        self.propagation().is_some()
    }

    /// `rootfsPropagation`: without it a runtime makes all its mounts private before it looks at one.
    /// The short forms: youki knows no others, and for runc and crun the difference is their parents'.
    fn propagation(&self) -> Option<&'static str> {
        let any = |option: &str| self.mounts.iter().any(|m| m.options.iter().any(|o| o == option));
        match (any("rshared") || any("shared"), any("rslave") || any("slave")) {
            (true, _) => Some("shared"),
            (false, true) => Some("slave"),
            (false, false) => None,
        }
    }
}

/// The process part of a spec; also what `exec --process` takes.
pub fn process_json(process: &Process) -> Value {
    let caps: Vec<&String> = process.capabilities.iter().collect();
    // Ambient and inheritable stay empty, so that a process of another user does not gain them.
    let mut value = json!({
        "terminal": process.terminal,
        "user": {"uid": process.user.uid, "gid": process.user.gid, "additionalGids": process.user.groups},
        "args": process.args,
        "env": environment(&process.env),
        "cwd": if process.cwd.is_empty() { "/" } else { process.cwd.as_str() },
        "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
        "noNewPrivileges": process.no_new_privs,
    });
    if let Some((rows, columns)) = process.console_size {
        value["consoleSize"] = json!({"height": rows, "width": columns});
    }
    if let Some(score) = process.oom_score_adj {
        value["oomScoreAdj"] = json!(score);
    }
    if let Some(profile) = &process.apparmor {
        value["apparmorProfile"] = json!(profile);
    }
    if let Some(label) = &process.selinux {
        value["selinuxLabel"] = json!(label);
    }
    if !process.rlimits.is_empty() {
        let limit = |(name, (soft, hard)): (&String, &(u64, u64))| {
            json!({"type": format!("RLIMIT_{}", name.to_ascii_uppercase()), "soft": soft, "hard": hard})
        };
        value["rlimits"] = process.rlimits.iter().map(limit).collect();
    }
    value
}

fn environment(env: &[(String, String)]) -> Vec<String> {
    let mut seen = BTreeMap::new();
    let mut out: Vec<String> = Vec::with_capacity(env.len());
    for (name, value) in env {
        let entry = format!("{name}={value}");
        match seen.get(name) {
            Some(&at) => out[at] = entry,
            None => {
                seen.insert(name, out.len());
                out.push(entry);
            }
        }
    }
    out
}

/// The whole `config.json`.
pub fn container_json(spec: &ContainerSpec) -> Value {
    let mut linux = Map::new();
    linux.insert("namespaces".into(), namespaces(spec));
    if let Some(path) = &spec.cgroups_path {
        linux.insert("cgroupsPath".into(), json!(path));
    }
    linux.insert("resources".into(), resources(spec));
    if !spec.devices.is_empty() {
        linux.insert("devices".into(), spec.devices.iter().map(device).collect());
    }
    if !spec.sysctls.is_empty() {
        linux.insert("sysctl".into(), json!(spec.sysctls));
    }
    if !spec.privileged && !spec.unmasked_proc {
        let paths = |given: &Option<Vec<PathBuf>>, usual: &[&str]| given.as_ref().map_or_else(|| json!(usual), |given| json!(given));
        linux.insert("maskedPaths".into(), paths(&spec.masked_paths, &MASKED_PATHS));
        linux.insert("readonlyPaths".into(), paths(&spec.readonly_paths, &READONLY_PATHS));
    }
    if let Some(map) = spec.id_map {
        let map = json!([{"containerID": 0, "hostID": map.host, "size": map.size}]);
        linux.insert("uidMappings".into(), map.clone());
        linux.insert("gidMappings".into(), map);
    }
    if let Some(propagation) = spec.propagation() {
        linux.insert("rootfsPropagation".into(), json!(propagation));
    }
    if let Some(seccomp) = &spec.seccomp {
        linux.insert("seccomp".into(), seccomp.clone());
    }
    if let Some(label) = &spec.mount_label {
        linux.insert("mountLabel".into(), json!(label));
    }
    let mut value = json!({
        "ociVersion": OCI_VERSION,
        "process": process_json(&spec.process),
        "root": {"path": spec.rootfs, "readonly": spec.readonly_rootfs},
        "mounts": mounts(spec),
        "linux": linux,
    });
    if let Some(hostname) = &spec.hostname {
        value["hostname"] = json!(hostname);
    }
    if !spec.annotations.is_empty() {
        value["annotations"] = json!(spec.annotations);
    }
    if !spec.hooks.is_empty() {
        value["hooks"] = hooks(&spec.hooks);
    }
    value
}

fn hooks(hooks: &[Hook]) -> Value {
    let mut moments: Map<String, Value> = Map::new();
    for hook in hooks {
        let mut value = json!({"path": hook.path, "args": hook.args, "env": hook.env});
        if let Some(seconds) = hook.timeout {
            value["timeout"] = json!(seconds);
        }
        if let Value::Array(list) = moments.entry(hook.moment.clone()).or_insert_with(|| json!([])) {
            list.push(value);
        }
    }
    Value::Object(moments)
}

fn namespaces(spec: &ContainerSpec) -> Value {
    let mut list = vec![json!({"type": "mount"})];
    let kinds = [("pid", &spec.pid), ("network", &spec.network), ("ipc", &spec.ipc), ("uts", &spec.uts), ("cgroup", &spec.cgroup)];
    for (kind, ns) in kinds {
        match ns {
            Namespace::New => list.push(json!({"type": kind})),
            Namespace::Join(path) => list.push(json!({"type": kind, "path": path})),
            Namespace::Host => {}
        }
    }
    if let Some(path) = &spec.user_namespace {
        list.push(json!({"type": "user", "path": path}));
    }
    Value::Array(list)
}

fn device(device: &SpecDevice) -> Value {
    json!({
        "path": device.path, "type": device.kind.to_string(), "major": device.major, "minor": device.minor,
        "fileMode": device.mode, "uid": device.uid, "gid": device.gid,
    })
}

/// Devices are ruled here for runtimes that keep the devices cgroup (runc); limits only where the
/// runtime itself must know them.
fn resources(spec: &ContainerSpec) -> Value {
    let mut devices = vec![json!({"allow": spec.all_devices, "access": "rwm"})];
    let rule = |r: &SpecDeviceRule| json!({"allow": true, "type": r.kind.to_string(), "major": r.major, "minor": r.minor, "access": r.access});
    devices.extend(spec.device_rules.iter().filter(|_| !spec.all_devices).map(rule));
    let mut value = json!({ "devices": devices });
    if let Some(limits) = &spec.resources {
        if limits.memory_limit > 0 {
            value["memory"] = json!({"limit": limits.memory_limit});
        }
        let mut cpu = Map::new();
        if limits.cpu_shares > 0 {
            cpu.insert("shares".into(), json!(limits.cpu_shares));
        }
        if limits.cpu_quota > 0 {
            cpu.insert("quota".into(), json!(limits.cpu_quota));
            cpu.insert("period".into(), json!(limits.cpu_period));
        }
        if !cpu.is_empty() {
            value["cpu"] = Value::Object(cpu);
        }
    }
    value
}

fn mounts(spec: &ContainerSpec) -> Value {
    let sysfs = if spec.privileged { "rw" } else { "ro" };
    let mut all = vec![
        SpecMount::new("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        SpecMount::new("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        SpecMount::new("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        SpecMount::new("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        SpecMount::new("/sys", "sysfs", &["nosuid", "noexec", "nodev", sysfs]),
    ];
    all.push(match &spec.shm {
        Some(path) => SpecMount {
            options: ["rbind", "rprivate", "rw"].map(String::from).to_vec(),
            ..SpecMount::bind(path, "/dev/shm", false)
        },
        None => SpecMount::new("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    });
    // A parent must be mounted before what lies in it; a user's mount replaces a standard one.
    let mut extra = spec.mounts.clone();
    extra.sort_by_key(|m| m.destination.components().count());
    all.retain(|m| !extra.iter().any(|e| e.destination == m.destination));
    all.extend(extra);
    let json = |m: &SpecMount| json!({"destination": m.destination, "type": m.kind, "source": m.source, "options": m.options});
    Value::Array(all.iter().map(json).collect())
}

/// Options of a memory volume: who owns it, and the mode. With a group its files get that group, as
/// `fsGroup` asks; the root of the pod's user namespace owns it where there is one. A group that the
/// namespace does not have is left to the caller's own check and owns nothing here.
pub fn memory_options(limit: u64, group: Option<u32>, ids: Option<crate::userns::IdRange>) -> String {
    let size = if limit > 0 { format!(",size={limit}") } else { String::new() };
    let inside = |id: u32| ids.map_or(Some(id), |ids| ids.on_machine(id));
    let user = ids.map(|ids| format!(",uid={}", ids.first)).unwrap_or_default();
    let owner = match (group, group.or(ids.map(|_| 0)).and_then(inside)) {
        (Some(_), Some(gid)) => return format!("mode=2777{size}{user},gid={gid}"),
        (None, Some(gid)) => format!("{user},gid={gid}"),
        _ => user,
    };
    format!("mode=0777{size}{owner}")
}

/// As [`memory_options`], of huge pages of `page` bytes (hugetlbfs).
pub fn hugetlbfs_options(page: u64, limit: u64, group: Option<u32>, ids: Option<crate::userns::IdRange>) -> String {
    format!("pagesize={page},{}", memory_options(limit, group, ids))
}

/// Whether `path` may be the target of a mount: absolute and without `..`.
pub fn is_mount_target(path: &Path) -> bool {
    use std::path::Component::{Normal, RootDir};
    path.is_absolute() && path != Path::new("/") && path.components().all(|c| matches!(c, RootDir | Normal(_)))
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
