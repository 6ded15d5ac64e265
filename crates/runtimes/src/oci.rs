//! runc, crun and youki: the monitor owns the pod's namespaces, so the sandbox is nothing beside
//! it, unless containers share a process id namespace: then a pause process holds that.
//!
//! Runtimes are told to leave cgroups alone: the runtime's own process joins the container's cgroup
//! before it is executed, and what it forks is born there. crun has a switch for that. runc has
//! none, but manages only controllers whose mounts it finds, and in a monitor's mount namespace it
//! finds devices alone.

use crate::failpoint::reach;
use crate::{features, refuse};
use crate::state::{clip, last_error, release_by_notifying, release_by_reading, release_by_writing};
use crate::{Container, Driver, Error, Exec, Pod, Probe, Result};
use cofferdam_model::ContainerId;
use cofferdam_host::netns;
use cofferdam_host::process::{Process, kill_tree};
use cofferdam_model::cri::{ContainerConfig, NamespaceMode, SandboxConfig};
use cofferdam_monitor::client::Client;
use cofferdam_monitor::protocol::{Exit, Keep, MountOp, Response, Spawn, Stdio};
use cofferdam_plan::layout::PodDirs;
use cofferdam_plan::spec::{self, ContainerSpec, Namespace};
use cofferdam_plan::userns::IdRange;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Which runtime's command line and habits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    /// opencontainers/runc and what behaves like it.
    Runc,
    /// containers/crun.
    Crun,
    /// youki-dev/youki.
    Youki,
}

/// One OCI runtime as a handler names it.
#[derive(Debug, Clone)]
pub struct Oci {
    /// Which one.
    pub flavor: Flavor,
    /// Absolute path of the binary. No other is ever run.
    pub binary: PathBuf,
    /// State directory; the pod's own where `None`.
    pub root: Option<PathBuf>,
    /// Further global flags.
    pub flags: Vec<String>,
}

/// Key of the pause container at the monitor, and name of its program. The runtime knows it by the
/// pod's id, as handlers may share a state directory.
const PAUSE: &str = "pause";
/// How long a container may take to notice that it is started, seconds.
const START_TIMEOUT_S: i64 = 10;
/// How long a listener of a pod's may take to answer.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a runtime's command may take.
const COMMAND_TIMEOUT_MS: u32 = 60_000;

impl Oci {
    fn root(&self, dirs: &PodDirs) -> PathBuf {
        self.root.clone().unwrap_or_else(|| dirs.runtime_root())
    }

    /// Lets a created container's process go, as the runtime's own `start` would.
    fn release(&self, pod: &Pod<'_>, container: &str) -> Result<()> {
        let dir = self.root(&pod.dirs).join(container);
        match self.flavor {
            Flavor::Crun => release_by_writing(&dir.join("exec.fifo")),
            Flavor::Runc => release_by_reading(&dir.join("exec.fifo"), START_TIMEOUT_S),
            Flavor::Youki => release_by_notifying(&dir),
        }
    }

    fn name(&self) -> String {
        self.binary.file_name().map_or_else(|| "runtime".into(), |n| n.to_string_lossy().into_owned())
    }

    fn argv(&self, dirs: &PodDirs, log: &Path, rest: &[&str]) -> Vec<String> {
        let mut argv = vec![self.binary.to_string_lossy().into_owned()];
        argv.extend(["--root".into(), self.root(dirs).to_string_lossy().into_owned()]);
        argv.extend(["--log".into(), log.to_string_lossy().into_owned(), "--log-format".into(), "json".into()]);
        if self.flavor == Flavor::Crun {
            argv.push("--cgroup-manager=disabled".into());
        }
        argv.extend(self.flags.iter().cloned());
        argv.extend(rest.iter().map(|a| (*a).to_owned()));
        argv
    }

    fn fill_in(&self, pod: &Pod<'_>, spec: &mut ContainerSpec, cgroup: &Path) {
        let ns = |kind: &str| Namespace::Join(format!("/proc/{}/ns/{kind}", pod.monitor_pid).into());
        spec.network = if pod.config.network == NamespaceMode::Node { Namespace::Host } else { ns("net") };
        spec.ipc = if pod.config.ipc == NamespaceMode::Node { Namespace::Host } else { ns("ipc") };
        spec.uts = if pod.config.network == NamespaceMode::Node { Namespace::Host } else { ns("uts") };
        let shared = spec.pid_of.as_ref().and_then(|target| target.pid);
        spec.pid = match (pod.config.pid, pod.enclosure_pid) {
            _ if shared.is_some() => Namespace::Join(format!("/proc/{}/ns/pid", shared.unwrap_or_default()).into()),
            (NamespaceMode::Node, _) => Namespace::Host,
            (NamespaceMode::Pod, Some(pid)) => Namespace::Join(format!("/proc/{pid}/ns/pid").into()),
            _ => Namespace::New,
        };
        spec.hostname = None; // set by the monitor, in the namespace that it owns
        spec.sysctls.clear(); // likewise
        spec.resources = None; // the cgroups are ours, limits and all
        spec.cgroups_path = (self.flavor != Flavor::Crun).then(|| Path::new("/").join(cgroup));
    }

    /// youki makes cgroups wherever it finds a controller, and nobody would remove these: controllers
    /// that are not ours are out of its sight.
    fn hiding(&self, pod: &Pod<'_>) -> impl Iterator<Item = MountOp> {
        let hidden = if self.flavor == Flavor::Youki { pod.foreign_cgroups.clone() } else { vec![] };
        hidden.into_iter().map(MountOp::Unmount)
    }

    /// Runs `create`; the first process then waits at the start fifo.
    #[allow(clippy::too_many_arguments)]
    fn create_as(
        &self,
        pod: &Pod<'_>,
        key: &str,
        id: &str,
        bundle: &Path,
        mounts: Vec<MountOp>,
        slave: bool,
        cgroup_files: Vec<PathBuf>,
        stdio: Stdio,
    ) -> Result<Option<i32>> {
        let (log, pid_file) = (bundle.join("runtime.log"), bundle.join("pid"));
        let (bundle_arg, pid_arg) = (bundle.to_string_lossy(), pid_file.to_string_lossy());
        let mut rest = vec!["create", "--bundle", &bundle_arg, "--pid-file", &pid_arg];
        let console = match &stdio {
            Stdio::Terminal { console_socket, .. } => console_socket.to_string_lossy().into_owned(),
            _ => String::new(),
        };
        if !console.is_empty() {
            rest.extend(["--console-socket", &console]);
        }
        rest.push(id);
        let argv = self.argv(&pod.dirs, &log, &rest);
        let mounts = self.hiding(pod).chain(mounts).collect();
        let spawn = Spawn {
            key: key.to_owned(),
            argv,
            env: environment(),
            cwd: bundle.to_owned(),
            cgroup_files,
            mounts,
            stdio,
            stderr_file: None,
            keep: Keep::PidFile(pid_file),
            filter: vec![],
            wide_table: false,
            slave,
            timeout_ms: COMMAND_TIMEOUT_MS,
        };
        run(pod, &spawn, &format!("{} create", self.name()), &log)
    }
}

/// What a runtime needs of the environment: runc looks for nothing, crun for `PATH` of hooks.
pub(crate) fn environment() -> Vec<(String, String)> {
    vec![("PATH".into(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into())]
}

pub(crate) fn connect(pod: &Pod<'_>) -> Result<Client> {
    Client::connect(&pod.dirs.socket()).map_err(|e| monitor_error(pod, &e))
}

pub(crate) fn monitor_error(pod: &Pod<'_>, error: &dyn std::fmt::Display) -> Error {
    Error::Monitor { pod: pod.id.short().to_owned(), reason: error.to_string() }
}

/// Spawns a runtime's command through the pod's monitor and turns its failure into one sentence.
pub(crate) fn run(pod: &Pod<'_>, spawn: &Spawn, command: &str, log: &Path) -> Result<Option<i32>> {
    let failed = |reason: String| Error::Runtime { command: command.to_owned(), reason };
    match connect(pod)?.spawn(spawn).map_err(|e| monitor_error(pod, &e))? {
        Response::Spawned { timed_out: true, .. } => {
            Err(failed(format!("it did not end within {} s and was killed", spawn.timeout_ms / 1000)))
        }
        Response::Spawned { code: Some(0) | None, pid, .. } => Ok(pid),
        Response::Spawned { code: Some(code), stderr, .. } => {
            let told = last_error(log).or_else(|| stderr.lines().last().map(clip)).filter(|m| !m.is_empty());
            Err(failed(told.unwrap_or_else(|| format!("it ended with code {code} and said nothing"))))
        }
        Response::Failed(reason) => Err(failed(clip(&reason))),
        other => Err(failed(format!("the monitor answered {other:?}"))),
    }
}

/// Writes a small file of a bundle.
pub(crate) fn write(path: &Path, value: &serde_json::Value) -> Result<()> {
    let fail = |e: std::io::Error| Error::File { path: path.to_owned(), reason: e.to_string() };
    let body = serde_json::to_vec(value).map_err(|e| fail(e.into()))?;
    std::fs::write(path, body).map_err(fail)
}

/// The overlay of a container's root, mounted in the mount namespace of the runtime's own process:
/// nothing is ever mounted on the machine, so nothing can stay mounted.
///
/// `volatile`: the writable layer goes with the container, so unmounting need not sync the disk.
pub(crate) fn root_mount(container: &Container<'_>) -> MountOp {
    let lower: Vec<_> = container.lower.iter().map(|p| p.to_string_lossy()).collect();
    let data = format!(
        "lowerdir={},upperdir={},workdir={},volatile",
        lower.join(":"),
        container.dirs.upper().display(),
        container.dirs.work().display()
    );
    overlay(container.dirs.rootfs(), data)
}

pub(crate) fn overlay(target: PathBuf, data: String) -> MountOp {
    MountOp::Mount { source: "overlay".into(), target, fstype: "overlay".into(), flags: 0, data }
}

impl Driver for Oci {
    fn probe(&self) -> std::result::Result<Probe, String> {
        features::probe(self.flavor, &self.binary)
    }

    fn moves_processes(&self) -> bool {
        self.flavor != Flavor::Crun
    }

    fn refuses(&self, _config: &SandboxConfig) -> Option<String> {
        None
    }

    fn refuses_container(&self, config: &ContainerConfig, features: &BTreeMap<String, bool>) -> Option<String> {
        refuse::container(&self.name(), config, features)
    }

    fn make_enclosure(&self, pod: &Pod<'_>) -> Result<Option<i32>> {
        if pod.config.pid != NamespaceMode::Pod {
            return Ok(None);
        }
        let bundle = pod.dirs.sandbox_bundle();
        let mut spec = pause_spec(pod, &bundle)?;
        // youki ends all that is in the cgroup of a container that it could not make: the monitor is not
        // to be in it.
        let own = if self.flavor == Flavor::Youki { PAUSE } else { "" };
        self.fill_in(pod, &mut spec, &pod.dirs.sandbox_cgroup().join(own));
        spec.user_namespace = pod.ids.map(|_| pod.dirs.user_namespace());
        spec.id_map = pod.ids.map(IdRange::map);
        spec.pid = Namespace::New;
        write(&bundle.join("config.json"), &spec::container_json(&spec))?;
        // In a mount namespace of its own, as every container's: runc takes the parent of the first
        // cgroup mount that it finds for the root of all, and only in a copy is that the right one.
        let own_namespace = vec![MountOp::Mkdir(bundle.clone())];
        let pid = self.create_as(pod, PAUSE, pod.id.as_str(), &bundle, own_namespace, false, pod.cgroup_files.clone(), Stdio::Null)?;
        reach("enclosure.created");
        self.release(pod, pod.id.as_str())?;
        Ok(pid)
    }

    fn create(&self, pod: &Pod<'_>, mut container: Container<'_>) -> Result<Option<i32>> {
        self.fill_in(pod, &mut container.spec, &pod.dirs.container_cgroup(container.id));
        if self.flavor == Flavor::Crun && container.spec.user_namespace.is_some() {
            from_within(&container.dirs.bundle, &mut container.spec);
        }
        write(&container.dirs.spec(), &spec::container_json(&container.spec))?;
        let mut mounts = std::mem::take(&mut container.before);
        mounts.push(root_mount(&container));
        let id = container.id.as_str();
        let slave = container.spec.propagates();
        self.create_as(pod, id, id, &container.dirs.bundle, mounts, slave, container.cgroup_files, container.stdio)
    }

    fn start(&self, pod: &Pod<'_>, container: &ContainerId, _stdio: &Stdio) -> Result<()> {
        self.release(pod, container.as_str())
    }

    fn signal(&self, pod: &Pod<'_>, container: &ContainerId, signal: i32, _all: bool) -> Result<()> {
        connect(pod)?.signal(container.as_str(), signal).map_err(|e| monitor_error(pod, &e))
    }

    fn exec(&self, pod: &Pod<'_>, exec: Exec<'_>) -> Result<()> {
        let process = exec.dir.join("process.json");
        write(&process, &spec::process_json(&exec.process))?;
        let (log, pid_file) = (exec.dir.join("runtime.log"), exec.dir.join("pid"));
        let (process_arg, pid_arg) = (process.to_string_lossy(), pid_file.to_string_lossy());
        let mut rest = vec!["exec", "--detach", "--process", &process_arg, "--pid-file", &pid_arg];
        let console = match &exec.stdio {
            Stdio::Terminal { console_socket, .. } => console_socket.to_string_lossy().into_owned(),
            _ => String::new(),
        };
        if !console.is_empty() {
            rest.extend(["--console-socket", &console]);
        }
        rest.push(exec.container.as_str());
        let spawn = Spawn {
            key: exec.key.clone(),
            argv: self.argv(&pod.dirs, &log, &rest),
            env: environment(),
            cwd: exec.dir.clone(),
            cgroup_files: exec.cgroup_files,
            mounts: self.hiding(pod).collect(),
            stdio: exec.stdio,
            stderr_file: None,
            keep: Keep::PidFile(pid_file.clone()),
            filter: vec![],
            wide_table: false,
            slave: false,
            timeout_ms: COMMAND_TIMEOUT_MS,
        };
        run(pod, &spawn, &format!("{} exec", self.name()), &log).map(|_| ())
    }

    /// As containerd and CRI-O do: connected from within the pod's network namespace, IPv4 first.
    fn dial(&self, pod: &Pod<'_>, port: u16) -> Result<OwnedFd> {
        let failed = |reason: String| Error::Runtime { command: format!("connecting to port {port} of pod {}", pod.id.short()), reason };
        let namespace = netns::open(format!("/proc/{}/ns/net", pod.monitor_pid)).map_err(|e| failed(e.to_string()))?;
        let connect = || {
            let to = |address: IpAddr| TcpStream::connect_timeout(&SocketAddr::new(address, port), DIAL_TIMEOUT);
            to(Ipv4Addr::LOCALHOST.into()).or_else(|first| to(Ipv6Addr::LOCALHOST.into()).map_err(|_| first))
        };
        let connected = netns::run_in(namespace.as_fd(), connect).map_err(|e| failed(e.to_string()))?;
        connected.map(OwnedFd::from).map_err(|e| failed(e.to_string()))
    }

    fn kill_exec(&self, pod: &Pod<'_>, key: &str, _dir: &Path, _container: &ContainerId) -> Result<()> {
        let mut monitor = connect(pod)?;
        let pid = |monitor: &mut Client| {
            let all = monitor.list().map_err(|e| monitor_error(pod, &e))?;
            Ok(all.into_iter().find(|p| p.key == key && p.exit.is_none()).and_then(|p| p.pid))
        };
        // Held before the monitor says for the second time that it is this one, so that it is no other.
        if let Some(first) = pid(&mut monitor)?
            && let Ok(Some(process)) = Process::open_pid(first)
            && pid(&mut monitor)? == Some(first)
        {
            let failed = |e: cofferdam_host::Error| Error::Runtime { command: "killing a command".into(), reason: e.to_string() };
            return kill_tree(process).map_err(failed);
        }
        monitor.signal(key, 9).map_err(|e| monitor_error(pod, &e))
    }

    fn exit_code(&self, exit: &Exit) -> i32 {
        exit.code
    }

    fn forget(&self, dirs: &PodDirs, container: &str) -> Result<()> {
        let path = self.root(dirs).join(container);
        match std::fs::remove_dir_all(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::File { path, reason: e.to_string() }),
            _ => Ok(()),
        }
    }
}

/// In a user namespace crun before 1.9 opens the sources of binds from outside, without what is mounted
/// in them; one that it cannot open so, as it has no absolute path, it binds from within, whole. The
/// bundle is its working directory.
fn from_within(bundle: &Path, spec: &mut ContainerSpec) {
    for mount in spec.mounts.iter_mut().filter(|m| m.kind == "bind") {
        if let Ok(rest) = mount.source.strip_prefix(bundle)
            && !rest.as_os_str().is_empty()
        {
            mount.source = rest.to_owned();
        }
    }
}

/// A container of the monitor's own binary, for runtimes and pods that need one that only waits.
pub(crate) fn pause_spec(pod: &Pod<'_>, bundle: &Path) -> Result<ContainerSpec> {
    let root = bundle.join("rootfs");
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |e: std::io::Error| Error::File { path, reason: e.to_string() }
    };
    for dir in ["proc", "dev", "sys"] {
        std::fs::create_dir_all(root.join(dir)).map_err(fail(&root))?;
    }
    let target = root.join(PAUSE);
    // A hard link costs nothing; a copy is right where the state directory is another file system.
    match std::fs::hard_link(&pod.pause, &target) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(_) => std::fs::copy(&pod.pause, &target).map(|_| ()).map_err(fail(&target))?,
    }
    Ok(ContainerSpec {
        process: spec::Process {
            args: vec![format!("/{PAUSE}"), PAUSE.into()],
            // youki refuses a process without one.
            env: vec![("PATH".into(), "/".into())],
            cwd: "/".into(),
            no_new_privs: true,
            user: spec::User { uid: 65535, gid: 65535, groups: vec![] },
            ..spec::Process::default()
        },
        rootfs: root,
        readonly_rootfs: true,
        cgroup: Namespace::Host,
        ..ContainerSpec::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_plan::spec::SpecMount;

    #[test]
    fn sources_in_the_bundle_are_told_from_within_it() {
        let mut tmpfs = SpecMount::bind("/b/t", "/t", false);
        tmpfs.kind = "tmpfs".into();
        let mounts = vec![SpecMount::bind("/b/m/0", "/x", false), SpecMount::bind("/bb/m", "/y", false), SpecMount::bind("/b", "/z", false), tmpfs];
        let mut spec = ContainerSpec { mounts, ..ContainerSpec::default() };
        from_within(Path::new("/b"), &mut spec);
        let sources: Vec<_> = spec.mounts.iter().map(|m| m.source.as_path()).collect();
        assert_eq!(sources, ["m/0", "/bb/m", "/b", "/b/t"].map(Path::new));
    }
}
