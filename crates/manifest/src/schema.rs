//! Which fields each object has: those that Cofferdam honours, with their types, and those that
//! Kubernetes 1.34 knows beside them (`k8s.io/api` core/v1, apps/v1 and node/v1), which are refused
//! by name.

pub(crate) mod affinity;
pub(crate) mod container;
pub(crate) mod meta;
pub(crate) mod objects;
pub(crate) mod pod;

use crate::format::Format;

/// The type of a field.
pub(crate) enum Type {
    Text(Format),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// One of the first words; the others are Kubernetes' too, but not honoured yet.
    OneOfYet(&'static [&'static str], &'static [&'static str]),
    Bool,
    /// A whole number in a range, both ends included.
    Int(i64, i64),
    /// A resource quantity, as text or number.
    Quantity,
    /// Keys of a format to texts of a format.
    TextMap(Format, Format),
    /// Keys of a format to base64; canonical afterwards, and never shown.
    Base64Map,
    /// Keys to texts that are never shown.
    SecretMap,
    /// Resource names to quantities.
    Quantities,
    List(&'static Type),
    Object(&'static Shape),
}

/// What becomes of a field.
pub(crate) enum Use {
    Honoured,
    /// Honoured, and must be there.
    Required,
    /// The API server writes it; in a manifest it means nothing.
    Owned,
    /// Accepted with a warning: why it does nothing here.
    Idle(&'static str),
    /// It says where a pod is placed: honoured where that is asked, else as [`Use::Later`].
    Placing(Option<&'static str>),
    /// Kubernetes honours it, Cofferdam not yet. Empty values are harmless, and so is this one,
    /// which is what Kubernetes does where the field is absent.
    Later(Option<&'static str>),
}

/// A field.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    /// `None` where the value is not looked at.
    pub(crate) kind: Option<Type>,
    pub(crate) usage: Use,
}

/// The fields of an object.
pub(crate) struct Shape {
    pub(crate) fields: &'static [Field],
}

impl Shape {
    pub(crate) fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|f| f.name == name)
    }

    /// Names that a writer can have meant.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().map(|f| f.name)
    }
}

pub(crate) const fn may(name: &'static str, kind: Type) -> Field {
    Field {
        name,
        kind: Some(kind),
        usage: Use::Honoured,
    }
}

pub(crate) const fn must(name: &'static str, kind: Type) -> Field {
    Field {
        name,
        kind: Some(kind),
        usage: Use::Required,
    }
}

pub(crate) const fn owned(name: &'static str) -> Field {
    Field {
        name,
        kind: None,
        usage: Use::Owned,
    }
}

pub(crate) const fn idle(name: &'static str, why: &'static str) -> Field {
    Field {
        name,
        kind: None,
        usage: Use::Idle(why),
    }
}

/// `default`: the value that asks for nothing.
pub(crate) const fn placing(name: &'static str, kind: Type, default: Option<&'static str>) -> Field {
    Field {
        name,
        kind: Some(kind),
        usage: Use::Placing(default),
    }
}

pub(crate) const fn later(name: &'static str) -> Field {
    Field {
        name,
        kind: None,
        usage: Use::Later(None),
    }
}

pub(crate) const fn later_unless(name: &'static str, default: &'static str) -> Field {
    Field {
        name,
        kind: None,
        usage: Use::Later(Some(default)),
    }
}

pub(crate) const TEXT: Type = Type::Text(Format::Any);
pub(crate) const TEXTS: Type = Type::List(&TEXT);
