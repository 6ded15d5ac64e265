//! What is written: the unit, the first configuration, crictl's.

use super::takeover::Takeover;
use crate::args::{CONFIG, Global};
use anyhow::{Context, Result, bail};
use std::fmt::Write;
use std::path::{Path, PathBuf};

pub(super) const UNIT: &str = "/etc/systemd/system/cofferdam.service";
pub(super) const CRICTL: &str = "/etc/crictl.yaml";
/// What `systemctl enable` makes of the unit's `WantedBy`.
pub(super) const WANTED: &str = "/etc/systemd/system/multi-user.target.wants/cofferdam.service";

/// The systemd unit. `KillMode=process` and `Delegate=yes`: a stop or a restart ends the daemon alone, and the
/// pods' processes and cgroups stay as they are. Values are containerd's and CRI-O's own units' (`containerd.service`,
/// `contrib/systemd/crio.service`), but that it is started again sooner, and for ever.
pub(super) fn unit(global: &Global) -> Result<String> {
    let binary = std::env::current_exe().context("the path of this binary cannot be found")?;
    let mut start = format!("{} cri", plain(&binary)?);
    if global.config != Path::new(CONFIG) {
        let _ = write!(start, " --config {}", plain(&global.config)?);
    }
    for (flag, dir) in [("--root", &global.root), ("--state", &global.state)] {
        if let Some(dir) = dir {
            let _ = write!(start, " {flag} {}", plain(dir)?);
        }
    }
    Ok(format!(
        "\
# Written by `cofferdam install`; changes belong in `systemctl edit cofferdam`.
[Unit]
Description=Cofferdam, the container runtime of this node's kubelet
After=network.target local-fs.target
Before=kubelet.service
# A node without its runtime is none: systemd goes on starting it, however often it ended.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
# systemd sets none for services, and root's registry credentials are below it.
Environment=HOME=/root
ExecStartPre=-/sbin/modprobe overlay
ExecStart={start}
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=1
# Pods that are there are looked through before the daemon is ready.
TimeoutStartSec=300
# The daemon alone is stopped and restarted, never its pods.
KillMode=process
Delegate=yes
OOMScoreAdjust=-999
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity

[Install]
WantedBy=multi-user.target
"
    ))
}

/// A path that systemd takes as it stands: no blanks, quotes or specifiers.
fn plain(path: &Path) -> Result<String> {
    let full: PathBuf = crate::settings::places::absolute(path);
    match full.to_str() {
        Some(text) if text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+@".contains(c)) => Ok(text.to_owned()),
        _ => bail!(
            "{}: a unit cannot name this path; use one of letters, digits and /._-+@",
            full.display()
        ),
    }
}

/// The first configuration of a node.
pub(super) fn config(takeover: &Takeover) -> String {
    let mut out =
        String::from("# Written by `cofferdam install`; it is yours to change. `cofferdam config` shows what it comes to.\nversion = 1\n");
    match takeover.from {
        Some(from) => {
            let _ = writeln!(out, "# Handlers as {from} has them; changes there are taken while pods run.");
        }
        None => out.push_str("# No other runtime's handlers are read: runc, crun, youki and runsc are looked for in $PATH.\n"),
    }
    let _ = writeln!(out, "import = {}", list(&takeover.imports));
    let beyond = &takeover.beyond;
    if !beyond.registry_hosts.is_empty() {
        let _ = write!(out, "\n[images]\nhosts = {}\n", list(&beyond.registry_hosts));
    }
    if takeover.from.is_some() {
        out.push_str("\n[network]\n# As before: pods wait for the cluster's CNI configuration and never hang on a bridge of Cofferdam's.\nmode = \"cni\"\n");
        if let Some(conf) = &beyond.cni_conf {
            let _ = writeln!(out, "cni_conf = {}", quote(conf));
        }
        if !beyond.cni_plugins.is_empty() {
            let _ = writeln!(out, "cni_plugins = {}", list(&beyond.cni_plugins));
        }
    }
    out.push_str("\n[cri]\n");
    if let Some(systemd) = beyond.systemd_cgroup {
        let driver = if systemd { "systemd" } else { "cgroupfs" };
        let _ = writeln!(out, "cgroup_driver = \"{driver}\"");
    }
    out.push_str("# metrics_address = \"127.0.0.1:9790\"\n# pinned_images = []\n");
    out
}

fn list(paths: &[PathBuf]) -> String {
    format!("[{}]", paths.iter().map(|p| quote(p)).collect::<Vec<_>>().join(", "))
}

/// A TOML string. JSON's escapes are among TOML's, but for `\u007f`, which JSON leaves as it is.
fn quote(path: &Path) -> String {
    let text = path.to_string_lossy();
    serde_json::Value::String(text.into_owned())
        .to_string()
        .replace('\u{7f}', "\\u007f")
}

/// crictl's configuration (cri-tools, `docs/crictl.md`).
pub(super) fn crictl(endpoint: &str) -> String {
    format!("runtime-endpoint: {endpoint}\nimage-endpoint: {endpoint}\ntimeout: 10\n")
}
