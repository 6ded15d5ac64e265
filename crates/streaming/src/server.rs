//! The HTTP server: tokens to requests, upgrades to protocols.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming as Body;
use hyper::header::{CONNECTION, HeaderMap, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use hyper::{Method, Request as HttpRequest, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::backend::{AttachRequest, Backend, Error, ExecRequest, PortForwardRequest};
use crate::client::{Wire, serve};
use crate::portforward::{self, MAX_PORTS};
use crate::tokens::{Request, Tokens};
use crate::waiting::{Place, Waiting};
use crate::{remote_spdy, remote_websocket};

const PROTOCOL_VERSION: &str = "X-Stream-Protocol-Version";
const ACCEPTED_VERSIONS: &str = "X-Accepted-Stream-Protocol-Versions";
/// Clients that are served at once; each may hold a few MiB. They had a token.
const MAX_SERVED: usize = 2048;
/// Connections that have shown no token yet; one more cuts the oldest, so that processes of the node, any
/// of which may connect, keep no client out.
const MAX_WAITING: usize = 256;
/// How long a client may take to send its request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Times and bounds; the defaults are upstream's.
#[derive(Debug, Clone)]
pub struct Options {
    /// A connection without any message for so long is closed.
    pub idle_timeout: Duration,
    /// A SPDY client must have opened its streams after so long.
    pub stream_creation_timeout: Duration,
    /// A URL is good for so long.
    pub token_lifetime: Duration,
    /// So many URLs may wait for their clients.
    pub max_in_flight: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(4 * 60 * 60),
            stream_creation_timeout: Duration::from_secs(30),
            token_lifetime: Duration::from_secs(60),
            max_in_flight: 1000,
        }
    }
}

/// The streaming server. Dropping it closes its socket and cuts every connection.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    tokens: Arc<Tokens>,
    stop: watch::Sender<bool>,
}

impl Server {
    /// Listens on an address, which should be loopback: what has a token's URL needs nothing else.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn start<B: Backend>(address: SocketAddr, backend: Arc<B>, options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let tokens = Arc::new(Tokens::new(options.token_lifetime, options.max_in_flight));
        let (stop, stopped) = watch::channel(false);
        let door = Arc::new(Door {
            tokens: tokens.clone(),
            backend,
            options,
            served: Arc::new(Semaphore::new(MAX_SERVED)),
            stopped: stopped.clone(),
        });
        tokio::spawn(accept(listener, door, stopped));
        Ok(Self { address, tokens, stop })
    }

    /// Where it listens; the port is the real one, also when 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A URL that runs this command, once.
    ///
    /// # Errors
    /// The request contradicts itself, or too many wait.
    pub fn exec_url(&self, request: ExecRequest) -> Result<String, Error> {
        check(&request.container, request.tty, [request.stdin, request.stdout, request.stderr])?;
        self.url(Request::Exec(request))
    }

    /// A URL that attaches to this container, once.
    ///
    /// # Errors
    /// The request contradicts itself, or too many wait.
    pub fn attach_url(&self, request: AttachRequest) -> Result<String, Error> {
        check(&request.container, request.tty, [request.stdin, request.stdout, request.stderr])?;
        self.url(Request::Attach(request))
    }

    /// A URL that reaches this pod's ports, once.
    ///
    /// # Errors
    /// The request names no pod, or too many wait.
    pub fn port_forward_url(&self, request: PortForwardRequest) -> Result<String, Error> {
        if request.pod.is_empty() {
            return Err(Error::Invalid("missing required pod_sandbox_id".into()));
        }
        self.url(Request::PortForward(request))
    }

    /// Closes the socket and cuts every connection.
    pub fn shutdown(&self) {
        self.stop.send_replace(true);
    }

    fn url(&self, request: Request) -> Result<String, Error> {
        let path = request.path();
        Ok(format!("http://{}/{path}/{}", self.address, self.tokens.insert(request)?))
    }
}

/// Upstream's `validateExecRequest` and `validateAttachRequest`.
fn check(container: &str, tty: bool, [stdin, stdout, stderr]: [bool; 3]) -> Result<(), Error> {
    let why = if container.is_empty() {
        "missing required container_id"
    } else if tty && stderr {
        "tty and stderr cannot both be true"
    } else if !(stdin || stdout || stderr) {
        "one of stdin, stdout, or stderr must be set"
    } else {
        return Ok(());
    };
    Err(Error::Invalid(why.into()))
}

/// What every connection shares.
struct Door<B> {
    tokens: Arc<Tokens>,
    backend: Arc<B>,
    options: Options,
    /// Places for clients that are served.
    served: Arc<Semaphore>,
    stopped: watch::Receiver<bool>,
}

async fn stop_of(mut stopped: watch::Receiver<bool>) {
    // An error means that the server was dropped, which is the same.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn accept<B: Backend>(listener: TcpListener, door: Arc<Door<B>>, stopped: watch::Receiver<bool>) {
    let waiting = Waiting::new(MAX_WAITING);
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => waiting.spawn(|place| serve_http(stream, door.clone(), place)),
                // Out of descriptors, most likely: others will be closed.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = stop_of(stopped) => {}
    }
}

async fn serve_http<B: Backend>(stream: TcpStream, door: Arc<Door<B>>, place: Place) {
    // Keystrokes must not wait for more of them; without the option they only come later.
    let _ = stream.set_nodelay(true);
    let stopped = door.stopped.clone();
    let service = hyper::service::service_fn(|request| {
        let answer = answer(request, &door, &place);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::select! {
        // The client's own trouble: nothing was promised to it yet.
        _ = connection => {}
        () = stop_of(stopped) => {}
    }
}

type Answer = Response<Full<Bytes>>;

fn answer<B: Backend>(mut request: HttpRequest<Body>, door: &Arc<Door<B>>, place: &Place) -> Answer {
    if request.method() != Method::GET && request.method() != Method::POST {
        return refusal(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    }
    let Some(wanted) = consume(request.uri().path(), &door.tokens) else {
        return refusal(StatusCode::NOT_FOUND, "404 page not found");
    };
    // From here on nobody cuts it.
    place.leave();
    let Ok(permit) = door.served.clone().try_acquire_owned() else {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "too many streams are open");
    };
    let (wire, response) = match negotiate(request.headers(), &wanted) {
        Ok(agreed) => agreed,
        Err(refusal) => return *refusal,
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let door = door.clone();
    tokio::spawn(async move {
        let serving = async {
            // It fails when the client leaves before it has read the answer.
            if let Ok(io) = upgrade.await {
                serve(wanted, wire, TokioIo::new(io), door.backend.clone(), &door.options).await;
            }
        };
        tokio::select! {
            () = serving => {}
            () = stop_of(door.stopped.clone()) => {}
        }
        drop(permit);
    });
    response
}

/// The request of a path's token. The token is used up by any attempt with it.
fn consume(path: &str, tokens: &Tokens) -> Option<Request> {
    let (kind, token) = path.strip_prefix('/')?.split_once('/')?;
    tokens.take(token).filter(|request| request.path() == kind)
}

/// Finds what client and server both speak, and the answer that says so.
fn negotiate(headers: &HeaderMap, wanted: &Request) -> Result<(Wire, Answer), Box<Answer>> {
    let upgrade = headers
        .get(UPGRADE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_ascii_lowercase();
    let upgrades = values(headers, CONNECTION.as_str()).any(|value| value.eq_ignore_ascii_case("upgrade"));
    if upgrades && upgrade == "websocket" {
        websocket(headers, wanted)
    } else {
        spdy(headers, wanted, upgrades && upgrade.contains("spdy/3.1"))
    }
}

/// `k8s.io/apimachinery/pkg/util/httpstream`: `Handshake`, then `UpgradeResponse`.
fn spdy(headers: &HeaderMap, wanted: &Request, upgrades: bool) -> Result<(Wire, Answer), Box<Answer>> {
    let offered: Vec<&str> = values(headers, PROTOCOL_VERSION).collect();
    if offered.is_empty() {
        return Err(Box::new(refusal(
            StatusCode::BAD_REQUEST,
            "unable to upgrade: X-Stream-Protocol-Version is required",
        )));
    }
    let known: &[&'static str] = if matches!(wanted, Request::PortForward(_)) {
        &[portforward::PROTOCOL]
    } else {
        &remote_spdy::PROTOCOLS
    };
    let Some(protocol) = first_common(&offered, known) else {
        let text = format!("unable to upgrade: unable to negotiate protocol: client supports {offered:?}, server accepts {known:?}");
        let mut answer = refusal(StatusCode::FORBIDDEN, text);
        for protocol in known {
            append(&mut answer, ACCEPTED_VERSIONS, protocol);
        }
        return Err(Box::new(answer));
    };
    if !upgrades {
        return Err(Box::new(refusal(
            StatusCode::BAD_REQUEST,
            "unable to upgrade: missing upgrade headers in request",
        )));
    }
    let mut answer = switching("SPDY/3.1");
    append(&mut answer, PROTOCOL_VERSION, protocol);
    Ok((Wire::Spdy(protocol), answer))
}

/// RFC 6455 section 4.2.
fn websocket(headers: &HeaderMap, wanted: &Request) -> Result<(Wire, Answer), Box<Answer>> {
    let refuse = |status, text: &str| Err(Box::new(refusal(status, text.to_string())));
    let Some(key) = headers
        .get(SEC_WEBSOCKET_KEY)
        .filter(|_| headers.get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13"))
    else {
        return refuse(
            StatusCode::BAD_REQUEST,
            "unable to upgrade: Sec-WebSocket-Key and Sec-WebSocket-Version 13 are required",
        );
    };
    let known: &[&'static str] = match wanted {
        Request::PortForward(_) => &portforward::WEBSOCKET_PROTOCOLS,
        _ => &remote_websocket::PROTOCOLS,
    };
    let offered: Vec<&str> = values(headers, SEC_WEBSOCKET_PROTOCOL.as_str()).collect();
    let protocol = match first_common(&offered, known) {
        Some(protocol) => protocol,
        None if offered.is_empty() => "",
        None => {
            return refuse(
                StatusCode::FORBIDDEN,
                &format!("requested protocol(s) are not supported: {offered:?}; supports {known:?}"),
            );
        }
    };
    if let Request::PortForward(request) = wanted
        && protocol != portforward::TUNNEL
        && (request.ports.is_empty() || request.ports.len() > MAX_PORTS)
    {
        return refuse(
            StatusCode::BAD_REQUEST,
            "unable to forward over websocket channels: 1 to 127 ports must be requested",
        );
    }
    let mut answer = switching("websocket");
    append(
        &mut answer,
        "Sec-WebSocket-Accept",
        &tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes()),
    );
    if !protocol.is_empty() {
        append(&mut answer, SEC_WEBSOCKET_PROTOCOL.as_str(), protocol);
    }
    Ok((Wire::Websocket(protocol), answer))
}

/// A header's values, of all its lines, parted by commas.
fn values<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|value| !value.is_empty())
}

/// The client's order decides.
fn first_common(offered: &[&str], known: &[&'static str]) -> Option<&'static str> {
    offered
        .iter()
        .find_map(|offer| known.iter().find(|protocol| *protocol == offer).copied())
}

fn refusal(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    append(&mut answer, "Content-Type", "text/plain; charset=utf-8");
    append(&mut answer, CONNECTION.as_str(), "close");
    answer
}

fn switching(protocol: &str) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    append(&mut answer, CONNECTION.as_str(), "Upgrade");
    append(&mut answer, UPGRADE.as_str(), protocol);
    answer
}

fn append(answer: &mut Answer, name: &str, value: &str) {
    // All names and values are of this file's making and valid.
    if let (Ok(name), Ok(value)) = (hyper::header::HeaderName::from_bytes(name.as_bytes()), value.parse()) {
        answer.headers_mut().append(name, value);
    }
}
