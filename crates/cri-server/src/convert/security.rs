//! Who a container's processes are, and what they may do.

use super::{Result, Wrong, refuse};
use cofferdam_cri_api::v1::{self, security_profile::ProfileType};
use cofferdam_model::cri::{Profile, Security};
use cofferdam_model::pod::SeLinuxOptions;
use std::path::PathBuf;

/// A profile as its message says it.
fn profile(field: &str, wire: &v1::SecurityProfile) -> Result<Profile> {
    match ProfileType::try_from(wire.profile_type) {
        Ok(ProfileType::RuntimeDefault) => Ok(Profile::RuntimeDefault),
        Ok(ProfileType::Unconfined) => Ok(Profile::Unconfined),
        Ok(ProfileType::Localhost) if wire.localhost_ref.is_empty() => {
            Err(Wrong::new(field, "a Localhost profile needs its localhost_ref"))
        }
        Ok(ProfileType::Localhost) => Ok(Profile::Localhost(wire.localhost_ref.clone())),
        Err(_) => Err(Wrong::new(field, format_args!("there is no profile type {}", wire.profile_type))),
    }
}

/// A profile in the older form: `runtime/default`, `unconfined` or `localhost/NAME`.
fn older(field: &str, text: &str) -> Result<Option<Profile>> {
    match text {
        "" => Ok(None),
        "runtime/default" | "docker/default" => Ok(Some(Profile::RuntimeDefault)),
        "unconfined" => Ok(Some(Profile::Unconfined)),
        _ => match text.strip_prefix("localhost/") {
            Some(name) if !name.is_empty() => Ok(Some(Profile::Localhost(name.to_owned()))),
            _ => Err(Wrong::new(
                field,
                format_args!("{text:?} is none of runtime/default, unconfined and localhost/NAME"),
            )),
        },
    }
}

fn either(field: &str, wire: Option<&v1::SecurityProfile>, old_field: &str, old: &str) -> Result<Option<Profile>> {
    wire.map_or_else(|| older(old_field, old), |p| profile(field, p).map(Some))
}

/// An id of a user or group: the kernel's are 32 bits, and the last means none.
pub(crate) fn id(field: &str, value: Option<&v1::Int64Value>) -> Result<Option<i64>> {
    let Some(v1::Int64Value { value }) = value else { return Ok(None) };
    if (0..i64::from(u32::MAX)).contains(value) {
        Ok(Some(*value))
    } else {
        Err(Wrong::new(field, format_args!("{value} is no id")))
    }
}

pub(crate) fn groups(field: &str, wire: &[i64]) -> Result<Vec<i64>> {
    match wire.iter().find(|g| !(0..i64::from(u32::MAX)).contains(*g)) {
        Some(wrong) => Err(Wrong::new(field, format_args!("{wrong} is no id"))),
        None => Ok(wire.to_vec()),
    }
}

fn selinux(wire: &v1::SeLinuxOption) -> Option<SeLinuxOptions> {
    let some = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
    let options = SeLinuxOptions {
        user: some(&wire.user),
        role: some(&wire.role),
        kind: some(&wire.r#type),
        level: some(&wire.level),
    };
    (options != SeLinuxOptions::default()).then_some(options)
}

/// Capabilities without `CAP_`, as the model has them.
fn capabilities(wire: &[String]) -> Vec<String> {
    wire.iter()
        .map(|c| c.to_ascii_uppercase())
        .map(|c| c.strip_prefix("CAP_").unwrap_or(&c).to_owned())
        .collect()
}

/// A container's settings. `field` is where they stand.
pub(crate) fn of_container(field: &str, wire: &v1::LinuxContainerSecurityContext) -> Result<Security> {
    let at = |name: &str| format!("{field}.{name}");
    let (add, drop) = wire.capabilities.as_ref().map_or_else(Default::default, |c| {
        (capabilities(&c.add_capabilities), capabilities(&c.drop_capabilities))
    });
    let ambient = wire.capabilities.as_ref().is_some_and(|c| !c.add_ambient_capabilities.is_empty());
    refuse(
        ambient,
        &at("capabilities.add_ambient_capabilities"),
        "ambient capabilities are not supported; leave them out",
    )?;
    let run_as_user = id(&at("run_as_user"), wire.run_as_user.as_ref())?;
    let run_as_group = id(&at("run_as_group"), wire.run_as_group.as_ref())?;
    let named = !wire.run_as_username.is_empty();
    refuse(
        named && run_as_user.is_some(),
        &at("run_as_username"),
        "run_as_user is set too; set one of them",
    )?;
    refuse(
        run_as_group.is_some() && run_as_user.is_none() && !named,
        &at("run_as_group"),
        "it is set without run_as_user or run_as_username",
    )?;
    let policy = v1::SupplementalGroupsPolicy::try_from(wire.supplemental_groups_policy).map_err(|_| {
        Wrong::new(
            &at("supplemental_groups_policy"),
            format_args!("there is no policy {}", wire.supplemental_groups_policy),
        )
    })?;
    let seccomp = either(
        &at("seccomp"),
        wire.seccomp.as_ref(),
        &at("seccomp_profile_path"),
        &wire.seccomp_profile_path,
    )?;
    let paths = |paths: &[String]| Some(paths.iter().map(PathBuf::from).collect());
    Ok(Security {
        run_as_user,
        run_as_username: wire.run_as_username.clone(),
        run_as_group,
        // A kubelet checks it itself, before the container is asked for.
        run_as_non_root: false,
        supplemental_groups: groups(&at("supplemental_groups"), &wire.supplemental_groups)?,
        privileged: wire.privileged,
        no_new_privs: wire.no_new_privs,
        readonly_rootfs: wire.readonly_rootfs,
        add_capabilities: add,
        drop_capabilities: drop,
        seccomp_named: seccomp.is_some(),
        seccomp: seccomp.unwrap_or_default(),
        apparmor: either(
            &at("apparmor"),
            wire.apparmor.as_ref(),
            &at("apparmor_profile"),
            &wire.apparmor_profile,
        )?,
        selinux: wire.selinux_options.as_ref().and_then(selinux),
        unmasked_proc: false,
        // As containerd has it, the lists are what is wanted, empty ones too: a kubelet sends the usual ones.
        masked_paths: paths(&wire.masked_paths),
        readonly_paths: paths(&wire.readonly_paths),
        strict_groups: policy == v1::SupplementalGroupsPolicy::Strict,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn int(value: i64) -> Option<v1::Int64Value> {
        Some(v1::Int64Value { value })
    }

    #[test]
    fn settings_are_taken_over() {
        let wire = v1::LinuxContainerSecurityContext {
            capabilities: Some(v1::Capability {
                add_capabilities: vec!["CAP_NET_ADMIN".into(), "sys_time".into()],
                drop_capabilities: vec!["ALL".into()],
                ..Default::default()
            }),
            run_as_user: int(1000),
            run_as_group: int(2000),
            supplemental_groups: vec![5],
            supplemental_groups_policy: 1,
            no_new_privs: true,
            readonly_rootfs: true,
            masked_paths: vec!["/proc/kcore".into()],
            seccomp: Some(v1::SecurityProfile {
                profile_type: ProfileType::Localhost.into(),
                localhost_ref: "/p.json".into(),
            }),
            apparmor: Some(v1::SecurityProfile {
                profile_type: ProfileType::Unconfined.into(),
                ..Default::default()
            }),
            selinux_options: Some(v1::SeLinuxOption {
                level: "s0".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let security = of_container("s", &wire).unwrap();
        assert_eq!((security.run_as_user, security.run_as_group), (Some(1000), Some(2000)));
        assert_eq!(
            (security.add_capabilities, security.drop_capabilities),
            (vec!["NET_ADMIN".into(), "SYS_TIME".into()], vec!["ALL".to_owned()])
        );
        assert!(security.no_new_privs && security.readonly_rootfs && security.strict_groups && !security.privileged);
        assert_eq!(security.masked_paths, Some(vec!["/proc/kcore".into()]));
        assert_eq!(security.readonly_paths, Some(vec![]));
        assert_eq!(
            (security.seccomp, security.seccomp_named),
            (Profile::Localhost("/p.json".into()), true)
        );
        assert_eq!(security.apparmor, Some(Profile::Unconfined));
        assert_eq!(security.selinux.unwrap().level.as_deref(), Some("s0"));
    }

    #[test]
    fn the_older_profiles_are_understood() {
        for (text, profile) in [
            ("", None),
            ("runtime/default", Some(Profile::RuntimeDefault)),
            ("unconfined", Some(Profile::Unconfined)),
            ("localhost/x", Some(Profile::Localhost("x".into()))),
        ] {
            let wire = v1::LinuxContainerSecurityContext {
                apparmor_profile: text.into(),
                ..Default::default()
            };
            assert_eq!(of_container("s", &wire).unwrap().apparmor, profile);
        }
        let both = v1::LinuxContainerSecurityContext {
            seccomp_profile_path: "runtime/default".into(),
            seccomp: Some(v1::SecurityProfile {
                profile_type: ProfileType::Unconfined.into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        assert_eq!(
            of_container("s", &both).unwrap().seccomp,
            Profile::Unconfined,
            "the newer field counts"
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let base = v1::LinuxContainerSecurityContext::default;
        for (wire, field) in [
            (
                v1::LinuxContainerSecurityContext {
                    run_as_group: int(1),
                    ..base()
                },
                "s.run_as_group: ",
            ),
            (
                v1::LinuxContainerSecurityContext {
                    run_as_user: int(-1),
                    ..base()
                },
                "s.run_as_user: ",
            ),
            (
                v1::LinuxContainerSecurityContext {
                    run_as_user: int(1 << 32),
                    ..base()
                },
                "s.run_as_user: ",
            ),
            (
                v1::LinuxContainerSecurityContext {
                    run_as_user: int(1),
                    run_as_username: "x".into(),
                    ..base()
                },
                "s.run_as_username: ",
            ),
            (
                v1::LinuxContainerSecurityContext {
                    supplemental_groups: vec![-4],
                    ..base()
                },
                "s.supplemental_groups: ",
            ),
            (
                v1::LinuxContainerSecurityContext {
                    supplemental_groups_policy: 7,
                    ..base()
                },
                "s.supplemental_groups_policy: ",
            ),
            (
                v1::LinuxContainerSecurityContext {
                    apparmor_profile: "localhost/".into(),
                    ..base()
                },
                "s.apparmor_profile: ",
            ),
            (
                v1::LinuxContainerSecurityContext {
                    seccomp: Some(v1::SecurityProfile {
                        profile_type: 2,
                        ..Default::default()
                    }),
                    ..base()
                },
                "s.seccomp: ",
            ),
            (
                v1::LinuxContainerSecurityContext {
                    seccomp: Some(v1::SecurityProfile {
                        profile_type: 5,
                        ..Default::default()
                    }),
                    ..base()
                },
                "s.seccomp: ",
            ),
            (
                v1::LinuxContainerSecurityContext {
                    capabilities: Some(v1::Capability {
                        add_ambient_capabilities: vec!["X".into()],
                        ..Default::default()
                    }),
                    ..base()
                },
                "s.capabilities.add_ambient_capabilities: ",
            ),
        ] {
            let why = of_container("s", &wire).unwrap_err().0;
            assert!(why.starts_with(field), "{why}");
        }
    }
}
