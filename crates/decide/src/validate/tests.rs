#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::testing::{container, object, pod as pod_of};
use serde_json::{Value, json};

const RFC_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const RFC_SUBDOMAIN: &str = r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

fn check(rows: Vec<(Value, String)>) {
    for (spec, expected) in rows {
        let answer = pod(&pod_of(spec.clone())).map_or_else(|e| e.to_string(), |()| String::new());
        assert_eq!(answer.strip_prefix("Pod \"p\" is invalid: ").unwrap_or(&answer), expected, "{spec}");
    }
}

/// A pod whose only container has these fields.
fn with(fields: Value) -> Value {
    let mut container = json!({"name": "c", "image": "i"});
    container.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({"containers": [container]})
}

/// The same with a volume `v`.
fn mounting(mounts: Value) -> Value {
    let mut spec = with(json!({"volumeMounts": mounts}));
    spec["volumes"] = json!([{"name": "v"}]);
    spec
}

#[test]
fn the_envelope_and_metadata() {
    let rows = [
        (
            json!({}),
            "Pod \"\" is invalid: metadata.name: Required value: name or generateName is required".to_string(),
        ),
        (json!({"generateName": "p-"}), String::new()),
        (
            json!({"name": "P"}),
            format!("Pod \"P\" is invalid: metadata.name: Invalid value: \"P\": {RFC_SUBDOMAIN}"),
        ),
        (
            json!({"name": "p", "namespace": "a.b"}),
            "Pod \"p\" is invalid: metadata.namespace: Invalid value: \"a.b\": must not contain dots".into(),
        ),
    ];
    for (metadata, expected) in rows {
        let of = object(json!({"metadata": metadata, "spec": {"containers": [{"name": "c", "image": "i"}]}}));
        assert_eq!(pod(&of).map_or_else(|e| e.to_string(), |()| String::new()), expected);
    }
}

#[test]
fn containers() {
    check(vec![
        (json!({}), String::new()),
        (json!({"containers": []}), "spec.containers: Required value".into()),
        (json!({"containers": [{"image": "i"}]}), "spec.containers[0].name: Required value".into()),
        (json!({"containers": [{"name": "C", "image": "i"}]}), format!("spec.containers[0].name: Invalid value: \"C\": {RFC_LABEL}")),
        (json!({"containers": [{"name": "c"}]}), "spec.containers[0].image: Required value".into()),
        (
            json!({"containers": [{"name": "c", "image": " i"}]}),
            "spec.containers[0].image: Invalid value: \" i\": must not have leading or trailing whitespace".into(),
        ),
        (json!({"containers": [container("a", json!({})), container("a", json!({}))]}), "spec.containers[1].name: Duplicate value: \"a\"".into()),
        (json!({"initContainers": [container("c", json!({}))]}), "spec.initContainers[0].name: Duplicate value: \"c\"".into()),
        (
            with(json!({"terminationMessagePolicy": "X"})),
            "spec.containers[0].terminationMessagePolicy: Unsupported value: \"X\": supported values: \"File\", \"FallbackToLogsOnError\"".into(),
        ),
        (
            json!({"containers": [{"image": "i"}, {"image": "i"}]}),
            "[spec.containers[0].name: Required value, spec.containers[1].name: Required value, spec.containers[1].name: Duplicate value: \"\"]".into(),
        ),
        (
            json!({"initContainers": [{"image": "i"}, {"image": "i"}]}),
            "[spec.initContainers[0].name: Required value, spec.initContainers[1].name: Required value]".into(),
        ),
        (
            json!({"containers": [{}]}),
            "[spec.containers[0].name: Required value, spec.containers[0].image: Required value]".into(),
        ),
    ]);
}

#[test]
fn lifecycle_hooks() {
    let hook = |hook: Value| with(json!({"lifecycle": {"preStop": hook}}));
    let init = |restart: Value| json!({"initContainers": [{"name": "i", "image": "i", "restartPolicy": restart, "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}]});
    check(vec![
        (hook(json!({"exec": {"command": ["true"]}})), String::new()),
        (hook(json!({"exec": {}})), "spec.containers[0].lifecycle.preStop.exec.command: Required value".into()),
        (hook(json!({})), "spec.containers[0].lifecycle.preStop: Required value: must specify a handler type".into()),
        (
            hook(json!({"exec": {"command": ["true"]}, "sleep": {"seconds": 1}})),
            "spec.containers[0].lifecycle.preStop.sleep: Forbidden: may not specify more than 1 handler type".into(),
        ),
        (hook(json!({"sleep": {"seconds": 30}})), String::new()),
        (
            hook(json!({"sleep": {"seconds": 31}})),
            "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)".into(),
        ),
        (init(json!("Always")), String::new()),
        (init(Value::Null), "spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always".into()),
    ]);
}

#[test]
fn ports() {
    let ports = |ports: Value| with(json!({"ports": ports}));
    let range = "must be between 1 and 65535, inclusive";
    check(vec![
        (
            ports(json!([{"containerPort": 80, "name": "http", "protocol": "TCP"}])),
            String::new(),
        ),
        (
            ports(json!([{}])),
            "spec.containers[0].ports[0].containerPort: Required value".into(),
        ),
        (
            ports(json!([{"containerPort": 65536}])),
            format!("spec.containers[0].ports[0].containerPort: Invalid value: 65536: {range}"),
        ),
        (
            ports(json!([{"containerPort": 1, "hostPort": -1}])),
            format!("spec.containers[0].ports[0].hostPort: Invalid value: -1: {range}"),
        ),
        (
            ports(json!([{"containerPort": 1, "protocol": "tcp"}])),
            "spec.containers[0].ports[0].protocol: Unsupported value: \"tcp\": supported values: \"SCTP\", \"TCP\", \"UDP\"".into(),
        ),
        (
            ports(json!([{"containerPort": 1, "name": "1"}])),
            "spec.containers[0].ports[0].name: Invalid value: \"1\": must contain at least one letter (a-z)".into(),
        ),
        (
            ports(json!([{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}])),
            "spec.containers[0].ports[1].name: Duplicate value: \"a\"".into(),
        ),
        (
            ports(json!([{"containerPort": 1, "hostPort": 8}, {"containerPort": 2, "hostPort": 8}])),
            "spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//8\"".into(),
        ),
        (
            ports(json!([{"containerPort": 1, "hostPort": 8}, {"containerPort": 2, "hostPort": 8, "protocol": "UDP"}])),
            String::new(),
        ),
        (
            json!({"hostNetwork": true, "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 1, "hostPort": 2}]}]}),
            "spec.containers[0].ports[0].hostPort: Invalid value: 2: must match `containerPort` when `hostNetwork` is true".into(),
        ),
    ]);
}

#[test]
fn environment() {
    let env = |var: Value| with(json!({"env": [var]}));
    let from = |source: Value| env(json!({"name": "A", "valueFrom": source}));
    let all = |source: Value| with(json!({"envFrom": [source]}));
    let fields = "supported values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"";
    let place = "spec.containers[0].env[0].valueFrom";
    check(vec![
        (env(json!({"name": "A", "value": "1"})), String::new()),
        (env(json!({"value": "1"})), "spec.containers[0].env[0].name: Required value".into()),
        (
            env(json!({"name": "A=B"})),
            "spec.containers[0].env[0].name: Invalid value: \"A=B\": a valid environment variable name must consist only of printable ASCII characters other than '='".into(),
        ),
        (
            from(json!({})),
            format!("{place}: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"),
        ),
        (
            env(json!({"name": "A", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}})),
            format!("{place}: Invalid value: \"\": may not be specified when `value` is not empty"),
        ),
        (
            from(json!({"fieldRef": {"fieldPath": "metadata.name"}, "secretKeyRef": {"name": "s", "key": "k"}})),
            format!("{place}: Invalid value: \"\": may not have more than one field specified at a time"),
        ),
        (from(json!({"fieldRef": {"fieldPath": "status.podIP"}})), String::new()),
        (from(json!({"fieldRef": {"fieldPath": "metadata.labels['a']"}})), String::new()),
        (from(json!({"fieldRef": {}})), format!("{place}.fieldRef.fieldPath: Required value")),
        (
            from(json!({"fieldRef": {"fieldPath": "spec.x"}})),
            format!("{place}.fieldRef.fieldPath: Invalid value: \"spec.x\": error converting fieldPath: field label not supported: spec.x"),
        ),
        (
            from(json!({"fieldRef": {"apiVersion": "v2", "fieldPath": "metadata.name"}})),
            format!("{place}.fieldRef.fieldPath: Invalid value: \"metadata.name\": error converting fieldPath: unsupported pod version: v2"),
        ),
        (
            from(json!({"fieldRef": {"fieldPath": "spec.x['a']"}})),
            format!("{place}.fieldRef.fieldPath: Invalid value: \"spec.x['a']\": error converting fieldPath: field label does not support subscript: spec.x['a']"),
        ),
        (from(json!({"fieldRef": {"fieldPath": "status.phase"}})), format!("{place}.fieldRef.fieldPath: Unsupported value: \"status.phase\": {fields}")),
        (from(json!({"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}})), String::new()),
        (from(json!({"resourceFieldRef": {}})), format!("{place}.resourceFieldRef.resource: Required value")),
        (
            from(json!({"resourceFieldRef": {"resource": "cpu"}})),
            format!("{place}.resourceFieldRef.resource: Unsupported value: \"cpu\": supported values: \"limits.cpu\", \"limits.ephemeral-storage\", \"limits.memory\", \"requests.cpu\", \"requests.ephemeral-storage\", \"requests.memory\""),
        ),
        (
            from(json!({"resourceFieldRef": {"resource": "limits.cpu", "divisor": "2"}})),
            format!("{place}.resourceFieldRef.divisor: Invalid value: \"limits.cpu\": only divisor's values 1m and 1 are supported with the cpu resource"),
        ),
        (
            from(json!({"resourceFieldRef": {"resource": "limits.memory", "divisor": "2Mi"}})),
            format!("{place}.resourceFieldRef.divisor: Invalid value: \"limits.memory\": only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory resource"),
        ),
        (from(json!({"configMapKeyRef": {"name": "m"}})), format!("{place}.configMapKeyRef.key: Required value")),
        (from(json!({"secretKeyRef": {"name": "S", "key": "k"}})), format!("{place}.secretKeyRef.name: Invalid value: \"S\": {RFC_SUBDOMAIN}")),
        (
            from(json!({"secretKeyRef": {"name": "s", "key": "a/b"}})),
            format!("{place}.secretKeyRef.key: Invalid value: \"a/b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"),
        ),
        (all(json!({"configMapRef": {"name": "m"}})), String::new()),
        (all(json!({})), "spec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`".into()),
        (
            all(json!({"configMapRef": {"name": "m"}, "secretRef": {"name": "s"}})),
            "spec.containers[0].envFrom: Invalid value: \"\": may not have more than one field specified at a time".into(),
        ),
        (all(json!({"secretRef": {}})), "spec.containers[0].envFrom[0].secretRef.name: Required value".into()),
        (
            json!({"initContainers": [{"name": "i", "image": "i", "env": [{}]}]}),
            "spec.initContainers[0].env[0].name: Required value".into(),
        ),
    ]);
}

#[test]
fn mounts() {
    let place = "spec.containers[0].volumeMounts";
    check(vec![
        (mounting(json!([{"name": "v", "mountPath": "/a", "subPath": "b/c"}])), String::new()),
        (
            mounting(json!([{"name": "w", "mountPath": "/a"}])),
            format!("{place}[0].name: Not found: \"w\""),
        ),
        (
            json!({"volumes": [{"name": "v", "secret": {}}], "containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/a"}]}]}),
            format!("[spec.volumes[0].secret.secretName: Required value, {place}[0].name: Not found: \"v\"]"),
        ),
        (
            mounting(json!([{"mountPath": "/a"}])),
            format!("[{place}[0].name: Required value, {place}[0].name: Not found: \"\"]"),
        ),
        (mounting(json!([{"name": "v"}])), format!("{place}[0].mountPath: Required value")),
        (
            mounting(json!([{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/a"}])),
            format!("{place}[1].mountPath: Invalid value: \"/a\": must be unique"),
        ),
        (
            mounting(json!([{"name": "v", "mountPath": "/a", "subPath": "/b"}])),
            format!("{place}.subPath: Invalid value: \"/b\": must be a relative path"),
        ),
        (
            mounting(json!([{"name": "v", "mountPath": "/a", "subPath": "../b"}])),
            format!("{place}.subPath: Invalid value: \"../b\": must not contain '..'"),
        ),
        (
            json!({"initContainers": [{"name": "i", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/a"}]}]}),
            "spec.initContainers[0].volumeMounts[0].name: Not found: \"v\"".into(),
        ),
    ]);
}

#[test]
fn volumes() {
    let volume = |fields: Value| {
        let mut volume = json!({"name": "v"});
        volume.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({"volumes": [volume]})
    };
    let mode = "must be a number between 0 and 0777 (octal), both inclusive";
    let item = |item: Value| volume(json!({"configMap": {"name": "m", "items": [item]}}));
    check(vec![
        (volume(json!({})), String::new()),
        (json!({"volumes": [{}]}), "spec.volumes[0].name: Required value".into()),
        (volume(json!({"name": "V"})), format!("spec.volumes[0].name: Invalid value: \"V\": {RFC_LABEL}")),
        (json!({"volumes": [{"name": "v"}, {"name": "v"}]}), "spec.volumes[1].name: Duplicate value: \"v\"".into()),
        (
            volume(json!({"emptyDir": {}, "hostPath": {"path": "/a"}})),
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type".into(),
        ),
        (
            volume(json!({"secret": {"secretName": "s"}, "configMap": {"name": "m"}})),
            "spec.volumes[0].configMap: Forbidden: may not specify more than 1 volume type".into(),
        ),
        (
            volume(json!({"emptyDir": {"sizeLimit": "-1"}})),
            "spec.volumes[0].emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity".into(),
        ),
        (volume(json!({"hostPath": {}})), "spec.volumes[0].hostPath.path: Required value".into()),
        (volume(json!({"hostPath": {"path": "/a/../b"}})), "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'".into()),
        (
            volume(json!({"hostPath": {"path": "/a", "type": "X"}})),
            "spec.volumes[0].hostPath.type: Unsupported value: \"X\": supported values: \"\", \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"".into(),
        ),
        (volume(json!({"secret": {}})), "spec.volumes[0].secret.secretName: Required value".into()),
        (volume(json!({"configMap": {}})), "spec.volumes[0].configMap.name: Required value".into()),
        (volume(json!({"configMap": {"name": "m", "defaultMode": 512}})), format!("spec.volumes[0].configMap.defaultMode: Invalid value: 512: {mode}")),
        (item(json!({"key": "k", "path": "a/b", "mode": 256})), String::new()),
        (item(json!({"path": "a"})), "spec.volumes[0].configMap.items[0].key: Required value".into()),
        (item(json!({"key": "k"})), "spec.volumes[0].configMap.items[0].path: Required value".into()),
        (item(json!({"key": "k", "path": "/a"})), "spec.volumes[0].configMap.items[0].path: Invalid value: \"/a\": must be a relative path".into()),
        (item(json!({"key": "k", "path": "a/../b"})), "spec.volumes[0].configMap.items[0].path: Invalid value: \"a/../b\": must not contain '..'".into()),
        (item(json!({"key": "k", "path": "..a"})), "spec.volumes[0].configMap.items[0].path: Invalid value: \"..a\": must not start with '..'".into()),
        (item(json!({"key": "k", "path": "a", "mode": -1})), format!("spec.volumes[0].configMap.items[0].mode: Invalid value: -1: {mode}")),
    ]);
}

#[test]
fn resources() {
    let of = |resources: Value| with(json!({"resources": resources}));
    let place = "spec.containers[0].resources";
    check(vec![
        (of(json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1000m"}})), String::new()),
        (
            of(json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}})),
            format!("{place}.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"),
        ),
        (of(json!({"requests": {"cpu": "-1"}})), format!("{place}.requests[cpu]: Invalid value: \"-1\": must be greater than or equal to 0")),
        (
            of(json!({"requests": {"example.com/gpu": "1"}, "limits": {"example.com/gpu": "2"}})),
            format!("{place}.requests: Invalid value: \"1\": must be equal to example.com/gpu limit of 2"),
        ),
        (of(json!({"requests": {"example.com/gpu": "1"}})), format!("{place}.limits: Required value: Limit must be set for non overcommitable resources")),
        (of(json!({"limits": {"hugepages-2Mi": "2Mi"}})), format!("{place}: Forbidden: HugePages require cpu or memory")),
        (
            json!({"resources": {"limits": {"ephemeral-storage": "1"}}}),
            "spec.resources.limits[ephemeral-storage]: Unsupported value: \"ephemeral-storage\": supported values: \"cpu\", \"hugepages-\", \"memory\"".into(),
        ),
        (
            json!({"containers": [container("c", json!({"requests": {"cpu": "2"}}))], "resources": {"requests": {"cpu": "1"}}}),
            "spec.resources.requests[cpu]: Invalid value: \"1\": must be greater than or equal to aggregate container requests of 2".into(),
        ),
        (
            json!({"containers": [container("c", json!({"limits": {"cpu": "2"}}))], "resources": {"limits": {"cpu": "1"}}}),
            "spec.resources.containers[0][cpu].limits: Invalid value: \"2\": must be less than or equal to pod limits of 1".into(),
        ),
        (json!({"overhead": {"cpu": "-1"}}), "spec.overhead.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0".into()),
    ]);
}

#[test]
fn fields_of_the_pod() {
    check(vec![
        (json!({"runtimeClassName": "A"}), format!("spec.runtimeClassName: Invalid value: \"A\": {RFC_SUBDOMAIN}")),
        (json!({"runtimeClassName": ""}), String::new()),
        (
            json!({"schedulingGates": [{"name": "a"}, {"name": "a"}, {"name": "/b"}], "nodeName": "n"}),
            "[spec.schedulingGates[1]: Duplicate value: \"a\", spec.schedulingGates[2]: Invalid value: \"/b\": prefix part must be non-empty, spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared]".into(),
        ),
        (json!({"hostname": "a.b"}), "spec.hostname: Invalid value: \"a.b\": must not contain dots".into()),
        (json!({"activeDeadlineSeconds": 0}), "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive".into()),
        (json!({"serviceAccountName": "A"}), format!("spec.serviceAccountName: Invalid value: \"A\": {RFC_SUBDOMAIN}")),
        (
            json!({"tolerations": [{"key": "a", "operator": "X"}]}),
            "spec.tolerations[0].operator: Unsupported value: \"X\": supported values: \"Equal\", \"Exists\"".into(),
        ),
        (
            json!({"nodeSelector": {"/a": ""}}),
            "spec.nodeSelector: Invalid value: \"/a\": prefix part must be non-empty".into(),
        ),
        (
            json!({"dnsPolicy": "X"}),
            "spec.dnsPolicy: Unsupported value: \"X\": supported values: \"ClusterFirstWithHostNet\", \"ClusterFirst\", \"Default\", \"None\"".into(),
        ),
        (json!({"dnsPolicy": "None"}), "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None".into()),
        (
            json!({"dnsPolicy": "None", "dnsConfig": {}}),
            "spec.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None".into(),
        ),
        (
            json!({"dnsConfig": {"nameservers": ["1.1.1.1", "1.1.1.2", "1.1.1.3", "::1"]}}),
            "spec.dnsConfig.nameservers: Invalid value: [\"1.1.1.1\",\"1.1.1.2\",\"1.1.1.3\",\"::1\"]: must not have more than 3 nameservers".into(),
        ),
        (
            json!({"dnsConfig": {"nameservers": ["x"]}}),
            "spec.dnsConfig.nameservers[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into(),
        ),
        (json!({"dnsConfig": {"searches": [".", "_a.b_c."]}}), String::new()),
        (json!({"dnsConfig": {"options": [{}]}}), "spec.dnsConfig.options[0]: Required value: must not be empty".into()),
    ]);
    let long = "a".repeat(200);
    let searches: Vec<&str> = std::iter::repeat_n(long.as_str(), 33).collect();
    let text = pod(&pod_of(json!({"dnsConfig": {"searches": searches}}))).unwrap_err().to_string();
    assert!(text.contains("must not have more than 32 search paths"), "{text}");
    assert!(
        text.contains("must not have more than 2048 characters (including spaces) in the search list"),
        "{text}"
    );
}

#[test]
fn security() {
    let range = "must be between 0 and 2147483647, inclusive";
    let of = |context: Value| json!({"securityContext": context});
    let own = |context: Value| with(json!({"securityContext": context}));
    let json_of = |privileged: &str, capabilities: &str| {
        format!(
            "{{\"Capabilities\":{capabilities},\"Privileged\":{privileged},\"SELinuxOptions\":null,\"WindowsOptions\":null,\"RunAsUser\":null,\"RunAsGroup\":null,\"RunAsNonRoot\":null,\"ReadOnlyRootFilesystem\":null,\"AllowPrivilegeEscalation\":false,\"ProcMount\":null,\"SeccompProfile\":null,\"AppArmorProfile\":null}}"
        )
    };
    check(vec![
        (of(json!({"runAsUser": -1})), format!("spec.securityContext.runAsUser: Invalid value: -1: {range}")),
        (of(json!({"runAsGroup": -1})), format!("spec.securityContext.runAsGroup: Invalid value: -1: {range}")),
        (of(json!({"fsGroup": -1})), format!("spec.securityContext.fsGroup: Invalid value: -1: {range}")),
        (of(json!({"supplementalGroups": [1, -1]})), format!("spec.securityContext.supplementalGroups[1]: Invalid value: -1: {range}")),
        (
            json!({"hostPID": true, "shareProcessNamespace": true}),
            "spec.securityContext.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled".into(),
        ),
        (of(json!({"sysctls": [{"name": "net.ipv4.ip_forward"}]})), String::new()),
        (of(json!({"sysctls": [{}]})), "spec.securityContext.sysctls[0].name: Required value".into()),
        (
            of(json!({"sysctls": [{"name": "A"}]})),
            r#"spec.securityContext.sysctls[0].name: Invalid value: "A": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"#.into(),
        ),
        (of(json!({"sysctls": [{"name": "a"}, {"name": "a"}]})), "spec.securityContext.sysctls[1].name: Duplicate value: \"a\"".into()),
        (
            json!({"hostNetwork": true, "securityContext": {"sysctls": [{"name": "net.core.somaxconn"}]}}),
            "spec.securityContext.sysctls[0].name: Invalid value: \"net.core.somaxconn\": may not be specified when 'hostNetwork' is true".into(),
        ),
        (
            json!({"hostIPC": true, "securityContext": {"sysctls": [{"name": "kernel.shmmax"}]}}),
            "spec.securityContext.sysctls[0].name: Invalid value: \"kernel.shmmax\": may not be specified when 'hostIPC' is true".into(),
        ),
        (of(json!({"seccompProfile": {}})), "spec.securityContext.seccompProfile.type: Required value: type is required when seccompProfile is set".into()),
        (
            of(json!({"seccompProfile": {"type": "X"}})),
            "spec.securityContext.seccompProfile.type: Unsupported value: \"X\": supported values: \"Localhost\", \"RuntimeDefault\", \"Unconfined\"".into(),
        ),
        (
            of(json!({"seccompProfile": {"type": "Localhost"}})),
            "spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost".into(),
        ),
        (
            own(json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "../x"}})),
            "spec.containers[0].securityContext.seccompProfile.localhostProfile: Invalid value: \"../x\": must not contain '..'".into(),
        ),
        (
            own(json!({"seccompProfile": {"type": "Unconfined", "localhostProfile": "x"}})),
            "spec.containers[0].securityContext.seccompProfile.localhostProfile: Invalid value: {\"Type\":\"Unconfined\",\"LocalhostProfile\":\"x\"}: can only be set when seccomp type is Localhost".into(),
        ),
        (own(json!({"runAsUser": -1})), format!("spec.containers[0].securityContext.runAsUser: Invalid value: -1: {range}")),
        (
            own(json!({"allowPrivilegeEscalation": false, "privileged": true})),
            format!("spec.containers[0].securityContext: Invalid value: {}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true", json_of("true", "null")),
        ),
        (
            own(json!({"allowPrivilegeEscalation": false, "capabilities": {"add": ["CAP_SYS_ADMIN"]}})),
            format!(
                "spec.containers[0].securityContext: Invalid value: {}: cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
                json_of("null", "{\"Add\":[\"CAP_SYS_ADMIN\"],\"Drop\":null}")
            ),
        ),
    ]);
}
