//! Topology spread constraints.

use super::*;

const SKEWED: &str = "node(s) didn't match pod topology spread constraints";

/// Zone a has two nodes, zone b one, zone c one that is tainted; d has no zone.
fn nodes() -> Vec<Node> {
    vec![
        node("a1", json!({"zone": "a", "disk": "ssd"}), json!({})),
        node("a2", json!({"zone": "a"}), json!({})),
        node("b1", json!({"zone": "b", "disk": "ssd"}), json!({})),
        node(
            "c1",
            json!({"zone": "c", "disk": "ssd"}),
            json!({"spec": {"taints": [{"key": "own", "effect": "NoSchedule"}]}}),
        ),
        node("d1", json!({}), json!({})),
    ]
}

fn constraint(more: Value) -> Value {
    let mut constraint = json!({"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}});
    constraint.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    constraint
}

fn web(name: &str, constraints: Value, mut spec: Value) -> Pod {
    spec["topologySpreadConstraints"] = constraints;
    pod(name, json!({"app": "web", "release": "2"}), spec)
}

/// A cluster with so many web pods on each node.
fn with_pods(counts: &[(&str, usize)]) -> Snapshot {
    let mut snapshot = snapshot(nodes());
    for (node, count) in counts {
        for i in 0..*count {
            snapshot
                .place(pod(&format!("{node}-{i}"), json!({"app": "web", "release": "1"}), json!({})), node)
                .unwrap();
        }
    }
    snapshot
}

#[test]
fn which_domains_are_too_full() {
    let rows = [
        // pods there, constraint, spec, feasible
        (&[("a1", 0)][..], constraint(json!({})), json!({}), "a1 a2 b1"),
        (&[("a1", 1)], constraint(json!({})), json!({}), "b1"),
        (&[("a1", 1), ("b1", 1)], constraint(json!({})), json!({}), ""),
        (&[("a1", 1), ("b1", 1), ("c1", 1)], constraint(json!({})), json!({}), "a1 a2 b1"),
        (&[("a1", 2), ("b1", 1)], constraint(json!({"maxSkew": 2})), json!({}), "b1"),
        // The tainted zone counts, unless taints are honoured.
        (
            &[("a1", 1), ("b1", 1)],
            constraint(json!({"nodeTaintsPolicy": "Honor"})),
            json!({}),
            "a1 a2 b1",
        ),
        (
            &[("a1", 1), ("b1", 1)],
            constraint(json!({"nodeTaintsPolicy": "Honor"})),
            json!({"tolerations": [{"operator": "Exists"}]}),
            "c1",
        ),
        // Zones that the pod's selector excludes do not count, unless affinity is ignored.
        (
            &[("a1", 1)],
            constraint(json!({})),
            json!({"nodeSelector": {"topology.kubernetes.io/zone": "a"}}),
            "a1 a2",
        ),
        (
            &[("a1", 1)],
            constraint(json!({"nodeAffinityPolicy": "Ignore"})),
            json!({"nodeSelector": {"topology.kubernetes.io/zone": "a"}}),
            "",
        ),
        // Pods on excluded nodes of a zone do not count either.
        (
            &[("a2", 1), ("b1", 0)],
            constraint(json!({})),
            json!({"nodeSelector": {"disk": "ssd"}}),
            "a1 b1",
        ),
        // Too few domains: the least count is taken as 0.
        (
            &[("a1", 1), ("b1", 1), ("c1", 1)],
            constraint(json!({"minDomains": 3})),
            json!({}),
            "a1 a2 b1",
        ),
        (
            &[("a1", 1), ("b1", 1), ("c1", 1)],
            constraint(json!({"minDomains": 4})),
            json!({}),
            "",
        ),
        // Only pods of the pod's own release count.
        (
            &[("a1", 1)],
            constraint(json!({"matchLabelKeys": ["release"]})),
            json!({}),
            "a1 a2 b1",
        ),
        (&[("a1", 1)], constraint(json!({"matchLabelKeys": ["absent"]})), json!({}), "b1"),
        // An empty selector counts nothing but the pod itself; an absent one not even that.
        (&[("a1", 9)], constraint(json!({"labelSelector": {}})), json!({}), "a1 a2 b1"),
        (&[("a1", 9)], constraint(json!({"labelSelector": null})), json!({}), "a1 a2 b1"),
        // A pod that does not count itself fits up to the skew.
        (
            &[("a1", 1)],
            constraint(json!({"labelSelector": {"matchLabels": {"release": "1"}}})),
            json!({}),
            "a1 a2 b1",
        ),
    ];
    for (counts, constraint, spec, expected) in rows {
        let mut snapshot = with_pods(counts);
        let row = format!("{counts:?} {constraint} {spec}");
        assert_eq!(feasible(&mut snapshot, &web("p", json!([constraint]), spec)), expected, "{row}");
    }
}

#[test]
fn reasons_and_several_constraints() {
    let mut snapshot = with_pods(&[("a1", 1)]);
    let zone = constraint(json!({}));
    let host = constraint(json!({"topologyKey": "kubernetes.io/hostname"}));
    assert_eq!(reason(&mut snapshot, &web("p", json!([zone]), json!({})), "a1"), SKEWED);
    assert_eq!(
        reason(&mut snapshot, &web("p", json!([zone]), json!({})), "d1"),
        format!("{SKEWED} (missing required label)")
    );
    // Both must hold; a node without the zone does not count for the host names either.
    assert_eq!(feasible(&mut snapshot, &web("p", json!([zone, host]), json!({}))), "b1");
    assert_eq!(feasible(&mut snapshot, &web("p", json!([host]), json!({}))), "a2 b1 d1");
}

#[test]
fn only_running_pods_of_the_namespace_count() {
    let mut snapshot = snapshot(nodes());
    let mut elsewhere = pod("other", json!({"app": "web"}), json!({}));
    elsewhere.metadata.namespace = Some("other".into());
    snapshot.place(elsewhere, "a1").unwrap();
    let coming = web("p", json!([constraint(json!({}))]), json!({}));
    assert_eq!(feasible(&mut snapshot, &coming), "a1 a2 b1", "of another namespace");
    // Counted when it comes, when it goes, and by a snapshot that is asked only then.
    let ending = || crate::schedule::Placed {
        pod: pod("ending", json!({"app": "web"}), json!({})).into(),
        ending: true,
        started: None,
    };
    snapshot.place(ending(), "a1").unwrap();
    assert_eq!(feasible(&mut snapshot, &coming), "a1 a2 b1", "ending");
    let mut later = super::snapshot(nodes());
    later.place(ending(), "a1").unwrap();
    assert_eq!(feasible(&mut later, &coming), "a1 a2 b1", "asked later");
    snapshot.remove("default", "ending").unwrap();
    snapshot.place(pod("running", json!({"app": "web"}), json!({})), "a1").unwrap();
    assert_eq!(feasible(&mut snapshot, &coming), "b1", "running");
}

#[test]
fn pods_are_spread_evenly() {
    let mut snapshot = snapshot(nodes().into_iter().filter(|n| n.metadata.name != "c1").collect());
    let spec = json!({"topologySpreadConstraints": [constraint(json!({}))]});
    let used: Vec<String> = (0..6)
        .map(|i| run(&mut snapshot, &pod(&format!("w{i}"), json!({"app": "web"}), spec.clone())))
        .collect();
    let in_a = used.iter().filter(|n| n.starts_with('a')).count();
    assert_eq!((in_a, used.iter().filter(|n| *n == "b1").count()), (3, 3), "{used:?}");
}

/// More domains than are counted one by one.
#[test]
fn hosts_of_a_large_cluster() {
    let count = 300;
    let mut snapshot = snapshot((0..count).map(|i| node(&format!("n{i:03}"), json!({}), json!({}))).collect());
    let coming = web(
        "p",
        json!([constraint(json!({"topologyKey": "kubernetes.io/hostname"}))]),
        json!({}),
    );
    let there = |i: usize| pod(&format!("w{i}"), json!({"app": "web"}), json!({}));
    for i in 0..count - 1 {
        snapshot.place(there(i), &format!("n{i:03}")).unwrap();
    }
    assert_eq!(feasible(&mut snapshot, &coming), "n299", "the only one without");
    snapshot.place(there(count - 1), "n299").unwrap();
    assert_eq!(feasible(&mut snapshot, &coming).split(' ').count(), count, "one on each");
    snapshot.remove("default", "w7").unwrap();
    assert_eq!(feasible(&mut snapshot, &coming), "n007");
}
