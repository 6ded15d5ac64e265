//! Trials of rows whose answer is in `check`, `try`, `doctor` or `describe`, or in a running pod.

use super::cluster;
use super::common::{self, World, traces};
use super::mirror::Mirror;
use super::trial::Kernel::{Gvisor, Machine};
use super::trial::{self, Trial};
use serde_json::{Value, json};

/// The kernel is all that differs, and the verdict says so.
pub(crate) fn gvisor_shows_in_what_is_tried(t: &Trial) -> String {
    let mut pod = trial::probe("gvisor");
    pod["spec"]["containers"][0]["command"] = json!(["uname", "-r"]);
    let (said, tries) = t.tried(&[5], &[pod], &[], 1);
    assert_eq!(
        (&tries[0]["handler"], &tries[0]["reference"], &tries[1]["handler"]),
        (&json!("runc"), &json!(true), &json!("runsc"))
    );
    said + &t.ran(&[5], "gvisor", "runsc", Gvisor)
}

pub(crate) fn three_replicas_of_a_class(t: &Trial) -> String {
    let t = t.with(&[24]);
    let (said, report) = t.check(&[6, 10], &[], &[], 0);
    let handlers: Vec<&Value> = report["pods"].as_array().unwrap().iter().map(|pod| &pod["handler"]).collect();
    assert_eq!(handlers, ["kata-qemu"; 3]);
    said + &t.none_of(&[6, 10], 3)
}

/// Without the label of this row there is no node for the pods, and with it these are.
pub(crate) fn labels_decide(t: &Trial, files: &[usize], row: usize, on: &[&str]) -> String {
    t.lands_nowhere(files, &[], &trial::workers(row - 1)) + &t.lands(files, &trial::workers(row), on)
}

pub(crate) fn a_taint_keeps_others_away(t: &Trial) -> String {
    let mut pod = trial::probe("kata");
    pod["spec"]["nodeSelector"] = json!({"runtime.kubernetes.io/kata": "true"});
    t.unknown("up")
        + &t.lands_nowhere(&[6], &[pod], &trial::workers(15))
        + &t.lands(&[12, 10], &trial::workers(15), &["worker-3", "worker-4"])
}

pub(crate) fn overhead_is_described(t: &Trial) -> String {
    let world = t.world();
    trial::up(&world, &[16, 18]);
    let story = world.call(&["describe", "overhead-example"]).good();
    trial::said(&story)
}

/// What the documents list below `kubectl describe pod`: class, handler, selector.
pub(crate) fn three_common_errors(t: &Trial) -> String {
    let world = t.bare();
    let failed = trial::not_started(&world, &[67, 68]);
    let described = trial::said(&world.call(&["describe", "secure-pod"]).good());
    let told = trial::diagnosed(
        &world.call(&["doctor", "secure-pod", "-o", "json"]),
        "handler-not-found",
        "secure-pod",
    );
    let class = trial::doctor_on(&world, &[9], "runtimeclass-not-found", "sandboxed-app");
    t.unknown("up")
        + &t.denied(&[9], &[])
        + &class
        + &failed
        + &described
        + &told
        + &t.lands_nowhere(&[11, 9], &[], &trial::workers(0))
        + &the_selector_in_a_cluster(&world)
}

fn the_selector_in_a_cluster(world: &World) -> String {
    let mut pod = trial::probe("gvisor");
    pod["metadata"] = json!({"name": "probe", "namespace": "default", "uid": "u1"});
    pod["status"] = json!({"phase": "Pending"});
    let config = cluster::unscheduled(
        world,
        pod,
        "0/4 nodes are available: 4 node(s) didn't match Pod's node affinity/selector.",
    );
    let words = ["doctor", "--kubeconfig", config.to_str().unwrap(), "default/probe", "-o", "json"];
    trial::diagnosed(&world.call(&words), "node-selector-mismatch", "probe")
}

pub(crate) fn a_running_pod_is_described(t: &Trial) -> String {
    let world = t.world();
    trial::up(&world, &[5, 9]);
    let told = world.call(&["describe", "sandboxed-app", "-o", "json"]).good().json();
    let view = &told[0]["view"];
    assert_eq!((&view["class"], &view["handler"]), (&json!("gvisor"), &json!("runsc")), "{told}");
    assert!(!view["stages"].as_array().unwrap().is_empty(), "{told}");
    t.unknown("up") + &trial::said(&world.call(&["describe", "sandboxed-app"]).good())
}

/// The class as updated wants a label, and tolerates a taint.
pub(crate) fn an_updated_class_is_placed_by(t: &Trial) -> String {
    let mut node = trial::node("worker-1", &["runc", "kata"]);
    let without = t.lands_nowhere(&[52, 59, 58], &[], std::slice::from_ref(&node));
    node["metadata"]["labels"]["runtime-kata"] = json!("true");
    node["spec"]["taints"] = json!([{"key": "runtime-kata", "value": "true", "effect": "NoSchedule"}]);
    without + &t.lands(&[52, 59, 58], &[node], &["worker-1"])
}

/// The node has the handler all along; the class wants its label.
pub(crate) fn a_label_makes_a_node_eligible(t: &Trial) -> String {
    let mut node = trial::node("worker1", &["runc", "kata-fc"]);
    let without = t.lands_nowhere(&[64, 66], &[], std::slice::from_ref(&node));
    node["metadata"]["labels"]["katacontainers.io/kata-runtime"] = json!("true");
    t.unknown("up") + &without + &t.lands(&[64, 66], &[node], &["worker1"])
}

pub(crate) fn three_classes_in_one_text(t: &Trial) -> String {
    let t24 = t.with(&[24]);
    t.unknown("up")
        + &t.classes_are_right(&[7], &["standard", "gvisor", "kata"])
        + &t24.ran(&[7], "standard", "runc", Machine)
        + &t24.ran(&[7], "gvisor", "runsc", Gvisor)
        + &t24.unavailable(&[7], "kata", "kata-qemu")
}

/// A probe in the customer's namespace.
fn customer(class: &str, container: &Value) -> Value {
    let mut pod = trial::probe(class);
    pod["metadata"]["namespace"] = json!("customer-workloads");
    common::merge(&mut pod["spec"]["containers"][0], container);
    pod
}

pub(crate) fn a_namespace_has_its_pods(t: &Trial) -> String {
    let (said, report) = trial::run(&t.world(), &[20, 43], &[customer("standard", &json!({}))], 0);
    assert_eq!(report["pods"][0]["namespace"], "customer-workloads");
    said
}

/// The container's limit is the whole quota: nothing is left for overhead.
pub(crate) fn the_quota_counts_overhead(t: &Trial) -> String {
    let resources = json!({"resources": {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"cpu": "200m", "memory": "40Gi"}}});
    trial::run(&t.world(), &[20, 43, 44], &[customer("standard", &resources)], 0);
    t.check(&[20, 43, 44], &[customer("standard", &resources)], &[], 0);
    t.denied(&[21, 43, 44], &[customer("gvisor", &resources)]) + &t.check(&[21, 43, 44], &[customer("gvisor", &resources)], &[], 121).0
}

pub(crate) fn the_limit_range_sets_defaults(t: &Trial) -> String {
    let value = |name: &str, resource: &str, divisor: &str| json!({"name": name, "valueFrom": {"resourceFieldRef": {"resource": resource, "divisor": divisor}}});
    let values = [
        ("LM", "limits.memory", "1Mi"),
        ("LC", "limits.cpu", "1m"),
        ("RM", "requests.memory", "1Mi"),
        ("RC", "requests.cpu", "1m"),
    ];
    let env: Vec<Value> = values
        .iter()
        .map(|(name, resource, divisor)| value(name, resource, divisor))
        .collect();
    let container = json!({"env": env, "command": ["sh", "-c", "echo $LM $LC $RM $RC > /dev/termination-log"]});
    let (said, report) = trial::run(&t.world(), &[20, 43, 45], &[customer("standard", &container)], 0);
    assert_eq!(common::message(&report, "probe", "app").trim(), "256 200 128 100");
    said
}

pub(crate) fn an_untrusted_build(t: &Trial) -> String {
    let world = t.bare();
    let _mirror = Mirror::of(&world);
    let (compared, tries) = t.tried(&[91, 100], &[], &["--until", "exec:true"], 1);
    assert_eq!((&tries[1]["handler"], &tries[1]["same"]), (&json!("runsc"), &json!(false)));
    let said = t.flat(100) + &compared + &trial::up(&world, &[91, 100]);
    let row = &world.ps()[0];
    assert_eq!((&row["handler"], &row["status"]), (&json!("runsc"), &json!("Running")));
    let machine = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    common::until("the script has written", || {
        let log = world.call(&["logs", "untrusted-build"]).good().out;
        let kernel = log.strip_prefix("building\n")?.strip_suffix('\n')?.to_owned();
        assert_ne!(kernel, machine.trim());
        Some(())
    });
    let id = world.id_of("untrusted-build");
    let limit = traces::cgroups(&id).find_map(|dir| {
        ["memory.limit_in_bytes", "memory.max"]
            .iter()
            .find_map(|f| std::fs::read_to_string(dir.join(f)).ok())
    });
    assert_eq!(limit.unwrap().trim(), (4_u64 << 30).to_string());
    said
}

/// The second class of the name is what is wrong, at its handler.
pub(crate) fn a_handler_is_immutable(t: &Trial) -> String {
    let (said, report) = t.check(&[53, 61, 62], &[], &[], 121);
    let error = &report["objects"][1]["errors"][0];
    assert_eq!((&error["field"], &error["line"]), (&json!("handler"), &json!(5)), "{report:#}");
    t.with(&[46]).undecoded(&[53, 61, 62]) + &said + &t.with(&[60]).ran(&[61], "gvisor", "runsc", Gvisor)
}
