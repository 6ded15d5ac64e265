//! The machine, as trees of files that stand for it, and once as it is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cofferdam_doctor::facts::Kvm;
use cofferdam_doctor::{Facts, Report, Severity, Sources, examine, look};
use cofferdam_handlers::{Files, HandlerTable, Roots, Text, Wanted, load};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A tree in the place of `/`.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, path: &str) -> std::path::PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    fn file(&self, path: &str, text: impl AsRef<[u8]>) -> &Self {
        std::fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        std::fs::write(self.at(path), text).unwrap();
        self
    }

    fn folder(&self, path: &str) -> &Self {
        std::fs::create_dir_all(self.at(path)).unwrap();
        self
    }

    fn program(&self, path: &str, script: &str) -> &Self {
        self.file(path, format!("#!/bin/sh\n{script}\n"));
        std::fs::set_permissions(self.at(path), std::fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn sources<'a>(&self, table: Option<&'a HandlerTable>) -> Sources<'a> {
        Sources {
            fs: self.0.path().to_owned(),
            path: "/usr/bin".into(),
            table,
            ..Sources::new()
        }
    }
}

/// What every Linux has.
fn linux() -> Tree {
    let tree = Tree::new();
    tree.file("/proc/filesystems", "nodev\tproc\n\text4\nnodev\toverlay\n")
        .file("/proc/sys/kernel/osrelease", "6.1.0-40-amd64\n")
        .file("/proc/sys/kernel/seccomp/actions_avail", "kill_process\n")
        .file("/proc/sys/user/max_user_namespaces", "30000\n")
        .file("/proc/self/status", "Name:\tx\nUid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\n")
        .file("/proc/meminfo", "MemTotal:       8000000 kB\nMemAvailable:   4000000 kB\n")
        .file("/proc/net/route", "Iface\tDestination\n")
        .file("/proc/sys/net/ipv4/ip_forward", "1\n")
        .folder("/dev")
        .folder("/var/lib")
        .folder("/run");
    for namespace in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        tree.file(&format!("/proc/self/ns/{namespace}"), "");
    }
    tree
}

/// The handlers of our own configuration file.
fn handlers(config: &str) -> HandlerTable {
    let roots = Roots {
        containerd: None,
        crio: None,
        crio_drop_ins: None,
        ..Roots::default()
    };
    let mut files = Files::default();
    files.texts.insert(roots.own.clone(), Text::Found(config.to_owned()));
    let loaded = loop {
        let loaded = load(&files, &roots);
        if loaded.wanted.is_empty() {
            break loaded;
        }
        for wanted in loaded.wanted {
            match wanted {
                Wanted::File(path) => drop(files.texts.insert(path, Text::Absent)),
                Wanted::Folder(path) => drop(files.folders.insert(path, Default::default())),
            }
        }
    };
    assert_eq!(loaded.errors, []);
    loaded.table
}

fn found(report: &Report) -> Vec<(&'static str, Severity)> {
    report.findings.iter().map(|f| (f.id, f.severity)).collect()
}

#[test]
fn a_sound_machine_with_v2_has_nothing_to_tell() {
    let tree = linux();
    tree.file(
        "/proc/self/mountinfo",
        "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:2 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
    )
    .file("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory hugetlb pids\n")
    .file("/proc/cpuinfo", "flags : fpu vmx\n")
    .file("/dev/kvm", "")
    .program("/usr/bin/nft", "echo '{\"nftables\": []}'")
    .program("/usr/bin/crun", "echo crun version 1.24; echo '+SECCOMP'");
    let report = examine(&tree.sources(Some(&handlers("version = 1\ndefault_handler = \"crun\"\n"))));
    let facts = &report.facts;
    assert_eq!(facts.unknown, Vec::<String>::new());
    assert_eq!(
        (facts.kernel.release.as_str(), facts.privileges.root),
        ("6.1.0-40-amd64", Some(true))
    );
    assert_eq!(facts.cgroups.as_ref().map(|c| c.mode), Some("v2"));
    assert_eq!(facts.virtualization.kvm, Kvm::Opens);
    assert_eq!(facts.network.forward_drops.as_deref(), Some(&[][..]));
    assert_eq!(
        facts.storage.iter().map(|s| s.fstype.as_str()).collect::<Vec<_>>(),
        ["ext4", "ext4"]
    );
    assert_eq!(facts.runtimes[0].version.as_deref(), Some("crun version 1.24; +SECCOMP"));
    // Handlers that are built in and not installed are notes, and the default one is none of them.
    assert!(
        found(&report).iter().all(|f| *f == ("handler-binary-missing", Severity::Note)),
        "{:#?}",
        report.findings
    );
}

#[test]
fn a_broken_machine_tells_each_cause() {
    let tree = linux();
    let proc_mounts = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:2 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
        3 1 0:3 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n4 1 0:4 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    let overlap = |net: [u8; 4]| {
        format!(
            "Iface\tx\nvirbr0\t{:08X}\t0\t1\t0\t0\t0\t{:08X}\t0\t0\t0\n",
            u32::from_ne_bytes(net),
            u32::from_ne_bytes([255, 255, 255, 0])
        )
    };
    let drop = r#"{"nftables": [{"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}}, {"chain": {"family": "ip", "table": "filter", "name": "DOCKER-USER"}}]}"#;
    tree.file("/proc/self/mountinfo", proc_mounts)
        .file("/sys/fs/cgroup/unified/cgroup.controllers", "hugetlb\n")
        .file("/proc/cpuinfo", "flags : fpu sse\n")
        .file("/proc/sys/kernel/yama/ptrace_scope", "3\n")
        .file("/proc/sys/net/ipv4/ip_forward", "0\n")
        .file("/proc/sys/net/bridge/bridge-nf-call-iptables", "1\n")
        .file("/proc/net/route", overlap([10, 89, 7, 0]))
        .folder("/sys/class/net/cofferdam0")
        .folder("/var/lib/cofferdam/unreadable/0123-1")
        .program("/usr/bin/kubelet", "true")
        .program("/usr/bin/dockerd", "true")
        .program("/usr/bin/nft", &format!("echo '{drop}'"))
        .program("/usr/bin/crun", "echo crun version 1.8.1")
        .program("/usr/bin/runc", "echo runc version 1.1.5+ds1; echo spec: 1.0.2")
        .program("/usr/bin/runsc", "echo runsc version release-20221219.0")
        .program("/opt/broken", "echo no library >&2; exit 127")
        // containerd began at the boot of 1970, before its configuration was changed.
        .file("/proc/stat", "cpu 1\nbtime 1000\n")
        .file("/proc/77/comm", "containerd\n")
        .file("/proc/77/stat", "77 (containerd) S 1 1 1 0 -1 0 1 0 0 0 0 0 0 0 20 0 1 0 500 1 1")
        .file("/etc/containerd/config.toml", "");
    let table = handlers(
        "version = 1\ndefault_handler = \"runc\"\n\
         [handlers.broken]\nbinary = \"/opt/broken\"\n\
         [handlers.gone]\nbinary = \"/opt/gone\"\n\
         [handlers.slow]\nbinary = \"/usr/bin/runsc\"\nargs = [\"--directfs=false\", \"--platform=kvm\"]\n",
    );
    let report = examine(&tree.sources(Some(&table)));
    let ids: Vec<_> = report.findings.iter().map(|f| f.id).collect();
    for id in [
        "cgroup-controller-missing",
        "crun-hybrid-cgroups",
        "crun-oci-version",
        "runc-cve-2024-21626",
        "runc-cve-2025-31133",
        "gvisor-too-old",
        "gvisor-slow-files",
        "gvisor-ptrace-forbidden",
        "runtime-does-not-answer",
        "handler-binary-missing",
        "no-hardware-virtualization",
        "docker-forward-drop",
        "bridged-packets-filtered",
        "ip-forward-off",
        "addresses-overlap",
        "cni-absent",
        "daemon-not-restarted",
        "record-unreadable",
    ] {
        assert!(ids.contains(&id), "{id} is not among {ids:?}");
    }
    let of = |id: &str| report.findings.iter().find(|f| f.id == id).unwrap();
    assert_eq!(
        of("runtime-does-not-answer").evidence,
        "/opt/broken --version: ended with exit status: 127: no library"
    );
    assert_eq!(
        of("docker-forward-drop").remedy[0],
        "iptables -I DOCKER-USER -i cofferdam0 -j ACCEPT"
    );
    assert_eq!(
        of("no-hardware-virtualization").severity,
        Severity::StopsPods,
        "the handler slow asks for KVM"
    );
    assert!(
        report
            .findings
            .iter()
            .any(|f| f.subject == "handler gone" && f.severity == Severity::StopsPods)
    );
}

#[test]
fn a_repair_by_the_distribution_counts() {
    let tree = linux();
    tree.program("/usr/bin/runc", "echo runc version 1.1.5+ds1");
    let ids = || {
        look(&tree.sources(None))
            .runtimes
            .into_iter()
            .flat_map(|r| r.repaired)
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(), Vec::<String>::new());
    let log = b"runc (1.1.5+ds1-1+deb12u1) bookworm-security; urgency=high\n  * CVE-2024-21626: breakouts\n";
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, log).unwrap();
    tree.file("/usr/share/doc/runc/changelog.Debian.gz", packed.finish().unwrap());
    assert_eq!(ids(), ["CVE-2024-21626"]);
}

#[test]
fn a_machine_that_shows_nothing_is_not_known_rather_than_broken() {
    let tree = Tree::new();
    let report = examine(&tree.sources(None));
    assert!(!report.facts.unknown.is_empty());
    // `nft` was looked for and is not there: that much is known.
    let serious: Vec<_> = report.findings.iter().filter(|f| f.severity == Severity::StopsPods).collect();
    assert!(serious.is_empty(), "{serious:#?}");
}

#[test]
fn no_command_runs_where_none_may() {
    let tree = linux();
    let trace = tree.at("/ran");
    for name in ["nft", "runc", "crun", "runsc"] {
        tree.program(&format!("/usr/bin/{name}"), &format!("touch {}", trace.display()));
    }
    let facts = look(&Sources {
        commands: false,
        ..tree.sources(None)
    });
    assert_eq!(facts.runtimes.len(), 3);
    assert!(facts.runtimes.iter().all(|r| r.version.is_none() && r.error.is_none()));
    assert!(!trace.exists());
}

#[test]
fn this_machine_is_looked_at_and_left_as_it_is() {
    let settings = || std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    let before = settings();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("not-made");
    let sources = Sources {
        root: root.clone(),
        state: folder.path().join("nor-this"),
        ..Sources::new()
    };
    let report = examine(&sources);
    let Facts {
        kernel,
        cgroups,
        storage,
        runtimes,
        memory_total,
        ..
    } = &report.facts;
    assert!(!kernel.release.is_empty() && kernel.namespaces.contains("net") && *memory_total > 0);
    assert!(cgroups.is_some());
    assert_eq!(storage.len(), 2);
    assert_eq!(storage[0].looked_at, Path::new(folder.path()));
    assert!(
        runtimes
            .iter()
            .any(|r| r.kind == "runc" && r.version.as_deref().is_some_and(|v| v.contains("runc version"))),
        "{runtimes:?}"
    );
    assert!(!root.exists() && settings() == before);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["facts"]["kernel"]["release"], kernel.release.as_str());
    assert!(report.lines().iter().all(|line| !line.contains('\n')));
}
