//! What is known of containers: their records, and of their end what the monitor wrote down.

use crate::container::{KnownContainer, SIGKILL};
use crate::record::{self, ContainerRecord, ContainerResult};
use crate::sandbox::{Known, failed};
use crate::{Engine, events, exec};
use cofferdam_host::cgroup::Group;
use cofferdam_model::cri::{ContainerState, ContainerStatus, Error, Result, SandboxState};
use cofferdam_model::{ContainerId, PodId};
use cofferdam_monitor::client::Client;
use cofferdam_monitor::protocol::Exit;
use cofferdam_plan::layout::ContainerDirs;
use std::time::Duration;

impl Engine {
    /// One container.
    pub fn container_status(&self, id: &ContainerId) -> Result<ContainerStatus> {
        let (known, container) = self.must_know_container(id)?;
        self.status_of(&known, container)
    }

    /// All containers of a sandbox, or of all, oldest first.
    pub fn list_containers(&self, pod: Option<&PodId>) -> Result<Vec<ContainerStatus>> {
        let pods = pod.map_or_else(|| self.pod_ids(), |p| Ok(vec![p.clone()]))?;
        let mut all = Vec::new();
        for pod in pods {
            let Some(known) = self.known(&pod)? else { continue };
            for id in self.container_ids(&known.dirs)? {
                if let Some(container) = self.container_in(&known, &id)? {
                    all.push(self.status_of(&known, container)?);
                }
            }
        }
        all.sort_by(|a, b| (a.created_at, a.id.as_str()).cmp(&(b.created_at, b.id.as_str())));
        Ok(all)
    }

    fn status_of(&self, known: &Known, container: KnownContainer) -> Result<ContainerStatus> {
        let KnownContainer { mut record, result, .. } = container;
        if let Some(resources) = result.resources {
            record.config.resources = resources;
        }
        let exit = self.exit(known, &record.id)?;
        let group = self.group_of(known, &record.id)?;
        let (state, finished_at, exit_code, reason, message) = match &exit {
            Some(exit) => {
                let driver = known.driver()?;
                let code = driver.exit_code(exit);
                let oom = code != 0 && (result.oom || group.oom_kills().is_ok_and(|kills| kills > 0) || self.enclosure_oom(known));
                let reason = if oom { "OOMKilled" } else if code == 0 { "Completed" } else { "Error" };
                let message = match driver.lost_enclosure(exit) && !oom {
                    true => events::ENCLOSURE_DIED.to_owned(),
                    false => driver.exit_message(exit),
                };
                (ContainerState::Exited, exit.at, code, reason.to_owned(), message)
            }
            None if known.result.state != SandboxState::Ready => {
                let why = known.result.reason.clone().unwrap_or_default();
                (ContainerState::Exited, 0, 128 + SIGKILL, "ContainerStatusUnknown".to_owned(), why)
            }
            None if result.started_at != 0 => (ContainerState::Running, 0, 0, String::new(), String::new()),
            None => (ContainerState::Created, 0, 0, String::new(), String::new()),
        };
        Ok(ContainerStatus {
            id: record.id,
            pod: record.pod,
            config: record.config,
            image_id: record.image_id,
            state,
            created_at: record.created_at,
            started_at: result.started_at,
            finished_at,
            exit_code,
            reason,
            message,
            pid: result.pid.filter(|_| exit.is_none()),
            stages: result.stages,
        })
    }

    /// Whether a container mounts an image beside its own.
    pub(crate) fn mounts_image(&self, container: &ContainerStatus, image: &str) -> bool {
        if !container.config.mounts.iter().any(|m| m.image.is_some()) {
            return false;
        }
        let dirs = self.layout.pod(&container.pod).container(&container.id);
        // A record that cannot be read says nothing: the image stays.
        record::read::<ContainerRecord>(&dirs.record()).map_or(true, |r| r.is_some_and(|r| r.image_mounts.iter().any(|i| i == image)))
    }

    /// Ids of the images that a container mounts beside its own, in the order of its request's mounts.
    pub fn mounted_images(&self, container: &ContainerStatus) -> Vec<String> {
        if !container.config.mounts.iter().any(|m| m.image.is_some()) {
            return vec![];
        }
        let dirs = self.layout.pod(&container.pod).container(&container.id);
        record::read::<ContainerRecord>(&dirs.record()).ok().flatten().map(|r| r.image_mounts).unwrap_or_default()
    }

    /// What the monitor wrote of a container's end.
    pub(crate) fn exit(&self, known: &Known, id: &ContainerId) -> Result<Option<Exit>> {
        exec::read_exit(&known.dirs.exits(), id.as_str())
    }

    /// Waits for a container's end; `None` where it did not end in time.
    pub(crate) fn wait_exit(&self, known: &Known, id: &ContainerId, limit: Duration) -> Result<Option<Exit>> {
        match Client::wait_at(&known.dirs.socket(), id.as_str(), limit) {
            Ok(exit) => Ok(exit),
            // It may have ended together with its monitor.
            Err(e) => self.exit(known, id)?.map(|exit| Ok(Some(exit))).unwrap_or(Err(failed(e))),
        }
    }

    pub(crate) fn monitor(&self, known: &Known) -> Result<Client> {
        Client::connect(&known.dirs.socket())
            .map_err(|e| Error::Failed(format!("monitor of pod {}: {e}", known.record.id.short())))
    }

    pub(crate) fn group_of(&self, known: &Known, id: &ContainerId) -> Result<Group> {
        self.group_in(&known.dirs, known.dirs.container_cgroup(id))
    }

    pub(crate) fn container_result(&self, dirs: &ContainerDirs) -> Result<ContainerResult> {
        Ok(self.cache.read(&dirs.status())?.unwrap_or_default())
    }

    pub(crate) fn container_in(&self, known: &Known, id: &ContainerId) -> Result<Option<KnownContainer>> {
        let dirs = known.dirs.container(id);
        let Some(record) = self.cache.read::<ContainerRecord>(&dirs.record())? else { return Ok(None) };
        let result = self.container_result(&dirs)?;
        Ok(Some(KnownContainer { dirs, record, result }))
    }

    /// The container and its sandbox; `None` where there is none.
    pub(crate) fn find_container(&self, id: &ContainerId) -> Result<Option<(Known, KnownContainer)>> {
        let look = |pod: &PodId| -> Result<Option<(Known, KnownContainer)>> {
            let Some(known) = self.known(pod)? else { return Ok(None) };
            Ok(self.container_in(&known, id)?.map(|container| (known, container)))
        };
        if let Some(pod) = self.cache.pod_of(id) {
            if let Some(found) = look(&pod)? {
                return Ok(Some(found));
            }
            self.cache.forget(id);
        }
        for pod in self.pod_ids()? {
            if !self.layout.pod(&pod).container(id).dir.exists() {
                continue;
            }
            if let Some(found) = look(&pod)? {
                self.cache.remember(id, &pod);
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    pub(crate) fn must_know_container(&self, id: &ContainerId) -> Result<(Known, KnownContainer)> {
        self.find_container(id)?.ok_or_else(|| Error::NotFound(format!("container {id} does not exist")))
    }
}
