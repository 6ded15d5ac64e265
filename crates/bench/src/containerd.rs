//! containerd as the peer: a daemon of our own with the same runtime binaries, image and a bridge of
//! the standard CNI plugins, driven over CRI as a kubelet drives it.

use crate::machine::{COMMAND, IMAGE, Scratch, find, millis, run};
use cofferdam_bench::sample::Series;
use cofferdam_cri_api::v1;
use cofferdam_cri_api::v1::runtime_service_client::RuntimeServiceClient;
use anyhow::{Context, Result, bail};
use cofferdam_host::process::pss;
use cofferdam_images::Digest;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

const PAUSE: &str = "docker.io/cofferdam/pause:latest";

type Client = RuntimeServiceClient<Channel>;

/// A containerd of our own.
pub(crate) struct Containerd {
    daemon: Child,
    socket: PathBuf,
    client: Client,
    runtime: Runtime,
    logs: PathBuf,
}

impl Containerd {
    pub(crate) fn start(scratch: &Scratch) -> Result<Self> {
        let dir = scratch.dir.join("containerd");
        std::fs::create_dir_all(dir.join("cni"))?;
        let socket = PathBuf::from(format!("/run/cdb-{}-containerd.sock", std::process::id()));
        std::fs::write(dir.join("config.toml"), config(&dir, &scratch.state.join("containerd"), &socket)?)?;
        std::fs::write(dir.join("cni/10-bench.conflist"), network(&dir))?;
        let log = std::fs::File::create(dir.join("daemon.log"))?;
        // crun refuses hybrid cgroups: the daemon does not see the v2 mount.
        let hide = "mount --make-rprivate /; umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$0\" -c \"$1\"";
        let daemon = Command::new("unshare")
            .args(["--mount", "sh", "-c", hide])
            .arg(find("containerd")?)
            .arg(dir.join("config.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let client = connect(&runtime, &socket).with_context(|| {
            let log = std::fs::read_to_string(dir.join("daemon.log")).unwrap_or_default();
            log.lines().rev().take(5).collect::<Vec<_>>().join("\n")
        })?;
        let started = Self { daemon, socket, client, runtime, logs: dir.join("logs") };
        started.import(&dir, IMAGE, |root| scratch.rootfs(root))?;
        let monitor = std::fs::read_dir(scratch.dir.join("ours/bin"))?.flatten().map(|e| e.path()).find(|p| p.is_file());
        let monitor = monitor.context("the monitor's binary, which is the pause of both")?;
        started.import(&dir, PAUSE, |root| {
            std::fs::create_dir_all(root)?;
            std::fs::copy(&monitor, root.join("pause"))?;
            Ok(())
        })?;
        Ok(started)
    }

    fn import(&self, dir: &Path, name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        run(self.ctr()?.args(["images", "import"]).arg(archive(dir, name, fill)?))
    }

    async fn up(&self, handler: &str, number: usize) -> Result<(f64, String)> {
        // A process id namespace for each container, as Kubernetes' pods have by default.
        let own = || Some(v1::NamespaceOption { pid: v1::NamespaceMode::Container.into(), ..Default::default() });
        let name = format!("pod-{number}");
        let security = v1::LinuxSandboxSecurityContext { namespace_options: own(), ..Default::default() };
        let sandbox = v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata { name: name.clone(), uid: name.clone(), namespace: "bench".into(), attempt: 0 }),
            hostname: name,
            log_directory: self.logs.display().to_string(),
            linux: Some(v1::LinuxPodSandboxConfig { security_context: Some(security), ..Default::default() }),
            ..Default::default()
        };
        let security = v1::LinuxContainerSecurityContext { namespace_options: own(), ..Default::default() };
        let container = v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata { name: "app".into(), attempt: 0 }),
            image: Some(v1::ImageSpec { image: IMAGE.into(), ..Default::default() }),
            command: COMMAND.map(String::from).to_vec(),
            log_path: format!("{number}.log"),
            linux: Some(v1::LinuxContainerConfig { security_context: Some(security), ..Default::default() }),
            ..Default::default()
        };
        let mut client = self.client.clone();
        let start = Instant::now();
        let request = v1::RunPodSandboxRequest { config: Some(sandbox.clone()), runtime_handler: handler.into() };
        let pod = client.run_pod_sandbox(request).await.context("RunPodSandbox")?.into_inner().pod_sandbox_id;
        let request = v1::CreateContainerRequest { pod_sandbox_id: pod.clone(), config: Some(container), sandbox_config: Some(sandbox) };
        let container_id = client.create_container(request).await.context("CreateContainer")?.into_inner().container_id;
        client.start_container(v1::StartContainerRequest { container_id }).await.context("StartContainer")?;
        Ok((millis(start), pod))
    }

    async fn down(&self, pod: &str) -> Result<()> {
        let mut client = self.client.clone();
        client.stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id: pod.to_owned() }).await.context("StopPodSandbox")?;
        client.remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id: pod.to_owned() }).await.context("RemovePodSandbox")?;
        Ok(())
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// One pod up and down; the time of up.
    pub(crate) fn one(&self, handler: &str) -> Result<f64> {
        self.runtime.block_on(async {
            let (time, pod) = self.up(handler, 0).await?;
            self.down(&pod).await?;
            Ok(time)
        })
    }

    /// Pods per second, `at_once` being started side by side.
    pub(crate) fn many(&self, handler: &str, count: usize, at_once: usize, series: &mut Series) -> Result<f64> {
        let next = std::sync::atomic::AtomicUsize::new(0);
        let start = Instant::now();
        let worker = || async {
            let mut done = Vec::new();
            loop {
                let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if number >= count {
                    return Ok::<_, anyhow::Error>(done);
                }
                done.push(self.up(handler, number).await?);
            }
        };
        let workers: Vec<_> = (0..at_once).map(|_| worker()).collect();
        let done: Vec<_> = self.runtime.block_on(join_all(workers)).into_iter().collect::<Result<Vec<_>>>()?.concat();
        let rate = count as f64 / start.elapsed().as_secs_f64();
        for (time, pod) in done {
            series.push(time);
            self.runtime.block_on(self.down(&pod))?;
        }
        Ok(rate)
    }

    /// The command that pulls and unpacks an image from a registry on loopback.
    pub(crate) fn pull(&self, name: &str) -> Result<Command> {
        let mut command = self.ctr()?;
        command.args(["images", "pull", "--plain-http", name]);
        Ok(command)
    }

    fn ctr(&self) -> Result<Command> {
        let mut command = Command::new(find("ctr")?);
        command.arg("--address").arg(&self.socket).args(["-n", "k8s.io"]);
        Ok(command)
    }

    /// MiB per pod beside the containers: shim and pause.
    pub(crate) fn memory_per_pod(&self, handler: &str, count: usize) -> Result<f64> {
        let pods: Vec<_> = (0..count).map(|n| self.runtime.block_on(self.up(handler, n))).collect::<Result<_>>()?;
        let socket = self.socket.display().to_string();
        let mut total = 0;
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            let theirs = line.starts_with("/pause") || (line.contains("containerd-shim") && line.contains(&socket));
            if let (true, Some(pid)) = (theirs, entry.file_name().to_str().and_then(|n| n.parse().ok())) {
                total += pss(pid)?.unwrap_or(0);
            }
        }
        for (_, pod) in pods {
            self.runtime.block_on(self.down(&pod))?;
        }
        Ok(total as f64 / count as f64 / (1 << 20) as f64)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // Its pods are gone, and with them its shims.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        for end in ["", ".ttrpc"] {
            let _ = std::fs::remove_file(format!("{}{end}", self.socket.display()));
        }
        let _ = Command::new("ip").args(["link", "delete", "cdpeer0"]).status();
    }
}

/// A docker archive of an image of one layer.
pub(crate) fn archive(dir: &Path, name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let work = dir.join("image");
    let root = work.join("root");
    fill(&root)?;
    run(Command::new("tar").arg("-C").arg(&root).args(["-cf"]).arg(work.join("layer.tar")).arg("."))?;
    let diff = Digest::of(&std::fs::read(work.join("layer.tar"))?);
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Entrypoint": ["/pause", "pause"]},
        "rootfs": {"type": "layers", "diff_ids": [diff.to_string()]},
    });
    std::fs::write(work.join("config.json"), config.to_string())?;
    let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    std::fs::write(work.join("manifest.json"), manifest.to_string())?;
    let archive = dir.join("image.tar");
    run(Command::new("tar").arg("-C").arg(&work).arg("-cf").arg(&archive).args(["config.json", "layer.tar", "manifest.json"]))?;
    std::fs::remove_dir_all(&work)?;
    Ok(archive)
}

/// Polls every future to its end on this task; a bench needs no more of a scheduler.
async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut pending: Vec<_> = futures.into_iter().map(|f| (Box::pin(f), None)).collect();
    std::future::poll_fn(|context| {
        for (future, output) in pending.iter_mut().filter(|(_, output)| output.is_none()) {
            if let std::task::Poll::Ready(value) = future.as_mut().poll(context) {
                *output = Some(value);
            }
        }
        if pending.iter().all(|(_, output)| output.is_some()) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    pending.into_iter().filter_map(|(_, output)| output).collect()
}

fn connect(runtime: &Runtime, socket: &Path) -> Result<Client> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let endpoint = Endpoint::try_from(format!("unix://{}", socket.display()))?;
    loop {
        match runtime.block_on(endpoint.connect()) {
            Ok(channel) => return Ok(Client::new(channel)),
            Err(e) if Instant::now() > deadline => bail!("containerd does not answer: {e}"),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn config(dir: &Path, state: &Path, socket: &Path) -> Result<String> {
    let at = |name: &str| dir.join(name).display().to_string();
    let cri = r#"plugins."io.containerd.grpc.v1.cri""#;
    let runtime = |name: &str| -> Result<String> {
        let binary = find(name)?;
        Ok(format!(
            "[{cri}.containerd.runtimes.{name}]\n  runtime_type = \"io.containerd.runc.v2\"\n\
             [{cri}.containerd.runtimes.{name}.options]\n  BinaryName = {:?}\n",
            binary.display().to_string()
        ))
    };
    Ok(format!(
        "version = 2\nroot = {:?}\nstate = {:?}\n[grpc]\n  address = {:?}\n\
         [{cri}]\n  sandbox_image = \"{PAUSE}\"\n  restrict_oom_score_adj = true\n  stream_server_port = \"0\"\n\
         [{cri}.cni]\n  bin_dir = \"/usr/lib/cni\"\n  conf_dir = {:?}\n\
         [{cri}.containerd]\n  snapshotter = \"overlayfs\"\n  default_runtime_name = \"runc\"\n{}{}",
        at("root"),
        state.display().to_string(),
        socket.display().to_string(),
        at("cni"),
        runtime("runc")?,
        runtime("crun")?,
    ))
}

fn network(dir: &Path) -> String {
    json!({
        "cniVersion": "0.4.0",
        "name": "bench",
        "plugins": [{
            "type": "bridge", "bridge": "cdpeer0", "isGateway": true, "ipMasq": false,
            "ipam": {"type": "host-local", "dataDir": dir.join("addresses"), "ranges": [[{"subnet": "10.216.0.0/16"}]],
                     "routes": [{"dst": "0.0.0.0/0"}]}
        }]
    })
    .to_string()
}
