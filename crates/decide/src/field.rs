//! Field errors, worded as `k8s.io/apimachinery/pkg/util/validation/field` words them.

use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;

/// Where a field is: `spec.containers[0].name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// The root of a path.
    pub fn new(name: &str) -> Self {
        Self(name.to_string())
    }

    /// A field of this one.
    pub fn child(&self, name: &str) -> Self {
        Self(format!("{}.{name}", self.0))
    }

    /// An entry of this list.
    pub fn index(&self, at: usize) -> Self {
        Self(format!("{}[{at}]", self.0))
    }

    /// An entry of this map.
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The value that an error shows.
#[derive(Debug, Clone)]
pub enum Value {
    /// Shown in quotes.
    Text(String),
    /// Shown as it is: a number, or JSON.
    Raw(String),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_string())
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Raw(number.to_string())
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Raw(number.to_string())
    }
}

impl From<serde_json::Value> for Value {
    fn from(json: serde_json::Value) -> Self {
        Self::Raw(json.to_string())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(&go_quote(text)),
            Self::Raw(text) => f.write_str(text),
        }
    }
}

/// One thing that is wrong, at the field that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    field: String,
    body: String,
}

impl FieldError {
    /// Path of the field as messages show it: `spec.containers[0].resources.limits[cpu]`. Some of
    /// upstream's paths name no field of the object as it is written (`overhead.limits[cpu]`).
    pub fn field(&self) -> &str {
        &self.field
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body)
    }
}

/// What an author should know of, at the field that it is about. Shown as `field: text`, as an API
/// server's warnings are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Path of the field.
    pub field: String,
    /// The sentence, without the path.
    pub text: String,
}

impl Warning {
    pub(crate) fn new(field: impl fmt::Display, text: impl Into<String>) -> Self {
        Self {
            field: field.to_string(),
            text: text.into(),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.text)
    }
}

/// What is wrong with an object, in the order found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Errors(Vec<FieldError>);

impl Errors {
    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The errors, each with its field; the same one can stand twice.
    pub fn iter(&self) -> std::slice::Iter<'_, FieldError> {
        self.0.iter()
    }

    pub(crate) fn append(&mut self, mut other: Errors) {
        self.0.append(&mut other.0);
    }

    fn add(&mut self, path: &Path, mut body: String, detail: &str) {
        if !detail.is_empty() {
            body = format!("{body}: {detail}");
        }
        self.0.push(FieldError {
            field: path.to_string(),
            body,
        });
    }

    pub(crate) fn required(&mut self, path: &Path, detail: &str) {
        self.add(path, "Required value".into(), detail);
    }

    pub(crate) fn forbidden(&mut self, path: &Path, detail: &str) {
        self.add(path, "Forbidden".into(), detail);
    }

    pub(crate) fn too_long(&mut self, path: &Path, most: usize) {
        self.add(path, "Too long".into(), &format!("may not be more than {most} bytes"));
    }

    pub(crate) fn invalid(&mut self, path: &Path, value: impl Into<Value>, detail: &str) {
        self.add(path, format!("Invalid value: {}", value.into()), detail);
    }

    /// One `Invalid value` for each of `details`.
    pub(crate) fn invalid_each(&mut self, path: &Path, value: &str, details: Vec<String>) {
        for detail in details {
            self.invalid(path, value, &detail);
        }
    }

    pub(crate) fn duplicate(&mut self, path: &Path, value: impl Into<Value>) {
        self.add(path, format!("Duplicate value: {}", value.into()), "");
    }

    pub(crate) fn not_found(&mut self, path: &Path, value: impl Into<Value>) {
        self.add(path, format!("Not found: {}", value.into()), "");
    }

    pub(crate) fn not_supported(&mut self, path: &Path, value: &str, supported: &[&str]) {
        let list: Vec<String> = supported.iter().map(|s| go_quote(s)).collect();
        self.add(
            path,
            format!("Unsupported value: {}", go_quote(value)),
            &format!("supported values: {}", list.join(", ")),
        );
    }
}

impl<'a> IntoIterator for &'a Errors {
    type Item = &'a FieldError;
    type IntoIter = std::slice::Iter<'a, FieldError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let messages: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&aggregate(&messages))
    }
}

/// Several sentences as one: each once, in brackets where there is more than one
/// (`k8s.io/apimachinery/pkg/util/errors`).
pub(crate) fn aggregate(messages: &[String]) -> String {
    let mut seen = BTreeSet::new();
    let once: Vec<&str> = messages.iter().map(String::as_str).filter(|m| seen.insert(*m)).collect();
    match once.as_slice() {
        [one] => (*one).to_string(),
        many => format!("[{}]", many.join(", ")),
    }
}

/// Text in quotes, as Go's `%q` prints it.
pub(crate) fn go_quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_errors_stand_in_brackets_and_each_once() {
        let mut errors = Errors::default();
        let path = Path::new("spec").child("containers").index(0).child("limits").key("cpu");
        errors.required(&path, "");
        assert_eq!(errors.to_string(), "spec.containers[0].limits[cpu]: Required value");
        errors.required(&path, "");
        assert_eq!(errors.to_string(), "spec.containers[0].limits[cpu]: Required value");
        errors.invalid(&Path::new("x"), 7_i64, "why");
        assert_eq!(
            errors.to_string(),
            "[spec.containers[0].limits[cpu]: Required value, x: Invalid value: 7: why]"
        );
        let fields: Vec<&str> = errors.iter().map(FieldError::field).collect();
        assert_eq!(fields, ["spec.containers[0].limits[cpu]", "spec.containers[0].limits[cpu]", "x"]);
    }

    #[test]
    fn quotes_as_go_does() {
        assert_eq!(go_quote("a\"b\\c\n\u{1}é'"), r#""a\"b\\c\n\x01é'""#);
    }
}
