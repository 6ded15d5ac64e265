//! The kernel, what this process may do, virtualisation, memory, and daemons of others.

use super::Sources;
use crate::facts::{Daemon, Kernel, Kvm, Privileges, Virtualization};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(super) fn kernel(sources: &Sources<'_>, unknown: &mut Vec<String>) -> Kernel {
    let filesystems = sources.table_file("/proc/filesystems", unknown).unwrap_or_default();
    let release = sources.small("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    let module = |name: &&&str| has_module(sources, &release, name);
    Kernel {
        architecture: rustix::system::uname().machine().to_string_lossy().into_owned(),
        filesystems: filesystems
            .lines()
            .filter_map(|l| l.split_ascii_whitespace().next_back())
            .map(str::to_owned)
            .collect(),
        filesystem_modules: ["overlay", "erofs"].iter().filter(module).map(|n| (*n).to_owned()).collect(),
        namespaces: sources.names("/proc/self/ns").into_iter().collect(),
        max_user_namespaces: sources.number("/proc/sys/user/max_user_namespaces"),
        seccomp: (!release.is_empty()).then(|| sources.at("/proc/sys/kernel/seccomp/actions_avail").exists()),
        ptrace_scope: sources.number("/proc/sys/kernel/yama/ptrace_scope"),
        release,
    }
}

/// Whether the kernel's list of modules has one.
fn has_module(sources: &Sources<'_>, release: &str, name: &str) -> bool {
    if release.is_empty() || release.contains('/') {
        return false;
    }
    let list = sources.at(format!("/lib/modules/{release}/modules.dep"));
    let file = format!("/{name}.ko");
    cofferdam_host::files::read_text(list, super::TABLE)
        .is_ok_and(|t| t.lines().any(|l| l.split(':').next().is_some_and(|p| p.contains(&file))))
}

/// Bits of capabilities (`linux/capability.h`).
const CAPABILITIES: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN"), (24, "CAP_SYS_RESOURCE")];

pub(super) fn privileges(sources: &Sources<'_>, unknown: &mut Vec<String>) -> Privileges {
    let Some(status) = sources.table_file("/proc/self/status", unknown) else {
        return Privileges::default();
    };
    let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
    // Real, effective, saved and file system id.
    let effective = field("Uid:").and_then(|ids| ids.split_ascii_whitespace().nth(1)?.parse::<u32>().ok());
    let bits = field("CapEff:").and_then(|v| u64::from_str_radix(v, 16).ok()).unwrap_or(0);
    let held = CAPABILITIES.into_iter().filter(|(bit, _)| bits & (1 << bit) != 0);
    Privileges {
        root: effective.map(|id| id == 0),
        capabilities: held.map(|(_, name)| name).collect(),
    }
}

pub(super) fn virtualization(sources: &Sources<'_>) -> Virtualization {
    let there = |path: &str| sources.at(path).exists();
    let looked = there("/dev");
    Virtualization {
        kvm: if looked { kvm(&sources.at("/dev/kvm")) } else { Kvm::Unknown },
        cpu: sources
            .small("/proc/cpuinfo")
            .or_else(|| first_cpu(sources))
            .as_deref()
            .and_then(offers_virtualization),
        vhost_vsock: looked.then(|| there("/dev/vhost-vsock")),
        vhost_net: looked.then(|| there("/dev/vhost-net")),
    }
}

/// The beginning of `/proc/cpuinfo`, which grows with the number of CPUs.
fn first_cpu(sources: &Sources<'_>) -> Option<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(sources.at("/proc/cpuinfo"))
        .ok()?
        .take(super::SMALL)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Opening it asks the kernel whether it would give a virtual machine, and makes none.
fn kvm(path: &Path) -> Kvm {
    match std::fs::OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => Kvm::Opens,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Kvm::Absent,
        Err(e) => Kvm::Unusable(e.to_string()),
    }
}

/// From the flags of x86 CPUs; others have no such line.
fn offers_virtualization(cpuinfo: &str) -> Option<bool> {
    let flags = cpuinfo.lines().find(|l| l.starts_with("flags"))?;
    Some(flags.split_ascii_whitespace().any(|f| f == "vmx" || f == "svm"))
}

/// Total and available, bytes.
pub(super) fn memory(sources: &Sources<'_>, unknown: &mut Vec<String>) -> (u64, u64) {
    let text = sources.table_file("/proc/meminfo", unknown).unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(name));
        line.and_then(|l| l.split_ascii_whitespace().next()?.parse::<u64>().ok())
            .map_or(0, |kib| kib.saturating_mul(1024))
    };
    (field("MemTotal:"), field("MemAvailable:"))
}

/// Ticks a second of the times in `/proc` (`USER_HZ`, 100 on every architecture that is left).
const TICKS: u64 = 100;

/// containerd and CRI-O, and whether they began before their configuration was changed.
pub(super) fn daemons(sources: &Sources<'_>) -> Vec<Daemon> {
    let boot = sources.table_file("/proc/stat", &mut Vec::new()).and_then(|text| {
        let line = text.lines().find_map(|l| l.strip_prefix("btime "))?;
        line.trim().parse::<u64>().ok()
    });
    let Some(boot) = boot else { return Vec::new() };
    let processes = sources.names("/proc").into_iter().filter_map(|name| name.parse::<u32>().ok());
    let found = processes.filter_map(|pid| {
        let name = sources.small(&format!("/proc/{pid}/comm"))?.trim().to_owned();
        let (file, folder) = match name.as_str() {
            "containerd" => ("/etc/containerd/config.toml", "/etc/containerd/conf.d"),
            "crio" => ("/etc/crio/crio.conf", "/etc/crio/crio.conf.d"),
            _ => return None,
        };
        let stat = sources.small(&format!("/proc/{pid}/stat"))?;
        let began = UNIX_EPOCH + Duration::from_secs(boot + start_ticks(&stat)? / TICKS);
        Some(Daemon {
            name,
            pid,
            newer_config: newer(sources, file, folder, began),
        })
    });
    // One a name: containerd's shims have names of their own, its workers have not.
    let mut seen = BTreeSet::new();
    found.filter(|d| seen.insert(d.name.clone())).collect()
}

/// Field 22 of proc(5)'s stat; the name before it may hold anything.
fn start_ticks(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn newer(sources: &Sources<'_>, file: &str, folder: &str, began: SystemTime) -> Option<PathBuf> {
    let drop_ins = sources.names(folder).into_iter().map(|name| Path::new(folder).join(name));
    let changed = |path: &PathBuf| std::fs::metadata(sources.at(path)).and_then(|m| m.modified());
    // The clock of the boot is a second or two off.
    let late = began + Duration::from_secs(5);
    std::iter::once(PathBuf::from(file))
        .chain(drop_ins)
        .find(|path| changed(path).is_ok_and(|at| at > late))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn small_texts_are_read() {
        assert_eq!(
            start_ticks("12 (a) b (c)) S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 1 1"),
            Some(777)
        );
        assert_eq!(start_ticks("12 (a S 1"), None);
        assert_eq!(offers_virtualization("processor: 0\nflags\t\t: fpu vmx sse"), Some(true));
        assert_eq!(offers_virtualization("flags : fpu vmx_like"), Some(false));
        assert_eq!(offers_virtualization("Features : fp asimd"), None);
    }
}
