//! OTLP's JSON form.
//!
//! Sources: OTLP specification 1.x, "JSON Protobuf Encoding" (ids in hexadecimal, 64-bit numbers as text, enumerations as
//! numbers); `opentelemetry/proto/trace/v1/trace.proto` for names and flags.

use serde_json::{Value as Json, json};

use super::context::to_hex;
use super::{Attributes, Span, Value, flags, kind};

/// `StatusCode`; unset is left out.
const STATUS_ERROR: u8 = 2;

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
    let mut out = json!({
        "traceId": to_hex(&span.context.trace),
        "spanId": to_hex(&span.context.span),
        "name": span.name,
        "kind": kind(span),
        "startTimeUnixNano": span.start.to_string(),
        "endTimeUnixNano": span.end.to_string(),
        "attributes": attributes(&span.attributes),
        "droppedAttributesCount": span.dropped_attributes,
        "flags": flags(span),
    });
    if let Some(parent) = span.parent {
        out["parentSpanId"] = to_hex(&parent).into();
    }
    if !span.events.is_empty() {
        let events = span.events.iter().map(|event| {
            json!({
                "timeUnixNano": event.at.to_string(),
                "name": event.name,
                "attributes": attributes(&event.attributes),
            })
        });
        out["events"] = events.collect();
        out["droppedEventsCount"] = span.dropped_events.into();
    }
    if let Some(message) = &span.failure {
        out["status"] = json!({"code": STATUS_ERROR, "message": message});
    }
    out
}

fn attributes(attributes: &Attributes) -> Json {
    let one = |(key, value): &(String, Value)| match value {
        Value::Text(value) => text(key, value),
        Value::Number(value) => json!({"key": key, "value": {"intValue": value.to_string()}}),
    };
    attributes.iter().map(one).collect()
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

/// What a collector says of an error (`google.rpc.Status`).
pub(crate) fn error(answer: &[u8]) -> String {
    let answer: Json = serde_json::from_slice(answer).unwrap_or_default();
    answer["message"].as_str().unwrap_or_default().to_owned()
}
