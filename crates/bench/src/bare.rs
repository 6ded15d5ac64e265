//! The bare runtimes: what pod up could cost at the least without a runtime of our own.

use crate::machine::{COMMAND, Scratch, find, millis, run};
use anyhow::Result;
use cofferdam_host::cgroup::Cgroups;
use cofferdam_host::netns;
use cofferdam_network::{Bridge, Config};
use cofferdam_plan::spec::{self, ContainerSpec, DEFAULT_CAPABILITIES, Namespace, Process};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// `create` and `start` of an OCI runtime, with a network namespace of its own.
pub(crate) struct Oci {
    binary: PathBuf,
    root: PathBuf,
    bundle: PathBuf,
    flags: Vec<&'static str>,
}

impl Oci {
    pub(crate) fn new(runtime: &str, scratch: &Scratch) -> Result<Self> {
        let bundle = scratch.dir.join(format!("bare-{runtime}"));
        let rootfs = bundle.join("rootfs");
        scratch.rootfs(&rootfs)?;
        write_spec(&bundle, plain(&rootfs))?;
        // crun refuses the hybrid mode of some machines with its own cgroups.
        let flags = if runtime == "crun" { vec!["--cgroup-manager=disabled"] } else { vec![] };
        Ok(Self { binary: find(runtime)?, root: scratch.state.join(format!("bare-{runtime}")), bundle, flags })
    }

    fn command(&self, verb: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--root").arg(&self.root).args(&self.flags).args(verb);
        // What create leaves running must hold no pipe of ours.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// One container up and down; the time of up.
    pub(crate) fn one(&self) -> Result<f64> {
        let bundle = self.bundle.to_string_lossy();
        let start = Instant::now();
        status(&mut self.command(&["create", "--bundle", &bundle, "bare"]))?;
        status(&mut self.command(&["start", "bare"]))?;
        let time = millis(start);
        run(&mut self.command(&["delete", "--force", "bare"]))?;
        Ok(time)
    }
}

fn status(command: &mut Command) -> Result<()> {
    let status = command.status()?;
    anyhow::ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

fn plain(rootfs: &Path) -> ContainerSpec {
    ContainerSpec {
        process: Process {
            args: COMMAND.map(String::from).to_vec(),
            env: vec![("PATH".into(), "/bin".into())],
            cwd: "/".into(),
            capabilities: DEFAULT_CAPABILITIES.iter().map(|c| (*c).to_owned()).collect(),
            ..Process::default()
        },
        rootfs: rootfs.to_owned(),
        readonly_rootfs: false,
        privileged: false,
        all_devices: false,
        devices: vec![],
        hostname: Some("bare".into()),
        mounts: vec![],
        shm: None,
        pid: Namespace::New,
        network: Namespace::New,
        ipc: Namespace::New,
        uts: Namespace::New,
        cgroup: Namespace::Host,
        cgroups_path: None,
        resources: None,
        sysctls: BTreeMap::new(),
        annotations: BTreeMap::new(),
        ..ContainerSpec::default()
    }
}

fn write_spec(bundle: &Path, spec: ContainerSpec) -> Result<()> {
    std::fs::create_dir_all(bundle)?;
    Ok(std::fs::write(bundle.join("config.json"), serde_json::to_vec(&spec::container_json(&spec))?)?)
}

/// The four calls that make a gVisor pod: create and start of the root container, create and start
/// of another, in a network namespace with a link and an address, in cgroups that were joined before.
pub(crate) struct Runsc {
    binary: PathBuf,
    dir: PathBuf,
    network: Config,
    state: PathBuf,
    runtime_root: PathBuf,
    cgroups: Cgroups,
}

const GROUP: &str = "cdbench-gvisor";
/// What the link of the bare pod is named after.
const POD: &str = "ba2e0000000000000000000000000000";

impl Runsc {
    pub(crate) fn new(scratch: &Scratch) -> Result<Self> {
        let dir = scratch.dir.join("bare-runsc");
        for name in ["root", "app"] {
            scratch.rootfs(&dir.join(name).join("rootfs"))?;
        }
        let mut network = Config { bridge: "cdbench1".into(), table: "cdbench1".into(), ..Config::default() };
        network.subnet = "10.215.0.0/16".parse().map_err(|e| anyhow::anyhow!("{e}"))?;
        Ok(Self { binary: find("runsc")?, state: scratch.dir.join("bare-net"), runtime_root: scratch.state.join("bare-runsc"), dir, network, cgroups: Cgroups::detect()? })
    }

    /// One pod up and down; the time of the four calls.
    pub(crate) fn one(&self) -> Result<f64> {
        let group = self.cgroups.group(GROUP)?;
        group.create()?;
        std::fs::create_dir_all(&self.state)?;
        let bridge = Bridge::ensure(&self.network, &self.state)?;
        let mut holder = Command::new("unshare").args(["--net", "--ipc", "--uts", "sleep", "1000"]).spawn()?;
        std::thread::sleep(Duration::from_millis(50));
        let ns = PathBuf::from(format!("/proc/{}/ns/net", holder.id()));
        let attached = netns::open(&ns)
            .map_err(anyhow::Error::from)
            .and_then(|fd| Ok(bridge.attach(fd.as_fd(), POD, "10.215.0.9".parse()?)?));
        // A thread of its own joins the cgroups, and ends before they are killed.
        let joined = || -> Result<f64> {
            for file in group.join_files() {
                std::fs::write(file, "0")?;
            }
            self.four(&ns)
        };
        let time = attached.and_then(|_| {
            std::thread::scope(|scope| scope.spawn(joined).join().map_err(|_| anyhow::anyhow!("the bare pod failed"))?)
        });
        group.kill_all(Duration::from_secs(10))?;
        holder.kill()?;
        holder.wait()?;
        Bridge::teardown(&self.network, &self.state)?;
        time
    }

    fn four(&self, ns: &Path) -> Result<f64> {
        let state = &self.runtime_root;
        let bundle = |name: &str, kind: &str| -> Result<PathBuf> {
            let bundle = self.dir.join(name);
            let mut spec = plain(&bundle.join("rootfs"));
            spec.network = Namespace::Join(ns.to_owned());
            spec.annotations.insert("io.kubernetes.cri.container-type".into(), kind.into());
            spec.annotations.insert("io.kubernetes.cri.sandbox-id".into(), "bare-root".into());
            write_spec(&bundle, spec)?;
            Ok(bundle)
        };
        let (root, app) = (bundle("root", "sandbox")?, bundle("app", "container")?);
        let call = |rest: &[&std::ffi::OsStr]| {
            let mut command = Command::new(&self.binary);
            command.arg("--root").arg(state).args(["--ignore-cgroups", "--network=sandbox", "--overlay2=none"]).args(rest);
            status(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))
        };
        let start = Instant::now();
        call(&["create".as_ref(), "--bundle".as_ref(), root.as_ref(), "bare-root".as_ref()])?;
        call(&["start".as_ref(), "bare-root".as_ref()])?;
        call(&["create".as_ref(), "--bundle".as_ref(), app.as_ref(), "bare-app".as_ref()])?;
        call(&["start".as_ref(), "bare-app".as_ref()])?;
        let time = millis(start);
        for id in ["bare-app", "bare-root"] {
            call(&["delete".as_ref(), "--force".as_ref(), id.as_ref()])?;
        }
        std::fs::remove_dir_all(state)?;
        Ok(time)
    }
}

impl Drop for Runsc {
    fn drop(&mut self) {
        let removed = self.cgroups.group(GROUP).and_then(|g| g.remove(Duration::from_secs(5)));
        if let Err(e) = removed {
            eprintln!("left behind: {e}");
        }
    }
}
