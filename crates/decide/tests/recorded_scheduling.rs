//! Scheduling, case by case, beside what a real scheduler said (`tests/data/failed_scheduling`,
//! `tests/data/scored`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod recorded;

use cofferdam_decide::chain::{World, admit_pod};
use cofferdam_decide::quota::Used;
use cofferdam_decide::schedule::{Decision, Options, Request, Scores, Snapshot};
use cofferdam_model::node::Node;
use cofferdam_model::objects::RuntimeClass;
use cofferdam_model::pod::Pod;
use recorded::{Case, Differs, cases, compare, name_of, object};
use serde_json::Value;

/// What is answered otherwise.
const DIFFERS: &[Differs<'_>] = &[(
    "failed_scheduling/claim-missing",
    "the model has no volume claims: a run refuses them by name, and a check says that they are not looked at",
)];

#[test]
fn pods_without_a_node_are_told_why_as_the_scheduler_tells() {
    let cases = cases("failed_scheduling");
    assert!(cases.len() >= 53, "{} cases", cases.len());
    compare(&cases, DIFFERS, |case| {
        let (mut snapshot, pod) = asked(case)?;
        match snapshot.decide(&Request::new(&pod)) {
            Decision::Unschedulable(why) if why.message == case.answer.trim_end() => Ok(()),
            Decision::Unschedulable(why) => Err(why.message),
            Decision::Placed(placement) => Err(format!("placed on {}", placement.node)),
        }
    });
}

#[test]
fn nodes_are_scored_as_the_scheduler_scores() {
    let cases = cases("scored");
    assert!(cases.len() >= 18, "{} cases", cases.len());
    compare(&cases, &[], |case| {
        let (mut snapshot, pod) = asked(case)?;
        let request = Request::new(&pod);
        let reports = snapshot.report(&request).into_iter();
        let mut scores: Vec<(String, Scores)> = reports.filter_map(|r| Some((r.node, r.outcome.ok()?))).collect();
        scores.sort_by(|a, b| a.0.cmp(&b.0));
        let ours = scores.iter().flat_map(|(node, scores)| lines(node, scores, &case.answer));
        let mut ours: Vec<String> = ours.collect();
        // Of equals the scheduler draws one by lot, and none is written down.
        if case.answer.contains("-> ") {
            let decision = snapshot.decide(&request);
            let Decision::Placed(placement) = decision else {
                return Err(format!("{decision:?}"));
            };
            ours.push(format!("-> {}", placement.node));
        }
        let ours = ours.join("\n");
        if ours == case.answer.trim_end() { Ok(()) } else { Err(ours) }
    });
}

/// A node's scores as they are written down: a plugin that has nothing to say of a pod has no line.
fn lines(node: &str, scores: &Scores, answer: &str) -> Vec<String> {
    let plugins = [
        ("ImageLocality", 0),
        ("InterPodAffinity", 2 * scores.pods),
        ("NodeAffinity", 2 * scores.affinity),
        ("NodeResourcesBalancedAllocation", scores.balance),
        ("NodeResourcesFit", scores.room),
        ("PodTopologySpread", 2 * scores.spread),
        ("TaintToleration", 3 * scores.taints),
    ];
    let is_said = |plugin: &str| answer.contains(&format!("{node} {plugin} "));
    let said = plugins.iter().filter(|(plugin, score)| *score != 0 || is_said(plugin));
    let said = said.map(|(plugin, score)| format!("{node} {plugin} {score}"));
    [format!("{node} = {}", scores.total())].into_iter().chain(said).collect()
}

/// What the scheduler has before it, and the pod that is asked about; all pods as admission leaves them.
fn asked(case: &Case) -> Result<(Snapshot, Pod), String> {
    let documents = case.documents();
    let of = |kind: &str| documents.iter().filter(move |d| d["kind"] == kind).cloned().collect::<Vec<Value>>();
    let nodes = of("Node").iter().map(object::<Node>).collect::<Result<Vec<_>, _>>()?;
    let classes = of("RuntimeClass")
        .iter()
        .map(object::<RuntimeClass>)
        .collect::<Result<Vec<_>, _>>()?;
    let priorities = of("PriorityClass");
    let mut snapshot = Snapshot::new(nodes, &[], Options::default()).map_err(|e| e.to_string())?;
    let mut pods = Vec::new();
    for document in of("Pod") {
        let mut pod: Pod = object(&document)?;
        // The plugin that looks up priority classes is the caller's part here.
        if let Some(class) = priorities
            .iter()
            .find(|c| Some(name_of(c)) == pod.spec.priority_class_name.as_deref())
        {
            pod.spec.priority = Some(class["value"].as_i64().unwrap().try_into().unwrap());
            pod.spec.preemption_policy = class["preemptionPolicy"].as_str().map(str::to_owned);
        }
        let world = World {
            classes: &classes,
            ..World::default()
        };
        pods.push(admit_pod(pod, &world, &Used::default()).map_err(|e| e.to_string())?.pod);
    }
    let asked = pods.pop().unwrap();
    for pod in pods {
        let node = pod.spec.node_name.clone().unwrap();
        snapshot.place(pod, &node).map_err(|e| e.to_string())?;
    }
    Ok((snapshot, asked))
}
