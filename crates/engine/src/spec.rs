//! From a request to what a runtime is told of a container.

use crate::devices::{self, gives_devices};
use crate::handlers::Kind;
use crate::monitors::tmpfs;
use crate::mounts::{self, Mounts};
use crate::sandbox::{Known, MS_NOSUID_NODEV, failed};
use crate::{Engine, confine, defaults};
use cofferdam_handlers::Defaults;
use cofferdam_host::cgroup::Mode;
use cofferdam_host::privilege;
use cofferdam_images::Image;
use cofferdam_model::ContainerId;
use cofferdam_model::cri::{ContainerConfig, ContainerState, Error, Result};
use cofferdam_monitor::protocol::MountOp;
use cofferdam_plan::spec::{ContainerSpec, Hook, Namespace, PidOf, Process, SpecMount, User, is_mount_target};
use cofferdam_plan::userns::IdRange;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// `PATH` of a container whose image sets none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Engine {
    /// What the runtime is told, and what is done before it runs.
    pub(crate) fn spec(
        &self,
        known: &Known,
        id: &ContainerId,
        config: &ContainerConfig,
        image: Option<&Image>,
        asked: Mounts,
    ) -> Result<(ContainerSpec, Vec<MountOp>)> {
        let dirs = known.dirs.container(id);
        let security = &config.security;
        let process = self.process(&known.record.definition.defaults, config, image)?;
        let mut mounts = etc_mounts(known, security.readonly_rootfs);
        // What the request brings itself replaces ours, as a kubelet does with /etc/hosts.
        mounts.retain(|ours| !asked.list.iter().any(|theirs| theirs.destination == ours.destination));
        let all_devices = security.privileged && gives_devices(known);
        let shared_kernel = known.record.definition.kind != Kind::Runsc;
        let mut before = Vec::new();
        if shared_kernel {
            let (ops, mount) = self.cgroup_view(known, id, security.privileged)?;
            before = ops;
            mounts.push(mount);
        }
        before.extend(asked.before);
        mounts.extend(asked.list);
        let confined = confine::of(config, &process.capabilities)?;
        let given = devices::of(known, config)?;
        let node_ipc = known.record.config.ipc == cofferdam_model::cri::NamespaceMode::Node;
        let shm = if node_ipc { PathBuf::from("/dev/shm") } else { known.dirs.shm() };
        // As Kubernetes has it (KEP-2254): what `/proc/self/cgroup` says then fits the mount below.
        let own_cgroup_root = shared_kernel && self.cgroups.mode() == Mode::V2 && !security.privileged;
        let mut spec = ContainerSpec {
            process,
            rootfs: dirs.rootfs(),
            readonly_rootfs: security.readonly_rootfs,
            privileged: security.privileged,
            all_devices,
            devices: given.nodes,
            device_rules: given.rules,
            hostname: Some(known.record.config.hostname.clone()),
            mounts,
            shm: Some(shm),
            pid_of: self.pid_of(config)?,
            cgroup: if own_cgroup_root { Namespace::New } else { Namespace::Host },
            resources: Some(config.resources.clone()),
            sysctls: known.record.config.sysctls.clone(),
            // None of the pod's reach the runtime: crun, for one, takes orders from them (`run.oci.*`).
            annotations: BTreeMap::new(),
            seccomp: confined.seccomp,
            mount_label: confined.mount_label,
            unmasked_proc: security.unmasked_proc,
            masked_paths: paths(config, "masked", security.masked_paths.as_ref(), shared_kernel)?,
            readonly_paths: paths(config, "read-only", security.readonly_paths.as_ref(), shared_kernel)?,
            hooks: hooks(config)?,
            user_namespace: known.record.ids.map(|_| known.dirs.user_namespace()),
            id_map: known.record.ids.map(IdRange::map),
            ..ContainerSpec::default()
        };
        let added = devices::apply_cdi(&self.cdi_dirs, config, &mut spec)?;
        let first = spec.mounts.len().saturating_sub(added);
        for (number, mount) in spec.mounts.iter_mut().skip(first).enumerate().filter(|(_, m)| m.kind == "bind") {
            mount.source = mounts::mapped(known, std::mem::take(&mut mount.source), &dirs.bundle.join(format!("d{number}")), &mut before);
        }
        Ok((spec, before))
    }

    /// The container whose processes another is to see.
    fn pid_of(&self, config: &ContainerConfig) -> Result<Option<PidOf>> {
        let Some(target) = &config.pid_of else { return Ok(None) };
        let status = self.container_status(target)?;
        if status.state != ContainerState::Running {
            let (name, target) = (&config.name, &status.config.name);
            return Err(Error::Precondition(format!("container \"{name}\" is to see the processes of \"{target}\", which is not running")));
        }
        Ok(Some(PidOf { container: target.to_string(), pid: status.pid }))
    }

    /// The container's own cgroups under `/sys/fs/cgroup`, where runtimes of languages look for their
    /// limits; put together by us, as the OCI runtime does not see them, in the runtime's own mount
    /// namespace before it runs: there each mount costs a tenth of what it costs the runtime.
    fn cgroup_view(&self, known: &Known, id: &ContainerId, privileged: bool) -> Result<(Vec<MountOp>, SpecMount)> {
        const AT: &str = "/sys/fs/cgroup";
        let (bind, remount, readonly) = (4096, 32, 1);
        let inner = self.inner_directories(&self.group_of(known, id)?);
        // What the source cannot do is said again: in a user namespace no mount may lose it.
        let bind_at = |source: PathBuf| {
            let mut mount = SpecMount::bind(source, AT, !privileged);
            mount.options.extend(["nosuid", "nodev", "noexec"].map(str::to_owned));
            mount
        };
        if self.cgroups.mode() == Mode::V2 {
            let dir = inner.into_iter().next().map(|(_, dir)| dir).unwrap_or_default();
            return Ok((vec![], bind_at(dir)));
        }
        let view = known.dirs.container(id).bundle.join("cgroup");
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
        Ok((ops, bind_at(view)))
    }

    pub(crate) fn process(&self, defaults: &Defaults, config: &ContainerConfig, image: Option<&Image>) -> Result<Process> {
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
        let (apparmor, selinux) = confine::of_process(defaults, config)?;
        Ok(Process {
            args,
            env,
            cwd,
            user,
            terminal: config.tty,
            console_size: None,
            no_new_privs: security.no_new_privs,
            capabilities: capabilities(defaults, config)?,
            // Never inherited: the monitor's own is far lower.
            oom_score_adj: Some(privilege::clamp_oom_score_adj(config.resources.oom_score_adj.unwrap_or(0)).map_err(failed)?),
            apparmor,
            selinux,
            rlimits: rlimits(defaults, config)?,
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
            None if !security.run_as_username.is_empty() => username(config)?,
            None => image.map(|i| i.config.user.clone()).unwrap_or_default(),
        };
        if let Some(gid) = security.run_as_group {
            user.gid = number("runAsGroup", gid)?;
            // In place of the user's own group: the process is not to be in that one too.
            wanted = format!("{}:{}", wanted.split(':').next().unwrap_or_default(), user.gid);
        }
        if let Some(image) = image {
            let found = self.store.user(image, &wanted).map_err(|e| Error::Invalid(format!("container \"{}\": {e}", config.name)))?;
            let groups = if security.strict_groups { vec![] } else { found.groups };
            user = User { uid: found.uid, gid: found.gid, groups };
            if !env.iter().any(|(name, _)| name == "HOME") {
                env.push(("HOME".into(), found.home));
            }
        }
        for gid in &security.supplemental_groups {
            user.groups.push(number("supplemental group", *gid)?);
        }
        // As Linux keeps them; gVisor keeps them as they are given.
        user.groups.sort_unstable();
        user.groups.dedup();
        if security.run_as_non_root && user.uid == 0 {
            return Err(Error::Invalid(format!(
                "container \"{}\" has runAsNonRoot and the image will run as root; set runAsUser",
                config.name
            )));
        }
        Ok(user)
    }
}

fn etc_mounts(known: &Known, readonly: bool) -> Vec<SpecMount> {
    let dirs = &known.dirs;
    [(dirs.hosts(), "/etc/hosts"), (dirs.hostname(), "/etc/hostname"), (dirs.resolv_conf(), "/etc/resolv.conf")]
        .map(|(source, at)| {
            let mut mount = SpecMount::bind(source, at, readonly);
            // As their file system is mounted: in a user namespace no mount may lose it.
            if known.record.ids.is_some() {
                mount.options.extend(["nosuid", "nodev"].map(str::to_owned));
            }
            mount
        })
        .to_vec()
}

/// A container's capabilities. "All" means all that we have ourselves, as containerd has it
/// (`oci.WithAllCurrentCapabilities`): no runtime could give more. One asked for by name is not left
/// out in silence.
fn capabilities(defaults: &Defaults, config: &ContainerConfig) -> Result<BTreeSet<String>> {
    let security = &config.security;
    let wanted = defaults::capabilities(defaults, config)
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

/// A user by name: a group in it would be another request.
fn username(config: &ContainerConfig) -> Result<String> {
    let name = &config.security.run_as_username;
    if name.len() > 256 || name.contains([':', '\n', '\0']) {
        return Err(Error::Invalid(format!("container \"{}\": {name:?} is not the name of a user", config.name)));
    }
    Ok(name.clone())
}

/// Most paths and hooks that a request may name.
const MAX_LIST: usize = 1024;

/// Paths of the request that hide or protect something. Where the kernel is not the machine's, there is
/// nothing of the machine to hide in `/proc` and `/sys`; elsewhere gVisor would leave a path as it is.
fn paths(config: &ContainerConfig, what: &str, given: Option<&Vec<PathBuf>>, shared_kernel: bool) -> Result<Option<Vec<PathBuf>>> {
    let Some(given) = given else { return Ok(None) };
    let wrong = |why: String| Err(Error::Invalid(format!("container \"{}\": {why}", config.name)));
    if given.len() > MAX_LIST {
        return wrong(format!("it has more than {MAX_LIST} {what} paths"));
    }
    let of_kernel = |path: &&PathBuf| path.starts_with("/proc") || path.starts_with("/sys");
    if let Some(path) = given.iter().find(|path| !shared_kernel && !of_kernel(path)) {
        return wrong(format!("{what} path \"{}\" is not below /proc or /sys, and this handler can make no other path so", path.display()));
    }
    match given.iter().find(|path| !is_mount_target(path)) {
        Some(bad) => wrong(format!("{what} path \"{}\" must be absolute, without \"..\"", bad.display())),
        None => Ok(Some(given.clone())),
    }
}

/// Limits of the processes: the handler's, and in their place the request's.
fn rlimits(defaults: &Defaults, config: &ContainerConfig) -> Result<BTreeMap<String, (u64, u64)>> {
    const NAMES: [&str; 16] = [
        "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime",
        "sigpending", "stack",
    ];
    let mut all: BTreeMap<_, _> = defaults.ulimits.iter().map(|(name, limit)| (name.clone(), (limit.soft, limit.hard))).collect();
    for (asked, soft, hard) in &config.rlimits {
        let name = asked.to_ascii_lowercase();
        let name = name.strip_prefix("rlimit_").unwrap_or(&name);
        let wrong = |why: String| Err(Error::Invalid(format!("container \"{}\": {why}", config.name)));
        if !NAMES.contains(&name) {
            return wrong(format!("{asked:?} is not a limit of setrlimit(2), as RLIMIT_NOFILE is"));
        }
        if soft > hard {
            return wrong(format!("{asked} has the soft limit {soft}, above the hard one, {hard}"));
        }
        all.insert(name.to_owned(), (*soft, *hard));
    }
    Ok(all)
}

/// Hooks of the request. The stages after the start are those of commands that are never run here: a
/// hook of theirs would be left out in silence.
fn hooks(config: &ContainerConfig) -> Result<Vec<Hook>> {
    let wrong = |why: String| Err(Error::Invalid(format!("container \"{}\": {why}", config.name)));
    if config.hooks.len() > MAX_LIST {
        return wrong(format!("it has more than {MAX_LIST} hooks"));
    }
    let mut all = Vec::with_capacity(config.hooks.len());
    for (stage, hook) in &config.hooks {
        match stage.as_str() {
            "prestart" | "createRuntime" | "createContainer" | "startContainer" => {}
            "poststart" | "poststop" => return wrong(format!("hooks of the stage {stage} are not run; use createRuntime, createContainer or startContainer")),
            _ => return wrong(format!("{stage:?} is not a stage of hooks")),
        }
        if !is_mount_target(&hook.path) {
            return wrong(format!("{stage} hook \"{}\" must be an absolute path, without \"..\"", hook.path.display()));
        }
        let timeout = match hook.timeout {
            None => None,
            Some(seconds) => match u32::try_from(seconds) {
                Ok(seconds) if seconds > 0 => Some(seconds),
                _ => return wrong(format!("{stage} hook \"{}\" has a timeout of {seconds} seconds; give at least 1", hook.path.display())),
            },
        };
        all.push(Hook { moment: stage.clone(), path: hook.path.to_string_lossy().into_owned(), args: hook.args.clone(), env: hook.env.clone(), timeout });
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

/// A signal by number or name, as images write it (`SIGQUIT`, `QUIT`, `3`, `SIGRTMIN+3`).
pub(crate) fn signal_number(text: &str) -> Result<i32> {
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
    fn what_a_request_brings_is_honoured_or_refused() {
        use cofferdam_model::cri::OciHook;
        let with = |change: &dyn Fn(&mut ContainerConfig)| {
            let mut config = ContainerConfig { name: "app".into(), ..ContainerConfig::default() };
            change(&mut config);
            config
        };
        let limit = |name: &str, soft, hard| with(&|c| c.rlimits = vec![(name.to_owned(), soft, hard)]);
        assert_eq!(rlimits(&Defaults::default(), &limit("RLIMIT_NOFILE", 1, 2)).unwrap(), [("nofile".to_owned(), (1, 2))].into());
        for bad in [limit("RLIMIT_X", 1, 2), limit("nofile", 3, 2)] {
            assert!(rlimits(&Defaults::default(), &bad).is_err(), "{:?}", bad.rlimits);
        }
        let hook = |stage: &str, path: &str, timeout| with(&|c| c.hooks = vec![(stage.to_owned(), OciHook { path: path.into(), timeout, ..OciHook::default() })]);
        assert_eq!(hooks(&hook("createRuntime", "/h", Some(3))).unwrap()[0].timeout, Some(3));
        for bad in [hook("poststop", "/h", None), hook("later", "/h", None), hook("prestart", "h", None), hook("prestart", "/h", Some(-1))] {
            assert!(hooks(&bad).is_err(), "{:?}", bad.hooks);
        }
        let masked = |path: &str| Some(vec![PathBuf::from(path)]);
        assert_eq!(paths(&with(&|_| ()), "masked", masked("/proc/x").as_ref(), false).unwrap(), masked("/proc/x"));
        assert_eq!(paths(&with(&|_| ()), "masked", masked("/bin/x").as_ref(), true).unwrap(), masked("/bin/x"));
        assert!(paths(&with(&|_| ()), "masked", masked("/bin/x").as_ref(), false).unwrap_err().to_string().contains("/bin/x"));
        assert!(paths(&with(&|_| ()), "masked", masked("/proc/../x").as_ref(), true).is_err());
        assert!(username(&with(&|c| c.security.run_as_username = "a:b".into())).is_err());
    }

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