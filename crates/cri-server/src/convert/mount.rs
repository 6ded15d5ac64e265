//! Mounts and devices.

use super::{Result, Wrong, namespace, refuse};
use cofferdam_cri_api::v1;
use cofferdam_model::cri::{Device, Mount, Propagation, SandboxConfig};
use std::path::{Path, PathBuf};

/// What of the machine decides whether a mount can be had.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Machine {
    /// SELinux is on: then labels matter.
    pub(crate) selinux: bool,
}

/// An absolute path without `..`, as mounts need it.
fn absolute(field: &str, text: &str) -> Result<PathBuf> {
    let path = Path::new(text);
    let plain = path.is_absolute() && !path.components().any(|c| matches!(c, std::path::Component::ParentDir));
    if plain {
        Ok(path.to_owned())
    } else {
        Err(Wrong::new(field, format_args!("{text:?} is not an absolute path without \"..\"")))
    }
}

/// A mount as the model has it.
pub(crate) fn mount(field: &str, wire: &v1::Mount, pod: &SandboxConfig, machine: Machine) -> Result<Mount> {
    let at = |name: &str| format!("{field}.{name}");
    refuse(
        !wire.mount_options.is_empty(),
        &at("mount_options"),
        "mount options are not supported, as the features in Status say; leave them out",
    )?;
    refuse(
        wire.selinux_relabel && machine.selinux && wire.image.is_none(),
        &at("selinux_relabel"),
        "files are not relabelled by this runtime; label them beforehand",
    )?;
    let propagation = match v1::MountPropagation::try_from(wire.propagation) {
        Ok(v1::MountPropagation::PropagationPrivate) => Propagation::Private,
        Ok(v1::MountPropagation::PropagationHostToContainer) => Propagation::HostToContainer,
        Ok(v1::MountPropagation::PropagationBidirectional) => Propagation::Bidirectional,
        Err(_) => {
            return Err(Wrong::new(
                &at("propagation"),
                format_args!("there is no propagation {}", wire.propagation),
            ));
        }
    };
    if wire.recursive_read_only {
        refuse(!wire.readonly, &at("recursive_read_only"), "it needs readonly")?;
        refuse(
            propagation != Propagation::Private,
            &at("recursive_read_only"),
            "it needs the propagation PRIVATE",
        )?;
    }
    mapped(&at("uidMappings"), &wire.uid_mappings, pod)?;
    mapped(&at("gidMappings"), &wire.gid_mappings, pod)?;
    let mut mount = Mount {
        container_path: container_path(&at("container_path"), &wire.container_path)?,
        readonly: wire.readonly,
        recursive_read_only: wire.recursive_read_only,
        propagation,
        ..Mount::default()
    };
    let Some(image) = wire.image.as_ref().filter(|image| !image.image.is_empty()) else {
        refuse(!wire.image_sub_path.is_empty(), &at("image_sub_path"), "it is set without an image")?;
        mount.host_path = absolute(&at("host_path"), &wire.host_path)?;
        return Ok(mount);
    };
    refuse(
        !wire.host_path.is_empty(),
        &at("host_path"),
        "it is set together with an image; set one of them",
    )?;
    mount.image = Some(image.image.clone());
    mount.image_sub_path = sub_path(&at("image_sub_path"), &wire.image_sub_path)?;
    refuse(!wire.readonly, &at("readonly"), "an image can only be mounted read-only; set it")?;
    Ok(mount)
}

/// Kubernetes allows `..` nowhere in a mount path; a path that is not absolute is one from the root, as
/// containerd and runc have it.
fn container_path(field: &str, text: &str) -> Result<PathBuf> {
    refuse(text.is_empty(), field, "it is empty")?;
    absolute(field, &Path::new("/").join(text).to_string_lossy())
}

fn sub_path(field: &str, text: &str) -> Result<PathBuf> {
    let path = Path::new(text);
    let plain = path
        .components()
        .all(|c| matches!(c, std::path::Component::Normal(_) | std::path::Component::CurDir));
    if plain {
        Ok(path.to_owned())
    } else {
        Err(Wrong::new(field, format_args!("{text:?} is not a relative path without \"..\"")))
    }
}

/// Volumes of a pod with a user namespace show the pod's own ids; no others can be had.
fn mapped(field: &str, wire: &[v1::IdMapping], pod: &SandboxConfig) -> Result<()> {
    if wire.is_empty() {
        return Ok(());
    }
    let same = pod.ids == Some(namespace::ids(field, wire)?);
    refuse(
        !same,
        field,
        "they are not those of the pod's user namespace, which are the only ones that a volume can have",
    )
}

/// A device as the model has it.
pub(crate) fn device(field: &str, wire: &v1::Device) -> Result<Device> {
    let host_path = absolute(&format!("{field}.host_path"), &wire.host_path)?;
    let permissions = if wire.permissions.is_empty() { "rwm" } else { &wire.permissions };
    refuse(
        permissions.chars().any(|c| !"rwm".contains(c)),
        &format!("{field}.permissions"),
        "they are made of the letters r, w and m",
    )?;
    let container_path = match wire.container_path.as_str() {
        "" => host_path.clone(),
        path => absolute(&format!("{field}.container_path"), path)?,
    };
    Ok(Device {
        host_path,
        container_path,
        permissions: permissions.to_owned(),
    })
}

/// Back to the wire.
pub(crate) fn to_wire(mount: &Mount) -> v1::Mount {
    let propagation = match mount.propagation {
        Propagation::Private => v1::MountPropagation::PropagationPrivate,
        Propagation::HostToContainer => v1::MountPropagation::PropagationHostToContainer,
        Propagation::Bidirectional => v1::MountPropagation::PropagationBidirectional,
    };
    let text = |path: &Path| path.to_string_lossy().into_owned();
    v1::Mount {
        container_path: text(&mount.container_path),
        host_path: text(&mount.host_path),
        readonly: mount.readonly,
        propagation: propagation.into(),
        recursive_read_only: mount.recursive_read_only,
        image: mount.image.as_ref().map(|image| v1::ImageSpec {
            image: image.clone(),
            ..Default::default()
        }),
        image_sub_path: text(&mount.image_sub_path),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use cofferdam_model::cri::IdMapping;

    fn base() -> v1::Mount {
        v1::Mount {
            container_path: "/c".into(),
            host_path: "/h".into(),
            ..Default::default()
        }
    }

    fn image() -> Option<v1::ImageSpec> {
        Some(v1::ImageSpec {
            image: "i".into(),
            ..Default::default()
        })
    }

    #[test]
    fn mounts_go_over_and_back() {
        for wire in [
            base(),
            v1::Mount {
                readonly: true,
                recursive_read_only: true,
                ..base()
            },
            v1::Mount { propagation: 1, ..base() },
            v1::Mount { propagation: 2, ..base() },
            v1::Mount {
                host_path: String::new(),
                image: image(),
                image_sub_path: "a/b".into(),
                readonly: true,
                ..base()
            },
        ] {
            assert_eq!(
                to_wire(&mount("m", &wire, &SandboxConfig::default(), Machine::default()).unwrap()),
                wire
            );
        }
        let relative = mount(
            "m",
            &v1::Mount {
                container_path: "c".into(),
                ..base()
            },
            &SandboxConfig::default(),
            Machine::default(),
        );
        assert_eq!(relative.unwrap().container_path, Path::new("/c"));
    }

    #[test]
    fn what_a_mount_cannot_be_is_refused() {
        for (wire, field) in [
            (
                v1::Mount {
                    host_path: "h".into(),
                    ..base()
                },
                "m.host_path: ",
            ),
            (
                v1::Mount {
                    host_path: "/a/../b".into(),
                    ..base()
                },
                "m.host_path: ",
            ),
            (
                v1::Mount {
                    container_path: String::new(),
                    ..base()
                },
                "m.container_path: ",
            ),
            (
                v1::Mount {
                    container_path: "/a/..".into(),
                    ..base()
                },
                "m.container_path: ",
            ),
            (v1::Mount { propagation: 3, ..base() }, "m.propagation: "),
            (
                v1::Mount {
                    recursive_read_only: true,
                    ..base()
                },
                "m.recursive_read_only: it needs readonly",
            ),
            (
                v1::Mount {
                    recursive_read_only: true,
                    readonly: true,
                    propagation: 1,
                    ..base()
                },
                "m.recursive_read_only: ",
            ),
            (
                v1::Mount {
                    mount_options: vec!["nosuid".into()],
                    ..base()
                },
                "m.mount_options: ",
            ),
            (v1::Mount { image: image(), ..base() }, "m.host_path: "),
            (
                v1::Mount {
                    host_path: String::new(),
                    image: image(),
                    ..base()
                },
                "m.readonly: ",
            ),
            (
                v1::Mount {
                    image_sub_path: "x".into(),
                    ..base()
                },
                "m.image_sub_path: ",
            ),
            (
                v1::Mount {
                    host_path: String::new(),
                    image: image(),
                    image_sub_path: "../x".into(),
                    ..base()
                },
                "m.image_sub_path: ",
            ),
            (
                v1::Mount {
                    uid_mappings: vec![v1::IdMapping {
                        host_id: 1,
                        container_id: 0,
                        length: 2,
                    }],
                    ..base()
                },
                "m.uidMappings: ",
            ),
            (
                v1::Mount {
                    selinux_relabel: true,
                    ..base()
                },
                "m.selinux_relabel: ",
            ),
        ] {
            let why = mount("m", &wire, &SandboxConfig::default(), Machine { selinux: true })
                .unwrap_err()
                .0;
            assert!(why.starts_with(field), "{why}");
        }
        // Without SELinux there is nothing to relabel, and kubelets ask for it all the same.
        assert!(
            mount(
                "m",
                &v1::Mount {
                    selinux_relabel: true,
                    ..base()
                },
                &SandboxConfig::default(),
                Machine::default()
            )
            .is_ok()
        );
    }

    #[test]
    fn the_ids_of_the_pods_own_user_namespace_are_fine() {
        let pod = SandboxConfig {
            ids: Some(IdMapping {
                host_id: 65536,
                length: 10,
            }),
            ..SandboxConfig::default()
        };
        let ids = vec![v1::IdMapping {
            host_id: 65536,
            container_id: 0,
            length: 10,
        }];
        let wire = v1::Mount {
            uid_mappings: ids.clone(),
            gid_mappings: ids,
            ..base()
        };
        assert!(mount("m", &wire, &pod, Machine::default()).is_ok());
    }

    #[test]
    fn devices() {
        let wire = |host: &str, container: &str, permissions: &str| v1::Device {
            host_path: host.into(),
            container_path: container.into(),
            permissions: permissions.into(),
        };
        let same = device("d", &wire("/dev/fuse", "", "")).unwrap();
        assert_eq!(
            (same.container_path.to_str(), same.permissions.as_str()),
            (Some("/dev/fuse"), "rwm")
        );
        for (wire, field) in [
            (wire("dev", "", ""), "d.host_path: "),
            (wire("/dev/x", "x", ""), "d.container_path: "),
            (wire("/dev/x", "", "rx"), "d.permissions: "),
        ] {
            assert!(device("d", &wire).unwrap_err().0.starts_with(field));
        }
    }
}
