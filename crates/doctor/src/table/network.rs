//! The pods' network.

use crate::diagnose::{Case, Diagnosis, row, says};
use crate::facts::Facts;
use crate::finding::Severity::{Degrades, Note, StopsPods};

pub(super) const ROWS: &[Diagnosis] = &[
    row(
        "docker-forward-drop",
        "Docker's FORWARD policy drops the pods' packets",
        Degrades,
        "A firewall drops what the machine forwards unless a rule allows it, as Docker sets it up, so pods reach one another but nothing outside. Allow our bridge in Docker's chain for users' rules, or in FORWARD where that chain is not there.",
        &[
            "iptables -I <chain> -i <bridge> -j ACCEPT",
            "iptables -I <chain> -o <bridge> -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        ],
    )
    .heard(&[says("the FORWARD chain drops by its policy")])
    .seen(forward_drops),
    row(
        "bridged-packets-filtered",
        "bridged packets pass through the firewall (bridge-nf-call-iptables)",
        Degrades,
        "net.bridge.bridge-nf-call-iptables is 1 while the firewall drops what is forwarded, so that pods on one bridge do not even reach one another. Turn it off where no kube-proxy on this machine needs it, or allow the bridge to itself.",
        &["sysctl -w net.bridge.bridge-nf-call-iptables=0", "iptables -I <chain> -i <bridge> -o <bridge> -j ACCEPT"],
    )
    .seen(|facts| {
        let network = &facts.network;
        let drops = network.forward_drops.as_ref().is_some_and(|d| !d.is_empty());
        let in_the_way = network.bridge_nf_call_iptables == Some(true) && drops;
        in_the_way.then(|| on_bridge(facts, "net.bridge.bridge-nf-call-iptables = 1".into())).into_iter().collect()
    }),
    row(
        "ip-forward-off",
        "IP forwarding is off",
        Degrades,
        "net.ipv4.ip_forward is 0 although the bridge of the pods is up, so nothing of them leaves this machine; something turned it off after Cofferdam turned it on. Turn it on, and look in /etc/sysctl.d for who turns it off.",
        &["sysctl -w net.ipv4.ip_forward=1", "grep -rn ip_forward /etc/sysctl.conf /etc/sysctl.d"],
    )
    .heard(&[says("IPv4 forwarding is disabled"), says("/proc/sys/net/ipv4/ip_forward contents are not set to 1")])
    .seen(|facts| {
        if facts.network.ip_forward != Some(false) {
            return Vec::new();
        }
        let case = Case::new("net.ipv4.ip_forward = 0");
        // Our own bridge turns it on when the first pod needs it; CNI's plugins and kubeadm do not.
        vec![if facts.network.bridge_there || facts.network.kubelet { case } else { case.severe(Note) }]
    }),
    row(
        "addresses-overlap",
        "the pods' addresses overlap another network",
        StopsPods,
        "The pods' subnet <subnet> overlaps <other> of the link <link>, so packets would go astray, and the bridge is not made. Configure another subnet under [network] in /etc/cofferdam/config.toml.",
        &["ip route", "printf '[network]\\nsubnet = \"10.90.0.0/16\"\\n' > /etc/cofferdam/conf.d/network.toml"],
    )
    .heard(&[says("the pod subnet <subnet> overlaps <other> of the link <link>:")])
    .seen(|facts| {
        let case = |o: &crate::facts::Overlap| {
            Case::new(format!("{} and {} of {}", facts.network.subnet, o.network, o.link))
                .with("subnet", &facts.network.subnet)
                .with("other", &o.network)
                .with("link", &o.link)
        };
        facts.network.overlaps.iter().map(case).collect()
    }),
    row(
        "bridge-not-ours",
        "the bridge's name is taken",
        StopsPods,
        "A link called <link> is there and is not the bridge that Cofferdam would make: it is no bridge, or has another address. Remove it if nobody needs it, or configure another bridge name.",
        &["ip -d link show <link>", "ip addr show <link>"],
    )
    .heard(&[says("the link <link> exists and is no bridge"), says("the bridge <link> has the address <_> where <_> was expected")])
    .seen(|facts| {
        let link = &facts.network.bridge;
        let case = || Case::new(format!("the link {link} exists and is no bridge")).with("link", link);
        facts.network.bridge_taken.then(case).into_iter().collect()
    }),
    row(
        "nft-missing",
        "nft is not installed",
        Degrades,
        "Without nft no rule lets the pods' packets out under the machine's address, so pods reach one another and nothing outside. Install nftables.",
        &["apt-get install nftables"],
    )
    .heard(&[says("nft is not installed")])
    .seen(|facts| {
        let missing = facts.network.looked_for_nft && facts.network.nft.is_none();
        missing.then(|| Case::new("nft is not in $PATH")).into_iter().collect()
    }),
    row(
        "rules-refused",
        "the kernel refuses the pods' firewall rules",
        StopsPods,
        "nft could not write the rules of the pod network: the kernel lacks nf_tables or its NAT, or a module cannot be loaded. Load the modules, or use a kernel that has them.",
        &["modprobe -a nf_tables nft_masq nf_nat", "nft list tables"],
    )
    .heard(&[says("nft refused the rules of the pod network")]),
];

fn on_bridge(facts: &Facts, evidence: String) -> Case {
    let chain = if facts.network.docker_user_chain {
        "DOCKER-USER"
    } else {
        "FORWARD"
    };
    Case::new(evidence).with("chain", chain).with("bridge", &facts.network.bridge)
}

fn forward_drops(facts: &Facts) -> Vec<Case> {
    let chains = facts.network.forward_drops.as_deref().unwrap_or_default();
    if chains.is_empty() {
        return Vec::new();
    }
    vec![on_bridge(facts, format!("policy drop in {}", chains.join(", ")))]
}
