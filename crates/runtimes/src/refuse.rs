//! What a container asks for and a runtime cannot do, each with its sentence. Nothing that was asked
//! for is left out in silence.

use crate::{
    FEATURE_APPARMOR, FEATURE_BIDIRECTIONAL_MOUNTS, FEATURE_DEVICES, FEATURE_HUGE_PAGES, FEATURE_IMAGE_VOLUMES, FEATURE_SECCOMP,
    FEATURE_SELINUX,
};
use cofferdam_model::cri::{ContainerConfig, FEATURE_RECURSIVE_READ_ONLY, Profile, Propagation};
use cofferdam_model::pod::SeLinuxOptions;
use std::collections::BTreeMap;

/// A feature that a container may need, whether it does, and what is said where the feature is missing:
/// what cannot be done, and what to remove.
type Need = (&'static str, fn(&ContainerConfig) -> bool, &'static str, &'static str);

const NEEDS: [Need; 8] = [
    (
        FEATURE_SECCOMP,
        seccomp,
        "cannot apply seccomp profiles",
        "seccompProfile, or make it Unconfined",
    ),
    (FEATURE_APPARMOR, apparmor, "cannot apply AppArmor profiles", "appArmorProfile"),
    (FEATURE_SELINUX, selinux, "cannot apply SELinux labels", "seLinuxOptions"),
    (
        FEATURE_DEVICES,
        devices,
        "cannot give it devices of the machine",
        "them from its resources",
    ),
    (
        FEATURE_BIDIRECTIONAL_MOUNTS,
        bidirectional,
        "cannot show on the machine what a container mounts",
        "mountPropagation: Bidirectional",
    ),
    (
        FEATURE_RECURSIVE_READ_ONLY,
        recursive,
        "cannot make what is mounted beneath a volume read-only",
        "recursiveReadOnly",
    ),
    (FEATURE_IMAGE_VOLUMES, image_volume, "cannot mount images", "the image volume"),
    (
        FEATURE_HUGE_PAGES,
        huge_pages,
        "has no huge pages",
        "hugepages-* and the volumes of medium HugePages",
    ),
];

/// The first thing that a container asks for and a runtime with these features cannot do. One that is
/// not listed is one that it has not. The caller names the container.
pub(crate) fn container(runtime: &str, config: &ContainerConfig, features: &BTreeMap<String, bool>) -> Option<String> {
    let missing = |name: &str| features.get(name) != Some(&true);
    let (_, _, cannot, remedy) = NEEDS.iter().find(|(name, needed, ..)| missing(name) && needed(config))?;
    Some(format!("{runtime} {cannot}; remove {remedy}"))
}

fn seccomp(config: &ContainerConfig) -> bool {
    // A privileged container has none whatever it says (containerd, CRI-O: privileged is unconfined).
    config.security.seccomp != Profile::Unconfined && !config.security.privileged
}

fn apparmor(config: &ContainerConfig) -> bool {
    match &config.security.apparmor {
        None | Some(Profile::Unconfined) => false,
        Some(Profile::RuntimeDefault) => !config.security.privileged,
        Some(Profile::Localhost(_)) => true,
    }
}

fn selinux(config: &ContainerConfig) -> bool {
    config.security.selinux.as_ref().is_some_and(|o| *o != SeLinuxOptions::default())
}

fn devices(config: &ContainerConfig) -> bool {
    !config.devices.is_empty() || !config.cdi_devices.is_empty()
}

fn bidirectional(config: &ContainerConfig) -> bool {
    config.mounts.iter().any(|m| m.propagation == Propagation::Bidirectional)
}

fn recursive(config: &ContainerConfig) -> bool {
    config.mounts.iter().any(|m| m.recursive_read_only)
}

fn image_volume(config: &ContainerConfig) -> bool {
    config.mounts.iter().any(|m| m.image.is_some())
}

fn huge_pages(config: &ContainerConfig) -> bool {
    config.mounts.iter().any(|m| m.huge_page_size.is_some()) || config.resources.hugepages.values().any(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_model::cri::{Device, LinuxResources, Mount, Security};

    fn secured(change: impl FnOnce(&mut Security)) -> ContainerConfig {
        let mut config = ContainerConfig {
            name: "app".into(),
            ..ContainerConfig::default()
        };
        change(&mut config.security);
        config
    }

    fn mounted(mount: Mount) -> ContainerConfig {
        ContainerConfig {
            name: "app".into(),
            mounts: vec![mount],
            ..ContainerConfig::default()
        }
    }

    #[test]
    fn each_thing_that_cannot_be_done_has_its_sentence() {
        let plain = ContainerConfig::default();
        let huge = LinuxResources {
            hugepages: [("2MB".to_owned(), 4)].into(),
            ..LinuxResources::default()
        };
        let label = SeLinuxOptions {
            level: Some("s0".into()),
            ..SeLinuxOptions::default()
        };
        let rows = [
            (plain.clone(), None),
            (
                secured(|s| s.seccomp = Profile::RuntimeDefault),
                Some("X cannot apply seccomp profiles; remove seccompProfile"),
            ),
            (
                secured(|s| s.seccomp = Profile::Localhost("/p".into())),
                Some("X cannot apply seccomp profiles"),
            ),
            (secured(|s| (s.seccomp, s.privileged) = (Profile::RuntimeDefault, true)), None),
            (secured(|s| s.apparmor = Some(Profile::Unconfined)), None),
            (
                secured(|s| s.apparmor = Some(Profile::RuntimeDefault)),
                Some("X cannot apply AppArmor profiles"),
            ),
            (
                secured(|s| (s.apparmor, s.privileged) = (Some(Profile::RuntimeDefault), true)),
                None,
            ),
            (
                secured(|s| (s.apparmor, s.privileged) = (Some(Profile::Localhost("p".into())), true)),
                Some("AppArmor"),
            ),
            (secured(|s| s.selinux = Some(SeLinuxOptions::default())), None),
            (secured(|s| s.selinux = Some(label)), Some("X cannot apply SELinux labels")),
            (
                ContainerConfig {
                    devices: vec![Device::default()],
                    ..plain.clone()
                },
                Some("X cannot give it devices"),
            ),
            (
                ContainerConfig {
                    cdi_devices: vec!["a/b=c".into()],
                    ..plain.clone()
                },
                Some("X cannot give it devices"),
            ),
            (
                mounted(Mount {
                    propagation: Propagation::HostToContainer,
                    ..Mount::default()
                }),
                None,
            ),
            (
                mounted(Mount {
                    propagation: Propagation::Bidirectional,
                    ..Mount::default()
                }),
                Some("remove mountPropagation: Bidirectional"),
            ),
            (
                mounted(Mount {
                    recursive_read_only: true,
                    ..Mount::default()
                }),
                Some("remove recursiveReadOnly"),
            ),
            (
                mounted(Mount {
                    image: Some("i".into()),
                    ..Mount::default()
                }),
                Some("X cannot mount images"),
            ),
            (
                mounted(Mount {
                    huge_page_size: Some(2 << 20),
                    ..Mount::default()
                }),
                Some("X has no huge pages"),
            ),
            (ContainerConfig { resources: huge, ..plain }, Some("X has no huge pages")),
        ];
        let all: BTreeMap<String, bool> = NEEDS.iter().map(|(name, ..)| ((*name).to_owned(), true)).collect();
        for (config, wanted) in rows {
            let found = container("X", &config, &BTreeMap::new());
            match wanted {
                None => assert_eq!(found, None, "{config:?}"),
                Some(part) => assert!(found.as_ref().is_some_and(|f| f.contains(part)), "{found:?} for {part}"),
            }
            assert_eq!(container("X", &config, &all), None);
        }
    }
}
