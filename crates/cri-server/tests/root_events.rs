//! GetContainerEvents as a kubelet's evented PLEG takes it (`pkg/kubelet/pleg/evented.go`). Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use cofferdam_cri_api::v1;
use common::World;
use std::collections::HashMap;
use v1::ContainerEventType::{ContainerDeletedEvent as Deleted, ContainerStoppedEvent as Stopped};

type Events = tonic::Streaming<v1::ContainerEventResponse>;

async fn listen(world: &mut World) -> Events {
    let events = world.runtime.get_container_events(v1::GetEventsRequest {}).await;
    events.unwrap().into_inner()
}

async fn next(events: &mut Events) -> v1::ContainerEventResponse {
    let event = tokio::time::timeout(common::PATIENCE, events.message()).await;
    event.expect("no event comes").unwrap().unwrap()
}

/// Events until one of `kind` is about `id`.
async fn until(events: &mut Events, kind: v1::ContainerEventType, id: &str) -> Vec<v1::ContainerEventResponse> {
    let mut all = vec![];
    loop {
        all.push(next(events).await);
        if all.last().is_some_and(|e| e.container_event_type() == kind && e.container_id == id) {
            return all;
        }
    }
}

/// The PLEG passes over an event whose pod is not told, and forgets a pod at its own deletion alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_tells_its_pod_deletions_too() {
    let mut world = World::new().await;
    let mut events = listen(&mut world).await;
    let pod = world.pod("web").await;
    let one = world.start(&pod, "one", "sleep 1000").await;
    let two = world.start(&pod, "two", "sleep 1000").await;
    world.remove_container(&one).await;
    let of_one = until(&mut events, Deleted, &one).await;
    let left = &of_one.last().unwrap().containers_statuses;
    assert_eq!(left.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(), [two.as_str()]);
    world.remove_pod(&pod).await;
    let rest = until(&mut events, Deleted, &pod).await;
    let deleted: Vec<_> = rest.iter().filter(|e| e.container_event_type() == Deleted).collect();
    assert_eq!(
        deleted.iter().map(|e| e.container_id.as_str()).collect::<Vec<_>>(),
        [two.as_str(), pod.as_str()]
    );
    let mut last = 0;
    for event in of_one.iter().chain(&rest) {
        let told = event.pod_sandbox_status.as_ref().unwrap();
        assert_eq!(
            (told.id.as_str(), told.metadata.as_ref().unwrap().uid.as_str()),
            (pod.as_str(), "web-uid")
        );
        assert!(event.created_at >= last, "{event:?}");
        last = event.created_at;
    }
    for event in deleted {
        assert_eq!(
            event.pod_sandbox_status.as_ref().unwrap().state(),
            v1::PodSandboxState::SandboxNotready
        );
    }
}

/// The PLEG's cache keeps what came with the latest event: none may carry a state from before another's.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_event_brings_back_an_older_state() {
    let mut world = World::new().await;
    let mut events = listen(&mut world).await;
    let pod = world.pod("web").await;
    let mut starts = tokio::task::JoinSet::new();
    for number in 0..8 {
        let (mut runtime, pod) = (world.runtime.clone(), pod.clone());
        let config = world.container_config(&format!("c{number}"), "true");
        starts.spawn(async move {
            let request = v1::CreateContainerRequest {
                pod_sandbox_id: pod,
                config: Some(config),
                sandbox_config: None,
            };
            let container_id = runtime.create_container(request).await.unwrap().into_inner().container_id;
            runtime.start_container(v1::StartContainerRequest { container_id }).await.unwrap();
        });
    }
    starts.join_all().await;
    let (mut ended, mut seen) = (0, HashMap::<String, i32>::new());
    while ended < 8 {
        let event = next(&mut events).await;
        ended += usize::from(event.container_event_type() == Stopped);
        for container in &event.containers_statuses {
            let before = seen.insert(container.id.clone(), container.state).unwrap_or_default();
            assert!(before <= container.state, "{} was {before} before: {event:?}", container.id);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_is_told_once_though_the_server_starts_anew() {
    let mut world = World::new().await;
    let mut events = listen(&mut world).await;
    let pod = world.pod("web").await;
    let id = world.start(&pod, "main", "true").await;
    until(&mut events, Stopped, &id).await;
    let lasting = world.start(&pod, "lasting", "sleep 1000").await;
    drop(events);
    world.restart().await;
    let mut events = listen(&mut world).await;
    world.remove_container(&id).await;
    world.remove_container(&lasting).await;
    let all = until(&mut events, Deleted, &lasting).await;
    let kinds: Vec<_> = all.iter().map(|e| (e.container_id.as_str(), e.container_event_type())).collect();
    assert_eq!(
        kinds,
        [(id.as_str(), Deleted), (lasting.as_str(), Stopped), (lasting.as_str(), Deleted)]
    );
}
