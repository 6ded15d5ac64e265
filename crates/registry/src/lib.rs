//! The pull side of the OCI distribution protocol, blocking: manifests, digests and blobs from registries
//! and their mirrors. An edge room; it knows none of the others.
//!
//! - `client`: [`Client`] and what can be asked of it
//! - `blob`: downloads that go on where they were cut off
//! - `hosts`: mirrors and how to reach them: containerd's `hosts.toml`
//! - `auth`: credentials, docker's configuration, challenges and tokens
//! - `transport`, `tls`, `proxy`, `guard`, `fault`: requests, and what may go wrong with them
//! - `manifest`, `reference`: what is asked for and what may come back
//!
//! Registries are strangers. What they send is bounded in size and time, their redirects lead to no
//! address of this machine, credentials go to the host that they are for, and their words are made safe
//! before they are shown.

mod auth;
mod blob;
mod client;
mod error;
mod fault;
mod guard;
mod hosts;
mod manifest;
mod proxy;
mod reference;
mod tls;
mod transport;

pub use auth::challenge::{Challenge, parse_challenges};
pub use auth::credential::Credential;
pub use auth::docker_config::{DockerConfig, parse_docker_config, parse_dockercfg};
pub use blob::Blob;
pub use client::{Client, Limits, Options, Timeouts};
pub use error::{Answer, Error, Result, Tried};
pub use hosts::{Capabilities, Endpoint, HostEntry, HostUrl, Hosts, HostsFile, TlsFiles, hosts_for, parse_hosts};
pub use manifest::Manifest;
pub use reference::Image;
