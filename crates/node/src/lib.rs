//! The kubelet's job over a CRI-shaped trait: order, restarts, volumes, environment, status.
//!
//! A [`Node`] takes pods that admission has let in ([`PodSetup`]) and runs each to its end, one
//! thread a pod, over [`cofferdam_model::cri::Runtime`]. What is seen of them is a [`PodView`] each;
//! [`exit_code`] makes a run's exit code of them.
//!
//! What a sandbox's death means: the pod fails, with the reason, and nothing of it stays. A handler
//! that refuses a pod fails it; no other handler is ever tried. The kubelet tries some things for
//! ever that cannot get better in a run, which is waited for: a missing image, config map or secret
//! fails the pod at once, and a sandbox or container that cannot be made fails it after
//! [`MAX_TRIES`].

pub mod backoff;
mod board;
mod change;
mod clock;
mod config;
mod control;
mod devices;
mod dns;
mod end;
pub mod env;
mod evict;
pub mod expansion;
mod fetch;
mod fields;
mod hook;
mod hostname;
pub mod image;
pub mod next;
mod node;
mod pool;
mod probe;
mod probing;
mod pulls;
mod security;
mod setup;
mod start;
mod status;
mod stop;
mod story;
mod termination;
mod view;
mod volumes;
mod words;
mod worker;

pub use change::ResizeRequest;
pub use clock::{Bell, Clock, ManualClock, SystemClock};
pub use config::{
    ADMITTED_ANNOTATION, CLASS_ANNOTATION, CONTAINER_NAME_LABEL, POD_NAME_LABEL, POD_NAMESPACE_LABEL, POD_UID_LABEL,
};
pub use end::{FIRST_WAIT, MAX_REMOVALS};
pub use evict::{EVICTION_PERIOD, REASON_EVICTED};
pub use node::{Handle, Node};
pub use setup::{Dirs, Machine, Objects, PodSetup, SECCOMP_ROOT};
pub use start::{FIRST_RETRY, MAX_TRIES};
pub use story::{EVENTS_FILE, HARMLESS};
pub use status::*;
