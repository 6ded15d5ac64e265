//! Looking at and deleting links of the machine's network namespace.

use crate::netlink::{Answer, Connection, attributes, nest, put, text, word};
use crate::{Error, Result};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use std::io;

/// What the names of our pods' links begin with.
pub(crate) const PREFIX: &str = "cd";
/// Digits of the pod's id that follow.
const DIGITS: usize = 12;

// Attributes of a link: `include/uapi/linux/if_link.h`.
const NAME: u16 = 3;
const MTU: u16 = 4;
const MASTER: u16 = 10;
const INFO: u16 = 18;
const INFO_KIND: u16 = 1;
/// Size of `struct ifinfomsg`.
const FIXED: usize = 16;

/// One link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// `bridge`, `veth`, …; empty for a physical one.
    pub(crate) kind: String,
    pub(crate) mtu: u32,
    /// Index of the bridge that it is a port of; 0 for none.
    pub(crate) master: u32,
    pub(crate) up: bool,
}

impl Link {
    fn read(answer: &Answer) -> Self {
        let mut link = Self {
            index: answer.word(4),
            name: String::new(),
            kind: String::new(),
            mtu: 0,
            master: 0,
            up: answer.word(8) & LinkFlags::Up.bits() != 0,
        };
        for (kind, value) in answer.attributes(FIXED) {
            match kind {
                NAME => link.name = text(value),
                MTU => link.mtu = word(value).unwrap_or(0),
                MASTER => link.master = word(value).unwrap_or(0),
                INFO => {
                    let info = attributes(value);
                    link.kind = info
                        .iter()
                        .find(|(k, _)| *k == INFO_KIND)
                        .map_or_else(String::new, |(_, v)| text(v));
                }
                _ => {}
            }
        }
        link
    }
}

pub(crate) fn by_name(connection: &mut Connection, name: &str) -> io::Result<Option<Link>> {
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::IfName(name.to_owned()));
    let answer = connection.get(RouteNetlinkMessage::GetLink(message))?;
    Ok(answer.as_ref().map(Link::read))
}

pub(crate) fn all(connection: &mut Connection) -> io::Result<Vec<Link>> {
    let answers = connection.dump(|| RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    Ok(answers.iter().map(Link::read).collect())
}

pub(crate) fn delete(connection: &mut Connection, index: u32) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    match connection.request(vec![(RouteNetlinkMessage::DelLink(message), 0)]) {
        Ok(()) => Ok(()),
        Err((_, e)) if e.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        Err((_, e)) => Err(e),
    }
}

/// A request that sets a link up.
pub(crate) fn set_up(index: u32) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    RouteNetlinkMessage::SetLink(message)
}

/// Lets a bridge send what came in by a port out by the same one. A pod that reaches itself by a
/// port of the machine needs it where the bridge's frames pass the packet filter
/// (`net.bridge.bridge-nf-call-iptables`, which Kubernetes' proxy asks for): the destination is
/// then replaced while the frame is on the bridge, and never comes up to be routed.
pub(crate) fn hairpin(name: &str) -> Result<()> {
    // `struct ifinfomsg` of the bridge family, then `IFLA_PROTINFO` with `IFLA_BRPORT_MODE`.
    const SET_LINK: u16 = 19;
    const PROTOCOL_INFO: u16 = 12;
    const MODE: u16 = 4;
    let work = || {
        let mut connection = Connection::route()?;
        let index = by_name(&mut connection, name)?.ok_or(io::ErrorKind::NotFound)?.index;
        let mut message = vec![libc::AF_BRIDGE as u8, 0, 0, 0];
        message.extend(index.to_ne_bytes());
        message.extend([0; 8]);
        nest(&mut message, PROTOCOL_INFO, |info| put(info, MODE, &[1]));
        connection.request_raw(SET_LINK, 0, &message)
    };
    work().map_err(Error::netlink(format!("let the link {name} lead back to its pod")))
}

/// Name of the machine's end of a pod's link: `cd` and the first 12 digits of its id.
pub fn host_link(pod_id: &str) -> Result<String> {
    let digits = pod_id.get(..DIGITS).filter(|d| d.bytes().all(is_digit));
    digits
        .map(|d| format!("{PREFIX}{d}"))
        .ok_or_else(|| Error::PodId(pod_id.to_owned()))
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

fn is_ours(link: &Link) -> bool {
    let digits = link.name.strip_prefix(PREFIX).unwrap_or_default();
    link.kind == "veth" && digits.len() == DIGITS && digits.bytes().all(is_digit)
}

/// Whether a link of this name is there.
pub fn link_exists(name: &str) -> Result<bool> {
    let fail = || Error::netlink(format!("look for the link {name}"));
    let found = Connection::route()
        .and_then(|mut c| by_name(&mut c, name))
        .map_err(fail())?;
    Ok(found.is_some())
}

/// Deletes a link and its peer; one that is not there is no error. The kernel takes 20 ms and more
/// for it: where the pod's namespace can be dropped instead, its links go by themselves.
pub fn delete_link(name: &str) -> Result<()> {
    let work = || {
        let mut connection = Connection::route()?;
        match by_name(&mut connection, name)? {
            Some(link) => delete(&mut connection, link.index),
            None => Ok(()),
        }
    };
    work().map_err(Error::netlink(format!("delete the link {name}")))
}

/// Names of the machine's ends of pods' links, told by their form.
pub fn list_links() -> Result<Vec<String>> {
    let links = Connection::route()
        .and_then(|mut c| all(&mut c))
        .map_err(Error::netlink("list the links"))?;
    Ok(links.into_iter().filter(is_ours).map(|l| l.name).collect())
}

/// Those of our pods' links that are ports of the bridge `master`.
pub(crate) fn ports(connection: &mut Connection, master: u32) -> io::Result<Vec<Link>> {
    Ok(all(connection)?
        .into_iter()
        .filter(|l| is_ours(l) && l.master == master)
        .collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn names_come_from_ids_alone() {
        assert_eq!(
            host_link("0123456789abcdef0123456789abcdef").unwrap(),
            "cd0123456789ab"
        );
        for bad in [
            "",
            "0123456789a",
            "0123456789aB",
            "../../../../x",
            "0123456789é",
        ] {
            assert!(host_link(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_veths_of_our_form_are_ours() {
        let link = |name: &str, kind: &str| Link {
            index: 1,
            name: name.to_owned(),
            kind: kind.to_owned(),
            mtu: 1500,
            master: 0,
            up: true,
        };
        assert!(is_ours(&link("cd0123456789ab", "veth")));
        for (name, kind) in [
            ("cd0123456789ab", "dummy"),
            ("cd0", "veth"),
            ("cdrom", "veth"),
            ("veth0123456789ab", "veth"),
        ] {
            assert!(!is_ours(&link(name, kind)), "{name}");
        }
    }
}
