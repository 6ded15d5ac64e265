//! What is known of sandboxes and containers, on the wire.

use super::{filter, mount, namespace, resources, signal};
use cofferdam_cri_api::v1;
use cofferdam_images::Image;
use cofferdam_model::cri::{ContainerStatus, SandboxConfig, SandboxStatus};

fn sandbox_metadata(config: &SandboxConfig) -> v1::PodSandboxMetadata {
    v1::PodSandboxMetadata {
        name: config.name.clone(),
        uid: config.uid.clone(),
        namespace: config.namespace.clone(),
        attempt: config.attempt,
    }
}

pub(crate) fn container_metadata(status: &ContainerStatus) -> v1::ContainerMetadata {
    v1::ContainerMetadata {
        name: status.config.name.clone(),
        attempt: status.config.attempt,
    }
}

/// A sandbox in a list.
pub(crate) fn listed_sandbox(status: SandboxStatus) -> v1::PodSandbox {
    v1::PodSandbox {
        id: status.id.to_string(),
        metadata: Some(sandbox_metadata(&status.config)),
        state: filter::sandbox_state(status.state).into(),
        created_at: status.created_at,
        labels: status.config.labels,
        annotations: status.config.annotations,
        runtime_handler: status.handler,
    }
}

/// Who a sandbox is, for its usage.
pub(crate) fn sandbox_attributes(status: &SandboxStatus) -> v1::PodSandboxAttributes {
    v1::PodSandboxAttributes {
        id: status.id.to_string(),
        metadata: Some(sandbox_metadata(&status.config)),
        labels: status.config.labels.clone(),
        annotations: status.config.annotations.clone(),
    }
}

/// Who a container is, for its usage.
pub(crate) fn container_attributes(status: &ContainerStatus) -> v1::ContainerAttributes {
    v1::ContainerAttributes {
        id: status.id.to_string(),
        metadata: Some(container_metadata(status)),
        labels: status.config.labels.clone(),
        annotations: status.config.annotations.clone(),
    }
}

/// A sandbox, whole.
pub(crate) fn sandbox(status: &SandboxStatus) -> v1::PodSandboxStatus {
    let ready = status.state == cofferdam_model::cri::SandboxState::Ready;
    // The address of a pod that was stopped may be another's by now.
    let mut ips = status.ips.iter().filter(|_| ready).map(ToString::to_string);
    v1::PodSandboxStatus {
        id: status.id.to_string(),
        metadata: Some(sandbox_metadata(&status.config)),
        state: filter::sandbox_state(status.state).into(),
        created_at: status.created_at,
        network: Some(v1::PodSandboxNetworkStatus {
            ip: ips.next().unwrap_or_default(),
            additional_ips: ips.map(|ip| v1::PodIp { ip }).collect(),
        }),
        linux: Some(v1::LinuxPodSandboxStatus {
            namespaces: Some(v1::Namespace {
                options: Some(namespace::to_wire(&status.config)),
            }),
        }),
        labels: status.config.labels.clone(),
        annotations: status.config.annotations.clone(),
        runtime_handler: status.handler.clone(),
    }
}

/// A container in a list. A kubelet takes `image_ref` for the image in use: its id.
pub(crate) fn listed_container(status: ContainerStatus) -> v1::Container {
    v1::Container {
        id: status.id.to_string(),
        pod_sandbox_id: status.pod.to_string(),
        metadata: Some(container_metadata(&status)),
        image: Some(v1::ImageSpec {
            user_specified_image: user_image(&status),
            image: status.config.image,
            ..Default::default()
        }),
        image_ref: status.image_id.clone(),
        state: filter::container_state(status.state).into(),
        created_at: status.created_at,
        labels: status.config.labels,
        annotations: status.config.annotations,
        image_id: status.image_id,
    }
}

fn user_image(status: &ContainerStatus) -> String {
    if status.config.user_image.is_empty() {
        status.config.image.clone()
    } else {
        status.config.user_image.clone()
    }
}

/// A container, whole. `image` is its image, where it is still there; `user` who its process is, where
/// that can be told; `pod` its sandbox's request.
pub(crate) fn container(
    status: &ContainerStatus,
    pod: &SandboxConfig,
    image: Option<&Image>,
    user: Option<v1::LinuxContainerUser>,
) -> v1::ContainerStatus {
    // As containerd has it: the image's first name, and the first digest that a registry knows it by.
    let name = image
        .and_then(|i| i.names.first().or(i.repo_digests.first()).cloned())
        .unwrap_or_else(|| status.config.image.clone());
    let reference = image
        .and_then(|i| i.repo_digests.first().cloned())
        .unwrap_or_else(|| status.image_id.clone());
    let stop_signal = status
        .config
        .stop_signal
        .unwrap_or_else(|| signal::of_image(image.map_or("", |i| i.config.stop_signal.as_str())));
    let log = &status.config.log_path;
    v1::ContainerStatus {
        id: status.id.to_string(),
        metadata: Some(container_metadata(status)),
        state: filter::container_state(status.state).into(),
        created_at: status.created_at,
        started_at: status.started_at,
        finished_at: status.finished_at,
        exit_code: status.exit_code,
        image: Some(v1::ImageSpec {
            image: name,
            user_specified_image: user_image(status),
            ..Default::default()
        }),
        image_ref: reference,
        reason: status.reason.clone(),
        message: status.message.clone(),
        labels: status.config.labels.clone(),
        annotations: status.config.annotations.clone(),
        mounts: status.config.mounts.iter().map(mount::to_wire).collect(),
        log_path: if log.as_os_str().is_empty() {
            String::new()
        } else {
            pod.log_directory.join(log).to_string_lossy().into_owned()
        },
        resources: Some(v1::ContainerResources {
            linux: Some(resources::to_wire(&status.config.resources)),
            windows: None,
        }),
        image_id: status.image_id.clone(),
        user: user.map(|linux| v1::ContainerUser { linux: Some(linux) }),
        stop_signal: signal::signal(stop_signal).into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use cofferdam_model::cri::{ContainerConfig, ContainerState, SandboxState};
    use cofferdam_model::{ContainerId, PodId};

    #[test]
    fn a_sandbox_shows_its_addresses_while_it_is_ready() {
        let mut status = SandboxStatus {
            id: PodId::from_bytes([1; 16]),
            config: SandboxConfig {
                name: "n".into(),
                attempt: 3,
                ..SandboxConfig::default()
            },
            handler: "crun".into(),
            state: SandboxState::Ready,
            reason: None,
            created_at: 7,
            ip: None,
            ips: vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            stages: vec![],
        };
        let wire = sandbox(&status);
        let network = wire.network.unwrap();
        assert_eq!(
            (network.ip.as_str(), network.additional_ips[0].ip.as_str()),
            ("10.0.0.2", "fd00::2")
        );
        assert_eq!((wire.state, wire.created_at, wire.metadata.unwrap().attempt), (0, 7, 3));
        assert_eq!(wire.runtime_handler, "crun");
        status.state = SandboxState::NotReady;
        let wire = sandbox(&status);
        assert_eq!((wire.state, wire.network.unwrap().ip.as_str()), (1, ""));
    }

    #[test]
    fn a_container_shows_the_image_as_the_pod_names_it() {
        let mut status = ContainerStatus {
            id: ContainerId::from_bytes([1; 16]),
            pod: PodId::from_bytes([2; 16]),
            config: ContainerConfig {
                image: "sha256:a".into(),
                user_image: "busybox".into(),
                log_path: "c/0.log".into(),
                stop_signal: Some(10),
                ..ContainerConfig::default()
            },
            image_id: "sha256:a".into(),
            state: ContainerState::Exited,
            created_at: 1,
            started_at: 2,
            finished_at: 3,
            exit_code: 137,
            reason: "OOMKilled".into(),
            message: String::new(),
            pid: None,
            stages: vec![],
        };
        let pod = SandboxConfig {
            log_directory: "/logs/p".into(),
            ..SandboxConfig::default()
        };
        let wire = container(&status, &pod, None, None);
        assert_eq!(wire.image.unwrap().user_specified_image, "busybox");
        assert_eq!((wire.image_ref.as_str(), wire.log_path.as_str()), ("sha256:a", "/logs/p/c/0.log"));
        assert_eq!((wire.state, wire.exit_code, wire.stop_signal), (2, 137, v1::Signal::Sigusr1.into()));
        status.config.user_image = String::new();
        assert_eq!(listed_container(status).image.unwrap().user_specified_image, "sha256:a");
    }
}
