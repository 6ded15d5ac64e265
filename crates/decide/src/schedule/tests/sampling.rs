//! How many nodes are looked at, and where from.

use super::*;

fn placed(snapshot: &mut Snapshot, pod: &Pod) -> (String, usize, usize) {
    match snapshot.decide(&Request::new(pod)) {
        Decision::Placed(p) => (p.node, p.visited, p.feasible),
        Decision::Unschedulable(why) => panic!("{}", why.message),
    }
}

fn nodes(count: usize) -> Vec<Node> {
    (0..count).map(|i| node(&format!("n{i:03}"), json!({}), json!({}))).collect()
}

#[test]
fn below_a_hundred_nodes_all_are_looked_at() {
    let mut snapshot = Snapshot::new(nodes(99), &[], Options::default()).unwrap();
    for _ in 0..2 {
        assert_eq!(placed(&mut snapshot, &hungry("p", "1")), ("n000".into(), 99, 99));
    }
}

#[test]
fn above_that_searches_go_round() {
    let mut snapshot = Snapshot::new(nodes(300), &[], Options::default()).unwrap();
    // 50 - 300/125 = 48 %, so 144 of 300.
    let seen: Vec<_> = (0..3).map(|_| placed(&mut snapshot, &hungry("p", "1"))).collect();
    assert_eq!(
        seen,
        [("n000".into(), 144, 144), ("n144".into(), 144, 144), ("n288".into(), 144, 144)]
    );
    let all = Options {
        percentage_of_nodes_to_score: 100,
    };
    let mut snapshot = Snapshot::new(nodes(300), &[], all).unwrap();
    assert_eq!(placed(&mut snapshot, &hungry("p", "1")), ("n000".into(), 300, 300));
}

#[test]
fn infeasible_nodes_are_passed_over() {
    let mut all = nodes(300);
    all.iter_mut().take(290).for_each(|n| n.spec.unschedulable = true);
    let mut snapshot = Snapshot::new(all, &[], Options::default()).unwrap();
    assert_eq!(placed(&mut snapshot, &hungry("p", "1")), ("n290".into(), 300, 10));
}

#[test]
fn zones_take_turns() {
    let zoned = [("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("c1", "c"), ("c2", "c")];
    let snapshot = snapshot(
        zoned
            .iter()
            .map(|(name, zone)| node(name, json!({"zone": zone}), json!({})))
            .collect(),
    );
    let order: Vec<_> = snapshot.nodes().iter().map(|n| n.metadata.name.as_str()).collect();
    assert_eq!(order, ["a1", "b1", "c1", "a2", "c2", "a3"]);
}

#[test]
fn of_equal_nodes_the_first_wins_and_a_single_one_is_not_scored() {
    let mut snapshot = snapshot(nodes(3));
    assert_eq!(run(&mut snapshot, &hungry("a", "1")), "n000");
    assert_eq!(run(&mut snapshot, &hungry("b", "1")), "n001", "n000 has less room now");
    let chosen = snapshot.decide(&Request::new(&pod(
        "p",
        json!({}),
        json!({"nodeSelector": {"kubernetes.io/hostname": "n002"}}),
    )));
    assert!(matches!(chosen, Decision::Placed(p) if p.score.is_none() && p.node == "n002"));
}
