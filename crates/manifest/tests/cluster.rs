//! Objects of a cluster, as kubectl prints them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cofferdam_manifest::cluster::{Cluster, decode, from_values};
use proptest::prelude::*;
use serde_json::{Value, json};

const NODES: &str = r#"apiVersion: v1
items:
- apiVersion: v1
  kind: Node
  metadata:
    annotations:
      node.alpha.kubernetes.io/ttl: "0"
    creationTimestamp: "2025-09-01T10:00:00Z"
    labels:
      kubernetes.io/hostname: n1
      topology.kubernetes.io/zone: a
    managedFields:
    - apiVersion: v1
      fieldsType: FieldsV1
      fieldsV1:
        f:metadata:
          f:labels:
            .: {}
            f:kubernetes.io/hostname: {}
      manager: kubelet
      operation: Update
    name: n1
    resourceVersion: "812"
    uid: 3c1f
  spec:
    podCIDR: 10.244.0.0/24
    providerID: kind://docker/kind/n1
    taints:
    - effect: NoSchedule
      key: runtime
      timeAdded: "2025-09-01T10:00:00Z"
      value: kata
    unschedulable: true
  status:
    addresses:
    - address: 172.18.0.2
      type: InternalIP
    allocatable:
      cpu: "8"
      ephemeral-storage: "494384795648"
      hugepages-2Mi: "0"
      memory: 16Gi
      pods: "110"
    capacity:
      cpu: "8"
    conditions:
    - lastHeartbeatTime: "2025-09-01T10:00:00Z"
      message: kubelet is posting ready status
      status: "True"
      type: Ready
    features:
      supplementalGroupsPolicy: true
    images:
    - names:
      - images.example/pause:3.10
      sizeBytes: 320368
    nodeInfo:
      architecture: amd64
    runtimeHandlers:
    - features:
        recursiveReadOnlyMounts: true
        userNamespaces: true
      name: ""
    - features: null
      name: kata-qemu
kind: List
metadata:
  resourceVersion: ""
---
apiVersion: longhorn.io/v1beta2
kind: Node
metadata:
  name: n1
spec:
  taints: not a list
"#;

fn pod(name: &str, more: Value, status: Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "prod", "labels": {"app": "web"}, "ownerReferences": [{"kind": "ReplicaSet", "name": "web"}]},
        "spec": {
            "nodeName": "n1", "runtimeClassName": "kata", "overhead": {"cpu": "250m"}, "priority": 1000, "preemptionPolicy": "PreemptLowerPriority",
            "schedulerName": "default-scheduler", "enableServiceLinks": true, "dnsPolicy": "ClusterFirst",
            "containers": [{
                "name": "c", "image": "nginx", "imagePullPolicy": "SomeNewPolicy", "resources": {"requests": {"cpu": "100m"}, "claims": []},
                "ports": [{"containerPort": 80, "hostPort": 8080, "protocol": "TCP"}], "livenessProbe": {"httpGet": {"port": 80}},
            }],
            "initContainers": [{"name": "s", "image": "i", "restartPolicy": "Always"}, {"name": "i", "image": "i", "restartPolicy": "OnFailure"}],
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
            "volumes": [{"name": "token", "projected": {"sources": []}}],
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}}]}},
        },
        "status": status,
    });
    for (part, fields) in more.as_object().unwrap() {
        pod[part].as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    }
    pod
}

#[test]
fn nodes_with_all_that_a_cluster_adds() {
    let cluster = decode("nodes.yaml", NODES).unwrap();
    let [node] = &cluster.nodes[..] else { panic!("{cluster:?}") };
    assert_eq!((node.metadata.name.as_str(), node.metadata.labels.len()), ("n1", 2));
    assert_eq!((node.spec.unschedulable, node.spec.taints[0].value.as_str()), (true, "kata"));
    assert_eq!(
        (node.status.allocatable["memory"].value(), node.status.allocatable["pods"].value()),
        (16 << 30, 110)
    );
    let handlers = node.status.runtime_handlers.as_ref().unwrap();
    assert_eq!(
        (handlers.len(), handlers[0].features.unwrap().user_namespaces, handlers[1].features),
        (2, Some(true), None)
    );
    assert!(node.lacks_handler("runc") && !node.lacks_handler("kata-qemu"));
}

#[test]
fn json_says_the_same() {
    let yaml = decode("nodes.yaml", NODES).unwrap();
    let as_json: Value = serde_saphyr::from_str(NODES.split("---").next().unwrap()).unwrap();
    for text in [as_json.to_string(), serde_json::to_string_pretty(&as_json).unwrap()] {
        assert_eq!(decode("nodes.json", &text).unwrap(), yaml);
    }
}

#[test]
fn placed_pods() {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [
        pod("runs", json!({}), json!({"phase": "Running", "startTime": "2025-09-01T10:00:00Z", "containerStatuses": [{"ready": true}]})),
        pod("ends", json!({"metadata": {"deletionTimestamp": "2025-09-01T10:00:00Z"}}), json!({"phase": "Running"})),
        pod("done", json!({}), json!({"phase": "Succeeded"})),
        pod("failed", json!({}), json!({"phase": "Failed"})),
        pod("waits", json!({"spec": {"nodeName": null}}), json!({"phase": "Pending"})),
    ]});
    let pods = decode("pods.json", &list.to_string()).unwrap().pods;
    let seen: Vec<_> = pods
        .iter()
        .map(|p| {
            (
                p.pod.metadata.name.as_str(),
                p.ending,
                p.started.as_deref(),
                p.pod.spec.node_name.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("runs", false, Some("2025-09-01T10:00:00Z"), Some("n1")),
            ("ends", true, None, Some("n1")),
            ("waits", false, None, None)
        ]
    );
    let spec = serde_json::to_value(&pods[0].pod.spec).unwrap();
    let expected = json!({
        "runtimeClassName": "kata", "overhead": {"cpu": "250m"},
        "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}}]}},
        "nodeName": "n1", "priority": 1000, "preemptionPolicy": "PreemptLowerPriority",
        "initContainers": [{"name": "s", "image": "", "restartPolicy": "Always"}, {"name": "i", "image": ""}],
        "containers": [{"name": "c", "image": "", "ports": [{"containerPort": 80, "hostPort": 8080, "protocol": "TCP"}], "resources": {"requests": {"cpu": "100m"}}}],
    });
    assert_eq!(spec, expected);
}

#[test]
fn classes_and_namespaces_beside_other_kinds() {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "kata", "labels": null}, "handler": "kata-qemu", "overhead": {"podFixed": {"cpu": "250m"}}, "scheduling": {"nodeSelector": {"a": "b"}}},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "prod", "labels": {"team": "x"}}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"taints": 5}},
    ]});
    let cluster = decode("all.json", &list.to_string()).unwrap();
    assert_eq!(
        (
            cluster.classes[0].handler.as_str(),
            cluster.namespaces[0].metadata.labels["team"].as_str()
        ),
        ("kata-qemu", "x")
    );
    assert_eq!((cluster.nodes.len(), cluster.pods.len()), (0, 0));
}

#[test]
fn what_admission_reads_beside_nodes_and_pods() {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "r", "namespace": "prod"}, "spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}}]}},
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "prod"},
         "spec": {"hard": {"pods": "5"}, "scopes": ["BestEffort"], "scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "Exists"}]}},
         "status": {"hard": {"pods": "4"}, "used": {"pods": "2"}}},
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "written"}, "spec": {"hard": {"pods": "5"}}},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "prod", "annotations": {"a": "b"}}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "log", "annotations": {"a": "b"}, "ownerReferences": [{"kind": "DaemonSet", "name": "log"}]},
         "spec": {"nodeName": "n1", "priorityClassName": "high", "activeDeadlineSeconds": 5, "hostNetwork": true, "containers": []}},
    ]});
    let cluster = decode("all.json", &list.to_string()).unwrap();
    let limits = serde_json::to_value(&cluster.limit_ranges[0].spec).unwrap();
    assert_eq!(limits, json!({"limits": [{"type": "Container", "max": {"cpu": "1"}}]}));
    let [stated, written] = &cluster.quotas[..] else { panic!("{cluster:?}") };
    assert_eq!(serde_json::to_value((&stated.hard, &stated.used)).unwrap(), json!([{"pods": "4"}, {"pods": "2"}]));
    assert_eq!(stated.quota.spec.scopes, ["BestEffort"]);
    assert!(stated.quota.spec.scope_selector.is_some() && written.hard.is_empty() && written.used.is_none());
    assert_eq!(cluster.namespaces[0].metadata.annotations["a"], "b");
    let pod = &cluster.pods[0];
    assert!(pod.bound && pod.pod.metadata.annotations.is_empty(), "{pod:?}");
    let spec = &pod.pod.spec;
    assert_eq!((spec.priority_class_name.as_deref(), spec.active_deadline_seconds), (Some("high"), Some(5)));
    assert!(spec.host_network);
}

#[test]
fn items_of_a_typed_list_need_no_kind() {
    let items = json!([{"metadata": {"name": "n1"}, "status": {"allocatable": {"cpu": "1"}}}]);
    let list = json!({"kind": "NodeList", "apiVersion": "v1", "items": items});
    let cluster = decode("raw.json", &list.to_string()).unwrap();
    assert_eq!(cluster.nodes[0].metadata.name, "n1");
    let values = items.as_array().unwrap().clone();
    assert_eq!(from_values("the API", "Node", values).unwrap(), cluster);
}

#[test]
fn empty_texts_hold_nothing() {
    for text in ["", "\n", "---\n", "apiVersion: v1\nkind: List\nitems: []\n", "{}"] {
        assert_eq!(decode("f", text).unwrap(), Cluster::default(), "{text:?}");
    }
}

#[test]
fn mistakes_are_told_with_their_place() {
    let rows = [
        (
            "kind: Node\napiVersion: v1\nmetadata: {name: n1}\nspec:\n  taints: none\n",
            "f:5:11: spec.taints: expected sequence start; print the objects anew with kubectl get -o json",
        ),
        (
            "{\"kind\": \"Node\", \"metadata\": {\"name\": \"n1\"},\n \"spec\": {\"taints\": \"none\"}}",
            "f:2:26: spec.taints: invalid type: string \"none\", expected a sequence; print the objects anew with kubectl get -o json",
        ),
        (
            "{\"kind\": \"List\", \"items\": [{\"kind\": \"Node\", \"status\": {\"allocatable\": {\"cpu\": \"many\"}}}]}",
            "f:1:84: items[0].status.allocatable.cpu: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'; print the objects anew with kubectl get -o json",
        ),
        (
            "{\"kind\": \"Node\", \"metadata\": {}}",
            "f: Node number 1 has no metadata.name; print the objects anew with kubectl get -o json",
        ),
        ("a: [", "f:1:4: "),
        ("a: &x 1\nb: *x\n", "f:1:7: "),
        ("NAME STATUS\nn1 Ready\n", "f:1:1: "),
    ];
    for (text, expected) in rows {
        let error = decode("f", text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{text:?}\n got {error}\nwant {expected}");
        assert!(!error.contains('\n'), "{error:?}");
    }
    let wrong = json!({"metadata": {"name": "n1"}, "spec": {"unschedulable": "yes"}});
    let error = from_values("the API", "Node", vec![wrong]).unwrap_err().to_string();
    assert_eq!(
        error,
        "the API: Node \"n1\": spec.unschedulable: invalid type: string \"yes\", expected a boolean"
    );
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in r#"[\{\}\[\]"a-z:,&*! \n0-9-]{0,200}"#) {
        let _ = decode("f", &text);
    }
}
