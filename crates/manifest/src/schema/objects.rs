//! The objects themselves.

use super::meta::{CLASS_METADATA, LABEL_SELECTOR, METADATA, NAMESPACE_METADATA, NODE_SELECTOR, TOLERATIONS};
use super::pod::{POD_SPEC, TEMPLATE};
use super::{Field, Shape, TEXT, TEXTS, Type, idle, may, must, owned};

const fn metadata() -> Field {
    must("metadata", Type::Object(&METADATA))
}

pub(crate) static RUNTIME_CLASS: Shape = Shape {
    fields: &[
        owned("apiVersion"),
        owned("kind"),
        must("metadata", Type::Object(&CLASS_METADATA)),
        may("handler", TEXT),
        may(
            "overhead",
            Type::Object(&Shape {
                fields: &[may("podFixed", Type::Quantities)],
            }),
        ),
        may(
            "scheduling",
            Type::Object(&Shape {
                fields: &[may("nodeSelector", NODE_SELECTOR), may("tolerations", TOLERATIONS)],
            }),
        ),
    ],
};

/// The RuntimeClass of KEP-585's first version and of `node.k8s.io/v1alpha1`.
pub(crate) static OLD_RUNTIME_CLASS: Shape = Shape {
    fields: &[
        owned("apiVersion"),
        owned("kind"),
        must("metadata", Type::Object(&CLASS_METADATA)),
        must("spec", Type::Object(&OLD_RUNTIME_CLASS_SPEC)),
    ],
};
static OLD_RUNTIME_CLASS_SPEC: Shape = Shape {
    fields: &[
        must("runtimeHandler", TEXT),
        may(
            "overhead",
            Type::Object(&Shape {
                fields: &[may("podFixed", Type::Quantities)],
            }),
        ),
        may(
            "scheduling",
            Type::Object(&Shape {
                fields: &[may("nodeSelector", NODE_SELECTOR), may("tolerations", TOLERATIONS)],
            }),
        ),
    ],
};

pub(crate) static NAMESPACE: Shape = Shape {
    fields: &[
        owned("apiVersion"),
        owned("kind"),
        must("metadata", Type::Object(&NAMESPACE_METADATA)),
        may(
            "spec",
            Type::Object(&Shape {
                fields: &[owned("finalizers")],
            }),
        ),
        owned("status"),
    ],
};

pub(crate) static POD: Shape = Shape {
    fields: &[
        owned("apiVersion"),
        owned("kind"),
        metadata(),
        must("spec", Type::Object(&POD_SPEC)),
        owned("status"),
    ],
};

const ROLLOUTS: &str = "it only concerns rollouts, and a run has none";

pub(crate) static DEPLOYMENT: Shape = Shape {
    fields: &[
        owned("apiVersion"),
        owned("kind"),
        metadata(),
        must("spec", Type::Object(&DEPLOYMENT_SPEC)),
        owned("status"),
    ],
};
static DEPLOYMENT_SPEC: Shape = Shape {
    fields: &[
        may("replicas", Type::Int(0, crate::MAX_REPLICAS as i64)),
        may("selector", Type::Object(&LABEL_SELECTOR)),
        must("template", Type::Object(&TEMPLATE)),
        idle("minReadySeconds", ROLLOUTS),
        idle("paused", ROLLOUTS),
        idle("progressDeadlineSeconds", ROLLOUTS),
        idle("revisionHistoryLimit", ROLLOUTS),
        // extensions/v1beta1 and apps/v1beta1 only
        idle("rollbackTo", ROLLOUTS),
        idle("strategy", ROLLOUTS),
    ],
};

pub(crate) static CONFIG_MAP: Shape = Shape {
    fields: &[
        owned("apiVersion"),
        owned("kind"),
        metadata(),
        may("data", Type::TextMap(crate::format::Format::DataKey, crate::format::Format::Any)),
        may("binaryData", Type::Base64Map),
        may("immutable", Type::Bool),
    ],
};

pub(crate) static SECRET: Shape = Shape {
    fields: &[
        owned("apiVersion"),
        owned("kind"),
        metadata(),
        may("type", TEXT),
        may("data", Type::Base64Map),
        may("stringData", Type::SecretMap),
        may("immutable", Type::Bool),
    ],
};

/// What stands in limit ranges and quotas admission checks, with Kubernetes' own messages.
pub(crate) static LIMIT_RANGE: Shape = Shape {
    fields: &[owned("apiVersion"), owned("kind"), metadata(), must("spec", LIMITS)],
};
const LIMITS: Type = Type::Object(&Shape {
    fields: &[must("limits", Type::List(&LIMIT))],
});
static LIMIT: Type = Type::Object(&Shape {
    fields: &[
        must("type", TEXT),
        may("max", Type::Quantities),
        may("min", Type::Quantities),
        may("default", Type::Quantities),
        may("defaultRequest", Type::Quantities),
        may("maxLimitRequestRatio", Type::Quantities),
    ],
});

pub(crate) static RESOURCE_QUOTA: Shape = Shape {
    fields: &[owned("apiVersion"), owned("kind"), metadata(), must("spec", QUOTA), owned("status")],
};
const QUOTA: Type = Type::Object(&Shape {
    fields: &[
        may("hard", Type::Quantities),
        may("scopes", TEXTS),
        may("scopeSelector", SCOPE_SELECTOR),
    ],
});
const SCOPE_SELECTOR: Type = Type::Object(&Shape {
    fields: &[may("matchExpressions", Type::List(&SCOPE_REQUIREMENT))],
});
static SCOPE_REQUIREMENT: Type = Type::Object(&Shape {
    fields: &[must("scopeName", TEXT), must("operator", TEXT), may("values", TEXTS)],
});
