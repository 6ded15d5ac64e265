//! Lenient reading of JSON.

use serde_json::Value;

/// Longest name that is taken out of an object, bytes.
const MAX_NAME: usize = 1024;

/// A short text; empty for anything else.
pub(super) fn text(value: &Value) -> String {
    clip(value, MAX_NAME).to_owned()
}

/// A text cut at `max` bytes; empty for anything else.
pub(super) fn clip(value: &Value, max: usize) -> &str {
    let text = value.as_str().unwrap_or_default();
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// What an array or a `List` object holds; `None` for null and anything else.
pub(super) fn items(list: &Value, max: usize) -> Option<Vec<&Value>> {
    let array = list.as_array().or_else(|| list["items"].as_array())?;
    Some(array.iter().take(max).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn anything_is_read() {
        assert_eq!(text(&json!("añ")), "añ");
        assert_eq!(clip(&json!("añ"), 2), "a");
        assert_eq!(text(&json!(5)), "");
        assert_eq!(items(&json!({"items": [1, 2]}), 1).map(|i| i.len()), Some(1));
        assert_eq!(items(&json!([]), 1).map(|i| i.len()), Some(0));
        assert_eq!(items(&Value::Null, 1), None);
        assert_eq!(items(&json!("x"), 1), None);
    }
}
