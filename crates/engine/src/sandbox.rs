//! Sandboxes: made by the steps of [`cofferdam_plan::steps`], undone by one procedure.

use crate::failpoint::reach;
use crate::handlers::Definition;
use crate::record::{self, SandboxRecord, SandboxResult};
use crate::wire::write_etc;
use crate::{Engine, prove};
use cofferdam_host::cgroup::{Group, Limits, Mode};
use cofferdam_host::files::Durability;
use cofferdam_host::process::Identity;
use cofferdam_host::{files, ids, privilege, remove};
use cofferdam_model::cri::{Error, LinuxResources, NamespaceMode, Result, SandboxConfig, SandboxState, SandboxStatus, Stage};
use cofferdam_model::{ContainerId, PodId};
use cofferdam_monitor::client::{self, Client};
use cofferdam_monitor::protocol::{MountOp, Start};
use cofferdam_plan::layout::PodDirs;
use cofferdam_plan::steps::SandboxStep;
use cofferdam_runtimes::{Driver, Pod};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// `mount(2)` flags that are used here.
pub(crate) const MS_NOSUID_NODEV: u64 = 2 | 4;
const MS_NOEXEC: u64 = 8;
const MS_MOVE: u64 = 8192;
/// How long the processes of a killed pod may take to go.
pub(crate) const KILL_DEADLINE: Duration = Duration::from_secs(10);
/// Key under which a driver keeps the enclosure's own process.
pub(crate) const ENCLOSURE_KEY: &str = "pause";

/// Measures how long each stage took.
pub(crate) struct Stopwatch {
    last: Instant,
    pub(crate) stages: Vec<Stage>,
}

impl Stopwatch {
    pub(crate) fn new() -> Self {
        Self { last: Instant::now(), stages: Vec::with_capacity(8) }
    }

    pub(crate) fn lap(&mut self, name: &str) {
        let now = Instant::now();
        let micros = u64::try_from((now - self.last).as_micros()).unwrap_or(u64::MAX);
        self.stages.push(Stage { name: name.to_owned(), micros });
        self.last = now;
    }
}

/// What a sandbox is made with beside its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A pod of a user: the handler must be proved.
    Pod,
    /// The canary that proves a handler, and the process that waits for it: no network.
    Canary(Identity),
}

/// A sandbox as its record and result show it.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) dirs: PodDirs,
    pub(crate) record: SandboxRecord,
    pub(crate) result: SandboxResult,
}

impl Known {
    /// The driver's view.
    pub(crate) fn pod<'a>(&'a self, engine: &Engine) -> Result<Pod<'a>> {
        Ok(Pod {
            id: &self.record.id,
            dirs: self.dirs.clone(),
            config: &self.record.config,
            monitor_pid: self.result.monitor_pid,
            enclosure_pid: self.result.enclosure_pid,
            cgroup_files: engine.inner_join_files(&engine.group(self.dirs.sandbox_cgroup())?),
            foreign_cgroups: engine.foreign_cgroups()?,
            pause: engine.monitor.clone(),
            oom_score_adj: privilege::clamp_oom_score_adj(0).map_err(failed)?,
        })
    }

    pub(crate) fn driver(&self) -> Result<Box<dyn Driver>> {
        self.record.definition.driver().map_err(Error::Handler)
    }
}

impl Engine {
    /// Makes and starts a sandbox; see [`cofferdam_model::cri::Runtime::run_pod_sandbox`].
    pub fn run_sandbox(&self, config: &SandboxConfig, handler: &str) -> Result<PodId> {
        let table = self.table();
        let (name, definition) = table.resolve(handler)?;
        prove::require(self, name, definition)?;
        self.make_sandbox(config, name, definition, Purpose::Pod)
    }

    pub(crate) fn make_sandbox(
        &self,
        config: &SandboxConfig,
        handler: &str,
        definition: &Definition,
        purpose: Purpose,
    ) -> Result<PodId> {
        let driver = definition.driver().map_err(Error::Handler)?;
        if let Some(reason) = driver.refuses(config) {
            return Err(Error::Invalid(format!("handler \"{handler}\" cannot run this pod: {reason}")));
        }
        let id = PodId::from_bytes(ids::random_bytes().map_err(failed)?);
        let dirs = self.layout.pod(&id);
        // Held until the result is written: nobody takes this pod for a dead one.
        let mut watch = Stopwatch::new();
        let lock = claim(&dirs)?;
        let made = self.make_steps(&id, &dirs, config, handler, definition, driver.as_ref(), purpose, &mut watch);
        if let Err(error) = made {
            let undone = self.undo(&id);
            drop(lock);
            return Err(match undone {
                Ok(()) => error,
                Err(left) => Error::Failed(format!("{error}; and it could not be undone yet: {left}")),
            });
        }
        drop(lock);
        if purpose == Purpose::Pod {
            self.hub.watch(&id);
        }
        Ok(id)
    }

    #[allow(clippy::too_many_arguments)]
    fn make_steps(
        &self,
        id: &PodId,
        dirs: &PodDirs,
        config: &SandboxConfig,
        handler: &str,
        definition: &Definition,
        driver: &dyn Driver,
        purpose: Purpose,
        watch: &mut Stopwatch,
    ) -> Result<()> {
        let mut done = |step: SandboxStep| {
            watch.lap(step.name());
            reach(&format!("sandbox.{}", step.name()));
        };
        files::private_dir(dirs.exits()).map_err(failed)?;
        done(SandboxStep::RunDir);

        let record = SandboxRecord {
            version: record::VERSION,
            id: id.clone(),
            boot_id: self.boot_id.clone(),
            created_at: ids::now_nanos(),
            handler: handler.to_owned(),
            definition: definition.clone(),
            config: config.clone(),
            prover: match purpose {
                Purpose::Canary(prover) => Some(prover),
                Purpose::Pod => None,
            },
        };
        files::private_dir(&dirs.dir).map_err(failed)?;
        // Not synced: all that the record names is gone with the power too, but for this directory.
        record::write(&dirs.record(), &record, Durability::Cached)?;
        done(SandboxStep::Intent);

        let pod_group = self.group(dirs.cgroup())?;
        pod_group.create().map_err(failed)?;
        pod_group.set_limits(&limits(&config.resources)).map_err(failed)?;
        let enclosure = self.group(dirs.sandbox_cgroup())?;
        enclosure.create().map_err(failed)?;
        done(SandboxStep::Cgroup);

        let monitor_pid = self.start_monitor(id, dirs, config, &enclosure)?;
        done(SandboxStep::Monitor);

        let ip = match (config.network, purpose) {
            (NamespaceMode::Node, _) | (_, Purpose::Canary(_)) => None,
            _ => Some(self.wire.attach(id.as_str(), monitor_pid)?),
        };
        write_etc(dirs, config, ip)?;
        done(SandboxStep::Network);

        let pod = Pod {
            id,
            dirs: dirs.clone(),
            config,
            monitor_pid,
            enclosure_pid: None,
            cgroup_files: self.inner_join_files(&enclosure),
            foreign_cgroups: self.foreign_cgroups()?,
            pause: self.monitor.clone(),
            oom_score_adj: privilege::clamp_oom_score_adj(0).map_err(failed)?,
        };
        let enclosure_pid = driver.make_enclosure(&pod).map_err(failed)?;
        done(SandboxStep::Enclosure);

        let mut result = SandboxResult {
            version: record::VERSION,
            state: SandboxState::Ready,
            removing: false,
            reason: None,
            oom: false,
            ip,
            monitor_pid,
            enclosure_pid,
            stages: vec![],
        };
        result.stages = std::mem::take(&mut watch.stages);
        record::write(&dirs.status(), &result, Durability::Synced)?;
        reach("sandbox.result");
        Ok(())
    }

    fn start_monitor(&self, id: &PodId, dirs: &PodDirs, config: &SandboxConfig, enclosure: &Group) -> Result<i32> {
        let own_network = config.network != NamespaceMode::Node;
        let start = Start {
            socket: dirs.socket(),
            exit_dir: dirs.exits(),
            cgroup_files: enclosure.join_files(),
            unshare_net: own_network,
            unshare_ipc: config.ipc != NamespaceMode::Node,
            hostname: own_network.then(|| config.hostname.clone()),
            mounts: self.monitor_mounts(dirs, config),
            sysctls: sysctl_files(config)?,
            oom_score_adj: Some(privilege::clamp_oom_score_adj(MONITOR_OOM_SCORE).map_err(failed)?),
        };
        let (client, child) = client::start_monitor(&self.monitor, &start)
            .map_err(|e| Error::Failed(format!("the pod's monitor did not start: {e}")))?;
        self.hub.adopt(id, child);
        Ok(client.monitor_pid())
    }

    /// What is mounted in the monitor's own mount namespace: the pod's `/dev/shm`, and the cgroup
    /// controllers moved away, so that runtimes leave them alone.
    fn monitor_mounts(&self, dirs: &PodDirs, config: &SandboxConfig) -> Vec<MountOp> {
        let mut ops = Vec::new();
        for (at, target) in self.moved_cgroups() {
            ops.push(MountOp::Mkdir(target.clone()));
            ops.push(MountOp::Mount { source: at, target, fstype: String::new(), flags: MS_MOVE, data: String::new() });
        }
        if config.ipc != NamespaceMode::Node {
            ops.push(MountOp::Mkdir(dirs.shm()));
            ops.push(tmpfs(dirs.shm(), "mode=1777,size=65536k", MS_NOSUID_NODEV | MS_NOEXEC));
        }
        ops
    }

    /// The cgroup mounts that a monitor moves away, and where to: all but the one of the devices
    /// controller, without which runc refuses to run. On v2 there is but one, and it stays.
    fn moved_cgroups(&self) -> Vec<(PathBuf, PathBuf)> {
        if self.cgroups.mode() == Mode::V2 {
            return vec![];
        }
        let named = self.cgroups.mounts();
        let kept = named.get("devices");
        let all: BTreeSet<PathBuf> = named.values().cloned().chain(self.cgroups.unified().map(Into::into)).collect();
        let target = |at: &PathBuf| self.layout.moved_cgroups().join(at.file_name().unwrap_or_default());
        all.into_iter().filter(|at| Some(at) != kept).map(|at| (at.clone(), target(&at))).collect()
    }

    /// Where a monitor sees the controllers that our groups are not in.
    fn foreign_cgroups(&self) -> Result<Vec<PathBuf>> {
        let all = self.group(cofferdam_plan::layout::CGROUP_ROOT)?.directories();
        let ours: BTreeSet<PathBuf> = all.iter().filter_map(|dir| dir.parent().map(Into::into)).collect();
        Ok(self.moved_cgroups().into_iter().filter(|(at, _)| !ours.contains(at)).map(|(_, target)| target).collect())
    }

    /// The files by which a process that a monitor spawns joins a group: as seen from there.
    pub(crate) fn inner_join_files(&self, group: &Group) -> Vec<PathBuf> {
        let moved = self.moved_cgroups();
        group.join_files().into_iter().map(|file| seen_inside(&moved, file)).collect()
    }

    /// The directories of a group as seen from a monitor, each with the name of its hierarchy.
    pub(crate) fn inner_directories(&self, group: &Group) -> Vec<(PathBuf, PathBuf)> {
        let moved = self.moved_cgroups();
        let named = |dir: PathBuf| {
            // The hierarchy's mount point: what is left without the group's own path.
            let point = dir.ancestors().nth(group.path().components().count()).unwrap_or(&dir);
            (point.file_name().unwrap_or_default().into(), seen_inside(&moved, dir.clone()))
        };
        group.directories().into_iter().map(named).collect()
    }

    /// Kills what runs in the sandbox and gives its network back; the record stays.
    pub fn stop_sandbox(&self, id: &PodId) -> Result<()> {
        let Some((_lock, mut known)) = self.locked(id)? else { return Ok(()) };
        self.end(&known.dirs, id)?;
        if known.result.state == SandboxState::Ready {
            known.result.state = SandboxState::NotReady;
            known.result.reason = Some("it was stopped".into());
            record::write(&known.dirs.status(), &known.result, Durability::Cached)?;
        }
        Ok(())
    }

    /// Stops where needed, and removes the sandbox and its containers. Repeatable.
    pub fn remove_sandbox(&self, id: &PodId) -> Result<()> {
        let dirs = self.layout.pod(id);
        if !dirs.dir.exists() && !dirs.run.exists() {
            return Ok(());
        }
        files::private_dir(&dirs.run).map_err(failed)?;
        let _lock = files::Lock::exclusive(dirs.lock()).map_err(failed)?;
        self.hub.forget(id);
        self.undo(id)
    }

    /// Undoes all steps of a sandbox, last first; each tolerates that it was never done. Where one
    /// fails, the record stays, marked, and the whole is tried again later.
    pub(crate) fn undo(&self, id: &PodId) -> Result<()> {
        let dirs = self.layout.pod(id);
        let known = self.known(id).ok().flatten();
        if let Some(Known { mut result, .. }) = known {
            result.removing = true;
            result.state = SandboxState::NotReady;
            record::write(&dirs.status(), &result, Durability::Cached)?;
            reach("undo.marked");
        }
        let outcome = self.undo_steps(id, &dirs);
        if let (Err(error), Ok(Some(Known { mut result, .. }))) = (&outcome, self.known(id)) {
            result.reason = Some(format!("its removal failed and is tried again: {error}"));
            record::write(&dirs.status(), &result, Durability::Cached)?;
        }
        outcome
    }

    fn undo_steps(&self, id: &PodId, dirs: &PodDirs) -> Result<()> {
        self.end(dirs, id)?;
        reach("undo.ended");
        if let Ok(Some(record)) = record::read::<SandboxRecord>(&dirs.record())
            && let Ok(driver) = record.definition.driver()
        {
            for container in self.container_ids(dirs)? {
                driver.forget(dirs, container.as_str()).map_err(failed)?;
            }
            driver.forget(dirs, id.as_str()).map_err(failed)?;
        }
        reach("undo.forgot");
        remove::remove_tree(&dirs.dir).or_else(absent_is_fine).map_err(failed)?;
        reach("undo.record");
        remove::remove_tree(&dirs.run).or_else(absent_is_fine).map_err(failed)
    }

    /// Ends every process of the pod, removes its cgroups and gives its address back. Containers
    /// go before the monitor, so that it can write down how each ended.
    pub(crate) fn end(&self, dirs: &PodDirs, id: &PodId) -> Result<()> {
        let pod = self.group(dirs.cgroup())?;
        for container in self.container_ids(dirs)? {
            let group = self.group(dirs.container_cgroup(&container))?;
            group.kill_all(KILL_DEADLINE).map_err(failed)?;
        }
        if let Ok(monitor) = Client::connect(&dirs.socket()) {
            // An error here is a monitor that died just now: its cgroup is killed next anyway.
            let _ = monitor.shutdown();
        }
        reach("end.monitor");
        pod.kill_all(KILL_DEADLINE).map_err(failed)?;
        self.hub.reap(id);
        pod.remove(KILL_DEADLINE).map_err(failed)?;
        reach("end.cgroup");
        self.wire.release(id.as_str())
    }

    /// One sandbox.
    pub fn sandbox_status(&self, id: &PodId) -> Result<SandboxStatus> {
        self.known(id)?.map(status).ok_or_else(|| Error::NotFound(format!("pod sandbox {id} does not exist")))
    }

    /// The binary that runs a sandbox: the one that its handler named when it was made.
    pub fn sandbox_binary(&self, id: &PodId) -> Result<PathBuf> {
        Ok(self.must_know(id)?.record.definition.binary)
    }

    /// All sandboxes, oldest first. A canary is none of the user's and is left out; so is one whose
    /// record cannot be read, which recovery reports.
    pub fn list_sandboxes(&self) -> Result<Vec<SandboxStatus>> {
        let known = self.pod_ids()?.into_iter().filter_map(|id| self.known(&id).ok().flatten());
        let mut all: Vec<_> = known.filter(|k| k.record.prover.is_none()).map(status).collect();
        all.sort_by(|a, b| (a.created_at, a.id.as_str()).cmp(&(b.created_at, b.id.as_str())));
        Ok(all)
    }

    /// The sandbox's record and result; `None` where it is not there or still being made.
    pub(crate) fn known(&self, id: &PodId) -> Result<Option<Known>> {
        let dirs = self.layout.pod(id);
        let Some(record) = record::read::<SandboxRecord>(&dirs.record())? else { return Ok(None) };
        let Some(result) = record::read::<SandboxResult>(&dirs.status())? else { return Ok(None) };
        Ok(Some(Known { dirs, record, result }))
    }

    /// The sandbox as it is now that its lock is ours; `None` where it is not there. What was read
    /// before may have changed while the lock was waited for.
    pub(crate) fn locked(&self, id: &PodId) -> Result<Option<(files::Lock, Known)>> {
        let lock = match files::Lock::exclusive(self.layout.pod(id).lock()) {
            Err(e) if e.is_absent() => return Ok(None),
            taken => taken.map_err(failed)?,
        };
        Ok(self.known(id)?.map(|known| (lock, known)))
    }

    /// The sandbox, or an error that names it.
    pub(crate) fn must_know(&self, id: &PodId) -> Result<Known> {
        self.known(id)?.ok_or_else(|| Error::NotFound(format!("pod sandbox {id} does not exist")))
    }

    /// The group at a path of the layout.
    pub(crate) fn group(&self, path: impl AsRef<std::path::Path>) -> Result<Group> {
        self.cgroups.group(path).map_err(failed)
    }

    pub(crate) fn pod_ids(&self) -> Result<Vec<PodId>> {
        Ok(names_in(&self.layout.pods())?.into_iter().filter_map(|name| PodId::new(name).ok()).collect())
    }

    pub(crate) fn container_ids(&self, dirs: &PodDirs) -> Result<Vec<ContainerId>> {
        Ok(names_in(&dirs.containers())?.into_iter().filter_map(|name| ContainerId::new(name).ok()).collect())
    }
}

/// A path below a cgroup mount that a monitor has moved away, as seen from there.
fn seen_inside(moved: &[(PathBuf, PathBuf)], path: PathBuf) -> PathBuf {
    let seen = moved.iter().find_map(|(at, target)| Some(target.join(path.strip_prefix(at).ok()?)));
    seen.unwrap_or(path)
}

/// Makes a pod's run-time directory and takes the lock in it. Recovery, in another process, may find
/// the directory before the lock is taken, and remove both: then they are made again.
fn claim(dirs: &PodDirs) -> Result<files::Lock> {
    loop {
        files::private_dir(&dirs.run).map_err(failed)?;
        match files::Lock::exclusive(dirs.lock()) {
            Err(e) if e.is_absent() => {}
            taken => return taken.map_err(failed),
        }
    }
}

/// A monitor is worth more than what it watches, but must not outlive the machine's own services.
const MONITOR_OOM_SCORE: i32 = -998;

pub(crate) fn limits(resources: &LinuxResources) -> Limits {
    Limits {
        cpu_shares: resources.cpu_shares,
        cpu_quota: resources.cpu_quota,
        cpu_period: resources.cpu_period,
        memory_limit: resources.memory_limit,
        pids_limit: resources.pids_limit,
    }
}

/// A tmpfs; programs may be run from a volume, and not from `/dev/shm`.
pub(crate) fn tmpfs(target: PathBuf, data: &str, flags: u64) -> MountOp {
    MountOp::Mount {
        source: "tmpfs".into(),
        target,
        fstype: "tmpfs".into(),
        flags,
        data: data.to_owned(),
    }
}

/// Kernel settings that belong to the pod's namespaces, as upstream's safe and unsafe lists name
/// them (`pkg/kubelet/sysctl/namespaces.go`); any other would change the machine.
fn sysctl_files(config: &SandboxConfig) -> Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    for (name, value) in &config.sysctls {
        let network = name.starts_with("net.") && config.network != NamespaceMode::Node;
        let ipc = (name.starts_with("kernel.shm") || name.starts_with("kernel.msg") || name == "kernel.sem" || name.starts_with("fs.mqueue."))
            && config.ipc != NamespaceMode::Node;
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b)) && !name.contains("..");
        if !plain || !(network || ipc) {
            return Err(Error::Invalid(format!("sysctl \"{name}\" does not belong to a namespace of the pod; it would change the machine")));
        }
        files.push((PathBuf::from("/proc/sys").join(name.replace('.', "/")), value.clone()));
    }
    Ok(files)
}

fn status(known: Known) -> SandboxStatus {
    let Known { record, result, .. } = known;
    SandboxStatus {
        id: record.id,
        config: record.config,
        handler: record.handler,
        state: result.state,
        reason: result.reason,
        created_at: record.created_at,
        ip: result.ip.map(IpAddr::V4),
        stages: result.stages,
    }
}

/// The names in a directory; none where it is not there.
pub(crate) fn names_in(dir: &std::path::Path) -> Result<Vec<String>> {
    match std::fs::read_dir(dir) {
        Ok(entries) => Ok(entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(vec![]),
        Err(e) => Err(Error::Failed(format!("{} cannot be listed: {e}", dir.display()))),
    }
}

fn absent_is_fine(error: cofferdam_host::Error) -> std::result::Result<(), cofferdam_host::Error> {
    if error.is_absent() { Ok(()) } else { Err(error) }
}

/// For `map_err`: any edge's error, in its own words.
pub(crate) fn failed(error: impl std::fmt::Display) -> Error {
    Error::Failed(error.to_string())
}
