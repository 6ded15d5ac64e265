//! `[cri]` of our own configuration: how `cofferdam cri` serves a kubelet.
//!
//! ```toml
//! [cri]
//! socket = "/run/cofferdam/cri.sock"
//! streaming_address = "127.0.0.1:0"   # exec, attach and port-forward; the kubelet passes them on
//! cgroup_driver = "auto"              # auto (default), cgroupfs, systemd: what the kubelet is told
//! metrics_address = "off"             # off (default), or an address such as 127.0.0.1:9790
//! otlp_endpoint = "off"               # off (default), or http://HOST:PORT
//! otlp_protocol = "http/protobuf"     # http/protobuf (default, usually port 4318), http/json, grpc (usually port 4317)
//! log_format = "text"                 # text (default), json
//! log_level = "info"                  # error, warn, info (default), debug, trace
//! pinned_images = ["registry.example/base:1"]
//! spare_networks = 8                  # network namespaces made ahead
//! max_exec_output = 16777216          # bytes of each stream of ExecSync; the rest is cut off
//!
//! [cri.nri]
//! enabled = true
//! socket = "/var/run/nri/nri.sock"
//! plugin_dir = "/opt/nri/plugins"
//! conf_dir = "/etc/nri/conf.d"
//! required = ["topology-aware"]       # without these no pod starts
//! registration_timeout_ms = 5000
//! request_timeout_ms = 2000
//! ```
//!
//! NRI's paths and times are upstream's (containerd/nri, `pkg/adaptation/adaptation.go`).

use crate::driver;
use crate::schema::Effect::Used;
use crate::schema::Kind::{Bool, Int, Text, Texts};
use crate::schema::{Key, Kind, Report, key};
use crate::table::Setting;
use crate::tree::{self, Node, Table};
use serde::Serialize;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// Most images that can be pinned, and plugins that can be required.
const MOST: usize = 256;
/// Network namespaces that can be made ahead.
const SPARE: RangeInclusive<i64> = 0..=256;
/// Bytes of ExecSync's output: a kubelet takes messages of 16 MiB
/// (`staging/src/k8s.io/cri-client/pkg/remote_runtime.go`: `maxMsgSize`).
const OUTPUT: RangeInclusive<i64> = 4096..=16 << 20;
/// Milliseconds that a plugin may take.
const TIMEOUT: RangeInclusive<i64> = 1..=600_000;

pub(crate) const CRI: &[Key] = &[
    key("socket", Text, Used),
    key("streaming_address", Text, Used),
    key("cgroup_driver", Text, Used),
    key("metrics_address", Text, Used),
    key("otlp_endpoint", Text, Used),
    key("otlp_protocol", Text, Used),
    key("log_format", Text, Used),
    key("log_level", Text, Used),
    key("pinned_images", Texts, Used),
    key("spare_networks", Int, Used),
    key("max_exec_output", Int, Used),
    key("nri", Kind::Table(NRI), Used),
];

const NRI: &[Key] = &[
    key("enabled", Bool, Used),
    key("socket", Text, Used),
    key("plugin_dir", Text, Used),
    key("conf_dir", Text, Used),
    key("required", Texts, Used),
    key("registration_timeout_ms", Int, Used),
    key("request_timeout_ms", Int, Used),
];

/// `[cri]`: how a kubelet is served. What is `None` is as it is without a configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CriSettings {
    /// The socket that a kubelet speaks to.
    pub socket: Option<Setting<PathBuf>>,
    /// Where exec, attach and port-forward are served, on the loopback; port 0 is any.
    pub streaming_address: Option<Setting<String>>,
    /// What the kubelet is told about cgroups: `auto`, `cgroupfs` or `systemd`.
    pub cgroup_driver: Option<Setting<String>>,
    /// Where metrics and health are served: `off` or `ADDRESS:PORT`.
    pub metrics_address: Option<Setting<String>>,
    /// Where spans go: `off`, `http://HOST:PORT` or `https://HOST:PORT`.
    pub otlp_endpoint: Option<Setting<String>>,
    /// What is spoken there: `grpc`, `http/protobuf` or `http/json`.
    pub otlp_protocol: Option<Setting<String>>,
    /// `text` or `json`.
    pub log_format: Option<Setting<String>>,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub log_level: Option<Setting<String>>,
    /// Images that a kubelet's garbage collection leaves.
    pub pinned_images: Option<Setting<Vec<String>>>,
    /// How many network namespaces are made ahead.
    pub spare_networks: Option<Setting<u64>>,
    /// Bytes that are kept of each stream of ExecSync.
    pub max_exec_output: Option<Setting<u64>>,
    /// `[cri.nri]`.
    pub nri: NriSettings,
}

/// `[cri.nri]`: plugins that change containers.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct NriSettings {
    /// Whether there are any.
    pub enabled: Option<Setting<bool>>,
    /// The socket at which plugins register.
    pub socket: Option<Setting<PathBuf>>,
    /// Folder of plugins that are started.
    pub plugin_dir: Option<Setting<PathBuf>>,
    /// Folder of their configurations.
    pub conf_dir: Option<Setting<PathBuf>>,
    /// Plugins without which no pod starts.
    pub required: Option<Setting<Vec<String>>>,
    /// Milliseconds that a plugin may take to register.
    pub registration_timeout_ms: Option<Setting<u64>>,
    /// Milliseconds that a plugin may take to answer.
    pub request_timeout_ms: Option<Setting<u64>>,
}

/// Checks the values of `[cri]` in one file.
pub(crate) fn check(root: &Table, report: &mut Report) {
    let Some(cri) = tree::table(root, "cri") else { return };
    texts(cri, "cri", CRI_TEXTS, report);
    ranges(cri, "cri", &[("spare_networks", SPARE), ("max_exec_output", OUTPUT)], report);
    words(cri, "cri", "pinned_images", report);
    let Some(nri) = tree::table(cri, "nri") else { return };
    texts(nri, "cri.nri", NRI_TEXTS, report);
    ranges(
        nri,
        "cri.nri",
        &[("registration_timeout_ms", TIMEOUT), ("request_timeout_ms", TIMEOUT)],
        report,
    );
    words(nri, "cri.nri", "required", report);
}

/// What is wrong with a text, after its key.
type Wrong = fn(&str) -> Option<String>;

const CRI_TEXTS: &[(&str, Wrong)] = &[
    ("socket", path),
    ("streaming_address", loopback),
    ("cgroup_driver", |v| one_of(v, &["auto", "cgroupfs", "systemd"])),
    ("metrics_address", |v| if v == "off" { None } else { address(v).err() }),
    ("otlp_endpoint", endpoint),
    ("otlp_protocol", |v| one_of(v, &["grpc", "http/protobuf", "http/json"])),
    ("log_format", |v| one_of(v, &["text", "json"])),
    ("log_level", |v| one_of(v, &["error", "warn", "info", "debug", "trace"])),
];
const NRI_TEXTS: &[(&str, Wrong)] = &[("socket", path), ("plugin_dir", path), ("conf_dir", path)];

fn texts(table: &Table, section: &str, keys: &[(&str, Wrong)], report: &mut Report) {
    for (name, wrong) in keys {
        if let Some((node, value)) = tree::text(table, name)
            && let Some(reason) = wrong(value)
        {
            report.bad_value(node, format!("{section}.{name}"), reason);
        }
    }
}

fn ranges(table: &Table, section: &str, keys: &[(&str, RangeInclusive<i64>)], report: &mut Report) {
    for (name, range) in keys {
        if let Some((node, n)) = table.get(*name).and_then(|node| Some((node, node.int()?)))
            && !range.contains(&n)
        {
            let (least, most) = (range.start(), range.end());
            report.bad_value(node, format!("{section}.{name}"), format!("= {n} is not from {least} to {most}"));
        }
    }
}

/// Lists of names: no blanks, no control characters, and not too many.
fn words(table: &Table, section: &str, name: &str, report: &mut Report) {
    let Some(list) = table.get(name) else { return };
    let key = format!("{section}.{name}");
    if list.texts().count() > MOST {
        report.bad_value(list, key, format!("has more than {MOST} entries; remove some"));
        return;
    }
    for (node, word) in list.texts() {
        if word.is_empty() || word.len() > 512 || word.chars().any(|c| c.is_whitespace() || c.is_control()) {
            report.bad_value(node, key.clone(), format!("has {word:?}, which is no name"));
        }
    }
}

fn path(value: &str) -> Option<String> {
    driver::absolute(value).err().map(|reason| format!("= {reason}"))
}

fn one_of(value: &str, known: &[&str]) -> Option<String> {
    let list: Vec<String> = known.iter().map(|k| format!("{k:?}")).collect();
    (!known.contains(&value)).then(|| format!("= {value:?} is none of {}", list.join(", ")))
}

fn address(value: &str) -> Result<SocketAddr, String> {
    value
        .parse()
        .map_err(|_| format!("= {value:?} is no address; write ADDRESS:PORT, as in 127.0.0.1:9790"))
}

/// Tokens are all that guards these streams, and the kubelet of this machine is who fetches them.
fn loopback(value: &str) -> Option<String> {
    match address(value) {
        Ok(address) if address.ip().is_loopback() => None,
        Ok(_) => Some(format!(
            "= {value:?} is not on the loopback, where the kubelet fetches these streams; write 127.0.0.1:0"
        )),
        Err(reason) => Some(reason),
    }
}

fn endpoint(value: &str) -> Option<String> {
    let rest = value
        .strip_prefix("http://")
        .or_else(|| value.strip_prefix("https://"))
        .filter(|rest| !rest.is_empty() && !rest.starts_with('/'));
    let odd = value.len() > 2048 || value.chars().any(|c| c.is_whitespace() || c.is_control());
    (value != "off" && (rest.is_none() || odd)).then(|| format!("= {value:?} is no endpoint; write off, http://HOST:PORT or https://HOST:PORT"))
}

/// The settings of the merged files.
pub(crate) fn settings(root: &Table) -> CriSettings {
    let empty = Table::new();
    let cri = tree::table(root, "cri").unwrap_or(&empty);
    let nri = tree::table(cri, "nri").unwrap_or(&empty);
    CriSettings {
        socket: path_of(cri, "socket"),
        streaming_address: text_of(cri, "streaming_address"),
        cgroup_driver: text_of(cri, "cgroup_driver"),
        metrics_address: text_of(cri, "metrics_address"),
        otlp_endpoint: text_of(cri, "otlp_endpoint"),
        otlp_protocol: text_of(cri, "otlp_protocol"),
        log_format: text_of(cri, "log_format"),
        log_level: text_of(cri, "log_level"),
        pinned_images: list_of(cri, "pinned_images"),
        spare_networks: count_of(cri, "spare_networks"),
        max_exec_output: count_of(cri, "max_exec_output"),
        nri: NriSettings {
            enabled: of(nri, "enabled", Node::flag),
            socket: path_of(nri, "socket"),
            plugin_dir: path_of(nri, "plugin_dir"),
            conf_dir: path_of(nri, "conf_dir"),
            required: list_of(nri, "required"),
            registration_timeout_ms: count_of(nri, "registration_timeout_ms"),
            request_timeout_ms: count_of(nri, "request_timeout_ms"),
        },
    }
}

fn of<T>(table: &Table, key: &str, value: impl Fn(&Node) -> Option<T>) -> Option<Setting<T>> {
    let node = table.get(key)?;
    Some(Setting {
        value: value(node)?,
        origin: node.origin(),
    })
}

fn text_of(table: &Table, key: &str) -> Option<Setting<String>> {
    of(table, key, |node| node.text().map(str::to_owned))
}

fn path_of(table: &Table, key: &str) -> Option<Setting<PathBuf>> {
    of(table, key, |node| node.text().map(PathBuf::from))
}

fn count_of(table: &Table, key: &str) -> Option<Setting<u64>> {
    of(table, key, |node| u64::try_from(node.int()?).ok())
}

fn list_of(table: &Table, key: &str) -> Option<Setting<Vec<String>>> {
    of(table, key, |node| Some(node.texts().map(|(_, text)| text.to_owned()).collect()))
}
