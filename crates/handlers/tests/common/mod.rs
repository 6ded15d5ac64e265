//! What the tests share: a machine of named texts.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::panic
)]

use cofferdam_handlers::{
    Driver, Files, Handler, Level, Loaded, OciHandler, Roots, Text, Wanted, load,
};
use cofferdam_model::HandlerName;
use std::path::{Path, PathBuf};

pub const OWN: &str = "/etc/cofferdam/config.toml";
pub const CONTAINERD: &str = "/etc/containerd/config.toml";
pub const CRIO: &str = "/etc/crio/crio.conf";

/// Loads until nothing is wanted, as a caller does it.
pub fn machine(texts: &[(&str, &str)]) -> Loaded {
    let mut files = Files::default();
    for _ in 0..20 {
        let loaded = load(&files, &Roots::default());
        if loaded.wanted.is_empty() {
            return loaded;
        }
        for wanted in loaded.wanted {
            match wanted {
                Wanted::File(path) => {
                    let found = texts.iter().find(|(name, _)| Path::new(name) == path);
                    files.texts.insert(
                        path,
                        found.map_or(Text::Absent, |(_, text)| Text::Found((*text).to_owned())),
                    );
                }
                Wanted::Folder(folder) => {
                    let inside = |(name, _): &(&str, &str)| {
                        let path = Path::new(name);
                        (path.parent() == Some(&folder))
                            .then(|| path.file_name().unwrap().to_string_lossy().into_owned())
                    };
                    files
                        .folders
                        .insert(folder.clone(), texts.iter().filter_map(inside).collect());
                }
            }
        }
    }
    panic!("wants more and more");
}

pub fn containerd(text: &str) -> Loaded {
    machine(&[(CONTAINERD, text)])
}

pub fn crio(text: &str) -> Loaded {
    machine(&[(CRIO, text)])
}

pub fn handler<'a>(loaded: &'a Loaded, name: &str) -> &'a Handler {
    let found = loaded.table.handlers.get(&HandlerName::new(name).unwrap());
    found.unwrap_or_else(|| panic!("no handler {name}: {:#?}", loaded))
}

pub fn oci<'a>(loaded: &'a Loaded, name: &str) -> &'a OciHandler {
    match &handler(loaded, name).driver {
        Driver::Oci(oci) => oci,
        other => panic!("{name} is {other:?}"),
    }
}

pub fn unusable<'a>(loaded: &'a Loaded, name: &str) -> &'a str {
    handler(loaded, name).unusable.as_deref().unwrap_or("")
}

/// `FILE:LINE` of one value.
pub fn origin(loaded: &Loaded, name: &str, key: &str) -> String {
    handler(loaded, name)
        .origins
        .get(key)
        .map_or("none".to_owned(), ToString::to_string)
}

pub fn default_of(loaded: &Loaded) -> String {
    loaded
        .table
        .default
        .as_ref()
        .map_or("none".to_owned(), |(name, origin)| {
            format!("{name} {origin}")
        })
}

pub fn untrusted_of(loaded: &Loaded) -> String {
    loaded
        .table
        .untrusted
        .as_ref()
        .map_or("none".to_owned(), |(name, origin)| {
            format!("{name} {origin}")
        })
}

pub fn says(loaded: &Loaded, level: Level) -> Vec<String> {
    loaded
        .table
        .warnings
        .iter()
        .filter(|w| w.level == level)
        .map(ToString::to_string)
        .collect()
}

pub fn warnings(loaded: &Loaded) -> Vec<String> {
    says(loaded, Level::Warning)
}

pub fn infos(loaded: &Loaded) -> Vec<String> {
    says(loaded, Level::Info)
}

pub fn errors(loaded: &Loaded) -> Vec<String> {
    loaded.errors.iter().map(ToString::to_string).collect()
}

pub fn path(text: &str) -> PathBuf {
    PathBuf::from(text)
}
