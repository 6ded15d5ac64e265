//! Classes, their handlers, and where their pods may run.

use crate::cluster::{CLASSES, Cluster, IMAGE, NODE, WAITS, pod};

fn class(name: &str, handler: &str, more: &str) -> String {
    format!("{{apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {{name: {name}}}, handler: {handler}{more}}}\n---\n")
}

#[test]
#[ignore = "needs a node"]
fn three_classes_at_once_in_enclosures_that_differ() {
    let cluster = Cluster::new();
    cluster.one_each(WAITS, "");
    let machine = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    for class in ["crun", "runc"] {
        assert_eq!(
            cluster.exec(class, "uname -r").good(),
            machine.trim(),
            "{class} shares the machine's kernel"
        );
    }
    assert_ne!(cluster.exec("gvisor", "uname -r").good(), machine.trim());
    assert!(cluster.exec("gvisor", "dmesg").good().contains("gVisor"));
    let named = cluster.kubectl(&["describe", "pod", "gvisor"]).good();
    assert!(
        named
            .lines()
            .any(|l| l.split_whitespace().collect::<Vec<_>>() == ["Runtime", "Class", "Name:", "gvisor"]),
        "{named}"
    );
}

#[test]
#[ignore = "needs a node"]
fn a_pod_without_a_class_has_the_default_handler() {
    let cluster = Cluster::new();
    cluster.apply(&pod("p", "", WAITS, ""));
    cluster.ready(&["p"]);
    let machine = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(cluster.exec("p", "uname -r").good(), machine.trim());
}

#[test]
#[ignore = "needs a node"]
fn a_missing_class_is_rejected_at_admission() {
    let cluster = Cluster::new();
    let answer = cluster.feed(&["apply", "--filename", "-"], &pod("p", "nowhere", WAITS, ""));
    answer.fails(r#"pods "p" is forbidden: pod rejected: RuntimeClass "nowhere" not found"#);
}

#[test]
#[ignore = "needs a node"]
fn an_unknown_handler_is_in_the_pods_events_and_nothing_runs() {
    let cluster = Cluster::new();
    cluster.apply(&(class("unconfigured", "no-such-handler", "") + &pod("p", "unconfigured", WAITS, "")));
    cluster.event("p", "FailedCreatePodSandBox", r#"no runtime for "no-such-handler" is configured"#);
    let status = cluster.get("pod/p")["status"].clone();
    assert_eq!(status["phase"], "Pending");
    assert_eq!(status["containerStatuses"][0]["state"]["waiting"]["reason"], "ContainerCreating");
}

#[test]
#[ignore = "needs a node"]
fn the_node_tells_its_handlers_and_what_they_can() {
    let cluster = Cluster::new();
    let node = cluster.get(&format!("node/{NODE}"));
    let handlers = node["status"]["runtimeHandlers"].as_array().cloned().unwrap_or_default();
    let features = |name: &str| {
        handlers
            .iter()
            .find(|h| h["name"].as_str().unwrap_or_default() == name)
            .map(|h| h["features"].clone())
    };
    for name in ["crun", "runc", "gvisor", "test-handler", ""] {
        let features = features(name).unwrap_or_else(|| panic!("no handler {name:?} in {handlers:?}"));
        assert!(
            features["recursiveReadOnlyMounts"].is_boolean() && features["userNamespaces"].is_boolean(),
            "{name}: {features}"
        );
    }
    assert_eq!(node["status"]["features"]["supplementalGroupsPolicy"], true);
}

#[test]
#[ignore = "needs a node"]
fn a_pods_class_never_changes() {
    let cluster = Cluster::new();
    cluster.apply(&pod("p", "crun", WAITS, ""));
    let patch = r#"{"spec": {"runtimeClassName": "runc"}}"#;
    cluster
        .kubectl(&["patch", "pod", "p", "--patch", patch])
        .fails("Forbidden: pod updates may not change fields other than");
    let patch = r#"{"handler": "runc"}"#;
    cluster
        .kubectl(&["patch", "runtimeclass", "crun", "--type", "merge", "--patch", patch])
        .fails("field is immutable");
}

#[test]
#[ignore = "needs a node"]
fn classes_are_listed_with_their_handlers() {
    let cluster = Cluster::new();
    let table = cluster.kubectl(&["get", "runtimeclasses"]).good();
    let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "HANDLER", "AGE"]);
    for class in CLASSES {
        assert!(rows.iter().any(|r| r[..2] == [class, class]), "{class} in {table}");
    }
}

#[test]
#[ignore = "needs a node"]
fn a_class_with_a_selector_waits_for_the_nodes_label() {
    let cluster = Cluster::new();
    let selector = ", scheduling: {nodeSelector: {runtime.example.org/gvisor: 'true'}}";
    cluster.apply(&(class("selected", "gvisor", selector) + &pod("p", "selected", WAITS, "")));
    cluster.event("p", "FailedScheduling", "didn't match Pod's node affinity/selector");
    cluster.kubectl(&["label", "node", NODE, "runtime.example.org/gvisor=true"]).good();
    cluster.ready(&["p"]);
    cluster.kubectl(&["label", "node", NODE, "runtime.example.org/gvisor-"]).good();
    let conflict = pod("q", "selected", WAITS, "").replace("spec: {", "spec: {nodeSelector: {runtime.example.org/gvisor: 'false'}, ");
    cluster
        .feed(&["apply", "--filename", "-"], &conflict)
        .fails("conflict: runtimeClass.scheduling.nodeSelector[runtime.example.org/gvisor] = true");
}

#[test]
#[ignore = "needs a node"]
fn a_tainted_node_takes_only_the_class_that_tolerates() {
    let cluster = Cluster::alone();
    cluster.kubectl(&["taint", "node", NODE, "sandboxed=gvisor:NoSchedule"]).good();
    let toleration = ", scheduling: {tolerations: [{key: sandboxed, operator: Equal, value: gvisor, effect: NoSchedule}]}";
    cluster.apply(&(class("tolerant", "gvisor", toleration) + &pod("in", "tolerant", WAITS, "") + &pod("out", "crun", WAITS, "")));
    cluster.event("out", "FailedScheduling", "node(s) had untolerated taint");
    cluster.ready(&["in"]);
    assert_eq!(cluster.get("pod/out")["status"]["phase"], "Pending");
    cluster.kubectl(&["taint", "node", NODE, "sandboxed-"]).good();
    cluster.ready(&["out"]);
}

#[test]
#[ignore = "needs a node"]
fn an_image_that_is_not_there_is_told() {
    let cluster = Cluster::new();
    cluster.apply(&pod("p", "crun", WAITS, "").replace(IMAGE, "127.0.0.1:5000/e2e-test-images/nothing:1"));
    cluster.event("p", "Failed", "127.0.0.1:5000/e2e-test-images/nothing:1");
    cluster.until("the container waits for its image", || {
        let reason = cluster.get("pod/p")["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].clone();
        reason == "ErrImagePull" || reason == "ImagePullBackOff"
    });
}
