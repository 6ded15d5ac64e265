//! `cofferdam cri` as systemd and a kubelet see it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use cofferdam_cri_api::v1;
use cofferdam_cri_api::v1::runtime_service_client::RuntimeServiceClient;
use common::{Lines, Running, World, until};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Stdio;
use tonic::transport::{Channel, Endpoint, Uri};

/// A daemon, ready.
struct Daemon {
    process: Running,
    said: Lines,
}

impl Daemon {
    /// Starts one, and waits until it tells that it is ready.
    fn start(world: &World) -> Self {
        let path = world.dir.join("notify");
        let _ = std::fs::remove_file(&path);
        let notify = UnixDatagram::bind(&path).unwrap();
        notify.set_read_timeout(Some(common::patience())).unwrap();
        let mut command = world.command(&["cri"]);
        command.env("NOTIFY_SOCKET", &path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Running(command.spawn().unwrap());
        let said = Lines::of(process.0.stderr.take().unwrap());
        let mut text = [0; 64];
        let length = notify.recv(&mut text).unwrap_or_else(|e| panic!("it is never ready: {e}: {:?}", process.0.try_wait()));
        assert_eq!(text.get(..length), Some(&b"READY=1"[..]));
        Self { process, said }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.process.0.id()).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Ends it as systemd does.
    #[track_caller]
    fn end(mut self) {
        self.signal(rustix::process::Signal::TERM);
        let status = until("the daemon ends", || self.process.0.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{status}");
    }
}

fn ask<T>(world: &World, question: impl AsyncFnOnce(RuntimeServiceClient<Channel>) -> T) -> T {
    let socket: PathBuf = world.state().join("cri.sock");
    let dial = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { tokio::net::UnixStream::connect(socket).await.map(hyper_util::rt::TokioIo::new) }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let channel = Endpoint::from_static("http://localhost").connect_with_connector(dial).await.unwrap();
        question(RuntimeServiceClient::new(channel)).await
    })
}

/// A pod as a kubelet asks for it.
fn run_pod(world: &World, name: &str) -> String {
    let labels = [("io.kubernetes.pod.uid", "1-2"), ("io.kubernetes.pod.name", name), ("io.kubernetes.pod.namespace", "default")];
    let config = v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata { name: name.into(), uid: "1-2".into(), namespace: "default".into(), attempt: 0 }),
        hostname: name.into(),
        log_directory: world.out().display().to_string(),
        labels: labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        linux: Some(v1::LinuxPodSandboxConfig::default()),
        ..Default::default()
    };
    let request = v1::RunPodSandboxRequest { config: Some(config), runtime_handler: "crun".into() };
    ask(world, async |mut client| client.run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id)
}

#[test]
fn the_daemon_says_when_it_is_ready_answers_and_ends_when_told() {
    let world = World::bare();
    let daemon = Daemon::start(&world);
    let version = ask(&world, async |mut client| client.version(v1::VersionRequest::default()).await.unwrap().into_inner());
    assert_eq!((version.runtime_name.as_str(), version.runtime_api_version.as_str()), ("cofferdam", "v1"));
    daemon.end();
}

#[test]
fn there_is_one_daemon_of_a_layout() {
    let world = World::bare();
    let daemon = Daemon::start(&world);
    let pid = daemon.process.0.id();
    world.call(&["cri"]).fails(120, &format!("already (process {pid}); end that first"));
    daemon.end();
    Daemon::start(&world).end();
}

#[test]
fn a_changed_configuration_is_taken_and_sighup_has_it_read() {
    let world = World::bare();
    let daemon = Daemon::start(&world);
    world.drop_in("own.toml", "[handlers.own]\nbinary = \"crun\"\n");
    daemon.said.wait_for("handler own was added");
    daemon.signal(rustix::process::Signal::HUP);
    daemon.said.wait_for("the configuration was read again; no handler is another");
    world.drop_in("own.toml", "[handlers.own]\nbinary = 1\n");
    daemon.said.wait_for("configuration not taken");
    let status = ask(&world, async |mut client| client.status(v1::StatusRequest::default()).await.unwrap().into_inner());
    assert!(status.runtime_handlers.iter().any(|h| h.name == "own"), "{status:?}");
    std::fs::remove_file(world.dir.join("etc/conf.d/own.toml")).unwrap();
    daemon.end();
}

#[test]
fn a_kubelets_pod_outlives_the_daemon_and_is_left_to_kubectl() {
    let world = World::bare();
    let daemon = Daemon::start(&world);
    let id = run_pod(&world, "web");
    let row = world.ps().into_iter().find(|r| r["name"] == "web").unwrap();
    assert_eq!(row["kept"], true, "{row}");
    for args in [&["stop", "web"][..], &["stop", "--all"]] {
        world.call(args).fails(120, "a kubelet keeps default/web, and nothing is stopped");
    }
    daemon.end();
    assert_eq!(world.ps().len(), 1, "the daemon's end is no pod's");
    let daemon = Daemon::start(&world);
    let state = |id: &str| {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: id.into(), verbose: false };
        ask(&world, async |mut client| client.pod_sandbox_status(request).await.unwrap().into_inner().status.unwrap().state)
    };
    assert_eq!(state(&id), v1::PodSandboxState::SandboxReady as i32);
    world.call(&["stop", "--all", "--force", "--grace", "0"]).good();
    assert_eq!(world.ps().len(), 0);
    daemon.end();
}

#[test]
fn a_value_that_cannot_be_meant_stops_the_start() {
    let world = World::bare();
    world.drop_in("cri.toml", "[cri]\nstreaming_address = \"0.0.0.0:0\"\n");
    world.call(&["cri"]).fails(120, "is not on the loopback");
    std::fs::remove_file(world.dir.join("etc/conf.d/cri.toml")).unwrap();
}
