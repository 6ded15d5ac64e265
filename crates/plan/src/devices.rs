//! Devices of the machine that a container asks for by path.

use crate::spec::{SpecDevice, SpecDeviceRule, is_mount_target};
use cofferdam_model::cri::Device;

/// What a container is given for a request: `found` is the device at its `host_path`, or all beneath
/// it where that is a directory, under the paths of the machine; in the container they lie under
/// `container_path`. Absent permissions are all of them.
pub fn requested(asked: &Device, found: Vec<SpecDevice>) -> Result<(Vec<SpecDevice>, Vec<SpecDeviceRule>), String> {
    let shown = asked.host_path.display();
    let access = if asked.permissions.is_empty() {
        "rwm"
    } else {
        asked.permissions.as_str()
    };
    if access.len() > 3 || access.chars().any(|c| !"rwm".contains(c)) {
        return Err(format!("device {shown}: permissions {access:?} must be of r, w and m"));
    }
    let at = if asked.container_path.as_os_str().is_empty() {
        &asked.host_path
    } else {
        &asked.container_path
    };
    let mut devices = Vec::with_capacity(found.len());
    for device in found {
        let rest = device
            .path
            .strip_prefix(&asked.host_path)
            .map_err(|_| format!("device {} is not {shown}, nor beneath it", device.path.display()))?;
        let path = if rest.as_os_str().is_empty() { at.clone() } else { at.join(rest) };
        if !is_mount_target(&path) {
            return Err(format!("device {shown}: {} must be absolute, without \"..\"", path.display()));
        }
        devices.push(SpecDevice { path, ..device });
    }
    if devices.is_empty() {
        return Err(format!("device {shown} is not a device, nor a directory of devices"));
    }
    let rule = |d: &SpecDevice| SpecDeviceRule {
        kind: d.kind,
        major: d.major,
        minor: d.minor,
        access: access.to_owned(),
    };
    let rules = devices.iter().map(rule).collect();
    Ok((devices, rules))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn device(path: &str) -> SpecDevice {
        SpecDevice {
            path: path.into(),
            kind: 'c',
            major: 10,
            minor: 229,
            mode: 0o660,
            uid: 0,
            gid: 4,
        }
    }

    fn asked(host: &str, inside: &str, permissions: &str) -> Device {
        Device {
            host_path: host.into(),
            container_path: inside.into(),
            permissions: permissions.into(),
        }
    }

    #[test]
    fn devices_come_under_the_path_that_was_asked_for() {
        let rows = [
            (asked("/dev/fuse", "/dev/f", "rw"), vec!["/dev/fuse"], "/dev/f c rw"),
            (asked("/dev/fuse", "", ""), vec!["/dev/fuse"], "/dev/fuse c rwm"),
            (
                asked("/dev/snd", "/dev/sound", "r"),
                vec!["/dev/snd/a", "/dev/snd/by/b"],
                "/dev/sound/a c r, /dev/sound/by/b c r",
            ),
        ];
        for (asked, found, wanted) in rows {
            let (devices, rules) = requested(&asked, found.into_iter().map(device).collect()).unwrap();
            let shown: Vec<_> = devices
                .iter()
                .zip(&rules)
                .map(|(d, r)| format!("{} {} {}", d.path.display(), r.kind, r.access))
                .collect();
            assert_eq!(shown.join(", "), wanted);
        }
    }

    #[test]
    fn what_is_no_device_or_no_path_is_refused() {
        let rows = [
            (asked("/dev/fuse", "", "rx"), vec!["/dev/fuse"], "must be of r, w and m"),
            (asked("/dev/fuse", "f", ""), vec!["/dev/fuse"], "must be absolute"),
            (asked("/dev/fuse", "/dev/../f", ""), vec!["/dev/fuse"], "must be absolute"),
            (asked("/dev/fuse", "", ""), vec![], "is not a device"),
            (asked("/dev/fuse", "", ""), vec!["/dev/kvm"], "is not /dev/fuse, nor beneath it"),
        ];
        for (asked, found, wanted) in rows {
            let error = requested(&asked, found.into_iter().map(device).collect()).unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
