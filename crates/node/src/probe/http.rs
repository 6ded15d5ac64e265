//! A GET as the kubelet's probes and hooks make it (`pkg/probe/http/http.go`, `request.go`): one request a
//! connection, redirects within one host followed, at most [`MAX_BODY`] bytes of an answer read.

use super::answer::{self, Answer, Broken};
use super::net::{Patience, dial, join};
use super::tls;
use std::fmt;

/// Most that is read of a body, bytes (`maxRespBodyLength`).
pub(crate) const MAX_BODY: usize = 10 * 1024;
/// Most redirects that are followed.
const MAX_REDIRECTS: usize = 10;

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) https: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Whether the port was written.
    explicit: bool,
    /// Path and query, ready to be sent.
    pub(crate) path: String,
}

impl Url {
    /// `path` as a manifest has it: with a query perhaps, without a slash perhaps.
    pub(crate) fn new(https: bool, host: &str, port: u16, path: &str) -> Self {
        Self {
            https,
            host: host.to_owned(),
            port,
            explicit: true,
            path: requestable(path),
        }
    }

    /// Where `location` leads from here. `None` where that is nowhere HTTP goes.
    fn join(&self, location: &str) -> Option<Self> {
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(self.https, rest);
        }
        match location.split_once("://") {
            Some((scheme, rest)) if scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) => {
                match scheme.to_ascii_lowercase().as_str() {
                    "http" => Self::parse(false, rest),
                    "https" => Self::parse(true, rest),
                    _ => None,
                }
            }
            _ => {
                let path = if location.starts_with('/') {
                    location.to_owned()
                } else if location.starts_with('?') {
                    format!("{}{location}", self.path.split('?').next().unwrap_or_default())
                } else {
                    let here = self.path.split('?').next().unwrap_or_default();
                    format!("{}{location}", &here[..=here.rfind('/').unwrap_or(0)])
                };
                Some(Self {
                    path: requestable(&path),
                    ..self.clone()
                })
            }
        }
    }

    fn parse(https: bool, rest: &str) -> Option<Self> {
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let (host, port) = match authority.strip_prefix('[').and_then(|a| a.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => authority
                .split_once(':')
                .map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        let explicit = port.is_some_and(|port| !port.is_empty());
        let default = if https { 443 } else { 80 };
        let port = port
            .filter(|port| !port.is_empty())
            .map_or(Some(default), |port| port.parse().ok())?;
        (!host.is_empty()).then(|| Self {
            https,
            host: host.to_owned(),
            port,
            explicit,
            path: requestable(path),
        })
    }

    pub(crate) fn authority(&self) -> String {
        if self.explicit {
            join(&self.host, self.port)
        } else if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}://{}{}",
            if self.https { "https" } else { "http" },
            self.authority(),
            self.path
        )
    }
}

/// A path that can be sent: from the root, without a fragment, with nothing that would end a line.
fn requestable(path: &str) -> String {
    // As upstream parses the path as a URL, and then puts its own host in.
    let path = match path.split_once("://") {
        Some(("http" | "https", rest)) => &rest[rest.find('/').unwrap_or(rest.len())..],
        _ => path,
    };
    let path = path.split('#').next().unwrap_or_default();
    let mut out = String::new();
    if !path.starts_with('/') {
        out.push('/');
    }
    for byte in path.bytes() {
        match byte {
            b'!' | b'#'..=b';' | b'=' | b'?'..=b'[' | b']' | b'_' | b'a'..=b'z' | b'|' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Get {
    pub(crate) url: Url,
    pub(crate) headers: Vec<(String, String)>,
    /// What it calls itself, unless `headers` say so: `kube-probe/1.34`.
    pub(crate) agent: &'static str,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// One phrase, as Go's client puts it.
    Failed(String),
    /// The server does not speak TLS.
    PlainServer(String),
    /// The status came, and then the body broke off.
    Body(String),
}

/// What a server said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// Sends `get`, and follows redirects that stay on its host.
pub(crate) fn fetch(get: &Get, patience: &Patience<'_>) -> Result<Said, NoAnswer> {
    let mut url = get.url.clone();
    let fail = |url: &Url, why: String| NoAnswer::Failed(format!("Get \"{url}\": {why}"));
    // A written Host holds as long as no redirect names an address, as with Go's client.
    let (mut asked, mut own_host) = (0, true);
    loop {
        asked += 1;
        let answer = once(get, &url, own_host, patience)?;
        let next = match (&answer.location, answer.status) {
            (Some(to), 301 | 302 | 303 | 307 | 308) => {
                let next = url.join(to);
                Some((to, next.ok_or_else(|| fail(&url, format!("failed to parse Location header {to:?}")))?))
            }
            _ => None,
        };
        match next {
            Some((to, next)) if next.host == get.url.host => {
                if asked >= MAX_REDIRECTS {
                    // Go's client names the Location as it was sent.
                    return Err(NoAnswer::Failed(format!("Get \"{to}\": stopped after {MAX_REDIRECTS} redirects")));
                }
                own_host &= !to.contains("://");
                url = next;
            }
            _ => {
                return answer
                    .body
                    .map(|body| Said {
                        status: answer.status,
                        body,
                    })
                    .map_err(NoAnswer::Body);
            }
        }
    }
}

fn once(get: &Get, url: &Url, own_host: bool, patience: &Patience<'_>) -> Result<Answer, NoAnswer> {
    let fail = |why: String| NoAnswer::Failed(format!("Get \"{url}\": {why}"));
    let request = request(get, url, own_host).map_err(fail)?;
    let wire = dial(&url.host, url.port, patience).map_err(|why| fail(late(why)))?;
    let answered = if url.https {
        answer::ask(tls::over(wire, &url.host).map_err(fail)?, &request)
    } else {
        answer::ask(wire, &request)
    };
    answered.map_err(|broken| match broken {
        Broken::Plain => NoAnswer::PlainServer(format!("Get \"{url}\": http: server gave HTTP response to HTTPS client")),
        Broken::Io(why) => fail(late(why)),
        Broken::Malformed(why) => fail(why),
    })
}

fn late(why: String) -> String {
    match why.as_str() {
        "i/o timeout" => "context deadline exceeded (Client.Timeout exceeded while awaiting headers)".into(),
        _ if why.ends_with("i/o timeout") => format!("{why} (Client.Timeout exceeded while awaiting headers)"),
        _ => why,
    }
}

/// The request as bytes. A header that could smuggle in another is refused.
fn request(get: &Get, url: &Url, own_host: bool) -> Result<Vec<u8>, String> {
    let find = |name: &str| {
        get.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    };
    let host = find("Host")
        .filter(|host| own_host && !host.is_empty())
        .map_or_else(|| url.authority(), str::to_owned);
    let mut lines = vec![format!("GET {} HTTP/1.1", url.path), format!("Host: {host}")];
    match find("User-Agent") {
        None => lines.push(format!("User-Agent: {}", get.agent)),
        Some("") => {}
        Some(agent) => lines.push(format!("User-Agent: {agent}")),
    }
    match find("Accept") {
        None => lines.push("Accept: */*".into()),
        Some("") => {}
        Some(accept) => lines.push(format!("Accept: {accept}")),
    }
    for (name, value) in &get.headers {
        let token = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        if !token {
            return Err(format!("net/http: invalid header field name {name:?}"));
        }
        if value.bytes().any(|b| (b < b' ' && b != b'\t') || b == 127) {
            return Err(format!("net/http: invalid header field value for {name:?}"));
        }
        // The connection and its framing are ours.
        let ours = ["host", "user-agent", "accept", "connection", "content-length", "transfer-encoding"];
        if !ours.contains(&name.to_ascii_lowercase().as_str()) {
            lines.push(format!("{name}: {value}"));
        }
    }
    lines.push("Connection: close".into());
    Ok((lines.join("\r\n") + "\r\n\r\n").into_bytes())
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
