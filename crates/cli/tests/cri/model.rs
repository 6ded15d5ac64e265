//! What must be true of pods and containers whatever the order of calls, and callers that look whether it is.
//!
//! Calls overlap, so that a model of exact states would be wrong; what is begun is noted before a call, and
//! what is known after it. An answer may not contradict what was known when its call began, and may not say
//! what nobody has begun.

use crate::common::patience;
use crate::cri::Kubelet;
use crate::cri::bystander::Bystander;
use cofferdam_cri_api::v1::{self, ContainerEventType, ContainerState, PodSandboxState};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What a container that ends by itself ends with.
pub(crate) const ENDS_WITH: i32 = 3;

/// Numbers of chance (SplitMix64).
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A sandbox, as far as it is known.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) attempt: u32,
    pub(crate) handler: String,
    /// Something was begun by which it may not be ready any more.
    pub(crate) ending: bool,
    /// Its removal was begun.
    pub(crate) removing: bool,
    /// Its removal was answered.
    pub(crate) removed: bool,
    /// It was seen not ready: it never is again.
    pub(crate) seen_down: bool,
}

/// A container, as far as it is known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Container {
    pub(crate) pod: String,
    pub(crate) name: String,
    /// 0 made, 1 running, 2 ended.
    pub(crate) rank: u8,
    pub(crate) started: bool,
    pub(crate) ends_by_itself: bool,
    pub(crate) ending: bool,
    pub(crate) removing: bool,
    pub(crate) removed: bool,
    /// Exit code and time, once they were told.
    pub(crate) exit: Option<(i32, i64)>,
}

/// All that is known.
pub(crate) struct Model {
    pub(crate) pods: BTreeMap<String, Pod>,
    pub(crate) containers: BTreeMap<String, Container>,
    /// Names whose maker got no answer: what has them may be found later, or be given to the next who asks.
    pub(crate) unanswered: BTreeSet<String>,
    pub(crate) bystander: (String, String),
    pub(crate) made: u32,
}

impl Model {
    pub(crate) fn new(bystander: &Bystander) -> Self {
        Self {
            pods: BTreeMap::new(),
            containers: BTreeMap::new(),
            unanswered: BTreeSet::new(),
            bystander: (bystander.pod.clone(), bystander.container.clone()),
            made: 0,
        }
    }

    /// A pod whose monitor is to die; what follows from that is noted.
    pub(crate) fn a_pod_to_break(&mut self, chance: &mut Chance) -> Option<String> {
        let alive: Vec<String> = self.pods.iter().filter(|(_, p)| !p.removing).map(|(id, _)| id.clone()).collect();
        let id = alive.get(chance.index(alive.len().max(1)))?.clone();
        self.pods.get_mut(&id).unwrap().ending = true;
        Some(id)
    }

    pub(crate) fn new_pod(&mut self, id: &str, name: &str, attempt: u32, answered_once: bool) {
        let key = pod_key(name, attempt);
        if let Some(known) = self.pods.get(id) {
            assert_eq!(pod_key(&known.name, known.attempt), key, "sandbox {id} was given to another name");
            assert!(self.unanswered.contains(&key) || !answered_once, "sandbox {id} was made twice");
            assert!(!known.removed, "sandbox {id} came back");
            return;
        }
        let twin = self.pods.iter().find(|(_, p)| pod_key(&p.name, p.attempt) == key && !p.removing);
        assert!(twin.is_none(), "sandbox {id} has the name of {twin:?}");
        let pod = Pod {
            name: name.into(),
            attempt,
            handler: handler_of(name).into(),
            ending: false,
            removing: false,
            removed: false,
            seen_down: false,
        };
        self.pods.insert(id.into(), pod);
    }

    pub(crate) fn new_container(&mut self, id: &str, pod: &str, name: &str) {
        if let Some(known) = self.containers.get(id) {
            assert_eq!(
                (known.pod.as_str(), known.name.as_str()),
                (pod, name),
                "container {id} was given to another name"
            );
            assert!(self.unanswered.contains(&container_key(pod, name)), "container {id} was made twice");
            assert!(!known.removed, "container {id} came back");
            return;
        }
        let twin = self.containers.iter().find(|(_, c)| c.pod == pod && c.name == name && !c.removing);
        assert!(twin.is_none(), "container {id} has the name of {twin:?}");
        let made = Container {
            pod: pod.into(),
            name: name.into(),
            ends_by_itself: name.starts_with("ends"),
            ..Container::default()
        };
        self.containers.insert(id.into(), made);
    }

    pub(crate) fn pod_is_going(&self, pod: &str) -> bool {
        self.pods.get(pod).is_none_or(|p| p.removing)
    }

    pub(crate) fn pod_is_down(&self, pod: &str) -> bool {
        self.pods.get(pod).is_none_or(|p| p.ending || p.removing)
    }

    /// Whether this container may be away now.
    pub(crate) fn may_be_gone(&self, id: &str) -> bool {
        self.containers.get(id).is_none_or(|c| c.removing || self.pod_is_going(&c.pod))
    }

    pub(crate) fn saw(&mut self, id: &str, status: &v1::ContainerStatus, known_before: &Container) {
        let rank = match status.state() {
            ContainerState::ContainerCreated => 0,
            ContainerState::ContainerRunning => 1,
            ContainerState::ContainerExited => 2,
            ContainerState::ContainerUnknown => panic!("container {id} is in no state: {status:?}"),
        };
        assert!(
            rank >= known_before.rank,
            "container {id} went back: {status:?} after {known_before:?}"
        );
        assert!(!known_before.removed, "container {id} came back: {status:?}");
        let down = self.pod_is_down(&known_before.pod);
        let Some(container) = self.containers.get_mut(id) else { return };
        container.rank = container.rank.max(rank);
        if rank == 2 && status.finished_at != 0 {
            let exit = (status.exit_code, status.finished_at);
            assert_eq!(*container.exit.get_or_insert(exit), exit, "container {id} ended twice");
            if container.ends_by_itself && !container.ending && !down {
                assert_eq!(status.exit_code, ENDS_WITH, "{status:?}");
            }
        }
    }

    pub(crate) fn saw_pod(&mut self, id: &str, state: PodSandboxState, handler: &str, known_before: &Pod) {
        assert_eq!(handler, known_before.handler, "sandbox {id} has another handler than was asked for");
        assert!(!known_before.removed, "sandbox {id} came back");
        let ready = state == PodSandboxState::SandboxReady;
        assert!(!(ready && known_before.seen_down), "sandbox {id} is ready again");
        let Some(pod) = self.pods.get_mut(id) else { return };
        assert!(
            ready || pod.ending || pod.removing,
            "sandbox {id} is not ready, and nobody began that"
        );
        pod.seen_down |= !ready;
    }

    /// Nobody calls: all that is listed is known, and all that is known and not removed is listed.
    pub(crate) fn check_at_rest(&mut self, kubelet: &Kubelet, listener: &Listener) {
        self.check_pods(kubelet);
        self.check_containers(kubelet);
        self.check_events(listener);
    }

    fn check_pods(&mut self, kubelet: &Kubelet) {
        let listed: Vec<_> = kubelet.pods().into_iter().filter(|p| p.id != self.bystander.0).collect();
        for pod in &listed {
            let metadata = pod.metadata.clone().unwrap();
            if !self.pods.contains_key(&pod.id) {
                let key = pod_key(&metadata.name, metadata.attempt);
                assert!(
                    self.unanswered.contains(&key),
                    "sandbox {} was made by nobody: {metadata:?}",
                    pod.id
                );
                self.new_pod(&pod.id, &metadata.name, metadata.attempt, false);
            }
            let known = self.pods[&pod.id].clone();
            self.saw_pod(&pod.id, pod.state(), &pod.runtime_handler, &known);
            let (status, _) = kubelet.pod_told(&pod.id).unwrap();
            if !known.ending {
                assert_eq!(status.state(), PodSandboxState::SandboxReady, "{known:?}");
                assert!(!status.network.unwrap().ip.is_empty(), "{known:?}");
            }
        }
        for (id, pod) in self.pods.iter().filter(|(_, p)| !p.removing) {
            assert!(listed.iter().any(|l| l.id == *id), "sandbox {id} is lost: {pod:?}");
        }
    }

    fn check_containers(&mut self, kubelet: &Kubelet) {
        let listed: Vec<_> = kubelet.containers().into_iter().filter(|c| c.id != self.bystander.1).collect();
        for container in &listed {
            let name = container.metadata.clone().unwrap().name;
            if !self.containers.contains_key(&container.id) {
                let key = container_key(&container.pod_sandbox_id, &name);
                assert!(self.unanswered.contains(&key), "container {} was made by nobody", container.id);
                self.new_container(&container.id, &container.pod_sandbox_id, &name);
            }
            let known = self.containers[&container.id].clone();
            let well = known.started && !known.ending && !self.pod_is_down(&known.pod);
            let look = || kubelet.status(&container.id).unwrap();
            let status = if well && known.ends_by_itself {
                kubelet.ended(&container.id)
            } else {
                look()
            };
            self.saw(&container.id, &status, &known);
            if well && !known.ends_by_itself {
                assert_eq!(status.state(), ContainerState::ContainerRunning, "{known:?}: {status:?}");
                self.assert_enclosed(kubelet, &container.id, &known);
            }
        }
        for (id, container) in &self.containers {
            assert!(
                self.may_be_gone(id) || listed.iter().any(|l| l.id == *id),
                "container {id} is lost: {container:?}"
            );
        }
    }

    /// A container of gVisor's does not see the machine's kernel.
    fn assert_enclosed(&self, kubelet: &Kubelet, id: &str, known: &Container) {
        let handler = &self.pods[&known.pod].handler;
        if handler == "faulty" {
            return;
        }
        let seen = kubelet.exec(id, "cat /proc/version", 20).unwrap().stdout;
        let machine = std::fs::read("/proc/version").unwrap();
        assert_eq!(seen == machine, handler != "runsc", "{handler}: {}", String::from_utf8_lossy(&seen));
    }

    fn check_events(&self, listener: &Listener) {
        // All that was begun is answered; what was told of it comes soon.
        let wanted = |story: &[ContainerEventType], id: &str| -> Option<ContainerEventType> {
            let known = self.containers.get(id)?;
            let mut wanted = vec![];
            if known.removed {
                wanted.push(ContainerEventType::ContainerDeletedEvent);
            }
            if known.started && (known.rank == 2 || known.removed) {
                wanted.push(ContainerEventType::ContainerStoppedEvent);
            }
            if known.started {
                wanted.push(ContainerEventType::ContainerStartedEvent);
            }
            wanted.into_iter().find(|kind| !story.contains(kind))
        };
        let made_here: Vec<String> = listener.made.lock().unwrap().clone();
        let lacking = |stories: &BTreeMap<String, Vec<ContainerEventType>>| {
            let none = vec![];
            made_here.iter().find_map(|id| {
                let story = stories.get(id).unwrap_or(&none);
                let lacks_first = !story.contains(&ContainerEventType::ContainerCreatedEvent);
                let first = lacks_first.then_some(ContainerEventType::ContainerCreatedEvent);
                first.or_else(|| wanted(story, id)).map(|kind| (id.clone(), kind, story.clone()))
            })
        };
        let began = Instant::now();
        while !listener.is_broken() {
            let Some((id, kind, story)) = lacking(&listener.stories()) else {
                break;
            };
            let known = &self.containers[&id];
            assert!(
                began.elapsed() < patience(),
                "never told {kind:?} of {id}, but {story:?}; it is {known:?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        for (id, story) in listener.stories() {
            let mut sorted = story.clone();
            sorted.sort_by_key(|kind| *kind as i32);
            sorted.dedup();
            assert_eq!(
                story,
                sorted,
                "what was told of {id} is not in order, each once: {:?}",
                self.containers.get(&id)
            );
        }
    }
}

pub(crate) fn pod_key(name: &str, attempt: u32) -> String {
    format!("{name} {attempt}")
}

pub(crate) fn container_key(pod: &str, name: &str) -> String {
    format!("{name} in {pod}")
}

/// A pod's name ends with the handler that is asked for.
fn handler_of(name: &str) -> &str {
    name.rsplit('-').next().unwrap()
}

/// Who listens to events, for as long as one daemon lives.
pub(crate) struct Listener {
    pub(crate) events: Mutex<(crate::cri::Events, BTreeMap<String, Vec<ContainerEventType>>)>,
    pub(crate) broken: AtomicBool,
    /// Containers that were made, and answered, while it listened.
    pub(crate) made: Mutex<Vec<String>>,
}

impl Listener {
    pub(crate) fn new(kubelet: &Kubelet) -> Self {
        Self {
            events: Mutex::new((kubelet.events(), BTreeMap::new())),
            broken: AtomicBool::new(false),
            made: Mutex::default(),
        }
    }

    /// The daemon is about to die.
    pub(crate) fn broke(&self) {
        self.broken.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::SeqCst)
    }

    /// What was told so far of each.
    fn stories(&self) -> BTreeMap<String, Vec<ContainerEventType>> {
        let mut events = self.events.lock().unwrap();
        let (source, stories) = &mut *events;
        while let Ok(event) = source.0.try_recv() {
            stories
                .entry(event.container_id.clone())
                .or_default()
                .push(event.container_event_type());
        }
        stories.clone()
    }
}
