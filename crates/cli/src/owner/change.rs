//! Changes of pods that this process keeps: containers that are added (KEP-277), and resources that
//! change in place (KEP-1287). What is decided of them is decided here, where the pods' specifications
//! are; one pod changes once at a time.

use super::{Desk, PodName};
use cofferdam_decide::resize::{self, ContainerResize};
use cofferdam_decide::resources::{container_resources, pod_cgroup, pod_requests};
use cofferdam_decide::{defaults, ephemeral};
use cofferdam_model::cri::LinuxResources;
use cofferdam_model::pod::{Container, EphemeralContainer, Pod, Resources};
use cofferdam_model::{ContainerId, Quantity, ResourceList, quantity::Format};
use cofferdam_node::{ContainerPhase, Dirs, Handle, Machine, ResizeRequest};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a container that is started again is looked at.
const POLL: Duration = Duration::from_millis(20);
/// What its end may take beyond the pod's grace.
const MARGIN: Duration = Duration::from_secs(30);

/// A pod as it is now.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PodNow {
    /// As admitted, with the resources that hold now.
    pub(crate) pod: Pod,
    /// The containers that were added.
    pub(crate) ephemeral: Vec<EphemeralContainer>,
}

/// A container that is to be added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Addition {
    pub(crate) pod: PodName,
    pub(crate) container: EphemeralContainer,
}

/// Amounts that are to hold from now on; those that are not named stay, as `kubectl set resources` has it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Amounts {
    pub(crate) pod: PodName,
    /// The container or sidecar; every container where absent.
    pub(crate) container: Option<String>,
    pub(crate) requests: ResourceList,
    pub(crate) limits: ResourceList,
}

/// What was changed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Resized {
    /// The containers that changed.
    pub(crate) containers: Vec<ResizedContainer>,
}

/// A container that was changed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ResizedContainer {
    pub(crate) name: String,
    /// What holds now.
    pub(crate) resources: Resources,
    /// Whether it is started again for it.
    pub(crate) restarted: bool,
}

/// A pod, and the handle of the node that runs it.
struct Found {
    now: PodNow,
    handle: Arc<Handle>,
    turn: Arc<Mutex<()>>,
}

impl Desk {
    /// A pod as it is now, or was at its end; `None` where there is none of this name.
    pub(crate) fn kept(&self, name: &PodName) -> Option<PodNow> {
        self.with(name, |planned| planned.now())
    }

    /// Adds a container to a pod; else one sentence why not.
    pub(crate) fn add(&self, addition: Addition) -> Result<(), String> {
        let Addition { pod: name, container } = addition;
        let turn = self.found(&name)?.turn;
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let Found { now, handle, .. } = self.found(&name)?;
        ephemeral::validate(&now.pod, &now.ephemeral, &container).map_err(|denied| denied.to_string())?;
        handle.add_ephemeral(&name.namespace, &name.name, container.clone())?;
        self.with(&name, |planned| planned.ephemeral.push(container));
        Ok(())
    }

    /// Changes resources of a pod in place; else one sentence why not.
    pub(crate) fn resize(&self, amounts: &Amounts) -> Result<Resized, String> {
        let name = &amounts.pod;
        let turn = self.found(name)?.turn;
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let Found { now, handle, .. } = self.found(name)?;
        let machine = Machine::detect(&Dirs::default());
        let old = now.pod;
        let new = resize::validate(&wanted(&old, amounts)?, &old).map_err(|denied| denied.to_string())?;
        room(&new, &old, &machine)?;
        let mut steps = resize::plan(&new, &old, machine.memory).containers;
        // Stable: those that are started again come last, so that no other change waits for them.
        steps.sort_by_key(|step| step.restart);
        let (mut pod, mut done) = (old, Resized::default());
        for step in steps {
            let changed = self.step(&handle, name, &mut pod, &new, step);
            done.containers.push(changed.map_err(|why| with_what_is_done(why, &done))?);
        }
        Ok(done)
    }

    /// Changes one container, and what is known of the pod with it.
    fn step(&self, handle: &Handle, name: &PodName, pod: &mut Pod, new: &Pod, step: ContainerResize) -> Result<ResizedContainer, String> {
        if let Some(restarting) = self.with(name, |planned| planned.restarting.take()).flatten() {
            settled(handle, name, pod, restarting)?;
        }
        let resources = container(new, &step.name).and_then(|c| c.resources.clone()).unwrap_or_default();
        let before = container(pod, &step.name)
            .map(|c| container_resources(pod, c, 0))
            .unwrap_or_default();
        let mut next = pod.clone();
        if let Some(container) = container_mut(&mut next, &step.name) {
            container.resources = Some(resources.clone());
        }
        let request = ResizeRequest {
            container: step.name.clone(),
            resources: resources.clone(),
            limits: lifted(&before, step.resources),
            pod_limits: lifted(&pod_cgroup(pod), pod_cgroup(&next)),
            restart: step.restart,
        };
        let run = run_of(handle, name, &step.name).filter(|_| step.restart);
        handle.resize(&name.namespace, &name.name, request)?;
        *pod = next;
        self.with(name, |planned| {
            planned.pod = pod.clone();
            planned.restarting = run.map(|run| (step.name.clone(), run));
        });
        Ok(ResizedContainer {
            name: step.name,
            resources,
            restarted: step.restart,
        })
    }

    /// The pod, where it has a sandbox: what waits for its turn cannot be asked, and would answer late.
    fn found(&self, name: &PodName) -> Result<Found, String> {
        let PodName { namespace, name: of } = name;
        let handles = self.handles();
        let of_it = |handle: &Arc<Handle>| {
            let views = handle.snapshot();
            let view = views.iter().find(|v| v.namespace == *namespace && v.name == *of)?;
            Some((view.ended, view.sandbox.is_some(), handle.clone()))
        };
        match (self.with(name, |p| (p.now(), p.turn.clone())), handles.iter().find_map(of_it)) {
            (Some((now, turn)), Some((false, true, handle))) => Ok(Found { now, handle, turn }),
            (None, _) | (_, Some((true, ..))) => Err(format!("pod {namespace}/{of} is over")),
            (Some(_), _) => Err(format!("pod {namespace}/{of} has not begun yet")),
        }
    }
}

/// The new limits, with what was limited and is not to be any more lifted: for the runtime, 0 leaves a
/// limit as it is.
fn lifted(old: &LinuxResources, new: LinuxResources) -> LinuxResources {
    let of = |old: i64, new: i64| if old > 0 && new == 0 { -1 } else { new };
    LinuxResources {
        cpu_quota: of(old.cpu_quota, new.cpu_quota),
        memory_limit: of(old.memory_limit, new.memory_limit),
        ..new
    }
}

/// The run of a container that is up, as its pod's view has it.
fn run_of(handle: &Handle, name: &PodName, container: &str) -> Option<ContainerId> {
    let views = handle.snapshot();
    let view = views.iter().find(|v| v.namespace == name.namespace && v.name == name.name)?;
    let of_it = view.containers.iter().find(|c| c.name == container)?;
    of_it.id.clone().filter(|_| matches!(of_it.state, ContainerPhase::Running { .. }))
}

/// Waits until a container that is started again for the change before has ended: till then the node
/// takes no other.
fn settled(handle: &Handle, name: &PodName, pod: &Pod, (container, run): (String, ContainerId)) -> Result<(), String> {
    let grace = pod.spec.termination_grace_period_seconds.and_then(|s| u64::try_from(s).ok());
    let until = Instant::now() + Duration::from_secs(grace.unwrap_or(super::desk::DEFAULT_GRACE)) + MARGIN;
    while run_of(handle, name, &container).is_some_and(|now| now == run) {
        if Instant::now() > until {
            return Err(format!("container {container:?} does not end, which is to be started again for the change before"));
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// The pod with the amounts.
fn wanted(old: &Pod, amounts: &Amounts) -> Result<Pod, String> {
    let mut new = old.clone();
    let set = |container: &mut Container| {
        let resources = container.resources.get_or_insert_default();
        resources.requests.extend(amounts.requests.clone());
        resources.limits.extend(amounts.limits.clone());
    };
    match &amounts.container {
        None => new.spec.containers.iter_mut().for_each(set),
        Some(name) => match container_mut(&mut new, name) {
            Some(container) => set(container),
            None => return Err(format!("pod {:?} has no container {name:?}", old.metadata.name)),
        },
    }
    Ok(new)
}

/// Refuses more than the machine has (the kubelet's `Infeasible`). What the pod has already is not
/// looked at: no run asks for it.
fn room(new: &Pod, old: &Pod, machine: &Machine) -> Result<(), String> {
    let mut new = new.clone();
    defaults::apply(&mut new);
    let (mut has, had) = (pod_requests(&new), pod_requests(old));
    let least = [
        ("cpu", Quantity::from_milli(machine.cpu_millis)),
        ("memory", Quantity::new(machine.memory, Format::BinarySi)),
    ];
    for (resource, of_machine) in least {
        let most = had.get(resource).filter(|old| **old > of_machine).cloned().unwrap_or(of_machine);
        has.insert(resource.to_owned(), most);
    }
    has.insert("pods".to_owned(), Quantity::new(1, Format::DecimalSi));
    let admitted = resize::kubelet_admits(&new, &has, &ResourceList::new());
    admitted.map_err(|why| format!("pod {:?} cannot be resized: {why}", new.metadata.name))
}

fn with_what_is_done(why: String, done: &Resized) -> String {
    let names: Vec<&str> = done.containers.iter().map(|c| c.name.as_str()).collect();
    match names.as_slice() {
        [] => why,
        names => format!("{why}; changed before: {}", names.join(", ")),
    }
}

fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    pod.spec.containers.iter().chain(&pod.spec.init_containers).find(|c| c.name == name)
}

fn container_mut<'a>(pod: &'a mut Pod, name: &str) -> Option<&'a mut Container> {
    let spec = &mut pod.spec;
    spec.containers.iter_mut().chain(&mut spec.init_containers).find(|c| c.name == name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use serde_json::{Value, json};

    fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn pod() -> Pod {
        of(json!({"metadata": {"name": "p"}, "spec": {
            "containers": [{"name": "a", "image": "i", "resources": {"limits": {"cpu": "1"}}}, {"name": "b", "image": "i"}],
            "initContainers": [{"name": "s", "image": "i", "restartPolicy": "Always"}],
        }}))
    }

    #[test]
    fn amounts_are_put_beside_those_that_stay() {
        let amounts = |container: Option<&str>| Amounts {
            container: container.map(str::to_owned),
            limits: of(json!({"memory": "1Mi"})),
            requests: of(json!({"cpu": "5m"})),
            ..Amounts::default()
        };
        let told = |container: Option<&str>| {
            let new = wanted(&pod(), &amounts(container)).unwrap();
            let all = new.spec.containers.iter().chain(&new.spec.init_containers);
            all.map(|c| json!(c.resources)).collect::<Vec<_>>()
        };
        let a = json!({"limits": {"cpu": "1", "memory": "1Mi"}, "requests": {"cpu": "5m"}});
        let new = json!({"limits": {"memory": "1Mi"}, "requests": {"cpu": "5m"}});
        let old = json!({"limits": {"cpu": "1"}});
        assert_eq!(told(None), [a.clone(), new.clone(), json!(null)], "sidecars are meant by name only");
        assert_eq!(told(Some("a")), [a, json!(null), json!(null)]);
        assert_eq!(told(Some("s")), [old, json!(null), new]);
        assert!(wanted(&pod(), &amounts(Some("z"))).unwrap_err().contains("no container \"z\""));
    }

    #[test]
    fn more_than_the_machine_has_is_infeasible() {
        let machine = Machine {
            cpu_millis: 2000,
            memory: 1 << 30,
            ..Machine::default()
        };
        let with = |cpu: &str| {
            let mut pod = pod();
            pod.spec.containers[0].resources = of(json!({"requests": {"cpu": cpu, "ephemeral-storage": "1Gi", "hugepages-2Mi": "2Mi"}}));
            pod
        };
        assert_eq!(room(&with("2"), &with("1"), &machine), Ok(()));
        let refused = room(&with("3"), &with("1"), &machine).unwrap_err();
        assert_eq!(
            refused,
            "pod \"p\" cannot be resized: Node didn't have enough capacity: cpu, requested: 3000, capacity: 2000"
        );
        assert_eq!(room(&with("3"), &with("3"), &machine), Ok(()), "it runs already");
        assert!(room(&with("4"), &with("3"), &machine).is_err());
    }
}
