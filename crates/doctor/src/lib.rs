//! Looks at the machine and at one pod, and names the cause of what is wrong: what it is called in
//! the field, two sentences of explanation, and the remedy as commands.
//!
//! - [`diagnose`]: the table of named diagnoses, and what claims a text or a fact; pure
//! - [`machine`]: facts of this machine, read and never changed, and what they say
//! - [`pod`]: one of our pods
//! - [`cluster`]: a pod of a real cluster, from JSON as its API server gives it
//! - [`report`]: lines for a person
//!
//! Everything that is read (events, logs, objects, what commands print) may be hostile: it is cut
//! before it is looked at, and quoted before it stands in a command.

pub mod cluster;
pub mod diagnose;
pub mod facts;
pub mod finding;
pub mod machine;
mod names;
mod pattern;
pub mod pod;
pub mod report;
mod table;
mod version;

pub use cluster::{ClusterPod, diagnose_cluster_pod};
pub use diagnose::{Diagnosis, Enclosure, Heard, Voice, diagnose_text, diagnoses};
pub use facts::Facts;
pub use finding::{Finding, Severity, World, merge};
pub use machine::{Sources, examine, look};
pub use pod::{ContainerStory, EventStory, Now, PodStory, diagnose_pod};
pub use report::Report;
