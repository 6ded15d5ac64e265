#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::testing::object;
use serde_json::{Value, json};

/// A right class with these fields put over it.
fn class(fields: Value) -> RuntimeClass {
    let mut class = json!({"metadata": {"name": "c"}, "handler": "h"});
    let more = fields.as_object().unwrap().clone();
    class.as_object_mut().unwrap().extend(more);
    object(class)
}

fn denial(class: &RuntimeClass) -> String {
    match validate_create(class) {
        Ok(()) => "valid".to_string(),
        Err(denied) => {
            assert_eq!(denied.code(), 422);
            let text = denied.to_string();
            text.strip_prefix("RuntimeClass.node.k8s.io \"c\" is invalid: ")
                .unwrap_or(&text)
                .to_string()
        }
    }
}

const RFC_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const NAME_PART: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

#[test]
fn names_and_handlers() {
    let rows = [
        (class(json!({})), "valid".to_string()),
        (class(json!({"metadata": {}})), "RuntimeClass.node.k8s.io \"\" is invalid: metadata.name: Required value: name or generateName is required".into()),
        (
            class(json!({"metadata": {"name": "C"}})),
            r#"RuntimeClass.node.k8s.io "C" is invalid: metadata.name: Invalid value: "C": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"#.into(),
        ),
        (class(json!({"metadata": {"name": "a".repeat(253)}})), "valid".into()),
        (
            class(json!({"metadata": {"name": "a".repeat(254)}})),
            format!("RuntimeClass.node.k8s.io \"{0}\" is invalid: metadata.name: Invalid value: \"{0}\": must be no more than 253 characters", "a".repeat(254)),
        ),
        // The API server drops a namespace.
        (class(json!({"metadata": {"name": "c", "namespace": "n"}})), "valid".into()),
        (class(json!({"metadata": {"generateName": "c-"}})), "valid".into()),
        (class(json!({"metadata": {"name": "c", "labels": {"a b": ""}}})), format!("metadata.labels: Invalid value: \"a b\": {NAME_PART}")),
        (class(json!({"metadata": {"name": "c", "annotations": {"a b": ""}}})), format!("metadata.annotations: Invalid value: \"a b\": {NAME_PART}")),
        (
            class(json!({"metadata": {"name": "c", "annotations": {"a": "x".repeat(262_144)}}})),
            "metadata.annotations: Too long: may not be more than 262144 bytes".into(),
        ),
        (
            class(json!({"metadata": {"name": "legacy"}})),
            "RuntimeClass.node.k8s.io \"legacy\" is invalid: metadata.name: Forbidden: \"legacy\" is reserved: pods name it to ask for the default handler with no class; choose another name".into(),
        ),
        (
            class(json!({"metadata": {"name": "c", "annotations": {"cofferdam.dev/is-default-class": "yes"}}})),
            "metadata.annotations[cofferdam.dev/is-default-class]: Unsupported value: \"yes\": supported values: \"true\", \"false\"".into(),
        ),
        (class(json!({"handler": ""})), format!("handler: Invalid value: \"\": {RFC_LABEL}")),
        (class(json!({"handler": "A"})), format!("handler: Invalid value: \"A\": {RFC_LABEL}")),
        (class(json!({"handler": "a.b"})), "handler: Invalid value: \"a.b\": must not contain dots".into()),
        (class(json!({"handler": "a".repeat(64)})), format!("handler: Invalid value: \"{}\": must be no more than 63 characters", "a".repeat(64))),
        (
            class(json!({"metadata": {}, "handler": "a.b"})),
            "RuntimeClass.node.k8s.io \"\" is invalid: [metadata.name: Required value: name or generateName is required, handler: Invalid value: \"a.b\": must not contain dots]".into(),
        ),
    ];
    for (class, expected) in rows {
        assert_eq!(denial(&class), expected);
    }
}

#[test]
fn errors_name_their_field() {
    let wrong = class(json!({
        "handler": "a.b",
        "overhead": {"podFixed": {"cpu": "-1"}},
        "scheduling": {"nodeSelector": {"a b": ""}, "tolerations": [{"key": "a", "operator": "X"}, {"key": "a", "operator": "X"}]},
    }));
    let causes = validate_create(&wrong).unwrap_err().causes();
    let fields: Vec<&str> = causes.iter().map(|c| c.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "handler",
            "overhead.limits[cpu]",
            "scheduling.nodeSelector",
            "scheduling.tolerations.tolerations[0].operator",
            "scheduling.tolerations.tolerations[1].operator",
            "scheduling.tolerations[1]",
        ]
    );
    assert!(causes.iter().all(|c| c.text.starts_with(&format!("{}: ", c.field))));
    // The same twice is told once.
    let labels = class(json!({"scheduling": {"nodeSelector": {"a": "x y", "b": "x y"}}}));
    assert_eq!(validate_create(&labels).unwrap_err().causes().len(), 1);
}

#[test]
fn overhead_is_checked_as_limits() {
    let rows = [
        (json!({"cpu": "250m", "memory": "120Mi"}), "valid"),
        (json!({}), "valid"),
        (
            json!({"cpu": "-1"}),
            "overhead.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
        ),
        (
            json!({"example.com/gpu": "500m"}),
            "overhead.limits[example.com/gpu]: Invalid value: \"500m\": must be an integer",
        ),
        (
            json!({"foo": "1"}),
            "[overhead.limits[foo]: Invalid value: \"foo\": must be a standard resource type or fully qualified, overhead.limits[foo]: Invalid value: \"foo\": must be a standard resource for containers]",
        ),
        (
            json!({"pods": "1"}),
            "overhead.limits[pods]: Invalid value: \"pods\": must be a standard resource for containers",
        ),
        (
            json!({"requests.example.com/gpu": "1"}),
            "overhead.limits[requests.example.com/gpu]: Invalid value: \"requests.example.com/gpu\": doesn't follow extended resource name standard",
        ),
        (
            json!({"hugepages-2Mi": "3Mi", "cpu": "1"}),
            "overhead.limits[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
        ),
        (
            json!({"hugepages-x": "2Mi", "cpu": "1"}),
            "overhead.limits[hugepages-x]: Invalid value: \"2Mi\": 2Mi is not positive integer multiple of hugepages-x",
        ),
        (
            json!({"hugepages-2Mi": "4Mi"}),
            "overhead: Forbidden: HugePages require cpu or memory",
        ),
        (json!({"hugepages-2Mi": "4Mi", "memory": "1"}), "valid"),
    ];
    for (fixed, expected) in rows {
        assert_eq!(denial(&class(json!({"overhead": {"podFixed": fixed}}))), expected);
    }
    assert_eq!(denial(&class(json!({"overhead": {}}))), "valid");
}

#[test]
fn scheduling() {
    let operator = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
    let rows = [
        (json!({"nodeSelector": {"a": "b"}, "tolerations": [{"key": "a", "operator": "Exists"}, {"key": "a"}]}), "valid".to_string()),
        (json!({"nodeSelector": {"a b": "c"}}), format!("scheduling.nodeSelector: Invalid value: \"a b\": {NAME_PART}")),
        (json!({"nodeSelector": {"a": "b c"}}), format!("scheduling.nodeSelector: Invalid value: \"b c\": {LABEL_VALUE}")),
        (json!({"tolerations": [{"key": "a b"}]}), format!("scheduling.tolerations.tolerations[0].key: Invalid value: \"a b\": {NAME_PART}")),
        (json!({"tolerations": [{}]}), format!("scheduling.tolerations.tolerations[0].operator: Invalid value: \"\": {operator}")),
        (
            json!({"tolerations": [{"key": "a", "effect": "NoSchedule", "tolerationSeconds": 1}]}),
            "scheduling.tolerations.tolerations[0].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' when `tolerationSeconds` is set".into(),
        ),
        (
            json!({"tolerations": [{"key": "a", "operator": "Exists", "value": "v"}]}),
            "scheduling.tolerations.tolerations[0].operator: Invalid value: \"v\": value must be empty when `operator` is 'Exists'".into(),
        ),
        (json!({"tolerations": [{"key": "a", "value": "b c"}]}), format!("scheduling.tolerations.tolerations[0].operator: Invalid value: \"b c\": {LABEL_VALUE}")),
        (
            json!({"tolerations": [{"key": "a", "operator": "X"}]}),
            "scheduling.tolerations.tolerations[0].operator: Unsupported value: \"X\": supported values: \"Equal\", \"Exists\"".into(),
        ),
        (
            json!({"tolerations": [{"key": "a", "effect": "X"}]}),
            "scheduling.tolerations.tolerations[0].effect: Unsupported value: \"X\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"".into(),
        ),
        (
            json!({"tolerations": [{"key": "a", "effect": "NoExecute"}, {"key": "a", "effect": "NoExecute", "tolerationSeconds": 5}]}),
            r#"scheduling.tolerations[1]: Duplicate value: {"Key":"a","Operator":"","Value":"","Effect":"NoExecute","TolerationSeconds":5}"#.into(),
        ),
    ];
    for (scheduling, expected) in rows {
        assert_eq!(denial(&class(json!({"scheduling": scheduling}))), expected);
    }
}

#[test]
fn updates() {
    let stored = |fields: Value| {
        let mut class = class(fields);
        class.metadata.resource_version.get_or_insert("7".to_string());
        class
    };
    let old = stored(json!({}));
    let rows = [
        (
            stored(json!({"overhead": {"podFixed": {"cpu": "1"}}, "scheduling": {"nodeSelector": {"a": "b"}}})),
            "valid",
        ),
        (
            stored(json!({"handler": "new"})),
            "RuntimeClass.node.k8s.io \"c\" is invalid: handler: Invalid value: \"new\": field is immutable",
        ),
        (
            stored(json!({"handler": "a.b"})),
            "RuntimeClass.node.k8s.io \"c\" is invalid: [handler: Invalid value: \"a.b\": must not contain dots, handler: Invalid value: \"a.b\": field is immutable]",
        ),
        (
            stored(json!({"metadata": {"name": "d"}})),
            "RuntimeClass.node.k8s.io \"d\" is invalid: metadata.name: Invalid value: \"d\": field is immutable",
        ),
        (
            stored(json!({"overhead": {"podFixed": {"cpu": "-1"}}})),
            "RuntimeClass.node.k8s.io \"c\" is invalid: overhead.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
        ),
        (
            class(json!({"handler": "new"})),
            "runtimeclasses.node.k8s.io \"c\" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update",
        ),
    ];
    for (new, expected) in rows {
        let answer = validate_update(&new, &old).map_or_else(|e| e.to_string(), |()| "valid".to_string());
        assert_eq!(answer, expected);
    }
}

#[test]
fn warns_of_each_deprecated_label() {
    let rows = [
        ("kubernetes.io/arch", None),
        (
            "beta.kubernetes.io/arch",
            Some("deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
        ),
        (
            "beta.kubernetes.io/os",
            Some("deprecated since v1.14; use \"kubernetes.io/os\" instead"),
        ),
        (
            "failure-domain.beta.kubernetes.io/region",
            Some("deprecated since v1.17; use \"topology.kubernetes.io/region\" instead"),
        ),
        (
            "failure-domain.beta.kubernetes.io/zone",
            Some("deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"),
        ),
        (
            "beta.kubernetes.io/instance-type",
            Some("deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"),
        ),
        ("app.kubernetes.io/created-by", Some("deprecated since v1.9")),
        (
            "scheduler.alpha.kubernetes.io/preferAvoidPods",
            Some("deprecated since v1.22; use Taints and Tolerations instead"),
        ),
        (
            "node-role.kubernetes.io/master",
            Some("use \"node-role.kubernetes.io/control-plane\" instead"),
        ),
    ];
    for (label, said) in rows {
        let expected: Vec<String> = said.iter().map(|text| format!("scheduling.nodeSelector: {text}")).collect();
        let class = class(json!({"scheduling": {"nodeSelector": {label: "x"}}}));
        assert_eq!(warnings(&class), expected, "{label}");
        let placed = said.map(|text| format!("scheduling.nodeSelector[{label}]: {text}"));
        assert_eq!(placed_warnings(&class).first().map(ToString::to_string), placed, "{label}");
    }
    assert!(warnings(&class(json!({}))).is_empty());
}
