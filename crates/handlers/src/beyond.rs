//! What another runtime's configuration says beyond handlers, for a node that is moved over: where
//! images and networks come from, and which cgroup driver its kubelet was told.
//!
//! containerd: `internal/cri/config/config.go` (`registry.config_path`, `cni`, `sandbox_image`), CRI-O:
//! `pkg/config/config.go` (`network_dir`, `plugin_dirs`, `cgroup_manager`, `pause_image`).

use crate::place::ConfigError;
use crate::tree::{self, Node, Table};
use std::path::{Path, PathBuf};

/// Ids of containerd's plugins that say these things, oldest first.
const PLUGINS: [&str; 4] = [
    "cri",
    "io.containerd.grpc.v1.cri",
    "io.containerd.cri.v1.images",
    "io.containerd.cri.v1.runtime",
];

/// What one file, or several in order, say beyond handlers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beyond {
    /// Folders of `hosts.toml`, absolute.
    pub registry_hosts: Vec<PathBuf>,
    /// Folder of CNI configurations, absolute.
    pub cni_conf: Option<PathBuf>,
    /// Folders of CNI plugins, absolute.
    pub cni_plugins: Vec<PathBuf>,
    /// Whether cgroups go through systemd.
    pub systemd_cgroup: Option<bool>,
    /// What it says and Cofferdam does not honour: one sentence each.
    pub lost: Vec<String>,
}

impl Beyond {
    /// Reads one file more, which counts above those before it. What is not TOML is an error.
    pub fn read(&mut self, file: &Path, text: &str) -> Result<(), ConfigError> {
        let root = tree::parse(file, text)?;
        if let Some(crio) = tree::table(&root, "crio") {
            self.crio(crio);
        }
        let plugins = tree::table(&root, "plugins");
        for cri in PLUGINS.iter().filter_map(|id| tree::table(plugins?, id)) {
            self.containerd(cri);
        }
        Ok(())
    }

    fn containerd(&mut self, cri: &Table) {
        if let Some(registry) = tree::table(cri, "registry") {
            if let Some((_, path)) = tree::text(registry, "config_path") {
                self.registry_hosts = path.split(':').filter_map(absolute).collect();
            }
            for name in ["mirrors", "configs", "auths"] {
                if let Some(node) = registry.get(name).filter(|node| !node.is_zero()) {
                    let text = format!("registry.{name} ({}) is not read: write it as hosts.toml and auth.json", node.key);
                    self.lost.push(text);
                }
            }
        }
        if let Some(cni) = tree::table(cri, "cni") {
            self.network(cni, "conf_dir", &["bin_dir", "bin_dirs"]);
            for name in ["conf_template", "max_conf_num"] {
                // One configuration is the default, and what Cofferdam uses.
                let says = cni.get(name).filter(|node| !node.is_zero() && node.int() != Some(1));
                self.lost
                    .extend(says.map(|node| format!("cni.{name} ({}) is not honoured", node.key)));
            }
        }
        if let Some((node, image)) = tree::text(cri, "sandbox_image") {
            self.lost.push(format!(
                "sandbox_image ({}) is not needed: no pod has a pause image, so {image:?} is never pulled",
                node.key
            ));
        }
        let runtimes = tree::table(cri, "containerd").and_then(|c| tree::table(c, "runtimes"));
        for runtime in runtimes.into_iter().flatten().filter_map(|(_, node)| node.table()) {
            let flag = tree::table(runtime, "options").and_then(|options| options.get("SystemdCgroup")?.flag());
            self.systemd_cgroup = flag.or(self.systemd_cgroup);
        }
        self.systemd_cgroup = cri
            .get("systemd_cgroup")
            .and_then(Node::flag)
            .filter(|on| *on)
            .or(self.systemd_cgroup);
    }

    fn crio(&mut self, crio: &Table) {
        if let Some(network) = tree::table(crio, "network") {
            self.network(network, "network_dir", &["plugin_dirs"]);
        }
        let runtime = tree::table(crio, "runtime");
        if let Some((_, manager)) = runtime.and_then(|runtime| tree::text(runtime, "cgroup_manager")) {
            self.systemd_cgroup = Some(manager == "systemd");
        }
        let Some(image) = tree::table(crio, "image") else { return };
        for name in [
            "registries",
            "insecure_registries",
            "signature_policy",
            "signature_policy_dir",
            "global_auth_file",
        ] {
            let says = image.get(name).filter(|node| !node.is_zero());
            self.lost
                .extend(says.map(|node| format!("crio.image.{name} ({}) is not honoured", node.key)));
        }
    }

    fn network(&mut self, table: &Table, conf: &str, plugins: &[&str]) {
        if let Some((_, path)) = tree::text(table, conf) {
            self.cni_conf = absolute(path);
        }
        for node in plugins.iter().filter_map(|name| table.get(*name)) {
            let one = node.text().into_iter().filter_map(absolute);
            let all: Vec<PathBuf> = one.chain(node.texts().filter_map(|(_, path)| absolute(path))).collect();
            if !all.is_empty() {
                self.cni_plugins = all;
            }
        }
    }
}

fn absolute(path: &str) -> Option<PathBuf> {
    crate::driver::absolute(path).ok()
}
