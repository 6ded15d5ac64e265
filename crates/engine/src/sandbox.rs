//! Sandboxes: made by the steps of [`cofferdam_plan::steps`], undone by one procedure.

use crate::failpoint::reach;
use crate::handlers::{Definition, Kind};
use crate::record::{self, SandboxRecord, SandboxResult};
use crate::wire::write_etc;
use crate::{Engine, defaults, prove};
use cofferdam_host::cgroup::{Group, Limits};
use cofferdam_host::files::Durability;
use cofferdam_host::process::Identity;
use cofferdam_host::{files, ids, privilege, remove};
use cofferdam_model::cri::{Error, LinuxResources, NamespaceMode, Result, SandboxConfig, SandboxState, SandboxStatus, Stage};
use cofferdam_model::{ContainerId, PodId};
use cofferdam_monitor::client::Client;
use cofferdam_network::Request;
use cofferdam_plan::cgroup;
use cofferdam_plan::layout::PodDirs;
use cofferdam_plan::steps::SandboxStep;
use cofferdam_runtimes::{Driver, Pod};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// `mount(2)` flags that are used here.
pub(crate) const MS_NOSUID_NODEV: u64 = 2 | 4;
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

/// A sandbox that is being made.
#[derive(Debug, Clone, Copy)]
struct Making<'a> {
    id: &'a PodId,
    dirs: &'a PodDirs,
    config: &'a SandboxConfig,
    handler: &'a str,
    definition: &'a Definition,
    request: &'a Request,
    purpose: Purpose,
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
            ids: self.record.ids,
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
        self.run_sandbox_timed(config, handler, &mut vec![])
    }

    /// As [`Engine::run_sandbox`]; where it fails, `reached` has the stages that were done before.
    pub fn run_sandbox_timed(&self, config: &SandboxConfig, handler: &str, reached: &mut Vec<Stage>) -> Result<PodId> {
        let table = self.table();
        let (name, definition) = table.resolve(handler)?;
        prove::require(self, name, definition)?;
        let mut watch = Stopwatch::new();
        self.make_sandbox(config, name, definition, Purpose::Pod, &mut watch).inspect_err(|_| *reached = watch.stages)
    }

    pub(crate) fn make_sandbox(
        &self,
        config: &SandboxConfig,
        handler: &str,
        definition: &Definition,
        purpose: Purpose,
        watch: &mut Stopwatch,
    ) -> Result<PodId> {
        let driver = definition.driver().map_err(Error::Handler)?;
        let config = &*defaults::of_pod(&definition.defaults, definition.kind != Kind::Runsc, config);
        if let Some(reason) = driver.refuses(config) {
            return Err(Error::Invalid(format!("handler \"{handler}\" cannot run this pod: {reason}")));
        }
        let request = Request::of(config).map_err(|e| Error::Invalid(e.to_string()))?;
        let parent = cgroup::parent(&config.cgroup_parent).map_err(Error::Invalid)?;
        self.check_resources("the pod", &config.resources)?;
        let id = PodId::from_bytes(ids::random_bytes().map_err(failed)?);
        let dirs = self.layout.pod(&id).within(parent);
        // Held until the result is written: nobody takes this pod for a dead one.
        *watch = Stopwatch::new();
        let lock = claim(&dirs)?;
        let making = Making { id: &id, dirs: &dirs, config, handler, definition, request: &request, purpose };
        let made = self.make_steps(&making, driver.as_ref(), watch);
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

    fn make_steps(&self, making: &Making<'_>, driver: &dyn Driver, watch: &mut Stopwatch) -> Result<()> {
        let Making { id, dirs, config, .. } = *making;
        let mut done = |step: SandboxStep| {
            watch.lap(step.name());
            reach(&format!("sandbox.{}", step.name()));
        };
        files::private_dir(dirs.exits()).map_err(failed)?;
        if !config.cgroup_parent.as_os_str().is_empty() {
            let parent = dirs.cgroup_parent().as_os_str().as_encoded_bytes();
            files::atomic_write(dirs.cgroup_file(), parent, Durability::Cached).map_err(failed)?;
        }
        done(SandboxStep::RunDir);

        let record = self.write_intent(making)?;
        done(SandboxStep::Intent);

        let pod_group = self.group_in(dirs, dirs.cgroup())?;
        pod_group.create().map_err(failed)?;
        pod_group.set_limits(&limits(&config.resources)).map_err(failed)?;
        pod_group.set_unified(&config.resources.unified).map_err(failed)?;
        let enclosure = self.group_in(dirs, dirs.sandbox_cgroup())?;
        enclosure.create().map_err(failed)?;
        done(SandboxStep::Cgroup);

        let monitor_pid = self.start_monitor(&record, dirs, &enclosure)?;
        done(SandboxStep::Monitor);

        let ips = match (config.network, making.purpose) {
            (NamespaceMode::Node, _) | (_, Purpose::Canary(_)) => vec![],
            _ => self.wire.attach(id.as_str(), config, making.request, monitor_pid)?,
        };
        write_etc(dirs, monitor_pid, config, &ips, record.ids)?;
        done(SandboxStep::Network);

        let mut result = SandboxResult {
            version: record::VERSION,
            state: SandboxState::Ready,
            removing: false,
            reason: None,
            oom: false,
            ips,
            monitor_pid,
            enclosure_pid: None,
            stages: vec![],
            resources: None,
            changing: None,
            left: None,
        };
        let known = Known { dirs: dirs.clone(), record, result };
        let enclosure_pid = driver.make_enclosure(&known.pod(self)?).map_err(failed)?;
        done(SandboxStep::Enclosure);

        result = known.result;
        result.enclosure_pid = enclosure_pid;
        result.stages = std::mem::take(&mut watch.stages);
        record::write(&dirs.status(), &result, Durability::Synced)?;
        reach("sandbox.result");
        Ok(())
    }

    /// Writes the record, which names all that is made after it.
    fn write_intent(&self, making: &Making<'_>) -> Result<SandboxRecord> {
        // Ids are taken by being recorded: nobody else chooses in between.
        let (_claim, ids) = self.claim_ids(making.config)?.unzip();
        let record = SandboxRecord {
            version: record::VERSION,
            id: making.id.clone(),
            boot_id: self.boot_id.clone(),
            created_at: ids::now_nanos(),
            handler: making.handler.to_owned(),
            definition: making.definition.clone(),
            config: making.config.clone(),
            prover: match making.purpose {
                Purpose::Canary(prover) => Some(prover),
                Purpose::Pod => None,
            },
            ids,
        };
        files::private_dir(&making.dirs.dir).map_err(failed)?;
        // Not synced: all that the record names is gone with the power too, but for this directory.
        record::write(&making.dirs.record(), &record, Durability::Cached)?;
        if let Some(ids) = ids {
            self.let_through(making.dirs, ids)?;
        }
        Ok(record)
    }

    /// Kills what runs in the sandbox and gives its network back; the record stays.
    pub fn stop_sandbox(&self, id: &PodId) -> Result<()> {
        let Some((_lock, mut known)) = self.locked(id)? else { return Ok(()) };
        known.result.oom = self.enclosure_oom(&known);
        let ended = self.end(&known.dirs, id);
        let reason = match &ended {
            Ok(()) if known.result.state == SandboxState::Ready || known.result.left.is_some() => "it was stopped".to_owned(),
            Ok(()) => return Ok(()),
            Err(error) => format!("it was stopped, but not all of it is gone; stopping or removing it tries again: {error}"),
        };
        known.result.state = SandboxState::NotReady;
        known.result.reason = Some(reason);
        known.result.left = ended.as_ref().err().map(ToString::to_string);
        let written = record::write(&known.dirs.status(), &known.result, Durability::Cached);
        // On a disk that is full it cannot be written: what was stopped is stopped all the same, removing
        // it makes room, and until then it is found as a pod that died.
        if let (Ok(()), Err(error)) = (&ended, written) {
            crate::tell(format_args!("pod {} was stopped, which could not be recorded: {error}", id.short()));
        }
        ended
    }

    /// Stops where needed, and removes the sandbox and its containers. Repeatable.
    pub fn remove_sandbox(&self, id: &PodId) -> Result<()> {
        let dirs = self.layout.pod(id);
        loop {
            if !dirs.dir.exists() && !dirs.run.exists() {
                return Ok(());
            }
            files::private_dir(&dirs.run).map_err(failed)?;
            let _lock = match files::Lock::exclusive(dirs.lock()) {
                // Another removed it just now.
                Err(e) if e.is_absent() => continue,
                taken => taken.map_err(failed)?,
            };
            self.hub.forget(id);
            self.undo(id)?;
            // Its containers may have been the last of an image that nobody wants.
            self.collect_unwanted();
            return Ok(());
        }
    }

    /// Undoes all steps of a sandbox, last first; each tolerates that it was never done. Where one
    /// fails, the record stays, marked, and the whole is tried again later.
    pub(crate) fn undo(&self, id: &PodId) -> Result<()> {
        let dirs = self.dirs(id)?;
        let known = self.known(id).ok().flatten();
        if let Some(Known { mut result, .. }) = known {
            result.removing = true;
            result.state = SandboxState::NotReady;
            // On a disk that is full it cannot be written, and removing is what makes room: without the mark
            // recovery finds a pod that died.
            let _ = record::write(&dirs.status(), &result, Durability::Cached);
            reach("undo.marked");
        }
        let outcome = self.undo_steps(id, &dirs);
        if let (Err(error), Ok(Some(Known { mut result, .. }))) = (&outcome, self.known(id)) {
            result.reason = Some(format!("its removal failed and is tried again: {error}"));
            result.left = Some(error.to_string());
            // Where this cannot be written, the error is still told to who asked.
            let _ = record::write(&dirs.status(), &result, Durability::Cached);
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
        // The record last: what cannot be removed must stay known.
        for name in names_in(&dirs.dir)? {
            let path = dirs.dir.join(name);
            if path != dirs.record() && path != dirs.status() {
                remove_any(&path)?;
            }
        }
        remove_shared(&dirs.dir)?;
        reach("undo.record");
        self.cache.forget_pod(id, &dirs.dir);
        remove_shared(&dirs.run)
    }

    /// Ends every process of the pod, removes its cgroups and gives its address back. Containers
    /// go before the monitor, so that it can write down how each ended.
    pub(crate) fn end(&self, dirs: &PodDirs, id: &PodId) -> Result<()> {
        let pod = self.group(dirs.cgroup())?;
        for container in self.container_ids(dirs)? {
            let group = self.group(dirs.container_cgroup(&container))?;
            self.keep_oom(&dirs.container(&container), &group);
            group.kill_all(KILL_DEADLINE).map_err(failed)?;
        }
        reach("end.containers");
        // Plugins want the namespace, which is kept until they are asked.
        let mut namespace = None;
        if let Ok(monitor) = Client::connect(&dirs.socket()) {
            if self.wire.uses_plugins(id.as_str()) {
                namespace = cofferdam_host::netns::open(format!("/proc/{}/ns/net", monitor.monitor_pid())).ok();
            }
            // An error here is a monitor that died just now: its cgroup is killed next anyway.
            let _ = monitor.shutdown();
        }
        reach("end.monitor");
        pod.kill_all(KILL_DEADLINE).map_err(failed)?;
        self.hub.reap(id);
        pod.remove(KILL_DEADLINE).map_err(failed)?;
        reach("end.cgroup");
        // The address last: nobody is to get it while a pod has it.
        self.wire.detach(id.as_str(), namespace)?;
        reach("end.network");
        Ok(())
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
        let Some(record) = self.cache.read::<SandboxRecord>(&dirs.record())? else { return Ok(None) };
        let Some(result) = self.cache.read::<SandboxResult>(&dirs.status())? else { return Ok(None) };
        let dirs = dirs.within(cgroup::parent(&record.config.cgroup_parent).map_err(Error::Failed)?);
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

    /// Where everything of a pod is, be its record readable or not.
    pub(crate) fn dirs(&self, id: &PodId) -> Result<PodDirs> {
        let dirs = self.layout.pod(id);
        let parent = match files::read_text(dirs.cgroup_file(), 4096) {
            Ok(text) => PathBuf::from(text),
            Err(e) if e.is_absent() => record::read::<SandboxRecord>(&dirs.record()).ok().flatten().map(|r| r.config.cgroup_parent).unwrap_or_default(),
            Err(e) => return Err(failed(e)),
        };
        Ok(dirs.within(cgroup::parent(&parent).map_err(Error::Failed)?))
    }

    /// The group of a pod at a path that [`PodDirs`] gives.
    pub(crate) fn group_in(&self, dirs: &PodDirs, path: impl AsRef<std::path::Path>) -> Result<Group> {
        let group = self.group(path)?;
        let ours = dirs.cgroup_parent() == std::path::Path::new(cofferdam_plan::layout::CGROUP_ROOT);
        Ok(if ours { group } else { group.within(dirs.cgroup_parent()) })
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

pub(crate) fn limits(resources: &LinuxResources) -> Limits {
    Limits {
        cpu_shares: resources.cpu_shares,
        cpu_quota: resources.cpu_quota,
        cpu_period: resources.cpu_period,
        memory_limit: resources.memory_limit,
        memory_swap_limit: resources.memory_swap_limit,
        pids_limit: resources.pids_limit,
    }
}

fn status(known: Known) -> SandboxStatus {
    let (overhead, resources) = known.resources();
    let Known { record, result, .. } = known;
    SandboxStatus {
        id: record.id,
        config: SandboxConfig { overhead, resources, ..record.config },
        handler: record.handler,
        state: result.state,
        reason: result.reason,
        created_at: record.created_at,
        ip: result.ips.first().copied(),
        ips: result.ips,
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

/// Removes a file, or a directory with all that is in it.
fn remove_any(path: &std::path::Path) -> Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => remove_shared(path),
        Ok(_) => match std::fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::Failed(format!("{} cannot be removed: {e}", path.display()))),
            _ => Ok(()),
        },
        Err(_) => Ok(()),
    }
}

/// Removes a directory in which others may make a file anew meanwhile: who waits for the lock, or who notes that
/// an end was told.
pub(crate) fn remove_shared(dir: &std::path::Path) -> Result<()> {
    const TRIES: usize = 16;
    let mut removed = Ok(());
    for _ in 0..TRIES {
        removed = remove::remove_tree(dir).or_else(absent_is_fine).map_err(failed);
        if removed.is_ok() {
            break;
        }
    }
    removed
}

fn absent_is_fine(error: cofferdam_host::Error) -> std::result::Result<(), cofferdam_host::Error> {
    if error.is_absent() { Ok(()) } else { Err(error) }
}

/// For `map_err`: any edge's error, in its own words.
pub(crate) fn failed(error: impl std::fmt::Display) -> Error {
    Error::Failed(error.to_string())
}
