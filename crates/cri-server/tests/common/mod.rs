//! A server of one test, on an engine with directories, bridge and subnet of its own, and a client.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cofferdam_cri_api::v1;
use cofferdam_cri_api::v1::image_service_client::ImageServiceClient;
use cofferdam_cri_api::v1::runtime_service_client::RuntimeServiceClient;
use cofferdam_cri_server::{Hooks, NoHooks, Options};
use cofferdam_engine::Engine;
use cofferdam_engine::handlers::Table;
use cofferdam_images::{BuildFile, BuildSpec, Content};
use cofferdam_plan::Layout;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tonic::transport::{Channel, Endpoint, Uri};

/// The image that every world has.
pub(crate) const IMAGE: &str = "test/busybox:1";
/// How long anything that is waited for may take; nothing that works takes as long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const APPLETS: &str =
    "sh sleep cat echo id env true false grep wc head tail hostname mkdir rm touch test seq nc ls dd kill trap yes printf";

/// The world of one test.
pub(crate) struct World {
    pub(crate) dir: PathBuf,
    pub(crate) engine: Arc<Engine>,
    pub(crate) runtime: RuntimeServiceClient<Channel>,
    pub(crate) images: ImageServiceClient<Channel>,
    hooks: Arc<dyn Hooks>,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
    number: u32,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Arc::new(NoHooks)).await
    }

    pub(crate) async fn with(hooks: Arc<dyn Hooks>) -> Self {
        let claim = |n: &u32| std::fs::create_dir(format!("/run/cdtc-{n}")).is_ok();
        let number = (0..2048)
            .find(claim)
            .expect("no directory can be made in /run; these tests need root");
        let dir = PathBuf::from(format!("/run/cdtc-{number}"));
        let engine = open(&dir, number);
        build(&engine);
        let (stop, server) = start(&dir, engine.clone(), hooks.clone());
        let channel = connect(&dir).await;
        Self {
            engine,
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(64 << 20),
            images: ImageServiceClient::new(channel),
            hooks,
            stop: Some(stop),
            server: Some(server),
            number,
            dir,
        }
    }

    /// Ends the server and starts another on the same directories, as an upgrade does.
    pub(crate) async fn restart(&mut self) {
        self.end();
        self.engine = open(&self.dir, self.number);
        let (stop, server) = start(&self.dir, self.engine.clone(), self.hooks.clone());
        (self.stop, self.server) = (Some(stop), Some(server));
        let channel = connect(&self.dir).await;
        self.runtime = RuntimeServiceClient::new(channel.clone());
        self.images = ImageServiceClient::new(channel);
    }

    pub(crate) fn end(&mut self) {
        drop(self.stop.take());
        if let Some(server) = self.server.take() {
            server.join().unwrap();
        }
    }

    /// A pod without a network, unless `change` says otherwise.
    pub(crate) fn pod_config(&self, name: &str) -> v1::PodSandboxConfig {
        let metadata = v1::PodSandboxMetadata {
            name: name.into(),
            uid: format!("{name}-uid"),
            namespace: "default".into(),
            attempt: 0,
        };
        let options = v1::NamespaceOption {
            pid: v1::NamespaceMode::Container.into(),
            network: v1::NamespaceMode::Node.into(),
            ..Default::default()
        };
        let security = v1::LinuxSandboxSecurityContext {
            namespace_options: Some(options),
            ..Default::default()
        };
        v1::PodSandboxConfig {
            metadata: Some(metadata),
            hostname: name.into(),
            log_directory: self.dir.join("logs").join(name).to_string_lossy().into_owned(),
            labels: [("app".to_owned(), name.to_owned())].into(),
            linux: Some(v1::LinuxPodSandboxConfig {
                security_context: Some(security),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    pub(crate) async fn pod(&mut self, name: &str) -> String {
        let config = self.pod_config(name);
        self.run_pod(config).await.unwrap()
    }

    pub(crate) async fn run_pod(&mut self, config: v1::PodSandboxConfig) -> Result<String, tonic::Status> {
        let request = v1::RunPodSandboxRequest {
            config: Some(config),
            runtime_handler: "crun".into(),
        };
        self.runtime.run_pod_sandbox(request).await.map(|r| r.into_inner().pod_sandbox_id)
    }

    pub(crate) fn container_config(&self, name: &str, script: &str) -> v1::ContainerConfig {
        v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata {
                name: name.into(),
                attempt: 0,
            }),
            image: Some(v1::ImageSpec {
                image: IMAGE.into(),
                user_specified_image: "busybox".into(),
                ..Default::default()
            }),
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            log_path: format!("{name}/0.log"),
            labels: [("container".to_owned(), name.to_owned())].into(),
            ..Default::default()
        }
    }

    pub(crate) async fn create_with(&mut self, pod: &str, config: v1::ContainerConfig) -> Result<String, tonic::Status> {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: pod.into(),
            config: Some(config),
            sandbox_config: None,
        };
        self.runtime.create_container(request).await.map(|r| r.into_inner().container_id)
    }

    pub(crate) async fn remove_container(&mut self, id: &str) {
        let request = v1::RemoveContainerRequest { container_id: id.into() };
        self.runtime.remove_container(request).await.unwrap();
    }

    pub(crate) async fn remove_pod(&mut self, id: &str) {
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id: id.into() };
        self.runtime.remove_pod_sandbox(request).await.unwrap();
    }

    /// Makes and starts a container of `sh -c script`.
    pub(crate) async fn start(&mut self, pod: &str, name: &str, script: &str) -> String {
        let config = self.container_config(name, script);
        let id = self.create_with(pod, config).await.unwrap();
        self.runtime
            .start_container(v1::StartContainerRequest { container_id: id.clone() })
            .await
            .unwrap();
        id
    }

    pub(crate) async fn container(&mut self, id: &str) -> v1::ContainerStatus {
        let request = v1::ContainerStatusRequest {
            container_id: id.into(),
            verbose: false,
        };
        self.runtime.container_status(request).await.unwrap().into_inner().status.unwrap()
    }

    pub(crate) async fn ended(&mut self, id: &str) -> v1::ContainerStatus {
        let start = Instant::now();
        loop {
            let status = self.container(id).await;
            if status.state() == v1::ContainerState::ContainerExited {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "the container does not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn exec(&mut self, id: &str, script: &str, timeout: i64) -> Result<v1::ExecSyncResponse, tonic::Status> {
        let cmd = ["sh", "-c", script].map(str::to_owned).to_vec();
        self.runtime
            .exec_sync(v1::ExecSyncRequest {
                container_id: id.into(),
                cmd,
                timeout,
            })
            .await
            .map(|r| r.into_inner())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.end();
        let torn = self.engine.tear_down();
        if std::thread::panicking() {
            return; // what is left is for whoever looks into it
        }
        torn.unwrap();
        assert!(!self.dir.join("cri.sock").exists(), "the socket is left");
        let name = self.dir.to_string_lossy().into_owned();
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!table.contains(&name), "a mount is left");
        cofferdam_host::remove::remove_tree(&self.dir).unwrap();
    }
}

fn start(dir: &Path, engine: Arc<Engine>, hooks: Arc<dyn Hooks>) -> (oneshot::Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let options = Options::new(dir.join("cri.sock"));
    let serve = move || {
        cofferdam_cri_server::run(options, engine, hooks, async {
            // Dropped is stopped too.
            let _ = stopped.await;
        })
        .unwrap();
    };
    (stop, std::thread::spawn(serve))
}

async fn connect(dir: &Path) -> Channel {
    let socket = dir.join("cri.sock");
    let begin = Instant::now();
    while !socket.exists() {
        assert!(begin.elapsed() < PATIENCE, "the server does not listen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let dial = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { tokio::net::UnixStream::connect(socket).await.map(hyper_util::rt::TokioIo::new) }
    });
    Endpoint::from_static("http://localhost")
        .connect_with_connector(dial)
        .await
        .unwrap()
}

fn open(dir: &Path, number: u32) -> Arc<Engine> {
    let table = Table::new(&cofferdam_handlers::HandlerTable::built_in(), &std::env::var("PATH").unwrap());
    let mut options = cofferdam_engine::Options::new(Layout::new(dir.join("l"), dir.join("s")), table);
    options.network.bridge = format!("cdtc{number}");
    options.network.table = format!("cofferdam_cdtc{number}");
    options.network.subnet = format!("10.{}.{}.0/24", 220 + number / 256, number % 256).parse().unwrap();
    options.network_mode = cofferdam_engine::NetworkMode::Bridge;
    let (engine, findings) = Engine::open(options).unwrap();
    assert_eq!(findings, Vec::<String>::new());
    engine
}

/// An image of the machine's static busybox.
fn build(engine: &Engine) {
    let places = ["/usr/local/lib/cofferdam/busybox", "/usr/bin/busybox", "/bin/busybox"];
    let busybox = places
        .map(Path::new)
        .into_iter()
        .find(|p| p.exists())
        .expect("busybox is missing; install Debian's busybox-static");
    let file = |path: &str, mode, content| BuildFile {
        path: path.to_owned(),
        mode,
        content,
    };
    let mut files = vec![
        file("/bin/busybox", 0o755, Content::File(busybox.to_owned())),
        file(
            "/etc/passwd",
            0o644,
            Content::Bytes(b"root:x:0:0::/root:/bin/sh\nworker:x:1000:1000::/:/bin/sh\n".to_vec()),
        ),
        file(
            "/etc/group",
            0o644,
            Content::Bytes(b"root:x:0:\nworker:x:1000:\nextra:x:50:worker\n".to_vec()),
        ),
        file("/tmp", 0o1777, Content::Dir),
    ];
    files.extend(
        APPLETS
            .split_whitespace()
            .map(|a| file(&format!("/bin/{a}"), 0, Content::Symlink("busybox".into()))),
    );
    let spec = BuildSpec {
        name: IMAGE.to_owned(),
        files,
        env: vec![("PATH".into(), "/bin".into())],
        cmd: vec!["sh".into()],
        ..BuildSpec::default()
    };
    engine.images().build(&spec, &()).unwrap();
}
