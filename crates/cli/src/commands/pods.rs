//! Finding a pod by what a person types.

use anyhow::{Result, bail};
use cofferdam_engine::Engine;
use cofferdam_model::cri::{ContainerStatus, SandboxStatus};

/// All pods of users.
pub(crate) fn all(engine: &Engine) -> Result<Vec<SandboxStatus>> {
    Ok(engine.list_sandboxes()?)
}

/// The pod of `NAME`, `NAMESPACE/NAME` or the beginning of its id.
pub(crate) fn find(engine: &Engine, wanted: &str) -> Result<SandboxStatus> {
    let pods = all(engine)?;
    let (namespace, name) = split(wanted);
    let by_name = |p: &&SandboxStatus| p.config.name == name && p.config.namespace == namespace;
    if let Some(pod) = pods.iter().find(by_name) {
        return Ok(pod.clone());
    }
    let by_id: Vec<_> = pods.iter().filter(|p| wanted.len() >= 4 && p.id.as_str().starts_with(wanted)).collect();
    match by_id.as_slice() {
        [pod] => Ok((*pod).clone()),
        [] => {
            let names: Vec<_> = pods.iter().map(|p| format!("{}/{}", p.config.namespace, p.config.name)).collect();
            let known = if names.is_empty() { "none runs".to_owned() } else { format!("there are: {}", names.join(", ")) };
            bail!("pod \"{wanted}\" is not here; {known}")
        }
        _ => bail!("\"{wanted}\" begins the id of {} pods; give more of it", by_id.len()),
    }
}

/// Namespace and name of what a person types.
pub(crate) fn split(wanted: &str) -> (&str, &str) {
    wanted.split_once('/').unwrap_or(("default", wanted))
}

/// The newest container of each name, in the order in which the first were made.
pub(crate) fn newest(all: Vec<ContainerStatus>) -> Vec<ContainerStatus> {
    let mut kept: Vec<ContainerStatus> = Vec::new();
    for container in all {
        match kept.iter_mut().find(|k| k.config.name == container.config.name) {
            Some(old) => *old = container,
            None => kept.push(container),
        }
    }
    kept
}

/// The container of a name, or the only one, or (where `first` will do) the first.
pub(crate) fn container(engine: &Engine, pod: &SandboxStatus, wanted: Option<&str>, first: bool) -> Result<ContainerStatus> {
    choose(pod, engine.list_containers(Some(&pod.id))?, wanted, first)
}

/// The same among those that were listed.
pub(crate) fn choose(pod: &SandboxStatus, all: Vec<ContainerStatus>, wanted: Option<&str>, first: bool) -> Result<ContainerStatus> {
    let all = newest(all);
    let names: Vec<_> = all.iter().map(|c| c.config.name.clone()).collect();
    let chosen = match wanted {
        Some(name) => all.into_iter().find(|c| c.config.name == name),
        None if all.len() > 1 && !first => {
            bail!("pod \"{}\" has several containers; choose one with -c: {}", pod.config.name, names.join(", "))
        }
        None => {
            let running = all.iter().find(|c| c.state == cofferdam_model::cri::ContainerState::Running).cloned();
            running.or_else(|| all.into_iter().next())
        }
    };
    match (chosen, wanted) {
        (Some(container), _) => Ok(container),
        (None, Some(name)) => bail!("pod \"{}\" has no container \"{name}\"; it has: {}", pod.config.name, names.join(", ")),
        (None, None) => bail!("pod \"{}\" has no container yet", pod.config.name),
    }
}
