//! Verbs on pod sandboxes.

use crate::convert::{filter, sandbox as convert, status};
use crate::core::{Core, Note};
use crate::error::{self, absent_is_done};
use crate::hooks::Moment;
use crate::names::{self, Claim, Standing};
use crate::verbose;
use cofferdam_cri_api::v1::{self, ContainerEventType};
use cofferdam_model::PodId;
use cofferdam_model::cri::{Error, SandboxState, SandboxStatus};
use tonic::Status;

impl Core {
    pub(crate) fn run_pod_sandbox(&self, request: v1::RunPodSandboxRequest, note: &mut Note) -> Result<v1::RunPodSandboxResponse, Status> {
        note.handler.clone_from(&request.runtime_handler);
        let wire = request.config.ok_or_else(|| Status::invalid_argument("config: it is missing"))?;
        let config = convert::sandbox(&wire, &crate::host_name())?;
        note.asked_for(&config);
        let name = names::sandbox(&config);
        let handler = self
            .engine
            .table()
            .resolve(&request.runtime_handler)
            .map(|(name, _)| name.to_owned());
        let asked = self.asked_sandbox(&config, handler.as_ref().unwrap_or(&request.runtime_handler));
        let claim = self.names.claim(&name, asked, &note.left, |id| self.standing_of_pod(id));
        let reservation = match claim.map_err(|why| Status::unknown(format!("failed to reserve sandbox name {name:?}: {why}")))? {
            Claim::Made(pod_sandbox_id) => {
                note.pod.clone_from(&pod_sandbox_id);
                return Ok(v1::RunPodSandboxResponse { pod_sandbox_id });
            }
            Claim::Make(reservation) => reservation,
        };
        if !config.log_directory.as_os_str().is_empty() {
            let made = std::fs::create_dir_all(&config.log_directory);
            made.map_err(|e| {
                Status::unknown(format!(
                    "failed to create sandbox log directory {}: {e}",
                    config.log_directory.display()
                ))
            })?;
        }
        let _held = self.hooks.hold();
        let id = self
            .engine
            .run_sandbox_timed(&config, &request.runtime_handler, &mut note.stages)
            .map_err(error::status)?;
        note.pod = id.to_string();
        if let Ok(made) = self.engine.sandbox_status(&id) {
            note.handler.clone_from(&made.handler);
            note.stages.clone_from(&made.stages);
            if let Err(why) = note.timed("plugins", self.hooks.wants_lifecycle(), || {
                self.hooks.lifecycle(Moment::SandboxMade(&made))
            }) {
                return Err(error::undone(why, self.engine.remove_sandbox(&id)));
            }
        }
        reservation.keep(id.as_str());
        self.tell_pod(&id, ContainerEventType::ContainerCreatedEvent);
        self.tell_pod(&id, ContainerEventType::ContainerStartedEvent);
        Ok(v1::RunPodSandboxResponse {
            pod_sandbox_id: id.to_string(),
        })
    }

    pub(crate) fn stop_pod_sandbox(
        &self,
        request: v1::StopPodSandboxRequest,
        note: &mut Note,
    ) -> Result<v1::StopPodSandboxResponse, Status> {
        let done = v1::StopPodSandboxResponse {};
        let Some(id) = self.find_pod(&request.pod_sandbox_id)? else {
            return Ok(done);
        };
        let Some(before) = self.known_pod(&id, note)? else {
            return Ok(done);
        };
        absent_is_done(self.engine.stop_sandbox(&id))?;
        self.tell_ended(&id, |_| true);
        // A second stop has nothing to tell.
        if before.state == SandboxState::Ready {
            self.tell_hooks(Moment::SandboxStopped(&before));
            self.tell_stopped(&id);
        }
        Ok(done)
    }

    pub(crate) fn remove_pod_sandbox(
        &self,
        request: v1::RemovePodSandboxRequest,
        note: &mut Note,
    ) -> Result<v1::RemovePodSandboxResponse, Status> {
        let done = v1::RemovePodSandboxResponse {};
        let Some(id) = self.find_pod(&request.pod_sandbox_id)? else {
            return Ok(done);
        };
        let _held = self.hooks.hold();
        let before = self.known_pod(&id, note)?;
        if before.is_none() && self.engine.sandbox_status(&id).is_ok() {
            // It was not made over CRI.
            return Ok(done);
        }
        // How its containers end cannot be told when they are gone.
        if before.as_ref().is_some_and(|pod| pod.state == SandboxState::Ready) {
            absent_is_done(self.engine.stop_sandbox(&id))?;
        }
        self.tell_ended(&id, |_| true);
        let containers = self.engine.list_containers(Some(&id)).unwrap_or_default();
        let before = before.map(|pod| SandboxStatus {
            state: SandboxState::NotReady,
            ..pod
        });
        if let Some(pod) = &before {
            for container in &containers {
                self.tell_removing(container.id.as_str(), Moment::ContainerRemoved(pod, container));
            }
            self.tell_removing(id.as_str(), Moment::SandboxRemoved(pod));
        }
        // A sandbox whose record cannot be read is removed all the same.
        absent_is_done(self.engine.remove_sandbox(&id))?;
        let last = before.as_ref().map(status::sandbox);
        for container in &containers {
            self.forget_told(&container.id);
            self.rates.forget(container.id.as_str());
            if self.names.forget(container.id.as_str()) {
                self.tell_gone(container.id.as_str(), last.clone());
            }
        }
        self.rates.forget(id.as_str());
        self.forget_stopped(&id);
        if self.names.forget(id.as_str()) && last.is_some() {
            self.tell_gone(id.as_str(), last);
        }
        Ok(done)
    }

    pub(crate) fn pod_sandbox_status(
        &self,
        request: v1::PodSandboxStatusRequest,
        note: &mut Note,
    ) -> Result<v1::PodSandboxStatusResponse, Status> {
        let found = self.named_pod(&request.pod_sandbox_id, error::SANDBOX, note)?;
        if self.being_made(&found) {
            return Err(error::absent(error::SANDBOX, &request.pod_sandbox_id));
        }
        let timestamp = crate::now();
        let containers = self.engine.list_containers(Some(&found.id)).map_err(error::status)?;
        Ok(v1::PodSandboxStatusResponse {
            status: Some(status::sandbox(&found)),
            info: if request.verbose {
                verbose::sandbox(self, &found)
            } else {
                Default::default()
            },
            containers_statuses: containers.iter().map(|c| self.container_on_wire(c, &found.config)).collect(),
            timestamp,
        })
    }

    pub(crate) fn list_pod_sandbox(&self, wanted: Option<v1::PodSandboxFilter>) -> Result<Vec<v1::PodSandbox>, Status> {
        let wanted = wanted.unwrap_or_default();
        let all = self.pods().map_err(error::status)?;
        Ok(all
            .into_iter()
            .filter(|pod| filter::sandbox(&wanted, pod) && !self.being_made(pod))
            .map(status::listed_sandbox)
            .collect())
    }

    pub(crate) fn update_pod_sandbox_resources(
        &self,
        request: v1::UpdatePodSandboxResourcesRequest,
        note: &mut Note,
    ) -> Result<v1::UpdatePodSandboxResourcesResponse, Status> {
        // `sandbox_update_resources.go`.
        let found = self.named_pod(&request.pod_sandbox_id, |id| format!("failed to find sandbox {id:?}"), note)?;
        let id = found.id.clone();
        let parent = &found.config.cgroup_parent;
        let (overhead, resources) = convert::pod_limits(parent, "request", request.overhead.as_ref(), request.resources.as_ref())?;
        self.hooks
            .lifecycle(Moment::SandboxUpdating(&found, &overhead, &resources))
            .map_err(error::status)?;
        self.engine.update_sandbox(&id, &overhead, &resources).map_err(error::status)?;
        if self.hooks.wants_lifecycle()
            && let Ok(changed) = self.pod_status(&id)
        {
            self.tell_hooks(Moment::SandboxUpdated(&changed));
        }
        Ok(v1::UpdatePodSandboxResourcesResponse {})
    }

    /// A sandbox that is up and in which nothing is may have an id that nobody knows.
    fn standing_of_pod(&self, id: &str) -> Standing {
        let Ok(id) = PodId::new(id) else { return Standing::Gone };
        match self.pod_status(&id) {
            Err(Error::NotFound(_)) => Standing::Gone,
            Ok(pod) if pod.state == SandboxState::Ready && self.engine.list_containers(Some(&id)).is_ok_and(|all| all.is_empty()) => {
                Standing::Untouched
            }
            _ => Standing::Used,
        }
    }

    /// Whether a sandbox is still to be seen by plugins, who may refuse it.
    pub(crate) fn being_made(&self, pod: &SandboxStatus) -> bool {
        self.names.is_being_made(&names::sandbox(&pod.config))
    }

    /// The sandbox, `None` where it is gone; what is known of it is noted.
    fn known_pod(&self, id: &PodId, note: &mut Note) -> Result<Option<SandboxStatus>, Status> {
        match self.pod_status(id) {
            Ok(found) => {
                note.about(&found);
                Ok(Some(found))
            }
            Err(Error::NotFound(_)) => Ok(None),
            Err(other) => Err(error::status(other)),
        }
    }
}
