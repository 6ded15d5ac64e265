//! Limits changed in place. What is changed is written down before it is done, so that a kill in
//! between leaves a change that recovery finishes, and no limit that nobody knows of.

use crate::Engine;
use crate::failpoint::reach;
use crate::monitors::limit_huge_pages;
use crate::record::{self, Change};
use crate::sandbox::{Known, failed, limits};
use cofferdam_host::cgroup::{Group, Mode};
use cofferdam_host::files::Durability;
use cofferdam_model::cri::{ContainerState, Error, LinuxResources, Result, SandboxState};
use cofferdam_model::{ContainerId, PodId};
use std::path::Path;

impl Engine {
    /// Changes a container's limits; zero and empty leave one as it is, a negative number lifts it. Under
    /// a handler whose containers share a kernel of their own only the pod's limits hold.
    pub fn update_container(&self, id: &ContainerId, resources: &LinuxResources) -> Result<()> {
        let (known, container) = self.must_know_container(id)?;
        let Some((_lock, mut known)) = self.locked(&known.record.id)? else {
            return Err(Error::NotFound(format!("container {id} does not exist")));
        };
        let status = self.container_status(id)?;
        if !matches!(status.state, ContainerState::Created | ContainerState::Running) {
            return Err(Error::Precondition(format!("container \"{}\" has ended; its limits cannot be changed", container.record.config.name)));
        }
        let group = self.group_of(&known, id)?;
        let what = format!("container \"{}\"", container.record.config.name);
        enough(&group, resources, &what)?;
        let old = status.config.resources;
        let new = merged(&old, resources);
        self.check_resources(&what, &new)?;
        self.change(&mut known, Change::Container(id.clone(), new), Change::Container(id.clone(), old))
    }

    /// Changes a pod's limits; `resources` are those of the whole pod, `overhead` included.
    pub fn update_sandbox(&self, id: &PodId, overhead: &LinuxResources, resources: &LinuxResources) -> Result<()> {
        let Some((_lock, mut known)) = self.locked(id)? else {
            return Err(Error::NotFound(format!("pod sandbox {id} does not exist")));
        };
        if known.result.state != SandboxState::Ready {
            return Err(Error::Precondition(format!("pod sandbox {id} is not ready; its limits cannot be changed")));
        }
        enough(&self.group(known.dirs.cgroup())?, resources, &format!("pod {}", known.record.id.short()))?;
        let (old_overhead, old) = known.resources();
        let (new_overhead, new) = (merged(&old_overhead, overhead), merged(&old, resources));
        self.check_resources("the pod", &new)?;
        let new = Change::Pod(new_overhead, new);
        self.change(&mut known, new, Change::Pod(old_overhead, old))
    }

    /// Writes the change down, does it, and writes the outcome down; one that fails is taken back.
    fn change(&self, known: &mut Known, new: Change, old: Change) -> Result<()> {
        known.result.changing = Some(new.clone());
        record::write(&known.dirs.status(), &known.result, Durability::Cached)?;
        reach("update.intent");
        let done = self.apply(known, &new);
        if let Err(why) = done {
            // Some of it may have been done.
            return match self.finish_change(known, &old) {
                Ok(()) => Err(why),
                Err(left) => Err(Error::Failed(format!("{why}; and it could not be taken back yet: {left}"))),
            };
        }
        reach("update.done");
        self.settle(known, &new)
    }

    /// Does a change that was begun; for recovery too.
    pub(crate) fn finish_change(&self, known: &mut Known, change: &Change) -> Result<()> {
        self.apply(known, change)?;
        self.settle(known, change)
    }

    fn apply(&self, known: &Known, change: &Change) -> Result<()> {
        let (group, resources) = match change {
            Change::Pod(_, all) => (self.group_in(&known.dirs, known.dirs.cgroup())?, all),
            Change::Container(id, resources) => (self.group_of(known, id)?, resources),
        };
        // A container that is gone has no limits.
        if !group.exists() {
            return Ok(());
        }
        group.set_limits(&limits(resources)).map_err(failed)?;
        reach("update.limits");
        group.set_unified(&resources.unified).map_err(failed)?;
        if let Change::Container(id, resources) = change {
            known.driver()?.update(&known.pod(self)?, id, resources).map_err(failed)?;
            // Its processes joined these controllers as it was made, or do now if it did not need them then.
            for file in self.rare_limits(known, &group, resources)? {
                move_to(&group, &file.with_file_name("cgroup.procs"))?;
            }
        } else {
            limit_huge_pages(&group, &resources.hugepages)?;
        }
        Ok(())
    }

    fn settle(&self, known: &mut Known, change: &Change) -> Result<()> {
        match change {
            Change::Pod(overhead, all) => known.result.resources = Some((overhead.clone(), all.clone())),
            Change::Container(id, resources) => {
                let dirs = known.dirs.container(id);
                if dirs.record().exists() {
                    let mut result = self.container_result(&dirs)?;
                    result.resources = Some(resources.clone());
                    record::write(&dirs.status(), &result, Durability::Cached)?;
                    reach("update.recorded");
                }
            }
        }
        known.result.changing = None;
        record::write(&known.dirs.status(), &known.result, Durability::Cached)
    }
}

impl Known {
    /// The pod's limits as they are now: overhead, and all.
    pub(crate) fn resources(&self) -> (LinuxResources, LinuxResources) {
        let config = &self.record.config;
        self.result.resources.clone().unwrap_or_else(|| (config.overhead.clone(), config.resources.clone()))
    }
}

/// A memory limit below what is used would end processes (v2) or be refused by the kernel (v1): it is
/// refused here, as the kubelet expects (KEP-1287, `checkBeforeUpdate` of the runtime-spec).
fn enough(group: &Group, new: &LinuxResources, what: &str) -> Result<()> {
    let Ok(limit) = u64::try_from(new.memory_limit) else { return Ok(()) };
    if limit == 0 {
        return Ok(());
    }
    let used = group.stats().map_err(failed)?.memory_working_set;
    if limit < used {
        return Err(Error::Precondition(format!("{what} uses {used} bytes of memory, which the new limit of {limit} would not hold; it stays as it is")));
    }
    Ok(())
}

/// Moves the processes of a group into a further controller's; one that ends meanwhile has no limits.
fn move_to(group: &Group, procs: &Path) -> Result<()> {
    let there = std::fs::read_to_string(procs).unwrap_or_default();
    for pid in group.procs().map_err(failed)? {
        let pid = pid.to_string();
        if there.lines().any(|line| line == pid) {
            continue;
        }
        match std::fs::write(procs, &pid) {
            Err(e) if e.raw_os_error() != Some(rustix::io::Errno::SRCH.raw_os_error()) => return Err(failed(format!("{}: {e}", procs.display()))),
            _ => {}
        }
    }
    Ok(())
}

/// Of memory and swap together: where only memory's own limit changes, as much swap as before comes on top.
fn swap_limit(old: &LinuxResources, new: &LinuxResources) -> i64 {
    match (old.memory_swap_limit, new.memory_swap_limit) {
        (before, 0) if before > 0 && new.memory_limit > 0 => new.memory_limit.saturating_add((before - old.memory_limit).max(0)),
        (before, 0) => before,
        (_, given) => given,
    }
}

impl Engine {
    /// Limits that cannot be honoured are refused before anything is made.
    pub(crate) fn check_resources(&self, what: &str, resources: &LinuxResources) -> Result<()> {
        if let Some(name) = resources.unified.keys().next()
            && self.cgroups.mode() != Mode::V2
        {
            return Err(Error::Invalid(format!("{what} asks for {name}, a file of cgroup v2, and this machine's controllers are on v1; leave it out")));
        }
        let (memory, both) = (resources.memory_limit, resources.memory_swap_limit);
        if both > 0 && memory <= 0 {
            return Err(Error::Invalid(format!("{what} has a limit of memory and swap together and none of memory; give both")));
        }
        if both > 0 && both < memory {
            return Err(Error::Invalid(format!("{what} may use {memory} bytes of memory, and of memory and swap together only {both}; give at least as much")));
        }
        Ok(())
    }
}

/// The old limits with what is given of the new.
fn merged(old: &LinuxResources, new: &LinuxResources) -> LinuxResources {
    fn given<T: Default + PartialEq + Clone>(old: &T, new: &T) -> T {
        if *new == T::default() { old.clone() } else { new.clone() }
    }
    let mut hugepages = old.hugepages.clone();
    hugepages.extend(new.hugepages.clone());
    let mut unified = old.unified.clone();
    unified.extend(new.unified.clone());
    LinuxResources {
        cpu_shares: given(&old.cpu_shares, &new.cpu_shares),
        cpu_quota: given(&old.cpu_quota, &new.cpu_quota),
        cpu_period: given(&old.cpu_period, &new.cpu_period),
        memory_limit: given(&old.memory_limit, &new.memory_limit),
        pids_limit: given(&old.pids_limit, &new.pids_limit),
        oom_score_adj: old.oom_score_adj,
        cpuset_cpus: given(&old.cpuset_cpus, &new.cpuset_cpus),
        cpuset_mems: given(&old.cpuset_mems, &new.cpuset_mems),
        hugepages,
        memory_swap_limit: swap_limit(old, new),
        unified,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_stays() {
        let old = LinuxResources { cpu_shares: 512, cpu_quota: 1000, memory_limit: 1 << 20, oom_score_adj: Some(5), ..LinuxResources::default() };
        let new = LinuxResources { cpu_quota: -1, cpuset_cpus: "0".into(), ..LinuxResources::default() };
        let wanted = LinuxResources { cpu_quota: -1, cpuset_cpus: "0".into(), ..old.clone() };
        assert_eq!(merged(&old, &new), wanted);
        assert_eq!(merged(&wanted, &LinuxResources::default()), wanted);
        let swap = |memory_limit, memory_swap_limit| LinuxResources { memory_limit, memory_swap_limit, ..LinuxResources::default() };
        for (old, new, both) in [((10, 10), (20, 0), 20), ((10, 15), (20, 0), 25), ((10, -1), (20, 0), -1), ((10, 10), (20, 30), 30), ((10, 0), (20, 0), 0)] {
            assert_eq!(merged(&swap(old.0, old.1), &swap(new.0, new.1)).memory_swap_limit, both, "{old:?} {new:?}");
        }
    }
}
