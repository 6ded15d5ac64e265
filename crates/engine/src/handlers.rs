//! From a configured handler to a definition that can be run: binaries found, drivers chosen. What
//! a name means is decided here once; a name that is not in the table is an error, never another
//! handler.

use cofferdam_handlers::{Binary, Defaults, Driver as Configured, Flavor, Handler, HandlerTable};
use cofferdam_model::cri::{Error, HandlerStatus, Result};
use cofferdam_runtimes::oci::{self, Oci};
use cofferdam_runtimes::runsc::Runsc;
use cofferdam_runtimes::Driver;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// How a handler runs pods; kept in each pod's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// `runc`, `crun`, `youki` or `runsc`: whose command line and habits.
    pub kind: Kind,
    /// Absolute path of the binary. No other is ever run.
    pub binary: PathBuf,
    /// State directory, where the configuration names one.
    pub root: Option<PathBuf>,
    /// Global flags.
    pub flags: Vec<String>,
    /// Privileged containers get no devices of the machine.
    pub privileged_without_host_devices: bool,
    /// What its pods get where they say nothing.
    #[serde(default)]
    pub defaults: Defaults,
}

/// Whose command line and habits a runtime has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// opencontainers/runc and what behaves like it.
    Runc,
    /// containers/crun.
    Crun,
    /// youki-dev/youki.
    Youki,
    /// gVisor.
    Runsc,
}

impl Definition {
    /// The driver that runs it.
    pub fn driver(&self) -> std::result::Result<Box<dyn Driver>, String> {
        let oci = |flavor| Oci { flavor, binary: self.binary.clone(), root: self.root.clone(), flags: self.flags.clone() };
        Ok(match self.kind {
            Kind::Runc => Box::new(oci(oci::Flavor::Runc)),
            Kind::Crun => Box::new(oci(oci::Flavor::Crun)),
            Kind::Youki => Box::new(oci(oci::Flavor::Youki)),
            Kind::Runsc => Box::new(Runsc { binary: self.binary.clone(), root: self.root.clone(), flags: self.flags.clone() }),
        })
    }
}

/// The handlers of this machine: each is a definition, or the reason why it cannot be one.
#[derive(Debug, Clone, Default)]
pub struct Table {
    default: Option<String>,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    /// No file names it: it is what every machine may have.
    built_in: bool,
    driver: &'static str,
    binary: PathBuf,
    definition: std::result::Result<Definition, String>,
}

impl Table {
    /// Finds the binaries of a merged configuration in `path` (as `$PATH` is written).
    pub fn new(configured: &HandlerTable, path: &str) -> Self {
        let entry = |handler: &Handler| {
            let (driver, binary) = match &handler.driver {
                Configured::Oci(oci) => ("oci", Some(oci.binary.clone())),
                Configured::Vm(vm) => ("vm", vm.binary.clone()),
                Configured::Shim(shim) => ("shim", Some(shim.binary.clone())),
                Configured::Unknown => ("-", None),
            };
            let binary = binary.map(|b| b.as_path().to_owned()).unwrap_or_default();
            Entry { built_in: handler.origin().place.is_none(), driver, binary, definition: define(handler, path) }
        };
        Self {
            default: configured.default.as_ref().map(|(name, _)| name.to_string()),
            entries: configured.handlers.iter().map(|(name, handler)| (name.to_string(), entry(handler))).collect(),
        }
    }

    /// What `name` means; `""` is the default handler. The error for an unknown name is containerd's
    /// own (`internal/cri/config`), as people search for it.
    pub fn resolve<'a>(&'a self, name: &'a str) -> Result<(&'a str, &'a Definition)> {
        let name = match (name, &self.default) {
            ("", Some(default)) => default.as_str(),
            ("", None) => return Err(Error::Handler("no default handler is configured; set default_handler".into())),
            (name, _) => name,
        };
        let entry = self.entries.get(name).ok_or_else(|| {
            let near: Vec<_> = self.names().filter(|name| self.is_wanted(name)).collect();
            Error::Handler(format!("no runtime for \"{name}\" is configured; configured are: {}", near.join(", ")))
        })?;
        match &entry.definition {
            Ok(definition) => Ok((name, definition)),
            Err(reason) => Err(Error::Handler(reason.clone())),
        }
    }

    /// A handler of this definition, in the place of one of its name.
    pub fn insert(&mut self, name: &str, definition: Definition) {
        let entry = Entry { built_in: false, driver: "oci", binary: definition.binary.clone(), definition: Ok(definition) };
        self.entries.insert(name.to_owned(), entry);
    }

    /// The handlers' names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Whether somebody wants this handler here: a file names it, or it is the default, or its binary is
    /// installed. Of the built-in ones, what is not there is missed by nobody.
    pub fn is_wanted(&self, name: &str) -> bool {
        let wanted = |entry: &Entry| !entry.built_in || entry.definition.is_ok();
        self.default.as_deref() == Some(name) || self.entries.get(name).is_some_and(wanted)
    }

    /// A handler's status before it is proved: an entry that cannot be run has its reason already.
    pub(crate) fn status(&self, name: &str) -> Option<HandlerStatus> {
        let entry = self.entries.get(name)?;
        Some(HandlerStatus {
            name: name.to_owned(),
            default: self.default.as_deref() == Some(name),
            binary: match &entry.definition {
                Ok(definition) => Some(definition.binary.clone()),
                Err(_) => Some(entry.binary.clone()).filter(|b| !b.as_os_str().is_empty()),
            },
            version: None,
            driver: entry.driver.to_owned(),
            unproved: entry.definition.as_ref().err().cloned(),
            features: BTreeMap::new(),
        })
    }
}

fn define(handler: &Handler, path: &str) -> std::result::Result<Definition, String> {
    if let Some(reason) = &handler.unusable {
        return Err(reason.clone());
    }
    let name = &handler.name;
    let Configured::Oci(oci) = &handler.driver else {
        return Err(format!("handler \"{name}\" needs a driver that is not built yet"));
    };
    let binary = match &oci.binary {
        Binary::Path(path) => path.clone(),
        Binary::Search(file) => {
            find(file, path).ok_or_else(|| format!("handler \"{name}\" needs {file}, which is not installed (looked in {path})"))?
        }
    };
    executable(&binary).map_err(|why| format!("handler \"{name}\" needs {}, which {why}", binary.display()))?;
    Ok(Definition {
        kind: match oci.flavor {
            Flavor::Runc => Kind::Runc,
            Flavor::Crun => Kind::Crun,
            Flavor::Youki => Kind::Youki,
            Flavor::Runsc => Kind::Runsc,
        },
        binary,
        root: oci.root.clone(),
        flags: oci.flag_args(),
        privileged_without_host_devices: handler.privileged_without_host_devices,
        defaults: handler.defaults.clone(),
    })
}

fn find(file: &str, path: &str) -> Option<PathBuf> {
    path.split(':').filter(|dir| dir.starts_with('/')).map(|dir| Path::new(dir).join(file)).find(|p| executable(p).is_ok())
}

fn executable(path: &Path) -> std::result::Result<(), &'static str> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => Ok(()),
        Ok(_) => Err("is not an executable file"),
        Err(_) => Err("does not exist"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_unknown_or_missing_handler_is_an_error_and_never_another_one() {
        let table = Table::new(&HandlerTable::built_in(), "/nonexistent");
        let unknown = table.resolve("kata").unwrap_err().to_string();
        assert!(unknown.starts_with("no runtime for \"kata\" is configured"), "{unknown}");
        let missing = table.resolve("runsc").unwrap_err().to_string();
        assert!(missing.contains("needs runsc, which is not installed"), "{missing}");
        assert!(table.resolve("").is_err(), "the default handler's binary is missing, and nothing replaces it");
    }

    #[test]
    fn a_built_in_handler_that_is_not_installed_is_missed_by_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let crun = dir.path().join("crun");
        std::fs::write(&crun, "").unwrap();
        std::fs::set_permissions(&crun, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut configured = HandlerTable::built_in();
        let (name, mut handler) = configured.handlers.iter().find(|(name, _)| name.as_str() == "youki").map(|(n, h)| (n.clone(), h.clone())).unwrap();
        let table = |configured: &HandlerTable| Table::new(configured, dir.path().to_str().unwrap());
        let wanted = |table: &Table| table.names().filter(|name| table.is_wanted(name)).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(wanted(&table(&configured)), ["crun", "runc"], "runc is the default, and missed");
        let unknown = table(&configured).resolve("kata").unwrap_err().to_string();
        assert!(unknown.ends_with("configured are: crun, runc"), "{unknown}");
        let place = cofferdam_handlers::Place { file: "/c.toml".into(), line: 1, column: 1 };
        handler.origins.insert("handler".into(), cofferdam_handlers::Origin { value: String::new(), place: Some(place) });
        configured.handlers.insert(name, handler);
        assert_eq!(wanted(&table(&configured)), ["crun", "runc", "youki"], "a file names it");
    }
}
