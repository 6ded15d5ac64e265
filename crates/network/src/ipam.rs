//! Which pod holds which address: a directory with a symbolic link an address, whose target is the
//! pod's id. Making one is atomic and exclusive in a single call, so that neither two processes
//! nor a kill between two writes can give an address twice or to nobody.

use crate::config::Config;
use crate::subnet::Ipv4Net;
use crate::{Error, Result};
use cofferdam_host::files::{Lock, private_dir};
use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

const LOCK: &str = "lock";

/// The addresses of one subnet.
#[derive(Debug)]
pub struct Ipam {
    subnet: Ipv4Net,
    gateway: Ipv4Addr,
    directory: PathBuf,
    /// The last address that was given: the next ones follow, so that addresses come back late.
    last: AtomicU32,
}

impl Ipam {
    /// Opens the store in `state`, made where it is not there. It goes on after the highest address
    /// that is held.
    pub fn open(config: &Config, state: &Path) -> Result<Self> {
        config.validate()?;
        let directory = state.join("addresses");
        private_dir(&directory)?;
        let ipam = Self {
            subnet: config.subnet,
            gateway: config.gateway(),
            directory,
            last: AtomicU32::new(0),
        };
        let highest = ipam
            .held()?
            .into_iter()
            .rev()
            .find(|(address, _)| config.subnet.contains(*address));
        ipam.last.store(
            highest.map_or(0, |(address, _)| address.into()),
            Ordering::Relaxed,
        );
        Ok(ipam)
    }

    /// Gives the pod the next free address after the one given last.
    pub fn allocate(&self, pod_id: &str) -> Result<Ipv4Addr> {
        check_id(pod_id)?;
        let (first, last) = (
            u32::from(self.subnet.network()) + 1,
            u32::from(self.subnet.broadcast()) - 1,
        );
        let count = last - first + 1;
        let hint = Some(self.last.load(Ordering::Relaxed))
            .filter(|ip| (first..=last).contains(ip))
            .unwrap_or(first);
        for step in 1..=count {
            let address = Ipv4Addr::from(first + (hint - first + step) % count);
            if address == self.gateway {
                continue;
            }
            let path = self.path(address);
            match symlink(pod_id, &path) {
                Ok(()) => {
                    self.last.store(address.into(), Ordering::Relaxed);
                    return Ok(address);
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(fail("create", &path)(e)),
            }
        }
        Err(Error::Exhausted {
            subnet: self.subnet,
        })
    }

    /// Gives back all addresses of the pod; none is no error.
    pub fn release(&self, pod_id: &str) -> Result<()> {
        self.drop_where(|holder| holder == pod_id).map(|_| ())
    }

    /// Gives back `address` if the pod holds it: cheaper than [`Ipam::release`] where the record
    /// tells the address.
    pub fn release_address(&self, pod_id: &str, address: Ipv4Addr) -> Result<()> {
        let _lock = self.lock()?;
        let path = self.path(address);
        match std::fs::read_link(&path) {
            Ok(holder) if holder == Path::new(pod_id) => remove(&path),
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(fail("read", &path)(e)),
        }
    }

    /// Who holds which address, in order of the addresses.
    pub fn held(&self) -> Result<Vec<(Ipv4Addr, String)>> {
        let entries = std::fs::read_dir(&self.directory).map_err(fail("list", &self.directory))?;
        let mut held = Vec::new();
        for entry in entries {
            let entry = entry.map_err(fail("list", &self.directory))?;
            let Some(address) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
                continue;
            };
            match std::fs::read_link(entry.path()) {
                Ok(holder) => held.push((address, holder.to_string_lossy().into_owned())),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(fail("read", &entry.path())(e)),
            }
        }
        held.sort();
        Ok(held)
    }

    /// Drops the addresses of pods that are not among `known`, and tells which those were.
    pub fn recover(&self, known: &BTreeSet<String>) -> Result<Vec<(Ipv4Addr, String)>> {
        self.drop_where(|holder| !known.contains(holder))
    }

    fn drop_where(&self, unwanted: impl Fn(&str) -> bool) -> Result<Vec<(Ipv4Addr, String)>> {
        // Reading who holds an address and removing it are two calls; under the lock nobody else
        // removes, and while it is there nobody can take it, so it is the holder that was read.
        let _lock = self.lock()?;
        let dropped: Vec<_> = self
            .held()?
            .into_iter()
            .filter(|(_, holder)| unwanted(holder))
            .collect();
        for (address, _) in &dropped {
            remove(&self.path(*address))?;
        }
        Ok(dropped)
    }

    fn lock(&self) -> Result<Lock> {
        Ok(Lock::exclusive(self.directory.join(LOCK))?)
    }

    fn path(&self, address: Ipv4Addr) -> PathBuf {
        self.directory.join(address.to_string())
    }
}

/// The id becomes a link's target: it must be one word that no path could be made of.
fn check_id(pod_id: &str) -> Result<()> {
    crate::link::host_link(pod_id)?;
    if pod_id.len() > 64 || !pod_id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(Error::PodId(pod_id.to_owned()));
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(fail("remove", path)(e)),
        _ => Ok(()),
    }
}

fn fail(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Path {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn pod(number: u32) -> String {
        format!("{number:032x}")
    }

    fn store(subnet: &str) -> (tempfile::TempDir, Ipam) {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            subnet: subnet.parse().unwrap(),
            ..Config::default()
        };
        let ipam = Ipam::open(&config, dir.path()).unwrap();
        (dir, ipam)
    }

    #[test]
    fn addresses_come_in_turn_and_back_late() {
        let (_dir, ipam) = store("10.9.0.0/29");
        let ip = |n| Ipv4Addr::new(10, 9, 0, n);
        for n in 2..=6 {
            assert_eq!(ipam.allocate(&pod(n.into())).unwrap(), ip(n));
        }
        // .0 and .7 are the network's, .1 the gateway's.
        assert!(matches!(
            ipam.allocate(&pod(9)),
            Err(Error::Exhausted { .. })
        ));
        ipam.release(&pod(3)).unwrap();
        ipam.release_address(&pod(5), ip(5)).unwrap();
        ipam.release_address(&pod(9), ip(6)).unwrap();
        assert_eq!(ipam.allocate(&pod(10)).unwrap(), ip(3));
        ipam.release(&pod(10)).unwrap();
        assert_eq!(
            ipam.allocate(&pod(11)).unwrap(),
            ip(5),
            "the next one, not the one given back last"
        );
        ipam.release(&pod(77)).unwrap();
        let held: Vec<_> = ipam
            .held()
            .unwrap()
            .into_iter()
            .map(|(a, _)| a.octets()[3])
            .collect();
        assert_eq!(held, [2, 4, 5, 6]);
    }

    #[test]
    fn recovery_drops_what_nobody_knows() {
        let (_dir, ipam) = store("10.9.0.0/24");
        let kept = ipam.allocate(&pod(1)).unwrap();
        let lost = ipam.allocate(&pod(2)).unwrap();
        let dropped = ipam.recover(&BTreeSet::from([pod(1)])).unwrap();
        assert_eq!(dropped, [(lost, pod(2))]);
        assert_eq!(ipam.held().unwrap(), [(kept, pod(1))]);
    }

    #[test]
    fn no_address_is_given_twice_at_once() {
        let (dir, ipam) = store("10.9.0.0/24");
        let config = Config {
            subnet: "10.9.0.0/24".parse().unwrap(),
            ..Config::default()
        };
        let other = Ipam::open(&config, dir.path()).unwrap();
        let mut given: Vec<Ipv4Addr> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8u32)
                .map(|t| {
                    let ipam = if t % 2 == 0 { &ipam } else { &other };
                    scope.spawn(move || {
                        (0..25)
                            .map(|n| ipam.allocate(&pod(t * 100 + n)).unwrap())
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            threads
                .into_iter()
                .flat_map(|t| t.join().unwrap())
                .collect()
        });
        given.sort();
        given.dedup();
        assert_eq!(given.len(), 200);
        assert_eq!(ipam.held().unwrap().len(), 200);
    }

    #[test]
    fn ids_that_could_be_paths_are_refused() {
        let (_dir, ipam) = store("10.9.0.0/24");
        for bad in ["", "x", "0123456789ab/../../x", &"a".repeat(100)] {
            assert!(ipam.allocate(bad).is_err(), "{bad}");
        }
        assert!(ipam.held().unwrap().is_empty());
    }
}
