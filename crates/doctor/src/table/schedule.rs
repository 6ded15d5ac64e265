//! What keeps a pod from getting a node.

use crate::diagnose::{Diagnosis, row, says};
use crate::finding::Severity::{Degrades, StopsPods};

pub(super) const ROWS: &[Diagnosis] = &[
    row(
        "node-selector-mismatch",
        "node selector mismatch",
        StopsPods,
        "No node that could take the pod has the labels that it wants, its class's node selector among them: <key>=<value>. Label the nodes that have the runtime, or correct the selector.",
        &["kubectl get nodes --show-labels", "kubectl label nodes <node> <key>=<value>"],
    )
    .in_cluster(&["kubectl get nodes -L <key>", "kubectl label nodes <node> <key>=<value>"])
    .heard(&[
        says("node(s) didn't match Pod's node affinity/selector"),
        says("node(s) didn't match node selector"),
        says("Predicate NodeAffinity failed"),
    ]),
    row(
        "taint-not-tolerated",
        "no node without a taint that the pod does not tolerate",
        StopsPods,
        "Nodes repel pods that do not tolerate their taint <key>=<value>:<effect>. Give the pod, or better its RuntimeClass under scheduling.tolerations, a toleration for it, or remove the taint.",
        &["kubectl get nodes -o custom-columns=NAME:.metadata.name,TAINTS:.spec.taints"],
    )
    .in_cluster(&[
        "kubectl get nodes -o custom-columns=NAME:.metadata.name,TAINTS:.spec.taints",
        "kubectl taint nodes <node> <key>:<effect>-",
    ])
    .heard(&[
        says("node(s) had untolerated taint {<key>: <value>}"),
        says("node(s) had untolerated taint"),
        says("taints that the pod didn't tolerate"),
        says("taint {<key>: <value>}, that the pod didn't tolerate"),
    ]),
    row(
        "resources-insufficient",
        "no node has enough left",
        StopsPods,
        "The pod's requests, and its class's overhead on top of them, do not fit into what a node has left of <resource>. Ask for less, end other pods, add a node, or lower an overhead that was only guessed.",
        &["cofferdam ps"],
    )
    .in_cluster(&["kubectl describe nodes | grep -A 8 'Allocated resources'", "kubectl get runtimeclass <class> -o jsonpath='{.overhead}'"])
    .heard(&[
        says("Insufficient <resource>").unless(&["Insufficient hugepages-", "no CDI specification"]),
        says("Node didn't have enough resource: <resource>, requested:").unless(&["resource: hugepages-", "Pod resize", "Deferred: Node didn't have"]),
        says("Too many pods"),
    ]),
    row(
        "nodes-unschedulable",
        "nodes are cordoned",
        StopsPods,
        "Somebody has marked the nodes that could take the pod as unschedulable, as kubectl cordon and drain do. Make them schedulable again, or add nodes.",
        &["kubectl get nodes", "kubectl uncordon <node>"],
    )
    .heard(&[says("node(s) were unschedulable")]),
    row(
        "no-nodes",
        "the cluster has no nodes",
        StopsPods,
        "The scheduler knows no node at all. Nodes join when their kubelet reaches the API server.",
        &["kubectl get nodes", "journalctl -u kubelet -n 50"],
    )
    .heard(&[says("no nodes available to schedule pods")]),
    row(
        "pod-affinity-unmet",
        "affinity or topology spread leaves no node",
        StopsPods,
        "The pod's own rules about other pods (affinity, anti-affinity, topology spread) are met by no node. Relax them to preferred, or add nodes in the missing zones.",
        &["kubectl get pod <pod> --namespace=<namespace> -o jsonpath='{.spec.affinity}{.spec.topologySpreadConstraints}'"],
    )
    .heard(&[
        says("node(s) didn't match pod affinity rules"),
        says("node(s) didn't match pod anti-affinity rules"),
        says("node(s) didn't satisfy existing pods anti-affinity rules"),
        says("node(s) didn't match pod topology spread constraints"),
    ]),
    row(
        "node-not-ready",
        "the pod's node is not ready",
        StopsPods,
        "Node <node> does not report that it is ready, so nothing new starts there: <message>. Look at its kubelet and its container runtime.",
        &["kubectl describe node <node>", "journalctl -u kubelet -n 50"],
    )
    .heard(&[says("container runtime is down"), says("PLEG is not healthy"), says("Node is not ready")]),
    row(
        "handler-on-no-node",
        "no node offers the class's handler",
        StopsPods,
        "The class names the handler <handler>, and no node reports it among its runtime handlers; the scheduler does not look at that, so the pod would only fail later. Install the runtime on some nodes, label them, and select that label in the class.",
        &["cofferdam handlers"],
    )
    .in_cluster(&["kubectl get nodes -o jsonpath='{range .items[*]}{.metadata.name}{\" \"}{.status.runtimeHandlers[*].name}{\"\\n\"}{end}'"])
    .heard(&[says("node(s) did not offer runtime handler \"<handler>\"")]),
    row(
        "scheduling-gated",
        "a scheduling gate holds the pod back",
        StopsPods,
        "The pod has schedulingGates, and the scheduler leaves it alone until whoever set them (a queue, an autoscaler) removes them. Look for that controller, or remove the gates.",
        &["kubectl get pod <pod> --namespace=<namespace> -o jsonpath='{.spec.schedulingGates}'"],
    )
    .heard(&[says("SchedulingGated")]),
    row(
        "not-scheduled",
        "no node takes the pod",
        StopsPods,
        "The scheduler found no node for the pod, for a reason that is not known here; its message counts the nodes by reason. Every reason must be met on one and the same node.",
        &["cofferdam check -f MANIFEST"],
    )
    .in_cluster(&["kubectl describe pod <pod> --namespace=<namespace>", "kubectl get nodes"])
    .heard(&[says("nodes are available:"), says("FailedScheduling")])
    .generic(),
    row(
        "evicted",
        "the node evicted the pod",
        StopsPods,
        "The node ran low on <resource> and ended this pod to save itself; an evicted pod stays as a record and does not come back by itself. Set requests near to what the pod really uses, and free the node's <resource>.",
        &["df -h", "free -m"],
    )
    .in_cluster(&["kubectl describe node <node>", "kubectl delete pod <pod> --namespace=<namespace>"])
    .heard(&[says("The node was low on resource: <resource>"), says("The node had condition: [<resource>]")]),
    row(
        "preempted",
        "a pod of higher priority took its place",
        Degrades,
        "The scheduler ended this pod to make room for one of higher priority. Give it a higher priority class, or the cluster more room.",
        &["kubectl get priorityclasses"],
    )
    .heard(&[says("Preempted by")]),
];
