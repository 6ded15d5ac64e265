//! Selectors, compiled: of labels (`apimachinery/pkg/labels`) and of nodes
//! (`component-helpers/scheduling/corev1/nodeaffinity`), and tolerations of taints.

use cofferdam_model::affinity::{NodeSelectorTerm, Requirement};
use cofferdam_model::node::{Node, Taint};
use cofferdam_model::objects::LabelSelector;
use cofferdam_model::pod::{PodSpec, Toleration};
use std::collections::{BTreeMap, BTreeSet};

/// Labels of a pod, node or namespace.
pub(super) type Labels = BTreeMap<String, String>;

/// A condition on one label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Rule {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Test {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    DoesNotExist,
    Greater(i64),
    Less(i64),
}

impl Rule {
    pub(super) fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match &self.test {
            Test::In(values) => value.is_some_and(|v| values.contains(v)),
            Test::NotIn(values) => value.is_none_or(|v| !values.contains(v)),
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
            Test::Greater(than) => number().is_some_and(|n| n > *than),
            Test::Less(than) => number().is_some_and(|n| n < *than),
        }
    }

    fn one_of(key: &str, value: &str) -> Self {
        Self {
            key: key.to_owned(),
            test: Test::In([value.to_owned()].into()),
        }
    }

    /// The error is upstream's for an operator, and ours for the values (upstream's are lists of
    /// Go values); validation refuses such pods before.
    fn of_labels(requirement: &Requirement) -> Result<Self, String> {
        let values: BTreeSet<String> = requirement.values.iter().cloned().collect();
        let test = match requirement.operator.as_str() {
            "In" => Test::In(values),
            "NotIn" => Test::NotIn(values),
            "Exists" => Test::Exists,
            "DoesNotExist" => Test::DoesNotExist,
            other => return Err(format!("{} is not a valid label selector operator", crate::field::go_quote(other))),
        };
        let wants_values = matches!(test, Test::In(_) | Test::NotIn(_));
        if wants_values == requirement.values.is_empty() {
            let rule = if wants_values {
                "for 'in', 'notin' operators, values set can't be empty"
            } else {
                "values set must be empty for exists and does not exist"
            };
            return Err(format!("values: Invalid value: {rule}"));
        }
        Ok(Self {
            key: requirement.key.clone(),
            test,
        })
    }

    /// `None` where the requirement is broken: its term then matches nothing.
    fn of_nodes(requirement: &Requirement) -> Option<Self> {
        let test = match (requirement.operator.as_str(), requirement.values.as_slice()) {
            ("Gt", [value]) => Test::Greater(value.parse().ok()?),
            ("Lt", [value]) => Test::Less(value.parse().ok()?),
            ("Gt" | "Lt", _) => return None,
            _ => return Self::of_labels(requirement).ok(),
        };
        Some(Self {
            key: requirement.key.clone(),
            test,
        })
    }
}

/// A label selector.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Selector {
    Nothing,
    /// All of these; none is everything.
    All(Vec<Rule>),
}

impl Selector {
    /// An absent selector matches nothing, an empty one everything.
    pub(super) fn new(selector: Option<&LabelSelector>) -> Result<Self, String> {
        let Some(selector) = selector else { return Ok(Self::Nothing) };
        let equal = selector.match_labels.iter().map(|(k, v)| Ok(Rule::one_of(k, v)));
        let others = selector.match_expressions.iter().map(Rule::of_labels);
        Ok(Self::All(equal.chain(others).collect::<Result<_, _>>()?))
    }

    pub(super) fn matches(&self, labels: &Labels) -> bool {
        match self {
            Self::Nothing => false,
            Self::All(rules) => rules.iter().all(|r| r.matches(labels)),
        }
    }

    pub(super) fn is_everything(&self) -> bool {
        matches!(self, Self::All(rules) if rules.is_empty())
    }

    /// Narrows it to pods whose label `key` is (or is not) that of `labels`. A label that is not
    /// there narrows nothing, and what matches nothing still does.
    pub(super) fn narrow(&mut self, key: &str, labels: &Labels, equal: bool) {
        let (Self::All(rules), Some(value)) = (self, labels.get(key)) else {
            return;
        };
        let values = BTreeSet::from([value.clone()]);
        let test = if equal { Test::In(values) } else { Test::NotIn(values) };
        let rule = Rule { key: key.to_owned(), test };
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }

    /// A label that everything it matches has; by it, selectors are found without trying all.
    pub(super) fn pin(&self) -> Option<(&str, &str)> {
        let Self::All(rules) = self else { return None };
        rules.iter().find_map(|rule| match &rule.test {
            Test::In(values) if values.len() == 1 => values.first().map(|v| (rule.key.as_str(), v.as_str())),
            _ => None,
        })
    }
}

/// A term of a node selector; `None` where it is broken or empty, so that it matches no node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct NodeTerm(Option<Conditions>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Conditions {
    labels: Vec<Rule>,
    /// Field, whether it must be equal, value.
    fields: Vec<(String, bool, String)>,
}

impl NodeTerm {
    pub(super) fn new(term: &NodeSelectorTerm) -> Self {
        if term.match_expressions.is_empty() && term.match_fields.is_empty() {
            return Self(None);
        }
        let field = |r: &Requirement| match (r.operator.as_str(), r.values.as_slice()) {
            ("In", [value]) => Some((r.key.clone(), true, value.clone())),
            ("NotIn", [value]) => Some((r.key.clone(), false, value.clone())),
            _ => None,
        };
        let labels = term.match_expressions.iter().map(Rule::of_nodes).collect::<Option<_>>();
        let fields = term.match_fields.iter().map(field).collect::<Option<_>>();
        Self(labels.zip(fields).map(|(labels, fields)| Conditions { labels, fields }))
    }

    pub(super) fn matches(&self, node: &Node) -> bool {
        // Only the name is a field; every other one is empty.
        let value = |field: &str| {
            if field == "metadata.name" {
                node.metadata.name.as_str()
            } else {
                ""
            }
        };
        self.0.as_ref().is_some_and(|c| {
            c.labels.iter().all(|r| r.matches(&node.metadata.labels)) && c.fields.iter().all(|(f, equal, v)| (value(f) == v) == *equal)
        })
    }
}

/// The nodes that a pod's selector and required affinity allow.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct NodeMatch {
    selector: BTreeMap<String, String>,
    terms: Option<Vec<NodeTerm>>,
}

impl NodeMatch {
    pub(super) fn new(spec: &PodSpec) -> Self {
        let required = spec
            .affinity
            .as_ref()
            .and_then(|a| a.node_affinity.as_ref())
            .and_then(|a| a.required.as_ref());
        Self {
            selector: spec.node_selector.clone(),
            terms: required.map(|r| r.node_selector_terms.iter().map(NodeTerm::new).collect()),
        }
    }

    pub(super) fn matches(&self, node: &Node) -> bool {
        let labels = &node.metadata.labels;
        self.selector.iter().all(|(k, v)| labels.get(k) == Some(v))
            && self.terms.as_ref().is_none_or(|all| all.iter().any(|t| t.matches(node)))
    }
}

/// The nodes that required affinity names (`metadata.name`): `None` where it names none, an empty
/// set where its terms contradict themselves.
pub(super) fn named_nodes(spec: &PodSpec) -> Option<BTreeSet<String>> {
    let required = spec.affinity.as_ref()?.node_affinity.as_ref()?.required.as_ref()?;
    let mut all: Option<BTreeSet<String>> = None;
    for term in &required.node_selector_terms {
        let by_name = term.match_fields.iter().filter(|r| r.key == "metadata.name" && r.operator == "In");
        let names = by_name
            .map(|r| r.values.iter().cloned().collect::<BTreeSet<_>>())
            .reduce(|a, b| &a & &b);
        all.get_or_insert_default().extend(names?);
    }
    all
}

/// Whether one toleration tolerates a taint (`k8s.io/api/core/v1/toleration.go`).
fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    (toleration.effect.is_empty() || toleration.effect == taint.effect)
        && (toleration.key.is_empty() || toleration.key == taint.key)
        && match toleration.operator.as_str() {
            "" | "Equal" => toleration.value == taint.value,
            "Exists" => true,
            _ => false,
        }
}

/// Whether a taint that keeps pods away is not tolerated.
pub(super) fn repels(taints: &[Taint], tolerations: &[Toleration]) -> bool {
    let hard = |t: &&Taint| t.effect == "NoSchedule" || t.effect == "NoExecute";
    taints
        .iter()
        .filter(hard)
        .any(|taint| !tolerations.iter().any(|t| tolerates(t, taint)))
}

/// How many taints that pods had better keep away from are not tolerated.
pub(super) fn disliked(taints: &[Taint], tolerations: &[Toleration]) -> usize {
    let soft = taints.iter().filter(|t| t.effect == "PreferNoSchedule");
    soft.filter(|taint| !tolerations.iter().any(|t| tolerates(t, taint))).count()
}
