//! A pod of a real cluster: the pod, its events, RuntimeClasses and nodes as JSON, read leniently.
//! What is missing or of another form is not known, and nothing is said of it.

mod placement;
mod value;

use crate::diagnose::{Case, Enclosure, found, without_generic};
use crate::finding::{Finding, Severity, World, settle};
use crate::names::Names;
use crate::pod::{ContainerStory, Listener, MAX_EVENTS};
use serde_json::Value;
use std::collections::BTreeMap;
use value::{clip, items, text};

/// Most nodes that are looked at.
pub const MAX_NODES: usize = 10_000;
/// Most classes and containers that are looked at.
const MAX_ITEMS: usize = 1_000;
/// Longest text that is taken out of an object, bytes.
const MAX_TEXT: usize = 16 << 10;

/// A pod with what belongs to it. Lists may be arrays, `List` objects, or null where they are not
/// known (no permission to list them).
#[derive(Debug, Clone, Default)]
pub struct ClusterPod {
    /// The pod object.
    pub pod: Value,
    /// Events of its namespace; those of other objects are left out here.
    pub events: Value,
    /// RuntimeClasses.
    pub classes: Value,
    /// Nodes.
    pub nodes: Value,
    /// The end of what containers printed (of the previous run where they were started again), by
    /// name.
    pub logs: BTreeMap<String, String>,
}

/// What is looked at again and again.
struct View<'a> {
    pod: &'a Value,
    name: String,
    namespace: String,
    node: String,
    class_name: String,
    /// `None` where classes are not known or the class does not exist.
    class: Option<&'a Value>,
    classes: Option<Vec<&'a Value>>,
    nodes: Option<Vec<&'a Value>>,
    handler: String,
}

impl<'a> View<'a> {
    fn new(all: &'a ClusterPod) -> Self {
        let spec = &all.pod["spec"];
        let class_name = text(&spec["runtimeClassName"]);
        let classes = items(&all.classes, MAX_ITEMS);
        let class = classes
            .as_ref()
            .and_then(|c| c.iter().find(|c| text(&c["metadata"]["name"]) == class_name).copied());
        let namespace = text(&all.pod["metadata"]["namespace"]);
        Self {
            pod: &all.pod,
            name: text(&all.pod["metadata"]["name"]),
            namespace: if namespace.is_empty() { "default".into() } else { namespace },
            node: text(&spec["nodeName"]),
            class,
            classes,
            nodes: items(&all.nodes, MAX_NODES),
            handler: class.map(|c| text(&c["handler"])).unwrap_or_default(),
            class_name,
        }
    }

    fn case(&self, evidence: impl Into<String>) -> Case {
        let names = Names::of([
            ("pod", self.name.as_str()),
            ("namespace", self.namespace.as_str()),
            ("node", self.node.as_str()),
            ("class", self.class_name.as_str()),
            ("handler", self.handler.as_str()),
        ]);
        Case {
            names,
            evidence: evidence.into(),
            subject: format!("pod {}/{}", self.namespace, self.name),
            severity: None,
        }
    }

    fn own_node(&self) -> Option<&'a Value> {
        let nodes = self.nodes.as_ref()?;
        nodes
            .iter()
            .find(|n| !self.node.is_empty() && text(&n["metadata"]["name"]) == self.node)
            .copied()
    }

    fn ready(&self) -> bool {
        let conditions = self.pod["status"]["conditions"].as_array();
        conditions
            .into_iter()
            .flatten()
            .any(|c| c["type"] == "Ready" && c["status"] == "True")
    }
}

/// Names the causes of what is wrong with a pod of a cluster; empty where nothing is.
pub fn diagnose_cluster_pod(all: &ClusterPod) -> Vec<Finding> {
    let view = View::new(all);
    let mut findings: Vec<Finding> = class_cases(&view)
        .into_iter()
        .chain(placement::cases(&view))
        .chain(ending(&view))
        .filter_map(|(id, c)| found(id, c, World::Cluster))
        .collect();
    let heard = listen(all, &view);
    // What objects show has the names in it that a text on the same cause leaves out.
    let shown: Vec<_> = findings.iter().map(|f| f.id).collect();
    findings.extend(heard.into_iter().filter(|f| !shown.contains(&f.id)));
    findings = without_generic(findings);
    if findings.iter().all(|f| f.severity == Severity::Note) && !view.ready() {
        findings.extend(stuck(all, &view));
    }
    settle(findings)
}

type Cases = Vec<(&'static str, Case)>;

/// A pod that was told to end and is kept.
fn ending(view: &View<'_>) -> Option<(&'static str, Case)> {
    let metadata = &view.pod["metadata"];
    let finalizers: Vec<_> = metadata["finalizers"]
        .as_array()
        .into_iter()
        .flatten()
        .take(16)
        .map(text)
        .filter(|f| !f.is_empty())
        .collect();
    let told = text(&metadata["deletionTimestamp"]);
    let kept = !told.is_empty() && !finalizers.is_empty();
    let names = finalizers.join(", ");
    kept.then(|| {
        (
            "stuck-terminating",
            view.case(format!("told to end at {told}; finalizers {names}")).with("name", names),
        )
    })
}

/// The class against the pod.
fn class_cases(view: &View<'_>) -> Cases {
    let mut cases = Cases::new();
    if view.class_name.is_empty() {
        return cases;
    }
    if view.classes.is_some() && view.class.is_none() {
        cases.push((
            "runtimeclass-not-found",
            view.case(format!(
                "runtimeClassName is {:?}, and no RuntimeClass has that name",
                view.class_name
            )),
        ));
    }
    let Some(class) = view.class else { return cases };
    let (then, now) = (&view.pod["spec"]["overhead"], &class["overhead"]["podFixed"]);
    let made = |object: &Value| text(&object["metadata"]["creationTimestamp"]);
    // Times of this form are in order as texts.
    let newer = !made(view.pod).is_empty() && made(class) > made(view.pod);
    let change = match () {
        () if !same_amounts(then, now) => Some(format!("overhead was {}, and is {}", amounts(then), amounts(now))),
        () if newer => Some(format!(
            "it was deleted and made anew at {}, perhaps with another handler",
            made(class)
        )),
        () => None,
    };
    cases.extend(change.map(|change| ("class-edited", view.case(change.clone()).with("change", change))));
    cases
}

fn amounts(list: &Value) -> String {
    let all: Vec<_> = list
        .as_object()
        .into_iter()
        .flatten()
        .take(16)
        .map(|(k, v)| format!("{k}={}", plain(v)))
        .collect();
    if all.is_empty() { "none".into() } else { all.join(", ") }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Whether two lists of resources hold the same amounts; one that cannot be read is compared as text.
fn same_amounts(a: &Value, b: &Value) -> bool {
    let amount = |v: &Value| plain(v).parse::<cofferdam_model::Quantity>();
    let keys = |v: &Value| {
        v.as_object()
            .map(|o| o.keys().cloned().collect::<std::collections::BTreeSet<_>>())
            .unwrap_or_default()
    };
    let equal = |key: &String| match (amount(&a[key]), amount(&b[key])) {
        (Ok(a), Ok(b)) => a == b,
        _ => plain(&a[key]) == plain(&b[key]),
    };
    keys(a) == keys(b) && keys(a).iter().all(equal)
}

/// What status and events say.
fn listen(all: &ClusterPod, view: &View<'_>) -> Vec<Finding> {
    let known = Enclosure::of(&view.handler);
    let enclosure = if known == Enclosure::Unknown {
        Enclosure::of(&view.class_name)
    } else {
        known
    };
    let mut listener = Listener::new(World::Cluster, enclosure, &view.namespace, &view.name, view.ready());
    for (key, value) in [("node", &view.node), ("class", &view.class_name), ("handler", &view.handler)] {
        listener.know(key, value);
    }
    let status = &view.pod["status"];
    listener.hear(&text(&status["reason"]), clip(&status["message"], MAX_TEXT));
    for condition in status["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .take(32)
        .filter(|c| is_trouble(c))
    {
        listener.hear(&text(&condition["reason"]), clip(&condition["message"], MAX_TEXT));
    }
    for list in ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"] {
        for container in status[list].as_array().into_iter().flatten().take(MAX_ITEMS) {
            listener.hear_container(&container_story(container, &all.logs));
        }
    }
    for event in events(all, view).into_iter().rev().filter(|e| e["type"] == "Warning") {
        listener.hear_history(&text(&event["reason"]), event_message(event));
    }
    listener.finish()
}

/// Conditions that say why something does not go on: no node, or a change of resources that waits or failed.
fn is_trouble(condition: &Value) -> bool {
    let (kind, status) = (text(&condition["type"]), text(&condition["status"]));
    match kind.as_str() {
        "PodScheduled" => status == "False",
        "PodResizePending" => status == "True",
        "PodResizeInProgress" => status == "True" && condition["reason"] == "Error",
        _ => false,
    }
}

fn container_story(status: &Value, logs: &BTreeMap<String, String>) -> ContainerStory {
    let (state, last) = (&status["state"], &status["lastState"]["terminated"]);
    let name = text(&status["name"]);
    let (waiting, ended) = (&state["waiting"], &state["terminated"]);
    let now = if waiting.is_object() { waiting } else { ended };
    // A crash loop says why in the state before.
    let texts = |key: &str| {
        [now, last]
            .iter()
            .map(|s| clip(&s[key], MAX_TEXT))
            .filter(|t| !t.is_empty())
            .collect::<Vec<_>>()
            .join(": ")
    };
    let code = |s: &Value| s["exitCode"].as_i64().and_then(|c| i32::try_from(c).ok());
    ContainerStory {
        image: text(&status["image"]),
        reason: texts("reason"),
        message: texts("message"),
        exit_code: code(ended).or_else(|| code(last)),
        down: waiting.is_object() || ended.is_object(),
        restarts: status["restartCount"].as_u64().and_then(|c| u32::try_from(c).ok()).unwrap_or(0),
        log: logs.get(&name).cloned().unwrap_or_default(),
        name,
    }
}

/// Events of this pod, the newest last, of core/v1 or events.k8s.io/v1.
fn events<'a>(all: &'a ClusterPod, view: &View<'_>) -> Vec<&'a Value> {
    let uid = text(&view.pod["metadata"]["uid"]);
    let about = |event: &&Value| {
        let object = if event["involvedObject"].is_object() {
            &event["involvedObject"]
        } else {
            &event["regarding"]
        };
        let (kind, theirs) = (text(&object["kind"]), text(&object["uid"]));
        text(&object["name"]) == view.name && (kind.is_empty() || kind == "Pod") && (uid.is_empty() || theirs.is_empty() || uid == theirs)
    };
    let mut events: Vec<_> = items(&all.events, 100_000).unwrap_or_default().into_iter().filter(about).collect();
    events.sort_by_cached_key(|e| event_time(e));
    let first = events.len().saturating_sub(MAX_EVENTS);
    events.split_off(first)
}

fn event_time(event: &Value) -> String {
    let times = [
        &event["lastTimestamp"],
        &event["series"]["lastObservedTime"],
        &event["eventTime"],
        &event["deprecatedLastTimestamp"],
        &event["firstTimestamp"],
    ];
    times.into_iter().map(text).find(|t| !t.is_empty()).unwrap_or_default()
}

fn event_message(event: &Value) -> &str {
    let message = clip(&event["message"], MAX_TEXT);
    if message.is_empty() {
        clip(&event["note"], MAX_TEXT)
    } else {
        message
    }
}

/// A pod that has a node, waits, and of which nothing known was said.
fn stuck(all: &ClusterPod, view: &View<'_>) -> Option<Finding> {
    let statuses = view.pod["status"]["containerStatuses"].as_array();
    let creating = |s: &Value| {
        matches!(
            s["state"]["waiting"]["reason"].as_str(),
            Some("ContainerCreating" | "PodInitializing")
        )
    };
    let waits = statuses.is_some_and(|s| s.iter().any(creating)) || statuses.is_none();
    if view.node.is_empty() || !waits || view.pod["status"]["phase"] != "Pending" {
        return None;
    }
    let events = events(all, view);
    let last = events.last().map(|e| format!("{}: {}", text(&e["reason"]), event_message(e)));
    let message = last.unwrap_or_else(|| "nothing at all, so that node's kubelet may be down".into());
    found(
        "stuck-container-creating",
        view.case(message.clone()).with("message", message),
        World::Cluster,
    )
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
