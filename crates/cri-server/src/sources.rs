//! What of the machine is mounted into containers: made where it is not there, and looked at.

use cofferdam_host::mountinfo::{self, Mount};
use cofferdam_model::cri::{ContainerConfig, Propagation};
use std::path::Path;
use tonic::Status;

/// The paths of the machine that are mounted.
fn paths(config: &ContainerConfig) -> impl Iterator<Item = (&Path, Propagation)> {
    let of_machine = config.mounts.iter().filter(|m| m.image.is_none() && m.tmpfs.is_none());
    of_machine.map(|m| (m.host_path.as_path(), m.propagation))
}

/// What is to be mounted and is not there is made, a directory, as under containerd.
pub(crate) fn make(config: &ContainerConfig) -> Result<(), Status> {
    for (path, _) in paths(config) {
        if !path.exists() {
            let made = std::fs::create_dir_all(path);
            made.map_err(|e| Status::unknown(format!("failed to create host path {path:?} of a mount: {e}")))?;
        }
    }
    Ok(())
}

/// An error where what is mounted is not to stay apart, and is on a mount of the machine that is: containerd's
/// rule and words (`internal/cri/opts`, `ensureShared` and `ensureSharedOrSlave`).
pub(crate) fn check(config: &ContainerConfig) -> Result<(), Status> {
    for (path, propagation) in paths(config).filter(|(_, propagation)| *propagation != Propagation::Private) {
        let failed = |why: String| Status::unknown(format!("failed to generate container {:?} spec: {why}", config.name));
        let real = path
            .canonicalize()
            .map_err(|e| failed(format!("failed to resolve symlink {path:?}: {e}")))?;
        let on = mountinfo::mount_of(&real).map_err(|e| failed(e.to_string()))?;
        if let Some(wanted) = wanted(propagation, &on) {
            let point = &on.point;
            return Err(failed(format!(
                "path {real:?} is mounted on {point:?} but it is not a {wanted} mount"
            )));
        }
    }
    Ok(())
}

/// What kind of mount it should be, where it is of none that can propagate so.
fn wanted(propagation: Propagation, on: &Mount) -> Option<&'static str> {
    match propagation {
        Propagation::Bidirectional if !on.shared => Some("shared"),
        Propagation::HostToContainer if !on.shared && !on.slave => Some("shared or slave"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_that_propagate_can() {
        use Propagation::{Bidirectional, HostToContainer, Private};
        for (propagation, shared, slave, missed) in [
            (Private, false, false, None),
            (HostToContainer, false, false, Some("shared or slave")),
            (HostToContainer, false, true, None),
            (HostToContainer, true, false, None),
            (Bidirectional, false, false, Some("shared")),
            (Bidirectional, false, true, Some("shared")),
            (Bidirectional, true, true, None),
        ] {
            let on = Mount {
                root: "/".into(),
                point: "/".into(),
                fstype: String::new(),
                source: String::new(),
                super_options: String::new(),
                shared,
                slave,
            };
            assert_eq!(wanted(propagation, &on), missed, "{propagation:?} {shared} {slave}");
        }
    }
}
