//! What conformance suites ask of a CRI runtime beyond its verbs. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use cofferdam_cri_api::v1;
use cofferdam_cri_server::{Hooks, Moment};
use cofferdam_model::cri::Error;
use common::{IMAGE, World};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, mpsc};
use tonic::Code;

fn image(name: &str) -> Option<v1::ImageSpec> {
    Some(v1::ImageSpec {
        image: name.into(),
        ..Default::default()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_those_that_their_descriptors_announce() {
    let mut world = World::new().await;
    let pod = world.pod("pod").await;
    world.start(&pod, "app", "exec 9</etc/passwd; sleep 1000").await;
    let descriptors = world.runtime.list_metric_descriptors(v1::ListMetricDescriptorsRequest {}).await;
    let labels: BTreeMap<_, _> = descriptors
        .unwrap()
        .into_inner()
        .descriptors
        .into_iter()
        .map(|d| (d.name, d.label_keys.len()))
        .collect();
    let pods = world.runtime.list_pod_sandbox_metrics(v1::ListPodSandboxMetricsRequest {}).await;
    let pods = pods.unwrap().into_inner().pod_metrics;
    let [told] = &pods[..] else { panic!("{pods:?}") };
    let of_container = &told.container_metrics[0].metrics;
    for metric in told.metrics.iter().chain(of_container) {
        assert_eq!(labels.get(&metric.name), Some(&metric.label_values.len()), "{metric:?}");
    }
    let names: BTreeSet<_> = of_container.iter().map(|m| m.name.as_str()).collect();
    for name in [
        "container_cpu_user_seconds_total",
        "container_cpu_system_seconds_total",
        "container_memory_cache",
        "container_memory_mapped_file",
        "container_memory_max_usage_bytes",
        "container_memory_failcnt",
        "container_memory_failures_total",
        "container_oom_events_total",
        "container_threads_max",
        "container_sockets",
        "container_fs_limit_bytes",
        "container_fs_inodes_free",
    ] {
        assert!(names.contains(name), "{name} is missing: {names:?}");
    }
    let value = |name: &str| of_container.iter().find(|m| m.name == name).unwrap().value.unwrap().value;
    assert!(value("container_file_descriptors") >= 4 && value("container_processes") >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_is_removed_stays_for_its_containers() {
    let mut world = World::new().await;
    let pod = world.pod("pod").await;
    let id = world.start(&pod, "app", "sleep 1000").await;
    let image_id = world.container(&id).await.image_id;
    world
        .images
        .remove_image(v1::RemoveImageRequest { image: image(IMAGE) })
        .await
        .unwrap();
    for name in [IMAGE, image_id.as_str()] {
        let request = v1::ImageStatusRequest {
            image: image(name),
            verbose: false,
        };
        assert_eq!(world.images.image_status(request).await.unwrap().into_inner().image, None, "{name}");
    }
    let all = world
        .images
        .list_images(v1::ListImagesRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(all.images, []);
    assert_eq!(world.exec(&id, "echo on", 10).await.unwrap().stdout, b"on\n");
    assert_eq!(world.container(&id).await.image_id, image_id);
    let remove = v1::RemoveContainerRequest { container_id: id };
    world.runtime.remove_container(remove).await.unwrap();
    assert!(world.engine.images().resolve(&image_id).is_err(), "it goes with its last container");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_mounted_read_only_and_told_by_its_id() {
    let mut world = World::new().await;
    let pod = world.pod("pod").await;
    let mount = |readonly| v1::Mount {
        container_path: "/i".into(),
        readonly,
        image: image(IMAGE),
        ..Default::default()
    };
    let mut config = world.container_config("app", "true");
    config.mounts = vec![mount(false)];
    let why = world.create_with(&pod, config.clone()).await.unwrap_err();
    assert_eq!(why.code(), Code::InvalidArgument);
    assert!(why.message().contains("mounts[0].readonly"), "{why}");
    config.mounts = vec![mount(true)];
    let id = world.create_with(&pod, config).await.unwrap();
    let status = world.container(&id).await;
    assert_eq!(status.mounts[0].image.as_ref().unwrap().image_ref, status.image_id);
}

/// Holds each sandbox that is made until it is let go, and counts what it hears of.
struct Gate {
    came: Mutex<mpsc::Sender<String>>,
    go: Mutex<mpsc::Receiver<()>>,
    heard: Mutex<Vec<&'static str>>,
}

impl Hooks for Gate {
    fn lifecycle(&self, moment: Moment<'_>) -> Result<(), Error> {
        match moment {
            Moment::SandboxMade(pod) => {
                self.came.lock().unwrap().send(pod.id.to_string()).unwrap();
                self.go.lock().unwrap().recv().unwrap();
            }
            Moment::SandboxStopped(_) => self.heard.lock().unwrap().push("stopped"),
            _ => {}
        }
        Ok(())
    }

    fn creating(
        &self,
        _: &cofferdam_model::cri::SandboxStatus,
        _: &cofferdam_model::ContainerId,
        _: &mut cofferdam_model::cri::ContainerConfig,
    ) -> Result<(), Error> {
        self.heard.lock().unwrap().push("creating");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_is_there_once_plugins_have_let_it_and_stops_once() {
    let ((came, arrivals), (go, gate)) = (mpsc::channel(), mpsc::channel());
    let hooks = Arc::new(Gate {
        came: Mutex::new(came),
        go: Mutex::new(gate),
        heard: Mutex::default(),
    });
    let mut world = World::with(hooks.clone()).await;
    let (config, mut runtime) = (world.pod_config("pod"), world.runtime.clone());
    let run = tokio::spawn(async move {
        let request = v1::RunPodSandboxRequest {
            config: Some(config),
            runtime_handler: "crun".into(),
        };
        runtime.run_pod_sandbox(request).await
    });
    let id = tokio::task::spawn_blocking(move || arrivals.recv().unwrap()).await.unwrap();
    let listed = world
        .runtime
        .list_pod_sandbox(v1::ListPodSandboxRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.items, [], "a plugin may refuse it still");
    let status = v1::PodSandboxStatusRequest {
        pod_sandbox_id: id.clone(),
        verbose: false,
    };
    assert_eq!(world.runtime.pod_sandbox_status(status).await.unwrap_err().code(), Code::NotFound);
    let early = world.create_with(&id, world.container_config("early", "true")).await.unwrap_err();
    assert!(early.message().contains("is not running"), "{early}");
    go.send(()).unwrap();
    assert_eq!(run.await.unwrap().unwrap().into_inner().pod_sandbox_id, id);
    world.create_with(&id, world.container_config("app", "true")).await.unwrap();
    for _ in 0..2 {
        let stop = v1::StopPodSandboxRequest {
            pod_sandbox_id: id.clone(),
        };
        world.runtime.stop_pod_sandbox(stop).await.unwrap();
    }
    let late = world.create_with(&id, world.container_config("late", "true")).await.unwrap_err();
    assert!(late.message().contains("is not running"), "{late}");
    assert_eq!(
        *hooks.heard.lock().unwrap(),
        ["creating", "stopped"],
        "nobody hears of what cannot be"
    );
}
