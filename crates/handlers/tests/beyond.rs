//! What a node that is moved over takes along beside handlers.
#![allow(clippy::unwrap_used, missing_docs)]

use cofferdam_handlers::Beyond;
use std::path::{Path, PathBuf};

fn of(texts: &[&str]) -> Beyond {
    let mut all = Beyond::default();
    for text in texts {
        all.read(Path::new("/etc/x.toml"), text).unwrap();
    }
    all
}

fn paths(all: &[&str]) -> Vec<PathBuf> {
    all.iter().map(PathBuf::from).collect()
}

#[test]
fn containerd_of_every_version() {
    for (cri, images) in [
        ("cri", "cri"),
        ("io.containerd.grpc.v1.cri", "io.containerd.grpc.v1.cri"),
        ("io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images"),
    ] {
        let text = format!(
            "[plugins.\"{images}\".registry]\nconfig_path = \"/etc/containerd/certs.d:relative:/etc/docker/certs.d\"\n\
             [plugins.\"{cri}\".cni]\nconf_dir = \"/etc/cni/x\"\nbin_dir = \"/opt/x\"\nmax_conf_num = 1\n\
             [plugins.\"{cri}\".containerd.runtimes.runc.options]\nSystemdCgroup = true\n"
        );
        let all = of(&[&text]);
        assert_eq!(
            all.registry_hosts,
            paths(&["/etc/containerd/certs.d", "/etc/docker/certs.d"]),
            "{cri}"
        );
        assert_eq!(
            (all.cni_conf, all.cni_plugins),
            (Some("/etc/cni/x".into()), paths(&["/opt/x"])),
            "{cri}"
        );
        assert_eq!((all.systemd_cgroup, all.lost), (Some(true), vec![]), "{cri}");
    }
}

#[test]
fn crio_and_the_order_of_files() {
    let all = of(&[
        "[crio.network]\nnetwork_dir = \"/etc/cni/a\"\nplugin_dirs = [\"/opt/a\", \"/opt/b\"]\n[crio.runtime]\ncgroup_manager = \"systemd\"\n",
        "[crio.network]\nnetwork_dir = \"/etc/cni/b\"\nplugin_dirs = []\n[crio.runtime]\ncgroup_manager = \"cgroupfs\"\n",
    ]);
    assert_eq!(
        (all.cni_conf, all.cni_plugins),
        (Some("/etc/cni/b".into()), paths(&["/opt/a", "/opt/b"]))
    );
    assert_eq!(all.systemd_cgroup, Some(false));
}

#[test]
fn what_is_not_honoured_is_said_with_its_place() {
    let lost = of(&[
        "[plugins.cri]\nsandbox_image = \"pause:3\"\n[plugins.cri.registry.mirrors.\"docker.io\"]\nendpoint = [\"x\"]\n\
         [plugins.cri.cni]\nmax_conf_num = 2\nconf_template = \"/t\"\n[crio.image]\nsignature_policy = \"/p\"\n",
    ])
    .lost;
    for saying in [
        "crio.image.signature_policy (/etc/x.toml:9) is not honoured",
        "registry.mirrors (/etc/x.toml:3) is not read: write it as hosts.toml and auth.json",
        "cni.conf_template (/etc/x.toml:7) is not honoured",
        "cni.max_conf_num (/etc/x.toml:6) is not honoured",
        "sandbox_image (/etc/x.toml:2) is not needed: no pod has a pause image, so \"pause:3\" is never pulled",
    ] {
        assert!(lost.iter().any(|l| l == saying), "{saying:?} is not in {lost:#?}");
    }
    assert_eq!(lost.len(), 5);
}

#[test]
fn nothing_said_is_nothing_taken() {
    assert_eq!(of(&["", "version = 2\n", "plugins = 1\ncrio = []\n"]), Beyond::default());
    assert!(Beyond::default().read(Path::new("/x"), "[").is_err());
}
