//! The process that keeps pods (`run`, attached or not) answers to other commands on a socket of its
//! own: what its pods are, that they are to be stopped, and what is to change in them. One JSON line
//! each way.
//!
//! - [`desk`]: what it knows, and what was asked of it, from before its first pod begins
//! - [`change`]: containers that are added to its pods, and resources that change in place
//! - [`keeper`]: its socket, its presence and its signals
//! - [`peers`]: how others find it and ask

pub(crate) mod change;
pub(crate) mod desk;
pub(crate) mod keeper;
pub(crate) mod peers;

pub(crate) use change::{Addition, Amounts, PodNow, Resized};
pub(crate) use desk::Desk;
pub(crate) use keeper::{Alone, Keeper, alone};
pub(crate) use peers::{Peer, Peers, peers};

use cofferdam_plan::Layout;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// Longest request, bytes.
const MAX_REQUEST: u64 = 64 << 10;
/// Longest answer, bytes.
const MAX_ANSWER: u64 = 64 << 20;
/// How long either side may take over a line; an owner never waits for a pod, but where it changes one.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a change of a pod may take: its worker may be starting a container, and containers that are
/// started again for it may use up their grace.
const CHANGE_PATIENCE: Duration = Duration::from_secs(300);

/// What is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "verb")]
pub(crate) enum Request {
    /// The pods: an array of views, those included that have not begun.
    Views,
    /// That pods are stopped: the seconds that they may take, or null where there is no such pod.
    Stop(Order),
    /// A pod as it is now ([`PodNow`]), or null where there is none of this name.
    Pod(PodName),
    /// That a container is added to a pod: `Ok`, or why not.
    Add(Box<Addition>),
    /// That resources change in place: `Ok` with [`Resized`], or why not.
    Resize(Amounts),
}

/// Which pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PodName {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// That pods are to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Namespace and name; all pods where absent.
    pub(crate) pod: Option<(String, String)>,
    /// Seconds, in place of the pods' own.
    pub(crate) grace: Option<u64>,
}

impl Order {
    fn covers(&self, namespace: &str, name: &str) -> bool {
        self.pod.as_ref().is_none_or(|(n, p)| n == namespace && p == name)
    }

    fn patience(&self) -> Option<Duration> {
        self.grace.map(Duration::from_secs)
    }
}

fn dir(layout: &Layout) -> PathBuf {
    layout.state.join("owners")
}
