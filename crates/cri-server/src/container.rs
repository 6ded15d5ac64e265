//! Verbs on containers.

use crate::convert::mount::Machine;
use crate::convert::{container as convert, filter, resources, status};
use crate::core::{Core, Note};
use crate::error::{self, absent_is_done};
use crate::exec::is_in;
use crate::hooks::Moment;
use crate::names::{self, Claim, Standing};
use crate::{sources, verbose};
use cofferdam_cri_api::v1::{self, ContainerEventType};
use cofferdam_model::ContainerId;
use cofferdam_model::cri::{ContainerConfig, ContainerState, ContainerStatus, Error, SandboxConfig, SandboxState, SandboxStatus};
use cofferdam_telemetry::attribute;
use std::path::Path;
use std::time::Duration;
use tonic::Status;

impl Core {
    pub(crate) fn create_container(
        &self,
        request: v1::CreateContainerRequest,
        note: &mut Note,
    ) -> Result<v1::CreateContainerResponse, Status> {
        // The words are containerd's (`container_create.go`).
        let pod = self.named_pod(&request.pod_sandbox_id, |id| format!("failed to find sandbox id {id:?}"), note)?;
        let pod_id = pod.id.clone();
        // Before plugins hear of what cannot be.
        if self.being_made(&pod) || pod.state != SandboxState::Ready {
            let why = pod.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            return Err(Status::unknown(format!(
                "sandbox container {:?} is not running{why}",
                pod_id.as_str()
            )));
        }
        let wire = request.config.ok_or_else(|| Status::invalid_argument("config: it is missing"))?;
        let mut config = convert::container(&wire, &pod.config, machine())?;
        note.names(attribute::CONTAINER, &config.name);
        let name = names::container(&config.name, config.attempt, &pod_id, &pod.config);
        // As it is asked for: plugins may make another of it.
        let asked = self.asked_container(&config);
        let claim = self.names.claim(&name, asked, &note.left, |id| self.standing_of_container(id));
        let reservation = match claim.map_err(|why| Status::unknown(format!("failed to reserve container name {name:?}: {why}")))? {
            Claim::Made(container_id) => {
                note.container.clone_from(&container_id);
                return Ok(v1::CreateContainerResponse { container_id });
            }
            Claim::Make(reservation) => reservation,
        };
        let random = cofferdam_host::ids::random_bytes().map_err(|e| Status::unknown(e.to_string()))?;
        let id = ContainerId::within(&pod_id, random);
        let _held = self.hooks.hold();
        self.hooks.creating(&pod, &id, &mut config).map_err(error::status)?;
        // An end that comes at once, with its pod's, is told after this.
        let beginning = self.beginning(&id);
        // Plugins that counted with it are told that it did not come to be.
        self.make_container(&pod, &config, &id, note)
            .inspect_err(|_| self.hooks.undone(&pod, &id, &config))?;
        reservation.keep(id.as_str());
        self.tell_container(&id, ContainerEventType::ContainerCreatedEvent);
        drop(beginning);
        Ok(v1::CreateContainerResponse {
            container_id: id.to_string(),
        })
    }

    /// Makes a container of a request that plugins have seen.
    fn make_container(&self, pod: &SandboxStatus, config: &ContainerConfig, id: &ContainerId, note: &mut Note) -> Result<(), Status> {
        sources::make(config)?;
        sources::check(config)?;
        make_log_directory(config, &pod.config)?;
        let made = self.engine.create_container_as(&pod.id, config, id.clone(), &mut note.stages);
        note.container = made.map_err(error::status)?.to_string();
        if let Ok(made) = self.engine.container_status(id) {
            if let Err(why) = self.hooks.lifecycle(Moment::ContainerMade(pod, &made)) {
                return Err(error::undone(why, self.engine.remove_container(id)));
            }
            note.stages.clone_from(&made.stages);
        }
        Ok(())
    }

    pub(crate) fn start_container(
        &self,
        request: v1::StartContainerRequest,
        note: &mut Note,
    ) -> Result<v1::StartContainerResponse, Status> {
        let (pod, container) = self.named_container(&request.container_id, error::CONTAINER, note)?;
        let id = container.id.clone();
        // containerd's words (`container_start.go`).
        let forbidden = |why: String| Status::unknown(format!("failed to set starting state for container \"{id}\": {why}"));
        if container.state != ContainerState::Created {
            return Err(forbidden(is_in(container.state)));
        }
        if pod.state != SandboxState::Ready {
            return Err(Status::unknown(format!("sandbox container {:?} is not running", pod.id.as_str())));
        }
        let _held = self.hooks.hold();
        // An end that comes at once is told after the start.
        let beginning = self.beginning(&id);
        let started = self.hooks.lifecycle(Moment::ContainerStarting(&pod, &container));
        match started.and_then(|()| self.engine.start_container(&id)) {
            Ok(()) => {}
            // Another started it meanwhile.
            Err(Error::Precondition(why)) => return Err(forbidden(why)),
            Err(why) => {
                self.start_failed(&pod, &id);
                return Err(error::status(why));
            }
        }
        if let Ok(started) = self.engine.container_status(&id) {
            self.tell_hooks(Moment::ContainerStarted(&pod, &started));
            note.stages = started.stages.into_iter().filter(|s| s.name == "start").collect();
        }
        self.tell_container(&id, ContainerEventType::ContainerStartedEvent);
        drop(beginning);
        Ok(v1::StartContainerResponse {})
    }

    /// A start failed, of which plugins have heard: as upstream, they are told that it stopped.
    fn start_failed(&self, pod: &SandboxStatus, id: &ContainerId) {
        if self.hooks.wants_lifecycle()
            && let Ok(now) = self.engine.container_status(id)
        {
            self.tell_hooks(Moment::ContainerStopped(pod, &now));
        }
    }

    pub(crate) fn stop_container(&self, request: v1::StopContainerRequest, note: &mut Note) -> Result<v1::StopContainerResponse, Status> {
        let done = v1::StopContainerResponse {};
        let Some(id) = self.find_container(&request.container_id)? else {
            return Ok(done);
        };
        match self.named_container(id.as_str(), error::CONTAINER, note) {
            Err(status) if status.code() == tonic::Code::NotFound => return Ok(done),
            known => known?,
        };
        let grace = Duration::from_secs(request.timeout.try_into().unwrap_or(0));
        absent_is_done(self.engine.stop_container(&id, grace))?;
        // That it ended is told by the engine's event, as for one that ends by itself.
        Ok(done)
    }

    pub(crate) fn remove_container(
        &self,
        request: v1::RemoveContainerRequest,
        note: &mut Note,
    ) -> Result<v1::RemoveContainerResponse, Status> {
        let done = v1::RemoveContainerResponse {};
        let Some(id) = self.find_container(&request.container_id)? else {
            return Ok(done);
        };
        let _held = self.hooks.hold();
        let (pod, before) = match self.named_container(id.as_str(), error::CONTAINER, note) {
            Err(status) if status.code() == tonic::Code::NotFound => return Ok(done),
            known => known?,
        };
        if self.once_settled(&id).is_some_and(|now| now.state == ContainerState::Running) {
            absent_is_done(self.engine.stop_container(&id, Duration::ZERO))?;
        }
        self.tell_ended(&pod.id, |ended| *ended == id);
        let last = self.engine.container_status(&id).unwrap_or(before);
        self.tell_removing(id.as_str(), Moment::ContainerRemoved(&pod, &last));
        absent_is_done(self.engine.remove_container(&id))?;
        self.forget_told(&id);
        self.rates.forget(id.as_str());
        // Another may have removed it at the same time, and told.
        if self.names.forget(id.as_str()) {
            self.tell_removed(&id, &pod);
        }
        Ok(done)
    }

    pub(crate) fn container_status(
        &self,
        request: v1::ContainerStatusRequest,
        note: &mut Note,
    ) -> Result<v1::ContainerStatusResponse, Status> {
        let (pod, found) = self.named_container(&request.container_id, error::CONTAINER, note)?;
        Ok(v1::ContainerStatusResponse {
            status: Some(self.container_on_wire(&found, &pod.config)),
            info: if request.verbose {
                verbose::container(self, &pod, &found)
            } else {
                Default::default()
            },
        })
    }

    pub(crate) fn list_containers(&self, wanted: Option<v1::ContainerFilter>) -> Result<Vec<v1::Container>, Status> {
        let wanted = wanted.unwrap_or_default();
        let all = self.containers().map_err(error::status)?;
        Ok(all
            .into_iter()
            .filter(|c| filter::container(&wanted, c))
            .map(status::listed_container)
            .collect())
    }

    pub(crate) fn update_container_resources(
        &self,
        request: v1::UpdateContainerResourcesRequest,
        note: &mut Note,
    ) -> Result<v1::UpdateContainerResourcesResponse, Status> {
        // `container_update_resources.go`.
        let (pod, container) = self.named_container(&request.container_id, |id| format!("failed to find container {id:?}"), note)?;
        let id = container.id.clone();
        if request.windows.is_some() {
            return Err(Status::invalid_argument("windows: this runtime is for Linux"));
        }
        // What annotations mean is for plugins; none are kept.
        let wire = request.linux.unwrap_or_default();
        let mut change = resources::change("linux", &wire)?;
        if !matches!(container.state, ContainerState::Created | ContainerState::Running) {
            // What has ended has no limits any more: containerd takes them, and nothing comes of it.
            return Ok(v1::UpdateContainerResourcesResponse {});
        }
        let _held = self.hooks.hold();
        self.hooks.updating(&pod, &container, &mut change).map_err(error::status)?;
        let updated = self.engine.update_container(&id, &change);
        updated.map_err(|e| error::within("failed to update resources", e))?;
        if let Ok(changed) = self.engine.container_status(&id) {
            self.tell_hooks(Moment::ContainerUpdated(&pod, &changed));
        }
        Ok(v1::UpdateContainerResourcesResponse {})
    }

    pub(crate) fn reopen_container_log(
        &self,
        request: v1::ReopenContainerLogRequest,
        note: &mut Note,
    ) -> Result<v1::ReopenContainerLogResponse, Status> {
        let (_, container) = self.named_container(&request.container_id, error::CONTAINER, note)?;
        if container.state != ContainerState::Running {
            return Err(Status::unknown("container is not running"));
        }
        self.engine.reopen_log(&container.id).map_err(error::status)?;
        Ok(v1::ReopenContainerLogResponse {})
    }

    /// A container that was never started may have an id that nobody knows.
    fn standing_of_container(&self, id: &str) -> Standing {
        let Ok(id) = ContainerId::new(id) else { return Standing::Gone };
        match self.engine.container_status(&id) {
            Err(Error::NotFound(_)) => Standing::Gone,
            Ok(found) if found.state == ContainerState::Created => Standing::Untouched,
            _ => Standing::Used,
        }
    }

    /// A container as its status shows it, with what its image says.
    pub(crate) fn container_on_wire(&self, container: &ContainerStatus, pod: &SandboxConfig) -> v1::ContainerStatus {
        let image = self.engine.images().resolve(&container.image_id).ok();
        let user = image.as_ref().and_then(|image| self.user(container, image));
        let mut wire = status::container(container, pod, image.as_ref(), user);
        let mounted = wire.mounts.iter_mut().filter_map(|mount| mount.image.as_mut());
        for (spec, id) in mounted.zip(self.engine.mounted_images(container)) {
            spec.image_ref = id;
        }
        wire
    }

    /// Who the container's first process is. It may have become another since.
    fn user(&self, container: &ContainerStatus, image: &cofferdam_images::Image) -> Option<v1::LinuxContainerUser> {
        let security = &container.config.security;
        let spec = match (security.run_as_user, security.run_as_username.as_str()) {
            (Some(uid), _) => uid.to_string(),
            (None, "") => image.config.user.clone(),
            (None, name) => name.to_owned(),
        };
        let found = self.engine.images().user(image, &spec).ok()?;
        let gid = security.run_as_group.unwrap_or_else(|| found.gid.into());
        let of_image = found.groups.iter().map(|g| i64::from(*g)).filter(|_| !security.strict_groups);
        let mut groups: Vec<i64> = std::iter::once(gid)
            .chain(of_image)
            .chain(security.supplemental_groups.iter().copied())
            .collect();
        groups.sort_unstable();
        groups.dedup();
        Some(v1::LinuxContainerUser {
            uid: found.uid.into(),
            gid,
            supplemental_groups: groups,
        })
    }
}

fn machine() -> Machine {
    Machine {
        selinux: Path::new("/sys/fs/selinux/enforce").exists(),
    }
}

/// The directory of the log may be one of the container's own within the pod's.
fn make_log_directory(config: &ContainerConfig, pod: &SandboxConfig) -> Result<(), Status> {
    if config.log_path.as_os_str().is_empty() {
        return Ok(());
    }
    let path = pod.log_directory.join(&config.log_path);
    let directory = path.parent().unwrap_or(&path);
    std::fs::create_dir_all(directory).map_err(|e| Status::unknown(format!("failed to create log directory {directory:?}: {e}")))
}
