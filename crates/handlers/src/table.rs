//! The merged handler table.

use crate::defaults::Defaults;
use crate::place::{Origin, Warning};
use cofferdam_model::HandlerName;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Every handler of this machine, with where each value came from.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct HandlerTable {
    /// The handler of a pod that names none. It may be missing from `handlers`: then such a pod does
    /// not start.
    pub default: Option<(HandlerName, Origin)>,
    /// The handler of a pod that an old annotation marks as untrusted; `None` refuses such pods.
    pub untrusted: Option<(HandlerName, Origin)>,
    /// The handlers by name.
    pub handlers: BTreeMap<HandlerName, Handler>,
    /// Settings of our own that are not about handlers.
    pub settings: Settings,
    /// What to tell about the files, in the order in which it was found.
    pub warnings: Vec<Warning>,
}

/// Settings of our own configuration file.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Settings {
    /// Name of the bridge that pods hang on.
    pub bridge: Option<Setting<String>>,
    /// Subnet of the pods, as `ADDRESS/BITS`. Its syntax is for the network to check.
    pub subnet: Option<Setting<String>>,
    /// IPv6 subnet of the pods: `auto`, `off` or a network. Its syntax is for the network to check.
    pub subnet6: Option<Setting<String>>,
    /// Who attaches pods: `auto`, `bridge` or `cni`.
    pub network_mode: Option<Setting<String>>,
    /// Folder of CNI configurations.
    pub cni_conf: Option<Setting<PathBuf>>,
    /// Folders of CNI plugins.
    pub cni_plugins: Option<Setting<Vec<PathBuf>>>,
    /// Folders with `hosts.toml` of registries.
    pub registry_hosts: Option<Setting<Vec<PathBuf>>>,
    /// Files with credentials of registries, in docker's form.
    pub auth_files: Option<Setting<Vec<PathBuf>>>,
    /// Whether the compressed layers of images are kept.
    pub keep_content: Option<Setting<bool>>,
    /// Folder of seccomp profiles of type `Localhost`.
    pub seccomp_root: Option<Setting<PathBuf>>,
    /// Folders of CDI specifications.
    pub cdi_dirs: Option<Setting<Vec<PathBuf>>>,
    /// Folder of what outlives a reboot.
    pub root: Option<Setting<PathBuf>>,
    /// Folder of what does not.
    pub state: Option<Setting<PathBuf>>,
    /// How a kubelet is served.
    pub cri: crate::CriSettings,
}

/// A value with where it came from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub origin: Origin,
}

/// One way of running pods.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Handler {
    /// Its name.
    pub name: HandlerName,
    /// What runs it.
    pub driver: Driver,
    /// Privileged containers do not get the host's devices.
    pub privileged_without_host_devices: bool,
    /// What its pods get where they say nothing.
    pub defaults: Defaults,
    /// Where values came from, by their key in our own form (`type`, `binary`, `root`, `config`,
    /// `privileged_without_host_devices`, `default_capabilities` and the other defaults, `unusable`,
    /// `args.FLAG`), and `handler` for the table itself.
    pub origins: BTreeMap<String, Origin>,
    /// Why no pod may start under it, in one sentence; `None` when it may be tried.
    pub unusable: Option<String>,
}

/// What runs a handler's pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A program with the OCI runtime's command line.
    Oci(OciHandler),
    /// A virtual machine for each pod.
    Vm(VmHandler),
    /// A containerd shim.
    Shim(ShimHandler),
    /// The file says nothing that can be run; such a handler is always unusable.
    Unknown,
}

/// A program with the OCI runtime's command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OciHandler {
    /// Whose ways it has.
    pub flavor: Flavor,
    /// The program.
    pub binary: Binary,
    /// Its folder of state (`--root`).
    pub root: Option<PathBuf>,
    /// Flags before the command, by name without dashes; `None` is a flag with no value.
    pub flags: BTreeMap<String, Option<String>>,
    /// The file that some of the flags come from (runsc's toml).
    pub config_file: Option<PathBuf>,
}

impl OciHandler {
    /// The flags as arguments: `--directfs=false`.
    pub fn flag_args(&self) -> Vec<String> {
        let arg = |(name, value): (&String, &Option<String>)| match value {
            Some(value) => format!("--{name}={value}"),
            None => format!("--{name}"),
        };
        self.flags.iter().map(arg).collect()
    }
}

/// A virtual machine for each pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VmHandler {
    /// The program or shim that the file names, which is never run in place of another.
    pub binary: Option<Binary>,
    /// Its folder of state.
    pub root: Option<PathBuf>,
    /// Kata's `configuration.toml`.
    pub config_file: Option<PathBuf>,
}

/// A containerd shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShimHandler {
    /// The shim.
    pub binary: Binary,
    /// The file given to it as `ConfigPath`.
    pub config_file: Option<PathBuf>,
}

/// Whose ways an OCI runtime has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Flavor {
    /// runc, and whatever calls itself otherwise.
    Runc,
    /// crun.
    Crun,
    /// youki.
    Youki,
    /// gVisor.
    Runsc,
}

/// Which program a handler runs. It runs no other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Binary {
    /// This file; absolute.
    Path(PathBuf),
    /// The first file of this name in `$PATH`, for the caller to find.
    Search(String),
}

impl std::fmt::Display for Flavor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Runc => "runc",
            Self::Crun => "crun",
            Self::Youki => "youki",
            Self::Runsc => "runsc",
        })
    }
}

impl Binary {
    /// As a configuration file has it.
    pub fn as_path(&self) -> &Path {
        match self {
            Self::Path(path) => path,
            Self::Search(name) => Path::new(name),
        }
    }

    /// The file's name.
    pub fn file_name(&self) -> String {
        self.as_path()
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }
}

impl Handler {
    /// Where it is defined.
    pub fn origin(&self) -> Origin {
        self.origins
            .get("handler")
            .cloned()
            .unwrap_or_else(|| Origin::built_in(""))
    }

    /// Whether pods under both would be run alike; where values came from does not matter.
    pub fn runs_like(&self, other: &Self) -> bool {
        self.driver == other.driver
            && self.privileged_without_host_devices == other.privileged_without_host_devices
            && self.defaults == other.defaults
            && self.unusable == other.unusable
    }

    pub(crate) fn new(name: HandlerName, driver: Driver, origin: Origin) -> Self {
        let origins = BTreeMap::from([("handler".to_owned(), origin)]);
        Self {
            name,
            driver,
            privileged_without_host_devices: false,
            defaults: Defaults::default(),
            origins,
            unusable: None,
        }
    }

    /// Makes it unusable; every reason is kept, once.
    pub(crate) fn refuse(&mut self, reason: impl Into<String>) {
        let reason = reason.into();
        self.unusable = Some(match self.unusable.take() {
            Some(first) if first.contains(&reason) => first,
            Some(first) if reason.contains(&first) => reason,
            Some(first) => format!("{first}; {reason}"),
            None => reason,
        });
    }
}

impl HandlerTable {
    /// The table of a machine without a configuration file: runc, crun, youki and runsc, searched in
    /// `$PATH`, and runc the default.
    pub fn built_in() -> Self {
        let mut table = Self::default();
        for name in ["runc", "crun", "youki", "runsc"] {
            let Ok(handler) = HandlerName::new(name) else {
                continue;
            };
            let driver = crate::driver::oci(Binary::Search(name.to_owned()), None, Flavor::Runc).0;
            if name == "runc" {
                table.default = Some((handler.clone(), Origin::built_in(name)));
            }
            table.handlers.insert(
                handler.clone(),
                Handler::new(handler, driver, Origin::built_in(name)),
            );
        }
        table
    }
}
