//! What if a node went.

use super::*;

#[test]
fn a_drained_node_gives_up_its_pods_and_takes_none() {
    let mut snapshot = snapshot(vec![node("n1", json!({}), json!({})), node("n2", json!({}), json!({}))]);
    let mut there = hungry("a", "1");
    there.spec.node_name = Some("n1".into());
    snapshot.place(there, "n1").unwrap();
    snapshot.place(hungry("b", "2"), "n1").unwrap();
    let daemon = pod(
        "daemon",
        json!({}),
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]}}}}),
    );
    snapshot.place(daemon, "n1").unwrap();
    let left = snapshot.drain("n1").unwrap();
    let names: Vec<_> = left
        .iter()
        .map(|p| (p.metadata.name.as_str(), p.spec.node_name.as_deref()))
        .collect();
    assert_eq!(names, [("a", None), ("b", None)]);
    assert_eq!(
        snapshot.pods_on("n1").map(|p| p.metadata.name.as_str()).collect::<Vec<_>>(),
        ["daemon"]
    );
    assert_eq!(reason(&mut snapshot, &hungry("p", "1"), "n1"), "node(s) were unschedulable");
    assert_eq!(left.iter().map(|p| run(&mut snapshot, p)).collect::<Vec<_>>(), ["n2", "n2"]);
    assert!(snapshot.drain("n3").is_err());
    assert_eq!(snapshot.drain("n1").unwrap(), [], "a second time");
}

/// The taint of a cordoned node takes its zone out of constraints that honour taints.
#[test]
fn a_drained_zone_no_longer_counts() {
    let nodes = ["a", "b", "c"].map(|z| node(&format!("{z}1"), json!({"zone": z}), json!({})));
    let mut snapshot = snapshot(nodes.to_vec());
    let constraint = json!({"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule", "nodeTaintsPolicy": "Honor", "labelSelector": {"matchLabels": {"app": "web"}}});
    let web = |name: &str| pod(name, json!({"app": "web"}), json!({"topologySpreadConstraints": [constraint]}));
    for name in ["w0", "w1"] {
        run(&mut snapshot, &web(name));
    }
    assert_eq!(feasible(&mut snapshot, &web("w2")), "c1");
    snapshot.drain("c1").unwrap();
    assert_eq!(feasible(&mut snapshot, &web("w2")), "a1 b1");
}
