//! What edits do to a container.

use super::{DeviceNode, Edits, Mount};
use crate::spec::{ContainerSpec, SpecDevice, SpecDeviceRule, SpecMount, is_mount_target};
use std::path::{Path, PathBuf};

/// Permissions of a device file whose description has none: as runc and crun make it.
const DEFAULT_MODE: u32 = 0o666;

/// Does to a container what its devices say, in the order of the reference implementation
/// (`pkg/cdi/container-edits.go`). `machine` looks at a device of the machine, of which what a file
/// leaves open is taken.
///
/// Mounts that this adds are of the machine's files: where a container has a user namespace, they are
/// mapped as its others are.
pub fn apply(edits: &Edits, spec: &mut ContainerSpec, machine: &dyn Fn(&Path) -> Result<SpecDevice, String>) -> Result<(), String> {
    spec.process.env.extend(edits.env.iter().cloned());
    for node in &edits.device_nodes {
        let device = complete(node, machine)?;
        let device = owned(device, node, spec);
        if let Some(rule) = rule(&device, node) {
            spec.device_rules.push(rule);
        }
        spec.devices.retain(|d| d.path != device.path);
        spec.devices.push(device);
    }
    for mount in &edits.mounts {
        let mount = bind(mount)?;
        spec.mounts.retain(|m| m.destination != mount.destination);
        spec.mounts.push(mount);
    }
    spec.hooks.extend(edits.hooks.iter().cloned());
    for gid in edits.gids.iter().filter(|gid| **gid != 0) {
        if !spec.process.user.groups.contains(gid) {
            spec.process.user.groups.push(*gid);
        }
    }
    Ok(())
}

fn complete(node: &DeviceNode, machine: &dyn Fn(&Path) -> Result<SpecDevice, String>) -> Result<SpecDevice, String> {
    let path = PathBuf::from(&node.path);
    if !is_mount_target(&path) {
        return Err(format!("CDI device {:?} cannot be a path in a container", node.path));
    }
    let given = node.kind.as_deref().and_then(|k| k.chars().next());
    let numbers = node.major.filter(|major| *major != 0).is_some() || given == Some('p');
    let mode = node.file_mode.unwrap_or(DEFAULT_MODE) & 0o7777;
    let (kind, major, minor) = match given {
        Some(kind) if numbers => (kind, node.major.unwrap_or(0), node.minor.unwrap_or(0)),
        _ => {
            let at = node.host_path.as_deref().unwrap_or(&node.path);
            let found = machine(Path::new(at)).map_err(|e| format!("CDI device {:?}: {e}", node.path))?;
            if let Some(kind) = given.filter(|kind| *kind != found.kind && !(*kind == 'u' && found.kind == 'c')) {
                return Err(format!(
                    "CDI device {:?} is of type {kind}, and {at} of the machine of type {}",
                    node.path, found.kind
                ));
            }
            let major = node.major.filter(|major| *major != 0);
            (
                found.kind,
                major.unwrap_or(found.major),
                if major.is_some() { node.minor.unwrap_or(0) } else { found.minor },
            )
        }
    };
    Ok(SpecDevice {
        path,
        kind,
        major,
        minor,
        mode,
        uid: 0,
        gid: 0,
    })
}

/// The process's own user owns a device that names no owner.
fn owned(device: SpecDevice, node: &DeviceNode, spec: &ContainerSpec) -> SpecDevice {
    let user = &spec.process.user;
    SpecDevice {
        uid: node.uid.unwrap_or(user.uid),
        gid: node.gid.unwrap_or(user.gid),
        ..device
    }
}

fn rule(device: &SpecDevice, node: &DeviceNode) -> Option<SpecDeviceRule> {
    let access = match node.permissions.as_deref() {
        None | Some("") => "rwm",
        Some("none") => return None,
        Some(given) => given,
    };
    let ruled = matches!(device.kind, 'b' | 'c');
    ruled.then(|| SpecDeviceRule {
        kind: device.kind,
        major: device.major,
        minor: device.minor,
        access: access.to_owned(),
    })
}

fn bind(mount: &Mount) -> Result<SpecMount, String> {
    let destination = PathBuf::from(&mount.container_path);
    if !is_mount_target(&destination) {
        return Err(format!("CDI mount {:?} cannot be a path in a container", mount.container_path));
    }
    let mut options = mount.options.clone();
    let kind = match mount.kind.as_deref() {
        None | Some("" | "bind") => {
            if !options.iter().any(|o| o == "bind" || o == "rbind") {
                options.push("rbind".into());
            }
            "bind"
        }
        Some(kind) => kind,
    };
    Ok(SpecMount {
        destination,
        kind: kind.to_owned(),
        source: PathBuf::from(&mount.host_path),
        options,
    })
}
