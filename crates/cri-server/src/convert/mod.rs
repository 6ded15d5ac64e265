//! Wire to model, once, at the door, and back. What is asked for and cannot be given is an error that
//! names the field; nothing is passed over.

pub(crate) mod container;
pub(crate) mod filter;
#[cfg(test)]
mod hostile;
pub(crate) mod image;
pub(crate) mod mount;
pub(crate) mod namespace;
pub(crate) mod resources;
pub(crate) mod sandbox;
pub(crate) mod security;
pub(crate) mod signal;
pub(crate) mod status;
pub(crate) mod usage;

/// What is wrong with a request: one sentence that begins with the field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong(pub(crate) String);

impl Wrong {
    /// `field` cannot be what it is, and why.
    pub(crate) fn new(field: &str, why: impl std::fmt::Display) -> Self {
        Self(format!("{field}: {why}"))
    }
}

impl From<Wrong> for tonic::Status {
    fn from(wrong: Wrong) -> Self {
        Self::invalid_argument(wrong.0)
    }
}

/// Result of a conversion.
pub(crate) type Result<T> = std::result::Result<T, Wrong>;

/// An error unless `given` is nothing: for what this runtime does not have.
pub(crate) fn refuse(given: bool, field: &str, why: &str) -> Result<()> {
    if given { Err(Wrong::new(field, why)) } else { Ok(()) }
}
