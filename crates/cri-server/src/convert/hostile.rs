//! Requests whose bytes were changed here and there: each is refused by a sentence that names a field, or what
//! becomes of it keeps to what the engine counts on.

use super::mount::Machine;
use super::{container, resources, sandbox};
use cofferdam_cri_api::v1::{self, security_profile::ProfileType};
use cofferdam_model::cri::{ContainerConfig, SandboxConfig};
use prost::Message;
use std::path::{Component, Path};

/// Requests that are tried, of each kind.
const ROUNDS: usize = 20_000;

/// Numbers that look random and are the same each time (Marsaglia's xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound.max(1)).unwrap_or(1)).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap_or(0)
    }

    /// Some bytes changed, left out or said twice.
    fn spoil(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            match self.below(16) {
                0 => {
                    bytes.remove(at);
                }
                1 => bytes.insert(at, self.byte()),
                2 => bytes.extend_from_within(at..),
                _ => {
                    let new = self.byte();
                    bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = new);
                }
            }
        }
        bytes
    }
}

fn some(value: i64) -> Option<v1::Int64Value> {
    Some(v1::Int64Value { value })
}

fn limits() -> v1::LinuxContainerResources {
    v1::LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 5000,
        cpu_shares: 2,
        memory_limit_in_bytes: 1 << 30,
        oom_score_adj: -998,
        cpuset_cpus: "0-1".into(),
        hugepage_limits: vec![v1::HugepageLimit {
            page_size: "2MB".into(),
            limit: 0,
        }],
        unified: [("memory.high".to_owned(), "max".to_owned())].into(),
        ..Default::default()
    }
}

fn options() -> v1::NamespaceOption {
    let ids = || v1::IdMapping {
        host_id: 65536,
        container_id: 0,
        length: 65536,
    };
    v1::NamespaceOption {
        pid: 1,
        userns_options: Some(v1::UserNamespace {
            mode: 0,
            uids: vec![ids()],
            gids: vec![ids()],
        }),
        ..Default::default()
    }
}

fn a_pod() -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: "p".into(),
            uid: "u".into(),
            namespace: "n".into(),
            attempt: 1,
        }),
        hostname: "h".into(),
        log_directory: "/var/log/pods/p".into(),
        dns_config: Some(v1::DnsConfig {
            servers: vec!["10.0.0.10".into()],
            ..Default::default()
        }),
        port_mappings: vec![v1::PortMapping {
            container_port: 80,
            host_port: 8080,
            host_ip: "127.0.0.1".into(),
            ..Default::default()
        }],
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: "/kubepods/p".into(),
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(options()),
                run_as_user: some(1),
                supplemental_groups: vec![2],
                ..Default::default()
            }),
            sysctls: [("net.ipv4.ip_forward".to_owned(), "1".to_owned())].into(),
            overhead: Some(limits()),
            resources: Some(limits()),
        }),
        ..Default::default()
    }
}

fn a_container() -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: "c".into(),
            attempt: 0,
        }),
        image: Some(v1::ImageSpec {
            image: "busybox".into(),
            ..Default::default()
        }),
        command: vec!["sh".into()],
        envs: vec![v1::KeyValue {
            key: "A".into(),
            value: b"b".to_vec(),
        }],
        mounts: vec![v1::Mount {
            container_path: "/c".into(),
            host_path: "/h/../h".into(),
            propagation: 1,
            ..Default::default()
        }],
        devices: vec![v1::Device {
            host_path: "/dev/fuse".into(),
            permissions: "rw".into(),
            ..Default::default()
        }],
        annotations: [("cdi.k8s.io/x".to_owned(), "v/c=1".to_owned())].into(),
        log_path: "c/0.log".into(),
        stop_signal: 10,
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(limits()),
            security_context: Some(v1::LinuxContainerSecurityContext {
                capabilities: Some(v1::Capability {
                    add_capabilities: vec!["NET_ADMIN".into()],
                    ..Default::default()
                }),
                namespace_options: Some(options()),
                run_as_user: some(1000),
                run_as_group: some(1000),
                seccomp: Some(v1::SecurityProfile {
                    profile_type: ProfileType::Localhost.into(),
                    localhost_ref: "/p.json".into(),
                }),
                apparmor_profile: "runtime/default".into(),
                ..Default::default()
            }),
        }),
        ..Default::default()
    }
}

fn plain(path: &Path) -> bool {
    path.is_absolute() && !path.components().any(|part| part == Component::ParentDir)
}

fn named(why: &str) {
    assert!(why.contains(": "), "{why:?} names no field");
}

fn check_pod(config: &SandboxConfig) {
    assert!(!config.name.is_empty());
    assert!(config.log_directory.as_os_str().is_empty() || config.log_directory.is_absolute());
    assert!(
        config
            .port_mappings
            .iter()
            .all(|port| port.host_port > 0 && port.container_port > 0)
    );
    assert!(config.served);
}

fn check_container(config: &ContainerConfig) {
    assert!(!config.name.is_empty() && !config.image.is_empty());
    assert!(
        config
            .log_path
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
    );
    assert!(config.mounts.iter().all(|mount| plain(&mount.container_path)));
    assert!(config.mounts.iter().all(|mount| mount.image.is_some() || plain(&mount.host_path)));
    assert!(
        config
            .devices
            .iter()
            .all(|device| plain(&device.host_path) && plain(&device.container_path))
    );
    assert!(
        config
            .env
            .iter()
            .all(|(key, value)| !key.is_empty() && !key.contains(['=', '\0']) && !value.contains('\0'))
    );
    let security = &config.security;
    let ids = [security.run_as_user, security.run_as_group]
        .into_iter()
        .flatten()
        .chain(security.supplemental_groups.iter().copied());
    assert!(ids.into_iter().all(|id| (0..i64::from(u32::MAX)).contains(&id)));
    assert!(config.stop_signal.is_none_or(|signal| (1..=64).contains(&signal)));
}

#[test]
fn a_pods_bytes_changed() {
    let (bytes, mut numbers, mut taken) = (a_pod().encode_to_vec(), Numbers(1), 0);
    for _ in 0..ROUNDS {
        let Ok(wire) = v1::PodSandboxConfig::decode(numbers.spoil(&bytes).as_slice()) else {
            continue;
        };
        match sandbox::sandbox(&wire, "machine") {
            Ok(config) => {
                check_pod(&config);
                taken += 1;
            }
            Err(why) => named(&why.0),
        }
    }
    assert!(taken > ROUNDS / 50, "{taken}: what is tried is too far from what is right");
}

#[test]
fn a_containers_bytes_changed() {
    let (mut wire, mut numbers, mut taken) = (a_container(), Numbers(2), 0);
    wire.mounts.iter_mut().for_each(|mount| mount.host_path = "/h".into());
    let (bytes, pod) = (wire.encode_to_vec(), sandbox::sandbox(&a_pod(), "machine").map_err(|why| why.0));
    let pod = pod.unwrap_or_else(|why| unreachable!("{why}"));
    for _ in 0..ROUNDS {
        let Ok(wire) = v1::ContainerConfig::decode(numbers.spoil(&bytes).as_slice()) else {
            continue;
        };
        if let Some(limits) = wire.linux.as_ref().and_then(|linux| linux.resources.as_ref()) {
            let _ = resources::change("linux", limits).map_err(|why| named(&why.0));
        }
        match container::container(&wire, &pod, Machine { selinux: true }) {
            Ok(config) => {
                check_container(&config);
                taken += 1;
            }
            Err(why) => named(&why.0),
        }
    }
    assert!(taken > ROUNDS / 50, "{taken}: what is tried is too far from what is right");
    // And one that is wrong as it stands.
    assert!(container::container(&a_container(), &pod, Machine::default()).is_err());
}
