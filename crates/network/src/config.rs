//! What a network is.

use crate::subnet::Ipv4Net;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// Name of the bridge, its subnet and rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Name of the bridge: 1 to 15 lowercase letters, digits and `-`.
    pub bridge: String,
    /// Addresses of pods; the first is the bridge's own and the pods' gateway. /8 to /29.
    pub subnet: Ipv4Net,
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
            table: "cofferdam".to_owned(),
            mtu: None,
        }
    }
}

const DEFAULT_SUBNET: Ipv4Net = match Ipv4Net::new(Ipv4Addr::new(10, 89, 0, 0), 16) {
    Some(net) => net,
    None => unreachable!(),
};

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
        Ok(())
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
}
