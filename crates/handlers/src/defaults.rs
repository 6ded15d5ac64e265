//! What pods under a handler get where they say nothing themselves: capabilities, profiles, kernel
//! settings, limits, and the form of their root file system. The keys are those of containerd's and
//! CRI-O's files; our own form has the same ones.

use crate::driver::absolute;
use crate::table::Handler;
use crate::tree::{Node, Table, is_true, text};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What pods get where they say nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Defaults {
    /// Capabilities of a container before its own `add` and `drop`, without `CAP_`; `None` for the usual
    /// ones, empty for none (CRI-O's `default_capabilities`).
    pub capabilities: Option<Vec<String>>,
    /// Greatest number of processes of a container; `None` for no limit (CRI-O's `pids_limit`).
    pub pids_limit: Option<i64>,
    /// File in Docker's JSON form that takes the place of the built-in profile `RuntimeDefault` (CRI-O's
    /// `seccomp_profile`).
    pub seccomp_profile: Option<PathBuf>,
    /// Profile of containers that name none (containerd's `unset_seccomp_profile`); `None` for
    /// `Unconfined`.
    pub unset_seccomp_profile: Option<UnsetSeccomp>,
    /// Name of the loaded profile that `RuntimeDefault` means, and that containers get that name none
    /// (CRI-O's `apparmor_profile`); `unconfined` for none.
    pub apparmor_profile: Option<String>,
    /// AppArmor is not used: containers that name a profile are refused (containerd's
    /// `disable_apparmor`).
    pub disable_apparmor: bool,
    /// Kernel settings of the pod's namespaces that the pod does not set itself, but for namespaces that
    /// are the machine's (CRI-O's `default_sysctls`, containerd's `enable_unprivileged_ports` and
    /// `enable_unprivileged_icmp`). Names with dots.
    pub sysctls: BTreeMap<String, String>,
    /// Limits of processes (CRI-O's `default_ulimits`), by name as `setrlimit(2)` has it, in lower case and
    /// without `RLIMIT_`.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Devices belong to the container's user and group (`device_ownership_from_security_context`).
    pub device_ownership: bool,
    /// The form of root file systems.
    pub snapshotter: Snapshotter,
}

/// Seccomp profile of containers that name none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnsetSeccomp {
    /// The built-in one, or what takes its place.
    RuntimeDefault,
    /// A file in Docker's JSON form.
    Localhost(PathBuf),
}

/// A limit of processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// The soft limit; `u64::MAX` for none.
    pub soft: u64,
    /// The hard limit; `u64::MAX` for none.
    pub hard: u64,
}

/// The form of root file systems.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Snapshotter {
    /// Layers over each other, as files of the machine.
    #[default]
    Overlay,
    /// One read-only block image (EROFS).
    Erofs,
}

impl Snapshotter {
    /// As a configuration file of our own form has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Erofs => "erofs",
        }
    }
}

/// Ranges of the settings by which containerd lets anyone listen below 1024, and ping.
const UNPRIVILEGED: [(&str, &str, &str); 2] = [
    ("enable_unprivileged_ports", "net.ipv4.ip_unprivileged_port_start", "0"),
    ("enable_unprivileged_icmp", "net.ipv4.ping_group_range", "0 2147483647"),
];
/// Names of limits (`github.com/docker/go-units`, `ulimit.go`).
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];
/// More than a kernel knows of any of these.
const MOST: usize = 256;

/// Takes one value, or says what is wrong with it.
type Reader = fn(&mut Defaults, &Node) -> Result<(), String>;

/// Takes what `table` says, over what the handler has by now; a wrong value makes it unusable.
pub(crate) fn apply(handler: &mut Handler, table: &Table) {
    let readers: [(&str, Reader); 9] = [
        ("default_capabilities", capabilities),
        ("pids_limit", pids_limit),
        ("seccomp_profile", seccomp_profile),
        ("unset_seccomp_profile", unset_seccomp_profile),
        ("apparmor_profile", apparmor_profile),
        ("disable_apparmor", |d, node| flag(&mut d.disable_apparmor, node)),
        ("default_sysctls", sysctls),
        ("default_ulimits", ulimits),
        ("device_ownership_from_security_context", |d, node| {
            flag(&mut d.device_ownership, node)
        }),
    ];
    for (key, read) in readers {
        let Some(node) = table.get(key) else { continue };
        // An empty list of capabilities asks for none; all else that is empty asks for nothing.
        if node.is_zero() && key != "default_capabilities" {
            continue;
        }
        handler.origins.insert(key.to_owned(), node.origin());
        if let Err(reason) = read(&mut handler.defaults, node) {
            handler.refuse(format!("{key} {reason} ({})", node.key));
        }
    }
    for (key, name, value) in UNPRIVILEGED {
        if is_true(table, key)
            && let Some(node) = table.get(key)
        {
            handler.origins.insert("default_sysctls".to_owned(), node.origin());
            handler.defaults.sysctls.insert(name.to_owned(), value.to_owned());
        }
    }
}

/// Takes the form of root file systems, by containerd's names or ours.
pub(crate) fn snapshotter(handler: &mut Handler, table: &Table) {
    let Some((node, name)) = text(table, "snapshotter") else {
        return;
    };
    handler.origins.insert("snapshotter".to_owned(), node.origin());
    match name {
        "overlay" | "overlayfs" => handler.defaults.snapshotter = Snapshotter::Overlay,
        "erofs" => handler.defaults.snapshotter = Snapshotter::Erofs,
        other => handler.refuse(format!(
            "snapshotter = {other:?} ({}) is not one that there is here; write overlay or erofs, in containerd's file overlayfs",
            node.key
        )),
    }
}

fn flag(into: &mut bool, node: &Node) -> Result<(), String> {
    *into = node.flag() == Some(true);
    Ok(())
}

fn items(node: &Node) -> Result<Vec<&str>, String> {
    let items: Vec<&str> = node.texts().map(|(_, text)| text).collect();
    if items.len() > MOST {
        return Err(format!("has {} entries and {MOST} are the most; remove some", items.len()));
    }
    Ok(items)
}

fn capabilities(defaults: &mut Defaults, node: &Node) -> Result<(), String> {
    let mut all = Vec::new();
    for text in items(node)? {
        let name = text.to_ascii_uppercase();
        let name = name.strip_prefix("CAP_").unwrap_or(&name);
        let is_name = !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        if !is_name {
            return Err(format!("names {text:?}, which is no capability; write names such as CHOWN"));
        }
        all.push(name.to_owned());
    }
    all.sort();
    all.dedup();
    defaults.capabilities = Some(all);
    Ok(())
}

/// Zero and less mean no limit, as CRI-O has it.
fn pids_limit(defaults: &mut Defaults, node: &Node) -> Result<(), String> {
    defaults.pids_limit = node.int().filter(|n| *n > 0);
    Ok(())
}

fn seccomp_profile(defaults: &mut Defaults, node: &Node) -> Result<(), String> {
    let path = absolute(node.text().unwrap_or_default()).map_err(|reason| format!("= {reason}"))?;
    defaults.seccomp_profile = Some(path);
    Ok(())
}

/// containerd's values (`internal/cri/server/container_create_linux.go`).
fn unset_seccomp_profile(defaults: &mut Defaults, node: &Node) -> Result<(), String> {
    let text = node.text().unwrap_or_default();
    defaults.unset_seccomp_profile = match text {
        "unconfined" => None,
        "runtime/default" | "docker/default" => Some(UnsetSeccomp::RuntimeDefault),
        _ => {
            let file = text
                .strip_prefix("localhost/")
                .ok_or_else(|| format!("= {text:?} is none of unconfined, runtime/default and localhost//PATH"))?;
            let path = absolute(file).map_err(|reason| format!("= localhost/: {reason}"))?;
            Some(UnsetSeccomp::Localhost(path))
        }
    };
    Ok(())
}

fn apparmor_profile(defaults: &mut Defaults, node: &Node) -> Result<(), String> {
    let name = node.text().unwrap_or_default();
    if name.len() > 4095 || name.trim() != name || name.chars().any(char::is_control) {
        return Err("is no profile's name; write it without blanks around it".to_owned());
    }
    defaults.apparmor_profile = Some(name.to_owned());
    Ok(())
}

fn sysctls(defaults: &mut Defaults, node: &Node) -> Result<(), String> {
    for text in items(node)? {
        let wrong = || format!("has {text:?}, which is not NAME=VALUE");
        let (name, value) = text.split_once('=').ok_or_else(wrong)?;
        let name = name.trim().replace('/', ".");
        let is_part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        if name.len() > 253 || !name.contains('.') || !name.split('.').all(is_part) || value.chars().any(char::is_control) {
            return Err(wrong());
        }
        defaults.sysctls.insert(name, value.trim().to_owned());
    }
    Ok(())
}

fn ulimits(defaults: &mut Defaults, node: &Node) -> Result<(), String> {
    for text in items(node)? {
        let wrong = || format!("has {text:?}, which is not NAME=SOFT:HARD with a name such as nofile");
        let (name, limits) = text.split_once('=').ok_or_else(wrong)?;
        if !ULIMITS.contains(&name) {
            return Err(wrong());
        }
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        let number = |text: &str| match text {
            "-1" => Some(u64::MAX),
            _ => text.parse::<u64>().ok(),
        };
        let (Some(soft), Some(hard)) = (number(soft), number(hard)) else {
            return Err(wrong());
        };
        if soft > hard {
            return Err(format!("has {text:?}, whose soft limit is above the hard one"));
        }
        defaults.ulimits.insert(name.to_owned(), Ulimit { soft, hard });
    }
    Ok(())
}

impl Defaults {
    /// The keys and values as TOML, of what is not as it is without a configuration.
    pub(crate) fn rows(&self) -> Vec<(&'static str, String)> {
        let list = |texts: Vec<String>| {
            let quoted: Vec<String> = texts.iter().map(|t| quote(t)).collect();
            format!("[{}]", quoted.join(", "))
        };
        let limit = |n: u64| if n == u64::MAX { "-1".to_owned() } else { n.to_string() };
        let ulimit = |(name, l): (&String, &Ulimit)| format!("{name}={}:{}", limit(l.soft), limit(l.hard));
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        let unset = self.unset_seccomp_profile.as_ref().map(|profile| match profile {
            UnsetSeccomp::RuntimeDefault => "runtime/default".to_owned(),
            UnsetSeccomp::Localhost(file) => format!("localhost/{}", path(file)),
        });
        let is_true = |is: bool| is.then(|| "true".to_owned());
        let rows = [
            ("default_capabilities", self.capabilities.clone().map(list)),
            ("pids_limit", self.pids_limit.map(|n| n.to_string())),
            ("seccomp_profile", self.seccomp_profile.as_ref().map(|p| quote(&path(p)))),
            ("unset_seccomp_profile", unset.map(|u| quote(&u))),
            ("apparmor_profile", self.apparmor_profile.as_deref().map(quote)),
            ("disable_apparmor", is_true(self.disable_apparmor)),
            (
                "default_sysctls",
                some(self.sysctls.iter().map(|(n, v)| format!("{n}={v}")).collect()).map(list),
            ),
            ("default_ulimits", some(self.ulimits.iter().map(ulimit).collect()).map(list)),
            ("device_ownership_from_security_context", is_true(self.device_ownership)),
            (
                "snapshotter",
                (self.snapshotter != Snapshotter::Overlay).then(|| quote(self.snapshotter.as_str())),
            ),
        ];
        rows.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }
}

fn some(list: Vec<String>) -> Option<Vec<String>> {
    (!list.is_empty()).then_some(list)
}

fn quote(text: &str) -> String {
    toml_edit::Value::from(crate::place::one_line(text)).to_string()
}
