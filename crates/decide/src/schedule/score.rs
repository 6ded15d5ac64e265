//! The scores of feasible nodes: each plugin's raw score, brought to 0 to 100 as the plugin does,
//! times its weight.

use super::fixed::Answer;
use super::numbers::{CPU, MEMORY};
use super::shape::{Ask, SoftSpread};
use super::snapshot::Snapshot;
use std::collections::HashSet;

/// `MaxNodeScore`.
const MOST: i64 = 100;

/// What each plugin gives a node, 0 to 100, before weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scores {
    /// TaintToleration, weight 3.
    pub taints: i64,
    /// NodeAffinity, weight 2.
    pub affinity: i64,
    /// NodeResourcesFit (least allocated), weight 1.
    pub room: i64,
    /// NodeResourcesBalancedAllocation, weight 1.
    pub balance: i64,
    /// PodTopologySpread, weight 2.
    pub spread: i64,
    /// InterPodAffinity, weight 2.
    pub pods: i64,
}

impl Scores {
    /// With weights.
    pub fn total(&self) -> i64 {
        3 * self.taints + 2 * self.affinity + self.room + self.balance + 2 * self.spread + 2 * self.pods
    }
}

impl Snapshot {
    /// The scores of feasible nodes, in their order.
    pub(super) fn scores(&self, ask: &Ask, nodes: &[usize]) -> Vec<Scores> {
        let mut scores = vec![Scores::default(); nodes.len()];
        let disliked = |n: &usize| match self.fixed.ask(ask.wants, &self.nodes, *n) {
            Answer::Pass(count) => i64::from(count),
            _ => 0,
        };
        let taints = normalized(nodes.iter().map(disliked).collect(), true);
        scores.iter_mut().zip(taints).for_each(|(s, v)| s.taints = v);
        if let Some(wishes) = ask.wishes {
            let affinity = normalized(nodes.iter().map(|n| self.fixed.weigh(wishes, &self.nodes, *n)).collect(), false);
            scores.iter_mut().zip(affinity).for_each(|(s, v)| s.affinity = v);
        }
        for (score, node) in scores.iter_mut().zip(nodes) {
            score.room = self.room(ask, *node);
            score.balance = self.balance(ask, *node);
        }
        if !ask.soft.is_empty() {
            scores
                .iter_mut()
                .zip(self.spread_scores(ask, nodes))
                .for_each(|(s, v)| s.spread = v);
        }
        if let Some(pods) = self.pod_scores(ask, nodes) {
            scores.iter_mut().zip(pods).for_each(|(s, v)| s.pods = v);
        }
        scores
    }

    /// The mean of the free shares of cpu and memory (`least_allocated.go`).
    fn room(&self, ask: &Ask, node: usize) -> i64 {
        let (mut sum, mut weights) = (0, 0);
        for at in [CPU, MEMORY] {
            let capacity = self.columns.allocatable[at][node];
            if capacity != 0 {
                let used = self.columns.scored[at][node].saturating_add(ask.load.numbers.scored[at]);
                sum += free_share(used, capacity);
                weights += 1;
            }
        }
        if weights == 0 { 0 } else { sum / weights }
    }

    /// How alike the used shares of cpu and memory are (`balanced_allocation.go`); 0 for a pod that
    /// requests neither.
    fn balance(&self, ask: &Ask, node: usize) -> i64 {
        let requested = ask.load.numbers.plain;
        if requested == [0, 0] {
            return 0;
        }
        let share = |at: usize| {
            let capacity = self.columns.allocatable[at][node];
            let used = self.columns.used[at][node].saturating_add(requested[at]);
            (capacity != 0).then(|| (used as f64 / capacity as f64).min(1.0))
        };
        let deviation = match (share(CPU), share(MEMORY)) {
            (Some(cpu), Some(memory)) => ((cpu - memory) / 2.0).abs(),
            _ => 0.0,
        };
        ((1.0 - deviation) * MOST as f64) as i64
    }

    /// `podtopologyspread/scoring.go`: the fewer pods in a node's domains, the better.
    fn spread_scores(&self, ask: &Ask, nodes: &[usize]) -> Vec<i64> {
        let domain = |spread: &SoftSpread, node: usize| self.counters.column(spread.column).domains[node];
        let left_out = |node: usize| ask.soft_wants_all && ask.soft.iter().any(|s| domain(s, node) == super::counters::NONE);
        let counted: Vec<usize> = nodes.iter().copied().filter(|n| !left_out(*n)).collect();
        // A topology of many domains gives small counts: weights make up for it.
        let weights: Vec<f64> = ask
            .soft
            .iter()
            .map(|s| {
                let size = if s.by_node {
                    counted.len()
                } else {
                    counted.iter().map(|n| domain(s, *n)).collect::<HashSet<_>>().len()
                };
                ((size + 2) as f64).ln()
            })
            .collect();
        let raw = |node: usize| {
            let mut sum = 0.0;
            for (spread, weight) in ask
                .soft
                .iter()
                .zip(&weights)
                .filter(|(s, _)| domain(s, node) != super::counters::NONE)
            {
                sum += f64::from(self.counters.at(spread.counter, node)) * weight + f64::from(spread.max_skew.saturating_sub(1));
            }
            sum.round() as i64
        };
        let all: Vec<Option<i64>> = nodes.iter().map(|n| (!left_out(*n)).then(|| raw(*n))).collect();
        let most = all.iter().flatten().copied().max().unwrap_or(0).max(0);
        let least = all.iter().flatten().copied().min().unwrap_or(i64::MAX);
        let scale = |raw: i64| if most == 0 { MOST } else { MOST * (most + least - raw) / most };
        all.into_iter().map(|raw| raw.map_or(0, scale)).collect()
    }

    /// `interpodaffinity/scoring.go`; `None` where no pod wishes anything.
    fn pod_scores(&self, ask: &Ask, nodes: &[usize]) -> Option<Vec<i64>> {
        let about_it = &self.counters.set(ask.load.set).wished_by;
        let wishes: Vec<(u32, i64)> = ask
            .weighed
            .iter()
            .chain(about_it)
            .filter(|(c, _)| self.counters.get(*c).total > 0)
            .map(|(c, w)| (*c, i64::from(*w)))
            .collect();
        if wishes.is_empty() {
            return None;
        }
        let raw = |node: &usize| {
            wishes
                .iter()
                .map(|(counter, weight)| weight * i64::from(self.counters.at(*counter, *node)))
                .sum()
        };
        let all: Vec<i64> = nodes.iter().map(raw).collect();
        let (least, most) = (all.iter().copied().min()?, all.iter().copied().max()?);
        let scale = |raw: i64| {
            if most > least {
                (MOST as f64 * ((raw - least) as f64 / (most - least) as f64)) as i64
            } else {
                0
            }
        };
        Some(all.into_iter().map(scale).collect())
    }
}

/// The free share in percent, rounded down; 0 where more is used than there is.
fn free_share(used: i64, capacity: i64) -> i64 {
    if used > capacity {
        return 0;
    }
    match (capacity - used).checked_mul(MOST) {
        Some(free) => free / capacity,
        None => (i128::from(capacity - used) * i128::from(MOST) / i128::from(capacity)) as i64,
    }
}

/// `DefaultNormalizeScore`: from 0 to the greatest, to 0 to 100; turned round where less is better.
fn normalized(mut scores: Vec<i64>, less_is_better: bool) -> Vec<i64> {
    let most = scores.iter().copied().max().unwrap_or(0);
    for score in &mut scores {
        let share = if most <= 0 { 0 } else { MOST * *score / most };
        *score = if less_is_better { MOST - share } else { share };
    }
    scores
}
