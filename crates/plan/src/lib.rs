//! How a sandbox comes to be and goes, as data: names and paths derived from ids, ordered steps
//! with their undo, OCI specs, and what recovery does with what it finds. Nothing here touches the
//! machine; `engine` executes.

mod capabilities;
pub mod cdi;
pub mod cgroup;
pub mod confine;
pub mod devices;
pub mod layout;
pub mod recovery;
pub mod seccomp;
pub mod spec;
pub mod steps;
pub mod userns;

pub use layout::Layout;
