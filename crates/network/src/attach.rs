//! A pod's side of the network: a pair of links, the pod's end in its namespace, with an address
//! and a route. Nothing has to be undone: when the namespace goes, the kernel takes both ends, and
//! only the address must be given back ([`crate::Ipam::release`]).

use crate::bridge::{Bridge, address};
use crate::link::{self, host_link};
use crate::netlink::{CREATE, Connection};
use crate::{Error, Result, ipv6};
use cofferdam_host::netns;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use serde::{Deserialize, Serialize};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Name of the pod's end.
pub const POD_LINK: &str = "eth0";
/// `lo` is the first link of every namespace.
const LOOPBACK: u32 = 1;

/// How a pod is attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The pod's address.
    pub ip: Ipv4Addr,
    /// Where its packets go.
    pub gateway: Ipv4Addr,
    /// Bits of its network's prefix.
    pub prefix: u8,
    /// Hardware address of its `eth0`, `0a:58:` and the four bytes of its address.
    pub mac: String,
    /// Largest packet, bytes.
    pub mtu: u32,
    /// Name of the machine's end.
    pub host_link: String,
    /// The pod's IPv6 address, where the network has IPv6.
    #[serde(default)]
    pub ip6: Option<Ipv6Addr>,
    /// Where its IPv6 packets go.
    #[serde(default)]
    pub gateway6: Option<Ipv6Addr>,
}

impl Bridge {
    /// Gives the namespace a link to this bridge, `eth0`, with `ip`, the IPv6 address that goes with
    /// it where the network has IPv6, and default routes, and sets it and `lo` up. On failure nothing is left of it.
    pub fn attach(
        &self,
        namespace: BorrowedFd<'_>,
        pod_id: &str,
        ip: Ipv4Addr,
    ) -> Result<Attached> {
        let name = host_link(pod_id)?;
        self.check_address(ip)?;
        if netns::is_own(namespace)? {
            return Err(Error::OwnNamespace {
                pod: pod_id.to_owned(),
            });
        }
        let fail = |what: &str| Error::netlink(format!("{what} of pod {pod_id}"));
        // The pod's socket first: entering the namespace also readies it for the link.
        let mut pod = netns::run_in(namespace, || {
            prepare_ipv6();
            if self.six.is_some() {
                ipv6::enable();
            }
            Connection::route()
        })?
        .map_err(fail("open a netlink socket in the namespace"))?;
        let mut host = Connection::route().map_err(fail("open a netlink socket for the link"))?;
        host.request(vec![(self.pair(&name, namespace, ip), CREATE)])
            .map_err(|(_, e)| e)
            .map_err(fail(&format!("create the link {name}")))?;
        if let Err(e) = self.configure(&mut pod, ip) {
            // The kernel's refusal above is the error to tell, not that of the clean-up.
            if let Ok(Some(link)) = link::by_name(&mut host, &name) {
                let _ = link::delete(&mut host, link.index);
            }
            return Err(fail("configure the network")(e));
        }
        Ok(Attached {
            ip,
            gateway: self.config.gateway(),
            prefix: self.config.subnet.prefix(),
            mac: mac_of(ip).map(|b| format!("{b:02x}")).join(":"),
            mtu: self.mtu,
            host_link: name,
            ip6: self.six.and_then(|_| self.config.pair(ip)),
            gateway6: self.six.and_then(|_| self.config.pair(self.config.gateway())),
        })
    }

    fn check_address(&self, ip: Ipv4Addr) -> Result<()> {
        let net = &self.config.subnet;
        let reason = if !net.contains(ip) {
            format!("it is not in {net}")
        } else if [net.network(), net.broadcast(), self.config.gateway()].contains(&ip) {
            format!("it is the network's, the broadcast or the gateway's of {net}")
        } else {
            return Ok(());
        };
        Err(Error::Address {
            address: ip,
            reason,
        })
    }

    /// One request makes both ends, each where it belongs and named, and ours a port and up. The
    /// pod's cannot be up yet: the kernel sets its flags before it knows its peer.
    fn pair(&self, name: &str, namespace: BorrowedFd<'_>, ip: Ipv4Addr) -> RouteNetlinkMessage {
        let mut peer = LinkMessage::default();
        peer.attributes = vec![
            LinkAttribute::IfName(POD_LINK.to_owned()),
            LinkAttribute::Address(mac_of(ip).to_vec()),
            LinkAttribute::Mtu(self.mtu),
            LinkAttribute::NetNsFd(namespace.as_raw_fd()),
        ];
        let mut message = LinkMessage::default();
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Mtu(self.mtu),
            LinkAttribute::Controller(self.index),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ];
        RouteNetlinkMessage::NewLink(message)
    }

    fn configure(&self, pod: &mut Connection, ip: Ipv4Addr) -> io::Result<()> {
        let index = link::by_name(pod, POD_LINK)?
            .map(|l| l.index)
            .ok_or(io::ErrorKind::NotFound)?;
        let mut requests = vec![
            (link::set_up(LOOPBACK), 0),
            (address(index, self.config.subnet.with(ip)), CREATE),
            (link::set_up(index), 0),
            (default_route(self.config.gateway()), CREATE),
        ];
        let pair = |ip| self.config.pair(ip);
        if let (Some(network), Some(ip6), Some(gateway)) = (self.six, pair(ip), pair(self.config.gateway())) {
            requests.push((ipv6::address(index, ip6, network.prefix()), CREATE));
            requests.push((ipv6::default_route(gateway), CREATE));
        }
        pod.request(requests).map_err(|(_, e)| e)
    }
}

/// The link's hardware address follows from its IPv4 address (as the kubenet and bridge plugins do
/// it), so a neighbour that still knows an address from an earlier pod knows the right one.
pub(crate) fn mac_of(ip: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = ip.octets();
    [0x0a, 0x58, a, b, c, d]
}

fn default_route(gateway: Ipv4Addr) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: AddressFamily::Inet,
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Boot,
        scope: RouteScope::Universe,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes = vec![RouteAttribute::Gateway(RouteAddress::Inet(gateway))];
    RouteNetlinkMessage::NewRoute(message)
}

/// Settings of this thread's namespace that a new link takes over: no routes from the
/// advertisements of other pods on the bridge (CVE-2020-10749), and no second of waiting for
/// duplicates of the link-local address. A kernel without IPv6 has none of these files, nor the
/// trouble; and what stays on where they cannot be written is that pod's own.
fn prepare_ipv6() {
    for file in ["accept_ra", "accept_dad"] {
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/default/{file}"), "0");
    }
}

/// Sets `lo` of a namespace up: for pods that have a network namespace and no network.
pub fn lo_up(namespace: impl AsFd) -> Result<()> {
    let work = || {
        Connection::route()?
            .request(vec![(link::set_up(LOOPBACK), 0)])
            .map_err(|(_, e)| e)
    };
    netns::run_in(namespace.as_fd(), work)?
        .map_err(Error::netlink("set up lo of a network namespace"))
}
