//! Pods and containers through a gRPC client. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use cofferdam_cri_api::v1;
use common::World;
use std::os::unix::fs::PermissionsExt;
use tonic::Code;

fn id(text: &str) -> String {
    text.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_lives_and_goes() {
    let mut world = World::new().await;
    assert_eq!(
        std::fs::metadata(world.dir.join("cri.sock")).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let pod = world.pod("web").await;
    let host = world.dir.join("made/for/the/mount");
    let mut config = world.container_config("main", "echo said; id -u; echo $A; cat /vol/none; exit 3");
    config.envs = vec![v1::KeyValue {
        key: "A".into(),
        value: b"value".to_vec(),
    }];
    config.mounts = vec![v1::Mount {
        container_path: "/vol".into(),
        host_path: host.to_string_lossy().into_owned(),
        ..Default::default()
    }];
    config.linux = Some(v1::LinuxContainerConfig {
        security_context: Some(v1::LinuxContainerSecurityContext {
            run_as_user: Some(v1::Int64Value { value: 1000 }),
            supplemental_groups: vec![77],
            ..Default::default()
        }),
        ..Default::default()
    });
    let container = world.create_with(&pod, config).await.unwrap();
    assert!(host.is_dir(), "a host path that is missing is made a directory");
    let status = world.container(&container).await;
    assert_eq!((status.state(), status.started_at), (v1::ContainerState::ContainerCreated, 0));
    world
        .runtime
        .start_container(v1::StartContainerRequest {
            container_id: id(&container),
        })
        .await
        .unwrap();
    let again = world
        .runtime
        .start_container(v1::StartContainerRequest {
            container_id: id(&container),
        })
        .await;
    assert!(again.is_err());
    let status = world.ended(&container).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (3, "Error"));
    assert!(status.finished_at >= status.started_at && status.started_at >= status.created_at && status.created_at > 0);
    assert_eq!(status.image.unwrap().user_specified_image, "busybox");
    assert!(status.image_id.starts_with("sha256:"));
    let user = status.user.unwrap().linux.unwrap();
    assert_eq!((user.uid, user.gid, user.supplemental_groups), (1000, 1000, vec![50, 77, 1000]));
    assert_eq!(status.stop_signal, v1::Signal::Sigterm as i32);
    let log = std::fs::read_to_string(&status.log_path).unwrap();
    let lines: Vec<_> = log.lines().map(|l| l.splitn(4, ' ').nth(3).unwrap()).collect();
    assert_eq!(lines[..3], ["said", "1000", "value"]);

    for _ in 0..2 {
        // Both may be repeated.
        world
            .runtime
            .stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id: id(&pod) })
            .await
            .unwrap();
    }
    let request = v1::PodSandboxStatusRequest {
        pod_sandbox_id: id(&pod),
        verbose: false,
    };
    let status = world
        .runtime
        .pod_sandbox_status(request.clone())
        .await
        .unwrap()
        .into_inner()
        .status
        .unwrap();
    assert_eq!(
        (status.state(), status.runtime_handler.as_str()),
        (v1::PodSandboxState::SandboxNotready, "crun")
    );
    for _ in 0..2 {
        world
            .runtime
            .remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id: id(&pod) })
            .await
            .unwrap();
    }
    assert_eq!(world.runtime.pod_sandbox_status(request).await.unwrap_err().code(), Code::NotFound);
    let left = world
        .runtime
        .list_containers(v1::ListContainersRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(left.containers, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_handler_is_refused_and_leaves_nothing() {
    let mut world = World::new().await;
    let config = world.pod_config("web");
    for _ in 0..2 {
        let request = v1::RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: "nosuch".into(),
        };
        let why = world.runtime.run_pod_sandbox(request).await.unwrap_err();
        assert_eq!(why.code(), Code::Unknown);
        assert!(
            why.message()
                .starts_with("failed to get sandbox runtime: no runtime for \"nosuch\" is configured"),
            "{}",
            why.message()
        );
    }
    let all = world
        .runtime
        .list_pod_sandbox(v1::ListPodSandboxRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(all.items, []);
    // Its name is free.
    world.run_pod(config).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_given_once_and_kept_over_a_restart() {
    let mut world = World::new().await;
    let pod = world.pod("web").await;
    let mut other = world.pod_config("web");
    other.hostname = "other".into();
    let again = world.run_pod(other).await.unwrap_err();
    let sentence =
        format!("failed to reserve sandbox name \"web_default_web-uid_0\": name \"web_default_web-uid_0\" is reserved for \"{pod}\"");
    assert_eq!((again.code(), again.message()), (Code::Unknown, sentence.as_str()));
    let container = world.start(&pod, "main", "sleep 1000").await;
    // Somebody has used its id: the same request is for a second one.
    let again = world.run_pod(world.pod_config("web")).await.unwrap_err();
    assert_eq!((again.code(), again.message()), (Code::Unknown, sentence.as_str()));
    let config = world.container_config("main", "sleep 1000");
    let again = world.create_with(&pod, config.clone()).await.unwrap_err();
    assert!(
        again.message().starts_with("failed to reserve container name") && again.message().ends_with(&format!("{container:?}")),
        "{}",
        again.message()
    );

    world.restart().await;
    assert_eq!(world.container(&container).await.state(), v1::ContainerState::ContainerRunning);
    assert!(world.run_pod(world.pod_config("web")).await.is_err());
    assert!(world.create_with(&pod, config.clone()).await.is_err());
    world
        .runtime
        .remove_container(v1::RemoveContainerRequest { container_id: container })
        .await
        .unwrap();
    world.create_with(&pod, config).await.unwrap();
    let mut next = world.pod_config("web");
    next.metadata.as_mut().unwrap().attempt = 1;
    world.run_pod(next).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_filtered_whole_and_in_pieces() {
    let mut world = World::new().await;
    let (a, b) = (world.pod("a").await, world.pod("b").await);
    let (first, second) = (world.start(&a, "x", "sleep 1000").await, world.start(&b, "x", "true").await);
    world.ended(&second).await;
    let pods = [
        (v1::PodSandboxFilter::default(), vec![&a, &b]),
        (
            v1::PodSandboxFilter {
                id: a[..8].into(),
                ..Default::default()
            },
            vec![&a],
        ),
        (
            v1::PodSandboxFilter {
                label_selector: [(id("app"), id("b"))].into(),
                ..Default::default()
            },
            vec![&b],
        ),
        (
            v1::PodSandboxFilter {
                state: Some(v1::PodSandboxStateValue { state: 1 }),
                ..Default::default()
            },
            vec![],
        ),
    ];
    for (filter, expected) in pods {
        let listed = world
            .runtime
            .list_pod_sandbox(v1::ListPodSandboxRequest {
                filter: Some(filter.clone()),
            })
            .await
            .unwrap()
            .into_inner();
        assert_eq!(listed.items.iter().map(|p| &p.id).collect::<Vec<_>>(), expected, "{filter:?}");
        let mut stream = world
            .runtime
            .stream_pod_sandboxes(v1::StreamPodSandboxesRequest { filter: Some(filter) })
            .await
            .unwrap()
            .into_inner();
        let mut streamed = vec![];
        while let Some(piece) = stream.message().await.unwrap() {
            streamed.extend(piece.pod_sandboxes);
        }
        assert_eq!(streamed, listed.items);
    }
    let state = |state: v1::ContainerState| Some(v1::ContainerStateValue { state: state.into() });
    let containers = [
        (v1::ContainerFilter::default(), vec![&first, &second]),
        (
            v1::ContainerFilter {
                pod_sandbox_id: b.clone(),
                ..Default::default()
            },
            vec![&second],
        ),
        (
            v1::ContainerFilter {
                state: state(v1::ContainerState::ContainerRunning),
                ..Default::default()
            },
            vec![&first],
        ),
        (
            v1::ContainerFilter {
                id: second[..6].into(),
                state: state(v1::ContainerState::ContainerRunning),
                ..Default::default()
            },
            vec![],
        ),
    ];
    for (filter, expected) in containers {
        let listed = world
            .runtime
            .list_containers(v1::ListContainersRequest {
                filter: Some(filter.clone()),
            })
            .await
            .unwrap()
            .into_inner();
        assert_eq!(listed.containers.iter().map(|c| &c.id).collect::<Vec<_>>(), expected, "{filter:?}");
    }
    // The beginning of an id is enough for a verb, as under containerd.
    assert_eq!(world.container(&first[..10]).await.id, first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_run_and_are_ended_in_time() {
    let mut world = World::new().await;
    let pod = world.pod("web").await;
    let container = world.start(&pod, "main", "sleep 1000").await;
    let out = world.exec(&container, "echo out; echo err >&2; exit 7", 10).await.unwrap();
    assert_eq!((out.stdout, out.stderr, out.exit_code), (b"out\n".to_vec(), b"err\n".to_vec(), 7));
    let late = world.exec(&container, "sleep 1000", 1).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
    assert!(
        late.message().contains("timeout 1s exceeded: context deadline exceeded"),
        "{}",
        late.message()
    );
    world
        .runtime
        .stop_container(v1::StopContainerRequest {
            container_id: id(&container),
            timeout: 0,
        })
        .await
        .unwrap();
    let ended = world.exec(&container, "true", 1).await.unwrap_err();
    assert_eq!(
        ended.message(),
        "failed to exec in container: container is in CONTAINER_EXITED state"
    );
    assert_eq!(world.ended(&container).await.exit_code, 137);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_tell_of_every_step() {
    let mut world = World::new().await;
    let mut events = world
        .runtime
        .get_container_events(v1::GetEventsRequest {})
        .await
        .unwrap()
        .into_inner();
    let pod = world.pod("web").await;
    let container = world.start(&pod, "main", "exit 4").await;
    world.ended(&container).await;
    let mut seen = vec![];
    let mut next = async |count: usize| {
        while seen.len() < count {
            let event = tokio::time::timeout(common::PATIENCE, events.message())
                .await
                .unwrap()
                .unwrap()
                .unwrap();
            seen.push((event.container_id.clone(), event.container_event_type(), event));
        }
        seen.clone()
    };
    let first = next(5).await;
    world
        .runtime
        .remove_container(v1::RemoveContainerRequest {
            container_id: id(&container),
        })
        .await
        .unwrap();
    world
        .runtime
        .stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id: id(&pod) })
        .await
        .unwrap();
    world
        .runtime
        .remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id: id(&pod) })
        .await
        .unwrap();
    let mut next = async |from: usize, count: usize| {
        let mut all = first[..from].to_vec();
        while all.len() < count {
            let event = tokio::time::timeout(common::PATIENCE, events.message())
                .await
                .unwrap()
                .unwrap()
                .unwrap();
            all.push((event.container_id.clone(), event.container_event_type(), event));
        }
        all
    };
    let all = next(5, 8).await;
    use v1::ContainerEventType::{
        ContainerCreatedEvent as Created, ContainerDeletedEvent as Deleted, ContainerStartedEvent as Started,
        ContainerStoppedEvent as Stopped,
    };
    let mut kinds: Vec<_> = all.iter().map(|(id, kind, _)| (id.as_str(), *kind)).collect();
    // The end of so short a container may be told before the start's verb returns.
    kinds[3..5].sort_by_key(|(_, kind)| *kind as i32);
    let (p, c) = (pod.as_str(), container.as_str());
    assert_eq!(
        kinds,
        [
            (p, Created),
            (p, Started),
            (c, Created),
            (c, Started),
            (c, Stopped),
            (c, Deleted),
            (p, Stopped),
            (p, Deleted)
        ]
    );
    let stopped = &all.iter().find(|(id, kind, _)| id == c && *kind == Stopped).unwrap().2;
    assert_eq!(stopped.pod_sandbox_status.as_ref().unwrap().id, pod);
    assert_eq!(
        (stopped.containers_statuses[0].id.as_str(), stopped.containers_statuses[0].exit_code),
        (c, 4)
    );
}

/// However long after its request a caller leaves, before, while or after the answer is sent: who asks once more
/// is given the same sandbox.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_given_up_loses_nothing() {
    let mut world = World::new().await;
    for (number, millis) in [0, 2, 5, 10, 15, 20, 30, 40, 60].into_iter().enumerate() {
        let config = world.pod_config(&format!("pod{number}"));
        let first = tokio::time::timeout(std::time::Duration::from_millis(millis), world.run_pod(config.clone())).await;
        let made = world.run_pod(config.clone()).await.unwrap();
        if let Ok(first) = first {
            assert_eq!(first.unwrap(), made);
        }
        let request = v1::ListPodSandboxRequest {
            filter: Some(v1::PodSandboxFilter {
                label_selector: config.labels.clone(),
                ..Default::default()
            }),
        };
        let listed = world.runtime.list_pod_sandbox(request).await.unwrap().into_inner().items;
        assert_eq!(listed.iter().map(|p| &p.id).collect::<Vec<_>>(), [&made], "after {millis} ms");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_was_lost_is_given_again() {
    let mut world = World::new().await;
    let pod = world.pod("web").await;
    let config = world.container_config("main", "sleep 1000");
    for restarted in [false, true] {
        if restarted {
            world.restart().await;
        }
        assert_eq!(world.run_pod(world.pod_config("web")).await.unwrap(), pod);
    }
    // Both at once, while the first is being made, and after.
    let twice = v1::RunPodSandboxRequest {
        config: Some(world.pod_config("twice")),
        runtime_handler: "crun".into(),
    };
    let (mut one, mut two) = (world.runtime.clone(), world.runtime.clone());
    let (one, two) = tokio::join!(one.run_pod_sandbox(twice.clone()), two.run_pod_sandbox(twice.clone()));
    let (one, two) = (one.unwrap().into_inner().pod_sandbox_id, two.unwrap().into_inner().pod_sandbox_id);
    assert_eq!(one, two);
    let container = world.create_with(&pod, config.clone()).await.unwrap();
    for restarted in [false, true] {
        if restarted {
            world.restart().await;
        }
        assert_eq!(world.create_with(&pod, config.clone()).await.unwrap(), container);
    }
    let other = world.container_config("main", "true");
    let why = world.create_with(&pod, other).await.unwrap_err();
    assert!(why.message().ends_with(&format!("is reserved for {container:?}")), "{why}");
    // A sandbox that is down is no answer to one who wants one that is up.
    let down = v1::StopPodSandboxRequest { pod_sandbox_id: one };
    world.runtime.stop_pod_sandbox(down).await.unwrap();
    assert!(
        world
            .runtime
            .run_pod_sandbox(twice)
            .await
            .unwrap_err()
            .message()
            .contains("is reserved for")
    );
}
