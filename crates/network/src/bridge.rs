//! The machine's side of the pod network: bridge, forwarding, masquerade.

use crate::attach::mac_of;
use crate::config::Config;
use crate::link::{self, Link};
use crate::netlink::{Answer, CREATE, Connection, word};
use crate::subnet::Ipv4Net;
use crate::subnet6::Ipv6Net;
use crate::{Error, Result, ipv6, nft};
use cofferdam_host::files::{Lock, private_dir};
use cofferdam_host::{machine, netns};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

/// Ethernet's usual MTU, where there is no default route to take it from.
const USUAL_MTU: u32 = 1500;

/// A bridge that is up, as [`Bridge::ensure`] leaves it.
#[derive(Debug, Clone)]
pub struct Bridge {
    pub(crate) config: Config,
    pub(crate) index: u32,
    pub(crate) mtu: u32,
    /// The pods' IPv6 network, where there is one.
    pub(crate) six: Option<Ipv6Net>,
    warnings: Vec<Warning>,
}

/// Something that a person should know: the network works, but not wholly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// There is no `nft` command, so no rule was written.
    NftMissing,
    /// Another table drops what is forwarded by its policy, as Docker sets it.
    ForwardPolicyDrop {
        /// Our bridge.
        bridge: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NftMissing => {
                f.write_str("nft is not installed: pods reach one another, but nothing outside this machine; install nftables")
            }
            Self::ForwardPolicyDrop { bridge } => write!(
                f,
                "the FORWARD chain drops by its policy (Docker sets it): pods reach one another, but nothing outside; allow them with: iptables -I DOCKER-USER -i {bridge} -j ACCEPT; iptables -I DOCKER-USER -o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
            ),
        }
    }
}

impl Bridge {
    /// Makes the bridge with its addresses, sets both up, turns forwarding on, and writes the
    /// rules; what is there is kept. Processes that do so at once wait for one another at a lock
    /// file in `state`. A subnet that another link uses is refused before anything is changed.
    ///
    /// Forwarding (`net.ipv4.ip_forward`, `net.ipv6.conf.all.forwarding`) stays on after [`Bridge::teardown`]: others may have
    /// come to need it.
    pub fn ensure(config: &Config, state: &Path) -> Result<Self> {
        config.validate()?;
        let _lock = lock(state)?;
        let mut connection =
            Connection::route().map_err(Error::netlink("open a netlink socket"))?;
        let connection = &mut connection;
        let routes = Routes::read(connection)?;
        let mtu = match config.mtu {
            Some(mtu) => mtu,
            None => routes.default_mtu(connection)?,
        };
        let index = match find(connection, &config.bridge)? {
            Some(link) => existing(connection, config, &link, &routes)?,
            None => {
                routes.refuse_overlap(connection, config, None)?;
                create(connection, config, mtu)?
            }
        };
        let six = ipv6::network(config);
        if let Some(network) = six {
            give_ipv6(connection, config, network, index)?;
        }
        forward(config)?;
        let mut warnings = Vec::new();
        if !nft::is_current(config, six)? && !nft::apply(config, six)? {
            warnings.push(Warning::NftMissing);
        }
        Ok(Self {
            config: config.clone(),
            index,
            mtu,
            six,
            warnings,
        })
    }

    /// What a person should know of it.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Looks for rules of others that keep pods from what is outside. It asks `nft`, which takes
    /// milliseconds: for a preflight, not for each pod.
    pub fn forward_warning(config: &Config) -> Option<Warning> {
        let drops = machine::forward_policy_drops() == Some(true);
        drops.then(|| Warning::ForwardPolicyDrop {
            bridge: config.bridge.clone(),
        })
    }

    /// The network that it serves.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Largest packet of the pods' links, bytes.
    pub fn mtu(&self) -> u32 {
        self.mtu
    }

    /// Removes the pods' links that are still there, the bridge and the rules; what is not there
    /// is no error.
    pub fn teardown(config: &Config, state: &Path) -> Result<()> {
        config.validate()?;
        let _lock = lock(state)?;
        let fail = || Error::netlink(format!("remove the bridge {}", config.bridge));
        let mut connection = Connection::route().map_err(fail())?;
        if let Some(bridge) = find(&mut connection, &config.bridge)? {
            if bridge.kind != "bridge" {
                return Err(Error::NotABridge {
                    name: config.bridge.clone(),
                });
            }
            for port in link::ports(&mut connection, bridge.index).map_err(fail())? {
                crate::bandwidth::remove_of(&mut connection, &port.name)?;
                link::delete(&mut connection, port.index).map_err(fail())?;
            }
            link::delete(&mut connection, bridge.index).map_err(fail())?;
        }
        nft::remove(config)
    }

    /// Says whether the subnet could be used, without changing anything: for a preflight.
    pub fn check(config: &Config) -> Result<()> {
        config.validate()?;
        let mut connection =
            Connection::route().map_err(Error::netlink("open a netlink socket"))?;
        let routes = Routes::read(&mut connection)?;
        let own = match find(&mut connection, &config.bridge)? {
            Some(link) if link.kind != "bridge" => {
                return Err(Error::NotABridge { name: link.name });
            }
            Some(link) => Some(link.index),
            None => None,
        };
        routes.refuse_overlap(&mut connection, config, own)?;
        match ipv6::network(config) {
            Some(network) => ipv6::refuse_overlap(&mut connection, network, own),
            None => Ok(()),
        }
    }
}

fn lock(state: &Path) -> Result<Lock> {
    private_dir(state)?;
    Ok(Lock::exclusive(state.join("network.lock"))?)
}

fn find(connection: &mut Connection, name: &str) -> Result<Option<Link>> {
    link::by_name(connection, name).map_err(Error::netlink(format!("look for the link {name}")))
}

/// Takes the bridge that is there, and finishes it where its maker was killed half way.
fn existing(
    connection: &mut Connection,
    config: &Config,
    link: &Link,
    routes: &Routes,
) -> Result<u32> {
    if link.kind != "bridge" {
        return Err(Error::NotABridge {
            name: link.name.clone(),
        });
    }
    let wanted = config.subnet.with(config.gateway());
    let mut requests = Vec::new();
    match addresses(connection)?
        .into_iter()
        .find(|(index, _)| *index == link.index)
    {
        Some((_, found)) if found == wanted => {}
        Some((_, found)) => {
            return Err(Error::OtherAddress {
                name: link.name.clone(),
                found,
                wanted,
            });
        }
        None => {
            routes.refuse_overlap(connection, config, Some(link.index))?;
            requests.push((address(link.index, wanted), CREATE));
        }
    }
    if !link.up {
        requests.push((link::set_up(link.index), 0));
    }
    connection
        .request(requests)
        .map_err(|(_, e)| e)
        .map_err(Error::netlink(format!("set up the bridge {}", link.name)))?;
    Ok(link.index)
}

/// Gives the bridge its IPv6 address, and lets the machine send such packets on.
fn give_ipv6(connection: &mut Connection, config: &Config, network: Ipv6Net, index: u32) -> Result<()> {
    let Some(gateway) = config.pair(config.gateway()) else {
        return Ok(());
    };
    // The bridge may be older than the setting that it took over.
    sysctl(&format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", config.bridge), "0")?;
    if !ipv6::has_address(connection, index, gateway)? {
        ipv6::refuse_overlap(connection, network, Some(index))?;
        let request = vec![(ipv6::address(index, gateway, network.prefix()), CREATE)];
        connection
            .request(request)
            .map_err(|(_, e)| e)
            .map_err(Error::netlink(format!("give the bridge {} the address {gateway}", config.bridge)))?;
    }
    ipv6::forward()
}

fn create(connection: &mut Connection, config: &Config, mtu: u32) -> Result<u32> {
    let fail = || Error::netlink(format!("create the bridge {}", config.bridge));
    let mut message = LinkMessage::default();
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes = vec![
        LinkAttribute::IfName(config.bridge.clone()),
        // An address of its own: a bridge otherwise takes its ports' lowest, and changes it.
        LinkAttribute::Address(mac_of(config.gateway()).to_vec()),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
    ];
    connection
        .request(vec![(RouteNetlinkMessage::NewLink(message), CREATE)])
        .map_err(|(_, e)| e)
        .map_err(fail())?;
    let index = find(connection, &config.bridge)?
        .map(|l| l.index)
        .ok_or_else(|| fail()(io::Error::from_raw_os_error(libc::ENODEV)))?;
    let own = config.subnet.with(config.gateway());
    connection
        .request(vec![(address(index, own), CREATE)])
        .map_err(|(_, e)| e)
        .map_err(fail())?;
    Ok(index)
}

/// A request that gives a link an address, and with it the route to its network.
pub(crate) fn address(index: u32, net: Ipv4Net) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = net.prefix();
    message.header.index = index;
    message.attributes = vec![
        AddressAttribute::Local(IpAddr::V4(net.address)),
        AddressAttribute::Address(IpAddr::V4(net.address)),
        AddressAttribute::Broadcast(net.broadcast()),
    ];
    RouteNetlinkMessage::NewAddress(message)
}

fn forward(config: &Config) -> Result<()> {
    // A pod's router advertisement must not change the machine's routes (CVE-2020-10749). A
    // kernel without IPv6 has no such file and no such trouble.
    let accept = format!("/proc/sys/net/ipv6/conf/{}/accept_ra", config.bridge);
    if Path::new(&accept).exists() {
        sysctl(&accept, "0")?;
    }
    sysctl("/proc/sys/net/ipv4/ip_forward", "1")
}

/// Writes a kernel setting where it has another value.
pub(crate) fn sysctl(path: &str, value: &str) -> Result<()> {
    if std::fs::read_to_string(path).is_ok_and(|t| t.trim() == value) {
        return Ok(());
    }
    std::fs::write(path, value).map_err(|source| Error::Path {
        action: "write",
        path: path.into(),
        source,
    })
}

// Attributes of addresses and routes: `include/uapi/linux/if_addr.h`, `rtnetlink.h`.
const ADDRESS_LOCAL: u16 = 2;
const ADDRESS_FIXED: usize = 8;
const ROUTE_DESTINATION: u16 = 1;
const ROUTE_LINK: u16 = 4;
const ROUTE_FIXED: usize = 12;

fn ipv4(value: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(value.get(..4)?).ok()?))
}

/// All IPv4 addresses, with the index of the link of each.
fn addresses(connection: &mut Connection) -> Result<Vec<(u32, Ipv4Net)>> {
    let request = || {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        RouteNetlinkMessage::GetAddress(message)
    };
    let read = |a: &Answer| {
        let local = a
            .attributes(ADDRESS_FIXED)
            .into_iter()
            .find(|(kind, _)| *kind == ADDRESS_LOCAL)?;
        Some((
            a.word(4),
            Ipv4Net::new(ipv4(local.1)?, a.payload.get(1).copied()?)?,
        ))
    };
    let answers = connection
        .dump(request)
        .map_err(Error::netlink("list the addresses"))?;
    Ok(answers.iter().filter_map(read).collect())
}

/// IPv4 routes of all tables, addresses among them (as routes of the table `local`).
struct Routes(Vec<(u32, Ipv4Net)>);

impl Routes {
    fn read(connection: &mut Connection) -> Result<Self> {
        let request = || {
            let mut message = RouteMessage::default();
            message.header.address_family = AddressFamily::Inet;
            RouteNetlinkMessage::GetRoute(message)
        };
        let answers = connection
            .dump(request)
            .map_err(Error::netlink("list the routes"))?;
        Ok(Self(answers.iter().filter_map(Self::one).collect()))
    }

    /// A route over several links names none; it is then link 0.
    fn one(answer: &Answer) -> Option<(u32, Ipv4Net)> {
        let attributes = answer.attributes(ROUTE_FIXED);
        let find = |wanted| {
            attributes
                .iter()
                .find(|(kind, _)| *kind == wanted)
                .map(|(_, v)| *v)
        };
        let destination = find(ROUTE_DESTINATION)
            .and_then(ipv4)
            .unwrap_or(Ipv4Addr::UNSPECIFIED);
        let link = find(ROUTE_LINK).and_then(word).unwrap_or(0);
        Some((
            link,
            Ipv4Net::new(destination, answer.payload.get(1).copied()?)?,
        ))
    }

    /// Default routes overlap everything and count for nothing here.
    fn refuse_overlap(
        &self,
        connection: &mut Connection,
        config: &Config,
        own: Option<u32>,
    ) -> Result<()> {
        let other = self.0.iter().find(|(link, net)| {
            net.prefix() > 0 && Some(*link) != own && net.overlaps(&config.subnet)
        });
        let Some((index, net)) = other else {
            return Ok(());
        };
        let links = link::all(connection).map_err(Error::netlink("list the links"))?;
        let link = links
            .into_iter()
            .find(|l| l.index == *index)
            .map_or_else(|| "(several)".to_owned(), |l| l.name);
        Err(Error::Overlap {
            subnet: config.subnet,
            other: *net,
            link,
        })
    }

    /// The least MTU of the links of default routes: pods' packets leave by one of them.
    fn default_mtu(&self, connection: &mut Connection) -> Result<u32> {
        let defaults: Vec<u32> = self
            .0
            .iter()
            .filter(|(_, net)| net.prefix() == 0)
            .map(|(link, _)| *link)
            .collect();
        if defaults.is_empty() {
            return Ok(USUAL_MTU);
        }
        let links = link::all(connection).map_err(Error::netlink("list the links"))?;
        let mtus = links
            .into_iter()
            .filter(|l| defaults.contains(&l.index))
            .map(|l| l.mtu)
            .filter(|m| *m >= 68);
        Ok(mtus.min().unwrap_or(USUAL_MTU).min(65535))
    }
}

/// What this kernel can make of what the network needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Bridges.
    pub bridge: bool,
    /// Pairs of virtual links.
    pub veth: bool,
    /// nftables.
    pub nf_tables: bool,
}

/// Tries each in a network namespace that ends with the call: nothing of the machine is changed.
/// Without the right to make one it fails.
pub fn probe() -> Result<Probe> {
    Ok(netns::in_new(|| {
        let can_make = |kind: InfoKind| {
            let mut message = LinkMessage::default();
            message.attributes = vec![LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)])];
            let request = vec![(RouteNetlinkMessage::NewLink(message), CREATE)];
            Connection::route().is_ok_and(|mut c| c.request(request).is_ok())
        };
        Probe {
            bridge: can_make(InfoKind::Bridge),
            veth: can_make(InfoKind::Veth),
            nf_tables: nft::kernel_has_tables(),
        }
    })?)
}
