//! Codes and texts of errors, beside containerd's. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use cofferdam_cri_api::v1;
use common::World;
use tonic::{Code, Response, Status};

/// A case: containerd's file in `internal/cri/server`, what came, and what should.
type Row = (&'static str, Result<(), (Code, String)>, Result<(), (Code, String)>);

/// Short of what is none of the error's, and of what an answer has beside.
fn row<T>(file: &'static str, came: Result<Response<T>, Status>, wanted: Result<(), (Code, String)>) -> Row {
    let came = came.map(drop).map_err(|status| (status.code(), status.message().to_owned()));
    (file, came, wanted)
}

#[track_caller]
fn assert_rows(rows: Vec<Row>) {
    for (number, (file, came, wanted)) in rows.into_iter().enumerate() {
        assert_eq!(came, wanted, "row {number}, {file}");
    }
}

fn unknown(text: impl Into<String>) -> Result<(), (Code, String)> {
    Err((Code::Unknown, text.into()))
}

fn missing(text: impl std::fmt::Display) -> Result<(), (Code, String)> {
    Err((Code::NotFound, format!("{text}: not found")))
}

fn exec(id: &str) -> v1::ExecRequest {
    v1::ExecRequest {
        container_id: id.into(),
        cmd: vec!["true".into()],
        stdout: true,
        ..Default::default()
    }
}

fn exec_sync(id: &str) -> v1::ExecSyncRequest {
    v1::ExecSyncRequest {
        container_id: id.into(),
        cmd: vec!["true".into()],
        timeout: 5,
    }
}

fn attach(id: &str) -> v1::AttachRequest {
    v1::AttachRequest {
        container_id: id.into(),
        stdout: true,
        ..Default::default()
    }
}

fn update(id: &str, memory: i64) -> v1::UpdateContainerResourcesRequest {
    let limits = v1::LinuxContainerResources {
        memory_limit_in_bytes: memory,
        ..Default::default()
    };
    v1::UpdateContainerResourcesRequest {
        container_id: id.into(),
        linux: Some(limits),
        ..Default::default()
    }
}

fn start(id: &str) -> v1::StartContainerRequest {
    v1::StartContainerRequest { container_id: id.into() }
}

fn stop(id: &str) -> v1::StopContainerRequest {
    v1::StopContainerRequest {
        container_id: id.into(),
        timeout: 0,
    }
}

fn reopen(id: &str) -> v1::ReopenContainerLogRequest {
    v1::ReopenContainerLogRequest { container_id: id.into() }
}

fn image(name: &str) -> Option<v1::ImageSpec> {
    Some(v1::ImageSpec {
        image: name.into(),
        ..Default::default()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_what_is_not_there() {
    let mut world = World::new().await;
    let config = world.container_config("main", "true");
    let (w, i) = (&mut world.runtime, &mut world.images);
    // One that could be, and one that could not.
    for id in ["0123456789abcdef0123456789abcdef", "not-an-id"] {
        let in_store = format!("failed to find container {id:?} in store");
        let container = missing(format!("an error occurred when try to find container {id:?}"));
        let status = v1::ContainerStatusRequest {
            container_id: id.into(),
            verbose: false,
        };
        let create = v1::CreateContainerRequest {
            pod_sandbox_id: id.into(),
            config: Some(config.clone()),
            sandbox_config: None,
        };
        let forward = v1::PortForwardRequest {
            pod_sandbox_id: id.into(),
            port: vec![80],
        };
        let pod_status = v1::PodSandboxStatusRequest {
            pod_sandbox_id: id.into(),
            verbose: false,
        };
        let limits = v1::UpdatePodSandboxResourcesRequest {
            pod_sandbox_id: id.into(),
            ..Default::default()
        };
        let (container_id, pod_sandbox_id) = (id.to_owned(), id.to_owned());
        let of_container = v1::ContainerStatsRequest { container_id };
        let of_pod = v1::PodSandboxStatsRequest { pod_sandbox_id };
        let (container_id, pod_sandbox_id) = (id.to_owned(), id.to_owned());
        let remove = v1::RemoveContainerRequest { container_id };
        let stop_pod = v1::StopPodSandboxRequest { pod_sandbox_id };
        let remove_pod = v1::RemovePodSandboxRequest { pod_sandbox_id: id.into() };
        assert_rows(vec![
            row("container_start.go", w.start_container(start(id)).await, container.clone()),
            row("container_status.go", w.container_status(status).await, container.clone()),
            row("container_log_reopen.go", w.reopen_container_log(reopen(id)).await, container),
            row("container_stop.go", w.stop_container(stop(id)).await, Ok(())),
            row("container_remove.go", w.remove_container(remove).await, Ok(())),
            row("sandbox_stop.go", w.stop_pod_sandbox(stop_pod).await, Ok(())),
            row("sandbox_remove.go", w.remove_pod_sandbox(remove_pod).await, Ok(())),
            row(
                "container_execsync.go",
                w.exec_sync(exec_sync(id)).await,
                missing(format!("failed to exec in container: {in_store}")),
            ),
            row("container_exec.go", w.exec(exec(id)).await, missing(&in_store)),
            // Here and below where containerd leaves the id out, it is in.
            row("container_attach.go", w.attach(attach(id)).await, missing(&in_store)),
            row(
                "container_stats.go",
                w.container_stats(of_container).await,
                missing(format!("failed to find container {id:?}")),
            ),
            row(
                "container_update_resources.go",
                w.update_container_resources(update(id, 0)).await,
                missing(format!("failed to find container {id:?}")),
            ),
            row(
                "container_create.go",
                w.create_container(create).await,
                missing(format!("failed to find sandbox id {id:?}")),
            ),
            row(
                "sandbox_portforward.go",
                w.port_forward(forward).await,
                missing(format!("failed to find sandbox {id:?}")),
            ),
            row(
                "sandbox_status.go",
                w.pod_sandbox_status(pod_status).await,
                missing(format!("an error occurred when try to find sandbox {id:?}")),
            ),
            row(
                "sandbox_stats.go",
                w.pod_sandbox_stats(of_pod).await,
                missing(format!("an error occurred when trying to find sandbox {id}")),
            ),
            row(
                "sandbox_update_resources.go",
                w.update_pod_sandbox_resources(limits).await,
                missing(format!("failed to find sandbox {id:?}")),
            ),
        ]);
    }
    let remove = v1::RemoveImageRequest { image: image("nosuch:1") };
    let status = v1::ImageStatusRequest {
        image: image("nosuch:1"),
        verbose: false,
    };
    assert_rows(vec![
        row("images/image_remove.go", i.remove_image(remove).await, Ok(())),
        row("images/image_status.go", i.image_status(status).await, Ok(())),
    ]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_states_that_forbid_a_verb() {
    let mut world = World::new().await;
    let pod = world.pod("web").await;
    let running = world.start(&pod, "running", "sleep 1000").await;
    let exited = world.start(&pod, "exited", "true").await;
    let config = world.container_config("created", "true");
    let created = world.create_with(&pod, config).await.unwrap();
    world.ended(&exited).await;
    let w = &mut world.runtime;
    let not_startable = |id: &str, state| {
        unknown(format!(
            "failed to set starting state for container {id:?}: container is in {state} state"
        ))
    };
    let is_in = |state: &str| format!("container is in {state} state");
    let mut rows = vec![
        row(
            "container_start.go, setContainerStarting",
            w.start_container(start(&running)).await,
            not_startable(&running, "CONTAINER_RUNNING"),
        ),
        row(
            "container_start.go, setContainerStarting",
            w.start_container(start(&exited)).await,
            not_startable(&exited, "CONTAINER_EXITED"),
        ),
        // What has ended or is not started is stopped already, and takes limits.
        row("container_stop.go", w.stop_container(stop(&exited)).await, Ok(())),
        row(
            "container_update_resources.go",
            w.update_container_resources(update(&exited, 64 << 20)).await,
            Ok(()),
        ),
        row(
            "container_update_resources.go",
            w.update_container_resources(update(&created, 64 << 20)).await,
            Ok(()),
        ),
    ];
    for (id, state) in [(&created, "CONTAINER_CREATED"), (&exited, "CONTAINER_EXITED")] {
        rows.extend([
            row(
                "container_execsync.go",
                w.exec_sync(exec_sync(id)).await,
                unknown(format!("failed to exec in container: {}", is_in(state))),
            ),
            row("container_exec.go", w.exec(exec(id)).await, unknown(is_in(state))),
            row("container_attach.go", w.attach(attach(id)).await, unknown(is_in(state))),
            row(
                "container_log_reopen.go",
                w.reopen_container_log(reopen(id)).await,
                unknown("container is not running"),
            ),
        ]);
    }
    assert_rows(rows);
    // The kernel's answer there; here it is known before, in words of its own.
    let why = w.update_container_resources(update(&running, 4096)).await.unwrap_err();
    assert_eq!(why.code(), Code::Unknown, "container_update_resources.go");
    assert!(why.message().starts_with("failed to update resources: "), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_sandbox_that_is_down() {
    let mut world = World::new().await;
    let pod = world.pod("web").await;
    let config = world.container_config("made", "true");
    let made = world.create_with(&pod, config).await.unwrap();
    let config = world.container_config("main", "true");
    let w = &mut world.runtime;
    let down = v1::StopPodSandboxRequest {
        pod_sandbox_id: pod.clone(),
    };
    w.stop_pod_sandbox(down).await.unwrap();
    let create = v1::CreateContainerRequest {
        pod_sandbox_id: pod.clone(),
        config: Some(config),
        sandbox_config: None,
    };
    let forward = v1::PortForwardRequest {
        pod_sandbox_id: pod.clone(),
        port: vec![80],
    };
    let stats = v1::PodSandboxStatsRequest {
        pod_sandbox_id: pod.clone(),
    };
    let unavailable = format!(
        "failed to decode pod sandbox metrics {pod}: failed to get pod sandbox stats since sandbox container {pod:?} is not in ready state: \
         unavailable"
    );
    let start_it = w.start_container(start(&made)).await;
    assert_rows(vec![
        row(
            "container_create.go",
            w.create_container(create).await,
            // And why.
            unknown(format!("sandbox container {pod:?} is not running: it was stopped")),
        ),
        row(
            "sandbox_portforward.go",
            w.port_forward(forward).await,
            unknown("sandbox container is not running"),
        ),
        row(
            "sandbox_stats.go",
            w.pod_sandbox_stats(stats).await,
            Err((Code::Unavailable, unavailable)),
        ),
    ]);
    // What was made in it is ended, or cannot be started: whichever is seen first.
    let why = start_it.unwrap_err();
    let ended = format!("failed to set starting state for container {made:?}: container is in CONTAINER_EXITED state");
    let words = [ended, format!("sandbox container {pod:?} is not running")];
    assert!(
        why.code() == Code::Unknown && words.contains(&why.message().to_owned()),
        "container_start.go: {why}"
    );
}

/// `internal/cri/opts`, `ensureShared` and `ensureSharedOrSlave`: by the mount of each source, and not by the
/// machine's root.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_mounts_that_cannot_propagate() {
    let mut world = World::new().await;
    let pod = world.pod("web").await;
    let at = world.dir.join("volume");
    let path = at.to_str().unwrap().to_owned();
    let mount = |args: &[&str]| assert!(std::process::Command::new("mount").args(args).status().unwrap().success());
    std::fs::create_dir(&at).unwrap();
    mount(&["-t", "tmpfs", "none", &path]);
    mount(&["--make-private", &path]);
    std::fs::create_dir(at.join("below")).unwrap();
    let source = at.join("below");
    let config = |world: &World, propagation: v1::MountPropagation| {
        let mut config = world.container_config("main", "true");
        config.mounts = vec![v1::Mount {
            container_path: "/v".into(),
            host_path: source.to_string_lossy().into_owned(),
            propagation: propagation.into(),
            ..Default::default()
        }];
        config
    };
    use v1::MountPropagation::{PropagationBidirectional as Both, PropagationHostToContainer as In, PropagationPrivate as Private};
    for (propagation, kind) in [(In, "shared or slave"), (Both, "shared")] {
        let why = world.create_with(&pod, config(&world, propagation)).await.unwrap_err();
        let text = format!("path {source:?} is mounted on {at:?} but it is not a {kind} mount");
        assert_eq!(why.code(), Code::Unknown);
        assert!(why.message().ends_with(&text), "{why}");
    }
    mount(&["--make-shared", &path]);
    for propagation in [In, Private] {
        let id = world.create_with(&pod, config(&world, propagation)).await.unwrap();
        world.remove_container(&id).await;
    }
    world.remove_pod(&pod).await;
    assert!(std::process::Command::new("umount").args(["-R", &path]).status().unwrap().success());
}
