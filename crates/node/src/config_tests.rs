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

fn security_of(pod: Value, own: Value) -> Result<Security, String> {
    let setup = setup(
        json!({"securityContext": pod, "containers": [{"name": "c", "securityContext": own}]}),
    );
    container(
        &setup,
        &setup.pod.spec.containers[0],
        0,
        Resolved::default(),
    )
    .map(|c| c.security)
}

#[test]
fn security_is_merged() {
    let base = Security::default();
    let rows = vec![
        ("nothing", json!({}), json!({}), base.clone()),
        (
            "the pod's",
            json!({"runAsUser": 1, "runAsGroup": 2, "runAsNonRoot": true}),
            json!({}),
            Security {
                run_as_user: Some(1),
                run_as_group: Some(2),
                run_as_non_root: true,
                ..base.clone()
            },
        ),
        (
            "the container's win",
            json!({"runAsUser": 1, "runAsGroup": 2, "runAsNonRoot": true}),
            json!({"runAsUser": 3, "runAsGroup": 4, "runAsNonRoot": false}),
            Security {
                run_as_user: Some(3),
                run_as_group: Some(4),
                ..base.clone()
            },
        ),
        (
            "fsGroup is a group of the processes",
            json!({"supplementalGroups": [5, 6], "fsGroup": 7}),
            json!({}),
            Security {
                supplemental_groups: vec![5, 6, 7],
                ..base.clone()
            },
        ),
        (
            "no escalation",
            json!({}),
            json!({"allowPrivilegeEscalation": false}),
            Security {
                no_new_privs: true,
                ..base.clone()
            },
        ),
        (
            "escalation",
            json!({}),
            json!({"allowPrivilegeEscalation": true}),
            base.clone(),
        ),
        (
            "privileged, read-only",
            json!({}),
            json!({"privileged": true, "readOnlyRootFilesystem": true}),
            Security {
                privileged: true,
                readonly_rootfs: true,
                ..base.clone()
            },
        ),
        (
            "capabilities",
            json!({}),
            json!({"capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}}),
            Security {
                add_capabilities: vec!["NET_ADMIN".into()],
                drop_capabilities: vec!["ALL".into()],
                ..base
            },
        ),
    ];
    for (what, pod, own, expected) in rows {
        assert_eq!(security_of(pod, own), Ok(expected), "{what}");
    }
    let err = security_of(json!({"runAsNonRoot": true}), json!({"runAsUser": 0})).unwrap_err();
    assert_eq!(
        err,
        "container's runAsUser breaks non-root policy (pod: \"p\", container: c)"
    );
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
        let config = sandbox(&setup(spec.clone()), 0, PathBuf::new(), None);
        assert_eq!([config.network, config.pid, config.ipc], expected, "{spec}");
        assert_eq!(config.hostname.is_empty(), config.network == Node, "{spec}");
    }
}

#[test]
fn sandbox_identity_cannot_be_forged_by_labels_and_annotations() {
    let mut setup = setup(json!({"securityContext": {"sysctls": [{"name": "net.a", "value": "1"}]}}));
    let annotations = &mut setup.pod.metadata.annotations;
    for key in [CLASS_ANNOTATION, ADMITTED_ANNOTATION, "mine"] {
        annotations.insert(key.into(), "forged".into());
    }
    let config = sandbox(&setup, 2, "/l".into(), None);
    assert_eq!(config.labels[POD_NAME_LABEL], "p");
    assert_eq!(config.labels["app"], "x");
    assert_eq!(config.annotations[CLASS_ANNOTATION], "gvisor");
    assert_eq!((config.annotations.get(ADMITTED_ANNOTATION), config.annotations["mine"].as_str()), (None, "forged"));
    setup.admitted_as = Some("runsc, cpu=50m".into());
    assert_eq!(sandbox(&setup, 2, "/l".into(), None).annotations[ADMITTED_ANNOTATION], "runsc, cpu=50m");
    assert_eq!((config.attempt, config.sysctls["net.a"].as_str()), (2, "1"));
}

#[test]
fn host_names_are_cut() {
    for (name, expected) in [
        ("web".to_owned(), "web".to_owned()),
        ("a".repeat(62) + "-b", "a".repeat(62)),
        ("a".repeat(64), "a".repeat(63)),
    ] {
        let setup = setup(json!({"hostname": name}));
        assert_eq!(hostname(&setup.pod), expected);
    }
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
    for (spec, expected) in [
        (
            json!({"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}),
            None,
        ),
        (
            json!({"hostNetwork": true, "containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]}),
            None,
        ),
        (
            json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]}),
            Some("hostPort 80"),
        ),
        (
            json!({"automountServiceAccountToken": true}),
            Some("automountServiceAccountToken"),
        ),
        (json!({"automountServiceAccountToken": false}), None),
        (
            json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}),
            None,
        ),
        (
            json!({"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}),
            Some("seccompProfile \"RuntimeDefault\""),
        ),
        (
            json!({"initContainers": [{"name": "c", "securityContext": {"seccompProfile": {"type": "Localhost"}}}]}),
            Some("seccompProfile \"Localhost\""),
        ),
    ] {
        let mut spec = spec;
        if spec.get("containers").is_none() {
            spec["containers"] = json!([{"name": "x"}]);
        }
        let found = refusal(&setup(spec.clone()).pod);
        match expected {
            None => assert_eq!(found, None, "{spec}"),
            Some(part) => assert!(
                found.as_ref().is_some_and(|f| f.starts_with(part)),
                "{spec}: {found:?}"
            ),
        }
    }
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
