#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use cofferdam_model::cri::LinuxResources;
use serde_json::{Value, json};

fn setup(spec: Value) -> PodSetup {
    let pod = json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"app": "x", POD_NAME_LABEL: "forged"}}, "spec": spec});
    PodSetup {
        pod: serde_json::from_value(pod).unwrap(),
        class: Some("gvisor".into()),
        ..PodSetup::default()
    }
}

#[test]
fn namespaces() {
    use NamespaceMode::{Container, Node, Pod};
    for (spec, expected) in [
        (json!({}), [Pod, Container, Pod]),
        (json!({"shareProcessNamespace": true}), [Pod, Pod, Pod]),
        (
            json!({"shareProcessNamespace": false}),
            [Pod, Container, Pod],
        ),
        (
            json!({"hostNetwork": true, "hostPID": true, "hostIPC": true}),
            [Node, Node, Node],
        ),
    ] {
        let config = sandbox(&setup(spec.clone()), 0, PathBuf::new(), None).unwrap();
        assert_eq!([config.network, config.pid, config.ipc], expected, "{spec}");
        assert_eq!(config.hostname.is_empty(), config.network == Node, "{spec}");
    }
}

#[test]
fn kernel_settings_are_named_with_dots() {
    for (given, expected) in [
        ("net.ipv4.ip_forward", "net.ipv4.ip_forward"),
        ("net/ipv4/ip_forward", "net.ipv4.ip_forward"),
        ("net.ipv4.conf.eth0/1.forwarding", "net.ipv4.conf.eth0/1.forwarding"),
        ("net/ipv4/conf/eth0.1/forwarding", "net.ipv4.conf.eth0/1.forwarding"),
    ] {
        let spec = json!({"securityContext": {"sysctls": [{"name": given, "value": "1"}]}});
        let config = sandbox(&setup(spec), 0, PathBuf::new(), None).unwrap();
        assert_eq!(config.sysctls.keys().collect::<Vec<_>>(), [expected]);
    }
}

#[test]
fn sandbox_identity_cannot_be_forged_by_labels_and_annotations() {
    let mut setup = setup(json!({"securityContext": {"sysctls": [{"name": "net.a", "value": "1"}]}}));
    let annotations = &mut setup.pod.metadata.annotations;
    for key in [CLASS_ANNOTATION, ADMITTED_ANNOTATION, "mine"] {
        annotations.insert(key.into(), "forged".into());
    }
    let config = sandbox(&setup, 2, "/l".into(), None).unwrap();
    assert_eq!(config.labels[POD_NAME_LABEL], "p");
    assert_eq!(config.labels["app"], "x");
    assert_eq!(config.annotations[CLASS_ANNOTATION], "gvisor");
    assert_eq!((config.annotations.get(ADMITTED_ANNOTATION), config.annotations["mine"].as_str()), (None, "forged"));
    setup.admitted_as = Some("runsc, cpu=50m".into());
    assert_eq!(sandbox(&setup, 2, "/l".into(), None).unwrap().annotations[ADMITTED_ANNOTATION], "runsc, cpu=50m");
    assert_eq!((config.attempt, config.sysctls["net.a"].as_str()), (2, "1"));
}

#[test]
fn a_sandbox_has_what_its_pod_asks_for() {
    let port = |text: Value| json!([{"name": "c", "ports": [text]}]);
    let whole = sandbox(
        &setup(json!({
            "subdomain": "s", "hostUsers": false,
            "hostAliases": [{"ip": "10.0.0.9", "hostnames": ["a", "b.c"]}],
            "initContainers": [{"name": "i", "ports": [{"containerPort": 1, "hostPort": 2, "protocol": "UDP", "hostIP": "127.0.0.1"}]}],
            "containers": port(json!({"containerPort": 80, "hostPort": 8080, "hostIP": "0.0.0.0"})),
        })),
        0,
        PathBuf::new(),
        None,
    )
    .unwrap();
    assert_eq!((whole.hostname.as_str(), whole.fqdn.as_str(), whole.user_namespace), ("p", "p.s.ns.svc.cluster.local", true));
    assert_eq!(whole.host_aliases, [("10.0.0.9".to_owned(), vec!["a".to_owned(), "b.c".to_owned()])]);
    let mapping = |protocol: &str, container_port, host_port, host_ip: Option<&str>| PortMapping {
        protocol: protocol.into(),
        container_port,
        host_port,
        host_ip: host_ip.map(|ip| ip.parse().unwrap()),
    };
    assert_eq!(whole.port_mappings, [mapping("UDP", 1, 2, Some("127.0.0.1")), mapping("TCP", 80, 8080, Some("0.0.0.0"))]);
    let plain = sandbox(&setup(json!({"containers": port(json!({"containerPort": 80}))})), 0, PathBuf::new(), None).unwrap();
    assert!(plain.port_mappings.is_empty() && plain.fqdn.is_empty() && !plain.user_namespace);
    let host = setup(json!({"hostNetwork": true, "containers": port(json!({"containerPort": 80, "hostPort": 80}))}));
    assert!(sandbox(&host, 0, PathBuf::new(), None).unwrap().port_mappings.is_empty(), "in the machine's network nothing is mapped");
}

#[test]
fn the_termination_file_is_mounted() {
    let setup = setup(
        json!({"containers": [{"name": "c"}, {"name": "d", "terminationMessagePath": "/t"}, {"name": "e", "terminationMessagePath": "t"}]}),
    );
    let build = |i: usize| {
        container(
            &setup,
            &setup.pod.spec.containers[i],
            3,
            Resolved {
                termination_file: "/v/c/3".into(),
                ..Resolved::default()
            },
        )
    };
    let config = build(0).unwrap();
    assert_eq!(
        config.mounts,
        [Mount {
            container_path: "/dev/termination-log".into(),
            host_path: "/v/c/3".into(),
            ..Mount::default()
        }]
    );
    assert_eq!(
        (config.attempt, config.log_path),
        (3, PathBuf::from("c/3.log"))
    );
    assert_eq!(build(1).unwrap().mounts[0].container_path, Path::new("/t"));
    assert!(build(2).unwrap_err().contains("must be an absolute path"));
}

#[test]
fn what_cannot_be_honoured_is_refused() {
    let port = |text: Value| json!({"containers": [{"name": "c", "ports": [text]}]});
    let mount = |text: Value| json!({"containers": [{"name": "c", "volumeMounts": [text]}]});
    let features = |rro| BTreeMap::from([("recursive_read_only_mounts".to_owned(), rro), ("user_namespaces".to_owned(), rro)]);
    for (spec, able, expected) in [
        (json!({"containers": []}), true, Err("the pod has no containers")),
        (json!({"automountServiceAccountToken": true}), true, Err("automountServiceAccountToken")),
        (json!({"automountServiceAccountToken": false}), true, Ok(())),
        (port(json!({"containerPort": 80, "hostPort": 80})), true, Ok(())),
        (port(json!({"containerPort": 80, "hostPort": 70000})), true, Err("a port of container \"c\": hostPort 70000 must be between 1 and 65535")),
        (port(json!({"containerPort": 80, "hostPort": 1, "hostIP": "x"})), true, Err("a port of container \"c\": hostIP \"x\" is not an IP address")),
        (port(json!({"containerPort": 80, "hostPort": 1, "protocol": "x"})), true, Err("a port of container \"c\": protocol \"x\" is unknown")),
        (json!({"hostAliases": [{"ip": "x", "hostnames": ["a"]}]}), true, Err("hostAliases: \"x\" is not an IP address")),
        (json!({"hostAliases": [{"ip": "::1", "hostnames": ["a b"]}]}), true, Err("hostAliases: \"a b\" is not a host name")),
        (json!({"hostname": "a.b"}), true, Err("pod Hostname \"a.b\"")),
        (json!({"hostUsers": false}), true, Ok(())),
        (
            json!({"hostUsers": false}),
            false,
            Err("can't set `spec.hostUsers: false`, RuntimeClass handler \"\" does not support user namespaces"),
        ),
        (json!({"hostUsers": false, "hostNetwork": true}), true, Err("hostNetwork is forbidden when `hostUsers` is false")),
        (json!({"hostUsers": false, "hostPID": true}), true, Err("hostPID is forbidden when `hostUsers` is false")),
        (json!({"hostUsers": false, "hostIPC": true}), true, Err("hostIPC is forbidden when `hostUsers` is false")),
        (json!({"securityContext": {"fsGroupChangePolicy": "OnRootMismatch"}}), true, Ok(())),
        (json!({"securityContext": {"fsGroupChangePolicy": "x"}}), true, Err("fsGroupChangePolicy \"x\" is unknown")),
        (json!({"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}), true, Ok(())),
        (
            json!({"initContainers": [{"name": "i", "securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "x"}}}]}),
            true,
            Err("container \"i\": cannot load seccomp profile \"/none/x\": it does not exist"),
        ),
        (mount(json!({"name": "v", "readOnly": true, "recursiveReadOnly": "Enabled"})), true, Ok(())),
        (
            mount(json!({"name": "v", "readOnly": true, "recursiveReadOnly": "Enabled"})),
            false,
            Err("container \"c\": failed to resolve recursive read-only mode: volume \"v\" requested recursive read-only mode, but it is not supported by the runtime"),
        ),
        (mount(json!({"name": "v", "readOnly": true, "recursiveReadOnly": "IfPossible"})), false, Ok(())),
        (mount(json!({"name": "v", "mountPropagation": "Bidirectional"})), true, Err("container \"c\": Bidirectional mount propagation is available only")),
        (mount(json!({"name": "v", "subPath": "a", "subPathExpr": "b"})), true, Err("container \"c\": volumeMount \"v\": subPathExpr and subPath are mutually")),
        (json!({"containers": [{"name": "c", "terminationMessagePath": "t"}]}), true, Err("terminationMessagePath \"t\" of container \"c\" must be an absolute path")),
    ] {
        let mut spec = spec;
        if spec.get("containers").is_none() {
            spec["containers"] = json!([{"name": "x"}]);
        }
        let machine = Machine { seccomp_root: "/none".into(), ..Machine::default() };
        let found = check(&setup(spec.clone()), &machine, &features(able));
        match expected {
            Ok(()) => assert_eq!(found, Ok(()), "{spec}"),
            Err(part) => assert!(found.as_ref().is_err_and(|f| f.starts_with(part)), "{spec}: {found:?}"),
        }
    }
    let mut other = setup(json!({"containers": [{"name": "x"}]}));
    other.pod.metadata.annotations.insert(format!("{APPARMOR_ANNOTATION}y"), "unconfined".into());
    let found = check(&other, &Machine::default(), &features(true)).unwrap_err();
    assert!(found.ends_with("the pod has no container \"y\"; correct the name"), "{found}");
}

#[test]
fn a_limit_that_only_the_pod_could_hold_and_does_not_is_told() {
    let limited = |memory, cpu| LinuxResources { memory_limit: memory, cpu_quota: cpu, ..LinuxResources::default() };
    let rows = [
        ("every container has limits", limited(300, 200), [limited(100, 100), limited(200, 100)], None),
        ("one has no memory limit", limited(0, 200), [limited(100, 100), limited(0, 100)], Some("the memory limit of container \"a\" is not enforced")),
        ("one has no cpu limit", limited(300, 0), [limited(100, 0), limited(200, 100)], Some("the cpu limit of container \"b\" is not enforced")),
        ("none has limits", limited(0, 0), [limited(0, 0), limited(0, 0)], None),
    ];
    for (name, pod, [a, b], wanted) in rows {
        let containers = BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b)]);
        let told = limits_without_hold(&PodSetup { pod_resources: pod, containers, ..setup(json!({"containers": []})) });
        match wanted {
            None => assert_eq!(told, None, "{name}"),
            Some(text) => assert!(told.clone().unwrap_or_default().contains(text), "{name}: {told:?}"),
        }
    }
}
