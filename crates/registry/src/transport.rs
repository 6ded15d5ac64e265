//! Sending requests: one answer for each, redirects followed only where it is safe, every wait and every
//! size bounded.

use crate::error::{Answer, Error, Result, clean};
use crate::hosts::{Endpoint, is_loopback};
use crate::reference::split_port;
use crate::tls::{self, TlsSettings};
use crate::{Limits, Timeouts, fault, guard, proxy};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri};
use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body, Proxy};

/// Kinds of connections that are kept ready; over that, all are begun anew.
const MAX_AGENTS: usize = 64;
/// Connections to one host that are kept open between requests.
const IDLE_PER_HOST: usize = 8;
/// Of a refusal more than this is not read.
const MAX_ANSWER: u64 = 64 << 10;

/// What connections need beyond their address.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Kind {
    /// `None` in the clear.
    tls: Option<TlsSettings>,
    connect: Duration,
    /// Whether addresses of this machine are refused.
    guarded: bool,
    /// The variable and the URL of the proxy, if one is asked.
    proxy: Option<(&'static str, String)>,
}

/// All connections of a client.
pub(crate) struct Transport {
    pub user_agent: String,
    pub timeouts: Timeouts,
    pub limits: Limits,
    roots: tls::Roots,
    agents: Mutex<HashMap<Kind, Agent>>,
}

/// An endpoint, ready to be asked.
#[derive(Clone)]
pub(crate) struct Site {
    pub endpoint: Arc<Endpoint>,
    tls: TlsSettings,
    headers: HeaderMap,
}

/// A request; `what` says in errors what it is for.
pub(crate) struct Ask<'a> {
    pub method: Method,
    pub url: Uri,
    pub accept: &'static str,
    pub from: u64,
    pub form: Option<String>,
    pub authorization: Option<&'a HeaderValue>,
    pub what: &'a str,
}

impl<'a> Ask<'a> {
    pub(crate) fn get(url: Uri, accept: &'static str, what: &'a str) -> Self {
        Self {
            method: Method::GET,
            url,
            accept,
            from: 0,
            form: None,
            authorization: None,
            what,
        }
    }
}

/// What may still be sent along after redirects.
#[derive(Clone, Copy)]
struct Trust {
    /// What the site's `hosts.toml` says of it: headers, our certificate, any certificate of its.
    site: bool,
    /// What was meant for the URL that was asked first: the authorization.
    asked: bool,
}

/// An answer. Only its head has come yet.
pub(crate) struct Reply {
    /// Who gave it, which after a redirect is another than who was asked.
    pub host: String,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Body,
}

impl Reply {
    /// A header as text, `None` where it is missing or not plain.
    pub(crate) fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl Transport {
    pub(crate) fn new(user_agent: String, timeouts: Timeouts, limits: Limits) -> Self {
        Self {
            user_agent,
            timeouts,
            limits,
            roots: tls::Roots::default(),
            agents: Mutex::default(),
        }
    }

    /// Reads the certificates of an endpoint.
    pub(crate) fn site(&self, endpoint: Endpoint) -> Result<Site> {
        let tls = if endpoint.plain_http {
            TlsSettings::default()
        } else {
            TlsSettings::read(&endpoint.tls)?
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &endpoint.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
                headers.append(name, value);
            }
        }
        Ok(Site {
            endpoint: Arc::new(endpoint),
            tls,
            headers,
        })
    }

    /// Sends a request to a site and follows its redirects. Credentials and the headers of its
    /// `hosts.toml` go to that very origin only, its client certificate too; once a redirect has led
    /// away, they are not sent again.
    pub(crate) fn send(&self, site: &Site, ask: &Ask) -> Result<Reply> {
        let mut url = ask.url.clone();
        let meant_for = origin(&url);
        let mut trust = Trust {
            site: meant_for == site.endpoint.origin(),
            asked: true,
        };
        for _ in 0..=self.limits.redirects {
            let host = authority(&url).to_owned();
            let reply = self.send_once(site, ask, &url, trust, &host)?;
            if !is_redirect(reply.status) || ask.method == Method::POST {
                return Ok(reply);
            }
            let next = target(&url, &reply, site)?;
            let there = origin(&next);
            trust.site &= there == site.endpoint.origin();
            trust.asked &= there == meant_for;
            url = next;
        }
        Err(Error::Redirect {
            host: site.endpoint.host.clone(),
            to: clean(&url.to_string(), 200),
            reason: "that was one redirect too many, and the last is not followed",
        })
    }

    fn send_once(&self, site: &Site, ask: &Ask, url: &Uri, trust: Trust, host: &str) -> Result<Reply> {
        let kind = self.kind(site, url, trust.site);
        let proxy = kind.proxy.as_ref().map(|(name, _)| *name);
        let agent = self.agent(kind)?;
        let connect = site.endpoint.dial_timeout.unwrap_or(self.timeouts.connect);
        let fail = |error| {
            fault::through(
                proxy,
                fault::of_request(error, &site.endpoint.host, host, ask.what, connect, self.timeouts.stall),
            )
        };
        let response = match self.run(&agent, site, ask, url, trust) {
            // A connection that was kept open may have been closed by the other side in the same moment.
            Err(error) if ask.form.is_none() && fault::is_cut(&error) => self.run(&agent, site, ask, url, trust),
            other => other,
        };
        let (parts, body) = response.map_err(fail)?.into_parts();
        let reply = Reply {
            host: host.to_owned(),
            status: parts.status,
            headers: parts.headers,
            body,
        };
        match reply.header(header::CONTENT_ENCODING) {
            None | Some("identity" | "") => Ok(reply),
            Some(_) => Err(Error::Protocol {
                host: host.to_owned(),
                what: ask.what.to_owned(),
                reason: "it is compressed in transit, which was not asked for".to_owned(),
            }),
        }
    }

    fn run(
        &self,
        agent: &Agent,
        site: &Site,
        ask: &Ask,
        url: &Uri,
        trust: Trust,
    ) -> std::result::Result<http::Response<Body>, ureq::Error> {
        let mut request = http::Request::builder().method(ask.method.clone()).uri(url.clone());
        if let Some(headers) = request.headers_mut() {
            if trust.site {
                headers.extend(site.headers.clone());
            }
            if let Some(authorization) = ask.authorization.filter(|_| trust.asked) {
                headers.insert(header::AUTHORIZATION, authorization.clone());
            }
            headers.insert(header::ACCEPT, HeaderValue::from_static(ask.accept));
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            if ask.form.is_some() {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            }
        }
        if ask.from > 0 {
            request = request.header(header::RANGE, format!("bytes={}-", ask.from));
        }
        match &ask.form {
            Some(form) => agent.run(request.body(form.as_str()).map_err(ureq::Error::Http)?),
            None => agent.run(request.body(()).map_err(ureq::Error::Http)?),
        }
    }

    /// What a connection for a URL needs. Elsewhere than at the site itself our certificate is not shown,
    /// any certificate is not trusted, and addresses of this machine are not gone to, unless the site is
    /// on this machine, or it is the same host on another port.
    fn kind(&self, site: &Site, url: &Uri, trusted: bool) -> Kind {
        let (here, there) = (split_port(&site.endpoint.host).0, split_port(authority(url)).0);
        Kind {
            tls: match (url.scheme_str(), trusted) {
                (Some("http"), _) => None,
                (_, true) => Some(site.tls.clone()),
                (_, false) => Some(site.tls.for_others()),
            },
            connect: site.endpoint.dial_timeout.unwrap_or(self.timeouts.connect),
            guarded: !here.eq_ignore_ascii_case(there) && !is_loopback(here),
            proxy: proxy::choose(|name| std::env::var(name).ok(), url.scheme_str() == Some("http"), authority(url)),
        }
    }

    fn agent(&self, kind: Kind) -> Result<Agent> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(&kind) {
            return Ok(agent.clone());
        }
        let proxy = kind
            .proxy
            .as_ref()
            .map(|(name, url)| Proxy::new(url).map_err(|_| not_a_proxy(name)))
            .transpose()?;
        if agents.len() >= MAX_AGENTS {
            agents.clear();
        }
        let stall = self.timeouts.stall;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_response_header_size(self.limits.headers)
            .user_agent(self.user_agent.clone())
            .proxy(proxy)
            .max_idle_connections(IDLE_PER_HOST * 4)
            .max_idle_connections_per_host(IDLE_PER_HOST)
            .timeout_resolve(Some(kind.connect))
            .timeout_connect(Some(kind.connect))
            .timeout_send_request(Some(stall))
            .timeout_send_body(Some(stall))
            .timeout_recv_response(Some(stall))
            .timeout_per_read(Some(stall))
            .timeout_per_write(Some(stall))
            .tls_config(self.roots.config(kind.tls.as_ref()))
            .build();
        let agent = Agent::with_parts(config, DefaultConnector::default(), guard::Resolver::new(kind.guarded));
        agents.insert(kind, agent.clone());
        Ok(agent)
    }

    /// A whole body of bounded size; the time for it is bounded as well.
    pub(crate) fn read(&self, reply: Reply, limit: u64, what: &str) -> Result<Vec<u8>> {
        let Reply { host, body, .. } = reply;
        let too_big = || Error::TooBig {
            host: host.clone(),
            what: what.to_owned(),
            limit,
        };
        if body.content_length().is_some_and(|length| length > limit) {
            return Err(too_big());
        }
        let deadline = Instant::now() + self.timeouts.document;
        let mut reader = body.into_with_config().limit(u64::MAX).reader();
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 32 << 10];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(bytes),
                Ok(n) => bytes.extend_from_slice(buffer.get(..n).unwrap_or_default()),
                Err(error) => return Err(fault::of_body(error, &host, what, self.timeouts.stall)),
            }
            if bytes.len() as u64 > limit {
                return Err(too_big());
            }
            if Instant::now() > deadline {
                let seconds = self.timeouts.document.as_secs_f64();
                let reason = format!("it was not complete after {seconds} s");
                return Err(Error::Cut {
                    host,
                    what: what.to_owned(),
                    reason,
                });
            }
        }
    }

    /// The refusal that a reply is; whatever it says of itself is taken along.
    pub(crate) fn answer(&self, reply: Reply) -> Answer {
        let status = reply.status.as_u16();
        let is_html = reply.header(header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/html"));
        let body = self.read(reply, MAX_ANSWER, "its answer").unwrap_or_default();
        Answer {
            status,
            words: if is_html { String::new() } else { fault::words(&body) },
        }
    }
}

/// Its value is not shown: it may hold a password.
fn not_a_proxy(name: &str) -> Error {
    Error::Invalid {
        field: "proxy",
        value: name.to_owned(),
        rule: "that variable must hold http://host:port or https://host:port",
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Host and port of a URL; whoever it names as user is refused before.
pub(crate) fn authority(url: &Uri) -> &str {
    url.authority().map_or("", |authority| authority.as_str())
}

/// Scheme, host and port of a URL.
fn origin(url: &Uri) -> String {
    origin_of(url.scheme_str() == Some("http"), authority(url))
}

/// Scheme, host and port as one comparable text, in which a port that the scheme has anyway is left out.
pub(crate) fn origin_of(plain_http: bool, authority: &str) -> String {
    let (scheme, usual) = if plain_http { ("http", "80") } else { ("https", "443") };
    match split_port(authority) {
        (host, Some(port)) if port != usual => format!("{scheme}://{}:{port}", host.to_ascii_lowercase()),
        (host, _) => format!("{scheme}://{}", host.to_ascii_lowercase()),
    }
}

/// Where a redirect leads, if it may.
fn target(from: &Uri, reply: &Reply, site: &Site) -> Result<Uri> {
    let to = reply.header(header::LOCATION).unwrap_or("");
    let refuse = |reason| Error::Redirect {
        host: reply.host.clone(),
        to: clean(to, 200),
        reason,
    };
    let (scheme, here) = (from.scheme_str().unwrap_or("https"), authority(from));
    let not_spoken = "only https, and http from a host that is asked in the clear, is followed";
    let text = match named_scheme(to) {
        Some(named) if !["http", "https"].contains(&named.to_ascii_lowercase().as_str()) => return Err(refuse(not_spoken)),
        Some(_) => to.to_owned(),
        None if to.is_empty() => return Err(refuse("the redirect names no place")),
        None if to.starts_with("//") => format!("{scheme}:{to}"),
        None if to.starts_with('/') => format!("{scheme}://{here}{to}"),
        None => format!(
            "{scheme}://{here}{}/{to}",
            from.path().rsplit_once('/').map_or("", |(folder, _)| folder)
        ),
    };
    let url: Uri = text.parse().map_err(|_| refuse("that is not a URL"))?;
    match url.scheme_str() {
        Some("https") => {}
        Some("http") if site.endpoint.plain_http => {}
        _ => return Err(refuse(not_spoken)),
    }
    if !crate::reference::is_host(authority(&url)) {
        return Err(refuse("it names no host, or a user with it"));
    }
    let there = split_port(authority(&url)).0;
    if is_loopback(there) && !is_loopback(&site.endpoint.host) && !there.eq_ignore_ascii_case(split_port(&site.endpoint.host).0) {
        return Err(refuse(guard::REASON));
    }
    Ok(url)
}

/// The scheme that a reference begins by, if it does (RFC 3986, section 4.2).
fn named_scheme(to: &str) -> Option<&str> {
    let (scheme, _) = to.split_once(':')?;
    let begins = scheme.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
    let rest = scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    (begins && rest).then_some(scheme)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::hosts::hosts_for;
    use crate::reference::Image;

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

    fn reply(location: &str) -> Reply {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, HeaderValue::from_str(location).unwrap());
        Reply {
            host: "asked".to_owned(),
            status: StatusCode::FOUND,
            headers,
            body: Body::builder().data(""),
        }
    }

    #[test]
    fn redirects_lead_to_safe_places_only() {
        for (registry, location, wanted) in [
            ("docker.io", "https://cdn.example/x?y=1", Some("https://cdn.example/x?y=1")),
            ("docker.io", "HTTPS://cdn.example/x", Some("https://cdn.example/x")),
            ("docker.io", "//cdn.example/x", Some("https://cdn.example/x")),
            ("docker.io", "/x/y", Some("https://registry-1.docker.io/x/y")),
            ("docker.io", "x?u=http://y", Some("https://registry-1.docker.io/v2/x?u=http://y")),
            ("docker.io", "http://cdn.example/x", None),
            ("docker.io", "https://127.0.0.1/x", None),
            ("docker.io", "https://localhost/x", None),
            ("docker.io", "https://LOCALHOST:5000/x", None),
            ("docker.io", "https://[::1]/x", None),
            ("docker.io", "https://[::ffff:127.0.0.1]/x", None),
            ("docker.io", "https://user:pw@cdn.example/x", None),
            ("docker.io", "file:///etc/passwd", None),
            ("docker.io", "data:text/plain,x", None),
            ("docker.io", "https://", None),
            ("docker.io", "", None),
            ("localhost:5000", "http://localhost:9000/x", Some("http://localhost:9000/x")),
            ("localhost:5000", "https://127.0.0.1/x", Some("https://127.0.0.1/x")),
            ("localhost:443", "http://localhost/x", None),
        ] {
            let site = site(registry);
            let scheme = if site.endpoint.plain_http { "http" } else { "https" };
            let from: Uri = format!("{scheme}://{}/v2/a", site.endpoint.host).parse().unwrap();
            let got = target(&from, &reply(location), &site).ok().map(|url| url.to_string());
            assert_eq!(got.as_deref(), wanted, "{registry} {location}");
        }
    }

    #[test]
    fn names_that_only_resolve_to_this_machine_are_refused_too() {
        let transport = Transport::new("test".to_owned(), Timeouts::default(), Limits::default());
        let site = site("docker.io");
        // No text check catches this form; whoever resolves it comes to 127.0.0.1.
        let ask = Ask::get("https://2130706433/".parse().unwrap(), "*/*", "x");
        let error = transport.send(&site, &ask).err().unwrap();
        assert!(matches!(error, Error::Redirect { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("registry-1.docker.io sends on to 2130706433") && text.contains(guard::REASON),
            "{text}"
        );
    }

    #[test]
    fn origins_are_compared_without_the_usual_port() {
        for (one, other, same) in [
            ("https://a", "https://A:443", true),
            ("http://a", "http://a:80", true),
            ("https://a", "http://a", false),
            ("https://a:80", "https://a", false),
            ("https://a", "https://b", false),
            ("https://[::1]:443", "https://[::1]", true),
        ] {
            let (one, other): (Uri, Uri) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(origin(&one) == origin(&other), same, "{one} {other}");
        }
    }
}
