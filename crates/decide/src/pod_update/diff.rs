//! What differs between two objects, a line a side and field.

use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Lines `- field: before` and `+ field: after`, in the order of the fields' names.
pub(super) fn of(old: &Value, new: &Value) -> String {
    let mut out = String::new();
    walk(Some(old), Some(new), "", &mut out);
    out
}

fn walk(old: Option<&Value>, new: Option<&Value>, path: &str, out: &mut String) {
    match (old, new) {
        (Some(old), Some(new)) if old == new => {}
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                walk(old.get(key), new.get(key), &path, out);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            for at in 0..old.len().max(new.len()) {
                walk(old.get(at), new.get(at), &format!("{path}[{at}]"), out);
            }
        }
        (old, new) => {
            for (sign, value) in [('-', old), ('+', new)] {
                if let Some(value) = value {
                    // Writing to a String cannot fail.
                    let _ = writeln!(out, "{sign} {path}: {value}");
                }
            }
        }
    }
}
