//! Metadata and what all objects share.

use super::{Field, Shape, Type, may, owned};
use crate::format::Format;

const NAMES: Type = Type::TextMap(Format::QualifiedName, Format::LabelValue);
const NOTES: Type = Type::TextMap(Format::QualifiedName, Format::Any);

const fn metadata(name: Format) -> [Field; 15] {
    [
        may("name", Type::Text(name)),
        may("generateName", Type::Text(Format::GenerateName)),
        may("namespace", Type::Text(Format::Label)),
        may("labels", NAMES),
        may("annotations", NOTES),
        may("uid", Type::Text(Format::Any)),
        may("resourceVersion", Type::Text(Format::Any)),
        owned("creationTimestamp"),
        owned("deletionGracePeriodSeconds"),
        owned("deletionTimestamp"),
        owned("finalizers"),
        owned("generation"),
        owned("managedFields"),
        owned("ownerReferences"),
        owned("selfLink"),
    ]
}

/// Metadata of most objects.
pub(crate) static METADATA: Shape = Shape {
    fields: &metadata(Format::Subdomain),
};
/// Metadata of a namespace, whose name is a label.
pub(crate) static NAMESPACE_METADATA: Shape = Shape {
    fields: &metadata(Format::Label),
};
/// Metadata of a RuntimeClass, whose name admission checks with Kubernetes' own messages.
pub(crate) static CLASS_METADATA: Shape = Shape {
    fields: &metadata(Format::Any),
};

pub(crate) static LABEL_SELECTOR: Shape = Shape {
    fields: &[may("matchLabels", NAMES), super::later("matchExpressions")],
};

/// Toleration; admission checks what stands in it, with Kubernetes' own messages.
pub(crate) static TOLERATION: Type = Type::Object(&Shape {
    fields: &[
        may("key", super::TEXT),
        may("operator", super::TEXT),
        may("value", super::TEXT),
        may("effect", super::TEXT),
        may("tolerationSeconds", Type::Int(i64::MIN, i64::MAX)),
    ],
});
pub(crate) const TOLERATIONS: Type = Type::List(&TOLERATION);
pub(crate) const NODE_SELECTOR: Type = Type::TextMap(Format::Any, Format::Any);
