//! NRI plugins: asked about every pod and container, over ttrpc.
//!
//! The Node Resource Interface (containerd/nri, wire version of 0.12) lets plugins watch and change
//! pods and containers. They connect to a socket, or are installed and started with the runtime.
//! Everything blocks; a connection has two threads of its own.
//!
//! - [`Nri`]: the verbs, asked of all plugins in order; what they ask for is merged, conflicts are errors
//! - [`Pod`], [`Container`], [`Adjustment`], [`Update`]: what is told and what comes back
//! - [`State`]: what plugins see and ask for at any time
//!
//! A plugin that fails to answer is dropped, as upstream does; one that is *required* (by
//! [`Options::required`], or by the annotation `required-plugins.noderesource.dev` of a pod) and fails or
//! is missing stops the pod. What a plugin asks for and Cofferdam does not do is refused, never ignored.

mod connection;
mod convert;
mod device;
mod error;
mod face;
mod frame;
mod gate;
mod join;
mod launch;
mod merge;
mod mount;
mod owners;
mod plugin;
mod required;
mod support;
#[cfg(test)]
mod tests;
mod verbs;
mod wire;

pub use error::{Error, Result};
pub use face::{Adjustment, Container, Created, Eviction, Level, Log, Options, Pod, ResourceChange, State, Update, Updated};
pub use gate::Hold;
pub use join::Nri;
