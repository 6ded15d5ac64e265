//! How a process's end is told to its client: the error stream's text, old and new.

use serde_json::{Value, json};

/// How an exec or attach ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Well, or without a code to tell.
    Success,
    /// The command ended with this code, not 0.
    ExitCode(i32),
    /// It could not be run, or its streams broke; the sentence.
    Failure(String),
}

impl Outcome {
    /// A sentence of upstream's `errors.NewInternalError` and `ServeExec`.
    fn message(&self) -> Option<String> {
        match self {
            Self::Success => None,
            Self::ExitCode(code) => Some(format!("command terminated with non-zero exit code: exit status {code}")),
            Self::Failure(why) => Some(format!("Internal error occurred: {why}")),
        }
    }

    /// What goes over the error stream: from v4 on a `metav1.Status`, before it the message of a failure.
    pub(crate) fn text(&self, json: bool) -> Option<String> {
        if json { Some(self.status().to_string()) } else { self.message() }
    }

    fn status(&self) -> Value {
        match self {
            Self::Success => json!({"metadata": {}, "status": "Success"}),
            Self::ExitCode(code) => json!({
                "metadata": {},
                "status": "Failure",
                "message": self.message(),
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            Self::Failure(why) => json!({
                "metadata": {},
                "status": "Failure",
                "message": self.message(),
                "reason": "InternalError",
                "details": {"causes": [{"message": why}]},
                "code": 500,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn texts_are_what_clients_parse() {
        let rows = [
            (Outcome::Success, None, r#"{"metadata":{},"status":"Success"}"#),
            (
                Outcome::ExitCode(3),
                Some("command terminated with non-zero exit code: exit status 3"),
                r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: exit status 3","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#,
            ),
            (
                Outcome::Failure("no".into()),
                Some("Internal error occurred: no"),
                r#"{"metadata":{},"status":"Failure","message":"Internal error occurred: no","reason":"InternalError","details":{"causes":[{"message":"no"}]},"code":500}"#,
            ),
        ];
        for (outcome, old, new) in rows {
            assert_eq!(outcome.text(false).as_deref(), old);
            assert_eq!(outcome.text(true).as_deref(), Some(new));
        }
    }
}
