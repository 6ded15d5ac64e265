//! Which node a pod goes to: the filters and scores of the default profile of Kubernetes 1.34's
//! scheduler (`pkg/scheduler` and `pkg/scheduler/framework/plugins`), with its words.
//!
//! Filters, in upstream's order: NodeUnschedulable, NodeName, TaintToleration, NodeAffinity (the
//! node selector too), then one of our own, RuntimeHandler, then NodePorts, NodeResourcesFit (with
//! overhead), PodTopologySpread and InterPodAffinity. RuntimeHandler refuses a node that lists its
//! runtime handlers and does not have the pod's; upstream's scheduler never looks at handlers, and
//! such a pod would fail at its node.
//!
//! A pod with scheduling gates is not looked at before they are gone (`SchedulingGates`).
//!
//! Scores with upstream's weights: TaintToleration 3, NodeAffinity 2, NodeResourcesFit (least
//! allocated) 1, NodeResourcesBalancedAllocation 1, PodTopologySpread 2, InterPodAffinity 2.
//!
//! What differs from upstream, or is left out:
//! - Among nodes of equal score the first one in visiting order wins; upstream draws lots.
//! - Nodes are visited one by one, not in parallel, so what is visited is always the same.
//! - Nodes do not change but by [`Snapshot::drain`]; make a new snapshot for other nodes.
//! - Volumes, dynamic resources and images are not known: their filters pass, and ImageLocality
//!   (weight 1) gives every node 0. Pods resized in place count with their spec.
//! - Pod disruption budgets are not known, so preemption never counts a violation; its candidates
//!   are looked for from the first node on (upstream: from a random one).
//! - Default spreading (`PodTopologySpread`'s system defaults) needs the selector of the pod's owner
//!   or Service, which the caller gives in [`Request::spread_selector`].
//!
//! Speed: what depends on a pod's specification alone is kept per specification (`shape`), what
//! depends on a node's labels and taints alone per specification and node (`fixed`), and counts of
//! pods per topology domain are kept up to date as pods come and go (`counters`), so that one
//! decision is a few comparisons a node. A snapshot keeps what it made for every kind of pod that it
//! has seen; one that is to live long is made anew now and then.

mod counters;
mod cycle;
mod fixed;
mod keys;
mod message;
mod numbers;
mod ports;
mod preempt;
mod round;
mod score;
mod selector;
mod shape;
mod snapshot;
#[cfg(test)]
mod tests;

pub use message::{Nomination, PodName, Unschedulable};
pub use score::Scores;
pub use snapshot::{PlaceError, Placed, Snapshot};

use cofferdam_model::objects::LabelSelector;
use cofferdam_model::pod::Pod;

/// How the scheduler is set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// After how many feasible nodes, in percent of all, no more are looked for. 0 is upstream's
    /// default: 50 less one for every 125 nodes, at least 5. Never fewer than 100 nodes, and below
    /// 100 nodes always all.
    pub percentage_of_nodes_to_score: u8,
}

/// A pod that wants a node.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The pod, admitted: with overhead, selector and tolerations of its class.
    pub pod: &'a Pod,
    /// The handler that its class names; empty is the default handler.
    pub handler: &'a str,
    /// The selector of what owns the pod (a Deployment's, say), by which it is spread over zones
    /// and nodes where it has no constraints of its own; `None` where nothing owns it.
    pub spread_selector: Option<&'a LabelSelector>,
}

impl<'a> Request<'a> {
    /// A pod of the default handler that nothing owns.
    pub fn new(pod: &'a Pod) -> Self {
        Self {
            pod,
            handler: "",
            spread_selector: None,
        }
    }
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// A node was found.
    Placed(Placement),
    /// No node is feasible.
    Unschedulable(Box<Unschedulable>),
}

/// A node for a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Its name.
    pub node: String,
    /// Its score; `None` where it was the only feasible node and so was not scored.
    pub score: Option<i64>,
    /// How many nodes were looked at.
    pub visited: usize,
    /// How many of them were feasible.
    pub feasible: usize,
}

/// What the scheduler thinks of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeReport {
    /// The node's name.
    pub node: String,
    /// Its scores, or why it is not feasible (of the first filter that refuses it).
    pub outcome: Result<Scores, Vec<String>>,
}
