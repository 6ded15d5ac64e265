//! What the scheduler reads of a pod, made once for all pods that are alike: a load is what a pod
//! is to others once it is placed, an ask what it wants before.

use super::Request;
use super::counters::{CounterKey, Kind, Matcher, TopologyKey};
use super::fixed::{Wants, Wishes};
use super::keys::{AskKey, AskView, LoadKey, LoadView, Once};
use super::numbers::{Needs, Numbers};
use super::ports::{self, HostPort};
use super::selector::{Labels, NodeMatch, Selector, named_nodes};
use super::snapshot::Snapshot;
use cofferdam_model::affinity::{PodAffinity, PodAffinityTerm, TopologySpreadConstraint};
use cofferdam_model::objects::LabelSelector;
use cofferdam_model::pod::{Pod, Toleration};
use std::collections::BTreeSet;
use std::sync::Arc;

/// `InterPodAffinityArgs.hardPodAffinityWeight`: what required affinity of a placed pod weighs for
/// the pods that it wants near.
const HARD_AFFINITY: i32 = 1;
const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";
/// `systemDefaultConstraints`: key and skew.
const DEFAULT_SPREAD: [(&str, i32); 2] = [(HOSTNAME, 3), (ZONE, 5)];

/// What a placed pod is to others.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) set: u32,
    /// Counters of the terms that it owns.
    pub(super) owned: Vec<u32>,
    pub(super) numbers: Numbers,
    pub(super) ports: Vec<HostPort>,
    pub(super) priority: i32,
}

/// What a pod wants.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) load: Arc<Load>,
    pub(super) wants: u32,
    pub(super) handler: String,
    pub(super) wishes: Option<u32>,
    /// The nodes that its affinity names; `None` where it names none.
    pub(super) named: Option<BTreeSet<String>>,
    pub(super) hard: Vec<HardSpread>,
    pub(super) soft: Vec<SoftSpread>,
    /// Whether nodes without all keys of `soft` are left out of it.
    pub(super) soft_wants_all: bool,
    /// Counters of required affinity, and whether the pod itself satisfies it.
    pub(super) near: Vec<u32>,
    pub(super) near_self: bool,
    /// Counters of required anti-affinity.
    pub(super) far: Vec<u32>,
    /// Counters of wishes about other pods, and their weights.
    pub(super) weighed: Vec<(u32, i32)>,
    pub(super) never_preempts: bool,
    /// Why it cannot be read; such a pod goes nowhere.
    pub(super) broken: Option<String>,
}

/// A constraint that must hold.
#[derive(Debug)]
pub(super) struct HardSpread {
    pub(super) counter: u32,
    pub(super) column: u32,
    pub(super) max_skew: i64,
    pub(super) min_domains: i64,
    pub(super) counts_itself: bool,
}

/// A constraint that had better hold.
#[derive(Debug)]
pub(super) struct SoftSpread {
    pub(super) counter: u32,
    pub(super) column: u32,
    /// Each node counts by itself (`kubernetes.io/hostname`).
    pub(super) by_node: bool,
    pub(super) max_skew: i32,
}

/// Which nodes count in a constraint: those that the pod's affinity allows, whose taints it
/// tolerates (where the constraint honours either), and that have all keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct EligibleKey {
    pub(super) nodes: Option<NodeMatch>,
    pub(super) tolerations: Option<Vec<Toleration>>,
    pub(super) columns: BTreeSet<u32>,
}

/// All shapes of pods.
#[derive(Debug)]
pub(super) struct Shapes {
    loads: Once<LoadKey, Load>,
    asks: Once<AskKey, Ask>,
}

impl Shapes {
    pub(super) fn new() -> Self {
        Self {
            loads: Once::new(),
            asks: Once::new(),
        }
    }
}

impl Snapshot {
    /// What a pod is to others once it is placed.
    pub(super) fn load_of(&mut self, pod: &Pod) -> Arc<Load> {
        let id = self.load_id(pod);
        self.shapes.loads.get(id)
    }

    fn load_id(&mut self, pod: &Pod) -> u32 {
        let (needs, ports) = (Needs::of(pod), ports::of(pod));
        let affinity = pod.spec.affinity.as_ref();
        let view = LoadView {
            namespace: pod.metadata.namespace_or_default(),
            labels: &pod.metadata.labels,
            needs: &needs,
            ports: &ports,
            priority: pod.spec.priority.unwrap_or(0),
            near: affinity.and_then(|a| a.pod_affinity.as_ref()),
            far: affinity.and_then(|a| a.pod_anti_affinity.as_ref()),
        };
        let hash = self.shapes.loads.hash(&view);
        if let Some(id) = self.shapes.loads.find(hash, |key| key.view() == view) {
            return id;
        }
        let namespace_labels = self.labels_of_namespace(view.namespace);
        let load = Load {
            set: self.counters.set_of(view.namespace, &namespace_labels, view.labels),
            owned: self.owned(view.namespace, view.labels, view.near, view.far),
            numbers: Numbers::new(&needs, &mut self.columns),
            ports: ports.clone(),
            priority: view.priority,
        };
        let key = view.to_key();
        self.shapes.loads.add(hash, key, load)
    }

    /// Counters of the terms that a pod owns. A term that cannot be read counts nothing: the API
    /// refuses such pods.
    fn owned(&mut self, namespace: &str, labels: &Labels, near: Option<&PodAffinity>, far: Option<&PodAffinity>) -> Vec<u32> {
        let mut terms: Vec<(&PodAffinityTerm, Kind)> = Vec::new();
        if let Some(affinity) = near {
            terms.extend(affinity.required.iter().map(|t| (t, Kind::Wishing(HARD_AFFINITY))));
            terms.extend(affinity.preferred.iter().map(|t| (&t.pod_affinity_term, Kind::Wishing(t.weight))));
        }
        if let Some(affinity) = far {
            terms.extend(affinity.required.iter().map(|t| (t, Kind::Repelling)));
            terms.extend(
                affinity
                    .preferred
                    .iter()
                    .map(|t| (&t.pod_affinity_term, Kind::Wishing(t.weight.saturating_neg()))),
            );
        }
        let mut owned = Vec::new();
        for (term, kind) in terms {
            if let Ok(matcher) = matcher(term, namespace, labels) {
                owned.push(self.term_counter(vec![matcher], &term.topology_key, kind));
            }
        }
        owned
    }

    fn term_counter(&mut self, matchers: Vec<Matcher>, key: &str, kind: Kind) -> u32 {
        let column = self.counters.column_of(TopologyKey::Label(key.to_owned()));
        self.counters.counter_of(CounterKey {
            matchers,
            column,
            kind,
            eligible: None,
        })
    }

    /// What a pod wants, with an id that is the same for all pods that are alike.
    pub(super) fn ask_of(&mut self, request: &Request<'_>) -> (u32, Arc<Ask>) {
        let spec = &request.pod.spec;
        let load = self.load_id(request.pod);
        let view = AskView {
            load,
            handler: request.handler,
            node_name: spec.node_name.as_deref().filter(|n| !n.is_empty()),
            selector: &spec.node_selector,
            tolerations: &spec.tolerations,
            affinity: spec.affinity.as_ref(),
            spread: &spec.topology_spread_constraints,
            spread_selector: request.spread_selector,
            never_preempts: spec.preemption_policy.as_deref() == Some("Never"),
        };
        let hash = self.shapes.asks.hash(&view);
        if let Some(id) = self.shapes.asks.find(hash, |key| key.view() == view) {
            return (id, self.shapes.asks.get(id));
        }
        let ask = self.new_ask(request, &view);
        let key = view.to_key();
        let id = self.shapes.asks.add(hash, key, ask);
        (id, self.shapes.asks.get(id))
    }

    fn new_ask(&mut self, request: &Request<'_>, view: &AskView<'_>) -> Ask {
        let spec = &request.pod.spec;
        let named = named_nodes(spec);
        let wants = Wants {
            nodes: NodeMatch::new(spec),
            tolerations: view.tolerations.to_vec(),
            handler: view.handler.to_owned(),
            node_name: view.node_name.map(str::to_owned),
        };
        let preferred = view
            .affinity
            .and_then(|a| a.node_affinity.as_ref())
            .map_or(&[][..], |a| &a.preferred);
        let wishes = Wishes::new(preferred).map(|w| self.fixed.wishes(w, self.nodes.len()));
        let mut ask = Ask {
            load: self.shapes.loads.get(view.load),
            wants: self
                .fixed
                .wants(wants, self.nodes.len(), named.is_some() || view.node_name.is_some()),
            handler: view.handler.to_owned(),
            wishes,
            named,
            hard: Vec::new(),
            soft: Vec::new(),
            soft_wants_all: true,
            near: Vec::new(),
            near_self: false,
            far: Vec::new(),
            weighed: Vec::new(),
            never_preempts: view.never_preempts,
            broken: None,
        };
        let read = self
            .read_affinity(request.pod, &mut ask)
            .and_then(|()| self.read_spread(request, &mut ask));
        ask.broken = read.err();
        ask
    }

    fn read_affinity(&mut self, pod: &Pod, ask: &mut Ask) -> Result<(), String> {
        let (namespace, labels) = (pod.metadata.namespace_or_default(), &pod.metadata.labels);
        let affinity = pod.spec.affinity.as_ref();
        let none = PodAffinity::default();
        let near = affinity.and_then(|a| a.pod_affinity.as_ref()).unwrap_or(&none);
        let far = affinity.and_then(|a| a.pod_anti_affinity.as_ref()).unwrap_or(&none);
        let all: Vec<Matcher> = near
            .required
            .iter()
            .map(|t| matcher(t, namespace, labels))
            .collect::<Result<_, _>>()?;
        // A pod counts only where it matches every term, then once for each.
        ask.near = near
            .required
            .iter()
            .map(|t| self.term_counter(all.clone(), &t.topology_key, Kind::Present))
            .collect();
        ask.near_self = all.iter().all(|m| m.matches(self.counters.set(ask.load.set)));
        for term in &far.required {
            let matcher = matcher(term, namespace, labels)?;
            ask.far.push(self.term_counter(vec![matcher], &term.topology_key, Kind::Present));
        }
        let wishes = near.preferred.iter().map(|t| (t, t.weight));
        for (term, weight) in wishes.chain(far.preferred.iter().map(|t| (t, t.weight.saturating_neg()))) {
            let term = &term.pod_affinity_term;
            let matcher = matcher(term, namespace, labels)?;
            ask.weighed
                .push((self.term_counter(vec![matcher], &term.topology_key, Kind::Present), weight));
        }
        Ok(())
    }

    fn read_spread(&mut self, request: &Request<'_>, ask: &mut Ask) -> Result<(), String> {
        let own = &request.pod.spec.topology_spread_constraints;
        let with = |action: &'static str| own.iter().filter(move |c| c.when_unsatisfiable == action);
        let keys = self.columns_of(with("DoNotSchedule").map(|c| c.topology_key.as_str()));
        for constraint in with("DoNotSchedule") {
            let spread = self.spread(request.pod, constraint, &keys)?;
            ask.hard.push(HardSpread {
                counter: spread.counter,
                column: spread.column,
                max_skew: constraint.max_skew.into(),
                min_domains: constraint.min_domains.unwrap_or(1).into(),
                counts_itself: spread.selector.matches(&request.pod.metadata.labels),
            });
        }
        let defaults = match request.spread_selector {
            Some(selector) if own.is_empty() => default_constraints(selector),
            _ => Vec::new(),
        };
        let soft: Vec<&TopologySpreadConstraint> = with("ScheduleAnyway").chain(&defaults).collect();
        ask.soft_wants_all = defaults.is_empty();
        let keys = if ask.soft_wants_all {
            self.columns_of(soft.iter().map(|c| c.topology_key.as_str()))
        } else {
            BTreeSet::new()
        };
        for constraint in soft {
            let spread = self.spread(request.pod, constraint, &keys)?;
            let by_node = constraint.topology_key == HOSTNAME;
            let counter = if by_node {
                self.node_counter(spread.matcher)
            } else {
                spread.counter
            };
            ask.soft.push(SoftSpread {
                counter,
                column: spread.column,
                by_node,
                max_skew: constraint.max_skew,
            });
        }
        Ok(())
    }

    fn columns_of<'a>(&mut self, keys: impl Iterator<Item = &'a str>) -> BTreeSet<u32> {
        keys.map(|key| self.counters.column_of(TopologyKey::Label(key.to_owned())))
            .collect()
    }

    fn node_counter(&mut self, matcher: Matcher) -> u32 {
        let column = self.counters.column_of(TopologyKey::Node);
        self.counters.counter_of(CounterKey {
            matchers: vec![matcher],
            column,
            kind: Kind::Running,
            eligible: None,
        })
    }

    fn spread(&mut self, pod: &Pod, constraint: &TopologySpreadConstraint, keys: &BTreeSet<u32>) -> Result<Spread, String> {
        let mut selector = Selector::new(constraint.label_selector.as_ref())?;
        for key in &constraint.match_label_keys {
            selector.narrow(key, &pod.metadata.labels, true);
        }
        let honours = |policy: &Option<String>, default: &str| policy.as_deref().unwrap_or(default) == "Honor";
        let eligible = self.eligible_id(EligibleKey {
            nodes: honours(&constraint.node_affinity_policy, "Honor").then(|| NodeMatch::new(&pod.spec)),
            tolerations: honours(&constraint.node_taints_policy, "Ignore").then(|| pod.spec.tolerations.clone()),
            columns: keys.clone(),
        });
        let matcher = Matcher {
            namespaces: [pod.metadata.namespace_or_default().to_owned()].into(),
            by_namespace_labels: Selector::Nothing,
            // An empty selector matches the pod itself, but counts no others (`countPodsMatchSelector`).
            selector: if selector.is_everything() {
                Selector::Nothing
            } else {
                selector.clone()
            },
        };
        let column = self.counters.column_of(TopologyKey::Label(constraint.topology_key.clone()));
        let key = CounterKey {
            matchers: vec![matcher.clone()],
            column,
            kind: Kind::Running,
            eligible: Some(eligible),
        };
        Ok(Spread {
            counter: self.counters.counter_of(key),
            column,
            selector,
            matcher,
        })
    }

    fn eligible_id(&mut self, key: EligibleKey) -> u32 {
        if let Some(id) = self.eligible.iter().position(|known| *known == key) {
            return id as u32;
        }
        let nodes = (0..self.nodes.len()).map(|node| self.is_eligible(&key, node)).collect();
        self.eligible.push(key);
        self.counters.add_eligible(nodes)
    }
}

/// A constraint, read.
struct Spread {
    counter: u32,
    column: u32,
    selector: Selector,
    matcher: Matcher,
}

/// The pods that a term of a pod is about (`getNamespacesFromPodAffinityTerm`; label keys are
/// merged into the selector as the API server does, `pkg/registry/core/pod/strategy.go`).
fn matcher(term: &PodAffinityTerm, namespace: &str, labels: &Labels) -> Result<Matcher, String> {
    let own = term.namespaces.is_empty() && term.namespace_selector.is_none();
    let mut selector = Selector::new(term.label_selector.as_ref())?;
    term.match_label_keys.iter().for_each(|key| selector.narrow(key, labels, true));
    term.mismatch_label_keys.iter().for_each(|key| selector.narrow(key, labels, false));
    Ok(Matcher {
        namespaces: if own {
            [namespace.to_owned()].into()
        } else {
            term.namespaces.iter().cloned().collect()
        },
        by_namespace_labels: Selector::new(term.namespace_selector.as_ref())?,
        selector,
    })
}

/// The constraints that pods of an owner have where they have none of their own.
fn default_constraints(selector: &LabelSelector) -> Vec<TopologySpreadConstraint> {
    if selector.match_labels.is_empty() && selector.match_expressions.is_empty() {
        return Vec::new();
    }
    let one = |(key, max_skew): &(&str, i32)| TopologySpreadConstraint {
        max_skew: *max_skew,
        topology_key: (*key).to_owned(),
        when_unsatisfiable: "ScheduleAnyway".into(),
        label_selector: Some(selector.clone()),
        ..TopologySpreadConstraint::default()
    };
    DEFAULT_SPREAD.iter().map(one).collect()
}
