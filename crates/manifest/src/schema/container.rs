//! Containers.

use super::action::{LIFECYCLE, PROBE};
use super::security;
use super::volume::VOLUME_MOUNT;
use super::{Shape, TEXT, TEXTS, Type, may, must, never};
use crate::format::Format;

pub(crate) const CONTAINERS: Type = Type::List(&CONTAINER);
const PORT: Type = Type::Int(1, 65535);

static CONTAINER: Type = Type::Object(&Shape {
    fields: &[
        must("name", Type::Text(Format::Label)),
        must("image", Type::Text(Format::Image)),
        may(
            "imagePullPolicy",
            Type::OneOf(&["Always", "Never", "IfNotPresent"]),
        ),
        may("command", TEXTS),
        may("args", TEXTS),
        may("workingDir", TEXT),
        may("ports", Type::List(&CONTAINER_PORT)),
        may("envFrom", Type::List(&ENV_FROM)),
        may("env", Type::List(&ENV)),
        may("resources", RESOURCES),
        may("volumeMounts", Type::List(&VOLUME_MOUNT)),
        may(
            "restartPolicy",
            Type::OneOfYet(&["Always"], &["OnFailure", "Never"]),
        ),
        may("lifecycle", LIFECYCLE),
        may("terminationMessagePath", Type::Text(Format::Absolute)),
        may(
            "terminationMessagePolicy",
            Type::OneOf(&["File", "FallbackToLogsOnError"]),
        ),
        may("securityContext", security::CONTAINER),
        may("stdin", Type::Bool),
        may("stdinOnce", Type::Bool),
        may("tty", Type::Bool),
        may("livenessProbe", PROBE),
        may("readinessProbe", PROBE),
        may("startupProbe", PROBE),
        may("resizePolicy", Type::List(&RESIZE_POLICY)),
        never(
            "restartPolicyRules",
            "Kubernetes 1.34 drops it unless a gate is set; write restartPolicy in the pod's spec",
        ),
        never(
            "volumeDevices",
            "it takes a persistent volume claim; give the device as a hostPath of type BlockDevice to a privileged container",
        ),
    ],
});

static RESIZE_POLICY: Type = Type::Object(&Shape {
    fields: &[
        must("resourceName", Type::OneOf(&["cpu", "memory"])),
        must("restartPolicy", Type::OneOf(&["NotRequired", "RestartContainer"])),
    ],
});

static CONTAINER_PORT: Type = Type::Object(&Shape {
    fields: &[
        may("name", Type::Text(Format::PortName)),
        must("containerPort", PORT),
        may("hostPort", PORT),
        may("hostIP", Type::Text(Format::Address)),
        may("protocol", Type::OneOf(&["TCP", "UDP", "SCTP"])),
    ],
});

/// The sources of an `envFrom`, of which one is set.
pub(crate) const ENV_FROM_SOURCES: [&str; 2] = ["configMapRef", "secretRef"];
static ENV_FROM: Type = Type::Object(&Shape {
    fields: &[
        may("prefix", TEXT),
        may("configMapRef", LOCAL_REF),
        may("secretRef", LOCAL_REF),
    ],
});
const LOCAL_REF: Type = Type::Object(&Shape {
    fields: &[
        must("name", Type::Text(Format::Subdomain)),
        may("optional", Type::Bool),
    ],
});

static ENV: Type = Type::Object(&Shape {
    fields: &[
        must("name", Type::Text(Format::EnvName)),
        may("value", TEXT),
        may("valueFrom", ENV_SOURCE),
    ],
});

/// The sources of a `valueFrom`, of which one is set.
pub(crate) const ENV_SOURCES: [&str; 4] = [
    "configMapKeyRef",
    "secretKeyRef",
    "fieldRef",
    "resourceFieldRef",
];
const ENV_SOURCE: Type = Type::Object(&Shape {
    fields: &[
        may("configMapKeyRef", KEY_REF),
        may("secretKeyRef", KEY_REF),
        may("fieldRef", FIELD_REF),
        may("resourceFieldRef", RESOURCE_FIELD_REF),
        never(
            "fileKeyRef",
            "Kubernetes 1.34 drops it unless a gate is set; put the values into a config map, or read the file in the container",
        ),
    ],
});
const KEY_REF: Type = Type::Object(&Shape {
    fields: &[
        must("name", Type::Text(Format::Subdomain)),
        must("key", Type::Text(Format::DataKey)),
        may("optional", Type::Bool),
    ],
});
const FIELD_REF: Type = Type::Object(&Shape {
    fields: &[
        may("apiVersion", FIELD_VERSION),
        must("fieldPath", Type::Text(Format::FieldPath)),
    ],
});
const RESOURCE_FIELD_REF: Type = Type::Object(&Shape {
    fields: &[
        may("containerName", TEXT),
        must("resource", RESOURCE_FIELD),
        may("divisor", Type::Quantity),
    ],
});
/// Version of the form in which fields of the pod are named.
pub(crate) const FIELD_VERSION: Type = Type::OneOf(&["v1"]);
/// What `resourceFieldRef.resource` can name.
pub(crate) const RESOURCE_FIELD: Type = Type::OneOfOrLike(
    &[
        "limits.cpu",
        "limits.memory",
        "limits.ephemeral-storage",
        "requests.cpu",
        "requests.memory",
        "requests.ephemeral-storage",
    ],
    &["limits.hugepages-", "requests.hugepages-"],
);

pub(crate) const RESOURCES: Type = Type::Object(&Shape {
    fields: &[
        may("requests", Type::Quantities),
        may("limits", Type::Quantities),
        never(
            "claims",
            "there is no dynamic resource allocation on one machine; ask for the device in limits, by its CDI name",
        ),
    ],
});
