//! Probes (`pkg/kubelet/prober`, `pkg/probe`): one try of one probe, and when the next is due.
//!
//! Different from upstream: the first try comes when `initialDelaySeconds` are over, and not with the
//! next tick of a clock that began before the container; a server that refuses a gRPC
//! connection fails the probe at once, and not when its time is over; and nothing is tried any more once
//! the pod is being ended, where upstream goes on with readiness. A port's name that the container does not
//! have is told as such, where upstream tells that it is no number; and `user-agent` of gRPC does not name
//! a library.

mod answer;
mod grpc;
mod hpack;
pub(crate) mod http;
pub(crate) mod net;
mod tls;
mod watch;

pub(crate) use watch::{Kind, Watch};

use crate::expansion::{TooLong, expand};
use crate::words::go_duration;
use cofferdam_model::ContainerId;
use cofferdam_model::cri::{Error, Runtime};
use cofferdam_model::pod::{ContainerPort, EnvVar, HttpGetAction, PortRef, Probe};
use http::{Get, NoAnswer, Url, fetch};
use net::{Patience, dial};
use std::net::IpAddr;
use std::time::Duration;

/// How often a try is made again that came to no result (`maxProbeRetries`).
const MAX_TRIES: u32 = 3;
/// Most that is told of a command's output, bytes (`maxReadLength` of `pkg/probe/exec`).
const MAX_OUTPUT: usize = 10 * 1024;

/// What one try came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Good,
    /// Good, with a sentence.
    Warning(String),
    Bad(String),
    /// It came to nothing, which counts for nothing: the state that it was left in, and why.
    Errored(&'static str, String),
}

/// What a try needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Aim {
    pub(crate) container: ContainerId,
    pub(crate) ports: Vec<ContainerPort>,
    /// The pod's address, or the machine's where the pod is in its network.
    pub(crate) ip: Option<IpAddr>,
}

/// `probe` with the `$(NAME)`s of its command put in, of what `env` says outright: one that takes its value
/// from elsewhere is empty here, as upstream (`ExpandContainerCommandOnlyStatic`).
pub(crate) fn spelled_out(probe: &Probe, env: &[EnvVar]) -> Result<Probe, TooLong> {
    let mut probe = probe.clone();
    if let Some(exec) = &mut probe.exec {
        let lookup = |name: &str| env.iter().rev().find(|var| var.name == name).map(|var| var.value.as_deref().unwrap_or_default());
        for word in &mut exec.command {
            *word = expand(word, lookup)?;
        }
    }
    Ok(probe)
}

/// Tries `probe`.
pub(crate) fn attempt(runtime: &dyn Runtime, aim: &Aim, probe: &Probe) -> Outcome {
    let mut outcome = once(runtime, aim, probe);
    for _ in 1..MAX_TRIES {
        if !matches!(outcome, Outcome::Errored(..)) {
            break;
        }
        outcome = once(runtime, aim, probe);
    }
    outcome
}

fn once(runtime: &dyn Runtime, aim: &Aim, probe: &Probe) -> Outcome {
    let time = Duration::from_secs(watch::at_least(probe.timeout_seconds, 1));
    let unknown = |why: String| Outcome::Errored("unknown", why);
    if let Some(exec) = &probe.exec {
        return command(runtime, &aim.container, &exec.command, time);
    }
    if let Some(get) = &probe.http_get {
        return match request(get, aim, "kube-probe/1.34") {
            Ok(get) => web(&get, &Patience::of(time)),
            Err(why) => unknown(why),
        };
    }
    let host = |host: Option<&String>| match (host.filter(|host| !host.is_empty()), aim.ip) {
        (Some(host), _) => Ok(host.clone()),
        (None, Some(ip)) => Ok(ip.to_string()),
        (None, None) => Err("the pod has no address".to_owned()),
    };
    if let Some(tcp) = &probe.tcp_socket {
        let target = port(&tcp.port, &aim.ports).and_then(|port| Ok((host(tcp.host.as_ref())?, port)));
        return match target {
            Ok((host, port)) => dial(&host, port, &Patience::of(time)).map_or_else(Outcome::Bad, |_| Outcome::Good),
            Err(why) => unknown(why),
        };
    }
    if let Some(grpc) = &probe.grpc {
        let target = port(&PortRef::Number(grpc.port), &[]).and_then(|port| Ok((host(None)?, port)));
        let service = grpc.service.as_deref().unwrap_or_default();
        return match target {
            Ok((host, port)) => {
                grpc::check(&host, port, service, &go_duration(time), &Patience::of(time)).map_or_else(Outcome::Bad, |()| Outcome::Good)
            }
            Err(why) => unknown(why),
        };
    }
    unknown("missing probe handler".into())
}

fn command(runtime: &dyn Runtime, id: &ContainerId, command: &[String], time: Duration) -> Outcome {
    match runtime.exec_sync(id, command, time) {
        Ok(output) if output.exit_code == 0 => Outcome::Good,
        Ok(mut output) => {
            output.stdout.append(&mut output.stderr);
            output.stdout.truncate(MAX_OUTPUT);
            Outcome::Bad(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
        }
        Err(Error::Timeout(_)) => Outcome::Bad(format!(
            "command timed out: {:?} timed out after {}",
            command.join(" "),
            go_duration(time)
        )),
        Err(err) => Outcome::Errored("unknown", err.to_string()),
    }
}

fn web(get: &Get, patience: &Patience<'_>) -> Outcome {
    match fetch(get, patience) {
        Ok(said) if (200..300).contains(&said.status) => Outcome::Good,
        Ok(said) if (300..400).contains(&said.status) => Outcome::Warning(format!(
            "Probe terminated redirects, Response body: {}",
            String::from_utf8_lossy(&said.body)
        )),
        Ok(said) => Outcome::Bad(format!("HTTP probe failed with statuscode: {}", said.status)),
        Err(NoAnswer::Failed(why) | NoAnswer::PlainServer(why)) => Outcome::Bad(why),
        Err(NoAnswer::Body(why)) => Outcome::Errored("failure", why),
    }
}

/// The request of a probe or a hook. An error is one phrase.
pub(crate) fn request(get: &HttpGetAction, aim: &Aim, agent: &'static str) -> Result<Get, String> {
    let port = port(&get.port, &aim.ports)?;
    let host = match get.host.as_ref().filter(|host| !host.is_empty()) {
        Some(host) => host.trim_start_matches('[').trim_end_matches(']').to_owned(),
        None => aim.ip.ok_or("the pod has no address")?.to_string(),
    };
    let https = get.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
    let headers = get.http_headers.iter().map(|h| (h.name.clone(), h.value.clone())).collect();
    Ok(Get {
        url: Url::new(https, &host, port, get.path.as_deref().unwrap_or_default()),
        headers,
        agent,
    })
}

/// The number of a port (`probe.ResolveContainerPort`).
fn port(port: &PortRef, ports: &[ContainerPort]) -> Result<u16, String> {
    let number = match port {
        PortRef::Number(number) => *number,
        PortRef::Name(name) => {
            let named = ports.iter().find(|p| p.name.as_ref() == Some(name)).map(|p| p.container_port);
            named
                .or_else(|| name.parse().ok())
                .ok_or_else(|| format!("the container has no port named {name:?}"))?
        }
    };
    u16::try_from(number)
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| format!("invalid port number: {number}"))
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
