//! Refusals, in the envelopes of the API server.

use crate::field::{Errors, aggregate, go_quote};
use cofferdam_model::pod::Pod;
use serde::Serialize;
use std::fmt;

/// A request that is refused, with the sentence that kubectl would show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// A policy or plugin refuses it (HTTP 403).
    #[error("{resource} {} is forbidden: {reasons}", go_quote(.name))]
    Forbidden {
        /// Plural resource name, `pods`.
        resource: &'static str,
        /// The object's name.
        name: String,
        /// Why.
        reasons: Reasons,
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
    /// Something that it stands in does not exist (HTTP 404).
    #[error("{resource} {} not found", go_quote(.name))]
    NotFound {
        /// Plural resource name, `namespaces`.
        resource: &'static str,
        /// The name that was looked for.
        name: String,
        /// Path of the field that names it.
        field: String,
    },
}

/// Why a plugin refuses an object, at the field that it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// Path of the field, `spec.nodeSelector[disk]`. Plugins' messages do not show it.
    pub field: String,
    /// The sentence.
    pub text: String,
}

impl Reason {
    pub(crate) fn new(field: impl fmt::Display, text: impl Into<String>) -> Self {
        Self {
            field: field.to_string(),
            text: text.into(),
        }
    }
}

/// The reasons of one refusal, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reasons(pub Vec<Reason>);

impl fmt::Display for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(|r| r.text.clone()).collect();
        f.write_str(&aggregate(&texts))
    }
}

impl Denied {
    /// A pod that is refused. The name falls back to the generated name's prefix, then to
    /// `Unknown` (`k8s.io/apiserver/pkg/admission/errors.go`).
    pub(crate) fn pod(pod: &Pod, reasons: Vec<Reason>) -> Self {
        let generate = pod.metadata.generate_name.as_deref().unwrap_or_default();
        let name = [pod.metadata.name.as_str(), generate, "Unknown"]
            .into_iter()
            .find(|n| !n.is_empty());
        Self::Forbidden {
            resource: "pods",
            name: name.unwrap_or_default().to_string(),
            reasons: Reasons(reasons),
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
            Self::NotFound { .. } => 404,
            Self::Invalid { .. } => 422,
        }
    }

    /// What is wrong, piece by piece, each with the path of the field that it is about and the
    /// sentence without the envelope. What is wrong twice in the same words is told once.
    pub fn causes(&self) -> Vec<Reason> {
        let mut causes: Vec<Reason> = match self {
            Self::Forbidden { reasons, .. } => reasons.0.clone(),
            Self::Invalid { errors, .. } => errors.iter().map(|e| Reason::new(e.field(), e.to_string())).collect(),
            Self::NotFound { field, .. } => vec![Reason::new(field, self.to_string())],
        };
        let mut seen = std::collections::BTreeSet::new();
        causes.retain(|cause| seen.insert((cause.field.clone(), cause.text.clone())));
        causes
    }
}
