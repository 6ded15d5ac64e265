//! Ports: of the machine that lead to pods, and those that programs open.

use crate::diagnose::{Diagnosis, prints, row, says, told};
use crate::finding::Severity::StopsPods;

pub(super) const ROWS: &[Diagnosis] = &[
    row(
        "host-port-taken",
        "the hostPort is taken",
        StopsPods,
        "The pod wants a port of the machine (hostPort, or any port with hostNetwork) that another pod has or a process of the machine uses. Use another port, end the other, or reach the pod by a Service, which needs no hostPort.",
        &["cofferdam ps", "ss -ltnp"],
    )
    .in_cluster(&["kubectl get pods --all-namespaces --field-selector spec.nodeName=<node> -o jsonpath='{range .items[*]}{.metadata.name}{\" \"}{.spec.containers[*].ports[*].hostPort}{\"\\n\"}{end}'", "ss -ltnp"])
    .heard(&[
        says("port <port> of the machine cannot lead to the pod <_>: the pod <other> has <_> already"),
        says("port <port> of the machine cannot lead to the pod <_>: a process of the machine uses it"),
        says("didn't have free ports for the requested pod ports"),
        says("Predicate NodePorts failed"),
        says("cannot open hostport <port> for pod"),
        says("cannot open hostport"),
        says("port is already allocated"),
    ]),
    row(
        "host-port-impossible",
        "the hostPort cannot lead to the pod",
        StopsPods,
        "The port <port> is asked for on an address that this machine does not have, or of a family that the pod has no address of. Correct hostIP, or leave it out for all addresses.",
        &["ip -brief address"],
    )
    .heard(&[says("port <port> of the machine cannot lead to the pod").unless(&[" already", "a process of the machine uses it"])]),
    row(
        "port-taken",
        "the port is taken",
        StopsPods,
        "Another process already listens on the port that this one wants, within the pod, whose containers share one network, or on the machine with hostNetwork. Use another port, or end the other.",
        &["ss -ltnp"],
    )
    .heard(&[
        told("address already in use").unless(&["cannot open hostport"]),
        told("EADDRINUSE").unless(&["address already in use"]),
        prints("port is already allocated"),
    ]),
];
