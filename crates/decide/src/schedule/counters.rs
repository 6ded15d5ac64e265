//! How many pods of which kind each topology domain holds, kept up to date as pods come and go.
//!
//! A column gives each node's domain of one topology key. A counter counts pods by the domains of a
//! column: those that match it (wherever a constraint or affinity of a pod asks about other pods),
//! or those that own a term of affinity (wherever it asks about the pod that comes). Pods with equal
//! namespace and labels share one label set, which remembers the counters that it belongs to.

use super::selector::{Labels, Selector};
use std::collections::{BTreeSet, HashMap};

/// No domain: the node lacks the label.
pub(super) const NONE: u32 = u32::MAX;
/// With more domains than this a counter keeps only those that are not empty.
const DENSE: usize = 256;

/// What makes a domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum TopologyKey {
    /// The value of a label.
    Label(String),
    /// Each node is one.
    Node,
}

/// The domains of one topology key.
#[derive(Debug, Default)]
pub(super) struct Column {
    /// Of each node, or [`NONE`].
    pub(super) domains: Vec<u32>,
    /// How many there are.
    pub(super) count: usize,
}

impl Column {
    fn new(key: &TopologyKey, labels: &[Labels]) -> Self {
        let TopologyKey::Label(key) = key else {
            return Self {
                domains: (0..labels.len() as u32).collect(),
                count: labels.len(),
            };
        };
        let mut known: HashMap<&str, u32> = HashMap::new();
        let mut domains = Vec::with_capacity(labels.len());
        for labels in labels {
            let next = known.len() as u32;
            domains.push(labels.get(key).map_or(NONE, |value| *known.entry(value).or_insert(next)));
        }
        Self {
            domains,
            count: known.len(),
        }
    }
}

/// Pods that something is about: by namespace and labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Matcher {
    pub(super) namespaces: BTreeSet<String>,
    pub(super) by_namespace_labels: Selector,
    pub(super) selector: Selector,
}

impl Matcher {
    pub(super) fn matches(&self, set: &LabelSet) -> bool {
        (self.namespaces.contains(&set.namespace) || self.by_namespace_labels.matches(&set.namespace_labels))
            && self.selector.matches(&set.labels)
    }
}

/// Which pods a counter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Those that match, but for those that are ending (spreading).
    Running,
    /// Those that match (affinity of the pod that comes).
    Present,
    /// Those that own a required anti-affinity term.
    Repelling,
    /// Those that own a term of this weight: preferred, or required affinity.
    Wishing(i32),
}

/// What a counter is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct CounterKey {
    /// All must match.
    pub(super) matchers: Vec<Matcher>,
    pub(super) column: u32,
    pub(super) kind: Kind,
    /// The nodes that count; all where `None`.
    pub(super) eligible: Option<u32>,
}

/// Counts by domain.
#[derive(Debug)]
enum Counts {
    Dense(Vec<u32>),
    /// The domains that are not empty, and their counts.
    Sparse(Vec<u64>, HashMap<u32, u32>),
}

/// A counter.
#[derive(Debug)]
pub(super) struct Counter {
    key: CounterKey,
    counts: Counts,
    /// Sum over all domains.
    pub(super) total: u64,
    /// The domains that its nodes are in, where not all nodes count.
    present: Vec<u32>,
}

impl Counter {
    /// Pods in a domain; none where there is no domain.
    #[inline]
    pub(super) fn get(&self, domain: u32) -> u32 {
        match &self.counts {
            Counts::Dense(counts) => counts.get(domain as usize).copied().unwrap_or(0),
            Counts::Sparse(bits, counts) => {
                let word = bits.get(domain as usize / 64).copied().unwrap_or(0);
                if word >> (domain % 64) & 1 == 0 {
                    0
                } else {
                    counts.get(&domain).copied().unwrap_or(0)
                }
            }
        }
    }

    /// How many domains its nodes are in.
    pub(super) fn domains(&self) -> usize {
        self.present.len()
    }

    /// The least count of these domains; `None` where there are none.
    pub(super) fn least(&self) -> Option<u32> {
        match &self.counts {
            Counts::Dense(_) => self.present.iter().map(|d| self.get(*d)).min(),
            // What is not empty is present, so fewer entries than domains leave an empty one.
            Counts::Sparse(_, counts) if counts.len() < self.present.len() => Some(0),
            Counts::Sparse(_, counts) => counts.values().copied().min(),
        }
    }

    fn change(&mut self, domain: u32, by: i64) {
        let now = (i64::from(self.get(domain)) + by).clamp(0, u32::MAX.into()) as u32;
        self.total = self.total.saturating_add_signed(by);
        match &mut self.counts {
            Counts::Dense(counts) => {
                if let Some(count) = counts.get_mut(domain as usize) {
                    *count = now;
                }
            }
            Counts::Sparse(bits, counts) => {
                let Some(word) = bits.get_mut(domain as usize / 64) else { return };
                if now == 0 {
                    counts.remove(&domain);
                    *word &= !(1 << (domain % 64));
                } else {
                    counts.insert(domain, now);
                    *word |= 1 << (domain % 64);
                }
            }
        }
    }
}

/// Pods with equal namespace and labels.
#[derive(Debug)]
pub(super) struct LabelSet {
    pub(super) namespace: String,
    pub(super) namespace_labels: Labels,
    pub(super) labels: Labels,
    counted_by: Vec<u32>,
    /// Counters of required anti-affinity that is against these pods.
    pub(super) repelled_by: Vec<u32>,
    /// Counters of wishes about these pods, and their weights.
    pub(super) wished_by: Vec<(u32, i32)>,
    /// How many of them are on each node: running, and ending.
    nodes: HashMap<u32, [u32; 2]>,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Counters {
    node_labels: Vec<Labels>,
    columns: Vec<Column>,
    columns_by_key: HashMap<TopologyKey, u32>,
    counters: Vec<Counter>,
    counters_by_key: HashMap<CounterKey, u32>,
    /// Counters by a label that all their pods have, and those that have no such label.
    pinned: HashMap<(String, String), Vec<u32>>,
    loose: Vec<u32>,
    sets: Vec<LabelSet>,
    sets_by_labels: HashMap<(String, Labels), u32>,
    sets_by_label: HashMap<(String, String), Vec<u32>>,
    /// Which nodes count in a kind of spread constraints.
    eligible: Vec<Vec<bool>>,
}

impl Counters {
    /// No pods, on nodes with these labels.
    pub(super) fn new(node_labels: Vec<Labels>) -> Self {
        Self {
            node_labels,
            ..Self::default()
        }
    }

    /// The column of a key.
    pub(super) fn column_of(&mut self, key: TopologyKey) -> u32 {
        if let Some(id) = self.columns_by_key.get(&key) {
            return *id;
        }
        let id = self.columns.len() as u32;
        self.columns.push(Column::new(&key, &self.node_labels));
        self.columns_by_key.insert(key, id);
        id
    }

    pub(super) fn column(&self, id: u32) -> &Column {
        &self.columns[id as usize]
    }

    pub(super) fn get(&self, id: u32) -> &Counter {
        &self.counters[id as usize]
    }

    /// Pods of a counter in the domain of a node.
    #[inline]
    pub(super) fn at(&self, counter: u32, node: usize) -> u32 {
        let counter = &self.counters[counter as usize];
        counter.get(self.columns[counter.key.column as usize].domains[node])
    }

    /// Whether a node is in any domain of the counter's topology.
    pub(super) fn has_domain(&self, counter: u32, node: usize) -> bool {
        self.columns[self.counters[counter as usize].key.column as usize].domains[node] != NONE
    }

    pub(super) fn set(&self, id: u32) -> &LabelSet {
        &self.sets[id as usize]
    }

    /// Adds a kind of constraints, for which these nodes count; its id is one more than the last.
    pub(super) fn add_eligible(&mut self, nodes: Vec<bool>) -> u32 {
        self.eligible.push(nodes);
        self.eligible.len() as u32 - 1
    }

    /// Changes whether a node counts. It must hold no pods then.
    pub(super) fn set_eligible(&mut self, id: u32, node: usize, counts: bool) {
        self.eligible[id as usize][node] = counts;
        for at in 0..self.counters.len() {
            if self.counters[at].key.eligible == Some(id) {
                self.counters[at].present = self.present(&self.counters[at].key);
            }
        }
    }

    /// The domains of the nodes that count.
    fn present(&self, key: &CounterKey) -> Vec<u32> {
        let Some(eligible) = key.eligible.and_then(|e| self.eligible.get(e as usize)) else {
            return Vec::new();
        };
        let column = &self.columns[key.column as usize];
        let mut seen = vec![false; column.count];
        for (domain, _) in column.domains.iter().zip(eligible).filter(|(d, counts)| **d != NONE && **counts) {
            seen[*domain as usize] = true;
        }
        (0..column.count as u32).filter(|d| seen[*d as usize]).collect()
    }

    /// The label set of a namespace and labels; a new one learns which counters it belongs to.
    pub(super) fn set_of(&mut self, namespace: &str, namespace_labels: &Labels, labels: &Labels) -> u32 {
        let key = (namespace.to_owned(), labels.clone());
        if let Some(id) = self.sets_by_labels.get(&key) {
            return *id;
        }
        let id = self.sets.len() as u32;
        let mut set = LabelSet {
            namespace: namespace.to_owned(),
            namespace_labels: namespace_labels.clone(),
            labels: labels.clone(),
            counted_by: Vec::new(),
            repelled_by: Vec::new(),
            wished_by: Vec::new(),
            nodes: HashMap::new(),
        };
        for (name, value) in labels {
            let pair = (name.clone(), value.clone());
            for counter in self.pinned.get(&pair).into_iter().flatten() {
                join(*counter, &self.counters[*counter as usize].key, &mut set);
            }
            self.sets_by_label.entry(pair).or_default().push(id);
        }
        for counter in &self.loose {
            join(*counter, &self.counters[*counter as usize].key, &mut set);
        }
        self.sets.push(set);
        self.sets_by_labels.insert(key, id);
        id
    }

    /// The counter of a key; a new one counts the pods that are there. (Pods that own a term join
    /// when they are counted next: a term's counter exists before its first pod.)
    pub(super) fn counter_of(&mut self, key: CounterKey) -> u32 {
        if let Some(id) = self.counters_by_key.get(&key) {
            return *id;
        }
        let id = self.counters.len() as u32;
        let domains = self.columns[key.column as usize].count;
        let counts = if domains <= DENSE {
            Counts::Dense(vec![0; domains])
        } else {
            Counts::Sparse(vec![0; domains.div_ceil(64)], HashMap::new())
        };
        let present = self.present(&key);
        self.counters.push(Counter {
            key: key.clone(),
            counts,
            total: 0,
            present,
        });
        let pin = key
            .matchers
            .iter()
            .find_map(|m| m.selector.pin())
            .map(|(k, v)| (k.to_owned(), v.to_owned()));
        let candidates = match &pin {
            Some(pair) => self.sets_by_label.get(pair).cloned().unwrap_or_default(),
            None => (0..self.sets.len() as u32).collect(),
        };
        for set in candidates {
            join(id, &key, &mut self.sets[set as usize]);
            self.count_what_is_there(id, set);
        }
        match pin {
            Some(pair) => self.pinned.entry(pair).or_default().push(id),
            None => self.loose.push(id),
        }
        self.counters_by_key.insert(key, id);
        id
    }

    fn count_what_is_there(&mut self, counter: u32, set: u32) {
        let set = &self.sets[set as usize];
        if set.counted_by.last() != Some(&counter) {
            return;
        }
        let there: Vec<(u32, [u32; 2])> = set.nodes.iter().map(|(n, c)| (*n, *c)).collect();
        for (node, [running, ending]) in there {
            let ending = if self.counters[counter as usize].key.kind == Kind::Running {
                0
            } else {
                ending
            };
            self.change(counter, node as usize, i64::from(running) + i64::from(ending));
        }
    }

    fn change(&mut self, counter: u32, node: usize, by: i64) {
        let counter = &mut self.counters[counter as usize];
        let domain = self.columns[counter.key.column as usize].domains[node];
        let counts = counter.key.eligible.is_none_or(|e| self.eligible[e as usize][node]);
        if domain != NONE && counts && by != 0 {
            counter.change(domain, by);
        }
    }

    /// A pod of a label set, which owns the terms of some counters, comes to a node (`by` is 1) or
    /// goes from it (-1).
    pub(super) fn count(&mut self, set: u32, owned: &[u32], node: usize, ending: bool, by: i64) {
        let counted_by = std::mem::take(&mut self.sets[set as usize].counted_by);
        for counter in &counted_by {
            if !(ending && self.counters[*counter as usize].key.kind == Kind::Running) {
                self.change(*counter, node, by);
            }
        }
        for counter in owned {
            self.change(*counter, node, by);
        }
        let set = &mut self.sets[set as usize];
        set.counted_by = counted_by;
        let here = set.nodes.entry(node as u32).or_default();
        let count = &mut here[usize::from(ending)];
        *count = count.saturating_add_signed(by as i32);
        if *here == [0, 0] {
            set.nodes.remove(&(node as u32));
        }
    }
}

/// Tells a label set of a counter that it belongs to.
fn join(id: u32, key: &CounterKey, set: &mut LabelSet) {
    if !key.matchers.iter().all(|m| m.matches(set)) {
        return;
    }
    match key.kind {
        Kind::Running | Kind::Present => set.counted_by.push(id),
        Kind::Repelling => set.repelled_by.push(id),
        Kind::Wishing(weight) => set.wished_by.push((id, weight)),
    }
}
