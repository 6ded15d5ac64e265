//! The validated nouns of Cofferdam: pure data, no contact with the world.
//!
//! - [`names`]: identifiers that are valid by construction
//! - [`quantity`]: resource quantities, as Kubernetes parses, compares and prints them
//! - [`meta`], [`pod`], [`affinity`], [`objects`], [`node`]: the Kubernetes objects that Cofferdam reads
//! - [`cri`]: the CRI-shaped verbs over our own types, which services meet over
//! - [`log`]: lines of containers' logs

pub mod affinity;
pub mod cri;
pub mod log;
pub mod meta;
pub mod names;
pub mod node;
pub mod objects;
pub mod pod;
pub mod quantity;

pub use names::{ContainerId, HandlerName, PodId};
pub use quantity::Quantity;

/// Resource name (`cpu`, `memory`, …) to amount.
pub type ResourceList = std::collections::BTreeMap<String, Quantity>;
