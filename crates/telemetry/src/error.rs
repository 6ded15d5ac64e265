//! What can be wrong with the settings.

use std::net::SocketAddr;

/// Why telemetry did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address of the metrics cannot be had.
    #[error("metrics and health cannot be served on {address}: {source}; free the address or choose another")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The endpoint of the traces is no URL that can be used.
    #[error("{from} is {value:?}, which is no http:// or https:// URL of a host without credentials; write for example {example}")]
    Endpoint {
        /// Option or variable that it came from.
        from: &'static str,
        /// Its value.
        value: String,
        /// One that would do.
        example: &'static str,
    },
    /// The endpoint has a path, which gRPC has not.
    #[error("{from} is {value:?}, but gRPC has no paths; write http://HOST:PORT, or choose the protocol http/protobuf")]
    Path {
        /// Option or variable that it came from.
        from: &'static str,
        /// Its value.
        value: String,
    },
    /// The protocol is none that OpenTelemetry names.
    #[error("the OTLP protocol is {0:?}; write grpc, http/protobuf or http/json")]
    Protocol(String),
    /// The sampling ratio is no ratio.
    #[error("the sampling ratio is {0}; it must lie between 0 and 1")]
    Ratio(f64),
    /// The certificates that the collector is checked by cannot be used.
    #[error("the collector at {endpoint} cannot be checked over TLS: {why}; install certificates or use http:// on loopback")]
    Tls {
        /// The endpoint.
        endpoint: String,
        /// What is wrong.
        why: String,
    },
    /// A thread could not be started.
    #[error("the thread {name:?} could not be started: {source}")]
    Thread {
        /// Its name.
        name: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
}
