//! Text that is not YAML.

use super::{Fail, Mark};
use crate::error::Problem;
use serde_saphyr::granit_parser::{self, ScanError};

/// A parser's error, and whether a lost line explains it.
pub(super) fn of(error: &ScanError, text: &str) -> Fail {
    use granit_parser::ErrorKind as K;
    let at = Mark::from(*error.marker());
    if matches!(error.kind(), K::RecursionLimitExceeded) {
        return (at, Problem::TooDeep);
    }
    if matches!(
        error.kind(),
        K::MappingValueNotAllowed | K::InvalidColonPlacement | K::SimpleKeyExpected
    ) && let Some(above) = value_above(text, at.line as usize)
    {
        return (at, Problem::LostLine { above });
    }
    let what = match error.kind() {
        K::ExpectedDocumentStart => "a new document must begin with a line `---`".to_owned(),
        K::UnknownAnchor => "this alias has no anchor before it".to_owned(),
        K::TabInBlockIndentation => "a tab cannot indent; use spaces".to_owned(),
        kind => kind.to_string(),
    };
    (at, Problem::Syntax(what))
}

/// The line above `line` where it is a `key: value` that `line` is indented below.
fn value_above(text: &str, line: usize) -> Option<String> {
    let mut above = text.lines().skip(line.checked_sub(2)?);
    let (above, here) = (above.next()?, above.next()?);
    let indent = |l: &str| l.len() - l.trim_start().len();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./ ".contains(&b);
    let (key, value) = above.trim_start().split_once(": ")?;
    let is_value = !value.trim().is_empty() && value.bytes().chain(key.bytes()).all(plain) && above.len() <= 80;
    (is_value && indent(here) > indent(above)).then(|| above.trim().to_owned())
}
