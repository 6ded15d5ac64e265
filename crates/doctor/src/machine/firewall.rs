//! Whether a firewall drops what the machine forwards for pods: chains are listed, never changed.

use super::command::output_of;
use super::{Sources, network::find};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// How long listing may take: tens of thousands of rules take a second.
const LIMIT: Duration = Duration::from_secs(3);
/// Most output that is read, bytes.
const MAX: u64 = 8 << 20;

/// What the firewall does with forwarded packets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Firewall {
    /// Chains that drop by their policy and do not let our bridge through.
    pub(super) drops: Vec<String>,
    /// Docker's chain for users' rules.
    pub(super) docker_user: bool,
}

/// `None` where nobody could look; why is told.
pub(super) fn look(sources: &Sources<'_>, nft: Option<&Path>, unknown: &mut Vec<String>) -> Option<Firewall> {
    if !sources.commands {
        return None;
    }
    let mut found = None;
    if let Some(nft) = nft.map(|nft| sources.at(nft)) {
        match output_of(&nft, &["-j", "list", "chains"], MAX, LIMIT).and_then(|text| chains(&text)) {
            Ok(mut firewall) => {
                firewall.drops.retain(|chain| !lets_through(&nft, chain, &sources.network.bridge));
                found = Some(firewall);
            }
            Err(why) => unknown.push(format!("nft list chains {why}")),
        }
    }
    // nft does not show the rules of the old kernel interface; asking where there are none would load
    // its modules.
    if sources
        .small("/proc/net/ip_tables_names")
        .is_some_and(|t| t.lines().any(|l| l == "filter"))
    {
        let iptables = find(sources, "iptables-legacy").or_else(|| find(sources, "iptables"))?;
        match output_of(&sources.at(&iptables), &["-S"], MAX, LIMIT) {
            Ok(rules) => add_legacy(found.get_or_insert_default(), &rules, &sources.network.bridge),
            Err(why) => unknown.push(format!("{} -S {why}", iptables.display())),
        }
    }
    found
}

/// Reads `nft -j list chains`: those that filter forwarded IPv4 packets and drop by policy.
fn chains(text: &str) -> Result<Firewall, String> {
    let all: Value = serde_json::from_str(text).map_err(|e| format!("printed what is not understood: {e}"))?;
    let mut firewall = Firewall::default();
    for chain in all["nftables"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item.get("chain"))
    {
        let field = |name: &str| chain[name].as_str().unwrap_or_default();
        firewall.docker_user |= field("name") == "DOCKER-USER";
        if field("hook") == "forward" && field("policy") == "drop" && matches!(field("family"), "ip" | "inet") {
            firewall
                .drops
                .push(format!("{} {} {}", field("family"), field("table"), field("name")));
        }
    }
    Ok(firewall)
}

/// Whether a rule of the chain's table accepts what comes from our bridge.
fn lets_through(nft: &Path, chain: &str, bridge: &str) -> bool {
    let parts: Vec<_> = chain.split(' ').collect();
    let [family, table, _] = parts[..] else { return false };
    // The name stands in a command of nft's own language: a strange one is not asked about.
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    if !table.bytes().all(plain) {
        return false;
    }
    let listed = output_of(nft, &["-j", "list", "table", family, table], MAX, LIMIT);
    listed
        .ok()
        .and_then(|text| serde_json::from_str::<Value>(&text).ok())
        .is_some_and(|rules| accepts(&rules, bridge))
}

fn accepts(rules: &Value, bridge: &str) -> bool {
    let of_bridge = |e: &Value| e["match"]["left"]["meta"]["key"] == "iifname" && e["match"]["right"] == bridge;
    let mut rules = rules["nftables"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|i| i["rule"]["expr"].as_array());
    rules.any(|expr| expr.iter().any(of_bridge) && expr.iter().any(|e| e.get("accept").is_some()))
}

fn add_legacy(firewall: &mut Firewall, rules: &str, bridge: &str) {
    let lines = || rules.lines().map(str::trim);
    firewall.docker_user |= lines().any(|l| l == "-N DOCKER-USER");
    let through = format!("-i {bridge} -j ACCEPT");
    if lines().any(|l| l == "-P FORWARD DROP") && !lines().any(|l| l.starts_with("-A ") && l.ends_with(&through)) {
        firewall.drops.push("iptables FORWARD".into());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn chains_that_drop_are_found() {
        let chain = |family: &str, name: &str, hook: &str, policy: &str| json!({"chain": {"family": family, "table": "filter", "name": name, "type": "filter", "hook": hook, "prio": 0, "policy": policy}});
        let text = json!({"nftables": [
            {"metainfo": {"version": "1.0.6"}},
            chain("ip", "FORWARD", "forward", "drop"),
            chain("ip6", "FORWARD", "forward", "drop"),
            chain("ip", "INPUT", "input", "drop"),
            chain("inet", "forward", "forward", "accept"),
            {"chain": {"family": "ip", "table": "filter", "name": "DOCKER-USER", "handle": 1}},
        ]});
        let found = chains(&text.to_string()).unwrap();
        assert_eq!(
            found,
            Firewall {
                drops: vec!["ip filter FORWARD".into()],
                docker_user: true
            }
        );
        assert!(chains("").is_err());
    }

    #[test]
    fn an_accepted_bridge_is_no_finding() {
        let rule = |link: &str, verdict: &str| {
            json!({"nftables": [{"rule": {"expr": [
                {"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": link}},
                {"counter": {"packets": 0, "bytes": 0}}, {verdict: null}]}}]})
        };
        assert!(accepts(&rule("cofferdam0", "accept"), "cofferdam0"));
        assert!(!accepts(&rule("docker0", "accept"), "cofferdam0"));
        assert!(!accepts(&rule("cofferdam0", "drop"), "cofferdam0"));

        let policy = "-P INPUT ACCEPT\n-P FORWARD DROP\n-N DOCKER-USER\n";
        for (rules, drops) in [
            (policy.to_owned(), 1),
            (format!("{policy}-A DOCKER-USER -i cofferdam0 -j ACCEPT\n"), 0),
            (format!("{policy}-A DOCKER-USER -i cofferdam01 -j ACCEPT\n"), 1),
            ("-P FORWARD ACCEPT\n".to_owned(), 0),
        ] {
            let mut firewall = Firewall::default();
            add_legacy(&mut firewall, &rules, "cofferdam0");
            assert_eq!(firewall.drops.len(), drops, "{rules}");
        }
    }
}
