//! The filters: whether one pod can go to one node, and why not.

use super::counters::NONE;
use super::fixed::Answer;
use super::message::Histogram;
use super::ports;
use super::shape::Ask;
use super::snapshot::Snapshot;
use crate::field::go_quote;
use std::borrow::Cow;

/// What is the same for all nodes while one pod is decided about.
#[derive(Debug)]
pub(super) struct Round<'a> {
    ask: &'a Ask,
    /// The least count of each constraint of `ask.hard`.
    least: Vec<i64>,
    /// Counters of the placed pods' anti-affinity against this pod, but for empty ones.
    repelled_by: Vec<u32>,
    /// Whether the pod is the first of those that want to be near each other.
    first_of_group: bool,
}

/// Why a node is not feasible: the first filter that refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Fixed(Answer),
    Ports,
    Resources,
    SpreadLabel,
    Spread,
    Near,
    Far,
    Repelled,
}

impl Snapshot {
    /// Looks at the pods that are there (upstream's PreFilter).
    pub(super) fn round<'a>(&self, ask: &'a Ask) -> Round<'a> {
        let least = ask.hard.iter().map(|h| {
            let counter = self.counters.get(h.counter);
            if (counter.domains() as i64) < h.min_domains {
                0
            } else {
                counter.least().map_or(i32::MAX.into(), i64::from)
            }
        });
        let repelled_by = &self.counters.set(ask.load.set).repelled_by;
        Round {
            ask,
            least: least.collect(),
            repelled_by: repelled_by.iter().copied().filter(|c| self.counters.get(*c).total > 0).collect(),
            first_of_group: ask.near_self && ask.near.iter().all(|c| self.counters.get(*c).total == 0),
        }
    }

    /// The filters, in order; `None` where all pass.
    #[inline]
    pub(super) fn refusal(&self, round: &Round<'_>, node: usize) -> Option<Refusal> {
        let ask = round.ask;
        match self.fixed.ask(ask.wants, &self.nodes, node) {
            Answer::Pass(_) => {}
            answer => return Some(Refusal::Fixed(answer)),
        }
        if !ask.load.ports.is_empty() && !ports::fit(&ask.load.ports, &self.ports[node]) {
            return Some(Refusal::Ports);
        }
        if !self.has_room(ask, node) {
            return Some(Refusal::Resources);
        }
        self.spread_refusal(round, node).or_else(|| self.pods_refusal(round, node))
    }

    #[inline]
    fn has_room(&self, ask: &Ask, node: usize) -> bool {
        let columns = &self.columns;
        columns.pods[node] < columns.most_pods[node] && ask.load.numbers.requests.iter().all(|r| self.has(*r, node))
    }

    /// `fitsRequest` of `noderesources/fit.go`: what is not positive is not compared.
    #[inline]
    fn has(&self, (column, amount): (usize, i64), node: usize) -> bool {
        let columns = &self.columns;
        amount <= 0 || amount <= columns.allocatable[column][node].saturating_sub(columns.used[column][node])
    }

    fn spread_refusal(&self, round: &Round<'_>, node: usize) -> Option<Refusal> {
        for (spread, least) in round.ask.hard.iter().zip(&round.least) {
            let domain = self.counters.column(spread.column).domains[node];
            if domain == NONE {
                return Some(Refusal::SpreadLabel);
            }
            let count = i64::from(self.counters.get(spread.counter).get(domain)) + i64::from(spread.counts_itself);
            if count - least > spread.max_skew {
                return Some(Refusal::Spread);
            }
        }
        None
    }

    fn pods_refusal(&self, round: &Round<'_>, node: usize) -> Option<Refusal> {
        let ask = round.ask;
        let some = |counter: &u32| self.counters.at(*counter, node) > 0;
        if !ask.near.iter().all(some) {
            // All topology labels must be there, even for the first of a group.
            let has_labels = ask.near.iter().all(|c| self.counters.has_domain(*c, node));
            if !(has_labels && round.first_of_group) {
                return Some(Refusal::Near);
            }
        }
        if ask.far.iter().any(some) {
            return Some(Refusal::Far);
        }
        round.repelled_by.iter().any(some).then_some(Refusal::Repelled)
    }

    /// Counts a refusal; whether other pods' going could change it.
    pub(super) fn tally(&self, ask: &Ask, node: usize, refusal: Refusal, tally: &mut Tally) -> bool {
        tally.nodes += 1;
        match refusal {
            Refusal::Resources => self.tally_resources(ask, node, tally),
            other => {
                match tally.others.iter_mut().find(|(known, _)| *known == other) {
                    Some((_, count)) => *count += 1,
                    None => tally.others.push((other, 1)),
                }
                matches!(other, Refusal::Ports | Refusal::Spread | Refusal::Far | Refusal::Repelled)
            }
        }
    }

    /// Counts all that a node has too little of; nothing changes what would be too little on an
    /// empty node.
    fn tally_resources(&self, ask: &Ask, node: usize, tally: &mut Tally) -> bool {
        let columns = &self.columns;
        tally.full += usize::from(columns.pods[node] >= columns.most_pods[node]);
        tally.lacking.resize(columns.names.len(), 0);
        let mut can_change = true;
        for (column, amount) in ask.load.numbers.requests.iter().filter(|r| !self.has(**r, node)) {
            tally.lacking[*column] += 1;
            can_change &= *amount <= columns.allocatable[*column][node];
        }
        can_change
    }

    /// Upstream's words for what was counted.
    pub(super) fn words(&self, ask: &Ask, tally: &Tally) -> Histogram {
        let mut words = Histogram::default();
        words.nodes = tally.nodes;
        words.add(tally.full, "Too many pods");
        for (count, name) in tally.lacking.iter().zip(&self.columns.names).filter(|(c, _)| **c > 0) {
            words.add(*count, &format!("Insufficient {name}"));
        }
        for (refusal, count) in &tally.others {
            words.add(*count, &reason(*refusal, &ask.handler));
        }
        words
    }

    /// Upstream's words for one node.
    pub(super) fn reasons(&self, ask: &Ask, node: usize, refusal: Refusal) -> Vec<String> {
        let mut tally = Tally::default();
        self.tally(ask, node, refusal, &mut tally);
        self.words(ask, &tally).sorted().into_iter().map(|(_, reason)| reason).collect()
    }
}

/// How many nodes were refused, and why.
#[derive(Debug, Default)]
pub(super) struct Tally {
    nodes: usize,
    /// With too many pods.
    full: usize,
    /// By resource, with too little of it.
    lacking: Vec<usize>,
    others: Vec<(Refusal, usize)>,
}

fn reason(refusal: Refusal, handler: &str) -> Cow<'static, str> {
    Cow::Borrowed(match refusal {
        Refusal::Fixed(Answer::Unschedulable) => "node(s) were unschedulable",
        Refusal::Fixed(Answer::OtherName) => "node(s) didn't match the requested node name",
        Refusal::Fixed(Answer::Taint) => "node(s) had untolerated taint(s)",
        Refusal::Fixed(Answer::Affinity) => "node(s) didn't match Pod's node affinity/selector",
        Refusal::Fixed(Answer::NoHandler) => return format!("node(s) did not offer runtime handler {}", go_quote(handler)).into(),
        Refusal::Ports => "node(s) didn't have free ports for the requested pod ports",
        Refusal::SpreadLabel => "node(s) didn't match pod topology spread constraints (missing required label)",
        Refusal::Spread => "node(s) didn't match pod topology spread constraints",
        Refusal::Near => "node(s) didn't match pod affinity rules",
        Refusal::Far => "node(s) didn't match pod anti-affinity rules",
        Refusal::Repelled => "node(s) didn't satisfy existing pods anti-affinity rules",
        // Resources have words of their own, and what passes is not refused.
        Refusal::Resources | Refusal::Fixed(Answer::Pass(_)) => "",
    })
}
