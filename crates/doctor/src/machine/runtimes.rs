//! Handlers and the binaries that they run.

use super::command::{LIMIT, output_of};
use super::golang::{Build, date};
use super::network::{find, is_program};
use super::{Sources, packages};
use crate::facts::{Handler, Runtime};
use cofferdam_handlers::{Binary, Driver};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Runtimes that are looked for even where no handler names them.
const USUAL: [&str; 4] = ["runc", "crun", "youki", "runsc"];
/// Most binaries that are asked for their version.
const MAX_BINARIES: usize = 32;
/// Most of a version's text that is read, bytes.
const MAX_VERSION: u64 = 4096;

/// Handlers of the configuration, with what the engine says of them.
pub(super) fn handlers(sources: &Sources<'_>) -> Vec<Handler> {
    let Some(table) = sources.table else {
        return sources.handlers.iter().map(of_status).collect();
    };
    let default = table.default.as_ref().map(|(name, _)| name);
    let mut all: Vec<Handler> = table
        .handlers
        .values()
        .map(|h| of_table(sources, h, default == Some(&h.name)))
        .collect();
    for status in sources.handlers {
        if let Some(handler) = all.iter_mut().find(|h| h.name == status.name) {
            handler.proved = Some(status.unproved.is_none());
            handler.trouble = status.unproved.clone().or(handler.trouble.take());
        }
    }
    all
}

fn of_status(status: &cofferdam_model::cri::HandlerStatus) -> Handler {
    Handler {
        name: status.name.clone(),
        default: status.default,
        configured: true,
        driver: status.driver.clone(),
        flavor: status.binary.as_deref().map(kind).unwrap_or_default(),
        binary: status.binary.clone(),
        flags: BTreeMap::new(),
        trouble: status.unproved.clone(),
        proved: Some(status.unproved.is_none()),
    }
}

fn of_table(sources: &Sources<'_>, handler: &cofferdam_handlers::Handler, default: bool) -> Handler {
    let name = &handler.name;
    let (driver, flavor, binary, flags) = match &handler.driver {
        Driver::Oci(oci) => ("oci", oci.flavor.to_string(), Some(&oci.binary), oci.flags.clone()),
        Driver::Vm(vm) => ("vm", String::new(), vm.binary.as_ref(), BTreeMap::new()),
        Driver::Shim(shim) => ("shim", String::new(), Some(&shim.binary), BTreeMap::new()),
        Driver::Unknown => ("-", String::new(), None, BTreeMap::new()),
    };
    let (binary, missing) = match binary {
        Some(Binary::Search(file)) => {
            let found = find(sources, file);
            let missing = found.is_none().then(|| {
                format!(
                    "handler \"{name}\" needs {file}, which is not installed (looked in {})",
                    sources.path
                )
            });
            (found, missing)
        }
        Some(Binary::Path(path)) => {
            let why = match sources.at(path) {
                at if !at.exists() => Some("does not exist"),
                at if !is_program(&at) => Some("is not an executable file"),
                _ => None,
            };
            (
                Some(path.clone()),
                why.map(|why| format!("handler \"{name}\" needs {}, which {why}", path.display())),
            )
        }
        None => (None, None),
    };
    Handler {
        name: name.to_string(),
        default,
        configured: handler.origin().place.is_some(),
        driver: driver.into(),
        flavor,
        binary,
        flags,
        trouble: handler.unusable.clone().or(missing),
        proved: None,
    }
}

/// Binaries that handlers name and those in `$PATH`, asked for their versions side by side.
pub(super) fn runtimes(sources: &Sources<'_>, handlers: &[Handler]) -> Vec<Runtime> {
    let named = handlers
        .iter()
        .filter(|h| h.driver == "oci")
        .filter_map(|h| Some((h.flavor.clone(), h.binary.clone()?)));
    let usual = USUAL.iter().filter_map(|name| Some(((*name).to_owned(), find(sources, name)?)));
    let mut all: BTreeMap<PathBuf, String> = BTreeMap::new();
    for (kind, path) in named.chain(usual).filter(|(_, path)| sources.at(path).is_file()) {
        all.entry(path).or_insert(kind);
    }
    let all: Vec<_> = all.into_iter().take(MAX_BINARIES).collect();
    std::thread::scope(|scope| {
        let asked: Vec<_> = all
            .iter()
            .map(|(path, kind)| scope.spawn(move || ask(sources, path, kind)))
            .collect();
        // A thread that could not go on tells nothing of its binary.
        asked.into_iter().filter_map(|thread| thread.join().ok()).collect()
    })
}

/// What a file's name says of its kind.
fn kind(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn ask(sources: &Sources<'_>, path: &Path, kind: &str) -> Runtime {
    let at = sources.at(path);
    let told = sources.commands.then(|| version(&at));
    let (version, error) = match told {
        Some(Ok(version)) => (Some(version), None),
        Some(Err(why)) => (None, Some(why)),
        None => (None, None),
    };
    let build = (kind == "runsc").then(|| Build::of(&at)).flatten();
    let printed = version.as_deref().and_then(date_in);
    Runtime {
        gvisor_date: if kind == "runsc" {
            printed.or(build.as_ref().and_then(Build::gvisor_date))
        } else {
            None
        },
        go: build.map(|b| b.go),
        repaired: if packaged(path) {
            packages::repaired(&sources.at("/usr/share/doc").join(kind))
        } else {
            Default::default()
        },
        kind: kind.to_owned(),
        path: path.to_owned(),
        version,
        error,
    }
}

/// Whether a file is where a distribution's packages put theirs.
fn packaged(path: &Path) -> bool {
    ["/usr/bin", "/usr/sbin", "/bin", "/sbin"]
        .iter()
        .any(|d| path.parent() == Some(Path::new(d)))
}

/// The lines that a runtime prints of itself, as one.
fn version(path: &Path) -> Result<String, String> {
    let text = output_of(path, &["--version"], MAX_VERSION, LIMIT)?;
    let lines: Vec<_> = text.lines().map(str::trim).filter(|l| !l.is_empty()).take(6).collect();
    if lines.is_empty() {
        Err("printed nothing".into())
    } else {
        Ok(crate::names::shown(&lines.join("; "), 300))
    }
}

/// gVisor's releases are named by their day: `release-20240401.0`, Debian's `0.0~20221219.0`.
fn date_in(version: &str) -> Option<u32> {
    let first = version.split(';').next()?;
    first.split(|c: char| !c.is_ascii_digit()).find_map(date)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_gvisor_are_days() {
        for (text, expected) in [
            ("runsc version release-20240401.0; spec: 1.1.0-rc.1", Some(20_240_401)),
            ("runsc version 0.0~20221219.0-2+b3", Some(20_221_219)),
            ("runsc version VERSION_MISSING; spec: 1.2.1", None),
        ] {
            assert_eq!(date_in(text), expected, "{text}");
        }
    }
}
