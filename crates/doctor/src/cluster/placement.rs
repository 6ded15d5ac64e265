//! The pod against the nodes: labels, taints, handlers, readiness.

use super::value::text;
use super::{Cases, View};
use serde_json::Value;
use std::collections::BTreeMap;

/// Most nodes that are named in one sentence.
const MAX_NAMED: usize = 3;

pub(super) fn cases(view: &View<'_>) -> Cases {
    let Some(nodes) = view.nodes.as_deref() else { return Cases::new() };
    if view.pod["status"]["phase"]
        .as_str()
        .is_some_and(|p| p == "Succeeded" || p == "Failed")
    {
        return Cases::new();
    }
    let mut cases = Cases::new();
    if view.node.is_empty() {
        cases.extend(unscheduled(view, nodes));
    } else if let Some(node) = view.own_node() {
        cases.extend(on_node(view, node));
    }
    cases
}

/// A pod that waits for a node.
fn unscheduled(view: &View<'_>, nodes: &[&Value]) -> Cases {
    if nodes.is_empty() {
        return vec![("no-nodes", view.case("the list of nodes is empty"))];
    }
    let wanted = selector(view);
    let fits = |node: &&Value| wanted.iter().all(|(key, value)| label(node, key).as_ref() == Some(value));
    let matching: Vec<_> = nodes.iter().filter(|n| fits(n)).copied().collect();
    if matching.is_empty() {
        return selector_cases(view, nodes, &wanted);
    }
    let mut cases = Cases::new();
    if matching.iter().all(|n| n["spec"]["unschedulable"] == true) {
        cases.push((
            "nodes-unschedulable",
            view.case(format!("cordoned: {}", named(&matching)))
                .with("node", text(&matching[0]["metadata"]["name"])),
        ));
    } else {
        cases.extend(taint_cases(view, &matching));
    }
    // Only where every node that could take the pod tells what it offers.
    let offers = |node: &&Value| handlers(node).is_some_and(|names| !names.contains(&view.handler));
    if !view.handler.is_empty() && matching.iter().all(offers) {
        cases.push((
            "handler-on-no-node",
            view.case(format!("{} report no handler {:?}", named(&matching), view.handler)),
        ));
    }
    cases
}

/// The pod's own selector and its class's, which admission merges.
fn selector(view: &View<'_>) -> BTreeMap<String, String> {
    let class = view.class.map(|c| &c["scheduling"]["nodeSelector"]);
    let sources = [Some(&view.pod["spec"]["nodeSelector"]), class];
    let pairs = sources.into_iter().flatten().filter_map(Value::as_object).flatten().take(256);
    pairs
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn label(node: &Value, key: &str) -> Option<String> {
    node["metadata"]["labels"][key].as_str().map(str::to_owned)
}

/// One case for each key that no node has as it is wanted; where each is somewhere, but not all on
/// one node, one case for all.
fn selector_cases(view: &View<'_>, nodes: &[&Value], wanted: &BTreeMap<String, String>) -> Cases {
    let lacking = wanted
        .iter()
        .filter(|(key, value)| !nodes.iter().any(|n| label(n, key).as_ref() == Some(*value)));
    let cases: Cases = lacking
        .map(|(key, value)| {
            let other = nodes.iter().find_map(|n| Some((n, label(n, key)?)));
            let evidence = match other {
                Some((node, found)) => format!("no node has {key}={value}; {} has {key}={found}", text(&node["metadata"]["name"])),
                None => format!("no node has a label {key}"),
            };
            ("node-selector-mismatch", view.case(evidence).with("key", key).with("value", value))
        })
        .collect();
    if !cases.is_empty() {
        return cases;
    }
    let each: Vec<_> = wanted
        .iter()
        .map(|(key, value)| {
            let having: Vec<_> = nodes.iter().filter(|n| label(n, key).as_ref() == Some(value)).copied().collect();
            format!("{key}={value} on {}", named(&having))
        })
        .collect();
    let (keys, values) = wanted.iter().next().map(|(k, v)| (k.as_str(), v.as_str())).unwrap_or_default();
    vec![(
        "node-selector-mismatch",
        view.case(format!("no node has all of: {}", each.join("; ")))
            .with("key", keys)
            .with("value", values),
    )]
}

/// `a, b, c and 4 more`.
fn named(nodes: &[&Value]) -> String {
    let names: Vec<_> = nodes.iter().take(MAX_NAMED).map(|n| text(&n["metadata"]["name"])).collect();
    match nodes.len().saturating_sub(MAX_NAMED) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// Taints that keep the pod from every node that it fits on: each once.
fn taint_cases(view: &View<'_>, nodes: &[&Value]) -> Cases {
    let tolerations = tolerations(view);
    let mut found: BTreeMap<(String, String, String), Vec<&Value>> = BTreeMap::new();
    for node in nodes {
        let hard = |t: &&Value| matches!(t["effect"].as_str(), Some("NoSchedule" | "NoExecute"));
        let taints = node["spec"]["taints"].as_array().into_iter().flatten().take(64).filter(hard);
        let mut kept: Vec<_> = taints.filter(|t| !tolerations.iter().any(|by| tolerates(by, t))).collect();
        let Some(first) = kept.pop() else { return Cases::new() };
        found
            .entry((text(&first["key"]), text(&first["value"]), text(&first["effect"])))
            .or_default()
            .push(node);
    }
    let case = |((key, value, effect), nodes): ((String, String, String), Vec<&Value>)| {
        let shown = if value.is_empty() { key.clone() } else { format!("{key}={value}") };
        let evidence = format!("{shown}:{effect} on {}", named(&nodes));
        let node = nodes.first().map(|n| text(&n["metadata"]["name"])).unwrap_or_default();
        (
            "taint-not-tolerated",
            view.case(evidence)
                .with("key", key)
                .with("value", or_empty(&value))
                .with("effect", effect)
                .with("node", node),
        )
    };
    found.into_iter().map(case).take(16).collect()
}

fn or_empty(value: &str) -> &str {
    if value.is_empty() { "(no value)" } else { value }
}

fn tolerations<'a>(view: &View<'a>) -> Vec<&'a Value> {
    let class = view.class.map(|c| &c["scheduling"]["tolerations"]);
    let sources = [Some(&view.pod["spec"]["tolerations"]), class];
    sources
        .into_iter()
        .flatten()
        .filter_map(Value::as_array)
        .flatten()
        .take(256)
        .collect()
}

/// As `k8s.io/component-helpers/scheduling/corev1` matches: an empty key with Exists is for every
/// taint, an empty effect for every effect, an empty operator is Equal.
fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let of = |name: &str| (text(&toleration[name]), text(&taint[name]));
    let (effect, taint_effect) = of("effect");
    let ((key, taint_key), (value, taint_value)) = (of("key"), of("value"));
    if !effect.is_empty() && effect != taint_effect || !key.is_empty() && key != taint_key {
        return false;
    }
    match toleration["operator"].as_str().unwrap_or("Equal") {
        "Exists" => true,
        "" | "Equal" => value == taint_value,
        _ => false,
    }
}

/// Names of the handlers that a node reports; `None` where it reports none at all.
fn handlers(node: &Value) -> Option<Vec<String>> {
    let list = node["status"]["runtimeHandlers"].as_array().filter(|l| !l.is_empty())?;
    Some(list.iter().take(256).map(|h| text(&h["name"])).collect())
}

/// A pod that has its node.
fn on_node(view: &View<'_>, node: &Value) -> Cases {
    let mut cases = Cases::new();
    let running = view.pod["status"]["phase"] == "Running";
    if let Some(names) = handlers(node).filter(|names| !view.handler.is_empty() && !names.contains(&view.handler)) {
        let offered: Vec<_> = names.iter().filter(|n| !n.is_empty()).take(16).map(String::as_str).collect();
        let evidence = format!("node {} reports the handlers {}", view.node, offered.join(", "));
        cases.push((if running { "handler-removed" } else { "handler-not-found" }, view.case(evidence)));
    }
    if view.pod["spec"]["hostUsers"] == false && !running {
        let ours = node["status"]["runtimeHandlers"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|h| text(&h["name"]) == view.handler);
        if ours.is_some_and(|h| h["features"]["userNamespaces"] != true) {
            cases.push((
                "handler-no-user-namespaces",
                view.case("hostUsers: false, and the node reports no userNamespaces for the handler"),
            ));
        }
    }
    let conditions = node["status"]["conditions"].as_array();
    let ready = conditions.into_iter().flatten().find(|c| c["type"] == "Ready");
    if let Some(ready) = ready.filter(|c| c["status"] != "True") {
        let message = text(&ready["message"]);
        // The network plugin has a row of its own.
        if !message.contains("cni") {
            cases.push((
                "node-not-ready",
                view.case(format!("Ready={}: {message}", text(&ready["status"])))
                    .with("message", or_empty(&message)),
            ));
        } else {
            cases.push(("cni-absent", view.case(message)));
        }
    }
    cases
}
