//! What depends on a node's own data alone: node selectors and affinity, taints, the node's name
//! and its handlers. Kept for each kind of pod and node once it was asked for.

use super::selector::{NodeMatch, NodeTerm, disliked, repels};
use cofferdam_model::affinity::PreferredSchedulingTerm;
use cofferdam_model::node::{Node, Taint};
use cofferdam_model::pod::Toleration;
use std::cell::Cell;
use std::collections::HashMap;
use std::hash::Hash;

/// The taint by which a node says that it is cordoned.
pub(super) const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Beyond this many kinds of pods answers are made anew each time, so that memory stays bounded.
const MOST_KINDS: usize = 2048;

/// What a pod wants of a node's own data.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Wants {
    pub(super) nodes: NodeMatch,
    pub(super) tolerations: Vec<Toleration>,
    pub(super) handler: String,
    pub(super) node_name: Option<String>,
}

/// The answer of the filters that look at a node's own data alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Unschedulable,
    OtherName,
    Taint,
    Affinity,
    NoHandler,
    /// All pass; so many taints are disliked.
    Pass(u32),
}

impl Wants {
    pub(super) fn ask(&self, node: &Node) -> Answer {
        let cordon = Taint {
            key: UNSCHEDULABLE.into(),
            value: String::new(),
            effect: "NoSchedule".into(),
        };
        if node.spec.unschedulable && repels(&[cordon], &self.tolerations) {
            Answer::Unschedulable
        } else if self.node_name.as_ref().is_some_and(|name| *name != node.metadata.name) {
            Answer::OtherName
        } else if repels(&node.spec.taints, &self.tolerations) {
            Answer::Taint
        } else if !self.nodes.matches(node) {
            Answer::Affinity
        } else if node.lacks_handler(&self.handler) {
            Answer::NoHandler
        } else {
            Answer::Pass(disliked(&node.spec.taints, &self.tolerations) as u32)
        }
    }
}

/// The wishes of preferred node affinity.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Wishes(Vec<(i32, NodeTerm)>);

impl Wishes {
    /// `None` where there are none.
    pub(super) fn new(terms: &[PreferredSchedulingTerm]) -> Option<Self> {
        let all: Vec<_> = terms
            .iter()
            .filter(|t| t.weight != 0)
            .map(|t| (t.weight, NodeTerm::new(&t.preference)))
            .collect();
        (!all.is_empty()).then_some(Self(all))
    }

    fn weigh(&self, node: &Node) -> i64 {
        self.0
            .iter()
            .filter(|(_, term)| term.matches(node))
            .map(|(weight, _)| i64::from(*weight))
            .sum()
    }
}

/// Answers for one kind of pod, node by node; `None` where they are not kept.
#[derive(Debug)]
struct Kept<K, A: Copy> {
    what: K,
    answers: Option<Vec<Cell<Option<A>>>>,
}

/// Answers for all kinds of pods.
#[derive(Debug)]
struct Table<K, A: Copy> {
    kinds: Vec<Kept<K, A>>,
    index: HashMap<K, u32>,
}

impl<K: Clone + Eq + Hash, A: Copy> Table<K, A> {
    fn new() -> Self {
        Self {
            kinds: Vec::new(),
            index: HashMap::new(),
        }
    }

    fn id(&mut self, what: K, nodes: usize, keep: bool) -> u32 {
        if let Some(id) = self.index.get(&what) {
            return *id;
        }
        let id = self.kinds.len() as u32;
        let keep = keep && self.kinds.len() < MOST_KINDS;
        self.kinds.push(Kept {
            what: what.clone(),
            answers: keep.then(|| vec![Cell::new(None); nodes]),
        });
        self.index.insert(what, id);
        id
    }

    #[inline]
    fn get(&self, id: u32, node: usize, make: impl FnOnce(&K) -> A) -> A {
        let kind = &self.kinds[id as usize];
        let Some(answers) = &kind.answers else { return make(&kind.what) };
        if let Some(answer) = answers[node].get() {
            return answer;
        }
        let answer = make(&kind.what);
        answers[node].set(Some(answer));
        answer
    }

    fn forget(&self, node: usize) {
        self.kinds.iter().filter_map(|k| k.answers.as_ref()).for_each(|a| a[node].set(None));
    }
}

/// All that is kept.
#[derive(Debug)]
pub(super) struct Fixed {
    wants: Table<Wants, Answer>,
    wishes: Table<Wishes, i64>,
}

impl Fixed {
    pub(super) fn new() -> Self {
        Self {
            wants: Table::new(),
            wishes: Table::new(),
        }
    }

    /// The id of what a pod wants. Pods that name their nodes look at so few that nothing is kept.
    pub(super) fn wants(&mut self, wants: Wants, nodes: usize, names_nodes: bool) -> u32 {
        self.wants.id(wants, nodes, !names_nodes)
    }

    pub(super) fn wishes(&mut self, wishes: Wishes, nodes: usize) -> u32 {
        self.wishes.id(wishes, nodes, true)
    }

    #[inline]
    pub(super) fn ask(&self, id: u32, nodes: &[Node], node: usize) -> Answer {
        self.wants.get(id, node, |wants| wants.ask(&nodes[node]))
    }

    #[inline]
    pub(super) fn weigh(&self, id: u32, nodes: &[Node], node: usize) -> i64 {
        self.wishes.get(id, node, |wishes| wishes.weigh(&nodes[node]))
    }

    /// Forgets what was said of a node that has changed.
    pub(super) fn forget(&self, node: usize) {
        self.wants.forget(node);
        self.wishes.forget(node);
    }
}
