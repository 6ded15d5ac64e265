//! A pod's resolver settings (`pkg/kubelet/network/dns/dns.go`). There is no cluster, so
//! `ClusterFirst` and `ClusterFirstWithHostNet` mean the machine's resolvers, as `Default` does.

use cofferdam_model::cri::Dns;
use cofferdam_model::pod::PodSpec;
use std::path::Path;

/// Most servers that a resolver reads (`MaxDNSNameservers`).
const MAX_SERVERS: usize = 3;
/// Most search domains (`MaxDNSSearchPaths`).
const MAX_SEARCHES: usize = 32;
/// Most bytes that are read of a resolver file.
const MAX_FILE: usize = 64 * 1024;

/// The settings for a pod; `None` takes the machine's as they are. `machine` reads the machine's
/// settings and is asked only where the pod adds to them. An error is one sentence.
pub(crate) fn dns(spec: &PodSpec, machine: impl FnOnce() -> Dns) -> Result<Option<Dns>, String> {
    let mut dns = match (
        spec.dns_policy.as_deref().unwrap_or("ClusterFirst"),
        &spec.dns_config,
    ) {
        ("ClusterFirst" | "ClusterFirstWithHostNet" | "Default", None) => return Ok(None),
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
    if dns.servers.is_empty() {
        return Err("dnsPolicy None needs at least one of dnsConfig.nameservers".into());
    }
    if dns.servers.len() > MAX_SERVERS || dns.searches.len() > MAX_SEARCHES {
        return Err(format!(
            "the pod has more than {MAX_SERVERS} name servers or {MAX_SEARCHES} search domains with the machine's; use dnsPolicy None or fewer of them"
        ));
    }
    Ok(Some(dns))
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
            Some("search") => dns.searches = fields.map(str::to_owned).collect(),
            Some("options") => dns.options = fields.map(str::to_owned).collect(),
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

    fn resolve(spec: Value) -> Result<Option<Dns>, String> {
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        dns(&spec, || {
            parse("# note\nnameserver 10.0.0.1\nsearch old\nsearch a b\noptions ndots:1 edns0\n")
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
            let found = resolve(spec.clone()).map(|d| d.map(text));
            assert_eq!(
                found,
                expected
                    .map(|e| e.map(str::to_owned))
                    .map_err(str::to_owned),
                "{spec}"
            );
        }
        assert!(resolve(json!({"dnsConfig": {"nameservers": ["1", "2", "3"]}})).is_err());
    }
}
