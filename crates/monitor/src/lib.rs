//! The small static process that stays with one pod: its protocol and the client of it.
//!
//! The process itself is the binary of this crate (`main.rs`). It knows nothing of Kubernetes or
//! OCI: it unshares namespaces, mounts, spawns, adopts, holds standard streams, writes logs and
//! keeps exit codes. What to run and why is the engine's business.

pub mod client;
pub mod frame;
pub mod protocol;
