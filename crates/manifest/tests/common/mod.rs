//! What the tests share.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cofferdam_manifest::decode;

/// Each manifest with what is told about it.
pub(crate) fn tell(cases: &[(&str, &str)]) -> String {
    cases
        .iter()
        .map(|(name, text)| format!("== {name}\n{}\n\n{}\n", text.trim_end(), outcome(text)))
        .collect()
}

/// The errors of a text, or its warnings and objects.
pub(crate) fn outcome(text: &str) -> String {
    match decode("f.yaml", text) {
        Err(errors) => errors.iter().map(|e| format!("error: {e}\n")).collect(),
        Ok(decoded) => {
            let warnings = decoded.warnings.iter().map(|w| format!("warning: {w}\n"));
            let objects = decoded
                .objects
                .iter()
                .map(|o| format!("{}: {}\n", o.place, o.kind.subject()));
            warnings.chain(objects).collect()
        }
    }
}
