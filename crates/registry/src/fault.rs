//! What went wrong below, as the errors of this crate.

use crate::error::{Error, clean};
use crate::guard::ResolveError;
use serde::Deserialize;
use std::io;
use std::time::Duration;
use ureq::Timeout;

/// Longest words of a registry that are shown.
const MAX_WORDS: usize = 300;

/// Whether a connection ended before an answer began.
pub(crate) fn is_cut(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Io(error) if is_cut_kind(error.kind()))
}

fn is_cut_kind(kind: io::ErrorKind) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        kind,
        Kind::UnexpectedEof | Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe
    )
}

/// A request to `host`, on the word of the registry `site`, that had no answer.
pub(crate) fn of_request(error: ureq::Error, site: &str, host: &str, what: &str, connect: Duration, stall: Duration) -> Error {
    let host = host.to_owned();
    let what = what.to_owned();
    match error {
        ureq::Error::Timeout(Timeout::Resolve) => Error::Unresolved {
            host,
            reason: format!("no answer within {} s", connect.as_secs_f64()),
        },
        ureq::Error::Timeout(Timeout::Connect) => Error::Connect {
            host,
            reason: format!(
                "none came to be within {} s, look at the network, at firewalls and proxies",
                connect.as_secs_f64()
            ),
        },
        ureq::Error::Timeout(_) => Error::Stalled {
            host,
            what,
            seconds: stall.as_secs_f64(),
        },
        ureq::Error::Other(error) => match error.downcast_ref::<ResolveError>() {
            Some(ResolveError::Failed(reason)) => Error::Unresolved {
                host,
                reason: clean(reason, MAX_WORDS),
            },
            Some(ResolveError::Guarded) => Error::Redirect {
                host: site.to_owned(),
                to: host,
                reason: crate::guard::REASON,
            },
            None => Error::Connect {
                host,
                reason: clean(&error.to_string(), MAX_WORDS),
            },
        },
        ureq::Error::HostNotFound => Error::Unresolved {
            host,
            reason: "none is known".to_owned(),
        },
        ureq::Error::Rustls(error) => tls(host, &error),
        ureq::Error::Tls(reason) => Error::Tls {
            host,
            reason: reason.to_owned(),
        },
        ureq::Error::Io(error) => of_io(error, host, what),
        ureq::Error::ConnectProxyFailed(reason) => Error::Connect {
            host,
            reason: format!("it was refused, {}", clean(&reason, MAX_WORDS)),
        },
        ureq::Error::LargeResponseHeader(_, limit) => Error::TooBig {
            host,
            what: "headers".to_owned(),
            limit: limit as u64,
        },
        other => Error::Protocol {
            host,
            what,
            reason: clean(&other.to_string(), MAX_WORDS),
        },
    }
}

/// Names the proxy that a connection was sought through, since the fault may be with that.
pub(crate) fn through(proxy: Option<&str>, mut error: Error) -> Error {
    if let (Some(name), Error::Connect { reason, .. } | Error::Unresolved { reason, .. }) = (proxy, &mut error) {
        *reason = format!("through the proxy of {name}: {reason}");
    }
    error
}

fn of_io(error: io::Error, host: String, what: String) -> Error {
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return tls(host, error);
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::Connect {
            host,
            reason: "nothing listens there, look at the address and whether the registry runs".to_owned(),
        },
        kind if is_cut_kind(kind) => Error::Cut {
            host,
            what,
            reason: clean(&error.to_string(), MAX_WORDS),
        },
        _ => Error::Connect {
            host,
            reason: clean(&error.to_string(), MAX_WORDS),
        },
    }
}

fn tls(host: String, error: &rustls::Error) -> Error {
    use rustls::{CertificateError, InvalidMessage};
    let reason = match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its certificate is by an authority that is not trusted here, name that authority as ca in hosts.toml or install ca-certificates"
                .to_owned()
        }
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "it does not speak TLS, name it by http:// in hosts.toml if that is meant".to_owned()
        }
        rustls::Error::InvalidCertificate(error) => format!("its certificate is not good: {}", clean(&error.to_string(), MAX_WORDS)),
        rustls::Error::AlertReceived(alert) => format!("it ended the handshake with {alert:?}; it may want a client certificate, see client in hosts.toml"),
        other => clean(&other.to_string(), MAX_WORDS),
    };
    Error::Tls { host, reason }
}

/// A body that broke off.
pub(crate) fn of_body(error: io::Error, host: &str, what: &str, stall: Duration) -> Error {
    let of_ureq = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
    match of_ureq {
        Some(ureq::Error::Timeout(_)) => Error::Stalled {
            host: host.to_owned(),
            what: what.to_owned(),
            seconds: stall.as_secs_f64(),
        },
        _ => Error::Cut {
            host: host.to_owned(),
            what: what.to_owned(),
            reason: clean(&error.to_string(), MAX_WORDS),
        },
    }
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    errors: Vec<Item>,
    /// Token services answer in other forms.
    #[serde(default)]
    details: Option<String>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    error_description: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// The words of a refusal: code and message where the body has the form of the distribution
/// specification, or of a token service; else its begin.
pub(crate) fn words(body: &[u8]) -> String {
    let text = match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => {
            let items = refusal
                .errors
                .iter()
                .take(3)
                .map(|item| match (item.code.as_str(), item.message.as_str()) {
                    (one, "") | ("", one) => one.to_owned(),
                    (code, message) => format!("{code}: {message}"),
                });
            let others = [refusal.error, refusal.error_description, refusal.details, refusal.message];
            items
                .chain(others.into_iter().flatten())
                .filter(|text| !text.is_empty())
                .collect::<Vec<_>>()
                .join(", ")
        }
        Err(_) => String::from_utf8_lossy(body.get(..1000).unwrap_or(body)).into_owned(),
    };
    clean(&text, MAX_WORDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_refusals_are_found() {
        for (body, wanted) in [
            (r#"{"errors":[{"code":"DENIED","message":"no"}]}"#, "DENIED: no"),
            (r#"{"errors":[{"code":"A"},{"message":"b"}]}"#, "A, b"),
            (r#"{"errors":[{"code":"A","message":"x","detail":{"y":[1]}}]}"#, "A: x"),
            (r#"{"details":"incorrect username or password"}"#, "incorrect username or password"),
            (r#"{"error":"invalid_grant","error_description":"gone"}"#, "invalid_grant, gone"),
            ("404 page not found\n", "404 page not found"),
            ("\u{1b}]0;title\u{7}x", "]0;title x"),
            ("", ""),
            (r#"{"errors":"x"}"#, r#"{"errors":"x"}"#),
            ("[[[[", "[[[["),
        ] {
            assert_eq!(words(body.as_bytes()), wanted, "{body}");
        }
        assert!(words("x".repeat(10_000).as_bytes()).chars().count() <= MAX_WORDS + 1);
        assert!(words(&[0xff; 5000]).chars().count() <= MAX_WORDS + 1);
    }
}
