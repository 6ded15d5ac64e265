//! Rules of security settings.

use super::volumes::local_path;
use crate::field::{Errors, Path};
use crate::format;
use cofferdam_model::pod::{PodSpec, SeccompProfile, SecurityContext, Sysctl};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const PROFILES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

/// Checks the pod's settings.
pub(super) fn pod(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let context = spec.security_context.as_ref();
    if let Some(context) = context {
        id(context.fs_group, &path.child("fsGroup"), errors);
        id(context.run_as_user, &path.child("runAsUser"), errors);
        id(context.run_as_group, &path.child("runAsGroup"), errors);
        for (at, group) in context.supplemental_groups.iter().enumerate() {
            id(Some(*group), &path.child("supplementalGroups").index(at), errors);
        }
    }
    if spec.host_pid && spec.share_process_namespace == Some(true) {
        let rule = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(&path.child("shareProcessNamespace"), json!(true), rule);
    }
    if let Some(context) = context {
        sysctls(&context.sysctls, spec, &path.child("sysctls"), errors);
        profile(context.seccomp_profile.as_ref(), &path.child("seccompProfile"), errors);
    }
}

/// Checks a container's settings.
pub(super) fn container(context: &SecurityContext, path: &Path, errors: &mut Errors) {
    id(context.run_as_user, &path.child("runAsUser"), errors);
    id(context.run_as_group, &path.child("runAsGroup"), errors);
    profile(context.seccomp_profile.as_ref(), &path.child("seccompProfile"), errors);
    if context.allow_privilege_escalation == Some(false) {
        if context.privileged == Some(true) {
            let rule = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.invalid(path, internal_json(context), rule);
        }
        let added = context.capabilities.iter().flat_map(|c| &c.add);
        if added.filter(|c| *c == "CAP_SYS_ADMIN").count() > 0 {
            let rule = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.invalid(path, internal_json(context), rule);
        }
    }
}

fn id(id: Option<i64>, path: &Path, errors: &mut Errors) {
    let Some(id) = id else { return };
    for wrong in format::in_range(id, 0, i32::MAX.into()) {
        errors.invalid(path, id, &wrong);
    }
}

fn sysctls(sysctls: &[Sysctl], spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (at, Sysctl { name, .. }) in sysctls.iter().enumerate() {
        let path = path.index(at).child("name");
        if name.is_empty() {
            errors.required(&path, "");
        } else if !format::is_sysctl_name(name) {
            let segment = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
            let rule = format!("must have at most 253 characters and match regex ^({segment}[\\./])*{segment}$");
            errors.invalid(&path, name, &rule);
        } else if seen.contains(name) {
            errors.duplicate(&path, name);
        }
        seen.insert(name);
        shared_with_host(name, spec, &path, errors);
    }
}

/// A setting of a namespace that the pod shares with the machine would change the machine.
fn shared_with_host(name: &str, spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let name_with_dots = name.replace('/', ".");
    let ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."]
        .iter()
        .any(|p| name_with_dots.starts_with(p))
        || name_with_dots == "kernel.sem";
    if spec.host_network && name_with_dots.starts_with("net.") {
        errors.invalid(path, name, "may not be specified when 'hostNetwork' is true");
    } else if spec.host_ipc && ipc {
        errors.invalid(path, name, "may not be specified when 'hostIPC' is true");
    }
}

fn profile(profile: Option<&SeccompProfile>, path: &Path, errors: &mut Errors) {
    let Some(profile) = profile else { return };
    let kind = profile.kind.as_str();
    if kind.is_empty() {
        errors.required(&path.child("type"), "type is required when seccompProfile is set");
    } else if !PROFILES.contains(&kind) {
        errors.not_supported(&path.child("type"), kind, &PROFILES);
    }
    let file = path.child("localhostProfile");
    match &profile.localhost_profile {
        None if kind == "Localhost" => errors.required(&file, "must be set when seccomp type is Localhost"),
        Some(name) if kind == "Localhost" => local_path(name, &file, errors),
        Some(_) => errors.invalid(&file, profile_json(profile), "can only be set when seccomp type is Localhost"),
        None => {}
    }
}

fn profile_json(profile: &SeccompProfile) -> Value {
    json!({"Type": profile.kind, "LocalhostProfile": profile.localhost_profile})
}

/// The settings as upstream's internal type, which has no JSON names, prints them.
fn internal_json(context: &SecurityContext) -> Value {
    let list = |list: &Vec<String>| {
        if list.is_empty() { Value::Null } else { json!(list) }
    };
    let capabilities = context
        .capabilities
        .as_ref()
        .map(|c| json!({"Add": list(&c.add), "Drop": list(&c.drop)}));
    json!({
        "Capabilities": capabilities,
        "Privileged": context.privileged,
        "SELinuxOptions": null,
        "WindowsOptions": null,
        "RunAsUser": context.run_as_user,
        "RunAsGroup": context.run_as_group,
        "RunAsNonRoot": context.run_as_non_root,
        "ReadOnlyRootFilesystem": context.read_only_root_filesystem,
        "AllowPrivilegeEscalation": context.allow_privilege_escalation,
        "ProcMount": null,
        "SeccompProfile": context.seccomp_profile.as_ref().map(profile_json),
        "AppArmorProfile": null,
    })
}
