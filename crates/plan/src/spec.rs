//! OCI runtime specs (opencontainers/runtime-spec, `config.json`), made per runtime.

use cofferdam_model::cri::LinuxResources;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The version that every runtime of Debian 12 accepts; crun 1.8.1 refuses newer than 1.1.0.
pub const OCI_VERSION: &str = "1.0.2";

/// Capabilities of a container that asks for none, as containerd and Docker have them.
pub const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// All capabilities of Linux 5.9 and later (`capabilities(7)`).
const ALL_CAPABILITIES: [&str; 41] = [
    "CAP_AUDIT_CONTROL",
    "CAP_AUDIT_READ",
    "CAP_AUDIT_WRITE",
    "CAP_BLOCK_SUSPEND",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_KILL",
    "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE",
    "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_RAW",
    "CAP_PERFMON",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYSLOG",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_CHROOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_NICE",
    "CAP_SYS_PACCT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_WAKE_ALARM",
];

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

/// A namespace of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Namespace {
    /// A new one.
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
}

/// All that a spec is made of.
#[derive(Debug, Clone)]
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
}

/// The capability set of a container: defaults, then dropped, then added; `ALL` is all. Names come
/// with or without `CAP_`, in any case. An unknown name is an error, as dropping it in silence would
/// leave what the user wanted gone.
pub fn capabilities(privileged: bool, add: &[String], drop: &[String]) -> Result<BTreeSet<String>, String> {
    if privileged {
        return Ok(ALL_CAPABILITIES.iter().map(|c| (*c).to_owned()).collect());
    }
    let all = || ALL_CAPABILITIES.iter().map(|c| (*c).to_owned());
    let mut set: BTreeSet<String> = DEFAULT_CAPABILITIES.iter().map(|c| (*c).to_owned()).collect();
    // As upstream: ALL first, then the single names, so that "drop ALL, add NET_BIND_SERVICE" works
    // (containerd, internal/cri/server, container security context).
    if is_all(add) {
        set = all().collect();
    }
    if is_all(drop) {
        set.clear();
    }
    for name in add.iter().filter(|n| !n.eq_ignore_ascii_case("ALL")) {
        set.insert(canonical(name)?);
    }
    for name in drop.iter().filter(|n| !n.eq_ignore_ascii_case("ALL")) {
        set.remove(&canonical(name)?);
    }
    Ok(set)
}

fn is_all(names: &[String]) -> bool {
    names.iter().any(|n| n.eq_ignore_ascii_case("ALL"))
}

fn canonical(name: &str) -> Result<String, String> {
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    if ALL_CAPABILITIES.contains(&full.as_str()) {
        Ok(full)
    } else {
        Err(format!("capability {name:?} does not exist; see capabilities(7) for the names"))
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
    if !spec.privileged {
        linux.insert("maskedPaths".into(), json!(MASKED_PATHS));
        linux.insert("readonlyPaths".into(), json!(READONLY_PATHS));
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
    value
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
    let devices = if spec.all_devices {
        json!([{"allow": true, "access": "rwm"}])
    } else {
        json!([{"allow": false, "access": "rwm"}])
    };
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

/// Whether `path` may be the target of a mount: absolute and without `..`.
pub fn is_mount_target(path: &Path) -> bool {
    use std::path::Component::{Normal, RootDir};
    path.is_absolute() && path != Path::new("/") && path.components().all(|c| matches!(c, RootDir | Normal(_)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    fn spec() -> ContainerSpec {
        ContainerSpec {
            process: Process { args: strings(&["sh"]), ..Process::default() },
            rootfs: "rootfs".into(),
            readonly_rootfs: false,
            privileged: false,
            all_devices: false,
            devices: vec![],
            hostname: None,
            mounts: vec![],
            shm: None,
            pid: Namespace::New,
            network: Namespace::Join("/proc/7/ns/net".into()),
            ipc: Namespace::Host,
            uts: Namespace::New,
            cgroup: Namespace::Host,
            cgroups_path: None,
            resources: None,
            sysctls: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }
    }

    #[test]
    fn capabilities_follow_add_and_drop() {
        let caps = |add: &[&str], drop: &[&str]| capabilities(false, &strings(add), &strings(drop)).unwrap();
        assert_eq!(caps(&[], &[]).len(), 14);
        assert_eq!(caps(&["net_bind_service"], &["ALL"]), BTreeSet::from(["CAP_NET_BIND_SERVICE".to_owned()]));
        assert_eq!(caps(&["ALL"], &["SYS_ADMIN"]).len(), 40);
        assert!(!caps(&[], &["CAP_MKNOD"]).contains("CAP_MKNOD"));
        assert!(capabilities(false, &[], &strings(&["SYSADMIN"])).unwrap_err().contains("SYSADMIN"));
        assert_eq!(capabilities(true, &[], &strings(&["ALL"])).unwrap().len(), 41);
    }

    #[test]
    fn only_a_privileged_container_sees_what_is_masked() {
        let plain = container_json(&spec());
        assert_eq!(plain["linux"]["resources"]["devices"][0]["allow"], false);
        assert!(plain["linux"]["maskedPaths"].as_array().unwrap().contains(&json!("/proc/kcore")));
        let privileged = container_json(&ContainerSpec { privileged: true, ..spec() });
        assert!(privileged["linux"].get("maskedPaths").is_none());
        // Devices are asked for apart: a handler may give a privileged container none.
        assert_eq!(privileged["linux"]["resources"]["devices"][0]["allow"], false);
        let kvm = SpecDevice { path: "/dev/kvm".into(), kind: 'c', major: 10, minor: 232, mode: 0o660, uid: 0, gid: 104 };
        let all = container_json(&ContainerSpec { all_devices: true, devices: vec![kvm], ..spec() });
        assert_eq!(all["linux"]["resources"]["devices"][0]["allow"], true);
        let wanted = json!({"path": "/dev/kvm", "type": "c", "major": 10, "minor": 232, "fileMode": 432, "uid": 0, "gid": 104});
        assert_eq!(all["linux"]["devices"][0], wanted);
    }

    #[test]
    fn a_host_namespace_is_not_listed_and_a_joined_one_has_its_path() {
        let value = container_json(&spec());
        let list = value["linux"]["namespaces"].as_array().unwrap();
        assert!(list.contains(&json!({"type": "network", "path": "/proc/7/ns/net"})));
        assert!(!list.iter().any(|n| n["type"] == "ipc" || n["type"] == "cgroup"));
        let value = container_json(&ContainerSpec { cgroup: Namespace::New, ..spec() });
        assert!(value["linux"]["namespaces"].as_array().unwrap().contains(&json!({"type": "cgroup"})));
    }

    #[test]
    fn a_users_mount_replaces_a_standard_one_and_parents_come_first() {
        let mounts = vec![
            SpecMount::bind("/a", "/data/in/deep", false),
            SpecMount::bind("/b", "/data", true),
            SpecMount::bind("/c", "/dev/shm", false),
        ];
        let value = container_json(&ContainerSpec { mounts, ..spec() });
        let targets: Vec<_> =
            value["mounts"].as_array().unwrap().iter().map(|m| m["destination"].as_str().unwrap().to_owned()).collect();
        assert_eq!(targets.iter().filter(|t| *t == "/dev/shm").count(), 1);
        let at = |t: &str| targets.iter().position(|x| x == t).unwrap();
        assert!(at("/data") < at("/data/in/deep"));
    }

    #[test]
    fn of_equal_variables_the_last_wins_in_the_first_place() {
        let env: Vec<(String, String)> =
            [("A", "1"), ("B", "2"), ("A", "3")].map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec();
        assert_eq!(environment(&env), ["A=3", "B=2"]);
    }

    #[test]
    fn a_mount_target_is_absolute_and_plain() {
        for (path, ok) in [("/data", true), ("data", false), ("/", false), ("/a/../etc", false), ("/a/./b", true)] {
            assert_eq!(is_mount_target(Path::new(path)), ok, "{path}");
        }
    }
}
