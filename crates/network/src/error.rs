//! Why something failed.

use crate::subnet::Ipv4Net;
use crate::subnet6::Ipv6Net;
use std::io;
use std::net::Ipv4Addr;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a netlink request.
    #[error("cannot {action}: {source}")]
    Netlink {
        /// What was tried, on what.
        action: String,
        /// The kernel's answer, with its own words where it gave any.
        source: io::Error,
    },
    /// A file, lock or namespace.
    #[error(transparent)]
    Host(#[from] cofferdam_host::Error),
    /// A file of the address store.
    #[error("cannot {action} {path}: {source}")]
    Path {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The configuration of the network is not one.
    #[error("the network's {field} {value:?} cannot be used: {rule}")]
    Config {
        /// Field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// The subnet is in use.
    #[error(
        "the pod subnet {subnet} overlaps {other} of the link {link}: configure another subnet"
    )]
    Overlap {
        /// Ours.
        subnet: Ipv4Net,
        /// The route or address that was there.
        other: Ipv4Net,
        /// The link that it belongs to.
        link: String,
    },
    /// The IPv6 subnet is in use.
    #[error("the pods' IPv6 subnet {subnet} overlaps {other} of the link {link}: configure another one, or none")]
    Overlap6 {
        /// Ours.
        subnet: Ipv6Net,
        /// The route or address that was there.
        other: Ipv6Net,
        /// The link that it belongs to.
        link: String,
    },
    /// A port of the machine is asked for twice.
    #[error("port {port} of the machine cannot lead to the pod {pod}: the pod {holder} has {held} already")]
    PortHeld {
        /// What was asked for: `tcp 127.0.0.1:80`.
        port: String,
        /// Who asked.
        pod: String,
        /// Who was first.
        holder: String,
        /// What that one has.
        held: String,
    },
    /// A process of the machine listens on a port.
    #[error("port {port} of the machine cannot lead to the pod {pod}: a process of the machine uses it; stop that, or choose another port")]
    PortInUse {
        /// What was asked for.
        port: String,
        /// Who asked.
        pod: String,
    },
    /// A mapping of a port that cannot be.
    #[error("port {port} of the machine cannot lead to the pod {pod}: {reason}")]
    Port {
        /// What was asked for.
        port: String,
        /// Who asked.
        pod: String,
        /// Why not.
        reason: String,
    },
    /// A limit that is none.
    #[error("the annotation {annotation} of the pod cannot be honoured: {value:?} {rule}")]
    Bandwidth {
        /// Its name.
        annotation: &'static str,
        /// Its value, cut.
        value: String,
        /// What is wrong with it.
        rule: String,
    },
    /// The kernel cannot limit.
    #[error("the {direction} limit of the pod {pod} cannot be set: this kernel cannot {action} ({missing}): {source}")]
    Shape {
        /// `ingress` or `egress`.
        direction: &'static str,
        /// The pod.
        pod: String,
        /// What was tried.
        action: &'static str,
        /// What it is called in the kernel's configuration.
        missing: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A CNI plugin or configuration.
    #[error(transparent)]
    Cni(#[from] cofferdam_cni::Error),
    /// A link with the bridge's name is something else.
    #[error("the link {name} exists and is no bridge: remove it, or configure another bridge name")]
    NotABridge {
        /// Name.
        name: String,
    },
    /// The bridge has an address that is not ours.
    #[error(
        "the bridge {name} has the address {found} where {wanted} was expected: remove the bridge, or configure that subnet"
    )]
    OtherAddress {
        /// Name.
        name: String,
        /// What it has.
        found: Ipv4Net,
        /// What it should have.
        wanted: Ipv4Net,
    },
    /// Every address is held.
    #[error("no address of {subnet} is free: stop pods, or configure a larger subnet")]
    Exhausted {
        /// The subnet.
        subnet: Ipv4Net,
    },
    /// An address is held by another pod, or outside the subnet.
    #[error("the address {address} cannot be used: {reason}")]
    Address {
        /// The address.
        address: Ipv4Addr,
        /// Why.
        reason: String,
    },
    /// `nft` failed.
    #[error("nft refused the rules of the pod network: {0}")]
    Nft(String),
    /// The namespace to be attached is the machine's own.
    #[error("the network namespace of pod {pod} is the machine's own: nothing was changed in it")]
    OwnNamespace {
        /// The pod.
        pod: String,
    },
    /// A pod id that cannot name a link.
    #[error("the pod id {0:?} cannot be used: it must begin with 12 lowercase hex digits")]
    PodId(String),
    /// Something for `resolv.conf` or `hosts` is not what it should be.
    #[error("the {what} {value:?} cannot be written: {rule}")]
    Text {
        /// `nameserver`, `search domain`, …
        what: &'static str,
        /// What was given.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
}

impl Error {
    pub(crate) fn netlink(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Netlink { action, source }
    }
}
