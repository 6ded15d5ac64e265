//! How a pod's sandbox and containers come to be.

use crate::config::{self, Resolved};
use crate::control::Message;
use crate::env::{Sources, environment};
use crate::next::{Life, Role, SandboxLife};
use crate::node::{STACK, log_directory};
use crate::status::*;
use crate::hook::{self, Span};
use crate::volumes::{Given, PodVolumes, component, make_dirs};
use crate::words::pod_name;
use crate::worker::Worker;
use crate::{devices, dns};
use cofferdam_model::ContainerId;
use cofferdam_model::cri::{ContainerConfig, ContainerState, Error, FEATURE_CONTAINER_LIMITS, SandboxState};
use cofferdam_model::pod::LifecycleHandler;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// How often a sandbox or a container is tried to be made before the pod is failed. The kubelet
/// tries for ever; a run is waited for.
pub const MAX_TRIES: u32 = 3;
/// The wait before the second try; it doubles.
pub const FIRST_RETRY: Duration = Duration::from_secs(1);

/// A hook has no time limit of its own, as upstream: it ends with its container.
const HOOK_LIMIT: Duration = Duration::from_secs(u32::MAX as u64);

fn retry_after(tries: u32) -> Duration {
    FIRST_RETRY * 2u32.saturating_pow(tries.saturating_sub(1))
}

/// What a user reads where a handler refused.
fn not_started(why: &str) -> String {
    format!("not started, and not started anywhere weaker: {why}")
}

impl Worker {
    pub(crate) fn make_sandbox(&mut self) {
        if self.volumes.is_none() {
            // The first question: nothing else matters of a pod whose enclosure cannot be had.
            let Some(features) = self.handler_features() else { return };
            if let Err((reason, message)) = self.prepare(&features) {
                return self.give_up(reason, message);
            }
            if features.get(FEATURE_CONTAINER_LIMITS) == Some(&false)
                && let Some(note) = config::limits_without_hold(&self.setup)
            {
                self.event(true, "Weaker", note);
            }
        }
        let (dns, notes) = match dns::dns(&self.setup.pod.spec, dns::of_machine) {
            Ok(found) => found,
            Err(message) => return self.give_up(REASON_SANDBOX, message),
        };
        for note in notes {
            self.event(true, dns::REASON_CUT, note);
        }
        let logs = match log_directory(&self.shared.dirs, &self.view) {
            Ok(logs) => logs,
            Err(err) => return self.give_up(REASON_SANDBOX, err.0),
        };
        let config = match config::sandbox(&self.setup, self.sandbox_tries, logs, dns) {
            Ok(config) => config,
            Err(message) => return self.give_up(REASON_SANDBOX, message),
        };
        match self
            .shared
            .runtime
            .run_pod_sandbox(&config, &self.setup.handler)
        {
            Ok(id) => {
                self.route(&id);
                self.sandbox = Some(id);
                self.state.sandbox = SandboxLife::Ready;
                self.look_at_sandbox();
                self.tell_sandbox();
            }
            Err(Error::Handler(why)) => self.give_up(REASON_HANDLER, not_started(&why)),
            Err(Error::Invalid(why)) => self.give_up(REASON_SANDBOX, why),
            Err(err) => {
                self.sandbox_tries += 1;
                self.event(
                    true,
                    REASON_SANDBOX,
                    format!("Failed to create pod sandbox: {err}"),
                );
                if self.sandbox_tries >= MAX_TRIES {
                    return self.give_up(
                        REASON_SANDBOX,
                        format!("its sandbox could not be made in {MAX_TRIES} tries: {err}"),
                    );
                }
                self.state.sandbox =
                    SandboxLife::None(self.now() + retry_after(self.sandbox_tries));
            }
        }
    }

    /// What the pod's handler can do; `None` where it cannot be had, and the pod is given up.
    pub(crate) fn handler_features(&mut self) -> Option<BTreeMap<String, bool>> {
        match self.shared.runtime.handler_ready(&self.setup.handler) {
            Ok(features) => Some(features),
            Err(why) => {
                self.give_up(REASON_HANDLER, not_started(&why.to_string()));
                None
            }
        }
    }

    /// Whether the pod asks for no more than it can have; else it is given up.
    pub(crate) fn is_possible(&mut self, features: &BTreeMap<String, bool>) -> bool {
        match config::check(&self.setup, &self.shared.machine, features) {
            Ok(()) => true,
            Err(why) => {
                self.give_up(REASON_UNSUPPORTED, why);
                false
            }
        }
    }

    /// Reads the address and the stages; what died before it was routed is seen here.
    fn look_at_sandbox(&mut self) {
        let Some(id) = &self.sandbox else { return };
        match self.shared.runtime.pod_sandbox_status(id) {
            Ok(status) => {
                self.ip = status.ip;
                self.ips = if status.ips.is_empty() { status.ip.into_iter().collect() } else { status.ips };
                self.view.ip = status.ip;
                self.view.sandbox = Some(id.clone());
                self.view.handler = status.handler;
                self.view.stages = status.stages;
                if status.state == SandboxState::NotReady {
                    self.state.sandbox = SandboxLife::Died(
                        status
                            .reason
                            .unwrap_or_else(|| "it is no longer ready".into()),
                    );
                }
            }
            Err(err) => self.state.sandbox = SandboxLife::Died(err.to_string()),
        }
    }

    /// Everything that can be found wrong before anything runs.
    fn prepare(&mut self, features: &BTreeMap<String, bool>) -> Result<(), (&'static str, String)> {
        let pod = &self.setup.pod;
        config::check(&self.setup, &self.shared.machine, features).map_err(|why| (REASON_UNSUPPORTED, why))?;
        let logs =
            log_directory(&self.shared.dirs, &self.view).map_err(|e| (REASON_UNSUPPORTED, e.0))?;
        let containers: Vec<_> = pod
            .spec
            .init_containers
            .iter()
            .chain(&pod.spec.containers)
            .collect();
        let mut told = Vec::new();
        for container in &containers {
            component("container name", &container.name).map_err(|e| (REASON_UNSUPPORTED, e.0))?;
        }
        if let Some(trouble) = self.image_trouble.take() {
            return Err(trouble);
        }
        // What the containers may use: the enclosure's share is not theirs.
        let limit = self
            .setup
            .pod_resources
            .memory_limit
            .saturating_sub(self.setup.overhead.memory_limit);
        let given = Given {
            objects: &self.shared.objects,
            dirs: &self.shared.dirs,
            machine: &self.shared.machine,
            memory_limit: limit,
            features,
        };
        let volumes = PodVolumes::prepare(pod, given).map_err(|e| (REASON_MOUNT, e.0))?;
        told.extend(volumes.warnings.iter().cloned());
        let names: Vec<_> = containers.iter().map(|c| logs.join(&c.name)).collect();
        self.volumes = Some(volumes);
        let (known, root) = (&self.shared.machine.cdi, &self.shared.dirs.volumes);
        self.devices = devices::claim(pod, known, root).map_err(|why| (REASON_UNSUPPORTED, why))?;
        for name in names {
            make_dirs(&name, 0o755).map_err(|e| (REASON_SANDBOX, e.0))?;
        }
        for note in told {
            self.event(true, "Weaker", note);
        }
        Ok(())
    }

    pub(crate) fn start_container(&mut self, index: usize) {
        if !self.image_is_ready(index) {
            return;
        }
        if let Life::Exited { at, .. } = self.state.containers[index].life {
            let now = self.now();
            let state = &mut self.state.containers[index];
            // One that the node ended is judged by the end before, as upstream restarts it in the same go.
            let judged = if state.again { state.before } else { Some(at) };
            judged.into_iter().for_each(|judged| state.backoff.restarted(judged, now));
            (state.life, state.before, state.again) = (Life::Retry(now), Some(at), false);
            self.forget_last(index);
        }
        let config = match self.config_of(index) {
            Ok(config) => config,
            Err(why) => {
                let message = format!("container {:?}: {why}", self.container(index).name);
                self.records[index].waiting = Some((REASON_CONFIG, why));
                if self.state.containers[index].role == Role::Ephemeral {
                    return self.not_added(index, message);
                }
                return self.give_up(REASON_CONFIG, message);
            }
        };
        let Some(sandbox) = self.sandbox.clone() else {
            return;
        };
        match self.shared.runtime.create_container(&sandbox, &config) {
            Ok(id) => {
                let record = &mut self.records[index];
                record.id = Some(id.clone());
                record.made += 1;
                record.tries = 0;
                record.waiting = None;
                record.hook_failed = None;
                record.image_ready = false;
                // Asked to stop while it was made: it goes with its sandbox and never runs.
                if self.control.stop_asked().is_none() {
                    self.let_go(index, id);
                }
            }
            Err(err) => self.not_made(index, &err),
        }
    }

    fn not_made(&mut self, index: usize, err: &Error) {
        let name = self.container(index).name.clone();
        let message = format!("container {name:?} could not be made: {err}");
        let retry = self.now();
        let record = &mut self.records[index];
        record.tries += 1;
        record.waiting = Some((REASON_CREATE, err.to_string()));
        let tries = record.tries;
        if self.state.containers[index].role == Role::Ephemeral {
            return self.not_added(index, message);
        }
        match err {
            Error::Handler(why) => self.give_up(REASON_HANDLER, not_started(why)),
            Error::Invalid(_) => self.give_up(REASON_CREATE, message),
            _ if tries >= MAX_TRIES => {
                self.give_up(REASON_CREATE, format!("{message} ({MAX_TRIES} tries)"))
            }
            _ => {
                self.event(true, "Failed", message);
                self.state.containers[index].life = Life::Retry(retry + retry_after(tries));
            }
        }
    }

    /// A pod does not end because a container cannot be added to it. It is tried again, as the kubelet does.
    fn not_added(&mut self, index: usize, message: String) {
        self.event(true, "Failed", message);
        self.state.containers[index].life = Life::Retry(self.now() + crate::backoff::MAX);
    }

    /// Removes the run before this one, and the log of the run before that, as the kubelet keeps one.
    fn forget_last(&mut self, index: usize) {
        let name = self.container(index).name.clone();
        if let Some(id) = self.records[index].id.take()
            && let Err(err) = self.shared.runtime.remove_container(&id)
        {
            self.event(
                true,
                "FailedRemoveContainer",
                format!("the last run of container {name:?} stays until the pod ends: {err}"),
            );
        }
        if let (Some(old), Ok(logs)) = (
            self.records[index].made.checked_sub(2),
            log_directory(&self.shared.dirs, &self.view),
        ) {
            // It goes with the pod's logs at the latest.
            let _ = std::fs::remove_file(logs.join(config::log_path(&name, old)));
        }
    }

    /// The request for the container at `index`, or one sentence why there is none.
    fn config_of(&mut self, index: usize) -> Result<ContainerConfig, String> {
        let machine = &self.shared.machine;
        let in_host = self.setup.pod.spec.host_network;
        let ips: Vec<IpAddr> = if in_host { machine.addresses() } else { self.ips.clone() };
        let container = self.container(index).clone();
        let sources = Sources {
            pod: &self.setup.pod,
            objects: &self.shared.objects,
            machine,
            pod_ips: &ips,
        };
        let env = environment(sources, &container).map_err(|e| e.0)?;
        let attempt = self.records[index].made;
        let volumes = self
            .volumes
            .as_ref()
            .ok_or_else(|| "its volumes are not there".to_owned())?;
        let mounts = volumes.mounts(&container, &env).map_err(|e| e.0)?;
        let termination_file = volumes
            .termination_file(&container.name, attempt)
            .map_err(|e| e.0)?;
        for warning in env.warnings.clone() {
            self.event(true, "InvalidEnvironmentVariableNames", warning);
        }
        let pid_of = self.target_of(index)?;
        let mut config = config::container(
            &self.setup,
            &container,
            attempt,
            Resolved {
                env,
                mounts,
                termination_file,
                seccomp_root: self.shared.machine.seccomp_root().to_owned(),
                cdi_devices: self.devices.of(&container.name),
            },
        )?;
        config.pid_of = pid_of;
        Ok(config)
    }

    /// Starts the made container `id`.
    fn let_go(&mut self, index: usize, id: ContainerId) {
        let container = self.container(index);
        let hook = container
            .lifecycle
            .as_ref()
            .and_then(|l| l.post_start.clone());
        let name = container.name.clone();
        let wall = self.shared.clock.unix_nanos();
        if let Err(err) = self.shared.runtime.start_container(&id) {
            let message = err.to_string();
            self.event(
                true,
                "Failed",
                format!("container {name:?} could not be started: {message}"),
            );
            let end = Terminated {
                exit_code: 128,
                reason: REASON_START.into(),
                message,
                started_at: 0,
                finished_at: wall,
            };
            self.state.containers[index].life = Life::Exited {
                code: 128,
                at: self.now(),
            };
            self.state.containers[index].last_code = Some(128);
            let record = &mut self.records[index];
            record.last = record.end.replace(end);
            return;
        }
        self.records[index].started_at = wall;
        if let Ok(status) = self.shared.runtime.container_status(&id) {
            self.records[index].stages = status.stages;
            if status.started_at > 0 {
                self.records[index].started_at = status.started_at;
            }
        }
        self.tell_started(index);
        let state = &mut self.state.containers[index];
        (state.ran, state.started) = (true, false);
        state.life = if hook.is_some() { Life::Hook } else { Life::Running };
        match hook {
            Some(hook) => self.post_start(index, id, hook),
            None => self.watch(index),
        }
        let mut work = self
            .state
            .containers
            .iter()
            .filter(|c| c.role == Role::Regular);
        if self.view.start_micros.is_none() && work.all(|c| c.ran) {
            let took = self.now().saturating_sub(self.began).as_micros();
            self.view.start_micros = u64::try_from(took).ok();
        }
    }

    /// Runs a postStart hook beside the worker, which must stay able to hear of a stop.
    fn post_start(&self, index: usize, id: ContainerId, hook: LifecycleHandler) {
        let (shared, control, aim) = (self.shared.clone(), self.control.clone(), self.aim(index));
        let container = id.clone();
        let run = move || {
            let until = shared.clock.now() + HOOK_LIMIT;
            // Nobody waits any more for a hook whose container or pod is gone.
            let ended = || shared.runtime.container_status(&container).is_ok_and(|s| s.state == ContainerState::Exited);
            let over = || control.is_deaf() || ended();
            let span = Span { runtime: &*shared.runtime, clock: &*shared.clock, bell: &control.bell, until: &|| until, over: &over };
            let result = aim.ok_or_else(|| "its container is gone".to_owned()).and_then(|aim| hook::run(&hook, &aim, &span));
            control.send(Message::HookDone(container, result));
        };
        if let Err(err) = std::thread::Builder::new().name("hook".into()).stack_size(STACK).spawn(run) {
            self.control.send(Message::HookDone(id, Err(format!("no thread to run it: {err}"))));
        }
    }

    /// A hook that failed has its container ended, which is then treated as any that ended.
    pub(crate) fn hook_done(&mut self, id: &ContainerId, result: hook::Done) {
        let Some(index) = self.records.iter().position(|r| r.id.as_ref() == Some(id)) else { return };
        if self.state.containers[index].life != Life::Hook {
            return;
        }
        let why = match result {
            Ok(note) => {
                note.into_iter().for_each(|note| self.event(true, hook::REASON_FALLBACK, note));
                self.state.containers[index].life = Life::Running;
                return self.watch(index);
            }
            Err(why) => why,
        };
        let container = self.container(index);
        let name = container.name.clone();
        let hook = container.lifecycle.as_ref().and_then(|l| l.post_start.clone()).unwrap_or_default();
        let message = hook::failed(&hook, &name, &pod_name(&self.setup.pod.metadata), &why);
        self.records[index].hook_failed = Some(message);
        self.event(true, "FailedPostStartHook", format!("postStart hook of container {name:?} failed: {why}"));
        self.kill(index, self.own_grace(), "FailedPostStartHook".into());
    }
}
