//! How plugins come and go.

use crate::connection::lock;
use crate::gate::{Gate, Hold};
use crate::plugin::{Identity, Plugin};
use crate::{Error, Eviction, Level, Options, Result, State, convert, launch, required, support, wire};
use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

/// Most plugins at once, those that still register included.
const MAX_PLUGINS: usize = 64;
/// How long a plugin waits for verbs to end before it is told the state.
const QUIET: Duration = Duration::from_secs(10);

/// NRI: its plugins, and the verbs to ask them by. Dropped, it lets them go.
///
/// Verbs may run side by side, from any thread; each plugin is asked one thing at a time. One that hangs costs
/// the verb its request timeout once, and is let go then.
pub struct Nri {
    pub(crate) inner: Arc<Inner>,
    listener: Option<UnixListener>,
}

pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) state: Arc<dyn State>,
    /// In the order in which they are asked.
    plugins: Mutex<Vec<Arc<Plugin>>>,
    /// How many of them: looked at first by every verb.
    count: AtomicUsize,
    /// Connections whose plugins still register.
    coming: AtomicUsize,
    gate: Gate,
}

impl Nri {
    /// Starts the installed plugins, tells them the state, and listens for others.
    ///
    /// A plugin that cannot be started, or does not register in time, is told of and passed over.
    ///
    /// # Errors
    /// [`Error::Read`] and [`Error::Name`] about the installed plugins; [`Error::Socket`] and
    /// [`Error::Taken`] where there can be no socket.
    pub fn start(options: Options, state: Arc<dyn State>) -> Result<Self> {
        let installed = launch::discover(&options)?;
        let listener = options.socket.as_deref().map(listen).transpose()?;
        let inner = Arc::new(Inner {
            options,
            state,
            plugins: Mutex::default(),
            count: AtomicUsize::new(0),
            coming: AtomicUsize::new(0),
            gate: Gate::default(),
        });
        // Side by side: one that does not register holds up no other.
        std::thread::scope(|scope| {
            for plugin in &installed {
                let inner = &inner;
                scope.spawn(move || inner.launch(plugin));
            }
        });
        if let Some(listener) = &listener {
            inner.accept(listener)?;
        }
        Ok(Self { inner, listener })
    }

    /// The plugins that are connected, `NN-name`, in the order in which they are asked.
    pub fn plugins(&self) -> Vec<String> {
        lock(&self.inner.plugins)
            .iter()
            .filter(|p| !p.connection.is_closed())
            .map(|p| p.name())
            .collect()
    }

    /// Whether a verb on a pod of these annotations has to be asked about at all: where not, there is no
    /// need to build a [`Pod`](crate::Pod) first. Costs next to nothing.
    pub fn is_needed(&self, annotations: &BTreeMap<String, String>) -> bool {
        let inner = &self.inner;
        inner.count.load(Ordering::Acquire) > 0 || !inner.options.required.is_empty() || required::is_annotated(annotations)
    }

    /// To be held over a verb, from before what it does shows in [`State::snapshot`] until plugins were
    /// asked: no plugin comes meanwhile, so that each learns of the pod in one way or the other. One hold a
    /// verb, and a short one: plugins that come wait for it, at most 10 seconds, and other verbs behind them.
    pub fn hold(&self) -> Hold<'_> {
        self.inner.gate.enter();
        Hold(&self.inner.gate)
    }
}

impl Drop for Nri {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            // The thread that accepts ends.
            let _ = rustix::net::shutdown(listener, rustix::net::Shutdown::Both);
            if let Some(path) = &self.inner.options.socket {
                let _ = std::fs::remove_file(path);
            }
        }
        self.inner.end();
    }
}

impl Drop for Inner {
    /// For a plugin that became one of us while [`Nri`] was dropped.
    fn drop(&mut self) {
        self.end();
    }
}

/// Makes the socket, for root alone. One that is left over is replaced, one that is served is not.
fn listen(path: &Path) -> Result<UnixListener> {
    let failed = |source| Error::Socket {
        path: path.to_owned(),
        source,
    };
    if let Some(dir) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    }
    match UnixStream::connect(path) {
        Ok(_) => return Err(Error::Taken { path: path.to_owned() }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(_) => std::fs::remove_file(path).map_err(failed)?,
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

impl Inner {
    /// The plugins to be asked now, in order.
    pub(crate) fn plugins(&self) -> Vec<Arc<Plugin>> {
        if self.count.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        lock(&self.plugins)
            .iter()
            .filter(|plugin| !plugin.connection.is_closed())
            .cloned()
            .collect()
    }

    fn end(&self) {
        let plugins = std::mem::take(&mut *lock(&self.plugins));
        self.count.store(0, Ordering::Release);
        plugins.iter().for_each(|plugin| plugin.end());
    }

    pub(crate) fn warn(&self, text: &str) {
        (self.options.log)(Level::Warn, text);
    }

    fn launch(self: &Arc<Self>, installed: &launch::Installed) {
        let told = installed.path.display();
        match launch::start(installed) {
            Ok((socket, child)) => {
                let launched = Some((installed.identity.clone(), child));
                if let Err(why) = self.join(socket, launched, installed.config.clone()) {
                    self.warn(&format!("NRI plugin {told} is not used: {why}"));
                }
            }
            Err(e) => self.warn(&format!("NRI plugin {told} cannot be started: {e}")),
        }
    }

    /// Takes connections, each in a thread of its own until its plugin is one of us.
    fn accept(self: &Arc<Self>, listener: &UnixListener) -> Result<()> {
        let failed = |source| Error::Socket {
            path: self.options.socket.clone().unwrap_or_default(),
            source,
        };
        let listener = listener.try_clone().map_err(failed)?;
        let weak = Arc::downgrade(self);
        let serve = move || {
            loop {
                let accepted = listener.accept();
                let Some(inner) = weak.upgrade() else { return };
                match accepted {
                    Ok((socket, _)) => inner.receive(socket),
                    // It was shut down.
                    Err(e) if e.kind() == io::ErrorKind::InvalidInput => return,
                    Err(e) => {
                        // Descriptors may be short for a while; others may come later.
                        inner.warn(&format!("an NRI plugin cannot be accepted: {e}"));
                        drop(inner);
                        std::thread::sleep(Duration::from_millis(200));
                    }
                }
            }
        };
        std::thread::Builder::new()
            .name("nri-accept".to_owned())
            .spawn(serve)
            .map_err(failed)?;
        Ok(())
    }

    fn receive(self: &Arc<Self>, socket: UnixStream) {
        let coming = self.coming.fetch_add(1, Ordering::AcqRel) + 1;
        if coming + self.count.load(Ordering::Acquire) > MAX_PLUGINS {
            self.coming.fetch_sub(1, Ordering::AcqRel);
            return self.warn(&format!("an NRI plugin is turned away: there are {MAX_PLUGINS} already"));
        }
        let inner = Arc::clone(self);
        let join = move || {
            if let Err(why) = inner.join(socket, None, String::new()) {
                inner.warn(&format!("an NRI plugin that connected is not used: {why}"));
            }
            inner.coming.fetch_sub(1, Ordering::AcqRel);
        };
        if let Err(e) = std::thread::Builder::new().name("nri-join".to_owned()).spawn(join) {
            self.coming.fetch_sub(1, Ordering::AcqRel);
            self.warn(&format!("an NRI plugin that connected is not used: {e}"));
        }
    }

    /// Registers a plugin, configures it, tells it the state, and from then on asks it.
    fn join(self: &Arc<Self>, socket: UnixStream, launched: Option<(Identity, Child)>, config: String) -> std::result::Result<(), String> {
        let weak = Arc::downgrade(self);
        let closed = move || {
            if let Some(inner) = Weak::upgrade(&weak) {
                inner.sweep();
            }
        };
        let weak = Arc::downgrade(self);
        let update = move |plugin: &Plugin, request| match Weak::upgrade(&weak) {
            Some(inner) => inner.unsolicited(plugin, request),
            None => wire::UpdateContainersResponse::default(),
        };
        let plugin = Plugin::connect(socket, launched, &self.options, update, Box::new(closed))?;
        self.settle(&plugin, config)
            .inspect_err(|_| plugin.end())
            .map_err(|why| format!("{}: {why}", plugin.name()))?;
        (self.options.log)(Level::Info, &format!("NRI plugin {:?} is connected", plugin.name()));
        // It may have gone before it was one of us, and nobody would have noticed.
        if plugin.connection.is_closed() {
            self.sweep();
        }
        Ok(())
    }

    fn settle(&self, plugin: &Arc<Plugin>, config: String) -> std::result::Result<(), String> {
        plugin.configure(&self.options, config)?;
        if !self.gate.shut(QUIET) {
            return Err(format!("verbs that run did not end within {} s", QUIET.as_secs()));
        }
        let _open = Open(&self.gate);
        let (pods, containers) = self.state.snapshot();
        let pods = pods.iter().map(convert::pod).collect();
        let updates = plugin.synchronize(pods, containers.iter().map(convert::container).collect())?;
        for failed in self.apply(plugin, updates) {
            let (plugin, id) = (plugin.name(), failed.0.container_id);
            self.warn(&format!(
                "NRI plugin {plugin:?} asked for an update of container {id}, which failed: {}",
                failed.1
            ));
        }
        let mut plugins = lock(&self.plugins);
        plugins.push(Arc::clone(plugin));
        plugins.sort_by(|a, b| a.order().cmp(&b.order()));
        self.count.store(plugins.len(), Ordering::Release);
        Ok(())
    }

    /// Lets plugins go whose connection has ended.
    fn sweep(&self) {
        let gone: Vec<_> = {
            let mut plugins = lock(&self.plugins);
            let (gone, left): (Vec<_>, Vec<_>) = plugins.drain(..).partition(|plugin| plugin.connection.is_closed());
            self.count.store(left.len(), Ordering::Release);
            *plugins = left;
            gone
        };
        for plugin in gone {
            plugin.end();
            self.warn(&format!("NRI plugin {:?} is gone: its connection has ended", plugin.name()));
        }
    }

    /// Does what a plugin asks for on its own.
    fn unsolicited(&self, plugin: &Plugin, request: wire::UpdateContainersRequest) -> wire::UpdateContainersResponse {
        let failed = self.apply(plugin, request.update);
        self.evict(&plugin.name(), request.evict);
        wire::UpdateContainersResponse {
            failed: failed.into_iter().map(|(update, _)| update).collect(),
        }
    }

    /// Applies updates one by one; those that failed, and why.
    fn apply(&self, plugin: &Plugin, updates: Vec<wire::ContainerUpdate>) -> Vec<(wire::ContainerUpdate, String)> {
        let mut failed = Vec::new();
        for update in updates {
            let name = plugin.name();
            let asker = support::Asker {
                plugin: &name,
                container: &update.container_id,
            };
            let resources = update.linux.as_ref().and_then(|linux| linux.resources.as_ref());
            let done = resources
                .map_or(Ok(()), |resources| support::resources(asker, resources))
                .map_err(|e| e.to_string())
                .and_then(|()| self.state.update(&convert::update(&update)));
            if let Err(why) = done
                && !update.ignore_failure
            {
                failed.push((update, why));
            }
        }
        failed
    }

    /// Ends containers as a plugin asks; the wire has no way to tell it of a failure.
    pub(crate) fn evict(&self, plugin: &str, evictions: Vec<wire::ContainerEviction>) {
        for eviction in evictions {
            let eviction = Eviction {
                container: eviction.container_id,
                reason: eviction.reason,
            };
            if let Err(why) = self.state.evict(&eviction) {
                let id = &eviction.container;
                self.warn(&format!(
                    "NRI plugin {plugin:?} asked for the end of container {id}, which failed: {why}"
                ));
            }
        }
    }
}

struct Open<'a>(&'a Gate);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}
