//! Containers.

use super::pod::MAX_ID;
use super::{Shape, TEXT, TEXTS, Type, later, later_unless, may, must};
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
        may("securityContext", SECURITY_CONTEXT),
        may("stdin", Type::Bool),
        may("stdinOnce", Type::Bool),
        may("tty", Type::Bool),
        later("livenessProbe"),
        later("readinessProbe"),
        later("resizePolicy"),
        later("restartPolicyRules"),
        later("startupProbe"),
        later("volumeDevices"),
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
        later("fileKeyRef"),
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
        may("apiVersion", Type::OneOf(&["v1"])),
        must("fieldPath", Type::Text(Format::FieldPath)),
    ],
});
const RESOURCE_FIELD_REF: Type = Type::Object(&Shape {
    fields: &[
        may("containerName", TEXT),
        must(
            "resource",
            Type::OneOf(&[
                "limits.cpu",
                "limits.memory",
                "limits.ephemeral-storage",
                "requests.cpu",
                "requests.memory",
                "requests.ephemeral-storage",
            ]),
        ),
        may("divisor", Type::Quantity),
    ],
});

pub(crate) const RESOURCES: Type = Type::Object(&Shape {
    fields: &[
        may("requests", Type::Quantities),
        may("limits", Type::Quantities),
        later("claims"),
    ],
});

static VOLUME_MOUNT: Type = Type::Object(&Shape {
    fields: &[
        must("name", Type::Text(Format::Label)),
        must("mountPath", Type::Text(Format::MountPath)),
        may("subPath", Type::Text(Format::Relative)),
        may("readOnly", Type::Bool),
        later_unless("mountPropagation", "None"),
        later_unless("recursiveReadOnly", "Disabled"),
        later("subPathExpr"),
    ],
});

const LIFECYCLE: Type = Type::Object(&Shape {
    fields: &[
        may("postStart", LIFECYCLE_HANDLER),
        may("preStop", LIFECYCLE_HANDLER),
        later("stopSignal"),
    ],
});

/// What a hook does, of which one is set.
pub(crate) const HOOKS: [&str; 2] = ["exec", "sleep"];
const LIFECYCLE_HANDLER: Type = Type::Object(&Shape {
    fields: &[
        may(
            "exec",
            Type::Object(&Shape {
                fields: &[must("command", TEXTS)],
            }),
        ),
        may(
            "sleep",
            Type::Object(&Shape {
                fields: &[must("seconds", Type::Int(0, i64::MAX))],
            }),
        ),
        later("httpGet"),
        later("tcpSocket"),
    ],
});

const SECURITY_CONTEXT: Type = Type::Object(&Shape {
    fields: &[
        may("runAsUser", Type::Int(0, MAX_ID)),
        may("runAsGroup", Type::Int(0, MAX_ID)),
        may("runAsNonRoot", Type::Bool),
        may("privileged", Type::Bool),
        may("allowPrivilegeEscalation", Type::Bool),
        may("readOnlyRootFilesystem", Type::Bool),
        may(
            "capabilities",
            Type::Object(&Shape {
                fields: &[may("add", TEXTS), may("drop", TEXTS)],
            }),
        ),
        may("seccompProfile", SECCOMP),
        later("appArmorProfile"),
        later_unless("procMount", "Default"),
        later("seLinuxOptions"),
        later("windowsOptions"),
    ],
});

pub(crate) const SECCOMP: Type = Type::Object(&Shape {
    fields: &[
        must(
            "type",
            Type::OneOf(&["Unconfined", "RuntimeDefault", "Localhost"]),
        ),
        may("localhostProfile", Type::Text(Format::Relative)),
    ],
});
