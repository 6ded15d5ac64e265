//! The rules of the pod network: one static nftables table, written by one run of `nft`. Which
//! table is there, and of which form, the kernel is asked without a process.

use crate::config::Config;
use crate::netlink::Connection;
use crate::{Error, Result};
use cofferdam_host::machine::find_command;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Raise it whenever the rules change, so that a table of an older build is replaced.
const VERSION: u32 = 1;

// `include/uapi/linux/netfilter/nfnetlink.h` and `nf_tables.h`.
const SUBSYSTEM_TABLES: u16 = 10;
const GET_TABLE: u16 = 1;
const FAMILY_INET: u8 = 1;
const TABLE_NAME: u16 = 1;
const TABLE_USERDATA: u16 = 6;
/// Size of `struct nfgenmsg`.
const FIXED: usize = 4;

/// What the table's comment says: rules of the same mark are the same.
fn mark(config: &Config) -> String {
    format!("rules {VERSION} of {} {}", config.bridge, config.subnet)
}

/// The rules. They accept what others do not drop: a drop in another table (Docker's) stays one.
///
/// Forwarding makes the machine a router, so what comes from outside to a pod, unasked and not
/// sent on by a port mapping, is dropped: a neighbour could send it here by a route of its own.
fn rules(config: &Config) -> String {
    let Config {
        bridge,
        subnet,
        table,
        ..
    } = config;
    let mark = mark(config);
    format!(
        "table inet {table} {{}}\n\
         delete table inet {table}\n\
         table inet {table} {{\n\
         \tcomment \"{mark}\"\n\
         \tchain postrouting {{\n\
         \t\ttype nat hook postrouting priority srcnat; policy accept;\n\
         \t\tip saddr {subnet} ip daddr != {subnet} ip daddr != 224.0.0.0/4 masquerade\n\
         \t}}\n\
         \tchain forward {{\n\
         \t\ttype filter hook forward priority filter; policy accept;\n\
         \t\tiifname \"{bridge}\" accept\n\
         \t\toifname \"{bridge}\" ct state established,related accept\n\
         \t\toifname \"{bridge}\" ct status dnat accept\n\
         \t\toifname \"{bridge}\" drop\n\
         \t}}\n\
         }}\n"
    )
}

/// Whether the kernel has the table, in the form of this configuration and build.
pub(crate) fn is_current(config: &Config) -> Result<bool> {
    let found = table(&config.table)?;
    Ok(found.is_some_and(|comment| comment == mark(config)))
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

/// Writes the rules; false where `nft` is not installed.
pub(crate) fn apply(config: &Config) -> Result<bool> {
    let Some(nft) = find_command("nft") else {
        return Ok(false);
    };
    run(&nft, &rules(config))?;
    Ok(true)
}

/// Removes the table; one that is not there is no error.
pub(crate) fn remove(config: &Config) -> Result<()> {
    if table(&config.table)?.is_none() {
        return Ok(());
    }
    let nft = find_command("nft")
        .ok_or_else(|| Error::Nft("it is no longer installed, install it to remove them".into()))?;
    run(&nft, &format!("delete table inet {}\n", config.table))
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
            mtu: None,
        };
        let text = rules(&config);
        assert!(text.contains("ip saddr 10.7.0.0/16 ip daddr != 10.7.0.0/16"));
        assert!(text.contains("iifname \"br7\" accept"));
        assert!(!text.contains("cofferdam0") && !text.contains("10.89"));
        assert_ne!(
            mark(&config),
            mark(&Config {
                bridge: "br8".into(),
                ..config.clone()
            })
        );
        assert_eq!(comment(&[(6, b"\0\x04abc\0")]), "abc");
        assert_eq!(comment(&[(1, b"t7\0")]), "");
    }
}
