//! One pod, up and down, as a kubelet does it.

use super::client::Peer;
use super::error::Error;
use cofferdam_cri_api::v1::{
    ContainerConfig, ContainerMetadata, ContainerStatusRequest, CreateContainerRequest, ExecSyncRequest, ImageSpec, LinuxContainerConfig,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, ListPodSandboxRequest, NamespaceMode,
    NamespaceOption, PodSandboxConfig, PodSandboxFilter, PodSandboxMetadata, PodSandboxStatusRequest, RemoveContainerRequest,
    RemovePodSandboxRequest, RunPodSandboxRequest, StartContainerRequest, StopContainerRequest, StopPodSandboxRequest,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

/// Label, namespace and beginning of the name of all that a bench makes.
const MARK: &str = "cofferdam-bench";
/// Seconds that `true` may run.
const EXEC_LIMIT: i64 = 60;
/// How often a pod is tried to be removed.
const TRIES: usize = 3;
/// Bytes of a verbose status that are looked at.
const VERBOSE: usize = 1 << 20;

/// What every pod of a run is made from.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    pub(super) handler: String,
    pub(super) image: String,
    pub(super) command: Vec<String>,
    pub(super) logs: PathBuf,
}

/// A pod that is up, and how long each verb took, milliseconds.
#[derive(Debug, Clone)]
pub(super) struct Up {
    pub(super) pod: String,
    pub(super) container: String,
    pub(super) verbs: [f64; 3],
}

impl Up {
    pub(super) fn total(&self) -> f64 {
        self.verbs.iter().sum()
    }
}

/// How long it took to stop and to remove a pod, milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Down {
    pub(super) stop: f64,
    pub(super) remove: f64,
}

fn marks() -> BTreeMap<String, String> {
    [(MARK.to_owned(), "true".to_owned())].into()
}

/// Network and IPC of the pod, a process id namespace of the container's own: the default of
/// Kubernetes' pods.
fn namespaces() -> Option<NamespaceOption> {
    Some(NamespaceOption {
        pid: NamespaceMode::Container.into(),
        ..NamespaceOption::default()
    })
}

fn sandbox(recipe: &Recipe, number: usize) -> PodSandboxConfig {
    let name = format!("{MARK}-{number}");
    let uid = format!("{MARK}-{}-{number}", std::process::id());
    let security = LinuxSandboxSecurityContext {
        namespace_options: namespaces(),
        ..LinuxSandboxSecurityContext::default()
    };
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.clone(),
            uid,
            namespace: MARK.into(),
            attempt: 0,
        }),
        hostname: name,
        log_directory: recipe.logs.display().to_string(),
        labels: marks(),
        linux: Some(LinuxPodSandboxConfig {
            security_context: Some(security),
            ..LinuxPodSandboxConfig::default()
        }),
        ..PodSandboxConfig::default()
    }
}

fn container(recipe: &Recipe, number: usize) -> ContainerConfig {
    let security = LinuxContainerSecurityContext {
        namespace_options: namespaces(),
        ..LinuxContainerSecurityContext::default()
    };
    ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: "app".into(),
            attempt: 0,
        }),
        image: Some(ImageSpec {
            image: recipe.image.clone(),
            runtime_handler: recipe.handler.clone(),
            ..ImageSpec::default()
        }),
        command: recipe.command.clone(),
        labels: marks(),
        log_path: format!("{number}.log"),
        linux: Some(LinuxContainerConfig {
            security_context: Some(security),
            ..LinuxContainerConfig::default()
        }),
        ..ContainerConfig::default()
    }
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// One pod with one container.
pub(super) async fn up(peer: &Peer, recipe: &Recipe, number: usize) -> Result<Up, Error> {
    let config = sandbox(recipe, number);
    let mut client = peer.runtime.clone();
    let begin = Instant::now();
    let request = RunPodSandboxRequest {
        config: Some(config.clone()),
        runtime_handler: recipe.handler.clone(),
    };
    let pod = peer.ask("RunPodSandbox", client.run_pod_sandbox(request)).await?.pod_sandbox_id;
    let run = millis(begin);
    let request = CreateContainerRequest {
        pod_sandbox_id: pod.clone(),
        config: Some(container(recipe, number)),
        sandbox_config: Some(config),
    };
    let container = peer.ask("CreateContainer", client.create_container(request)).await?.container_id;
    let create = millis(begin) - run;
    let request = StartContainerRequest {
        container_id: container.clone(),
    };
    peer.ask("StartContainer", client.start_container(request)).await?;
    Ok(Up {
        pod,
        container,
        verbs: [run, create, millis(begin) - run - create],
    })
}

/// Stops without grace, and removes.
pub(super) async fn down(peer: &Peer, up: &Up) -> Result<Down, Error> {
    let mut client = peer.runtime.clone();
    let (pod_sandbox_id, container_id) = (|| up.pod.clone(), || up.container.clone());
    let begin = Instant::now();
    let request = StopContainerRequest {
        container_id: container_id(),
        timeout: 0,
    };
    peer.ask("StopContainer", client.stop_container(request)).await?;
    let request = StopPodSandboxRequest {
        pod_sandbox_id: pod_sandbox_id(),
    };
    peer.ask("StopPodSandbox", client.stop_pod_sandbox(request)).await?;
    let stop = millis(begin);
    let request = RemoveContainerRequest {
        container_id: container_id(),
    };
    peer.ask("RemoveContainer", client.remove_container(request)).await?;
    let request = RemovePodSandboxRequest {
        pod_sandbox_id: pod_sandbox_id(),
    };
    peer.ask("RemovePodSandbox", client.remove_pod_sandbox(request)).await?;
    Ok(Down {
        stop,
        remove: millis(begin) - stop,
    })
}

/// `true` in the container; how long it took.
pub(super) async fn exec(peer: &Peer, up: &Up) -> Result<f64, Error> {
    let request = ExecSyncRequest {
        container_id: up.container.clone(),
        cmd: vec!["true".into()],
        timeout: EXEC_LIMIT,
    };
    let begin = Instant::now();
    let answer = peer.ask("ExecSync", peer.runtime.clone().exec_sync(request)).await?;
    match answer.exit_code {
        0 => Ok(millis(begin)),
        code => Err(Error::Exec {
            socket: peer.socket.clone(),
            code,
        }),
    }
}

/// How long each stage of the pod's start took, where the runtime tells in a verbose status.
pub(super) async fn stages(peer: &Peer, up: &Up) -> Result<Vec<(String, f64)>, Error> {
    let mut client = peer.runtime.clone();
    let request = PodSandboxStatusRequest {
        pod_sandbox_id: up.pod.clone(),
        verbose: true,
    };
    let pod = peer.ask("PodSandboxStatus", client.pod_sandbox_status(request)).await?.info;
    let request = ContainerStatusRequest {
        container_id: up.container.clone(),
        verbose: true,
    };
    let container = peer.ask("ContainerStatus", client.container_status(request)).await?.info;
    let mut all = told("sandbox", &pod);
    all.extend(told("container", &container));
    Ok(all)
}

/// The `stages` (name and `micros`) of any JSON in a verbose status.
fn told(prefix: &str, info: &BTreeMap<String, String>) -> Vec<(String, f64)> {
    let read = |(key, text): (&String, &String)| -> Option<Vec<(String, f64)>> {
        let value: Value = serde_json::from_str(text.get(..).filter(|t| t.len() <= VERBOSE)?).ok()?;
        let list = if key == "stages" && value.is_array() {
            value.as_array()?
        } else {
            value.get("stages")?.as_array()?
        };
        let stage = |s: &Value| Some((format!("{prefix} {}", s.get("name")?.as_str()?), s.get("micros")?.as_f64()? / 1e3));
        Some(list.iter().filter_map(stage).collect())
    };
    info.iter().find_map(read).unwrap_or_default()
}

/// The ids of the pods of this bench and of those before.
pub(super) async fn ours(peer: &Peer) -> Result<Vec<String>, Error> {
    let filter = PodSandboxFilter {
        label_selector: marks(),
        ..PodSandboxFilter::default()
    };
    let request = ListPodSandboxRequest { filter: Some(filter) };
    let pods = peer
        .ask("ListPodSandbox", peer.runtime.clone().list_pod_sandbox(request))
        .await?
        .items;
    // Whoever ignores the filter must not lose pods of others.
    Ok(pods.into_iter().filter(|p| p.labels.contains_key(MARK)).map(|p| p.id).collect())
}

/// Removes every pod of a bench, also one that an earlier bench left.
pub(super) async fn sweep(peer: &Peer) -> Result<(), Error> {
    let peer = peer.unstoppable();
    let mut reason = String::new();
    for _ in 0..TRIES {
        let pods = ours(&peer).await?;
        if pods.is_empty() {
            return Ok(());
        }
        for pod in &pods {
            if let Err(e) = remove(&peer, pod).await {
                reason = e.to_string();
            }
        }
    }
    match ours(&peer).await?.len() {
        0 => Ok(()),
        count => Err(Error::Left {
            socket: peer.socket.clone(),
            count,
            reason,
        }),
    }
}

/// With its containers, as CRI promises.
async fn remove(peer: &Peer, pod: &str) -> Result<(), Error> {
    let mut client = peer.runtime.clone();
    let request = StopPodSandboxRequest {
        pod_sandbox_id: pod.to_owned(),
    };
    peer.ask("StopPodSandbox", client.stop_pod_sandbox(request)).await?;
    let request = RemovePodSandboxRequest {
        pod_sandbox_id: pod.to_owned(),
    };
    peer.ask("RemovePodSandbox", client.remove_pod_sandbox(request)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn stages_are_read_where_they_are_told() {
        let stages = r#"[{"name": "network", "micros": 2500}, {"name": 3}]"#;
        let wanted = vec![("sandbox network".to_owned(), 2.5)];
        for (key, text, expected) in [
            ("stages", stages.to_owned(), wanted.clone()),
            ("info", format!("{{\"stages\": {stages}}}"), wanted),
            ("info", r#"{"pid": 1}"#.to_owned(), vec![]),
            ("info", "no JSON".to_owned(), vec![]),
        ] {
            assert_eq!(told("sandbox", &[(key.to_owned(), text.clone())].into()), expected, "{key}: {text}");
        }
    }
}
