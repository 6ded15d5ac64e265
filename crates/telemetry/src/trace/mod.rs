//! Spans: their identity, their forms on the wire, their way to the collector.

pub(crate) mod context;
pub(crate) mod export;
mod grpc;
pub(crate) mod json;
pub(crate) mod proto;
pub(crate) mod protocol;
mod send;
pub(crate) mod settings;
#[cfg(test)]
mod tests;
mod tls;

use crate::Code;
use context::Context;

/// Names and values.
pub(crate) type Attributes = Vec<(String, Value)>;

/// A span that ended. Times are nanoseconds since 1970.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) context: Context,
    pub(crate) parent: Option<[u8; 8]>,
    /// Whether the parent is another process's.
    pub(crate) remote: bool,
    /// Whether this is a call that was served, rather than a stage of one or work of the daemon's own.
    pub(crate) server: bool,
    pub(crate) name: String,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) attributes: Attributes,
    pub(crate) dropped_attributes: u32,
    pub(crate) events: Vec<Event>,
    pub(crate) dropped_events: u32,
    /// Set where the server is at fault.
    pub(crate) failure: Option<String>,
}

/// Something that happened during a span.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// Nanoseconds since 1970.
    pub(crate) at: u64,
    pub(crate) name: &'static str,
    pub(crate) attributes: Attributes,
}

/// Value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Number(i64),
}

/// `SpanKind`: internal, or server.
pub(crate) fn kind(span: &Span) -> u8 {
    if span.server { 2 } else { 1 }
}

/// `SpanFlags`: the trace flags, that it is known if the parent is remote, and if it is.
pub(crate) fn flags(span: &Span) -> u32 {
    let remote = if span.remote { 0x200 } else { 0 };
    u32::from(span.context.sampled) | 0x100 | remote
}

/// The full name of a verb's service: image verbs have one of their own (CRI v1, `api.proto`).
pub(crate) fn service(verb: &str) -> &'static str {
    if verb.contains("Image") {
        "runtime.v1.ImageService"
    } else {
        "runtime.v1.RuntimeService"
    }
}

/// The attributes of a served call (OpenTelemetry semantic conventions, "gRPC").
pub(crate) fn rpc_attributes(verb: &str, code: Code) -> Attributes {
    vec![
        ("rpc.system".to_owned(), Value::Text("grpc".to_owned())),
        ("rpc.service".to_owned(), Value::Text(service(verb).to_owned())),
        ("rpc.method".to_owned(), Value::Text(verb.to_owned())),
        ("rpc.grpc.status_code".to_owned(), Value::Number(code.number().into())),
    ]
}
