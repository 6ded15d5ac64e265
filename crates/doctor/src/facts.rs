//! What is known of a machine: plain data, filled by [`crate::machine::look`].

use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// A machine. Its default is one of which nothing is known, and of which nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Facts {
    /// The kernel and its parts.
    pub kernel: Kernel,
    /// What this process may do.
    pub privileges: Privileges,
    /// Control groups; `None` where no hierarchy is mounted.
    pub cgroups: Option<Cgroups>,
    /// Virtualisation.
    pub virtualization: Virtualization,
    /// Memory of the machine, bytes; 0 where it is not known.
    pub memory_total: u64,
    /// Memory that could be had without swapping, bytes.
    pub memory_available: u64,
    /// CPUs.
    pub cpus: usize,
    /// Network.
    pub network: Network,
    /// Docker, where there is any of it.
    pub docker: Option<Docker>,
    /// Folders of ours and their file systems.
    pub storage: Vec<Storage>,
    /// Handlers of the merged configuration.
    pub handlers: Vec<Handler>,
    /// Runtimes: those that handlers name, and those in `$PATH`.
    pub runtimes: Vec<Runtime>,
    /// Other container daemons that run here.
    pub daemons: Vec<Daemon>,
    /// What is to be told of configuration files, one sentence each.
    pub config_warnings: Vec<String>,
    /// Why configuration files were not taken, one sentence each.
    pub config_errors: Vec<String>,
    /// Records that could not be read and were put aside.
    pub records_aside: Vec<PathBuf>,
    /// What could not be looked at and why, one sentence each.
    pub unknown: Vec<String>,
}

/// The kernel and its parts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Kernel {
    /// `uname -r`; empty where it is not known.
    pub release: String,
    /// `uname -m`.
    pub architecture: String,
    /// File systems that it has loaded or built in; others may still come as modules.
    pub filesystems: BTreeSet<String>,
    /// File systems for which a module can be loaded.
    pub filesystem_modules: BTreeSet<String>,
    /// Kinds of namespaces.
    pub namespaces: BTreeSet<String>,
    /// Most user namespaces; `None` where it is not known.
    pub max_user_namespaces: Option<u64>,
    /// seccomp filters; `None` where it is not known.
    pub seccomp: Option<bool>,
    /// `kernel.yama.ptrace_scope`.
    pub ptrace_scope: Option<u8>,
}

/// What this process may do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Privileges {
    /// Whether it runs as user 0; `None` where it is not known.
    pub root: Option<bool>,
    /// Capabilities in effect, of those that matter here.
    pub capabilities: BTreeSet<&'static str>,
}

/// Control groups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Cgroups {
    /// `v1`, `hybrid` or `v2`.
    pub mode: &'static str,
    /// Controllers that can be used.
    pub controllers: BTreeSet<String>,
    /// Controllers that v2 holds on a hybrid machine.
    pub on_v2: BTreeSet<String>,
}

/// Virtualisation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Virtualization {
    /// `/dev/kvm`.
    pub kvm: Kvm,
    /// Whether the CPUs offer it; `None` where it is not known (other than x86).
    pub cpu: Option<bool>,
    /// `/dev/vhost-vsock`; `None` where it is not known.
    pub vhost_vsock: Option<bool>,
    /// `/dev/vhost-net`; `None` where it is not known.
    pub vhost_net: Option<bool>,
}

/// `/dev/kvm`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kvm {
    /// Nobody looked.
    #[default]
    Unknown,
    /// There is none.
    Absent,
    /// It cannot be opened; why.
    Unusable(String),
    /// It opens. Whether a virtual machine runs is known only after one was tried.
    Opens,
}

/// Network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Network {
    /// Our bridge.
    pub bridge: String,
    /// Whether it is there.
    pub bridge_there: bool,
    /// Whether a link of its name is there that is no bridge.
    pub bridge_taken: bool,
    /// Addresses of our pods, `10.89.0.0/16`.
    pub subnet: String,
    /// Networks of other links that overlap them.
    pub overlaps: Vec<Overlap>,
    /// `net.ipv4.ip_forward`.
    pub ip_forward: Option<bool>,
    /// `net.bridge.bridge-nf-call-iptables`; `None` where `br_netfilter` is not loaded.
    pub bridge_nf_call_iptables: Option<bool>,
    /// The `nft` command.
    pub nft: Option<PathBuf>,
    /// Whether `nft` was looked for.
    pub looked_for_nft: bool,
    /// Chains that drop what is forwarded, `ip filter FORWARD`, and do not let our pods through;
    /// `None` where nobody could look.
    pub forward_drops: Option<Vec<String>>,
    /// Whether Docker's chain for users' rules is there.
    pub docker_user_chain: bool,
    /// CNI configuration files.
    pub cni_configs: Vec<String>,
    /// Whether a kubelet is installed here, which needs CNI.
    pub kubelet: bool,
}

/// A network of another link that overlaps the pods' addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Overlap {
    /// The link.
    pub link: String,
    /// Its network.
    pub network: String,
}

/// What there is of Docker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Docker {
    /// The `dockerd` or `docker` command.
    pub binary: Option<PathBuf>,
    /// Its socket is there.
    pub socket: bool,
}

/// A folder of ours and its file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Storage {
    /// `root` outlives a reboot and holds images and binaries, `state` need not.
    pub role: &'static str,
    /// The folder.
    pub path: PathBuf,
    /// The nearest folder that exists, which was looked at.
    pub looked_at: PathBuf,
    /// Type of its file system.
    pub fstype: String,
    /// Bytes that can be written.
    pub free_bytes: u64,
    /// Size, bytes; 0 where it is not known.
    pub total_bytes: u64,
    /// Files that can be made.
    pub free_inodes: u64,
    /// Files that it can hold; 0 where it has no limit.
    pub total_inodes: u64,
    /// Mounted read-only.
    pub read_only: bool,
    /// Mounted with `noexec`.
    pub noexec: bool,
    /// Why it cannot be written otherwise.
    pub not_writable: Option<String>,
    /// Others than its owner may write into it.
    pub open_to_others: bool,
}

/// A handler of the merged configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Handler {
    /// Name.
    pub name: String,
    /// Whether a pod that names none gets it.
    pub default: bool,
    /// Whether a file names it; else it is built in, and may be missing with no harm.
    pub configured: bool,
    /// `oci`, `vm`, `shim` or `-`.
    pub driver: String,
    /// `runc`, `crun`, `youki` or `runsc`, for `oci`.
    pub flavor: String,
    /// Binary, found in `$PATH` where the configuration gives a name.
    pub binary: Option<PathBuf>,
    /// Flags, without dashes.
    pub flags: BTreeMap<String, Option<String>>,
    /// Why no pod may start under it, one sentence.
    pub trouble: Option<String>,
    /// Whether it was proved, where the engine was asked.
    pub proved: Option<bool>,
}

/// A runtime's binary.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Runtime {
    /// `runc`, `crun`, `youki`, `runsc`, or the file's name.
    pub kind: String,
    /// The file.
    pub path: PathBuf,
    /// What `--version` printed, at most its first lines, on one line; `None` where it failed.
    pub version: Option<String>,
    /// Why it did not answer.
    pub error: Option<String>,
    /// Go's version that built it, where it was looked for.
    pub go: Option<String>,
    /// Date of gVisor's sources in it, `20260701`.
    pub gvisor_date: Option<u32>,
    /// CVE ids that the distribution's change log says are repaired in its package.
    pub repaired: BTreeSet<String>,
}

/// Another container daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Daemon {
    /// `containerd` or `crio`.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// A configuration file that was changed after the process began.
    pub newer_config: Option<PathBuf>,
}
