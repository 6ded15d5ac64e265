//! Preemption's dry run.

use super::*;
use crate::schedule::{Nomination, Placed, PodName, Unschedulable};

fn ranked(name: &str, cpu: &str, priority: i32) -> Pod {
    let mut pod = hungry(name, cpu);
    pod.spec.priority = Some(priority);
    pod
}

fn refused(snapshot: &mut Snapshot, pod: &Pod) -> Unschedulable {
    match snapshot.decide(&Request::new(pod)) {
        Decision::Unschedulable(why) => *why,
        Decision::Placed(there) => panic!("placed on {there:?}"),
    }
}

fn nominated(snapshot: &mut Snapshot, pod: &Pod) -> Option<(String, Vec<String>)> {
    refused(snapshot, pod)
        .nomination
        .map(|n: Nomination| (n.node, n.victims.into_iter().map(|v: PodName| v.name).collect()))
}

fn nodes(count: usize) -> Vec<Node> {
    (1..=count).map(|i| node(&format!("n{i}"), json!({}), json!({}))).collect()
}

fn expect(node: &str, victims: &[&str]) -> Option<(String, Vec<String>)> {
    Some((node.into(), victims.iter().map(|v| (*v).into()).collect()))
}

#[test]
fn the_message_says_nothing_where_preemption_helps() {
    let mut snapshot = snapshot(nodes(2));
    for node in ["n1", "n2"] {
        snapshot.place(ranked(&format!("on-{node}"), "3", 5), node).unwrap();
    }
    let why = refused(&mut snapshot, &ranked("p", "2", 10));
    assert_eq!(why.message, "0/2 nodes are available: 2 Insufficient cpu.");
    assert_eq!(why.reasons, [(2, "Insufficient cpu".into())]);
    assert_eq!(why.nomination.unwrap().node, "n1");
    let equal = refused(&mut snapshot, &ranked("p", "2", 5));
    assert!(
        equal.message.ends_with("2 No preemption victims found for incoming pod."),
        "{}",
        equal.message
    );
    // A pod that would not fit even then: the filters' own words.
    snapshot.place(ranked("fixed", "1", 100), "n2").unwrap();
    snapshot.place(ranked("fixed-too", "1", 100), "n1").unwrap();
    let greedy = refused(&mut snapshot, &ranked("p", "4", 10));
    assert!(
        greedy.message.ends_with("preemption: 0/2 nodes are available: 2 Insufficient cpu."),
        "{}",
        greedy.message
    );
    assert_eq!(greedy.nomination, None);
}

#[test]
fn as_few_go_as_must_and_the_least_important_first() {
    let mut snapshot = snapshot(nodes(1));
    for (name, cpu, priority) in [("low", "1", 1), ("mid", "1", 2), ("high", "1", 3), ("small", "500m", 1)] {
        snapshot.place(ranked(name, cpu, priority), "n1").unwrap();
    }
    assert_eq!(nominated(&mut snapshot, &ranked("p", "1", 9)), expect("n1", &["small"]));
    assert_eq!(nominated(&mut snapshot, &ranked("p", "1500m", 9)), expect("n1", &["low"]));
    assert_eq!(nominated(&mut snapshot, &ranked("p", "2500m", 9)), expect("n1", &["mid", "low"]));
    assert_eq!(nominated(&mut snapshot, &ranked("p", "2500m", 3)), expect("n1", &["mid", "low"]));
    assert_eq!(nominated(&mut snapshot, &ranked("p", "4", 3)), None);
}

#[test]
fn the_cheapest_node_is_chosen() {
    type There = (&'static str, &'static str, &'static str, i32);
    let rows: [(&[There], &str); 4] = [
        // pods (name, node, cpu, priority), node
        (&[("a", "n1", "4", 5), ("b", "n2", "4", 4)], "n2"),
        (&[("a", "n1", "2", 4), ("c", "n1", "2", 4), ("b", "n2", "4", 4)], "n2"),
        (&[("a", "n1", "4", 4), ("b", "n2", "4", 4)], "n1"),
        (&[("a", "n1", "4", 4), ("b", "n2", "2", 4), ("c", "n2", "2", -4)], "n1"),
    ];
    for (pods, expected) in rows {
        let mut snapshot = snapshot(nodes(2));
        for (name, node, cpu, priority) in pods {
            snapshot.place(ranked(name, cpu, *priority), node).unwrap();
        }
        assert_eq!(nominated(&mut snapshot, &ranked("p", "4", 9)).unwrap().0, expected, "{pods:?}");
    }
}

#[test]
fn those_that_started_last_go_first() {
    let mut snapshot = snapshot(nodes(2));
    let started = |name: &str, cpu: &str, at: &str| Placed {
        pod: ranked(name, cpu, 1).into(),
        ending: false,
        started: Some(at.into()),
    };
    snapshot.place(started("new", "2", "2025-06-02T00:00:00Z"), "n1").unwrap();
    snapshot.place(started("old", "2", "2025-06-01T00:00:00Z"), "n1").unwrap();
    snapshot.place(started("newest", "4", "2025-06-03T00:00:00Z"), "n2").unwrap();
    assert_eq!(nominated(&mut snapshot, &ranked("p", "2", 9)), expect("n2", &["newest"]));
    snapshot.remove("default", "newest").unwrap();
    snapshot.place(ranked("above", "4", 99), "n2").unwrap();
    assert_eq!(nominated(&mut snapshot, &ranked("p", "2", 9)), expect("n1", &["new"]));
}

#[test]
fn pods_that_keep_others_away_can_be_victims() {
    let mut snapshot = snapshot(nodes(1));
    let mut loner = pod(
        "loner",
        json!({}),
        json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {}}]}}}),
    );
    loner.spec.priority = Some(1);
    snapshot.place(loner, "n1").unwrap();
    assert_eq!(nominated(&mut snapshot, &ranked("p", "1", 9)), expect("n1", &["loner"]));
    // Trying changed nothing.
    assert_eq!(
        reason(&mut snapshot, &ranked("p", "1", 9), "n1"),
        "node(s) didn't satisfy existing pods anti-affinity rules"
    );
    assert_eq!(snapshot.pods_on("n1").count(), 1);
}
