//! The scores, each against upstream's formula worked out by hand.

use super::*;
use crate::schedule::Scores;
use cofferdam_model::objects::LabelSelector;

/// Scores by node.
fn scores(snapshot: &mut Snapshot, pod: &Pod) -> Vec<(String, Scores)> {
    let reports = snapshot.report(&Request::new(pod));
    let mut all: Vec<_> = reports.into_iter().filter_map(|r| Some((r.node, r.outcome.ok()?))).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn of(snapshot: &mut Snapshot, pod: &Pod, what: fn(&Scores) -> i64) -> Vec<i64> {
    scores(snapshot, pod).iter().map(|(_, s)| what(s)).collect()
}

#[test]
fn taints_that_pods_had_better_avoid() {
    let soft = |count: usize| json!({"spec": {"taints": (0..count).map(|i| json!({"key": format!("k{i}"), "effect": "PreferNoSchedule"})).collect::<Vec<_>>()}});
    let mut cluster = snapshot((0..4).map(|i| node(&format!("n{i}"), json!({}), soft(i))).collect());
    assert_eq!(of(&mut cluster, &pod("p", json!({}), json!({})), |s| s.taints), [100, 67, 34, 0]);
    let tolerating = pod(
        "p",
        json!({}),
        json!({"tolerations": [{"key": "k0", "operator": "Exists", "effect": "PreferNoSchedule"}]}),
    );
    assert_eq!(of(&mut cluster, &tolerating, |s| s.taints), [100, 100, 50, 0]);
    let other_effect = pod(
        "p",
        json!({}),
        json!({"tolerations": [{"key": "k0", "operator": "Exists", "effect": "NoSchedule"}]}),
    );
    assert_eq!(of(&mut cluster, &other_effect, |s| s.taints), [100, 67, 34, 0]);
}

#[test]
fn preferred_node_affinity() {
    let mut cluster = snapshot(vec![
        node("n1", json!({"disk": "ssd", "fast": "y"}), json!({})),
        node("n2", json!({"disk": "ssd"}), json!({})),
        node("n3", json!({}), json!({})),
    ]);
    let prefers = |terms: Value| {
        pod(
            "p",
            json!({}),
            json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": terms}}}),
        )
    };
    let term = |weight: i32, key: &str| json!({"weight": weight, "preference": {"matchExpressions": [{"key": key, "operator": "Exists"}]}});
    assert_eq!(
        of(&mut cluster, &prefers(json!([term(30, "disk"), term(60, "fast")])), |s| s.affinity),
        [100, 33, 0]
    );
    assert_eq!(of(&mut cluster, &prefers(json!([term(30, "gone")])), |s| s.affinity), [0, 0, 0]);
    assert_eq!(
        of(&mut cluster, &prefers(json!([{"weight": 5, "preference": {}}])), |s| s.affinity),
        [0, 0, 0],
        "an empty term matches nothing"
    );
}

#[test]
fn room_and_balance() {
    let sized = |cpu: &str, memory: &str| json!({"status": {"allocatable": {"cpu": cpu, "memory": memory, "pods": "10"}}});
    let mut cluster = snapshot(vec![
        node("n1", json!({}), sized("4", "10000")),
        node("n2", json!({}), sized("6", "10000")),
    ]);
    cluster
        .place(pod("there", json!({}), requesting(json!({"cpu": "3", "memory": "5000"}))), "n2")
        .unwrap();
    let coming = pod("p", json!({}), requesting(json!({"cpu": "3", "memory": "5000"})));
    // n1: (4000-3000)*100/4000 = 25, (10000-5000)*100/10000 = 50, mean 37; shares 0.75 and 0.5.
    // n2: cpu 6000 of 6000 = 0, memory 10000 of 10000 = 0; shares 1 and 1.
    assert_eq!(of(&mut cluster, &coming, |s| s.room), [37, 0]);
    assert_eq!(of(&mut cluster, &coming, |s| s.balance), [87, 100]);
    // What a node has none of is left out: 25 for cpu alone, and nothing to balance.
    let mut no_memory = snapshot(vec![node("n1", json!({}), sized("4", "0"))]);
    let cpu_only = pod("p", json!({}), requesting(json!({"cpu": "3"})));
    assert_eq!(of(&mut no_memory, &cpu_only, |s| s.room), [25]);
    assert_eq!(of(&mut no_memory, &cpu_only, |s| s.balance), [100]);
    // A pod that requests nothing counts 100m and 200Mi for room (too much memory here), and has no balance.
    let idle = pod("p", json!({}), json!({}));
    assert_eq!(of(&mut cluster, &idle, |s| s.room), [48, 24]);
    assert_eq!(of(&mut cluster, &idle, |s| s.balance), [0, 0]);
}

#[test]
fn soft_spreading_prefers_emptier_domains() {
    let nodes = vec![
        node("a1", json!({"zone": "a"}), json!({})),
        node("a2", json!({"zone": "a"}), json!({})),
        node("b1", json!({"zone": "b"}), json!({})),
        node("c1", json!({}), json!({})),
    ];
    let mut cluster = snapshot(nodes);
    for (i, node) in ["a1", "a1", "a2", "b1"].iter().enumerate() {
        cluster
            .place(pod(&format!("w{i}"), json!({"app": "web"}), json!({})), node)
            .unwrap();
    }
    let soft = |key: &str| json!({"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"app": "web"}}});
    let wants = |constraints: Value| pod("p", json!({"app": "web"}), json!({"topologySpreadConstraints": constraints}));
    // Zones a 3, b 1; two domains weigh ln 4 = 1.386: raw 4, 4, 1. Without a zone: left out, 0.
    assert_eq!(
        of(&mut cluster, &wants(json!([soft("topology.kubernetes.io/zone")])), |s| s.spread),
        [25, 25, 100, 0]
    );
    // Hosts 2, 1, 1, 0; four nodes weigh ln 6 = 1.792: raw 4, 2, 2, 0.
    assert_eq!(
        of(&mut cluster, &wants(json!([soft("kubernetes.io/hostname")])), |s| s.spread),
        [0, 50, 50, 100]
    );
    assert_eq!(
        of(&mut cluster, &pod("p", json!({"app": "web"}), json!({})), |s| s.spread),
        [0, 0, 0, 0]
    );
}

#[test]
fn pods_of_an_owner_are_spread_by_default() {
    let nodes = vec![
        node("a1", json!({"zone": "a"}), json!({})),
        node("b1", json!({"zone": "b"}), json!({})),
        node("c1", json!({}), json!({})),
    ];
    let mut cluster = snapshot(nodes);
    cluster.place(pod("w", json!({"app": "web"}), json!({})), "a1").unwrap();
    let coming = pod("p", json!({"app": "web"}), json!({}));
    let selector: LabelSelector = object(json!({"matchLabels": {"app": "web"}}));
    let spread = |cluster: &mut Snapshot, pod: &Pod, selector: Option<&LabelSelector>| {
        let reports = cluster.report(&Request {
            spread_selector: selector,
            ..Request::new(pod)
        });
        reports
            .iter()
            .map(|r| (r.node.clone(), r.outcome.as_ref().unwrap().spread))
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    let scores = spread(&mut cluster, &coming, Some(&selector));
    // Skews of 3 and 5 add 2 and 4 in every domain: raw 1.609 + 2 + 1.609 + 4 = 9; 6; and 2 without a zone.
    assert_eq!(scores.into_values().collect::<Vec<_>>(), [22, 55, 100]);
    assert_eq!(spread(&mut cluster, &coming, None).into_values().collect::<Vec<_>>(), [0, 0, 0]);
    let own = pod(
        "p",
        json!({"app": "web"}),
        json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "x", "whenUnsatisfiable": "ScheduleAnyway"}]}),
    );
    assert_eq!(
        spread(&mut cluster, &own, Some(&selector)).into_values().collect::<Vec<_>>(),
        [0, 0, 0],
        "own constraints replace the defaults"
    );
}

#[test]
fn wishes_about_other_pods() {
    let nodes = || {
        vec![
            node("a1", json!({"zone": "a"}), json!({})),
            node("a2", json!({"zone": "a"}), json!({})),
            node("b1", json!({"zone": "b"}), json!({})),
        ]
    };
    let term = |app: &str| json!({"topologyKey": "topology.kubernetes.io/zone", "labelSelector": {"matchLabels": {"app": app}}});
    let prefers = |kind: &str, weight: i32, app: &str| json!({"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": weight, "podAffinityTerm": term(app)}]}}});
    let requires = |kind: &str, app: &str| json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term(app)]}}});
    let rows = [
        // What the pod on a1 wants, what the pod that comes wants, scores
        (json!({}), prefers("podAffinity", 10, "there"), [100, 100, 0]),
        (json!({}), prefers("podAntiAffinity", 10, "there"), [0, 0, 100]),
        (prefers("podAffinity", 10, "p"), json!({}), [100, 100, 0]),
        (prefers("podAntiAffinity", 10, "p"), json!({}), [0, 0, 100]),
        // Required affinity of a placed pod weighs 1 for those that it wants near.
        (
            json!({"affinity": requires("podAffinity", "p")["affinity"]}),
            json!({}),
            [100, 100, 0],
        ),
        (requires("podAffinity", "p"), prefers("podAntiAffinity", 1, "there"), [0, 0, 0]),
        (requires("podAffinity", "p"), prefers("podAntiAffinity", 2, "there"), [0, 0, 100]),
        (json!({}), prefers("podAffinity", 10, "gone"), [0, 0, 0]),
    ];
    for (there, coming, expected) in rows {
        let mut cluster = snapshot(nodes());
        cluster.place(pod("there", json!({"app": "there"}), there.clone()), "a1").unwrap();
        assert_eq!(
            of(&mut cluster, &pod("p", json!({"app": "p"}), coming.clone()), |s| s.pods),
            expected,
            "{there} {coming}"
        );
    }
}

#[test]
fn weights_are_those_of_the_default_profile() {
    let scores = Scores {
        taints: 1,
        affinity: 10,
        room: 100,
        balance: 1000,
        spread: 10_000,
        pods: 100_000,
    };
    assert_eq!(scores.total(), 3 + 20 + 100 + 1000 + 20_000 + 200_000);
}
