//! Whole manifests, as guides to RuntimeClass show them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
use cofferdam_manifest::{Decoded, ObjectKind, decode, pods_of};
use common::outcome;

const TIERS: &str = include_str!("manifests/tiers.yaml");
const CLASSES: &str = include_str!("manifests/classes.yaml");
const FIRST_FORMS: &str = include_str!("manifests/first-forms.yaml");

fn good(text: &str) -> Decoded {
    decode("f.yaml", text).unwrap_or_else(|e| panic!("{e:?}"))
}

#[test]
fn what_is_read() {
    insta::assert_snapshot!(outcome(TIERS));
    insta::assert_snapshot!(outcome(CLASSES));
    insta::assert_snapshot!(outcome(FIRST_FORMS));
}

#[test]
fn what_is_refused() {
    insta::assert_snapshot!(outcome(include_str!("manifests/policies.yaml")));
    insta::assert_snapshot!(outcome(include_str!("manifests/flat.yaml")));
}

#[test]
fn every_value_arrives() {
    let decoded = good(TIERS);
    let objects: Vec<_> = decoded.objects.iter().map(|o| &o.kind).collect();
    let [
        ObjectKind::RuntimeClass(class),
        ObjectKind::Namespace(_),
        ObjectKind::ResourceQuota(quota),
        ObjectKind::LimitRange(limits),
        ObjectKind::ConfigMap(settings),
        ObjectKind::Secret(token),
        ObjectKind::Pod(build),
        ObjectKind::Deployment(api),
    ] = objects[..]
    else {
        panic!("{objects:?}")
    };
    insta::assert_json_snapshot!((class, quota, limits, settings, token, build, api));
}

#[test]
fn json_and_yaml_are_read_alike() {
    let decoded = good(CLASSES);
    let items: Vec<_> = decoded
        .objects
        .iter()
        .map(|o| {
            let (version, object) = match &o.kind {
                ObjectKind::RuntimeClass(o) => ("node.k8s.io/v1", serde_json::to_value(o)),
                ObjectKind::Pod(o) => ("v1", serde_json::to_value(o)),
                ObjectKind::Deployment(o) => ("apps/v1", serde_json::to_value(o)),
                other => panic!("{other:?}"),
            };
            let mut object = object.unwrap();
            object["apiVersion"] = version.into();
            object["kind"] = o.kind.name().into();
            object
        })
        .collect();
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items});
    for text in [
        list.to_string(),
        serde_json::to_string_pretty(&list).unwrap(),
    ] {
        let again = good(&text);
        let kinds = |d: &Decoded| d.objects.iter().map(|o| o.kind.clone()).collect::<Vec<_>>();
        assert_eq!(kinds(&again), kinds(&decoded));
    }
}

#[test]
fn todays_form_is_the_same_object_without_a_warning() {
    let decoded = good(FIRST_FORMS);
    assert_eq!(decoded.warnings.len(), 3);
    for (warning, object) in decoded.warnings.iter().zip(&decoded.objects) {
        let again = good(warning.today.as_ref().unwrap());
        assert_eq!(again.warnings, []);
        assert_eq!(again.objects[0].kind, object.kind);
    }
}

#[test]
fn a_deployment_gives_its_pods() {
    let decoded = good(CLASSES);
    let Some(ObjectKind::Deployment(orders)) = decoded.objects.last().map(|o| &o.kind) else {
        panic!()
    };
    let pods = pods_of(orders);
    assert_eq!(pods.len(), 3);
    for pod in &pods {
        assert_eq!(pod.spec, orders.spec.template.spec);
        assert_eq!(pod.spec.runtime_class_name.as_deref(), Some("vm-small"));
    }
    assert_eq!(pods, pods_of(orders));
}

#[test]
fn nothing_gives_nothing() {
    for text in [
        "",
        "\n\n",
        "# only a comment\n",
        "---\n---\n",
        "\u{feff}",
        "null\n",
        "--- ~\n...",
    ] {
        assert_eq!(
            decode("f.yaml", text),
            Ok(Decoded {
                objects: vec![],
                warnings: vec![]
            }),
            "{text:?}"
        );
    }
}
