//! gVisor: the enclosure is a root container whose sandbox process (the sentry) is the kernel of all
//! containers of the pod. `runsc run --detach` (create and start in one process) makes the root
//! and each container. Their ends, and signals to them, go over the sentry's control socket (plain JSON;
//! `pkg/urpc` and `runsc/boot/controller.go` of gvisor.dev/gvisor), because each further `runsc`
//! process would cost tens of milliseconds and a waiting one megabytes.

use crate::oci::{self, overlay, pause_spec, root_mount, run, write};
use crate::probe;
use crate::state::clip;
use crate::{Container, Driver, Error, Exec, Pod, Probe, Result};
use cofferdam_model::ContainerId;
use cofferdam_model::cri::{FEATURE_CONTAINER_LIMITS, NamespaceMode, SandboxConfig};
use cofferdam_monitor::protocol::{Exit, FilterOp, Keep, MountOp, Spawn, Stdio};
use cofferdam_plan::layout::PodDirs;
use cofferdam_plan::spec::{self, ContainerSpec, Namespace};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
/// How long the sentry may take to answer a call that does not wait for a process.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// File with the id of a further process in its sandbox.
const INTERNAL_PID: &str = "internal-pid";
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
        Keep::Await { socket: self.control_socket(pod).to_string_lossy().into_owned(), payload: request(method, arg) }
    }

    /// One call of the sentry that answers at once.
    fn call(&self, pod: &Pod<'_>, method: &str, arg: &Value) -> Result<Value> {
        let failed = |reason: String| Error::Runtime { command: format!("gVisor's {method}"), reason };
        let mut stream = UnixStream::connect(self.control_socket(pod)).map_err(|e| failed(e.to_string()))?;
        stream.set_read_timeout(Some(CALL_TIMEOUT)).map_err(|e| failed(e.to_string()))?;
        stream.write_all(&request(method, arg)).map_err(|e| failed(e.to_string()))?;
        let reply = serde_json::Deserializer::from_reader(stream.take(1 << 20)).into_iter::<Value>().next();
        let reply = reply.ok_or_else(|| failed("it closed the connection".into()))?.map_err(|e| failed(e.to_string()))?;
        if reply["success"] == json!(true) {
            return Ok(reply["result"].clone());
        }
        Err(failed(clip(reply["err"].as_str().unwrap_or("it refused and said nothing"))))
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
        for default in ["--network=sandbox", "--overlay2=none"] {
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
        mounts: Vec<MountOp>,
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
            mounts,
            stdio,
            stderr_file: None,
            keep,
            filter: if self.takes_filter() { no_private_membarrier() } else { vec![] },
            wide_table: true,
            timeout_ms: COMMAND_TIMEOUT_MS,
        };
        let verb = rest.first().copied().unwrap_or_default();
        run(pod, &spawn, &format!("runsc {verb}"), &log)
    }

    /// The sentry on KVM uses the barrier that the filter leaves out; on other platforms it does not.
    fn takes_filter(&self) -> bool {
        !self.flags.iter().any(|f| f.starts_with("--platform=") && !matches!(f.as_str(), "--platform=systrap" | "--platform=ptrace"))
    }

    fn fill_in(pod: &Pod<'_>, spec: &mut ContainerSpec, kind: &str) {
        let ns = |kind: &str| Namespace::Join(format!("/proc/{}/ns/{kind}", pod.monitor_pid).into());
        spec.network = ns("net");
        spec.ipc = ns("ipc");
        spec.uts = ns("uts");
        spec.pid = Namespace::New;
        spec.cgroups_path = None;
        spec.hostname = Some(pod.config.hostname.clone());
        spec.annotations.insert("io.kubernetes.cri.container-type".into(), kind.to_owned());
        spec.annotations.insert("io.kubernetes.cri.sandbox-id".into(), pod.id.to_string());
        // The monitor has set these where the host keeps them; the sentry has its own.
        spec.sysctls.clear();
    }
}

/// Answers `membarrier(REGISTER_PRIVATE_EXPEDITED)` with success, without doing it: each of gVisor's
/// processes asks for it as it starts (`pkg/sentry/hostmm/membarrier.go`), already with threads, and
/// then waits about 10 ms for the kernel's grace period; its systrap and ptrace platforms use the
/// global barrier instead (`platform.UseHostGlobalMemoryBarrier`) and never this one.
fn no_private_membarrier() -> Vec<FilterOp> {
    // linux/audit.h, the system call tables, linux/membarrier.h, linux/seccomp.h, linux/filter.h
    const ARCH: u32 = if cfg!(target_arch = "aarch64") { 0xc000_00b7 } else { 0xc000_003e };
    const MEMBARRIER: u32 = if cfg!(target_arch = "aarch64") { 283 } else { 324 };
    const REGISTER_PRIVATE_EXPEDITED: u32 = 1 << 4;
    let (load, equal, give) = (0x20, 0x15, 0x06);
    let (allow, succeed) = (0x7fff_0000, 0x0005_0000);
    let op = |code, if_true, if_false, operand| FilterOp { code, if_true, if_false, operand };
    vec![
        op(load, 0, 0, 4), // architecture
        op(equal, 0, 5, ARCH),
        op(load, 0, 0, 0), // number of the system call
        op(equal, 0, 3, MEMBARRIER),
        op(load, 0, 0, 16), // lower half of the first argument
        op(equal, 0, 1, REGISTER_PRIVATE_EXPEDITED),
        op(give, 0, 0, succeed),
        op(give, 0, 0, allow),
    ]
}

fn request(method: &str, arg: &Value) -> Vec<u8> {
    json!({"method": format!("containerManager.{method}"), "arg": arg}).to_string().into_bytes()
}

impl Driver for Runsc {
    fn probe(&self) -> std::result::Result<Probe, String> {
        let version = probe::version_of(&self.binary)?;
        let features = BTreeMap::from([
            ("recursive_read_only_mounts".to_owned(), false),
            ("user_namespaces".to_owned(), false),
            ("host_namespaces".to_owned(), false),
            (FEATURE_CONTAINER_LIMITS.to_owned(), false),
        ]);
        Ok(Probe { version, features })
    }

    fn refuses(&self, config: &SandboxConfig) -> Option<String> {
        if let Some(name) = config.sysctls.keys().next() {
            return Some(format!("gVisor has no sysctl {name} that could be set; remove it from securityContext.sysctls"));
        }
        if config.pid == NamespaceMode::Pod {
            return Some("its containers cannot share a process id namespace under gVisor yet; remove shareProcessNamespace".into());
        }
        let asked = [(config.network, "hostNetwork"), (config.pid, "hostPID"), (config.ipc, "hostIPC")];
        let host = asked.iter().find(|(mode, _)| *mode == NamespaceMode::Node)?;
        Some(format!("gVisor cannot give a pod the machine's namespaces; remove {}", host.1))
    }

    fn make_enclosure(&self, pod: &Pod<'_>) -> Result<Option<i32>> {
        let bundle = pod.dirs.sandbox_bundle();
        let mut spec = pause_spec(pod, &bundle)?;
        Self::fill_in(pod, &mut spec, "sandbox");
        spec.process.oom_score_adj = Some(pod.oom_score_adj);
        write(&bundle.join("config.json"), &spec::container_json(&spec))?;
        let (bundle_arg, pid_file) = (bundle.to_string_lossy(), bundle.join("pid"));
        let pid_arg = pid_file.to_string_lossy();
        let refused = pod.dirs.refused_calls();
        let refused = refused.to_string_lossy();
        let rest = ["run", "--detach", "--user-log", &refused, "--bundle", &bundle_arg, "--pid-file", &pid_arg, pod.id.as_str()];
        self.spawn(pod, SANDBOX_KEY, &bundle, &rest, vec![], Stdio::Null, Keep::PidFile(pid_file.clone()))
    }

    /// Only writes the bundle: the sentry takes a container's streams when it starts it, and `run`
    /// is create and start in one process.
    fn create(&self, pod: &Pod<'_>, mut container: Container<'_>) -> Result<Option<i32>> {
        Self::fill_in(pod, &mut container.spec, "container");
        write(&container.dirs.spec(), &spec::container_json(&container.spec))?;
        let op = root_mount(&container);
        write(&container.dirs.dir.join(MOUNT_FILE), &json!(mount_parts(&op)))?;
        Ok(None)
    }

    fn start(&self, pod: &Pod<'_>, container: &ContainerId, stdio: &Stdio) -> Result<()> {
        let dir = pod.dirs.container(container).dir;
        let (id, bundle) = (container.as_str(), dir.to_string_lossy());
        let console = console_of(stdio);
        let mut rest = vec!["run", "--detach", "--bundle", &bundle];
        if let Some(console) = &console {
            rest.extend(["--console-socket", console]);
        }
        rest.push(id);
        let keep = self.wait_for(pod, "Wait", &json!(id));
        self.spawn(pod, id, &dir, &rest, vec![read_mount(&dir)?], stdio.clone(), keep).map(|_| ())
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
        self.spawn(pod, &exec.key, &exec.dir, &rest, vec![], exec.stdio.clone(), keep).map(|_| ())
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

fn console_of(stdio: &Stdio) -> Option<String> {
    match stdio {
        Stdio::Terminal { console_socket, .. } => Some(console_socket.to_string_lossy().into_owned()),
        _ => None,
    }
}

/// The root's mount, kept beside the bundle until the container is started.
const MOUNT_FILE: &str = "root-mount.json";

fn mount_parts(op: &MountOp) -> (String, PathBuf) {
    match op {
        MountOp::Mount { data, target, .. } => (data.clone(), target.clone()),
        _ => (String::new(), PathBuf::new()),
    }
}

fn read_mount(dir: &Path) -> Result<MountOp> {
    let path = dir.join(MOUNT_FILE);
    let fail = |reason: String| Error::File { path: path.clone(), reason };
    let bytes = std::fs::read(&path).map_err(|e| fail(e.to_string()))?;
    let (data, target) = serde_json::from_slice(&bytes).map_err(|e| fail(e.to_string()))?;
    Ok(overlay(target, data))
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
            assert_eq!(runsc.lost_enclosure(&exit), exit.reply.is_empty() && exit.code == -1);
        }
    }
}
