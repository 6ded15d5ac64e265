//! OTLP's protobuf form, of the messages what is used here.
//!
//! Field numbers are those of opentelemetry-proto 1.9: `collector/trace/v1/trace_service.proto`, `trace/v1/trace.proto`,
//! `resource/v1/resource.proto` and `common/v1/common.proto`; what a collector answers with an error is `google.rpc.Status`
//! with `google.rpc.RetryInfo` (googleapis, `google/rpc/status.proto` and `error_details.proto`).

use std::time::Duration;

use prost::Message;

use super::{Attributes, Span, Value, flags, kind};

/// `StatusCode`; unset is left out.
const STATUS_ERROR: i32 = 2;

/// `ExportTraceServiceRequest`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub(crate) resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub(crate) attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    pub(crate) scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) spans: Vec<WireSpan>,
}

/// `InstrumentationScope`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Scope {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) version: String,
}

/// `Span`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct WireSpan {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub(crate) name: String,
    #[prost(int32, tag = "6")]
    pub(crate) kind: i32,
    #[prost(fixed64, tag = "7")]
    pub(crate) start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    pub(crate) end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    pub(crate) attributes: Vec<KeyValue>,
    #[prost(uint32, tag = "10")]
    pub(crate) dropped_attributes_count: u32,
    #[prost(message, repeated, tag = "11")]
    pub(crate) events: Vec<WireEvent>,
    #[prost(uint32, tag = "12")]
    pub(crate) dropped_events_count: u32,
    #[prost(message, optional, tag = "15")]
    pub(crate) status: Option<SpanStatus>,
    #[prost(fixed32, tag = "16")]
    pub(crate) flags: u32,
}

/// `Span.Event`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct WireEvent {
    #[prost(fixed64, tag = "1")]
    pub(crate) time_unix_nano: u64,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) attributes: Vec<KeyValue>,
}

/// `Status` of a span.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SpanStatus {
    #[prost(string, tag = "2")]
    pub(crate) message: String,
    #[prost(int32, tag = "3")]
    pub(crate) code: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyValue {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AnyValue {
    #[prost(oneof = "AnyKind", tags = "1, 3")]
    pub(crate) kind: Option<AnyKind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum AnyKind {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Number(i64),
}

/// `ExportTraceServiceResponse`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) partial_success: Option<PartialSuccess>,
}

/// `ExportTracePartialSuccess`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub(crate) rejected_spans: i64,
    #[prost(string, tag = "2")]
    pub(crate) error_message: String,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Any {
    #[prost(string, tag = "1")]
    pub(crate) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    pub(crate) retry_delay: Option<WireDuration>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct WireDuration {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(crate) nanos: i32,
}

/// One export.
pub(crate) fn request(resource: &[(String, String)], version: &str, spans: &[Span]) -> ExportRequest {
    let resource = resource
        .iter()
        .map(|(key, value)| pair(key, AnyKind::Text(value.clone())))
        .collect();
    let scope = Scope {
        name: "cofferdam".to_owned(),
        version: version.to_owned(),
    };
    ExportRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes: resource }),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope),
                spans: spans.iter().map(span).collect(),
            }],
        }],
    }
}

fn span(span: &Span) -> WireSpan {
    let events = span.events.iter().map(|event| WireEvent {
        time_unix_nano: event.at,
        name: event.name.to_owned(),
        attributes: pairs(&event.attributes),
    });
    WireSpan {
        trace_id: span.context.trace.to_vec(),
        span_id: span.context.span.to_vec(),
        parent_span_id: span.parent.map(|id| id.to_vec()).unwrap_or_default(),
        name: span.name.clone(),
        kind: kind(span).into(),
        start_time_unix_nano: span.start,
        end_time_unix_nano: span.end,
        attributes: pairs(&span.attributes),
        dropped_attributes_count: span.dropped_attributes,
        events: events.collect(),
        dropped_events_count: span.dropped_events,
        status: span.failure.as_ref().map(|message| SpanStatus {
            message: message.clone(),
            code: STATUS_ERROR,
        }),
        flags: flags(span),
    }
}

fn pairs(attributes: &Attributes) -> Vec<KeyValue> {
    let of = |value: &Value| match value {
        Value::Text(text) => AnyKind::Text(text.clone()),
        Value::Number(number) => AnyKind::Number(*number),
    };
    attributes.iter().map(|(key, value)| pair(key, of(value))).collect()
}

fn pair(key: &str, value: AnyKind) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { kind: Some(value) }),
    }
}

/// How many spans the collector says that it refused, and why. An answer that cannot be read refuses none.
pub(crate) fn refused(answer: &[u8]) -> (u64, String) {
    let answer = ExportResponse::decode(answer).unwrap_or_default();
    let partial = answer.partial_success.unwrap_or_default();
    (u64::try_from(partial.rejected_spans).unwrap_or(0), partial.error_message)
}

/// What a collector says of an error: its sentence, and when it wants to be asked again, zero if it does not say when.
pub(crate) fn error(status: &[u8]) -> (String, Option<Duration>) {
    let Ok(status) = RpcStatus::decode(status) else {
        return (String::new(), None);
    };
    let retry = status.details.iter().find(|any| any.type_url.ends_with("/google.rpc.RetryInfo"));
    let delay = retry.and_then(|any| RetryInfo::decode(any.value.as_slice()).ok());
    let delay = delay.map(|info| {
        let delay = info.retry_delay.unwrap_or_default();
        let (seconds, nanos) = (u64::try_from(delay.seconds), u32::try_from(delay.nanos));
        Duration::from_secs(seconds.unwrap_or(0)).saturating_add(Duration::from_nanos(nanos.unwrap_or(0).into()))
    });
    (status.message, delay)
}
