//! What a run left behind, counted: only what is ours, as other things may start and end beside it.
//!
//! A pod's id names all that it has on the machine, so the ids are noted while the pods run, and with
//! them the namespaces that their processes are in.

mod places;
mod processes;

use crate::owner;
use anyhow::Result;
use cofferdam_engine::Engine;
use cofferdam_plan::Layout;
use processes::Process;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often it is looked whether what goes has gone.
const POLL: Duration = Duration::from_millis(50);

/// Who sees what a run makes.
#[derive(Debug)]
pub(crate) struct Witness {
    layout: Layout,
    network: cofferdam_network::Config,
    /// Pods, folders and mounts that were there before.
    others: BTreeSet<String>,
    folders: BTreeSet<PathBuf>,
    mounts: BTreeSet<PathBuf>,
    /// The run's pods, each with the namespaces that its processes were seen in, and when each was
    /// seen last, hundredths of a second since the machine's start.
    pods: BTreeMap<String, BTreeMap<String, u64>>,
}

/// What is there now and should not be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Left {
    processes: usize,
    mounts: usize,
    namespaces: usize,
    cgroups: usize,
    links: usize,
    rules: usize,
    files: usize,
}

impl Left {
    pub(crate) fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            processes,
            mounts,
            namespaces,
            cgroups,
            links,
            rules,
            files,
        } = self;
        write!(
            f,
            "processes {processes}, mounts {mounts}, namespaces {namespaces}, cgroups {cgroups}, links {links}, rules {rules}, files {files}"
        )
    }
}

impl Witness {
    /// Looks before anything of the run is made.
    pub(crate) fn new(engine: &Engine, network: &cofferdam_network::Config) -> Self {
        let layout = engine.layout().clone();
        Self {
            others: places::pod_ids(&layout),
            folders: places::folders(&layout),
            mounts: places::mounts(&layout),
            network: network.clone(),
            pods: BTreeMap::new(),
            layout,
        }
    }

    /// Notes the pods that there are now, and their namespaces.
    pub(crate) fn look(&mut self) {
        for id in places::pod_ids(&self.layout).difference(&self.others) {
            self.pods.entry(id.clone()).or_default();
        }
        let (own, now) = (processes::own_namespaces(), processes::uptime());
        for process in processes::all() {
            if let Some(seen) = process.pod().and_then(|id| self.pods.get_mut(id)) {
                seen.extend(process.namespaces().difference(&own).map(|ns| (ns.clone(), now)));
            }
        }
    }

    /// What is left, once it has had `patience` to go: the kernel drops namespaces after the call
    /// that lets go of them has returned. With `all`, no pod of this layout is there any more, and
    /// what all pods need must be gone too.
    pub(crate) fn left(mut self, patience: Duration, all: bool) -> Result<Left> {
        self.look_for_last();
        let deadline = Instant::now() + patience;
        loop {
            let left = self.count(all)?;
            if left.is_nothing() || Instant::now() > deadline {
                return Ok(left);
            }
            std::thread::sleep(POLL);
        }
    }

    /// What is not removed is still there now. The pods of other processes are theirs.
    fn look_for_last(&mut self) {
        for id in places::pod_ids(&self.layout).difference(&self.others) {
            self.pods.entry(id.clone()).or_default();
        }
        let peers = owner::peers(&self.layout);
        for view in peers.views() {
            self.pods.remove(view["sandbox"].as_str().unwrap_or_default());
        }
    }

    fn count(&self, all: bool) -> Result<Left> {
        let running = processes::all();
        let bridge = all && places::link_names().contains(&self.network.bridge);
        Ok(Left {
            processes: running.iter().filter(|p| self.is_ours(p)).count(),
            mounts: self.mounts(&running),
            namespaces: self.namespaces(&running),
            cgroups: self.pods.keys().map(|id| places::cgroups(id)).sum(),
            links: places::links_of(self.pods.keys()) + usize::from(bridge),
            rules: usize::from(all && places::has_table(&self.network.table)?) + places::ports_of(&self.pods, &self.network, &self.layout)?,
            files: self.files(),
        })
    }

    /// In a cgroup of the run's pods, or a binary of ours that is in nobody else's.
    fn is_ours(&self, process: &Process) -> bool {
        match process.pod() {
            Some(id) => self.pods.contains_key(id),
            None => process.runs_from(&self.layout.bin()),
        }
    }

    /// Mounts under our directories on the machine, and those that name a pod wherever they are.
    fn mounts(&self, running: &[Process]) -> usize {
        let on_machine = places::mounts(&self.layout).difference(&self.mounts).count();
        let named = |line: &&String| self.pods.keys().any(|id| line.contains(id.as_str()));
        let elsewhere = processes::mount_tables(running);
        on_machine + elsewhere.iter().filter(named).count()
    }

    /// Namespaces of the run's pods that somebody is still in. The kernel gives a namespace's number
    /// again, so who began after it was seen last is in another one.
    fn namespaces(&self, running: &[Process]) -> usize {
        let mut held: BTreeMap<String, u64> = BTreeMap::new();
        for process in running {
            let began = process.began();
            for namespace in process.namespaces() {
                let first = held.entry(namespace).or_insert(began);
                *first = began.min(*first);
            }
        }
        let still = |(namespace, seen): &(&String, &u64)| held.get(*namespace).is_some_and(|began| began <= *seen);
        self.pods
            .values()
            .flatten()
            .filter(still)
            .map(|(namespace, _)| namespace)
            .collect::<BTreeSet<_>>()
            .len()
    }

    /// Files and folders of the run's pods, and new ones that no process keeps a pod for.
    fn files(&self) -> usize {
        let peers = owner::peers(&self.layout);
        let uids: Vec<&str> = peers
            .views()
            .filter_map(|v| v["uid"].as_str())
            .filter(|uid| !uid.is_empty())
            .collect();
        let is_kept = |path: &PathBuf| uids.iter().any(|uid| path.to_string_lossy().ends_with(uid));
        let folders = places::folders(&self.layout);
        let new = folders.difference(&self.folders).filter(|path| !is_kept(path)).count();
        new + self.pods.keys().map(|id| places::files_of(&self.layout, id)).sum::<usize>()
    }
}
