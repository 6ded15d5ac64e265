//! Tokens: what a registry sends us to fetch with a Bearer challenge (the distribution project's
//! docs/spec/auth/token.md and oauth.md).

use crate::auth::challenge::Challenge;
use crate::auth::credential::{Credential, Secret};
use crate::error::{Error, Result, clean};
use crate::hosts::is_loopback;
use crate::reference::{is_host, split_port};
use crate::transport::{Ask, Site, Transport, authority};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Method, Uri};
use serde::Deserialize;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// How long a token is good where nothing is said, and at least; the specification says 60 s.
const SHORTEST: Duration = Duration::from_secs(60);
/// A token is not used up to its last second: the clocks and the way there differ.
const SLACK: Duration = Duration::from_secs(10);
/// A token is used no longer than this, whatever is said.
const LONGEST: Duration = Duration::from_secs(3600);
/// No longer header is sent.
const MAX_TOKEN: usize = 32 << 10;
/// How we call ourselves to a token service.
const CLIENT_ID: &str = "cofferdam";

/// A value of the Authorization header, and until when it is good.
#[derive(Clone)]
pub(crate) struct Grant {
    pub header: HeaderValue,
    pub expires: Option<Instant>,
}

impl Grant {
    pub(crate) fn basic(username: &str, password: &str) -> Option<Self> {
        Self::new(&format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))), None)
    }

    pub(crate) fn bearer(token: &str, expires: Option<Instant>) -> Option<Self> {
        let plain = !token.is_empty() && token.len() <= MAX_TOKEN && token.bytes().all(|b| b.is_ascii_graphic());
        if plain {
            Self::new(&format!("Bearer {token}"), expires)
        } else {
            None
        }
    }

    fn new(value: &str, expires: Option<Instant>) -> Option<Self> {
        let mut header = HeaderValue::from_str(value).ok()?;
        header.set_sensitive(true);
        Some(Self { header, expires })
    }

    pub(crate) fn is_good(&self) -> bool {
        self.expires.is_none_or(|expires| Instant::now() < expires)
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

/// Fetches a token for a repository from where a challenge says; without a credential an anonymous one.
///
/// # Errors
/// [`Error::Realm`] where no credentials are sent to, [`Error::Unauthorized`] where the service refuses the
/// credential, else what went wrong on the way.
pub(crate) fn fetch(
    transport: &Transport,
    site: &Site,
    challenge: &Challenge,
    credential: Option<&Credential>,
    repository: &str,
) -> Result<Grant> {
    let realm = realm(site, challenge)?;
    let host = authority(&realm).to_owned();
    let what = format!("a token for {repository}");
    let query = query(challenge, repository);
    let reply = match credential.map(|credential| &credential.secret) {
        Some(Secret::Identity { token }) => {
            let form = format!(
                "grant_type=refresh_token&client_id={CLIENT_ID}&refresh_token={}&{}",
                encode(token),
                oauth_query(&query)
            );
            let ask = Ask {
                method: Method::POST,
                form: Some(form),
                ..Ask::get(realm, "application/json", &what)
            };
            transport.send(site, &ask)?
        }
        secret => {
            let basic = match secret {
                Some(Secret::Password { username, password }) => Grant::basic(username, password),
                _ => None,
            };
            let url = with_query(&realm, &query).ok_or_else(|| refuse(site, &realm.to_string(), "that is not a URL"))?;
            let ask = Ask {
                authorization: basic.as_ref().map(|grant| &grant.header),
                ..Ask::get(url, "application/json", &what)
            };
            transport.send(site, &ask)?
        }
    };
    if !reply.status.is_success() {
        return Err(refused(transport, reply, host, what));
    }
    let body = transport.read(reply, transport.limits.json, &what)?;
    let wrong = |reason: &str| Error::Protocol {
        host: host.clone(),
        what: what.clone(),
        reason: reason.to_owned(),
    };
    let answer: Answer = serde_json::from_slice(&body).map_err(|_| wrong("it is not the JSON of a token"))?;
    let token = [answer.token, answer.access_token]
        .into_iter()
        .flatten()
        .find(|token| !token.is_empty());
    let token = token.ok_or_else(|| wrong("it holds no token"))?;
    let lifetime = Duration::from_secs(answer.expires_in.unwrap_or(0)).clamp(SHORTEST, LONGEST) - SLACK;
    Grant::bearer(&token, Instant::now().checked_add(lifetime)).ok_or_else(|| wrong("its token is no header's value"))
}

fn refused(transport: &Transport, reply: crate::transport::Reply, host: String, what: String) -> Error {
    let limited = (reply.status.as_u16() == 429).then(|| crate::client::retry_after(&reply));
    let answer = transport.answer(reply);
    match (answer.status, limited) {
        (_, Some(retry_after)) => Error::RateLimited { host, answer, retry_after },
        // OAuth2 refuses a credential by 400 invalid_grant.
        (400 | 401 | 403, _) => Error::Unauthorized {
            host,
            what,
            answer,
            tried: String::new(),
        },
        _ => Error::Answered { host, what, answer },
    }
}

fn refuse(site: &Site, realm: &str, reason: &'static str) -> Error {
    Error::Realm {
        host: site.endpoint.host.clone(),
        realm: clean(realm, 200),
        reason,
    }
}

/// The place of the token service: over TLS, except where the registry itself is asked in the clear and
/// the service is on the same host or on this machine.
fn realm(site: &Site, challenge: &Challenge) -> Result<Uri> {
    let text = challenge.parameter("realm").unwrap_or("");
    let url: Uri = text.parse().map_err(|_| refuse(site, text, "that is not a URL"))?;
    if !is_host(authority(&url)) {
        return Err(refuse(site, text, "it names no host, or a user with it"));
    }
    let (here, there) = (split_port(&site.endpoint.host).0, split_port(authority(&url)).0);
    let same = here.eq_ignore_ascii_case(there);
    match url.scheme_str() {
        Some("https") => {}
        Some("http") if site.endpoint.plain_http && (same || is_loopback(there)) => {}
        Some("http") => return Err(refuse(site, text, "credentials are not sent in the clear")),
        _ => return Err(refuse(site, text, "only https is spoken to token services")),
    }
    if is_loopback(there) && !same && !is_loopback(here) {
        return Err(refuse(site, text, crate::guard::REASON));
    }
    Ok(url)
}

/// Service and scopes: those of the challenge, or else to pull from the repository.
fn query(challenge: &Challenge, repository: &str) -> Vec<(&'static str, String)> {
    let mut query = Vec::new();
    if let Some(service) = challenge.parameter("service").filter(|service| !service.is_empty()) {
        query.push(("service", service.to_owned()));
    }
    let asked: Vec<&str> = challenge
        .parameter("scope")
        .unwrap_or("")
        .split(' ')
        .filter(|scope| !scope.is_empty())
        .collect();
    if asked.is_empty() {
        query.push(("scope", format!("repository:{repository}:pull")));
    }
    query.extend(asked.into_iter().map(|scope| ("scope", scope.to_owned())));
    query
}

fn with_query(realm: &Uri, query: &[(&str, String)]) -> Option<Uri> {
    let mut text = realm.to_string();
    for (name, value) in query {
        let separator = if text.contains('?') { '&' } else { '?' };
        // Writing to a String does not fail.
        let _ = write!(text, "{separator}{name}={}", encode(value));
    }
    text.parse().ok()
}

/// In OAuth2 all scopes are one value.
fn oauth_query(query: &[(&str, String)]) -> String {
    let scopes: Vec<&str> = query
        .iter()
        .filter(|(name, _)| *name == "scope")
        .map(|(_, value)| value.as_str())
        .collect();
    let others = query.iter().filter(|(name, _)| *name != "scope");
    let mut parts: Vec<String> = others.map(|(name, value)| format!("{name}={}", encode(value))).collect();
    parts.push(format!("scope={}", encode(&scopes.join(" "))));
    parts.join("&")
}

/// Percent-encoding of all but the unreserved characters (RFC 3986, section 2.3).
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::auth::challenge::parse_challenges;
    use crate::hosts::hosts_for;
    use crate::reference::Image;
    use crate::{Limits, Timeouts};

    fn site(registry: &str) -> Site {
        let image = Image {
            registry: registry.to_owned(),
            repository: "a".to_owned(),
        };
        let endpoint = hosts_for(&[], &image).unwrap().endpoints.remove(0);
        Transport::new("test".to_owned(), Timeouts::default(), Limits::default())
            .site(endpoint)
            .unwrap()
    }

    #[test]
    fn credentials_go_to_safe_places_only() {
        for (registry, realm_text, ok) in [
            ("docker.io", "https://auth.docker.io/token", true),
            ("docker.io", "http://auth.docker.io/token", false),
            ("docker.io", "https://127.0.0.1/token", false),
            ("docker.io", "https://localhost:5001/token", false),
            ("docker.io", "file:///etc/passwd", false),
            ("docker.io", "ftp://x/y", false),
            ("docker.io", "/token", false),
            ("docker.io", "https://user@host/token", false),
            ("docker.io", "", false),
            ("127.0.0.1:5000", "http://127.0.0.1:5001/token", true),
            ("127.0.0.1:5000", "http://localhost:5001/token", true),
            ("127.0.0.1:5000", "https://auth.example/token", true),
            ("127.0.0.1:5000", "http://auth.example/token", false),
        ] {
            let challenge = parse_challenges(&format!("Bearer realm=\"{realm_text}\"")).remove(0);
            assert_eq!(realm(&site(registry), &challenge).is_ok(), ok, "{registry} {realm_text}");
        }
    }

    #[test]
    fn queries_are_made_of_challenges() {
        for (challenge, wanted) in [
            (
                r#"Bearer realm="https://r/t",service="a b",scope="repository:x/y:pull registry:catalog:*""#,
                "https://r/t?service=a%20b&scope=repository%3Ax%2Fy%3Apull&scope=registry%3Acatalog%3A%2A",
            ),
            (r#"Bearer realm="https://r/t?k=v""#, "https://r/t?k=v&scope=repository%3Ame%3Apull"),
        ] {
            let challenge = parse_challenges(challenge).remove(0);
            let url: Uri = challenge.parameter("realm").unwrap().parse().unwrap();
            assert_eq!(with_query(&url, &query(&challenge, "me")).unwrap().to_string(), wanted);
        }
        let two = [("scope", "a".to_owned()), ("service", "s".to_owned()), ("scope", "b".to_owned())];
        assert_eq!(oauth_query(&two), "service=s&scope=a%20b");
    }

    #[test]
    fn only_plain_tokens_become_headers() {
        for (token, ok) in [
            ("abc.def-_=", true),
            ("", false),
            ("a b", false),
            ("a\r\nX: y", false),
            ("é", false),
            (&"a".repeat(MAX_TOKEN + 1), false),
        ] {
            assert_eq!(Grant::bearer(token, None).is_some(), ok, "{token}");
        }
    }

    #[test]
    fn grants_end() {
        let now = Instant::now();
        assert!(!Grant::bearer("t", Some(now)).unwrap().is_good());
        assert!(Grant::bearer("t", Some(now + Duration::from_secs(600))).unwrap().is_good());
        assert!(Grant::basic("u", "p").unwrap().is_good());
    }
}
