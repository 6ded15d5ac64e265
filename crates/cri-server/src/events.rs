//! What happens, for those who listen to GetContainerEvents.

use crate::convert::status;
use crate::core::Core;
use crate::hooks::Moment;
use cofferdam_cri_api::v1::{self, ContainerEventType};
use cofferdam_model::cri::{ContainerState, ContainerStatus, Event, SandboxStatus};
use cofferdam_model::{ContainerId, PodId};
use std::collections::{HashMap, HashSet, VecDeque};
use std::io::Write;
use std::path::PathBuf;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
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

/// How far the story of each container has been told: start, end and removal come from threads of their own,
/// and are told in this order, each once.
#[derive(Debug, Default)]
pub(crate) struct Told {
    stages: Mutex<HashMap<ContainerId, Stage>>,
    changed: Condvar,
    /// Sandboxes whose end was told.
    stopped: Mutex<HashSet<PodId>>,
    /// Sandboxes and containers whose removal has begun, and of which plugins were told.
    removing: Mutex<HashSet<String>>,
    /// When the last event was told: held while one is, so that none has an older state than one before it.
    last: Mutex<i64>,
}

/// Name of the file in a container's directory that says who was told of its end: the monitor tells each end
/// again to whoever asks, and a server that starts anew has forgotten whom it told.
const HEARD: &str = "told";
/// Its content, once plugins were told.
const PLUGINS: &str = "plugins";
/// Its content, once listeners were too.
const ALL: &str = "all";

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
enum Stage {
    /// So many verbs that make or start it are under way; its end is told after them.
    Beginning(u32, Option<Event>),
    /// Its end is being told.
    Ending,
    /// Its end was told.
    Ended,
}

/// A verb that makes or starts a container; dropped when it has told so, or has failed.
pub(crate) struct Beginning<'a>(&'a Core, ContainerId);

impl Drop for Beginning<'_> {
    fn drop(&mut self) {
        let Self(core, id) = self;
        let mut stages = core.told.stages.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Stage::Beginning(verbs, ended)) = stages.get_mut(id) else {
            return;
        };
        *verbs -= 1;
        if *verbs > 0 {
            return;
        }
        let ended = ended.take();
        stages.remove(id);
        drop(stages);
        core.told.changed.notify_all();
        if let Some(event) = ended {
            core.happened(&event);
        }
    }
}

impl Core {
    /// A verb that makes or starts a container begins.
    pub(crate) fn beginning(&self, id: &ContainerId) -> Beginning<'_> {
        let mut stages = self.told.stages.lock().unwrap_or_else(PoisonError::into_inner);
        match stages.entry(id.clone()).or_insert(Stage::Beginning(0, None)) {
            Stage::Beginning(verbs, _) => *verbs += 1,
            // It is refused.
            Stage::Ending | Stage::Ended => {}
        }
        Beginning(self, id.clone())
    }

    /// Tells the end of those of a sandbox's containers that have ended, unless it was told. The engine tells
    /// it too, but later, and no more where a container is removed before.
    pub(crate) fn tell_ended(&self, pod: &PodId, wanted: impl Fn(&ContainerId) -> bool) {
        let all = self.engine.list_containers(Some(pod)).unwrap_or_default();
        for id in all.into_iter().map(|c| c.id).filter(wanted) {
            let Some(container) = self.once_settled(&id) else { continue };
            if container.state == ContainerState::Exited && container.started_at != 0 {
                self.happened(&Event::ContainerExited {
                    pod: pod.clone(),
                    container: container.id,
                    exit_code: container.exit_code,
                });
            }
        }
    }

    /// A container is gone: what was told of it is forgotten, once nothing more is told of it.
    pub(crate) fn forget_told(&self, id: &ContainerId) {
        self.settled(id).remove(id);
        lock(&self.told.removing).remove(id.as_str());
    }

    /// A container's status, once no verb that makes or starts it is under way, and its end is not being told.
    pub(crate) fn once_settled(&self, id: &ContainerId) -> Option<ContainerStatus> {
        drop(self.settled(id));
        self.engine.container_status(id).ok()
    }

    /// Once nothing is being told of a container.
    fn settled(&self, id: &ContainerId) -> MutexGuard<'_, HashMap<ContainerId, Stage>> {
        let stages = self.told.stages.lock().unwrap_or_else(PoisonError::into_inner);
        let is_told = |stages: &mut HashMap<_, _>| matches!(stages.get(id), Some(Stage::Beginning(..) | Stage::Ending));
        self.told
            .changed
            .wait_while(stages, is_told)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a container's end is to be told now, by the caller.
    fn is_to_be_told(&self, id: &ContainerId, event: &Event) -> bool {
        // What is gone has no end.
        if self.engine.container_status(id).is_err() {
            return false;
        }
        let mut stages = self.told.stages.lock().unwrap_or_else(PoisonError::into_inner);
        match stages.get_mut(id) {
            Some(Stage::Beginning(_, ended)) => *ended = Some(event.clone()),
            Some(Stage::Ending | Stage::Ended) => {}
            None => {
                stages.insert(id.clone(), Stage::Ending);
                return true;
            }
        }
        false
    }

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

    /// A sandbox has stopped, unless that was told.
    pub(crate) fn tell_stopped(&self, id: &PodId) {
        if self.told.stopped.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone()) {
            self.tell_pod(id, ContainerEventType::ContainerStoppedEvent);
        }
    }

    /// A sandbox is gone: that its end was told is forgotten.
    pub(crate) fn forget_stopped(&self, id: &PodId) {
        lock(&self.told.stopped).remove(id);
        lock(&self.told.removing).remove(id.as_str());
    }

    /// Tells plugins that a sandbox or container goes, while it is there still, as upstream does: once, however
    /// often its removal has to be tried.
    pub(crate) fn tell_removing(&self, id: &str, moment: Moment<'_>) {
        if self.hooks.wants_lifecycle() && lock(&self.told.removing).insert(id.to_owned()) {
            self.tell_hooks(moment);
        }
    }

    /// Something happened to a container.
    pub(crate) fn tell_container(&self, id: &ContainerId, kind: ContainerEventType) {
        // Where it is gone already, so is who would be told.
        if self.events.receiver_count() > 0
            && let Ok(container) = self.engine.container_status(id)
        {
            self.tell(id.as_str(), &container.pod, kind);
        }
    }

    /// A container was removed from its pod, which may be gone itself by now: then it is told as it was.
    pub(crate) fn tell_removed(&self, id: &ContainerId, pod: &SandboxStatus) {
        if !self.tell(id.as_str(), &pod.id, ContainerEventType::ContainerDeletedEvent) {
            self.tell_gone(id.as_str(), Some(status::sandbox(pod)));
        }
    }

    /// A sandbox was removed, or a container with it. A kubelet passes over events without their pod
    /// (`pkg/kubelet/pleg/evented.go`): it is told as it was last.
    pub(crate) fn tell_gone(&self, id: &str, pod: Option<v1::PodSandboxStatus>) {
        let mut last = lock(&self.told.last);
        self.send(&mut last, id, ContainerEventType::ContainerDeletedEvent, pod, vec![]);
    }

    /// Tells who listens, if anybody does; false where the pod is not known, and nothing was told.
    fn tell(&self, id: &str, pod: &PodId, kind: ContainerEventType) -> bool {
        if self.events.receiver_count() == 0 {
            return true;
        }
        let mut last = lock(&self.told.last);
        let Ok(known) = self.pod_status(pod) else { return false };
        let containers = self.engine.list_containers(Some(pod)).unwrap_or_default();
        let containers = containers.iter().map(|c| self.container_on_wire(c, &known.config)).collect();
        self.send(&mut last, id, kind, Some(status::sandbox(&known)), containers);
        true
    }

    fn send(
        &self,
        last: &mut i64,
        id: &str,
        kind: ContainerEventType,
        pod: Option<v1::PodSandboxStatus>,
        containers: Vec<v1::ContainerStatus>,
    ) {
        // A kubelet drops a state that is older than what it has (`pkg/kubelet/container/cache.go`): a clock that
        // is set back must not make one.
        *last = crate::now().max(*last);
        // Nobody may be listening.
        let _ = self.events.send(v1::ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind.into(),
            created_at: *last,
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
        let (Event::ContainerExited { pod, .. } | Event::SandboxDied { pod, .. }) = event;
        // A pod that was not made over CRI is nobody's here, and nothing is kept of it.
        if self.pod_status(pod).is_err() {
            return;
        }
        let (pod, container) = match event {
            Event::ContainerExited { pod, container, .. } => (pod, container),
            Event::SandboxDied { pod, .. } => {
                self.tell_ended(pod, |_| true);
                return self.tell_or_keep(event);
            }
        };
        if !self.is_to_be_told(container, event) {
            return;
        }
        let note = self.heard_note(pod, container);
        let heard = std::fs::read_to_string(&note).unwrap_or_default();
        if heard.is_empty() {
            if self.hooks.wants_lifecycle()
                && let (Ok(pod), Ok(container)) = (self.pod_status(pod), self.engine.container_status(container))
            {
                self.tell_hooks(Moment::ContainerStopped(&pod, &container));
            }
            // Where it cannot be written, it is told once more after a restart.
            let _ = std::fs::write(&note, PLUGINS);
        }
        if heard != ALL {
            self.tell_or_keep(event);
        }
        let mut stages = self.told.stages.lock().unwrap_or_else(PoisonError::into_inner);
        stages.insert(container.clone(), Stage::Ended);
        self.told.changed.notify_all();
    }

    fn tell_or_keep(&self, event: &Event) {
        if !self.is_kept(event) {
            self.tell_end(event);
        }
    }

    fn tell_end(&self, event: &Event) {
        match event {
            Event::ContainerExited { pod, container, .. } => {
                self.tell_container(container, ContainerEventType::ContainerStoppedEvent);
                if self.events.receiver_count() > 0 {
                    // Not made anew: the container may be going, and its directory is to get empty.
                    let note = std::fs::OpenOptions::new()
                        .write(true)
                        .truncate(true)
                        .open(self.heard_note(pod, container));
                    let _ = note.and_then(|mut note| note.write_all(ALL.as_bytes()));
                }
            }
            Event::SandboxDied { pod, .. } => self.tell_stopped(pod),
        }
    }

    fn heard_note(&self, pod: &PodId, container: &ContainerId) -> PathBuf {
        self.engine.layout().pod(pod).container(container).dir.join(HEARD)
    }
}
