//! Pods' networks. The built-in bridge, by netlink: one bridge, a private IPv4 and IPv6 subnet, one
//! veth pair a pod, and one static nftables table; or CNI plugins, where the machine has a
//! configuration of theirs. Calls block; nothing runs in the background but a [`Pool`].
//!
//! - [`pods`]: the network of this machine, whichever it is: attach a pod, detach it, recover
//!
//! - [`config`], [`subnet`], [`subnet6`]: what a network is
//! - [`bridge`]: the machine's side: bridge, forwarding, masquerade
//! - [`attach`]: a pod's side: its link, address and route
//! - [`ipam`]: which pod holds which address
//! - [`hostports`]: ports of the machine that lead to pods
//! - [`bandwidth`]: limits of a pod, from its annotations
//! - [`pool`]: namespaces made ahead
//! - [`link`]: looking at and deleting links
//! - [`dns`], [`hosts`]: the contents of a pod's `/etc/resolv.conf` and `/etc/hosts`

pub mod attach;
pub mod bandwidth;
pub mod bridge;
pub mod config;
mod conntrack;
pub mod dns;
mod elements;
mod error;
pub mod hostports;
pub mod hosts;
pub mod ipam;
mod ipv6;
pub mod link;
mod netlink;
mod nft;
pub mod pods;
pub mod pool;
pub mod subnet;
pub mod subnet6;

pub use attach::{Attached, lo_up};
pub use bandwidth::Bandwidth;
pub use bridge::{Bridge, Probe, Warning, probe};
pub use config::{Config, Subnet6};
pub use error::{Error, Result};
pub use hostports::{HostPort, HostPorts, Protocol};
pub use ipam::Ipam;
pub use pods::{Network, PodRef, Request, Wired};
pub use pool::Pool;
pub use subnet::Ipv4Net;
pub use subnet6::Ipv6Net;
