//! Flows that the kernel remembers (connection tracking), by netlink.

use crate::netlink::{Answer, Connection, attributes, put};
use std::io;

// `include/uapi/linux/netfilter/nfnetlink_conntrack.h`.
const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const ORIGINAL: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const PROTOCOL_DESTINATION: u16 = 3;
const NESTED: u16 = 1 << 15;
/// Size of `struct nfgenmsg`.
const FIXED: usize = 4;

/// Forgets all flows of a protocol that began towards one of `ports`. A kernel that tracks nothing
/// has none.
pub(crate) fn forget(protocol: u8, ports: &[u16]) -> io::Result<()> {
    let mut connection = Connection::netfilter()?;
    for family in [libc::AF_INET, libc::AF_INET6].map(|f| f as u8) {
        let answers = match connection.dump_raw(GET, &[family, 0, 0, 0]) {
            Ok(answers) => answers,
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOENT)) => continue,
            Err(e) => return Err(e),
        };
        for tuple in answers.iter().filter_map(|answer| beginning(answer, protocol, ports)) {
            let mut request = vec![family, 0, 0, 0];
            put(&mut request, ORIGINAL | NESTED, tuple);
            match connection.request_raw(DELETE, 0, &request) {
                // It ended by itself meanwhile.
                Err(e) if e.raw_os_error() != Some(libc::ENOENT) => return Err(e),
                _ => {}
            }
        }
    }
    Ok(())
}

/// The addresses and ports that the flow began with, where it is one of those.
fn beginning<'a>(answer: &'a Answer, protocol: u8, ports: &[u16]) -> Option<&'a [u8]> {
    let find = |list: Vec<(u16, &'a [u8])>, wanted| list.into_iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let tuple = find(answer.attributes(FIXED), ORIGINAL)?;
    let parts = attributes(find(attributes(tuple), TUPLE_PROTOCOL)?);
    let (number, port) = (find(parts.clone(), PROTOCOL_NUMBER)?, find(parts, PROTOCOL_DESTINATION)?);
    let port = u16::from_be_bytes(port.get(..2)?.try_into().ok()?);
    (number.first() == Some(&protocol) && ports.contains(&port)).then_some(tuple)
}
