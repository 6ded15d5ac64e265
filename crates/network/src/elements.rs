//! Elements of the maps of our nftables table, by netlink: no `nft` process. The maps themselves
//! are made with the rules ([`crate::nft`]).

use crate::netlink::{Answer, CREATE, Connection, attributes, nest, put};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

// `include/uapi/linux/netfilter/nf_tables.h`.
const SUBSYSTEM: u16 = 10 << 8;
const NEW_ELEMENT: u16 = SUBSYSTEM | 12;
const GET_ELEMENT: u16 = SUBSYSTEM | 13;
const DELETE_ELEMENT: u16 = SUBSYSTEM | 14;
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const ELEMENT_USERDATA: u16 = 6;
const DATA_VALUE: u16 = 1;
/// In user data, libnftnl's type of a comment.
const COMMENT: u8 = 0;
/// Of which `nft` reads this many bytes, with the zero at its end.
pub(crate) const MAX_COMMENT: usize = 127;
/// `struct nfgenmsg`: family inet.
const FIXED: [u8; 4] = [1, 0, 0, 0];

/// The maps: ports of any address of the machine, and of one, for each family of the pod's address.
pub(crate) const PORTS4: &str = "hostports4";
pub(crate) const PORTS6: &str = "hostports6";
pub(crate) const ADDRESSES4: &str = "hostaddresses4";
pub(crate) const ADDRESSES6: &str = "hostaddresses6";
const MAPS: [&str; 4] = [PORTS4, PORTS6, ADDRESSES4, ADDRESSES6];

/// One port of the machine, of all its addresses of a family or of one, and where it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    /// Number of the protocol.
    pub(crate) protocol: u8,
    pub(crate) host_ip: Option<IpAddr>,
    pub(crate) host_port: u16,
    pub(crate) to: IpAddr,
    pub(crate) to_port: u16,
    pub(crate) comment: String,
}

impl Element {
    fn map(&self) -> &'static str {
        match (self.to, self.host_ip) {
            (IpAddr::V4(_), None) => PORTS4,
            (IpAddr::V6(_), None) => PORTS6,
            (IpAddr::V4(_), Some(_)) => ADDRESSES4,
            (IpAddr::V6(_), Some(_)) => ADDRESSES6,
        }
    }

    /// Parts of a key are padded to four bytes each, and in network order.
    fn key(&self) -> Vec<u8> {
        let mut key = self.host_ip.map(octets).unwrap_or_default();
        key.extend([self.protocol, 0, 0, 0]);
        key.extend(padded(self.host_port));
        key
    }

    fn data(&self) -> Vec<u8> {
        let mut data = octets(self.to);
        data.extend(padded(self.to_port));
        data
    }

    fn message(&self, table: &str, whole: bool) -> Vec<u8> {
        let mut bytes = FIXED.to_vec();
        put(&mut bytes, LIST_TABLE, &zero_ended(table));
        put(&mut bytes, LIST_SET, &zero_ended(self.map()));
        nest(&mut bytes, LIST_ELEMENTS, |list| {
            nest(list, LIST_ELEMENT, |element| {
                nest(element, ELEMENT_KEY, |key| put(key, DATA_VALUE, &self.key()));
                if whole {
                    nest(element, ELEMENT_DATA, |data| put(data, DATA_VALUE, &self.data()));
                    let text = zero_ended(&self.comment);
                    put(element, ELEMENT_USERDATA, &[&[COMMENT, text.len() as u8], text.as_slice()].concat());
                }
            });
        });
        bytes
    }

    /// Reads one element of `map`.
    fn read(map: &str, element: &[u8]) -> Option<Self> {
        let parts = attributes(element);
        let part = |wanted| parts.iter().find(|(kind, _)| *kind == wanted).map(|(_, v)| *v);
        let value = |nested: &[u8]| {
            attributes(nested)
                .into_iter()
                .find(|(kind, _)| *kind == DATA_VALUE)
                .map(|(_, v)| v.to_vec())
        };
        let (key, data) = (value(part(ELEMENT_KEY)?)?, value(part(ELEMENT_DATA)?)?);
        let (address, key) = match map {
            PORTS4 | PORTS6 => (None, key.as_slice()),
            _ => {
                let (address, rest) = key.split_at_checked(key.len().checked_sub(8)?)?;
                (Some(ip(address)?), rest)
            }
        };
        let (to, to_port) = data.split_at_checked(data.len().checked_sub(4)?)?;
        let comment = part(ELEMENT_USERDATA)
            .and_then(|data| data.get(2..))
            .map(crate::netlink::text)
            .unwrap_or_default();
        Some(Self {
            protocol: *key.first()?,
            host_ip: address,
            host_port: port(key.get(4..)?)?,
            to: ip(to)?,
            to_port: port(to_port)?,
            comment,
        })
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(four).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|six| Ipv6Addr::from(six).into())
}

fn padded(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

fn port(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?))
}

fn zero_ended(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// Adds all or none; one that is there already is `EEXIST`.
pub(crate) fn add(connection: &mut Connection, table: &str, elements: &[Element]) -> io::Result<()> {
    let requests: Vec<_> = elements.iter().map(|e| (NEW_ELEMENT, CREATE, e.message(table, true))).collect();
    if requests.is_empty() { Ok(()) } else { connection.batch(&requests) }
}

/// Removes all or none.
pub(crate) fn remove(connection: &mut Connection, table: &str, elements: &[Element]) -> io::Result<()> {
    let requests: Vec<_> = elements.iter().map(|e| (DELETE_ELEMENT, 0, e.message(table, false))).collect();
    if requests.is_empty() { Ok(()) } else { connection.batch(&requests) }
}

/// All elements of all maps; none where the table or a map is not there.
pub(crate) fn all(connection: &mut Connection, table: &str) -> io::Result<Vec<Element>> {
    let mut found = Vec::new();
    for map in MAPS {
        let mut request = FIXED.to_vec();
        put(&mut request, LIST_TABLE, &zero_ended(table));
        put(&mut request, LIST_SET, &zero_ended(map));
        match connection.dump_raw(GET_ELEMENT, &request) {
            Ok(answers) => found.extend(answers.iter().flat_map(|answer| read(map, answer))),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EOPNOTSUPP)) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(found)
}

fn read(map: &str, answer: &Answer) -> Vec<Element> {
    let lists = answer
        .attributes(FIXED.len())
        .into_iter()
        .filter(|(kind, _)| *kind == LIST_ELEMENTS);
    lists
        .flat_map(|(_, list)| attributes(list))
        .filter_map(|(_, element)| Element::read(map, element))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn elements_are_read_as_they_are_written() {
        for (host_ip, to) in [
            (None, "10.1.2.3"),
            (Some("127.0.0.1"), "10.1.2.3"),
            (None, "fd00::7"),
            (Some("::1"), "fd00::7"),
        ] {
            let element = Element {
                protocol: 132,
                host_ip: host_ip.map(|t| t.parse().unwrap()),
                host_port: 8080,
                to: to.parse().unwrap(),
                to_port: 80,
                comment: "abc web".into(),
            };
            let answer = Answer {
                payload: element.message("t", true),
            };
            assert_eq!(read(element.map(), &answer), [element]);
        }
        let cut = Answer {
            payload: vec![1, 0, 0, 0, 12, 0, 3, 128, 8, 0, 1, 128, 4, 0, 1, 128],
        };
        assert_eq!(read(PORTS4, &cut), []);
    }
}
