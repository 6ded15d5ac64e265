//! Why something failed.

use crate::subnet::Ipv4Net;
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
