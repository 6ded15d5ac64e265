//! What pods get where they say nothing: from each family of files, and back by rendering.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;
use cofferdam_handlers::{Defaults, Snapshotter, Ulimit, UnsetSeccomp, diff, render};
use common::*;

fn own(body: &str) -> cofferdam_handlers::Loaded {
    machine(&[(OWN, &format!("[handlers.h]\nbinary = 'runc'\n{body}\n"))])
}

#[test]
fn crio_says_what_pods_get() {
    let loaded = crio(
        "[crio.runtime]
default_capabilities = ['CAP_KILL', 'chown', 'KILL']
pids_limit = 1024
seccomp_profile = '/etc/crio/seccomp.json'
apparmor_profile = 'crio-mine'
default_sysctls = ['net/ipv4/ip_unprivileged_port_start=0', 'net.ipv4.ping_group_range = 0 1']
default_ulimits = ['nofile=1024:2048', 'core=-1']
device_ownership_from_security_context = true
[crio.runtime.runtimes.h]
runtime_path = '/usr/bin/runc'
[crio.runtime.runtimes.other]
runtime_path = '/usr/bin/crun'
seccomp_profile = '/etc/crio/other.json'
",
    );
    assert_eq!((errors(&loaded), warnings(&loaded)), (vec![], vec![]));
    let defaults = Defaults {
        capabilities: Some(vec!["CHOWN".into(), "KILL".into()]),
        pids_limit: Some(1024),
        seccomp_profile: Some("/etc/crio/seccomp.json".into()),
        apparmor_profile: Some("crio-mine".into()),
        sysctls: [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 1")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ulimits: [
            ("nofile".to_owned(), Ulimit { soft: 1024, hard: 2048 }),
            (
                "core".to_owned(),
                Ulimit {
                    soft: u64::MAX,
                    hard: u64::MAX,
                },
            ),
        ]
        .into(),
        device_ownership: true,
        ..Defaults::default()
    };
    assert_eq!(handler(&loaded, "h").defaults, defaults);
    assert_eq!(origin(&loaded, "h", "pids_limit"), format!("{CRIO}:3"));
    let other = Defaults {
        seccomp_profile: Some("/etc/crio/other.json".into()),
        ..defaults
    };
    assert_eq!(handler(&loaded, "other").defaults, other);
    assert_eq!(origin(&loaded, "other", "seccomp_profile"), format!("{CRIO}:13"));
    // Handlers of other families are not theirs.
    assert_eq!(handler(&loaded, "youki").defaults, Defaults::default());
    // An empty list of capabilities is a list.
    let none = crio("[crio.runtime]\ndefault_capabilities = []\npids_limit = -1\n[crio.runtime.runtimes.h]\n");
    assert_eq!(handler(&none, "h").defaults.capabilities, Some(vec![]));
    assert_eq!(handler(&none, "h").defaults.pids_limit, None);
}

#[test]
fn containerd_says_what_pods_get() {
    let file = |cri: &str, runtime: &str| {
        containerd(&format!(
            "version = 2
[plugins.'io.containerd.grpc.v1.cri']
{cri}
[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.h]
runtime_type = 'io.containerd.runc.v2'
{runtime}
"
        ))
    };
    let loaded = file(
        "unset_seccomp_profile = 'runtime/default'\ndisable_apparmor = true\ndevice_ownership_from_security_context = true\nenable_unprivileged_ports = true\nenable_unprivileged_icmp = true",
        "snapshotter = 'erofs'",
    );
    assert_eq!((errors(&loaded), warnings(&loaded)), (vec![], vec![]));
    let defaults = &handler(&loaded, "h").defaults;
    let ports = defaults.sysctls.get("net.ipv4.ip_unprivileged_port_start");
    let ping = defaults.sysctls.get("net.ipv4.ping_group_range");
    assert_eq!((ports.unwrap().as_str(), ping.unwrap().as_str()), ("0", "0 2147483647"));
    assert!(defaults.disable_apparmor && defaults.device_ownership);
    assert_eq!(defaults.unset_seccomp_profile, Some(UnsetSeccomp::RuntimeDefault));
    assert_eq!(defaults.snapshotter, Snapshotter::Erofs);
    assert_eq!(origin(&loaded, "h", "snapshotter"), format!("{CONTAINERD}:10"));
    for (profile, expected) in [
        ("unconfined", None),
        ("localhost//etc/p.json", Some(UnsetSeccomp::Localhost("/etc/p.json".into()))),
    ] {
        let loaded = file(&format!("unset_seccomp_profile = '{profile}'"), "");
        assert_eq!(handler(&loaded, "h").defaults.unset_seccomp_profile, expected);
    }
    let plain = file("", "snapshotter = 'overlayfs'");
    assert_eq!(handler(&plain, "h").defaults, Defaults::default());
    // The whole runtime's snapshotter is another way to store the same, unless it is a block image.
    for (name, expected) in [("zfs", Snapshotter::Overlay), ("erofs", Snapshotter::Erofs)] {
        let loaded = file(
            &format!("[plugins.'io.containerd.grpc.v1.cri'.containerd]\nsnapshotter = '{name}'"),
            "",
        );
        let h = handler(&loaded, "h");
        assert_eq!((h.defaults.snapshotter, &h.unusable), (expected, &None), "{name}");
    }
}

#[test]
fn what_is_wrong_makes_the_handler_unusable() {
    let rows = [
        (
            "default_capabilities = ['KILL', 'a b']",
            "default_capabilities names \"a b\", which is no capability; write names such as CHOWN",
        ),
        ("seccomp_profile = 'x'", "seccomp_profile = \"x\" must be an absolute path"),
        (
            "unset_seccomp_profile = 'none'",
            "unset_seccomp_profile = \"none\" is none of unconfined, runtime/default and localhost//PATH",
        ),
        (
            "unset_seccomp_profile = 'localhost/x'",
            "unset_seccomp_profile = localhost/: \"x\" must be an absolute path",
        ),
        (
            "apparmor_profile = ' x'",
            "apparmor_profile is no profile's name; write it without blanks around it",
        ),
        (
            "default_sysctls = ['net.core.somaxconn']",
            "default_sysctls has \"net.core.somaxconn\", which is not NAME=VALUE",
        ),
        (
            "default_sysctls = ['../x=1']",
            "default_sysctls has \"../x=1\", which is not NAME=VALUE",
        ),
        (
            "default_ulimits = ['files=1']",
            "default_ulimits has \"files=1\", which is not NAME=SOFT:HARD with a name such as nofile",
        ),
        (
            "default_ulimits = ['nofile=2:1']",
            "default_ulimits has \"nofile=2:1\", whose soft limit is above the hard one",
        ),
        (
            "default_ulimits = ['nofile=-2']",
            "default_ulimits has \"nofile=-2\", which is not NAME=SOFT:HARD with a name such as nofile",
        ),
    ];
    for (body, reason) in rows {
        let loaded = own(body);
        assert_eq!(unusable(&loaded, "h"), format!("{reason} ({OWN}:3)"), "{body}");
    }
    assert_eq!(
        unusable(&own("snapshotter = 'zfs'"), "h"),
        format!("snapshotter = \"zfs\" ({OWN}:3) is not one that there is here; write overlay or erofs, in containerd's file overlayfs")
    );
}

#[test]
fn what_is_rendered_is_read_again() {
    let loaded = own(
        "default_capabilities = ['KILL']\npids_limit = 5\nseccomp_profile = '/p.json'\nunset_seccomp_profile = 'localhost//q.json'\napparmor_profile = 'mine'\ndisable_apparmor = true\ndefault_sysctls = ['net.core.somaxconn=1']\ndefault_ulimits = ['nofile=1:2', 'core=0', 'nproc=5:-1']\ndevice_ownership_from_security_context = true\nsnapshotter = 'erofs'",
    );
    assert_eq!(unusable(&loaded, "h"), "");
    let text = render(&loaded.table);
    for line in [
        "default_capabilities = [\"KILL\"]",
        "pids_limit = 5",
        "seccomp_profile = \"/p.json\"",
        "unset_seccomp_profile = \"localhost//q.json\"",
        "apparmor_profile = \"mine\"",
        "disable_apparmor = true",
        "default_sysctls = [\"net.core.somaxconn=1\"]",
        "default_ulimits = [\"core=0:0\", \"nofile=1:2\", \"nproc=5:-1\"]",
        "device_ownership_from_security_context = true",
        "snapshotter = \"erofs\"",
    ] {
        let from = format!("\n{line} # from {OWN}:");
        assert!(text.contains(&from), "{line}\n{text}");
    }
    let again = machine(&[(OWN, &text)]);
    assert_eq!(handler(&again, "h").defaults, handler(&loaded, "h").defaults);
    assert!(diff(&loaded.table, &again.table).is_empty());
    // One that differs is another handler.
    let changed = diff(&loaded.table, &own("pids_limit = 5").table).changed;
    assert_eq!(changed.len(), 1);
}
