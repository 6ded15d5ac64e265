//! What every verb works with, and how one is called: verbs block, so that each has a thread of its own,
//! which ends its work though the caller may be gone.

use crate::error::{self, Absent};
use crate::hooks::Hooks;
use crate::names::{self, Asked, Left, Names};
use crate::shares::{Place, Shares};
use crate::{Options, events, rates};
use cofferdam_cri_api::v1;
use cofferdam_engine::Engine;
use cofferdam_engine::handlers::Table;
use cofferdam_model::cri::{ContainerConfig, ContainerStatus, Error, SandboxConfig, SandboxStatus, Stage};
use cofferdam_model::{ContainerId, PodId};
use cofferdam_telemetry::{Telemetry, attribute};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::{broadcast, watch};
use tonic::{Code, Request, Response, Status};

/// Events that one who listens may fall behind by.
const EVENTS: usize = 1024;
/// Threads for verbs, at most. There are as many as are needed, and what waits for others has fewer than all, so
/// that there is always one for what does not.
pub(crate) const THREADS: usize = 4096;
/// Of one pod, those for stops, which wait for a grace, and for commands, each. Each takes a connection to the
/// pod's monitor, of the 64 that are to be had.
const SLOW_OF_POD: usize = 16;
/// The same of all pods: of the 110 that a kubelet has by default each has its own.
const SLOW: usize = 110 * SLOW_OF_POD;
/// Pulls at once.
const PULLS: usize = 64;
/// Ports that are connected to, and commands and attached clients that are begun, at once: each.
pub(crate) const BEGUN: usize = 192;
/// The same of one pod, or one container.
pub(crate) const BEGUN_OF_ONE: usize = 8;
const _: () = assert!(2 * SLOW + PULLS + 2 * BEGUN < THREADS);

/// The server's state. What runs is the engine's to know; here is what only requests need.
pub(crate) struct Core {
    pub(crate) engine: Arc<Engine>,
    pub(crate) options: Options,
    pub(crate) names: Names,
    pub(crate) hooks: Arc<dyn Hooks>,
    pub(crate) events: broadcast::Sender<v1::ContainerEventResponse>,
    pub(crate) unheard: events::Unheard,
    pub(crate) told: events::Told,
    /// Set when the server ends: who listens to events would never leave by himself.
    pub(crate) ending: watch::Sender<bool>,
    pub(crate) rates: rates::Rates,
    pub(crate) streams: Option<cofferdam_streaming::Server>,
    /// What a kubelet says of the network; nothing here needs it.
    pub(crate) pod_cidr: RwLock<String>,
    pub(crate) telemetry: Telemetry,
    /// Images that are being pulled.
    pub(crate) pulls: AtomicU64,
    /// Commands that are run.
    pub(crate) running: AtomicU64,
    /// The table whose handlers metrics may name.
    labelled: Mutex<Option<Arc<Table>>>,
    stops: Shares,
    commands: Shares,
    pulling: Shares,
}

/// What a verb says of itself beside its answer.
#[derive(Debug, Default)]
pub(crate) struct Note {
    pub(crate) handler: String,
    pub(crate) stages: Vec<Stage>,
    pub(crate) pod: String,
    pub(crate) container: String,
    pub(crate) left: Left,
    /// Further attributes, by their names in [`attribute`].
    more: Vec<(&'static str, String)>,
}

impl Note {
    /// It is about a pod that is asked for.
    pub(crate) fn asked_for(&mut self, config: &SandboxConfig) {
        let known = [
            (attribute::POD, &config.name),
            (attribute::NAMESPACE, &config.namespace),
            (attribute::POD_UID, &config.uid),
        ];
        self.more.extend(known.map(|(name, value)| (name, value.clone())));
    }

    /// It is about this pod.
    pub(crate) fn about(&mut self, pod: &SandboxStatus) {
        self.handler.clone_from(&pod.handler);
        self.pod = pod.id.to_string();
        self.asked_for(&pod.config);
    }

    /// Does something, as a stage where `counts` says so.
    pub(crate) fn timed<T>(&mut self, stage: &str, counts: bool, work: impl FnOnce() -> T) -> T {
        let began = std::time::Instant::now();
        let outcome = work();
        if counts {
            let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            let name = stage.to_owned();
            self.stages.push(Stage { name, micros });
        }
        outcome
    }

    /// It is about a container of this name, or of this image.
    pub(crate) fn names(&mut self, attribute: &'static str, value: &str) {
        self.more.push((attribute, value.to_owned()));
    }
}

/// Whether a verb waits for others than the kernel: then it has a place among those of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pace {
    Quick,
    /// A container's grace. Its id.
    Stop(String),
    /// A command in a container. Its id.
    Command(String),
    /// A registry.
    Pull,
}

/// Says that the caller has gone, unless the answer was given.
struct Watch(Left, bool);

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.1 {
            self.0.store(true, Ordering::Release);
        }
    }
}

impl Core {
    pub(crate) fn new(options: Options, engine: Arc<Engine>, hooks: Arc<dyn Hooks>, telemetry: Telemetry) -> Result<Self, Error> {
        let core = Self {
            telemetry,
            pulls: AtomicU64::new(0),
            running: AtomicU64::new(0),
            labelled: Mutex::default(),
            options,
            names: Names::default(),
            hooks,
            events: broadcast::Sender::new(EVENTS),
            unheard: events::Unheard::default(),
            told: events::Told::default(),
            ending: watch::Sender::new(false),
            rates: rates::Rates::default(),
            streams: None,
            pod_cidr: RwLock::default(),
            stops: Shares::new(SLOW, SLOW_OF_POD),
            commands: Shares::new(SLOW, SLOW_OF_POD),
            pulling: Shares::new(PULLS, PULLS),
            engine,
        };
        core.label_handlers();
        core.take_names()?;
        Ok(core)
    }

    /// The names of what is there already.
    fn take_names(&self) -> Result<(), Error> {
        for pod in self.pods()? {
            let asked = self.asked_sandbox(&pod.config, &pod.handler);
            self.names.insert(names::sandbox(&pod.config), asked, pod.id.to_string());
            for container in self.engine.list_containers(Some(&pod.id))? {
                let name = names::container(&container.config.name, container.config.attempt, &pod.id, &pod.config);
                let asked = self.asked_container(&container.config);
                self.names.insert(name, asked, container.id.to_string());
            }
        }
        Ok(())
    }

    /// What a RunPodSandbox asks for, `handler` by its name.
    pub(crate) fn asked_sandbox(&self, config: &SandboxConfig, handler: &str) -> Asked {
        self.names.asked(serde_json::to_vec(&(config, handler)))
    }

    /// What a CreateContainer asks for.
    pub(crate) fn asked_container(&self, config: &ContainerConfig) -> Asked {
        self.names.asked(serde_json::to_vec(config))
    }

    /// Does a verb on a thread of its own. It is done to its end, though the caller may go: what it makes is
    /// given to the next who asks for the same.
    pub(crate) async fn call<Q, A>(
        self: &Arc<Self>,
        verb: &'static str,
        pace: Pace,
        request: Request<Q>,
        work: impl FnOnce(&Self, Q, &mut Note) -> Result<A, Status> + Send + 'static,
    ) -> Result<Response<A>, Status>
    where
        Q: Send + 'static,
        A: Send + 'static,
    {
        // Dropped while it waits, it counts as cancelled.
        let call = self.telemetry.call(verb, "", crate::grpc::traceparent(&request));
        let left: Left = Arc::new(AtomicBool::new(false));
        let mut watch = Watch(left.clone(), false);
        let long = pace != Pace::Quick;
        let place = self.place(pace).await;
        let core = self.clone();
        let request = request.into_inner();
        let done = tokio::task::spawn_blocking(move || {
            // Kept for as long as the thread is, though the caller may go.
            let _place = place;
            let mut note = Note { left, ..Note::default() };
            // A panic is a failed call, not one that its caller gave up; what it shares locks by itself.
            let outcome = catch_unwind(AssertUnwindSafe(|| work(&core, request, &mut note)))
                .unwrap_or_else(|_| Err(Status::internal(format!("{verb} broke off by a fault of this runtime"))));
            core.label_handlers();
            told(call, long, note, outcome.as_ref().err());
            outcome
        });
        let outcome = done
            .await
            .unwrap_or_else(|e| Err(Status::internal(format!("{verb} broke off: {e}"))));
        watch.1 = true;
        outcome.map(Response::new)
    }

    /// A place for a verb that waits for others; which pod's it is, a thread looks up.
    async fn place(self: &Arc<Self>, pace: Pace) -> Option<Place> {
        let (kind, container) = match pace {
            Pace::Quick => return None,
            Pace::Pull => return self.pulling.take("").await,
            Pace::Stop(container) => (&self.stops, container),
            Pace::Command(container) => (&self.commands, container),
        };
        let core = self.clone();
        let pod = tokio::task::spawn_blocking(move || {
            let id = core.find_container(&container).ok().flatten();
            let found = id.and_then(|id| core.engine.container_status(&id).ok());
            found.map_or(container, |found| found.pod.to_string())
        });
        kind.take(&pod.await.unwrap_or_default()).await
    }

    /// Metrics name the handlers that there are: the table is another after a change of the configuration.
    fn label_handlers(&self) {
        let table = self.engine.table();
        let mut labelled = self.labelled.lock().unwrap_or_else(PoisonError::into_inner);
        if !labelled.as_ref().is_some_and(|known| Arc::ptr_eq(known, &table)) {
            self.telemetry.set_handlers(table.names());
            *labelled = Some(table);
        }
    }

    /// The sandboxes that were made over CRI. Others are none of a kubelet's: it would remove what it does not know.
    pub(crate) fn pods(&self) -> Result<Vec<SandboxStatus>, Error> {
        let mut all = self.engine.list_sandboxes()?;
        all.retain(|pod| pod.config.served);
        Ok(all)
    }

    /// The containers of all of them.
    pub(crate) fn containers(&self) -> Result<Vec<ContainerStatus>, Error> {
        let pods: HashSet<PodId> = self.pods()?.into_iter().map(|pod| pod.id).collect();
        let mut all = self.engine.list_containers(None)?;
        all.retain(|container| pods.contains(&container.pod));
        Ok(all)
    }

    /// One sandbox that was made over CRI.
    pub(crate) fn pod_status(&self, id: &PodId) -> Result<SandboxStatus, Error> {
        let pod = self.engine.sandbox_status(id)?;
        if pod.config.served {
            Ok(pod)
        } else {
            Err(Error::NotFound(format!("pod sandbox {id} does not exist")))
        }
    }

    /// A container, and its sandbox, which was made over CRI.
    pub(crate) fn with_pod(&self, id: &ContainerId) -> Result<(SandboxStatus, ContainerStatus), Error> {
        let container = self.engine.container_status(id)?;
        Ok((self.pod_status(&container.pod)?, container))
    }

    /// The id that `text` is or begins (containerd takes the beginning of an id too); `None` where there is
    /// no such sandbox.
    pub(crate) fn find_pod(&self, text: &str) -> Result<Option<PodId>, Status> {
        if let Ok(id) = PodId::new(text) {
            return Ok(Some(id));
        }
        if text.is_empty() {
            return Err(Status::invalid_argument("pod_sandbox_id: it is empty"));
        }
        let all = self.pods().map_err(error::status)?;
        one(text, all.into_iter().map(|pod| pod.id).filter(|id| id.as_str().starts_with(text)))
    }

    /// As [`Core::find_pod`], for a container.
    pub(crate) fn find_container(&self, text: &str) -> Result<Option<ContainerId>, Status> {
        // An older id, which is shorter, is found as one that begins so.
        if let Ok(id) = ContainerId::new(text)
            && text.len() == ContainerId::DIGITS
        {
            return Ok(Some(id));
        }
        if text.is_empty() {
            return Err(Status::invalid_argument("container_id: it is empty"));
        }
        let all = self.containers().map_err(error::status)?;
        one(
            text,
            all.into_iter()
                .map(|container| container.id)
                .filter(|id| id.as_str().starts_with(text)),
        )
    }

    /// The sandbox that a request names, or containerd's sentence; what is known of it is noted.
    pub(crate) fn named_pod(&self, text: &str, words: Absent, note: &mut Note) -> Result<SandboxStatus, Status> {
        let id = self.find_pod(text)?.ok_or_else(|| error::absent(words, text))?;
        let found = self.pod_status(&id).map_err(|e| match e {
            Error::NotFound(_) => error::absent(words, text),
            other => error::status(other),
        })?;
        note.about(&found);
        Ok(found)
    }

    /// As [`Core::named_pod`], of a container and its sandbox.
    pub(crate) fn named_container(&self, text: &str, words: Absent, note: &mut Note) -> Result<(SandboxStatus, ContainerStatus), Status> {
        let id = self.find_container(text)?.ok_or_else(|| error::absent(words, text))?;
        let (pod, container) = self.with_pod(&id).map_err(|e| match e {
            Error::NotFound(_) => error::absent(words, text),
            other => error::status(other),
        })?;
        note.about(&pod);
        note.names(attribute::CONTAINER, &container.config.name);
        note.container = id.to_string();
        Ok((pod, container))
    }

    /// Tells the hooks of a moment that can no more be prevented.
    pub(crate) fn tell_hooks(&self, moment: crate::hooks::Moment<'_>) {
        if let Err(why) = self.hooks.lifecycle(moment) {
            self.telemetry.log().warn("a plugin failed", &[("error", &why.to_string())]);
        }
    }
}

/// Ends a call with what is known of it.
fn told(mut call: cofferdam_telemetry::Call, long: bool, note: Note, failure: Option<&Status>) {
    call.handler(&note.handler);
    for (name, value) in [(attribute::SANDBOX, &note.pod), (attribute::CONTAINER_ID, &note.container)] {
        if !value.is_empty() {
            call.attribute(name, value);
        }
    }
    for (name, value) in &note.more {
        call.attribute(name, value);
    }
    call.stages(note.stages.iter().map(|stage| (stage.name.as_str(), stage.micros)));
    if long {
        call.expect_long();
    }
    let code = |code: Code| cofferdam_telemetry::Code::from_number(code as i32);
    match failure {
        Some(status) => call.end(Err((code(status.code()), status.message()))),
        None if note.left.load(Ordering::Acquire) => call.end(Err((code(Code::Cancelled), "the caller left before the answer"))),
        None => call.end(Ok(())),
    }
}

/// The only one of `found`.
fn one<T>(text: &str, mut found: impl Iterator<Item = T>) -> Result<Option<T>, Status> {
    let first = found.next();
    match found.next() {
        Some(_) => Err(Status::invalid_argument(format!("more than one id begins with {text:?}"))),
        None => Ok(first),
    }
}
