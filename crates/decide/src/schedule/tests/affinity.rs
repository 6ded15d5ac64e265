//! Affinity between pods.

use super::*;

const NEAR: &str = "node(s) didn't match pod affinity rules";
const FAR: &str = "node(s) didn't match pod anti-affinity rules";
const REPELLED: &str = "node(s) didn't satisfy existing pods anti-affinity rules";

/// Two zones of two nodes each, and a node without a zone.
fn nodes() -> Vec<Node> {
    let zoned = [("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b")].map(|(name, zone)| node(name, json!({"zone": zone}), json!({})));
    zoned.into_iter().chain([node("c1", json!({}), json!({}))]).collect()
}

fn term(key: &str, selector: Value, more: Value) -> Value {
    let key = if key == "zone" {
        "topology.kubernetes.io/zone"
    } else {
        "kubernetes.io/hostname"
    };
    let mut term = json!({"topologyKey": key, "labelSelector": selector});
    term.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    term
}

fn app(name: &str) -> Value {
    json!({"matchLabels": {"app": name}})
}

fn wants(kind: &str, terms: Value) -> Value {
    json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": terms}}})
}

fn in_namespace(mut pod: Pod, namespace: &str) -> Pod {
    pod.metadata.namespace = Some(namespace.into());
    pod
}

#[test]
fn near_and_far_by_topology() {
    let web = |key: &str| json!([term(key, app("web"), json!({}))]);
    let rows = [
        // A pod of app web is on a1.
        ("podAffinity", web("zone"), json!({}), "a1 a2"),
        ("podAffinity", web("host"), json!({}), "a1"),
        ("podAffinity", json!([term("zone", app("db"), json!({}))]), json!({}), ""),
        ("podAntiAffinity", web("zone"), json!({}), "b1 b2 c1"),
        ("podAntiAffinity", web("host"), json!({}), "a2 b1 b2 c1"),
        (
            "podAntiAffinity",
            json!([term("zone", app("db"), json!({}))]),
            json!({}),
            "a1 a2 b1 b2 c1",
        ),
        // Every term must hold; of anti-affinity none may.
        (
            "podAffinity",
            json!([term("zone", app("web"), json!({})), term("host", app("web"), json!({}))]),
            json!({}),
            "a1",
        ),
        (
            "podAffinity",
            json!([term("zone", app("web"), json!({})), term("zone", app("db"), json!({}))]),
            json!({}),
            "",
        ),
        (
            "podAntiAffinity",
            json!([term("host", app("db"), json!({})), term("zone", app("web"), json!({}))]),
            json!({}),
            "b1 b2 c1",
        ),
        // The first of a group that wants to be together goes anywhere that has the label.
        (
            "podAffinity",
            json!([term("zone", app("db"), json!({}))]),
            json!({"app": "db"}),
            "a1 a2 b1 b2",
        ),
        ("podAffinity", web("zone"), json!({"app": "web"}), "a1 a2"),
        // A selector that is absent matches nothing, an empty one everything.
        ("podAffinity", json!([term("zone", json!(null), json!({}))]), json!({}), ""),
        (
            "podAntiAffinity",
            json!([term("zone", json!(null), json!({}))]),
            json!({}),
            "a1 a2 b1 b2 c1",
        ),
        ("podAffinity", json!([term("zone", json!({}), json!({}))]), json!({}), "a1 a2"),
        (
            "podAffinity",
            json!([term(
                "zone",
                json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["db"]}]}),
                json!({})
            )]),
            json!({}),
            "a1 a2",
        ),
        // Label keys: the same (or another) release than the pod's own.
        (
            "podAffinity",
            json!([term("zone", app("web"), json!({"matchLabelKeys": ["release"]}))]),
            json!({"release": "1"}),
            "a1 a2",
        ),
        (
            "podAffinity",
            json!([term("zone", app("web"), json!({"matchLabelKeys": ["release"]}))]),
            json!({"release": "2"}),
            "",
        ),
        (
            "podAffinity",
            json!([term("zone", app("web"), json!({"mismatchLabelKeys": ["release"]}))]),
            json!({"release": "2"}),
            "a1 a2",
        ),
        (
            "podAffinity",
            json!([term("zone", app("web"), json!({"mismatchLabelKeys": ["release"]}))]),
            json!({"release": "1"}),
            "",
        ),
    ];
    for (kind, terms, labels, expected) in rows {
        let mut snapshot = snapshot(nodes());
        snapshot
            .place(pod("web", json!({"app": "web", "release": "1"}), json!({})), "a1")
            .unwrap();
        let coming = pod("p", labels.clone(), wants(kind, terms.clone()));
        assert_eq!(feasible(&mut snapshot, &coming), expected, "{kind} {terms} {labels}");
    }
}

#[test]
fn anti_affinity_of_a_placed_pod_keeps_others_away() {
    let mut snapshot = snapshot(nodes());
    let loner = pod(
        "loner",
        json!({"app": "loner"}),
        wants("podAntiAffinity", json!([term("zone", app("web"), json!({}))])),
    );
    snapshot.place(loner, "a1").unwrap();
    let web = pod("web", json!({"app": "web"}), json!({}));
    assert_eq!(feasible(&mut snapshot, &web), "b1 b2 c1");
    assert_eq!(reason(&mut snapshot, &web, "a2"), REPELLED);
    assert_eq!(
        feasible(&mut snapshot, &pod("db", json!({"app": "db"}), json!({}))),
        "a1 a2 b1 b2 c1"
    );
    snapshot.remove("default", "loner").unwrap();
    assert_eq!(feasible(&mut snapshot, &web), "a1 a2 b1 b2 c1");
}

#[test]
fn namespaces_by_name_and_by_labels() {
    let namespaces =
        json!([{"metadata": {"name": "prod", "labels": {"team": "x"}}}, {"metadata": {"name": "test", "labels": {"team": "y"}}}]);
    let rows = [
        // The pod that is there is in prod, the one that comes in test.
        (json!({}), false),
        (json!({"namespaces": ["prod"]}), true),
        (json!({"namespaces": ["test"]}), false),
        (json!({"namespaceSelector": {}}), true),
        (json!({"namespaceSelector": {"matchLabels": {"team": "x"}}}), true),
        (json!({"namespaceSelector": {"matchLabels": {"team": "y"}}}), false),
        (
            json!({"namespaceSelector": {"matchLabels": {"team": "y"}}, "namespaces": ["prod"]}),
            true,
        ),
        (
            json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "prod"}}}),
            true,
        ),
    ];
    for (more, seen) in rows {
        let far = wants("podAntiAffinity", json!([term("zone", app("web"), more.clone())]));
        let mut snapshot = with_namespaces(nodes(), namespaces.clone());
        snapshot
            .place(in_namespace(pod("web", json!({"app": "web"}), json!({})), "prod"), "a1")
            .unwrap();
        let coming = in_namespace(pod("p", json!({}), far), "test");
        assert_eq!(reason(&mut snapshot, &coming, "a2"), if seen { FAR } else { "" }, "{more}");
    }
    // The same the other way round: the owner of the term is placed, in test.
    let far = wants(
        "podAntiAffinity",
        json!([term(
            "zone",
            app("web"),
            json!({"namespaceSelector": {"matchLabels": {"team": "x"}}})
        )]),
    );
    let mut snapshot = with_namespaces(nodes(), namespaces);
    snapshot.place(in_namespace(pod("loner", json!({}), far), "test"), "a1").unwrap();
    let web = |namespace: &str| in_namespace(pod("web", json!({"app": "web"}), json!({})), namespace);
    assert_eq!(reason(&mut snapshot, &web("prod"), "a2"), REPELLED);
    assert_eq!(reason(&mut snapshot, &web("test"), "a2"), "");
}

#[test]
fn ending_pods_still_count_for_affinity() {
    let mut snapshot = snapshot(nodes());
    let ending = crate::schedule::Placed {
        pod: pod("web", json!({"app": "web"}), json!({})).into(),
        ending: true,
        started: None,
    };
    snapshot.place(ending, "a1").unwrap();
    let coming = pod(
        "p",
        json!({}),
        wants("podAntiAffinity", json!([term("host", app("web"), json!({}))])),
    );
    assert_eq!(reason(&mut snapshot, &coming, "a1"), FAR);
}

#[test]
fn a_node_without_the_label_is_never_near() {
    let mut snapshot = snapshot(nodes());
    let first = pod(
        "db",
        json!({"app": "db"}),
        wants("podAffinity", json!([term("zone", app("db"), json!({}))])),
    );
    assert_eq!(reason(&mut snapshot, &first, "c1"), NEAR);
    // A pod there is in no zone, so it counts nowhere, and the next one is the first again.
    snapshot.place(pod("other", json!({"app": "db"}), json!({})), "c1").unwrap();
    assert_eq!(feasible(&mut snapshot, &first), "a1 a2 b1 b2");
}

#[test]
fn one_pod_of_each_kind_to_a_node() {
    let mut snapshot = snapshot(nodes());
    let spec = wants("podAntiAffinity", json!([term("host", app("web"), json!({}))]));
    let mut used: Vec<String> = (0..5)
        .map(|i| run(&mut snapshot, &pod(&format!("w{i}"), json!({"app": "web"}), spec.clone())))
        .collect();
    used.sort();
    assert_eq!(used, ["a1", "a2", "b1", "b2", "c1"]);
    let sixth = run(&mut snapshot, &pod("w5", json!({"app": "web"}), spec));
    assert_eq!(
        sixth,
        "0/5 nodes are available: 5 node(s) didn't match pod anti-affinity rules. no new claims to deallocate, preemption: 0/5 nodes are available: 5 No preemption victims found for incoming pod."
    );
}
