//! Network: routes, kernel settings, firewall, CNI, Docker.

use super::{Sources, firewall};
use crate::facts::{Docker, Network, Overlap};
use cofferdam_network::Ipv4Net;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

pub(super) fn network(sources: &Sources<'_>, unknown: &mut Vec<String>) -> Network {
    let config = &sources.network;
    let flag = |path: &str| sources.number::<u8>(path).map(|v| v != 0);
    let nft = find(sources, "nft");
    let firewall = firewall::look(sources, nft.as_deref(), unknown);
    let cni = |name: &String| [".conf", ".conflist", ".json"].iter().any(|e| name.ends_with(e));
    let link = sources.at("/sys/class/net").join(&config.bridge);
    // The kernel gives a bridge, and no other link, a folder of its settings.
    let bridge = link.join("bridge").exists();
    Network {
        bridge: config.bridge.clone(),
        bridge_there: bridge,
        bridge_taken: link.exists() && !bridge,
        subnet: config.subnet.to_string(),
        overlaps: overlaps(
            &sources.table_file("/proc/net/route", unknown).unwrap_or_default(),
            &config.bridge,
            config.subnet,
        ),
        ip_forward: flag("/proc/sys/net/ipv4/ip_forward"),
        bridge_nf_call_iptables: flag("/proc/sys/net/bridge/bridge-nf-call-iptables"),
        nft,
        looked_for_nft: true,
        forward_drops: firewall.as_ref().map(|f| f.drops.clone()),
        docker_user_chain: firewall.is_some_and(|f| f.docker_user),
        cni_configs: sources.names("/etc/cni/net.d").into_iter().filter(cni).collect(),
        kubelet: find(sources, "kubelet").is_some() || sources.at("/var/lib/kubelet/config.yaml").exists(),
    }
}

/// A command in `$PATH` or the usual folders: a user's path often lacks those of root.
pub(super) fn find(sources: &Sources<'_>, name: &str) -> Option<PathBuf> {
    let usual = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let folders = sources.path.split(':').filter(|d| d.starts_with('/')).chain(usual);
    folders.map(|d| Path::new(d).join(name)).find(|p| is_program(&sources.at(p)))
}

pub(super) fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// Routes of other links that overlap `subnet`, default routes left out (`/proc/net/route`: numbers
/// are hexadecimal, in the machine's byte order).
fn overlaps(routes: &str, bridge: &str, subnet: Ipv4Net) -> Vec<Overlap> {
    let route = |line: &str| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
        let prefix = u8::try_from(number(7)?.count_ones()).ok()?;
        let network = Ipv4Net::new(Ipv4Addr::from(number(1)?.to_ne_bytes()), prefix)?;
        Some(((*fields.first()?).to_owned(), network))
    };
    let others = routes.lines().skip(1).filter_map(route);
    let found = others.filter(|(link, net)| link != bridge && net.prefix() > 0 && net.overlaps(&subnet));
    found
        .map(|(link, net)| Overlap {
            link,
            network: net.to_string(),
        })
        .take(16)
        .collect()
}

pub(super) fn docker(sources: &Sources<'_>) -> Option<Docker> {
    let found = Docker {
        binary: find(sources, "dockerd").or_else(|| find(sources, "docker")),
        socket: ["/run/docker.sock", "/var/run/docker.sock"].iter().any(|p| sources.at(p).exists()),
    };
    (found.socket || found.binary.is_some()).then_some(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_other_links_overlap() {
        let hex = |a: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(a));
        let line =
            |link: &str, net: [u8; 4], mask: [u8; 4]| format!("{link}\t{}\t00000000\t1\t0\t0\t0\t{}\t0\t0\t0\n", hex(net), hex(mask));
        let text = "Iface\theader\n".to_owned()
            + &line("eth0", [0, 0, 0, 0], [0, 0, 0, 0])
            + &line("docker0", [10, 89, 4, 0], [255, 255, 255, 0])
            + &line("cofferdam0", [10, 89, 0, 0], [255, 255, 0, 0])
            + &line("eth0", [192, 0, 2, 0], [255, 255, 255, 0])
            + "broken\n";
        let found = overlaps(&text, "cofferdam0", "10.89.0.0/16".parse().unwrap());
        assert_eq!(
            found,
            [Overlap {
                link: "docker0".into(),
                network: "10.89.4.0/24".into()
            }]
        );
    }
}
