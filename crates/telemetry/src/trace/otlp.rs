//! OTLP's JSON form.
//!
//! Sources: OTLP specification 1.x, "JSON Protobuf Encoding" (ids in hexadecimal, 64-bit numbers as text, enumerations as
//! numbers); `opentelemetry/proto/trace/v1/trace.proto` for names and flags.

use serde_json::{Value as Json, json};

use super::context::to_hex;
use super::{Span, Value};

/// `SpanKind`.
const INTERNAL: u8 = 1;
const SERVER: u8 = 2;
/// `StatusCode`; unset is left out.
const STATUS_ERROR: u8 = 2;
/// `SpanFlags`: whether it is known if the parent is remote, and if it is.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// The body of one export.
pub(crate) fn body(resource: &[(String, String)], version: &str, spans: &[Span]) -> String {
    let resource: Vec<Json> = resource.iter().map(|(key, value)| text(key, value)).collect();
    let spans: Vec<Json> = spans.iter().map(span).collect();
    json!({"resourceSpans": [{
        "resource": {"attributes": resource},
        "scopeSpans": [{"scope": {"name": "cofferdam", "version": version}, "spans": spans}],
    }]})
    .to_string()
}

fn span(span: &Span) -> Json {
    let attributes: Vec<Json> = span.attributes.iter().map(|(key, value)| attribute(key, value)).collect();
    let remote = if span.remote { IS_REMOTE } else { 0 };
    let mut out = json!({
        "traceId": to_hex(&span.context.trace),
        "spanId": to_hex(&span.context.span),
        "name": span.name,
        "kind": if span.server { SERVER } else { INTERNAL },
        "startTimeUnixNano": span.start.to_string(),
        "endTimeUnixNano": span.end.to_string(),
        "attributes": attributes,
        "droppedAttributesCount": span.dropped_attributes,
        "flags": u32::from(span.context.sampled) | HAS_IS_REMOTE | remote,
    });
    if let Some(parent) = span.parent {
        out["parentSpanId"] = to_hex(&parent).into();
    }
    if let Some(message) = &span.failure {
        out["status"] = json!({"code": STATUS_ERROR, "message": message});
    }
    out
}

fn attribute(key: &str, value: &Value) -> Json {
    match value {
        Value::Text(value) => text(key, value),
        Value::Number(value) => json!({"key": key, "value": {"intValue": value.to_string()}}),
    }
}

fn text(key: &str, value: &str) -> Json {
    json!({"key": key, "value": {"stringValue": value}})
}

/// How many spans the collector says that it refused (`ExportTracePartialSuccess`), and why.
pub(crate) fn refused(answer: &[u8]) -> (u64, String) {
    let answer: Json = serde_json::from_slice(answer).unwrap_or_default();
    let partial = &answer["partialSuccess"];
    let count = &partial["rejectedSpans"];
    let count = count.as_u64().or_else(|| count.as_str()?.parse().ok()).unwrap_or(0);
    (count, partial["errorMessage"].as_str().unwrap_or_default().to_owned())
}
