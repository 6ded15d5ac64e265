//! What a pod asks of plugins that declare that they can do it (CONVENTIONS.md of CNI,
//! "dynamic plugin specific fields").

use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A port of the machine that leads to one of the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// Port of the machine.
    pub host_port: u16,
    /// Port of the pod.
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
    /// The machine's address; `None` for all.
    #[serde(rename = "hostIP", skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
}

/// Limits: rates in bits per second, bursts in bits; 0 is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bandwidth {
    /// Into the pod.
    pub ingress_rate: u64,
    /// What may pass at once.
    pub ingress_burst: u64,
    /// Out of the pod.
    pub egress_rate: u64,
    /// What may pass at once.
    pub egress_burst: u64,
}

/// Resolver settings of the pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Dns {
    /// Servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<String>,
    /// Search domains.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub searches: Vec<String>,
    /// Options.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// What a pod asks for. What is empty is not given to any plugin.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Capabilities {
    /// `portMappings`.
    pub port_mappings: Vec<PortMapping>,
    /// `bandwidth`.
    pub bandwidth: Option<Bandwidth>,
    /// `dns`.
    pub dns: Option<Dns>,
    /// `ips`: addresses that the pod is to have, with or without a prefix.
    pub ips: Vec<String>,
    /// `mac`: hardware address that the pod is to have.
    pub mac: Option<String>,
    /// `ipRanges`: as `ranges` of the plugin host-local.
    pub ip_ranges: Option<Value>,
    /// `cgroupPath`.
    pub cgroup_path: Option<String>,
    /// Others, by name (`io.kubernetes.cri.pod-annotations`, `aliases`, …).
    pub more: BTreeMap<String, Value>,
}

/// Requests that a pod cannot go without, as against hints: name in CNI, name in Kubernetes.
const BINDING: [(&str, &str); 5] = [
    ("portMappings", "hostPort"),
    ("bandwidth", "bandwidth limits"),
    ("ips", "addresses of its own choice"),
    ("mac", "a hardware address of its own choice"),
    ("ipRanges", "address ranges"),
];

impl Capabilities {
    /// All that is asked for, by the capability's name.
    pub(crate) fn to_map(&self) -> Map<String, Value> {
        let mut map = Map::new();
        let mut put = |key: &str, value: Value| drop(map.insert(key.to_owned(), value));
        if !self.port_mappings.is_empty() {
            put("portMappings", json!(self.port_mappings));
        }
        if let Some(limits) = self.bandwidth.filter(|b| *b != Bandwidth::default()) {
            // The plugin refuses a rate without a burst, and takes 0 and 0 for none.
            put("bandwidth", json!(limits));
        }
        if let Some(dns) = self.dns.as_ref().filter(|d| **d != Dns::default()) {
            put("dns", json!(dns));
        }
        if !self.ips.is_empty() {
            put("ips", json!(self.ips));
        }
        for (key, text) in [("mac", &self.mac), ("cgroupPath", &self.cgroup_path)] {
            if let Some(text) = text {
                put(key, text.clone().into());
            }
        }
        if let Some(ranges) = &self.ip_ranges {
            put("ipRanges", ranges.clone());
        }
        for (key, value) in &self.more {
            put(key, value.clone());
        }
        map
    }

    /// The first binding request that none of `declared` covers: its names in CNI and Kubernetes.
    pub(crate) fn unmet<'a>(&self, declared: impl Fn(&str) -> bool + 'a) -> Option<(&'static str, &'static str)> {
        let asked = self.to_map();
        BINDING.into_iter().find(|(name, _)| asked.contains_key(*name) && !declared(name))
    }
}
