//! Which fields each object has: those that Cofferdam honours, with their types, and those that
//! Kubernetes 1.34 knows beside them (`k8s.io/api` core/v1, apps/v1 and node/v1), which are refused
//! by name.

pub(crate) mod action;
pub(crate) mod affinity;
pub(crate) mod container;
pub(crate) mod meta;
pub(crate) mod objects;
pub(crate) mod pod;
pub(crate) mod security;
pub(crate) mod volume;

use crate::format::Format;

/// The type of a field.
pub(crate) enum Type {
    Text(Format),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// One of the first words; the others are Kubernetes' too, but not honoured yet.
    OneOfYet(&'static [&'static str], &'static [&'static str]),
    /// One of the first words, or what begins with one of the others.
    OneOfOrLike(&'static [&'static str], &'static [&'static str]),
    /// A port's number, or its name.
    Port,
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
    /// Held to its type, and then there is nothing more to do.
    Checked,
    /// The API server writes it; in a manifest it means nothing.
    Owned,
    /// Accepted with a warning: why it does nothing here.
    Idle(&'static str),
    /// It says where a pod is placed: honoured where that is asked, else as [`Use::Later`].
    Placing(Option<&'static str>),
    /// Kubernetes honours it, Cofferdam not yet. Empty values are harmless, and so is this one,
    /// which is what Kubernetes does where the field is absent.
    Later(Option<&'static str>),
    /// Kubernetes honours it, and on one machine it has no meaning or another way: why, and what to
    /// do. Empty values are harmless.
    Never(&'static str),
    /// Kubernetes has the field and refuses it in manifests: the rule and what to do.
    Forbidden(&'static str),
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

pub(crate) const fn checked(name: &'static str, kind: Type) -> Field {
    Field {
        name,
        kind: Some(kind),
        usage: Use::Checked,
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

/// `why` says why it means nothing here, and what to do.
pub(crate) const fn never(name: &'static str, why: &'static str) -> Field {
    Field {
        name,
        kind: None,
        usage: Use::Never(why),
    }
}

/// `rule` ends a sentence that begins with the field's path.
pub(crate) const fn forbidden(name: &'static str, rule: &'static str) -> Field {
    Field {
        name,
        kind: None,
        usage: Use::Forbidden(rule),
    }
}

pub(crate) const TEXT: Type = Type::Text(Format::Any);
pub(crate) const TEXTS: Type = Type::List(&TEXT);
