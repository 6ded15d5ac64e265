#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use serde_json::{Value, json};

fn objects() -> Objects {
    let config_maps = json!([
        {"metadata": {"name": "cm", "namespace": "ns"}, "data": {"a": "1", "b": "2", "has=sign": "x"}},
        {"metadata": {"name": "other"}, "data": {"a": "default namespace"}},
    ]);
    let secrets = json!([
        {"metadata": {"name": "s", "namespace": "ns"}, "data": {"k": "aHVudGVyMg==", "raw": "/w==", "bad": "%"}, "stringData": {"t": "text"}},
        {"metadata": {"name": "wins", "namespace": "ns"}, "data": {"k": "b2xk"}, "stringData": {"k": "new"}},
    ]);
    Objects::new(
        serde_json::from_value(config_maps).unwrap(),
        serde_json::from_value(secrets).unwrap(),
    )
}

fn resolve(container: Value) -> Result<Environment, EnvError> {
    let container: Container = serde_json::from_value(container).unwrap();
    let mut pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u-1", "labels": {"app": "web", "x/y": "z"}, "annotations": {"note": "hi"}},
        "spec": {"initContainers": [{"name": "i", "resources": {"limits": {"cpu": "1500m"}}}]},
    }))
    .unwrap();
    pod.spec.containers.push(container.clone());
    let machine = Machine {
        name: "node-1".into(),
        ip: Some([10, 0, 0, 1].into()),
        cpu_millis: 2000,
        memory: 1 << 30,
        ephemeral_storage: 7,
        ips: vec![[10, 0, 0, 1].into(), "fd00::1".parse().unwrap()],
        ..Machine::default()
    };
    let ips = ["10.88.0.5".parse().unwrap(), "fd00::5".parse().unwrap()];
    environment(
        Sources {
            pod: &pod,
            objects: &objects(),
            machine: &machine,
            pod_ips: &ips,
        },
        &container,
    )
}

fn text(env: &Environment) -> String {
    env.vars
        .iter()
        .map(|(n, v)| format!("{n}={v}"))
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn order_and_sources() {
    let key = |kind: &str, name: &str, key: &str, optional: bool| json!({kind: {"name": name, "key": key, "optional": optional}});
    let field = |path: &str| json!([{"name": "F", "valueFrom": {"fieldRef": {"fieldPath": path}}}]);
    let resource = |fields: Value| json!({"env": [{"name": "R", "valueFrom": {"resourceFieldRef": fields}}], "resources": {"limits": {"cpu": "250m", "memory": "100Mi"}, "requests": {"cpu": "1"}}});
    let rows: Vec<(&str, Value, Result<&str, &str>)> = vec![
        (
            "plain",
            json!({"env": [{"name": "A", "value": "1"}, {"name": "B"}]}),
            Ok("A=1 B="),
        ),
        (
            "earlier names expand",
            json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)-$(C)"}, {"name": "C", "value": "3"}]}),
            Ok("A=1 B=1-$(C) C=3"),
        ),
        (
            "the last value of a name stands, in its first place",
            json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}, {"name": "A", "value": "$(A)3"}]}),
            Ok("A=13 B=2"),
        ),
        (
            "a value put in is not looked at again",
            json!({"env": [{"name": "A", "value": "$$(B)"}, {"name": "B", "value": "$(A)"}]}),
            Ok("A=$(B) B=$(B)"),
        ),
        (
            "envFrom first, env wins",
            json!({"envFrom": [{"configMapRef": {"name": "cm"}}], "env": [{"name": "a", "value": "mine"}, {"name": "Z", "value": "$(b)"}]}),
            Ok("a=mine b=2 Z=2"),
        ),
        (
            "prefix",
            json!({"envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}]}),
            Ok("P_a=1 P_b=2"),
        ),
        (
            "whole secret",
            json!({"envFrom": [{"secretRef": {"name": "wins"}}]}),
            Ok("k=new"),
        ),
        (
            "whole config map missing",
            json!({"envFrom": [{"configMapRef": {"name": "x"}}]}),
            Err("configmap \"x\" not found"),
        ),
        (
            "whole secret missing",
            json!({"envFrom": [{"secretRef": {"name": "x"}}]}),
            Err("secret \"x\" not found"),
        ),
        (
            "whole config map of another namespace",
            json!({"envFrom": [{"configMapRef": {"name": "other"}}]}),
            Err("configmap \"other\" not found"),
        ),
        (
            "optional whole objects",
            json!({"envFrom": [{"configMapRef": {"name": "x", "optional": true}}, {"secretRef": {"name": "x", "optional": true}}]}),
            Ok(""),
        ),
        (
            "config map key",
            json!({"env": [{"name": "K", "valueFrom": key("configMapKeyRef", "cm", "a", false)}]}),
            Ok("K=1"),
        ),
        (
            "secret key",
            json!({"env": [{"name": "K", "valueFrom": key("secretKeyRef", "s", "k", false)}]}),
            Ok("K=hunter2"),
        ),
        (
            "secret text",
            json!({"env": [{"name": "K", "valueFrom": key("secretKeyRef", "s", "t", false)}]}),
            Ok("K=text"),
        ),
        (
            "missing key",
            json!({"env": [{"name": "K", "valueFrom": key("configMapKeyRef", "cm", "k", false)}]}),
            Err("couldn't find key k in ConfigMap ns/cm"),
        ),
        (
            "missing secret key",
            json!({"env": [{"name": "K", "valueFrom": key("secretKeyRef", "s", "q", false)}]}),
            Err("couldn't find key q in Secret ns/s"),
        ),
        (
            "optional missing key leaves the name out",
            json!({"env": [{"name": "K", "valueFrom": key("configMapKeyRef", "cm", "k", true)}]}),
            Ok(""),
        ),
        (
            "optional missing object leaves the name out",
            json!({"env": [{"name": "K", "valueFrom": key("secretKeyRef", "x", "k", true)}]}),
            Ok(""),
        ),
        (
            "missing object",
            json!({"env": [{"name": "K", "valueFrom": key("configMapKeyRef", "x", "k", false)}]}),
            Err("configmap \"x\" not found"),
        ),
        (
            "a binary secret is no text",
            json!({"env": [{"name": "K", "valueFrom": key("secretKeyRef", "s", "raw", false)}]}),
            Err(
                "key raw of secret \"s\" is not UTF-8 text, so it cannot be an environment variable; mount it as a file",
            ),
        ),
        ("name", json!({"env": field("metadata.name")}), Ok("F=p")),
        (
            "namespace",
            json!({"env": field("metadata.namespace")}),
            Ok("F=ns"),
        ),
        ("uid", json!({"env": field("metadata.uid")}), Ok("F=u-1")),
        (
            "label",
            json!({"env": field("metadata.labels['x/y']")}),
            Ok("F=z"),
        ),
        (
            "missing label",
            json!({"env": field("metadata.labels['none']")}),
            Ok("F="),
        ),
        (
            "annotation",
            json!({"env": field("metadata.annotations['note']")}),
            Ok("F=hi"),
        ),
        (
            "node name",
            json!({"env": field("spec.nodeName")}),
            Ok("F=node-1"),
        ),
        (
            "service account",
            json!({"env": field("spec.serviceAccountName")}),
            Ok("F=default"),
        ),
        (
            "pod IP",
            json!({"env": field("status.podIP")}),
            Ok("F=10.88.0.5"),
        ),
        (
            "pod IPs",
            json!({"env": field("status.podIPs")}),
            Ok("F=10.88.0.5,fd00::5"),
        ),
        (
            "host IP",
            json!({"env": field("status.hostIP")}),
            Ok("F=10.0.0.1"),
        ),
        ("host IPs", json!({"env": field("status.hostIPs")}), Ok("F=10.0.0.1,fd00::1")),
        ("whole maps are for files", json!({"env": field("metadata.labels")}), Err("unsupported fieldPath: metadata.labels")),
        (
            "unknown field",
            json!({"env": field("spec.restartPolicy")}),
            Err("unsupported fieldPath: spec.restartPolicy"),
        ),
        (
            "cpu limit is rounded up",
            resource(json!({"resource": "limits.cpu"})),
            Ok("R=1"),
        ),
        (
            "cpu in thousandths",
            resource(json!({"resource": "limits.cpu", "divisor": "1m"})),
            Ok("R=250"),
        ),
        (
            "a divisor of zero is one",
            resource(json!({"resource": "limits.cpu", "divisor": "0"})),
            Ok("R=1"),
        ),
        (
            "memory",
            resource(json!({"resource": "limits.memory"})),
            Ok("R=104857600"),
        ),
        (
            "memory in MiB",
            resource(json!({"resource": "limits.memory", "divisor": "1Mi"})),
            Ok("R=100"),
        ),
        (
            "memory in GiB is rounded up",
            resource(json!({"resource": "limits.memory", "divisor": "1Gi"})),
            Ok("R=1"),
        ),
        (
            "request",
            resource(json!({"resource": "requests.cpu"})),
            Ok("R=1"),
        ),
        (
            "absent request",
            resource(json!({"resource": "requests.memory"})),
            Ok("R=0"),
        ),
        (
            "absent limit is the machine's",
            resource(json!({"resource": "limits.ephemeral-storage"})),
            Ok("R=7"),
        ),
        (
            "another container",
            resource(json!({"containerName": "i", "resource": "limits.cpu", "divisor": "1m"})),
            Ok("R=1500"),
        ),
        (
            "another container's absent limit",
            resource(json!({"containerName": "i", "resource": "limits.memory"})),
            Ok("R=1073741824"),
        ),
        (
            "no such container",
            resource(json!({"containerName": "q", "resource": "limits.cpu"})),
            Err("container q not found"),
        ),
        (
            "huge pages",
            json!({"env": [{"name": "R", "valueFrom": {"resourceFieldRef": {"resource": "limits.hugepages-2Mi", "divisor": "1Mi"}}}], "resources": {"limits": {"hugepages-2Mi": "8Mi"}}}),
            Ok("R=8"),
        ),
        ("absent huge pages", resource(json!({"resource": "limits.hugepages-2Mi"})), Ok("R=0")),
        (
            "no such resource",
            resource(json!({"resource": "limits.gpu"})),
            Err("unsupported container resource : limits.gpu"),
        ),
        (
            "a negative divisor",
            resource(json!({"resource": "limits.cpu", "divisor": "-1"})),
            Err("the divisor of limits.cpu is negative; give it a positive one"),
        ),
    ];
    for (what, container, expected) in rows {
        let found = resolve(container).map(|env| text(&env));
        assert_eq!(
            found,
            expected
                .map(str::to_owned)
                .map_err(|e| EnvError(e.to_owned())),
            "{what}"
        );
    }
}

#[test]
fn a_name_that_cannot_be_is_skipped_with_a_warning() {
    let env = resolve(json!({"envFrom": [{"configMapRef": {"name": "cm"}}]})).unwrap();
    assert_eq!(text(&env), "a=1 b=2");
    assert_eq!(
        env.warnings,
        [
            "Keys [has=sign] from the EnvFrom configMap ns/cm were skipped since they are considered invalid environment variable names."
        ]
    );
}

#[test]
fn bad_base64_is_an_error_that_does_not_show_the_secret() {
    let err = resolve(json!({"envFrom": [{"secretRef": {"name": "s"}}]})).unwrap_err();
    assert!(
        err.0.starts_with("key bad of secret \"s\" is not base64"),
        "{err}"
    );
    assert!(!err.0.contains("hunter2"));
}

#[test]
fn commands_are_expanded() {
    let env = resolve(json!({"env": [{"name": "A", "value": "1"}]})).unwrap();
    let command = ["echo", "$(A)", "$$(A)", "$(B)"].map(str::to_owned);
    assert_eq!(
        env.expand_all(&command).unwrap(),
        ["echo", "1", "$(A)", "$(B)"]
    );
}

#[test]
fn the_pods_own_limit_comes_before_the_machines() {
    let pod: Pod = serde_json::from_value(json!({"spec": {"resources": {"limits": {"cpu": "500m", "memory": "9Gi"}}}})).unwrap();
    let machine = Machine { cpu_millis: 2000, memory: 1 << 30, ..Machine::default() };
    let ask = |resource: &str| {
        let reference = serde_json::from_value(json!({"resource": resource, "divisor": if resource.ends_with("cpu") { "1m" } else { "1Mi" }})).unwrap();
        fields::resource(&pod, &machine, Some(&Container::default()), &reference).unwrap()
    };
    assert_eq!((ask("limits.cpu"), ask("limits.memory")), ("500".into(), "9216".into()), "as upstream, also beyond the machine");
}

#[test]
fn a_sub_path_needs_every_name() {
    let env = resolve(json!({"env": [{"name": "A", "value": "1"}, {"name": "E"}]})).unwrap();
    for (text, expected) in [
        ("a/$(A)/$$(B)", Ok("a/1/$(B)")),
        ("$(E)", Err("missing value for E")),
        ("$(C)/$(A)/$(B)/$(C)", Err("missing value for B, C")),
    ] {
        assert_eq!(env.expand_known(text), expected.map(str::to_owned).map_err(|e| EnvError(e.into())), "{text}");
    }
}
