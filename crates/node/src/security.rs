//! A container's security settings over its pod's (`pkg/securitycontext/util.go`,
//! `DetermineEffectiveSecurityContext`; `pkg/kubelet/kuberuntime/security_context.go`).

use crate::words::pod_name;
use cofferdam_model::cri::{Profile, Security};
use cofferdam_model::pod::{AppArmorProfile, Container, Pod, SeccompProfile};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// Prefix of the deprecated annotations that name a container's AppArmor profile
/// (`DeprecatedAppArmorBetaContainerAnnotationKeyPrefix`).
pub(crate) const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
/// Largest seccomp profile, bytes. Docker's own has 13 KiB.
const MAX_PROFILE: u64 = 1024 * 1024;

/// The settings of `container`. Profiles are looked for under `seccomp_root`. An error is one sentence.
pub(crate) fn security(pod: &Pod, container: &Container, seccomp_root: &Path) -> Result<Security, String> {
    let of_pod = pod.spec.security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let privileged = own.privileged.unwrap_or(false);
    let run_as_user = own.run_as_user.or(of_pod.run_as_user);
    let run_as_non_root = own.run_as_non_root.or(of_pod.run_as_non_root).unwrap_or(false);
    if run_as_non_root && run_as_user == Some(0) {
        // The kubelet's sentence (`verifyRunAsNonRoot`); an image's user is checked by the engine.
        return Err(format!(
            "container's runAsUser breaks non-root policy (pod: {:?}, container: {})",
            pod_name(&pod.metadata),
            container.name
        ));
    }
    let mut supplemental_groups = of_pod.supplemental_groups;
    supplemental_groups.extend(of_pod.fs_group);
    let profile = own.seccomp_profile.or(of_pod.seccomp_profile);
    let capabilities = own.capabilities.unwrap_or_default();
    Ok(Security {
        run_as_user,
        run_as_group: own.run_as_group.or(of_pod.run_as_group),
        run_as_non_root,
        supplemental_groups,
        privileged,
        no_new_privs: own.allow_privilege_escalation == Some(false),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        add_capabilities: capabilities.add,
        drop_capabilities: capabilities.drop,
        seccomp: seccomp(profile.as_ref(), privileged, seccomp_root)?,
        seccomp_named: profile.is_some(),
        apparmor: app_armor(pod, container, privileged)?,
        selinux: own.se_linux_options.or(of_pod.se_linux_options),
        unmasked_proc: unmasked(pod, own.proc_mount.as_deref())?,
        strict_groups: strict(of_pod.supplemental_groups_policy.as_deref())?,
        ..Security::default()
    })
}

/// A privileged container has none, whatever is asked, as under the runtimes of Kubernetes; but what
/// is asked must be right.
fn seccomp(profile: Option<&SeccompProfile>, privileged: bool, root: &Path) -> Result<Profile, String> {
    let Some(profile) = profile else { return Ok(Profile::Unconfined) };
    let found = match (profile.kind.as_str(), &profile.localhost_profile) {
        ("Unconfined", None) => Profile::Unconfined,
        ("RuntimeDefault", None) => Profile::RuntimeDefault,
        ("Localhost", Some(name)) if !name.is_empty() => Profile::Localhost(profile_file(root, name)?),
        ("Localhost", _) => return Err("localhostProfile must be set if seccompProfile type is Localhost".into()),
        ("Unconfined" | "RuntimeDefault", Some(_)) => {
            return Err(format!(
                "seccompProfile: localhostProfile can only be set if type is Localhost, not {}",
                profile.kind
            ));
        }
        (other, _) => {
            return Err(format!(
                "seccompProfile type {other:?} is unknown; use Localhost, RuntimeDefault or Unconfined"
            ));
        }
    };
    Ok(if privileged { Profile::Unconfined } else { found })
}

/// The absolute path of the profile `name` under `root`, once it is known to be one.
fn profile_file(root: &Path, name: &str) -> Result<String, String> {
    let path = root.join(name);
    let refused = |why: &str| Err(format!("cannot load seccomp profile {:?}: {why}", path.display().to_string()));
    let stays = Path::new(name).components().all(|c| matches!(c, Component::Normal(_)));
    if !stays || name.contains('\0') {
        return refused("localhostProfile must be a relative path without '..'");
    }
    let opened = open_beneath(root, name);
    let file = match opened {
        Ok(file) => file,
        Err(Errno::NOENT) => return refused("it does not exist; put the profile there"),
        Err(Errno::XDEV | Errno::LOOP) => return refused("a link leads out of the folder of profiles; put the profile itself there"),
        Err(err) => return refused(&std::io::Error::from(err).to_string()),
    };
    let stat = fstat(&file).map_err(|err| std::io::Error::from(err).to_string());
    match stat {
        Err(err) => return refused(&err),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => return refused("it is not a regular file"),
        Ok(_) => {}
    }
    let mut text = Vec::new();
    if let Err(err) = file.take(MAX_PROFILE + 1).read_to_end(&mut text) {
        return refused(&err.to_string());
    }
    if text.len() as u64 > MAX_PROFILE {
        return refused("it is larger than 1 MiB");
    }
    match serde_json::from_slice::<serde_json::Value>(&text) {
        Ok(value) if value.is_object() => Ok(path.display().to_string()),
        Ok(_) => refused("it is not a JSON object in the form of Docker's profiles"),
        Err(err) => refused(&format!("it is not JSON: {err}")),
    }
}

fn open_beneath(root: &Path, name: &str) -> Result<File, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let folder = openat2(
        CWD,
        root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::NO_MAGICLINKS,
    )?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat2(&folder, PathBuf::from(name), flags, Mode::empty(), resolve).map(File::from)
}

/// The container's, else its annotation's, else the pod's profile (`pkg/security/apparmor/helpers.go`,
/// `GetProfile`). A privileged container has only one that it names.
fn app_armor(pod: &Pod, container: &Container, privileged: bool) -> Result<Option<Profile>, String> {
    let own = container.security_context.as_ref().and_then(|s| s.app_armor_profile.as_ref());
    let of_pod = pod.spec.security_context.as_ref().and_then(|s| s.app_armor_profile.as_ref());
    let annotation = pod.metadata.annotations.get(&format!("{APPARMOR_ANNOTATION}{}", container.name));
    let found = match (own, annotation, of_pod) {
        (Some(profile), _, _) | (None, None, Some(profile)) => Some(app_armor_field(profile)?),
        (None, Some(text), _) => app_armor_annotation(text)?,
        (None, None, None) => None,
    };
    Ok(match found {
        Some(Profile::Localhost(name)) => Some(Profile::Localhost(name)),
        _ if privileged => Some(Profile::Unconfined),
        other => other,
    })
}

fn app_armor_field(profile: &AppArmorProfile) -> Result<Profile, String> {
    match (profile.kind.as_str(), profile.localhost_profile.as_deref()) {
        ("Unconfined", None) => Ok(Profile::Unconfined),
        ("RuntimeDefault", None) => Ok(Profile::RuntimeDefault),
        ("Localhost", Some(name)) => app_armor_name(name),
        ("Localhost", None) => Err("appArmorProfile: localhostProfile must be set if type is Localhost".into()),
        ("Unconfined" | "RuntimeDefault", Some(_)) => Err(format!(
            "appArmorProfile: localhostProfile can only be set if type is Localhost, not {}",
            profile.kind
        )),
        (other, _) => Err(format!(
            "appArmorProfile type {other:?} is unknown; use Localhost, RuntimeDefault or Unconfined"
        )),
    }
}

fn app_armor_annotation(text: &str) -> Result<Option<Profile>, String> {
    match text {
        "" => Ok(None),
        "unconfined" => Ok(Some(Profile::Unconfined)),
        "runtime/default" => Ok(Some(Profile::RuntimeDefault)),
        _ => match text.strip_prefix("localhost/") {
            Some(name) => app_armor_name(name).map(Some),
            None => Err(format!(
                "invalid AppArmor profile name: {text:?}; use runtime/default, unconfined or localhost/NAME"
            )),
        },
    }
}

/// Whether it is loaded is for the engine to see.
fn app_armor_name(name: &str) -> Result<Profile, String> {
    if name.is_empty() || name.len() > 4095 || name.trim() != name || name.contains(|c: char| c.is_control()) {
        return Err(format!(
            "AppArmor profile {name:?} must be a name of 1 to 4095 characters without blanks around it"
        ));
    }
    Ok(Profile::Localhost(name.to_owned()))
}

fn unmasked(pod: &Pod, proc_mount: Option<&str>) -> Result<bool, String> {
    match proc_mount {
        None | Some("Default") => Ok(false),
        Some("Unmasked") if pod.spec.host_users == Some(false) => Ok(true),
        Some("Unmasked") => Err("procMount: `hostUsers` must be false to use `Unmasked`".into()),
        Some(other) => Err(format!("procMount {other:?} is unknown; use Default or Unmasked")),
    }
}

fn strict(policy: Option<&str>) -> Result<bool, String> {
    match policy {
        None | Some("Merge") => Ok(false),
        Some("Strict") => Ok(true),
        Some(other) => Err(format!("supplementalGroupsPolicy {other:?} is unknown; use Merge or Strict")),
    }
}

#[cfg(test)]
#[path = "security_tests.rs"]
mod tests;
