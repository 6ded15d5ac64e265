//! A large cluster and large manifests, always the same ones.

use serde_json::{Value, json};
use std::fmt::Write;

/// Zones of the nodes.
const ZONES: usize = 10;
/// Namespaces of the pods.
const NAMESPACES: usize = 50;

/// Nodes as `kubectl get nodes -o json` prints them, with what nobody here reads (images, conditions,
/// managed fields) and so many pods on each.
pub(crate) fn cluster(nodes: usize, pods_on_each: usize) -> Value {
    let mut items: Vec<Value> = (0..nodes).map(node).collect();
    items.extend((0..nodes * pods_on_each).map(|i| placed(i, nodes)));
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

fn node(i: usize) -> Value {
    let (name, vm) = (format!("node-{i:04}"), i.is_multiple_of(5));
    let cpus = [16, 32, 64][i % 3];
    let runtime = if vm { "kata" } else { "runc" };
    let images: Vec<Value> = (0..40)
        .map(|n| json!({"names": [format!("registry.example.com/team/image-{n}@sha256:{n:064x}"), format!("registry.example.com/team/image-{n}:1.{n}")], "sizeBytes": 50_000_000 + n}))
        .collect();
    let conditions: Vec<Value> = ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"]
        .iter()
        .map(|kind| json!({"type": kind, "status": "False", "reason": "KubeletHasSufficient", "message": "kubelet has sufficient room", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}))
        .collect();
    let handlers: Vec<Value> = ["", "runc", "runsc"]
        .iter()
        .chain(vm.then_some(&"kata-qemu"))
        .map(|h| json!({"name": h, "features": {"userNamespaces": true}}))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "uid": format!("{i:032x}"), "resourceVersion": "1", "labels": {
            "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": format!("zone-{}", i / 5 % ZONES), "kubernetes.io/arch": "amd64",
            "kubernetes.io/os": "linux", "node.kubernetes.io/instance-type": format!("m-{cpus}"), "runtime": runtime,
        }, "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:metadata": {"f:labels": {".": {}}}}}]},
        "spec": {"podCIDR": "10.0.0.0/24", "taints": if vm { json!([{"key": "runtime", "value": "kata", "effect": "NoSchedule"}]) } else { json!([]) }},
        "status": {
            "capacity": {"cpu": cpus.to_string(), "memory": format!("{}Gi", cpus * 4), "pods": "110"},
            "allocatable": {"cpu": cpus.to_string(), "memory": format!("{}Gi", cpus * 4), "pods": "110"},
            "conditions": conditions, "images": images, "runtimeHandlers": handlers,
            "nodeInfo": {"kernelVersion": "6.1.0", "containerRuntimeVersion": "containerd://2.1.0", "kubeletVersion": "v1.34.4"},
        },
    })
}

fn placed(i: usize, nodes: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("old-{i}"), "namespace": namespace(i), "labels": {"app": format!("old-{}", i % 500)}},
        "spec": {"nodeName": format!("node-{:04}", i % nodes), "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}}}]},
        "status": {"phase": "Running", "startTime": "2026-01-01T00:00:00Z"},
    })
}

fn namespace(i: usize) -> String {
    format!("team-{}", i % NAMESPACES)
}

/// So many pods of a hundred applications in five forms, each with a name and a label of its own, with
/// classes, limit ranges and quotas. Of every hundred, one names a class that there is not, and one is
/// too large for any node.
pub(crate) fn manifests(pods: usize) -> String {
    let mut text = String::from(CLASSES);
    for n in 0..NAMESPACES {
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: team-{n}}}\n\
             ---\napiVersion: v1\nkind: LimitRange\nmetadata: {{name: range, namespace: team-{n}}}\nspec:\n  limits:\n    - {{type: Container, defaultRequest: {{cpu: 50m, memory: 32Mi}}, max: {{cpu: 200}}}}\n\
             ---\napiVersion: v1\nkind: ResourceQuota\nmetadata: {{name: quota, namespace: team-{n}}}\nspec:\n  hard: {{pods: 100k, requests.cpu: 100k}}\n"
        );
    }
    (0..pods).for_each(|i| pod(i, &mut text));
    text
}

const CLASSES: &str = "apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata:
  name: gvisor
handler: runsc
overhead:
  podFixed: {cpu: 50m, memory: 64Mi}
---
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata:
  name: kata
handler: kata-qemu
overhead:
  podFixed: {cpu: 250m, memory: 160Mi}
scheduling:
  nodeSelector: {runtime: kata}
  tolerations:
    - {key: runtime, operator: Equal, value: kata, effect: NoSchedule}
";

fn pod(i: usize, text: &mut String) {
    let (app, size) = (format!("app-{}", i / 5 % 100), i % 3 + 1);
    let class = match (i % 100, i % 5) {
        (42, _) => "  runtimeClassName: gvisr\n",
        (_, 0) => "  runtimeClassName: kata\n",
        (_, 1) => "  runtimeClassName: gvisor\n",
        _ => "",
    };
    let cpu = if i % 100 == 17 {
        "100".to_owned()
    } else {
        format!("{}m", size * 100)
    };
    let spread = match i % 5 {
        2 => format!(
            "  topologySpreadConstraints:\n    - maxSkew: 5\n      topologyKey: topology.kubernetes.io/zone\n      whenUnsatisfiable: DoNotSchedule\n      labelSelector:\n        matchLabels: {{app: {app}}}\n"
        ),
        3 => format!(
            "  affinity:\n    podAntiAffinity:\n      requiredDuringSchedulingIgnoredDuringExecution:\n        - topologyKey: kubernetes.io/hostname\n          labelSelector:\n            matchLabels: {{app: {app}}}\n"
        ),
        _ => String::new(),
    };
    let _ = write!(
        text,
        "---
apiVersion: v1
kind: Pod
metadata:
  name: pod-{i}
  namespace: {namespace}
  labels:
    app: {app}
    pod: pod-{i}
spec:
{class}{spread}  containers:
    - name: app
      image: registry.example.com/team/{app}:1
      ports:
        - name: http
          containerPort: 8080
      env:
        - name: LEVEL
          value: info
        - name: NAME
          valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}
      resources:
        requests:
          cpu: {cpu}
          memory: {memory}Mi
      volumeMounts:
        - name: data
          mountPath: /data
    - name: log
      image: registry.example.com/team/log:1
  volumes:
    - name: data
      emptyDir: {{}}
",
        namespace = namespace(i),
        memory = size * 128,
    );
}
