//! What happens, for those who listen to GetContainerEvents.

use crate::convert::status;
use crate::core::Core;
use crate::hooks::Moment;
use cofferdam_cri_api::v1::{self, ContainerEventType};
use cofferdam_model::cri::Event;
use cofferdam_model::{ContainerId, PodId};
use std::collections::VecDeque;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often the thread that listens to the engine looks whether the server is still there.
const LOOK: Duration = Duration::from_secs(2);
/// Stack of that thread, bytes.
const STACK: usize = 1 << 20;
/// Ends that nobody heard and that are kept for who listens first, at most.
const UNHEARD: usize = 1024;

/// Ends that came while nobody listened: the engine tells those of before the server's start as it starts,
/// and a kubelet connects later.
#[derive(Debug, Default)]
pub(crate) struct Unheard(Mutex<VecDeque<Event>>);

impl Core {
    /// What happens from now on, and the ends that nobody heard.
    pub(crate) fn listen(&self) -> tokio::sync::broadcast::Receiver<v1::ContainerEventResponse> {
        let (listener, unheard) = {
            let mut unheard = self.unheard.0.lock().unwrap_or_else(PoisonError::into_inner);
            (self.events.subscribe(), std::mem::take(&mut *unheard))
        };
        for event in &unheard {
            self.tell_end(event);
        }
        listener
    }

    /// Keeps an end for who listens first, where nobody does now.
    fn is_kept(&self, event: &Event) -> bool {
        let mut unheard = self.unheard.0.lock().unwrap_or_else(PoisonError::into_inner);
        let alone = self.events.receiver_count() == 0;
        if alone {
            if unheard.len() == UNHEARD {
                unheard.pop_front();
            }
            unheard.push_back(event.clone());
        }
        alone
    }

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
        let Ok(known) = self.pod_status(pod) else { return };
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
        if let Event::ContainerExited { pod, container, .. } = event
            && self.hooks.wants_lifecycle()
            && let (Ok(pod), Ok(container)) = (self.pod_status(pod), self.engine.container_status(container))
        {
            self.tell_hooks(Moment::ContainerStopped(&pod, &container));
        }
        if !self.is_kept(event) {
            self.tell_end(event);
        }
    }

    fn tell_end(&self, event: &Event) {
        match event {
            Event::ContainerExited { container, .. } => self.tell_container(container, ContainerEventType::ContainerStoppedEvent),
            Event::SandboxDied { pod, .. } => self.tell_pod(pod, ContainerEventType::ContainerStoppedEvent),
        }
    }
}
