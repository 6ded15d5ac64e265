//! The merged configuration, and opening the engine with it.
//!
//! - [`reading`]: the files that the handlers' loader wants, until it wants no more
//! - [`places`]: what root and state directories must be like
//! - [`watch`]: changes taken while pods run

pub(crate) mod places;
pub(crate) mod reading;
pub(crate) mod watch;

pub(crate) use reading::{read_with, roots};
pub(crate) use watch::{Watcher, watch};

use crate::args::Global;
use crate::{show, sweep::sweep};
use anyhow::{Result, bail};
use cofferdam_engine::handlers::Table;
use cofferdam_engine::{Engine, NetworkMode, Options};
use cofferdam_handlers::{HandlerTable, Loaded};
use cofferdam_plan::Layout;
use std::path::PathBuf;
use std::sync::Arc;

/// Where handlers' binaries are searched where `PATH` is not set.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Default of `--root`.
pub(crate) const ROOT: &str = "/var/lib/cofferdam";
/// Default of `--state`.
pub(crate) const STATE: &str = "/run/cofferdam";

/// The merged configuration and what it was made of.
pub(crate) struct Settings {
    pub(crate) loaded: Loaded,
    pub(crate) layout: Layout,
}

impl Settings {
    /// Reads everything. Errors of files are in `loaded`.
    pub(crate) fn read(global: &Global) -> Self {
        let loaded = reading::read_all(&roots(global));
        let chosen = |flag: &Option<PathBuf>, file: Option<&PathBuf>, default: &str| {
            flag.clone().or_else(|| file.cloned()).unwrap_or_else(|| default.into())
        };
        let settings = &loaded.table.settings;
        let layout = Layout::new(
            places::absolute(&chosen(&global.root, settings.root.as_ref().map(|s| &s.value), ROOT)),
            places::absolute(&chosen(&global.state, settings.state.as_ref().map(|s| &s.value), STATE)),
        );
        Self { loaded, layout }
    }

    /// Refuses to go on where a file has an error: what it would have said may have been stronger.
    pub(crate) fn insist(self) -> Result<Self> {
        if self.loaded.errors.is_empty() {
            self.check()?;
            return Ok(self);
        }
        let all: Vec<String> = self.loaded.errors.iter().map(ToString::to_string).collect();
        bail!("{}", all.join("\n"))
    }

    /// Refuses directories that cannot be used.
    pub(crate) fn check(&self) -> Result<()> {
        places::check(&self.layout)
    }

    /// The handlers, with their binaries found.
    pub(crate) fn table(&self) -> Table {
        definitions(&self.loaded.table)
    }

    /// The handler that old annotations for untrusted pods mean.
    pub(crate) fn untrusted(&self) -> Option<String> {
        self.loaded.table.untrusted.as_ref().map(|(name, _)| name.to_string())
    }

    /// Refuses to go on as anybody else.
    pub(crate) fn need_root() -> Result<()> {
        if !cofferdam_host::privilege::is_root() {
            bail!("pods need namespaces and mounts: run cofferdam as root (sudo)");
        }
        Ok(())
    }

    /// Opens the engine, and tells what recovery found.
    pub(crate) fn open(&self) -> Result<Arc<Engine>> {
        self.open_telling(&|finding| show::tell(format_args!("cofferdam: recovered: {finding}")))
    }

    /// As [`Settings::open`], for who tells it elsewhere.
    pub(crate) fn open_telling(&self, tell: &dyn Fn(&str)) -> Result<Arc<Engine>> {
        Self::need_root()?;
        let mut options = Options::new(self.layout.clone(), self.table());
        options.network = self.network()?;
        self.fill_in(&mut options);
        let (engine, findings) = Engine::open(options)?;
        for finding in findings.into_iter().chain(sweep(&engine)) {
            tell(&finding);
        }
        Ok(engine)
    }

    /// What the configuration says of registries, content and CNI.
    fn fill_in(&self, options: &mut Options) {
        let settings = &self.loaded.table.settings;
        if let Some(hosts) = &settings.registry_hosts {
            options.registries.hosts_dirs.clone_from(&hosts.value);
        }
        if let Some(files) = &settings.auth_files {
            options.registries.auth_files.clone_from(&files.value);
        }
        if settings.cni_conf.is_some() || settings.cni_plugins.is_some() {
            let mut cni = cofferdam_engine::CniOptions::new(self.layout.network().join("cni"));
            if let Some(conf) = &settings.cni_conf {
                cni.conf_dir.clone_from(&conf.value);
            }
            if let Some(plugins) = &settings.cni_plugins {
                cni.bin_dirs.clone_from(&plugins.value);
            }
            options.cni = Some(cni);
        }
        if let Some(dirs) = &settings.cdi_dirs {
            options.cdi_dirs.clone_from(&dirs.value);
        }
        if let Some(keep) = &settings.keep_content {
            options.keep_content = keep.value;
        }
        options.network_mode = match settings.network_mode.as_ref().map(|s| s.value.as_str()) {
            Some("bridge") => NetworkMode::Bridge,
            Some("cni") => NetworkMode::Cni,
            _ => NetworkMode::Auto,
        };
    }

    /// The pods' network.
    pub(crate) fn network(&self) -> Result<cofferdam_network::Config> {
        let settings = &self.loaded.table.settings;
        let mut network = cofferdam_network::Config::default();
        if let Some(bridge) = settings.bridge.as_ref().filter(|b| b.value != network.bridge) {
            network.bridge = bridge.value.clone();
            // Rules of its own: two bridges in one table would replace each other's.
            network.table = format!("cofferdam_{}", bridge.value.replace('-', "_"));
        }
        if let Some(subnet) = &settings.subnet {
            network.subnet = subnet
                .value
                .parse()
                .map_err(|e| anyhow::anyhow!("{}: subnet: {e}", subnet.origin))?;
        }
        if let Some(subnet) = &settings.subnet6 {
            network.subnet6 = subnet.value.parse().map_err(|e| anyhow::anyhow!("{}: subnet6: {e}", subnet.origin))?;
        }
        Ok(network)
    }

    /// Prints the warnings of the configuration to standard error.
    pub(crate) fn warn(&self) {
        for warning in self.warnings() {
            show::tell(format_args!("cofferdam: warning: {warning}"));
        }
    }

    /// The warnings of the configuration.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = String> {
        let all = self.loaded.table.warnings.iter();
        all.filter(|w| w.level == cofferdam_handlers::Level::Warning).map(ToString::to_string)
    }
}

/// Handlers of a merged configuration with their binaries found in `$PATH`.
pub(crate) fn definitions(table: &HandlerTable) -> Table {
    let path = std::env::var("PATH").unwrap_or_else(|_| DEFAULT_PATH.into());
    Table::new(table, &path)
}
