//! What every verb works with, and how one is called: verbs block, so that each has a thread of its own,
//! which ends its work though the caller may be gone.

use crate::hooks::{Call, Hooks};
use crate::names::{self, Left, Names};
use crate::{Options, error, rates};
use cofferdam_cri_api::v1;
use cofferdam_engine::Engine;
use cofferdam_model::cri::{Error, Stage};
use cofferdam_model::{ContainerId, PodId};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Instant;
use tokio::sync::{Semaphore, broadcast};
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
    pub(crate) rates: rates::Rates,
    pub(crate) streams: Option<cofferdam_streaming::Server>,
    /// What a kubelet says of the network; nothing here needs it.
    pub(crate) pod_cidr: RwLock<String>,
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
    pub(crate) fn new(options: Options, engine: Arc<Engine>, hooks: Arc<dyn Hooks>) -> Result<Self, Error> {
        let core = Self {
            options,
            names: Names::default(),
            hooks,
            events: broadcast::Sender::new(EVENTS),
            rates: rates::Rates::default(),
            streams: None,
            pod_cidr: RwLock::default(),
            slow: Semaphore::new(SLOW),
            engine,
        };
        core.take_names()?;
        Ok(core)
    }

    /// The names of what is there already.
    fn take_names(&self) -> Result<(), Error> {
        for pod in self.engine.list_sandboxes()? {
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
        let began = Instant::now();
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
            let outcome = work(&core, request, &mut note);
            core.told(verb, began, note, outcome.as_ref().err());
            outcome
        });
        let outcome = done
            .await
            .unwrap_or_else(|e| Err(Status::internal(format!("{verb} broke off: {e}"))));
        watch.1 = true;
        outcome.map(Response::new)
    }

    fn told(&self, verb: &'static str, began: Instant, note: Note, failure: Option<&Status>) {
        let Note {
            handler,
            stages,
            pod,
            container,
            ..
        } = note;
        let (code, message) = failure.map_or((Code::Ok, String::new()), |s| (s.code(), s.message().to_owned()));
        self.hooks.called(&Call {
            verb,
            handler,
            code,
            message,
            took: began.elapsed(),
            stages,
            pod,
            container,
        });
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
        let all = self.engine.list_sandboxes().map_err(error::status)?;
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
        let all = self.engine.list_containers(None).map_err(error::status)?;
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
            crate::tell(format_args!("a plugin failed: {why}"));
        }
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
