//! Both services: one line a verb.

use crate::core::{Core, Pace::{self, Quick}};
use crate::{metrics, runtime};
use cofferdam_cri_api::v1::image_service_server::ImageService;
use cofferdam_cri_api::v1::runtime_service_server::RuntimeService;
use cofferdam_cri_api::v1::*;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_stream::wrappers::{BroadcastStream, ReceiverStream};
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

/// Things in one message of a streamed list.
const BATCH: usize = 256;

/// The services, as tonic wants them.
#[derive(Clone)]
pub(crate) struct Service(pub(crate) Arc<Core>);

type Answer<T> = Result<Response<T>, Status>;

/// Where the caller's trace stands.
pub(crate) fn traceparent<Q>(request: &Request<Q>) -> Option<&str> {
    request.metadata().get("traceparent").and_then(|value| value.to_str().ok())
}

/// A list in pieces, so that no message is too long. `wrap` makes a message of a piece.
fn pieces<T: Send + 'static, M: Send + 'static>(all: Vec<T>, wrap: fn(Vec<T>) -> M) -> BoxStream<M> {
    let mut rest = all.into_iter();
    let pieces = std::iter::from_fn(move || {
        let piece: Vec<T> = rest.by_ref().take(BATCH).collect();
        (!piece.is_empty()).then(|| Ok(wrap(piece)))
    });
    Box::pin(tokio_stream::iter(pieces))
}

#[tonic::async_trait]
impl RuntimeService for Service {
    type StreamPodSandboxesStream = BoxStream<StreamPodSandboxesResponse>;
    type StreamContainersStream = BoxStream<StreamContainersResponse>;
    type StreamContainerStatsStream = BoxStream<StreamContainerStatsResponse>;
    type StreamPodSandboxStatsStream = BoxStream<StreamPodSandboxStatsResponse>;
    type StreamPodSandboxMetricsStream = BoxStream<StreamPodSandboxMetricsResponse>;
    type GetContainerEventsStream = BoxStream<ContainerEventResponse>;

    async fn version(&self, r: Request<VersionRequest>) -> Answer<VersionResponse> {
        self.0.call("Version", Quick, r, |_, _, _| Ok(runtime::version())).await
    }
    async fn status(&self, r: Request<StatusRequest>) -> Answer<StatusResponse> {
        self.0.call("Status", Quick, r, |core, r, _| core.status(r)).await
    }
    async fn runtime_config(&self, r: Request<RuntimeConfigRequest>) -> Answer<RuntimeConfigResponse> {
        self.0.call("RuntimeConfig", Quick, r, |core, _, _| Ok(core.runtime_config())).await
    }
    async fn update_runtime_config(&self, r: Request<UpdateRuntimeConfigRequest>) -> Answer<UpdateRuntimeConfigResponse> {
        self.0
            .call("UpdateRuntimeConfig", Quick, r, |core, r, _| Ok(core.update_runtime_config(r)))
            .await
    }

    async fn run_pod_sandbox(&self, r: Request<RunPodSandboxRequest>) -> Answer<RunPodSandboxResponse> {
        self.0.call("RunPodSandbox", Quick, r, Core::run_pod_sandbox).await
    }
    async fn stop_pod_sandbox(&self, r: Request<StopPodSandboxRequest>) -> Answer<StopPodSandboxResponse> {
        self.0.call("StopPodSandbox", Quick, r, Core::stop_pod_sandbox).await
    }
    async fn remove_pod_sandbox(&self, r: Request<RemovePodSandboxRequest>) -> Answer<RemovePodSandboxResponse> {
        self.0.call("RemovePodSandbox", Quick, r, Core::remove_pod_sandbox).await
    }
    async fn pod_sandbox_status(&self, r: Request<PodSandboxStatusRequest>) -> Answer<PodSandboxStatusResponse> {
        self.0.call("PodSandboxStatus", Quick, r, Core::pod_sandbox_status).await
    }
    async fn list_pod_sandbox(&self, r: Request<ListPodSandboxRequest>) -> Answer<ListPodSandboxResponse> {
        self.0
            .call("ListPodSandbox", Quick, r, |core, r, _| {
                Ok(ListPodSandboxResponse {
                    items: core.list_pod_sandbox(r.filter)?,
                })
            })
            .await
    }
    async fn stream_pod_sandboxes(&self, r: Request<StreamPodSandboxesRequest>) -> Answer<Self::StreamPodSandboxesStream> {
        let wrap = |pod_sandboxes| StreamPodSandboxesResponse { pod_sandboxes };
        self.0
            .call("StreamPodSandboxes", Quick, r, move |core, r, _| {
                Ok(pieces(core.list_pod_sandbox(r.filter)?, wrap))
            })
            .await
    }
    async fn update_pod_sandbox_resources(
        &self,
        r: Request<UpdatePodSandboxResourcesRequest>,
    ) -> Answer<UpdatePodSandboxResourcesResponse> {
        self.0
            .call("UpdatePodSandboxResources", Quick, r, Core::update_pod_sandbox_resources)
            .await
    }

    async fn create_container(&self, r: Request<CreateContainerRequest>) -> Answer<CreateContainerResponse> {
        self.0.call("CreateContainer", Quick, r, Core::create_container).await
    }
    async fn start_container(&self, r: Request<StartContainerRequest>) -> Answer<StartContainerResponse> {
        self.0.call("StartContainer", Quick, r, Core::start_container).await
    }
    async fn stop_container(&self, r: Request<StopContainerRequest>) -> Answer<StopContainerResponse> {
        let pace = Pace::Stop(r.get_ref().container_id.clone());
        self.0.call("StopContainer", pace, r, Core::stop_container).await
    }
    async fn remove_container(&self, r: Request<RemoveContainerRequest>) -> Answer<RemoveContainerResponse> {
        self.0.call("RemoveContainer", Quick, r, Core::remove_container).await
    }
    async fn container_status(&self, r: Request<ContainerStatusRequest>) -> Answer<ContainerStatusResponse> {
        self.0.call("ContainerStatus", Quick, r, Core::container_status).await
    }
    async fn list_containers(&self, r: Request<ListContainersRequest>) -> Answer<ListContainersResponse> {
        self.0
            .call("ListContainers", Quick, r, |core, r, _| {
                Ok(ListContainersResponse {
                    containers: core.list_containers(r.filter)?,
                })
            })
            .await
    }
    async fn stream_containers(&self, r: Request<StreamContainersRequest>) -> Answer<Self::StreamContainersStream> {
        let wrap = |containers| StreamContainersResponse { containers };
        self.0
            .call("StreamContainers", Quick, r, move |core, r, _| {
                Ok(pieces(core.list_containers(r.filter)?, wrap))
            })
            .await
    }
    async fn update_container_resources(&self, r: Request<UpdateContainerResourcesRequest>) -> Answer<UpdateContainerResourcesResponse> {
        self.0
            .call("UpdateContainerResources", Quick, r, Core::update_container_resources)
            .await
    }
    async fn reopen_container_log(&self, r: Request<ReopenContainerLogRequest>) -> Answer<ReopenContainerLogResponse> {
        self.0.call("ReopenContainerLog", Quick, r, Core::reopen_container_log).await
    }

    async fn exec_sync(&self, r: Request<ExecSyncRequest>) -> Answer<ExecSyncResponse> {
        let pace = Pace::Command(r.get_ref().container_id.clone());
        self.0.call("ExecSync", pace, r, Core::exec_sync).await
    }
    async fn exec(&self, r: Request<ExecRequest>) -> Answer<ExecResponse> {
        self.0.call("Exec", Quick, r, Core::exec).await
    }
    async fn attach(&self, r: Request<AttachRequest>) -> Answer<AttachResponse> {
        self.0.call("Attach", Quick, r, Core::attach).await
    }
    async fn port_forward(&self, r: Request<PortForwardRequest>) -> Answer<PortForwardResponse> {
        self.0.call("PortForward", Quick, r, Core::port_forward).await
    }

    async fn container_stats(&self, r: Request<ContainerStatsRequest>) -> Answer<ContainerStatsResponse> {
        self.0.call("ContainerStats", Quick, r, Core::one_container_stats).await
    }
    async fn list_container_stats(&self, r: Request<ListContainerStatsRequest>) -> Answer<ListContainerStatsResponse> {
        self.0
            .call("ListContainerStats", Quick, r, |core, r, _| {
                Ok(ListContainerStatsResponse {
                    stats: core.list_container_stats(r.filter)?,
                })
            })
            .await
    }
    async fn stream_container_stats(&self, r: Request<StreamContainerStatsRequest>) -> Answer<Self::StreamContainerStatsStream> {
        let wrap = |container_stats| StreamContainerStatsResponse { container_stats };
        self.0
            .call("StreamContainerStats", Quick, r, move |core, r, _| {
                Ok(pieces(core.list_container_stats(r.filter)?, wrap))
            })
            .await
    }
    async fn pod_sandbox_stats(&self, r: Request<PodSandboxStatsRequest>) -> Answer<PodSandboxStatsResponse> {
        self.0.call("PodSandboxStats", Quick, r, Core::one_pod_stats).await
    }
    async fn list_pod_sandbox_stats(&self, r: Request<ListPodSandboxStatsRequest>) -> Answer<ListPodSandboxStatsResponse> {
        self.0
            .call("ListPodSandboxStats", Quick, r, |core, r, _| {
                Ok(ListPodSandboxStatsResponse {
                    stats: core.list_pod_sandbox_stats(r.filter)?,
                })
            })
            .await
    }
    async fn stream_pod_sandbox_stats(&self, r: Request<StreamPodSandboxStatsRequest>) -> Answer<Self::StreamPodSandboxStatsStream> {
        let wrap = |pod_sandbox_stats| StreamPodSandboxStatsResponse { pod_sandbox_stats };
        self.0
            .call("StreamPodSandboxStats", Quick, r, move |core, r, _| {
                Ok(pieces(core.list_pod_sandbox_stats(r.filter)?, wrap))
            })
            .await
    }
    async fn list_metric_descriptors(&self, r: Request<ListMetricDescriptorsRequest>) -> Answer<ListMetricDescriptorsResponse> {
        let all = |_: &Core, _, _: &mut _| {
            Ok(ListMetricDescriptorsResponse {
                descriptors: metrics::descriptors(),
            })
        };
        self.0.call("ListMetricDescriptors", Quick, r, all).await
    }
    async fn list_pod_sandbox_metrics(&self, r: Request<ListPodSandboxMetricsRequest>) -> Answer<ListPodSandboxMetricsResponse> {
        self.0
            .call("ListPodSandboxMetrics", Quick, r, |core, _, _| {
                Ok(ListPodSandboxMetricsResponse {
                    pod_metrics: core.pod_metrics()?,
                })
            })
            .await
    }
    async fn stream_pod_sandbox_metrics(&self, r: Request<StreamPodSandboxMetricsRequest>) -> Answer<Self::StreamPodSandboxMetricsStream> {
        let wrap = |pod_sandbox_metrics| StreamPodSandboxMetricsResponse { pod_sandbox_metrics };
        self.0
            .call("StreamPodSandboxMetrics", Quick, r, move |core, _, _| {
                Ok(pieces(core.pod_metrics()?, wrap))
            })
            .await
    }

    async fn get_container_events(&self, r: Request<GetEventsRequest>) -> Answer<Self::GetContainerEventsStream> {
        let core = self.0.clone();
        let listening = tokio::task::spawn_blocking(move || core.listen()).await;
        let listening = listening.map_err(|e| Status::internal(format!("GetContainerEvents broke off: {e}")))?;
        let mut call = self.0.telemetry.call("GetContainerEvents", "", traceparent(&r));
        call.expect_long();
        let mut ending = self.0.ending.subscribe();
        let (to_client, events) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut events = BroadcastStream::new(listening);
            loop {
                let event = tokio::select! {
                    event = events.next() => event,
                    _ = ending.wait_for(|ended| *ended) => None,
                    () = to_client.closed() => None,
                };
                // Who falls behind is told so, and looks at everything anew.
                let event = event.map(|event| {
                    event.map_err(|BroadcastStreamRecvError::Lagged(lost)| {
                        Status::aborted(format!("{lost} events were not taken in time; list and listen again"))
                    })
                });
                let Some(event) = event else { break };
                if to_client.send(event).await.is_err() {
                    break;
                }
            }
            // It ends with the stream: as its caller wishes.
            drop(call);
        });
        let events = ReceiverStream::new(events);
        Ok(Response::new(Box::pin(events)))
    }

    async fn checkpoint_container(&self, r: Request<CheckpointContainerRequest>) -> Answer<CheckpointContainerResponse> {
        self.0.call("CheckpointContainer", Quick, r, Core::checkpoint_container).await
    }
    async fn checkpoint_pod(&self, r: Request<CheckpointPodRequest>) -> Answer<CheckpointPodResponse> {
        let refused = |_: &Core, _, _: &mut _| Err(Status::unimplemented("no handler of this runtime can write a running pod down"));
        self.0.call("CheckpointPod", Quick, r, refused).await
    }
    async fn restore_pod(&self, r: Request<RestorePodRequest>) -> Answer<RestorePodResponse> {
        let refused = |_: &Core, _, _: &mut _| Err(Status::unimplemented("no handler of this runtime can bring a written pod back"));
        self.0.call("RestorePod", Quick, r, refused).await
    }
}

#[tonic::async_trait]
impl ImageService for Service {
    type StreamImagesStream = BoxStream<StreamImagesResponse>;

    async fn list_images(&self, r: Request<ListImagesRequest>) -> Answer<ListImagesResponse> {
        self.0
            .call("ListImages", Quick, r, |core, r, _| {
                Ok(ListImagesResponse {
                    images: core.list_images(r.filter)?,
                })
            })
            .await
    }
    async fn stream_images(&self, r: Request<StreamImagesRequest>) -> Answer<Self::StreamImagesStream> {
        let wrap = |images| StreamImagesResponse { images };
        self.0
            .call("StreamImages", Quick, r, move |core, r, _| {
                Ok(pieces(core.list_images(r.filter)?, wrap))
            })
            .await
    }
    async fn image_status(&self, r: Request<ImageStatusRequest>) -> Answer<ImageStatusResponse> {
        self.0.call("ImageStatus", Quick, r, |core, r, _| core.image_status(r)).await
    }
    async fn pull_image(&self, r: Request<PullImageRequest>) -> Answer<PullImageResponse> {
        self.0.call("PullImage", Pace::Pull, r, Core::pull_image).await
    }
    async fn remove_image(&self, r: Request<RemoveImageRequest>) -> Answer<RemoveImageResponse> {
        self.0.call("RemoveImage", Quick, r, |core, r, _| core.remove_image(r)).await
    }
    async fn image_fs_info(&self, r: Request<ImageFsInfoRequest>) -> Answer<ImageFsInfoResponse> {
        self.0.call("ImageFsInfo", Quick, r, |core, _, _| core.image_fs_info()).await
    }
}
