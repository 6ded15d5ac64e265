//! The nodes of a cluster and the pods on them.

use super::Options;
use super::counters::{Counters, NONE};
use super::fixed::{Fixed, UNSCHEDULABLE};
use super::message::Unschedulable;
use super::numbers::Columns;
use super::ports::HostPort;
use super::selector::{Labels, named_nodes, repels};
use super::shape::{EligibleKey, Load, Shapes};
use cofferdam_model::node::{Node, Taint};
use cofferdam_model::objects::Namespace;
use cofferdam_model::pod::Pod;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The label that every namespace has, with its name.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Why a pod or node cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// The node is not in the snapshot.
    #[error("node {0:?} is not known; give it with the other nodes")]
    UnknownNode(String),
    /// The node stands twice.
    #[error("node {0:?} is given twice; remove one")]
    TwoNodes(String),
    /// The pod has a place already.
    #[error("pod {namespace}/{name} is on node {node:?} already; remove it there first")]
    Twice {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Where it is.
        node: String,
    },
}

/// A pod that has a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Placed {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Whether it is being deleted: it still takes its place, but is not counted when pods are spread.
    pub ending: bool,
    /// When it started, in RFC 3339 and UTC as Kubernetes writes it: of pods of one priority, those
    /// that started last are preempted first. Where absent it is the latest.
    pub started: Option<String>,
}

impl From<Pod> for Placed {
    fn from(pod: Pod) -> Self {
        Self {
            pod: Arc::new(pod),
            ..Self::default()
        }
    }
}

/// A placed pod with what it is to others.
#[derive(Debug)]
pub(super) struct Resident {
    pub(super) placed: Placed,
    pub(super) load: Arc<Load>,
    pub(super) node: usize,
}

/// What was decided about pods of one kind when nothing was different.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) version: u64,
    pub(super) answer: Unschedulable,
    /// How far the next search starts.
    pub(super) visited: usize,
}

/// The nodes of a cluster with the pods that have a place, kept up to date as pods come and go.
#[derive(Debug)]
pub struct Snapshot {
    pub(super) options: Options,
    namespaces: BTreeMap<String, Labels>,
    /// In visiting order.
    pub(super) nodes: Vec<Node>,
    pub(super) by_name: HashMap<String, usize>,
    pub(super) residents: HashMap<u64, Resident>,
    /// The residents of each node, oldest first.
    pub(super) on_node: Vec<Vec<u64>>,
    /// The least priority of each node's residents; `None` where there are none.
    pub(super) least_priority: Vec<Option<i32>>,
    by_pod: HashMap<(String, String), u64>,
    next_resident: u64,
    /// Ports taken on each node.
    pub(super) ports: Vec<Vec<HostPort>>,
    pub(super) columns: Columns,
    pub(super) counters: Counters,
    pub(super) fixed: Fixed,
    pub(super) shapes: Shapes,
    pub(super) eligible: Vec<EligibleKey>,
    /// Where the next search starts.
    pub(super) start: usize,
    /// Differs whenever a decision can.
    pub(super) version: u64,
    pub(super) failures: HashMap<u32, Failure>,
}

impl Snapshot {
    /// A cluster without pods. Nodes are visited zone by zone in turn (upstream's `nodeTree`), in
    /// the order given. Of namespaces their labels count; one that is not given has only its name.
    ///
    /// # Errors
    /// [`PlaceError::TwoNodes`].
    pub fn new(nodes: Vec<Node>, namespaces: &[Namespace], options: Options) -> Result<Self, PlaceError> {
        let nodes = by_zones(nodes);
        let mut by_name = HashMap::with_capacity(nodes.len());
        for (at, node) in nodes.iter().enumerate() {
            if by_name.insert(node.metadata.name.clone(), at).is_some() {
                return Err(PlaceError::TwoNodes(node.metadata.name.clone()));
            }
        }
        let labels = |n: &Namespace| (n.metadata.name.clone(), n.metadata.labels.clone());
        Ok(Self {
            options,
            namespaces: namespaces.iter().map(labels).collect(),
            columns: Columns::new(nodes.iter().map(|n| &n.status.allocatable)),
            counters: Counters::new(nodes.iter().map(|n| n.metadata.labels.clone()).collect()),
            on_node: vec![Vec::new(); nodes.len()],
            least_priority: vec![None; nodes.len()],
            ports: vec![Vec::new(); nodes.len()],
            nodes,
            by_name,
            residents: HashMap::new(),
            by_pod: HashMap::new(),
            next_resident: 0,
            fixed: Fixed::new(),
            shapes: Shapes::new(),
            eligible: Vec::new(),
            start: 0,
            version: 0,
            failures: HashMap::new(),
        })
    }

    /// The nodes, in visiting order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The pods on a node, oldest first; none where it is not known.
    pub fn pods_on<'a>(&'a self, node: &str) -> impl Iterator<Item = &'a Pod> {
        let ids = self.by_name.get(node).map_or(&[][..], |at| &self.on_node[*at]);
        ids.iter().filter_map(|id| self.residents.get(id)).map(|r| &*r.placed.pod)
    }

    /// Puts a pod on a node, whether it fits or not: one that runs there, or one just decided.
    ///
    /// # Errors
    /// [`PlaceError::UnknownNode`], [`PlaceError::Twice`].
    pub fn place(&mut self, pod: impl Into<Placed>, node: &str) -> Result<(), PlaceError> {
        let placed = pod.into();
        let at = *self.by_name.get(node).ok_or_else(|| PlaceError::UnknownNode(node.to_owned()))?;
        let id = self.next_resident;
        if let Some(key) = key_of(&placed.pod) {
            if let Some(there) = self.by_pod.get(&key).and_then(|id| self.residents.get(id)) {
                let node = self.nodes[there.node].metadata.name.clone();
                return Err(PlaceError::Twice {
                    namespace: key.0,
                    name: key.1,
                    node,
                });
            }
            self.by_pod.insert(key, id);
        }
        self.next_resident += 1;
        let load = self.load_of(&placed.pod);
        self.residents.insert(id, Resident { placed, load, node: at });
        self.settle(id);
        Ok(())
    }

    /// Takes a pod from its node.
    pub fn remove(&mut self, namespace: &str, name: &str) -> Option<Placed> {
        let id = self.by_pod.get(&(namespace.to_owned(), name.to_owned())).copied()?;
        self.evict(id)
    }

    /// Cordons a node and takes its pods from it, but for those whose affinity names this very node
    /// (a DaemonSet's, which `kubectl drain --ignore-daemonsets` leaves). They come back oldest
    /// first and without a node, ready to be placed elsewhere.
    ///
    /// # Errors
    /// [`PlaceError::UnknownNode`].
    pub fn drain(&mut self, node: &str) -> Result<Vec<Pod>, PlaceError> {
        let at = *self.by_name.get(node).ok_or_else(|| PlaceError::UnknownNode(node.to_owned()))?;
        let all = self.on_node[at].clone();
        let stays = |s: &Self, id: &u64| {
            s.residents
                .get(id)
                .and_then(|r| named_nodes(&r.placed.pod.spec))
                .is_some_and(|names| names.contains(node))
        };
        let (staying, leaving): (Vec<u64>, Vec<u64>) = all.iter().partition(|id| stays(self, id));
        let left: Vec<Placed> = leaving.iter().filter_map(|id| self.evict(*id)).collect();
        staying.iter().for_each(|id| self.unsettle(*id));
        self.cordon(at);
        staying.iter().for_each(|id| self.settle(*id));
        let unplaced = |placed: Placed| {
            let mut pod = Arc::unwrap_or_clone(placed.pod);
            pod.spec.node_name = None;
            pod
        };
        Ok(left.into_iter().map(unplaced).collect())
    }

    /// Marks an empty node as `kubectl cordon` and the node controller do.
    fn cordon(&mut self, at: usize) {
        let spec = &mut self.nodes[at].spec;
        spec.unschedulable = true;
        let taint = Taint {
            key: UNSCHEDULABLE.into(),
            value: String::new(),
            effect: "NoSchedule".into(),
        };
        if !spec.taints.contains(&taint) {
            spec.taints.push(taint);
        }
        self.fixed.forget(at);
        for id in 0..self.eligible.len() {
            let counts = self.is_eligible(&self.eligible[id], at);
            self.counters.set_eligible(id as u32, at, counts);
        }
        self.version += 1;
    }

    fn evict(&mut self, id: u64) -> Option<Placed> {
        self.unsettle(id);
        let resident = self.residents.remove(&id)?;
        if let Some(key) = key_of(&resident.placed.pod) {
            self.by_pod.remove(&key);
        }
        Some(resident.placed)
    }

    /// Counts a resident in.
    pub(super) fn settle(&mut self, id: u64) {
        let Some(resident) = self.residents.get(&id) else { return };
        let (node, load) = (resident.node, resident.load.clone());
        let list = &mut self.on_node[node];
        let place = list.partition_point(|other| *other < id);
        list.insert(place, id);
        self.counters.count(load.set, &load.owned, node, resident.placed.ending, 1);
        self.bear(node, &load);
        self.version += 1;
    }

    /// Counts a resident out; it stays a resident.
    pub(super) fn unsettle(&mut self, id: u64) {
        let Some(resident) = self.residents.get(&id) else { return };
        let (node, load) = (resident.node, resident.load.clone());
        self.counters.count(load.set, &load.owned, node, resident.placed.ending, -1);
        self.on_node[node].retain(|other| *other != id);
        self.columns.clear(node);
        self.ports[node].clear();
        self.least_priority[node] = None;
        let others: Vec<Arc<Load>> = self.on_node[node]
            .iter()
            .filter_map(|id| Some(self.residents.get(id)?.load.clone()))
            .collect();
        others.iter().for_each(|load| self.bear(node, load));
        self.version += 1;
    }

    /// Adds a load to a node's own sums.
    fn bear(&mut self, node: usize, load: &Load) {
        self.columns.add(node, &load.numbers);
        self.ports[node].extend(load.ports.iter().cloned());
        let least = &mut self.least_priority[node];
        *least = Some(least.map_or(load.priority, |p| p.min(load.priority)));
    }

    /// Whether a node counts in constraints of this kind.
    pub(super) fn is_eligible(&self, key: &EligibleKey, node: usize) -> bool {
        let has_all = key.columns.iter().all(|c| self.counters.column(*c).domains[node] != NONE);
        let node = &self.nodes[node];
        has_all
            && key.nodes.as_ref().is_none_or(|n| n.matches(node))
            && key.tolerations.as_ref().is_none_or(|t| !repels(&node.spec.taints, t))
    }

    /// The labels of a namespace.
    pub(super) fn labels_of_namespace(&self, namespace: &str) -> Labels {
        let mut labels = self.namespaces.get(namespace).cloned().unwrap_or_default();
        labels.entry(NAMESPACE_NAME.to_owned()).or_insert_with(|| namespace.to_owned());
        labels
    }
}

/// The name by which a pod is found; none where one is still to be generated.
fn key_of(pod: &Pod) -> Option<(String, String)> {
    let meta = &pod.metadata;
    (!meta.name.is_empty()).then(|| (meta.namespace_or_default().to_owned(), meta.name.clone()))
}

/// The nodes, one of each zone in turn (`pkg/scheduler/backend/cache/node_tree.go`).
fn by_zones(nodes: Vec<Node>) -> Vec<Node> {
    let mut zones: Vec<Vec<Node>> = Vec::new();
    let mut index: HashMap<(String, String), usize> = HashMap::new();
    for node in nodes {
        let label = |new: &str, old: &str| {
            let labels = &node.metadata.labels;
            labels.get(new).or_else(|| labels.get(old)).cloned().unwrap_or_default()
        };
        let zone = (
            label("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"),
            label("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"),
        );
        let at = *index.entry(zone).or_insert(zones.len());
        if at == zones.len() {
            zones.push(Vec::new());
        }
        zones[at].push(node);
    }
    let mut zones: Vec<_> = zones.into_iter().map(Vec::into_iter).collect();
    let mut order = Vec::new();
    while !zones.is_empty() {
        zones.retain_mut(|zone| match zone.next() {
            Some(node) => {
                order.push(node);
                true
            }
            None => false,
        });
    }
    order
}
