//! Ending a pod's containers in the kubelet's order (`kuberuntime_container.go`, `killContainer`;
//! `kuberuntime_termination_order.go`): each container's preStop hook, then SIGTERM, then SIGKILL
//! when the grace is over. Containers end side by side; a sidecar waits for them and for the
//! sidecars after it. Hooks and waiting spend the grace, but each container keeps two seconds of it.

use crate::clock::{Clock, lock};
use crate::control::Control;
use crate::hook::{self, Span};
use crate::next::Role;
use crate::node::STACK;
use crate::probe::Aim;
use cofferdam_model::cri::{Error, Runtime};
use cofferdam_model::pod::LifecycleHandler;
use std::sync::Mutex;
use std::time::Duration;

/// Least time between SIGTERM and SIGKILL (`minimumGracePeriodInSeconds`), unless no grace at all was asked for.
const LEAST: Duration = Duration::from_secs(2);

/// A container that is to end.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) aim: Aim,
    pub(crate) role: Role,
    pub(crate) pre_stop: Option<LifecycleHandler>,
}

/// Something that went wrong: reason and one sentence.
pub(crate) type Trouble = (&'static str, String);

/// Ends `targets` (in the order of the manifest) within `grace`. `control` may shorten it meanwhile.
pub(crate) fn stop_containers(
    runtime: &dyn Runtime,
    clock: &dyn Clock,
    control: &Control,
    targets: &[Target],
    grace: Duration,
) -> Vec<Trouble> {
    control.begin_end(
        clock.now() + grace,
        targets.iter().map(|t| t.aim.container.clone()).collect(),
    );
    let order = Order {
        runtime,
        clock,
        control,
        targets,
        done: Mutex::new(vec![false; targets.len()]),
        trouble: Mutex::default(),
    };
    std::thread::scope(|scope| {
        for index in 1..targets.len() {
            let order = &order;
            let spawned = std::thread::Builder::new()
                .stack_size(STACK)
                .spawn_scoped(scope, move || order.end(index));
            if spawned.is_err() {
                // No thread is to be had: one after the other, without order, is better than not at all.
                order.kill(index);
            }
        }
        if !targets.is_empty() {
            order.end(0);
        }
    });
    order.trouble.into_inner().unwrap_or_default()
}

struct Order<'a> {
    runtime: &'a dyn Runtime,
    clock: &'a dyn Clock,
    control: &'a Control,
    targets: &'a [Target],
    done: Mutex<Vec<bool>>,
    trouble: Mutex<Vec<Trouble>>,
}

impl Order<'_> {
    fn end(&self, index: usize) {
        let target = &self.targets[index];
        if let Some(hook) = &target.pre_stop
            && !self.left().is_zero()
        {
            lock(&self.trouble).extend(told(self.hook(target, hook), &target.name));
        }
        self.wait_for_turn(index);
        self.kill(index);
    }

    /// What is left of the grace.
    fn left(&self) -> Duration {
        self.control.until().saturating_sub(self.clock.now())
    }

    fn hook(&self, target: &Target, hook: &LifecycleHandler) -> hook::Done {
        let span = Span {
            runtime: self.runtime,
            clock: self.clock,
            bell: &self.control.bell,
            until: &|| self.control.until(),
            over: &|| false,
        };
        hook::run(hook, &target.aim, &span)
    }

    /// A sidecar goes once every container of the pod's work and every later sidecar is gone, or the grace is
    /// over. It waits neither for an init container nor for what was added, as upstream.
    fn wait_for_turn(&self, index: usize) {
        if self.targets[index].role != Role::Sidecar {
            return;
        }
        loop {
            let seen = self.control.bell.count();
            let done = lock(&self.done);
            let mut before = self
                .targets
                .iter()
                .enumerate()
                .filter(|(i, t)| t.role == Role::Regular || (t.role == Role::Sidecar && *i > index));
            let free = before.all(|(i, _)| done[i]);
            drop(done);
            if free || self.left().is_zero() {
                return;
            }
            self.clock
                .wait(&self.control.bell, seen, Some(self.control.until()));
        }
    }

    fn kill(&self, index: usize) {
        let target = &self.targets[index];
        let left = self.left();
        // A stop that asked for no grace at all gets none.
        let hurried = self
            .control
            .stop_asked()
            .flatten()
            .is_some_and(|grace| grace.is_zero());
        let grace = if hurried { left } else { left.max(LEAST) };
        match self.runtime.stop_container(&target.aim.container, grace) {
            Ok(()) | Err(Error::NotFound(_)) => {}
            Err(err) => lock(&self.trouble).push((
                "FailedKillContainer",
                format!("container {:?} could not be stopped: {err}", target.name),
            )),
        }
        lock(&self.done)[index] = true;
        self.control.gone(&target.aim.container);
    }
}

/// What is to be told of a preStop hook that has ended.
fn told(done: hook::Done, container: &str) -> Option<Trouble> {
    match done {
        Ok(note) => Some((hook::REASON_FALLBACK, note?)),
        Err(why) => Some(("FailedPreStopHook", format!("preStop hook of container {container:?} failed: {why}"))),
    }
}

/// Ends one container of a pod that goes on: its preStop hook, then SIGTERM, then SIGKILL.
pub(crate) fn stop_one(
    runtime: &dyn Runtime,
    clock: &dyn Clock,
    control: &Control,
    target: &Target,
    grace: Duration,
) -> Vec<Trouble> {
    let mut trouble = Vec::new();
    let until = clock.now() + grace;
    if let Some(hook) = target.pre_stop.as_ref().filter(|_| !grace.is_zero()) {
        // Once the pod is being ended, that is what ends the container, and this hook is in the way.
        let over = || control.is_deaf();
        let span = Span { runtime, clock, bell: &control.bell, until: &|| until, over: &over };
        trouble.extend(told(hook::run(hook, &target.aim, &span), &target.name));
    }
    let left = until.saturating_sub(clock.now()).max(LEAST);
    match runtime.stop_container(&target.aim.container, left) {
        Ok(()) | Err(Error::NotFound(_)) => {}
        Err(err) => trouble.push(("FailedKillContainer", format!("container {:?} could not be stopped: {err}", target.name))),
    }
    trouble
}
