//! Where pods land on the nodes of a file, and what if.

use crate::{Folder, GVISOR, IN_GVISOR, asking, node, pod};

const KATA: &str = "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: kata}\nhandler: kata-qemuu\n---\n";

/// A pod that has a node.
fn placed(name: &str, cpu: &str, node: &str, metadata: &str) -> String {
    let text = asking(name, cpu, &format!("  nodeName: {node}\n"));
    text.replace(&format!("{{name: {name}}}"), &format!("{{name: {name}{metadata}}}"))
}

/// One node for gVisor, one for virtual machines.
fn two() -> String {
    node("n1", 2, "sandbox: gvisor", "", &["runc", "runsc"]) + &node("n2", 4, "", "", &["runc", "kata-qemu"])
}

#[test]
fn later_pods_see_the_earlier_ones() {
    let pods = [
        GVISOR,
        KATA,
        &asking("a", "1", IN_GVISOR),
        &asking("b", "1", IN_GVISOR),
        &asking("c", "1", ""),
        &pod("vm", "  runtimeClassName: kata\n"),
    ]
    .concat();
    let folder = Folder::new(&[("pods.yaml", &pods), ("nodes.yaml", &two())]);
    folder.check("-f pods.yaml --nodes nodes.yaml --explain b").prints(
        119,
        r#"NAMESPACE  POD  CLASS   HANDLER     OVERHEAD               QOS         REQUESTS                LIMITS  RESULT   NODE
default    a    gvisor  runsc       cpu=250m,memory=120Mi  Burstable   cpu=1250m,memory=120Mi  -       placed   n1
default    b    gvisor  runsc       cpu=250m,memory=120Mi  Burstable   cpu=1250m,memory=120Mi  -       no node  -
default    c    -       -           -                      Burstable   cpu=1                   -       placed   n2
default    vm   kata    kata-qemuu  -                      BestEffort  -                       -       no node  -

pods.yaml:25:1: no node: pod "b": 0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match Pod's node affinity/selector. no new claims to deallocate, preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling.
pods.yaml:40:1: no node: pod "vm": 0/2 nodes are available: 2 node(s) did not offer runtime handler "kata-qemuu". no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.
    did you mean handler "kata-qemu"?

Nodes for default/b:
NODE  TAINTS X3  AFFINITY X2  ROOM  BALANCE  SPREAD X2  PODS X2  TOTAL  WHY NOT
n1    -          -            -     -        -          -        -      Insufficient cpu
n2    -          -            -     -        -          -        -      node(s) didn't match Pod's node affinity/selector

note: class "kata": no node offers its handler "kata-qemuu"; did you mean handler "kata-qemu"?

4 pods: 2 placed, 2 without a node"#,
    );
}

#[test]
fn a_class_that_is_only_supposed_makes_pods_land() {
    let kata = KATA.replace("qemuu", "qemu");
    let folder = Folder::new(&[
        ("pods.yaml", &pod("vm", "  runtimeClassName: kata\n")),
        ("nodes.yaml", &two()),
        ("kata.yaml", &kata),
    ]);
    let told = folder.check("-f pods.yaml --nodes nodes.yaml");
    told.prints_lines(
        121,
        &["pods.yaml:5:21: error: pods \"vm\" is forbidden: pod rejected: RuntimeClass \"kata\" not found"],
    );
    let told = folder.check("-f pods.yaml --nodes nodes.yaml --add-class kata.yaml");
    told.prints(
        0,
        "NAMESPACE  POD  CLASS  HANDLER    OVERHEAD  QOS         REQUESTS  LIMITS  RESULT  NODE
default    vm   kata   kata-qemu  -         BestEffort  -         -       placed  n2

1 pod: 1 placed",
    );
    // In place of one that the cluster has, whatever its handler is.
    let nodes = KATA.to_owned() + &two();
    let folder = Folder::new(&[
        ("pods.yaml", &pod("vm", "  runtimeClassName: kata\n")),
        ("nodes.yaml", &nodes),
        ("kata.yaml", &kata),
    ]);
    assert_eq!(folder.check("-f pods.yaml --nodes nodes.yaml").code, Some(119));
    assert_eq!(folder.check("-f pods.yaml --nodes nodes.yaml --add-class kata.yaml").code, Some(0));
    // Where all nodes list their handlers, a class that none offers is told of though no pod names it.
    let folder = Folder::new(&[("class.yaml", KATA), ("nodes.yaml", &two())]);
    folder.check("-f class.yaml --nodes nodes.yaml").prints(
        0,
        "note: class \"kata\": no node offers its handler \"kata-qemuu\"; did you mean handler \"kata-qemu\"?

0 pods; 1 RuntimeClass, and nothing is wrong",
    );
}

#[test]
fn a_class_of_the_manifests_updates_that_of_the_nodes_file() {
    let kata = KATA.replace("qemuu", "qemu");
    let nodes = KATA.to_owned() + &two();
    let folder = Folder::new(&[
        ("pods.yaml", &pod("vm", "  runtimeClassName: kata\n")),
        ("nodes.yaml", &nodes),
        ("kata.yaml", &kata),
    ]);
    // As a manifest it would have to be an update.
    let told = folder.check("-f pods.yaml -f kata.yaml --nodes nodes.yaml");
    told.prints_lines(
        121,
        &["kata.yaml:4:10: error: RuntimeClass.node.k8s.io \"kata\" is invalid: handler: Invalid value: \"kata-qemu\": field is immutable"],
    );
}

#[test]
fn a_drained_node_loses_its_pods_first() {
    let owned = ", ownerReferences: [{apiVersion: apps/v1, kind: DaemonSet, name: log, uid: u}]";
    let nodes = [
        node("node-1", 2, "", "", &[]),
        node("node-2", 2, "", "", &[]),
        node("node-3", 2, "", "", &[]),
        placed("a", "1500m", "node-1", ""),
        placed("log", "100m", "node-2", owned),
        placed("b", "800m", "node-2", ""),
        placed("c", "1", "node-3", ""),
        placed("d", "100m", "node-3", ""),
    ]
    .concat();
    let folder = Folder::new(&[("pods.yaml", &asking("web", "700m", "")), ("nodes.yaml", &nodes)]);
    assert_eq!(folder.check("-f pods.yaml --nodes nodes.yaml").code, Some(0));
    let table = |result: &str| {
        format!(
            "NAMESPACE  POD  CLASS  HANDLER  OVERHEAD  QOS        REQUESTS  LIMITS  RESULT{}\ndefault    web  -      -        -         Burstable  cpu=700m  -       {result}\n\n",
            if result.starts_with("no") { "   NODE" } else { "  NODE" }
        )
    };
    folder
        .check("-f pods.yaml --nodes nodes.yaml --drain node-2 -v")
        .prints_lines(119, &["drained node-2: 1 pod moved, all to other nodes", "    default/b to node-3"]);
    let full = "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable. no new claims to deallocate, preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling.";
    folder
        .check("-f pods.yaml --nodes nodes.yaml --drain node-2 --drain node-3")
        .prints(
            119,
            &format!(
                "{}pods.yaml:1:1: no node: pod \"web\": {full}

drained node-2: 1 pod moved, 0 to other nodes and 1 nowhere
    no node: default/b: {full}
drained node-3: 2 pods moved, 1 to other nodes and 1 nowhere
    no node: default/c: {full}

1 pod: 1 without a node; 2 pods of drained nodes without a node",
                table("no node  -")
            ),
        );
    // Where the manifests' pods land, a drained node's that does not is still a failure.
    let alone = Folder::new(&[("pods.yaml", &pod("web", "")), ("nodes.yaml", &nodes)]);
    let told = alone.check("-f pods.yaml --nodes nodes.yaml --drain node-2 --drain node-3");
    told.prints_lines(119, &["1 pod: 1 placed; 2 pods of drained nodes without a node"]);
    folder
        .check("-f pods.yaml --nodes nodes.yaml --drain node-22")
        .fails("--drain node-22: there is no such node; did you mean \"node-2\"?");
}

#[test]
fn pods_that_the_scheduler_is_not_asked_about() {
    let tainted = "taints: [{key: a, effect: NoSchedule}]";
    let nodes = node("node-1", 1, "", tainted, &[]) + &node("node-2", 1, "", "taints: [{key: a, effect: NoExecute}]", &["runc"]);
    let rows = [
        ("  nodeName: node-1\n", 0, None),
        (
            "  nodeName: node-2\n",
            119,
            Some(
                "spec.nodeName sends it past the scheduler to node \"node-2\", whose kubelet refuses it: node(s) had untolerated taint(s)",
            ),
        ),
        (
            "  nodeName: node-1\n  nodeSelector: {a: b}\n",
            119,
            Some(
                "spec.nodeName sends it past the scheduler to node \"node-1\", whose kubelet refuses it: node(s) didn't match Pod's node affinity/selector",
            ),
        ),
        (
            "  nodeName: node-11\n",
            119,
            Some("spec.nodeName sends it past the scheduler to node \"node-11\", which is not among the nodes; did you mean \"node-1\"?"),
        ),
        (
            "  schedulingGates: [{name: example.com/g}]\n",
            0,
            Some("Scheduling is blocked due to non-empty scheduling gates"),
        ),
    ];
    for (spec, code, message) in rows {
        let told = Folder::new(&[("pods.yaml", &asking("web", "1", spec)), ("nodes.yaml", &nodes)])
            .check("-f pods.yaml --nodes nodes.yaml -o json");
        assert_eq!(told.code, Some(code), "{spec}: {}{}", told.out, told.err);
        assert_eq!(told.json()["pods"][0]["message"].as_str(), message, "{spec}");
    }
}

#[test]
fn what_is_in_the_cluster_counts() {
    let quota = "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: team}\nspec: {hard: {pods: 2}}\nSTATUS---\n";
    let nodes = |status: &str| {
        [
            &node("n1", 2, "", "", &[]),
            &quota.replace("STATUS", status)[..],
            &placed("a", "1", "n1", ""),
        ]
        .concat()
    };
    let two = asking("web", "1", "") + &asking("late", "100m", "");
    let one = asking("a", "2", "");
    let rows = [
        // Without a status, what its pods take.
        (
            "",
            &two,
            121,
            "pods.yaml:10:18: error: pods \"late\" is forbidden: exceeded quota: team, requested: pods=1, used: pods=2, limited: pods=2",
        ),
        (
            "status: {hard: {pods: 2}, used: {pods: 2}}\n",
            &two,
            121,
            "pods.yaml:3:18: error: pods \"web\" is forbidden: exceeded quota: team, requested: pods=1, used: pods=2, limited: pods=2",
        ),
        // Replaced: neither its place nor its quota is taken.
        (
            "",
            &one,
            0,
            "pods.yaml:3:18: warning: Pod \"a\": metadata.name: the cluster has a pod of this name already, on node \"n1\"; this one is taken to replace it",
        ),
        ("status: {hard: {pods: 1}, used: {pods: 1}}\n", &one, 0, "1 pod: 1 placed"),
    ];
    for (status, pods, code, line) in rows {
        let told = Folder::new(&[("pods.yaml", pods), ("nodes.yaml", &nodes(status))]).check("-f pods.yaml --nodes nodes.yaml");
        told.prints_lines(code, &[line]);
    }
    // All namespaces are known where any is; classes are the cluster's too.
    let nodes = [
        &node("n1", 2, "sandbox: gvisor", "", &[]),
        GVISOR,
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n",
    ]
    .concat();
    let in_namespace =
        |namespace: &str| asking("web", "1", IN_GVISOR).replace("{name: web}", &format!("{{name: web, namespace: {namespace}}}"));
    for (namespace, code, line) in [
        ("shop", 0, "1 pod: 1 placed"),
        (
            "shpo",
            121,
            "pods.yaml:3:34: error: namespaces \"shpo\" not found\n    did you mean namespace \"shop\"?",
        ),
    ] {
        let told = Folder::new(&[("pods.yaml", &in_namespace(namespace)), ("nodes.yaml", &nodes)]).check("-f pods.yaml --nodes nodes.yaml");
        told.prints_lines(code, &[line]);
    }
}

#[test]
fn what_cannot_be_known_is_told() {
    let nodes = [&node("n1", 2, "", "", &[]), &placed("a", "1", "n9", "")[..], &pod("waits", "")].concat();
    let pods = asking("web", "2", "  priorityClassName: high\n");
    let told = Folder::new(&[("pods.yaml", &pods), ("nodes.yaml", &nodes)]).check("-f pods.yaml --nodes nodes.yaml");
    let lines = [
        "pods.yaml:5:22: warning: Pod \"web\": spec.priorityClassName: priority classes are not read: the pod is placed with priority 0, so that it preempts no other",
        "note: 1 pod left out, as the nodes are not given: default/a on n9",
        "note: 1 pod of the cluster has no node yet, and no place here",
    ];
    told.prints_lines(0, &lines);
}

#[test]
fn what_would_be_preempted_is_told() {
    let nodes = node("n1", 2, "", "", &[]) + &placed("a", "2", "n1", "");
    let pods = asking("web", "1", "  priority: 1000\n");
    let told = Folder::new(&[("pods.yaml", &pods), ("nodes.yaml", &nodes)]).check("-f pods.yaml --nodes nodes.yaml");
    let lines = [
        "pods.yaml:1:1: no node: pod \"web\": 0/1 nodes are available: 1 Insufficient cpu.",
        "pods.yaml:1:1: warning: pod \"web\" fits on n1 once default/a is preempted, which is of less priority",
    ];
    told.prints_lines(119, &lines);
}

#[test]
fn replicas_are_spread_and_told_of_in_one_row() {
    let deployment = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 5
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: c, image: i}]
";
    let nodes: String = (1..=5)
        .map(|n| node(&format!("n{n}"), 2, &format!("kubernetes.io/hostname: n{n}"), "", &[]))
        .collect();
    let folder = Folder::new(&[("pods.yaml", deployment), ("nodes.yaml", &nodes)]);
    folder.check("-f pods.yaml --nodes nodes.yaml").prints_lines(
        0,
        &["default    deployment/web (5)  -      -        -         BestEffort  -         -       placed  n1, n2, n3 and 2 more"],
    );
    let told = folder.check("-f pods.yaml --nodes nodes.yaml --explain web").out;
    assert!(told.contains("\nNodes for default/web-vdgb8-c2s22:\n"), "{told}");
}

#[test]
fn replicas_are_spread_by_their_deployments_selector() {
    let deployment = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 8
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: c, image: i, resources: {requests: {cpu: 100m}}}]
";
    let labels = |n: u32| format!("kubernetes.io/hostname: node-{n}, topology.kubernetes.io/zone: zone-{n}");
    // By room alone all would go to the large one.
    let nodes = node("node-1", 64, &labels(1), "", &[]) + &node("node-2", 4, &labels(2), "", &[]);
    let folder = Folder::new(&[("pods.yaml", deployment), ("nodes.yaml", &nodes)]);
    let told = folder.check("-f pods.yaml --nodes nodes.yaml -o json").json();
    let placed = |n: usize| told["nodes"][n]["placed"].as_u64().unwrap();
    assert_eq!((placed(0), placed(1)), (4, 4));
}
