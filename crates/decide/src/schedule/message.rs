//! Why a pod has no node, as the event `FailedScheduling` says it (`FitError` of
//! `pkg/scheduler/framework/types.go`).

use std::collections::BTreeMap;

/// What the plugin for dynamic resources says wherever it has nothing to give up; it comes before
/// preemption.
const NO_CLAIMS: &str = "no new claims to deallocate";

/// The name of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodName {
    /// Namespace.
    pub namespace: String,
    /// Name; empty where it is still to be generated.
    pub name: String,
}

/// A node where the pod would fit once other pods of less priority are gone. Upstream preempts
/// them, and the pod is tried again when they have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nomination {
    /// The node.
    pub node: String,
    /// The pods that would have to go, the most important first.
    pub victims: Vec<PodName>,
}

/// Why a pod has no node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unschedulable {
    /// Upstream's message: `0/3 nodes are available: …`. It does not speak of a nomination, as
    /// upstream's does not.
    pub message: String,
    /// How many nodes give each reason, sorted as in the message; empty where the pod failed
    /// before any node was looked at.
    pub reasons: Vec<(usize, String)>,
    /// Where preemption helps.
    pub nomination: Option<Nomination>,
}

impl Unschedulable {
    /// The pod waits for its gates, and the scheduler does not look at it (`SchedulingGates`). No
    /// event says so, but the condition `PodScheduled` with the reason `SchedulingGated`.
    pub(super) fn gated() -> Self {
        Self::without_reasons("Scheduling is blocked due to non-empty scheduling gates".into())
    }

    /// A plugin refused the pod before any of `all` nodes was looked at. The plugin for dynamic
    /// resources, which comes after those and before preemption, then lacks its state, and the
    /// `not found` at the end is about that.
    pub(super) fn before_filters(all: usize, why: &str) -> Self {
        Self::without_reasons(format!("0/{all} nodes are available: {why}. not found"))
    }

    /// There are no nodes at all.
    pub(super) fn no_nodes() -> Self {
        Self::without_reasons("no nodes available to schedule pods".into())
    }

    fn without_reasons(message: String) -> Self {
        Self {
            message,
            reasons: Vec::new(),
            nomination: None,
        }
    }
}

/// Reasons with the number of nodes that give them.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    counts: BTreeMap<String, usize>,
    /// Nodes that gave any.
    pub(super) nodes: usize,
}

impl Histogram {
    /// Adds so many nodes that give this reason. Nodes with several reasons are counted by
    /// [`Histogram::nodes`] once, so that is left to the caller.
    pub(super) fn add(&mut self, count: usize, reason: &str) {
        if count == 0 {
            return;
        }
        match self.counts.get_mut(reason) {
            Some(known) => *known += count,
            None => drop(self.counts.insert(reason.to_owned(), count)),
        }
    }

    /// Gives the nodes of `all` that gave no reason this one.
    pub(super) fn fill(&mut self, all: usize, reason: &str) {
        let rest = all.saturating_sub(self.nodes);
        self.add(rest, reason);
        self.nodes += rest;
    }

    /// Counts and reasons, in the order of their texts (`10 x` before `2 x`).
    pub(super) fn sorted(&self) -> Vec<(usize, String)> {
        let mut all: Vec<_> = self.counts.iter().map(|(reason, count)| (*count, reason.clone())).collect();
        all.sort_by_cached_key(|(count, reason)| format!("{count} {reason}"));
        all
    }

    /// `0/3 nodes are available: 1 x, 2 y.`
    pub(super) fn sentence(&self, all: usize) -> String {
        let reasons: Vec<String> = self.sorted().iter().map(|(count, reason)| format!("{count} {reason}")).collect();
        let head = format!("0/{all} nodes are available:");
        if reasons.is_empty() {
            head
        } else {
            format!("{head} {}.", reasons.join(", "))
        }
    }
}

/// The message: what the filters said, then what preemption said; nothing of it where it helps.
pub(super) fn message(filters: &str, preemption: Option<&str>) -> String {
    match preemption {
        Some(said) => format!("{filters} {NO_CLAIMS}, preemption: {said}"),
        None => filters.to_owned(),
    }
}
