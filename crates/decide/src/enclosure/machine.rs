//! What a pod shares with the machine and has of it: namespaces, names, network, resources.

use super::Feature;
use super::find::{field, of_containers, of_resources};
use crate::requirements::{is_extended, is_huge_pages};

pub(super) static FEATURES: &[Feature] = &[
    Feature::works("host-network", "`hostNetwork`", |pod| field(pod.spec.host_network, "hostNetwork"))
        .not_in_gvisor("gVisor cannot give a pod the machine's namespaces; remove hostNetwork")
        .not_in_vm("a virtual machine has a network of its own; remove hostNetwork")
        .spec("hostNetwork: true")
        .script("test -d /sys/class/net/lo"),
    Feature::works("host-pid", "`hostPID`", |pod| field(pod.spec.host_pid, "hostPID"))
        .not_in_gvisor("gVisor cannot give a pod the machine's namespaces; remove hostPID")
        .not_in_vm("a virtual machine has processes of its own; remove hostPID")
        .spec("hostPID: true")
        .script("read pid rest < /proc/self/stat\ntest $pid -gt 10"),
    Feature::works("host-ipc", "`hostIPC`", |pod| field(pod.spec.host_ipc, "hostIPC"))
        .not_in_gvisor("gVisor cannot give a pod the machine's namespaces; remove hostIPC")
        .not_in_vm("a virtual machine has shared memory of its own; remove hostIPC")
        .spec("hostIPC: true"),
    Feature::works("share-process-namespace", "`shareProcessNamespace`", |pod| {
        field(pod.spec.share_process_namespace == Some(true), "shareProcessNamespace")
    })
    .spec("shareProcessNamespace: true")
    .script("read pid rest < /proc/self/stat\ntest $pid -gt 1"),
    Feature::works("user-namespace", "a user namespace of the pod (`hostUsers: false`)", |pod| {
        field(pod.spec.host_users == Some(false), "hostUsers")
    })
    .not_in_gvisor("gVisor's users are those of its own kernel, and their ids on volumes cannot be mapped; remove hostUsers: false")
    .spec("hostUsers: false")
    .script("test \"$(id -u)\" = 0\nif grep -q '^ *0 *0 ' /proc/self/uid_map; then exit 1; fi"),
    Feature::works("hostname", "`hostname`, `subdomain` and `setHostnameAsFQDN`", |pod| {
        let fields = [
            ("hostname", pod.spec.hostname.is_some()),
            ("subdomain", pod.spec.subdomain.is_some()),
            ("setHostnameAsFQDN", pod.spec.set_hostname_as_fqdn == Some(true)),
        ];
        fields.into_iter().flat_map(|(name, is_set)| field(is_set, name)).collect()
    })
    .spec("hostname: till\nsubdomain: shop\nsetHostnameAsFQDN: true")
    .script("test \"$(hostname)\" = till.shop.default.svc.cluster.local"),
    Feature::works("host-aliases", "`hostAliases`", |pod| field(!pod.spec.host_aliases.is_empty(), "hostAliases"))
        .spec("hostAliases:\n- {ip: 10.1.2.3, hostnames: [till, till.shop]}")
        .script("grep -E '^10.1.2.3\\s+till\\s+till.shop' /etc/hosts"),
    Feature::works("dns", "DNS policies and settings", |pod| {
        let fields = [
            ("dnsPolicy", pod.spec.dns_policy.is_some()),
            ("dnsConfig", pod.spec.dns_config.is_some()),
        ];
        fields.into_iter().flat_map(|(name, is_set)| field(is_set, name)).collect()
    })
    .spec("dnsPolicy: None\ndnsConfig: {nameservers: [192.0.2.1], searches: [shop.example], options: [{name: ndots, value: '2'}]}")
    .script("grep 'nameserver 192.0.2.1' /etc/resolv.conf\ngrep 'search shop.example' /etc/resolv.conf\ngrep 'ndots:2' /etc/resolv.conf"),
    Feature::works("host-port", "ports of the machine (`hostPort`)", |pod| {
        of_containers(pod, "ports", |c| c.ports.iter().any(|p| p.host_port.is_some_and(|p| p != 0)))
    })
    .container("ports: [{containerPort: 8080, hostPort: 31999}]"),
    Feature::works("bandwidth", "limits of the network's rate, by annotations", |pod| {
        let keys = pod.metadata.annotations.keys().filter(|k| is_bandwidth(k));
        keys.map(|key| format!("metadata.annotations[{key}]")).collect()
    })
    .metadata("annotations: {kubernetes.io/ingress-bandwidth: 10M, kubernetes.io/egress-bandwidth: 10M}"),
    Feature::works("cpu-and-memory", "requests and limits of cpu and memory", |pod| {
        of_resources(pod, |name| matches!(name, "cpu" | "memory"))
    })
    .container("resources: {requests: {cpu: 50m, memory: 16Mi}, limits: {cpu: 500m, memory: 64Mi}}"),
    Feature::works("pod-level-resources", "resources of the whole pod (KEP-2837)", |pod| {
        field(pod.spec.resources.is_some(), "resources")
    })
    .spec("resources: {requests: {cpu: 50m, memory: 16Mi}, limits: {cpu: 500m, memory: 64Mi}}"),
    Feature::works("resize", "changes of cpu and memory in place, and their policies", |pod| {
        of_containers(pod, "resizePolicy", |c| !c.resize_policy.is_empty())
    })
    .spec("restartPolicy: OnFailure")
    .container("resources: {limits: {cpu: 500m, memory: 64Mi}}\nresizePolicy:\n- {resourceName: cpu, restartPolicy: NotRequired}\n- {resourceName: memory, restartPolicy: RestartContainer}"),
    Feature::works("huge-pages", "huge pages", |pod| of_resources(pod, is_huge_pages))
        .not_in_gvisor("gVisor has no huge pages; remove hugepages-* and the volumes of medium HugePages")
        .needs("free huge pages of 2 MiB")
        .container("resources: {limits: {cpu: 500m, memory: 64Mi, hugepages-2Mi: 2Mi}}"),
    Feature::works("devices", "devices, by their CDI names as extended resources", |pod| of_resources(pod, is_extended))
        .not_in_gvisor("gVisor cannot give containers devices of the machine; remove them from resources")
        .not_in_vm("a virtual machine has no devices of the machine; remove them from resources")
        .needs("a CDI specification of example.com/device")
        .container("resources: {limits: {example.com/device: 1}}")
        .script("test -c /dev/example"),
];

/// Annotations that Kubernetes' own network plugin reads (`pkg/util/bandwidth`).
fn is_bandwidth(key: &str) -> bool {
    ["kubernetes.io/ingress-bandwidth", "kubernetes.io/egress-bandwidth"].contains(&key)
}
