//! What a process that keeps pods knows of them, and what was asked of it: from before its first pod
//! begins, so that a stop or a Ctrl-C at any moment ends everything.

use super::{Order, PodName, PodNow};
use anyhow::{Context, Result};
use cofferdam_model::ContainerId;
use cofferdam_model::pod::{EphemeralContainer, Pod};
use cofferdam_node::{Handle, PodSetup, PodView, exit_code};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// `terminationGracePeriodSeconds` where a pod gives none.
pub(crate) const DEFAULT_GRACE: u64 = 30;

/// The pods of this process, and what was asked for.
#[derive(Default)]
pub(crate) struct Desk {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    planned: Vec<Planned>,
    handles: Vec<Arc<Handle>>,
    orders: Vec<Order>,
}

/// A pod that this process will start, or has started.
pub(super) struct Planned {
    view: PodView,
    grace: u64,
    /// As admitted, with the resources that hold now.
    pub(super) pod: Pod,
    /// The containers that were added.
    pub(super) ephemeral: Vec<EphemeralContainer>,
    /// The container that was last asked to be started again with other resources, and its run before.
    pub(super) restarting: Option<(String, ContainerId)>,
    /// Held while it is being changed.
    pub(super) turn: Arc<Mutex<()>>,
}

impl Planned {
    pub(super) fn now(&self) -> PodNow {
        PodNow {
            pod: self.pod.clone(),
            ephemeral: self.ephemeral.clone(),
        }
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These pods begin next. Each gets its UID here, so that whoever asks knows whose its folders are
    /// before there are any.
    pub(crate) fn plan(&self, setups: &mut [PodSetup]) -> Result<()> {
        for setup in setups.iter_mut() {
            setup.pod.metadata.uid = Some(random_uid()?);
        }
        self.lock().planned.extend(setups.iter().map(planned));
        Ok(())
    }

    /// The pods of this handle have begun. What was asked before is asked of them now.
    pub(crate) fn keep(&self, handle: Arc<Handle>) {
        let mut inner = self.lock();
        let orders = inner.orders.clone();
        inner.handles.push(handle.clone());
        drop(inner);
        orders.iter().for_each(|order| pass_on(&handle, order));
    }

    /// Takes an order, also for pods that have not begun. Returns the seconds that they may take;
    /// `None` where there is no such pod.
    pub(crate) fn take(&self, order: &Order) -> Option<u64> {
        let mut inner = self.lock();
        let covered = inner.planned.iter().filter(|p| order.covers(&p.view.namespace, &p.view.name));
        let longest = covered.map(|p| order.grace.unwrap_or(p.grace)).max();
        // Whoever stops all means the pods too that are not known yet.
        let longest = longest.or_else(|| order.pod.is_none().then_some(0))?;
        inner.orders.push(order.clone());
        Some(longest)
    }

    /// Carries out an order that was taken. One that hurries pods which are being ended waits for them.
    pub(crate) fn carry_out(&self, order: &Order) {
        let handles = self.lock().handles.clone();
        handles.iter().for_each(|handle| pass_on(handle, order));
    }

    /// What `of` says of a pod, the newest of its name; `None` where there is none.
    pub(super) fn with<T>(&self, name: &PodName, of: impl FnOnce(&mut Planned) -> T) -> Option<T> {
        let mut inner = self.lock();
        let named = |p: &&mut Planned| p.view.namespace == name.namespace && p.view.name == name.name;
        inner.planned.iter_mut().rev().find(named).map(of)
    }

    /// The nodes' handles, the newest first.
    pub(super) fn handles(&self) -> Vec<Arc<Handle>> {
        self.lock().handles.iter().rev().cloned().collect()
    }

    /// Whether somebody asked for the end of this pod.
    pub(crate) fn was_stopped(&self, view: &PodView) -> bool {
        self.lock().was_stopped(view)
    }

    /// All pods, those that have not begun included. Of one that was stopped nothing stays, so it is not
    /// shown once it is over.
    pub(crate) fn views(&self) -> Vec<Value> {
        let inner = self.lock();
        let begun: Vec<_> = inner.handles.iter().flat_map(|h| h.snapshot()).collect();
        let waiting = inner.planned.iter().filter(|p| begun.iter().all(|v| v.uid != p.view.uid));
        let shown = begun.iter().filter(|v| !v.ended || !inner.was_stopped(v));
        shown.map(|v| seen(v)).chain(waiting.map(|p| seen(&p.view))).collect()
    }
}

impl Inner {
    fn was_stopped(&self, view: &PodView) -> bool {
        self.orders.iter().any(|o| o.covers(&view.namespace, &view.name))
    }
}

fn pass_on(handle: &Handle, order: &Order) {
    match &order.pod {
        Some((namespace, name)) => drop(handle.stop(namespace, name, order.patience())),
        None => handle.stop_all(order.patience()),
    }
}

fn planned(setup: &PodSetup) -> Planned {
    let meta = &setup.pod.metadata;
    let grace = setup.pod.spec.termination_grace_period_seconds;
    Planned {
        view: PodView {
            name: meta.name.clone(),
            namespace: meta.namespace_or_default().to_owned(),
            uid: meta.uid.clone().unwrap_or_default(),
            class: setup.class.clone(),
            handler: setup.handler.clone(),
            ..PodView::default()
        },
        grace: grace.map_or(DEFAULT_GRACE, |s| u64::try_from(s).unwrap_or(0)),
        pod: setup.pod.clone(),
        ephemeral: Vec::new(),
        restarting: None,
        turn: Arc::default(),
    }
}

/// A view as other commands are given it: with its exit code, where it is over.
pub(crate) fn seen(view: &PodView) -> Value {
    let mut value = serde_json::to_value(view).unwrap_or(Value::Null);
    if view.ended {
        value["exitCode"] = json!(exit_code(std::slice::from_ref(view)));
    }
    value
}

/// A random UUID from the kernel.
fn random_uid() -> Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/uuid").context("the kernel gives no UUID for a pod")?;
    Ok(text.trim().to_owned())
}
