//! Ports of the node that pods take (`HostPortInfo` of `k8s.io/kube-scheduler/framework`).

use crate::resources::is_sidecar;
use cofferdam_model::pod::{Container, Pod};

const EVERY_ADDRESS: &str = "0.0.0.0";

/// A port of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct HostPort {
    address: String,
    protocol: String,
    port: i32,
}

impl HostPort {
    /// Whether not both can be had: the same port and protocol, on the same address or where one
    /// of them takes every address.
    fn conflicts(&self, other: &Self) -> bool {
        let every = |p: &Self| p.address == EVERY_ADDRESS;
        self.port == other.port && self.protocol == other.protocol && (every(self) || every(other) || self.address == other.address)
    }
}

/// The node's ports that a pod takes: those of containers that run all its life.
pub(super) fn of(pod: &Pod) -> Vec<HostPort> {
    let sidecars = pod.spec.init_containers.iter().filter(|c| is_sidecar(c));
    sidecars.chain(&pod.spec.containers).flat_map(of_container).collect()
}

fn of_container(container: &Container) -> impl Iterator<Item = HostPort> {
    let or = |text: &Option<String>, default: &str| text.as_deref().filter(|t| !t.is_empty()).unwrap_or(default).to_owned();
    container.ports.iter().filter_map(move |p| {
        let port = p.host_port.filter(|n| *n > 0)?;
        Some(HostPort {
            address: or(&p.host_ip, EVERY_ADDRESS),
            protocol: or(&p.protocol, "TCP"),
            port,
        })
    })
}

/// Whether a pod that wants `wanted` fits beside what is `taken`.
pub(super) fn fit(wanted: &[HostPort], taken: &[HostPort]) -> bool {
    !wanted.iter().any(|w| taken.iter().any(|t| w.conflicts(t)))
}
