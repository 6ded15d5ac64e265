//! A runtime that runs nothing: what a bench asks of it, and where it is told to fail.

use cofferdam_cri_api::v1;
use cofferdam_cri_api::v1::image_service_server::{ImageService, ImageServiceServer};
use cofferdam_cri_api::v1::runtime_service_server::{RuntimeService, RuntimeServiceServer};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

/// What it holds.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Labels of its pods.
    pub(super) pods: BTreeMap<String, BTreeMap<String, String>>,
    /// Containers and their pods.
    pub(super) containers: BTreeMap<String, String>,
    pub(super) images: BTreeSet<String>,
    /// The verb that fails from this call on, and how many times.
    pub(super) failing: Option<(&'static str, usize, usize)>,
    /// Set by the first call of this verb.
    pub(super) stopping: Option<(&'static str, Arc<AtomicBool>)>,
    calls: BTreeMap<&'static str, usize>,
    made: usize,
}

/// A runtime on a socket in a folder of its own.
#[derive(Clone, Default)]
pub(super) struct Fake(pub(super) Arc<Mutex<State>>);

impl Fake {
    /// Serves; the folder keeps the socket.
    pub(super) fn serve() -> (Self, PathBuf, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("cri.sock");
        let fake = Self::default();
        let listener = UnixListener::bind(&socket).unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(RuntimeServiceServer::new(fake.clone()))
            .add_service(ImageServiceServer::new(fake.clone()));
        tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
        (fake, socket, dir)
    }

    fn did<T>(&self, verb: &'static str, does: impl FnOnce(&mut State) -> T) -> Result<Response<T>, Status> {
        let mut state = self.0.lock().unwrap();
        let calls = state.calls.entry(verb).or_default();
        *calls += 1;
        let calls = *calls;
        if let Some((_, flag)) = state.stopping.as_ref().filter(|(wanted, _)| *wanted == verb) {
            flag.store(true, Ordering::Relaxed);
        }
        match state.failing {
            Some((failing, first, times)) if failing == verb && (first..first + times).contains(&calls) => Err(Status::unknown("as told")),
            _ => Ok(Response::new(does(&mut state))),
        }
    }
}

fn info() -> BTreeMap<String, String> {
    [("info".to_owned(), r#"{"stages": [{"name": "network", "micros": 1500}]}"#.to_owned())].into()
}

macro_rules! runtime {
    ($($name:ident $request:ident $answer:ident,)* ; $($stream:ident $srequest:ident $kind:ident $sanswer:ident,)*) => {
        #[tonic::async_trait]
        impl RuntimeService for Fake {
            async fn version(&self, _: Request<v1::VersionRequest>) -> Result<Response<v1::VersionResponse>, Status> {
                self.did("Version", |_| v1::VersionResponse { runtime_name: "fake".into(), runtime_version: "v1".into(), ..Default::default() })
            }
            async fn run_pod_sandbox(&self, r: Request<v1::RunPodSandboxRequest>) -> Result<Response<v1::RunPodSandboxResponse>, Status> {
                self.did("RunPodSandbox", |s| {
                    s.made += 1;
                    let pod_sandbox_id = format!("pod-{}", s.made);
                    s.pods.insert(pod_sandbox_id.clone(), r.into_inner().config.unwrap().labels);
                    v1::RunPodSandboxResponse { pod_sandbox_id }
                })
            }
            async fn stop_pod_sandbox(&self, _: Request<v1::StopPodSandboxRequest>) -> Result<Response<v1::StopPodSandboxResponse>, Status> {
                self.did("StopPodSandbox", |_| v1::StopPodSandboxResponse {})
            }
            async fn remove_pod_sandbox(&self, r: Request<v1::RemovePodSandboxRequest>) -> Result<Response<v1::RemovePodSandboxResponse>, Status> {
                self.did("RemovePodSandbox", |s| {
                    let id = r.into_inner().pod_sandbox_id;
                    s.pods.remove(&id);
                    s.containers.retain(|_, pod| *pod != id);
                    v1::RemovePodSandboxResponse {}
                })
            }
            async fn pod_sandbox_status(&self, _: Request<v1::PodSandboxStatusRequest>) -> Result<Response<v1::PodSandboxStatusResponse>, Status> {
                self.did("PodSandboxStatus", |_| v1::PodSandboxStatusResponse { info: info(), ..Default::default() })
            }
            // As one that knows no filter.
            async fn list_pod_sandbox(&self, _: Request<v1::ListPodSandboxRequest>) -> Result<Response<v1::ListPodSandboxResponse>, Status> {
                self.did("ListPodSandbox", |s| {
                    let pod = |(id, labels): (&String, &BTreeMap<String, String>)| v1::PodSandbox { id: id.clone(), labels: labels.clone(), ..Default::default() };
                    v1::ListPodSandboxResponse { items: s.pods.iter().map(pod).collect() }
                })
            }
            async fn create_container(&self, r: Request<v1::CreateContainerRequest>) -> Result<Response<v1::CreateContainerResponse>, Status> {
                self.did("CreateContainer", |s| {
                    let pod = r.into_inner().pod_sandbox_id;
                    let container_id = format!("container-of-{pod}");
                    s.containers.insert(container_id.clone(), pod);
                    v1::CreateContainerResponse { container_id }
                })
            }
            async fn start_container(&self, _: Request<v1::StartContainerRequest>) -> Result<Response<v1::StartContainerResponse>, Status> {
                self.did("StartContainer", |_| v1::StartContainerResponse {})
            }
            async fn stop_container(&self, _: Request<v1::StopContainerRequest>) -> Result<Response<v1::StopContainerResponse>, Status> {
                self.did("StopContainer", |_| v1::StopContainerResponse {})
            }
            async fn remove_container(&self, r: Request<v1::RemoveContainerRequest>) -> Result<Response<v1::RemoveContainerResponse>, Status> {
                self.did("RemoveContainer", |s| {
                    s.containers.remove(&r.into_inner().container_id);
                    v1::RemoveContainerResponse {}
                })
            }
            async fn container_status(&self, _: Request<v1::ContainerStatusRequest>) -> Result<Response<v1::ContainerStatusResponse>, Status> {
                self.did("ContainerStatus", |_| v1::ContainerStatusResponse::default())
            }
            async fn exec_sync(&self, _: Request<v1::ExecSyncRequest>) -> Result<Response<v1::ExecSyncResponse>, Status> {
                self.did("ExecSync", |_| v1::ExecSyncResponse::default())
            }
            $(async fn $name(&self, _: Request<v1::$request>) -> Result<Response<v1::$answer>, Status> {
                Err(Status::unimplemented("no bench asks this"))
            })*
            $(type $kind = tonic::codegen::BoxStream<v1::$sanswer>;
            async fn $stream(&self, _: Request<v1::$srequest>) -> Result<Response<Self::$kind>, Status> {
                Err(Status::unimplemented("no bench asks this"))
            })*
        }
    };
}

runtime! {
    status StatusRequest StatusResponse,
    runtime_config RuntimeConfigRequest RuntimeConfigResponse,
    update_runtime_config UpdateRuntimeConfigRequest UpdateRuntimeConfigResponse,
    update_pod_sandbox_resources UpdatePodSandboxResourcesRequest UpdatePodSandboxResourcesResponse,
    update_container_resources UpdateContainerResourcesRequest UpdateContainerResourcesResponse,
    list_containers ListContainersRequest ListContainersResponse,
    reopen_container_log ReopenContainerLogRequest ReopenContainerLogResponse,
    exec ExecRequest ExecResponse,
    attach AttachRequest AttachResponse,
    port_forward PortForwardRequest PortForwardResponse,
    container_stats ContainerStatsRequest ContainerStatsResponse,
    list_container_stats ListContainerStatsRequest ListContainerStatsResponse,
    pod_sandbox_stats PodSandboxStatsRequest PodSandboxStatsResponse,
    list_pod_sandbox_stats ListPodSandboxStatsRequest ListPodSandboxStatsResponse,
    list_metric_descriptors ListMetricDescriptorsRequest ListMetricDescriptorsResponse,
    list_pod_sandbox_metrics ListPodSandboxMetricsRequest ListPodSandboxMetricsResponse,
    checkpoint_container CheckpointContainerRequest CheckpointContainerResponse,
    checkpoint_pod CheckpointPodRequest CheckpointPodResponse,
    restore_pod RestorePodRequest RestorePodResponse,
    ;
    stream_pod_sandboxes StreamPodSandboxesRequest StreamPodSandboxesStream StreamPodSandboxesResponse,
    stream_containers StreamContainersRequest StreamContainersStream StreamContainersResponse,
    stream_container_stats StreamContainerStatsRequest StreamContainerStatsStream StreamContainerStatsResponse,
    stream_pod_sandbox_stats StreamPodSandboxStatsRequest StreamPodSandboxStatsStream StreamPodSandboxStatsResponse,
    stream_pod_sandbox_metrics StreamPodSandboxMetricsRequest StreamPodSandboxMetricsStream StreamPodSandboxMetricsResponse,
    get_container_events GetEventsRequest GetContainerEventsStream ContainerEventResponse,
}

#[tonic::async_trait]
impl ImageService for Fake {
    type StreamImagesStream = tonic::codegen::BoxStream<v1::StreamImagesResponse>;

    async fn image_status(&self, r: Request<v1::ImageStatusRequest>) -> Result<Response<v1::ImageStatusResponse>, Status> {
        self.did("ImageStatus", |s| {
            let name = r.into_inner().image.unwrap().image;
            let image = s.images.contains(&name).then(|| v1::Image {
                id: name,
                ..Default::default()
            });
            v1::ImageStatusResponse {
                image,
                ..Default::default()
            }
        })
    }
    async fn pull_image(&self, r: Request<v1::PullImageRequest>) -> Result<Response<v1::PullImageResponse>, Status> {
        self.did("PullImage", |s| {
            let image_ref = r.into_inner().image.unwrap().image;
            s.images.insert(image_ref.clone());
            v1::PullImageResponse { image_ref }
        })
    }
    async fn list_images(&self, _: Request<v1::ListImagesRequest>) -> Result<Response<v1::ListImagesResponse>, Status> {
        Err(Status::unimplemented("no bench asks this"))
    }
    async fn stream_images(&self, _: Request<v1::StreamImagesRequest>) -> Result<Response<Self::StreamImagesStream>, Status> {
        Err(Status::unimplemented("no bench asks this"))
    }
    async fn image_fs_info(&self, _: Request<v1::ImageFsInfoRequest>) -> Result<Response<v1::ImageFsInfoResponse>, Status> {
        Err(Status::unimplemented("no bench asks this"))
    }
    async fn remove_image(&self, _: Request<v1::RemoveImageRequest>) -> Result<Response<v1::RemoveImageResponse>, Status> {
        Err(Status::unimplemented("no bench asks this"))
    }
}
