#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::testing::{container, object, pod, show};
use cofferdam_model::objects::{LimitRange, Namespace, ResourceQuota, RuntimeClass};
use serde_json::{Value, json};

fn classes() -> Vec<RuntimeClass> {
    object(json!([
        {"metadata": {"name": "plain"}, "handler": "runc"},
        {"metadata": {"name": "gvisor"}, "handler": "runsc", "overhead": {"podFixed": {"cpu": "250m", "memory": "120Mi"}},
         "scheduling": {"nodeSelector": {"sandbox": "gvisor"}, "tolerations": [{"key": "sandbox", "operator": "Exists"}]}},
    ]))
}

fn namespaces() -> Vec<Namespace> {
    object(json!([{"metadata": {"name": "shop", "annotations": {"cofferdam.dev/default-runtime-class": "gvisor"}}}]))
}

fn quotas() -> Vec<ResourceQuota> {
    object(json!([
        {"metadata": {"name": "cpu"}, "spec": {"hard": {"requests.cpu": "2", "configmaps": "5"}}},
        {"metadata": {"name": "ending"}, "spec": {"hard": {"pods": "1"}, "scopes": ["Terminating"]}},
        {"metadata": {"name": "elsewhere", "namespace": "shop"}, "spec": {"hard": {"pods": "9"}}},
    ]))
}

fn named(name: &str, namespace: Option<&str>, spec: Value) -> Pod {
    let mut pod = pod(spec);
    pod.metadata.name = name.to_string();
    pod.metadata.namespace = namespace.map(str::to_string);
    pod
}

fn asking(cpu: &str) -> Value {
    json!([container("c", json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}))])
}

fn reports(pods: Vec<Pod>, known: Namespaces, used: Used) -> Vec<PodReport> {
    let (classes, namespaces, quotas) = (classes(), namespaces(), quotas());
    let world = World {
        classes: &classes,
        namespaces: &namespaces,
        quotas: &quotas,
        ..World::default()
    };
    report(pods, world, known, used).collect()
}

/// A report in one line, without the pod.
fn line(r: &PodReport) -> String {
    let left: Vec<String> = r.quotas.iter().map(|q| format!("{}:{}", q.name, show(&q.left))).collect();
    let denial = r.denial.iter().map(|d| format!(" ! {} @ {}", d, d.causes()[0].field));
    let warnings = r.warnings.iter().map(|w| format!(" ~ {w}"));
    let handler = r.handler.as_ref().map_or("-", HandlerName::as_str);
    let mut line = format!(
        "{} {}/{handler} [{}] [{}] {:?} {}",
        r.pod.metadata.name,
        r.class.as_deref().unwrap_or("-"),
        show(&r.requests),
        show(&r.limits),
        r.qos,
        left.join(" ")
    );
    line.extend(warnings.chain(denial));
    line.trim_end().to_string()
}

#[test]
fn each_pod_is_told_in_order_and_charged_to_its_quotas() {
    let default = |name, spec| named(name, None, spec);
    let pods = vec![
        default("plain", json!({"runtimeClassName": "plain", "containers": asking("500m")})),
        default("boxed", json!({"runtimeClassName": "gvisor", "containers": asking("500m")})),
        default("none", json!({"containers": asking("100m")})),
        default("gone", json!({"runtimeClassName": "kata", "containers": asking("100m")})),
        default("large", json!({"runtimeClassName": "gvisor", "containers": asking("500m")})),
        default("ending", json!({"containers": asking("100m"), "activeDeadlineSeconds": 5})),
        default("ending-too", json!({"containers": asking("100m"), "activeDeadlineSeconds": 5})),
        default(
            "contrary",
            json!({"runtimeClassName": "gvisor", "containers": asking("100m"), "nodeSelector": {"sandbox": "x"}}),
        ),
        named("filled", Some("shop"), json!({"containers": asking("100m")})),
        default("fits", json!({"containers": asking("550m")})),
    ];
    let told: Vec<String> = reports(pods, Namespaces::Implicit, Used::default()).iter().map(line).collect();
    assert_eq!(
        told,
        [
            "plain plain/runc [cpu=500m] [cpu=500m] Burstable cpu:requests.cpu=1500m",
            "boxed gvisor/runsc [cpu=750m,memory=120Mi] [cpu=750m] Burstable cpu:requests.cpu=750m",
            "none -/- [cpu=100m] [cpu=100m] Burstable cpu:requests.cpu=650m",
            // Who is refused is not charged.
            "gone kata/- [cpu=100m] [cpu=100m] Burstable cpu:requests.cpu=650m ! pods \"gone\" is forbidden: pod rejected: RuntimeClass \"kata\" not found @ spec.runtimeClassName",
            "large gvisor/- [cpu=500m] [cpu=500m] Burstable cpu:requests.cpu=650m ! pods \"large\" is forbidden: exceeded quota: cpu, requested: requests.cpu=750m, used: requests.cpu=1350m, limited: requests.cpu=2 @ spec.containers[0].resources.requests[cpu]",
            "ending -/- [cpu=100m] [cpu=100m] Burstable cpu:requests.cpu=550m ending:pods=0",
            "ending-too -/- [cpu=100m] [cpu=100m] Burstable cpu:requests.cpu=550m ending:pods=0 ! pods \"ending-too\" is forbidden: exceeded quota: ending, requested: pods=1, used: pods=1, limited: pods=1 @ metadata.name",
            "contrary gvisor/- [cpu=100m] [cpu=100m] Burstable cpu:requests.cpu=550m ! pods \"contrary\" is forbidden: conflict: runtimeClass.scheduling.nodeSelector[sandbox] = gvisor; pod.spec.nodeSelector[sandbox] = x @ spec.nodeSelector[sandbox]",
            "filled gvisor/runsc [cpu=350m,memory=120Mi] [cpu=350m] Burstable elsewhere:pods=8",
            "fits -/- [cpu=550m] [cpu=550m] Burstable cpu:requests.cpu=0",
        ]
    );
}

#[test]
fn the_pod_is_shown_as_admission_leaves_it_and_a_refused_one_as_it_was() {
    let given = pod(json!({"runtimeClassName": "gvisor", "containers": asking("100m"), "nodeSelector": {"disk": "ssd"}}));
    let admitted = &reports(vec![given.clone()], Namespaces::Implicit, Used::default())[0];
    let spec = &admitted.pod.spec;
    assert_eq!(show(spec.overhead.as_ref().unwrap()), "cpu=250m,memory=120Mi");
    assert_eq!(spec.node_selector, object(json!({"disk": "ssd", "sandbox": "gvisor"})));
    assert_eq!(spec.tolerations.last().unwrap().key, "sandbox");
    assert_eq!(admitted.denial, None);

    let mut refused = given;
    refused.spec.overhead = Some(object(json!({"cpu": "1"})));
    assert_eq!(
        reports(vec![refused.clone()], Namespaces::Implicit, Used::default())[0].pod,
        refused
    );
}

/// What stands before the pods in a cluster's own account is charged too.
#[test]
fn quotas_begin_where_they_are_said_to() {
    let mut used = Used::default();
    let hard = quotas()[0].spec.hard.clone();
    used.state(&quotas()[0], hard, object(json!({"requests.cpu": "1900m"})));
    let pods = vec![named("p", None, json!({"containers": asking("200m")}))];
    assert_eq!(
        line(&reports(pods, Namespaces::Implicit, used)[0]),
        "p -/- [cpu=200m] [cpu=200m] Burstable cpu:requests.cpu=100m ! pods \"p\" is forbidden: exceeded quota: cpu, requested: requests.cpu=200m, used: requests.cpu=1900m, limited: requests.cpu=2 @ spec.containers[0].resources.requests[cpu]"
    );
}

#[test]
fn an_unknown_namespace_is_told_once_or_refused_where_all_are_known() {
    let namespaces = [
        None,
        Some("default"),
        Some("kube-system"),
        Some("kube-public"),
        Some("kube-node-lease"),
        Some("shop"),
        Some("x"),
        Some("x"),
        Some("y"),
    ];
    let pods = || {
        namespaces
            .iter()
            .map(|n| named("p", *n, json!({"containers": asking("1m")})))
            .collect::<Vec<_>>()
    };
    let implicit = reports(pods(), Namespaces::Implicit, Used::default());
    assert!(implicit.iter().all(|r| r.denial.is_none()));
    let warned: Vec<(usize, String)> = implicit
        .iter()
        .enumerate()
        .flat_map(|(at, r)| r.warnings.iter().map(move |w| (at, w.to_string())))
        .collect();
    let sentence = |name: &str| {
        format!(
            "metadata.namespace: namespaces \"{name}\" not found in these manifests; a cluster refuses the pod unless it has that namespace"
        )
    };
    assert_eq!(warned, [(6, sentence("x")), (8, sentence("y"))]);

    let listed = reports(pods(), Namespaces::Listed, Used::default());
    let denied: Vec<(usize, String)> = listed
        .iter()
        .enumerate()
        .filter_map(|(at, r)| r.denial.as_ref().map(|d| (at, d.to_string())))
        .collect();
    let not_found = |name: &str| format!("namespaces \"{name}\" not found");
    assert_eq!(denied, [(6, not_found("x")), (7, not_found("x")), (8, not_found("y"))]);
    let denied = listed[6].denial.as_ref().unwrap();
    assert_eq!((denied.code(), denied.causes()[0].field.as_str()), (404, "metadata.namespace"));
    assert!(listed.iter().all(|r| r.warnings.is_empty()));
}

#[test]
fn warnings_stand_at_their_fields() {
    let mut old = named(
        "p",
        None,
        json!({"containers": asking("1m"), "nodeSelector": {"beta.kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux"}}),
    );
    old.metadata
        .annotations
        .insert("io.kubernetes.cri-o.TrustedSandbox".into(), "true".into());
    let told: Vec<String> = reports(vec![old], Namespaces::Implicit, Used::default())[0]
        .warnings
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        told,
        [
            "metadata.annotations[io.kubernetes.cri-o.TrustedSandbox]: deprecated; name a RuntimeClass in spec.runtimeClassName instead",
            "spec.nodeSelector[beta.kubernetes.io/arch]: deprecated since v1.14; use \"kubernetes.io/arch\" instead",
        ]
    );
}

#[test]
fn limit_ranges_and_rules_of_pods_count_too() {
    let ranges: Vec<LimitRange> = object(
        json!([{"metadata": {"name": "r"}, "spec": {"limits": [{"type": "Container", "default": {"cpu": "100m"}, "max": {"cpu": "1"}}]}}]),
    );
    let world = World {
        limit_ranges: &ranges,
        ..World::default()
    };
    let pods = vec![
        named("filled", None, json!({})),
        named("above", None, json!({"containers": asking("2")})),
        named("wrong", None, json!({"containers": [{"name": "C", "image": "i"}]})),
    ];
    let all: Vec<PodReport> = report(pods, world, Namespaces::Implicit, Used::default()).collect();
    assert_eq!(line(&all[0]), "filled -/- [cpu=100m] [cpu=100m] Burstable");
    let fields: Vec<String> = all
        .iter()
        .filter_map(|r| r.denial.as_ref())
        .map(|d| d.causes()[0].field.clone())
        .collect();
    assert_eq!(fields, ["spec.containers[0].resources.limits[cpu]", "spec.containers[0].name"]);
}
