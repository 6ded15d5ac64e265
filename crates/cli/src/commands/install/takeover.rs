//! The configuration of the runtime that a node has now, read as it is.

use super::journal::{Prefix, Seen};
use super::kubelet;
use crate::settings::reading;
use anyhow::{Result, bail};
use cofferdam_handlers::{Beyond, Driver, Level, Loaded, Roots, Wanted};
use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};

const CONTAINERD: &str = "/etc/containerd/config.toml";
const CRIO: &str = "/etc/crio/crio.conf";
const CRIO_DROP_INS: &str = "/etc/crio/crio.conf.d";
/// Where CRI-O has its registries.
const REGISTRIES: &str = "/etc/containers/registries.conf";
/// A file that is there and says nothing.
const NO_FILE: &str = "/dev/null";
/// A folder that is never there.
const NO_FOLDER: &str = "/etc/cofferdam/.none.d";

/// Another runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Source {
    Containerd,
    Crio,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Containerd => "containerd",
            Self::Crio => "CRI-O",
        })
    }
}

/// Where to take configuration from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum From {
    /// What the kubelet uses now, else whichever is here
    #[default]
    Auto,
    Containerd,
    Crio,
    /// Nothing
    None,
}

/// A handler that is taken over.
#[derive(Debug, Serialize)]
pub(super) struct Taken {
    pub(super) name: String,
    pub(super) default: bool,
    pub(super) driver: &'static str,
    pub(super) binary: String,
    /// Where it is defined.
    pub(super) origin: String,
    /// Why no pod can start under it.
    pub(super) unusable: Option<String>,
}

/// What is taken over.
#[derive(Debug, Default)]
pub(super) struct Takeover {
    pub(super) from: Option<Source>,
    /// What our own configuration imports.
    pub(super) imports: Vec<PathBuf>,
    pub(super) beyond: Beyond,
    pub(super) handlers: Vec<Taken>,
    /// What is not honoured, one sentence each.
    pub(super) warnings: Vec<String>,
}

/// Decides from whom, and reads that.
pub(super) fn take(prefix: &Prefix, wanted: From) -> Result<Takeover> {
    let Some(from) = source(prefix, wanted)? else {
        return Ok(Takeover::default());
    };
    let (containerd, crio) = (from == Source::Containerd, from == Source::Crio);
    let place = |on: bool, path: &str| on.then(|| prefix.join(path));
    let roots = Roots {
        // An empty file, so that only theirs are read.
        own: NO_FILE.into(),
        own_drop_ins: prefix.join(NO_FOLDER),
        containerd: place(containerd, CONTAINERD),
        crio: place(crio, CRIO),
        crio_drop_ins: place(crio, CRIO_DROP_INS),
    };
    let loaded = reading::read_all(&roots);
    insist(&loaded)?;
    let imports = match from {
        Source::Containerd => vec![CONTAINERD.into()],
        Source::Crio => {
            let file = Some(CRIO.into()).filter(|_| prefix.join(CRIO).exists());
            let folder = Some(Path::new(CRIO_DROP_INS).join("*")).filter(|_| prefix.join(CRIO_DROP_INS).is_dir());
            file.into_iter().chain(folder).collect()
        }
    };
    let mut takeover = Takeover {
        from: Some(from),
        imports,
        handlers: handlers(prefix, &loaded),
        warnings: said(prefix, &loaded),
        beyond: beyond(&loaded)?,
    };
    takeover.warnings.append(&mut takeover.beyond.lost);
    if crio && prefix.join(REGISTRIES).exists() {
        takeover.warnings.push(format!(
            "{REGISTRIES} is not read: write mirrors as hosts.toml in /etc/cofferdam/certs.d"
        ));
    }
    Ok(takeover)
}

fn source(prefix: &Prefix, wanted: From) -> Result<Option<Source>> {
    let has_containerd = prefix.join(CONTAINERD).exists();
    let has_crio = prefix.join(CRIO).exists() || prefix.join(CRIO_DROP_INS).is_dir();
    let used = kubelet::endpoint(prefix)?.unwrap_or_default();
    Ok(match wanted {
        From::None => None,
        From::Containerd if !has_containerd => bail!("--from containerd: {CONTAINERD} is not there"),
        From::Crio if !has_crio => bail!("--from crio: neither {CRIO} nor {CRIO_DROP_INS} is there"),
        From::Containerd => Some(Source::Containerd),
        From::Crio => Some(Source::Crio),
        From::Auto if has_containerd && used.contains("containerd") => Some(Source::Containerd),
        From::Auto if has_crio && used.contains("crio") => Some(Source::Crio),
        From::Auto => match (has_containerd, has_crio) {
            (true, true) => bail!("containerd's and CRI-O's configuration are both here; choose with --from containerd or --from crio"),
            (true, false) => Some(Source::Containerd),
            (false, true) => Some(Source::Crio),
            (false, false) => None,
        },
    })
}

/// What a file that cannot be read would have said may have been stronger.
pub(super) fn insist(loaded: &Loaded) -> Result<()> {
    match loaded.errors.as_slice() {
        [] => Ok(()),
        all => bail!("{}", all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}

/// The handlers that stand in a file.
pub(super) fn handlers(prefix: &Prefix, loaded: &Loaded) -> Vec<Taken> {
    let table = &loaded.table;
    let default = table.default.as_ref().map(|(name, _)| name);
    let in_file = table.handlers.values().filter(|h| h.origin().place.is_some());
    in_file
        .map(|handler| {
            let (driver, binary) = match &handler.driver {
                Driver::Oci(oci) => ("oci", Some(&oci.binary)),
                Driver::Vm(vm) => ("vm", vm.binary.as_ref()),
                Driver::Shim(shim) => ("shim", Some(&shim.binary)),
                Driver::Unknown => ("-", None),
            };
            let place = handler
                .origin()
                .place
                .map(|p| format!("{}:{}", prefix.strip(&p.file).display(), p.line));
            Taken {
                name: handler.name.to_string(),
                default: default == Some(&handler.name),
                driver,
                binary: binary.map_or_else(|| "-".into(), |b| b.as_path().display().to_string()),
                origin: place.unwrap_or_default(),
                unusable: handler.unusable.as_deref().map(|reason| unprefixed(prefix, reason)),
            }
        })
        .collect()
}

pub(super) fn said(prefix: &Prefix, loaded: &Loaded) -> Vec<String> {
    let warnings = loaded.table.warnings.iter().filter(|w| w.level == Level::Warning);
    warnings.map(|w| unprefixed(prefix, &w.to_string())).collect()
}

/// A sentence as it will be said on the machine that the prefix becomes.
fn unprefixed(prefix: &Prefix, text: &str) -> String {
    if prefix.is_machine() {
        text.to_owned()
    } else {
        text.replace(&prefix.join("/").display().to_string(), "/")
    }
}

/// What the files say beyond handlers, in the order in which they were read.
fn beyond(loaded: &Loaded) -> Result<Beyond> {
    let mut all = Beyond::default();
    let files = loaded.watch.iter().filter_map(|wanted| match wanted {
        Wanted::File(path) => Some(path).filter(|path| *path != Path::new(NO_FILE)),
        Wanted::Folder(_) => None,
    });
    // What a main file imports, or has beside it, counts more than what it says itself.
    let (main, others): (Vec<_>, Vec<_>) =
        files.partition(|path| path.ends_with("containerd/config.toml") || path.ends_with("crio/crio.conf"));
    for path in main.into_iter().chain(others) {
        let seen = path.canonicalize().map_or(Ok(Seen::Absent), |real| Seen::at(&real))?;
        // What names no plugin and no CRI-O, as runsc's own file, says nothing of these.
        if let Some(text) = seen.text() {
            all.read(path, text)?;
        }
    }
    Ok(all)
}
