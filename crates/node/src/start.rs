//! How a pod's sandbox and containers come to be.

use crate::config::{self, Resolved};
use crate::control::Message;
use crate::env::{Sources, environment};
use crate::next::{Life, Role, SandboxLife};
use crate::node::{STACK, log_directory};
use crate::status::*;
use crate::stop::run_hook;
use crate::volumes::{PodVolumes, component, make_dirs};
use crate::worker::Worker;
use crate::{dns, image};
use cofferdam_model::ContainerId;
use cofferdam_model::cri::{ContainerConfig, Error, FEATURE_CONTAINER_LIMITS, SandboxState};
use cofferdam_model::pod::LifecycleHandler;
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
            let features = match self.shared.runtime.handler_ready(&self.setup.handler) {
                Ok(features) => features,
                Err(why) => return self.give_up(REASON_HANDLER, not_started(&why.to_string())),
            };
            if let Err((reason, message)) = self.prepare() {
                return self.give_up(reason, message);
            }
            if features.get(FEATURE_CONTAINER_LIMITS) == Some(&false)
                && let Some(note) = config::limits_without_hold(&self.setup)
            {
                self.event(true, "Weaker", note);
            }
        }
        let dns = match dns::dns(&self.setup.pod.spec, dns::of_machine) {
            Ok(dns) => dns,
            Err(message) => return self.give_up(REASON_SANDBOX, message),
        };
        let logs = match log_directory(&self.shared.dirs, &self.view) {
            Ok(logs) => logs,
            Err(err) => return self.give_up(REASON_SANDBOX, err.0),
        };
        let config = config::sandbox(&self.setup, self.sandbox_tries, logs, dns);
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

    /// Reads the address and the stages; what died before it was routed is seen here.
    fn look_at_sandbox(&mut self) {
        let Some(id) = &self.sandbox else { return };
        match self.shared.runtime.pod_sandbox_status(id) {
            Ok(status) => {
                self.ip = status.ip;
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
    fn prepare(&mut self) -> Result<(), (&'static str, String)> {
        let pod = &self.setup.pod;
        if let Some(why) = config::refusal(pod) {
            return Err((REASON_UNSUPPORTED, why));
        }
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
            match image::find(&*self.shared.runtime, container)
                .map_err(|e| (image::reason(container), e.to_string()))?
            {
                image::Found::Here(note) => told.extend(note),
                image::Found::Missing(why) => return Err((image::reason(container), why)),
            }
        }
        // What the containers may use: the enclosure's share is not theirs.
        let limit = self
            .setup
            .pod_resources
            .memory_limit
            .saturating_sub(self.setup.overhead.memory_limit);
        let volumes = PodVolumes::prepare(pod, &self.shared.objects, &self.shared.dirs, limit)
            .map_err(|e| (REASON_MOUNT, e.0))?;
        told.extend(volumes.warnings.iter().cloned());
        let names: Vec<_> = containers.iter().map(|c| logs.join(&c.name)).collect();
        self.volumes = Some(volumes);
        for name in names {
            make_dirs(&name, 0o755).map_err(|e| (REASON_SANDBOX, e.0))?;
        }
        for note in told {
            self.event(true, "Weaker", note);
        }
        Ok(())
    }

    pub(crate) fn start_container(&mut self, index: usize) {
        if let Life::Exited { at, .. } = self.state.containers[index].life {
            let now = self.now();
            self.state.containers[index].backoff.restarted(at, now);
            self.state.containers[index].life = Life::Retry(now);
            self.forget_last(index);
        }
        let config = match self.config_of(index) {
            Ok(config) => config,
            Err(why) => {
                let message = format!("container {:?}: {why}", self.container(index).name);
                self.records[index].waiting = Some((REASON_CONFIG, why));
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
        let ips: Vec<IpAddr> = (if in_host { machine.ip } else { self.ip })
            .into_iter()
            .collect();
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
        let mounts = volumes.mounts(&container).map_err(|e| e.0)?;
        let termination_file = volumes
            .termination_file(&container.name, attempt)
            .map_err(|e| e.0)?;
        for warning in env.warnings.clone() {
            self.event(true, "InvalidEnvironmentVariableNames", warning);
        }
        config::container(
            &self.setup,
            &container,
            attempt,
            Resolved {
                env,
                mounts,
                termination_file,
            },
        )
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
        self.state.containers[index].ran = true;
        self.state.containers[index].life = if hook.is_some() {
            Life::Hook
        } else {
            Life::Running
        };
        if let Some(hook) = hook {
            self.post_start(id, hook);
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
    fn post_start(&self, id: ContainerId, hook: LifecycleHandler) {
        let (shared, control) = (self.shared.clone(), self.control.clone());
        let container = id.clone();
        let run = move || {
            let result = match (&hook.exec, &hook.sleep) {
                (Some(exec), _) => {
                    run_hook(&*shared.runtime, &container, &exec.command, HOOK_LIMIT)
                }
                (None, Some(sleep)) => {
                    let until = shared.clock.now()
                        + Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0));
                    loop {
                        let seen = control.bell.count();
                        if control.closed() || shared.clock.now() >= until {
                            break Ok(());
                        }
                        shared.clock.wait(&control.bell, seen, Some(until));
                    }
                }
                (None, None) => Ok(()),
            };
            control.send(Message::HookDone(container, result));
        };
        if let Err(err) = std::thread::Builder::new()
            .name("hook".into())
            .stack_size(STACK)
            .spawn(run)
        {
            self.control.send(Message::HookDone(
                id,
                Err(format!("no thread to run it: {err}")),
            ));
        }
    }

    /// A hook that failed has its container stopped, which is then treated as any that ended.
    pub(crate) fn hook_done(&mut self, id: &ContainerId, result: Result<(), String>) {
        let Some(index) = self.records.iter().position(|r| r.id.as_ref() == Some(id)) else {
            return;
        };
        if self.state.containers[index].life != Life::Hook {
            return;
        }
        let Err(why) = result else {
            self.state.containers[index].life = Life::Running;
            return;
        };
        let message = format!(
            "postStart hook of container {:?} failed: {why}",
            self.container(index).name
        );
        self.event(true, "FailedPostStartHook", message.clone());
        self.records[index].hook_failed = Some(message);
        if let Err(err) = self.shared.runtime.stop_container(id, self.own_grace()) {
            self.event(
                true,
                "FailedKillContainer",
                format!(
                    "container {:?} could not be stopped: {err}",
                    self.container(index).name
                ),
            );
        }
        self.exited(id, None);
    }
}
