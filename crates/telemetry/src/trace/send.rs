//! One export to the collector, and what came of it; over HTTP here, over gRPC by [`super::grpc`].

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use prost::Message;
use ureq::Agent;

use super::grpc::Grpc;
use super::protocol::Protocol;
use super::settings::Settings;
use super::{Span, json, proto, tls};
use crate::Error;

/// More of an answer is not read (OTLP advises 4 MiB; an answer is one sentence).
pub(super) const MOST_ANSWER: usize = 64 * 1024;

/// What came of an export.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Taken, but for so many spans, refused for the reason.
    Taken(u64, String),
    /// Not now; the same may be sent again, after this long if the collector said so.
    Later(String, Option<Duration>),
    /// Never.
    Refused(String),
}

/// Sends to one collector.
pub(super) enum Sender {
    Http(Http),
    Grpc(Box<Grpc>),
}

impl Sender {
    /// A sender; certificates are read now, so that what is wrong with them shows at the start.
    pub(super) fn new(settings: &Settings, version: &str) -> Result<Self, Error> {
        // As OpenTelemetry's exporters name themselves ("OpenTelemetry Protocol Exporter", "User Agent").
        let agent = format!("Cofferdam-OTLP-Exporter-Rust/{version}");
        Ok(match settings.protocol {
            Protocol::Grpc => Self::Grpc(Box::new(Grpc::new(settings, &agent)?)),
            Protocol::HttpProtobuf => Self::Http(Http::new(settings, &agent, Form::Protobuf)?),
            Protocol::HttpJson => Self::Http(Http::new(settings, &agent, Form::Json)?),
        })
    }

    /// What is sent for these spans.
    pub(super) fn body(&self, settings: &Settings, version: &str, spans: &[Span]) -> Bytes {
        let request = || proto::request(&settings.resource, version, spans);
        match self {
            Self::Grpc(_) => super::grpc::framed(&request()),
            Self::Http(Http { form: Form::Protobuf, .. }) => request().encode_to_vec().into(),
            Self::Http(Http { form: Form::Json, .. }) => json::body(&settings.resource, version, spans).into(),
        }
    }

    /// Sends one body.
    pub(super) fn send(&mut self, body: &Bytes, timeout: Duration) -> Outcome {
        match self {
            Self::Http(http) => http.post(body, timeout),
            Self::Grpc(grpc) => grpc.send(body, timeout),
        }
    }
}

/// Form of a POST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Protobuf,
    Json,
}

impl Form {
    fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }

    fn refused(self, answer: &[u8]) -> (u64, String) {
        match self {
            Self::Protobuf => proto::refused(answer),
            Self::Json => json::refused(answer),
        }
    }

    fn error(self, answer: &[u8]) -> String {
        match self {
            Self::Protobuf => proto::error(answer).0,
            Self::Json => json::error(answer),
        }
    }
}

/// Sends by POST.
pub(super) struct Http {
    agent: Agent,
    url: String,
    headers: Vec<(String, String)>,
    form: Form,
}

impl Http {
    fn new(settings: &Settings, agent: &str, form: Form) -> Result<Self, Error> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections(1)
            .user_agent(agent);
        let uri: http::Uri = settings.url.parse().unwrap_or_default();
        // A collector beside the daemon is never behind a proxy.
        if uri.host().is_some_and(is_loopback) {
            config = config.proxy(None);
        }
        if uri.scheme_str() == Some("https") {
            config = config.tls_config(tls::for_posts(settings)?);
        }
        Ok(Self {
            agent: config.build().into(),
            url: settings.url.clone(),
            headers: settings.headers.clone(),
            form,
        })
    }

    fn post(&self, body: &[u8], timeout: Duration) -> Outcome {
        let mut request = self.agent.post(&self.url).config().timeout_global(Some(timeout)).build();
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let mut answer = match request.header("content-type", self.form.content_type()).send(body) {
            Ok(answer) => answer,
            Err(error @ ureq::Error::Protocol(_)) => {
                return Outcome::Later(format!("{error}; is this the collector's HTTP port, usually 4318?"), None);
            }
            Err(error) => return Outcome::Later(error.to_string(), None),
        };
        let status = answer.status().as_u16();
        let after = answer
            .headers()
            .get("retry-after")
            .and_then(|value| retry_after(value.to_str().ok()?, SystemTime::now()));
        let text = answer.body_mut().with_config().limit(MOST_ANSWER as u64).read_to_vec();
        if matches!(text, Err(ureq::Error::BodyExceedsLimit(_))) {
            // OTLP: not to be sent again, whatever the status.
            return Outcome::Refused(format!("it answered {status} with more than {MOST_ANSWER} bytes"));
        }
        // An answer that broke off still has its status.
        let text = text.unwrap_or_default();
        match status {
            200..=299 => {
                let (count, why) = self.form.refused(&text);
                Outcome::Taken(count, why)
            }
            // "OTLP/HTTP Response": these four, and no others, may be tried again.
            429 | 502 | 503 | 504 => Outcome::Later(told(&status.to_string(), &self.form.error(&text)), after),
            _ => Outcome::Refused(told(&status.to_string(), &self.form.error(&text))),
        }
    }
}

/// A collector's answer in a sentence.
pub(super) fn told(code: &str, why: &str) -> String {
    match why.trim() {
        "" => format!("it answered {code}"),
        why => format!("it answered {code}: {why}"),
    }
}

/// `Retry-After` is a number of seconds or a date (RFC 9110, 10.2.3).
fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value.trim()).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Fri, 31 Dec 1999 23:59:00 GMT").unwrap();
        for (value, wanted) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("Fri, 31 Dec 1999 23:59:59 GMT", Some(59)),
            ("Fri, 31 Dec 1999 23:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("", None),
            ("99999999999999999999999", None),
        ] {
            assert_eq!(retry_after(value, now), wanted.map(Duration::from_secs), "{value:?}");
        }
    }
}
