//! What a network is.

use crate::subnet::Ipv4Net;
use crate::subnet6::Ipv6Net;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Name of the bridge, its subnet and rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Name of the bridge: 1 to 15 lowercase letters, digits and `-`.
    pub bridge: String,
    /// Addresses of pods; the first is the bridge's own and the pods' gateway. /8 to /29.
    pub subnet: Ipv4Net,
    /// Their IPv6 addresses: each pod's is as far into that network as its IPv4 address is into
    /// `subnet`. On a machine without IPv6 it counts for nothing.
    pub subnet6: Subnet6,
    /// Name of the nftables table: lowercase letters, digits and `_`.
    pub table: String,
    /// Largest packet, bytes; `None` takes that of the link of the default route.
    pub mtu: Option<u32>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bridge: "cofferdam0".to_owned(),
            subnet: DEFAULT_SUBNET,
            subnet6: Subnet6::Auto,
            table: "cofferdam".to_owned(),
            mtu: None,
        }
    }
}

const DEFAULT_SUBNET: Ipv4Net = match Ipv4Net::new(Ipv4Addr::new(10, 89, 0, 0), 16) {
    Some(net) => net,
    None => unreachable!(),
};

/// Where pods' IPv6 addresses are from; written `auto`, `off` or as a network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Subnet6 {
    /// A unique local network (RFC 4193) that follows from the IPv4 subnet, so that networks with
    /// different subnets differ here, too: `fdc0:ff3d:`, its 32 bits, `::/64`.
    #[default]
    Auto,
    /// IPv4 alone.
    Off,
    /// This one.
    Net(Ipv6Net),
}

impl TryFrom<String> for Subnet6 {
    type Error = crate::subnet6::BadNet6;
    fn try_from(text: String) -> std::result::Result<Self, Self::Error> {
        text.parse()
    }
}

impl std::str::FromStr for Subnet6 {
    type Err = crate::subnet6::BadNet6;
    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            net => net.parse().map(Self::Net),
        }
    }
}

impl From<Subnet6> for String {
    fn from(subnet: Subnet6) -> String {
        match subnet {
            Subnet6::Auto => "auto".to_owned(),
            Subnet6::Off => "off".to_owned(),
            Subnet6::Net(net) => net.to_string(),
        }
    }
}

impl Config {
    /// Refuses what the kernel, `nft` or the address store could not take.
    pub fn validate(&self) -> Result<()> {
        let refuse = |field, value: &str, rule| {
            Err(Error::Config {
                field,
                value: value.to_owned(),
                rule,
            })
        };
        let lower = |b: u8, extra: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == extra;
        if self.bridge.is_empty()
            || self.bridge.len() > 15
            || !self.bridge.bytes().all(|b| lower(b, b'-'))
        {
            return refuse(
                "bridge name",
                &self.bridge,
                "use 1 to 15 lowercase letters, digits and '-'",
            );
        }
        let letter_first = self
            .table
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_lowercase());
        if !letter_first || self.table.len() > 31 || !self.table.bytes().all(|b| lower(b, b'_')) {
            return refuse(
                "table name",
                &self.table,
                "use a lowercase letter and then at most 30 letters, digits and '_'",
            );
        }
        let subnet = self.subnet.to_string();
        if !(8..=29).contains(&self.subnet.prefix()) {
            return refuse("subnet", &subnet, "use a prefix of 8 to 29 bits");
        }
        if self.subnet.network() != self.subnet.address {
            return refuse(
                "subnet",
                &subnet,
                "give the network's own address, with no bit beyond the prefix",
            );
        }
        if self.subnet.address.is_loopback()
            || self.subnet.address.is_multicast()
            || self.subnet.address.octets()[0] == 0
        {
            return refuse(
                "subnet",
                &subnet,
                "use a private network, such as 10.89.0.0/16",
            );
        }
        // 68 is the least that IPv4 allows (RFC 791).
        if self.mtu.is_some_and(|mtu| !(68..=65535).contains(&mtu)) {
            return refuse("MTU", &self.mtu.unwrap_or(0).to_string(), "use 68 to 65535");
        }
        if let Subnet6::Net(net) = self.subnet6 {
            let hosts = u32::from(32 - self.subnet.prefix());
            let (first, text) = (net.address.segments()[0], net.to_string());
            if net.network() != net.address {
                return refuse("IPv6 subnet", &text, "give the network's own address, with no bit beyond the prefix");
            }
            if u32::from(net.prefix()) + hosts > 128 || net.prefix() < 16 {
                return refuse("IPv6 subnet", &text, "use a prefix of at least 16 bits that leaves room for as many addresses as the IPv4 subnet");
            }
            if net.address.is_unspecified() || net.address.is_loopback() || first & 0xff00 == 0xff00 || first & 0xffc0 == 0xfe80 {
                return refuse("IPv6 subnet", &text, "use a unique local network, such as fdc0:ff3d:a389::/64");
            }
        }
        Ok(())
    }

    /// The pods' IPv6 network, whether or not the machine has IPv6.
    pub fn network6(&self) -> Option<Ipv6Net> {
        match self.subnet6 {
            Subnet6::Off => None,
            Subnet6::Net(net) => Some(net),
            Subnet6::Auto => {
                let [a, b, c, d] = self.subnet.network().octets();
                let pair = |high, low| u16::from_be_bytes([high, low]);
                Ipv6Net::new(Ipv6Addr::new(0xfdc0, 0xff3d, pair(a, b), pair(c, d), 0, 0, 0, 0), 64)
            }
        }
    }

    /// The IPv6 address that goes with an IPv4 address of the subnet.
    pub fn pair(&self, ip: Ipv4Addr) -> Option<Ipv6Addr> {
        let offset = u32::from(ip).checked_sub(self.subnet.network().into())?;
        self.network6()?.at(offset)
    }

    /// The bridge's own address, which pods send to: the first of the subnet.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.subnet.network()).wrapping_add(1))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn what_cannot_work_is_refused() {
        let base = Config::default();
        base.validate().unwrap();
        assert_eq!(base.gateway(), Ipv4Addr::new(10, 89, 0, 1));
        let subnet = |t: &str| Config {
            subnet: t.parse().unwrap(),
            ..base.clone()
        };
        for bad in [
            subnet("10.89.0.1/16"),
            subnet("10.0.0.0/7"),
            subnet("10.0.0.0/30"),
            subnet("127.0.0.0/8"),
            subnet("224.0.0.0/8"),
            subnet("0.0.0.0/8"),
            Config {
                bridge: String::new(),
                ..base.clone()
            },
            Config {
                bridge: "a".repeat(16),
                ..base.clone()
            },
            Config {
                bridge: "a/b".into(),
                ..base.clone()
            },
            Config {
                table: "x; flush ruleset".into(),
                ..base.clone()
            },
            Config {
                table: "1x".into(),
                ..base.clone()
            },
            Config {
                mtu: Some(10),
                ..base.clone()
            },
        ] {
            assert!(
                matches!(bad.validate(), Err(Error::Config { .. })),
                "{bad:?}"
            );
        }
        subnet("10.213.0.0/24").validate().unwrap();
    }

    #[test]
    fn ipv6_goes_with_ipv4() {
        let config = |text: &str| Config {
            subnet6: text.parse().unwrap(),
            ..Config::default()
        };
        let ip = Ipv4Addr::new(10, 89, 1, 2);
        for (text, pair) in [
            ("auto", Some("fdc0:ff3d:a59::102")),
            ("off", None),
            ("fd00:7::/64", Some("fd00:7::102")),
            ("fd00:7::/112", Some("fd00:7::102")),
        ] {
            config(text).validate().unwrap();
            assert_eq!(config(text).pair(ip), pair.map(|p| p.parse().unwrap()), "{text}");
            assert_eq!(String::from(config(text).subnet6), text);
        }
        for bad in ["fd00:7::/113", "fd00::/8", "fd00::1/64", "fe80::/64", "ff02::/64", "::/64"] {
            assert!(matches!(config(bad).validate(), Err(Error::Config { .. })), "{bad}");
        }
    }
}
