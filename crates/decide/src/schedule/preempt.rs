//! Whether a pod would fit if pods of less priority went (`pkg/scheduler/framework/preemption` and
//! `plugins/defaultpreemption`).

use super::message::{Histogram, Nomination, PodName, Unschedulable, message};
use super::round::{Refusal, Tally};
use super::shape::Ask;
use super::snapshot::Snapshot;
use std::cmp::Reverse;

/// `DefaultPreemptionArgs`: of how many nodes candidates are compared.
const CANDIDATES_PERCENT: usize = 10;
const LEAST_CANDIDATES: usize = 100;
const NO_VICTIMS: &str = "No preemption victims found for incoming pod";
const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";

/// A node, and the residents that would have to go.
struct Candidate {
    node: usize,
    /// The most important first.
    victims: Vec<u64>,
}

impl Snapshot {
    /// What is said once no node is feasible; `changeable` are those that other pods' going could
    /// make feasible.
    pub(super) fn after_filters(&mut self, ask: &Ask, filters: &str, reasons: Vec<(usize, String)>, changeable: &[usize]) -> Unschedulable {
        if ask.never_preempts {
            let said = "not eligible due to preemptionPolicy=Never.";
            return Unschedulable {
                message: message(filters, Some(said)),
                reasons,
                nomination: None,
            };
        }
        // Trying changes the snapshot and changes it back: decisions stay good.
        let version = self.version;
        let tried = self.try_preemption(ask, changeable);
        self.version = version;
        match tried {
            Ok(best) => Unschedulable {
                message: message(filters, None),
                reasons,
                nomination: Some(best),
            },
            Err(mut said) => {
                said.fill(self.nodes.len(), NOT_HELPFUL);
                Unschedulable {
                    message: message(filters, Some(&said.sentence(self.nodes.len()))),
                    reasons,
                    nomination: None,
                }
            }
        }
    }

    /// The best node to preempt on, or what every node says against it.
    fn try_preemption(&mut self, ask: &Ask, nodes: &[usize]) -> Result<Nomination, Histogram> {
        let wanted = (nodes.len() * CANDIDATES_PERCENT / 100).max(LEAST_CANDIDATES).min(nodes.len());
        let (mut without_victims, mut tally, mut candidates) = (0, Tally::default(), Vec::new());
        for node in nodes {
            match self.victims_on(ask, *node) {
                Ok(victims) => candidates.push(Candidate { node: *node, victims }),
                Err(Some(refusal)) => drop(self.tally(ask, *node, refusal, &mut tally)),
                Err(None) => without_victims += 1,
            }
            if candidates.len() >= wanted {
                break;
            }
        }
        let best = candidates.into_iter().min_by_key(|c| self.cost(c)).ok_or_else(|| {
            let mut said = self.words(ask, &tally);
            said.add(without_victims, NO_VICTIMS);
            said.nodes += without_victims;
            said
        })?;
        let name = |id: &u64| {
            let meta = &self.residents.get(id)?.placed.pod.metadata;
            Some(PodName {
                namespace: meta.namespace_or_default().to_owned(),
                name: meta.name.clone(),
            })
        };
        Ok(Nomination {
            node: self.nodes[best.node].metadata.name.clone(),
            victims: best.victims.iter().filter_map(name).collect(),
        })
    }

    /// The fewest pods that must go from a node, or why it does not help (`None`: none is of less
    /// priority). Leaves everything as it was.
    fn victims_on(&mut self, ask: &Ask, node: usize) -> Result<Vec<u64>, Option<Refusal>> {
        if self.least_priority[node].is_none_or(|least| least >= ask.load.priority) {
            return Err(None);
        }
        let is_lesser = |id: &&u64| self.residents.get(id).is_some_and(|r| r.load.priority < ask.load.priority);
        let mut lesser: Vec<u64> = self.on_node[node].iter().filter(is_lesser).copied().collect();
        lesser.iter().for_each(|id| self.unsettle(*id));
        if let Some(refusal) = self.refusal(&self.round(ask), node) {
            lesser.iter().for_each(|id| self.settle(*id));
            return Err(Some(refusal));
        }
        // The most important ones come back first, and stay if the pod still fits.
        lesser.sort_by_key(|id| self.importance(*id));
        let mut victims = Vec::new();
        for id in lesser {
            self.settle(id);
            if self.refusal(&self.round(ask), node).is_some() {
                self.unsettle(id);
                victims.push(id);
            }
        }
        victims.iter().for_each(|id| self.settle(*id));
        Ok(victims)
    }

    /// Sorts the most important pod first: greater priority, then earlier start.
    fn importance(&self, id: u64) -> (Reverse<i32>, bool, String, u64) {
        let resident = self.residents.get(&id);
        let started = resident.and_then(|r| r.placed.started.clone());
        (
            Reverse(resident.map_or(i32::MIN, |r| r.load.priority)),
            started.is_none(),
            started.unwrap_or_default(),
            id,
        )
    }

    /// What is compared between candidates (`pickOneNodeForPreemption`): the greatest priority
    /// among the victims, the sum of all, their number, and how early the most important started.
    fn cost(&self, candidate: &Candidate) -> (i32, i64, usize, Reverse<(bool, String)>) {
        let residents = || candidate.victims.iter().filter_map(|id| self.residents.get(id));
        let greatest = residents().map(|r| r.load.priority).max().unwrap_or(i32::MIN);
        // Each counts at least one, so that few victims are better also where priorities are negative.
        let sum = residents().map(|r| i64::from(r.load.priority) - i64::from(i32::MIN)).sum();
        let first = residents()
            .filter(|r| r.load.priority == greatest)
            .map(|r| r.placed.started.clone());
        let earliest = first.min_by_key(|s| (s.is_none(), s.clone())).flatten();
        (
            greatest,
            sum,
            candidate.victims.len(),
            Reverse((earliest.is_none(), earliest.unwrap_or_default())),
        )
    }
}
