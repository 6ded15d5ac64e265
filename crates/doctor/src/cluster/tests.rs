#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use serde_json::json;

fn pod(spec: Value, status: Value) -> Value {
    json!({"metadata": {"name": "web", "namespace": "shop", "uid": "u1", "creationTimestamp": "2026-03-01T00:00:00Z"}, "spec": spec, "status": status})
}

fn event(kind: &str, reason: &str, message: &str, at: &str) -> Value {
    json!({"type": kind, "reason": reason, "message": message, "lastTimestamp": at, "involvedObject": {"kind": "Pod", "name": "web", "uid": "u1"}})
}

fn class(name: &str, handler: &str) -> Value {
    json!({"metadata": {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"}, "handler": handler})
}

fn node(name: &str, labels: Value, taints: Value, handlers: &[&str]) -> Value {
    let handlers: Vec<_> = handlers
        .iter()
        .map(|h| json!({"name": h, "features": {"userNamespaces": *h == "runc"}}))
        .collect();
    json!({"metadata": {"name": name, "labels": labels}, "spec": {"taints": taints},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "runtimeHandlers": handlers}})
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({"phase": "Pending", "containerStatuses": [{"name": "app", "image": "web:1", "restartCount": 0, "state": {"waiting": {"reason": reason, "message": message}}}]})
}

fn all(pod: Value, events: Vec<Value>, classes: Vec<Value>, nodes: Vec<Value>) -> ClusterPod {
    ClusterPod {
        pod,
        events: json!({"kind": "EventList", "items": events}),
        classes: json!(classes),
        nodes: json!(nodes),
        logs: BTreeMap::new(),
    }
}

fn ids(found: &[Finding]) -> Vec<&'static str> {
    found.iter().map(|f| f.id).collect()
}

/// A pod that waits for a node, and the message of its condition.
fn unscheduled(spec: Value, message: &str, classes: Vec<Value>, nodes: Vec<Value>) -> ClusterPod {
    let status = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]});
    all(
        pod(spec, status),
        vec![event("Warning", "FailedScheduling", message, "2026-03-01T00:00:05Z")],
        classes,
        nodes,
    )
}

#[test]
fn a_class_that_is_missing_is_found_once() {
    let message = r#"Failed to create pod sandbox: runtimeclass.node.k8s.io "gvisor" not found"#;
    let one = all(
        pod(
            json!({"runtimeClassName": "gvisor", "nodeName": "a"}),
            waiting("ContainerCreating", ""),
        ),
        vec![event("Warning", "FailedCreatePodSandBox", message, "2026-03-01T00:00:05Z")],
        vec![class("kata", "kata-qemu")],
        vec![node("a", json!({}), json!([]), &["runc"])],
    );
    let found = diagnose_cluster_pod(&one);
    assert_eq!(ids(&found), ["runtimeclass-not-found"]);
    assert!(found[0].remedy[1].contains("name: gvisor"), "{:?}", found[0].remedy);
    // Where classes cannot be listed, the event says it.
    assert_eq!(
        ids(&diagnose_cluster_pod(&ClusterPod {
            classes: Value::Null,
            ..one
        })),
        ["runtimeclass-not-found"]
    );
}

#[test]
fn a_selector_that_no_node_meets_names_its_key() {
    let message = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.";
    let mut kata = class("kata", "kata");
    kata["scheduling"] = json!({"nodeSelector": {"katacontainers.io/kata-runtime": "true"}});
    let nodes = |a: Value, b: Value| {
        vec![
            node("a", a, json!([]), &["runc", "kata"]),
            node("b", b, json!([]), &["runc", "kata"]),
        ]
    };
    let found = diagnose_cluster_pod(&unscheduled(
        json!({"runtimeClassName": "kata"}),
        message,
        vec![kata.clone()],
        nodes(json!({"x": "y"}), json!({"katacontainers.io/kata-runtime": "false"})),
    ));
    assert_eq!(ids(&found), ["node-selector-mismatch"]);
    assert_eq!(
        found[0].evidence,
        "no node has katacontainers.io/kata-runtime=true; b has katacontainers.io/kata-runtime=false"
    );
    assert_eq!(found[0].remedy[1], "kubectl label nodes NODE katacontainers.io/kata-runtime=true");

    let both = json!({"runtimeClassName": "kata", "nodeSelector": {"disk": "ssd"}});
    let found = diagnose_cluster_pod(&unscheduled(
        both,
        message,
        vec![kata],
        nodes(json!({"disk": "ssd"}), json!({"katacontainers.io/kata-runtime": "true"})),
    ));
    assert_eq!(
        found[0].evidence,
        "no node has all of: disk=ssd on a; katacontainers.io/kata-runtime=true on b"
    );
}

#[test]
fn taints_cordons_and_handlers_of_matching_nodes_are_told() {
    let taint = json!([{"key": "sandboxed", "value": "kata", "effect": "NoSchedule"}]);
    let tainted = |handlers: &[&str]| {
        vec![
            node("a", json!({"k": "v"}), taint.clone(), handlers),
            node("b", json!({}), json!([]), &["runc"]),
        ]
    };
    let spec = |tolerations: Value| json!({"runtimeClassName": "kata", "nodeSelector": {"k": "v"}, "tolerations": tolerations});
    let message =
        "0/2 nodes are available: 1 node(s) had untolerated taint {sandboxed: kata}, 1 node(s) didn't match Pod's node affinity/selector.";
    let found = diagnose_cluster_pod(&unscheduled(
        spec(json!([])),
        message,
        vec![class("kata", "kata")],
        tainted(&["kata"]),
    ));
    assert_eq!(ids(&found)[0], "taint-not-tolerated");
    assert_eq!(found[0].evidence, "sandboxed=kata:NoSchedule on a");
    assert_eq!(found[0].remedy[1], "kubectl taint nodes a sandboxed:NoSchedule-");

    for (toleration, tolerated) in [
        (json!({"key": "sandboxed", "operator": "Exists"}), true),
        (json!({"key": "sandboxed", "value": "kata", "effect": "NoSchedule"}), true),
        (json!({"operator": "Exists"}), true),
        (json!({"key": "sandboxed", "value": "gvisor"}), false),
        (json!({"key": "sandboxed", "operator": "Exists", "effect": "NoExecute"}), false),
        (json!({"key": "other", "operator": "Exists"}), false),
    ] {
        let found = diagnose_cluster_pod(&unscheduled(
            spec(json!([toleration])),
            "",
            vec![class("kata", "kata")],
            tainted(&["kata"]),
        ));
        assert_eq!(!ids(&found).contains(&"taint-not-tolerated"), tolerated, "{toleration}");
    }

    let tolerant = json!([{"operator": "Exists"}]);
    let found = diagnose_cluster_pod(&unscheduled(
        spec(tolerant.clone()),
        "",
        vec![class("kata", "kata")],
        tainted(&["runc", ""]),
    ));
    assert_eq!(ids(&found), ["handler-on-no-node"]);
    let mut cordoned = tainted(&["kata"]);
    cordoned[0]["spec"]["unschedulable"] = json!(true);
    assert_eq!(
        ids(&diagnose_cluster_pod(&unscheduled(
            spec(tolerant),
            "",
            vec![class("kata", "kata")],
            cordoned
        ))),
        ["nodes-unschedulable"]
    );
    assert_eq!(
        ids(&diagnose_cluster_pod(&unscheduled(json!({}), "", vec![], vec![]))),
        ["no-nodes"]
    );
}

#[test]
fn a_handler_that_the_node_lacks_is_found_from_either_side() {
    let spec = json!({"runtimeClassName": "gvisor", "nodeName": "a"});
    let message = r#"Failed to create pod sandbox: rpc error: code = Unknown desc = unable to get OCI runtime for sandbox "1f": no runtime for "runsc" is configured"#;
    let events = vec![event("Warning", "FailedCreatePodSandBox", message, "2026-03-01T00:00:05Z")];
    let nodes = |handlers: &[&str]| vec![node("a", json!({}), json!([]), handlers)];
    for nodes in [nodes(&["", "runc"]), nodes(&[])] {
        let one = all(
            pod(spec.clone(), waiting("ContainerCreating", "")),
            events.clone(),
            vec![class("gvisor", "runsc")],
            nodes,
        );
        let found = diagnose_cluster_pod(&one);
        assert_eq!(ids(&found), ["handler-not-found"]);
        assert!(
            found[0].explanation.contains("handler runsc") && found[0].explanation.contains("runtime of a"),
            "{}",
            found[0].explanation
        );
    }
    let removed = all(
        pod(spec, json!({"phase": "Running"})),
        vec![],
        vec![class("gvisor", "runsc")],
        nodes(&["runc"]),
    );
    assert_eq!(ids(&diagnose_cluster_pod(&removed)), ["handler-removed"]);
}

#[test]
fn user_namespaces_follow_the_handler() {
    let one = |class_name: &str| {
        let spec = json!({"runtimeClassName": class_name, "nodeName": "a", "hostUsers": false});
        all(
            pod(spec, waiting("ContainerCreating", "")),
            vec![],
            vec![class("g", "runsc"), class("r", "runc")],
            vec![node("a", json!({}), json!([]), &["runc", "runsc"])],
        )
    };
    assert_eq!(ids(&diagnose_cluster_pod(&one("g"))), ["handler-no-user-namespaces"]);
    assert_eq!(ids(&diagnose_cluster_pod(&one("r"))), ["stuck-container-creating"]);
}

#[test]
fn a_class_edited_under_a_pod_is_a_note() {
    let edited = |overhead: Value, class_overhead: Value, made: &str| {
        let mut class = class("g", "runsc");
        class["overhead"] = json!({"podFixed": class_overhead});
        class["metadata"]["creationTimestamp"] = json!(made);
        let status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        diagnose_cluster_pod(&all(
            pod(json!({"runtimeClassName": "g", "nodeName": "a", "overhead": overhead}), status),
            vec![],
            vec![class],
            vec![],
        ))
    };
    let before = "2026-01-01T00:00:00Z";
    let found = edited(json!({"cpu": "100m"}), json!({"cpu": "200m"}), before);
    assert_eq!(
        found.iter().map(|f| (f.id, f.severity)).collect::<Vec<_>>(),
        [("class-edited", Severity::Note)]
    );
    assert!(
        found[0].explanation.contains("overhead was cpu=100m, and is cpu=200m"),
        "{}",
        found[0].explanation
    );
    assert_eq!(
        edited(
            json!({"cpu": "100m", "memory": "1Gi"}),
            json!({"cpu": "0.1", "memory": "1024Mi"}),
            before
        ),
        []
    );
    assert_eq!(ids(&edited(Value::Null, Value::Null, "2026-04-01T00:00:00Z")), ["class-edited"]);
}

#[test]
fn states_of_containers_are_heard() {
    let spec = || json!({"nodeName": "a", "containers": []});
    let rows: Vec<(&str, Value)> = vec![
        (
            "image-never-pulled",
            waiting(
                "ErrImageNeverPull",
                "Container image \"web:1\" is not present with pull policy of Never",
            ),
        ),
        (
            "image-pull-back-off",
            waiting("ImagePullBackOff", "Back-off pulling image \"web:1\""),
        ),
        (
            "container-not-made",
            waiting("CreateContainerError", "failed to generate container \"1f\" spec: something new"),
        ),
        (
            "scheduling-gated",
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "Scheduling is blocked due to non-empty scheduling gates"}]}),
        ),
        (
            "image-pull-denied",
            waiting(
                "ErrImagePull",
                "Failed to pull image \"web:1\": pull access denied, repository does not exist",
            ),
        ),
        (
            "oom-killed",
            json!({"phase": "Running", "containerStatuses": [{"name": "app", "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container=app"}}, "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}]}),
        ),
        (
            "crash-loop",
            json!({"phase": "Running", "containerStatuses": [{"name": "app", "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}}, "lastState": {"terminated": {"reason": "Error", "exitCode": 3}}}]}),
        ),
        (
            "container-failed",
            json!({"phase": "Failed", "containerStatuses": [{"name": "app", "state": {"terminated": {"reason": "Error", "exitCode": 3}}}]}),
        ),
        (
            "resize-deferred",
            json!({"phase": "Running", "conditions": [{"type": "PodResizePending", "status": "True", "reason": "Deferred", "message": "Node didn't have enough resource: cpu, requested: 3000, used: 2000, capacity: 4000"}]}),
        ),
        (
            "resize-infeasible",
            json!({"phase": "Running", "conditions": [{"type": "PodResizePending", "status": "True", "reason": "Infeasible", "message": "Node didn't have enough capacity: memory, requested: 4718592000, capacity: 4294967296"}]}),
        ),
        (
            "resize-below-usage",
            json!({"phase": "Running", "conditions": [{"type": "PodResizeInProgress", "status": "True", "reason": "Error", "message": "attempting to set pod memory limit (1048576) below current usage (4194304)"}]}),
        ),
        (
            "evicted",
            json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: ephemeral-storage."}),
        ),
        (
            "entrypoint-not-found",
            json!({"phase": "Failed", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"reason": "StartError", "exitCode": 128, "message": "unable to start container process: exec: \"x\": executable file not found in $PATH: unknown"}}}]}),
        ),
    ];
    for (id, status) in rows {
        assert_eq!(ids(&diagnose_cluster_pod(&all(pod(spec(), status), vec![], vec![], vec![]))), [id]);
    }
}

#[test]
fn a_back_off_yields_to_the_event_that_says_why() {
    let events = vec![
        event(
            "Warning",
            "Failed",
            "Failed to pull image \"web:1\": failed to do request: Head \"https://r.example/v2/\": dial tcp: i/o timeout",
            "2026-03-01T00:00:05Z",
        ),
        event("Normal", "BackOff", "Back-off pulling image \"web:1\"", "2026-03-01T00:00:09Z"),
    ];
    let one = all(
        pod(
            json!({"nodeName": "a"}),
            waiting("ImagePullBackOff", "Back-off pulling image \"web:1\""),
        ),
        events,
        vec![],
        vec![],
    );
    assert_eq!(ids(&diagnose_cluster_pod(&one)), ["registry-unreachable"]);
}

#[test]
fn what_a_gvisor_container_prints_is_heard_by_its_class() {
    let status =
        json!({"phase": "Failed", "containerStatuses": [{"name": "app", "state": {"terminated": {"reason": "Error", "exitCode": 1}}}]});
    let mut one = all(
        pod(json!({"runtimeClassName": "sandboxed", "nodeName": "a"}), status),
        vec![],
        vec![class("sandboxed", "runsc")],
        vec![],
    );
    one.logs.insert("app".into(), "io_uring_setup: Operation not supported".into());
    assert_eq!(ids(&diagnose_cluster_pod(&one)), ["gvisor-unsupported-call"]);
}

#[test]
fn a_pod_that_waits_in_silence_is_stuck_and_says_after_what() {
    let events = vec![
        event("Normal", "Scheduled", "Successfully assigned shop/web to a", "2026-03-01T00:00:01Z"),
        event(
            "Warning",
            "FailedMount",
            "MountVolume.SetUp failed for volume \"v\" : timed out",
            "2026-03-01T00:00:09Z",
        ),
    ];
    let mut other = event(
        "Warning",
        "FailedScheduling",
        "no nodes available to schedule pods",
        "2026-03-01T00:00:10Z",
    );
    other["involvedObject"]["name"] = json!("another");
    let events: Vec<_> = events.into_iter().rev().chain([other]).collect();
    let found = diagnose_cluster_pod(&all(
        pod(json!({"nodeName": "a"}), waiting("ContainerCreating", "")),
        events,
        vec![],
        vec![],
    ));
    assert_eq!(ids(&found), ["stuck-container-creating"]);
    assert!(
        found[0].explanation.contains("FailedMount: MountVolume.SetUp failed"),
        "{}",
        found[0].explanation
    );
    assert_eq!(found[0].remedy[0], "kubectl describe pod web --namespace=shop");
}

#[test]
fn finalizers_that_keep_a_pod_are_named() {
    let mut one = pod(
        json!({"nodeName": "a"}),
        json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}),
    );
    one["metadata"]["deletionTimestamp"] = json!("2026-03-02T00:00:00Z");
    assert_eq!(diagnose_cluster_pod(&all(one.clone(), vec![], vec![], vec![])), []);
    one["metadata"]["finalizers"] = json!(["example.com/hold"]);
    let found = diagnose_cluster_pod(&all(one, vec![], vec![], vec![]));
    assert_eq!(ids(&found), ["stuck-terminating"]);
    assert!(found[0].explanation.contains("(example.com/hold)"), "{}", found[0].explanation);
}

#[test]
fn a_node_that_is_not_ready_is_told() {
    let not_ready = |message: &str| {
        let mut node = node("a", json!({}), json!([]), &[]);
        node["status"]["conditions"][0] = json!({"type": "Ready", "status": "False", "message": message});
        let one = all(
            pod(json!({"nodeName": "a"}), waiting("ContainerCreating", "")),
            vec![],
            vec![],
            vec![node],
        );
        ids(&diagnose_cluster_pod(&one))
    };
    assert_eq!(not_ready("container runtime is down"), ["node-not-ready"]);
    assert_eq!(
        not_ready("NetworkPluginNotReady message: cni plugin not initialized"),
        ["cni-absent"]
    );
}

#[test]
fn a_pod_that_is_well_and_objects_of_any_form_give_nothing() {
    let status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [{"name": "app", "state": {"running": {}}, "ready": true}]});
    let well = all(
        pod(json!({"runtimeClassName": "g", "nodeName": "a"}), status),
        vec![],
        vec![class("g", "runsc")],
        vec![node("a", json!({}), json!([]), &["runsc"])],
    );
    assert_eq!(diagnose_cluster_pod(&well), []);
    for odd in [
        Value::Null,
        json!(5),
        json!("x"),
        json!([1, [2]]),
        json!({"spec": 1, "status": [], "metadata": "x"}),
        json!({"items": {"a": 1}}),
    ] {
        let one = ClusterPod {
            pod: odd.clone(),
            events: odd.clone(),
            classes: odd.clone(),
            nodes: odd.clone(),
            logs: BTreeMap::new(),
        };
        let found = diagnose_cluster_pod(&one);
        assert!(found.iter().all(|f| f.severity != Severity::Degrades), "{odd}: {found:?}");
    }
}
