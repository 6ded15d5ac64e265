//! What the runtime tells of itself, of images and of usage. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use cofferdam_cri_api::v1;
use common::{IMAGE, World};
use tonic::Code;

fn spec(image: &str) -> Option<v1::ImageSpec> {
    Some(v1::ImageSpec {
        image: image.into(),
        ..Default::default()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_runtime_tells_of_its_handlers() {
    let mut world = World::new().await;
    let version = world.runtime.version(v1::VersionRequest::default()).await.unwrap().into_inner();
    assert_eq!(
        (version.runtime_name.as_str(), version.runtime_api_version.as_str()),
        ("cofferdam", "v1")
    );
    let status = world
        .runtime
        .status(v1::StatusRequest { verbose: true })
        .await
        .unwrap()
        .into_inner();
    let conditions = status.status.unwrap().conditions;
    for kind in ["RuntimeReady", "NetworkReady"] {
        let found = conditions.iter().find(|c| c.r#type == kind).unwrap();
        assert!(found.status, "{found:?}");
    }
    let handlers: Vec<_> = status.runtime_handlers.iter().map(|h| h.name.as_str()).collect();
    assert!(handlers.contains(&"") && handlers.contains(&"crun"), "{handlers:?}");
    assert!(
        status
            .runtime_handlers
            .iter()
            .find(|h| h.name == "crun")
            .unwrap()
            .features
            .is_some()
    );
    assert_eq!(status.info["lastCNILoadStatus"], "OK");
    let config: serde_json::Value = serde_json::from_str(&status.info["config"]).unwrap();
    assert!(config["containerd"]["runtimes"]["crun"]["runtimePath"].is_string(), "{config}");
    let config = world
        .runtime
        .runtime_config(v1::RuntimeConfigRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(config.linux.is_some());
    world
        .runtime
        .update_runtime_config(v1::UpdateRuntimeConfigRequest::default())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_are_listed_found_and_removed() {
    let mut world = World::new().await;
    let status = |image: &str| v1::ImageStatusRequest {
        image: spec(image),
        verbose: true,
    };
    let found = world.images.image_status(status(IMAGE)).await.unwrap().into_inner();
    let image = found.image.unwrap();
    assert_eq!(image.repo_tags, [format!("docker.io/{IMAGE}")]);
    assert!(image.size > 100_000 && !image.pinned && found.info.contains_key("info"));
    assert_eq!(image.uid.unwrap().value, 0);
    assert_eq!(
        world
            .images
            .image_status(status(&image.id))
            .await
            .unwrap()
            .into_inner()
            .image
            .unwrap()
            .id,
        image.id
    );
    // What is missing is no error.
    assert_eq!(
        world.images.image_status(status("nosuch:1")).await.unwrap().into_inner().image,
        None
    );
    assert_eq!(
        world.images.image_status(status("")).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    let all = world
        .images
        .list_images(v1::ListImagesRequest::default())
        .await
        .unwrap()
        .into_inner()
        .images;
    assert_eq!(all, std::slice::from_ref(&image));
    for (named, count) in [
        ("nosuch:1", 0),
        ("box", 0),
        ("busybox:2", 0),
        (IMAGE, 1),
        ("busybox", 1),
        ("test/busybox", 1),
        ("docker.io/test/busybox", 1),
    ] {
        let filter = Some(v1::ImageFilter { image: spec(named) });
        let listed = world.images.list_images(v1::ListImagesRequest { filter }).await.unwrap();
        assert_eq!(listed.into_inner().images.len(), count, "{named}");
    }
    let room = world.images.image_fs_info(v1::ImageFsInfoRequest {}).await.unwrap().into_inner();
    assert!(room.image_filesystems[0].used_bytes.unwrap().value >= image.size);
    for _ in 0..2 {
        world
            .images
            .remove_image(v1::RemoveImageRequest { image: spec(IMAGE) })
            .await
            .unwrap();
    }
    assert_eq!(
        world
            .images
            .list_images(v1::ListImagesRequest::default())
            .await
            .unwrap()
            .into_inner()
            .images,
        []
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_of_an_unknown_handler_or_a_bad_name_is_not_pulled() {
    let mut world = World::new().await;
    let image = v1::ImageSpec {
        image: IMAGE.into(),
        runtime_handler: "nosuch".into(),
        ..Default::default()
    };
    let why = world
        .images
        .pull_image(v1::PullImageRequest {
            image: Some(image),
            ..Default::default()
        })
        .await
        .unwrap_err();
    assert!(
        why.message().contains("no runtime for \"nosuch\" is configured"),
        "{}",
        why.message()
    );
    let why = world
        .images
        .pull_image(v1::PullImageRequest {
            image: spec("UPPER CASE"),
            ..Default::default()
        })
        .await
        .unwrap_err();
    assert_eq!(why.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_is_told_of_pods_and_containers() {
    let mut world = World::new().await;
    let pod = world.pod("web").await;
    let container = world.start(&pod, "main", "while :; do :; done").await;
    let deadline = std::time::Instant::now();
    let stats = loop {
        let stats = world
            .runtime
            .container_stats(v1::ContainerStatsRequest {
                container_id: container.clone(),
            })
            .await
            .unwrap()
            .into_inner()
            .stats
            .unwrap();
        // A rate needs two measurements that are apart.
        if stats.cpu.as_ref().unwrap().usage_nano_cores.is_some() {
            break stats;
        }
        assert!(deadline.elapsed() < common::PATIENCE);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!(stats.attributes.unwrap().metadata.unwrap().name, "main");
    assert!(stats.cpu.unwrap().usage_core_nano_seconds.unwrap().value > 0);
    assert!(stats.memory.unwrap().working_set_bytes.unwrap().value > 0);
    let stats = world
        .runtime
        .pod_sandbox_stats(v1::PodSandboxStatsRequest {
            pod_sandbox_id: pod.clone(),
        })
        .await
        .unwrap()
        .into_inner()
        .stats
        .unwrap();
    let linux = stats.linux.unwrap();
    assert_eq!(linux.containers.len(), 1);
    assert!(linux.process.unwrap().process_count.unwrap().value >= 2);
    let filter = v1::ContainerStatsFilter {
        label_selector: [("container".to_owned(), "other".to_owned())].into(),
        ..Default::default()
    };
    let none = world
        .runtime
        .list_container_stats(v1::ListContainerStatsRequest { filter: Some(filter) })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(none.stats, []);
    let all = world
        .runtime
        .list_pod_sandbox_stats(v1::ListPodSandboxStatsRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(all.stats.len(), 1);

    let descriptors = world
        .runtime
        .list_metric_descriptors(v1::ListMetricDescriptorsRequest {})
        .await
        .unwrap()
        .into_inner()
        .descriptors;
    let metrics = world
        .runtime
        .list_pod_sandbox_metrics(v1::ListPodSandboxMetricsRequest {})
        .await
        .unwrap()
        .into_inner()
        .pod_metrics;
    assert_eq!((metrics.len(), metrics[0].container_metrics.len()), (1, 1));
    for metric in metrics[0].metrics.iter().chain(&metrics[0].container_metrics[0].metrics) {
        let descriptor = descriptors.iter().find(|d| d.name == metric.name).unwrap();
        assert_eq!(descriptor.label_keys.len(), metric.label_values.len());
        let at = descriptor.label_keys.iter().position(|k| k == "pod").unwrap();
        assert_eq!(metric.label_values[at], "web");
    }
    // Who computes rates asks since when each counts: pods too.
    let (pod, container) = (&metrics[0].metrics, &metrics[0].container_metrics[0].metrics);
    let started = |all: &[v1::Metric]| {
        let found = all.iter().find(|m| m.name == "container_start_time_seconds");
        found.and_then(|m| m.value).map(|v| v.value)
    };
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    for all in [pod, container] {
        assert!(started(all).is_some_and(|at| at > 0 && at <= now), "{all:?}");
    }
    assert!(started(pod) <= started(container));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_change_in_place_and_show() {
    let mut world = World::new().await;
    let pod = world.pod("web").await;
    let container = world.start(&pod, "main", "sleep 1000").await;
    let limits = v1::LinuxContainerResources {
        memory_limit_in_bytes: 64 << 20,
        cpu_quota: 50_000,
        cpu_period: 100_000,
        ..Default::default()
    };
    let request = v1::UpdateContainerResourcesRequest {
        container_id: container.clone(),
        linux: Some(limits),
        ..Default::default()
    };
    world.runtime.update_container_resources(request).await.unwrap();
    let shown = world.container(&container).await.resources.unwrap().linux.unwrap();
    assert_eq!((shown.memory_limit_in_bytes, shown.cpu_quota), (64 << 20, 50_000));
    let limits = v1::LinuxContainerResources {
        memory_limit_in_bytes: 256 << 20,
        ..Default::default()
    };
    let request = v1::UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: pod.clone(),
        overhead: None,
        resources: Some(limits),
    };
    world.runtime.update_pod_sandbox_resources(request).await.unwrap();
    let bad = v1::LinuxContainerResources {
        cpu_shares: -1,
        ..Default::default()
    };
    let request = v1::UpdateContainerResourcesRequest {
        container_id: container,
        linux: Some(bad),
        ..Default::default()
    };
    assert_eq!(
        world.runtime.update_container_resources(request).await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verbose_answers_have_what_crictl_looks_for() {
    let mut world = World::new().await;
    let pod = world.pod("web").await;
    let container = world.start(&pod, "main", "sleep 1000").await;
    let request = v1::ContainerStatusRequest {
        container_id: container.clone(),
        verbose: true,
    };
    let info = world.runtime.container_status(request).await.unwrap().into_inner().info;
    let info: serde_json::Value = serde_json::from_str(&info["info"]).unwrap();
    assert!(
        info["pid"].as_i64().unwrap() > 1 && info["runtimeSpec"]["process"].is_object(),
        "{info}"
    );
    let request = v1::PodSandboxStatusRequest {
        pod_sandbox_id: pod,
        verbose: true,
    };
    let answer = world.runtime.pod_sandbox_status(request).await.unwrap().into_inner();
    let info: serde_json::Value = serde_json::from_str(&answer.info["info"]).unwrap();
    assert!(info["pid"].as_i64().unwrap() > 1, "{info}");
    assert_eq!((answer.containers_statuses.len(), answer.timestamp > 0), (1, true));
    let refused = world
        .runtime
        .checkpoint_container(v1::CheckpointContainerRequest {
            container_id: container,
            ..Default::default()
        })
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert!(refused.message().contains("crun"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_log_is_opened_anew() {
    let mut world = World::new().await;
    let pod = world.pod("web").await;
    let container = world.start(&pod, "main", "while :; do echo line; sleep 0.05; done").await;
    let path = std::path::PathBuf::from(world.container(&container).await.log_path);
    let begin = std::time::Instant::now();
    let rotated = path.with_extension("1");
    std::fs::rename(&path, &rotated).unwrap();
    world
        .runtime
        .reopen_container_log(v1::ReopenContainerLogRequest {
            container_id: container.clone(),
        })
        .await
        .unwrap();
    while std::fs::metadata(&path).map_or(0, |m| m.len()) == 0 {
        assert!(begin.elapsed() < common::PATIENCE, "nothing is written to the new log");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    world
        .runtime
        .stop_container(v1::StopContainerRequest {
            container_id: container.clone(),
            timeout: 0,
        })
        .await
        .unwrap();
    let why = world
        .runtime
        .reopen_container_log(v1::ReopenContainerLogRequest { container_id: container })
        .await
        .unwrap_err();
    assert!(why.message().contains("not running"), "{}", why.message());
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Kind, stream and first byte of the payload of the frames that come until both streams have ended.
fn answers(socket: &mut std::os::unix::net::UnixStream) -> Vec<(u8, u8, u8)> {
    use std::io::Read;
    let (mut all, mut ended) = (vec![], 0);
    while ended < 2 {
        let mut head = [0; 9];
        socket.read_exact(&mut head).unwrap();
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        socket.read_exact(&mut payload).unwrap();
        let (kind, flags, stream) = (head[3], head[4], head[8]);
        // Fields with the flag of a stream's end, or a stream that is reset.
        ended += u8::from(stream > 0 && (kind == 3 || kind < 2 && flags & 1 != 0));
        all.push((kind, stream, payload.first().copied().unwrap_or(0)));
    }
    all
}

/// As gRPC's C core, grpc-java and kubelets before 1.31 do: first in full, and then by the index that this has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_may_name_the_sockets_path_as_its_authority() {
    use std::io::Write;
    let mut world = World::new().await;
    let text = |prefix: &[u8], text: &[u8]| [prefix, &[u8::try_from(text.len()).unwrap()], text].concat();
    for authority in [
        text(b"\x40\x0a:authority", b"run%2Fcofferdam%2Fcri.sock"),
        text(b"\x41", b"/run/cofferdam/cri.sock"),
    ] {
        let fields = [
            b"\x83\x86".to_vec(),
            text(b"\x44", b"/runtime.v1.RuntimeService/Version"),
            authority,
            text(b"\x40\x02te", b"trailers"),
            text(b"\x5f", b"application/grpc"),
        ]
        .concat();
        let again = b"\x83\x86\xc1\xc0\xbf\xbe";
        let mut socket = std::os::unix::net::UnixStream::connect(world.dir.join("cri.sock")).unwrap();
        socket.set_read_timeout(Some(common::PATIENCE)).unwrap();
        let sent = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(4, 0, 0, b""),
            frame(1, 4, 1, &fields),
            frame(0, 1, 1, &[0; 5]),
            frame(1, 4, 3, again),
            frame(0, 1, 3, &[0; 5]),
        ];
        socket.write_all(&sent.concat()).unwrap();
        let got = answers(&mut socket);
        for stream in [1, 3] {
            // 0x88 is `:status: 200`.
            assert!(got.contains(&(1, stream, 0x88)), "stream {stream}: {got:02x?}");
        }
    }
    world.end();
}

/// Who waits no longer leaves; who waits still is answered, and never told that he had left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callers_time_is_the_callers_to_keep() {
    use std::io::Write;
    let mut world = World::new().await;
    let text = |prefix: &[u8], text: &[u8]| [prefix, &[u8::try_from(text.len()).unwrap()], text].concat();
    let fields = [
        b"\x83\x86".to_vec(),
        text(b"\x44", b"/runtime.v1.RuntimeService/Version"),
        text(b"\x41", b"localhost"),
        text(b"\x40\x02te", b"trailers"),
        text(b"\x5f", b"application/grpc"),
        text(b"\x40\x0cgrpc-timeout", b"1n"),
    ]
    .concat();
    let mut socket = std::os::unix::net::UnixStream::connect(world.dir.join("cri.sock")).unwrap();
    socket.set_read_timeout(Some(common::PATIENCE)).unwrap();
    let sent = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, b""),
        frame(1, 4, 1, &fields),
        frame(0, 1, 1, &[0; 5]),
        // Its answer is waited for too.
        frame(1, 4, 3, b"\x83\x86\xc2\xc1\xc0\xbf"),
        frame(0, 1, 3, &[0; 5]),
    ];
    socket.write_all(&sent.concat()).unwrap();
    let got = answers(&mut socket);
    // A message that is not compressed; an error alone has none.
    assert!(got.contains(&(0, 1, 0)), "{got:02x?}");
    world.end();
}
