//! Where spans go: the daemon's options first, then OpenTelemetry's environment variables.
//!
//! Sources: OpenTelemetry "Environment Variable Specification" and "OpenTelemetry Protocol Exporter". An option that is
//! wrong stops the start; a variable that is wrong is told and otherwise passed over, as the specification asks.

use std::time::Duration;

use super::protocol::{Protocol, target};
use crate::Error;

/// How to look a variable up; empty counts as unset, as the specification says.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Everything that the exporter is told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    pub(crate) protocol: Protocol,
    /// Full URL of the POST; for gRPC scheme, host and port.
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    /// Attributes of the resource, `service.name` first.
    pub(crate) resource: Vec<(String, String)>,
    /// PEM file with the certificates that the collector is checked by, in place of the system's.
    pub(crate) certificate: Option<String>,
    /// Whether a parent's decision is followed.
    pub(crate) parent_based: bool,
    /// Part of the traces without a parent that are kept, 0 to 1.
    pub(crate) ratio: f64,
    /// Bound of one export.
    pub(crate) timeout: Duration,
    /// A batch leaves after so long, full or not.
    pub(crate) interval: Duration,
    /// Most spans that wait.
    pub(crate) queue: usize,
    /// Most spans in one export.
    pub(crate) batch: usize,
}

/// The settings, or `None` where no spans are wanted; beside them what is to be told of the environment.
pub(crate) fn resolve(
    endpoint: Option<&str>,
    protocol: Option<Protocol>,
    ratio: Option<f64>,
    environment: Environment<'_>,
) -> Result<(Option<Settings>, Vec<String>), Error> {
    let mut reader = Reader {
        environment,
        complaints: vec![],
    };
    if let Some(ratio) = ratio
        && !(0.0..=1.0).contains(&ratio)
    {
        return Err(Error::Ratio(ratio));
    }
    let is_told = protocol.is_some();
    let protocol = protocol.unwrap_or_else(|| reader.protocol());
    let Some(url) = reader.url(endpoint, protocol)? else {
        if is_told && reader.complaints.is_empty() {
            reader.complain(format!(
                "the OTLP protocol is {}, but no endpoint is named; no spans are exported",
                protocol.name()
            ));
        }
        return Ok((None, reader.complaints));
    };
    if reader.is_off() {
        return Ok((None, reader.complaints));
    }
    let (parent_based, from_environment) = reader.sampler();
    let settings = Settings {
        headers: reader.headers(),
        resource: reader.resource(),
        certificate: reader.of_traces("CERTIFICATE"),
        parent_based,
        ratio: ratio.unwrap_or(from_environment),
        timeout: Duration::from_millis(reader.number_of_traces("TIMEOUT", 10_000, 300_000)),
        interval: Duration::from_millis(reader.number("OTEL_BSP_SCHEDULE_DELAY", 5000, 600_000)),
        queue: reader.number("OTEL_BSP_MAX_QUEUE_SIZE", 2048, 65_536) as usize,
        batch: reader.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, 8192) as usize,
        protocol,
        url,
    };
    let batch = settings.batch.min(settings.queue);
    Ok((Some(Settings { batch, ..settings }), reader.complaints))
}

struct Reader<'a> {
    environment: Environment<'a>,
    complaints: Vec<String>,
}

impl Reader<'_> {
    fn get(&self, name: &str) -> Option<String> {
        (self.environment)(name)
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
    }

    /// A variable of the exporter: the one for traces comes before the one for all.
    fn of_traces(&self, name: &str) -> Option<String> {
        self.get(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}"))
            .or_else(|| self.get(&format!("OTEL_EXPORTER_OTLP_{name}")))
    }

    fn complain(&mut self, sentence: String) {
        self.complaints.push(sentence);
    }

    /// A protocol that is not known is told and otherwise passed over.
    fn protocol(&mut self) -> Protocol {
        let Some(name) = self.of_traces("PROTOCOL") else {
            return Protocol::default();
        };
        name.parse().unwrap_or_else(|_| {
            self.complain(format!(
                "OTEL_EXPORTER_OTLP_PROTOCOL is {name:?}, but only grpc, http/protobuf and http/json are known; {} is used",
                Protocol::default().name()
            ));
            Protocol::default()
        })
    }

    /// The option, then the variable for traces, which is taken as it is, then the one for all signals. Without any, OTLP
    /// that is asked for by name goes to the specification's default.
    fn url(&mut self, endpoint: Option<&str>, protocol: Protocol) -> Result<Option<String>, Error> {
        if let Some(value) = endpoint {
            return target(protocol, "the OTLP endpoint", value, true).map(Some);
        }
        const TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        const ALL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
        let found = if let Some(value) = self.get(TRACES) {
            target(protocol, TRACES, &value, false)
        } else if let Some(value) = self.get(ALL) {
            target(protocol, ALL, &value, true)
        } else if self.get("OTEL_TRACES_EXPORTER").as_deref() == Some("otlp") {
            target(protocol, ALL, protocol.default_endpoint(), true)
        } else {
            return Ok(None);
        };
        Ok(found.map_err(|error| self.complain(format!("{error}; no spans are exported"))).ok())
    }

    /// Whether the environment forbids spans, or wants them in a way that is not to be had here.
    fn is_off(&mut self) -> bool {
        if self
            .get("OTEL_SDK_DISABLED")
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
        {
            return true;
        }
        match self.get("OTEL_TRACES_EXPORTER").as_deref() {
            None | Some("otlp") => {}
            Some("none") => return true,
            Some(other) => {
                self.complain(format!(
                    "OTEL_TRACES_EXPORTER is {other:?}, but only otlp and none are known; no spans are exported"
                ));
                return true;
            }
        }
        if let Some(other) = self.of_traces("COMPRESSION").filter(|value| value != "none") {
            self.complain(format!("OTEL_EXPORTER_OTLP_COMPRESSION is {other:?}; spans are sent uncompressed"));
        }
        if self.of_traces("CLIENT_KEY").is_some() || self.of_traces("CLIENT_CERTIFICATE").is_some() {
            self.complain("OTEL_EXPORTER_OTLP_CLIENT_KEY and _CLIENT_CERTIFICATE are not supported; no spans are exported".to_owned());
            return true;
        }
        false
    }

    /// Whether parents decide, and the ratio for what has none.
    fn sampler(&mut self) -> (bool, f64) {
        let Some(name) = self.get("OTEL_TRACES_SAMPLER") else {
            return (true, 1.0);
        };
        let (parent_based, kind) = match name.strip_prefix("parentbased_") {
            Some(kind) => (true, kind),
            None => (false, name.as_str()),
        };
        match kind {
            "always_on" => (parent_based, 1.0),
            "always_off" => (parent_based, 0.0),
            "traceidratio" => (parent_based, self.sampler_ratio()),
            _ => {
                self.complain(format!("OTEL_TRACES_SAMPLER is {name:?}, which is not known; every trace is kept"));
                (true, 1.0)
            }
        }
    }

    fn sampler_ratio(&mut self) -> f64 {
        let Some(text) = self.get("OTEL_TRACES_SAMPLER_ARG") else {
            return 1.0;
        };
        match text.parse() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => ratio,
            _ => {
                self.complain(format!(
                    "OTEL_TRACES_SAMPLER_ARG is {text:?}, which is no number between 0 and 1; every trace is kept"
                ));
                1.0
            }
        }
    }

    fn headers(&mut self) -> Vec<(String, String)> {
        let text = self.of_traces("HEADERS").unwrap_or_default();
        let mut headers = self.pairs("OTEL_EXPORTER_OTLP_HEADERS", &text);
        let is_token = |name: &str| {
            name.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
        };
        let is_value = |value: &str| value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte));
        // The values may be secrets: none is repeated in a message.
        headers.retain(|(name, value)| {
            let (good, own) = (is_token(name) && is_value(value), is_own(name));
            if !good {
                self.complain("OTEL_EXPORTER_OTLP_HEADERS has an entry that is no HTTP header; it is left out".to_owned());
            } else if own {
                self.complain(format!(
                    "OTEL_EXPORTER_OTLP_HEADERS has {name:?}, which is the exporter's to say; it is left out"
                ));
            }
            good && !own
        });
        headers
    }

    fn resource(&mut self) -> Vec<(String, String)> {
        let text = self.get("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        let mut attributes = self.pairs("OTEL_RESOURCE_ATTRIBUTES", &text);
        let named = attributes
            .iter()
            .position(|(key, _)| key == "service.name")
            .map(|at| attributes.remove(at).1);
        let service = self.get("OTEL_SERVICE_NAME").or(named).unwrap_or_else(|| "cofferdam".to_owned());
        attributes.retain(|(key, _)| key != "service.name");
        attributes.insert(0, ("service.name".to_owned(), service));
        attributes
    }

    /// `key=value,key=value`, values percent-encoded (W3C Baggage).
    fn pairs(&mut self, name: &str, text: &str) -> Vec<(String, String)> {
        let mut pairs = vec![];
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()).take(64) {
            let pair = part
                .split_once('=')
                .and_then(|(key, value)| Some((key.trim().to_owned(), percent_decoded(value.trim())?)));
            match pair {
                Some(pair) if !pair.0.is_empty() => pairs.push(pair),
                _ => self.complain(format!("{name} has an entry that is not key=value; it is left out")),
            }
        }
        pairs
    }

    fn number_of_traces(&mut self, name: &str, default: u64, most: u64) -> u64 {
        let of_traces = format!("OTEL_EXPORTER_OTLP_TRACES_{name}");
        if self.get(&of_traces).is_some() {
            return self.number(&of_traces, default, most);
        }
        self.number(&format!("OTEL_EXPORTER_OTLP_{name}"), default, most)
    }

    fn number(&mut self, name: &str, default: u64, most: u64) -> u64 {
        let Some(text) = self.get(name) else {
            return default;
        };
        match text.parse() {
            Ok(number) if (1..=most).contains(&number) => number,
            _ => {
                self.complain(format!(
                    "{name} is {text:?}, which is no number from 1 to {most}; {default} is used"
                ));
                default
            }
        }
    }
}

/// Headers that belong to the message and the connection: another would break them.
fn is_own(name: &str) -> bool {
    const OWN: [&str; 9] = [
        "connection",
        "content-length",
        "content-type",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
    ];
    OWN.iter().any(|own| own.eq_ignore_ascii_case(name)) || name.to_ascii_lowercase().starts_with("grpc-")
}

fn percent_decoded(value: &str) -> Option<String> {
    let mut out = Vec::with_capacity(value.len());
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
        out.push((high * 16 + low) as u8);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn with(endpoint: Option<&str>, variables: &[(&str, &str)]) -> (Option<Settings>, Vec<String>) {
        let environment = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        resolve(endpoint, None, None, &environment).unwrap()
    }

    #[test]
    fn nothing_asked_for_is_nothing_done() {
        assert_eq!(with(None, &[]), (None, vec![]));
        assert_eq!(with(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), (None, vec![]));
        let on = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
        assert_eq!(with(None, &[on, ("OTEL_SDK_DISABLED", "TRUE")]), (None, vec![]));
        assert_eq!(with(None, &[on, ("OTEL_TRACES_EXPORTER", "none")]), (None, vec![]));
    }

    #[test]
    fn the_endpoint_and_its_order() {
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4318/x/");
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces/as/it/is");
        assert_eq!(with(None, &[all]).0.unwrap().url, "http://all:4318/x/v1/traces");
        assert_eq!(with(None, &[all, traces]).0.unwrap().url, "https://traces/as/it/is");
        assert_eq!(
            with(Some("http://own:4318"), &[all, traces]).0.unwrap().url,
            "http://own:4318/v1/traces"
        );
        for bad in [
            "",
            "collector:4318",
            "ftp://x",
            "http://",
            "http:// x",
            "unix:///run/x",
            "http://u:secret@c:4318",
        ] {
            let error = resolve(Some(bad), None, None, &|_| None).unwrap_err();
            assert!(error.to_string().contains("http://localhost:4318"), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let (settings, complaints) = with(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318")]);
        assert!(
            settings.is_none() && complaints[0].starts_with("OTEL_EXPORTER_OTLP_ENDPOINT is \"collector:4318\""),
            "{complaints:?}"
        );
        for bad in [-0.1, 1.1, f64::NAN] {
            assert!(matches!(resolve(None, None, Some(bad), &|_| None), Err(Error::Ratio(_))));
        }
    }

    #[test]
    fn the_protocol_and_its_order() {
        let all = |value| ("OTEL_EXPORTER_OTLP_PROTOCOL", value);
        let traces = |value| ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", value);
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:1");
        let of_traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:2");
        let named = ("OTEL_TRACES_EXPORTER", "otlp");
        type Row<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);
        // (variables, protocol, URL)
        let table: [Row<'_>; 9] = [
            (&[endpoint], "http/protobuf", "http://c:1/v1/traces"),
            (&[endpoint, all("")], "http/protobuf", "http://c:1/v1/traces"),
            (&[endpoint, all("grpc")], "grpc", "http://c:1"),
            (&[endpoint, all("grpc"), traces("http/json")], "http/json", "http://c:1/v1/traces"),
            (&[endpoint, of_traces, traces("grpc")], "grpc", "http://c:2"),
            (&[endpoint, of_traces], "http/protobuf", "http://c:2"),
            (&[named], "http/protobuf", "http://localhost:4318/v1/traces"),
            (&[named, all("grpc")], "grpc", "http://localhost:4317"),
            (&[endpoint, all("smoke")], "http/protobuf", "http://c:1/v1/traces"),
        ];
        for (variables, protocol, url) in table {
            let found = with(None, variables).0.unwrap();
            assert_eq!((found.protocol.name(), found.url.as_str()), (protocol, url), "{variables:?}");
        }
        let environment = |name: &str| (name == "OTEL_EXPORTER_OTLP_PROTOCOL").then(|| "http/json".to_owned());
        let (own, _) = resolve(Some("http://c:4317"), Some(Protocol::Grpc), None, &environment).unwrap();
        assert_eq!(own.unwrap().protocol, Protocol::Grpc, "the option comes before the environment");
        let (none, complaints) = resolve(None, Some(Protocol::Grpc), None, &|_| None).unwrap();
        assert!(none.is_none() && complaints[0].contains("no endpoint"), "{complaints:?}");
        let (none, complaints) = with(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:1/x"), all("grpc")]);
        assert!(none.is_none() && complaints[0].contains("gRPC has no paths"), "{complaints:?}");
        assert_eq!(with(None, &[all("grpc")]), (None, vec![]));
    }

    #[test]
    fn every_variable_is_read() {
        let (settings, complaints) = with(
            Some("http://c:4318"),
            &[
                ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20abc, x-scope = team%2Fa ,"),
                ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,host.name=n1"),
                ("OTEL_SERVICE_NAME", "node-runtime"),
                ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
                ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
                ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "1500"),
                ("OTEL_EXPORTER_OTLP_TIMEOUT", "9"),
                ("OTEL_BSP_SCHEDULE_DELAY", "100"),
                ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/etc/ca.pem"),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ],
        );
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let expected = Settings {
            protocol: Protocol::HttpJson,
            url: "http://c:4318/v1/traces".to_owned(),
            headers: vec![pair("authorization", "Bearer abc"), pair("x-scope", "team/a")],
            resource: vec![pair("service.name", "node-runtime"), pair("host.name", "n1")],
            certificate: Some("/etc/ca.pem".to_owned()),
            parent_based: true,
            ratio: 0.25,
            timeout: Duration::from_millis(1500),
            interval: Duration::from_millis(100),
            queue: 100,
            batch: 100,
        };
        assert_eq!((settings, complaints), (Some(expected), vec![]));
    }

    #[test]
    fn what_cannot_be_honoured_is_told() {
        // (variable, value, whether spans are still exported)
        let table = [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/thrift", true),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "GRPC", true),
            ("OTEL_EXPORTER_OTLP_HEADERS", "Content-Type=x", true),
            ("OTEL_EXPORTER_OTLP_HEADERS", "grpc-timeout=1S", true),
            ("OTEL_TRACES_EXPORTER", "zipkin", false),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip", true),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/k.pem", false),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote", true),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon", true),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "99999999999", true),
            ("OTEL_BSP_SCHEDULE_DELAY", "0", true),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=b,c", true),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=%zz", true),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=x%0d%0ay", true),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a b=x", true),
        ];
        for (name, value, exported) in table {
            let (settings, complaints) = with(Some("http://c:4318"), &[(name, value)]);
            assert_eq!(
                (settings.is_some(), complaints.len()),
                (exported, 1),
                "{name}={value}: {complaints:?}"
            );
            assert!(settings.is_none_or(|settings| settings.headers.is_empty()));
        }
        let bad = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "half")];
        let (settings, complaints) = with(Some("http://c:4318"), &bad);
        assert_eq!((settings.unwrap().ratio, complaints.len()), (1.0, 1));
    }
}
