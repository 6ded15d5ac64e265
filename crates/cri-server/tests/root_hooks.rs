//! What plugins are told, and when. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use cofferdam_cri_api::v1;
use cofferdam_cri_server::{Hooks, Moment};
use cofferdam_engine::Engine;
use cofferdam_model::ContainerId;
use cofferdam_model::cri::{ContainerConfig, Error, SandboxStatus};
use common::World;
use std::sync::{Arc, Mutex};

/// Writes down what it is told, and whether that was there at the time.
#[derive(Default)]
struct Recorder {
    told: Mutex<Vec<(&'static str, String, bool)>>,
    engine: Mutex<Option<Arc<Engine>>>,
    /// Starts are refused.
    refuses: bool,
}

impl Recorder {
    fn note(&self, what: &'static str, pod: &SandboxStatus, container: Option<&ContainerId>) {
        let engine = self.engine.lock().unwrap();
        let there = engine.as_ref().is_none_or(|engine| match container {
            Some(id) => engine.container_status(id).is_ok(),
            None => engine.sandbox_status(&pod.id).is_ok(),
        });
        let id = container.map_or(pod.id.as_str(), ContainerId::as_str).to_owned();
        self.told.lock().unwrap().push((what, id, there));
    }

    /// What was told of `of` since the last question.
    fn told(&self, of: &[&str]) -> Vec<(&'static str, String, bool)> {
        let mut all = std::mem::take(&mut *self.told.lock().unwrap());
        all.retain(|(what, ..)| of.contains(what));
        all
    }
}

impl Hooks for Recorder {
    fn lifecycle(&self, moment: Moment<'_>) -> Result<(), Error> {
        match moment {
            Moment::ContainerStarting(pod, c) => self.note("starting", pod, Some(&c.id)),
            Moment::ContainerStopped(pod, c) => self.note("stopped", pod, Some(&c.id)),
            Moment::ContainerRemoved(pod, c) => self.note("removed", pod, Some(&c.id)),
            Moment::SandboxStopped(pod) => self.note("stopped", pod, None),
            Moment::SandboxRemoved(pod) => self.note("removed", pod, None),
            _ => {}
        }
        let fails = match moment {
            Moment::ContainerStarting(..) => self.refuses,
            // It cannot prevent these.
            Moment::ContainerRemoved(..) | Moment::SandboxRemoved(_) => true,
            _ => false,
        };
        if fails { Err(Error::Failed("not so".into())) } else { Ok(()) }
    }

    fn undone(&self, pod: &SandboxStatus, id: &ContainerId, _: &ContainerConfig) {
        self.note("undone", pod, Some(id));
    }

    fn wants_lifecycle(&self) -> bool {
        true
    }
}

async fn world(recorder: Recorder) -> (World, Arc<Recorder>) {
    let recorder = Arc::new(recorder);
    let world = World::with(recorder.clone()).await;
    *recorder.engine.lock().unwrap() = Some(world.engine.clone());
    (world, recorder)
}

/// containerd tells plugins before it deletes anything (`container_remove.go`, `sandbox_remove.go`).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plugins_are_told_of_what_goes_while_it_is_there_and_cannot_keep_it() {
    let (mut world, recorder) = world(Recorder::default()).await;
    let pod = world.pod("web").await;
    let one = world.start(&pod, "one", "sleep 1000").await;
    let two = world.start(&pod, "two", "sleep 1000").await;
    world.remove_container(&one).await;
    let there = |what, id: &str| (what, id.to_owned(), true);
    let both = ["stopped", "removed"];
    assert_eq!(recorder.told(&both), [there("stopped", &one), there("removed", &one)]);
    world.remove_pod(&pod).await;
    assert_eq!(
        recorder.told(&both),
        [there("stopped", &two), there("removed", &two), there("removed", &pod)]
    );
    // Though it failed each time.
    assert!(world.engine.list_sandboxes().unwrap().is_empty());
    world.remove_container(&two).await;
    world.remove_pod(&pod).await;
    assert_eq!(recorder.told(&both), []);
}

/// containerd's `UndoCreateContainer`, and the StopContainer of a start that fails (`container_start.go`).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plugins_are_told_of_what_did_not_come_to_be() {
    let recorder = Recorder {
        refuses: true,
        ..Recorder::default()
    };
    let (mut world, recorder) = world(recorder).await;
    let pod = world.pod("web").await;
    let mut config = world.container_config("main", "true");
    config.image = Some(v1::ImageSpec {
        image: "nosuch:1".into(),
        ..Default::default()
    });
    world.create_with(&pod, config).await.unwrap_err();
    let told = recorder.told(&["undone"]);
    assert_eq!(told.iter().map(|(.., there)| *there).collect::<Vec<_>>(), [false]);

    let config = world.container_config("main", "true");
    let id = world.create_with(&pod, config).await.unwrap();
    let request = v1::StartContainerRequest { container_id: id.clone() };
    let why = world.runtime.start_container(request).await.unwrap_err();
    assert!(why.message().contains("not so"), "{why}");
    let told = recorder.told(&["undone", "starting", "stopped"]);
    assert_eq!(told, [("starting", id.clone(), true), ("stopped", id, true)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_is_told_once_though_the_server_starts_anew() {
    let (mut world, recorder) = world(Recorder::default()).await;
    let pod = world.pod("web").await;
    let id = world.start(&pod, "main", "true").await;
    world.ended(&id).await;
    let stopped = || {
        recorder
            .told
            .lock()
            .unwrap()
            .iter()
            .filter(|(what, told, _)| *what == "stopped" && *told == id)
            .count()
    };
    let begin = std::time::Instant::now();
    while stopped() == 0 {
        assert!(begin.elapsed() < common::PATIENCE, "its end is not told");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    world.restart().await;
    *recorder.engine.lock().unwrap() = Some(world.engine.clone());
    // Before it goes, its end is told, unless it was.
    world.remove_container(&id).await;
    assert_eq!(stopped(), 1);
}
