//! Reading the configuration: the files that the handlers' loader wants, until it wants no more.

use crate::args::Global;
use crate::show;
use anyhow::{Result, bail};
use cofferdam_engine::handlers::Table;
use cofferdam_engine::{Engine, Options};
use cofferdam_handlers::{Files, HandlerTable, Loaded, MAX_TEXT, Roots, Text, Wanted, load};
use cofferdam_host::files;
use cofferdam_plan::Layout;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Where handlers' binaries are searched where `PATH` is not set.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Default of `--root`.
const ROOT: &str = "/var/lib/cofferdam";
/// Default of `--state`.
const STATE: &str = "/run/cofferdam";

/// The merged configuration and what it was made of.
pub(crate) struct Settings {
    pub(crate) loaded: Loaded,
    pub(crate) layout: Layout,
}

impl Settings {
    /// Reads everything. Errors of files are in `loaded`.
    pub(crate) fn read(global: &Global) -> Self {
        let loaded = read_all(&roots(global));
        let chosen = |flag: &Option<PathBuf>, file: Option<&PathBuf>, default: &str| {
            flag.clone().or_else(|| file.cloned()).unwrap_or_else(|| default.into())
        };
        let settings = &loaded.table.settings;
        let layout = Layout::new(
            chosen(&global.root, settings.root.as_ref().map(|s| &s.value), ROOT),
            chosen(&global.state, settings.state.as_ref().map(|s| &s.value), STATE),
        );
        Self { loaded, layout }
    }

    /// Refuses to go on where a file has an error: what it would have said may have been stronger.
    pub(crate) fn insist(self) -> Result<Self> {
        if self.loaded.errors.is_empty() {
            return Ok(self);
        }
        let all: Vec<String> = self.loaded.errors.iter().map(ToString::to_string).collect();
        bail!("{}", all.join("\n"))
    }

    /// The handlers, with their binaries found.
    pub(crate) fn table(&self) -> Table {
        definitions(&self.loaded.table)
    }

    /// The handler that old annotations for untrusted pods mean.
    pub(crate) fn untrusted(&self) -> Option<String> {
        self.loaded.table.untrusted.as_ref().map(|(name, _)| name.to_string())
    }

    /// Opens the engine, and tells what recovery found.
    pub(crate) fn open(&self) -> Result<Arc<Engine>> {
        if !cofferdam_host::privilege::is_root() {
            bail!("pods need namespaces and mounts: run cofferdam as root (sudo)");
        }
        let settings = &self.loaded.table.settings;
        let mut options = Options::new(self.layout.clone(), self.table());
        if let Some(bridge) = settings.bridge.as_ref().filter(|b| b.value != options.network.bridge) {
            options.network.bridge = bridge.value.clone();
            // Rules of its own: two bridges in one table would replace each other's.
            options.network.table = format!("cofferdam_{}", bridge.value.replace('-', "_"));
        }
        if let Some(subnet) = &settings.subnet {
            options.network.subnet =
                subnet.value.parse().map_err(|e| anyhow::anyhow!("{}: subnet: {e}", subnet.origin))?;
        }
        let (engine, findings) = Engine::open(options)?;
        for finding in findings {
            show::tell(format_args!("cofferdam: recovered: {finding}"));
        }
        Ok(engine)
    }

    /// Prints the warnings of the configuration to standard error.
    pub(crate) fn warn(&self) {
        for warning in &self.loaded.table.warnings {
            if warning.level == cofferdam_handlers::Level::Warning {
                show::tell(format_args!("cofferdam: warning: {warning}"));
            }
        }
    }
}

/// Watches the configuration while it lives: a handler added or removed takes effect at once, with no
/// harm to running pods. A file with an error changes nothing.
pub(crate) struct Watcher {
    stop: Arc<AtomicBool>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Starts watching.
pub(crate) fn watch(global: &Global, engine: Arc<Engine>) -> Result<Watcher> {
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, roots) = (stop.clone(), roots(global));
    std::thread::Builder::new().name("configuration".into()).spawn(move || {
        let mut last = read_all(&roots);
        let mut taken = last.table.clone();
        while !stopped.load(Ordering::Relaxed) {
            std::thread::sleep(RELOAD_EVERY);
            let now = read_all(&roots);
            if now == last {
                continue;
            }
            if now.errors.is_empty() {
                let change = cofferdam_handlers::diff(&taken, &now.table);
                for (what, names) in [("added", &change.added), ("removed", &change.removed), ("changed", &change.changed)] {
                    for name in names {
                        show::tell(format_args!("cofferdam: handler {name} was {what}"));
                    }
                }
                engine.set_table(definitions(&now.table));
                taken = now.table.clone();
            } else {
                for error in &now.errors {
                    show::tell(format_args!("cofferdam: configuration not taken: {error}"));
                }
            }
            last = now;
        }
    })?;
    Ok(Watcher { stop })
}

/// How often the files are looked at: a dozen small reads.
const RELOAD_EVERY: Duration = Duration::from_secs(1);

/// Handlers of a merged configuration with their binaries found in `$PATH`.
pub(crate) fn definitions(table: &HandlerTable) -> Table {
    let path = std::env::var("PATH").unwrap_or_else(|_| DEFAULT_PATH.into());
    Table::new(table, &path)
}

/// Where configuration is looked for.
pub(crate) fn roots(global: &Global) -> Roots {
    let own = global.config.clone();
    let own_drop_ins = own.parent().unwrap_or(Path::new("/")).join("conf.d");
    Roots { own, own_drop_ins, ..Roots::default() }
}

/// Supplies what is wanted until nothing is; ends, as imports are bounded.
pub(crate) fn read_all(roots: &Roots) -> Loaded {
    read_with(roots, None)
}

/// As [`read_all`], with one more drop-in, after all others, that is in no file.
pub(crate) fn read_with(roots: &Roots, drop_in: Option<&str>) -> Loaded {
    const NAME: &str = "zzzz-built-in.toml";
    let mut found = Files::default();
    loop {
        if let (Some(text), Some(names)) = (drop_in, found.folders.get_mut(&roots.own_drop_ins)) {
            names.insert(NAME.into());
            found.texts.insert(roots.own_drop_ins.join(NAME), Text::Found(text.to_owned()));
        }
        let loaded = load(&found, roots);
        if loaded.wanted.is_empty() {
            return loaded;
        }
        for wanted in &loaded.wanted {
            match wanted {
                Wanted::File(path) => {
                    found.texts.insert(path.clone(), text(path));
                }
                Wanted::Folder(path) => {
                    found.folders.insert(path.clone(), names(path));
                }
            }
        }
    }
}

fn text(path: &Path) -> Text {
    match files::read_text(path, MAX_TEXT as u64) {
        Ok(text) => Text::Found(text),
        Err(e) if e.is_absent() => Text::Absent,
        Err(e) => Text::Unreadable(e.to_string()),
    }
}

fn names(path: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let files = entries.filter(|e| e.path().is_file());
    files.filter_map(|e| e.file_name().into_string().ok()).collect()
}
