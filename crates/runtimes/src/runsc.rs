//! gVisor: the enclosure is a root container whose sandbox process (the sentry) is the kernel of all
//! containers of the pod. `runsc run --detach` (create and start in one process) makes the root
//! and each container. Their ends, and signals to them, go over the sentry's control socket (plain JSON;
//! `pkg/urpc` and `runsc/boot/controller.go` of gvisor.dev/gvisor), because each further `runsc`
//! process would cost tens of milliseconds and a waiting one megabytes.

mod control;
mod filter;
mod seccomp;

use crate::oci::{self, pause_spec, root_mount, run, write};
use crate::probe;
use crate::refuse;
use crate::state::clip;
use crate::{Container, Driver, Error, Exec, Pod, Probe, Result, Usage};
use cofferdam_model::ContainerId;
use cofferdam_model::cri::{ContainerConfig, FEATURE_CONTAINER_LIMITS, FEATURE_RECURSIVE_READ_ONLY, FEATURE_USER_NAMESPACES, NamespaceMode, SandboxConfig};
use cofferdam_monitor::protocol::{Exit, Keep, MountOp, Spawn, Stdio};
use cofferdam_plan::layout::PodDirs;
use cofferdam_plan::spec::{self, ContainerSpec, Namespace};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// gVisor as a handler names it.
#[derive(Debug, Clone)]
pub struct Runsc {
    /// Absolute path of the binary. No other is ever run.
    pub binary: PathBuf,
    /// State directory; the pod's own where `None`.
    pub root: Option<PathBuf>,
    /// Global flags of the handler's configuration (`--platform=…`, `--directfs=…`).
    pub flags: Vec<String>,
}

/// How long a command of runsc may take; software emulation and a busy machine are slow.
const COMMAND_TIMEOUT_MS: u32 = 60_000;
/// File with the id of a further process in its sandbox.
const INTERNAL_PID: &str = "internal-pid";
/// What a sandbox's root container is called (`runsc/specutils/cri.go`).
const ROOT: &str = "sandbox";
/// Annotation of a container's own id, by which others of its sandbox find its process ids.
const OWN_ID: &str = "dev.cofferdam.container-id";
/// Key of the sandbox at the monitor.
const SANDBOX_KEY: &str = "pause";

impl Runsc {
    fn root(&self, dirs: &PodDirs) -> PathBuf {
        self.root.clone().unwrap_or_else(|| dirs.runtime_root())
    }

    /// The sentry's control socket.
    fn control_socket(&self, pod: &Pod<'_>) -> PathBuf {
        self.root(&pod.dirs).join(format!("runsc-{}.sock", pod.id))
    }

    fn wait_for(&self, pod: &Pod<'_>, method: &str, arg: &Value) -> Keep {
        Keep::Await { socket: self.control_socket(pod).to_string_lossy().into_owned(), payload: control::request(method, arg) }
    }

    /// One call of the sentry that answers at once.
    fn call(&self, pod: &Pod<'_>, method: &str, arg: &Value) -> Result<Value> {
        control::call(&self.control_socket(pod), method, arg, None)
    }

    fn signal_process(&self, pod: &Pod<'_>, container: &ContainerId, signal: i32, pid: i32, all: bool) -> Result<()> {
        // DeliverToAllProcesses is 1, DeliverToProcess 0 (runsc/boot/controller.go, SignalDeliveryMode).
        let arg = json!({"CID": container.as_str(), "Signo": signal, "PID": pid, "Mode": i32::from(all)});
        self.call(pod, "Signal", &arg).map(|_| ())
    }

    fn argv(&self, dirs: &PodDirs, log: &Path, rest: &[&str]) -> Vec<String> {
        let mut argv = vec![self.binary.to_string_lossy().into_owned()];
        argv.extend([format!("--root={}", self.root(dirs).display()), format!("--log={}", log.display())]);
        argv.push("--log-format=json".into());
        // Cgroups are ours: the process that becomes the sentry is born in the pod's.
        argv.push("--ignore-cgroups".into());
        // Profiles are honoured in every process of a sandbox or in none.
        for default in ["--network=sandbox", "--overlay2=none", "--oci-seccomp=true"] {
            let name = default.split('=').next().unwrap_or(default);
            if !self.flags.iter().any(|f| f.split('=').next() == Some(name)) {
                argv.push(default.into());
            }
        }
        argv.extend(self.flags.iter().cloned());
        argv.extend(rest.iter().map(|a| (*a).to_owned()));
        argv
    }

    #[allow(clippy::too_many_arguments)]
    fn spawn(
        &self,
        pod: &Pod<'_>,
        key: &str,
        dir: &Path,
        rest: &[&str],
        kept: Kept,
        stdio: Stdio,
        keep: Keep,
    ) -> Result<Option<i32>> {
        let log = dir.join("runtime.log");
        let spawn = Spawn {
            key: key.to_owned(),
            argv: self.argv(&pod.dirs, &log, rest),
            env: oci::environment(),
            cwd: dir.to_owned(),
            cgroup_files: pod.cgroup_files.clone(),
            mounts: kept.mounts,
            stdio,
            stderr_file: None,
            keep,
            filter: if self.takes_filter() { filter::no_private_membarrier() } else { vec![] },
            wide_table: true,
            slave: kept.slave,
            timeout_ms: COMMAND_TIMEOUT_MS,
        };
        let verb = rest.first().copied().unwrap_or_default();
        run(pod, &spawn, &format!("runsc {verb}"), &log)
    }

    /// The sentry on KVM uses the barrier that the filter leaves out; on other platforms it does not.
    fn takes_filter(&self) -> bool {
        !self.flags.iter().any(|f| f.starts_with("--platform=") && !matches!(f.as_str(), "--platform=systrap" | "--platform=ptrace"))
    }

    /// Whether the handler's flags leave profiles in force.
    fn filters(&self) -> bool {
        let value = |flag: &String| flag.strip_prefix("--oci-seccomp").map(str::to_owned);
        self.flags.iter().filter_map(value).next_back().is_none_or(|given| matches!(given.as_str(), "" | "=true" | "=t" | "=1"))
    }

    fn fill_in(pod: &Pod<'_>, spec: &mut ContainerSpec, kind: &str) {
        let ns = |kind: &str| Namespace::Join(format!("/proc/{}/ns/{kind}", pod.monitor_pid).into());
        spec.network = ns("net");
        spec.ipc = ns("ipc");
        spec.uts = ns("uts");
        // The root's own is the sandbox's.
        spec.pid = if kind == ROOT { Namespace::New } else { pid_namespace(pod, spec) };
        spec.cgroups_path = None;
        // A default that nobody asked for, where the machine has AppArmor: gVisor leaves it out.
        spec.process.apparmor = None;
        spec.hostname = Some(pod.config.hostname.clone());
        spec.annotations.insert("io.kubernetes.cri.container-type".into(), kind.to_owned());
        spec.annotations.insert("io.kubernetes.cri.sandbox-id".into(), pod.id.to_string());
        // The monitor has set these where the host keeps them; the sentry has its own.
        spec.sysctls.clear();
    }
}

impl Driver for Runsc {
    fn probe(&self) -> std::result::Result<Probe, String> {
        let version = probe::version_of(&self.binary)?;
        let has = [
            // The sentry denies writes to all that a mount shows.
            (FEATURE_RECURSIVE_READ_ONLY, true),
            (FEATURE_USER_NAMESPACES, false),
            (crate::FEATURE_SECCOMP, self.filters()),
            (crate::FEATURE_APPARMOR, false),
            (crate::FEATURE_SELINUX, false),
            (crate::FEATURE_HOST_NAMESPACES, false),
            (crate::FEATURE_DEVICES, false),
            (crate::FEATURE_BIDIRECTIONAL_MOUNTS, false),
            (crate::FEATURE_IMAGE_VOLUMES, true),
            (crate::FEATURE_SYSCTLS, false),
            (crate::FEATURE_HUGE_PAGES, false),
            (FEATURE_CONTAINER_LIMITS, false),
        ];
        Ok(Probe { version, features: has.map(|(name, has)| (name.to_owned(), has)).into() })
    }

    fn refuses(&self, config: &SandboxConfig) -> Option<String> {
        if let Some(name) = config.sysctls.keys().next() {
            return Some(format!("gVisor has no sysctl {name} that could be set; remove it from securityContext.sysctls"));
        }
        if config.user_namespace {
            return Some("gVisor's users are those of its own kernel, and their ids on volumes cannot be mapped; remove hostUsers: false".into());
        }
        let asked = [(config.network, "hostNetwork"), (config.pid, "hostPID"), (config.ipc, "hostIPC")];
        let host = asked.iter().find(|(mode, _)| *mode == NamespaceMode::Node)?;
        Some(format!("gVisor cannot give a pod the machine's namespaces; remove {}", host.1))
    }

    fn refuses_container(&self, config: &ContainerConfig, features: &BTreeMap<String, bool>) -> Option<String> {
        if let Some((stage, _)) = config.hooks.first() {
            return Some(format!("gVisor's containers are not processes of the machine, on which {stage} hooks could act; remove the hooks"));
        }
        refuse::container("gVisor", config, features)
    }

    fn make_enclosure(&self, pod: &Pod<'_>) -> Result<Option<i32>> {
        let bundle = pod.dirs.sandbox_bundle();
        let mut spec = pause_spec(pod, &bundle)?;
        Self::fill_in(pod, &mut spec, ROOT);
        spec.process.oom_score_adj = Some(pod.oom_score_adj);
        write(&bundle.join("config.json"), &spec::container_json(&spec))?;
        let (bundle_arg, pid_file) = (bundle.to_string_lossy(), bundle.join("pid"));
        let pid_arg = pid_file.to_string_lossy();
        let refused = pod.dirs.refused_calls();
        let refused = refused.to_string_lossy();
        let rest = ["run", "--detach", "--user-log", &refused, "--bundle", &bundle_arg, "--pid-file", &pid_arg, pod.id.as_str()];
        self.spawn(pod, SANDBOX_KEY, &bundle, &rest, Kept::default(), Stdio::Null, Keep::PidFile(pid_file.clone()))
    }

    /// Only writes the bundle: the sentry takes a container's streams when it starts it, and `run`
    /// is create and start in one process.
    fn create(&self, pod: &Pod<'_>, mut container: Container<'_>) -> Result<Option<i32>> {
        container.spec.annotations.insert(OWN_ID.into(), container.id.to_string());
        Self::fill_in(pod, &mut container.spec, "container");
        if let Some(profile) = container.spec.seccomp.take() {
            container.spec.seccomp = Some(seccomp::adapt(profile).map_err(Error::Unsupported)?);
        }
        write(&container.dirs.spec(), &spec::container_json(&container.spec))?;
        let mut mounts = std::mem::take(&mut container.before);
        mounts.push(root_mount(&container));
        let kept = Kept { mounts, slave: container.spec.propagates() };
        write(&container.dirs.bundle.join(MOUNT_FILE), &json!(kept))?;
        Ok(None)
    }

    fn start(&self, pod: &Pod<'_>, container: &ContainerId, stdio: &Stdio) -> Result<()> {
        let dir = pod.dirs.container(container).bundle;
        let (id, bundle) = (container.as_str(), dir.to_string_lossy());
        let console = console_of(stdio);
        let mut rest = vec!["run", "--detach", "--bundle", &bundle];
        if let Some(console) = &console {
            rest.extend(["--console-socket", console]);
        }
        rest.push(id);
        let keep = self.wait_for(pod, "Wait", &json!(id));
        self.spawn(pod, id, &dir, &rest, Kept::read(&dir)?, stdio.clone(), keep).map(|_| ())
    }

    fn signal(&self, pod: &Pod<'_>, container: &ContainerId, signal: i32, all: bool) -> Result<()> {
        self.signal_process(pod, container, signal, 0, all)
    }

    fn exec(&self, pod: &Pod<'_>, exec: Exec<'_>) -> Result<()> {
        let process = exec.dir.join("process.json");
        write(&process, &spec::process_json(&exec.process))?;
        let (process_arg, pid_file) = (process.to_string_lossy(), exec.dir.join("pid"));
        let internal = exec.dir.join(INTERNAL_PID);
        let (pid_arg, internal_arg) = (pid_file.to_string_lossy(), internal.to_string_lossy());
        let console = console_of(&exec.stdio);
        let mut rest = vec!["exec", "--process", &process_arg, "--pid-file", &pid_arg, "--internal-pid-file", &internal_arg];
        let mut keep = Keep::Command;
        if let Some(console) = &console {
            // Only a detached `runsc exec` sends a terminal; the process that it leaves behind ends as
            // the one in the sandbox does.
            rest.extend(["--detach", "--console-socket", console]);
            keep = Keep::PidFile(pid_file.clone());
        }
        rest.push(exec.container.as_str());
        self.spawn(pod, &exec.key, &exec.dir, &rest, Kept::default(), exec.stdio.clone(), keep).map(|_| ())
    }

    /// The sentry connects from within: it takes one end of a pair and copies between both.
    fn dial(&self, pod: &Pod<'_>, port: u16) -> Result<OwnedFd> {
        let failed = |reason: String| Error::Runtime { command: format!("connecting to port {port} of pod {}", pod.id.short()), reason };
        let (ours, theirs) = UnixStream::pair().map_err(|e| failed(e.to_string()))?;
        let arg = json!({"ContainerID": pod.id.as_str(), "Port": port});
        match control::call(&self.control_socket(pod), "PortForward", &arg, Some(theirs.as_fd())) {
            Ok(_) => Ok(ours.into()),
            Err(Error::Runtime { reason, .. }) => Err(failed(reason)),
            Err(other) => Err(other),
        }
    }

    /// Memory is one for all containers of a sandbox: the sentry divides it by their number, which is
    /// no measure (`runsc/boot/events.go`), so that none is told.
    fn stats(&self, pod: &Pod<'_>, containers: &[ContainerId]) -> Result<Option<Vec<Usage>>> {
        let usage = |id: &ContainerId| {
            let told = self.call(pod, "Event", &json!(id.as_str()))?;
            let cpu = &told["containerUsage"];
            let all = cpu.as_object().map(|all| all.values().filter_map(Value::as_u64).fold(0, u64::saturating_add));
            let (cpu_nanos, pids) = (cpu[id.as_str()].as_u64(), told["event"]["data"]["pids"]["current"].as_u64());
            Ok(Usage { memory: None, cpu_nanos, cpu_nanos_of_all: all, pids })
        };
        containers.iter().map(usage).collect::<Result<_>>().map(Some)
    }

    /// The process in the sandbox, not the `runsc exec` that waits for it.
    fn kill_exec(&self, pod: &Pod<'_>, key: &str, dir: &Path, container: &ContainerId) -> Result<()> {
        let path = dir.join(INTERNAL_PID);
        let fail = |reason: String| Error::File { path: path.clone(), reason };
        let text = std::fs::read_to_string(&path).map_err(|e| fail(e.to_string()))?;
        let pid = text.trim().parse().ok().filter(|pid| *pid > 0).ok_or_else(|| fail("it holds no process id".into()))?;
        self.signal_process(pod, container, 9, pid, false)?;
        // Its helper ends with it; where it does not, nothing waits for it.
        let _ = oci::connect(pod).map(|mut monitor| monitor.signal(key, 9));
        Ok(())
    }

    fn lost_enclosure(&self, exit: &Exit) -> bool {
        exit.reply.is_empty() && exit.code < 0
    }

    /// A container that `run` said it had started and that the sentry does not know never ran.
    fn exit_message(&self, exit: &Exit) -> String {
        let reply: Value = serde_json::from_slice(&exit.reply).unwrap_or_default();
        match (reply["result"].as_u64(), reply["err"].as_str()) {
            (None, Some(why)) if !why.is_empty() => format!("gVisor did not run it, or lost it: {}", clip(why)),
            (None, _) if !exit.reply.is_empty() => "gVisor did not tell how it ended".to_owned(),
            _ => String::new(),
        }
    }

    fn exit_code(&self, exit: &Exit) -> i32 {
        if exit.reply.is_empty() {
            // The connection broke: the sentry died and took its containers with it.
            return if exit.code >= 0 { exit.code } else { 128 + 9 };
        }
        let reply: Value = serde_json::from_slice(&exit.reply).unwrap_or_default();
        match reply["result"].as_u64() {
            Some(status) if status & 0x7f == 0 => i32::from(u8::try_from(status >> 8 & 0xff).unwrap_or(u8::MAX)),
            Some(status) => 128 + i32::from(u8::try_from(status & 0x7f).unwrap_or(9)),
            None => 128 + 9,
        }
    }

    /// In a pod's own directory the state goes with that; in one that handlers share, each file of a
    /// container begins with its id (`runsc/container/state_file.go`).
    fn forget(&self, dirs: &PodDirs, container: &str) -> Result<()> {
        let Some(root) = &self.root else { return Ok(()) };
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |e: std::io::Error| Error::File { path, reason: e.to_string() }
        };
        let entries = match std::fs::read_dir(root) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(fail(root))?,
        };
        let (of_container, of_sandbox) = (format!("{container}_sandbox:"), format!("runsc-{}.sock", dirs.id()));
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(&of_container) || (container == dirs.id() && name == of_sandbox) {
                std::fs::remove_file(entry.path()).map_err(fail(&entry.path()))?;
            }
        }
        Ok(())
    }
}

/// Process ids inside a sandbox: none named is the root container's; equal paths are one namespace, and
/// one that nobody has yet is a new one (`runsc/boot/loader.go`, `startSubcontainer`). The paths are of
/// no file: they are compared, and never opened.
fn pid_namespace(pod: &Pod<'_>, spec: &ContainerSpec) -> Namespace {
    let named = |id: &str| Namespace::Join(Path::new("/cofferdam/pids").join(id));
    match (&spec.pid_of, pod.config.pid) {
        (Some(target), _) => named(&target.container),
        (None, NamespaceMode::Pod) => Namespace::Host,
        (None, _) => spec.annotations.get(OWN_ID).map_or(Namespace::New, |id| named(id)),
    }
}

fn console_of(stdio: &Stdio) -> Option<String> {
    match stdio {
        Stdio::Terminal { console_socket, .. } => Some(console_socket.to_string_lossy().into_owned()),
        _ => None,
    }
}

/// Where [`Kept`] is, beside the bundle.
const MOUNT_FILE: &str = "root-mount.json";

/// What is mounted before a container is started; kept from its creation on.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    mounts: Vec<MountOp>,
    slave: bool,
}

impl Kept {
    fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(MOUNT_FILE);
        let fail = |reason: String| Error::File { path: path.clone(), reason };
        let bytes = std::fs::read(&path).map_err(|e| fail(e.to_string()))?;
        serde_json::from_slice(&bytes).map_err(|e| fail(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_read_from_the_sentrys_reply() {
        let runsc = Runsc { binary: "/runsc".into(), root: None, flags: vec![] };
        let exit = |reply: &str, code| Exit {
            key: "k".into(),
            code,
            at: 0,
            timed_out: false,
            reply: reply.as_bytes().to_vec(),
            stdout: vec![],
            stderr: vec![],
            truncated: false,
        };
        let rows = [
            (exit(r#"{"success":true,"result":768}"#, -1), 3),
            (exit(r#"{"success":true,"result":0}"#, -1), 0),
            (exit(r#"{"success":true,"result":15}"#, -1), 143),
            (exit(r#"{"success":false,"err":"no such container"}"#, -1), 137),
            (exit("", -1), 137),
            (exit("", 7), 7),
        ];
        for (exit, code) in rows {
            assert_eq!(runsc.exit_code(&exit), code, "{:?}", String::from_utf8_lossy(&exit.reply));
            assert_eq!(runsc.exit_message(&exit).contains("no such container"), exit.reply.windows(9).any(|w| w == b"no such c"));
            assert_eq!(runsc.lost_enclosure(&exit), exit.reply.is_empty() && exit.code == -1);
        }
    }
}
