//! The verbs of a runtime: attach a pod, take it off, look after both.

use crate::cache::{Cache, Entry, Found, INTERFACE};
use crate::capabilities::Capabilities;
use crate::chain::{Chain, Subject};
use crate::config::{self, NetworkList, is_name};
use crate::result::CniResult;
use crate::version::Version;
use crate::{Error, Result};
use cofferdam_host::files::Durability;
use std::collections::BTreeSet;
use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Options {
    /// Configurations; `/etc/cni/net.d`.
    pub conf_dir: PathBuf,
    /// Plugins; the first directory that has one counts.
    pub bin_dirs: Vec<PathBuf>,
    /// A directory of ours for what was attached.
    pub cache_dir: PathBuf,
    /// How long one call of a plugin may take.
    pub timeout: Duration,
    /// Take a pod that asks for what no plugin declares (a hostPort without `portMappings`), and
    /// leave it to the plugins, as containerd does. Some networks serve host ports by themselves.
    pub allow_unmet: bool,
}

impl Options {
    /// The usual places, and a cache of ours.
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        Self {
            conf_dir: "/etc/cni/net.d".into(),
            bin_dirs: vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
            cache_dir: cache_dir.into(),
            timeout: Duration::from_secs(60),
            allow_unmet: false,
        }
    }
}

/// A pod, as plugins are told of it.
#[derive(Debug, Clone, Copy)]
pub struct PodRef<'a> {
    /// Id of its sandbox: letters, digits, `_` and `.`.
    pub id: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its uid; may be empty.
    pub uid: &'a str,
}

/// A pod that is attached.
#[derive(Debug, Clone, PartialEq)]
pub struct Attachment {
    /// Addresses of the pod's `eth0`; never empty, the first is the pod's IP.
    pub ips: Vec<IpAddr>,
    /// Interfaces, routes, resolver settings.
    pub result: CniResult,
    /// The result as JSON, in the network's version.
    pub raw: String,
}

/// What came of a CHECK that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// The plugins found everything in place.
    Passed,
    /// The configuration says `disableCheck`.
    Disabled,
    /// The configuration's version has no CHECK (before 0.4.0).
    Unsupported,
    /// The pod is not attached.
    NotAttached,
}

/// The plugins of this machine, and the network of its configuration where it has one.
#[derive(Debug)]
pub struct Cni {
    options: Options,
    cache: Cache,
    network: Option<(PathBuf, NetworkList)>,
    /// The network in the version that was settled on.
    settled: OnceLock<NetworkList>,
}

impl Cni {
    /// Reads the configuration. `Ok(None)` where there is none: the machine does not use CNI.
    pub fn load(options: Options) -> Result<Option<Self>> {
        let cni = Self::open(options)?;
        Ok(cni.network.is_some().then_some(cni))
    }

    /// As [`Cni::load`], also without a configuration: what was attached before it was taken away
    /// can still be detached.
    pub fn open(options: Options) -> Result<Self> {
        let network = config::load(&options.conf_dir)?;
        Ok(Self {
            cache: Cache::new(&options.cache_dir),
            options,
            network,
            settled: OnceLock::new(),
        })
    }

    /// As [`Cni::open`] where there is no configuration, or none that can be used.
    pub fn without_network(options: Options) -> Self {
        Self {
            cache: Cache::new(&options.cache_dir),
            options,
            network: None,
            settled: OnceLock::new(),
        }
    }

    /// The network and the file that it is of.
    pub fn network(&self) -> Option<(&Path, &NetworkList)> {
        self.network.as_ref().map(|(path, list)| (path.as_path(), list))
    }

    /// The version that the plugins are called in. Where the configuration offers several they
    /// are asked (VERSION), once.
    pub fn version(&self) -> Result<Version> {
        self.settle().map(|list| self.chain(list).version())
    }

    /// Attaches the pod: ADD through the chain. On failure everything is taken back (DEL through
    /// the whole chain); where that fails, too, it is tried again by [`Cni::del`] and [`Cni::gc`].
    /// An attachment that the pod has already is taken off first.
    pub fn add(&self, pod: &PodRef<'_>, netns: &Path, capabilities: &Capabilities) -> Result<Attachment> {
        let list = self.settle()?;
        let place = self.place();
        let shown = format!("{}/{}", pod.namespace, pod.name);
        if !self.options.allow_unmet
            && let Some((capability, what)) = capabilities.unmet(|name| list.plugins.iter().any(|p| p.capabilities.contains(name)))
        {
            return Err(Error::Unmet {
                pod: shown,
                what,
                capability,
                network: list.name.clone(),
                place,
            });
        }
        let netns = netns
            .to_str()
            .ok_or_else(|| Error::word("namespace", &netns.to_string_lossy(), "use a path of UTF-8"))?;
        let mut entry = Entry::new(pod.id, &list.name, netns, &list.bytes);
        entry.cni_args = args(pod)?;
        entry.capability_args = capabilities.to_map();
        self.chain(list).installed()?;
        let _lock = self.cache.adding()?;
        self.del(pod.id, Some(Path::new(netns)))?;
        self.cache.write(&entry, Durability::Synced)?;
        let subject = Subject {
            id: pod.id,
            netns,
            args: &entry.cni_args,
            capabilities: &entry.capability_args,
        };
        let (result, added) = self.chain(list).add(subject);
        let last = result.clone();
        let checked = added.and_then(|()| {
            let result = result.unwrap_or_default();
            let ips = result.addresses(INTERFACE);
            if ips.is_empty() {
                return Err(Error::NoAddress {
                    network: list.name.clone(),
                    pod: shown,
                    place,
                });
            }
            let value = result.to_json(self.chain(list).version());
            let raw = value.to_string();
            entry.result = Some(value);
            self.cache.write(&entry, Durability::Cached)?;
            Ok(Attachment { ips, result, raw })
        });
        checked.map_err(|add| self.undo(pod.id, list, subject_of(&entry, netns), last.as_ref(), add))
    }

    /// DEL of the whole chain after a failed ADD; gives the error to tell.
    fn undo(&self, id: &str, list: &NetworkList, subject: Subject<'_>, last: Option<&CniResult>, add: Error) -> Error {
        let undone = self.chain(list).del(subject, last);
        let undone = undone.and_then(|()| self.cache.find(Some(id))?.iter().try_for_each(|f| self.cache.remove(&f.path)));
        match undone {
            Ok(()) => add,
            Err(del) => Error::AddAndDel {
                add: Box::new(add),
                del: Box::new(del),
            },
        }
    }

    /// Takes the pod off: DEL through the chain that it was added by, whatever the configuration
    /// is now. A pod that is not attached is no error, so it may be repeated. `netns` is the
    /// pod's namespace while it is certain to be that; one that is gone may be given, or `None`.
    pub fn del(&self, id: &str, netns: Option<&Path>) -> Result<()> {
        for found in self.cache.find(Some(id))? {
            self.del_one(&found, netns)?;
        }
        Ok(())
    }

    fn del_one(&self, found: &Found, netns: Option<&Path>) -> Result<()> {
        // Opened, for the link is still there when the process is dead and not yet waited for.
        let netns = netns.filter(|p| File::open(p).is_ok()).and_then(Path::to_str).unwrap_or_default();
        let is_half = found.entry.as_ref().is_none_or(|entry| entry.result.is_none());
        if is_half || netns.is_empty() {
            // Whoever called plugins for it may have been killed, and they not.
            let verbs: &[&str] = if is_half { &["ADD", "DEL"] } else { &["DEL"] };
            crate::plugin::end_strays(&found.id, &self.options.bin_dirs, verbs);
        }
        let (entry, list) = match &found.entry {
            Some(entry) => (entry.clone(), entry.config().and_then(|bytes| NetworkList::parse_list(&bytes).ok())),
            None => (Entry::new(&found.id, "", netns, &[]), None),
        };
        let list = match list.filter(|l| !l.plugins.is_empty()) {
            Some(list) => list,
            None if self.network.is_some() => self.settle()?.clone(),
            None => {
                let place = found.path.display().to_string();
                return Err(Error::config(
                    place,
                    "it records an attachment, cannot be read, and no other configuration is there: clean up by hand and remove it",
                ));
            }
        };
        let chain = self.chain(&list);
        let result = entry.result.as_ref().and_then(|value| CniResult::read(value, chain.version()).ok());
        chain.del(subject_of(&entry, netns), result.as_ref())?;
        self.cache.remove(&found.path)
    }

    /// CHECK, with what ADD was given and what it answered.
    pub fn check(&self, id: &str, netns: &Path) -> Result<Check> {
        let Some(entry) = self
            .cache
            .find(Some(id))?
            .into_iter()
            .find_map(|f| f.entry)
            .filter(|e| e.result.is_some())
        else {
            return Ok(Check::NotAttached);
        };
        let config = entry.config().unwrap_or_default();
        let list = NetworkList::parse_list(&config).map_err(|e| Error::config(format!("of the attached pod {id}"), e))?;
        let chain = self.chain(&list);
        if chain.version() < Version::V0_4_0 {
            return Ok(Check::Unsupported);
        }
        if list.disable_check {
            return Ok(Check::Disabled);
        }
        let result = entry.result.as_ref().and_then(|value| CniResult::read(value, chain.version()).ok());
        chain.check(subject_of(&entry, netns.to_str().unwrap_or_default()), result.as_ref())?;
        Ok(Check::Passed)
    }

    /// Whether pods could be attached: all plugins are there, know a version of the configuration,
    /// and, from 1.1.0, say so themselves (STATUS).
    pub fn status(&self) -> Result<()> {
        let list = self.settle()?;
        let chain = self.chain(list);
        chain.negotiate()?;
        chain.status()
    }

    /// The ids of pods that are attached, or were half way.
    pub fn attached(&self) -> Result<Vec<String>> {
        Ok(self.cache.find(None)?.into_iter().map(|f| f.id).collect())
    }

    /// Takes off the pods `stale`, whose namespaces are gone.
    pub fn del_stale(&self, stale: &[String]) -> Result<()> {
        let mut outcome = Ok(());
        for id in stale {
            outcome = outcome.and(self.del(id, None));
        }
        outcome
    }

    /// Takes off all pods that are not `valid`, and tells the plugins which ones are (GC, from
    /// 1.1.0, unless the configuration says `disableGC`). `valid` is asked when no pod is being
    /// added; false, and nothing done, while one is.
    pub fn gc(&self, valid: impl FnOnce() -> BTreeSet<String>) -> Result<bool> {
        let Some(_lock) = self.cache.collecting()? else {
            return Ok(false);
        };
        let attached = self.attached()?;
        let valid = valid();
        let stale: Vec<String> = attached.into_iter().filter(|id| !valid.contains(id)).collect();
        let outcome = self.del_stale(&stale);
        if self.network.is_none() {
            return outcome.map(|()| true);
        }
        let list = self.settle()?;
        if list.disable_gc || self.chain(list).version() < Version::V1_1_0 {
            return outcome.map(|()| true);
        }
        outcome.and(self.chain(list).gc(&valid)).map(|()| true)
    }

    fn settle(&self) -> Result<&NetworkList> {
        if let Some(list) = self.settled.get() {
            return Ok(list);
        }
        let Some((_, list)) = &self.network else {
            return Err(Error::config(self.place(), "it holds no configuration of a network"));
        };
        let version = if list.versions.len() > 1 {
            self.chain(list).negotiate()?
        } else {
            self.chain(list).version()
        };
        Ok(self.settled.get_or_init(|| list.pinned(version)))
    }

    fn place(&self) -> String {
        self.network
            .as_ref()
            .map_or(&self.options.conf_dir, |(path, _)| path)
            .display()
            .to_string()
    }

    fn chain<'a>(&'a self, list: &'a NetworkList) -> Chain<'a> {
        Chain {
            list,
            bin_dirs: &self.options.bin_dirs,
            timeout: self.options.timeout,
        }
    }
}

fn subject_of<'a>(entry: &'a Entry, netns: &'a str) -> Subject<'a> {
    Subject {
        id: &entry.container_id,
        netns,
        args: &entry.cni_args,
        capabilities: &entry.capability_args,
    }
}

/// What Kubernetes' runtimes tell plugins of a pod; none of it may end the value or the list.
fn args(pod: &PodRef<'_>) -> Result<Vec<[String; 2]>> {
    if !is_name(pod.id) || pod.id.contains('-') {
        return Err(Error::word("pod id", pod.id, "use letters, digits, '_' and '.'"));
    }
    let pairs = [
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", pod.namespace),
        ("K8S_POD_NAME", pod.name),
        ("K8S_POD_INFRA_CONTAINER_ID", pod.id),
        ("K8S_POD_UID", pod.uid),
    ];
    for (key, value) in &pairs[1..] {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if value.len() > 253 || !value.bytes().all(fits) {
            return Err(Error::word(key, value, "use letters, digits, '-', '.' and '_'"));
        }
    }
    Ok(pairs.iter().map(|(key, value)| [(*key).to_owned(), (*value).to_owned()]).collect())
}
