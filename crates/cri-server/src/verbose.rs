//! The `info` of verbose answers: JSON for people and `crictl`, in the shape that containerd's has, so that
//! what reads one reads the other.

use crate::core::Core;
use cofferdam_engine::Engine;
use cofferdam_images::Image;
use cofferdam_model::PodId;
use cofferdam_model::cri::{ContainerStatus, HandlerStatus, SandboxState, SandboxStatus};
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

pub(crate) fn sandbox(core: &Core, pod: &SandboxStatus) -> BTreeMap<String, String> {
    let dirs = core.engine.layout().pod(&pod.id);
    let ready = pod.state == SandboxState::Ready;
    info(&json!({
        "pid": if ready { monitor_pid(core, &pod.id) } else { 0 },
        "processStatus": if ready { "running" } else { "stopped" },
        "reason": pod.reason,
        "netNamespaceClosed": !ready,
        "runtimeHandler": pod.handler,
        "runtimeType": "io.cofferdam",
        "stages": pod.stages,
        "config": pod.config,
        "runtimeSpec": runtime_spec(&dirs.sandbox_bundle().join("config.json")),
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

/// The configuration: `crictl info | jq '.config.containerd.runtimes | keys'` shows the handlers.
pub(crate) fn runtime(core: &Core, handlers: &[HandlerStatus]) -> BTreeMap<String, String> {
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
    });
    [("config".to_owned(), config.to_string())].into()
}
