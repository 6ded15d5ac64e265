//! Rules of security settings.

use super::Check;
use crate::path::{Path, quoted};
use cofferdam_model::meta::ObjectMeta;
use cofferdam_model::pod::{AppArmorProfile, PodSpec, SeccompProfile, SecurityContext, Sysctl};
use std::collections::BTreeSet;

/// Annotations of Kubernetes before 1.30, one a container.
pub(super) const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
/// Greatest length of a profile's name (`PATH_MAX` - 1).
const MAX_PROFILE: usize = 4095;

/// Checks the settings of a pod whose spec stands at `path`.
pub(super) fn pod(check: &mut Check<'_>, path: &Path, spec: &PodSpec) {
    let Some(security) = &spec.security_context else { return };
    let path = path.key("securityContext");
    seccomp(check, &path, security.seccomp_profile.as_ref());
    app_armor(check, &path, security.app_armor_profile.as_ref());
    let mut seen = BTreeSet::new();
    for (i, Sysctl { name, .. }) in security.sysctls.iter().enumerate() {
        let path = path.key("sysctls").index(i).key("name");
        let with_dots = name.replace('/', ".");
        if let Some(field) = of_the_machine(&with_dots, spec) {
            let rule = format!("is {}, which is the machine's where {field} is true; remove one", quoted(name));
            check.refuse(&path, rule);
        }
        if !seen.insert(with_dots) {
            check.refuse(&path, format!("is {} a second time; remove one", quoted(name)));
        }
    }
}

/// The field by which the pod shares the namespace of a kernel setting with the machine
/// (`k8s.io/component-helpers/node/util/sysctl`).
fn of_the_machine(name: &str, spec: &PodSpec) -> Option<&'static str> {
    let is_ipc = name == "kernel.sem" || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|p| name.starts_with(p));
    if spec.host_network && name.starts_with("net.") {
        Some("hostNetwork")
    } else if spec.host_ipc && is_ipc {
        Some("hostIPC")
    } else {
        None
    }
}

/// Checks the settings of a container at `path`.
pub(super) fn container(check: &mut Check<'_>, path: &Path, security: &SecurityContext, spec: &PodSpec) {
    seccomp(check, path, security.seccomp_profile.as_ref());
    app_armor(check, path, security.app_armor_profile.as_ref());
    if security.proc_mount.as_deref() == Some("Unmasked") && spec.host_users != Some(false) {
        check.refuse(
            &path.key("procMount"),
            "is Unmasked, which needs hostUsers: false in the pod's spec; add it, or remove this",
        );
    }
    if security.allow_privilege_escalation != Some(false) {
        return;
    }
    if security.privileged == Some(true) {
        check.refuse(
            &path.key("allowPrivilegeEscalation"),
            "cannot be false where privileged is true; change one",
        );
    }
    let mut added = security.capabilities.iter().flat_map(|c| &c.add);
    if added.any(|c| c == "CAP_SYS_ADMIN") {
        check.refuse(
            &path.key("allowPrivilegeEscalation"),
            "cannot be false where CAP_SYS_ADMIN is added; change one",
        );
    }
}

fn seccomp(check: &mut Check<'_>, path: &Path, profile: Option<&SeccompProfile>) {
    let Some(profile) = profile else { return };
    let path = path.key("seccompProfile");
    match (profile.kind.as_str(), &profile.localhost_profile) {
        ("Localhost", None) => check.refuse(&path, "is Localhost, which needs localhostProfile"),
        ("Localhost", Some(_)) | (_, None) => {}
        (_, Some(_)) => only_localhost(check, &path),
    }
}

fn app_armor(check: &mut Check<'_>, path: &Path, profile: Option<&AppArmorProfile>) {
    let Some(profile) = profile else { return };
    let path = path.key("appArmorProfile");
    let name = profile.localhost_profile.as_deref();
    match (profile.kind.as_str(), name) {
        ("Localhost", None | Some("")) => {
            check.refuse(&path, "is Localhost, which needs localhostProfile, the name of a loaded profile");
        }
        ("Localhost", Some(name)) if name.trim() != name => {
            check.refuse(&path.key("localhostProfile"), "must not have blanks around it");
        }
        ("Localhost", Some(name)) if name.len() > MAX_PROFILE => {
            check.refuse(
                &path.key("localhostProfile"),
                format!("has {} bytes, but at most {MAX_PROFILE} are used", name.len()),
            );
        }
        ("Localhost", Some(_)) | (_, None) => {}
        (_, Some(_)) => only_localhost(check, &path),
    }
}

fn only_localhost(check: &mut Check<'_>, path: &Path) {
    check.refuse(
        &path.key("localhostProfile"),
        "has a meaning only where type is Localhost; remove it",
    );
}

/// Checks an annotation with the AppArmor profile of one container, which is honoured as the field
/// `appArmorProfile` is.
pub(super) fn annotated_profile(check: &mut Check<'_>, path: &Path, key: &str, meta: &ObjectMeta, spec: &PodSpec) {
    let name = key.strip_prefix(APP_ARMOR).unwrap_or_default();
    let all = spec.containers.iter().chain(&spec.init_containers);
    let Some(container) = all.into_iter().find(|c| c.name == name) else {
        check.refuse(path, format!("is of {}, but the pod has no container of that name", quoted(name)));
        return;
    };
    let value = meta.annotations.get(key).map_or("", String::as_str);
    let given = match value {
        "" => return,
        "runtime/default" => ("RuntimeDefault", None),
        "unconfined" => ("Unconfined", None),
        _ => match value.strip_prefix("localhost/").filter(|n| !n.is_empty() && n.trim() == *n) {
            Some(name) => ("Localhost", Some(name)),
            None => {
                check.refuse(
                    path,
                    format!("is {}, but must be runtime/default, unconfined or localhost/NAME", quoted(value)),
                );
                return;
            }
        },
    };
    let own = container.security_context.as_ref().and_then(|s| s.app_armor_profile.as_ref());
    let of_pod = spec.security_context.as_ref().and_then(|s| s.app_armor_profile.as_ref());
    match own {
        Some(field) if !says(field, given) => {
            check.refuse(
                path,
                format!("is {}, but appArmorProfile says otherwise; remove this annotation", quoted(value)),
            );
        }
        Some(_) => {}
        None if of_pod.is_some_and(|field| says(field, given)) => {}
        None => check.warn(
            path,
            "is the way of Kubernetes before 1.30; write securityContext.appArmorProfile instead",
        ),
    }
}

fn says(profile: &AppArmorProfile, (kind, name): (&str, Option<&str>)) -> bool {
    profile.kind == kind && profile.localhost_profile.as_deref() == name
}
