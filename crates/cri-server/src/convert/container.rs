//! A container's request.

use super::mount::{self, Machine};
use super::{Result, Wrong, namespace, refuse, resources, security, signal};
use cofferdam_cri_api::v1;
use cofferdam_model::cri::{ContainerConfig, SandboxConfig};
use std::path::{Component, Path};

/// Annotations that name CDI devices, from before CRI had a field for them (CDI specification, "Kubernetes").
const CDI_PREFIX: &str = "cdi.k8s.io/";

/// A container's request as the model has it. `pod` is its sandbox's.
pub(crate) fn container(wire: &v1::ContainerConfig, pod: &SandboxConfig, machine: Machine) -> Result<ContainerConfig> {
    let Some(metadata) = &wire.metadata else {
        return Err(Wrong::new("config.metadata", "it is missing"));
    };
    refuse(metadata.name.is_empty(), "config.metadata.name", "it is empty")?;
    refuse(wire.windows.is_some(), "config.windows", "this runtime is for Linux")?;
    let image = wire.image.as_ref().filter(|image| !image.image.is_empty());
    let Some(image) = image else {
        return Err(Wrong::new("config.image.image", "it is empty"));
    };
    let mounts = wire
        .mounts
        .iter()
        .enumerate()
        .map(|(n, m)| mount::mount(&format!("config.mounts[{n}]"), m, pod, machine));
    let devices = wire
        .devices
        .iter()
        .enumerate()
        .map(|(n, d)| mount::device(&format!("config.devices[{n}]"), d));
    let mut config = ContainerConfig {
        name: metadata.name.clone(),
        attempt: metadata.attempt,
        image: image.image.clone(),
        user_image: image.user_specified_image.clone(),
        command: wire.command.clone(),
        args: wire.args.clone(),
        working_dir: wire.working_dir.clone(),
        env: env(&wire.envs)?,
        mounts: mounts.collect::<Result<_>>()?,
        devices: devices.collect::<Result<_>>()?,
        cdi_devices: cdi(wire)?,
        labels: wire.labels.clone(),
        annotations: wire.annotations.clone(),
        log_path: log_path(&wire.log_path, pod)?,
        stdin: wire.stdin,
        stdin_once: wire.stdin_once,
        tty: wire.tty,
        stop_signal: signal::number("config.stop_signal", wire.stop_signal)?,
        ..ContainerConfig::default()
    };
    let Some(linux) = &wire.linux else { return Ok(config) };
    if let Some(limits) = &linux.resources {
        config.resources = resources::linux("config.linux.resources", limits)?;
    }
    if let Some(context) = &linux.security_context {
        config.security = security::of_container("config.linux.security_context", context)?;
        if let Some(options) = &context.namespace_options {
            config.pid_of = namespace::of_container("config.linux.security_context.namespace_options", options, pod)?;
        }
    }
    Ok(config)
}

fn env(wire: &[v1::KeyValue]) -> Result<Vec<(String, String)>> {
    let one = |(number, pair): (usize, &v1::KeyValue)| {
        let at = |name: &str| format!("config.envs[{number}].{name}");
        refuse(
            pair.key.is_empty() || pair.key.contains(['=', '\0']),
            &at("key"),
            "it is empty or has a '=' in it",
        )?;
        match String::from_utf8(pair.value.clone()) {
            Ok(value) if !value.contains('\0') => Ok((pair.key.clone(), value)),
            _ => Err(Wrong::new(
                &at("value"),
                format_args!("the value of {} is not UTF-8 text", pair.key),
            )),
        }
    };
    wire.iter().enumerate().map(one).collect()
}

/// Of the field and of annotations, each once: a kubelet sends both.
fn cdi(wire: &v1::ContainerConfig) -> Result<Vec<String>> {
    let mut all: Vec<String> = wire.cdi_devices.iter().map(|d| d.name.clone()).collect();
    let annotated = wire.annotations.iter().filter(|(key, _)| key.starts_with(CDI_PREFIX));
    for name in annotated.flat_map(|(_, value)| value.split(',')) {
        if !all.iter().any(|known| known == name) {
            all.push(name.to_owned());
        }
    }
    refuse(all.iter().any(String::is_empty), "config.CDI_devices", "a device has no name")?;
    Ok(all)
}

/// A log within the pod's directory: who asks for a container does not write elsewhere.
fn log_path(text: &str, pod: &SandboxConfig) -> Result<std::path::PathBuf> {
    let path = Path::new(text);
    let inside = path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    refuse(!inside, "config.log_path", "it is not a relative path without \"..\"")?;
    // containerd writes no log without a directory either.
    Ok(if pod.log_directory.as_os_str().is_empty() {
        Default::default()
    } else {
        path.to_owned()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn base() -> v1::ContainerConfig {
        v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata {
                name: "c".into(),
                attempt: 1,
            }),
            image: Some(v1::ImageSpec {
                image: "sha256:abc".into(),
                user_specified_image: "busybox".into(),
                ..Default::default()
            }),
            log_path: "c/1.log".into(),
            ..Default::default()
        }
    }

    fn pod() -> SandboxConfig {
        SandboxConfig {
            log_directory: "/logs".into(),
            ..SandboxConfig::default()
        }
    }

    fn env(key: &str, value: &[u8]) -> Vec<v1::KeyValue> {
        vec![v1::KeyValue {
            key: key.into(),
            value: value.to_vec(),
        }]
    }

    #[test]
    fn a_request_is_taken_over() {
        let wire = v1::ContainerConfig {
            envs: env("A", b"b=c"),
            annotations: [("cdi.k8s.io/x".to_owned(), "v/c=1,v/c=2".to_owned())].into(),
            cdi_devices: vec![v1::CdiDevice { name: "v/c=1".into() }],
            stop_signal: v1::Signal::Sigusr1.into(),
            tty: true,
            linux: Some(v1::LinuxContainerConfig {
                resources: Some(v1::LinuxContainerResources {
                    oom_score_adj: 999,
                    ..Default::default()
                }),
                security_context: Some(v1::LinuxContainerSecurityContext {
                    privileged: true,
                    ..Default::default()
                }),
            }),
            ..base()
        };
        let config = container(&wire, &pod(), Machine::default()).unwrap();
        assert_eq!(
            (config.image.as_str(), config.user_image.as_str(), config.attempt),
            ("sha256:abc", "busybox", 1)
        );
        assert_eq!(config.env, [("A".to_owned(), "b=c".to_owned())]);
        assert_eq!(config.cdi_devices, ["v/c=1", "v/c=2"]);
        assert_eq!((config.stop_signal, config.resources.oom_score_adj), (Some(10), Some(999)));
        assert!(config.security.privileged && config.tty);
        assert_eq!(config.log_path, Path::new("c/1.log"));
        assert_eq!(
            container(&base(), &SandboxConfig::default(), Machine::default()).unwrap().log_path,
            Path::new("")
        );
    }

    #[test]
    fn what_a_container_cannot_be_is_refused() {
        for (wire, field) in [
            (v1::ContainerConfig { metadata: None, ..base() }, "config.metadata: "),
            (
                v1::ContainerConfig {
                    metadata: Some(Default::default()),
                    ..base()
                },
                "config.metadata.name: ",
            ),
            (v1::ContainerConfig { image: None, ..base() }, "config.image.image: "),
            (
                v1::ContainerConfig {
                    windows: Some(Default::default()),
                    ..base()
                },
                "config.windows: ",
            ),
            (
                v1::ContainerConfig {
                    log_path: "../x".into(),
                    ..base()
                },
                "config.log_path: ",
            ),
            (
                v1::ContainerConfig {
                    log_path: "/x".into(),
                    ..base()
                },
                "config.log_path: ",
            ),
            (
                v1::ContainerConfig {
                    envs: env("", b""),
                    ..base()
                },
                "config.envs[0].key: ",
            ),
            (
                v1::ContainerConfig {
                    envs: env("A=B", b""),
                    ..base()
                },
                "config.envs[0].key: ",
            ),
            (
                v1::ContainerConfig {
                    envs: env("A", b"\xff"),
                    ..base()
                },
                "config.envs[0].value: ",
            ),
            (v1::ContainerConfig { stop_signal: 99, ..base() }, "config.stop_signal: "),
            (
                v1::ContainerConfig {
                    mounts: vec![v1::Mount::default()],
                    ..base()
                },
                "config.mounts[0].container_path: ",
            ),
            (
                v1::ContainerConfig {
                    devices: vec![v1::Device::default()],
                    ..base()
                },
                "config.devices[0].host_path: ",
            ),
            (
                v1::ContainerConfig {
                    cdi_devices: vec![v1::CdiDevice::default()],
                    ..base()
                },
                "config.CDI_devices: ",
            ),
        ] {
            let why = container(&wire, &pod(), Machine::default()).unwrap_err().0;
            assert!(why.starts_with(field), "{why}");
        }
    }
}
