//! Executes plans, records, recovers, proves handlers, streams: every verb of CRI as a function over
//! our own types. Calls block. Several processes may have the same layout open: each verb holds its
//! pod's lock.
//!
//! - [`sandbox`], [`container`], [`exec`], [`stats`], [`update`], [`images`]: the verbs
//! - [`handlers`], [`prove`]: which handler there is, and whether it works
//! - [`recover`]: what a killed process left
//! - [`events`]: what happens

mod cache;
mod cleanup;
mod commands;
mod confine;
pub mod container;
mod defaults;
mod devices;
mod embedded;
pub mod events;
pub mod exec;
mod failpoint;
pub mod handlers;
pub mod images;
mod layer;
mod logs;
mod monitors;
mod mounts;
pub mod prove;
mod record;
pub mod recover;
mod runtime;
pub mod sandbox;
mod spec;
pub mod stats;
mod status;
mod unwanted;
pub mod update;
mod users;
mod wire;

pub use cofferdam_cni::Options as CniOptions;
pub use runtime::Shared;
pub use wire::NetworkMode;

use cofferdam_host::{cgroup::Cgroups, ids};
use cofferdam_images::Store;
use cofferdam_model::PodId;
use cofferdam_model::cri::{Error, Result};
use cofferdam_plan::Layout;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

/// What an engine is opened with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where everything is.
    pub layout: Layout,
    /// The pods' network.
    pub network: cofferdam_network::Config,
    /// The handlers.
    pub handlers: handlers::Table,
    /// How registries are reached.
    pub registries: cofferdam_registry::Options,
    /// CNI plugins and their configuration; `None` is `/etc/cni/net.d` and the usual places of plugins.
    pub cni: Option<cofferdam_cni::Options>,
    /// Who attaches pods to the network.
    pub network_mode: NetworkMode,
    /// Folders of CDI specifications, the last counting most.
    pub cdi_dirs: Vec<PathBuf>,
    /// Whether the compressed layers of images are kept, to be saved and mended from.
    pub keep_content: bool,
}

impl Options {
    /// The default network, and the machine's registries.
    pub fn new(layout: Layout, handlers: handlers::Table) -> Self {
        Self {
            layout,
            network: cofferdam_network::Config::default(),
            handlers,
            registries: images::default_registries(),
            cni: None,
            network_mode: NetworkMode::default(),
            cdi_dirs: cofferdam_plan::cdi::DIRECTORIES.map(PathBuf::from).to_vec(),
            keep_content: true,
        }
    }
}

/// The engine: share it between threads by reference.
#[derive(Debug)]
pub struct Engine {
    layout: Layout,
    cgroups: Cgroups,
    store: Store,
    pulls: images::Pulls,
    cdi_dirs: Vec<PathBuf>,
    wire: wire::Wire,
    table: RwLock<Arc<handlers::Table>>,
    proofs: prove::Memory,
    monitor: PathBuf,
    cache: cache::Cache,
    counts: layer::Counts,
    unended: Mutex<BTreeMap<PodId, String>>,
    boot_id: String,
    hub: events::Hub,
    /// How many network namespaces are made ahead.
    spare_networks: AtomicUsize,
    pool: OnceLock<Option<cofferdam_network::Pool>>,
}

impl Engine {
    /// Opens the engine and recovers what a killed process left. What recovery had to say is in the
    /// second value: one sentence a finding.
    pub fn open(options: Options) -> Result<(Arc<Self>, Vec<String>)> {
        let Options { layout, network, handlers, registries, cni, network_mode, keep_content, cdi_dirs } = options;
        let failed = |e: &dyn std::fmt::Display| Error::Failed(e.to_string());
        for dir in [layout.pods(), layout.run_pods(), layout.proofs(), layout.network(), layout.moved_cgroups()] {
            cofferdam_host::files::private_dir(&dir).map_err(|e| failed(&e))?;
        }
        cofferdam_host::files::spread_below(layout.pods()).map_err(|e| failed(&e))?;
        let cgroups = Cgroups::detect().map_err(|e| failed(&e))?;
        let store = Store::open(&layout.images()).map_err(|e| failed(&e))?.keep_content(keep_content);
        let engine = Arc::new(Self {
            monitor: embedded::install(&layout.bin())?,
            boot_id: ids::boot_id().map_err(|e| failed(&e))?,
            table: RwLock::new(Arc::new(handlers)),
            proofs: prove::Memory::default(),
            cache: cache::Cache::default(),
            counts: layer::Counts::default(),
            unended: Mutex::default(),
            hub: events::Hub::default(),
            spare_networks: AtomicUsize::default(),
            pool: OnceLock::new(),
            pulls: images::Pulls::new(registries),
            cdi_dirs,
            cgroups,
            store,
            wire: {
                let cni = cni.unwrap_or_else(|| cofferdam_cni::Options::new(layout.network().join("cni")));
                wire::Wire::open(network, layout.network(), cni, network_mode)?
            },
            layout,
        });
        let findings = engine.recover();
        Ok((engine, findings))
    }

    /// From the next pod on, so many network namespaces are made ahead, by a thread of their own. Worth it
    /// where many pods are started at once; a single pod has its own made with it.
    pub fn keep_networks_ready(&self, count: usize) {
        self.spare_networks.store(count, Ordering::Relaxed);
    }

    /// The image store.
    pub fn images(&self) -> &Store {
        &self.store
    }

    /// Removes all pods, and what no pod needs: bridge, rules, the pods' cgroup, run-time files.
    pub fn tear_down(&self) -> Result<()> {
        for pod in self.pod_ids()? {
            self.remove_sandbox(&pod)?;
        }
        self.wire.tear_down()?;
        self.remove_cgroup_root();
        for dir in [self.layout.run_pods(), self.layout.moved_cgroups(), self.layout.proofs(), self.layout.network()] {
            if dir.exists() {
                cofferdam_host::remove::remove_tree(&dir).map_err(sandbox::failed)?;
            }
        }
        Ok(())
    }

    /// Removes the cgroup of all pods where it is empty: pods of another layout may be in it, and
    /// whoever ends the last of those removes it.
    fn remove_cgroup_root(&self) {
        for directory in self.group(cofferdam_plan::layout::CGROUP_ROOT).iter().flat_map(|g| g.directories()) {
            // `rmdir` alone: what has children or is gone stays as it is.
            let _ = std::fs::remove_dir(directory);
        }
    }

    /// Whether pods could be attached to the network now; an error says why not.
    pub fn network_status(&self) -> Result<()> {
        self.wire.status()
    }

    /// Whether a pod's network is as it was made: CHECK of the plugins, or that its link is there.
    pub fn check_network(&self, pod: &PodId) -> Result<bool> {
        self.wire.check(pod.as_str(), self.must_know(pod)?.result.monitor_pid)
    }

    /// Tells CNI plugins that all pods but ours are gone (GC), false where one is being attached just
    /// now. Only for who has the networks of the configuration alone: what another runtime attached to
    /// them would be taken off.
    pub fn collect_network(&self) -> Result<bool> {
        let living = || self.traces().unwrap_or_default().iter().map(|id| id.as_str().to_owned()).collect();
        self.wire.collect(living)
    }

    /// Where everything is.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The handler table as it is now.
    pub fn table(&self) -> Arc<handlers::Table> {
        self.table.read().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Takes a changed handler table. Running pods keep the definition that they were started with.
    pub fn set_table(&self, table: handlers::Table) {
        *self.table.write().unwrap_or_else(|e| e.into_inner()) = Arc::new(table);
    }
}

type Tell = Box<dyn Fn(&str) + Send + Sync>;

/// Who is told what no verb's answer can say.
static TELL: OnceLock<Tell> = OnceLock::new();

/// Has warnings that belong to no verb's answer told to `tell`, for the whole process, in place of standard error.
/// Once: who comes second is not heard.
pub fn tell_through(tell: impl Fn(&str) + Send + Sync + 'static) {
    let _ = TELL.set(Box::new(tell));
}

/// One sentence to whom [`tell_through`] named, else to standard error, where `eprintln!` would panic if nobody
/// reads it.
fn tell(line: impl std::fmt::Display) {
    use std::io::Write;
    if let Some(tell) = TELL.get() {
        return tell(&line.to_string());
    }
    let _ = writeln!(std::io::stderr().lock(), "cofferdam: {line}");
}
