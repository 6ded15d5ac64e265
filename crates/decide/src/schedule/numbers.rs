//! Resources as numbers: cpu in thousandths, all else in units, as
//! `pkg/scheduler/framework/types.go` keeps them.

use crate::requirements::{is_extended, is_huge_pages, is_pod_level};
use crate::resources::{is_sidecar, pod_level, requests};
use cofferdam_model::pod::{Container, Pod};
use cofferdam_model::{Quantity, ResourceList};
use std::collections::{BTreeSet, HashMap};

/// Index of cpu.
pub(super) const CPU: usize = 0;
/// Index of memory.
pub(super) const MEMORY: usize = 1;
const NAMES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// What a container without a request is taken to need when nodes are scored
/// (`pkg/scheduler/util/pod_resources.go`), in nano-units: 100m and 200Mi.
const UNSET: [i128; 2] = [100_000_000, (200 << 20) * UNIT];
const UNIT: i128 = 1_000_000_000;

/// What a pod needs of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Needs {
    /// What it requests, by resource; nothing is left out.
    pub(super) requests: Vec<(String, i64)>,
    /// Cpu and memory with values for containers that request none: as scores count it while the
    /// pod is scheduled, and once it is placed (which differs for pod-level resources only).
    pub(super) scored: [i64; 2],
    pub(super) placed: [i64; 2],
}

impl Needs {
    pub(super) fn of(pod: &Pod) -> Self {
        let requests: Vec<(String, i64)> = names(pod)
            .into_iter()
            .map(|n| (n.to_owned(), amount(n, total(pod, n, None))))
            .collect();
        let scored = [CPU, MEMORY].map(|at| amount(NAMES[at], total(pod, NAMES[at], Some(UNSET[at]))));
        let has_pod_level = pod_level(pod).is_some_and(|r| r.requests.keys().any(|n| is_pod_level(n)));
        let placed = [CPU, MEMORY].map(|at| {
            let requested = requests.iter().find(|(n, _)| n == NAMES[at]);
            match requested {
                // Upstream fills nothing in where pod-level resources are set and it is requested anywhere.
                Some((_, amount)) if has_pod_level => *amount,
                _ => scored[at],
            }
        });
        Self { requests, scored, placed }
    }
}

/// The resources that a scheduler counts, of those that a pod requests.
fn names(pod: &Pod) -> BTreeSet<&str> {
    let all = pod
        .spec
        .containers
        .iter()
        .chain(&pod.spec.init_containers)
        .flat_map(|c| requests(c).keys());
    let own = pod_level(pod)
        .into_iter()
        .flat_map(|r| r.requests.keys())
        .filter(|n| is_pod_level(n));
    let overhead = pod.spec.overhead.iter().flat_map(ResourceList::keys);
    all.chain(own)
        .chain(overhead)
        .map(String::as_str)
        .filter(|n| is_counted(n))
        .collect()
}

/// Cpu, memory and disk, and scalar resources (`IsScalarResourceName`).
fn is_counted(name: &str) -> bool {
    NAMES.contains(&name)
        || is_huge_pages(name)
        || name.contains("kubernetes.io/")
        || name.starts_with("attachable-volumes-")
        || is_extended(name)
}

/// What a pod requests of one resource in nano-units, as [`crate::resources::pod_requests`] sums
/// it; `unset` counts for each container that does not say.
fn total(pod: &Pod, name: &str, unset: Option<i128>) -> i128 {
    let of = |c: &Container| requests(c).get(name).map_or(unset.unwrap_or(0), Quantity::nano);
    let mut sum = pod.spec.containers.iter().fold(0_i128, |sum, c| sum.saturating_add(of(c)));
    let (mut sidecars, mut most) = (0_i128, 0_i128);
    for container in &pod.spec.init_containers {
        let now = sidecars.saturating_add(of(container));
        if is_sidecar(container) {
            sidecars = now;
            sum = sum.saturating_add(of(container));
        }
        most = most.max(now);
    }
    let own = pod_level(pod).filter(|_| is_pod_level(name)).and_then(|r| r.requests.get(name));
    let sum = own.map_or(sum.max(most), Quantity::nano);
    let overhead = pod.spec.overhead.as_ref().and_then(|o| o.get(name)).map_or(0, Quantity::nano);
    sum.saturating_add(overhead)
}

/// Nano-units as the number that is compared, rounded up, held at the bounds of 64 bits.
fn amount(name: &str, nano: i128) -> i64 {
    let unit = if name == "cpu" { UNIT / 1000 } else { UNIT };
    let whole = nano / unit + i128::from(nano % unit > 0);
    whole.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

/// The resources of all nodes, column by column.
#[derive(Debug, Default)]
pub(super) struct Columns {
    index: HashMap<String, usize>,
    pub(super) names: Vec<String>,
    pub(super) allocatable: Vec<Vec<i64>>,
    pub(super) used: Vec<Vec<i64>>,
    /// Cpu and memory with values for containers that request none.
    pub(super) scored: [Vec<i64>; 2],
    pub(super) pods: Vec<i64>,
    pub(super) most_pods: Vec<i64>,
}

impl Columns {
    /// Columns of nodes with these allocatable resources.
    pub(super) fn new<'a>(nodes: impl ExactSizeIterator<Item = &'a ResourceList>) -> Self {
        let count = nodes.len();
        let mut columns = Self {
            pods: vec![0; count],
            most_pods: vec![0; count],
            scored: [vec![0; count], vec![0; count]],
            ..Self::default()
        };
        for name in NAMES {
            columns.column(name);
        }
        for (node, list) in nodes.enumerate() {
            for (name, quantity) in list {
                if name == "pods" {
                    columns.most_pods[node] = quantity.value();
                } else if is_counted(name) {
                    let at = columns.column(name);
                    columns.allocatable[at][node] = amount(name, quantity.nano());
                }
            }
        }
        columns
    }

    /// The column of a resource; a new one where no node and no pod has named it yet.
    pub(super) fn column(&mut self, name: &str) -> usize {
        if let Some(at) = self.index.get(name) {
            return *at;
        }
        let (at, count) = (self.names.len(), self.pods.len());
        self.index.insert(name.to_owned(), at);
        self.names.push(name.to_owned());
        self.allocatable.push(vec![0; count]);
        self.used.push(vec![0; count]);
        at
    }

    /// Adds a pod to a node. Sums are held at the greatest number, which is above every node.
    pub(super) fn add(&mut self, node: usize, load: &Numbers) {
        self.pods[node] += 1;
        for (column, amount) in &load.requests {
            let used = &mut self.used[*column][node];
            *used = used.saturating_add(*amount);
        }
        for at in [CPU, MEMORY] {
            let used = &mut self.scored[at][node];
            *used = used.saturating_add(load.placed[at]);
        }
    }

    /// Empties a node; its pods are then added anew, which stays right where sums were held.
    pub(super) fn clear(&mut self, node: usize) {
        self.pods[node] = 0;
        self.used.iter_mut().chain(&mut self.scored).for_each(|column| column[node] = 0);
    }
}

/// [`Needs`] by column.
#[derive(Debug, Clone, Default)]
pub(super) struct Numbers {
    /// Column and amount of what is requested; zero amounts are left out.
    pub(super) requests: Vec<(usize, i64)>,
    /// Cpu and memory requested.
    pub(super) plain: [i64; 2],
    pub(super) scored: [i64; 2],
    pub(super) placed: [i64; 2],
}

impl Numbers {
    pub(super) fn new(needs: &Needs, columns: &mut Columns) -> Self {
        let requests: Vec<(usize, i64)> = needs
            .requests
            .iter()
            .filter(|(_, a)| *a != 0)
            .map(|(n, a)| (columns.column(n), *a))
            .collect();
        let plain = [CPU, MEMORY].map(|at| requests.iter().find(|(column, _)| *column == at).map_or(0, |(_, amount)| *amount));
        Self {
            requests,
            plain,
            scored: needs.scored,
            placed: needs.placed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::pod_requests;
    use crate::testing::{container, pod};
    use proptest::prelude::*;
    use serde_json::json;

    fn needs(spec: serde_json::Value) -> Needs {
        Needs::of(&pod(spec))
    }

    #[test]
    fn unset_requests_are_filled_for_scores_only() {
        let set = json!({"requests": {"cpu": "1", "memory": "1Gi"}});
        let rows = [
            // spec, cpu and memory requested, scored, placed
            (json!({}), [None, None], [100, 200 << 20], [100, 200 << 20]),
            (
                json!({"containers": [container("a", set.clone()), container("b", json!({}))]}),
                [Some(1000), Some(1 << 30)],
                [1100, (1 << 30) + (200 << 20)],
                [1100, (1 << 30) + (200 << 20)],
            ),
            (
                json!({"overhead": {"cpu": "250m"}}),
                [Some(250), None],
                [350, 200 << 20],
                [350, 200 << 20],
            ),
            (
                json!({"resources": {"requests": {"cpu": "2"}}}),
                [Some(2000), None],
                [2000, 200 << 20],
                [2000, 200 << 20],
            ),
            (
                json!({"containers": [container("a", set), container("b", json!({}))], "resources": {"requests": {"cpu": "2"}}}),
                [Some(2000), Some(1 << 30)],
                [2000, (1 << 30) + (200 << 20)],
                [2000, 1 << 30],
            ),
        ];
        for (spec, requested, scored, placed) in rows {
            let needs = needs(spec.clone());
            let get = |name: &str| needs.requests.iter().find(|(n, _)| n == name).map(|(_, a)| *a);
            assert_eq!(
                (["cpu", "memory"].map(get), needs.scored, needs.placed),
                (requested, scored, placed),
                "{spec}"
            );
        }
    }

    #[test]
    fn only_resources_of_nodes_are_counted() {
        let all = json!({"requests": {"cpu": "1", "example.com/gpu": "2", "hugepages-2Mi": "4Mi", "pods": "1", "storage": "1Gi", "requests.cpu": "1"}});
        let needs = needs(json!({"containers": [container("c", all)]}));
        assert_eq!(
            needs.requests,
            [
                ("cpu".into(), 1000),
                ("example.com/gpu".into(), 2),
                ("hugepages-2Mi".into(), 4 << 20)
            ]
        );
    }

    fn any_resources() -> impl Strategy<Value = serde_json::Value> {
        let amounts = prop::collection::btree_map(prop::sample::select(vec!["cpu", "memory", "ephemeral-storage"]), 0_i64..5000, 0..3);
        amounts.prop_map(
            |m| json!({"requests": m.into_iter().map(|(k, v)| (k, format!("{v}m"))).collect::<std::collections::BTreeMap<_, _>>()}),
        )
    }

    proptest! {
        /// Two ways to one sum: lists of quantities, and numbers.
        #[test]
        fn sums_are_those_of_pod_requests(own in prop::collection::vec(any_resources(), 1..4), init in prop::collection::vec((any_resources(), any::<bool>()), 0..4), over in any_resources(), level in any_resources()) {
            let containers: Vec<_> = own.into_iter().enumerate().map(|(i, r)| container(&format!("c{i}"), r)).collect();
            let inits: Vec<_> = init.into_iter().enumerate().map(|(i, (r, sidecar))| {
                let mut one = container(&format!("i{i}"), r);
                if sidecar { one["restartPolicy"] = json!("Always"); }
                one
            }).collect();
            let pod = pod(json!({"containers": containers, "initContainers": inits, "overhead": over["requests"], "resources": level}));
            let expected: Vec<(String, i64)> = pod_requests(&pod).iter().map(|(n, q)| (n.clone(), if n == "cpu" { q.milli_value() } else { q.value() })).collect();
            prop_assert_eq!(Needs::of(&pod).requests, expected);
        }
    }
}
