//! The requests that a runtime is given for a pod, as the kubelet builds them
//! (`pkg/kubelet/kuberuntime/kuberuntime_sandbox*.go`, `kuberuntime_container*.go`, `security_context*.go`).

use crate::env::Environment;
use crate::setup::PodSetup;
use cofferdam_model::cri::{ContainerConfig, Mount, NamespaceMode, SandboxConfig, Security};
use cofferdam_model::pod::{Container, Pod, PodSpec, SeccompProfile};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Annotation of a sandbox that names the pod's RuntimeClass, where it has one.
pub const CLASS_ANNOTATION: &str = "cofferdam.dev/runtime-class";
/// Annotation of a sandbox with what that class said when the pod was admitted.
pub const ADMITTED_ANNOTATION: &str = "cofferdam.dev/admitted-as";
/// Label with the pod's name (`pkg/kubelet/types/labels.go`).
pub const POD_NAME_LABEL: &str = "io.kubernetes.pod.name";
/// Label with the pod's namespace.
pub const POD_NAMESPACE_LABEL: &str = "io.kubernetes.pod.namespace";
/// Label with the pod's UID.
pub const POD_UID_LABEL: &str = "io.kubernetes.pod.uid";
/// Label with the container's name.
pub const CONTAINER_NAME_LABEL: &str = "io.kubernetes.container.name";

/// Longest host name, bytes (`HOST_NAME_MAX` less one, as upstream).
const MAX_HOSTNAME: usize = 63;

/// What a pod asks for and no part of Cofferdam can give yet: one sentence for the first such thing.
/// The manifest's reader refuses it sooner; this is the last door.
pub(crate) fn refusal(pod: &Pod) -> Option<String> {
    let spec = &pod.spec;
    if spec.containers.is_empty() {
        return Some("the pod has no containers; give it at least one".into());
    }
    if spec.automount_service_account_token == Some(true) {
        return Some("automountServiceAccountToken: true cannot be honoured, as no token exists without an API server".into());
    }
    let seccomp = |profile: Option<&SeccompProfile>| {
        profile.filter(|p| p.kind != "Unconfined").map(|p| {
            format!(
                "seccompProfile {:?} cannot be honoured yet; leave it out or use Unconfined",
                p.kind
            )
        })
    };
    let of_pod = spec
        .security_context
        .as_ref()
        .and_then(|s| seccomp(s.seccomp_profile.as_ref()));
    of_pod.or_else(|| {
        spec.init_containers.iter().chain(&spec.containers).find_map(|container| {
            let port = container.ports.iter().find_map(|p| p.host_port.filter(|port| *port != 0 && !spec.host_network));
            port.map(|port| format!("hostPort {port} of container {:?} cannot be honoured yet; leave it out or use hostNetwork", container.name))
                .or_else(|| seccomp(container.security_context.as_ref().and_then(|s| s.seccomp_profile.as_ref())))
        })
    })
}

/// Of a pod whose handler holds only the pod to its limits: the first container whose own limit
/// holds for nobody, because another container has none and so neither has the pod.
pub(crate) fn limits_without_hold(setup: &PodSetup) -> Option<String> {
    let pod = &setup.pod_resources;
    setup.containers.iter().find_map(|(name, limits)| {
        let memory = (limits.memory_limit > 0 && pod.memory_limit <= 0).then_some("memory");
        let cpu = (limits.cpu_quota > 0 && pod.cpu_quota <= 0).then_some("cpu");
        let what = memory.or(cpu)?;
        Some(format!(
            "the {what} limit of container {name:?} is not enforced: this handler holds the pod as a whole to its limits, \
             and the pod has none while a container has none; give every container a {what} limit"
        ))
    })
}

/// The request for a pod's sandbox. `dns` comes from [`crate::dns::dns`].
pub(crate) fn sandbox(
    setup: &PodSetup,
    attempt: u32,
    log_directory: PathBuf,
    dns: Option<cofferdam_model::cri::Dns>,
) -> SandboxConfig {
    let (meta, spec) = (&setup.pod.metadata, &setup.pod.spec);
    let node_or_pod = |node: bool| {
        if node {
            NamespaceMode::Node
        } else {
            NamespaceMode::Pod
        }
    };
    let mut labels = meta.labels.clone();
    labels.extend(own_labels(&setup.pod));
    let mut annotations = meta.annotations.clone();
    for (key, value) in [(CLASS_ANNOTATION, &setup.class), (ADMITTED_ANNOTATION, &setup.admitted_as)] {
        // What a pod says of itself here counts for nothing.
        annotations.remove(key);
        annotations.extend(value.clone().map(|value| (key.to_owned(), value)));
    }
    let sysctls = spec.security_context.iter().flat_map(|s| &s.sysctls);
    SandboxConfig {
        name: meta.name.clone(),
        namespace: meta.namespace_or_default().to_owned(),
        uid: meta.uid.clone().unwrap_or_default(),
        attempt,
        hostname: if spec.host_network {
            String::new()
        } else {
            hostname(&setup.pod)
        },
        log_directory,
        dns,
        labels,
        annotations,
        network: node_or_pod(spec.host_network),
        pid: pid_mode(spec),
        ipc: node_or_pod(spec.host_ipc),
        sysctls: sysctls.map(|s| (s.name.clone(), s.value.clone())).collect(),
        overhead: setup.overhead.clone(),
        resources: setup.pod_resources.clone(),
        ..SandboxConfig::default()
    }
}

fn own_labels(pod: &Pod) -> [(String, String); 3] {
    [
        (POD_NAME_LABEL.to_owned(), pod.metadata.name.clone()),
        (
            POD_NAMESPACE_LABEL.to_owned(),
            pod.metadata.namespace_or_default().to_owned(),
        ),
        (
            POD_UID_LABEL.to_owned(),
            pod.metadata.uid.clone().unwrap_or_default(),
        ),
    ]
}

fn pid_mode(spec: &PodSpec) -> NamespaceMode {
    match (spec.host_pid, spec.share_process_namespace) {
        (true, _) => NamespaceMode::Node,
        (false, Some(true)) => NamespaceMode::Pod,
        (false, _) => NamespaceMode::Container,
    }
}

/// The pod's host name, cut to what Linux takes, without `-` or `.` at the end
/// (`truncatePodHostnameIfNeeded`).
fn hostname(pod: &Pod) -> String {
    let name = pod
        .spec
        .hostname
        .as_deref()
        .filter(|h| !h.is_empty())
        .unwrap_or(&pod.metadata.name);
    let mut end = name.len().min(MAX_HOSTNAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    if end == name.len() {
        name.to_owned()
    } else {
        name[..end].trim_end_matches(['-', '.']).to_owned()
    }
}

/// What is resolved for one start of a container.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resolved {
    /// Its environment.
    pub env: Environment,
    /// Its volumes.
    pub mounts: Vec<Mount>,
    /// Host path of its termination message file.
    pub termination_file: PathBuf,
}

/// Name of a container's log in its pod's log directory.
pub(crate) fn log_path(container: &str, attempt: u32) -> PathBuf {
    Path::new(container).join(format!("{attempt}.log"))
}

/// The request for one container. An error is one sentence.
pub(crate) fn container(
    setup: &PodSetup,
    container: &Container,
    attempt: u32,
    resolved: Resolved,
) -> Result<ContainerConfig, String> {
    let security = security(&setup.pod, container)?;
    let message_path = container
        .termination_message_path
        .as_deref()
        .unwrap_or(crate::termination::DEFAULT_PATH);
    if !message_path.starts_with('/') {
        return Err(format!(
            "terminationMessagePath {message_path:?} of container {:?} must be an absolute path",
            container.name
        ));
    }
    let mut mounts = resolved.mounts;
    mounts.push(Mount {
        container_path: message_path.into(),
        host_path: resolved.termination_file,
        ..Mount::default()
    });
    let mut labels: BTreeMap<String, String> = own_labels(&setup.pod).into();
    labels.insert(CONTAINER_NAME_LABEL.to_owned(), container.name.clone());
    Ok(ContainerConfig {
        name: container.name.clone(),
        attempt,
        image: container.image.clone(),
        command: resolved
            .env
            .expand_all(&container.command)
            .map_err(|e| e.0)?,
        args: resolved.env.expand_all(&container.args).map_err(|e| e.0)?,
        working_dir: container.working_dir.clone().unwrap_or_default(),
        env: resolved.env.vars,
        mounts,
        labels,
        annotations: BTreeMap::from([
            (
                "io.kubernetes.container.restartCount".to_owned(),
                attempt.to_string(),
            ),
            (
                "io.kubernetes.container.terminationMessagePath".to_owned(),
                message_path.to_owned(),
            ),
        ]),
        log_path: log_path(&container.name, attempt),
        stdin: container.stdin,
        stdin_once: container.stdin_once,
        tty: container.tty,
        resources: setup
            .containers
            .get(&container.name)
            .cloned()
            .unwrap_or_default(),
        security,
        ..ContainerConfig::default()
    })
}

/// The container's settings over the pod's (`pkg/securitycontext/util.go`, `DetermineEffectiveSecurityContext`).
fn security(pod: &Pod, container: &Container) -> Result<Security, String> {
    let of_pod = pod.spec.security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let run_as_user = own.run_as_user.or(of_pod.run_as_user);
    let run_as_non_root = own
        .run_as_non_root
        .or(of_pod.run_as_non_root)
        .unwrap_or(false);
    if run_as_non_root && run_as_user == Some(0) {
        // The kubelet's sentence (`verifyRunAsNonRoot`); an image's user is checked by the engine.
        return Err(format!(
            "container's runAsUser breaks non-root policy (pod: {:?}, container: {})",
            pod.metadata.name, container.name
        ));
    }
    let mut supplemental_groups = of_pod.supplemental_groups;
    supplemental_groups.extend(of_pod.fs_group);
    let capabilities = own.capabilities.unwrap_or_default();
    Ok(Security {
        run_as_user,
        run_as_group: own.run_as_group.or(of_pod.run_as_group),
        run_as_non_root,
        supplemental_groups,
        privileged: own.privileged.unwrap_or(false),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        add_capabilities: capabilities.add,
        drop_capabilities: capabilities.drop,
        ..Security::default()
    })
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
