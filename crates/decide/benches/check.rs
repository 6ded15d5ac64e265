//! How long ten thousand pods take to be told about. Run it with
//! `cargo bench -p cofferdam-decide --bench check`; it prints and asserts nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cofferdam_decide::chain::World;
use cofferdam_decide::check::{Namespaces, report};
use cofferdam_decide::quota::Used;
use cofferdam_model::objects::{LimitRange, ResourceQuota, RuntimeClass};
use cofferdam_model::pod::Pod;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::time::Instant;

const PODS: usize = 10_000;
const NAMESPACES: usize = 50;

fn objects<T: DeserializeOwned>(count: usize, one: impl Fn(usize) -> Value) -> Vec<T> {
    (0..count).map(|at| serde_json::from_value(one(at)).unwrap()).collect()
}

fn main() {
    let resources = json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "128Mi"}});
    let pods: Vec<Pod> = objects(PODS, |at| {
        json!({
            "metadata": {"name": format!("web-{at}"), "namespace": format!("team-{}", at % NAMESPACES), "labels": {"app": "web"}},
            "spec": {
                "runtimeClassName": "gvisor", "nodeSelector": {"disk": "ssd"},
                "containers": [
                    {"name": "app", "image": "i", "resources": resources, "ports": [{"containerPort": 8080, "name": "http"}]},
                    {"name": "log", "image": "i"},
                ],
            },
        })
    });
    let classes: Vec<RuntimeClass> = objects(1, |_| {
        json!({
            "metadata": {"name": "gvisor"}, "handler": "runsc", "overhead": {"podFixed": {"cpu": "250m", "memory": "120Mi"}},
            "scheduling": {"nodeSelector": {"sandbox": "gvisor"}, "tolerations": [{"key": "sandbox", "operator": "Exists"}]},
        })
    });
    let ranges: Vec<LimitRange> = objects(NAMESPACES, |at| {
        json!({
            "metadata": {"name": "r", "namespace": format!("team-{at}")},
            "spec": {"limits": [{"type": "Container", "default": {"cpu": "100m", "memory": "64Mi"}, "max": {"cpu": "1"}}]},
        })
    });
    let quotas: Vec<ResourceQuota> = objects(
        NAMESPACES,
        |at| json!({"metadata": {"name": "q", "namespace": format!("team-{at}")}, "spec": {"hard": {"limits.cpu": "100", "pods": "1000"}}}),
    );
    let world = World {
        classes: &classes,
        limit_ranges: &ranges,
        quotas: &quotas,
        ..World::default()
    };
    let begun = Instant::now();
    let reports = report(pods, world, Namespaces::Implicit, Used::default());
    let refused = reports.filter(|r| r.denial.is_some()).count();
    println!("{PODS} pods told about in {:?}; {refused} of them refused", begun.elapsed());
}
