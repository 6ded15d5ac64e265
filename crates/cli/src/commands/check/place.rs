//! The nodes, and where pods land on them, one after another.

use super::given::Given;
use super::input::key;
use super::report::{Explained, Move, NodeRow, Points, Preempts, Thought};
use anyhow::{Result, bail};
use cofferdam_decide::resources::pod_requests;
use cofferdam_decide::schedule::{Decision, NodeReport, Options, PlaceError, Placed, Request, Snapshot, Unschedulable};
use cofferdam_manifest::nearest;
use cofferdam_model::objects::{LabelSelector, Namespace, RuntimeClass};
use cofferdam_model::pod::{Pod, Toleration};
use cofferdam_model::{Quantity, ResourceList};
use std::collections::{BTreeSet, HashMap, HashSet};

/// What upstream says of a pod with scheduling gates (`pkg/registry/core/pod/strategy.go`).
const GATED: &str = "Scheduling is blocked due to non-empty scheduling gates";
/// What upstream says of nodes other than the one that a pod names.
const NOT_MEANT: &str = "node(s) didn't match the requested node name";
/// The priority classes that every cluster has (`pkg/apis/scheduling`).
const SYSTEM_PRIORITIES: [(&str, i32); 2] = [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

/// What became of a pod.
#[derive(Debug, Default)]
pub(super) struct Landing {
    /// Where it is.
    pub(super) node: Option<String>,
    pub(super) score: Option<i64>,
    /// Whether it waits for its gates.
    pub(super) gated: bool,
    /// Why it has no node.
    pub(super) message: Option<String>,
    pub(super) hint: Option<String>,
    pub(super) preempts: Option<Preempts>,
    /// What is to be known, with the field that it is about.
    pub(super) warnings: Vec<(&'static str, String)>,
}

/// The nodes with the pods that are on them.
pub(super) struct Placer {
    snapshot: Snapshot,
    /// Handlers that any node lists.
    offered: BTreeSet<String>,
    drained: BTreeSet<String>,
    moves: Vec<Move>,
    /// How many pods of manifests each node has.
    placed: HashMap<String, usize>,
    /// Nodes that pods name and that there are not, with what was meant.
    unknown: HashMap<String, String>,
    pub(super) notes: Vec<String>,
}

impl Placer {
    /// Puts the cluster's pods where they are, then drains nodes. `classes` are those that exist in the
    /// end.
    pub(super) fn new(given: Given, namespaces: &[Namespace], classes: &[RuntimeClass], drain: &[String]) -> Result<Self> {
        let cluster = given.cluster;
        let listed = cluster.nodes.iter().filter_map(|n| n.status.runtime_handlers.as_ref());
        let offered = listed.flatten().map(|h| h.name.clone()).filter(|h| !h.is_empty()).collect();
        let mut placer = Self {
            snapshot: Snapshot::new(cluster.nodes, namespaces, Options::default())?,
            offered,
            drained: BTreeSet::new(),
            moves: Vec::new(),
            placed: HashMap::new(),
            unknown: HashMap::new(),
            notes: Vec::new(),
        };
        let mut bound = HashSet::new();
        let (mut lost, mut waiting) = (Vec::new(), 0);
        for pod in cluster.pods {
            let Some(node) = pod.pod.spec.node_name.clone() else {
                waiting += 1;
                continue;
            };
            let id = key(&pod.pod.metadata);
            if pod.bound {
                bound.insert(id.clone());
            }
            let (ending, started) = (pod.ending, pod.started);
            let placed = Placed {
                ending,
                started,
                ..Placed::from(pod.pod)
            };
            match placer.snapshot.place(placed, &node) {
                Ok(()) => {}
                Err(PlaceError::UnknownNode(node)) => lost.push(format!("{}/{} on {node}", id.0, id.1)),
                Err(twice) => return Err(twice.into()),
            }
        }
        if let Some(first) = lost.first() {
            placer.notes.push(format!(
                "{} left out, as the nodes are not given: {first}{}",
                pods(lost.len()),
                more(lost.len())
            ));
        }
        if waiting > 0 {
            let verb = if waiting == 1 { "has" } else { "have" };
            placer
                .notes
                .push(format!("{} of the cluster {verb} no node yet, and no place here", pods(waiting)));
        }
        placer.drain(drain, classes, &bound)?;
        Ok(placer)
    }

    fn drain(&mut self, nodes: &[String], classes: &[RuntimeClass], bound: &HashSet<(String, String)>) -> Result<()> {
        let mut leaving = Vec::new();
        for node in nodes {
            if !self.drained.insert(node.clone()) {
                continue;
            }
            let pods = match self.snapshot.drain(node) {
                Ok(pods) => pods,
                Err(_) => bail!("--drain {node}: there is no such node{}", self.near_node(node)),
            };
            for pod in pods {
                if bound.contains(&key(&pod.metadata)) {
                    self.snapshot.place(pod, node)?;
                } else {
                    leaving.push((pod, node.clone()));
                }
            }
        }
        for (pod, from) in leaving {
            let class = pod.spec.runtime_class_name.as_deref();
            let class = classes.iter().find(|c| Some(c.metadata.name.as_str()) == class);
            let handler = class.map_or("", |c| c.handler.as_str());
            let (node, message) = match self.snapshot.decide(&Request {
                handler,
                ..Request::new(&pod)
            }) {
                Decision::Placed(placement) => (Some(placement.node), None),
                Decision::Unschedulable(why) => (None, Some(why.message)),
            };
            let (namespace, name) = key(&pod.metadata);
            if let Some(node) = &node {
                let mut pod = pod;
                pod.spec.node_name = Some(node.clone());
                self.snapshot.place(pod, node)?;
            }
            self.moves.push(Move {
                namespace,
                name,
                from,
                node,
                message,
            });
        }
        Ok(())
    }

    /// Makes room where the cluster has a pod of this name, whose place the new one takes: the node.
    pub(super) fn make_room(&mut self, pod: &Pod) -> Option<String> {
        let meta = &pod.metadata;
        let old = self.snapshot.remove(meta.namespace_or_default(), &meta.name)?;
        Some(old.pod.spec.node_name.clone().unwrap_or_default())
    }

    /// Finds a node for a pod, and puts it there.
    pub(super) fn land(&mut self, pod: &Pod, handler: &str, spread_selector: Option<&LabelSelector>) -> Result<Landing> {
        let mut landing = Landing::default();
        if !pod.spec.scheduling_gates.is_empty() {
            (landing.gated, landing.message) = (true, Some(GATED.to_owned()));
            return Ok(landing);
        }
        let mut pod = pod.clone();
        if let (None, Some(class)) = (pod.spec.priority, pod.spec.priority_class_name.as_deref().filter(|c| !c.is_empty())) {
            pod.spec.priority = SYSTEM_PRIORITIES
                .iter()
                .find(|(name, _)| *name == class)
                .map(|(_, priority)| *priority);
            if pod.spec.priority.is_none() {
                let text = "priority classes are not read: the pod is placed with priority 0, so that it preempts no other";
                landing.warnings.push(("spec.priorityClassName", text.to_owned()));
            }
        }
        if let Some(node) = pod.spec.node_name.clone().filter(|n| !n.is_empty()) {
            landing.message = self.refused_by(&pod, &node, handler);
            if landing.message.is_none() {
                landing.node = Some(node);
            }
        } else {
            match self.snapshot.decide(&Request {
                pod: &pod,
                handler,
                spread_selector,
            }) {
                Decision::Placed(placement) => (landing.node, landing.score) = (Some(placement.node), placement.score),
                Decision::Unschedulable(why) => self.explain_failure(&mut landing, *why, handler),
            }
        }
        if let Some(node) = &landing.node {
            self.snapshot.place(pod, node)?;
            match self.placed.get_mut(node) {
                Some(count) => *count += 1,
                None => drop(self.placed.insert(node.clone(), 1)),
            }
        }
        Ok(landing)
    }

    fn explain_failure(&self, landing: &mut Landing, why: Unschedulable, handler: &str) {
        if why
            .reasons
            .iter()
            .any(|(_, reason)| reason.starts_with("node(s) did not offer runtime handler"))
        {
            landing.hint = Some(self.near_handler(handler));
        }
        landing.message = Some(why.message);
        landing.preempts = why.nomination.map(|nomination| Preempts {
            node: nomination.node,
            victims: nomination.victims.iter().map(|v| format!("{}/{}", v.namespace, v.name)).collect(),
        });
    }

    /// Why the kubelet of the node that a pod names refuses it; the scheduler is not asked. A kubelet
    /// looks at its resources, ports, labels and handlers, and at taints that evict
    /// (`pkg/kubelet/lifecycle/predicate.go`).
    fn refused_by(&mut self, pod: &Pod, node: &str, handler: &str) -> Option<String> {
        let past = format!("spec.nodeName sends it past the scheduler to node {node:?}");
        if !self.snapshot.nodes().iter().any(|n| n.metadata.name == node) {
            // Thousands of pods can make one mistake.
            let near = match self.unknown.get(node) {
                Some(near) => near.clone(),
                None => self.near_node(node),
            };
            self.unknown.insert(node.to_owned(), near.clone());
            return Some(format!("{past}, which is not among the nodes{near}"));
        }
        let mut pod = pod.clone();
        pod.spec.topology_spread_constraints.clear();
        if let Some(affinity) = &mut pod.spec.affinity {
            (affinity.pod_affinity, affinity.pod_anti_affinity) = (None, None);
        }
        pod.spec.tolerations.push(Toleration {
            operator: "Exists".into(),
            effect: "NoSchedule".into(),
            ..Toleration::default()
        });
        let request = Request {
            handler,
            ..Request::new(&pod)
        };
        let Decision::Unschedulable(why) = self.snapshot.decide(&request) else {
            return None;
        };
        // What the other nodes say is that they are not meant.
        let own = why
            .reasons
            .into_iter()
            .map(|(_, reason)| reason)
            .filter(|reason| reason != NOT_MEANT);
        Some(format!("{past}, whose kubelet refuses it: {}", own.collect::<Vec<_>>().join(", ")))
    }

    /// What the scheduler thinks of every node for a pod that is to land.
    pub(super) fn explain(&mut self, pod: &Pod, name: String, handler: &str, spread_selector: Option<&LabelSelector>) -> Explained {
        let reports = self.snapshot.report(&Request {
            pod,
            handler,
            spread_selector,
        });
        Explained {
            namespace: pod.metadata.namespace_or_default().to_owned(),
            name,
            nodes: reports.into_iter().map(thought).collect(),
        }
    }

    fn near_node(&self, node: &str) -> String {
        let names = self.snapshot.nodes().iter().map(|n| n.metadata.name.as_str());
        nearest(node, names).map_or_else(String::new, |near| format!("; did you mean {near:?}?"))
    }

    /// What is to be said of classes whose handler no node offers, where all nodes list theirs.
    pub(super) fn unoffered<'c>(&self, classes: impl Iterator<Item = &'c RuntimeClass>) -> Vec<String> {
        if self.snapshot.nodes().iter().any(|n| n.status.runtime_handlers.is_none()) {
            return Vec::new();
        }
        let note = |class: &RuntimeClass| {
            let (name, handler) = (&class.metadata.name, &class.handler);
            format!(
                "class {name:?}: no node offers its handler {handler:?}; {}",
                self.near_handler(handler)
            )
        };
        classes.filter(|c| !self.offered.contains(&c.handler)).map(note).collect()
    }

    fn near_handler(&self, handler: &str) -> String {
        match nearest(handler, self.offered.iter().map(String::as_str)) {
            Some(near) => format!("did you mean handler {near:?}?"),
            None if self.offered.is_empty() => "no node offers any handler but its default".to_owned(),
            None => {
                let names: Vec<_> = self.offered.iter().map(|h| format!("{h:?}")).collect();
                format!("handlers that nodes offer: {}", names.join(", "))
            }
        }
    }

    /// The nodes as they are now, by name; what drained ones lost; and what there is to note.
    pub(super) fn end(self) -> (Vec<NodeRow>, Vec<Move>, Vec<String>) {
        let mut rows: Vec<NodeRow> = self
            .snapshot
            .nodes()
            .iter()
            .map(|node| {
                let name = &node.metadata.name;
                let mut requested = ResourceList::new();
                let mut pods = 0;
                for pod in self.snapshot.pods_on(name) {
                    for (resource, amount) in pod_requests(pod) {
                        let sum = requested
                            .get(&resource)
                            .map_or_else(|| amount.clone(), |sum: &Quantity| sum.saturating_add(&amount));
                        requested.insert(resource, sum);
                    }
                    pods += 1;
                }
                NodeRow {
                    name: name.clone(),
                    unschedulable: node.spec.unschedulable,
                    drained: self.drained.contains(name),
                    pods,
                    placed: self.placed.get(name).copied().unwrap_or_default(),
                    allocatable: node.status.allocatable.clone(),
                    requested,
                    handlers: node
                        .status
                        .runtime_handlers
                        .as_ref()
                        .map(|all| all.iter().map(|h| h.name.clone()).collect()),
                }
            })
            .collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        (rows, self.moves, self.notes)
    }
}

fn thought(report: NodeReport) -> Thought {
    let (scores, reasons) = match report.outcome {
        Ok(s) => {
            let points = Points {
                taints: s.taints,
                affinity: s.affinity,
                room: s.room,
                balance: s.balance,
                spread: s.spread,
                pods: s.pods,
                total: s.total(),
            };
            (Some(points), Vec::new())
        }
        Err(reasons) => (None, reasons),
    };
    Thought {
        name: report.node,
        scores,
        reasons,
    }
}

/// `1 pod`, `2 pods`.
pub(super) fn pods(count: usize) -> String {
    format!("{count} pod{}", if count == 1 { "" } else { "s" })
}

fn more(count: usize) -> String {
    if count > 1 {
        format!(" and {} more", count - 1)
    } else {
        String::new()
    }
}
