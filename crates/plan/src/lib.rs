//! How a sandbox comes to be and goes, as data: names and paths derived from ids, ordered steps
//! with their undo, OCI specs, and what recovery does with what it finds. Nothing here touches the
//! machine; `engine` executes.

pub mod layout;
pub mod recovery;
pub mod spec;
pub mod steps;

pub use layout::Layout;
