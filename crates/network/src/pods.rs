//! The network of this machine, as an engine uses it: CNI plugins where there is a configuration of
//! theirs, the built-in bridge where there is none. Both sides clean up after both, for the
//! configuration may come and go while pods live.
//!
//! Everything of a pod is found by its id, and its address is given back last: whoever is killed
//! half way leaves an address, a port or a CNI record with the id, and [`Network::recover`] does
//! the rest.

use crate::attach::lo_up;
use crate::bandwidth::{self, Bandwidth};
use crate::bridge::{Bridge, Warning};
use crate::config::Config;
use crate::hostports::{Asking, HostPort, HostPorts};
use crate::ipam::Ipam;
use crate::link::{delete_link, hairpin, host_link, link_exists};
use crate::netlink::Connection;
use crate::{Error, Result};
use cofferdam_cni::{self as cni, Capabilities, Cni};
use cofferdam_host::netns;
use cofferdam_model::cri::SandboxConfig;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use cofferdam_cni::PodRef;

/// What a pod asks of the network.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Request {
    /// Ports of the machine.
    pub host_ports: Vec<HostPort>,
    /// Limits.
    pub bandwidth: Bandwidth,
    /// Resolver settings; for CNI plugins that want to know.
    pub dns: Option<cni::Dns>,
    /// The pod's cgroup; for CNI plugins that want to know.
    pub cgroup_path: Option<String>,
}

impl Request {
    /// Reads it from a sandbox's configuration: ports, and the annotations of limits. What cannot
    /// be honoured is refused, so that it may be called long before anything is made.
    pub fn of(config: &SandboxConfig) -> Result<Self> {
        let ports = config.port_mappings.iter().filter_map(|mapping| HostPort::of(mapping).transpose());
        let dns = config.dns.as_ref().map(|dns| cni::Dns {
            servers: dns.servers.clone(),
            searches: dns.searches.clone(),
            options: dns.options.clone(),
        });
        Ok(Self {
            host_ports: ports.collect::<Result<_>>()?,
            bandwidth: Bandwidth::of(&config.annotations)?,
            dns,
            cgroup_path: None,
        })
    }

    /// The same in the words of CNI.
    fn capabilities(&self) -> Capabilities {
        let port = |p: &HostPort| cni::PortMapping {
            host_port: p.host_port,
            container_port: p.container_port,
            protocol: p.protocol.as_str(),
            host_ip: p.host_ip,
        };
        // Bursts in bits; the plugin sets them on a link whose MTU is not known here.
        let both = |rate: Option<u64>| rate.map_or((0, 0), |bits| (bits, u64::from(bandwidth::burst(bits, 65_535)) * 8));
        let ((ingress_rate, ingress_burst), (egress_rate, egress_burst)) = (both(self.bandwidth.ingress), both(self.bandwidth.egress));
        let limits = cni::Bandwidth {
            ingress_rate,
            ingress_burst,
            egress_rate,
            egress_burst,
        };
        Capabilities {
            port_mappings: self.host_ports.iter().map(port).collect(),
            bandwidth: (!self.bandwidth.is_none()).then_some(limits),
            dns: self.dns.clone(),
            cgroup_path: self.cgroup_path.clone(),
            ..Capabilities::default()
        }
    }
}

/// A pod that is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wired {
    /// Its addresses, the first is the pod's IP; never empty.
    pub ips: Vec<IpAddr>,
    /// The machine's end of its link; `None` where plugins made it.
    pub host_link: Option<String>,
}

/// The network of this machine.
#[derive(Debug)]
pub struct Network {
    config: Config,
    state: PathBuf,
    ipam: Ipam,
    ports: HostPorts,
    bridge: Mutex<Option<Bridge>>,
    plugins: cni::Options,
    /// The last configuration of CNI that was read, with the version that was settled on.
    last: Mutex<Option<Arc<Cni>>>,
}

impl Network {
    /// Opens the address store in `state`; nothing of the network is made yet.
    pub fn open(config: Config, state: impl Into<PathBuf>, plugins: cni::Options) -> Result<Self> {
        let state = state.into();
        let ipam = Ipam::open(&config, &state)?;
        let ports = HostPorts::new(&config, &state);
        Ok(Self {
            config,
            state,
            ipam,
            ports,
            bridge: Mutex::new(None),
            plugins,
            last: Mutex::new(None),
        })
    }

    /// Whether pods are attached by CNI plugins; asked anew each time, for the configuration may
    /// come and go. One that cannot be used is an error: it is not passed over.
    pub fn uses_cni(&self) -> Result<bool> {
        Ok(self.cni()?.network().is_some())
    }

    /// Whether plugins attached the pod, or began to, whatever the configuration is now. Where that
    /// cannot be known, they are thought to have.
    pub fn is_attached_by_plugins(&self, pod_id: &str) -> bool {
        self.known_cni().attached().map_or(true, |ids| ids.iter().any(|id| id == pod_id))
    }

    /// Gives the pod's namespace, `/proc/<pid>/ns/net` of a process that lives as long as the pod,
    /// its `lo`, its `eth0`, addresses, ports of the machine and limits: all of it, or an error
    /// and nothing.
    pub fn attach(&self, pod: &PodRef<'_>, namespace: &Path, request: &Request) -> Result<Wired> {
        let cni = self.cni()?;
        let fd = netns::open(namespace)?;
        if netns::is_own(&fd)? {
            return Err(Error::OwnNamespace { pod: pod.id.to_owned() });
        }
        if cni.network().is_some() {
            // `lo` is ours: no plugin is called for it.
            lo_up(&fd)?;
            let attachment = cni.add(pod, namespace, &request.capabilities())?;
            return Ok(Wired {
                ips: attachment.ips,
                host_link: None,
            });
        }
        let bridge = self.bridge()?;
        let wired = self.attach_to(&bridge, pod, fd.as_fd(), request);
        if wired.is_err() {
            // The error to tell is why it failed; what its clean-up leaves is found by the id.
            let _ = host_link(pod.id).and_then(|link| delete_link(&link));
            let _ = self.detach_bridge(pod.id);
        }
        wired
    }

    fn attach_to(&self, bridge: &Bridge, pod: &PodRef<'_>, namespace: std::os::fd::BorrowedFd<'_>, request: &Request) -> Result<Wired> {
        let ip = self.ipam.allocate(pod.id)?;
        let attached = bridge.attach(namespace, pod.id, ip)?;
        bandwidth::limit(pod.id, request.bandwidth, attached.mtu)?;
        let name = format!("{}/{}", pod.namespace, pod.name);
        let asking = Asking {
            id: pod.id,
            name: &name,
            ip,
            ip6: attached.ip6,
        };
        if !request.host_ports.is_empty() {
            hairpin(&attached.host_link)?;
            self.ports.add(&asking, &request.host_ports)?;
        }
        let ips = [Some(IpAddr::V4(ip)), attached.ip6.map(IpAddr::V6)];
        Ok(Wired {
            ips: ips.into_iter().flatten().collect(),
            host_link: Some(attached.host_link),
        })
    }

    /// Takes the pod off: ports, plugins, limits, address. It may be repeated, and a pod that is
    /// not attached is no error. Where CNI is used it is best called while the namespace lives
    /// (some plugins leave rules behind otherwise), and then with its path; the link of the
    /// built-in bridge goes with the namespace.
    pub fn detach(&self, pod_id: &str, namespace: Option<&Path>) -> Result<()> {
        let plugins = self.known_cni().del(pod_id, namespace);
        self.detach_bridge(pod_id)?;
        Ok(plugins?)
    }

    fn detach_bridge(&self, pod_id: &str) -> Result<()> {
        self.ports.remove(pod_id)?;
        let mut connection = Connection::route().map_err(Error::netlink("open a netlink socket"))?;
        bandwidth::remove(&mut connection, pod_id)?;
        self.ipam.release(pod_id)
    }

    /// Whether the pod's attachment is as it was made: CHECK of the plugins, or that its link is there.
    pub fn check(&self, pod_id: &str, namespace: &Path) -> Result<bool> {
        match self.known_cni().check(pod_id, namespace)? {
            cni::Check::NotAttached => link_exists(&host_link(pod_id)?),
            _ => Ok(true),
        }
    }

    /// Whether pods could be attached (CRI's `NetworkReady`): STATUS of the plugins, or that the
    /// bridge's subnet is free.
    pub fn status(&self) -> Result<()> {
        let cni = self.cni()?;
        if cni.network().is_some() {
            Ok(cni.status()?)
        } else {
            Bridge::check(&self.config)
        }
    }

    /// The ids of pods that have anything of the network, or had it when somebody was killed.
    pub fn attached(&self) -> Result<BTreeSet<String>> {
        let addresses = self.ipam.held()?.into_iter().map(|(_, pod)| pod);
        let ports = self.ports.list()?.into_iter().map(|held| held.pod);
        Ok(addresses.chain(ports).chain(self.known_cni().attached()?).collect())
    }

    /// Takes off the pods of `attached` that are not among `known`. Ask for `attached` first and
    /// for `known` after it: a pod of another process that got something by then has been known
    /// since before. All are tried; the first failure is told.
    pub fn recover(&self, attached: &BTreeSet<String>, known: &BTreeSet<String>) -> Result<()> {
        let mut outcome = Ok(());
        for id in attached.difference(known) {
            outcome = outcome.and(self.detach(id, None));
        }
        outcome
    }

    /// Tells the plugins which pods are left (GC), and takes off all others; `valid` is asked while
    /// no pod is being added. False where one is, and nothing was done.
    pub fn collect(&self, valid: impl FnOnce() -> BTreeSet<String>) -> Result<bool> {
        Ok(self.known_cni().gc(valid)?)
    }

    /// Removes the bridge, its pods' links and the rules. What plugins made is theirs.
    pub fn tear_down(&self) -> Result<()> {
        let mut bridge = lock(&self.bridge);
        Bridge::teardown(&self.config, &self.state)?;
        *bridge = None;
        Ok(())
    }

    /// What a person should know of the bridge, once it has been made.
    pub fn warnings(&self) -> Vec<Warning> {
        lock(&self.bridge)
            .as_ref()
            .map(|bridge| bridge.warnings().to_vec())
            .unwrap_or_default()
    }

    fn bridge(&self) -> Result<Bridge> {
        let mut bridge = lock(&self.bridge);
        if let Some(there) = bridge.as_ref() {
            return Ok(there.clone());
        }
        Ok(bridge.insert(Bridge::ensure(&self.config, &self.state)?).clone())
    }

    /// CNI by the configuration of now.
    fn cni(&self) -> Result<Arc<Cni>> {
        let read = Cni::open(self.plugins.clone())?;
        let mut last = lock(&self.last);
        match last.as_ref() {
            Some(cni) if cni.network() == read.network() => Ok(Arc::clone(cni)),
            _ => Ok(Arc::clone(last.insert(Arc::new(read)))),
        }
    }

    /// As [`Network::cni`]; a configuration that cannot be used is none: for what was attached by
    /// another one.
    fn known_cni(&self) -> Arc<Cni> {
        self.cni().unwrap_or_else(|_| Arc::new(Cni::without_network(self.plugins.clone())))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::Protocol;
    use cofferdam_model::cri::PortMapping;

    fn sandbox(ports: &[(u16, u16, &str)], annotations: &[(&str, &str)]) -> SandboxConfig {
        let mapping = |(host_port, container_port, protocol): &(u16, u16, &str)| PortMapping {
            protocol: (*protocol).to_owned(),
            container_port: *container_port,
            host_port: *host_port,
            host_ip: None,
        };
        SandboxConfig {
            port_mappings: ports.iter().map(mapping).collect(),
            annotations: annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..SandboxConfig::default()
        }
    }

    #[test]
    fn requests_are_read_from_a_sandbox_and_said_in_the_words_of_cni() {
        let asked = sandbox(
            &[(0, 80, "TCP"), (8080, 80, "TCP"), (53, 5353, "UDP")],
            &[("kubernetes.io/egress-bandwidth", "10M")],
        );
        let request = Request::of(&asked).unwrap();
        let ports: Vec<_> = request
            .host_ports
            .iter()
            .map(|p| (p.protocol, p.host_port, p.container_port))
            .collect();
        assert_eq!(
            ports,
            [(Protocol::Tcp, 8080, 80), (Protocol::Udp, 53, 5353)],
            "without a port of the machine there is nothing to do"
        );
        let said = request.capabilities();
        assert_eq!((said.port_mappings.len(), said.port_mappings[1].protocol), (2, "udp"));
        let limits = said.bandwidth.unwrap();
        assert_eq!((limits.ingress_rate, limits.ingress_burst, limits.egress_rate), (0, 0, 10_000_000));
        assert!(limits.egress_burst >= 65_535 * 8, "a packet fits in");
        assert_eq!(Request::of(&sandbox(&[], &[])).unwrap(), Request::default());
        assert_eq!(Request::default().capabilities(), Capabilities::default());
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        for (asked, expected) in [
            (sandbox(&[(1, 1, "ICMP")], &[]), "protocol"),
            (
                sandbox(&[], &[("kubernetes.io/ingress-bandwidth", "fast")]),
                "kubernetes.io/ingress-bandwidth",
            ),
        ] {
            let error = Request::of(&asked).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
