//! Facts about the machine, for a preflight. Everything here is read; nothing is changed.

use crate::cgroup::{Cgroups, Mode};
use crate::{Error, Result, files, privilege};
use rustix::thread::CapabilitySet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the machine is and has.
#[derive(Debug, Clone)]
pub struct Facts {
    /// `uname -r`.
    pub kernel: String,
    /// Architecture, as the kernel calls it (`x86_64`).
    pub architecture: String,
    /// Whether we are user 0.
    pub root: bool,
    /// Which interface holds the cgroup controllers; `None` where no hierarchy is mounted.
    pub cgroups: Option<Mode>,
    /// overlayfs.
    pub overlay: bool,
    /// EROFS.
    pub erofs: bool,
    /// User namespaces, and a limit of them above 0.
    pub user_namespaces: bool,
    /// seccomp filters.
    pub seccomp: bool,
    /// `/dev/kvm` is there. Whether it works only a virtual machine tells.
    pub kvm: bool,
    /// Whether the `nft` command is installed, and where.
    pub nft: Option<PathBuf>,
    /// Memory of the machine, bytes.
    pub memory_total: u64,
    /// Memory that could be had without swapping, bytes.
    pub memory_available: u64,
    /// CPUs that we may use.
    pub cpus: usize,
    /// Docker, where there is any of it.
    pub docker: Option<Docker>,
    /// IPv4 routes of the machine, the default route left out.
    pub routes: Vec<Route>,
}

/// What is there of Docker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Docker {
    /// The `dockerd` or `docker` command.
    pub binary: Option<PathBuf>,
    /// Its socket is there.
    pub socket: bool,
}

/// One IPv4 route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Interface.
    pub interface: String,
    /// Network.
    pub network: Ipv4Addr,
    /// Length of the network's prefix, bits.
    pub prefix: u8,
}

impl Facts {
    /// Looks at the machine.
    pub fn gather() -> Result<Self> {
        let uname = rustix::system::uname();
        let filesystems = files::read_text("/proc/filesystems", 1 << 16)?;
        let meminfo = files::read_text("/proc/meminfo", 1 << 16)?;
        Ok(Self {
            kernel: uname.release().to_string_lossy().into_owned(),
            architecture: uname.machine().to_string_lossy().into_owned(),
            root: privilege::is_root(),
            cgroups: match Cgroups::detect() {
                Ok(cgroups) => Some(cgroups.mode()),
                Err(Error::NoCgroups) => None,
                Err(e) => return Err(e),
            },
            overlay: has_filesystem(&filesystems, "overlay"),
            erofs: has_filesystem(&filesystems, "erofs"),
            user_namespaces: user_namespaces(),
            seccomp: Path::new("/proc/sys/kernel/seccomp/actions_avail").exists(),
            kvm: Path::new("/dev/kvm").exists(),
            nft: find_command("nft"),
            memory_total: kib_field(&meminfo, "MemTotal:"),
            memory_available: kib_field(&meminfo, "MemAvailable:"),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            docker: docker(),
            routes: parse_routes(&files::read_text("/proc/net/route", 4 << 20)?),
        })
    }
}

/// Whether this process has a capability, named with or without `CAP_`; false for an unknown name.
pub fn has_capability(name: &str) -> Result<bool> {
    match CapabilitySet::from_name(name.strip_prefix("CAP_").unwrap_or(name)) {
        Some(capability) => privilege::has_capability(capability),
        None => Ok(false),
    }
}

/// Bytes that an unprivileged process could still write to the file system of `path`; the nearest
/// parent that exists is asked.
pub fn disk_free(path: impl AsRef<Path>) -> Result<u64> {
    let path = path.as_ref();
    let existing = path
        .ancestors()
        .find(|p| p.exists())
        .unwrap_or(Path::new("/"));
    let found =
        rustix::fs::statvfs(existing).map_err(Error::path("look at the space of", existing))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Looks for a command in the usual directories, `PATH` first; sbin too, which a user's has not.
pub fn find_command(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = [
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    ]
    .map(PathBuf::from);
    std::env::split_paths(&path)
        .filter(|d| d.is_absolute())
        .chain(usual)
        .map(|d| d.join(name))
        .find(|p| p.is_file() && rustix::fs::access(p, rustix::fs::Access::EXEC_OK).is_ok())
}

/// Whether IPv4 packets that the machine forwards are dropped by the policy of the `FORWARD` chain,
/// as Docker sets it: then pods reach one another, and nothing outside. `None` where neither `nft`
/// nor `iptables` tells. Asking them changes no rule.
pub fn forward_policy_drops() -> Option<bool> {
    let mut told = None;
    if let Some(nft) = find_command("nft")
        && let Some(text) = output_of(&nft, &["list", "chains", "ip"])
    {
        told = Some(nft_forward_drops(&text));
    }
    // Rules of the old kernel interface are not shown by nft; asking where there are none would
    // load its modules.
    let legacy = files::read_text("/proc/net/ip_tables_names", 4096).unwrap_or_default();
    if told != Some(true) && legacy.lines().any(|l| l == "filter") {
        let iptables = find_command("iptables-legacy").or_else(|| find_command("iptables"))?;
        told = Some(
            output_of(&iptables, &["-S", "FORWARD"])?
                .lines()
                .any(|l| l.trim() == "-P FORWARD DROP"),
        );
    }
    told
}

fn output_of(command: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(command)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// In `nft list chains`: a `chain FORWARD` of table `filter` whose hook line says `policy drop`.
fn nft_forward_drops(text: &str) -> bool {
    let (mut table, mut chain) = ("", "");
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("table ") {
            table = rest.trim_end_matches(['{', ' ']);
        } else if let Some(rest) = line.strip_prefix("chain ") {
            chain = rest.trim_end_matches(['{', ' ']);
        } else if table == "ip filter" && chain == "FORWARD" && line.contains("policy drop") {
            return true;
        }
    }
    false
}

fn docker() -> Option<Docker> {
    let found = Docker {
        binary: find_command("dockerd").or_else(|| find_command("docker")),
        socket: ["/run/docker.sock", "/var/run/docker.sock"]
            .iter()
            .any(|p| Path::new(p).exists()),
    };
    (found.socket || found.binary.is_some()).then_some(found)
}

fn user_namespaces() -> bool {
    let limit = |path| {
        files::read_text(path, 64)
            .ok()
            .and_then(|t| t.trim().parse::<u64>().ok())
    };
    Path::new("/proc/self/ns/user").exists()
        && limit("/proc/sys/user/max_user_namespaces") != Some(0)
}

/// A file system that is a module not loaded yet is not listed; overlay and EROFS are looked for
/// among the modules by the kernel itself when they are mounted, so a missing one may still come.
fn has_filesystem(text: &str, name: &str) -> bool {
    text.lines()
        .any(|l| l.split_ascii_whitespace().next_back() == Some(name))
}

fn kib_field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|l| {
            l.strip_prefix(name)?
                .split_ascii_whitespace()
                .next()?
                .parse::<u64>()
                .ok()
        })
        .map_or(0, |kib| kib.saturating_mul(1024))
}

/// Reads `/proc/net/route`: addresses are hexadecimal numbers in the machine's byte order.
fn parse_routes(text: &str) -> Vec<Route> {
    text.lines()
        .skip(1)
        .filter_map(parse_route)
        .filter(|r| r.prefix > 0)
        .collect()
}

fn parse_route(line: &str) -> Option<Route> {
    let fields: Vec<_> = line.split_ascii_whitespace().collect();
    let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
    Some(Route {
        interface: (*fields.first()?).to_owned(),
        network: Ipv4Addr::from(number(1)?.to_ne_bytes()),
        prefix: number(7)?.count_ones() as u8,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn routes_are_read_without_the_default() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
            broken\tline\n";
        let expected = Route {
            interface: "eth0".into(),
            network: Ipv4Addr::new(192, 0, 2, 0),
            prefix: 24,
        };
        assert_eq!(parse_routes(text), [expected]);
    }

    #[test]
    fn dockers_forward_policy_is_seen() {
        let docker = "table ip nat {\n\tchain POSTROUTING {\n\t\ttype nat hook postrouting priority srcnat; policy accept;\n\t}\n}\n\
            table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n";
        assert!(nft_forward_drops(docker));
        assert!(!nft_forward_drops(
            &docker.replace("policy drop", "policy accept")
        ));
        assert!(!nft_forward_drops(&docker.replace("FORWARD", "INPUT")));
        assert!(!nft_forward_drops(
            &docker.replace("table ip filter", "table inet cofferdam")
        ));
    }

    #[test]
    fn small_files_are_read() {
        assert_eq!(
            kib_field("MemTotal:  8 kB\nMemAvailable: 2 kB\n", "MemAvailable:"),
            2048
        );
        assert_eq!(kib_field("", "MemTotal:"), 0);
        assert!(has_filesystem("nodev\toverlay\n\text4\n", "overlay"));
        assert!(has_filesystem("nodev\toverlay\n\text4\n", "ext4"));
        assert!(!has_filesystem("nodev\toverlayfs\n", "overlay"));
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let facts = Facts::gather().unwrap();
        assert!(facts.memory_total > facts.memory_available && facts.memory_available > 0);
        assert!(facts.cpus > 0 && !facts.kernel.is_empty());
        assert!(disk_free("/no/such/directory").unwrap() > 0);
        assert!(find_command("sh").is_some() && find_command("no-such-command").is_none());
        assert!(!has_capability("CAP_NONSENSE").unwrap());
    }
}
