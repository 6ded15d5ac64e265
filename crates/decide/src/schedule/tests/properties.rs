//! What holds for all clusters: a placed pod breaks no filter, judged by a second, plain
//! implementation; and counts that were kept up to date equal those made anew.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";

#[derive(Debug, Clone)]
struct Small {
    app: &'static str,
    cpu: i64,
    port: Option<i32>,
    spread: Option<(&'static str, i32)>,
    near: Option<(&'static str, &'static str)>,
    far: Option<(&'static str, &'static str)>,
    zone: Option<&'static str>,
    tolerates: bool,
    soft: bool,
}

impl Small {
    fn pod(&self, name: &str) -> Pod {
        let selector = |app: &str| json!({"matchLabels": {"app": app}});
        let mut spec = json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": format!("{}m", self.cpu)}}}]});
        if let Some(port) = self.port {
            spec["containers"][0]["ports"] = json!([{"containerPort": 1, "hostPort": port}]);
        }
        if let Some((key, skew)) = self.spread {
            let action = if self.soft { "ScheduleAnyway" } else { "DoNotSchedule" };
            spec["topologySpreadConstraints"] =
                json!([{"maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": action, "labelSelector": selector(self.app)}]);
        }
        for (kind, term) in [("podAffinity", self.near), ("podAntiAffinity", self.far)] {
            if let Some((key, app)) = term {
                let term = json!({"topologyKey": key, "labelSelector": selector(app)});
                spec["affinity"][kind] = if self.soft {
                    json!({"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 7, "podAffinityTerm": term}]})
                } else {
                    json!({"requiredDuringSchedulingIgnoredDuringExecution": [term]})
                };
            }
        }
        if let Some(zone) = self.zone {
            spec["nodeSelector"] = json!({ZONE: zone});
        }
        if self.tolerates {
            spec["tolerations"] = json!([{"operator": "Exists"}]);
        }
        pod(name, json!({"app": self.app}), spec)
    }
}

fn any_pod() -> impl Strategy<Value = Small> {
    let app = || prop::sample::select(vec!["x", "y", "z"]);
    let key = || prop::sample::select(vec![ZONE, HOST]);
    let rare = |s| prop::option::weighted(0.3, s);
    (
        (
            app(),
            0_i64..2500,
            prop::option::weighted(0.2, 1_i32..3),
            any::<bool>(),
            any::<bool>(),
        ),
        (
            prop::option::weighted(0.4, (key(), 1_i32..3)),
            rare((key(), app())),
            rare((key(), app())),
            prop::option::weighted(0.2, prop::sample::select(vec!["a", "b"])),
        ),
    )
        .prop_map(|((app, cpu, port, tolerates, soft), (spread, near, far, zone))| Small {
            app,
            cpu,
            port,
            spread,
            near,
            far,
            zone,
            tolerates,
            soft,
        })
}

fn any_node() -> impl Strategy<Value = (Option<&'static str>, bool)> {
    (
        prop::option::weighted(0.8, prop::sample::select(vec!["a", "b", "c"])),
        prop::bool::weighted(0.2),
    )
}

fn cluster(nodes: &[(Option<&'static str>, bool)]) -> Vec<Node> {
    let one = |(i, (zone, tainted)): (usize, &(Option<&str>, bool))| {
        let labels = zone.map_or_else(|| json!({}), |z| json!({"zone": z}));
        let more = if *tainted {
            json!({"spec": {"taints": [{"key": "t", "effect": "NoSchedule"}]}})
        } else {
            json!({})
        };
        node(&format!("n{i}"), labels, more)
    };
    nodes.iter().enumerate().map(one).collect()
}

/// The rules once more, by looking at every pod anew.
struct Plain<'a> {
    nodes: &'a [Node],
    there: Vec<(&'a Small, usize)>,
}

impl Plain<'_> {
    fn domain(&self, node: usize, key: &str) -> Option<&String> {
        self.nodes[node].metadata.labels.get(key)
    }

    /// Pods of an app in the node's domain.
    fn near(&self, node: usize, key: &str, app: &str) -> usize {
        let domain = self.domain(node, key);
        self.there
            .iter()
            .filter(|(p, at)| p.app == app && domain.is_some() && self.domain(*at, key) == domain)
            .count()
    }

    fn fits(&self, pod: &Small, node: usize) -> bool {
        let on_node = || self.there.iter().filter(|(_, at)| *at == node);
        let required = |term: Option<(&'static str, &'static str)>, soft: bool| term.filter(|_| !soft);
        (self.nodes[node].spec.taints.is_empty() || pod.tolerates)
            && pod.zone.is_none_or(|z| self.domain(node, ZONE).is_some_and(|d| d == z))
            && on_node().map(|(p, _)| p.cpu).sum::<i64>() + pod.cpu <= 4000
            && pod.port.is_none_or(|port| on_node().all(|(p, _)| p.port != Some(port)))
            && (pod.soft || pod.spread.is_none_or(|(key, skew)| self.even(pod, node, key, skew)))
            && required(pod.near, pod.soft).is_none_or(|(key, app)| self.is_near(pod, node, key, app))
            && required(pod.far, pod.soft).is_none_or(|(key, app)| self.near(node, key, app) == 0)
            && self.there.iter().all(|(p, at)| {
                required(p.far, p.soft).is_none_or(|(key, app)| {
                    app != pod.app || self.domain(*at, key).is_none() || self.domain(*at, key) != self.domain(node, key)
                })
            })
    }

    fn even(&self, pod: &Small, node: usize, key: &str, skew: i32) -> bool {
        let counts = |n: usize| pod.zone.is_none_or(|z| self.domain(n, ZONE).is_some_and(|d| d == z)) && self.domain(n, key).is_some();
        let mut domains: BTreeMap<&String, i64> = (0..self.nodes.len())
            .filter(|n| counts(*n))
            .filter_map(|n| Some((self.domain(n, key)?, 0)))
            .collect();
        for (_, at) in self.there.iter().filter(|(p, at)| p.app == pod.app && counts(*at)) {
            *domains.get_mut(self.domain(*at, key).unwrap()).unwrap() += 1;
        }
        let least = domains.values().copied().min().unwrap_or(0);
        self.domain(node, key)
            .is_some_and(|d| domains.get(d).copied().unwrap_or(0) + 1 - least <= i64::from(skew))
    }

    fn is_near(&self, pod: &Small, node: usize, key: &str, app: &str) -> bool {
        let anywhere = self.there.iter().any(|(p, at)| p.app == app && self.domain(*at, key).is_some());
        self.domain(node, key).is_some() && (self.near(node, key, app) > 0 || (!anywhere && app == pod.app))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn placed_pods_break_no_rule_and_refused_ones_have_no_node(shape in prop::collection::vec(any_node(), 1..7), pods in prop::collection::vec((any_pod(), 0..20_usize), 1..25)) {
        let nodes = cluster(&shape);
        let mut snapshot = snapshot(nodes.clone());
        let index: BTreeMap<String, usize> = nodes.iter().enumerate().map(|(i, n)| (n.metadata.name.clone(), i)).collect();
        let mut plain = Plain { nodes: &nodes, there: Vec::new() };
        let mut names: Vec<String> = Vec::new();
        for (i, (small, remove)) in pods.iter().enumerate() {
            let name = format!("p{i}");
            let pod = small.pod(&name);
            let expected: Vec<String> = (0..nodes.len()).filter(|n| plain.fits(small, *n)).map(|n| nodes[n].metadata.name.clone()).collect();
            prop_assert_eq!(feasible(&mut snapshot, &pod), expected.join(" "), "{:?}", small);
            match snapshot.decide(&Request::new(&pod)) {
                Decision::Placed(p) => {
                    prop_assert!(expected.contains(&p.node));
                    snapshot.place(pod, &p.node).unwrap();
                    plain.there.push((small, index[&p.node]));
                    names.push(name);
                }
                Decision::Unschedulable(_) => prop_assert!(expected.is_empty()),
            }
            // Now and then one goes.
            if *remove < names.len() {
                snapshot.remove("default", &names.remove(*remove)).unwrap();
                plain.there.remove(*remove);
            }
        }
    }

    #[test]
    fn a_snapshot_that_was_kept_up_to_date_equals_one_made_anew(shape in prop::collection::vec(any_node(), 1..7), pods in prop::collection::vec((any_pod(), 0..20_usize), 1..25), asked in prop::collection::vec(any_pod(), 1..4)) {
        let nodes = cluster(&shape);
        let mut old = snapshot(nodes.clone());
        // Asked before, so that every counter is there while pods come and go.
        for small in &asked {
            old.report(&Request::new(&small.pod("asked")));
        }
        let mut there: Vec<(Pod, String)> = Vec::new();
        for (i, (small, n)) in pods.iter().enumerate() {
            let (pod, node) = (small.pod(&format!("p{i}")), format!("n{}", n % nodes.len()));
            old.place(pod.clone(), &node).unwrap();
            there.push((pod, node));
            if n % 3 == 0 {
                let (gone, _) = there.remove(n % there.len());
                old.remove("default", &gone.metadata.name).unwrap();
            }
        }
        let mut new = snapshot(nodes);
        for (pod, node) in &there {
            new.place(pod.clone(), node).unwrap();
        }
        for small in &asked {
            let pod = small.pod("asked");
            prop_assert_eq!(old.report(&Request::new(&pod)), new.report(&Request::new(&pod)));
            let (mut a, mut b) = (old.decide(&Request::new(&pod)), new.decide(&Request::new(&pod)));
            for decision in [&mut a, &mut b] {
                if let Decision::Placed(p) = decision { p.visited = 0 }
            }
            prop_assert_eq!(a, b);
        }
    }
}
