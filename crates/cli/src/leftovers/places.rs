//! Where things of pods are on the machine.

use anyhow::{Context, Result};
use cofferdam_host::machine::find_command;
use cofferdam_host::mountinfo;
use cofferdam_network::{Config, HostPorts};
use cofferdam_plan::Layout;
use cofferdam_plan::layout::CGROUP_ROOT;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn names(dir: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|e| e.file_name().to_string_lossy().into_owned())
}

/// The ids of pods that have a record or a run-time directory.
pub(super) fn pod_ids(layout: &Layout) -> BTreeSet<String> {
    names(&layout.pods()).chain(names(&layout.run_pods())).collect()
}

/// Folders that pods have beside those named by their ids: volumes, secrets, logs.
pub(super) fn folders(layout: &Layout) -> BTreeSet<PathBuf> {
    let dirs = crate::commands::run::dirs(layout);
    [dirs.volumes, dirs.secrets, dirs.logs]
        .into_iter()
        .flat_map(|dir| names(&dir).map(move |name| dir.join(name)))
        .collect()
}

/// The files and folders of a pod that its id names.
pub(super) fn files_of(layout: &Layout, id: &str) -> usize {
    let dirs = [layout.pods().join(id), layout.run_pods().join(id)]
        .iter()
        .filter(|d| d.exists())
        .count();
    let addresses = layout.network().join("addresses");
    let held = names(&addresses).filter(|name| std::fs::read_link(addresses.join(name)).is_ok_and(|target| target == Path::new(id)));
    // What plugins were asked: `<network>-<id>-eth0`.
    let attached = names(&layout.network().join("cni/results")).filter(|name| name.contains(&format!("-{id}-")));
    dirs + held.count() + attached.count()
}

/// The machine's mounts under our directories.
pub(super) fn mounts(layout: &Layout) -> BTreeSet<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let ours = |path: &PathBuf| path.starts_with(&layout.root) || path.starts_with(&layout.state);
    mountinfo::parse(&text).into_iter().map(|m| m.point).filter(ours).collect()
}

/// How many hierarchies have a cgroup of a pod.
pub(super) fn cgroups(id: &str) -> usize {
    let top = Path::new("/sys/fs/cgroup");
    let hierarchies = names(top).map(|name| top.join(name)).chain([top.to_owned()]);
    hierarchies.filter(|h| h.join(CGROUP_ROOT).join(id).is_dir()).count()
}

/// The machine's links.
pub(super) fn link_names() -> BTreeSet<String> {
    names(Path::new("/sys/class/net")).collect()
}

/// How many links are the machine's ends of links of these pods, or limit what comes out of them.
pub(super) fn links_of<'a>(pods: impl Iterator<Item = &'a String>) -> usize {
    let there = link_names();
    let named = |id| [cofferdam_network::link::host_link(id), cofferdam_network::bandwidth::device(id)];
    pods.flat_map(|id| named(id)).flatten().filter(|link| there.contains(link)).count()
}

/// How many ports of the machine still lead to these pods.
pub(super) fn ports_of<V>(pods: &BTreeMap<String, V>, network: &Config, layout: &Layout) -> Result<usize> {
    let held = HostPorts::new(network, &layout.network()).list();
    let held = held.context("the ports of the machine that lead to pods cannot be listed")?;
    Ok(held.iter().filter(|port| pods.contains_key(&port.pod)).count())
}

/// Whether nftables has a table of this name. Where `nft` is not installed, nobody made one.
pub(super) fn has_table(name: &str) -> Result<bool> {
    let Some(nft) = find_command("nft") else { return Ok(false) };
    let output = Command::new(&nft)
        .args(["list", "tables"])
        .output()
        .with_context(|| format!("{} cannot be run", nft.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().any(|line| line.split_whitespace().next_back() == Some(name)))
}
