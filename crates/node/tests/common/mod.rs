//! A runtime that only remembers, with faults on demand and exits on command; and a node over it.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub
)]

use cofferdam_model::cri::*;
use cofferdam_model::{ContainerId, PodId};
use cofferdam_node::{Dirs, Handle, Machine, ManualClock, Node, Objects, PodSetup, PodView};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// How long a test waits for something that must come, before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct State {
    ids: u8,
    sandboxes: BTreeMap<PodId, SandboxStatus>,
    containers: BTreeMap<ContainerId, ContainerStatus>,
    calls: Vec<String>,
    faults: HashMap<&'static str, VecDeque<Error>>,
    missing_images: BTreeSet<String>,
    /// Exit code of a hook's command, by its first word; one that is not here gives 0.
    hooks: HashMap<String, i32>,
    /// Containers that only SIGKILL ends: their stop blocks until one with no grace comes.
    stubborn: BTreeSet<String>,
    /// Verbs that block until they are let go.
    held: BTreeSet<&'static str>,
    /// Address of the next sandboxes.
    address: Option<std::net::IpAddr>,
    /// Credentials of each pull.
    credentials: Vec<Vec<Vec<u8>>>,
    /// Working sets of containers.
    memory: BTreeMap<String, u64>,
    inside: usize,
    most_inside: usize,
    events: Vec<Sender<Event>>,
}

#[derive(Default)]
pub struct Fake {
    state: Mutex<State>,
    moved: Condvar,
}

impl Fake {
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.lock().unwrap());
        self.moved.notify_all();
        result
    }

    /// The next calls of `verb` fail so, one error a call.
    pub fn fail(&self, verb: &'static str, errors: impl IntoIterator<Item = Error>) {
        self.with(|s| s.faults.entry(verb).or_default().extend(errors));
    }
    pub fn lose_image(&self, image: &str) {
        self.with(|s| s.missing_images.insert(image.into()));
    }
    pub fn hook(&self, command: &str, code: i32) {
        self.with(|s| s.hooks.insert(command.into(), code));
    }
    pub fn credentials(&self) -> Vec<Vec<Vec<u8>>> {
        self.with(|s| s.credentials.clone())
    }
    pub fn uses_memory(&self, container: &str, bytes: u64) {
        self.with(|s| s.memory.insert(container.into(), bytes));
    }
    /// The id of the running container `name`.
    pub fn id(&self, name: &str) -> ContainerId {
        self.with(|s| {
            let mut running = s.containers.iter().filter(|(_, c)| c.state == ContainerState::Running);
            running.find(|(_, c)| c.config.name == name).unwrap().0.clone()
        })
    }
    /// How often `call` was made.
    pub fn count(&self, call: &str) -> usize {
        self.with(|s| s.calls.iter().filter(|c| *c == call).count())
    }
    pub fn stubborn(&self, container: &str) {
        self.with(|s| s.stubborn.insert(container.into()));
    }
    pub fn hold(&self, verb: &'static str) {
        self.with(|s| s.held.insert(verb));
    }
    pub fn let_go(&self, verb: &'static str) {
        self.with(|s| s.held.remove(verb));
    }
    pub fn calls(&self) -> Vec<String> {
        self.with(|s| s.calls.clone())
    }
    pub fn most_inside(&self) -> usize {
        self.with(|s| s.most_inside)
    }
    pub fn wait_inside(&self, many: usize) {
        self.wait(|s| s.inside >= many);
    }
    pub fn wait_call(&self, call: &str) {
        self.wait(|s| s.calls.iter().any(|c| c == call));
    }
    pub fn is_empty(&self) -> bool {
        self.with(|s| s.sandboxes.is_empty() && s.containers.is_empty())
    }
    /// The request that the running container `name` was made by.
    pub fn config(&self, name: &str) -> ContainerConfig {
        self.with(|s| {
            s.containers
                .values()
                .find(|c| c.config.name == name)
                .unwrap()
                .config
                .clone()
        })
    }
    pub fn sandbox_config(&self) -> SandboxConfig {
        self.with(|s| s.sandboxes.values().next().unwrap().config.clone())
    }

    fn wait(&self, ready: impl Fn(&State) -> bool) {
        let state = self.state.lock().unwrap();
        let (state, late) = self
            .moved
            .wait_timeout_while(state, PATIENCE, |s| !ready(s))
            .unwrap();
        assert!(
            !late.timed_out(),
            "it never came; calls: {:#?}",
            state.calls
        );
    }

    /// The running container `name` ends. Without `told`, the event is lost.
    pub fn exit_as(&self, name: &str, code: i32, told: bool) {
        self.with(|s| {
            let (id, container) = s
                .containers
                .iter_mut()
                .find(|(_, c)| c.config.name == name && c.state == ContainerState::Running)
                .unwrap();
            end(container, code);
            let event = Event::ContainerExited {
                pod: container.pod.clone(),
                container: id.clone(),
                exit_code: code,
            };
            if told {
                s.events.retain(|e| e.send(event.clone()).is_ok());
            }
        });
    }
    pub fn exit(&self, name: &str, code: i32) {
        self.exit_as(name, code, true);
    }
    pub fn sandbox_dies(&self, why: &str) {
        self.with(|s| {
            let pod = s.sandboxes.keys().next().unwrap().clone();
            let event = Event::SandboxDied {
                pod,
                reason: why.into(),
            };
            s.events.retain(|e| e.send(event.clone()).is_ok());
        });
    }

    /// Writes down a call; blocks where it is held; fails where it must.
    fn call(&self, verb: &'static str, text: String) -> Result<()> {
        let mut state = self.state.lock().unwrap();
        state
            .calls
            .push(format!("{verb} {text}").trim_end().to_owned());
        state.inside += 1;
        state.most_inside = state.most_inside.max(state.inside);
        self.moved.notify_all();
        let mut state = self
            .moved
            .wait_while(state, |s| s.held.contains(verb))
            .unwrap();
        state.inside -= 1;
        match state.faults.get_mut(verb).and_then(VecDeque::pop_front) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn container_name(&self, id: &ContainerId) -> Result<String> {
        self.with(|s| s.containers.get(id).map(|c| c.config.name.clone()))
            .ok_or_else(|| Error::NotFound(format!("no container {id}")))
    }
}

fn end(container: &mut ContainerStatus, code: i32) {
    container.state = ContainerState::Exited;
    container.exit_code = code;
    container.finished_at = 2;
}

impl Runtime for Fake {
    fn run_pod_sandbox(&self, config: &SandboxConfig, handler: &str) -> Result<PodId> {
        self.call("run", format!("{} {handler}", config.name))?;
        self.with(|s| {
            s.ids += 1;
            let id = PodId::from_bytes([s.ids; 16]);
            let status = SandboxStatus {
                id: id.clone(),
                config: config.clone(),
                handler: if handler.is_empty() {
                    "runc".into()
                } else {
                    handler.into()
                },
                state: SandboxState::Ready,
                reason: None,
                created_at: 1,
                ip: Some([10, 88, 0, s.ids].into()),
                ips: vec![[10, 88, 0, s.ids].into(), [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(s.ids)].into()],
                stages: vec![Stage {
                    name: "sandbox".into(),
                    micros: 5,
                }],
            };
            s.sandboxes.insert(id.clone(), status);
            Ok(id)
        })
    }
    fn stop_pod_sandbox(&self, pod: &PodId) -> Result<()> {
        self.call("stop-sandbox", String::new())?;
        self.with(|s| {
            s.containers
                .values_mut()
                .filter(|c| c.pod == *pod && c.state == ContainerState::Running)
                .for_each(|c| end(c, 137))
        });
        Ok(())
    }
    fn remove_pod_sandbox(&self, pod: &PodId) -> Result<()> {
        self.call("remove-sandbox", String::new())?;
        self.with(|s| {
            s.sandboxes.remove(pod);
            s.containers.retain(|_, c| c.pod != *pod);
        });
        Ok(())
    }
    fn pod_sandbox_status(&self, pod: &PodId) -> Result<SandboxStatus> {
        self.with(|s| s.sandboxes.get(pod).cloned())
            .ok_or_else(|| Error::NotFound(format!("no sandbox {pod}")))
    }
    fn list_pod_sandboxes(&self) -> Result<Vec<SandboxStatus>> {
        Ok(self.with(|s| s.sandboxes.values().cloned().collect()))
    }
    fn create_container(&self, pod: &PodId, config: &ContainerConfig) -> Result<ContainerId> {
        self.call("create", config.name.clone())?;
        self.with(|s| {
            s.ids += 1;
            let id = ContainerId::from_bytes([s.ids; 16]);
            let status = ContainerStatus {
                id: id.clone(),
                pod: pod.clone(),
                config: config.clone(),
                image_id: "sha256:00".into(),
                state: ContainerState::Created,
                created_at: 1,
                started_at: 0,
                finished_at: 0,
                exit_code: 0,
                reason: String::new(),
                message: String::new(),
                pid: None,
                stages: Vec::new(),
            };
            s.containers.insert(id.clone(), status);
            Ok(id)
        })
    }
    fn start_container(&self, container: &ContainerId) -> Result<()> {
        self.call("start", self.container_name(container)?)?;
        self.with(|s| s.containers.get_mut(container).unwrap().state = ContainerState::Running);
        Ok(())
    }
    fn stop_container(&self, container: &ContainerId, grace: Duration) -> Result<()> {
        let name = self.container_name(container)?;
        self.call("stop", format!("{name} {}", grace.as_secs()))?;
        let state = self.state.lock().unwrap();
        let running = |s: &State| {
            s.containers
                .get(container)
                .is_some_and(|c| c.state == ContainerState::Running)
        };
        let mut state = self
            .moved
            .wait_while(state, |s| {
                !grace.is_zero() && s.stubborn.contains(&name) && running(s)
            })
            .unwrap();
        if running(&state) {
            end(
                state.containers.get_mut(container).unwrap(),
                if grace.is_zero() { 137 } else { 143 },
            );
            self.moved.notify_all();
        }
        Ok(())
    }
    fn remove_container(&self, container: &ContainerId) -> Result<()> {
        self.call("remove", self.container_name(container)?)?;
        self.with(|s| s.containers.remove(container));
        Ok(())
    }
    fn container_status(&self, container: &ContainerId) -> Result<ContainerStatus> {
        self.with(|s| s.containers.get(container).cloned())
            .ok_or_else(|| Error::NotFound(format!("no container {container}")))
    }
    fn list_containers(&self, _: Option<&PodId>) -> Result<Vec<ContainerStatus>> {
        Ok(self.with(|s| s.containers.values().cloned().collect()))
    }
    fn exec_sync(
        &self,
        container: &ContainerId,
        command: &[String],
        _: Duration,
    ) -> Result<ExecOutput> {
        self.call(
            "exec",
            format!("{} {}", self.container_name(container)?, command.join(" ")),
        )?;
        let exit_code = self.with(|s| s.hooks.get(&command[0]).copied().unwrap_or(0));
        Ok(ExecOutput {
            exit_code,
            stderr: b"oh no\n".to_vec(),
            ..ExecOutput::default()
        })
    }
    fn pod_stats(&self, _: &PodId) -> Result<PodStats> {
        Ok(PodStats::default())
    }
    fn handlers(&self) -> Result<Vec<HandlerStatus>> {
        Ok(Vec::new())
    }
    fn handler_ready(&self, handler: &str) -> Result<BTreeMap<String, bool>> {
        if handler == "broken" {
            return Err(Error::Handler("handler \"broken\" is not proved".into()));
        }
        Ok(BTreeMap::from([(FEATURE_CONTAINER_LIMITS.to_owned(), handler != "user-space")]))
    }
    fn image_status(&self, image: &str) -> Result<Option<String>> {
        Ok(self.with(|s| (!s.missing_images.contains(image)).then(|| "sha256:00".into())))
    }
    fn pull_image(&self, request: &PullRequest) -> Result<String> {
        self.with(|s| s.credentials.push(request.docker_configs.clone()));
        self.call("pull", request.image.clone())?;
        self.with(|s| s.missing_images.remove(&request.image));
        Ok("sha256:00".into())
    }
    fn update_container(&self, container: &ContainerId, limits: &LinuxResources) -> Result<()> {
        self.call("update", format!("{} {}", self.container_name(container)?, limits.memory_limit))
    }
    fn update_pod_sandbox(&self, _: &PodId, overhead: &LinuxResources, limits: &LinuxResources) -> Result<()> {
        self.call("update-sandbox", format!("{} of {}", overhead.memory_limit, limits.memory_limit))
    }
    fn container_stats(&self, _: &PodId) -> Result<Vec<ContainerStats>> {
        let stats = |(name, bytes): (&String, &u64)| ContainerStats { name: name.clone(), memory_working_set: Some(*bytes), ..ContainerStats::default() };
        Ok(self.with(|s| s.memory.iter().map(stats).collect()))
    }
    fn events(&self) -> Receiver<Event> {
        let (sender, receiver) = channel();
        self.with(|s| s.events.push(sender));
        receiver
    }
}

/// A node over a fake runtime and a clock that stands still.
pub struct Bed {
    pub fake: Arc<Fake>,
    pub clock: Arc<ManualClock>,
    pub dir: tempfile::TempDir,
    pub node: Node,
}

pub fn bed() -> Bed {
    let dir = tempfile::tempdir().unwrap();
    let at = |name| dir.path().join(name);
    let dirs = Dirs {
        volumes: at("volumes"),
        secrets: at("secrets"),
        logs: at("logs"),
    };
    let config_maps = serde_json::json!([{"metadata": {"name": "cm"}, "data": {"a": "1"}}]);
    let secrets = serde_json::json!([
        {"metadata": {"name": "registry"}, "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "{\"auths\":{}}"}},
    ]);
    let objects = Objects::new(serde_json::from_value(config_maps).unwrap(), serde_json::from_value(secrets).unwrap());
    let (fake, clock) = (Arc::new(Fake::default()), Arc::new(ManualClock::default()));
    let machine = Machine {
        name: "node-1".into(),
        cpu_millis: 1000,
        memory: 1 << 30,
        cdi: BTreeMap::from([("nvidia.com/gpu".to_owned(), vec!["0".to_owned()])]),
        ..Machine::default()
    };
    let node = Node::with(fake.clone(), dirs, objects, machine, clock.clone()).unwrap();
    Bed {
        fake,
        clock,
        dir,
        node,
    }
}

/// A pod named `p` with `spec`; containers without an image get one.
pub fn pod(spec: serde_json::Value) -> PodSetup {
    named("p", spec)
}

pub fn named(name: &str, spec: serde_json::Value) -> PodSetup {
    let pod = serde_json::json!({"metadata": {"name": name}, "spec": spec});
    PodSetup {
        pod: serde_json::from_value(pod).unwrap(),
        handler: "crun".into(),
        class: Some("fast".into()),
        ..PodSetup::default()
    }
}

impl Bed {
    pub fn start(&self, setup: PodSetup) -> Handle {
        self.node.start(vec![setup], 1).unwrap()
    }
    pub fn seconds(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
    /// Whether nothing of any pod stays, but for logs.
    pub fn is_clean(&self) -> bool {
        let empty = |name| {
            std::fs::read_dir(self.dir.path().join(name)).map_or(true, |mut d| d.next().is_none())
        };
        self.fake.is_empty() && empty("volumes") && empty("secrets")
    }
}

/// Waits until the first pod looks so.
pub fn until(handle: &Handle, looks: impl Fn(&PodView) -> bool) -> Arc<PodView> {
    let changes = handle.changes();
    let mut view = handle.snapshot()[0].clone();
    while !looks(&view) {
        view = changes
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| panic!("it never looked so: {view:#?}"));
    }
    view
}

pub fn ended(handle: &Handle) -> Arc<PodView> {
    until(handle, |view| view.ended)
}

/// What was told with this reason: each sentence with how often.
pub fn told(view: &PodView, reason: &str) -> Vec<String> {
    let of = view.events.iter().filter(|e| e.reason == reason);
    of.map(|e| if e.count > 1 { format!("{} x{}", e.message, e.count) } else { e.message.clone() }).collect()
}

/// A condition as `STATUS reason message`.
pub fn condition(view: &PodView, kind: &str) -> String {
    let found = view.conditions.iter().find(|c| c.kind == kind);
    found.map_or_else(|| "-".into(), |c| format!("{} {} {}", c.status, c.reason, c.message).trim().to_owned())
}

/// The pod as text: `phase reason: name=state …`.
pub fn text(view: &PodView) -> String {
    use cofferdam_node::ContainerPhase::{Running, Terminated, Waiting};
    let state = |c: &cofferdam_node::ContainerView| match &c.state {
        Waiting { reason, .. } => format!("{}={reason}", c.name),
        Running { .. } => format!("{}=up", c.name),
        Terminated(end) => format!("{}={}", c.name, end.exit_code),
    };
    let containers: Vec<_> = view.containers.iter().map(state).collect();
    format!("{:?} {}: {}", view.phase, view.reason, containers.join(" "))
}

pub fn up(view: &PodView, name: &str) -> bool {
    text(view).contains(&format!("{name}=up"))
}
