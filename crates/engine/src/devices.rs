//! Devices of the machine that a container gets: all for a privileged one, those asked for by path, and
//! those asked for by a CDI name.

use crate::Engine;
use crate::handlers::Kind;
use crate::sandbox::{Known, failed};
use cofferdam_host::cgroup::{Access, DeviceKind, DeviceRule};
use cofferdam_host::{devices, spec_dirs};
use cofferdam_model::cri::{ContainerConfig, Error, Result};
use cofferdam_plan::cdi;
use cofferdam_plan::devices::requested;
use cofferdam_plan::spec::{ContainerSpec, SpecDevice, SpecDeviceRule};
use std::path::{Path, PathBuf};

/// What a container gets of devices.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    /// Files that are made in it.
    pub(crate) nodes: Vec<SpecDevice>,
    /// What it may do with which, beside the standard ones.
    pub(crate) rules: Vec<SpecDeviceRule>,
}

/// The devices of a container, but for those with a CDI name; none for one that asks for none.
pub(crate) fn of(known: &Known, config: &ContainerConfig) -> Result<Devices> {
    let mut all = Devices::default();
    if config.security.privileged && gives_devices(known) {
        all.nodes = machine_devices()?;
    }
    for asked in &config.devices {
        let wrong = |why: String| Error::Invalid(format!("container \"{}\": {why}", config.name));
        let found = devices_at(&asked.host_path).map_err(&wrong)?;
        let (nodes, rules) = requested(asked, found).map_err(&wrong)?;
        let nodes: Vec<_> = nodes.into_iter().map(|node| owned(node, known, config)).collect();
        all.nodes.retain(|other| nodes.iter().all(|node| node.path != other.path));
        all.nodes.extend(nodes);
        all.rules.extend(rules);
    }
    Ok(all)
}

/// A device with the container's user and group as its owner, where the handler has it so.
fn owned(node: SpecDevice, known: &Known, config: &ContainerConfig) -> SpecDevice {
    if !known.record.definition.defaults.device_ownership {
        return node;
    }
    let id = |given: Option<i64>, old: u32| given.and_then(|id| u32::try_from(id).ok()).unwrap_or(old);
    SpecDevice { uid: id(config.security.run_as_user, node.uid), gid: id(config.security.run_as_group, node.gid), ..node }
}

/// What a cgroup is told to allow beside the standard devices.
pub(crate) fn cgroup_rules(spec: &ContainerSpec) -> impl Iterator<Item = DeviceRule> {
    spec.device_rules.iter().map(|rule| DeviceRule {
        kind: if rule.kind == 'b' { DeviceKind::Block } else { DeviceKind::Char },
        major: Some(rule.major),
        minor: Some(rule.minor),
        // Whatever else is written there allows nothing.
        access: Access::parse(&rule.access).unwrap_or(Access::Only { read: false, write: false, make: false }),
    })
}

/// Does to a container what the files of its CDI devices say; how many mounts that added at the end.
pub(crate) fn apply_cdi(dirs: &[PathBuf], config: &ContainerConfig, spec: &mut ContainerSpec) -> Result<usize> {
    if config.cdi_devices.is_empty() {
        return Ok(0);
    }
    let wrong = |why: String| Error::Invalid(format!("container \"{}\": {why}", config.name));
    let files = spec_dirs::read(dirs, cdi::is_file_name, cdi::MAX_FILE);
    let edits = cdi::Registry::new(files).resolve(&config.cdi_devices).map_err(wrong)?;
    let machine = |path: &Path| match devices_at(path)?.as_slice() {
        [one] => Ok(one.clone()),
        _ => Err("is no device".to_owned()),
    };
    cdi::apply(&edits, spec, &machine).map_err(wrong)?;
    Ok(edits.mounts.len())
}

impl Engine {
    /// The devices that CDI specifications describe, by kind, one name a device.
    pub fn cdi_devices(&self) -> std::collections::BTreeMap<String, Vec<String>> {
        cdi::Registry::new(spec_dirs::read(&self.cdi_dirs, cdi::is_file_name, cdi::MAX_FILE)).kinds()
    }
}

/// The device at a path, or all below a directory, as containerd has it (`pkg/oci/utils_unix.go`).
fn devices_at(path: &Path) -> std::result::Result<Vec<SpecDevice>, String> {
    Ok(devices::at(path).map_err(|e| e.to_string())?.into_iter().map(node).collect())
}

/// Whether the handler gives a privileged container the machine's devices. gVisor has none of them.
pub(crate) fn gives_devices(known: &Known) -> bool {
    let definition = &known.record.definition;
    !definition.privileged_without_host_devices && definition.kind != Kind::Runsc
}

/// The machine's devices, as a privileged container gets them.
fn machine_devices() -> Result<Vec<SpecDevice>> {
    Ok(devices::list("/dev").map_err(failed)?.into_iter().map(node).collect())
}

fn node(d: devices::Device) -> SpecDevice {
    SpecDevice {
        path: d.path,
        kind: if d.kind == DeviceKind::Block { 'b' } else { 'c' },
        major: d.major,
        minor: d.minor,
        mode: d.mode,
        uid: d.uid,
        gid: d.gid,
    }
}
