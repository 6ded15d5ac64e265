//! A sandbox's request.

use super::{Result, Wrong, namespace, refuse, resources, security};
use cofferdam_cri_api::v1;
use cofferdam_model::cri::{Dns, LinuxResources, PortMapping, SandboxConfig};
use std::path::PathBuf;

/// A sandbox's request as the model has it. `host_name` is the machine's, which a pod without one gets,
/// as under containerd.
pub(crate) fn sandbox(wire: &v1::PodSandboxConfig, host_name: &str) -> Result<SandboxConfig> {
    let Some(metadata) = &wire.metadata else {
        return Err(Wrong::new("config.metadata", "it is missing"));
    };
    refuse(metadata.name.is_empty(), "config.metadata.name", "it is empty")?;
    refuse(wire.windows.is_some(), "config.windows", "this runtime is for Linux")?;
    let relative = !wire.log_directory.is_empty() && !wire.log_directory.starts_with('/');
    refuse(relative, "config.log_directory", "it is not an absolute path")?;
    let mut config = SandboxConfig {
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        uid: metadata.uid.clone(),
        attempt: metadata.attempt,
        hostname: if wire.hostname.is_empty() {
            host_name.to_owned()
        } else {
            wire.hostname.clone()
        },
        log_directory: PathBuf::from(&wire.log_directory),
        dns: wire.dns_config.as_ref().and_then(dns),
        labels: wire.labels.clone(),
        annotations: wire.annotations.clone(),
        port_mappings: ports(&wire.port_mappings)?,
        served: true,
        ..SandboxConfig::default()
    };
    if let Some(linux) = &wire.linux {
        of_linux(linux, &mut config)?;
    }
    Ok(config)
}

fn of_linux(wire: &v1::LinuxPodSandboxConfig, config: &mut SandboxConfig) -> Result<()> {
    config.cgroup_parent = PathBuf::from(&wire.cgroup_parent);
    config.sysctls = wire.sysctls.clone();
    let (overhead, all) = pod_limits(
        &config.cgroup_parent,
        "config.linux",
        wire.overhead.as_ref(),
        wire.resources.as_ref(),
    )?;
    (config.overhead, config.resources) = (overhead, all);
    let Some(security) = &wire.security_context else { return Ok(()) };
    let at = |name: &str| format!("config.linux.security_context.{name}");
    if let Some(options) = &security.namespace_options {
        namespace::of_sandbox(&at("namespace_options"), options, config)?;
    }
    // User, profiles and the rest are those of a pause container, which no pod here has: each container
    // brings its own. They are checked, so that a mistake shows, and confine nothing.
    let user = security::id(&at("run_as_user"), security.run_as_user.as_ref())?;
    let group = security::id(&at("run_as_group"), security.run_as_group.as_ref())?;
    refuse(
        group.is_some() && user.is_none(),
        &at("run_as_group"),
        "it is set without run_as_user",
    )?;
    security::groups(&at("supplemental_groups"), &security.supplemental_groups).map(drop)
}

/// Limits of a pod's cgroup: overhead, and all. Where a kubelet names the parent, its own cgroup around ours
/// holds the pod's limits; what it sends as `resources` is the sum of those containers that have limits,
/// which would hold the others to them too.
pub(crate) fn pod_limits(
    parent: &std::path::Path,
    field: &str,
    overhead: Option<&v1::LinuxContainerResources>,
    all: Option<&v1::LinuxContainerResources>,
) -> Result<(LinuxResources, LinuxResources)> {
    let of = |name: &str, wire: Option<&v1::LinuxContainerResources>| {
        wire.map_or(Ok(LinuxResources::default()), |w| resources::change(&format!("{field}.{name}"), w))
    };
    let (overhead, resources) = (of("overhead", overhead)?, of("resources", all)?);
    if !parent.as_os_str().is_empty() {
        return Ok((overhead, LinuxResources::default()));
    }
    let none = overhead == LinuxResources::default();
    let all = if none { resources } else { resources::sum(&overhead, &resources) };
    Ok((overhead, all))
}

/// `None` where nothing is asked for: then the machine's resolver is taken, as under containerd.
fn dns(wire: &v1::DnsConfig) -> Option<Dns> {
    let dns = Dns {
        servers: wire.servers.clone(),
        searches: wire.searches.clone(),
        options: wire.options.clone(),
    };
    (dns != Dns::default()).then_some(dns)
}

fn ports(wire: &[v1::PortMapping]) -> Result<Vec<PortMapping>> {
    let mut all = Vec::new();
    for (number, mapping) in wire.iter().enumerate() {
        // Every port that a container declares is told; those without a port of the machine lead nowhere.
        if mapping.host_port <= 0 {
            continue;
        }
        let at = |name: &str| format!("config.port_mappings[{number}].{name}");
        let port = |name: &str, value: i32| match u16::try_from(value) {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(Wrong::new(&at(name), format_args!("{value} is no port"))),
        };
        let protocol = v1::Protocol::try_from(mapping.protocol)
            .map_err(|_| Wrong::new(&at("protocol"), format_args!("there is no protocol {}", mapping.protocol)))?;
        let host_ip = match mapping.host_ip.as_str() {
            "" => None,
            text => Some(
                text.parse()
                    .map_err(|_| Wrong::new(&at("host_ip"), format_args!("{text:?} is no address")))?,
            ),
        };
        all.push(PortMapping {
            protocol: protocol.as_str_name().to_owned(),
            container_port: port("container_port", mapping.container_port)?,
            host_port: port("host_port", mapping.host_port)?,
            host_ip,
        });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn base() -> v1::PodSandboxConfig {
        let metadata = v1::PodSandboxMetadata {
            name: "web".into(),
            uid: "u".into(),
            namespace: "default".into(),
            attempt: 2,
        };
        v1::PodSandboxConfig {
            metadata: Some(metadata),
            log_directory: "/var/log/pods/x".into(),
            ..Default::default()
        }
    }

    fn limit(memory: i64) -> Option<v1::LinuxContainerResources> {
        Some(v1::LinuxContainerResources {
            memory_limit_in_bytes: memory,
            ..Default::default()
        })
    }

    fn linux(change: impl FnOnce(&mut v1::LinuxPodSandboxConfig)) -> v1::PodSandboxConfig {
        let mut linux = v1::LinuxPodSandboxConfig::default();
        change(&mut linux);
        v1::PodSandboxConfig {
            linux: Some(linux),
            ..base()
        }
    }

    fn security(change: impl FnOnce(&mut v1::LinuxSandboxSecurityContext)) -> v1::PodSandboxConfig {
        let mut security = v1::LinuxSandboxSecurityContext::default();
        change(&mut security);
        linux(|l| l.security_context = Some(security))
    }

    #[test]
    fn a_request_is_taken_over() {
        let mapping = |host_port, protocol| v1::PortMapping {
            protocol,
            container_port: 80,
            host_port,
            host_ip: "127.0.0.1".into(),
        };
        let wire = v1::PodSandboxConfig {
            dns_config: Some(v1::DnsConfig {
                servers: vec!["10.0.0.10".into()],
                ..Default::default()
            }),
            port_mappings: vec![mapping(0, 0), mapping(8080, 1)],
            ..linux(|l| {
                l.sysctls = [("net.core.somaxconn".to_owned(), "9".to_owned())].into();
            })
        };
        let config = sandbox(&wire, "machine").unwrap();
        assert_eq!(
            (config.name.as_str(), config.attempt, config.hostname.as_str()),
            ("web", 2, "machine")
        );
        assert_eq!(config.dns.unwrap().servers, ["10.0.0.10"]);
        let [port] = &config.port_mappings[..] else { unreachable!() };
        assert_eq!((port.protocol.as_str(), port.host_port, port.container_port), ("UDP", 8080, 80));
        assert_eq!(config.sysctls.len(), 1);
        assert_eq!(
            sandbox(
                &v1::PodSandboxConfig {
                    dns_config: Some(v1::DnsConfig::default()),
                    ..base()
                },
                ""
            )
            .unwrap()
            .dns,
            None
        );
    }

    #[test]
    fn limits_are_the_kubelets_where_it_has_a_cgroup_and_ours_where_not() {
        let own = linux(|l| (l.overhead, l.resources) = (limit(10), limit(7)));
        let config = sandbox(&own, "").unwrap();
        assert_eq!((config.overhead.memory_limit, config.resources.memory_limit), (10, 17));
        let within = linux(|l| (l.overhead, l.resources, l.cgroup_parent) = (limit(10), limit(7), "/kubepods/podx".into()));
        let config = sandbox(&within, "").unwrap();
        assert_eq!((config.overhead.memory_limit, config.resources.memory_limit), (10, 0));
        assert_eq!(config.cgroup_parent.to_str(), Some("/kubepods/podx"));
    }

    #[test]
    fn what_a_sandbox_cannot_be_is_refused() {
        let port = |container_port, host_port, protocol, host_ip: &str| v1::PodSandboxConfig {
            port_mappings: vec![v1::PortMapping {
                protocol,
                container_port,
                host_port,
                host_ip: host_ip.into(),
            }],
            ..base()
        };
        for (wire, field) in [
            (v1::PodSandboxConfig::default(), "config.metadata: "),
            (
                v1::PodSandboxConfig {
                    metadata: Some(Default::default()),
                    ..base()
                },
                "config.metadata.name: ",
            ),
            (
                v1::PodSandboxConfig {
                    windows: Some(Default::default()),
                    ..base()
                },
                "config.windows: ",
            ),
            (
                v1::PodSandboxConfig {
                    log_directory: "logs".into(),
                    ..base()
                },
                "config.log_directory: ",
            ),
            (port(80, 70000, 0, ""), "config.port_mappings[0].host_port: "),
            (port(0, 80, 0, ""), "config.port_mappings[0].container_port: "),
            (port(80, 80, 9, ""), "config.port_mappings[0].protocol: "),
            (port(80, 80, 0, "x"), "config.port_mappings[0].host_ip: "),
            (
                security(|s| s.run_as_group = Some(v1::Int64Value { value: 1 })),
                "config.linux.security_context.run_as_group: ",
            ),
            (
                security(|s| s.run_as_user = Some(v1::Int64Value { value: -1 })),
                "config.linux.security_context.run_as_user: ",
            ),
            (
                security(|s| {
                    s.namespace_options = Some(v1::NamespaceOption {
                        network: 3,
                        ..Default::default()
                    })
                }),
                "config.linux.security_context.namespace_options.network: ",
            ),
            (
                linux(|l| {
                    l.overhead = Some(v1::LinuxContainerResources {
                        cpu_shares: -1,
                        ..Default::default()
                    })
                }),
                "config.linux.overhead.cpu_shares: ",
            ),
        ] {
            let why = sandbox(&wire, "m").unwrap_err().0;
            assert!(why.starts_with(field), "{why}");
        }
    }
}
