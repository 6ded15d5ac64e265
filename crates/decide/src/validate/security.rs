//! Rules of security settings.

use super::volumes::local_path;
use crate::field::{Errors, Path};
use crate::{app_armor, format};
use cofferdam_model::pod::{Pod, PodSpec, SeLinuxOptions, SeccompProfile, SecurityContext, Sysctl};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Annotations of Kubernetes before 1.27.
pub(crate) const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
pub(crate) const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";

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
        let policy = context.fs_group_change_policy.as_deref();
        one_of(policy, &["Always", "OnRootMismatch"], &path.child("fsGroupChangePolicy"), errors);
        profile(context.seccomp_profile.as_ref(), &path.child("seccompProfile"), errors);
        app_armor::validate(context.app_armor_profile.as_ref(), &path.child("appArmorProfile"), errors);
        let policy = context.supplemental_groups_policy.as_deref();
        one_of(policy, &["Merge", "Strict"], &path.child("supplementalGroupsPolicy"), errors);
    }
}

fn one_of(text: Option<&str>, known: &[&str], path: &Path, errors: &mut Errors) {
    if let Some(text) = text.filter(|t| !known.contains(t)) {
        errors.not_supported(path, text, known);
    }
}

/// Checks a container's settings. `host_users`: the pod has no user namespace of its own.
pub(super) fn container(context: &SecurityContext, host_users: bool, path: &Path, errors: &mut Errors) {
    id(context.run_as_user, &path.child("runAsUser"), errors);
    id(context.run_as_group, &path.child("runAsGroup"), errors);
    let proc_mount = context.proc_mount.as_deref();
    one_of(proc_mount, &["Default", "Unmasked"], &path.child("procMount"), errors);
    if host_users && proc_mount == Some("Unmasked") {
        let rule = "`hostUsers` must be false to use `Unmasked`";
        errors.invalid(&path.child("procMount"), "Unmasked", rule);
    }
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
    app_armor::validate(context.app_armor_profile.as_ref(), &path.child("appArmorProfile"), errors);
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

/// Checks the annotations that named seccomp profiles before Kubernetes 1.27, at `path`; they have no
/// effect any more.
pub(super) fn seccomp_annotations(annotations: &BTreeMap<String, String>, path: &Path, errors: &mut Errors) {
    let of_pod = annotations.get_key_value(SECCOMP_POD);
    let of_containers = annotations.iter().filter(|(key, _)| key.starts_with(SECCOMP_CONTAINER));
    for (key, profile) in of_pod.into_iter().chain(of_containers) {
        let path = path.child(key);
        match profile.strip_prefix("localhost/") {
            Some(file) => local_path(file, &path, errors),
            None if ["runtime/default", "docker/default", "unconfined"].contains(&profile.as_str()) => {}
            None => errors.invalid(&path, profile, "must be a valid seccomp profile"),
        }
    }
}

/// Checks that the annotations say what the fields below `path`, the spec's, say.
pub(super) fn seccomp_same_as_fields(pod: &Pod, path: &Path, errors: &mut Errors) {
    let annotations = &pod.metadata.annotations;
    let spec = &pod.spec;
    if let Some(context) = &spec.security_context {
        let annotation = annotations.get(SECCOMP_POD);
        same_profile(context.seccomp_profile.as_ref(), annotation, &path.child("securityContext"), errors);
    }
    for (list, containers) in [("initContainers", &spec.init_containers), ("containers", &spec.containers)] {
        for (at, container) in containers.iter().enumerate() {
            let profile = container.security_context.as_ref().and_then(|c| c.seccomp_profile.as_ref());
            let annotation = annotations.get(&format!("{SECCOMP_CONTAINER}{}", container.name));
            same_profile(profile, annotation, &path.child(list).index(at).child("securityContext"), errors);
        }
    }
}

fn same_profile(profile: Option<&SeccompProfile>, annotation: Option<&String>, path: &Path, errors: &mut Errors) {
    let (Some(profile), Some(annotation)) = (profile, annotation) else { return };
    let path = path.child("seccompProfile");
    let is_same_kind = match profile.kind.as_str() {
        "Unconfined" => annotation == "unconfined",
        "RuntimeDefault" => annotation == "runtime/default" || annotation == "docker/default",
        "Localhost" => annotation.starts_with("localhost/"),
        _ => true,
    };
    let file = annotation.strip_prefix("localhost/");
    if !is_same_kind {
        errors.forbidden(&path.child("type"), "seccomp type in annotation and field must match");
    } else if profile.kind == "Localhost" && profile.localhost_profile.as_deref() != file {
        errors.forbidden(
            &path.child("localhostProfile"),
            "seccomp profile in annotation and field must match",
        );
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
        "SELinuxOptions": context.se_linux_options.as_ref().map(se_linux_json),
        "WindowsOptions": null,
        "RunAsUser": context.run_as_user,
        "RunAsGroup": context.run_as_group,
        "RunAsNonRoot": context.run_as_non_root,
        "ReadOnlyRootFilesystem": context.read_only_root_filesystem,
        "AllowPrivilegeEscalation": context.allow_privilege_escalation,
        "ProcMount": context.proc_mount,
        "SeccompProfile": context.seccomp_profile.as_ref().map(profile_json),
        "AppArmorProfile": context
            .app_armor_profile
            .as_ref()
            .map(|p| json!({"Type": p.kind, "LocalhostProfile": p.localhost_profile})),
    })
}

fn se_linux_json(options: &SeLinuxOptions) -> Value {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    json!({"User": text(&options.user), "Role": text(&options.role), "Type": text(&options.kind), "Level": text(&options.level)})
}
