//! Devices, huge pages, and changes of resources while a pod runs.

use crate::diagnose::{Diagnosis, row, says};
use crate::finding::Severity::{Degrades, StopsPods};

pub(super) const ROWS: &[Diagnosis] = &[
    row(
        "cdi-unresolvable",
        "no CDI file describes the device",
        StopsPods,
        "The pod is to have the device <device>, and no CDI file in /etc/cdi or /run/cdi of this machine has it, two have it, or the file that should is broken. Let the vendor's tool write the file (nvidia-ctk cdi generate for NVIDIA's), or correct the name.",
        &["ls -l /etc/cdi /run/cdi", "nvidia-ctk cdi list"],
    )
    .heard(&[says("unresolvable CDI devices <device>"), says("Insufficient <device>: pod <_> asks for <_>, and no CDI specification on this machine describes any"), says("CDI device injection failed")]),
    row(
        "cdi-name-invalid",
        "a device's name is not one of CDI",
        StopsPods,
        "An annotation cdi.k8s.io/ names <device>, which has not the form vendor/class=name. Correct the annotation, or ask for the device as a resource.",
        &["cofferdam check -f MANIFEST"],
    )
    .heard(&[says("\"<device>\" is not a CDI device"), says("invalid CDI device name"), says("unqualified device")]),
    row(
        "devices-unavailable",
        "the device plugin has no device left",
        StopsPods,
        "The pod was given to this node for its devices (<resource>), and the device plugin has fewer than it asks for: some became unhealthy, the plugin was restarted, or they are held by a pod that ends. The pod does not come back by itself; delete it, and look at the plugin.",
        &["cofferdam ps"],
    )
    .in_cluster(&["kubectl get node <node> -o jsonpath='{.status.allocatable}'", "kubectl get pods --namespace=kube-system -o wide"])
    .heard(&[
        says("Allocate failed due to requested number of devices unavailable for <resource>. Requested:"),
        says("Allocate failed due to no healthy devices present; cannot allocate unhealthy devices <resource>"),
        says("Allocate failed due to"),
    ]),
    row(
        "huge-pages-unavailable",
        "the machine has no huge pages left of that size",
        StopsPods,
        "The pod requests huge pages of <size>, and this machine has reserved fewer, or none, as they must be set aside before, best when it boots. Reserve more; a kubelet sees them only after it was restarted.",
        &["grep -i huge /proc/meminfo", "sysctl -w vm.nr_hugepages=512"],
    )
    .in_cluster(&["kubectl get nodes -o custom-columns=NAME:.metadata.name,2Mi:.status.allocatable.hugepages-2Mi,1Gi:.status.allocatable.hugepages-1Gi", "sysctl -w vm.nr_hugepages=512", "systemctl restart kubelet"])
    .heard(&[
        says("Insufficient hugepages-<size>"),
        says("Node didn't have enough resource: hugepages-<size>, requested:"),
        says("hugetlb.<size>.<_>: no such file"),
        says("no such file or directory<_>hugetlb.<size>."),
    ]),
    row(
        "resize-infeasible",
        "the change of resources can never be made (Infeasible)",
        Degrades,
        "The pod goes on with its old resources: the new ones are more <resource> than this node has for pods at all, or are of a kind that cannot change while it runs. Ask for less, or make the pod anew on a larger node.",
        &["cofferdam describe <namespace>/<pod>", "free -m"],
    )
    .in_cluster(&["kubectl get pod <pod> --namespace=<namespace> -o jsonpath='{.status.conditions}'", "kubectl describe node <node>"])
    .heard(&[
        says("Node didn't have enough capacity: <resource>, requested:"),
        says("ResizeInfeasible"),
        says("Pod resize Infeasible"),
    ]),
    row(
        "resize-deferred",
        "the change of resources waits for room (Deferred)",
        Degrades,
        "The pod goes on with its old resources: the node could hold the new ones, and has not enough left beside its other pods now. It is tried again when some of them end; ask for less where that takes too long.",
        &["cofferdam ps", "cofferdam describe <namespace>/<pod>"],
    )
    .in_cluster(&["kubectl get pod <pod> --namespace=<namespace> -o jsonpath='{.status.conditions}'", "kubectl describe node <node>"])
    .heard(&[says("ResizeDeferred"), says("Pod resize Deferred"), says("Deferred: Node didn't have enough resource: <resource>, requested:")]),
    row(
        "resize-below-usage",
        "a memory limit cannot fall below what is in use",
        Degrades,
        "The new limit of <limit> bytes is less than the <usage> bytes that are in use, so the kernel would have to kill, and the change is refused. Let the program free memory first, or give memory the resizePolicy RestartContainer.",
        &["cofferdam top <namespace>/<pod>"],
    )
    .in_cluster(&["kubectl top pod <pod> --namespace=<namespace> --containers"])
    .heard(&[says("memory limit (<limit>) below current usage (<usage>)")]),
];
