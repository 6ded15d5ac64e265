//! `cofferdam resize`: other resources for the containers of a running pod, in place (KEP-1287).

use super::{kept, pods};
use crate::args::{Global, Output};
use crate::owner::{Amounts, PodNow};
use crate::settings::Settings;
use crate::{enclosure, show};
use anyhow::{Result, bail};
use clap::Args;
use cofferdam_decide::enclosure::Enclosure;
use cofferdam_decide::resources::is_sidecar;
use cofferdam_model::{Quantity, ResourceList};
use serde_json::json;

/// Examples of the command.
pub(crate) const HELP: &str = "\
Examples:
  cofferdam resize web --limits cpu=500m,memory=256Mi
  cofferdam resize default/web -c app --requests cpu=200m --limits cpu=1
  cofferdam resize web --limits memory=64Mi -o json

What is not named stays as it is. A container whose resizePolicy says RestartContainer is started again.
A memory limit below what is in use is refused.";

/// Options of `resize`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ResizeArgs {
    /// Pod: NAME, NAMESPACE/NAME or the beginning of its id
    pod: String,
    /// Container or sidecar; every container where absent
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// What it is held to: cpu=200m,memory=128Mi
    #[arg(long, value_name = "AMOUNTS", value_parser = amounts, required_unless_present = "requests")]
    limits: Option<ResourceList>,
    /// What it is promised: cpu=100m,memory=64Mi
    #[arg(long, value_name = "AMOUNTS", value_parser = amounts)]
    requests: Option<ResourceList>,
    /// Format
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// `NAME=AMOUNT,…`, as `kubectl set resources` has it.
fn amounts(text: &str) -> Result<ResourceList, String> {
    let one = |part: &str| {
        let (name, amount) = part
            .split_once('=')
            .ok_or_else(|| format!("invalid argument syntax {part}, expected <resource>=<value>"))?;
        let amount: Quantity = amount.parse().map_err(|e| format!("{name}: {e}"))?;
        Ok((name.to_owned(), amount))
    };
    text.split(',').map(one).collect()
}

/// Changes resources, and tells which containers changed.
pub(crate) fn resize(global: &Global, args: &ResizeArgs) -> Result<u8> {
    let settings = Settings::read(global).insist()?;
    let engine = settings.open()?;
    let found = kept::find(&engine, &args.pod)?;
    if let Some(container) = &args.container {
        can_change(&found.now, &args.pod, container)?;
    }
    let asked = Amounts {
        pod: found.name.clone(),
        container: args.container.clone(),
        requests: args.requests.clone().unwrap_or_default(),
        limits: args.limits.clone().unwrap_or_default(),
    };
    let done = found.peer.resize(asked)?;
    let full = &found.name;
    if enclosure::of(&settings.loaded.table, &found.handler) == Some(Enclosure::Gvisor) && stands_for_itself(&found.now) {
        show::tell(format_args!(
            "cofferdam: warning: in gVisor no container of pod \"{}\" is held to limits of its own: the pod as a whole is held to their sum",
            full.name
        ));
    }
    if args.output == Output::Json {
        show::json(&json!({"namespace": full.namespace, "name": full.name, "containers": done.containers}))?;
        return Ok(0);
    }
    if done.containers.is_empty() {
        show::say(format_args!("pod/{} has these resources already", full.name));
        return Ok(0);
    }
    show::say(format_args!("pod/{} resized", full.name));
    for container in done.containers.iter().filter(|c| c.restarted) {
        show::say(format_args!(
            "container {} is started again, as its resizePolicy has it",
            container.name
        ));
    }
    Ok(0)
}

/// Refuses a container that is not there, or has no resources to change any more.
fn can_change(now: &PodNow, pod: &str, wanted: &str) -> Result<()> {
    let spec = &now.pod.spec;
    let init = spec.init_containers.iter();
    let able: Vec<String> = spec
        .containers
        .iter()
        .chain(init.clone().filter(|c| is_sidecar(c)))
        .map(|c| c.name.clone())
        .collect();
    if able.iter().any(|name| name == wanted) {
        return Ok(());
    }
    if now.ephemeral.iter().any(|c| c.container.name == wanted) {
        bail!("container \"{wanted}\" was added to pod \"{pod}\" by debug, and such have no resources");
    }
    // What upstream says of init containers is said where they are changed.
    if init.clone().any(|c| c.name == wanted) {
        return Ok(());
    }
    Err(pods::no_container(pod, wanted, &able))
}

/// Whether there are others that a container could be held apart from.
fn stands_for_itself(now: &PodNow) -> bool {
    now.pod.spec.containers.len() + now.pod.spec.init_containers.iter().filter(|c| is_sidecar(c)).count() > 1
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn amounts_are_written_as_for_kubectl() {
        let told = |text: &str| amounts(text).map(|list| serde_json::to_value(list).unwrap());
        assert_eq!(told("cpu=200m,memory=128Mi"), Ok(json!({"cpu": "200m", "memory": "128Mi"})));
        assert_eq!(told("cpu").unwrap_err(), "invalid argument syntax cpu, expected <resource>=<value>");
        assert!(told("cpu=200m,").is_err());
        assert!(told("memory=lots").unwrap_err().starts_with("memory: "));
    }
}
