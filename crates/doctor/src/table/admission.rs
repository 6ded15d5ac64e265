//! What the API server refuses, and classes that are not what a pod thinks.

use crate::diagnose::{Diagnosis, row, says};
use crate::finding::Severity::{Note, StopsPods};

pub(super) const ROWS: &[Diagnosis] = &[
    row(
        "runtimeclass-not-found",
        "RuntimeClass not found",
        StopsPods,
        "No RuntimeClass is called <class>, so nothing says in which enclosure the pod belongs. Classes are not namespaced: make the class, or correct runtimeClassName in the pod.",
        &["cofferdam check -f MANIFEST", "cofferdam handlers"],
    )
    .in_cluster(&[
        "kubectl get runtimeclasses",
        "kubectl create -f - <<'EOF'\napiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata:\n  name: <class>\nhandler: HANDLER\nEOF",
    ])
    .heard(&[
        says("runtimeclass.node.k8s.io \"<class>\" not found"),
        says("runtimeclasses.node.k8s.io \"<class>\" not found"),
        says("RuntimeClass \"<class>\" not found"),
    ]),
    row(
        "overhead-conflict",
        "the pod's overhead contradicts its class",
        StopsPods,
        "Admission sets overhead from the RuntimeClass and refuses a pod that brings another one. Leave spec.overhead out of the pod, or put the amount into overhead.podFixed of the class.",
        &["cofferdam check -f MANIFEST"],
    )
    .in_cluster(&["kubectl get runtimeclass <class> -o jsonpath='{.overhead}'"])
    .heard(&[
        says("Pod's Overhead doesn't match RuntimeClass's defined Overhead"),
        says("Pod Overhead set without corresponding RuntimeClass defined Overhead"),
    ]),
    row(
        "node-selector-conflict",
        "the pod's node selector contradicts its class",
        StopsPods,
        "The class wants <key> = <value> on the node, the pod wants <key> = <other>, and no node has both. Remove the key from the pod's nodeSelector, or change the class.",
        &["cofferdam check -f MANIFEST"],
    )
    .in_cluster(&["kubectl get runtimeclass <class> -o jsonpath='{.scheduling.nodeSelector}'"])
    .heard(&[says("conflict: runtimeClass.scheduling.nodeSelector[<key>] = <value>; pod.spec.nodeSelector[<_>] = <other>")]),
    row(
        "quota-exceeded",
        "the namespace's quota is used up",
        StopsPods,
        "ResourceQuota <quota> of the namespace has no room for this pod, and the class's overhead counts like the pod's own requests and limits. Ask for less, end other pods, or raise the quota.",
        &["cofferdam check -f MANIFEST", "cofferdam ps"],
    )
    .in_cluster(&["kubectl describe resourcequota <quota> --namespace=<namespace>"])
    .heard(&[says("exceeded quota: <quota>, requested:")]),
    row(
        "quota-wants-amounts",
        "a quota wants requests or limits that the pod does not name",
        StopsPods,
        "ResourceQuota <quota> limits a resource, so every container must say how much of it it takes. Add <what>, or a LimitRange that fills it in.",
        &["cofferdam check -f MANIFEST"],
    )
    .in_cluster(&["kubectl describe resourcequota <quota> --namespace=<namespace>"])
    .heard(&[says("failed quota: <quota>: must specify <what>")]),
    row(
        "quota-not-counted",
        "a quota has not been counted yet",
        StopsPods,
        "Nobody has counted what of ResourceQuota <quota> is used, and until then nothing is admitted under it. This passes by itself in seconds where the controller manager runs.",
        &["kubectl get resourcequota <quota> --namespace=<namespace>", "kubectl get pods --namespace=kube-system"],
    )
    .heard(&[says("status unknown for quota: <quota>")]),
    row(
        "limit-range-exceeded",
        "an amount is outside of the namespace's limit range",
        StopsPods,
        "A LimitRange of the namespace bounds <resource> for each <kind>, and this pod is outside. Overhead does not count there, so change the container's own requests or limits, or the LimitRange.",
        &["cofferdam check -f MANIFEST"],
    )
    .in_cluster(&["kubectl describe limitrange --namespace=<namespace>"])
    .heard(&[
        says("maximum <resource> usage per <kind> is"),
        says("minimum <resource> usage per <kind> is"),
        says("<resource> max limit to request ratio per <kind> is"),
    ]),
    row(
        "pod-security-violated",
        "the pod breaks the namespace's Pod Security level",
        StopsPods,
        "The namespace enforces the level <level>, and the pod asks for something that it forbids; the message names each field. Change those fields, or enforce another level.",
        &["cofferdam check -f MANIFEST"],
    )
    .in_cluster(&["kubectl get namespace <namespace> -o jsonpath='{.metadata.labels}'"])
    .heard(&[says("violates PodSecurity \"<level>\"")]),
    row(
        "service-account-missing",
        "the service account does not exist",
        StopsPods,
        "The pod names the service account <account>, or gets it by default, and the namespace has none of that name. A new namespace gets its default account a moment after it was made, so this may pass.",
        &["cofferdam check -f MANIFEST"],
    )
    .in_cluster(&["kubectl create serviceaccount <account> --namespace=<namespace>"])
    .heard(&[says("serviceaccount \"<account>\" not found")]),
    row(
        "not-admitted",
        "the pod is not admitted",
        StopsPods,
        "An API server would refuse this pod, so it is not run, and the message names the field or the rule. Correct it in the manifest.",
        &["cofferdam check -f MANIFEST"],
    )
    .in_cluster(&["kubectl apply --dry-run=server -f MANIFEST"])
    .heard(&[says("not admitted: "), says("is forbidden: "), says(" is invalid: ")])
    .generic(),
    row(
        "class-edited",
        "the class was edited while the pod ran",
        Note,
        "RuntimeClass <class> is no longer what it was when this pod was admitted: <change>. The pod keeps what it was admitted with; make it anew to give it what the class says now.",
        &["cofferdam stop <namespace>/<pod>", "cofferdam run -f MANIFEST --detach"],
    )
    .in_cluster(&["kubectl get runtimeclass <class> -o yaml", "kubectl delete pod <pod> --namespace=<namespace>"]),
];
