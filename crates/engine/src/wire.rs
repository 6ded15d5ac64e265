//! The pods' network, and the files of `/etc` that tell of it.

use crate::sandbox::failed;
use cofferdam_model::cri::{Dns, Error, NamespaceMode, Result, SandboxConfig};
use cofferdam_network::{Config, Network, PodRef, Request, dns, hosts};
use cofferdam_plan::layout::PodDirs;
use cofferdam_plan::userns::IdRange;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Who attaches pods to the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NetworkMode {
    /// CNI plugins where there is a configuration of theirs, else the built-in bridge.
    #[default]
    Auto,
    /// The built-in bridge, whatever is configured.
    Bridge,
    /// CNI plugins; without a configuration of theirs no pod gets a network.
    Cni,
}

/// The network of this machine's pods.
#[derive(Debug)]
pub(crate) struct Wire {
    network: Network,
    mode: NetworkMode,
    conf_dir: PathBuf,
    warned: AtomicBool,
}

impl Wire {
    pub(crate) fn open(config: Config, state: PathBuf, mut plugins: cofferdam_cni::Options, mode: NetworkMode) -> Result<Self> {
        if mode == NetworkMode::Bridge {
            // No configuration is ever there.
            plugins.conf_dir = state.join("no-cni");
        }
        let conf_dir = plugins.conf_dir.clone();
        let network = Network::open(config, state, plugins).map_err(failed)?;
        Ok(Self { network, mode, conf_dir, warned: AtomicBool::new(false) })
    }

    /// An error where a CNI configuration is insisted on and missing: our own bridge is no stand-in.
    fn configured(&self) -> Result<()> {
        if self.mode == NetworkMode::Cni && !self.network.uses_cni().map_err(failed)? {
            return Err(Error::Failed(format!("{} has no CNI configuration, and no other network is to be used", self.conf_dir.display())));
        }
        Ok(())
    }

    /// Gives the namespace of the monitor `pid` a network; the pod's addresses.
    pub(crate) fn attach(&self, id: &str, config: &SandboxConfig, request: &Request, pid: i32) -> Result<Vec<IpAddr>> {
        self.configured()?;
        let pod = PodRef { id, name: &config.name, namespace: &config.namespace, uid: &config.uid };
        let wired = self.network.attach(&pod, &namespace_of(pid), request).map_err(failed)?;
        if !self.warned.swap(true, Ordering::Relaxed) {
            for warning in self.network.warnings() {
                crate::tell(format_args!("warning: {warning}"));
            }
        }
        Ok(wired.ips)
    }

    /// Whether plugins take the pod off, which they can do wholly only while its namespace lives.
    pub(crate) fn uses_plugins(&self, id: &str) -> bool {
        self.network.is_attached_by_plugins(id)
    }

    /// Takes the pod off; its link goes with its namespace. Repeatable.
    pub(crate) fn detach(&self, id: &str, namespace: Option<OwnedFd>) -> Result<()> {
        // By our own descriptor: nobody else holds the namespace any more.
        let path = namespace.as_ref().map(|fd| PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd())));
        self.network.detach(id, path.as_deref()).map_err(failed)
    }

    /// Whether the pod is attached as it was made.
    pub(crate) fn check(&self, id: &str, monitor_pid: i32) -> Result<bool> {
        self.network.check(id, &namespace_of(monitor_pid)).map_err(failed)
    }

    /// Whether pods could be attached.
    pub(crate) fn status(&self) -> Result<()> {
        self.configured()?;
        self.network.status().map_err(failed)
    }

    /// Takes off pods that are not among `known`, which is asked after what is there was read: a pod of
    /// another process that got something has been known since before.
    pub(crate) fn recover(&self, known: impl FnOnce() -> Result<BTreeSet<String>>) -> Result<()> {
        let attached = self.network.attached().map_err(failed)?;
        if attached.is_empty() {
            return Ok(());
        }
        self.network.recover(&attached, &known()?).map_err(failed)
    }

    /// Tells plugins which pods there are; false where one is being attached just now.
    pub(crate) fn collect(&self, living: impl FnOnce() -> BTreeSet<String>) -> Result<bool> {
        self.network.collect(living).map_err(failed)
    }

    /// Removes bridge, links and rules.
    pub(crate) fn tear_down(&self) -> Result<()> {
        self.network.tear_down().map_err(failed)
    }
}

fn namespace_of(pid: i32) -> PathBuf {
    Path::new("/proc").join(pid.to_string()).join("ns/net")
}

/// Writes the files of `/etc` that the pod's containers share, where the monitor sees them.
pub(crate) fn write_etc(dirs: &PodDirs, monitor_pid: i32, config: &SandboxConfig, ips: &[IpAddr], ids: Option<IdRange>) -> Result<()> {
    // The monitor is a child that was not waited for: the number is no other's.
    let seen_by_monitor = Path::new("/proc").join(monitor_pid.to_string()).join("root");
    let write = |path: PathBuf, text: String| {
        let wrong = |e: std::io::Error| Error::Failed(format!("{} cannot be written: {e}", path.display()));
        let at = seen_by_monitor.join(path.strip_prefix("/").unwrap_or(&path));
        std::fs::write(&at, text).map_err(wrong)?;
        // The pod's root is somebody else on the machine.
        let Some(ids) = ids else { return Ok(()) };
        std::os::unix::fs::chown(&at, Some(ids.first), Some(ids.first)).map_err(wrong)
    };
    let on_machine = config.network == NamespaceMode::Node;
    let own = || config.hostname.clone();
    let hostname = if on_machine { rustix::system::uname().nodename().to_string_lossy().into_owned() } else { own() };
    write(dirs.hostname(), format!("{hostname}\n"))?;
    let alias = |(ip, hostnames): &(String, Vec<String>)| hosts::Alias { ip: ip.clone(), hostnames: hostnames.clone() };
    let aliases: Vec<_> = config.host_aliases.iter().map(alias).collect();
    let hosts = if on_machine {
        let machine = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        hosts::host_network_hosts(&machine, &aliases)
    } else {
        let domain = config.fqdn.strip_prefix(&config.hostname).and_then(|rest| rest.strip_prefix('.'));
        hosts::pod_hosts(ips, &config.hostname, domain, &aliases)
    };
    write(dirs.hosts(), hosts.map_err(|e| Error::Invalid(e.to_string()))?)?;
    let machine = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    if on_machine && config.dns.is_none() {
        return write(dirs.resolv_conf(), machine);
    }
    let systemd = std::fs::read_to_string("/run/systemd/resolve/resolv.conf").ok();
    let settings = config.dns.as_ref().map(settings);
    let made = dns::resolv_conf(&machine, systemd.as_deref(), settings.as_ref()).map_err(failed)?;
    write(dirs.resolv_conf(), made.text)
}

fn settings(dns: &Dns) -> dns::Settings {
    dns::Settings { servers: dns.servers.clone(), searches: dns.searches.clone(), options: dns.options.clone() }
}
