//! The pods' network: the bridge made when the first pod needs it, addresses, and the files of
//! `/etc` that tell of them.

use crate::sandbox::failed;
use cofferdam_host::netns;
use cofferdam_model::PodId;
use cofferdam_model::cri::{Dns, Error, NamespaceMode, Result, SandboxConfig};
use cofferdam_network::{Bridge, Config, Ipam, dns, hosts};
use cofferdam_plan::layout::PodDirs;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

#[derive(Debug)]
pub(crate) struct Wire {
    config: Config,
    state: PathBuf,
    ipam: Ipam,
    bridge: Mutex<Option<Bridge>>,
}

impl Wire {
    pub(crate) fn open(config: Config, state: PathBuf) -> Result<Self> {
        let ipam = Ipam::open(&config, &state).map_err(failed)?;
        Ok(Self { config, state, ipam, bridge: Mutex::new(None) })
    }

    /// Gives the pod an address, and its namespace a link with it.
    pub(crate) fn attach(&self, pod: &str, monitor_pid: i32) -> Result<Ipv4Addr> {
        let bridge = self.bridge()?;
        let ip = self.ipam.allocate(pod).map_err(failed)?;
        let namespace = netns::open(format!("/proc/{monitor_pid}/ns/net")).map_err(failed)?;
        bridge.attach(namespace.as_fd(), pod, ip).map_err(failed)?;
        Ok(ip)
    }

    /// Gives the pod's address back; its link goes with its namespace.
    pub(crate) fn release(&self, pod: &str) -> Result<()> {
        self.ipam.release(pod).map_err(failed)
    }

    /// Gives back the addresses of pods that are not among `known`, which is asked after the
    /// addresses were read: a pod of another process that got one has been known since before.
    pub(crate) fn recover(&self, known: impl FnOnce() -> Result<BTreeSet<PodId>>) -> Result<()> {
        let held = self.ipam.held().map_err(failed)?;
        let known = known()?;
        for (address, pod) in held.iter().filter(|(_, pod)| !known.iter().any(|id| id.as_str() == pod)) {
            self.ipam.release_address(pod, *address).map_err(failed)?;
        }
        Ok(())
    }

    /// Removes bridge, links and rules.
    pub(crate) fn tear_down(&self) -> Result<()> {
        let mut bridge = self.bridge.lock().unwrap_or_else(PoisonError::into_inner);
        Bridge::teardown(&self.config, &self.state).map_err(failed)?;
        *bridge = None;
        Ok(())
    }

    fn bridge(&self) -> Result<Bridge> {
        let mut bridge = self.bridge.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = bridge.as_ref() {
            return Ok(there.clone());
        }
        let made = Bridge::ensure(&self.config, &self.state).map_err(failed)?;
        for warning in made.warnings() {
            crate::tell(format_args!("warning: {warning}"));
        }
        Ok(bridge.insert(made).clone())
    }
}

/// Writes the files of `/etc` that the pod's containers share.
pub(crate) fn write_etc(dirs: &PodDirs, config: &SandboxConfig, ip: Option<Ipv4Addr>) -> Result<()> {
    let write = |path: PathBuf, text: String| {
        std::fs::write(&path, text).map_err(|e| Error::Failed(format!("{} cannot be written: {e}", path.display())))
    };
    let on_machine = config.network == NamespaceMode::Node;
    let own = || config.hostname.clone();
    let hostname = if on_machine { rustix::system::uname().nodename().to_string_lossy().into_owned() } else { own() };
    write(dirs.hostname(), format!("{hostname}\n"))?;
    let hosts = if on_machine {
        let machine = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        hosts::host_network_hosts(&machine, &[])
    } else {
        let ips: Vec<IpAddr> = ip.into_iter().map(IpAddr::V4).collect();
        hosts::pod_hosts(&ips, &config.hostname, None, &[])
    };
    write(dirs.hosts(), hosts.map_err(failed)?)?;
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
