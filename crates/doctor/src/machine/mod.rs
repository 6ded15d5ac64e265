//! The edge: facts of this machine, by reads that are bounded and change nothing. What cannot be
//! read is not known, and said in [`Facts::unknown`]; it never stops the rest.

mod cgroups;
mod command;
mod firewall;
mod golang;
mod kernel;
mod network;
mod packages;
mod runtimes;
mod storage;

use crate::facts::Facts;
use crate::report::Report;
use cofferdam_handlers::HandlerTable;
use cofferdam_host::files;
use cofferdam_model::cri::HandlerStatus;
use std::path::{Path, PathBuf};

/// Greatest size of a small file of `/proc` or `/sys` that is read, bytes.
const SMALL: u64 = 64 << 10;
/// Greatest size of a table of the kernel that is read, bytes.
const TABLE: u64 = 4 << 20;
/// Most entries of a folder that are looked at.
const MAX_ENTRIES: usize = 65_536;

/// What the machine is asked, and what is known already.
#[derive(Debug, Clone)]
pub struct Sources<'a> {
    /// Where `/proc`, `/sys`, `/dev`, `/etc` and `/usr` are: `/`, or a test's folder.
    pub fs: PathBuf,
    /// Our folder that outlives a reboot.
    pub root: PathBuf,
    /// Our folder that need not.
    pub state: PathBuf,
    /// The pods' network.
    pub network: cofferdam_network::Config,
    /// Where binaries are searched, as `$PATH` is written.
    pub path: String,
    /// The merged configuration, where it could be read.
    pub table: Option<&'a HandlerTable>,
    /// Why configuration files were not taken, one sentence each.
    pub config_errors: Vec<String>,
    /// What the engine says of handlers, where it was asked; empty else.
    pub handlers: &'a [HandlerStatus],
    /// Whether commands may be run: runtimes with `--version`, `nft` and `iptables` to list rules.
    pub commands: bool,
}

impl Sources<'_> {
    /// This machine, with folders and network as they are by default.
    pub fn new() -> Self {
        Self {
            fs: "/".into(),
            root: "/var/lib/cofferdam".into(),
            state: "/run/cofferdam".into(),
            network: cofferdam_network::Config::default(),
            path: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
            table: None,
            config_errors: Vec::new(),
            handlers: &[],
            commands: true,
        }
    }

    /// `path` of the machine, in the folder that stands for it.
    pub(crate) fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.fs.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A small file; `None` where there is none or it cannot be read.
    pub(crate) fn small(&self, path: &str) -> Option<String> {
        files::read_text(self.at(path), SMALL).ok()
    }

    /// A larger file; what hinders is told.
    pub(crate) fn table_file(&self, path: &str, unknown: &mut Vec<String>) -> Option<String> {
        files::read_text(self.at(path), TABLE).map_err(|e| unknown.push(e.to_string())).ok()
    }

    /// A number in a small file.
    pub(crate) fn number<T: std::str::FromStr>(&self, path: &str) -> Option<T> {
        self.small(path)?.trim().parse().ok()
    }

    /// Names in a folder, sorted; none where it cannot be read.
    pub(crate) fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let entries = std::fs::read_dir(self.at(path)).into_iter().flatten().flatten().take(MAX_ENTRIES);
        let mut names: Vec<_> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
        names.sort();
        names
    }
}

impl Default for Sources<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// Looks at the machine.
pub fn look(sources: &Sources<'_>) -> Facts {
    let mut facts = Facts {
        config_errors: sources.config_errors.clone(),
        ..Facts::default()
    };
    let unknown = &mut facts.unknown;
    facts.kernel = kernel::kernel(sources, unknown);
    facts.privileges = kernel::privileges(sources, unknown);
    facts.virtualization = kernel::virtualization(sources);
    (facts.memory_total, facts.memory_available) = kernel::memory(sources, unknown);
    facts.cpus = std::thread::available_parallelism().map_or(0, usize::from);
    facts.cgroups = cgroups::cgroups(sources, unknown);
    facts.network = network::network(sources, unknown);
    facts.docker = network::docker(sources);
    facts.storage = storage::storage(sources, unknown);
    facts.records_aside = storage::aside(sources);
    facts.handlers = runtimes::handlers(sources);
    facts.runtimes = runtimes::runtimes(sources, &facts.handlers);
    facts.daemons = kernel::daemons(sources);
    if let Some(table) = sources.table {
        let honoured = |w: &&cofferdam_handlers::Warning| w.level == cofferdam_handlers::Level::Warning;
        facts.config_warnings = table.warnings.iter().filter(honoured).map(ToString::to_string).collect();
    }
    facts
}

/// Looks at the machine and names what is wrong with it.
pub fn examine(sources: &Sources<'_>) -> Report {
    let facts = look(sources);
    let findings = crate::diagnose::diagnose_facts(&facts);
    Report { facts, findings }
}
