//! The rules of the pod network: one static nftables table, written by one run of `nft`. Which
//! table is there, and of which form, the kernel is asked without a process.

use crate::config::Config;
use crate::elements::{self, ADDRESSES4, ADDRESSES6, PORTS4, PORTS6};
use crate::subnet6::Ipv6Net;
use crate::netlink::Connection;
use crate::{Error, Result};
use cofferdam_host::machine::find_command;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Raise it whenever the rules change, so that a table of an older build is replaced.
const VERSION: u32 = 2;

// `include/uapi/linux/netfilter/nfnetlink.h` and `nf_tables.h`.
const SUBSYSTEM_TABLES: u16 = 10;
const GET_TABLE: u16 = 1;
const FAMILY_INET: u8 = 1;
const TABLE_NAME: u16 = 1;
const TABLE_USERDATA: u16 = 6;
/// Size of `struct nfgenmsg`.
const FIXED: usize = 4;

/// What the table's comment says: rules of the same mark are the same.
fn mark(config: &Config, six: Option<Ipv6Net>) -> String {
    let six = six.map_or_else(|| "no IPv6".to_owned(), |net| net.to_string());
    format!("rules {VERSION} of {} {} {six}", config.bridge, config.subnet)
}

/// The rules. They accept what others do not drop: a drop in another table (Docker's) stays one.
///
/// Forwarding makes the machine a router, so what comes from outside to a pod, unasked and not
/// sent on by a port mapping, is dropped: a neighbour could send it here by a route of its own.
///
/// Ports of the machine lead to pods by maps, whose elements [`crate::hostports`] keeps. A pod that
/// reaches a pod by one of them would get the answer past the machine, so it is hidden behind the
/// bridge's address, and so is what comes from the machine's loopback. For that the loopback's
/// addresses may leave by the bridge (`route_localnet`), and so they are kept from coming in by it
/// (CVE-2020-8558).
fn rules(config: &Config, six: Option<Ipv6Net>) -> String {
    let (bridge, subnet, table) = (&config.bridge, config.subnet, &config.table);
    let mark = mark(config, six);
    let (maps6, lookup6, masquerade6) = six.map_or_else(Default::default, |net| rules6(bridge, net));
    format!(
        "table inet {table} {{}}
delete table inet {table}
table inet {table} {{
	comment \"{mark}\"
	map {PORTS4} {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
	map {ADDRESSES4} {{ type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }}
{maps6}
	chain hostports {{
		meta nfproto ipv4 dnat ip to ip daddr . meta l4proto . th dport map @{ADDRESSES4}
		meta nfproto ipv4 dnat ip to meta l4proto . th dport map @{PORTS4}
{lookup6}
	}}
	chain prerouting {{
		type nat hook prerouting priority dstnat; policy accept;
		meta l4proto {{ tcp, udp, sctp }} fib daddr type local jump hostports
	}}
	chain output {{
		type nat hook output priority -100; policy accept;
		meta l4proto {{ tcp, udp, sctp }} fib daddr type local jump hostports
	}}
	chain loopback {{
		type filter hook prerouting priority raw; policy accept;
		iifname \"{bridge}\" ip daddr 127.0.0.0/8 drop
	}}
	chain postrouting {{
		type nat hook postrouting priority srcnat; policy accept;
		ct status dnat oifname \"{bridge}\" ip saddr {{ 127.0.0.0/8, {subnet} }} masquerade
		ip saddr {subnet} ip daddr != {subnet} ip daddr != 224.0.0.0/4 masquerade
{masquerade6}
	}}
	chain forward {{
		type filter hook forward priority filter; policy accept;
		iifname \"{bridge}\" accept
		oifname \"{bridge}\" ct state established,related accept
		oifname \"{bridge}\" ct status dnat accept
		oifname \"{bridge}\" drop
	}}
}}
"
    )
}

/// The same of IPv6: maps, look-ups, masquerades. The kernel sends nothing from `::1` to another
/// link, and has no `route_localnet` for it: a connection to it is refused at once, and programs
/// that were told `localhost` go on to 127.0.0.1.
fn rules6(bridge: &str, net: Ipv6Net) -> (String, String, String) {
    let maps = format!(
        "	map {PORTS6} {{ type inet_proto . inet_service : ipv6_addr . inet_service; }}
	map {ADDRESSES6} {{ type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }}"
    );
    let lookup = format!(
        "		ip6 daddr ::1 return
		meta nfproto ipv6 dnat ip6 to ip6 daddr . meta l4proto . th dport map @{ADDRESSES6}
		meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @{PORTS6}"
    );
    let masquerade = format!(
        "		ct status dnat oifname \"{bridge}\" ip6 saddr {net} masquerade
		ip6 saddr {net} ip6 daddr != {net} ip6 daddr != {{ fe80::/10, ff00::/8 }} masquerade"
    );
    (maps, lookup, masquerade)
}

/// Whether the kernel has the table, in the form of this configuration and build.
pub(crate) fn is_current(config: &Config, six: Option<Ipv6Net>) -> Result<bool> {
    let found = table(&config.table)?;
    Ok(found.is_some_and(|comment| comment == mark(config, six)))
}

/// Comment of the table `name`; `None` where there is no such table.
fn table(name: &str) -> Result<Option<String>> {
    let mut payload = vec![FAMILY_INET, 0, 0, 0];
    payload.extend(((name.len() + 5) as u16).to_ne_bytes());
    payload.extend(TABLE_NAME.to_ne_bytes());
    payload.extend(name.bytes());
    payload.push(0);
    payload.resize(payload.len().next_multiple_of(4), 0);
    let work = || Connection::netfilter()?.get_raw(SUBSYSTEM_TABLES << 8 | GET_TABLE, &payload);
    let answer = match work() {
        // A kernel without nf_tables has no table either.
        Err(e)
            if matches!(
                e.raw_os_error(),
                Some(libc::EINVAL | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT)
            ) =>
        {
            None
        }
        other => other.map_err(Error::netlink(format!(
            "look for the nftables table {name}"
        )))?,
    };
    Ok(answer.map(|a| comment(&a.attributes(FIXED))))
}

/// nft keeps a table's comment as type, length and text in the user data.
fn comment(attributes: &[(u16, &[u8])]) -> String {
    let data = attributes
        .iter()
        .find(|(kind, _)| *kind == TABLE_USERDATA)
        .map_or(&[][..], |(_, v)| v);
    crate::netlink::text(data.get(2..).unwrap_or_default())
}

/// Whether this kernel answers about tables: for a probe.
pub(crate) fn kernel_has_tables() -> bool {
    // The table that cannot exist is not there (`None`), or the kernel does not know tables.
    let payload = [FAMILY_INET, 0, 0, 0, 6, 0, 1, 0, b'-', 0, 0, 0];
    Connection::netfilter()
        .and_then(|mut c| c.get_raw(SUBSYSTEM_TABLES << 8 | GET_TABLE, &payload))
        .is_ok()
}

/// Writes the rules; false where `nft` is not installed. Ports of the machine that lead to pods by
/// rules of an older form go on doing so.
pub(crate) fn apply(config: &Config, six: Option<Ipv6Net>) -> Result<bool> {
    let Some(nft) = find_command("nft") else {
        return Ok(false);
    };
    let fail = || Error::netlink(format!("keep the ports of the machine in the table {}", config.table));
    let mut connection = Connection::netfilter().map_err(fail())?;
    let mut ports = elements::all(&mut connection, &config.table).map_err(fail())?;
    run(&nft, &rules(config, six))?;
    ports.retain(|port| six.is_some() || port.to.is_ipv4());
    elements::add(&mut connection, &config.table, &ports).map_err(fail())?;
    Ok(true)
}

/// Removes the table; one that is not there is no error.
pub(crate) fn remove(config: &Config) -> Result<()> {
    if table(&config.table)?.is_none() {
        return Ok(());
    }
    let nft = find_command("nft")
        .ok_or_else(|| Error::Nft("it is no longer installed, install it to remove them".into()))?;
    // Made first where another process was faster: what is gone already is no error.
    run(&nft, &format!("table inet {0} {{}}\ndelete table inet {0}\n", config.table))
}

fn run(nft: &Path, script: &str) -> Result<()> {
    let work = || -> io::Result<(bool, String)> {
        let mut child = Command::new(nft)
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut input) = child.stdin.take() {
            // A broken pipe means that nft has refused already: its own words follow.
            let _ = input.write_all(script.as_bytes());
        }
        let output = child.wait_with_output()?;
        Ok((
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ))
    };
    match work() {
        Ok((true, _)) => Ok(()),
        Ok((false, words)) => Err(Error::Nft(
            words.lines().take(3).collect::<Vec<_>>().join(" "),
        )),
        Err(e) => Err(Error::Nft(format!(
            "{} could not be run: {e}",
            nft.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn rules_name_what_is_configured_and_nothing_else() {
        let config = Config {
            bridge: "br7".into(),
            subnet: "10.7.0.0/16".parse().unwrap(),
            table: "t7".into(),
            ..Config::default()
        };
        let text = rules(&config, None);
        assert!(!text.contains("ip6"));
        assert!(rules(&config, config.network6()).contains("ip6 saddr fdc0:ff3d:a07::/64 ip6 daddr != fdc0:ff3d:a07::/64"));
        assert!(text.contains("ip saddr 10.7.0.0/16 ip daddr != 10.7.0.0/16"));
        assert!(text.contains("iifname \"br7\" accept"));
        assert!(!text.contains("cofferdam0") && !text.contains("10.89"));
        assert_ne!(
            mark(&config, None),
            mark(
                &Config {
                    bridge: "br8".into(),
                    ..config.clone()
                },
                None
            )
        );
        assert_eq!(comment(&[(6, b"\0\x04abc\0")]), "abc");
        assert_eq!(comment(&[(1, b"t7\0")]), "");
    }
}
