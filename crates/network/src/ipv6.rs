//! What the bridge network needs of IPv6: whether the machine has it, addresses and routes that
//! can be used at once, and forwarding that does not cost the machine its own routes.

use crate::bridge::sysctl;
use crate::config::Config;
use crate::link;
use crate::netlink::{Answer, Connection, word};
use crate::subnet6::Ipv6Net;
use crate::{Error, Result};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

const SETTINGS: &str = "/proc/sys/net/ipv6/conf";

/// The pods' IPv6 network, where it is configured and this machine has IPv6 and has not switched
/// it off (`net.ipv6.conf.all.disable_ipv6`, or `default`, which the bridge takes over).
pub(crate) fn network(config: &Config) -> Option<Ipv6Net> {
    let off = |of: &str| std::fs::read_to_string(format!("{SETTINGS}/{of}/disable_ipv6")).map_or(true, |t| t.trim() != "0");
    if off("all") || off("default") { None } else { config.network6() }
}

/// A request that gives a link an address. It is usable at once: that nobody else has it follows
/// from the address store, so the kernel need not ask around for a second first.
pub(crate) fn address(index: u32, address: Ipv6Addr, prefix: u8) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.header.flags = AddressHeaderFlags::Nodad;
    message.attributes = vec![
        AddressAttribute::Local(IpAddr::V6(address)),
        AddressAttribute::Address(IpAddr::V6(address)),
        AddressAttribute::Flags(AddressFlags::Nodad),
    ];
    RouteNetlinkMessage::NewAddress(message)
}

pub(crate) fn default_route(gateway: Ipv6Addr) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: AddressFamily::Inet6,
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Boot,
        scope: RouteScope::Universe,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes = vec![RouteAttribute::Gateway(RouteAddress::Inet6(gateway))];
    RouteNetlinkMessage::NewRoute(message)
}

/// Makes the machine send packets on. A machine that does so no longer listens to routers unless
/// told to: where a link's routes come from them (`accept_ra` 1), it is told to (2).
pub(crate) fn forward() -> Result<()> {
    let all = format!("{SETTINGS}/all/forwarding");
    if std::fs::read_to_string(&all).is_ok_and(|t| t.trim() == "1") {
        return Ok(());
    }
    let entries = std::fs::read_dir(SETTINGS).map_err(|source| Error::Path {
        action: "list",
        path: SETTINGS.into(),
        source,
    })?;
    // Not `default`: links of others that come later must not listen to their containers.
    for entry in entries.flatten().filter(|e| e.file_name() != "all" && e.file_name() != "default") {
        let file = entry.path().join("accept_ra");
        if std::fs::read_to_string(&file).is_ok_and(|t| t.trim() == "1") {
            sysctl(&file.to_string_lossy(), "2")?;
        }
    }
    sysctl(&all, "1")
}

/// In the thread's namespace, before its link is made: where new namespaces take over that IPv6
/// is off, it is on here.
pub(crate) fn enable() {
    for of in ["all", "default"] {
        let file = format!("{SETTINGS}/{of}/disable_ipv6");
        if std::fs::read_to_string(&file).is_ok_and(|t| t.trim() != "0") {
            // Where it cannot be written, giving the address fails and says so.
            let _ = std::fs::write(Path::new(&file), "0");
        }
    }
}

const ADDRESS: u16 = 1;
const ADDRESS_FIXED: usize = 8;
const ROUTE_DESTINATION: u16 = 1;
const ROUTE_LINK: u16 = 4;
const ROUTE_FIXED: usize = 12;

fn attribute(answer: &Answer, fixed: usize, wanted: u16) -> Option<&[u8]> {
    answer
        .attributes(fixed)
        .into_iter()
        .find(|(kind, _)| *kind == wanted)
        .map(|(_, value)| value)
}

fn ipv6(value: &[u8]) -> Option<Ipv6Addr> {
    Some(<[u8; 16]>::try_from(value.get(..16)?).ok()?.into())
}

/// Whether the link has the address.
pub(crate) fn has_address(connection: &mut Connection, index: u32, wanted: Ipv6Addr) -> Result<bool> {
    let request = || {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet6;
        RouteNetlinkMessage::GetAddress(message)
    };
    let answers = connection.dump(request).map_err(Error::netlink("list the IPv6 addresses"))?;
    let is = |a: &Answer| a.word(4) == index && attribute(a, ADDRESS_FIXED, ADDRESS).and_then(ipv6) == Some(wanted);
    Ok(answers.iter().any(is))
}

/// Refuses a network that a route or an address of another link than `own` is in.
pub(crate) fn refuse_overlap(connection: &mut Connection, network: Ipv6Net, own: Option<u32>) -> Result<()> {
    let request = || {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet6;
        RouteNetlinkMessage::GetRoute(message)
    };
    let answers = connection.dump(request).map_err(Error::netlink("list the IPv6 routes"))?;
    let route = |answer: &Answer| {
        let destination = attribute(answer, ROUTE_FIXED, ROUTE_DESTINATION).and_then(ipv6)?;
        let link = attribute(answer, ROUTE_FIXED, ROUTE_LINK).and_then(word).unwrap_or(0);
        Some((link, Ipv6Net::new(destination, answer.payload.get(1).copied()?)?))
    };
    let taken = |(link, net): &(u32, Ipv6Net)| net.prefix() > 0 && Some(*link) != own && net.overlaps(&network);
    let Some((index, other)) = answers.iter().filter_map(route).find(taken) else {
        return Ok(());
    };
    let links = link::all(connection).map_err(Error::netlink("list the links"))?;
    let link = links
        .into_iter()
        .find(|l| l.index == index)
        .map_or_else(|| "(several)".to_owned(), |l| l.name);
    Err(Error::Overlap6 {
        subnet: network,
        other,
        link,
    })
}
