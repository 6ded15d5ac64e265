//! In which form spans travel, and to where an endpoint sends them.
//!
//! Source: OpenTelemetry "OpenTelemetry Protocol Exporter", "Configuration Options", "Endpoint URLs for OTLP/HTTP" and
//! "Specify Protocol".

use crate::Error;

/// In which form spans travel to a collector, by the names of `OTEL_EXPORTER_OTLP_PROTOCOL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// `grpc`: protobuf over gRPC, usually port 4317.
    Grpc,
    /// `http/protobuf`: protobuf in an HTTP POST, usually port 4318. The specification's default.
    #[default]
    HttpProtobuf,
    /// `http/json`: JSON in an HTTP POST, to the same port.
    HttpJson,
}

impl Protocol {
    /// The name: `grpc`, `http/protobuf` or `http/json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::HttpProtobuf => "http/protobuf",
            Self::HttpJson => "http/json",
        }
    }

    /// The endpoint where none is named.
    pub(crate) fn default_endpoint(self) -> &'static str {
        match self {
            Self::Grpc => "http://localhost:4317",
            Self::HttpProtobuf | Self::HttpJson => "http://localhost:4318",
        }
    }
}

impl std::str::FromStr for Protocol {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let known = [Self::Grpc, Self::HttpProtobuf, Self::HttpJson];
        let found = known.into_iter().find(|protocol| protocol.name() == name);
        found.ok_or_else(|| Error::Protocol(name.to_owned()))
    }
}

/// The URL that spans are sent to. Over HTTP a base gets `v1/traces`, and what is no base is taken as it is; gRPC has no
/// paths, so one is refused.
pub(crate) fn target(protocol: Protocol, from: &'static str, value: &str, is_base: bool) -> Result<String, Error> {
    let wrong = || Error::Endpoint {
        from,
        value: masked(value),
        example: protocol.default_endpoint(),
    };
    let uri = uri(value).ok_or_else(wrong)?;
    match protocol {
        Protocol::Grpc if uri.path_and_query().is_some_and(|path| path.as_str() != "/") => Err(Error::Path {
            from,
            value: masked(value),
        }),
        Protocol::Grpc => Ok(value.trim_end_matches('/').to_owned()),
        _ if is_base => Ok(format!("{}/v1/traces", value.trim_end_matches('/'))),
        _ => Ok(value.to_owned()),
    }
}

fn uri(value: &str) -> Option<http::Uri> {
    let uri: http::Uri = value.parse().ok()?;
    // Credentials in a URL would not be sent, and would stand in the log.
    let has_credentials = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    let is_one = matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty());
    (is_one && !has_credentials).then_some(uri)
}

/// A value for a message, without what may be a password.
fn masked(value: &str) -> String {
    value
        .rsplit_once('@')
        .map_or_else(|| value.to_owned(), |(_, rest)| format!("...@{rest}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn an_endpoint_becomes_a_target_by_its_protocol() {
        // (protocol, value, is a base, target)
        let table = [
            ("http/protobuf", "http://c:4318", true, Some("http://c:4318/v1/traces")),
            ("http/protobuf", "http://c:4318/", true, Some("http://c:4318/v1/traces")),
            ("http/json", "http://c/x/", true, Some("http://c/x/v1/traces")),
            ("http/json", "https://c/as/it/is", false, Some("https://c/as/it/is")),
            ("http/protobuf", "http://c:4318", false, Some("http://c:4318")),
            ("grpc", "http://c:4317", true, Some("http://c:4317")),
            ("grpc", "https://c/", false, Some("https://c")),
            ("grpc", "http://[::1]:4317", true, Some("http://[::1]:4317")),
            ("grpc", "http://c:4317/v1/traces", false, None),
            ("grpc", "http://c:4317?x=1", true, None),
            ("grpc", "c:4317", true, None),
            ("grpc", "unix:///run/c.sock", true, None),
        ];
        for (protocol, value, is_base, wanted) in table {
            let found = target(protocol.parse().unwrap(), "it", value, is_base);
            assert_eq!(found.as_deref().ok(), wanted, "{protocol} {value}: {found:?}");
        }
        let error = target(Protocol::Grpc, "it", "http://c:4317/x", true).unwrap_err().to_string();
        assert!(error.contains("gRPC has no paths") && error.contains("http/protobuf"), "{error}");
        let error = target(Protocol::Grpc, "it", "c:4317", true).unwrap_err().to_string();
        assert!(error.contains("http://localhost:4317"), "{error}");
    }

    #[test]
    fn names_are_the_specifications() {
        for name in ["grpc", "http/protobuf", "http/json"] {
            assert_eq!(name.parse::<Protocol>().unwrap().name(), name);
        }
        for name in ["", "http", "GRPC", "http/thrift"] {
            assert!(
                name.parse::<Protocol>().unwrap_err().to_string().contains("http/protobuf"),
                "{name}"
            );
        }
        assert_eq!(Protocol::default(), Protocol::HttpProtobuf);
    }
}
