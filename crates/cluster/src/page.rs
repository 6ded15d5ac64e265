//! One page of a list, or one object, as the API server wrote it.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::Listing;

/// The objects of one page.
pub(crate) struct Page {
    /// With `apiVersion` and `kind`, without `metadata.managedFields`.
    pub(crate) items: Vec<Value>,
    /// Where the list goes on.
    pub(crate) next: Option<String>,
}

#[derive(Deserialize)]
struct Wire {
    kind: String,
    #[serde(default)]
    metadata: Metadata,
    items: Option<Vec<Map<String, Value>>>,
}

#[derive(Deserialize, Default)]
struct Metadata {
    #[serde(rename = "continue", default)]
    next: String,
}

/// Reads a page of `listing`; anything else (a proxy's greeting, a list of other things) is not one.
pub(crate) fn read(body: &[u8], listing: &Listing<'_>) -> Result<Page, String> {
    let wire: Wire = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    let kind = listing.kind();
    if wire.kind != format!("{kind}List") {
        return Err(format!("it is not a {kind}List"));
    }
    let complete = |mut item: Map<String, Value>| {
        item.insert("apiVersion".to_owned(), listing.api_version().into());
        item.insert("kind".to_owned(), kind.into());
        trim(&mut item);
        Value::Object(item)
    };
    let items = wire.items.unwrap_or_default().into_iter().map(complete).collect();
    Ok(Page {
        items,
        next: Some(wire.metadata.next).filter(|next| !next.is_empty()),
    })
}

/// Reads one object of `kind`.
pub(crate) fn object(body: &[u8], kind: &str) -> Result<Value, String> {
    let mut object: Map<String, Value> = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    if object.get("kind").and_then(Value::as_str) != Some(kind) {
        return Err(format!("it is not a {kind}"));
    }
    trim(&mut object);
    Ok(Value::Object(object))
}

fn trim(object: &mut Map<String, Value>) {
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.remove("managedFields");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_page() {
        let body = br#"{"kind":"RuntimeClassList","apiVersion":"node.k8s.io/v1","metadata":{"resourceVersion":"1","continue":"x"},
            "items":[{"metadata":{"name":"a","managedFields":[{}]},"handler":"runc"}]}"#;
        let page = read(body, &Listing::RuntimeClasses).unwrap();
        assert_eq!(
            page.items,
            [json!({"metadata": {"name": "a"}, "handler": "runc", "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass"})]
        );
        assert_eq!(page.next.as_deref(), Some("x"));
        let last = read(br#"{"kind":"NodeList","metadata":{"continue":""},"items":null}"#, &Listing::Nodes).unwrap();
        assert_eq!((last.items.len(), last.next), (0, None));
    }

    #[test]
    fn not_a_page() {
        for body in [
            "",
            "{}",
            "[]",
            "<html>",
            r#"{"kind":"Status"}"#,
            r#"{"kind":"PodList","items":[]}"#,
            r#"{"kind":"NodeList","items":[1]}"#,
        ] {
            assert!(read(body.as_bytes(), &Listing::Nodes).is_err(), "{body}");
            assert!(object(body.as_bytes(), "Node").is_err(), "{body}");
        }
        let deep = format!("{{\"kind\":\"NodeList\",\"items\":[{{\"a\":{}", "[".repeat(100_000));
        assert!(read(deep.as_bytes(), &Listing::Nodes).is_err());
    }
}
