//! The built-in bridge network, by netlink: one bridge, one private IPv4 subnet, one veth pair a
//! pod, and one static nftables table. Calls block; nothing runs in the background.
//!
//! - [`config`], [`subnet`]: what a network is
//! - [`bridge`]: the machine's side: bridge, forwarding, masquerade
//! - [`attach`]: a pod's side: its link, address and route
//! - [`ipam`]: which pod holds which address
//! - [`link`]: looking at and deleting links
//! - [`dns`], [`hosts`]: the contents of a pod's `/etc/resolv.conf` and `/etc/hosts`

pub mod attach;
pub mod bridge;
pub mod config;
pub mod dns;
mod error;
pub mod hosts;
pub mod ipam;
pub mod link;
mod netlink;
mod nft;
pub mod subnet;

pub use attach::{Attached, lo_up};
pub use bridge::{Bridge, Probe, Warning, probe};
pub use config::Config;
pub use error::{Error, Result};
pub use ipam::Ipam;
pub use subnet::Ipv4Net;
