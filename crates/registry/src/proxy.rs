//! The proxies of the environment, chosen as containerd does, which is as Go does
//! (golang.org/x/net/http/httpproxy): `HTTPS_PROXY` or `HTTP_PROXY` by the scheme, and `NO_PROXY`; and as
//! curl does `ALL_PROXY` where that one is not set. What is on this machine is never asked through one.

use crate::hosts::is_loopback;
use crate::reference::split_port;
use std::net::IpAddr;

/// The variable and its value, a proxy's URL, for a host of a scheme.
pub(crate) fn choose(get: impl Fn(&str) -> Option<String>, plain_http: bool, authority: &str) -> Option<(&'static str, String)> {
    let set = |names: [&'static str; 2]| {
        names
            .into_iter()
            .find_map(|name| get(name).filter(|value| !value.is_empty()).map(|value| (name, value)))
    };
    let own = if plain_http {
        ["HTTP_PROXY", "http_proxy"]
    } else {
        ["HTTPS_PROXY", "https_proxy"]
    };
    let found = set(own).or_else(|| set(["ALL_PROXY", "all_proxy"]))?;
    if is_loopback(authority) {
        return None;
    }
    let except = set(["NO_PROXY", "no_proxy"]).map(|(_, value)| value).unwrap_or_default();
    let passed_by = except.split(',').map(str::trim).any(|entry| is_meant(entry, plain_http, authority));
    (!passed_by).then_some(found)
}

/// Whether an entry of `NO_PROXY` means a host: `*`, an address, a network, a name with all below it, or
/// only what is below it where it begins by a dot; all but networks with a port or without.
fn is_meant(entry: &str, plain_http: bool, authority: &str) -> bool {
    let (host, port) = split_port(authority);
    let port = port.unwrap_or(if plain_http { "80" } else { "443" });
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    if entry == "*" {
        return true;
    }
    if let Some((network, bits)) = entry.split_once('/') {
        return ip.is_some_and(|ip| is_within(ip, network, bits));
    }
    if let (Some(ip), Ok(entry)) = (ip, entry.parse::<IpAddr>()) {
        return ip.to_canonical() == entry.to_canonical();
    }
    let (name, only_port) = split_port(entry);
    if name.is_empty() || only_port.is_some_and(|only| only != port) {
        return false;
    }
    let (name, host) = (name.trim_start_matches('*').to_ascii_lowercase(), host.to_ascii_lowercase());
    match name.strip_prefix('.') {
        Some(below) => host.strip_suffix(below).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1),
        None => host == name || host.strip_suffix(&name).is_some_and(|rest| rest.ends_with('.')),
    }
}

/// Whether an address is within a network.
fn is_within(ip: IpAddr, network: &str, bits: &str) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    let (ip, network, width) = match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => (u128::from(ip.to_bits()), u128::from(network.to_bits()), 32),
        (IpAddr::V6(ip), IpAddr::V6(network)) => (ip.to_bits(), network.to_bits(), 128),
        _ => return false,
    };
    // A shift by the whole width is none, as a network of no bits is everything.
    bits <= width && (ip ^ network).checked_shr(width - bits).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_chosen_by_scheme_and_exceptions() {
        let (s, p, all) = (("HTTPS_PROXY", "S"), ("HTTP_PROXY", "P"), ("all_proxy", "A"));
        for (vars, plain, host, wanted) in [
            (vec![], false, "q.io", None),
            (vec![s, p], false, "q.io", Some("S")),
            (vec![s, p], true, "q.io", Some("P")),
            (vec![p], false, "q.io", None),
            (vec![("https_proxy", "s")], false, "q.io", Some("s")),
            (vec![("HTTPS_PROXY", ""), ("https_proxy", "s")], false, "q.io", Some("s")),
            (vec![p, all], false, "q.io", Some("A")),
            (vec![s], false, "localhost:5000", None),
            (vec![s], false, "127.1.2.3", None),
            (vec![s], false, "[::1]:5000", None),
            (vec![s, ("NO_PROXY", "*")], false, "q.io", None),
            (vec![s, ("no_proxy", "a.io, q.io ,b.io")], false, "Q.io", None),
            (vec![s, ("NO_PROXY", "q.io")], false, "sub.q.io:5000", None),
            (vec![s, ("NO_PROXY", "q.io")], false, "xq.io", Some("S")),
            (vec![s, ("NO_PROXY", ".q.io")], false, "sub.q.io", None),
            (vec![s, ("NO_PROXY", "*.q.io")], false, "sub.q.io", None),
            (vec![s, ("NO_PROXY", ".q.io")], false, "q.io", Some("S")),
            (vec![s, ("NO_PROXY", "q.io:443")], false, "q.io", None),
            (vec![s, ("NO_PROXY", "q.io:5000")], false, "q.io", Some("S")),
            (vec![s, ("NO_PROXY", "10.0.0.0/8")], false, "10.9.8.7:5000", None),
            (vec![s, ("NO_PROXY", "10.0.0.0/8")], false, "11.9.8.7", Some("S")),
            (vec![s, ("NO_PROXY", "0.0.0.0/0")], false, "11.9.8.7", None),
            (vec![s, ("NO_PROXY", "fd00::/8")], false, "[fd12::1]:5000", None),
            (vec![s, ("NO_PROXY", "::/0")], false, "[fd12::1]", None),
            (vec![s, ("NO_PROXY", "10.0.0.0/99")], false, "10.0.0.1", Some("S")),
            (vec![s, ("NO_PROXY", "10.0.0.1")], false, "10.0.0.1:5000", None),
            (vec![s, ("NO_PROXY", ",,")], false, "q.io", Some("S")),
        ] {
            let get = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            let got = choose(get, plain, host).map(|(_, value)| value);
            assert_eq!(got.as_deref(), wanted, "{vars:?} {host}");
        }
    }
}
