//! One POST to the collector.

use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::otlp;
use super::settings::Settings;
use crate::Error;

/// More of an answer is not read.
const MOST_ANSWER: u64 = 64 * 1024;

/// What came of a POST.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Taken, but for so many spans, refused for the reason.
    Taken(u64, String),
    /// Not now; the same may be sent again, after this long if the collector said so.
    Later(String, Option<Duration>),
    /// Never.
    Refused(String),
}

/// Sends to one collector.
pub(super) struct Sender {
    agent: Agent,
    url: String,
    headers: Vec<(String, String)>,
}

impl Sender {
    /// A sender; certificates are read now, so that what is wrong with them shows at the start.
    pub(super) fn new(settings: &Settings) -> Result<Self, Error> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections(1);
        let uri: ureq::http::Uri = settings.url.parse().unwrap_or_default();
        // A collector beside the daemon is never behind a proxy.
        if uri.host().is_some_and(is_loopback) {
            config = config.proxy(None);
        }
        if uri.scheme_str() == Some("https") {
            config = config.tls_config(tls(settings)?);
        }
        Ok(Self {
            agent: config.build().into(),
            url: settings.url.clone(),
            headers: settings.headers.clone(),
        })
    }

    /// Sends one body.
    pub(super) fn post(&self, body: &str, timeout: Duration) -> Outcome {
        let mut request = self.agent.post(&self.url).config().timeout_global(Some(timeout)).build();
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let mut answer = match request.header("content-type", "application/json").send(body) {
            Ok(answer) => answer,
            Err(error) => return Outcome::Later(error.to_string(), None),
        };
        let status = answer.status().as_u16();
        let after = answer
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let text = answer.body_mut().with_config().limit(MOST_ANSWER).read_to_vec().unwrap_or_default();
        match status {
            200..=299 => {
                let (count, why) = otlp::refused(&text);
                Outcome::Taken(count, why)
            }
            // "OTLP/HTTP Response": these four, and no others, may be tried again.
            429 | 502 | 503 | 504 => Outcome::Later(format!("it answered {status}"), after),
            _ => Outcome::Refused(format!("it answered {status}")),
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The cryptography is named here, so that nothing depends on what the process has installed.
fn tls(settings: &Settings) -> Result<TlsConfig, Error> {
    let wrong = |why: String| Error::Tls {
        endpoint: settings.url.clone(),
        why,
    };
    let roots: Vec<Certificate<'static>> = match &settings.certificate {
        Some(path) => {
            let pem = std::fs::read(path).map_err(|error| wrong(format!("{path}: {error}")))?;
            let items: Result<Vec<PemItem<'static>>, _> = parse_pem(&pem).collect();
            let items = items.map_err(|error| wrong(format!("{path}: {error}")))?;
            items
                .into_iter()
                .filter_map(|item| {
                    if let PemItem::Certificate(found) = item {
                        Some(found)
                    } else {
                        None
                    }
                })
                .collect()
        }
        None => rustls_native_certs::load_native_certs()
            .certs
            .iter()
            .map(|found| Certificate::from_der(found).to_owned())
            .collect(),
    };
    if roots.is_empty() {
        return Err(wrong("no certificate authority was found".to_owned()));
    }
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&roots))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}
