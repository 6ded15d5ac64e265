//! Configurations of networks: a list of plugins (`*.conflist`) or, before 1.0.0, one plugin
//! (`*.conf`, `*.json`), as section 1 of the specification and libcni's `conf.go` have them.

use crate::version::Version;
use crate::{Error, Result};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// What reading gives, or what is wrong with the text: the end of a sentence.
pub type Read<T> = std::result::Result<T, String>;

/// What is read of one file at most, bytes.
pub const MAX_FILE: usize = 1 << 20;
/// Plugins of one list at most.
pub const MAX_PLUGINS: usize = 64;
/// Files of one directory at most.
const MAX_FILES: usize = 1024;

/// A network: plugins that are called one after another.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkList {
    /// Its name: letters, digits, `_`, `.`, `-`.
    pub name: String,
    /// The versions that it may be used in and that are known here, the oldest first; never empty.
    pub versions: Vec<Version>,
    /// CHECK is not to be called.
    pub disable_check: bool,
    /// GC is not to be called.
    pub disable_gc: bool,
    /// Plugins come from this file alone, not from the folder of the network's name beside it.
    pub only_inlined: bool,
    /// Plugins, in the order of ADD.
    pub plugins: Vec<PluginConfig>,
    /// The whole as JSON, for the cache: all plugins in it.
    pub(crate) bytes: Vec<u8>,
}

/// One plugin of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginConfig {
    /// Name of its executable.
    pub kind: String,
    /// What it says that it can do.
    pub capabilities: BTreeSet<String>,
    /// Everything, for its standard input.
    pub(crate) fields: Map<String, Value>,
}

impl NetworkList {
    /// Reads a list. Plugins that stand in files of their own are not looked for: see [`load`].
    pub fn parse_list(bytes: &[u8]) -> Read<Self> {
        let fields = object(bytes)?;
        let name = name_of(&fields)?;
        let versions = versions_of(&fields)?;
        let only_inlined = switch(&fields, "loadOnlyInlinedPlugins")?;
        let plugins = match fields.get("plugins") {
            None if only_inlined => return Err("loadOnlyInlinedPlugins is true, and there is no field plugins".into()),
            None => Vec::new(),
            Some(Value::Array(list)) if list.is_empty() => return Err("its list of plugins is empty".into()),
            Some(Value::Array(list)) if list.len() > MAX_PLUGINS => return Err(format!("it has more than {MAX_PLUGINS} plugins")),
            Some(Value::Array(list)) => list
                .iter()
                .enumerate()
                .map(|(at, one)| PluginConfig::read(one.clone()).map_err(|e| format!("plugins[{at}]: {e}")))
                .collect::<Read<_>>()?,
            Some(_) => return Err("its field plugins is no list".into()),
        };
        let (disable_check, disable_gc) = (switch(&fields, "disableCheck")?, switch(&fields, "disableGC")?);
        Ok(Self {
            name,
            versions,
            disable_check,
            disable_gc,
            only_inlined,
            plugins,
            bytes: bytes.to_vec(),
        })
    }

    /// Reads one plugin's configuration as a list of one.
    pub fn parse_single(bytes: &[u8]) -> Read<Self> {
        let fields = object(bytes)?;
        if fields.contains_key("plugins") && !fields.contains_key("type") {
            return Err("it is a list of plugins: name the file .conflist".into());
        }
        let name = name_of(&fields)?;
        let versions = versions_of(&fields)?;
        let plugin = PluginConfig::read(Value::Object(fields))?;
        let mut list = Self {
            name,
            versions,
            disable_check: false,
            disable_gc: false,
            only_inlined: true,
            plugins: vec![plugin],
            bytes: Vec::new(),
        };
        list.rewrite();
        Ok(list)
    }

    /// The same in one version only.
    pub(crate) fn pinned(&self, version: Version) -> Self {
        let mut pinned = self.clone();
        if self.versions != [version] {
            pinned.versions = vec![version];
            pinned.rewrite();
        }
        pinned
    }

    /// Makes the JSON anew out of the parts, all plugins inlined.
    fn rewrite(&mut self) {
        let versions: Vec<Value> = self.versions.iter().map(|v| v.as_str().into()).collect();
        let newest = self.versions.last().copied().unwrap_or(Version::V0_1_0);
        let mut fields = Map::new();
        fields.insert("cniVersion".into(), newest.as_str().into());
        if versions.len() > 1 {
            fields.insert("cniVersions".into(), versions.into());
        }
        fields.insert("name".into(), self.name.clone().into());
        for (key, on) in [("disableCheck", self.disable_check), ("disableGC", self.disable_gc)] {
            if on {
                fields.insert(key.into(), true.into());
            }
        }
        fields.insert("loadOnlyInlinedPlugins".into(), true.into());
        let plugins: Vec<Value> = self.plugins.iter().map(|p| Value::Object(p.fields.clone())).collect();
        fields.insert("plugins".into(), plugins.into());
        self.bytes = Value::Object(fields).to_string().into_bytes();
    }
}

impl PluginConfig {
    fn read(value: Value) -> Read<Self> {
        let Value::Object(fields) = value else {
            return Err("it is no object".into());
        };
        let kind = match fields.get("type") {
            Some(Value::String(kind)) => kind.clone(),
            Some(_) => return Err("its field type is no text".into()),
            None => return Err("it has no field type, which names the plugin".into()),
        };
        if !is_file_name(&kind) {
            return Err(format!("its type {:?} is no file name", cut(&kind)));
        }
        let capabilities = match fields.get("capabilities") {
            None | Some(Value::Null) => BTreeSet::new(),
            Some(Value::Object(map)) => {
                let mut on = BTreeSet::new();
                for (name, value) in map {
                    match value {
                        Value::Bool(true) => drop(on.insert(name.clone())),
                        Value::Bool(false) => {}
                        _ => return Err(format!("its capability {:?} is neither true nor false", cut(name))),
                    }
                }
                on
            }
            Some(_) => return Err("its field capabilities is no object".into()),
        };
        Ok(Self {
            kind,
            capabilities,
            fields,
        })
    }
}

/// The network of `directory`: the first by name of the files that end in `.conflist`, `.conf` or
/// `.json`, with its path; `None` where there is no such file or directory. A first file that
/// cannot be used is an error, as in containerd: the next one is not what was meant.
pub fn load(directory: &Path) -> Result<Option<(PathBuf, NetworkList)>> {
    let Some(path) = files(directory, &["conflist", "conf", "json"])?.into_iter().next() else {
        return Ok(None);
    };
    let place = || path.display().to_string();
    let bytes = read(&path)?;
    let parsed = match path.extension() {
        Some(e) if e == "conflist" => NetworkList::parse_list(&bytes),
        _ => NetworkList::parse_single(&bytes),
    };
    let mut list = parsed.map_err(|e| Error::config(place(), e))?;
    if !list.only_inlined {
        // `directory/<name>/*.conf`; the name has no slash and does not begin with a dot.
        let more = files(&directory.join(&list.name), &["conf"])?;
        if list.plugins.len() + more.len() > MAX_PLUGINS {
            return Err(Error::config(place(), format!("it has more than {MAX_PLUGINS} plugins")));
        }
        for file in &more {
            let fields = object(&read(file)?).and_then(|f| PluginConfig::read(Value::Object(f)));
            list.plugins.push(fields.map_err(|e| Error::config(file.display().to_string(), e))?);
        }
        if !more.is_empty() {
            list.rewrite();
        }
    }
    if list.plugins.is_empty() {
        return Err(Error::config(
            place(),
            "it has no plugins, neither in it nor in a folder of the network's name",
        ));
    }
    Ok(Some((path, list)))
}

/// Files of a directory with one of the extensions, by name; none where there is no directory.
fn files(directory: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let fail = |source| Error::Path {
        action: "list",
        path: directory.to_owned(),
        source,
    };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(e) => return Err(fail(e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(fail)?.path();
        if found.len() == MAX_FILES {
            return Err(Error::config(
                directory.display().to_string(),
                format!("it holds more than {MAX_FILES} files"),
            ));
        }
        let wanted = path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x));
        if wanted && !path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    Ok(cofferdam_host::files::read_bounded(path, MAX_FILE as u64)?)
}

fn object(bytes: &[u8]) -> Read<Map<String, Value>> {
    if bytes.len() > MAX_FILE {
        return Err(format!("it is larger than {MAX_FILE} bytes"));
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err("it is no JSON object".into()),
        Err(e) => Err(format!("it is no JSON: {e}")),
    }
}

fn name_of(fields: &Map<String, Value>) -> Read<String> {
    match fields.get("name") {
        Some(Value::String(name)) if is_name(name) => Ok(name.clone()),
        Some(Value::String(name)) => Err(format!(
            "its name {:?} must begin with a letter or digit and go on with letters, digits, '_', '.' and '-'",
            cut(name)
        )),
        Some(_) => Err("its field name is no text".into()),
        None => Err("it has no field name".into()),
    }
}

/// The versions of `cniVersion` and `cniVersions` that are known here.
fn versions_of(fields: &Map<String, Value>) -> Read<Vec<Version>> {
    let mut texts = Vec::new();
    match fields.get("cniVersion") {
        None => {}
        Some(Value::String(text)) => texts.push(text.as_str()),
        Some(_) => return Err("its field cniVersion is no text".into()),
    }
    match fields.get("cniVersions") {
        None => {}
        Some(Value::Array(list)) if list.len() <= MAX_PLUGINS => {
            for one in list {
                texts.push(one.as_str().ok_or("its field cniVersions has an entry that is no text")?);
            }
        }
        Some(_) => return Err("its field cniVersions is no list of versions".into()),
    }
    if texts.is_empty() {
        return Ok(vec![Version::V0_1_0]);
    }
    let known: BTreeSet<Version> = texts.iter().filter_map(|t| Version::parse(t)).collect();
    if known.is_empty() {
        let shown = cut(&texts.join(", "));
        return Err(format!(
            "its cniVersion {shown:?} is none that is known here: {} to {}",
            Version::V0_1_0,
            Version::NEWEST
        ));
    }
    Ok(known.into_iter().collect())
}

/// libcni takes texts, too.
fn switch(fields: &Map<String, Value>, key: &'static str) -> Read<bool> {
    match fields.get(key) {
        None => Ok(false),
        Some(Value::Bool(on)) => Ok(*on),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(_) => Err(format!("its field {key} is neither true nor false")),
    }
}

/// What libcni takes as a network's name and a container's id (`pkg/utils/utils.go`).
pub(crate) fn is_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    text.len() <= 128 && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric) && text.bytes().all(inner)
}

fn is_file_name(text: &str) -> bool {
    !matches!(text, "" | "." | "..") && text.len() <= 255 && !text.contains(['/', '\0']) && !text.contains(char::is_control)
}

pub(crate) fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}
