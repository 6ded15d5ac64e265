//! Facts, by the diagnoses that they show.

use crate::Severity::{self, Degrades, Note, StopsPods};
use crate::facts::{Cgroups, Daemon, Facts, Handler, Kernel, Kvm, Network, Overlap, Privileges, Runtime, Storage, Virtualization};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn runtime(kind: &str, version: &str) -> Runtime {
    Runtime {
        kind: kind.into(),
        path: format!("/usr/bin/{kind}").into(),
        version: Some(version.into()),
        ..Runtime::default()
    }
}

pub(super) fn gvisor(go: &str, date: u32) -> Facts {
    let runtime = Runtime {
        go: Some(go.into()),
        gvisor_date: Some(date),
        ..runtime("runsc", "runsc version VERSION_MISSING; spec: 1.2.1")
    };
    Facts {
        runtimes: vec![runtime],
        ..Facts::default()
    }
}

fn handler(name: &str, driver: &str, flavor: &str) -> Handler {
    Handler {
        name: name.into(),
        driver: driver.into(),
        flavor: flavor.into(),
        configured: true,
        ..Handler::default()
    }
}

/// gVisor's handler with one flag.
fn flagged(flag: &str, value: &str) -> Handler {
    Handler {
        flags: BTreeMap::from([(flag.to_owned(), Some(value.to_owned()))]),
        ..handler("gvisor", "oci", "runsc")
    }
}

pub(super) fn strings(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

pub(super) fn network(network: Network) -> Facts {
    Facts {
        network: Network {
            bridge: "cofferdam0".into(),
            subnet: "10.89.0.0/16".into(),
            ..network
        },
        ..Facts::default()
    }
}

/// A sound folder, after `change`.
pub(super) fn storage(change: impl Fn(&mut Storage)) -> Facts {
    let mut storage = Storage {
        role: "root",
        path: "/var/lib/cofferdam".into(),
        looked_at: "/var/lib".into(),
        fstype: "ext4".into(),
        free_bytes: 1 << 34,
        total_bytes: 1 << 36,
        free_inodes: 1 << 20,
        total_inodes: 1 << 22,
        ..Storage::default()
    };
    change(&mut storage);
    Facts {
        storage: vec![storage],
        ..Facts::default()
    }
}

pub(super) fn kernel(kernel: Kernel) -> Facts {
    Facts {
        kernel,
        cgroups: Some(controllers("v2", &["cpu", "memory", "pids"], &[])),
        ..Facts::default()
    }
}

pub(super) fn controllers(mode: &'static str, controllers: &[&str], on_v2: &[&str]) -> Cgroups {
    Cgroups {
        mode,
        controllers: strings(controllers),
        on_v2: strings(on_v2),
    }
}

/// A machine with a handler for virtual machines.
pub(super) fn vm(kvm: Kvm, cpu: Option<bool>) -> Facts {
    let virtualization = Virtualization {
        kvm,
        cpu,
        vhost_vsock: Some(true),
        vhost_net: Some(true),
    };
    Facts {
        virtualization,
        handlers: vec![handler("kata-qemu", "vm", "")],
        ..Facts::default()
    }
}

/// The diagnoses that facts show, how severe the first is, and the facts.
pub(super) fn rows() -> Vec<(&'static str, Severity, Facts)> {
    [handler_rows(), version_rows(), kernel_rows(), network_rows(), storage_rows()].concat()
}

fn with_handler(handler: Handler) -> Facts {
    Facts {
        handlers: vec![handler],
        ..Facts::default()
    }
}

#[rustfmt::skip]
fn handler_rows() -> Vec<(&'static str, Severity, Facts)> {
    let silent = |configured, error: &str| Facts {
        runtimes: vec![Runtime { kind: "crun".into(), path: "/opt/crun".into(), error: Some(error.into()), ..Runtime::default() }],
        ..with_handler(Handler { binary: Some("/opt/crun".into()), configured, ..handler("c", "oci", "crun") })
    };
    let troubled = |configured, trouble: &str| with_handler(Handler { configured, trouble: Some(trouble.into()), ..handler("youki", "oci", "youki") });
    let missing = "handler \"youki\" needs youki, which is not installed (looked in /bin)";
    let ptrace = Facts { kernel: Kernel { ptrace_scope: Some(3), ..Kernel::default() }, handlers: vec![handler("gvisor", "oci", "runsc")], ..gvisor("go1.26.1", 20_260_701) };
    let daemon = Daemon { name: "containerd".into(), pid: 7, newer_config: Some("/etc/containerd/config.toml".into()) };
    vec![
        ("configuration-error", StopsPods, Facts { config_errors: vec!["/etc/x.toml:1:2: this is not valid TOML".into()], ..Facts::default() }),
        ("configuration-not-honoured", Note, Facts { config_warnings: vec!["/etc/x.toml:1: no version".into()], ..Facts::default() }),
        ("bridge-not-ours", StopsPods, network(Network { bridge: "cofferdam0".into(), bridge_taken: true, ..Network::default() })),
        ("runtime-does-not-answer", StopsPods, silent(true, "printed nothing")),
        ("runtime-does-not-answer", Note, silent(false, "printed nothing")),
        ("runtime-wrong-architecture", StopsPods, silent(true, "cannot be run: Exec format error (os error 8)")),
        // One cause, told once.
        ("handler-binary-not-executable", StopsPods, {
            let mut facts = silent(true, "cannot be run: Permission denied (os error 13)");
            facts.handlers[0].trouble = Some("handler \"c\" needs /opt/crun, which is not an executable file".into());
            facts
        }),
        ("handler-binary-missing", StopsPods, troubled(true, missing)),
        ("handler-binary-missing", Note, troubled(false, missing)),
        ("handler-unusable", StopsPods, troubled(true, "snapshotter = \"zfs\" (/etc/x.toml:3:1) is not here")),
        ("handler-unproved", StopsPods, troubled(true, "handler \"youki\" is not proved: what?")),
        ("daemon-not-restarted", Degrades, Facts { daemons: vec![daemon], ..Facts::default() }),
        ("gvisor-slow-files", Degrades, with_handler(flagged("directfs", "false"))),
        ("gvisor-slow-files", Degrades, with_handler(flagged("file-access", "shared"))),
        ("gvisor-too-old", Degrades, gvisor("go1.19.8", 20_221_219)),
        ("gvisor-panics-on-fork", StopsPods, gvisor("go1.26.1", 20_250_205)),
        ("gvisor-ptrace-forbidden", StopsPods, ptrace),
        ("no-hardware-virtualization", StopsPods, vm(Kvm::Absent, Some(false))),
        ("no-hardware-virtualization", Note, Facts { handlers: vec![], ..vm(Kvm::Absent, Some(false)) }),
        ("kvm-device-missing", StopsPods, vm(Kvm::Absent, Some(true))),
        ("kvm-device-missing", StopsPods, Facts { handlers: vec![flagged("platform", "kvm")], ..vm(Kvm::Absent, None) }),
        ("kvm-device-unusable", StopsPods, vm(Kvm::Unusable("Permission denied".into()), Some(true))),
        ("vhost-missing", StopsPods, Facts { virtualization: Virtualization { kvm: Kvm::Opens, vhost_vsock: Some(false), ..Virtualization::default() }, ..with_handler(handler("kata", "shim", "")) }),
    ]
}

#[rustfmt::skip]
fn version_rows() -> Vec<(&'static str, Severity, Facts)> {
    let running = |r: Runtime| Facts { runtimes: vec![r], ..Facts::default() };
    let version = |kind, version| running(runtime(kind, version));
    let hybrid = Facts { cgroups: Some(controllers("hybrid", &["cpu", "memory", "pids"], &["hugetlb"])), ..version("crun", "crun version 1.20") };
    vec![
        ("crun-oci-version", Note, version("crun", "crun version 1.8.1; spec: 1.0.0; +SYSTEMD")),
        ("crun-hybrid-cgroups", Note, hybrid),
        ("runc-cve-2025-31133", Degrades, version("runc", "runc version 1.2.7")),
        ("runc-cve-2025-31133", Degrades, version("runc", "runc version 1.3.2")),
        ("runc-cve-2025-31133", Degrades, version("runc", "runc version 1.4.0-rc.2")),
        ("runc-cve-2024-21626", Degrades, running(Runtime { repaired: strings(&["CVE-2025-31133"]), ..runtime("runc", "runc version 1.1.11") })),
        ("crun-cve-2025-24965", Degrades, version("crun", "crun version 1.19; +SECCOMP +LIBKRUN")),
        ("crun-cve-2022-27650 crun-oci-version", Degrades, version("crun", "crun version 1.4.3")),
        ("crun-oci-version io-priority-rejected", Note, version("crun", "crun version 1.8.5")),
    ]
}

#[rustfmt::skip]
fn kernel_rows() -> Vec<(&'static str, Severity, Facts)> {
    let spaces = |without: &str| ["mnt", "net", "ipc", "uts", "pid", "user"].iter().filter(|n| **n != without).map(|n| (*n).to_owned()).collect();
    let privileges = |root, capabilities: &[&'static str]| Facts { privileges: Privileges { root: Some(root), capabilities: capabilities.iter().copied().collect() }, ..Facts::default() };
    vec![
        ("kernel-too-old", StopsPods, kernel(Kernel { release: "4.19.0-26-amd64".into(), ..Kernel::default() })),
        ("ids-not-mappable", Note, kernel(Kernel { release: "5.10.0-28-amd64".into(), ..Kernel::default() })),
        ("not-root", Note, privileges(false, &[])),
        ("capability-missing", StopsPods, privileges(true, &["CAP_NET_ADMIN"])),
        ("namespaces-missing", StopsPods, kernel(Kernel { namespaces: spaces("net"), ..Kernel::default() })),
        ("user-namespaces-off", Degrades, kernel(Kernel { max_user_namespaces: Some(0), namespaces: spaces(""), ..Kernel::default() })),
        ("user-namespaces-off", Degrades, kernel(Kernel { namespaces: spaces("user"), ..Kernel::default() })),
        ("seccomp-off", Degrades, kernel(Kernel { seccomp: Some(false), ..Kernel::default() })),
        ("overlay-absent", StopsPods, kernel(Kernel { filesystems: strings(&["ext4", "proc"]), ..Kernel::default() })),
        ("cgroups-not-mounted", StopsPods, Facts { cgroups: None, ..kernel(Kernel { release: "6.1.0".into(), ..Kernel::default() }) }),
        ("cgroup-controller-missing", StopsPods, Facts { cgroups: Some(controllers("v2", &["cpu", "pids"], &[])), ..Facts::default() }),
        ("memory-low", Degrades, Facts { memory_total: 1 << 31, memory_available: 64 << 20, ..Facts::default() }),
    ]
}

#[rustfmt::skip]
fn network_rows() -> Vec<(&'static str, Severity, Facts)> {
    let overlap = Overlap { link: "docker0".into(), network: "10.89.4.0/24".into() };
    vec![
        ("docker-forward-drop", Degrades, network(Network { forward_drops: Some(vec!["ip filter FORWARD".into()]), docker_user_chain: true, ..Network::default() })),
        ("ip-forward-off", Degrades, network(Network { ip_forward: Some(false), bridge_there: true, ..Network::default() })),
        ("ip-forward-off", Note, network(Network { ip_forward: Some(false), ..Network::default() })),
        ("addresses-overlap", StopsPods, network(Network { overlaps: vec![overlap], ..Network::default() })),
        ("nft-missing", Degrades, network(Network { looked_for_nft: true, ..Network::default() })),
        ("cni-absent", StopsPods, network(Network { kubelet: true, ..Network::default() })),
    ]
}

fn storage_rows() -> Vec<(&'static str, Severity, Facts)> {
    let on = |fstype: &'static str| storage(move |s| s.fstype = fstype.into());
    vec![
        ("disk-full", StopsPods, storage(|s| s.free_bytes = 1 << 20)),
        ("inodes-full", StopsPods, storage(|s| s.free_inodes = 3)),
        (
            "state-read-only",
            StopsPods,
            storage(|s| (s.read_only, s.not_writable) = (true, Some("Read-only file system".into()))),
        ),
        (
            "state-not-writable",
            StopsPods,
            storage(|s| s.not_writable = Some("Permission denied".into())),
        ),
        ("state-not-private", StopsPods, storage(|s| s.open_to_others = true)),
        ("state-on-overlayfs", StopsPods, on("overlay")),
        ("state-on-network", StopsPods, on("nfs4")),
        ("state-on-tmpfs", Note, on("tmpfs")),
        ("state-noexec", StopsPods, storage(|s| s.noexec = true)),
        (
            "record-unreadable",
            Degrades,
            Facts {
                records_aside: vec!["/var/lib/cofferdam/unreadable/1-2".into()],
                ..Facts::default()
            },
        ),
    ]
}
