//! Any bytes as what CNI brings: configurations of networks, answers of plugins, files of the cache;
//! and as the annotations that limit bandwidth. What is read is within its bounds, and written down
//! it is read as the same; the rest is one printable line.
#![no_main]

use cofferdam_cni::cache::Entry;
use cofferdam_cni::config::MAX_PLUGINS;
use cofferdam_cni::result::CniResult;
use cofferdam_cni::{NetworkList, Version};
use cofferdam_fuzz::one_line;
use cofferdam_network::Bandwidth;
use cofferdam_network::bandwidth::{EGRESS, INGRESS};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

fn list(list: &NetworkList) {
    // It becomes a part of file names.
    assert!(
        !list.name.is_empty() && !list.name.starts_with('.') && !list.name.contains('/'),
        "{:?}",
        list.name
    );
    assert!(!list.versions.is_empty() && list.versions.is_sorted(), "{:?}", list.versions);
    assert!(list.plugins.len() <= MAX_PLUGINS);
    for plugin in &list.plugins {
        assert!(
            !matches!(plugin.kind.as_str(), "" | "." | "..") && !plugin.kind.contains(['/', '\0']),
            "{:?}",
            plugin.kind
        );
    }
}

fn configurations(data: &[u8]) {
    match NetworkList::parse_list(data) {
        Ok(parsed) => list(&parsed),
        Err(error) => one_line(error),
    }
    match NetworkList::parse_single(data) {
        Ok(parsed) => {
            list(&parsed);
            let Ok(Value::Object(single)) = serde_json::from_slice(data) else {
                panic!("no JSON")
            };
            let fields = ["name", "cniVersion", "cniVersions"]
                .iter()
                .filter_map(|key| Some(((*key).to_owned(), single.get(*key)?.clone())));
            let mut fields: Map<_, _> = fields.collect();
            fields.insert("plugins".into(), json!([single]));
            let again = NetworkList::parse_list(&serde_json::to_vec(&fields).unwrap()).unwrap();
            assert_eq!((again.name, again.versions, again.plugins.len()), (parsed.name, parsed.versions, 1));
            assert_eq!(again.plugins[0].kind, parsed.plugins[0].kind);
            assert_eq!(again.plugins[0].capabilities, parsed.plugins[0].capabilities);
        }
        Err(error) => one_line(error),
    }
}

fn result(data: &[u8], version: Version) {
    let result = match CniResult::parse(data, version) {
        Ok(result) => result,
        Err(error) => return one_line(error),
    };
    assert!(result.interfaces.len() <= 256 && result.ips.len() <= 256 && result.routes.len() <= 8192);
    for ip in &result.ips {
        assert!(ip.interface.is_none_or(|at| at < result.interfaces.len()), "{ip:?}");
        assert!(ip.address.prefix <= if ip.address.address.is_ipv4() { 32 } else { 128 }, "{ip:?}");
    }
    for address in result.addresses("eth0") {
        assert!(result.ips.iter().any(|ip| ip.address.address == address));
    }
    let newest = result.to_json(Version::NEWEST);
    match CniResult::read(&newest, Version::NEWEST) {
        Ok(again) => assert_eq!(again, result, "{newest}"),
        // Two old lists of routes may be longer together than one may be.
        Err(error) => assert!(result.routes.len() > 4096, "{error}: {newest}"),
    }
    // Other forms hold less, and what they hold they keep.
    for version in Version::ALL {
        let once = result.to_json(version);
        let Ok(read) = CniResult::read(&once, version) else { continue };
        assert_eq!(read.to_json(version), once);
    }
}

/// Without numbers that are not whole: reading and writing may change their last digit.
fn whole(value: Value) -> Value {
    match value {
        Value::Number(n) if n.is_f64() => Value::Null,
        Value::Array(list) => list.into_iter().map(whole).collect(),
        Value::Object(map) => Value::Object(map.into_iter().map(|(k, v)| (k, whole(v))).collect()),
        other => other,
    }
}

fn entry(data: &[u8]) {
    let Some(entry) = Entry::parse(data) else { return };
    // The id becomes an argument of plugins and a part of file names.
    assert!(!entry.container_id.is_empty() && !entry.container_id.starts_with(['.', '-']) && !entry.container_id.contains('/'));
    let written = serde_json::to_vec(&entry).unwrap();
    let again = Entry::parse(&written).unwrap();
    assert_eq!(
        whole(serde_json::to_value(&again).unwrap()),
        whole(serde_json::to_value(&entry).unwrap())
    );
    if let Some(config) = entry.config() {
        configurations(&config);
    }
}

fn limits(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (ingress, egress) = text.split_once('\n').unwrap_or((&text, ""));
    let annotations = [(INGRESS, ingress), (EGRESS, egress)].map(|(name, value)| (name.to_owned(), value.to_owned()));
    match Bandwidth::of(&BTreeMap::from(annotations)) {
        Ok(limits) => {
            for bits in [limits.ingress, limits.egress].into_iter().flatten() {
                assert!((1_000..=1_000_000_000_000_000).contains(&bits), "{bits}");
            }
            assert!(!limits.is_none());
        }
        Err(error) => one_line(error),
    }
}

fuzz_target!(|data: &[u8]| {
    configurations(data);
    [Version::V0_1_0, Version::V0_4_0, Version::NEWEST]
        .into_iter()
        .for_each(|version| result(data, version));
    entry(data);
    limits(data);
});
