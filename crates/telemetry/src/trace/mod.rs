//! Spans: their identity, their form on the wire, their way to the collector.

pub(crate) mod context;
pub(crate) mod export;
pub(crate) mod otlp;
mod send;
pub(crate) mod settings;
#[cfg(test)]
mod tests;

use crate::Code;
use context::Context;

/// A span that ended. Times are nanoseconds since 1970.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) context: Context,
    pub(crate) parent: Option<[u8; 8]>,
    /// Whether the parent is another process's.
    pub(crate) remote: bool,
    /// Whether this is a call that was served, rather than a stage of one.
    pub(crate) server: bool,
    pub(crate) name: String,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) attributes: Vec<(String, Value)>,
    pub(crate) dropped_attributes: u32,
    /// Set where the server is at fault.
    pub(crate) failure: Option<String>,
}

/// Value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Number(i64),
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
pub(crate) fn rpc_attributes(verb: &str, code: Code) -> Vec<(String, Value)> {
    vec![
        ("rpc.system".to_owned(), Value::Text("grpc".to_owned())),
        ("rpc.service".to_owned(), Value::Text(service(verb).to_owned())),
        ("rpc.method".to_owned(), Value::Text(verb.to_owned())),
        ("rpc.grpc.status_code".to_owned(), Value::Number(code.number().into())),
    ]
}
