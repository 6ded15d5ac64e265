//! One decision (`pkg/scheduler/schedule_one.go`): filter, score, choose.

use super::message::Unschedulable;
use super::round::{Refusal, Tally};
use super::shape::Ask;
use super::snapshot::{Failure, Snapshot};
use super::{Decision, NodeReport, Placement, Request};
use std::collections::BTreeSet;

/// `minFeasibleNodesToFind` and `minFeasibleNodesPercentageToFind`.
const LEAST_NODES: usize = 100;
const LEAST_PERCENT: usize = 5;

/// The nodes that are visited.
enum Candidates {
    All(usize),
    Some(Vec<usize>),
}

impl Candidates {
    fn len(&self) -> usize {
        match self {
            Self::All(count) => *count,
            Self::Some(nodes) => nodes.len(),
        }
    }

    fn get(&self, at: usize) -> usize {
        match self {
            Self::All(_) => at,
            Self::Some(nodes) => nodes[at],
        }
    }
}

impl Snapshot {
    /// Decides where a pod goes. The pod is not placed: [`Snapshot::place`] does that.
    pub fn decide(&mut self, request: &Request<'_>) -> Decision {
        if !request.pod.spec.scheduling_gates.is_empty() {
            return Decision::Unschedulable(Box::new(Unschedulable::gated()));
        }
        if self.nodes.is_empty() {
            return Decision::Unschedulable(Box::new(Unschedulable::no_nodes()));
        }
        let (id, ask) = self.ask_of(request);
        if let Some(known) = self.failures.get(&id).filter(|f| f.version == self.version) {
            let answer = known.answer.clone();
            self.advance(known.visited);
            return Decision::Unschedulable(Box::new(answer));
        }
        let found = self.find(&ask);
        self.advance(found.visited);
        if found.feasible.is_empty() {
            let answer = self.explain(&ask, found.refused);
            let failure = Failure {
                version: self.version,
                answer: answer.clone(),
                visited: found.visited,
            };
            self.failures.insert(id, failure);
            return Decision::Unschedulable(Box::new(answer));
        }
        self.failures.remove(&id);
        let (node, score) = self.best(&ask, &found.feasible);
        let node = self.nodes[node].metadata.name.clone();
        Decision::Placed(Placement {
            node,
            score,
            visited: found.visited,
            feasible: found.feasible.len(),
        })
    }

    /// What the scheduler thinks of every node, in visiting order: no node is left out, so scores
    /// can differ from those of a decision that looked at fewer. None where the pod cannot be read.
    pub fn report(&mut self, request: &Request<'_>) -> Vec<NodeReport> {
        let (_, ask) = self.ask_of(request);
        if ask.broken.is_some() {
            return Vec::new();
        }
        let round = self.round(&ask);
        let named = |node: usize| {
            ask.named
                .as_ref()
                .is_none_or(|names| names.contains(&self.nodes[node].metadata.name))
        };
        let refusals: Vec<Option<Vec<String>>> = (0..self.nodes.len())
            .map(|n| {
                if named(n) {
                    self.refusal(&round, n).map(|r| self.reasons(&ask, n, r))
                } else {
                    Some(vec![NOT_NAMED.into()])
                }
            })
            .collect();
        let feasible: Vec<usize> = (0..refusals.len()).filter(|n| refusals[*n].is_none()).collect();
        let mut scores = self.scores(&ask, &feasible).into_iter();
        let report = |(node, refused): (usize, Option<Vec<String>>)| NodeReport {
            node: self.nodes[node].metadata.name.clone(),
            outcome: refused.map_or_else(|| Ok(scores.next().unwrap_or_default()), Err),
        };
        refusals.into_iter().enumerate().map(report).collect()
    }

    fn advance(&mut self, visited: usize) {
        self.start = (self.start + visited) % self.nodes.len();
    }

    /// Looks for feasible nodes until there are enough.
    fn find(&self, ask: &Ask) -> Found {
        let mut found = Found::default();
        if ask.broken.is_some() || ask.named.as_ref().is_some_and(BTreeSet::is_empty) {
            return found;
        }
        let candidates = self.candidates(ask);
        let count = candidates.len();
        let wanted = enough(count, self.options.percentage_of_nodes_to_score);
        let round = self.round(ask);
        while found.visited < count && found.feasible.len() < wanted {
            let node = candidates.get((self.start + found.visited) % count);
            found.visited += 1;
            match self.refusal(&round, node) {
                None => found.feasible.push(node),
                Some(refusal) => found.refused.push((node, refusal)),
            }
        }
        found
    }

    /// The nodes that the pod's affinity names, else all.
    fn candidates(&self, ask: &Ask) -> Candidates {
        let Some(names) = &ask.named else {
            return Candidates::All(self.nodes.len());
        };
        let mut nodes: Vec<usize> = names.iter().filter_map(|n| self.by_name.get(n)).copied().collect();
        nodes.sort_unstable();
        Candidates::Some(nodes)
    }

    /// The first node of the greatest score; a single one is not scored.
    fn best(&self, ask: &Ask, feasible: &[usize]) -> (usize, Option<i64>) {
        if let [only] = feasible {
            return (*only, None);
        }
        let (mut best, mut most) = (feasible[0], i64::MIN);
        for (node, scores) in feasible.iter().zip(self.scores(ask, feasible)) {
            let total = scores.total();
            if total > most {
                (best, most) = (*node, total);
            }
        }
        (best, Some(most))
    }

    /// What is said where no node is feasible.
    fn explain(&mut self, ask: &Ask, mut refused: Vec<(usize, Refusal)>) -> Unschedulable {
        let all = self.nodes.len();
        let early = ask.broken.as_ref().map(|why| format!("parsing pod: {why}"));
        let early = early.or_else(|| {
            ask.named
                .as_ref()
                .is_some_and(BTreeSet::is_empty)
                .then(|| "pod affinity terms conflict".to_owned())
        });
        if let Some(why) = early {
            return Unschedulable::before_filters(all, &why);
        }
        let mut tally = Tally::default();
        refused.sort_unstable_by_key(|(node, _)| *node);
        refused.retain(|(node, refusal)| self.tally(ask, *node, *refusal, &mut tally));
        let mut words = self.words(ask, &tally);
        words.fill(all, NOT_NAMED);
        let changeable: Vec<usize> = refused.into_iter().map(|(node, _)| node).collect();
        self.after_filters(ask, &words.sentence(all), words.sorted(), &changeable)
    }
}

/// What a search found.
#[derive(Default)]
struct Found {
    /// In visiting order.
    feasible: Vec<usize>,
    refused: Vec<(usize, Refusal)>,
    visited: usize,
}

/// What upstream says of nodes that a pod's affinity does not name.
const NOT_NAMED: &str = "node(s) didn't satisfy plugin(s) [NodeAffinity]";

/// After how many feasible nodes a search among `nodes` ends (`numFeasibleNodesToFind`).
fn enough(nodes: usize, percent: u8) -> usize {
    if nodes < LEAST_NODES {
        return nodes;
    }
    let percent = match usize::from(percent) {
        0 => 50_usize.saturating_sub(nodes / 125).max(LEAST_PERCENT),
        percent => percent,
    };
    (nodes * percent / 100).clamp(LEAST_NODES, nodes)
}

#[cfg(test)]
mod tests {
    use super::enough;

    #[test]
    fn enough_nodes_are_those_of_upstream() {
        let rows = [
            // nodes, percent, wanted
            (1, 0, 1),
            (99, 0, 99),
            (100, 0, 100),
            (250, 0, 120),
            (1000, 0, 420),
            (5000, 0, 500),
            (6000, 0, 300),
            (20_000, 0, 1000),
            (5000, 100, 5000),
            (5000, 1, 100),
            (5000, 200, 5000),
        ];
        for (nodes, percent, wanted) in rows {
            assert_eq!(enough(nodes, percent), wanted, "{percent} % of {nodes}");
        }
    }
}
