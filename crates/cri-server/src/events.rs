//! What happens, for those who listen to GetContainerEvents.

use crate::convert::status;
use crate::core::Core;
use crate::hooks::Moment;
use cofferdam_cri_api::v1::{self, ContainerEventType};
use cofferdam_model::cri::Event;
use cofferdam_model::{ContainerId, PodId};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

/// How often the thread that listens to the engine looks whether the server is still there.
const LOOK: Duration = Duration::from_secs(2);
/// Stack of that thread, bytes.
const STACK: usize = 1 << 20;

impl Core {
    /// Something happened to a sandbox.
    pub(crate) fn tell_pod(&self, id: &PodId, kind: ContainerEventType) {
        self.tell(id.as_str(), id, kind);
    }

    /// Something happened to a container.
    pub(crate) fn tell_container(&self, id: &ContainerId, kind: ContainerEventType) {
        // Where it is gone already, so is who would be told.
        if let Ok(container) = self.engine.container_status(id) {
            self.tell(id.as_str(), &container.pod, kind);
        }
    }

    /// A sandbox or container was removed; of its pod is told what is known.
    pub(crate) fn tell_gone(&self, id: &str, pod: Option<v1::PodSandboxStatus>) {
        self.send(id, ContainerEventType::ContainerDeletedEvent, pod, vec![]);
    }

    fn tell(&self, id: &str, pod: &PodId, kind: ContainerEventType) {
        if self.events.receiver_count() == 0 {
            return;
        }
        let Ok(known) = self.engine.sandbox_status(pod) else { return };
        let containers = self.engine.list_containers(Some(pod)).unwrap_or_default();
        let containers = containers.iter().map(|c| self.container_on_wire(c, &known.config)).collect();
        self.send(id, kind, Some(status::sandbox(&known)), containers);
    }

    fn send(&self, id: &str, kind: ContainerEventType, pod: Option<v1::PodSandboxStatus>, containers: Vec<v1::ContainerStatus>) {
        // Nobody may be listening.
        let _ = self.events.send(v1::ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind.into(),
            created_at: crate::now(),
            pod_sandbox_status: pod,
            containers_statuses: containers,
        });
    }

    /// Follows what the engine tells, until the server is gone.
    pub(crate) fn follow(self: &Arc<Self>) -> std::io::Result<()> {
        let engine_events = self.engine.events();
        let core = Arc::downgrade(self);
        let listen = move || loop {
            let event = engine_events.recv_timeout(LOOK);
            let Some(core) = core.upgrade() else { return };
            match event {
                Ok(event) => core.happened(&event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        };
        std::thread::Builder::new()
            .name("cri-events".into())
            .stack_size(STACK)
            .spawn(listen)
            .map(drop)
    }

    fn happened(&self, event: &Event) {
        match event {
            Event::ContainerExited { pod, container, .. } => {
                if self.hooks.wants_lifecycle()
                    && let (Ok(pod), Ok(container)) = (self.engine.sandbox_status(pod), self.engine.container_status(container))
                {
                    self.tell_hooks(Moment::ContainerStopped(&pod, &container));
                }
                self.tell_container(container, ContainerEventType::ContainerStoppedEvent);
            }
            Event::SandboxDied { pod, .. } => self.tell_pod(pod, ContainerEventType::ContainerStoppedEvent),
        }
    }
}
