//! What every verb works with, and how one is called: verbs block, so that each has a thread of its own,
//! which ends its work though the caller may be gone.

use crate::hooks::Hooks;
use crate::names::{self, Left, Names};
use crate::{Options, error, events, rates};
use cofferdam_cri_api::v1;
use cofferdam_engine::Engine;
use cofferdam_engine::handlers::Table;
use cofferdam_model::cri::{ContainerStatus, Error, SandboxConfig, SandboxStatus, Stage};
use cofferdam_model::{ContainerId, PodId};
use cofferdam_telemetry::{Telemetry, attribute};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::{Semaphore, broadcast, watch};
use tonic::{Code, Request, Response, Status};

/// Events that one who listens may fall behind by.
const EVENTS: usize = 1024;
/// Threads for verbs, at most.
pub(crate) const THREADS: usize = 256;
/// Of them, those that verbs may have which wait for others: a stop's grace, a command, a registry.
const SLOW: usize = 192;

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
    /// The table whose handlers metrics may name.
    labelled: Mutex<Option<Arc<Table>>>,
    slow: Semaphore,
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

/// Whether a verb waits for others than the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    Quick,
    Slow,
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
            slow: Semaphore::new(SLOW),
            engine,
        };
        core.label_handlers();
        core.take_names()?;
        Ok(core)
    }

    /// The names of what is there already.
    fn take_names(&self) -> Result<(), Error> {
        for pod in self.pods()? {
            self.names.insert(names::sandbox(&pod.config), pod.id.to_string());
            for container in self.engine.list_containers(Some(&pod.id))? {
                let name = names::container(&container.config.name, container.config.attempt, &pod.id, &pod.config);
                self.names.insert(name, container.id.to_string());
            }
        }
        Ok(())
    }

    /// Does a verb on a thread of its own. It is done to its end, though the caller may go: what it makes is
    /// found by the next who asks.
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
        let _place = match pace {
            Pace::Quick => None,
            Pace::Slow => self.slow.acquire().await.ok(),
        };
        let core = self.clone();
        let request = request.into_inner();
        let done = tokio::task::spawn_blocking(move || {
            let mut note = Note { left, ..Note::default() };
            // A panic is a failed call, not one that its caller gave up; what it shares locks by itself.
            let outcome = catch_unwind(AssertUnwindSafe(|| work(&core, request, &mut note)))
                .unwrap_or_else(|_| Err(Status::internal(format!("{verb} broke off by a fault of this runtime"))));
            core.label_handlers();
            told(call, pace, note, outcome.as_ref().err());
            outcome
        });
        let outcome = done
            .await
            .unwrap_or_else(|e| Err(Status::internal(format!("{verb} broke off: {e}"))));
        watch.1 = true;
        outcome.map(Response::new)
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
        if let Ok(id) = ContainerId::new(text) {
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

    /// The sandbox, or containerd's sentence.
    pub(crate) fn pod(&self, text: &str) -> Result<PodId, Status> {
        self.find_pod(text)?
            .ok_or_else(|| Status::not_found(format!("an error occurred when try to find sandbox {text:?}: not found")))
    }

    /// The container, or containerd's sentence.
    pub(crate) fn container(&self, text: &str) -> Result<ContainerId, Status> {
        self.find_container(text)?
            .ok_or_else(|| Status::not_found(format!("an error occurred when try to find container {text:?}: not found")))
    }

    /// Tells the hooks of a moment that can no more be prevented.
    pub(crate) fn tell_hooks(&self, moment: crate::hooks::Moment<'_>) {
        if let Err(why) = self.hooks.lifecycle(moment) {
            self.telemetry.log().warn("a plugin failed", &[("error", &why.to_string())]);
        }
    }
}

/// Ends a call with what is known of it.
fn told(mut call: cofferdam_telemetry::Call, pace: Pace, note: Note, failure: Option<&Status>) {
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
    if pace == Pace::Slow {
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
