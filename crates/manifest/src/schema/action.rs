//! Probes and hooks.

use super::{Shape, TEXT, TEXTS, Type, may, must, never};
use crate::format::Format;

/// What a probe does, of which one is set.
pub(crate) const PROBES: [&str; 4] = ["exec", "httpGet", "tcpSocket", "grpc"];
const COUNT: Type = Type::Int(0, i32::MAX as i64);

pub(crate) const PROBE: Type = Type::Object(&Shape {
    fields: &[
        may("exec", EXEC),
        may("httpGet", HTTP_GET),
        may("tcpSocket", TCP_SOCKET),
        may("grpc", GRPC),
        may("initialDelaySeconds", COUNT),
        may("timeoutSeconds", COUNT),
        may("periodSeconds", COUNT),
        may("successThreshold", COUNT),
        may("failureThreshold", COUNT),
        may("terminationGracePeriodSeconds", Type::Int(1, i64::MAX)),
    ],
});

pub(crate) const LIFECYCLE: Type = Type::Object(&Shape {
    fields: &[
        may("postStart", LIFECYCLE_HANDLER),
        may("preStop", LIFECYCLE_HANDLER),
        never(
            "stopSignal",
            "Kubernetes 1.34 drops it unless a gate is set; build the image with STOPSIGNAL, or send the signal in a preStop hook",
        ),
    ],
});

/// What a hook does, of which one is set.
pub(crate) const HOOKS: [&str; 3] = ["exec", "httpGet", "sleep"];
const LIFECYCLE_HANDLER: Type = Type::Object(&Shape {
    fields: &[
        may("exec", EXEC),
        may("httpGet", HTTP_GET),
        may(
            "sleep",
            Type::Object(&Shape {
                fields: &[must("seconds", Type::Int(0, i64::MAX))],
            }),
        ),
        never("tcpSocket", "Kubernetes itself fails such a hook; use exec or httpGet"),
    ],
});

const EXEC: Type = Type::Object(&Shape {
    fields: &[must("command", TEXTS)],
});

const HTTP_GET: Type = Type::Object(&Shape {
    fields: &[
        may("path", TEXT),
        must("port", Type::Port),
        may("host", TEXT),
        may("scheme", Type::OneOf(&["HTTP", "HTTPS"])),
        may("httpHeaders", Type::List(&HTTP_HEADER)),
    ],
});
static HTTP_HEADER: Type = Type::Object(&Shape {
    fields: &[must("name", Type::Text(Format::HeaderName)), may("value", TEXT)],
});

const TCP_SOCKET: Type = Type::Object(&Shape {
    fields: &[must("port", Type::Port), may("host", TEXT)],
});

const GRPC: Type = Type::Object(&Shape {
    fields: &[must("port", Type::Int(1, 65535)), may("service", TEXT)],
});
