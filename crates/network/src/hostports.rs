//! Ports of the machine that lead to pods. Each is an element of a map that one static rule looks
//! up, and its comment begins with the pod's id: what is there is the record, so that a killed
//! process leaves nothing that cannot be found.
//!
//! A packet to one of the machine's addresses is sent on to the pod, wherever it comes from:
//! another machine, this one (also by 127.0.0.1), another pod, or the pod itself. A process of
//! the machine that binds the port later than the pod came gets none of its packets.

use crate::config::Config;
use crate::conntrack;
use crate::elements::{self, Element, MAX_COMMENT};
use crate::netlink::Connection;
use crate::{Error, Result};
use cofferdam_host::files::{Lock, private_dir};
use cofferdam_model::cri;
use rustix::net::{AddressFamily, Protocol as Ip, SocketFlags, SocketType, bind, ipproto, socket_with, sockopt};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// A protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// `tcp`, `udp`, `sctp`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// Its number (IANA).
    const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    fn of(number: u8) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(|p| p.number() == number)
    }
}

/// A port of the machine and the pod's port that it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPort {
    /// Protocol.
    pub protocol: Protocol,
    /// The machine's address; `None` for all.
    pub host_ip: Option<IpAddr>,
    /// The machine's port.
    pub host_port: u16,
    /// The pod's port.
    pub container_port: u16,
}

impl HostPort {
    /// Reads a mapping of CRI; `None` where it asks for no port of the machine. Its text of a
    /// protocol that has no ports is refused.
    pub fn of(mapping: &cri::PortMapping) -> Result<Option<Self>> {
        if mapping.host_port == 0 {
            return Ok(None);
        }
        let protocol = match mapping.protocol.to_ascii_lowercase().as_str() {
            "tcp" | "" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => {
                let rule = "use TCP, UDP or SCTP";
                return Err(Error::Text {
                    what: "protocol",
                    value: mapping.protocol.chars().take(64).collect(),
                    rule,
                });
            }
        };
        let host_ip = mapping.host_ip.filter(|ip| !ip.is_unspecified());
        Ok(Some(Self {
            protocol,
            host_ip,
            host_port: mapping.host_port,
            container_port: mapping.container_port,
        }))
    }

    /// Whether a packet could be meant for both.
    fn overlaps(&self, other: &Self) -> bool {
        let address = match (self.host_ip, other.host_ip) {
            (Some(one), Some(two)) => one == two,
            _ => true,
        };
        address && self.protocol == other.protocol && self.host_port == other.host_port
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, host_port, .. } = self;
        match self.host_ip {
            Some(IpAddr::V4(ip)) => write!(f, "{} {ip}:{host_port}", protocol.as_str()),
            Some(IpAddr::V6(ip)) => write!(f, "{} [{ip}]:{host_port}", protocol.as_str()),
            None => write!(f, "{} {host_port}", protocol.as_str()),
        }
    }
}

/// A port that a pod holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The pod's id.
    pub pod: String,
    /// What it was called when it got the port: `namespace/name`, cut.
    pub name: String,
    /// The port.
    pub port: HostPort,
    /// The pod's address.
    pub to: IpAddr,
}

/// A pod that asks for ports.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// Its id: lowercase hex digits.
    pub id: &'a str,
    /// What people call it: `namespace/name`.
    pub name: &'a str,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its IPv6 address.
    pub ip6: Option<Ipv6Addr>,
}

/// The ports of a network's pods.
#[derive(Debug, Clone)]
pub struct HostPorts {
    table: String,
    bridge: String,
    state: PathBuf,
}

impl HostPorts {
    /// Those of one network; processes that change them wait for one another at a lock in `state`.
    pub fn new(config: &Config, state: &Path) -> Self {
        Self {
            table: config.table.clone(),
            bridge: config.bridge.clone(),
            state: state.to_owned(),
        }
    }

    /// Leads `ports` to the pod: all of them, or none and the reason. The network's rules must be
    /// there ([`crate::Bridge::ensure`]). Repeated for the same pod it is refused: [`HostPorts::remove`]
    /// first.
    pub fn add(&self, pod: &Asking<'_>, ports: &[HostPort]) -> Result<()> {
        if ports.is_empty() {
            return Ok(());
        }
        crate::link::host_link(pod.id)?;
        let _lock = self.lock()?;
        let mut connection = self.connect()?;
        let held = self.held(&mut connection)?;
        for (at, port) in ports.iter().enumerate() {
            let own = ports[..at].iter().find(|earlier| earlier.overlaps(port));
            let other = held.iter().find(|held| held.port.overlaps(port)).map(|h| (h.holder(), h.port));
            if let Some((holder, other)) = other.or(own.map(|own| (pod.name.to_owned(), *own))) {
                let (port, held) = (port.to_string(), other.to_string());
                return Err(Error::PortHeld {
                    port,
                    pod: pod.name.to_owned(),
                    holder,
                    held,
                });
            }
            probe(pod, port)?;
        }
        let elements = ports
            .iter()
            .map(|port| elements_of(pod, port))
            .collect::<Result<Vec<_>>>()?
            .concat();
        let from_loopback = |p: &HostPort| p.host_ip.is_none_or(|ip| ip.is_ipv4() && ip.is_loopback());
        if ports.iter().any(from_loopback) {
            // What the machine sends from its loopback leaves by the bridge before its sender is
            // replaced. The rules keep pods from the machine's loopback.
            let file = format!("/proc/sys/net/ipv4/conf/{}/route_localnet", self.bridge);
            crate::bridge::sysctl(&file, "1")?;
        }
        elements::add(&mut connection, &self.table, &elements).map_err(|e| match e.raw_os_error() {
            Some(libc::ENOENT) => self.without_rules(pod, ports),
            _ => Error::netlink(format!("lead ports of the machine to the pod {}", pod.name))(e),
        })?;
        forget(&elements)
    }

    /// Takes back all ports of the pod; none is no error.
    pub fn remove(&self, pod_id: &str) -> Result<()> {
        self.remove_where(|id| id == pod_id).map(|_| ())
    }

    /// Takes back the ports of pods that `unwanted` says so of, and tells which those were.
    pub fn remove_where(&self, unwanted: impl Fn(&str) -> bool) -> Result<Vec<Held>> {
        let mut connection = self.connect()?;
        let fail = || Error::netlink(format!("take back ports of the machine in the table {}", self.table));
        let chosen = |connection: &mut Connection| -> Result<Vec<Element>> {
            let all = elements::all(connection, &self.table).map_err(fail())?;
            Ok(all.into_iter().filter(|e| unwanted(pod_of(&e.comment))).collect())
        };
        // Most pods have none, and need no lock to be told so.
        if chosen(&mut connection)?.is_empty() {
            return Ok(Vec::new());
        }
        let _lock = self.lock()?;
        let gone = chosen(&mut connection)?;
        elements::remove(&mut connection, &self.table, &gone).map_err(fail())?;
        forget(&gone)?;
        Ok(gone.iter().filter_map(Held::of).collect())
    }

    /// All ports that lead to pods.
    pub fn list(&self) -> Result<Vec<Held>> {
        self.held(&mut self.connect()?)
    }

    fn held(&self, connection: &mut Connection) -> Result<Vec<Held>> {
        let all = elements::all(connection, &self.table);
        let all = all.map_err(Error::netlink(format!("list the ports of the machine in the table {}", self.table)))?;
        Ok(all.iter().filter_map(Held::of).collect())
    }

    fn connect(&self) -> Result<Connection> {
        Connection::netfilter().map_err(Error::netlink("open a netlink socket for ports of the machine"))
    }

    fn lock(&self) -> Result<Lock> {
        private_dir(&self.state)?;
        Ok(Lock::exclusive(self.state.join("hostports.lock"))?)
    }

    fn without_rules(&self, pod: &Asking<'_>, ports: &[HostPort]) -> Error {
        let reason = format!(
            "the nftables table {} is not there, install nftables and start the pod again",
            self.table
        );
        let port = ports.first().map(ToString::to_string).unwrap_or_default();
        Error::Port {
            port,
            pod: pod.name.to_owned(),
            reason,
        }
    }
}

/// Datagrams that are under way to a port are remembered by the kernel and go on to where they
/// went, as long as they keep coming, whatever the rules say since: that is ended.
fn forget(changed: &[Element]) -> Result<()> {
    let ports: Vec<u16> = changed
        .iter()
        .filter(|e| e.protocol == Protocol::Udp.number())
        .map(|e| e.host_port)
        .collect();
    if ports.is_empty() {
        return Ok(());
    }
    conntrack::forget(Protocol::Udp.number(), &ports).map_err(Error::netlink("end the flows of datagrams to ports of the machine"))
}

impl Held {
    fn of(element: &Element) -> Option<Self> {
        let (protocol, host_ip) = (Protocol::of(element.protocol)?, element.host_ip);
        let port = HostPort {
            protocol,
            host_ip,
            host_port: element.host_port,
            container_port: element.to_port,
        };
        let name = element.comment.split_once(' ').map_or("", |(_, name)| name);
        Some(Self {
            pod: pod_of(&element.comment).to_owned(),
            name: name.to_owned(),
            port,
            to: element.to,
        })
    }

    fn holder(&self) -> String {
        if self.name.is_empty() {
            self.pod.clone()
        } else {
            self.name.clone()
        }
    }
}

fn pod_of(comment: &str) -> &str {
    comment.split(' ').next().unwrap_or_default()
}

/// One element a family that the pod and the machine's address have in common.
fn elements_of(pod: &Asking<'_>, port: &HostPort) -> Result<Vec<Element>> {
    let mut comment = format!("{} {}", pod.id, pod.name.replace(|c: char| !c.is_ascii_graphic(), "?"));
    comment.truncate(MAX_COMMENT);
    let all = [Some(IpAddr::V4(pod.ip)), pod.ip6.map(IpAddr::V6)];
    let fitting = all
        .into_iter()
        .flatten()
        .filter(|to| port.host_ip.is_none_or(|ip| ip.is_ipv4() == to.is_ipv4()));
    let HostPort {
        protocol,
        host_ip,
        host_port,
        container_port,
    } = *port;
    let element = |to| Element {
        protocol: protocol.number(),
        host_ip,
        host_port,
        to,
        to_port: container_port,
        comment: comment.clone(),
    };
    let elements: Vec<Element> = fitting.map(element).collect();
    if elements.is_empty() {
        let reason = "the pod has no IPv6 address that it could lead to".to_owned();
        return Err(Error::Port {
            port: port.to_string(),
            pod: pod.name.to_owned(),
            reason,
        });
    }
    Ok(elements)
}

/// Tries whether the port could be bound: not where a process of the machine listens on it, or
/// where the machine has no such address.
fn probe(pod: &Asking<'_>, port: &HostPort) -> Result<()> {
    let addresses = match port.host_ip {
        Some(ip) => vec![ip],
        None => [Some(Ipv4Addr::UNSPECIFIED.into()), pod.ip6.map(|_| Ipv6Addr::UNSPECIFIED.into())]
            .into_iter()
            .flatten()
            .collect(),
    };
    let name = || (port.to_string(), pod.name.to_owned());
    for ip in addresses {
        if ip == IpAddr::V6(Ipv6Addr::LOCALHOST) {
            let (port, pod) = name();
            return Err(Error::Port {
                port,
                pod,
                reason: "the kernel sends nothing on from ::1, use 127.0.0.1".to_owned(),
            });
        }
        match try_bind(port.protocol, SocketAddr::new(ip, port.host_port)) {
            Ok(()) => {}
            Err(rustix::io::Errno::ADDRINUSE) => {
                let (port, pod) = name();
                return Err(Error::PortInUse { port, pod });
            }
            Err(rustix::io::Errno::ADDRNOTAVAIL) => {
                let (port, pod) = name();
                return Err(Error::Port {
                    port,
                    pod,
                    reason: format!("the machine has no address {ip}"),
                });
            }
            // A protocol that the machine does not speak itself can still be sent on.
            Err(_) => {}
        }
    }
    Ok(())
}

/// Binds without listening: nobody's packet is answered meanwhile.
fn try_bind(protocol: Protocol, address: SocketAddr) -> rustix::io::Result<()> {
    const SCTP: Option<Ip> = match rustix::net::RawProtocol::new(132) {
        Some(raw) => Some(Ip::from_raw(raw)),
        None => None,
    };
    let (kind, ip) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, Some(ipproto::TCP)),
        Protocol::Udp => (SocketType::DGRAM, Some(ipproto::UDP)),
        Protocol::Sctp => (SocketType::STREAM, SCTP),
    };
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, ip)?;
    // Connections that have ended stay a minute; they are in nobody's way. A UDP socket with this
    // option could be bound beside another one.
    if protocol != Protocol::Udp {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &address)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn port(protocol: Protocol, ip: &str, host_port: u16) -> HostPort {
        HostPort {
            protocol,
            host_ip: ip.parse().ok(),
            host_port,
            container_port: 80,
        }
    }

    #[test]
    fn ports_overlap_where_a_packet_could_be_meant_for_both() {
        use Protocol::{Tcp, Udp};
        for (one, two, expected) in [
            (port(Tcp, "", 80), port(Tcp, "", 80), true),
            (port(Tcp, "", 80), port(Udp, "", 80), false),
            (port(Tcp, "", 80), port(Tcp, "", 81), false),
            (port(Tcp, "", 80), port(Tcp, "127.0.0.1", 80), true),
            (port(Tcp, "127.0.0.1", 80), port(Tcp, "127.0.0.1", 80), true),
            (port(Tcp, "127.0.0.1", 80), port(Tcp, "127.0.0.2", 80), false),
            (port(Tcp, "127.0.0.1", 80), port(Tcp, "::1", 80), false),
        ] {
            assert_eq!((one.overlaps(&two), two.overlaps(&one)), (expected, expected), "{one} {two}");
        }
    }

    #[test]
    fn mappings_of_cri_are_read() {
        let of = |protocol: &str, host_port, ip: &str| {
            let mapping = cri::PortMapping {
                protocol: protocol.into(),
                container_port: 80,
                host_port,
                host_ip: ip.parse().ok(),
            };
            HostPort::of(&mapping).map(|p| p.map(|p| p.to_string()))
        };
        assert_eq!(of("TCP", 0, "").unwrap(), None);
        assert_eq!(of("", 8080, "0.0.0.0").unwrap().unwrap(), "tcp 8080");
        assert_eq!(of("UDP", 53, "127.0.0.1").unwrap().unwrap(), "udp 127.0.0.1:53");
        assert_eq!(of("SCTP", 9, "::1").unwrap().unwrap(), "sctp [::1]:9");
        assert!(of("ICMP", 9, "").is_err());
    }

    #[test]
    fn an_element_for_each_family_in_common() {
        let pod = Asking {
            id: "0123456789ab",
            name: "ns/a\u{e9}",
            ip: Ipv4Addr::new(10, 1, 0, 2),
            ip6: None,
        };
        let dual = Asking {
            ip6: Some(Ipv6Addr::LOCALHOST),
            ..pod
        };
        let count = |pod: &Asking<'_>, ip: &str| elements_of(pod, &port(Protocol::Tcp, ip, 1)).map(|e| e.len());
        assert_eq!((count(&pod, "").unwrap(), count(&dual, "").unwrap()), (1, 2));
        assert_eq!((count(&dual, "1.2.3.4").unwrap(), count(&dual, "::2").unwrap()), (1, 1));
        assert!(count(&pod, "::2").unwrap_err().to_string().contains("no IPv6 address"));
        let one = elements_of(&pod, &port(Protocol::Tcp, "", 1)).unwrap().remove(0);
        assert_eq!(one.comment, "0123456789ab ns/a?");
        let long = Asking {
            name: &"n".repeat(300),
            ..pod
        };
        assert_eq!(
            elements_of(&long, &port(Protocol::Tcp, "", 1)).unwrap()[0].comment.len(),
            MAX_COMMENT
        );
    }
}
