//! Calls CNI plugins, as the specification 1.1.0 asks of a runtime
//! (<https://github.com/containernetworking/cni/blob/main/SPEC.md>), with configurations of the
//! versions 0.1.0 to 1.1.0.
//!
//! - [`config`]: configurations of networks: read, chosen, bounded
//! - [`result`]: what plugins answer, in every version's form
//! - [`capabilities`]: what a pod asks of plugins that declare that they can do it
//! - [`cache`]: what was attached, in libcni's format, written before the first plugin runs
//! - [`cni`]: the verbs: ADD, DEL, CHECK, STATUS, GC, VERSION
//!
//! Plugins are given a namespace as a path, and some keep it: they write it down, or bind mount it.
//! The namespaces of pods have no other path here than `/proc/<pid>/ns/net`, of a process that
//! lives as long as its pod. A plugin that comes back to such a path after the pod's end finds
//! nothing or, once the process id is in use again, another namespace. That is why a DEL takes its
//! path from the caller, who knows whether the process lives, and never from the cache.

pub mod cache;
pub mod capabilities;
mod chain;
pub mod cni;
pub mod config;
mod error;
mod plugin;
pub mod result;
mod version;

pub use capabilities::{Bandwidth, Capabilities, Dns, PortMapping};
pub use cni::{Attachment, Check, Cni, Options, PodRef};
pub use config::NetworkList;
pub use error::{Error, Failure, Result};
pub use version::Version;
