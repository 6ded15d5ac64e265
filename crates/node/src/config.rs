//! The requests that a runtime is given for a pod, as the kubelet builds them
//! (`pkg/kubelet/kuberuntime/kuberuntime_sandbox*.go`, `kuberuntime_container*.go`).

use crate::env::Environment;
use crate::hostname::names;
use crate::security::{APPARMOR_ANNOTATION, security};
use crate::setup::{Machine, PodSetup};
use crate::volumes::check_mounts;
use cofferdam_model::cri::{
    ContainerConfig, FEATURE_USER_NAMESPACES, Mount, NamespaceMode, PortMapping, SandboxConfig,
};
use cofferdam_model::pod::{Container, ContainerPort, Pod, PodSpec};
use std::collections::BTreeMap;
use std::net::IpAddr;
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

/// An error where a pod asks for what cannot be given, here or by its handler with these `features`:
/// one sentence for the first such thing. The manifest's reader refuses most of it sooner; this is
/// the last door, before anything is made.
pub(crate) fn check(setup: &PodSetup, machine: &Machine, features: &BTreeMap<String, bool>) -> Result<(), String> {
    let (pod, spec) = (&setup.pod, &setup.pod.spec);
    if spec.containers.is_empty() {
        return Err("the pod has no containers; give it at least one".into());
    }
    if spec.automount_service_account_token == Some(true) {
        return Err("automountServiceAccountToken: true cannot be honoured, as no token exists without an API server".into());
    }
    user_namespace(setup, features)?;
    names(pod)?;
    port_mappings(spec)?;
    host_aliases(spec)?;
    let policy = spec.security_context.as_ref().and_then(|s| s.fs_group_change_policy.as_deref());
    if let Some(other) = policy.filter(|p| !["Always", "OnRootMismatch"].contains(p)) {
        return Err(format!("fsGroupChangePolicy {other:?} is unknown; use Always or OnRootMismatch"));
    }
    for container in all_containers(spec) {
        security(pod, container, machine.seccomp_root()).map_err(|why| format!("container {:?}: {why}", container.name))?;
        check_mounts(container, features).map_err(|why| format!("container {:?}: {why}", container.name))?;
        message_path(container)?;
    }
    for key in pod.metadata.annotations.keys() {
        if let Some(name) = key.strip_prefix(APPARMOR_ANNOTATION)
            && !all_containers(spec).any(|c| c.name == name)
        {
            return Err(format!("annotation {key}: the pod has no container {name:?}; correct the name"));
        }
    }
    Ok(())
}

/// The kubelet's rules (`pkg/apis/core/validation`, `validateHostUsers`; `pkg/kubelet/userns`).
fn user_namespace(setup: &PodSetup, features: &BTreeMap<String, bool>) -> Result<(), String> {
    let spec = &setup.pod.spec;
    if spec.host_users != Some(false) {
        return Ok(());
    }
    for (field, asked) in [("hostNetwork", spec.host_network), ("hostPID", spec.host_pid), ("hostIPC", spec.host_ipc)] {
        if asked {
            return Err(format!("{field} is forbidden when `hostUsers` is false; remove one of them"));
        }
    }
    if features.get(FEATURE_USER_NAMESPACES) != Some(&true) {
        let handler = &setup.handler;
        return Err(format!("can't set `spec.hostUsers: false`, RuntimeClass handler {handler:?} does not support user namespaces"));
    }
    Ok(())
}

fn all_containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().chain(&spec.containers)
}

/// The ports of the machine that lead to the pod (`pkg/kubelet/container/helpers.go`,
/// `MakePortMappings`). In the machine's network none have to.
fn port_mappings(spec: &PodSpec) -> Result<Vec<PortMapping>, String> {
    let mut mappings = Vec::new();
    for container in all_containers(spec) {
        for port in container.ports.iter().filter(|p| p.host_port.is_some_and(|port| port != 0)) {
            let mapping = port_mapping(port).map_err(|why| format!("a port of container {:?}: {why}", container.name))?;
            if !mappings.contains(&mapping) {
                mappings.push(mapping);
            }
        }
    }
    Ok(if spec.host_network { Vec::new() } else { mappings })
}

fn port_mapping(port: &ContainerPort) -> Result<PortMapping, String> {
    let number = |what: &str, port: i32| {
        let number = u16::try_from(port).ok().filter(|p| *p > 0);
        number.ok_or_else(|| format!("{what} {port} must be between 1 and 65535"))
    };
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    if !["TCP", "UDP", "SCTP"].contains(&protocol) {
        return Err(format!("protocol {protocol:?} is unknown; use TCP, UDP or SCTP"));
    }
    let host_ip = port.host_ip.as_deref().filter(|ip| !ip.is_empty());
    let host_ip = host_ip.map(|text| text.parse::<IpAddr>().map_err(|_| format!("hostIP {text:?} is not an IP address")));
    Ok(PortMapping {
        protocol: protocol.to_owned(),
        container_port: number("containerPort", port.container_port)?,
        host_port: number("hostPort", port.host_port.unwrap_or_default())?,
        host_ip: host_ip.transpose()?,
    })
}

/// What is added to `/etc/hosts`: no more than addresses and names, as each becomes a line.
fn host_aliases(spec: &PodSpec) -> Result<Vec<(String, Vec<String>)>, String> {
    let is_name = |name: &String| !name.is_empty() && name.len() <= 253 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
    let alias = |alias: &cofferdam_model::pod::HostAlias| {
        let ip: IpAddr = alias.ip.parse().map_err(|_| format!("hostAliases: {:?} is not an IP address", alias.ip))?;
        match alias.hostnames.iter().find(|name| !is_name(name)) {
            Some(name) => Err(format!("hostAliases: {name:?} is not a host name")),
            None => Ok((ip.to_string(), alias.hostnames.clone())),
        }
    };
    spec.host_aliases.iter().map(alias).collect()
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

/// The request for a pod's sandbox. `dns` comes from [`crate::dns::dns`]. An error is one sentence.
pub(crate) fn sandbox(
    setup: &PodSetup,
    attempt: u32,
    log_directory: PathBuf,
    dns: Option<cofferdam_model::cri::Dns>,
) -> Result<SandboxConfig, String> {
    let (meta, spec) = (&setup.pod.metadata, &setup.pod.spec);
    let node_or_pod = |node: bool| if node { NamespaceMode::Node } else { NamespaceMode::Pod };
    let mut labels = meta.labels.clone();
    labels.extend(own_labels(&setup.pod));
    let mut annotations = meta.annotations.clone();
    for (key, value) in [(CLASS_ANNOTATION, &setup.class), (ADMITTED_ANNOTATION, &setup.admitted_as)] {
        // What a pod says of itself here counts for nothing.
        annotations.remove(key);
        annotations.extend(value.clone().map(|value| (key.to_owned(), value)));
    }
    let sysctls = spec.security_context.iter().flat_map(|s| &s.sysctls);
    let names = names(&setup.pod)?;
    Ok(SandboxConfig {
        name: meta.name.clone(),
        namespace: meta.namespace_or_default().to_owned(),
        uid: meta.uid.clone().unwrap_or_default(),
        attempt,
        hostname: names.hostname,
        log_directory,
        dns,
        labels,
        annotations,
        network: node_or_pod(spec.host_network),
        pid: pid_mode(spec),
        ipc: node_or_pod(spec.host_ipc),
        sysctls: sysctls.map(|s| (sysctl_name(&s.name), s.value.clone())).collect(),
        overhead: setup.overhead.clone(),
        resources: setup.pod_resources.clone(),
        port_mappings: port_mappings(spec)?,
        host_aliases: host_aliases(spec)?,
        fqdn: names.fqdn,
        user_namespace: spec.host_users == Some(false),
        ..SandboxConfig::default()
    })
}

/// The name of a kernel setting with dots between its parts, whichever way it is written
/// (`component-helpers/node/util/sysctl`, `NormalizeName`): what comes first is what separates.
fn sysctl_name(name: &str) -> String {
    let swapped = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    match name.find(['.', '/']) {
        Some(at) if name[at..].starts_with('/') => name.chars().map(swapped).collect(),
        _ => name.to_owned(),
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

/// What is resolved for one start of a container.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resolved {
    /// Its environment.
    pub env: Environment,
    /// Its volumes.
    pub mounts: Vec<Mount>,
    /// Host path of its termination message file.
    pub termination_file: PathBuf,
    /// Where its `Localhost` seccomp profile is.
    pub seccomp_root: PathBuf,
    /// Its devices, by their CDI names.
    pub cdi_devices: Vec<String>,
}

/// Name of a container's log in its pod's log directory.
pub(crate) fn log_path(container: &str, attempt: u32) -> PathBuf {
    Path::new(container).join(format!("{attempt}.log"))
}

/// Where a container may leave a last word.
fn message_path(container: &Container) -> Result<&str, String> {
    let path = container.termination_message_path.as_deref().filter(|path| !path.is_empty());
    match path.unwrap_or(crate::termination::DEFAULT_PATH) {
        path if path.starts_with('/') => Ok(path),
        path => Err(format!("terminationMessagePath {path:?} of container {:?} must be an absolute path", container.name)),
    }
}

/// The request for one container. An error is one sentence.
pub(crate) fn container(
    setup: &PodSetup,
    container: &Container,
    attempt: u32,
    resolved: Resolved,
) -> Result<ContainerConfig, String> {
    let security = security(&setup.pod, container, &resolved.seccomp_root)?;
    let message_path = message_path(container)?;
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
        cdi_devices: resolved.cdi_devices,
        ..ContainerConfig::default()
    })
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
