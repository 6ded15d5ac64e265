//! `cofferdam cri` in a world of a test, and a kubelet's side of it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub(crate) mod bystander;
pub(crate) mod caller;
pub(crate) mod model;
pub(crate) mod stream;

use crate::common::{self, IMAGE, Lines, Running, World, until};
use cofferdam_cri_api::v1;
use cofferdam_cri_api::v1::image_service_client::ImageServiceClient;
use cofferdam_cri_api::v1::runtime_service_client::RuntimeServiceClient;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};

/// A daemon, ready.
pub(crate) struct Daemon {
    process: Running,
    pub(crate) said: Lines,
}

impl Daemon {
    /// Starts one, and waits until it tells that it is ready.
    #[track_caller]
    pub(crate) fn start(world: &World) -> Self {
        Self::start_as(world, world.command(&["cri"]))
    }

    /// One that is killed when it comes by `place`.
    #[track_caller]
    pub(crate) fn killed_at(world: &World, place: &str) -> Self {
        let mut command = world.command(&["cri"]);
        command.env("COFFERDAM_KILL_AT", place);
        Self::start_as(world, command)
    }

    /// By a command of the caller's.
    #[track_caller]
    pub(crate) fn start_as(world: &World, mut command: Command) -> Self {
        let path = world.dir.join("notify");
        let _ = std::fs::remove_file(&path);
        let notify = UnixDatagram::bind(&path).unwrap();
        notify.set_read_timeout(Some(common::patience())).unwrap();
        command.env("NOTIFY_SOCKET", &path);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Running(command.spawn().unwrap());
        let said = Lines::of(process.0.stderr.take().unwrap());
        let mut text = [0; 64];
        let length = notify
            .recv(&mut text)
            .unwrap_or_else(|e| panic!("it is never ready: {e}: {:?}", process.0.try_wait()));
        assert_eq!(text.get(..length), Some(&b"READY=1"[..]));
        Self { process, said }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Ends it as systemd does.
    #[track_caller]
    pub(crate) fn end(mut self) {
        common::signal(self.pid(), Signal::TERM);
        let status = until("the daemon ends", || self.process.0.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{status}");
    }

    /// Ends it by SIGKILL.
    pub(crate) fn kill(mut self) {
        self.strike();
    }

    /// Ends it by SIGKILL, for another to take its place.
    pub(crate) fn strike(&mut self) {
        self.process.0.kill().unwrap();
        self.process.0.wait().unwrap();
    }

    /// Waits until it was killed where it was to be.
    #[track_caller]
    pub(crate) fn wait_killed(mut self, place: &str) {
        let status = until(&format!("the daemon is killed at {place}"), || self.process.0.try_wait().unwrap());
        assert_eq!(status.signal(), Some(9), "{place}: {status}");
    }
}

/// A kubelet's side: every verb, from any thread. It connects again by itself.
pub(crate) struct Kubelet {
    threads: Runtime,
    channel: Channel,
    logs: PathBuf,
}

impl Kubelet {
    pub(crate) fn new(world: &World) -> Self {
        let socket: PathBuf = world.state().join("cri.sock");
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let dial = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { tokio::net::UnixStream::connect(socket).await.map(hyper_util::rt::TokioIo::new) }
        });
        let channel = threads.block_on(async { Endpoint::from_static("http://localhost").connect_with_connector_lazy(dial) });
        Self {
            threads,
            channel,
            logs: world.dir.join("podlogs"),
        }
    }

    /// Asks, and waits for the answer; one that never comes fails the test.
    pub(crate) fn ask<T>(&self, question: impl AsyncFnOnce(RuntimeServiceClient<Channel>) -> T) -> T {
        let client = RuntimeServiceClient::new(self.channel.clone());
        self.threads
            .block_on(async { tokio::time::timeout(common::patience() * 2, question(client)).await })
            .expect("a verb was never answered")
    }

    /// As [`Kubelet::ask`], of the other service.
    pub(crate) fn ask_images<T>(&self, question: impl AsyncFnOnce(ImageServiceClient<Channel>) -> T) -> T {
        let client = ImageServiceClient::new(self.channel.clone());
        self.threads
            .block_on(async { tokio::time::timeout(common::patience() * 2, question(client)).await })
            .expect("a verb was never answered")
    }

    pub(crate) fn remove_image(&self, name: &str) -> Result<(), Status> {
        let spec = v1::ImageSpec {
            image: name.into(),
            ..Default::default()
        };
        let request = v1::RemoveImageRequest { image: Some(spec) };
        self.ask_images(async |mut c| c.remove_image(request).await).map(drop)
    }

    /// As [`Kubelet::ask`], but leaves after `patience`: `None` where no answer came by then.
    pub(crate) fn ask_and_leave<T>(
        &self,
        patience: std::time::Duration,
        question: impl AsyncFnOnce(RuntimeServiceClient<Channel>) -> T,
    ) -> Option<T> {
        let client = RuntimeServiceClient::new(self.channel.clone());
        self.threads
            .block_on(async { tokio::time::timeout(patience, question(client)).await })
            .ok()
    }

    /// Runs something of this kubelet's own.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.threads.block_on(work)
    }

    /// A pod of this name.
    pub(crate) fn pod_config(&self, name: &str, attempt: u32) -> v1::PodSandboxConfig {
        let labels = [
            ("io.kubernetes.pod.uid", format!("{name}-uid")),
            ("io.kubernetes.pod.name", name.to_owned()),
            ("io.kubernetes.pod.namespace", "default".to_owned()),
        ];
        let options = v1::NamespaceOption {
            pid: v1::NamespaceMode::Container.into(),
            ..Default::default()
        };
        v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: name.into(),
                uid: format!("{name}-uid"),
                namespace: "default".into(),
                attempt,
            }),
            hostname: name.into(),
            log_directory: self.logs.join(name).to_string_lossy().into_owned(),
            labels: labels.map(|(k, v)| (k.to_owned(), v)).into(),
            linux: Some(v1::LinuxPodSandboxConfig {
                security_context: Some(v1::LinuxSandboxSecurityContext {
                    namespace_options: Some(options),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// A container of `sh -c script`.
    pub(crate) fn container_config(&self, name: &str, attempt: u32, script: &str) -> v1::ContainerConfig {
        v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata {
                name: name.into(),
                attempt,
            }),
            image: Some(v1::ImageSpec {
                image: IMAGE.into(),
                ..Default::default()
            }),
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            log_path: format!("{name}/{attempt}.log"),
            labels: [("io.kubernetes.container.name".to_owned(), name.to_owned())].into(),
            ..Default::default()
        }
    }

    /// The log of a container.
    pub(crate) fn log(&self, pod: &str, container: &str, attempt: u32) -> PathBuf {
        self.logs.join(pod).join(container).join(format!("{attempt}.log"))
    }

    pub(crate) fn run_pod(&self, config: v1::PodSandboxConfig, handler: &str) -> Result<String, Status> {
        let request = v1::RunPodSandboxRequest {
            config: Some(config),
            runtime_handler: handler.into(),
        };
        self.ask(async |mut c| c.run_pod_sandbox(request).await)
            .map(|r| r.into_inner().pod_sandbox_id)
    }

    pub(crate) fn create(&self, pod: &str, config: v1::ContainerConfig) -> Result<String, Status> {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: pod.into(),
            config: Some(config),
            sandbox_config: None,
        };
        self.ask(async |mut c| c.create_container(request).await)
            .map(|r| r.into_inner().container_id)
    }

    pub(crate) fn start(&self, id: &str) -> Result<(), Status> {
        let request = v1::StartContainerRequest { container_id: id.into() };
        self.ask(async |mut c| c.start_container(request).await).map(drop)
    }

    /// Makes a container and starts it.
    #[track_caller]
    pub(crate) fn begin(&self, pod: &str, config: v1::ContainerConfig) -> String {
        let id = self.create(pod, config).unwrap();
        self.start(&id).unwrap();
        id
    }

    pub(crate) fn stop(&self, id: &str, timeout: i64) -> Result<(), Status> {
        let request = v1::StopContainerRequest {
            container_id: id.into(),
            timeout,
        };
        self.ask(async |mut c| c.stop_container(request).await).map(drop)
    }

    pub(crate) fn remove(&self, id: &str) -> Result<(), Status> {
        let request = v1::RemoveContainerRequest { container_id: id.into() };
        self.ask(async |mut c| c.remove_container(request).await).map(drop)
    }

    pub(crate) fn stop_pod(&self, id: &str) -> Result<(), Status> {
        let request = v1::StopPodSandboxRequest { pod_sandbox_id: id.into() };
        self.ask(async |mut c| c.stop_pod_sandbox(request).await).map(drop)
    }

    pub(crate) fn remove_pod(&self, id: &str) -> Result<(), Status> {
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id: id.into() };
        self.ask(async |mut c| c.remove_pod_sandbox(request).await).map(drop)
    }

    /// As a kubelet ends a pod.
    #[track_caller]
    pub(crate) fn end_pod(&self, id: &str) {
        self.stop_pod(id).unwrap();
        self.remove_pod(id).unwrap();
        assert_eq!(self.pod_status(id).unwrap_err().code(), Code::NotFound);
    }

    pub(crate) fn update(&self, id: &str, memory: i64) -> Result<(), Status> {
        let request = v1::UpdateContainerResourcesRequest {
            container_id: id.into(),
            linux: Some(v1::LinuxContainerResources {
                memory_limit_in_bytes: memory,
                ..Default::default()
            }),
            ..Default::default()
        };
        self.ask(async |mut c| c.update_container_resources(request).await).map(drop)
    }

    pub(crate) fn exec(&self, id: &str, script: &str, timeout: i64) -> Result<v1::ExecSyncResponse, Status> {
        let request = v1::ExecSyncRequest {
            container_id: id.into(),
            cmd: ["sh", "-c", script].map(str::to_owned).to_vec(),
            timeout,
        };
        self.ask(async |mut c| c.exec_sync(request).await).map(tonic::Response::into_inner)
    }

    /// Fails unless a command can be run in a container.
    #[track_caller]
    pub(crate) fn assert_alive(&self, id: &str) {
        let answer = self.exec(id, "echo alive", 20).unwrap();
        assert_eq!((answer.stdout.as_slice(), answer.exit_code), (&b"alive\n"[..], 0));
    }

    pub(crate) fn reopen(&self, id: &str) -> Result<(), Status> {
        let request = v1::ReopenContainerLogRequest { container_id: id.into() };
        self.ask(async |mut c| c.reopen_container_log(request).await).map(drop)
    }

    pub(crate) fn status(&self, id: &str) -> Result<v1::ContainerStatus, Status> {
        let request = v1::ContainerStatusRequest {
            container_id: id.into(),
            verbose: false,
        };
        self.ask(async |mut c| c.container_status(request).await)
            .map(|r| r.into_inner().status.unwrap())
    }

    /// The process of a container, as the verbose status tells it; 0 for none.
    #[track_caller]
    pub(crate) fn container_pid(&self, id: &str) -> i64 {
        let request = v1::ContainerStatusRequest {
            container_id: id.into(),
            verbose: true,
        };
        let answer = self.ask(async |mut c| c.container_status(request).await).unwrap().into_inner();
        let info: serde_json::Value = serde_json::from_str(&answer.info["info"]).unwrap();
        info["pid"].as_i64().unwrap()
    }

    pub(crate) fn pod_status(&self, id: &str) -> Result<v1::PodSandboxStatus, Status> {
        self.pod_told(id).map(|(status, _)| status)
    }

    /// A pod's status, and why it is not ready.
    pub(crate) fn pod_told(&self, id: &str) -> Result<(v1::PodSandboxStatus, String), Status> {
        let request = v1::PodSandboxStatusRequest {
            pod_sandbox_id: id.into(),
            verbose: true,
        };
        let answer = self.ask(async |mut c| c.pod_sandbox_status(request).await)?.into_inner();
        let info: serde_json::Value = serde_json::from_str(&answer.info["info"]).unwrap();
        Ok((answer.status.unwrap(), info["reason"].as_str().unwrap_or_default().to_owned()))
    }

    #[track_caller]
    pub(crate) fn pods(&self) -> Vec<v1::PodSandbox> {
        self.ask(async |mut c| c.list_pod_sandbox(v1::ListPodSandboxRequest::default()).await)
            .unwrap()
            .into_inner()
            .items
    }

    /// The sandboxes of a pod, oldest first.
    #[track_caller]
    pub(crate) fn pods_named(&self, name: &str) -> Vec<v1::PodSandbox> {
        let named = |pod: &v1::PodSandbox| pod.metadata.as_ref().is_some_and(|m| m.name == name);
        self.pods().into_iter().filter(named).collect()
    }

    #[track_caller]
    pub(crate) fn containers(&self) -> Vec<v1::Container> {
        self.ask(async |mut c| c.list_containers(v1::ListContainersRequest::default()).await)
            .unwrap()
            .into_inner()
            .containers
    }

    #[track_caller]
    pub(crate) fn containers_in(&self, pod: &str) -> Vec<v1::Container> {
        self.containers().into_iter().filter(|c| c.pod_sandbox_id == pod).collect()
    }

    /// Waits for a container's end.
    #[track_caller]
    pub(crate) fn ended(&self, id: &str) -> v1::ContainerStatus {
        until("the container ends", || {
            self.status(id).ok().filter(|s| s.state() == v1::ContainerState::ContainerExited)
        })
    }

    /// What happens from now on.
    pub(crate) fn events(&self) -> Events {
        let (sender, receiver) = std::sync::mpsc::channel();
        let stream = self
            .ask(async |mut c| c.get_container_events(v1::GetEventsRequest {}).await)
            .unwrap();
        self.threads.spawn(async move {
            let mut stream = stream.into_inner();
            while let Ok(Some(event)) = stream.message().await {
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        Events(receiver)
    }
}

/// Events, as they come. It ends with the daemon.
pub(crate) struct Events(pub(crate) std::sync::mpsc::Receiver<v1::ContainerEventResponse>);

impl Events {
    /// Waits for an event of this kind, of a pod or container of this id.
    #[track_caller]
    pub(crate) fn wait_for(&self, kind: v1::ContainerEventType, id: &str) -> v1::ContainerEventResponse {
        loop {
            let event = self
                .0
                .recv_timeout(common::patience())
                .unwrap_or_else(|e| panic!("never told {kind:?} of {id}: {e}"));
            if event.container_event_type() == kind && event.container_id == id {
                return event;
            }
        }
    }

    /// Fails unless the stream ends.
    #[track_caller]
    pub(crate) fn assert_ends(&self) {
        loop {
            match self.0.recv_timeout(common::patience()) {
                Ok(_) => {}
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return,
                Err(e) => panic!("the stream of events did not end: {e}"),
            }
        }
    }
}

/// Counts how often each kind of answer came.
#[derive(Debug, Default)]
pub(crate) struct Tally(pub(crate) BTreeMap<String, usize>);

impl Tally {
    pub(crate) fn add(&mut self, what: impl Into<String>) {
        *self.0.entry(what.into()).or_default() += 1;
    }
}
