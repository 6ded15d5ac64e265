//! What several plugins ask for, made one (upstream's `pkg/adaptation/result.go`): each plugin sees what
//! the ones before it changed, may remove what they added, and may not set what they set.

use crate::convert::{removal, stages};
use crate::owners::{Field, Owners};
use crate::support::{self, Asker};
use crate::{Error, Result, wire};
use std::collections::BTreeMap;

/// The answers of all plugins to one creation.
pub(crate) struct Creation {
    /// As the next plugin is told it.
    pub(crate) container: wire::Container,
    /// What is asked for so far; a removal stands before what is then added.
    pub(crate) adjust: wire::ContainerAdjustment,
    pub(crate) owners: Owners,
    pub(crate) updates: Updates,
    image_env: Vec<(String, String)>,
}

impl Creation {
    pub(crate) fn new(container: wire::Container, image_env: &[(String, String)]) -> Self {
        let linux = Some(wire::LinuxContainerAdjustment::default());
        let adjust = wire::ContainerAdjustment {
            linux,
            hooks: Some(wire::Hooks::default()),
            ..Default::default()
        };
        let updates = Updates {
            creating: Some(container.id.clone()),
            ..Updates::default()
        };
        Self {
            container,
            adjust,
            owners: Owners::default(),
            updates,
            image_env: image_env.to_vec(),
        }
    }

    /// Adds a plugin's answer.
    pub(crate) fn add(&mut self, answer: wire::CreateContainerResponse, plugin: &str) -> Result<()> {
        if let Some(asked) = answer.adjust {
            let id = self.container.id.clone();
            let asker = Asker { plugin, container: &id };
            support::adjustment(asker, &asked, &self.container, &self.image_env)?;
            self.adjust(asked, asker)?;
        }
        self.updates.add(answer.update, &mut self.owners, plugin)
    }

    fn adjust(&mut self, asked: wire::ContainerAdjustment, asker: Asker<'_>) -> Result<()> {
        self.annotations(asked.annotations, asker)?;
        self.mounts(asked.mounts, asker)?;
        self.env(asked.env, asker)?;
        self.args(asked.args, asker)?;
        if let Some(hooks) = asked.hooks {
            self.hooks(hooks, asker);
        }
        if let Some(linux) = asked.linux {
            self.devices(linux.devices, asker)?;
            if let Some(resources) = linux.resources {
                let told = self.container.linux.get_or_insert_default().resources.get_or_insert_default();
                overlay(&mut self.owners, asker, &resources, told)?;
                let kept = self.adjust.linux.get_or_insert_default().resources.get_or_insert_default();
                // The fields were claimed above.
                copy(&resources, kept);
            }
            if linux.oom_score_adj.is_some() {
                self.owners.claim(asker.container, Field::OomScoreAdj, "", asker.plugin)?;
                self.container.linux.get_or_insert_default().oom_score_adj = linux.oom_score_adj;
                self.adjust.linux.get_or_insert_default().oom_score_adj = linux.oom_score_adj;
            }
        }
        for rlimit in asked.rlimits {
            self.owners.claim(asker.container, Field::Rlimit, &rlimit.r#type, asker.plugin)?;
            self.container.rlimits.retain(|other| other.r#type != rlimit.r#type);
            self.container.rlimits.push(rlimit.clone());
            self.adjust.rlimits.push(rlimit);
        }
        // Upstream neither shows them to the next plugin nor lets them be removed.
        for device in asked.cdi_devices {
            self.owners.claim(asker.container, Field::CdiDevice, &device.name, asker.plugin)?;
            self.adjust.cdi_devices.push(device);
        }
        Ok(())
    }

    fn annotations(&mut self, asked: BTreeMap<String, String>, asker: Asker<'_>) -> Result<()> {
        // "-key" sorts before what begins with a letter, but not before all: removals go first.
        let (removed, set): (Vec<_>, Vec<_>) = asked.into_iter().partition(|(key, _)| removal(key).1);
        for (marked, _) in removed {
            let (key, _) = removal(&marked);
            self.owners.clear(asker.container, Field::Annotation, key, asker.plugin);
            self.container.annotations.remove(key);
            self.adjust.annotations.remove(key);
            self.adjust.annotations.insert(marked, String::new());
        }
        for (key, value) in set {
            self.owners.claim(asker.container, Field::Annotation, &key, asker.plugin)?;
            self.container.annotations.insert(key.clone(), value.clone());
            self.adjust.annotations.insert(key, value);
        }
        Ok(())
    }

    fn mounts(&mut self, asked: Vec<wire::Mount>, asker: Asker<'_>) -> Result<()> {
        let key = |mount: &wire::Mount| mount.destination.clone();
        let told = Told {
            field: Field::Mount,
            owners: &mut self.owners,
            asker,
        };
        told.merge(asked, key, &mut self.adjust.mounts, &mut self.container.mounts)
    }

    fn devices(&mut self, asked: Vec<wire::LinuxDevice>, asker: Asker<'_>) -> Result<()> {
        let key = |device: &wire::LinuxDevice| device.path.clone();
        let told = Told {
            field: Field::Device,
            owners: &mut self.owners,
            asker,
        };
        let kept = &mut self.adjust.linux.get_or_insert_default().devices;
        told.merge(asked, key, kept, &mut self.container.linux.get_or_insert_default().devices)
    }

    fn env(&mut self, asked: Vec<wire::KeyValue>, asker: Asker<'_>) -> Result<()> {
        let parse = |variable: &String| {
            let (key, value) = variable.split_once('=').unwrap_or((variable, ""));
            wire::KeyValue {
                key: key.to_owned(),
                value: value.to_owned(),
            }
        };
        let mut shown: Vec<_> = self.container.env.iter().map(parse).collect();
        let told = Told {
            field: Field::Env,
            owners: &mut self.owners,
            asker,
        };
        told.merge(asked, |e: &wire::KeyValue| e.key.clone(), &mut self.adjust.env, &mut shown)?;
        self.container.env = shown.iter().map(|e| format!("{}={}", e.key, e.value)).collect();
        Ok(())
    }

    fn args(&mut self, mut asked: Vec<String>, asker: Asker<'_>) -> Result<()> {
        if asked.first().is_some_and(String::is_empty) {
            asked.remove(0);
            self.owners.clear(asker.container, Field::Args, "", asker.plugin);
        }
        if asked.is_empty() {
            return Ok(());
        }
        self.owners.claim(asker.container, Field::Args, "", asker.plugin)?;
        self.container.args.clone_from(&asked);
        self.adjust.args = asked;
        Ok(())
    }

    fn hooks(&mut self, asked: wire::Hooks, asker: Asker<'_>) {
        if stages(&asked).iter().all(|(_, hooks)| hooks.is_empty()) {
            return;
        }
        self.owners.claim_hooks(asker.container, asker.plugin);
        for into in [&mut self.container.hooks, &mut self.adjust.hooks] {
            let into = into.get_or_insert_default();
            into.prestart.extend_from_slice(&asked.prestart);
            into.create_runtime.extend_from_slice(&asked.create_runtime);
            into.create_container.extend_from_slice(&asked.create_container);
            into.start_container.extend_from_slice(&asked.start_container);
            into.poststart.extend_from_slice(&asked.poststart);
            into.poststop.extend_from_slice(&asked.poststop);
        }
    }
}

/// What one plugin asks about things of one kind that have a key.
struct Told<'a> {
    field: Field,
    owners: &'a mut Owners,
    asker: Asker<'a>,
}

impl Told<'_> {
    /// Merges into what is asked for so far (`kept`, removals marked) and what the next plugin is
    /// told (`shown`).
    fn merge<T: Clone>(self, asked: Vec<T>, key_of: impl Fn(&T) -> String, kept: &mut Vec<T>, shown: &mut Vec<T>) -> Result<()> {
        let (removed, added): (Vec<T>, Vec<T>) = asked.into_iter().partition(|item| removal(&key_of(item)).1);
        for item in removed {
            let marked = key_of(&item);
            let (key, _) = removal(&marked);
            self.owners.clear(self.asker.container, self.field, key, self.asker.plugin);
            kept.retain(|other| key_of(other) != key && key_of(other) != marked);
            shown.retain(|other| key_of(other) != key);
            kept.push(item);
        }
        for item in added {
            let key = key_of(&item);
            self.owners.claim(self.asker.container, self.field, &key, self.asker.plugin)?;
            shown.retain(|other| key_of(other) != key);
            shown.push(item.clone());
            kept.push(item);
        }
        Ok(())
    }
}

/// Changes of other containers that plugins ask for while they are asked about one.
#[derive(Default)]
pub(crate) struct Updates {
    /// By container, in the order in which they were first asked for.
    pub(crate) list: Vec<wire::ContainerUpdate>,
    /// The container that is being created: it has nothing to be updated yet.
    creating: Option<String>,
    /// The container that is being updated, and its limits so far.
    pub(crate) updating: Option<(String, wire::LinuxResources)>,
}

impl Updates {
    /// While a container is updated to these limits.
    pub(crate) fn of(id: &str, limits: wire::LinuxResources) -> Self {
        Self {
            updating: Some((id.to_owned(), limits)),
            ..Self::default()
        }
    }

    /// Adds what a plugin asks for. Where it does not mind a failure, what fails is left out.
    pub(crate) fn add(&mut self, asked: Vec<wire::ContainerUpdate>, owners: &mut Owners, plugin: &str) -> Result<()> {
        for update in asked {
            if self.creating.as_ref() == Some(&update.container_id) {
                return Err(Error::SelfUpdate {
                    plugin: plugin.to_owned(),
                    container: update.container_id,
                });
            }
            match self.add_one(&update, owners, plugin) {
                Err(_) if update.ignore_failure => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn add_one(&mut self, update: &wire::ContainerUpdate, owners: &mut Owners, plugin: &str) -> Result<()> {
        let id = &update.container_id;
        let Some(asked) = update.linux.as_ref().and_then(|linux| linux.resources.as_ref()) else {
            return Ok(());
        };
        let asker = Asker { plugin, container: id };
        support::resources(asker, asked)?;
        if let Some((updating, limits)) = &mut self.updating
            && updating == id
        {
            return overlay(owners, asker, asked, limits);
        }
        let known = self.list.iter().position(|other| other.container_id == *id);
        let mut whole = known
            .and_then(|index| self.list.get(index))
            .cloned()
            .unwrap_or_else(|| wire::ContainerUpdate {
                container_id: id.clone(),
                ignore_failure: true,
                ..Default::default()
            });
        whole.ignore_failure &= update.ignore_failure;
        overlay(
            owners,
            asker,
            asked,
            whole.linux.get_or_insert_default().resources.get_or_insert_default(),
        )?;
        match known.and_then(|index| self.list.get_mut(index)) {
            Some(slot) => *slot = whole,
            None => self.list.push(whole),
        }
        Ok(())
    }
}

/// Claims what is asked for and sets it in `into`; on a conflict `into` is as it was.
fn overlay(owners: &mut Owners, asker: Asker<'_>, asked: &wire::LinuxResources, into: &mut wire::LinuxResources) -> Result<()> {
    let memory = asked.memory.unwrap_or_default();
    let cpu = asked.cpu.clone().unwrap_or_default();
    for (is_asked, field) in [
        (memory.limit.is_some(), Field::MemLimit),
        (memory.swap.is_some(), Field::MemSwapLimit),
        (cpu.shares.is_some(), Field::CpuShares),
        (cpu.quota.is_some(), Field::CpuQuota),
        (cpu.period.is_some(), Field::CpuPeriod),
        (!cpu.cpus.is_empty(), Field::CpusetCpus),
        (!cpu.mems.is_empty(), Field::CpusetMems),
        (asked.pids.is_some(), Field::PidsLimit),
    ] {
        if is_asked {
            owners.claim(asker.container, field, "", asker.plugin)?;
        }
    }
    for limit in &asked.hugepage_limits {
        owners.claim(asker.container, Field::HugepageLimit, &limit.page_size, asker.plugin)?;
    }
    for file in asked.unified.keys() {
        owners.claim(asker.container, Field::Unified, file, asker.plugin)?;
    }
    copy(asked, into);
    Ok(())
}

/// Sets what is asked for.
fn copy(asked: &wire::LinuxResources, into: &mut wire::LinuxResources) {
    if let Some(asked) = &asked.memory {
        let memory = into.memory.get_or_insert_default();
        memory.limit = asked.limit.or(memory.limit);
        memory.swap = asked.swap.or(memory.swap);
    }
    if let Some(asked) = &asked.cpu {
        let cpu = into.cpu.get_or_insert_default();
        cpu.shares = asked.shares.or(cpu.shares);
        cpu.quota = asked.quota.or(cpu.quota);
        cpu.period = asked.period.or(cpu.period);
        for (value, into) in [(&asked.cpus, &mut cpu.cpus), (&asked.mems, &mut cpu.mems)] {
            if !value.is_empty() {
                into.clone_from(value);
            }
        }
    }
    for limit in &asked.hugepage_limits {
        into.hugepage_limits.retain(|other| other.page_size != limit.page_size);
        into.hugepage_limits.push(limit.clone());
    }
    into.unified
        .extend(asked.unified.iter().map(|(file, value)| (file.clone(), value.clone())));
    into.pids = asked.pids.or(into.pids);
}
