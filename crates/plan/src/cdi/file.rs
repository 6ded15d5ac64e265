//! One CDI file, JSON or YAML.

use super::names::{is_device, parse_kind};
use crate::spec::Hook;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Greatest size of a file, bytes.
pub const MAX_FILE: u64 = 4 << 20;
/// Most devices of a file, and most entries of each list of edits.
const MAX_ENTRIES: usize = 4096;
/// Longest text that is taken from a file, bytes.
const MAX_TEXT: usize = 8192;
/// Moments of `config.md`, "POSIX-platform Hooks".
const MOMENTS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

/// A file that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct SpecFile {
    /// `vendor/class`.
    pub kind: String,
    /// What is done for any device of the file.
    pub edits: Edits,
    /// By device.
    pub devices: BTreeMap<String, Edits>,
}

/// What is done to a container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Edits {
    /// Environment.
    pub env: Vec<(String, String)>,
    /// Device files.
    pub device_nodes: Vec<DeviceNode>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Programs.
    pub hooks: Vec<Hook>,
    /// Additional groups.
    pub gids: Vec<u32>,
}

impl Edits {
    pub(super) fn extend(&mut self, other: &Edits) {
        self.env.extend(other.env.iter().cloned());
        self.device_nodes.extend(other.device_nodes.iter().cloned());
        self.mounts.extend(other.mounts.iter().cloned());
        self.hooks.extend(other.hooks.iter().cloned());
        self.gids.extend(other.gids.iter().copied());
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A device file. What is not given is that of the machine's.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceNode {
    /// Path in the container.
    pub path: String,
    /// Path on the machine, where it is another.
    pub host_path: Option<String>,
    /// `b`, `c`, `u` or `p`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Major number.
    pub major: Option<u32>,
    /// Minor number.
    pub minor: Option<u32>,
    /// Permissions of the file.
    pub file_mode: Option<u32>,
    /// Of `r`, `w`, `m`; all where absent, nothing for `none`.
    pub permissions: Option<String>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
}

/// A mount.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mount {
    /// Path on the machine.
    pub host_path: String,
    /// Path in the container.
    pub container_path: String,
    /// Options.
    #[serde(default)]
    pub options: Vec<String>,
    /// Type; a bind where absent.
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawFile {
    cdi_version: String,
    kind: String,
    #[serde(default, rename = "annotations")]
    _annotations: BTreeMap<String, String>,
    #[serde(default)]
    devices: Vec<RawDevice>,
    #[serde(default)]
    container_edits: RawEdits,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawDevice {
    name: String,
    #[serde(default, rename = "annotations")]
    _annotations: BTreeMap<String, String>,
    #[serde(default)]
    container_edits: RawEdits,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawEdits {
    env: Option<Vec<String>>,
    device_nodes: Option<Vec<DeviceNode>>,
    mounts: Option<Vec<Mount>>,
    hooks: Option<Vec<RawHook>>,
    #[serde(alias = "additionalGIDs")]
    additional_gids: Option<Vec<u32>>,
    intel_rdt: Option<serde_json::Value>,
    net_devices: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawHook {
    hook_name: String,
    path: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<String>,
    timeout: Option<u32>,
}

/// Reads a file of at most [`MAX_FILE`] bytes. An error is the rest of a sentence that begins with the
/// file's path. What cannot be honoured (`intelRdt`, `netDevices`) is an error.
pub fn parse(bytes: &[u8]) -> Result<SpecFile, String> {
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("is larger than {MAX_FILE} bytes"));
    }
    let raw = read(bytes)?;
    check_version(&raw.cdi_version)?;
    if parse_kind(&raw.kind).is_none() {
        return Err(format!("has the kind {:?}, which is not of the form vendor/class", clip(&raw.kind)));
    }
    if raw.devices.is_empty() || raw.devices.len() > MAX_ENTRIES {
        return Err(format!("has {} devices; 1 to {MAX_ENTRIES} are allowed", raw.devices.len()));
    }
    let mut file = SpecFile {
        kind: raw.kind,
        edits: raw.container_edits.check("containerEdits")?,
        devices: BTreeMap::new(),
    };
    for device in raw.devices {
        let name = device.name;
        if !is_device(&name) {
            return Err(format!("has the device {:?}, whose name is not one", clip(&name)));
        }
        let edits = device.container_edits.check(&format!("device {name}"))?;
        if edits.is_empty() {
            return Err(format!("has the device {name}, which does nothing to a container"));
        }
        if file.devices.insert(name.clone(), edits).is_some() {
            return Err(format!("has the device {name} twice"));
        }
    }
    Ok(file)
}

/// JSON where it begins as JSON does; its parser bounds the depth itself, as YAML's does with a budget.
fn read(bytes: &[u8]) -> Result<RawFile, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| format!("is not a CDI file: {e}"))?;
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|e| format!("is not a CDI file: {}", e.to_string().replace(char::is_control, "?")));
    }
    serde_saphyr::from_str(text).map_err(|e| {
        let told = e.to_string();
        format!("is not a CDI file: {}", clip(told.lines().next().unwrap_or_default()).replace(char::is_control, "?"))
    })
}

fn check_version(version: &str) -> Result<(), String> {
    const KNOWN: [&str; 7] = ["0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0"];
    if KNOWN.contains(&version.trim_start_matches('v')) {
        return Ok(());
    }
    Err(format!(
        "has cdiVersion {:?}; {} to {} are understood",
        clip(version),
        KNOWN[0],
        KNOWN[KNOWN.len() - 1]
    ))
}

impl RawEdits {
    fn check(self, place: &str) -> Result<Edits, String> {
        for (name, given) in [("intelRdt", &self.intel_rdt), ("netDevices", &self.net_devices)] {
            if given.is_some() {
                return Err(format!("uses {name} at {place}, which is not supported"));
            }
        }
        let edits = Edits {
            env: self
                .env
                .unwrap_or_default()
                .iter()
                .map(|e| variable(e, place))
                .collect::<Result<_, _>>()?,
            device_nodes: self.device_nodes.unwrap_or_default(),
            mounts: self.mounts.unwrap_or_default(),
            hooks: self
                .hooks
                .unwrap_or_default()
                .into_iter()
                .map(|h| h.check(place))
                .collect::<Result<_, _>>()?,
            gids: self.additional_gids.unwrap_or_default(),
        };
        let longest = [
            edits.env.len(),
            edits.device_nodes.len(),
            edits.mounts.len(),
            edits.hooks.len(),
            edits.gids.len(),
        ];
        if longest.into_iter().any(|n| n > MAX_ENTRIES) {
            return Err(format!("has more than {MAX_ENTRIES} entries in one list at {place}"));
        }
        edits.device_nodes.iter().try_for_each(|d| d.check(place))?;
        edits.mounts.iter().try_for_each(|m| m.check(place))?;
        Ok(edits)
    }
}

fn variable(entry: &str, place: &str) -> Result<(String, String), String> {
    let parts = entry.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = parts.ok_or_else(|| format!("has the variable {:?} at {place}, which is not NAME=VALUE", clip(entry)))?;
    if entry.len() > MAX_TEXT || entry.contains('\0') {
        return Err(format!("has a variable {:?} at {place} that is too long or not a text", clip(name)));
    }
    Ok((name.to_owned(), value.to_owned()))
}

impl DeviceNode {
    fn check(&self, place: &str) -> Result<(), String> {
        path(&self.path, place)?;
        self.host_path.as_deref().map_or(Ok(()), |p| path(p, place))?;
        if let Some(kind) = self.kind.as_deref().filter(|k| !k.is_empty() && !["b", "c", "u", "p"].contains(k)) {
            return Err(format!(
                "has the type {:?} for {} at {place}; it is b, c, u or p",
                clip(kind),
                self.path
            ));
        }
        let access = self.permissions.as_deref().unwrap_or_default();
        if access != "none" && access.chars().any(|c| !"rwm".contains(c)) {
            return Err(format!(
                "has the permissions {:?} for {} at {place}; they are of r, w and m, or none",
                clip(access),
                self.path
            ));
        }
        Ok(())
    }
}

impl Mount {
    fn check(&self, place: &str) -> Result<(), String> {
        path(&self.container_path, place)?;
        // A source that is no path (tmpfs) has a type.
        if self.kind.as_deref().is_none_or(|k| k.is_empty() || k == "bind") {
            path(&self.host_path, place)
        } else {
            Ok(())
        }
    }
}

impl RawHook {
    fn check(self, place: &str) -> Result<Hook, String> {
        if !MOMENTS.contains(&self.hook_name.as_str()) {
            return Err(format!(
                "has the hook {:?} at {place}; it is one of {}",
                clip(&self.hook_name),
                MOMENTS.join(", ")
            ));
        }
        path(&self.path, place)?;
        for entry in &self.env {
            variable(entry, place)?;
        }
        Ok(Hook {
            moment: self.hook_name,
            path: self.path,
            args: self.args,
            env: self.env,
            timeout: self.timeout,
        })
    }
}

fn path(text: &str, place: &str) -> Result<(), String> {
    let plain = text.starts_with('/') && text.len() <= MAX_TEXT && !text.contains('\0') && !text.split('/').any(|part| part == "..");
    if plain {
        Ok(())
    } else {
        Err(format!(
            "has the path {:?} at {place}; it must be absolute, without \"..\"",
            clip(text)
        ))
    }
}

fn clip(text: &str) -> String {
    text.chars().take(200).collect()
}
