//! Affinity and topology spread constraints. What stands in them admission checks, with Kubernetes'
//! own messages; here are only their shapes.

use super::{Field, Shape, TEXT, TEXTS, Type, may, must};
use crate::format::Format;

const NUMBER: Type = Type::Int(i32::MIN as i64, i32::MAX as i64);
const ANY_TEXTS: Type = Type::TextMap(Format::Any, Format::Any);

pub(crate) const AFFINITY: Type = Type::Object(&Shape {
    fields: &[
        may("nodeAffinity", NODE_AFFINITY),
        may("podAffinity", POD_AFFINITY),
        may("podAntiAffinity", POD_AFFINITY),
    ],
});

const fn required(kind: Type) -> Field {
    may("requiredDuringSchedulingIgnoredDuringExecution", kind)
}

const fn preferred(kind: Type) -> Field {
    may("preferredDuringSchedulingIgnoredDuringExecution", kind)
}

const NODE_AFFINITY: Type = Type::Object(&Shape {
    fields: &[required(NODE_TERMS), preferred(Type::List(&NODE_WISH))],
});
const NODE_TERMS: Type = Type::Object(&Shape {
    fields: &[must("nodeSelectorTerms", Type::List(&NODE_TERM))],
});
static NODE_TERM: Type = Type::Object(&NODE_TERM_SHAPE);
static NODE_TERM_SHAPE: Shape = Shape {
    fields: &[
        may("matchExpressions", Type::List(&REQUIREMENT)),
        may("matchFields", Type::List(&REQUIREMENT)),
    ],
};
static NODE_WISH: Type = Type::Object(&Shape {
    fields: &[must("weight", NUMBER), must("preference", Type::Object(&NODE_TERM_SHAPE))],
});
static REQUIREMENT: Type = Type::Object(&Shape {
    fields: &[must("key", TEXT), must("operator", TEXT), may("values", TEXTS)],
});

const POD_AFFINITY: Type = Type::Object(&Shape {
    fields: &[required(Type::List(&POD_TERM)), preferred(Type::List(&POD_WISH))],
});
static POD_TERM: Type = Type::Object(&POD_TERM_SHAPE);
static POD_TERM_SHAPE: Shape = Shape {
    fields: &[
        may("labelSelector", SELECTOR),
        may("namespaces", TEXTS),
        must("topologyKey", TEXT),
        may("namespaceSelector", SELECTOR),
        may("matchLabelKeys", TEXTS),
        may("mismatchLabelKeys", TEXTS),
    ],
};
static POD_WISH: Type = Type::Object(&Shape {
    fields: &[must("weight", NUMBER), must("podAffinityTerm", Type::Object(&POD_TERM_SHAPE))],
});

const SELECTOR: Type = Type::Object(&Shape {
    fields: &[may("matchLabels", ANY_TEXTS), may("matchExpressions", Type::List(&REQUIREMENT))],
});

pub(crate) const TOPOLOGY_SPREAD: Type = Type::List(&CONSTRAINT);
static CONSTRAINT: Type = Type::Object(&Shape {
    fields: &[
        must("maxSkew", NUMBER),
        must("topologyKey", TEXT),
        must("whenUnsatisfiable", TEXT),
        may("labelSelector", SELECTOR),
        may("minDomains", NUMBER),
        may("nodeAffinityPolicy", TEXT),
        may("nodeTaintsPolicy", TEXT),
        may("matchLabelKeys", TEXTS),
    ],
});
