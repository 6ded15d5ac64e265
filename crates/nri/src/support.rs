//! What plugins may ask for and Cofferdam does: the rest is refused, by plugin and field, never ignored.

use crate::convert::removal;
use crate::{Error, Result, convert, device, mount, wire};

const NOT_DONE: &str = "Cofferdam does not do that";

/// Who asks, about which container: what an error names.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) plugin: &'a str,
    pub(crate) container: &'a str,
}

impl Asker<'_> {
    fn refuse(self, field: impl Into<String>, why: impl Into<String>) -> Error {
        Error::Unsupported {
            plugin: self.plugin.to_owned(),
            container: self.container.to_owned(),
            field: field.into(),
            why: why.into(),
        }
    }

    fn unless(self, allowed: bool, field: &str) -> Result<()> {
        if allowed { Ok(()) } else { Err(self.refuse(field, NOT_DONE)) }
    }
}

/// Checks an adjustment of `container`, as the plugin was told it.
pub(crate) fn adjustment(
    asker: Asker<'_>,
    a: &wire::ContainerAdjustment,
    container: &wire::Container,
    image_env: &[(String, String)],
) -> Result<()> {
    mounts(asker, &a.mounts, container)?;
    for e in &a.env {
        let (name, removed) = removal(&e.key);
        if name.is_empty() || name.contains(['=', '\0']) || e.value.contains('\0') {
            return Err(asker.refuse("env", format!("{name:?} is no name of a variable, or its value has a zero byte")));
        }
        if removed && image_env.iter().any(|(other, _)| other == name) && !a.env.iter().any(|other| other.key == name) {
            return Err(asker.refuse("env", format!("it removes {name}, which the image sets: set it instead")));
        }
    }
    if let Some(hooks) = &a.hooks {
        for (stage, hook) in convert::stages(hooks)
            .iter()
            .flat_map(|(stage, hooks)| hooks.iter().map(move |h| (stage, h)))
        {
            if !hook.path.starts_with('/') {
                return Err(asker.refuse("hooks", format!("{stage} hook {:?} is no absolute path", hook.path)));
            }
        }
    }
    let Some(linux) = &a.linux else { return Ok(()) };
    devices(asker, &linux.devices, container)?;
    linux_adjustment(asker, linux)
}

fn mounts(asker: Asker<'_>, asked: &[wire::Mount], container: &wire::Container) -> Result<()> {
    for m in asked {
        let (path, made) = mount::from_wire(m).map_err(|why| asker.refuse("mounts", why))?;
        let path = path.to_string_lossy();
        if made.is_none() && !container.mounts.iter().chain(asked).any(|other| other.destination == path) {
            let why = format!("it removes the one at {path}, which the container's request does not have");
            return Err(asker.refuse("mounts", why));
        }
    }
    Ok(())
}

fn devices(asker: Asker<'_>, asked: &[wire::LinuxDevice], container: &wire::Container) -> Result<()> {
    let present = container.linux.as_ref().map_or(&[][..], |linux| &linux.devices);
    for d in asked {
        let (path, made) = device::from_wire(d).map_err(|why| asker.refuse("devices", why))?;
        let path = path.to_string_lossy();
        if made.is_none() && !present.iter().chain(asked).any(|other| other.path == path) {
            let why = format!("it removes the one at {path}, which the container's request does not have");
            return Err(asker.refuse("devices", why));
        }
    }
    Ok(())
}

fn linux_adjustment(asker: Asker<'_>, linux: &wire::LinuxContainerAdjustment) -> Result<()> {
    if let Some(score) = linux.oom_score_adj
        && !(-1000..=1000).contains(&score.value)
    {
        return Err(asker.refuse("OOM score adjustment", format!("{} is not between -1000 and 1000", score.value)));
    }
    asker.unless(linux.cgroups_path.is_empty(), "the cgroups path")?;
    asker.unless(linux.io_priority.is_none(), "the I/O priority")?;
    asker.unless(linux.seccomp_policy.is_none(), "the seccomp policy")?;
    asker.unless(linux.namespaces.is_empty(), "namespaces")?;
    asker.unless(linux.sysctl.is_empty(), "sysctls")?;
    asker.unless(linux.net_devices.is_empty(), "network devices")?;
    asker.unless(linux.scheduler.is_none(), "the scheduler")?;
    asker.unless(linux.rdt.is_none(), "RDT")?;
    asker.unless(linux.memory_policy.is_none(), "the memory policy")?;
    linux.resources.as_ref().map_or(Ok(()), |r| resources(asker, r))
}

/// Checks limits. What stands for "as it is" anyway is let through.
pub(crate) fn resources(asker: Asker<'_>, r: &wire::LinuxResources) -> Result<()> {
    if let Some(memory) = &r.memory {
        asker.unless(memory.reservation.is_none_or(|v| v.value == 0), "the memory reservation")?;
        asker.unless(memory.kernel.is_none_or(|v| v.value == 0), "the kernel memory limit")?;
        asker.unless(memory.kernel_tcp.is_none_or(|v| v.value == 0), "the kernel TCP memory limit")?;
        asker.unless(memory.swappiness.is_none(), "the swappiness")?;
        asker.unless(memory.disable_oom_killer.is_none_or(|v| !v.value), "the OOM killer")?;
        asker.unless(memory.use_hierarchy.is_none_or(|v| v.value), "the memory hierarchy")?;
    }
    if let Some(cpu) = &r.cpu {
        asker.unless(cpu.realtime_runtime.is_none_or(|v| v.value == 0), "the CPU realtime runtime")?;
        asker.unless(cpu.realtime_period.is_none_or(|v| v.value == 0), "the CPU realtime period")?;
    }
    asker.unless(r.blockio_class.as_ref().is_none_or(|v| v.value.is_empty()), "the block I/O class")?;
    asker.unless(r.rdt_class.as_ref().is_none_or(|v| v.value.is_empty()), "the RDT class")?;
    asker.unless(r.devices.is_empty(), "device cgroup rules")?;
    match r
        .unified
        .keys()
        .find(|file| file.is_empty() || file.contains(['/', '\0']) || file.starts_with('.'))
    {
        Some(file) => Err(asker.refuse("unified resources", format!("{file:?} is no file of a cgroup"))),
        None => Ok(()),
    }
}
