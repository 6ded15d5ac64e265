//! The `info` of verbose answers: JSON for people and `crictl`, in the shape that containerd's has, so that
//! what reads one reads the other.

use crate::CgroupDriver;
use crate::core::Core;
use cofferdam_engine::Engine;
use cofferdam_images::Image;
use cofferdam_model::PodId;
use cofferdam_model::cri::{ContainerStatus, Error, HandlerStatus, NamespaceMode, SandboxState, SandboxStatus};
use cofferdam_monitor::client::Client;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Greatest size of a specification that is shown, bytes.
const MAX_SPEC: u64 = 4 << 20;

fn info(value: &Value) -> BTreeMap<String, String> {
    [("info".to_owned(), value.to_string())].into()
}

/// What a runtime was told of a container; `null` where it is not there.
fn runtime_spec(path: &Path) -> Value {
    let fits = std::fs::metadata(path).is_ok_and(|m| m.len() <= MAX_SPEC);
    let read = fits.then(|| std::fs::read(path).ok()).flatten();
    read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or(Value::Null)
}

/// The process that holds a pod's namespaces; 0 where it is gone.
fn monitor_pid(core: &Core, pod: &PodId) -> i32 {
    Client::connect(&core.engine.layout().pod(pod).socket()).map_or(0, |client| client.monitor_pid())
}

/// What containerd's specification of a pause container is asked for, where there is none: whose it is, and
/// the paths of its namespaces.
fn sandbox_spec(pod: &SandboxStatus, pid: i32) -> Value {
    let config = &pod.config;
    let shared = [("network", "net", config.network), ("ipc", "ipc", config.ipc), ("uts", "uts", config.network)];
    let own = shared.into_iter().filter(|(_, _, mode)| pid > 0 && *mode != NamespaceMode::Node);
    let namespaces: Vec<Value> = own
        .map(|(kind, file, _)| json!({ "type": kind, "path": format!("/proc/{pid}/ns/{file}") }))
        .collect();
    json!({
        "hostname": config.hostname,
        "annotations": {
            "io.kubernetes.cri.container-type": "sandbox",
            "io.kubernetes.cri.sandbox-id": pod.id,
            "io.kubernetes.cri.sandbox-name": config.name,
            "io.kubernetes.cri.sandbox-namespace": config.namespace,
            "io.kubernetes.cri.sandbox-uid": config.uid,
            "io.kubernetes.cri.sandbox-log-directory": config.log_directory,
        },
        "linux": { "namespaces": namespaces },
    })
}

pub(crate) fn sandbox(core: &Core, pod: &SandboxStatus) -> BTreeMap<String, String> {
    let dirs = core.engine.layout().pod(&pod.id);
    let ready = pod.state == SandboxState::Ready;
    let pid = if ready { monitor_pid(core, &pod.id) } else { 0 };
    let spec = match runtime_spec(&dirs.sandbox_bundle().join("config.json")) {
        Value::Null => sandbox_spec(pod, pid),
        spec => spec,
    };
    info(&json!({
        "pid": pid,
        "processStatus": if ready { "running" } else { "stopped" },
        "reason": pod.reason,
        "netNamespaceClosed": !ready,
        "runtimeHandler": pod.handler,
        "runtimeType": "io.cofferdam",
        "stages": pod.stages,
        "config": pod.config,
        "runtimeSpec": spec,
    }))
}

pub(crate) fn container(core: &Core, pod: &SandboxStatus, container: &ContainerStatus) -> BTreeMap<String, String> {
    let dirs = core.engine.layout().pod(&pod.id).container(&container.id);
    info(&json!({
        "sandboxID": pod.id,
        "pid": container.pid.unwrap_or(0),
        "removing": false,
        "runtimeHandler": pod.handler,
        "runtimeType": "io.cofferdam",
        "stages": container.stages,
        "config": container.config,
        "runtimeSpec": runtime_spec(&dirs.spec()),
    }))
}

pub(crate) fn image(engine: &Engine, image: &Image) -> BTreeMap<String, String> {
    let configuration = engine.image_configuration(&image.id.to_string()).ok();
    let spec: Value = configuration
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or(Value::Null);
    info(&json!({ "imageSpec": spec, "target": image.target.as_ref().map(ToString::to_string) }))
}

/// The configuration: `crictl info | jq '.config.containerd.runtimes | keys'` shows the handlers. And how it
/// stands with the network, which people read in containerd's `lastCNILoadStatus`.
pub(crate) fn runtime(core: &Core, handlers: &[HandlerStatus], network: &Result<(), Error>) -> BTreeMap<String, String> {
    let of = |handler: &HandlerStatus| {
        let shown = json!({
            "runtimeType": "io.cofferdam",
            "runtimePath": handler.binary,
            "driver": handler.driver,
            "version": handler.version,
            "unproved": handler.unproved,
            "features": handler.features,
        });
        (handler.name.clone(), shown)
    };
    let runtimes: Map<String, Value> = handlers.iter().map(of).collect();
    let default = handlers.iter().find(|h| h.default).map(|h| h.name.as_str());
    let layout = core.engine.layout();
    let config = json!({
        "containerd": { "defaultRuntimeName": default, "runtimes": runtimes },
        "rootDir": layout.pods().parent(),
        "stateDir": layout.run_pods().parent(),
        "podCIDR": *core.pod_cidr.read().unwrap_or_else(|e| e.into_inner()),
        "pinnedImages": core.options.pinned_images,
        "systemdCgroup": core.options.cgroup_driver == CgroupDriver::Systemd,
    });
    let network = network.as_ref().map_or_else(ToString::to_string, |()| "OK".to_owned());
    [("config".to_owned(), config.to_string()), ("lastCNILoadStatus".to_owned(), network)].into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use cofferdam_model::cri::SandboxConfig;

    #[test]
    fn a_pod_without_a_pause_container_tells_its_namespaces_all_the_same() {
        let mut pod = SandboxStatus {
            id: PodId::from_bytes([1; 16]),
            config: SandboxConfig { name: "web".into(), ..SandboxConfig::default() },
            handler: "crun".into(),
            state: SandboxState::Ready,
            reason: None,
            created_at: 0,
            ip: None,
            ips: vec![],
            stages: vec![],
        };
        let paths = |spec: Value| {
            let of = |space: &Value| (space["type"].as_str().unwrap().to_owned(), space["path"].as_str().unwrap().to_owned());
            spec["linux"]["namespaces"].as_array().unwrap().iter().map(of).collect::<Vec<_>>()
        };
        let own = |kind: &str, file: &str| (kind.to_owned(), format!("/proc/7/ns/{file}"));
        assert_eq!(paths(sandbox_spec(&pod, 7)), [own("network", "net"), own("ipc", "ipc"), own("uts", "uts")]);
        assert_eq!(sandbox_spec(&pod, 7)["annotations"]["io.kubernetes.cri.sandbox-name"], "web");
        pod.config.network = NamespaceMode::Node;
        assert_eq!(paths(sandbox_spec(&pod, 7)), [own("ipc", "ipc")], "the machine's are not the pod's");
        assert!(paths(sandbox_spec(&pod, 0)).is_empty(), "nobody holds them any more");
    }
}
