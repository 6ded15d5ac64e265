//! A pod's resolver settings (`pkg/kubelet/network/dns/dns.go`). There is no cluster, so
//! `ClusterFirst` and `ClusterFirstWithHostNet` mean the machine's resolvers, as `Default` does.

use cofferdam_model::cri::Dns;
use cofferdam_model::pod::PodSpec;
use std::path::Path;

/// Most servers that a resolver reads (`MaxDNSNameservers`).
const MAX_SERVERS: usize = 3;
/// Most search domains (`MaxDNSSearchPaths`).
const MAX_SEARCHES: usize = 32;
/// Longest search domain, bytes: longer ones abort some resolvers (`DNS1123SubdomainMaxLength`).
const MAX_SEARCH: usize = 253;
/// Most bytes of all search domains in their line (`MaxDNSSearchListChars`).
const MAX_SEARCH_LINE: usize = 2048;
/// Most bytes that are read of a resolver file.
const MAX_FILE: usize = 64 * 1024;

/// Reason of the event on settings that were cut.
pub(crate) const REASON_CUT: &str = "DNSConfigForming";

/// The settings for a pod; `None` takes the machine's as they are. `machine` reads the machine's
/// settings and is asked only where the pod adds to them. What a resolver would not read is left out,
/// with a sentence each. An error is one sentence.
pub(crate) fn dns(spec: &PodSpec, machine: impl FnOnce() -> Dns) -> Result<(Option<Dns>, Vec<String>), String> {
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let mut dns = match (policy, &spec.dns_config) {
        ("ClusterFirst" | "ClusterFirstWithHostNet" | "Default", None) => return Ok((None, Vec::new())),
        ("ClusterFirst" | "ClusterFirstWithHostNet" | "Default", Some(_)) => machine(),
        ("None", _) => Dns::default(),
        (other, _) => {
            return Err(format!(
                "dnsPolicy {other:?} is unknown; use ClusterFirst, Default or None"
            ));
        }
    };
    let added = spec.dns_config.clone().unwrap_or_default();
    add(&mut dns.servers, added.nameservers);
    add(&mut dns.searches, added.searches);
    for option in added.options {
        // The pod's option takes the place of the machine's of the same name.
        dns.options
            .retain(|o| o.split(':').next() != Some(option.name.as_str()));
        dns.options
            .push(match option.value.filter(|v| !v.is_empty()) {
                Some(value) => format!("{}:{value}", option.name),
                None => option.name,
            });
    }
    if dns.servers.is_empty() && policy == "None" {
        return Err("dnsPolicy None needs at least one of dnsConfig.nameservers".into());
    }
    let notes = [cut_servers(&mut dns.servers), cut_searches(&mut dns.searches)];
    Ok((Some(dns), notes.into_iter().flatten().collect()))
}

/// `formDNSNameserversFitsLimits`, and its sentence.
fn cut_servers(servers: &mut Vec<String>) -> Option<String> {
    if servers.len() <= MAX_SERVERS {
        return None;
    }
    servers.truncate(MAX_SERVERS);
    let line = servers.join(" ");
    Some(format!(
        "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {line}"
    ))
}

/// `formDNSSearchFitsLimits`, and its sentence.
fn cut_searches(searches: &mut Vec<String>) -> Option<String> {
    let given = searches.len();
    searches.truncate(MAX_SEARCHES);
    searches.retain(|search| search.len() <= MAX_SEARCH);
    while searches.join(" ").len() > MAX_SEARCH_LINE {
        searches.pop();
    }
    let line = searches.join(" ");
    (searches.len() < given).then(|| {
        format!("Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {line}")
    })
}

fn add(to: &mut Vec<String>, from: Vec<String>) {
    for item in from {
        if !to.contains(&item) {
            to.push(item);
        }
    }
}

/// The machine's settings. Where its file only names a resolver on loopback, which a pod cannot
/// reach, systemd-resolved's own file is read.
pub(crate) fn of_machine() -> Dns {
    let read = |path: &str| parse(&std::fs::read_to_string(Path::new(path)).unwrap_or_default());
    let dns = read("/etc/resolv.conf");
    let loopback = |server: &String| server.starts_with("127.") || server == "::1";
    if dns.servers.iter().all(loopback) {
        let behind = read("/run/systemd/resolve/resolv.conf");
        if !behind.servers.is_empty() {
            return behind;
        }
    }
    dns
}

fn parse(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.get(..MAX_FILE).unwrap_or(text).lines() {
        let mut fields = line.split_whitespace();
        match fields.next() {
            Some("nameserver") => dns.servers.extend(fields.next().map(str::to_owned)),
            // The last line of its kind stands, as in resolv.conf(5).
            // A dot at the end makes no other domain, and the root is none (`parseResolvConf`).
            Some("search") => {
                let domains = fields.filter(|domain| *domain != ".");
                dns.searches = domains.map(|d| d.strip_suffix('.').unwrap_or(d).to_owned()).collect();
            }
            // The last option of a name stands, on whatever line (`appendOptions`).
            Some("options") => fields.for_each(|option| {
                let name = |option: &str| option.split(':').next().map(str::to_owned);
                dns.options.retain(|old| name(old) != name(option));
                dns.options.push(option.to_owned());
            }),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn resolve(spec: Value) -> Result<(Option<Dns>, Vec<String>), String> {
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        dns(&spec, || {
            parse("# note\nnameserver 10.0.0.1\nsearch old\nsearch a. . b\noptions ndots:3 edns0\noptions ndots:1\n")
        })
    }

    #[test]
    fn policies() {
        let text = |d: Dns| {
            format!(
                "{} | {} | {}",
                d.servers.join(" "),
                d.searches.join(" "),
                d.options.join(" ")
            )
        };
        let config = json!({"nameservers": ["1.1.1.1", "10.0.0.1"], "searches": ["c", "a"], "options": [{"name": "ndots", "value": "5"}, {"name": "rotate"}]});
        let rows = [
            (json!({}), Ok(None)),
            (json!({"dnsPolicy": "Default"}), Ok(None)),
            (
                json!({"dnsConfig": config}),
                Ok(Some("10.0.0.1 1.1.1.1 | a b c | edns0 ndots:5 rotate")),
            ),
            (
                json!({"dnsPolicy": "None", "dnsConfig": config}),
                Ok(Some("1.1.1.1 10.0.0.1 | c a | ndots:5 rotate")),
            ),
            (
                json!({"dnsPolicy": "None"}),
                Err("dnsPolicy None needs at least one of dnsConfig.nameservers"),
            ),
            (
                json!({"dnsPolicy": "x"}),
                Err("dnsPolicy \"x\" is unknown; use ClusterFirst, Default or None"),
            ),
        ];
        for (spec, expected) in rows {
            let found = resolve(spec.clone()).map(|(dns, notes)| {
                assert_eq!(notes, [""; 0], "{spec}");
                dns.map(text)
            });
            assert_eq!(
                found,
                expected
                    .map(|e| e.map(str::to_owned))
                    .map_err(str::to_owned),
                "{spec}"
            );
        }
    }

    #[test]
    fn what_no_resolver_reads_is_left_out_and_told() {
        let servers = "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: ";
        let searches = "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: ";
        let many: Vec<String> = (0..40).map(|n| format!("d{n}")).collect();
        let long = "x".repeat(253);
        let full = vec![long.clone(); 8].iter().enumerate().map(|(n, d)| format!("{n}{}", &d[1..])).collect::<Vec<_>>();
        let too_long = [&full[..], &["c".to_owned(), "e".repeat(20)]].concat();
        for (config, line) in [
            (json!({"nameservers": ["1", "2", "3"]}), format!("{servers}10.0.0.1 1 2")),
            (json!({"searches": many}), format!("{searches}a b {}", many[..30].join(" "))),
            (json!({"searches": [format!("{long}y"), "c"]}), format!("{searches}a b c")),
            (json!({"searches": too_long}), format!("{searches}a b {} c", full.join(" "))),
        ] {
            let (dns, notes) = resolve(json!({"dnsConfig": config})).unwrap();
            assert_eq!(notes, [line]);
            let dns = dns.unwrap();
            assert!(dns.servers.len() <= 3 && dns.searches.len() <= 32 && dns.searches.join(" ").len() <= 2048);
        }
        let none = dns(&serde_json::from_value(json!({"dnsConfig": {"searches": ["a"]}})).unwrap(), Dns::default);
        assert_eq!(none.unwrap().0.unwrap().servers, [""; 0], "a machine without servers gives none");
    }
}
