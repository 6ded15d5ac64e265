//! IPv6 networks.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// An address and the length of its network's prefix, `fdc0:ff3d:a389::/64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ipv6Net {
    /// An address in the network, or the network's own.
    pub address: Ipv6Addr,
    /// Bits of the prefix, 0 to 128.
    prefix: u8,
}

/// A text that is not `a:b::/n`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an IPv6 network: write it as fdc0:ff3d:a389::/64")]
pub struct BadNet6(String);

impl Ipv6Net {
    /// `None` where `prefix` is above 128.
    pub const fn new(address: Ipv6Addr, prefix: u8) -> Option<Self> {
        if prefix > 128 { None } else { Some(Self { address, prefix }) }
    }

    /// Bits of the prefix.
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    const fn mask(&self) -> u128 {
        if self.prefix == 0 { 0 } else { u128::MAX << (128 - self.prefix) }
    }

    /// The lowest address.
    pub fn network(&self) -> Ipv6Addr {
        Ipv6Addr::from(u128::from(self.address) & self.mask())
    }

    /// The address `offset` above the lowest; `None` where that is outside.
    pub fn at(&self, offset: u32) -> Option<Ipv6Addr> {
        let address = Ipv6Addr::from(u128::from(self.network()).checked_add(offset.into())?);
        self.contains(address).then_some(address)
    }

    /// Whether `address` is in the network.
    pub fn contains(&self, address: Ipv6Addr) -> bool {
        (u128::from(address) ^ u128::from(self.address)) & self.mask() == 0
    }

    /// Whether any address is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.network()) || other.contains(self.network())
    }
}

impl fmt::Display for Ipv6Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Ipv6Net {
    type Err = BadNet6;
    fn from_str(text: &str) -> Result<Self, BadNet6> {
        let bad = || BadNet6(text.chars().take(64).collect());
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        let address = address.parse().map_err(|_| bad())?;
        prefix.parse().ok().and_then(|p| Self::new(address, p)).ok_or_else(bad)
    }
}

impl TryFrom<String> for Ipv6Net {
    type Error = BadNet6;
    fn try_from(text: String) -> Result<Self, BadNet6> {
        text.parse()
    }
}

impl From<Ipv6Net> for String {
    fn from(net: Ipv6Net) -> String {
        net.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn texts_are_read_strictly() {
        for good in ["fdc0::/64", "::/0", "fe80::1/128"] {
            assert_eq!(good.parse::<Ipv6Net>().unwrap().to_string(), good);
        }
        for bad in ["", "::", "::/129", "::/", "::/+8", "10.0.0.0/8", "fe80::1%eth0/64", "x/8"] {
            assert!(bad.parse::<Ipv6Net>().is_err(), "{bad}");
        }
    }

    #[test]
    fn bounds_and_overlaps() {
        let net = |t: &str| t.parse::<Ipv6Net>().unwrap();
        assert_eq!(net("fd00:1::7/64").network(), "fd00:1::".parse::<Ipv6Addr>().unwrap());
        assert_eq!(net("fd00::/64").at(258), Some("fd00::102".parse().unwrap()));
        assert_eq!((net("fd00::/120").at(255).is_some(), net("fd00::/120").at(256)), (true, None));
        for (a, b, expected) in [
            ("fd00::/64", "fd00::1/128", true),
            ("fd00::/64", "fd00:0:0:1::/64", false),
            ("::/0", "fd00::/8", true),
        ] {
            assert_eq!(
                (net(a).overlaps(&net(b)), net(b).overlaps(&net(a))),
                (expected, expected),
                "{a} {b}"
            );
        }
    }
}
