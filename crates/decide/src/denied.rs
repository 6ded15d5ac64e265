//! Refusals, in the envelopes of the API server.

use crate::field::{Errors, go_quote};
use cofferdam_model::pod::Pod;

/// A request that is refused, with the sentence that kubectl would show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// A policy or plugin refuses it (HTTP 403).
    #[error("{resource} {} is forbidden: {reason}", go_quote(.name))]
    Forbidden {
        /// Plural resource name, `pods`.
        resource: &'static str,
        /// The object's name.
        name: String,
        /// Why.
        reason: String,
    },
    /// The object breaks the rules of its kind (HTTP 422).
    #[error("{kind} {} is invalid: {errors}", go_quote(.name))]
    Invalid {
        /// Kind with group, `RuntimeClass.node.k8s.io`.
        kind: &'static str,
        /// The object's name.
        name: String,
        /// What is wrong, one entry a field.
        errors: Errors,
    },
}

impl Denied {
    /// A pod that is refused. The name falls back to the generated name's prefix, then to
    /// `Unknown` (`k8s.io/apiserver/pkg/admission/errors.go`).
    pub(crate) fn pod(pod: &Pod, reason: impl Into<String>) -> Self {
        let generate = pod.metadata.generate_name.as_deref().unwrap_or_default();
        let name = [pod.metadata.name.as_str(), generate, "Unknown"]
            .into_iter()
            .find(|n| !n.is_empty());
        Self::Forbidden {
            resource: "pods",
            name: name.unwrap_or_default().to_string(),
            reason: reason.into(),
        }
    }

    /// `Err` where `errors` has any.
    pub(crate) fn unless_valid(kind: &'static str, name: &str, errors: Errors) -> Result<(), Self> {
        if errors.is_empty() {
            Ok(())
        } else {
            Err(Self::Invalid {
                kind,
                name: name.to_string(),
                errors,
            })
        }
    }

    /// The HTTP status that an API server answers with.
    pub fn code(&self) -> u16 {
        match self {
            Self::Forbidden { .. } => 403,
            Self::Invalid { .. } => 422,
        }
    }
}
