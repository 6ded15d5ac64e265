//! Probes that fail, and what to look at.

use crate::diagnose::{Diagnosis, row, says};
use crate::finding::Severity::Degrades;

const LOOK: &[&str] = &[
    "cofferdam logs <namespace>/<pod>",
    "cofferdam exec <namespace>/<pod> -- cat /proc/net/tcp /proc/net/tcp6",
];
const LOOK_IN_CLUSTER: &[&str] = &[
    "kubectl logs <pod> --namespace=<namespace> --all-containers --previous",
    "kubectl exec <pod> --namespace=<namespace> -- cat /proc/net/tcp /proc/net/tcp6",
];

pub(super) const ROWS: &[Diagnosis] = &[
    row(
        "probe-refused",
        "a probe finds nobody listening",
        Degrades,
        "The probe's connection was refused: nothing listens on that port of the pod's address yet, or only on 127.0.0.1. Compare the port with what the program opens, let it listen on all addresses, and give a slow start a startupProbe.",
        LOOK,
    )
    .in_cluster(LOOK_IN_CLUSTER)
    .heard(&[
        says("probe failed: <_>connection refused"),
    ]),
    row(
        "probe-timed-out",
        "a probe gets no answer in time",
        Degrades,
        "The probe was not answered within its timeoutSeconds, which is 1 where nothing is said. The program is busy or throttled by its CPU limit, or a network policy or firewall drops the packet; raise timeoutSeconds, more so in gVisor and VMs.",
        &["cofferdam top <namespace>/<pod>", "cofferdam logs <namespace>/<pod>"],
    )
    .in_cluster(&["kubectl top pod <pod> --namespace=<namespace> --containers", "kubectl get networkpolicies --namespace=<namespace>"])
    .heard(&[
        says("probe failed: <_>context deadline exceeded"),
        says("probe failed: <_>i/o timeout"),
        says("probe failed: command timed out"),
        says("probe failed: command <_> timed out"),
        says("probe failed: timeout: "),
        says("probe errored<_>context deadline exceeded"),
    ]),
    row(
        "probe-bad-status",
        "a probe is answered with an error of HTTP",
        Degrades,
        "The program answers the probe with status <code>, and only 200 to 399 are well. 404 is a wrong path, 401 and 403 a page that wants a login, 5xx the program's own trouble, which its log tells.",
        &["cofferdam logs <namespace>/<pod>"],
    )
    .in_cluster(&["kubectl logs <pod> --namespace=<namespace> --all-containers", "kubectl get pod <pod> --namespace=<namespace> -o jsonpath='{.spec.containers[*].livenessProbe}{.spec.containers[*].readinessProbe}'"])
    .heard(&[says("HTTP probe failed with statuscode: <code>")]),
    row(
        "probe-wrong-protocol",
        "a probe speaks another protocol than the port",
        Degrades,
        "The probe asks over HTTPS where the program speaks HTTP, or the reverse, or HTTP where it speaks something else. Set scheme of httpGet to what the port speaks, or use tcpSocket or grpc.",
        LOOK,
    )
    .in_cluster(LOOK_IN_CLUSTER)
    .heard(&[
        says("probe failed: <_>server gave HTTP response to HTTPS client"),
        says("probe failed: <_>malformed HTTP"),
        says("probe failed: <_>first record does not look like a TLS handshake"),
    ]),
    row(
        "probe-not-grpc-health",
        "the program does not implement gRPC's health service",
        Degrades,
        "A grpc probe asks the service grpc.health.v1.Health, and the program speaks gRPC without it, or calls the service by another name. Add the health service that each gRPC library has, or use tcpSocket.",
        &["cofferdam logs <namespace>/<pod>"],
    )
    .in_cluster(&["kubectl logs <pod> --namespace=<namespace> --all-containers"])
    .heard(&[says("this server does not implement the grpc health protocol"), says("probe failed: <_>service unhealthy (responded with \"SERVICE_UNKNOWN\")")]),
    row(
        "probe-cannot-be-made",
        "a probe cannot be made",
        Degrades,
        "The probe came to no result at all, as its port has no such name, the pod has no address, or the command is not in the image; that counts neither for nor against the container. The message says which.",
        &["cofferdam check -f MANIFEST", "cofferdam describe <namespace>/<pod>"],
    )
    .in_cluster(&["kubectl describe pod <pod> --namespace=<namespace>"])
    .heard(&[says("probe errored and resulted in <state> state").unless(&["context deadline exceeded"]), says("probe errored: ").unless(&["context deadline exceeded"])]),
    row(
        "probe-fails",
        "a probe fails",
        Degrades,
        "The kubelet asks the container whether it is well and gets no good answer; a failing liveness or startup probe restarts it, a readiness probe takes it out of service. Probes often need more time in gVisor and VMs: raise initialDelaySeconds or timeoutSeconds.",
        &["cofferdam describe <namespace>/<pod>"],
    )
    .in_cluster(&["kubectl logs <pod> --namespace=<namespace> --all-containers --previous", "kubectl describe pod <pod> --namespace=<namespace>"])
    .heard(&[
        says("Liveness probe failed"),
        says("Readiness probe failed"),
        says("Startup probe failed"),
        says("failed liveness probe"),
        says("failed startup probe"),
    ])
    .generic(),
];
