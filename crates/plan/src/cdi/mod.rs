//! Devices by name: the Container Device Interface (CNCF, `cdi.md` and `specs-go/config.go` of
//! container-device-interface), versions 0.3.0 to 1.0.0.
//!
//! [`parse`] reads one file, [`Registry`] holds all files of a machine and finds devices in them, and
//! [`apply`] does to a container what they say.

mod apply;
mod file;
mod names;

pub use apply::apply;
pub use file::{DeviceNode, Edits, MAX_FILE, Mount, SpecFile, parse};
pub use names::{is_qualified, parse_kind};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where files are looked for; those of a later directory win.
pub const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/run/cdi"];

/// All files of a machine.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    files: Vec<SpecFile>,
    /// By qualified name: each file that has it, as (priority, index of the file).
    devices: BTreeMap<String, Vec<(usize, usize)>>,
    broken: Vec<(PathBuf, String)>,
}

impl Registry {
    /// Of files in the order of [`DIRECTORIES`]: the directory's place in that order, the path, and
    /// what is in the file or why it could not be read. A file that is wrong takes no other with it.
    pub fn new(files: impl IntoIterator<Item = (usize, PathBuf, Result<Vec<u8>, String>)>) -> Self {
        let mut registry = Self::default();
        for (priority, path, bytes) in files {
            match bytes.and_then(|bytes| parse(&bytes)) {
                Ok(file) => registry.add(priority, file),
                Err(why) => registry.broken.push((path, why)),
            }
        }
        registry
    }

    fn add(&mut self, priority: usize, file: SpecFile) {
        let at = self.files.len();
        for name in file.devices.keys() {
            self.devices
                .entry(format!("{}={name}", file.kind))
                .or_default()
                .push((priority, at));
        }
        self.files.push(file);
    }

    /// Files that could not be used, and why.
    pub fn broken(&self) -> &[(PathBuf, String)] {
        &self.broken
    }

    /// The devices by their kind, `vendor/class` to names, one name a device: a file may describe one
    /// device under several names (an index and a UUID), which then do the same. `all` stands for the
    /// others and is not among them, nor is what no single file has.
    pub fn kinds(&self) -> BTreeMap<String, Vec<String>> {
        let mut kinds: BTreeMap<String, Vec<(String, &Edits)>> = BTreeMap::new();
        for full in self.devices.keys() {
            let Some((kind, name)) = full.rsplit_once('=').filter(|(_, name)| *name != "all") else { continue };
            let Some((_, edits)) = self.find(full) else { continue };
            let known = kinds.entry(kind.to_owned()).or_default();
            let same = |(_, other): &(String, &Edits)| !edits.device_nodes.is_empty() && other.device_nodes == edits.device_nodes;
            if !known.iter().any(same) {
                known.push((name.to_owned(), edits));
            }
        }
        kinds.into_iter().map(|(kind, names)| (kind, names.into_iter().map(|(name, _)| name).collect())).collect()
    }

    /// What devices do to a container, in the order of `names`; what a file does for all of its devices
    /// comes before its first. A name that cannot be found is an error in containerd's words, with what
    /// may be the reason.
    pub fn resolve(&self, names: &[String]) -> Result<Edits, String> {
        let (mut all, mut seen, mut missing) = (Edits::default(), Vec::new(), Vec::new());
        for name in names {
            let Some((at, device)) = self.find(name) else {
                missing.push(name.as_str());
                continue;
            };
            let file = &self.files[at];
            if !seen.contains(&at) {
                seen.push(at);
                all.extend(&file.edits);
            }
            all.extend(device);
        }
        if missing.is_empty() {
            Ok(all)
        } else {
            Err(self.unresolvable(&missing))
        }
    }

    /// The device of the latest directory; none where two files of that one have it.
    fn find(&self, name: &str) -> Option<(usize, &Edits)> {
        let holders = self.devices.get(name)?;
        let best = holders.iter().map(|(priority, _)| *priority).max()?;
        let mut of_best = holders.iter().filter(|(priority, _)| *priority == best);
        let (Some((_, at)), None) = (of_best.next(), of_best.next()) else {
            return None;
        };
        let file = &self.files[*at];
        let device = file.devices.get(name.rsplit_once('=')?.1)?;
        Some((*at, device))
    }

    fn unresolvable(&self, names: &[&str]) -> String {
        let mut text = format!("unresolvable CDI devices {}", names.join(", "));
        if let Some(name) = names.iter().find(|n| self.devices.contains_key(**n)) {
            text += &format!("; more than one file has {name}, leave one");
        } else if let Some(name) = names.iter().find(|n| !is_qualified(n)) {
            text += &format!("; {name:?} is not of the form vendor/class=name");
        } else if let Some((path, why)) = self.broken.first() {
            text += &format!("; {} {why}", path.display());
        } else {
            text += &format!("; no file in {} has them", DIRECTORIES.join(" or "));
        }
        text
    }
}

/// Whether a file of one of the directories is a CDI file, by its name.
pub fn is_file_name(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "json" || e == "yaml")
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod kinds_tests {
    use super::*;

    #[test]
    fn a_device_of_several_names_is_one() {
        let file = |devices: &str| format!(r#"{{"cdiVersion":"0.6.0","kind":"nvidia.com/gpu","devices":[{devices}]}}"#);
        let device = |name: &str, path: &str| format!(r#"{{"name":"{name}","containerEdits":{{"deviceNodes":[{{"path":"{path}"}}]}}}}"#);
        let all = [
            device("0", "/dev/nvidia0"),
            device("1", "/dev/nvidia1"),
            device("GPU-uuid", "/dev/nvidia0"),
            device("all", "/dev/nvidia0"),
        ];
        let registry = Registry::new([(0, "/etc/cdi/n.json".into(), Ok(file(&all.join(",")).into_bytes()))]);
        assert_eq!(registry.kinds(), BTreeMap::from([("nvidia.com/gpu".to_owned(), vec!["0".to_owned(), "1".to_owned()])]));
    }
}
