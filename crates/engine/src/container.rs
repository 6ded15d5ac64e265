//! Containers: made by the steps of [`cofferdam_plan::steps::ContainerStep`], started, stopped,
//! removed. The end of a container is what the monitor wrote down, and nothing else.

use crate::events::MONITOR_DIED;
use crate::failpoint::reach;
use crate::record::{self, ContainerRecord, ContainerResult, Prepared};
use crate::devices::gives_devices;
use crate::recover::monitor_is_gone;
use crate::sandbox::{KILL_DEADLINE, Known, Stopwatch, failed, limits, names_in, remove_shared};
use crate::spec::signal_number;
use crate::{Engine, defaults, devices, mounts, prove, users};
use cofferdam_handlers::Snapshotter;
use cofferdam_host::cgroup::DEFAULT_DEVICES;
use cofferdam_host::files::Durability;
use cofferdam_host::{files, ids};
use cofferdam_images::Image;
use cofferdam_model::cri::{ContainerConfig, Error, Result, SandboxState, Stage};
use cofferdam_model::{ContainerId, PodId};
use cofferdam_monitor::protocol::Stdio;
use cofferdam_plan::layout::ContainerDirs;
use cofferdam_plan::steps::ContainerStep;
use cofferdam_plan::userns::IdRange;
use cofferdam_runtimes::Container;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SIGTERM: i32 = 15;
pub(crate) const SIGKILL: i32 = 9;

/// What a container's root is made of.
pub(crate) enum Root {
    /// An image.
    Image(Box<Image>),
    /// A directory: the canary's.
    Directory(PathBuf),
}

/// A container as its record and result show it.
pub(crate) struct KnownContainer {
    pub(crate) dirs: ContainerDirs,
    pub(crate) record: ContainerRecord,
    pub(crate) result: ContainerResult,
}

/// An id that no container has.
pub(crate) fn new_id(pod: &PodId) -> Result<ContainerId> {
    Ok(ContainerId::within(pod, ids::random_bytes().map_err(failed)?))
}

impl Engine {
    /// Makes a container; its process waits to be started.
    pub fn create_container(&self, pod: &PodId, config: &ContainerConfig) -> Result<ContainerId> {
        self.create_container_as(pod, config, new_id(pod)?, &mut vec![])
    }

    /// As [`Engine::create_container`], under an id that others were told of before; it must be a fresh one. Where
    /// it fails, `reached` has the stages that were done before.
    pub fn create_container_as(
        &self,
        pod: &PodId,
        config: &ContainerConfig,
        id: ContainerId,
        reached: &mut Vec<Stage>,
    ) -> Result<ContainerId> {
        let image = self.store.resolve_for_run(&config.image).map_err(|e| match e {
            cofferdam_images::Error::NotFound(_) => Error::NotFound(e.to_string()),
            other => failed(other),
        })?;
        // The binary may have been replaced since the sandbox was made.
        let known = self.must_know(pod)?;
        let proof = prove::require(self, &known.record.handler, &known.record.definition)?;
        if let Some(reason) = known.driver()?.refuses_container(config, &proof.features) {
            let (handler, name) = (&known.record.handler, &config.name);
            return Err(Error::Invalid(format!("handler \"{handler}\" cannot run container \"{name}\": {reason}")));
        }
        self.check_resources(&format!("container \"{}\"", config.name), &config.resources)?;
        let config = defaults::of_container(&known.record.definition.defaults, config);
        let mut watch = Stopwatch::new();
        self.make_container(pod, &config, Root::Image(Box::new(image)), id, &mut watch).inspect_err(|_| *reached = watch.stages)
    }

    pub(crate) fn make_container(
        &self,
        pod: &PodId,
        config: &ContainerConfig,
        root: Root,
        id: ContainerId,
        watch: &mut Stopwatch,
    ) -> Result<ContainerId> {
        let Some((_lock, known)) = self.locked(pod)? else {
            return Err(Error::NotFound(format!("pod sandbox {pod} does not exist")));
        };
        if known.result.state != SandboxState::Ready {
            let why = known.result.reason.as_deref().unwrap_or("it is not ready");
            return Err(Error::Precondition(format!("pod sandbox {pod} takes no containers: {why}")));
        }
        match self.make_container_steps(&known, &id, config, &root, watch) {
            Ok(()) => {
                self.cache.remember(&id, pod);
                Ok(id)
            }
            Err(error) => match self.undo_container(&known, &id) {
                Ok(()) => Err(error),
                Err(left) => Err(Error::Failed(format!("{error}; and it could not be undone yet: {left}"))),
            },
        }
    }

    fn make_container_steps(
        &self,
        known: &Known,
        id: &ContainerId,
        config: &ContainerConfig,
        root: &Root,
        watch: &mut Stopwatch,
    ) -> Result<()> {
        *watch = Stopwatch::new();
        let mut done = |step: ContainerStep| {
            watch.lap(step.name());
            reach(&format!("container.{}", step.name()));
        };
        let dirs = known.dirs.container(id);
        let image = match root {
            Root::Image(image) => Some(image.as_ref()),
            Root::Directory(_) => None,
        };
        let mounts = self.mounts(known, id, config)?;
        let record = ContainerRecord {
            version: record::VERSION,
            id: id.clone(),
            pod: known.record.id.clone(),
            created_at: ids::now_nanos(),
            image_id: image.map(|i| i.id.to_string()).unwrap_or_default(),
            stop_signal: stop_signal(config, image)?,
            config: config.clone(),
            image_mounts: mounts.images.clone(),
        };
        files::private_dir(known.dirs.containers()).map_err(failed)?;
        files::private_dir(&dirs.dir).map_err(failed)?;
        files::private_dir(known.dirs.bundles()).map_err(failed)?;
        files::private_dir(&dirs.bundle).map_err(failed)?;
        for dir in [&known.dirs.containers(), &dirs.dir, &known.dirs.bundles(), &dirs.bundle] {
            users::open_to(dir, known.record.ids)?;
        }
        record::write(&dirs.record(), &record, Durability::Cached)?;
        done(ContainerStep::Intent);

        let (spec, mut before) = self.spec(known, id, config, image, mounts)?;
        let mut lower = match root {
            Root::Image(image) => self.store.lower_dirs(image).map_err(failed)?,
            Root::Directory(path) => vec![path.clone()],
        };
        make_root_dirs(&dirs, lower.first(), known.record.ids)?;
        if let (Snapshotter::Erofs, Root::Image(image)) = (known.record.definition.defaults.snapshotter, root) {
            lower = vec![self.block_root(&dirs, image, &mut before)?];
        }
        if known.record.ids.is_some() {
            lower = self.mapped_layers(known, lower, &dirs.bundle.join("lower"), &mut before);
        }
        self.mount_tmpfs(known, config)?;
        done(ContainerStep::Bundle);

        let group = self.group_of(known, id)?;
        group.create().map_err(failed)?;
        let allowed: Vec<_> = DEFAULT_DEVICES.into_iter().chain(devices::cgroup_rules(&spec)).collect();
        let free = config.security.privileged && gives_devices(known);
        if free { group.allow_all_devices() } else { group.deny_devices_but(&allowed) }.map_err(failed)?;
        done(ContainerStep::Cgroup);

        let cgroup_files = self.container_join_files(known, id, &config.resources)?;
        let container = Container { id, dirs: dirs.clone(), spec, before, lower, cgroup_files, stdio: stdio(known, &dirs, config) };
        let driver = known.driver()?;
        let fast = driver.moves_processes().then(|| self.cgroups.keep_moves_fast());
        let pid = driver.create(&known.pod(self)?, container).map_err(|e| failed(mounts::by_their_names(e.to_string(), &dirs.bundle, config)))?;
        drop(fast);
        // After `create`, so that the runtime's own start is not held to the container's limits, and
        // before `start`, so that no instruction of the container escapes them.
        group.set_limits(&limits(&config.resources)).map_err(failed)?;
        // A kubelet says by name whether it wants that (`singleProcessOOMKill`, Kubernetes 1.32); a pod of a
        // manifest is as by a kubelet's default.
        if !known.record.config.served {
            group.kill_together().map_err(failed)?;
        }
        group.set_unified(&config.resources.unified).map_err(failed)?;
        done(ContainerStep::Runtime);

        let result = ContainerResult { version: record::VERSION, pid, stages: std::mem::take(&mut watch.stages), ..ContainerResult::default() };
        record::write(&dirs.status(), &result, Durability::Cached)?;
        reach("container.result");
        Ok(())
    }

    /// Lets a made container's process go.
    pub fn start_container(&self, id: &ContainerId) -> Result<()> {
        let (known, container) = self.must_know_container(id)?;
        let Some((_lock, known)) = self.locked(&known.record.id)? else {
            return Err(Error::NotFound(format!("container {id} does not exist")));
        };
        let mut result = self.container_result(&container.dirs)?;
        let dirs = &container.dirs;
        if result.started_at != 0 || self.exit(&known, id)?.is_some() {
            return Err(Error::Precondition(format!("container {id} was started before")));
        }
        let mut watch = Stopwatch::new();
        // Whether its process was let go is nowhere else to be seen, should we be killed.
        let next = Prepared::write(dirs.next_status(), &result)?;
        reach("start.before");
        let stdio = stdio(&known, &container.dirs, &container.record.config);
        if let Err(error) = known.driver()?.start(&known.pod(self)?, id, &stdio) {
            // Where it stays, recovery finds that it does not start.
            let _ = std::fs::remove_file(dirs.next_status());
            return Err(failed(error));
        }
        watch.lap("start");
        reach("start.after");
        result.stages.append(&mut watch.stages);
        result.started_at = ids::now_nanos();
        if let Err(error) = next.replace(&dirs.status(), &result) {
            // Nobody would know that it runs.
            return match self.kill_container(&known, id) {
                Ok(()) => Err(error),
                Err(left) => Err(Error::Failed(format!("{error}; and the container could not be ended: {left}"))),
            };
        }
        reach("start.recorded");
        Ok(())
    }

    /// What a killed process left of the containers of a pod that is up, whose lock is held: the half made
    /// and half removed are undone, and a start that was begun is ended. One sentence a finding.
    pub(crate) fn recover_containers(&self, known: &Known) -> Result<Vec<String>> {
        let mut findings = Vec::new();
        self.forget_ends_of_the_removed(known)?;
        for id in self.container_ids(&known.dirs)? {
            let dirs = known.dirs.container(&id);
            let Some(container) = self.container_in(known, &id)?.filter(|_| dirs.status().exists()) else {
                self.undo_container(known, &id)?;
                findings.push(format!("container {id} was half made or half removed; what there was of it is undone"));
                continue;
            };
            let next = dirs.next_status();
            if !next.exists() {
                continue;
            }
            if self.finish_start(known, &id, container)? {
                findings.push(format!("the start of container {id}, which was begun, is finished"));
            }
            std::fs::remove_file(&next).map_err(|e| failed(format!("{}: {e}", next.display())))?;
        }
        Ok(findings)
    }

    /// A container's end goes after all else of it: a kill in between leaves nothing but that.
    fn forget_ends_of_the_removed(&self, known: &Known) -> Result<()> {
        let ended = names_in(&known.dirs.exits())?.into_iter().filter_map(|name| ContainerId::new(name).ok());
        for id in ended.filter(|id| !known.dirs.container(id).dir.exists()) {
            self.forget_end(known, &id);
        }
        Ok(())
    }

    fn forget_end(&self, known: &Known, id: &ContainerId) {
        if let Ok(mut monitor) = self.monitor(known) {
            // Where it is not known to the monitor there is nothing to forget.
            let _ = monitor.forget(id.as_str());
        }
        let _ = std::fs::remove_file(known.dirs.exits().join(id.as_str()));
    }

    /// Whether it has started.
    fn finish_start(&self, known: &Known, id: &ContainerId, container: KnownContainer) -> Result<bool> {
        let stdio = stdio(known, &container.dirs, &container.record.config);
        let started = known.driver()?.start(&known.pod(self)?, id, &stdio);
        // It is refused where the process was let go already, and where it cannot be.
        if started.is_err() && !self.was_let_go(known, id)? {
            return Ok(false);
        }
        let result = ContainerResult { started_at: ids::now_nanos(), ..container.result };
        record::write(&container.dirs.status(), &result, Durability::Cached)?;
        Ok(true)
    }

    /// Whether the monitor has a process of the container, or wrote its end.
    fn was_let_go(&self, known: &Known, id: &ContainerId) -> Result<bool> {
        if self.exit(known, id)?.is_some() {
            return Ok(true);
        }
        // One that it does not know is told at once; one that runs is waited for in vain.
        let waited = self.monitor(known)?.wait_timeout(id.as_str(), Duration::from_secs(1));
        Ok(!matches!(waited, Err(cofferdam_monitor::client::Error::Refused(_))))
    }

    /// Asks a container to end, and kills it after `grace`. Repeatable.
    pub fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<()> {
        let (known, container) = self.must_know_container(id)?;
        let Err(error) = self.stop_known(&known, &container, grace) else { return Ok(()) };
        // Another may have ended or removed it, or its pod, meanwhile.
        let locked = self.locked(&known.record.id)?;
        match (locked, self.find_container(id)?) {
            (None, _) | (_, None) => Err(Error::NotFound(format!("container {id} does not exist"))),
            (Some((_, known)), _) if known.result.state != SandboxState::Ready || self.exit(&known, id)?.is_some() => Ok(()),
            // Who would tell of its end is dead, and the pod with it.
            (Some((lock, known)), _) if monitor_goes(&known.dirs.socket()) => {
                drop(lock);
                self.fail_sandbox(&known.record.id, MONITOR_DIED).map(drop)
            }
            _ => Err(error),
        }
    }

    fn stop_known(&self, known: &Known, container: &KnownContainer, grace: Duration) -> Result<()> {
        let id = &container.record.id;
        if known.result.state != SandboxState::Ready {
            return Ok(());
        }
        if self.exit(known, id)?.is_some() {
            return self.sweep(known, id);
        }
        let driver = known.driver()?;
        let pod = known.pod(self)?;
        if container.result.started_at == 0 && container.result.pid.is_none() {
            // There is no process yet, unless a start that failed half way left one.
            let _ = driver.signal(&pod, id, SIGKILL, true);
            return self.group_of(known, id)?.kill_all(KILL_DEADLINE).map_err(failed);
        }
        if !grace.is_zero() && container.result.started_at != 0 {
            if let Err(e) = driver.signal(&pod, id, container.record.stop_signal, false) {
                // It may have ended just before.
                return if self.exit(known, id)?.is_some() { Ok(()) } else { Err(failed(e)) };
            }
            reach("stop.asked");
            if self.wait_exit(known, id, grace)?.is_some() {
                return self.sweep(known, id);
            }
        }
        self.kill_container(known, id)?;
        reach("stop.ended");
        Ok(())
    }

    /// Kills what a first process left behind: where it has no process id namespace of its own, others do
    /// not end with it.
    fn sweep(&self, known: &Known, id: &ContainerId) -> Result<()> {
        self.group_of(known, id)?.kill_all(KILL_DEADLINE).map_err(failed)
    }

    fn kill_container(&self, known: &Known, id: &ContainerId) -> Result<()> {
        // The signal for runtimes with processes of their own kind, the cgroup for all others.
        let signalled = known.driver()?.signal(&known.pod(self)?, id, SIGKILL, true);
        reach("kill.signalled");
        self.sweep(known, id)?;
        reach("kill.swept");
        match self.wait_exit(known, id, KILL_DEADLINE)? {
            Some(_) => Ok(()),
            None => match signalled {
                Err(e) => Err(failed(e)),
                Ok(()) => Err(Error::Timeout(format!("container {id} was killed and did not end within {} s", KILL_DEADLINE.as_secs()))),
            },
        }
    }

    /// Removes a container, killing it where it runs. Repeatable.
    pub fn remove_container(&self, id: &ContainerId) -> Result<()> {
        let Some((known, container)) = self.find_container(id)? else { return Ok(()) };
        let Some((_lock, known)) = self.locked(&known.record.id)? else { return Ok(()) };
        let ready = known.result.state == SandboxState::Ready;
        let result = self.container_result(&container.dirs)?;
        if ready && self.exit(&known, id)?.is_none() {
            if result.pid.is_some() || result.started_at != 0 {
                self.kill_container(&known, id)?;
            } else {
                // A start that failed half way may have left a process; where it did not, nothing takes
                // the signal.
                let _ = known.driver()?.signal(&known.pod(self)?, id, SIGKILL, true);
            }
        }
        self.undo_container(&known, id)
    }

    /// Undoes all steps of a container, last first.
    fn undo_container(&self, known: &Known, id: &ContainerId) -> Result<()> {
        let group = self.group_of(known, id)?;
        group.kill_all(KILL_DEADLINE).map_err(failed)?;
        group.remove(KILL_DEADLINE).map_err(failed)?;
        reach("container.undo.cgroup");
        known.driver()?.forget(&known.dirs, id.as_str()).map_err(failed)?;
        reach("container.undo.forgot");
        let dirs = known.dirs.container(id);
        // The directory that tells of the container last.
        for dir in [&dirs.bundle, &dirs.dir] {
            if dir.exists() {
                remove_shared(dir)?;
            }
        }
        reach("container.undo.files");
        // Its end last: without it, one that is half removed would seem not to have ended.
        self.forget_end(known, id);
        self.cache.forget(id);
        reach("container.undo.exit");
        self.collect_unwanted();
        Ok(())
    }
}

/// Whether nobody listens at a monitor's socket after a connection to it broke: one that was killed closes its
/// descriptors one after another.
fn monitor_goes(socket: &Path) -> bool {
    const LOOKS: usize = 10;
    (0..LOOKS).any(|_| {
        let gone = monitor_is_gone(socket);
        if !gone {
            std::thread::sleep(Duration::from_millis(10));
        }
        gone
    })
}

/// The signal that asks a container to end: the request's, the image's, or SIGTERM.
fn stop_signal(config: &ContainerConfig, image: Option<&Image>) -> Result<i32> {
    match (config.stop_signal, image.map(|i| i.config.stop_signal.as_str())) {
        (Some(asked), _) if (1..=64).contains(&asked) => Ok(asked),
        (Some(asked), _) => Err(Error::Invalid(format!("container \"{}\": its stop signal {asked} is not a signal", config.name))),
        (None, None | Some("")) => Ok(SIGTERM),
        (None, Some(of_image)) => signal_number(of_image),
    }
}

/// Makes mount point, writable layer and work directory. The merged root has owner and mode of the
/// writable layer's top, which so takes those of the image's, in the ids of the pod.
fn make_root_dirs(dirs: &ContainerDirs, top: Option<&PathBuf>, ids: Option<IdRange>) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let wrong = |at: &Path, e: std::io::Error| Error::Failed(format!("{} cannot be made: {e}", at.display()));
    for dir in [dirs.rootfs(), dirs.upper(), dirs.work()] {
        std::fs::create_dir(&dir).map_err(|e| wrong(&dir, e))?;
    }
    if let Some(top) = top {
        let (meta, upper) = (std::fs::metadata(top).map_err(|e| wrong(top, e))?, dirs.upper());
        let id = |id| ids.map_or(Some(id), |ids| ids.on_machine(id));
        std::os::unix::fs::chown(&upper, id(meta.uid()), id(meta.gid())).map_err(|e| wrong(&upper, e))?;
        std::fs::set_permissions(&upper, meta.permissions()).map_err(|e| wrong(&upper, e))?;
    }
    Ok(())
}

fn stdio(known: &Known, dirs: &ContainerDirs, config: &ContainerConfig) -> Stdio {
    let named = !config.log_path.as_os_str().is_empty();
    let log = named.then(|| known.record.config.log_directory.join(&config.log_path));
    if config.tty {
        // In the run-time directory, whose path is short: a socket's may have 107 bytes.
        let id = dirs.dir.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("console-{}.sock", id.get(..12).unwrap_or(&id));
        Stdio::Terminal { log, console_socket: known.dirs.run.join(name), size: (0, 0) }
    } else {
        Stdio::Pipes { log, stdin: config.stdin, stdin_once: config.stdin_once }
    }
}
