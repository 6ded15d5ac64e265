//! What is left to do after an install: by hand, or by `--now`.

use super::journal::Prefix;
use super::kubelet;
use super::systemd::{self, Systemd, UNIT};
use super::takeover::{Source, Takeover};
use anyhow::{Result, bail};
use std::fs;

/// Where containerd has a folder for each container of a kubelet's pods (`runtime/v2`, namespace `k8s.io`).
const TASKS: &str = "/run/containerd/io.containerd.runtime.v2.task/k8s.io";
const REMOVE: &str = "crictl --runtime-endpoint unix:///run/containerd/containerd.sock rmp --all --force";

/// What `install` was asked to do beyond files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) kubelet: bool,
    pub(super) now: bool,
    pub(super) force: bool,
}

/// What the other runtime still keeps for a kubelet, as far as it can be seen without asking it.
fn kept(prefix: &Prefix, takeover: &Takeover) -> usize {
    if !prefix.is_machine() || takeover.from == Some(Source::Crio) {
        return 0;
    }
    fs::read_dir(TASKS).into_iter().flatten().flatten().count()
}

/// Refuses to have a kubelet start its pods a second time beside those of the runtime before.
pub(super) fn insist(prefix: &Prefix, asked: Asked, takeover: &Takeover) -> Result<()> {
    let kept = kept(prefix, takeover);
    if kept > 0 && asked.now && asked.kubelet && !asked.force {
        bail!(
            "containerd still keeps {kept} containers of a kubelet's pods ({TASKS}), which would hold ports and volumes that the node's pods need: \
             drain the node, then `systemctl stop kubelet` and `{REMOVE}`, or give --force"
        );
    }
    Ok(())
}

/// Enables the unit and starts it, or anew where it runs: no pod ends. Then the kubelet, where it was told.
pub(super) fn start(systemd: &Systemd, asked: Asked) -> Result<()> {
    systemd.call(&["daemon-reload"])?;
    systemd.call(&["enable", UNIT])?;
    systemd.call(&["restart", UNIT])?;
    if asked.kubelet {
        systemd.call(&["restart", "kubelet"])?;
    }
    Ok(())
}

/// What is left to do by hand, a line each.
pub(super) fn lines(prefix: &Prefix, asked: Asked, takeover: &Takeover, endpoint: &str) -> Result<Vec<String>> {
    let mut all = Vec::new();
    let kept = kept(prefix, takeover);
    if kept > 0 {
        all.push(format!(
            "containerd still keeps {kept} containers of pods, which hold ports and volumes: {REMOVE}"
        ));
    }
    let systemd = !prefix.is_machine() || systemd::runs();
    match (systemd, asked.now) {
        (true, false) => all.push(format!("systemctl daemon-reload && systemctl enable --now {UNIT}")),
        (false, _) => {
            all.push("systemd does not run here: have your init start `cofferdam cri`, and start it again where it ends".to_owned())
        }
        (true, true) => {}
    }
    if asked.kubelet {
        match (systemd, asked.now) {
            (true, false) => all.push("systemctl restart kubelet".to_owned()),
            (false, _) => all.push("end the kubelet, and start it again".to_owned()),
            (true, true) => {}
        }
        let node = node(prefix)?;
        all.push(format!(
            "kubectl annotate node {node} --overwrite kubeadm.alpha.kubernetes.io/cri-socket={endpoint}"
        ));
    } else if kubelet::endpoint(prefix)?.as_deref() != Some(endpoint) {
        all.push(format!(
            "tell the kubelet: containerRuntimeEndpoint: {endpoint} in its configuration, or --container-runtime-endpoint={endpoint}; \
             on a node of kubeadm's `cofferdam install --kubelet` does it"
        ));
    }
    all.push("crictl info".to_owned());
    Ok(all)
}

/// The node's name, as its kubelet takes it: what a flag says, else the machine's name in small letters.
fn node(prefix: &Prefix) -> Result<String> {
    if let Some(name) = kubelet::node_name(prefix)? {
        return Ok(name);
    }
    let name = prefix
        .is_machine()
        .then(|| rustix::system::uname().nodename().to_string_lossy().to_lowercase());
    Ok(name
        .filter(|name| !name.is_empty() && name != "(none)")
        .unwrap_or_else(|| "NODE".into()))
}
