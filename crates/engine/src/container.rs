//! Containers: made by the steps of [`cofferdam_plan::steps::ContainerStep`], started, stopped,
//! removed. The end of a container is what the monitor wrote down, and nothing else.

use crate::failpoint::reach;
use crate::record::{self, ContainerRecord, ContainerResult};
use crate::sandbox::{KILL_DEADLINE, Known, Stopwatch, failed, limits, tmpfs, MS_NOSUID_NODEV};
use crate::handlers::Kind;
use crate::{Engine, events, exec, prove};
use cofferdam_host::cgroup::{DEFAULT_DEVICES, DeviceKind, Group, Mode};
use cofferdam_host::files::Durability;
use cofferdam_host::{devices, files, ids, privilege, remove};
use cofferdam_images::Image;
use cofferdam_model::cri::{ContainerConfig, ContainerState, ContainerStatus, Error, Result, SandboxState};
use cofferdam_model::{ContainerId, PodId};
use cofferdam_monitor::client::Client;
use cofferdam_monitor::protocol::{Exit, MountOp, Stdio};
use cofferdam_plan::layout::ContainerDirs;
use cofferdam_plan::spec::{self, ContainerSpec, Namespace, Process, SpecDevice, SpecMount, User};
use cofferdam_plan::steps::ContainerStep;
use cofferdam_runtimes::Container;
use std::collections::BTreeSet;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;
/// `PATH` of a container whose image sets none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

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

impl Engine {
    /// Makes a container; its process waits to be started.
    pub fn create_container(&self, pod: &PodId, config: &ContainerConfig) -> Result<ContainerId> {
        let image = self.store.resolve_for_run(&config.image).map_err(|e| match e {
            cofferdam_images::Error::NotFound(_) => Error::NotFound(e.to_string()),
            other => failed(other),
        })?;
        // The binary may have been replaced since the sandbox was made.
        let known = self.must_know(pod)?;
        prove::require(self, &known.record.handler, &known.record.definition)?;
        self.make_container(pod, config, Root::Image(Box::new(image)))
    }

    pub(crate) fn make_container(&self, pod: &PodId, config: &ContainerConfig, root: Root) -> Result<ContainerId> {
        let Some((_lock, known)) = self.locked(pod)? else {
            return Err(Error::NotFound(format!("pod sandbox {pod} does not exist")));
        };
        if known.result.state != SandboxState::Ready {
            let why = known.result.reason.as_deref().unwrap_or("it is not ready");
            return Err(Error::Precondition(format!("pod sandbox {pod} takes no containers: {why}")));
        }
        let id = ContainerId::from_bytes(ids::random_bytes().map_err(failed)?);
        match self.make_container_steps(&known, &id, config, &root) {
            Ok(()) => Ok(id),
            Err(error) => match self.undo_container(&known, &id) {
                Ok(()) => Err(error),
                Err(left) => Err(Error::Failed(format!("{error}; and it could not be undone yet: {left}"))),
            },
        }
    }

    fn make_container_steps(&self, known: &Known, id: &ContainerId, config: &ContainerConfig, root: &Root) -> Result<()> {
        let mut watch = Stopwatch::new();
        let mut done = |step: ContainerStep| {
            watch.lap(step.name());
            reach(&format!("container.{}", step.name()));
        };
        let dirs = known.dirs.container(id);
        let image = match root {
            Root::Image(image) => Some(image.as_ref()),
            Root::Directory(_) => None,
        };
        let record = ContainerRecord {
            version: record::VERSION,
            id: id.clone(),
            pod: known.record.id.clone(),
            created_at: ids::now_nanos(),
            image_id: image.map(|i| i.id.to_string()).unwrap_or_default(),
            stop_signal: image.map(|i| i.config.stop_signal.as_str()).filter(|s| !s.is_empty()).map_or(Ok(SIGTERM), signal_number)?,
            config: config.clone(),
        };
        files::private_dir(known.dirs.containers()).map_err(failed)?;
        files::private_dir(&dirs.dir).map_err(failed)?;
        record::write(&dirs.record(), &record, Durability::Cached)?;
        done(ContainerStep::Intent);

        let (spec, before) = self.spec(known, id, config, image)?;
        let lower = match root {
            Root::Image(image) => self.store.lower_dirs(image).map_err(failed)?,
            Root::Directory(path) => vec![path.clone()],
        };
        make_root_dirs(&dirs, lower.first())?;
        self.mount_tmpfs(known, config)?;
        done(ContainerStep::Bundle);

        let group = self.group(known.dirs.container_cgroup(id))?;
        group.create().map_err(failed)?;
        let free = config.security.privileged && gives_devices(known);
        if free { group.allow_all_devices() } else { group.deny_devices_but(&DEFAULT_DEVICES) }.map_err(failed)?;
        done(ContainerStep::Cgroup);

        let container =
            Container { id, dirs: dirs.clone(), spec, before, lower, cgroup_files: self.inner_join_files(&group), stdio: stdio(known, &dirs, config) };
        let driver = known.driver()?;
        let fast = driver.moves_processes().then(|| self.cgroups.keep_moves_fast());
        let pid = driver.create(&known.pod(self)?, container).map_err(failed)?;
        drop(fast);
        // After `create`, so that the runtime's own start is not held to the container's limits, and
        // before `start`, so that no instruction of the container escapes them.
        group.set_limits(&limits(&config.resources)).map_err(failed)?;
        group.kill_together().map_err(failed)?;
        done(ContainerStep::Runtime);

        let result = ContainerResult { version: record::VERSION, pid, stages: watch.stages, ..ContainerResult::default() };
        record::write(&dirs.status(), &result, Durability::Cached)?;
        reach("container.result");
        Ok(())
    }

    fn spec(&self, known: &Known, id: &ContainerId, config: &ContainerConfig, image: Option<&Image>) -> Result<(ContainerSpec, Vec<MountOp>)> {
        let dirs = known.dirs.container(id);
        let security = &config.security;
        let process = self.process(config, image)?;
        let mut mounts = Self::etc_mounts(known, security.readonly_rootfs);
        let all_devices = security.privileged && gives_devices(known);
        let shared_kernel = known.record.definition.kind != Kind::Runsc;
        let mut before = Vec::new();
        if shared_kernel {
            let (ops, mount) = self.cgroup_view(known, id, security.privileged)?;
            before = ops;
            mounts.push(mount);
        }
        for mount in &config.mounts {
            if !spec::is_mount_target(&mount.container_path) {
                let at = mount.container_path.display();
                return Err(Error::Invalid(format!("mount path \"{at}\" of container \"{}\" must be absolute, without \"..\"", config.name)));
            }
            let source = if mount.tmpfs.is_some() { tmpfs_at(known, &mount.host_path) } else { mount.host_path.clone() };
            mounts.push(SpecMount::bind(source, &mount.container_path, mount.readonly));
        }
        let node_ipc = known.record.config.ipc == cofferdam_model::cri::NamespaceMode::Node;
        let shm = if node_ipc { PathBuf::from("/dev/shm") } else { known.dirs.shm() };
        // As Kubernetes has it (KEP-2254): what `/proc/self/cgroup` says then fits the mount below.
        let own_cgroup_root = shared_kernel && self.cgroups.mode() == Mode::V2 && !security.privileged;
        let spec = ContainerSpec {
            process,
            rootfs: dirs.rootfs(),
            readonly_rootfs: security.readonly_rootfs,
            privileged: security.privileged,
            all_devices,
            devices: if all_devices { machine_devices()? } else { vec![] },
            hostname: Some(known.record.config.hostname.clone()),
            mounts,
            shm: Some(shm),
            pid: Namespace::New,
            network: Namespace::New,
            ipc: Namespace::New,
            uts: Namespace::New,
            cgroup: if own_cgroup_root { Namespace::New } else { Namespace::Host },
            cgroups_path: None,
            resources: Some(config.resources.clone()),
            sysctls: known.record.config.sysctls.clone(),
            // None of the pod's reach the runtime: crun, for one, takes orders from them (`run.oci.*`).
            annotations: BTreeMap::new(),
        };
        Ok((spec, before))
    }

    fn etc_mounts(known: &Known, readonly: bool) -> Vec<SpecMount> {
        let dirs = &known.dirs;
        [(dirs.hosts(), "/etc/hosts"), (dirs.hostname(), "/etc/hostname"), (dirs.resolv_conf(), "/etc/resolv.conf")]
            .map(|(source, at)| SpecMount::bind(source, at, readonly))
            .to_vec()
    }

    /// The container's own cgroups under `/sys/fs/cgroup`, where runtimes of languages look for their
    /// limits; put together by us, as the OCI runtime does not see them, in the runtime's own mount
    /// namespace before it runs: there each mount costs a tenth of what it costs the runtime.
    fn cgroup_view(&self, known: &Known, id: &ContainerId, privileged: bool) -> Result<(Vec<MountOp>, SpecMount)> {
        const AT: &str = "/sys/fs/cgroup";
        let (bind, remount, readonly) = (4096, 32, 1);
        let inner = self.inner_directories(&self.group_of(known, id)?);
        if self.cgroups.mode() == Mode::V2 {
            let dir = inner.into_iter().next().map(|(_, dir)| dir).unwrap_or_default();
            return Ok((vec![], SpecMount::bind(dir, AT, !privileged)));
        }
        let view = known.dirs.container(id).dir.join("cgroup");
        let mut ops = vec![MountOp::Mkdir(view.clone()), tmpfs(view.clone(), "mode=755", MS_NOSUID_NODEV)];
        // Nobody looks for devices and freezer, and each mount takes its time.
        for (name, dir) in inner.into_iter().filter(|(name, _)| name != Path::new("devices") && name != Path::new("freezer")) {
            let target = view.join(name);
            let mount = |source: PathBuf, flags| MountOp::Mount { source, target: target.clone(), fstype: String::new(), flags, data: String::new() };
            ops.push(MountOp::Mkdir(target.clone()));
            ops.push(mount(dir, bind));
            if !privileged {
                ops.push(mount(PathBuf::new(), bind | remount | readonly | MS_NOSUID_NODEV));
            }
        }
        Ok((ops, SpecMount::bind(view, AT, !privileged)))
    }

    pub(crate) fn process(&self, config: &ContainerConfig, image: Option<&Image>) -> Result<Process> {
        let security = &config.security;
        let args = command(config, image)?;
        let mut env = vec![("PATH".to_owned(), DEFAULT_PATH.to_owned())];
        if config.tty {
            env.push(("TERM".into(), "xterm".into()));
        }
        env.extend(image.map(|i| i.config.env.clone()).unwrap_or_default());
        env.extend(config.env.iter().cloned());
        let user = self.user(config, image, &mut env)?;
        let cwd = match (config.working_dir.as_str(), image) {
            ("", Some(image)) => image.config.working_dir.clone(),
            (given, _) => given.to_owned(),
        };
        Ok(Process {
            args,
            env,
            cwd,
            user,
            terminal: config.tty,
            console_size: None,
            no_new_privs: security.no_new_privs,
            capabilities: capabilities(config)?,
            // Never inherited: the monitor's own is far lower.
            oom_score_adj: Some(privilege::clamp_oom_score_adj(config.resources.oom_score_adj.unwrap_or(0)).map_err(failed)?),
        })
    }

    fn user(&self, config: &ContainerConfig, image: Option<&Image>, env: &mut Vec<(String, String)>) -> Result<User> {
        let security = &config.security;
        let number = |what: &str, value: i64| {
            u32::try_from(value).map_err(|_| Error::Invalid(format!("container \"{}\": {what} {value} is not a user or group id", config.name)))
        };
        let mut user = User::default();
        let mut wanted = match security.run_as_user {
            Some(uid) => number("runAsUser", uid)?.to_string(),
            None => image.map(|i| i.config.user.clone()).unwrap_or_default(),
        };
        if let Some(gid) = security.run_as_group {
            user.gid = number("runAsGroup", gid)?;
            // In place of the user's own group: the process is not to be in that one too.
            wanted = format!("{}:{}", wanted.split(':').next().unwrap_or_default(), user.gid);
        }
        if let Some(image) = image {
            let found = self.store.user(image, &wanted).map_err(|e| Error::Invalid(format!("container \"{}\": {e}", config.name)))?;
            user = User { uid: found.uid, gid: found.gid, groups: found.groups };
            if !env.iter().any(|(name, _)| name == "HOME") {
                env.push(("HOME".into(), found.home));
            }
        }
        for gid in &security.supplemental_groups {
            user.groups.push(number("supplemental group", *gid)?);
        }
        if security.run_as_non_root && user.uid == 0 {
            return Err(Error::Invalid(format!(
                "container \"{}\" has runAsNonRoot and the image will run as root; set runAsUser",
                config.name
            )));
        }
        Ok(user)
    }

    /// Mounts the pod's memory volumes in the monitor's mount namespace, each once.
    fn mount_tmpfs(&self, known: &Known, config: &ContainerConfig) -> Result<()> {
        let mut ops = Vec::new();
        for mount in &config.mounts {
            let Some(limit) = mount.tmpfs else { continue };
            let at = tmpfs_at(known, &mount.host_path);
            if !at.exists() && !ops.iter().any(|op| matches!(op, MountOp::Mkdir(p) if *p == at)) {
                let size = if limit > 0 { format!(",size={limit}") } else { String::new() };
                ops.push(MountOp::Mkdir(at.clone()));
                ops.push(tmpfs(at, &format!("mode=0777{size}"), MS_NOSUID_NODEV));
            }
        }
        if ops.is_empty() {
            return Ok(());
        }
        self.monitor(known)?.mounts(&ops).map_err(|e| {
            // A directory that stayed would be taken for the mounted volume by the next container.
            for op in &ops {
                if let MountOp::Mkdir(at) = op {
                    let _ = std::fs::remove_dir(at);
                }
            }
            failed(e)
        })
    }

    /// Lets a made container's process go.
    pub fn start_container(&self, id: &ContainerId) -> Result<()> {
        let (known, container) = self.must_know_container(id)?;
        let Some((_lock, known)) = self.locked(&known.record.id)? else {
            return Err(Error::NotFound(format!("container {id} does not exist")));
        };
        let mut result = self.container_result(&container.dirs)?;
        if result.started_at != 0 || self.exit(&known, id)?.is_some() {
            return Err(Error::Precondition(format!("container {id} was started before")));
        }
        let mut watch = Stopwatch::new();
        reach("start.before");
        let stdio = stdio(&known, &container.dirs, &container.record.config);
        known.driver()?.start(&known.pod(self)?, id, &stdio).map_err(failed)?;
        watch.lap("start");
        reach("start.after");
        result.started_at = ids::now_nanos();
        result.stages.append(&mut watch.stages);
        record::write(&container.dirs.status(), &result, Durability::Cached)
    }

    /// Asks a container to end, and kills it after `grace`. Repeatable.
    pub fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<()> {
        let (known, container) = self.must_know_container(id)?;
        if self.exit(&known, id)?.is_some() || known.result.state != SandboxState::Ready {
            return Ok(());
        }
        let driver = known.driver()?;
        let pod = known.pod(self)?;
        if !grace.is_zero() && container.result.started_at != 0 {
            if let Err(e) = driver.signal(&pod, id, container.record.stop_signal, false) {
                // It may have ended just before.
                return if self.exit(&known, id)?.is_some() { Ok(()) } else { Err(failed(e)) };
            }
            if self.wait_exit(&known, id, grace)?.is_some() {
                return Ok(());
            }
        }
        self.kill_container(&known, id)
    }

    fn kill_container(&self, known: &Known, id: &ContainerId) -> Result<()> {
        // The signal for runtimes with processes of their own kind, the cgroup for all others.
        let signalled = known.driver()?.signal(&known.pod(self)?, id, SIGKILL, true);
        self.group_of(known, id)?.kill_all(KILL_DEADLINE).map_err(failed)?;
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
        if let Ok(mut monitor) = self.monitor(known) {
            // Where it is not known to the monitor there is nothing to forget.
            let _ = monitor.forget(id.as_str());
        }
        let _ = std::fs::remove_file(known.dirs.exits().join(id.as_str()));
        let dirs = known.dirs.container(id);
        if dirs.dir.exists() { remove::remove_tree(&dirs.dir).map_err(failed) } else { Ok(()) }
    }

    /// One container.
    pub fn container_status(&self, id: &ContainerId) -> Result<ContainerStatus> {
        let (known, container) = self.must_know_container(id)?;
        self.status_of(&known, container)
    }

    /// All containers of a sandbox, or of all, oldest first.
    pub fn list_containers(&self, pod: Option<&PodId>) -> Result<Vec<ContainerStatus>> {
        let pods = pod.map_or_else(|| self.pod_ids(), |p| Ok(vec![p.clone()]))?;
        let mut all = Vec::new();
        for pod in pods {
            let Some(known) = self.known(&pod)? else { continue };
            for id in self.container_ids(&known.dirs)? {
                if let Some(container) = self.container_in(&known, &id)? {
                    all.push(self.status_of(&known, container)?);
                }
            }
        }
        all.sort_by(|a, b| (a.created_at, a.id.as_str()).cmp(&(b.created_at, b.id.as_str())));
        Ok(all)
    }

    fn status_of(&self, known: &Known, container: KnownContainer) -> Result<ContainerStatus> {
        let KnownContainer { record, result, .. } = container;
        let exit = self.exit(known, &record.id)?;
        let group = self.group_of(known, &record.id)?;
        let (state, finished_at, exit_code, reason, message) = match &exit {
            Some(exit) => {
                let driver = known.driver()?;
                let code = driver.exit_code(exit);
                let oom = code != 0 && (group.stats().is_ok_and(|s| s.oom_kills > 0) || self.enclosure_oom(known));
                let reason = if oom { "OOMKilled" } else if code == 0 { "Completed" } else { "Error" };
                let message = if driver.lost_enclosure(exit) && !oom { events::ENCLOSURE_DIED } else { "" };
                (ContainerState::Exited, exit.at, code, reason.to_owned(), message.to_owned())
            }
            None if known.result.state != SandboxState::Ready => {
                let why = known.result.reason.clone().unwrap_or_default();
                (ContainerState::Exited, 0, 128 + SIGKILL, "ContainerStatusUnknown".to_owned(), why)
            }
            None if result.started_at != 0 => (ContainerState::Running, 0, 0, String::new(), String::new()),
            None => (ContainerState::Created, 0, 0, String::new(), String::new()),
        };
        Ok(ContainerStatus {
            id: record.id,
            pod: record.pod,
            config: record.config,
            image_id: record.image_id,
            state,
            created_at: record.created_at,
            started_at: result.started_at,
            finished_at,
            exit_code,
            reason,
            message,
            pid: result.pid.filter(|_| exit.is_none()),
            stages: result.stages,
        })
    }

    /// What the monitor wrote of a container's end.
    pub(crate) fn exit(&self, known: &Known, id: &ContainerId) -> Result<Option<Exit>> {
        exec::read_exit(&known.dirs.exits(), id.as_str())
    }

    /// Waits for a container's end; `None` where it did not end in time.
    pub(crate) fn wait_exit(&self, known: &Known, id: &ContainerId, limit: Duration) -> Result<Option<Exit>> {
        match self.monitor(known)?.wait_timeout(id.as_str(), limit) {
            Ok(exit) => Ok(exit),
            // It may have ended together with its monitor.
            Err(e) => self.exit(known, id)?.map(|exit| Ok(Some(exit))).unwrap_or(Err(failed(e))),
        }
    }

    pub(crate) fn monitor(&self, known: &Known) -> Result<Client> {
        Client::connect(&known.dirs.socket())
            .map_err(|e| Error::Failed(format!("monitor of pod {}: {e}", known.record.id.short())))
    }

    pub(crate) fn group_of(&self, known: &Known, id: &ContainerId) -> Result<Group> {
        self.group(known.dirs.container_cgroup(id))
    }

    fn container_result(&self, dirs: &ContainerDirs) -> Result<ContainerResult> {
        Ok(record::read(&dirs.status())?.unwrap_or_default())
    }

    fn container_in(&self, known: &Known, id: &ContainerId) -> Result<Option<KnownContainer>> {
        let dirs = known.dirs.container(id);
        let Some(record) = record::read::<ContainerRecord>(&dirs.record())? else { return Ok(None) };
        let result = self.container_result(&dirs)?;
        Ok(Some(KnownContainer { dirs, record, result }))
    }

    /// The container and its sandbox; `None` where there is none.
    pub(crate) fn find_container(&self, id: &ContainerId) -> Result<Option<(Known, KnownContainer)>> {
        for pod in self.pod_ids()? {
            if !self.layout.pod(&pod).container(id).dir.exists() {
                continue;
            }
            if let Some(known) = self.known(&pod)?
                && let Some(container) = self.container_in(&known, id)?
            {
                return Ok(Some((known, container)));
            }
        }
        Ok(None)
    }

    pub(crate) fn must_know_container(&self, id: &ContainerId) -> Result<(Known, KnownContainer)> {
        self.find_container(id)?.ok_or_else(|| Error::NotFound(format!("container {id} does not exist")))
    }
}

/// Whether the handler gives a privileged container the machine's devices. gVisor has none of them.
fn gives_devices(known: &Known) -> bool {
    let definition = &known.record.definition;
    !definition.privileged_without_host_devices && definition.kind != Kind::Runsc
}

/// The machine's devices, as a privileged container gets them.
fn machine_devices() -> Result<Vec<SpecDevice>> {
    let device = |d: devices::Device| SpecDevice {
        path: d.path,
        kind: if d.kind == DeviceKind::Block { 'b' } else { 'c' },
        major: d.major,
        minor: d.minor,
        mode: d.mode,
        uid: d.uid,
        gid: d.gid,
    };
    Ok(devices::list("/dev").map_err(failed)?.into_iter().map(device).collect())
}

/// Makes mount point, writable layer and work directory. The merged root has owner and mode of the
/// writable layer's top, which so takes those of the image's.
fn make_root_dirs(dirs: &ContainerDirs, top: Option<&PathBuf>) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let wrong = |at: &Path, e: std::io::Error| Error::Failed(format!("{} cannot be made: {e}", at.display()));
    for dir in [dirs.rootfs(), dirs.upper(), dirs.work()] {
        std::fs::create_dir(&dir).map_err(|e| wrong(&dir, e))?;
    }
    if let Some(top) = top {
        let (meta, upper) = (std::fs::metadata(top).map_err(|e| wrong(top, e))?, dirs.upper());
        std::os::unix::fs::chown(&upper, Some(meta.uid()), Some(meta.gid())).map_err(|e| wrong(&upper, e))?;
        std::fs::set_permissions(&upper, meta.permissions()).map_err(|e| wrong(&upper, e))?;
    }
    Ok(())
}

/// A container's capabilities. "All" means all that we have ourselves, as containerd has it
/// (`oci.WithAllCurrentCapabilities`): no runtime could give more. One asked for by name is not left
/// out in silence.
fn capabilities(config: &ContainerConfig) -> Result<BTreeSet<String>> {
    let security = &config.security;
    let wanted = spec::capabilities(security.privileged, &security.add_capabilities, &security.drop_capabilities)
        .map_err(|e| Error::Invalid(format!("container \"{}\": {e}", config.name)))?;
    if !security.privileged && !security.add_capabilities.iter().any(|c| c.eq_ignore_ascii_case("ALL")) {
        return Ok(wanted);
    }
    let ours = |name: &String| privilege::bounding_has(name).map(|has| has == Some(true)).map_err(failed);
    let mut all = BTreeSet::new();
    for name in wanted {
        if ours(&name)? {
            all.insert(name);
        }
    }
    Ok(all)
}

/// Kubernetes' rule for command and arguments: the pod's `command` drops the image's `CMD` too.
fn command(config: &ContainerConfig, image: Option<&Image>) -> Result<Vec<String>> {
    let empty = || (Vec::new(), Vec::new());
    let (entrypoint, cmd) = image.map_or_else(empty, |i| (i.config.entrypoint.clone(), i.config.cmd.clone()));
    let (command, args) = match (config.command.is_empty(), config.args.is_empty()) {
        (true, true) => (entrypoint, cmd),
        (true, false) => (entrypoint, config.args.clone()),
        (false, _) => (config.command.clone(), config.args.clone()),
    };
    let all: Vec<String> = command.into_iter().chain(args).collect();
    if all.is_empty() {
        return Err(Error::Invalid(format!(
            "container \"{}\" has no command, and neither has image \"{}\"; set command",
            config.name, config.image
        )));
    }
    Ok(all)
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

/// Where a memory volume is mounted in the monitor's mount namespace.
fn tmpfs_at(known: &Known, volume: &Path) -> PathBuf {
    let name = volume.to_string_lossy().bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    known.dirs.run.join(format!("tmpfs-{name:016x}"))
}

/// A signal by number or name, as images write it (`SIGQUIT`, `QUIT`, `3`, `SIGRTMIN+3`).
fn signal_number(text: &str) -> Result<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM", "STKFLT",
        "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    let name = text.trim().to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let by_name = || NAMES.iter().position(|n| *n == name).and_then(|at| i32::try_from(at + 1).ok());
    let real_time = || match name.strip_prefix("RTMIN")? {
        "" => Some(34),
        plus => plus.strip_prefix('+')?.parse::<i32>().ok().map(|n| 34 + n),
    };
    let number = name.parse().ok().or_else(by_name).or_else(real_time);
    number
        .filter(|n| (1..=64).contains(n))
        .ok_or_else(|| Error::Invalid(format!("the image's stop signal {text:?} is not a signal")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn stop_signals_come_in_many_forms() {
        for (text, number) in [("SIGTERM", 15), ("term", 15), ("3", 3), ("SIGQUIT", 3), ("SIGRTMIN+3", 37), ("KILL", 9)] {
            assert_eq!(signal_number(text).unwrap(), number, "{text}");
        }
        for text in ["", "SIGNONE", "0", "65", "SIGRTMIN+99"] {
            assert!(signal_number(text).is_err(), "{text}");
        }
    }
}
