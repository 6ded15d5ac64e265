//! Mounts: Cofferdam binds paths of the machine; NRI's are those of the OCI runtime specification.

use crate::convert::removal;
use crate::wire;
use cofferdam_model::cri::{Mount, Propagation};
use std::path::{Component, Path, PathBuf};

pub(crate) fn to_wire(mount: &Mount) -> wire::Mount {
    let destination = mount.container_path.to_string_lossy().into_owned();
    let access = if mount.readonly { "ro" } else { "rw" };
    if mount.tmpfs.is_some() {
        let options = vec![access.to_owned()];
        return wire::Mount {
            destination,
            r#type: "tmpfs".to_owned(),
            source: "tmpfs".to_owned(),
            options,
        };
    }
    let propagation = match mount.propagation {
        Propagation::Private => "rprivate",
        Propagation::HostToContainer => "rslave",
        Propagation::Bidirectional => "rshared",
    };
    let source = match &mount.image {
        Some(image) => image.clone(),
        None if mount.sub_path.as_os_str().is_empty() => mount.host_path.to_string_lossy().into_owned(),
        None => mount.host_path.join(&mount.sub_path).to_string_lossy().into_owned(),
    };
    let options = ["rbind", propagation, access].map(str::to_owned).to_vec();
    wire::Mount {
        destination,
        r#type: "bind".to_owned(),
        source,
        options,
    }
}

/// A mount by its path in the container, or `None` to remove it.
///
/// # Errors
/// Why Cofferdam cannot make it, in words.
pub(crate) fn from_wire(mount: &wire::Mount) -> Result<(PathBuf, Option<Mount>), String> {
    let (destination, removed) = removal(&mount.destination);
    let path = PathBuf::from(destination);
    if !is_clean(&path) || destination == "/" {
        return Err(format!("{destination:?} is no absolute path without .. in the container"));
    }
    if removed {
        return Ok((path, None));
    }
    let source = PathBuf::from(&mount.source);
    let bind = mount.options.iter().any(|option| option == "bind" || option == "rbind");
    if !matches!((mount.r#type.as_str(), bind), ("bind", _) | ("" | "none", true)) {
        return Err(format!(
            "the mount at {destination} has type {:?}: only bind mounts can be made",
            mount.r#type
        ));
    }
    if !is_clean(&source) {
        return Err(format!(
            "the mount at {destination} has source {source:?}: an absolute path without .. is expected"
        ));
    }
    let mut made = Mount {
        container_path: path.clone(),
        host_path: source,
        ..Mount::default()
    };
    for option in &mount.options {
        match option.as_str() {
            "bind" | "rbind" => {}
            "ro" => made.readonly = true,
            "rw" => made.readonly = false,
            "rro" => (made.readonly, made.recursive_read_only) = (true, true),
            "private" | "rprivate" => made.propagation = Propagation::Private,
            "slave" | "rslave" => made.propagation = Propagation::HostToContainer,
            "shared" | "rshared" => made.propagation = Propagation::Bidirectional,
            other => return Err(format!("the mount at {destination} has option {other:?}, which is not supported")),
        }
    }
    Ok((path, Some(made)))
}

fn is_clean(path: &Path) -> bool {
    path.is_absolute() && !path.components().any(|part| part == Component::ParentDir)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn wired(kind: &str, options: &[&str]) -> wire::Mount {
        let options = options.iter().map(|o| (*o).to_owned()).collect();
        wire::Mount {
            destination: "/in".to_owned(),
            r#type: kind.to_owned(),
            source: "/out".to_owned(),
            options,
        }
    }

    #[test]
    fn binds_are_made_and_the_rest_refused() {
        let plain = Mount {
            container_path: "/in".into(),
            host_path: "/out".into(),
            ..Mount::default()
        };
        for (kind, options, expected) in [
            (
                "bind",
                &["ro", "rprivate"][..],
                Some(Mount {
                    readonly: true,
                    ..plain.clone()
                }),
            ),
            (
                "",
                &["rbind", "rshared"],
                Some(Mount {
                    propagation: Propagation::Bidirectional,
                    ..plain.clone()
                }),
            ),
            (
                "bind",
                &["rro"],
                Some(Mount {
                    readonly: true,
                    recursive_read_only: true,
                    ..plain.clone()
                }),
            ),
            ("none", &["bind"], Some(plain.clone())),
            ("", &["ro"], None),
            ("tmpfs", &[], None),
            ("bind", &["nosuid"], None),
        ] {
            let made = from_wire(&wired(kind, options));
            assert_eq!(
                made.as_ref().ok(),
                expected.map(|m| ("/in".into(), Some(m))).as_ref(),
                "{kind} {options:?} {made:?}"
            );
        }
        for path in ["in", "/in/../etc", "/", ""] {
            assert!(
                from_wire(&wire::Mount {
                    destination: path.to_owned(),
                    ..wired("bind", &[])
                })
                .is_err(),
                "{path}"
            );
        }
        assert!(
            from_wire(&wire::Mount {
                source: "out".to_owned(),
                ..wired("bind", &[])
            })
            .is_err()
        );
        let removed = wire::Mount {
            destination: "-/in".to_owned(),
            ..wire::Mount::default()
        };
        assert_eq!(from_wire(&removed), Ok(("/in".into(), None)));
    }

    #[test]
    fn what_is_told_can_be_asked_for() {
        let mount = Mount {
            container_path: "/in".into(),
            host_path: "/out".into(),
            readonly: true,
            propagation: Propagation::HostToContainer,
            ..Mount::default()
        };
        assert_eq!(from_wire(&to_wire(&mount)), Ok(("/in".into(), Some(mount))));
    }
}
