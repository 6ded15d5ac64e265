//! Namespaces: whose they are, and the ids of a user namespace.

use super::{Result, Wrong};
use cofferdam_cri_api::v1::{self, NamespaceMode as Wire};
use cofferdam_model::ContainerId;
use cofferdam_model::cri::{IdMapping, NamespaceMode, SandboxConfig};

/// A mode that a message may have, by its number.
fn mode(field: &str, value: i32) -> Result<Wire> {
    Wire::try_from(value).map_err(|_| Wrong::new(field, format_args!("there is no namespace mode {value}")))
}

/// Network and IPC of a sandbox: shared by its containers, or the machine's.
fn shared(field: &str, value: i32) -> Result<NamespaceMode> {
    match mode(field, value)? {
        Wire::Pod => Ok(NamespaceMode::Pod),
        Wire::Node => Ok(NamespaceMode::Node),
        other => Err(Wrong::new(field, format_args!("{} is none of POD and NODE", other.as_str_name()))),
    }
}

/// A sandbox's options, written into `config`.
pub(crate) fn of_sandbox(field: &str, wire: &v1::NamespaceOption, config: &mut SandboxConfig) -> Result<()> {
    config.network = shared(&format!("{field}.network"), wire.network)?;
    config.ipc = shared(&format!("{field}.ipc"), wire.ipc)?;
    let pid = format!("{field}.pid");
    config.pid = match mode(&pid, wire.pid)? {
        Wire::Pod => NamespaceMode::Pod,
        Wire::Container => NamespaceMode::Container,
        Wire::Node => NamespaceMode::Node,
        Wire::Target => return Err(Wrong::new(&pid, "a sandbox has no container to share with")),
    };
    if let Some(user) = &wire.userns_options {
        config.ids = user_namespace(&format!("{field}.userns_options"), user)?;
        config.user_namespace = config.ids.is_some();
    }
    Ok(())
}

/// The ids of a pod's user namespace; `None` for the machine's own.
fn user_namespace(field: &str, wire: &v1::UserNamespace) -> Result<Option<IdMapping>> {
    match mode(field, wire.mode)? {
        Wire::Node if wire.uids.is_empty() && wire.gids.is_empty() => Ok(None),
        Wire::Node => Err(Wrong::new(field, "the machine's user namespace (NODE) takes no mappings")),
        Wire::Pod => {
            let (uids, gids) = (
                ids(&format!("{field}.uids"), &wire.uids)?,
                ids(&format!("{field}.gids"), &wire.gids)?,
            );
            if uids != gids {
                return Err(Wrong::new(
                    field,
                    "users and groups are mapped differently, which no handler can do",
                ));
            }
            Ok(Some(uids))
        }
        other => Err(Wrong::new(
            field,
            format_args!("mode {} is none of POD and NODE", other.as_str_name()),
        )),
    }
}

/// One range from 0 on, which is what kubelets send and containerd takes.
pub(crate) fn ids(field: &str, wire: &[v1::IdMapping]) -> Result<IdMapping> {
    let [one] = wire else {
        return Err(Wrong::new(
            field,
            format_args!("{} mappings are given where one is needed", wire.len()),
        ));
    };
    if one.container_id != 0 || one.length == 0 {
        return Err(Wrong::new(field, "the mapping must begin at container id 0 and have a length"));
    }
    if one.host_id.checked_add(one.length).is_none() {
        return Err(Wrong::new(field, "the mapping ends beyond the last id"));
    }
    Ok(IdMapping {
        host_id: one.host_id,
        length: one.length,
    })
}

/// Checks a container's options against its sandbox's; the container whose processes it is to see, if
/// any. POD means the sandbox's own, whichever they are.
pub(crate) fn of_container(field: &str, wire: &v1::NamespaceOption, pod: &SandboxConfig) -> Result<Option<ContainerId>> {
    let differs = |name: &str| Wrong::new(&format!("{field}.{name}"), "it is another than the sandbox's");
    for (name, value, own) in [("network", wire.network, pod.network), ("ipc", wire.ipc, pod.ipc)] {
        if shared(&format!("{field}.{name}"), value)? == NamespaceMode::Node && own != NamespaceMode::Node {
            return Err(differs(name));
        }
    }
    if let Some(user) = &wire.userns_options {
        let asked = user_namespace(&format!("{field}.userns_options"), user)?;
        if asked.is_some() && asked != pod.ids || asked.is_none() && pod.user_namespace {
            return Err(differs("userns_options"));
        }
    }
    match (mode(&format!("{field}.pid"), wire.pid)?, pod.pid) {
        (Wire::Target, _) => {
            let id = ContainerId::new(wire.target_id.clone()).map_err(|e| Wrong::new(&format!("{field}.target_id"), e))?;
            Ok(Some(id))
        }
        (Wire::Node, NamespaceMode::Node) | (Wire::Container, NamespaceMode::Container) | (Wire::Pod, _) => Ok(None),
        _ => Err(differs("pid")),
    }
}

/// Back to the wire.
pub(crate) fn to_wire(config: &SandboxConfig) -> v1::NamespaceOption {
    let mode = |mode: NamespaceMode| -> i32 {
        match mode {
            NamespaceMode::Pod => Wire::Pod,
            NamespaceMode::Container => Wire::Container,
            NamespaceMode::Node => Wire::Node,
        }
        .into()
    };
    let mappings = |ids: IdMapping| {
        vec![v1::IdMapping {
            host_id: ids.host_id,
            container_id: 0,
            length: ids.length,
        }]
    };
    let user = config.ids.map(|ids| v1::UserNamespace {
        mode: Wire::Pod.into(),
        uids: mappings(ids),
        gids: mappings(ids),
    });
    v1::NamespaceOption {
        network: mode(config.network),
        pid: mode(config.pid),
        ipc: mode(config.ipc),
        target_id: String::new(),
        userns_options: user,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn option(network: Wire, pid: Wire, ipc: Wire) -> v1::NamespaceOption {
        v1::NamespaceOption {
            network: network.into(),
            pid: pid.into(),
            ipc: ipc.into(),
            ..Default::default()
        }
    }

    fn mapping(host_id: u32, container_id: u32, length: u32) -> v1::IdMapping {
        v1::IdMapping {
            host_id,
            container_id,
            length,
        }
    }

    fn user(mode: Wire, uids: Vec<v1::IdMapping>, gids: Vec<v1::IdMapping>) -> v1::NamespaceOption {
        let user = v1::UserNamespace {
            mode: mode.into(),
            uids,
            gids,
        };
        v1::NamespaceOption {
            userns_options: Some(user),
            ..Default::default()
        }
    }

    #[test]
    fn what_a_sandbox_asks_for_comes_back() {
        for wire in [
            option(Wire::Pod, Wire::Container, Wire::Pod),
            option(Wire::Node, Wire::Node, Wire::Node),
            option(Wire::Pod, Wire::Pod, Wire::Node),
            user(Wire::Pod, vec![mapping(65536, 0, 65536)], vec![mapping(65536, 0, 65536)]),
        ] {
            let mut config = SandboxConfig::default();
            of_sandbox("n", &wire, &mut config).unwrap();
            assert_eq!(to_wire(&config), wire);
            assert_eq!(config.user_namespace, wire.userns_options.is_some());
        }
    }

    #[test]
    fn what_a_sandbox_cannot_have_is_refused() {
        let one = || vec![mapping(65536, 0, 65536)];
        for (wire, field) in [
            (option(Wire::Container, Wire::Pod, Wire::Pod), "n.network: "),
            (option(Wire::Pod, Wire::Target, Wire::Pod), "n.pid: "),
            (option(Wire::Pod, Wire::Pod, Wire::Target), "n.ipc: "),
            (
                v1::NamespaceOption {
                    pid: 9,
                    ..Default::default()
                },
                "n.pid: there is no",
            ),
            (user(Wire::Container, one(), one()), "n.userns_options: "),
            (user(Wire::Target, one(), one()), "n.userns_options: "),
            (user(Wire::Node, one(), one()), "n.userns_options: "),
            (user(Wire::Pod, vec![], vec![]), "n.userns_options.uids: "),
            (
                user(Wire::Pod, one(), vec![mapping(1, 0, 65536)]),
                "n.userns_options: users and groups",
            ),
            (user(Wire::Pod, [one(), one()].concat(), one()), "n.userns_options.uids: 2 mappings"),
            (user(Wire::Pod, vec![mapping(1, 1, 1)], one()), "n.userns_options.uids: "),
            (user(Wire::Pod, vec![mapping(1, 0, u32::MAX)], one()), "n.userns_options.uids: "),
        ] {
            let why = of_sandbox("n", &wire, &mut SandboxConfig::default()).unwrap_err().0;
            assert!(why.starts_with(field), "{why}");
        }
    }

    #[test]
    fn a_container_has_its_sandboxes_namespaces() {
        let pod = |network, pid| SandboxConfig {
            network,
            pid,
            ..SandboxConfig::default()
        };
        use NamespaceMode::{Container, Node, Pod};
        for (pod, wire, fits) in [
            (pod(Pod, Pod), option(Wire::Pod, Wire::Pod, Wire::Pod), true),
            (pod(Node, Node), option(Wire::Node, Wire::Node, Wire::Pod), true),
            (pod(Node, Node), option(Wire::Pod, Wire::Pod, Wire::Pod), true),
            (pod(Pod, Container), option(Wire::Pod, Wire::Container, Wire::Pod), true),
            (pod(Pod, Pod), option(Wire::Node, Wire::Pod, Wire::Pod), false),
            (pod(Pod, Pod), option(Wire::Pod, Wire::Node, Wire::Pod), false),
            (pod(Pod, Pod), option(Wire::Pod, Wire::Container, Wire::Pod), false),
            (pod(Pod, Pod), option(Wire::Pod, Wire::Pod, Wire::Node), false),
            (
                pod(Pod, Pod),
                user(Wire::Pod, vec![mapping(1, 0, 9)], vec![mapping(1, 0, 9)]),
                false,
            ),
        ] {
            assert_eq!(of_container("n", &wire, &pod).is_ok(), fits, "{pod:?} {wire:?}");
        }
        let id = "0123456789abcdef0123456789abcdef";
        let target = |id: &str| v1::NamespaceOption {
            target_id: id.into(),
            ..option(Wire::Pod, Wire::Target, Wire::Pod)
        };
        assert_eq!(of_container("n", &target(id), &pod(Pod, Container)).unwrap().unwrap().as_str(), id);
        assert!(of_container("n", &target("x"), &pod(Pod, Container)).is_err());
    }
}
