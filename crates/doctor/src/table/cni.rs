//! CNI: what is configured, the plugins, and what they answer.

use crate::diagnose::{Case, Diagnosis, row, says};
use crate::finding::Severity::StopsPods;

pub(super) const ROWS: &[Diagnosis] = &[
    row(
        "addresses-exhausted",
        "no address is left for the pod",
        StopsPods,
        "Every address of the pods' subnet is held, by pods that run or by leftovers of pods that ended. Stop pods, remove leftovers, or configure a larger subnet.",
        &["cofferdam ps", "cofferdam config"],
    )
    .in_cluster(&["ls /var/lib/cni/networks/*", "kubectl get node <node> -o jsonpath='{.spec.podCIDR}'"])
    .heard(&[
        says("no address of <subnet> is free"),
        says("no IP addresses available in range set"),
        says("failed to allocate for range").unless(&["no IP addresses available", "duplicate allocation"]),
        says("no more IPs available"),
        says("range is full"),
    ]),
    row(
        "cni-absent",
        "no CNI network is configured on the node",
        StopsPods,
        "The container runtime found no CNI configuration, so the node is not ready and pods stay in ContainerCreating. Install the cluster's network plugin; Cofferdam itself needs none.",
        &["ls /etc/cni/net.d /opt/cni/bin"],
    )
    .in_cluster(&["kubectl get pods --namespace=kube-system -o wide", "ls /etc/cni/net.d /opt/cni/bin"])
    .heard(&[
        says("cni plugin not initialized"),
        says("cni config uninitialized"),
        says("no networks found in /etc/cni/net.d"),
        says("no network config found in <path>").unless(&["cni plugin not initialized"]),
        says("no valid networks found in"),
        says("No CNI configuration file in <path>"),
    ])
    .seen(|facts| {
        let absent = facts.network.kubelet && facts.network.cni_configs.is_empty();
        absent.then(|| Case::new("a kubelet is installed, and /etc/cni/net.d has no configuration")).into_iter().collect()
    }),
    row(
        "cni-plugin-missing",
        "a CNI plugin is not installed",
        StopsPods,
        "The network's configuration names the plugin <plugin>, and the plugins' folders have no file of that name or one that cannot be run. Install it there (Debian has the usual ones in containernetworking-plugins), or correct the configuration.",
        &["ls -l /opt/cni/bin /usr/lib/cni", "apt-get install containernetworking-plugins"],
    )
    .heard(&[
        says("the CNI plugin <plugin> of the network <network> is not installed"),
        says("the CNI plugin <plugin> of the network <network> cannot be executed"),
        says("failed to find plugin \"<plugin>\" in path"),
        says("exec: \"/opt/cni/bin/<plugin>\": <_>no such file"),
    ]),
    row(
        "cni-config-broken",
        "a CNI configuration cannot be used",
        StopsPods,
        "The first file by name in /etc/cni/net.d counts, and it has an error, so no pod gets a network and no other file is taken in its place. The message names the file and what is wrong with it.",
        &["ls /etc/cni/net.d", "cat <path>"],
    )
    .heard(&[
        says("the CNI configuration <path> cannot be used:"),
        says("failed to load CNI config list file <path>: "),
        says("failed to load CNI config file <path>: "),
        says("error parsing configuration list"),
        says("invalid network config"),
    ]),
    row(
        "cni-version-mismatch",
        "a CNI plugin does not know the configuration's version",
        StopsPods,
        "The network's cniVersion is none that all of its plugins know: the plugins are older than the configuration, or newer and have dropped it. Install plugins of one release, or write a cniVersion that all of them know.",
        &["ls /etc/cni/net.d", "echo '{\"cniVersion\":\"1.0.0\"}' | CNI_COMMAND=VERSION /opt/cni/bin/bridge"],
    )
    .heard(&[
        says("is known to all its plugins: <plugin> knows"),
        says("incompatible CNI versions"),
        says("unsupported CNI result version"),
        says("(incompatible CNI version)"),
    ]),
    row(
        "cni-plugin-hung",
        "a CNI plugin does not answer",
        StopsPods,
        "A plugin of the pod's network took too long and was killed; most often the agent that it asks, or the API server behind that, is not there. Look at the plugin's own pods and log, and call it by hand.",
        &["ls /etc/cni/net.d", "journalctl -n 100"],
    )
    .in_cluster(&["kubectl get pods --namespace=kube-system -o wide", "journalctl -u containerd -n 100"])
    .heard(&[
        says("the CNI plugin <plugin> of the network <_> did not answer"),
        says("netplugin failed with no error message: signal: killed"),
        says("netplugin failed: <_>signal: killed"),
    ]),
    row(
        "cni-agent-not-running",
        "the network's agent does not run on the node",
        StopsPods,
        "The plugin asks an agent of its network (calico/node, flanneld, the Cilium agent) which has not yet run, or not well, on this node. Look at that agent's pod here; pods get their network once it is ready.",
        &["ls /etc/cni/net.d /run/flannel /var/lib/calico"],
    )
    .in_cluster(&["kubectl get pods --all-namespaces -o wide --field-selector spec.nodeName=<node>"])
    .heard(&[
        says("/run/flannel/subnet.env: no such file"),
        says("/var/lib/calico/nodename: no such file"),
        says("unable to connect to Cilium"),
        says("Cilium API client timeout exceeded"),
        says("Cilium agent is not running"),
    ]),
    row(
        "cni-leftover",
        "an ended pod's network was not taken back",
        StopsPods,
        "The plugin finds an address, link or name that an earlier pod or try had and that was never taken back. Remove it, or drain the node and clear the plugin's folder (host-local has /var/lib/cni/networks).",
        &["ls /var/lib/cni/networks /var/lib/cni/results", "ip link"],
    )
    .heard(&[
        says("duplicate allocation is not allowed"),
        says("container veth name (<name>) peer provided (<_>) already exists"),
        says("container veth name provided (<name>) already exists"),
    ]),
    row(
        "cni-bridge-has-other-address",
        "the plugin's bridge has another network's address",
        StopsPods,
        "The bridge <link> is left from an earlier network of other addresses, and the plugin does not change it. Remove the bridge; the plugin makes it anew with the next pod.",
        &["ip addr show <link>", "ip link delete <link>"],
    )
    .heard(&[
        says("failed to set bridge addr: \"<link>\" already has an IP address different from"),
        says("already has an IP address different from"),
    ]),
    row(
        "cni-no-address",
        "the CNI network gave no address",
        StopsPods,
        "All plugins of the network <network> succeeded and none gave the pod an address. A plugin with ipam must be in its list; look at the configuration.",
        &["ls /etc/cni/net.d"],
    )
    .heard(&[says("the CNI network <network> gave the pod <_> no address")]),
    row(
        "cni-capability-missing",
        "no CNI plugin can do what the pod asks",
        StopsPods,
        "The pod asks for <what>, for which a plugin of the network must declare a capability, and none does. Add the plugin that can (portmap for hostPort, bandwidth for the bandwidth annotations) with that capability, or drop the request.",
        &["ls /etc/cni/net.d"],
    )
    .heard(&[says("asks for <what>, which no plugin of the CNI network")]),
    row(
        "cni-failed",
        "the network plugin failed",
        StopsPods,
        "The CNI plugin was called for this pod and failed, and the message is its own. Look at the plugin's pods, the one on this node first.",
        &["journalctl -u containerd -n 100"],
    )
    .in_cluster(&["kubectl get pods --namespace=kube-system -o wide", "journalctl -u containerd -n 100"])
    .heard(&[
        says("the CNI plugin <plugin> of the network"),
        says("failed to setup network for sandbox"),
        says("failed to create pod network sandbox"),
        says("error adding pod <_> to CNI network"),
    ])
    .generic(),
];
