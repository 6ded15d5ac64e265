//! What happens to pods: one thread a watched pod reads its monitor's events. Nothing is watched
//! until somebody listens.

use crate::Engine;
use crate::record::{self, ContainerResult};
use cofferdam_host::cgroup::Group;
use cofferdam_host::files::Durability;
use crate::recover::monitor_is_gone;
use crate::sandbox::{ENCLOSURE_KEY, Known, failed};
use cofferdam_model::cri::{Event, Result, SandboxState};
use cofferdam_model::{ContainerId, PodId};
use cofferdam_monitor::client::Client;
use cofferdam_plan::layout::ContainerDirs;
use std::collections::HashSet;
use std::process::Child;
use std::time::Duration;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Pause before a broken connection is made anew.
const RECONNECT: Duration = Duration::from_millis(100);
/// Why a pod whose sentry or pause process ended is not ready.
pub(crate) const ENCLOSURE_DIED: &str = "its enclosure died";
/// Why a pod whose monitor ended is not ready.
pub(crate) const MONITOR_DIED: &str = "its monitor died";
/// Stack of a watching thread, bytes.
const STACK: usize = 128 * 1024;

/// Who listens, and whom to watch.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    listeners: Vec<Sender<Event>>,
    watched: HashSet<PodId>,
    engine: Weak<Engine>,
    monitors: Vec<(PodId, Child)>,
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A monitor that this process started, to be reaped when it ends.
    pub(crate) fn adopt(&self, pod: &PodId, child: Child) {
        let mut inner = self.lock();
        // Those whose pods other processes ended.
        inner.monitors.retain_mut(|(_, monitor)| !matches!(monitor.try_wait(), Ok(Some(_))));
        inner.monitors.push((pod.clone(), child));
    }

    /// Reaps the monitor of a pod all of whose processes were killed.
    pub(crate) fn reap(&self, pod: &PodId) {
        let ended: Vec<_> = self.lock().monitors.extract_if(.., |(of, _)| of == pod).collect();
        for (_, mut monitor) in ended {
            // It fails only where the monitor was reaped already.
            let _ = monitor.wait();
        }
    }

    /// Watches a pod, where anybody listens.
    pub(crate) fn watch(&self, pod: &PodId) {
        let engine = {
            let mut inner = self.lock();
            let Some(engine) = inner.engine.upgrade() else { return };
            if !inner.watched.insert(pod.clone()) {
                return;
            }
            engine
        };
        let pod = pod.clone();
        let started = std::thread::Builder::new()
            .name(format!("watch-{}", pod.short()))
            .stack_size(STACK)
            .spawn(move || engine.watch_pod(&pod));
        if let Err(e) = started {
            crate::tell(format_args!("a pod cannot be watched: {e}"));
        }
    }

    /// A pod that is removed: its end is no event.
    pub(crate) fn forget(&self, pod: &PodId) {
        self.lock().watched.remove(pod);
    }

    fn tell(&self, event: &Event) {
        self.lock().listeners.retain(|l| l.send(event.clone()).is_ok());
    }
}

impl Engine {
    /// What happens from now on, and the ends of containers that nobody was told of.
    pub fn events(self: &Arc<Self>) -> Receiver<Event> {
        let (sender, receiver) = channel();
        {
            let mut inner = self.hub.lock();
            inner.listeners.push(sender);
            inner.engine = Arc::downgrade(self);
        }
        for pod in self.list_sandboxes().unwrap_or_default() {
            if pod.state == SandboxState::Ready {
                self.hub.watch(&pod.id);
            }
        }
        receiver
    }

    fn watch_pod(&self, pod: &PodId) {
        let reason = match self.follow(pod) {
            Ok(reason) => reason,
            Err(e) => e.to_string(),
        };
        if !self.hub.lock().watched.remove(pod) {
            return; // it is being removed
        }
        match self.fail_sandbox(pod, &reason) {
            Ok(Some(reason)) => self.hub.tell(&Event::SandboxDied { pod: pod.clone(), reason }),
            // Another process may have found it dead first, as every command that opens an engine does.
            Ok(None) => {
                let found = self.known(pod).ok().flatten().and_then(|known| known.result.reason);
                if let Some(reason) = found.filter(|found| found.starts_with(&reason)) {
                    self.hub.tell(&Event::SandboxDied { pod: pod.clone(), reason });
                }
            }
            Err(e) => self.hub.tell(&Event::SandboxDied { pod: pod.clone(), reason: format!("{reason}; {e}") }),
        }
    }

    /// Tells of each exit until the monitor or the enclosure is gone; returns why.
    fn follow(&self, pod: &PodId) -> Result<String> {
        let known = self.must_know(pod)?;
        let driver = known.driver()?;
        let socket = known.dirs.socket();
        loop {
            // A connection that breaks off is no death: a monitor drops who falls behind.
            let events = Client::connect(&socket).and_then(Client::events);
            for exit in events.into_iter().flatten() {
                let Ok(exit) = exit else { break };
                if exit.key == ENCLOSURE_KEY {
                    return Ok(ENCLOSURE_DIED.to_owned());
                }
                if let Ok(container) = ContainerId::new(exit.key.clone()) {
                    let exit_code = driver.exit_code(&exit);
                    self.hub.tell(&Event::ContainerExited { pod: pod.clone(), container, exit_code });
                } else {
                    // What cannot be removed now goes with the pod.
                    let _ = self.collect_command(&known, &exit.key);
                }
            }
            if monitor_is_gone(&socket) {
                return Ok(MONITOR_DIED.to_owned());
            }
            std::thread::sleep(RECONNECT);
        }
    }

    /// Whether a process of the enclosure was killed for want of memory: gVisor's containers live in
    /// the sentry, so that their use counts there.
    pub(crate) fn enclosure_oom(&self, known: &Known) -> bool {
        let kills = |path| self.group(path).and_then(|g| g.oom_kills().map_err(failed)).unwrap_or(0);
        known.result.oom || kills(known.dirs.sandbox_cgroup()) > 0
    }

    /// Writes down what only a container's cgroup counts, before that goes: a kubelet asks how a container
    /// ended after it has stopped the pod, too. One whose record cannot be written has ended all the same.
    pub(crate) fn keep_oom(&self, dirs: &ContainerDirs, group: &Group) {
        if !group.oom_kills().is_ok_and(|kills| kills > 0) {
            return;
        }
        if let Ok(result) = self.container_result(dirs)
            && !result.oom
        {
            let _ = record::write(&dirs.status(), &ContainerResult { oom: true, ..result }, Durability::Cached);
        }
    }

    /// Ends what is left of a sandbox that died, and keeps its record with the reason, which it
    /// returns; `None` where it was not thought to be ready any more.
    pub(crate) fn fail_sandbox(&self, pod: &PodId, reason: &str) -> Result<Option<String>> {
        let Some((_lock, mut known)) = self.locked(pod)? else { return Ok(None) };
        if known.result.state != SandboxState::Ready {
            return Ok(None);
        }
        known.result.oom = self.enclosure_oom(&known);
        let ended = self.end(&known.dirs, pod);
        known.result.state = SandboxState::NotReady;
        known.result.left = ended.as_ref().err().map(ToString::to_string);
        let why = if known.result.oom { ": the pod used more memory than its limit" } else { "" };
        known.result.reason = Some(format!("{reason}{why}"));
        record::write(&known.dirs.status(), &known.result, Durability::Cached)?;
        ended?;
        Ok(known.result.reason)
    }
}
