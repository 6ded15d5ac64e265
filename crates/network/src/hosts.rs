//! The content of a pod's `/etc/hosts`, as the kubelet writes it (`pkg/kubelet/kubelet_pods.go`,
//! `managedHostsFileContent` and `nodeHostsFileContent`).

use crate::{Error, Result};
use std::net::IpAddr;

/// Names for an address, of a pod's `hostAliases`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// Address.
    pub ip: String,
    /// Names.
    pub hostnames: Vec<String>,
}

const FIXED: [(&str, &str); 6] = [
    ("127.0.0.1", "localhost"),
    ("::1", "localhost ip6-localhost ip6-loopback"),
    ("fe00::0", "ip6-localnet"),
    ("fe00::0", "ip6-mcastprefix"),
    ("fe00::1", "ip6-allnodes"),
    ("fe00::2", "ip6-allrouters"),
];

/// The file of a pod with a network of its own: its addresses, each with `hostname`, and with
/// `hostname.domain` before it where the pod has a subdomain.
pub fn pod_hosts(
    ips: &[IpAddr],
    hostname: &str,
    domain: Option<&str>,
    aliases: &[Alias],
) -> Result<String> {
    check_name(hostname)?;
    let mut text = String::from("# Kubernetes-managed hosts file.\n");
    for (ip, names) in FIXED {
        text += &format!("{ip}\t{names}\n");
    }
    let names = match domain.filter(|d| !d.is_empty()) {
        Some(domain) => {
            check_name(domain)?;
            format!("{hostname}.{domain}\t{hostname}")
        }
        None => hostname.to_owned(),
    };
    for ip in ips {
        text += &format!("{ip}\t{names}\n");
    }
    Ok(text + &alias_lines(aliases)?)
}

/// The file of a pod in the machine's network: the machine's own, and the aliases.
pub fn host_network_hosts(machine: &str, aliases: &[Alias]) -> Result<String> {
    let mut text = format!("# Kubernetes-managed hosts file (host network).\n{machine}");
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text + &alias_lines(aliases)?)
}

fn alias_lines(aliases: &[Alias]) -> Result<String> {
    if aliases.is_empty() {
        return Ok(String::new());
    }
    let mut text = String::from("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        let ip: IpAddr = alias
            .ip
            .parse()
            .map_err(|_| refusal("host alias address", &alias.ip, "use an IP address"))?;
        alias
            .hostnames
            .iter()
            .try_for_each(|name| check_name(name))?;
        text += &format!("{ip}\t{}\n", alias.hostnames.join("\t"));
    }
    Ok(text)
}

/// A name is one word: letters, digits, `-`, `.` and, as Linux host names may, `_`.
fn check_name(name: &str) -> Result<()> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if name.is_empty() || name.len() > 253 || !name.bytes().all(good) {
        return Err(refusal(
            "host name",
            name,
            "use at most 253 letters, digits, '-' and '.'",
        ));
    }
    Ok(())
}

fn refusal(what: &'static str, value: &str, rule: &'static str) -> Error {
    Error::Text {
        what,
        value: value.chars().take(64).collect(),
        rule,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const HEAD: &str = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n\
        ::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\n\
        fe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";

    fn alias(ip: &str, names: &[&str]) -> Alias {
        Alias {
            ip: ip.to_owned(),
            hostnames: names.iter().map(|n| (*n).to_owned()).collect(),
        }
    }

    #[test]
    fn the_file_is_the_kubelets() {
        let ip = ["203.0.113.1".parse().unwrap()];
        assert_eq!(
            pod_hosts(&ip, "podFoo", None, &[]).unwrap(),
            format!("{HEAD}203.0.113.1\tpodFoo\n")
        );
        let aliases = [
            alias("123.45.67.89", &["foo", "bar"]),
            alias("::7", &["park"]),
        ];
        assert_eq!(
            pod_hosts(&ip, "podFoo", Some("domainFoo"), &aliases).unwrap(),
            format!(
                "{HEAD}203.0.113.1\tpodFoo.domainFoo\tpodFoo\n\n# Entries added by HostAliases.\n\
                 123.45.67.89\tfoo\tbar\n::7\tpark\n"
            )
        );
        assert_eq!(
            host_network_hosts("127.0.0.1 localhost", &aliases[..1]).unwrap(),
            "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n\n\
             # Entries added by HostAliases.\n123.45.67.89\tfoo\tbar\n"
        );
    }

    #[test]
    fn a_name_cannot_become_another_line() {
        for bad in ["", "a b", "a\n1.1.1.1 b", "a#b", &"a".repeat(254)] {
            assert!(pod_hosts(&[], bad, None, &[]).is_err(), "{bad:?}");
            assert!(
                pod_hosts(&[], "good", None, &[alias("1.1.1.1", &[bad])]).is_err(),
                "{bad:?}"
            );
        }
        assert!(pod_hosts(&[], "good", Some("a b"), &[]).is_err());
        assert!(host_network_hosts("", &[alias("1.1.1.1 x", &["a"])]).is_err());
    }
}
