//! Resolving names, and refusing the addresses that a stranger's word must not lead to: those of this
//! machine and of its link, where services listen that trust whoever reaches them.

use std::net::IpAddr;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver as Resolve};
use ureq::unversioned::transport::NextTimeout;

/// Why an address is not gone to.
pub(crate) const REASON: &str = "that is an address of this machine or its link, where a registry elsewhere has nothing to send anyone";

/// What a resolver found out, as ureq carries it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    #[error("{0}")]
    Failed(String),
    #[error("{REASON}")]
    Guarded,
}

/// The system's resolver.
#[derive(Debug)]
pub(crate) struct Resolver {
    system: DefaultResolver,
    guarded: bool,
}

impl Resolver {
    pub(crate) fn new(guarded: bool) -> Self {
        Self {
            system: DefaultResolver::default(),
            guarded,
        }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.system.resolve(uri, config, timeout).map_err(|error| match error {
            ureq::Error::Timeout(_) => error,
            ureq::Error::Io(error) => other(ResolveError::Failed(error.to_string())),
            error => other(ResolveError::Failed(error.to_string())),
        })?;
        // The proxy is of our own choice, and on this machine often enough.
        let is_proxy = config
            .proxy()
            .is_some_and(|proxy| uri.host() == Some(proxy.host()) && uri.port_u16().unwrap_or(proxy.port()) == proxy.port());
        // One bad address among good ones is refused as well: who answers so means no good.
        if self.guarded && !is_proxy && found.iter().any(|address| is_local(address.ip())) {
            return Err(other(ResolveError::Guarded));
        }
        Ok(found)
    }
}

fn other(error: ResolveError) -> ureq::Error {
    ureq::Error::Other(Box::new(error))
}

/// Loopback, this host, and link-local, among which is the metadata service of clouds.
fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local() || ip.octets()[0] == 0,
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn local_addresses_are_known_in_every_form() {
        for (ip, local) in [
            ("127.0.0.1", true),
            ("127.255.0.9", true),
            ("0.0.0.0", true),
            ("0.1.2.3", true),
            ("169.254.169.254", true),
            ("::1", true),
            ("::", true),
            ("::ffff:127.0.0.1", true),
            ("fe80::1", true),
            ("10.0.0.1", false),
            ("192.168.1.1", false),
            ("1.1.1.1", false),
            ("2606:4700::1", false),
        ] {
            assert_eq!(is_local(ip.parse().unwrap()), local, "{ip}");
        }
    }
}
