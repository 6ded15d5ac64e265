#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::testing::{object, pod, show};
use serde_json::{Value, json};

fn classes() -> Vec<RuntimeClass> {
    object(json!([
        {"metadata": {"name": "plain"}, "handler": "runc"},
        {"metadata": {"name": "gvisor"}, "handler": "runsc",
         "overhead": {"podFixed": {"cpu": "250m", "memory": "120Mi"}},
         "scheduling": {"nodeSelector": {"sandbox": "gvisor"}, "tolerations": [{"key": "sandbox", "operator": "Exists"}]}},
        {"metadata": {"name": "free"}, "handler": "free", "overhead": {}},
        {"metadata": {"name": "unsafe"}, "handler": "../runc"},
    ]))
}

fn namespaces() -> Vec<Namespace> {
    object(json!([
        {"metadata": {"name": "default"}},
        {"metadata": {"name": "secure", "annotations": {"cofferdam.dev/default-runtime-class": "gvisor"}}},
        {"metadata": {"name": "lost", "annotations": {"cofferdam.dev/default-runtime-class": "gone"}}},
        {"metadata": {"name": "open", "annotations": {"cofferdam.dev/default-runtime-class": ""}}},
        {"metadata": {"name": "old", "annotations": {"cofferdam.dev/default-runtime-class": "legacy"}}},
    ]))
}

fn marked(names: &[(&str, &str)]) -> Vec<RuntimeClass> {
    let mut classes = classes();
    for (name, mark) in names {
        let class = classes.iter_mut().find(|c| c.metadata.name == *name).unwrap();
        class.metadata.annotations.insert(DEFAULT_CLASS.to_string(), (*mark).to_string());
    }
    classes
}

fn admit_with(pod: Pod, classes: &[RuntimeClass]) -> Result<Admitted, Denied> {
    admit(
        pod,
        &Context {
            classes,
            namespaces: &namespaces(),
            untrusted_handler: Some("untrusted"),
        },
    )
}

fn in_namespace(namespace: &str) -> Pod {
    let mut pod = pod(json!({}));
    pod.metadata.namespace = Some(namespace.to_string());
    pod
}

fn annotated(annotations: Value, spec: Value) -> Pod {
    let mut pod = pod(spec);
    pod.metadata.annotations = object(annotations);
    pod
}

/// `class/handler`, `default`, `annotation/handler`, or the reason of the denial.
fn outcome(result: Result<Admitted, Denied>) -> String {
    match result {
        Ok(admitted) => match admitted.selection.clone() {
            Selection::Class { name, handler } => {
                assert_eq!(admitted.pod.spec.runtime_class_name, Some(name.clone()));
                assert_eq!(admitted.selection.class(), Some(name.as_str()));
                assert_eq!(admitted.selection.handler(), Some(&handler));
                format!("{name}/{handler}")
            }
            Selection::Default => "default".to_string(),
            Selection::Annotation { handler, annotation } => format!("{annotation}/{handler}"),
        },
        Err(denied) => {
            assert_eq!(denied.code(), 403);
            let text = denied.to_string();
            text.strip_prefix("pods \"p\" is forbidden: ").unwrap_or(&text).to_string()
        }
    }
}

#[test]
fn every_rule_of_the_plugin() {
    let rows = [
        (json!({}), "default"),
        (json!({"runtimeClassName": "plain"}), "plain/runc"),
        (json!({"runtimeClassName": "x"}), "pod rejected: RuntimeClass \"x\" not found"),
        // overhead
        (
            json!({"overhead": {"cpu": "1"}}),
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
        (
            json!({"overhead": {}}),
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
        (
            json!({"runtimeClassName": "plain", "overhead": {"cpu": "1"}}),
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
        (json!({"runtimeClassName": "gvisor"}), "gvisor/runsc"),
        (json!({"runtimeClassName": "gvisor", "overhead": {}}), "gvisor/runsc"),
        (
            json!({"runtimeClassName": "gvisor", "overhead": {"cpu": "0.25", "memory": "122880Ki"}}),
            "gvisor/runsc",
        ),
        (
            json!({"runtimeClassName": "gvisor", "overhead": {"cpu": "250m"}}),
            "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
        ),
        (
            json!({"runtimeClassName": "free", "overhead": {"cpu": "1"}}),
            "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
        ),
        (json!({"runtimeClassName": "free"}), "free/free"),
        // node selector
        (
            json!({"runtimeClassName": "gvisor", "nodeSelector": {"sandbox": "gvisor"}}),
            "gvisor/runsc",
        ),
        (
            json!({"runtimeClassName": "gvisor", "nodeSelector": {"sandbox": "kata"}}),
            "conflict: runtimeClass.scheduling.nodeSelector[sandbox] = gvisor; pod.spec.nodeSelector[sandbox] = kata",
        ),
        (
            json!({"runtimeClassName": "gvisor", "nodeSelector": {"sandbox": "Gvisor"}}),
            "conflict: runtimeClass.scheduling.nodeSelector[sandbox] = gvisor; pod.spec.nodeSelector[sandbox] = Gvisor",
        ),
        // no special case for pods that have a node, or a mirror's mark
        (
            json!({"runtimeClassName": "x", "nodeName": "n"}),
            "pod rejected: RuntimeClass \"x\" not found",
        ),
        // our own
        (
            json!({"runtimeClassName": "unsafe"}),
            "pod rejected: RuntimeClass \"unsafe\" names no handler that can be run: handler name \"../runc\" is not valid: use 1 to 253 letters, digits, '-', '_' or '.'",
        ),
        (json!({"runtimeClassName": ""}), "default"),
        (json!({"runtimeClassName": "legacy"}), "default"),
    ];
    for (spec, expected) in rows {
        assert_eq!(outcome(admit_with(pod(spec.clone()), &classes())), expected, "{spec}");
    }
}

#[test]
fn the_envelope_names_the_pod() {
    for (metadata, name) in [
        (json!({"name": "p"}), "p"),
        (json!({"generateName": "p-"}), "p-"),
        (json!({}), "Unknown"),
    ] {
        let pod = object(json!({"metadata": metadata, "spec": {"runtimeClassName": "x"}}));
        let denied = admit_with(pod, &classes()).unwrap_err();
        assert_eq!(
            denied.to_string(),
            format!("pods \"{name}\" is forbidden: pod rejected: RuntimeClass \"x\" not found")
        );
    }
}

#[test]
fn the_pod_gets_what_its_class_says() {
    let own = json!({"runtimeClassName": "gvisor", "nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "own", "operator": "Exists"}]});
    let admitted = admit_with(pod(own), &classes()).unwrap();
    let spec = &admitted.pod.spec;
    assert_eq!(show(spec.overhead.as_ref().unwrap()), "cpu=250m,memory=120Mi");
    assert_eq!(spec.node_selector, object(json!({"disk": "ssd", "sandbox": "gvisor"})));
    let keys: Vec<&str> = spec.tolerations.iter().map(|t| t.key.as_str()).collect();
    assert_eq!(keys, ["own", "sandbox"]);
    // No class, no change.
    let plain = pod(json!({"nodeSelector": {"disk": "ssd"}}));
    assert_eq!(admit_with(plain.clone(), &classes()).unwrap().pod, plain);
}

#[test]
fn an_absent_class_takes_the_namespaces_default_then_the_clusters() {
    let rows = [
        ("default", vec![], "default"),
        ("undeclared", vec![], "default"),
        ("secure", vec![], "gvisor/runsc"),
        ("default", vec![("plain", "true")], "plain/runc"),
        ("undeclared", vec![("plain", "true")], "plain/runc"),
        ("secure", vec![("plain", "true")], "gvisor/runsc"),
        ("open", vec![("plain", "true")], "default"),
        ("old", vec![("plain", "true")], "default"),
        ("default", vec![("plain", "false")], "default"),
        (
            "lost",
            vec![("plain", "true")],
            "pod rejected: RuntimeClass \"gone\" not found; it is the default of namespace \"lost\", by annotation cofferdam.dev/default-runtime-class",
        ),
        (
            "default",
            vec![("plain", "true"), ("gvisor", "true")],
            "pod rejected: RuntimeClasses \"plain\" and \"gvisor\" are all marked cofferdam.dev/is-default-class; leave the mark on one",
        ),
        (
            "default",
            vec![("plain", "1")],
            "pod rejected: RuntimeClass \"plain\" has the value \"1\" in annotation cofferdam.dev/is-default-class; use \"true\" or \"false\"",
        ),
    ];
    for (namespace, marks, expected) in rows {
        assert_eq!(
            outcome(admit_with(in_namespace(namespace), &marked(&marks))),
            expected,
            "{namespace} {marks:?}"
        );
    }
    let admitted = admit_with(in_namespace("secure"), &classes()).unwrap();
    assert_eq!(show(admitted.pod.spec.overhead.as_ref().unwrap()), "cpu=250m,memory=120Mi");
    for name in ["", "legacy"] {
        let named = pod(json!({"runtimeClassName": name}));
        assert_eq!(
            outcome(admit_with(named, &marked(&[("gvisor", "true")]))),
            "default",
            "{name:?} undoes a default"
        );
    }
}

#[test]
fn old_annotations_choose_a_handler_or_are_refused() {
    const CRIO: &str = "io.kubernetes.cri-o.TrustedSandbox";
    const CONTAINERD: &str = "io.kubernetes.cri.untrusted-workload";
    const OS_CONTAINER: &str = "runtime.frakti.alpha.kubernetes.io/OSContainer";
    const UNIKERNEL: &str = "runtime.frakti.alpha.kubernetes.io/Unikernel";
    const WINDOWS: &str = "experimental.windows.kubernetes.io/isolation-type";
    let chosen = |key: &str| format!("{key}/untrusted");
    let rows = [
        (json!({CRIO: "false"}), json!({}), chosen(CRIO)),
        (json!({CRIO: "true"}), json!({}), "default".into()),
        (json!({CONTAINERD: "true"}), json!({}), chosen(CONTAINERD)),
        (json!({CONTAINERD: "false"}), json!({}), "default".into()),
        (json!({OS_CONTAINER: "false"}), json!({}), chosen(OS_CONTAINER)),
        (json!({OS_CONTAINER: "true"}), json!({}), "default".into()),
        (json!({UNIKERNEL: "true"}), json!({}), chosen(UNIKERNEL)),
        (json!({UNIKERNEL: "false"}), json!({}), "default".into()),
        (json!({CRIO: "false", CONTAINERD: "true"}), json!({}), chosen(CRIO)),
        // The legacy class is the behaviour from before classes, and so these count.
        (json!({CONTAINERD: "true"}), json!({"runtimeClassName": "legacy"}), chosen(CONTAINERD)),
        (json!({CONTAINERD: "true"}), json!({"runtimeClassName": ""}), chosen(CONTAINERD)),
        (
            json!({CRIO: "no"}),
            json!({}),
            "pod rejected: annotation io.kubernetes.cri-o.TrustedSandbox has the value \"no\"; use \"true\" or \"false\"".into(),
        ),
        (
            json!({CRIO: "true", CONTAINERD: "true"}),
            json!({}),
            "pod rejected: annotations io.kubernetes.cri.untrusted-workload and io.kubernetes.cri-o.TrustedSandbox ask for different handlers; remove one".into(),
        ),
        (
            json!({CONTAINERD: "true"}),
            json!({"runtimeClassName": "gvisor"}),
            "pod rejected: annotation io.kubernetes.cri.untrusted-workload selects a handler beside runtimeClassName \"gvisor\"; remove the annotation".into(),
        ),
        (
            json!({CRIO: "true"}),
            json!({"runtimeClassName": "gvisor"}),
            "pod rejected: annotation io.kubernetes.cri-o.TrustedSandbox selects a handler beside runtimeClassName \"gvisor\"; remove the annotation".into(),
        ),
        (
            json!({WINDOWS: "hyperv"}),
            json!({}),
            "pod rejected: annotation experimental.windows.kubernetes.io/isolation-type=hyperv asks for Hyper-V isolation of Windows containers, which does not exist here; name a RuntimeClass in spec.runtimeClassName instead".into(),
        ),
        (
            json!({CONTAINERD: "true"}),
            json!({"overhead": {"cpu": "1"}}),
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead".into(),
        ),
    ];
    for (annotations, spec, expected) in rows {
        let result = admit_with(annotated(annotations.clone(), spec), &classes());
        if let Ok(admitted) = &result {
            let keys: Vec<&str> = [CRIO, CONTAINERD, OS_CONTAINER, UNIKERNEL]
                .into_iter()
                .filter(|k| annotations.get(k).is_some())
                .collect();
            let warning =
                |key: &&str| format!("metadata.annotations[{key}]: deprecated; name a RuntimeClass in spec.runtimeClassName instead");
            let told: Vec<String> = admitted.warnings.iter().map(ToString::to_string).collect();
            assert_eq!(told, keys.iter().map(warning).collect::<Vec<_>>(), "{annotations}");
        }
        assert_eq!(outcome(result), expected, "{annotations}");
    }
}

#[test]
fn an_annotation_never_weakens_a_default_and_needs_a_handler() {
    let marked = marked(&[("gvisor", "true")]);
    let trusted = annotated(json!({"io.kubernetes.cri-o.TrustedSandbox": "true"}), json!({}));
    assert_eq!(outcome(admit_with(trusted, &marked)), "gvisor/runsc");
    let untrusted = annotated(json!({"io.kubernetes.cri.untrusted-workload": "true"}), json!({}));
    assert_eq!(
        outcome(admit_with(untrusted.clone(), &marked)),
        "io.kubernetes.cri.untrusted-workload/untrusted"
    );
    let denied = admit(untrusted.clone(), &Context::default()).unwrap_err();
    assert_eq!(
        denied.to_string(),
        "pods \"p\" is forbidden: pod rejected: annotation io.kubernetes.cri.untrusted-workload asks for the handler of untrusted pods, and none is configured; name a RuntimeClass in spec.runtimeClassName instead"
    );
    let bad = Context {
        untrusted_handler: Some("a/b"),
        ..Context::default()
    };
    assert!(
        admit(untrusted, &bad)
            .unwrap_err()
            .to_string()
            .contains("means no handler that can be run")
    );
}

#[test]
fn admitting_again_changes_nothing() {
    let marked = marked(&[("gvisor", "true")]);
    for spec in [
        json!({}),
        json!({"runtimeClassName": ""}),
        json!({"runtimeClassName": "legacy"}),
        json!({"runtimeClassName": "plain"}),
    ] {
        let once = admit_with(pod(spec), &marked).unwrap();
        assert_eq!(admit_with(once.pod.clone(), &marked).unwrap(), once);
    }
}

/// Every denial stands at the field that it is about, in the pod as it was written.
#[test]
fn denials_name_their_field() {
    const CRIO: &str = "io.kubernetes.cri-o.TrustedSandbox";
    const CONTAINERD: &str = "io.kubernetes.cri.untrusted-workload";
    let rows = [
        (json!({}), json!({"runtimeClassName": "x"}), "spec.runtimeClassName"),
        (json!({}), json!({"runtimeClassName": "unsafe"}), "spec.runtimeClassName"),
        (json!({}), json!({"overhead": {"cpu": "1"}}), "spec.overhead"),
        (
            json!({}),
            json!({"runtimeClassName": "gvisor", "overhead": {"cpu": "1"}}),
            "spec.overhead",
        ),
        (
            json!({}),
            json!({"runtimeClassName": "gvisor", "nodeSelector": {"sandbox": "x"}}),
            "spec.nodeSelector[sandbox]",
        ),
        (
            json!({CRIO: "no"}),
            json!({}),
            "metadata.annotations[io.kubernetes.cri-o.TrustedSandbox]",
        ),
        (
            json!({CRIO: "true", CONTAINERD: "true"}),
            json!({}),
            "metadata.annotations[io.kubernetes.cri-o.TrustedSandbox]",
        ),
        (
            json!({CRIO: "true"}),
            json!({"runtimeClassName": "gvisor"}),
            "metadata.annotations[io.kubernetes.cri-o.TrustedSandbox]",
        ),
        (
            json!({"experimental.windows.kubernetes.io/isolation-type": "hyperv"}),
            json!({}),
            "metadata.annotations[experimental.windows.kubernetes.io/isolation-type]",
        ),
    ];
    for (annotations, spec, field) in rows {
        let denied = admit_with(annotated(annotations, spec.clone()), &classes()).unwrap_err();
        assert_eq!(denied.code(), 403);
        let causes = denied.causes();
        assert_eq!(causes.len(), 1);
        assert_eq!(causes[0].field, field, "{spec}");
        assert_eq!(denied.to_string(), format!("pods \"p\" is forbidden: {}", causes[0].text));
    }
    let context = Context {
        untrusted_handler: None,
        ..Context::default()
    };
    let denied = admit(annotated(json!({CONTAINERD: "true"}), json!({})), &context).unwrap_err();
    assert_eq!(
        denied.causes()[0].field,
        "metadata.annotations[io.kubernetes.cri.untrusted-workload]"
    );
    let denied = admit_with(in_namespace("lost"), &marked(&[])).unwrap_err();
    assert_eq!(denied.causes()[0].field, "spec.runtimeClassName");
}
