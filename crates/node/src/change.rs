//! Changes of a running pod: containers that are added (KEP-277), and resources that change in place
//! (KEP-1287).

use crate::next::{ContainerState, Life, Role, SandboxLife};
use crate::status::{Phase, REASON_STOPPED};
use crate::volumes::{component, make_dirs};
use crate::worker::{Record, Worker};
use cofferdam_model::ContainerId;
use cofferdam_model::cri::LinuxResources;
use cofferdam_model::pod::{Container, EphemeralContainer, Resources, RestartPolicy};

/// Other resources for a container, with what follows from them, which is decided elsewhere.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResizeRequest {
    /// Name of the container.
    pub container: String,
    /// What its specification says from now on.
    pub resources: Resources,
    /// The limits of its cgroup.
    pub limits: LinuxResources,
    /// The limits of the pod's cgroup, overhead included.
    pub pod_limits: LinuxResources,
    /// The container's `resizePolicy` has it started again.
    pub restart: bool,
}

/// A change that waits for its container to end.
#[derive(Debug)]
pub(crate) struct Resizing {
    index: usize,
    pod_limits: LinuxResources,
}

impl Worker {
    /// Adds a container to the pod, or says in one sentence why not.
    pub(crate) fn add_ephemeral(&mut self, new: EphemeralContainer) -> Result<(), String> {
        let name = new.container.name.clone();
        let refuse = |why: String| Err(format!("container {name:?} cannot be added: {why}"));
        if self.state.verdict.is_some() || !matches!(self.state.sandbox, SandboxLife::Ready) {
            return refuse("the pod does not run".into());
        }
        if (0..self.records.len()).any(|index| self.container(index).name == name) {
            return refuse("the pod has a container of this name; use another name".into());
        }
        if let Some(field) = forbidden(&new.container) {
            return refuse(format!(
                "{field}: Forbidden: cannot be set for an Ephemeral Container; leave it out"
            ));
        }
        if new.container.image.is_empty() {
            return refuse("image: Required value; name its image".into());
        }
        if let Some(target) = new.target_container_name.as_deref().filter(|target| !target.is_empty()) {
            let index = (0..self.records.len() - self.ephemeral.len()).find(|index| self.container(*index).name == target);
            let Some(index) = index else {
                return refuse(format!("targetContainerName {target:?} is no container of the pod"));
            };
            if !matches!(self.state.containers[index].life, Life::Hook | Life::Running) {
                return refuse(format!("its target, container {target:?}, does not run"));
            }
        }
        let logs = component("container name", &name).and_then(|_| crate::node::log_directory(&self.shared.dirs, &self.view));
        if let Err(err) = logs.and_then(|logs| make_dirs(&logs.join(&name), 0o755)) {
            return refuse(err.0);
        }
        self.ephemeral.push(new);
        self.records.push(Record::default());
        self.state.containers.push(ContainerState::new(Role::Ephemeral));
        Ok(())
    }

    /// The container whose process ids the one at `index` is to see.
    pub(crate) fn target_of(&self, index: usize) -> Result<Option<ContainerId>, String> {
        let first = self.records.len() - self.ephemeral.len();
        let added = index.checked_sub(first).and_then(|index| self.ephemeral.get(index));
        let Some(target) = added.and_then(|c| c.target_container_name.as_deref()).filter(|t| !t.is_empty()) else {
            return Ok(None);
        };
        let id = (0..first)
            .find(|index| self.container(*index).name == target)
            .and_then(|index| self.records[index].id.clone());
        id.filter(|id| self.up(id).is_some())
            .map(Some)
            .ok_or_else(|| format!("unable to find target container {target}"))
    }

    /// Gives a container other resources. The pod's cgroup has room for both the old and the new while the
    /// container changes, as the kubelet orders its writes (`kuberuntime_manager.go`,
    /// `doPodResizeAction`). On an error all is as it was.
    pub(crate) fn resize(&mut self, request: ResizeRequest) -> Result<(), String> {
        let ResizeRequest {
            container: name,
            resources,
            limits,
            pod_limits,
            restart,
        } = request;
        let refuse = |why: String| Err(format!("resources of container {name:?} cannot be changed: {why}"));
        let regular = self.records.len() - self.ephemeral.len();
        let index = (0..regular).find(|index| self.container(*index).name == name);
        let Some(index) = index.filter(|index| self.state.containers[*index].role != Role::Init) else {
            return refuse("the pod has no container or sidecar of this name".into());
        };
        if self.resizing.is_some() {
            return refuse("another change of this pod is under way; try again when it is done".into());
        }
        let Some(sandbox) = self.sandbox.clone().filter(|_| self.state.verdict.is_none()) else {
            return refuse("the pod does not run".into());
        };
        if restart && self.state.containers[index].role == Role::Regular && self.state.restart == RestartPolicy::Never {
            return refuse("its resizePolicy is RestartContainer, and the pod's restartPolicy is Never".into());
        }
        let running = self.records[index].id.clone().filter(|id| self.up(id).is_some());
        let old = self.setup.containers.get(&name).cloned().unwrap_or_default();
        let pod_old = self.setup.pod_resources.clone();
        let shrinks = limits.memory_limit > 0 && (old.memory_limit <= 0 || limits.memory_limit < old.memory_limit);
        if let Some(used) = self
            .memory_of(&name)
            .filter(|used| shrinks && !restart && *used >= limits.memory_limit)
        {
            // The kubelet's sentence (`validateMemoryResizeAction`), which names the pod's usage by mistake. Its
            // rule is of all usage; here what the kernel can drop does not count.
            let why = format!(
                "cannot decrease memory limits: attempting to set container {name:?} memory limit ({}) below current usage ({used})",
                limits.memory_limit
            );
            self.event(true, "ResizeError", why.clone());
            return refuse(why);
        }
        let room = roomier(&pod_old, &pod_limits);
        let overhead = self.setup.overhead.clone();
        let runtime = self.shared.runtime.clone();
        let set_pod = |limits: &LinuxResources| {
            runtime
                .update_pod_sandbox(&sandbox, &overhead, limits)
                .map_err(|err| err.to_string())
        };
        let mut done = if room == pod_old { Ok(()) } else { set_pod(&room) };
        if let Some(id) = running.as_ref().filter(|_| !restart) {
            done = done.and_then(|()| runtime.update_container(id, &limits).map_err(|err| err.to_string()));
            if done.is_ok() && room != pod_limits {
                done = set_pod(&pod_limits).inspect_err(|_| drop(runtime.update_container(id, &old)));
            }
        }
        if let Err(why) = done {
            // What went wrong is told already; a cgroup that stays roomier than it should harms nobody.
            if room != pod_old {
                let _ = set_pod(&pod_old);
            }
            self.event(true, "ResizeError", format!("container {name:?}: {why}"));
            return refuse(why);
        }
        self.write_resources(index, &name, resources, limits);
        self.setup.pod_resources = pod_limits.clone();
        match running {
            Some(_) if restart => {
                self.event(false, "ResizeStarted", format!("Pod resize started: {}", self.summary()));
                self.resizing = Some(Resizing { index, pod_limits });
                self.kill_to_restart(index, self.own_grace(), format!("Container {name} resize requires restart"));
            }
            Some(_) => self.event(false, "ResizeCompleted", format!("Pod resize completed: {}", self.summary())),
            None => {
                // It holds from its next start on; only the pod's limits are there to be changed now.
                if room != pod_limits
                    && let Err(why) = set_pod(&pod_limits)
                {
                    self.event(true, "ResizeError", format!("pod: {why}"));
                }
                self.event(false, "ResizeCompleted", format!("Pod resize completed: {}", self.summary()));
            }
        }
        Ok(())
    }

    /// The container at `index` ended: a change that waited for that is completed.
    pub(crate) fn resized_by_end(&mut self, index: usize) {
        let Some(resizing) = self.resizing.take_if(|r| r.index == index) else {
            return;
        };
        if let Some(sandbox) = self
            .sandbox
            .clone()
            .filter(|_| self.view.phase != Phase::Failed && self.view.reason != REASON_STOPPED)
        {
            match self
                .shared
                .runtime
                .update_pod_sandbox(&sandbox, &self.setup.overhead, &resizing.pod_limits)
            {
                Ok(()) => self.event(false, "ResizeCompleted", format!("Pod resize completed: {}", self.summary())),
                Err(err) => self.event(true, "ResizeError", format!("pod: {err}")),
            }
        }
    }

    /// Working set of a container, where the runtime can tell.
    fn memory_of(&self, name: &str) -> Option<i64> {
        let stats = self.shared.runtime.container_stats(self.sandbox.as_ref()?).ok()?;
        let used = stats.into_iter().find(|s| s.name == name)?.memory_working_set?;
        i64::try_from(used).ok()
    }

    fn write_resources(&mut self, index: usize, name: &str, resources: Resources, limits: LinuxResources) {
        self.setup.containers.insert(name.to_owned(), limits);
        let spec = &mut self.setup.pod.spec;
        let init = spec.init_containers.len();
        let container = if index < init {
            &mut spec.init_containers[index]
        } else {
            &mut spec.containers[index - init]
        };
        container.resources = Some(resources);
    }

    /// As the kubelet's event has it (`podResizeCompletionMsg`).
    fn summary(&self) -> serde_json::Value {
        let of = |containers: &[Container]| -> Vec<serde_json::Value> {
            let resources = |c: &Container| c.resources.clone().unwrap_or_default();
            containers
                .iter()
                .map(|c| serde_json::json!({"name": c.name, "resources": resources(c)}))
                .collect()
        };
        let spec = &self.setup.pod.spec;
        let mut summary = serde_json::json!({});
        if !spec.init_containers.is_empty() {
            summary["initContainers"] = of(&spec.init_containers).into();
        }
        summary["containers"] = of(&spec.containers).into();
        summary
    }
}

/// The first field that an added container must not have (`ValidateEphemeralContainers`).
fn forbidden(container: &Container) -> Option<&'static str> {
    let sub_path = container
        .volume_mounts
        .iter()
        .any(|mount| mount.sub_path.is_some() || mount.sub_path_expr.is_some());
    let fields = [
        (!container.ports.is_empty(), "ports"),
        (container.liveness_probe.is_some(), "livenessProbe"),
        (container.readiness_probe.is_some(), "readinessProbe"),
        (container.startup_probe.is_some(), "startupProbe"),
        (container.lifecycle.is_some(), "lifecycle"),
        (container.resources.is_some(), "resources"),
        (!container.resize_policy.is_empty(), "resizePolicy"),
        (container.restart_policy.is_some(), "restartPolicy"),
        (sub_path, "volumeMounts.subPath"),
    ];
    fields.into_iter().find(|(set, _)| *set).map(|(_, field)| field)
}

/// Limits that hold back neither who holds to `old` nor who holds to `new`. 0 is no limit.
fn roomier(old: &LinuxResources, new: &LinuxResources) -> LinuxResources {
    let most = |old: i64, new: i64| if old <= 0 || new <= 0 { 0 } else { old.max(new) };
    let share = |r: &LinuxResources| i128::from(r.cpu_quota) * i128::from(u32::MAX) / i128::from(r.cpu_period.max(1));
    let cpu = match (old.cpu_quota, new.cpu_quota) {
        (..=0, _) => old,
        (_, ..=0) => new,
        _ if share(old) >= share(new) => old,
        _ => new,
    };
    let mut hugepages = new.hugepages.clone();
    hugepages.retain(|size, _| old.hugepages.contains_key(size));
    hugepages
        .iter_mut()
        .for_each(|(size, most)| *most = (*most).max(old.hugepages[size]));
    LinuxResources {
        cpu_shares: old.cpu_shares.max(new.cpu_shares),
        cpu_quota: cpu.cpu_quota,
        cpu_period: cpu.cpu_period,
        memory_limit: most(old.memory_limit, new.memory_limit),
        pids_limit: most(old.pids_limit, new.pids_limit),
        hugepages,
        ..new.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_for_both() {
        let limits = |memory_limit, cpu_quota, cpu_shares| LinuxResources {
            memory_limit,
            cpu_quota,
            cpu_period: 100_000,
            cpu_shares,
            ..LinuxResources::default()
        };
        for (what, old, new, expected) in [
            ("more of all", limits(1, 10, 2), limits(2, 20, 4), limits(2, 20, 4)),
            ("less of all", limits(2, 20, 4), limits(1, 10, 2), limits(2, 20, 4)),
            ("more memory, less cpu", limits(1, 20, 4), limits(2, 10, 2), limits(2, 20, 4)),
            ("a limit where there was none", limits(0, 0, 2), limits(2, 20, 4), limits(0, 0, 4)),
            ("none where there was a limit", limits(2, 20, 4), limits(0, 0, 2), limits(0, 0, 4)),
        ] {
            let room = roomier(&old, &new);
            assert_eq!(
                (room.memory_limit, room.cpu_quota, room.cpu_shares),
                (expected.memory_limit, expected.cpu_quota, expected.cpu_shares),
                "{what}"
            );
        }
        let slow = LinuxResources {
            cpu_quota: 30_000,
            cpu_period: 300_000,
            ..LinuxResources::default()
        };
        assert_eq!(
            roomier(&slow, &limits(0, 20_000, 0)).cpu_quota,
            20_000,
            "a fifth of a cpu is more than a tenth"
        );
    }
}
