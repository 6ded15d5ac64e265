//! Devices: Cofferdam gives a container a node of the machine as it is there; NRI's plugins name numbers.

use crate::convert::removal;
use crate::wire;
use cofferdam_model::cri::Device;
use rustix::fs::{FileType, Stat, major, minor, stat};
use std::path::{Component, Path, PathBuf};

/// The device as plugins are told; `None` where it is not there.
pub(crate) fn to_wire(device: &Device) -> Option<wire::LinuxDevice> {
    let node = stat(&device.host_path).ok()?;
    Some(wire::LinuxDevice {
        path: device.container_path.to_string_lossy().into_owned(),
        r#type: kind(&node)?.to_owned(),
        major: major(node.st_rdev).into(),
        minor: minor(node.st_rdev).into(),
        file_mode: Some(wire::OptionalFileMode {
            value: node.st_mode & 0o777,
        }),
        uid: Some(wire::OptionalUInt32 { value: node.st_uid }),
        gid: Some(wire::OptionalUInt32 { value: node.st_gid }),
    })
}

/// A device by its path in the container, or `None` to remove it.
///
/// # Errors
/// Why Cofferdam cannot give it, in words.
pub(crate) fn from_wire(device: &wire::LinuxDevice) -> Result<(PathBuf, Option<Device>), String> {
    let (path, removed) = removal(&device.path);
    let container_path = PathBuf::from(path);
    if !container_path.is_absolute() || container_path.components().any(|part| part == Component::ParentDir) {
        return Err(format!("{path:?} is no absolute path without .. in the container"));
    }
    if removed {
        return Ok((container_path, None));
    }
    let Some((host_path, node)) = find(device, &container_path) else {
        let (kind, major, minor) = (&device.r#type, device.major, device.minor);
        return Err(format!("{path}: the machine has no node for device {kind} {major}:{minor} in /dev"));
    };
    let same = [
        ("mode", device.file_mode.map(|v| v.value & 0o777), node.st_mode & 0o777),
        ("owner", device.uid.map(|v| v.value), node.st_uid),
        ("group", device.gid.map(|v| v.value), node.st_gid),
    ];
    for (what, asked, has) in same {
        if asked.is_some_and(|asked| asked != has) {
            return Err(format!(
                "{path}: {what} differs from that of {}, which cannot be changed",
                host_path.display()
            ));
        }
    }
    // As upstream's AccessString: nodes may be made of block devices alone.
    let permissions = if device.r#type == "b" { "rwm" } else { "rw" }.to_owned();
    Ok((
        container_path.clone(),
        Some(Device {
            host_path,
            container_path,
            permissions,
        }),
    ))
}

/// The node of the machine: at the same path, or where sysfs says.
fn find(device: &wire::LinuxDevice, same: &Path) -> Option<(PathBuf, Stat)> {
    let fits = |path: PathBuf| {
        let node = stat(&path).ok()?;
        let numbers = (i64::from(major(node.st_rdev)), i64::from(minor(node.st_rdev)));
        let kind_fits = kind(&node) == Some(if device.r#type == "u" { "c" } else { &device.r#type });
        (kind_fits && numbers == (device.major, device.minor)).then_some((path, node))
    };
    if same.starts_with("/dev")
        && let Some(found) = fits(same.to_owned())
    {
        return Some(found);
    }
    let class = if device.r#type == "b" { "block" } else { "char" };
    let uevent = format!("/sys/dev/{class}/{}:{}/uevent", device.major, device.minor);
    let text = cofferdam_host::files::read_bounded(&uevent, 4096).ok()?;
    let name = String::from_utf8(text)
        .ok()?
        .lines()
        .find_map(|line| line.strip_prefix("DEVNAME=").map(str::to_owned))?;
    fits(Path::new("/dev").join(name))
}

fn kind(node: &Stat) -> Option<&'static str> {
    match FileType::from_raw_mode(node.st_mode) {
        FileType::CharacterDevice => Some("c"),
        FileType::BlockDevice => Some("b"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_node_is_found_by_its_numbers() {
        let null = |path: &str, minor, mode: Option<u32>| wire::LinuxDevice {
            path: path.to_owned(),
            r#type: "c".to_owned(),
            major: 1,
            minor,
            file_mode: mode.map(|value| wire::OptionalFileMode { value }),
            ..Default::default()
        };
        for (path, minor, mode, ok) in [
            ("/dev/null", 3, None, true),
            ("/dev/other", 3, Some(0o666), true),
            ("/dev/other", 3, Some(0o600), false),
            ("/dev/other", 999, None, false),
            ("dev/null", 3, None, false),
            ("/dev/../etc/null", 3, None, false),
        ] {
            let found = from_wire(&null(path, minor, mode));
            assert_eq!(found.is_ok(), ok, "{path} {minor} {found:?}");
            if let Ok((_, device)) = found {
                assert_eq!(device.unwrap().host_path, Path::new("/dev/null"));
            }
        }
        let told = Device {
            host_path: "/dev/null".into(),
            container_path: "/dev/x".into(),
            permissions: "rw".into(),
        };
        assert_eq!(from_wire(&to_wire(&told).unwrap()), Ok(("/dev/x".into(), Some(told))));
        assert_eq!(from_wire(&null("-/dev/x", 0, None)), Ok(("/dev/x".into(), None)));
    }
}
