//! The node: starts pods, hears what happens to them, and stops them.

use crate::board::Board;
use crate::change::ResizeRequest;
use crate::clock::{Clock, SystemClock, lock};
use crate::control::{Control, Gate, Message, OVER};
use crate::pool::Pool;
use crate::pulls::Pulls;
use crate::setup::{Dirs, Machine, Objects, PodSetup};
use crate::status::{Phase, PodView};
use crate::volumes::{VolumeError, component, remove_tree};
use crate::worker::Worker;
use cofferdam_model::PodId;
use cofferdam_model::cri::{Event, Runtime};
use cofferdam_model::pod::EphemeralContainer;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

/// Stack of a worker's thread. The runtime's verbs run on it, so it is not the least that a worker
/// itself needs; only the pages that are touched cost memory.
pub(crate) const STACK: usize = 1024 * 1024;

pub(crate) type Routes = Mutex<HashMap<PodId, Arc<Control>>>;

/// What all workers of a node share.
pub(crate) struct Shared {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) dirs: Dirs,
    pub(crate) objects: Objects,
    pub(crate) machine: Machine,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) routes: Routes,
    pub(crate) pulls: Pulls,
    /// Who tries probes.
    pub(crate) probers: Arc<Pool>,
}

/// Most probes that are tried at once. A try blocks its thread for as long as its timeout at most.
const MAX_PROBERS: usize = 64;

/// A node over a runtime.
pub struct Node {
    shared: Arc<Shared>,
}

impl Node {
    /// A node that runs pods with `runtime`, keeps files in `dirs`, and reads `objects`. It asks for
    /// the runtime's events at once. Fails where no thread can be made.
    pub fn new(runtime: Arc<dyn Runtime>, dirs: Dirs, objects: Objects) -> io::Result<Self> {
        let machine = Machine::detect(&dirs);
        Self::with(
            runtime,
            dirs,
            objects,
            machine,
            Arc::new(SystemClock::default()),
        )
    }

    /// As [`Node::new`], with what pods learn of the machine and with a clock: for tests.
    pub fn with(
        runtime: Arc<dyn Runtime>,
        dirs: Dirs,
        objects: Objects,
        machine: Machine,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let events = runtime.events();
        let shared = Arc::new(Shared {
            runtime,
            dirs,
            objects,
            machine,
            clock,
            routes: Routes::default(),
            pulls: Pulls::default(),
            probers: Pool::new("prober", MAX_PROBERS),
        });
        let weak = Arc::downgrade(&shared);
        std::thread::Builder::new()
            .name("node-events".into())
            .stack_size(STACK)
            .spawn(move || dispatch(&events, &weak))?;
        Ok(Self { shared })
    }

    /// Starts `pods`, at most `parallelism` of them at once, in order. Returns at once; a pod that
    /// cannot be started shows that in its view. Fails only where the machine has no randomness for
    /// the UIDs of pods that have none.
    pub fn start(&self, pods: Vec<PodSetup>, parallelism: usize) -> io::Result<Handle> {
        let mut pods = pods;
        for setup in &mut pods {
            if setup
                .pod
                .metadata
                .uid
                .as_deref()
                .unwrap_or_default()
                .is_empty()
            {
                setup.pod.metadata.uid = Some(random_uid()?);
            }
        }
        let board = Arc::new(Board::new(pods.iter().map(first_view).collect()));
        let gate = Arc::new(Gate::new(parallelism));
        let mut controls = Vec::with_capacity(pods.len());
        for (index, setup) in pods.into_iter().enumerate() {
            let control = Arc::new(Control::default());
            controls.push(control.clone());
            let worker = Worker::new(self.shared.clone(), setup, board.clone(), index, control);
            let thread_gate = gate.clone();
            let spawned = std::thread::Builder::new()
                .name(format!("pod-{index}"))
                .stack_size(STACK)
                .spawn(move || worker.run(&thread_gate));
            // A worker that never ran says so in its view when it is dropped; its turn passes.
            if spawned.is_err() {
                gate.step_aside(index);
            }
        }
        Ok(Handle {
            shared: self.shared.clone(),
            board,
            controls,
        })
    }
}

fn first_view(setup: &PodSetup) -> PodView {
    let meta = &setup.pod.metadata;
    PodView {
        name: meta.name.clone(),
        namespace: meta.namespace_or_default().to_owned(),
        uid: meta.uid.clone().unwrap_or_default(),
        class: setup.class.clone(),
        handler: setup.handler.clone(),
        ..PodView::default()
    }
}

/// A random UUID (RFC 9562, version 4).
fn random_uid() -> io::Result<String> {
    let mut b = [0u8; 16];
    rustix::rand::getrandom(&mut b, rustix::rand::GetRandomFlags::empty())?;
    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;
    let hex: String = b.iter().map(|b| format!("{b:02x}")).collect();
    Ok(format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    ))
}

/// Hands each event to the worker of its pod, until the runtime or the node is gone.
fn dispatch(events: &Receiver<Event>, shared: &Weak<Shared>) {
    for event in events {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let (pod, message) = match event {
            Event::ContainerExited {
                pod,
                container,
                exit_code,
            } => (pod, Message::Exited(container, exit_code)),
            Event::SandboxDied { pod, reason } => (pod, Message::SandboxDied(reason)),
        };
        let control = lock(&shared.routes).get(&pod).cloned();
        if let Some(control) = control {
            control.send(message);
        }
    }
}

/// The pods of one start. Dropping it leaves them running.
pub struct Handle {
    shared: Arc<Shared>,
    board: Arc<Board>,
    controls: Vec<Arc<Control>>,
}

impl Handle {
    /// All pods as they are now, in the order they were given in.
    pub fn snapshot(&self) -> Vec<Arc<PodView>> {
        self.board.all()
    }

    /// Every view that changes from now on. Ask before [`Handle::snapshot`] to miss nothing.
    pub fn changes(&self) -> Receiver<Arc<PodView>> {
        self.board.watch()
    }

    /// Ends the pods of this name, with `grace` in place of their own
    /// `terminationGracePeriodSeconds` where it is given; asked again with less, they end sooner.
    /// Returns at once: false where there is no such pod.
    pub fn stop(&self, namespace: &str, name: &str, grace: Option<Duration>) -> bool {
        let views = self.board.all();
        let named = views
            .iter()
            .zip(&self.controls)
            .filter(|(view, _)| view.namespace == namespace && view.name == name);
        named
            .map(|(_, control)| control.stop(grace, &*self.shared.clock, &*self.shared.runtime))
            .count()
            > 0
    }

    /// Ends all pods: as [`Handle::stop`].
    pub fn stop_all(&self, grace: Option<Duration>) {
        for control in &self.controls {
            control.stop(grace, &*self.shared.clock, &*self.shared.runtime);
        }
    }

    /// Adds `container` to a running pod (KEP-277). It is started once, never again, and ends with the pod;
    /// its image is pulled where it has to be. Returns when it was taken or refused, which is then said in
    /// one sentence; how it fares is seen in [`PodView::ephemeral`].
    pub fn add_ephemeral(&self, namespace: &str, name: &str, container: EphemeralContainer) -> Result<(), String> {
        let control = self.control(namespace, name)?;
        control.ask(|answer| Message::AddEphemeral(Box::new(container), answer))
    }

    /// Gives a container of a running pod other resources, in place (KEP-1287). Returns when that is done, or
    /// where `request.restart` is set, when the container was told to end; an error is one sentence, and
    /// then all is as it was.
    pub fn resize(&self, namespace: &str, name: &str, request: ResizeRequest) -> Result<(), String> {
        let control = self.control(namespace, name)?;
        control.ask(|answer| Message::Resize(Box::new(request), answer))
    }

    /// Who can be asked to change a running pod. One that waits for its turn reads no mail.
    fn control(&self, namespace: &str, name: &str) -> Result<&Control, String> {
        let views = self.board.all();
        let found = views.iter().zip(&self.controls).find(|(view, _)| view.namespace == namespace && view.name == name);
        let (view, control) = found.ok_or_else(|| format!("no pod {name:?} is kept here in namespace {namespace:?}"))?;
        match &view.sandbox {
            None if view.ended => Err(OVER.to_owned()),
            None => Err(format!("pod {name:?} does not run yet; ask again when it does")),
            Some(_) => Ok(control),
        }
    }

    /// Waits until every pod is over and cleaned up. A pod whose containers are always restarted is
    /// over only once it is stopped.
    pub fn wait_all(&self) -> Vec<Arc<PodView>> {
        self.board.wait_all()
    }

    /// Where the log of a container's last run is; CRI's log format.
    pub fn log_path(&self, namespace: &str, name: &str, container: &str) -> Option<PathBuf> {
        let views = self.board.all();
        let pod = views
            .iter()
            .find(|view| view.namespace == namespace && view.name == name)?;
        let view = pod.containers.iter().chain(&pod.ephemeral).find(|view| view.name == container)?;
        let directory = log_directory(&self.shared.dirs, pod).ok()?;
        Some(directory.join(crate::config::log_path(container, view.restarts)))
    }

    /// Removes the logs of the pods that are over. Returns one sentence for each that stays.
    pub fn remove_logs(&self) -> Vec<String> {
        let ended = self.board.all().into_iter().filter(|view| view.ended);
        // A pod whose name is no file name was refused before it had logs.
        let directories = ended.filter_map(|view| log_directory(&self.shared.dirs, &view).ok());
        let removed = directories.filter_map(|directory| remove_tree(&directory).err());
        removed
            .map(|err| format!("logs could not be removed: {err}"))
            .collect()
    }
}

/// The directory of a pod's logs, named as the kubelet names it (`BuildPodLogsDirectory`).
pub(crate) fn log_directory(dirs: &Dirs, pod: &PodView) -> Result<PathBuf, VolumeError> {
    let namespace = component("metadata.namespace", &pod.namespace)?;
    let name = component("metadata.name", &pod.name)?;
    let uid = component("metadata.uid", &pod.uid)?;
    Ok(dirs.logs.join(format!("{namespace}_{name}_{uid}")))
}

/// The view of a pod whose worker could not go on.
pub(crate) fn lost(view: &PodView) -> PodView {
    let message = "its worker could not run: the machine has no thread for it, or a fault in Cofferdam ended it".to_owned();
    PodView {
        phase: Phase::Failed,
        reason: "Internal".into(),
        message,
        ended: true,
        ..view.clone()
    }
}
