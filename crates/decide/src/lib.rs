//! Every decision as a pure function: validation, admission, resource arithmetic, quota, scheduling.
//!
//! - [`runtime_class`]: what a RuntimeClass may say, on create and on update
//! - [`admission`]: the RuntimeClass admission plugin, default classes and old selection annotations
//! - [`tolerations`]: validation and merging of tolerations
//! - [`resources`]: requests, limits, QoS class and cgroup values of pods
//! - [`defaults`], [`validate`]: what the API server fills in and what it refuses in a pod
//! - [`warnings`]: what it warns of in a pod that it lets in
//! - [`limit_range`], [`quota`]: the admission plugins of these names
//! - [`pod_update`]: what an update of a pod may change
//! - [`ephemeral`]: what a container may say that is added to a running pod
//! - [`resize`]: a change of a running pod's resources in place
//! - [`enclosure`]: what each kind of enclosure cannot do
//! - [`chain`]: all of it in the API server's order
//! - [`check`]: what becomes of many pods, told without running any
//! - [`schedule`]: which node a pod goes to
//! - [`field`], [`mod@format`], [`Denied`]: how errors are built and worded
//!
//! Rules and messages are those of Kubernetes 1.34; each module names its upstream source. Where
//! upstream goes through a Go map, and so words its errors in random order, keys are sorted here.

pub mod admission;
mod app_armor;
pub mod chain;
pub mod check;
pub mod defaults;
mod denied;
pub mod enclosure;
pub mod ephemeral;
pub mod field;
pub mod format;
pub mod limit_range;
mod meta;
pub mod pod_update;
pub mod quota;
mod requirements;
pub mod resize;
pub mod resources;
pub mod runtime_class;
pub mod schedule;
mod selection;
pub mod tolerations;
pub mod validate;
pub mod warnings;

#[cfg(test)]
mod testing;

pub use denied::{Denied, Reason, Reasons};
pub use field::Warning;
