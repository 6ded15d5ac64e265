//! IPv4 networks.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An address and the length of its network's prefix, `10.89.0.1/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ipv4Net {
    /// An address in the network, or the network's own.
    pub address: Ipv4Addr,
    /// Bits of the prefix, 0 to 32.
    prefix: u8,
}

/// A text that is not `a.b.c.d/n`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an IPv4 network: write it as 10.89.0.0/16")]
pub struct BadNet(String);

impl Ipv4Net {
    /// `None` where `prefix` is above 32.
    pub const fn new(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        if prefix > 32 {
            None
        } else {
            Some(Self { address, prefix })
        }
    }

    /// Bits of the prefix.
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    const fn mask(&self) -> u32 {
        if self.prefix == 0 {
            0
        } else {
            u32::MAX << (32 - self.prefix)
        }
    }

    /// The lowest address.
    pub fn network(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address) & self.mask())
    }

    /// The highest address.
    pub fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address) | !self.mask())
    }

    /// Whether `address` is in the network.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        (u32::from(address) ^ u32::from(self.address)) & self.mask() == 0
    }

    /// Whether any address is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.network()) || other.contains(self.network())
    }

    /// The same prefix around another address.
    pub(crate) fn with(&self, address: Ipv4Addr) -> Self {
        Self {
            address,
            prefix: self.prefix,
        }
    }
}

impl fmt::Display for Ipv4Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Ipv4Net {
    type Err = BadNet;
    fn from_str(text: &str) -> Result<Self, BadNet> {
        let bad = || BadNet(text.chars().take(64).collect());
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        let address = address.parse().map_err(|_| bad())?;
        prefix
            .parse()
            .ok()
            .and_then(|p| Self::new(address, p))
            .ok_or_else(bad)
    }
}

impl TryFrom<String> for Ipv4Net {
    type Error = BadNet;
    fn try_from(text: String) -> Result<Self, BadNet> {
        text.parse()
    }
}

impl From<Ipv4Net> for String {
    fn from(net: Ipv4Net) -> String {
        net.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn texts_are_read_strictly() {
        for good in ["10.89.0.0/16", "0.0.0.0/0", "1.2.3.4/32"] {
            assert_eq!(good.parse::<Ipv4Net>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "10.89.0.0",
            "10.89.0.0/33",
            "10.89.0.0/",
            "10.89.0.0/+8",
            "10.89/16",
            "a/8",
            "::/0",
            "1.2.3.4/999",
        ] {
            assert!(bad.parse::<Ipv4Net>().is_err(), "{bad}");
        }
    }

    #[test]
    fn bounds_and_overlaps() {
        let net = |t: &str| t.parse::<Ipv4Net>().unwrap();
        assert_eq!(net("10.89.3.4/16").network(), Ipv4Addr::new(10, 89, 0, 0));
        assert_eq!(
            net("10.89.3.4/16").broadcast(),
            Ipv4Addr::new(10, 89, 255, 255)
        );
        assert_eq!(net("1.2.3.4/0").broadcast(), Ipv4Addr::BROADCAST);
        for (a, b, expected) in [
            ("10.89.0.0/16", "10.89.7.0/24", true),
            ("10.89.0.0/16", "10.0.0.0/8", true),
            ("10.89.0.0/16", "10.88.0.0/16", false),
            ("10.89.0.0/16", "10.89.255.255/32", true),
            ("10.89.0.0/16", "0.0.0.0/0", true),
            ("192.168.1.0/24", "192.168.2.0/24", false),
        ] {
            assert_eq!(net(a).overlaps(&net(b)), expected, "{a} {b}");
            assert_eq!(net(b).overlaps(&net(a)), expected, "{b} {a}");
        }
    }
}
