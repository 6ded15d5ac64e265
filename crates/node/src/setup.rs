//! What a node is given: admitted pods, the objects that they name, and where things are kept.

use cofferdam_model::cri::LinuxResources;
use cofferdam_model::objects::{ConfigMap, Secret};
use cofferdam_model::pod::Pod;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// A pod that admission has let in, with everything decided that a node does not decide.
#[derive(Debug, Clone, Default)]
pub struct PodSetup {
    /// The pod as admitted. A pod without a UID is given one.
    pub pod: Pod,
    /// The handler that runs it; empty for the default handler.
    pub handler: String,
    /// The class that named the handler.
    pub class: Option<String>,
    /// What that class said at admission, as text that can be compared with what it says later.
    pub admitted_as: Option<String>,
    /// Limits of the pod's cgroup, overhead included.
    pub pod_resources: LinuxResources,
    /// Cost of the enclosure, from the class.
    pub overhead: LinuxResources,
    /// Limits by container name, init containers too.
    pub containers: BTreeMap<String, LinuxResources>,
}

/// Where a node keeps files. Directories are made as needed, for the owner only.
#[derive(Debug, Clone, Default)]
pub struct Dirs {
    /// Disk-backed volumes and termination messages; a folder a pod, removed with it.
    pub volumes: PathBuf,
    /// The files of secrets; a folder a pod, removed with it. Best a folder on a tmpfs such as
    /// `/run`, so that no secret reaches a disk.
    pub secrets: PathBuf,
    /// Logs; a folder a pod, named `NAMESPACE_NAME_UID` as the kubelet names it. They stay until
    /// [`Handle::remove_logs`](crate::Handle::remove_logs).
    pub logs: PathBuf,
}

/// The config maps and secrets that pods may name, by namespace and name.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    config_maps: BTreeMap<(String, String), ConfigMap>,
    secrets: BTreeMap<(String, String), Secret>,
}

impl Objects {
    /// Of two objects with one name, the later stands.
    pub fn new(config_maps: Vec<ConfigMap>, secrets: Vec<Secret>) -> Self {
        let key = |meta: &cofferdam_model::meta::ObjectMeta| {
            (meta.namespace_or_default().to_owned(), meta.name.clone())
        };
        Self {
            config_maps: config_maps
                .into_iter()
                .map(|o| (key(&o.metadata), o))
                .collect(),
            secrets: secrets.into_iter().map(|o| (key(&o.metadata), o)).collect(),
        }
    }

    pub(crate) fn config_map(&self, namespace: &str, name: &str) -> Option<&ConfigMap> {
        self.config_maps
            .get(&(namespace.to_owned(), name.to_owned()))
    }

    pub(crate) fn secret(&self, namespace: &str, name: &str) -> Option<&Secret> {
        self.secrets.get(&(namespace.to_owned(), name.to_owned()))
    }
}

/// What pods may learn of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Its address; `None` where it has none.
    pub ip: Option<IpAddr>,
    /// All of its addresses, at most one a family; empty means that `ip` is the only one.
    pub ips: Vec<IpAddr>,
    /// CPUs, in thousandths.
    pub cpu_millis: i64,
    /// Memory, bytes.
    pub memory: i64,
    /// Size of the file system that holds the volumes, bytes.
    pub ephemeral_storage: i64,
    /// Folder of the seccomp profiles that `Localhost` names; empty means
    /// [`SECCOMP_ROOT`].
    pub seccomp_root: PathBuf,
    /// The devices that CDI specifications describe (`/etc/cdi`, `/run/cdi`): kind, which is also the
    /// name of the resource (`nvidia.com/gpu`), to names, one a device. A name that is all devices of
    /// its kind is `all`, which is never chosen.
    pub cdi: BTreeMap<String, Vec<String>>,
}

/// Where the kubelet looks for seccomp profiles (`--seccomp-profile-root` was fixed to it in 1.24).
pub const SECCOMP_ROOT: &str = "/var/lib/kubelet/seccomp";

impl Machine {
    /// Asks the machine. The address is the one that would be used towards the default route; no
    /// packet is sent to find it.
    pub fn detect(dirs: &Dirs) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let info = rustix::system::sysinfo();
        let memory = (info.totalram as u64).saturating_mul(u64::from(info.mem_unit));
        let storage = dirs
            .volumes
            .ancestors()
            .find_map(|dir| rustix::fs::statvfs(dir).ok());
        let storage = storage.map_or(0, |s| s.f_blocks.saturating_mul(s.f_frsize));
        let ips = outward_addresses();
        Self {
            name: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            ip: ips.first().copied(),
            ips,
            cpu_millis: i64::try_from(cpus).unwrap_or(1) * 1000,
            memory: i64::try_from(memory).unwrap_or(i64::MAX),
            ephemeral_storage: i64::try_from(storage).unwrap_or(i64::MAX),
            ..Self::default()
        }
    }

    /// All addresses of the machine, the first one first.
    pub fn addresses(&self) -> Vec<IpAddr> {
        if self.ips.is_empty() {
            self.ip.into_iter().collect()
        } else {
            self.ips.clone()
        }
    }

    /// Folder of the seccomp profiles.
    pub(crate) fn seccomp_root(&self) -> &Path {
        if self.seccomp_root.as_os_str().is_empty() {
            Path::new(SECCOMP_ROOT)
        } else {
            &self.seccomp_root
        }
    }
}

/// The addresses that would be used towards the default routes, IPv4 first.
fn outward_addresses() -> Vec<IpAddr> {
    // Addresses for documentation (RFC 5737, RFC 3849); connecting a UDP socket only chooses a route.
    let towards = |from: &str, to: &str| {
        let socket = std::net::UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        let ip = socket.local_addr().ok()?.ip();
        (!ip.is_unspecified()).then_some(ip)
    };
    let both = [towards("0.0.0.0:0", "192.0.2.1:9"), towards("[::]:0", "[2001:db8::1]:9")];
    both.into_iter().flatten().collect()
}
