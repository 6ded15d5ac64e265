//! OTLP over gRPC: one unary call over HTTP/2.
//!
//! It is written on `h2` rather than taken from tonic's client: that panics where a collector's error details are no
//! base64, takes answers that are too long for ones to be sent again, and keeps tasks that nobody would drive between two
//! exports. Here nothing runs between two exports, and the thread that sends is the only one.
//!
//! Sources: gRPC "PROTOCOL-HTTP2.md", "http-grpc-status-mapping.md"; OTLP specification, "OTLP/gRPC".

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::{Builder, SendRequest};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use prost::Message;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use super::proto::{self, ExportRequest};
use super::send::{MOST_ANSWER, Outcome, told};
use super::settings::Settings;
use super::tls;
use crate::{Code, Error};

const PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// A connection that rested for longer is not used again: what stands between may have forgotten it.
const IDLE: Duration = Duration::from_secs(15);
/// More of an answer's headers and trailers is not taken, bytes.
const MOST_HEADERS: u32 = 16 * 1024;
/// Names of the right port, where what answers is none.
const HINT: &str = "is this the collector's gRPC port, usually 4317?";
/// `-bin` headers come padded or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Sends by gRPC.
pub(super) struct Grpc {
    /// Has no thread of its own: it runs while the exporter's thread waits in it.
    runtime: Runtime,
    target: Target,
    kept: Option<Connection>,
}

struct Target {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    uri: Uri,
    headers: HeaderMap,
}

/// Drives the connection; ends with it.
type Driver = Pin<Box<dyn Future<Output = Result<(), h2::Error>> + Send>>;

struct Connection {
    send: SendRequest<Bytes>,
    driver: Driver,
    used: Instant,
}

/// What a collector answered.
struct Answer {
    http: u16,
    /// Trailers, or the headers of an answer that has nothing else.
    fields: HeaderMap,
    /// `None` where it was too long.
    body: Option<BytesMut>,
}

/// A message in gRPC's frame: uncompressed, its length, itself.
pub(super) fn framed(request: &ExportRequest) -> Bytes {
    let length = request.encoded_len();
    let mut out = BytesMut::with_capacity(5 + length);
    out.put_u8(0);
    // What is longer than 4 GiB is given up before it is sent.
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // The buffer has room for all of it, and nothing else can go wrong.
    let _ = request.encode(&mut out);
    out.freeze()
}

impl Grpc {
    pub(super) fn new(settings: &Settings, agent: &str) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| Error::Thread { name: "spans", source })?;
        Ok(Self {
            runtime,
            target: Target::new(settings, agent)?,
            kept: None,
        })
    }

    /// Sends one framed message.
    pub(super) fn send(&mut self, body: &Bytes, timeout: Duration) -> Outcome {
        let Self { runtime, target, kept } = self;
        let late = || Outcome::Later(format!("it has not answered within {:.1} s", timeout.as_secs_f32()), None);
        runtime.block_on(async {
            let export = export(target, kept, body, timeout);
            tokio::time::timeout(timeout, export).await.unwrap_or_else(|_| late())
        })
    }
}

/// Calls over the connection that was kept, or where that broke while it rested, over a new one.
async fn export(target: &Target, kept: &mut Option<Connection>, body: &Bytes, timeout: Duration) -> Outcome {
    if let Some(connection) = kept.take().filter(|kept| kept.used.elapsed() < IDLE)
        && let Ok((answer, connection)) = connection.call(target.request(timeout), body).await
    {
        *kept = connection;
        return answer.outcome();
    }
    let connection = match target.connect().await {
        Ok(connection) => connection,
        Err(why) => return Outcome::Later(why, None),
    };
    match connection.call(target.request(timeout), body).await {
        Ok((answer, connection)) => {
            *kept = connection;
            answer.outcome()
        }
        Err(error) => Outcome::Later(explained(&error), None),
    }
}

/// An error of HTTP/2; what speaks something else breaks its rules.
fn explained(error: &h2::Error) -> String {
    match error.reason() {
        Some(h2::Reason::PROTOCOL_ERROR | h2::Reason::FRAME_SIZE_ERROR) => format!("{error}; {HINT}"),
        _ => error.to_string(),
    }
}

impl Target {
    fn new(settings: &Settings, agent: &str) -> Result<Self, Error> {
        let wrong = || Error::Endpoint {
            from: "the OTLP endpoint",
            value: settings.url.clone(),
            example: settings.protocol.default_endpoint(),
        };
        let uri: Uri = format!("{}{PATH}", settings.url).parse().map_err(|_| wrong())?;
        let host = uri.host().map(|host| host.trim_start_matches('[').trim_end_matches(']').to_owned());
        let host = host.ok_or_else(wrong)?;
        let is_tls = uri.scheme_str() == Some("https");
        let tls = if is_tls {
            let name = ServerName::try_from(host.clone()).map_err(|_| wrong())?;
            Some((TlsConnector::from(tls::for_grpc(settings)?), name))
        } else {
            None
        };
        let mut headers = HeaderMap::new();
        for (name, value) in [("user-agent", agent), ("te", "trailers"), ("content-type", "application/grpc")] {
            headers.extend(
                HeaderValue::from_str(value)
                    .ok()
                    .map(|value| (HeaderName::from_static(name), value)),
            );
        }
        for (name, value) in &settings.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
                headers.insert(name, value);
            }
        }
        Ok(Self {
            port: uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            host,
            tls,
            uri,
            headers,
        })
    }

    fn request(&self, timeout: Duration) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = http::Version::HTTP_2;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        // Eight digits at most; no timeout here has as many.
        let millis = timeout.as_millis().clamp(1, 99_999_999);
        if let Ok(value) = HeaderValue::from_str(&format!("{millis}m")) {
            request.headers_mut().insert("grpc-timeout", value);
        }
        request
    }

    async fn connect(&self) -> Result<Connection, String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|error| format!("no connection: {error}"))?;
        // A small message is not to wait for the answer to the one before.
        let _ = stream.set_nodelay(true);
        let Some((connector, name)) = &self.tls else {
            return handshake(stream).await;
        };
        let stream = connector.connect(name.clone(), stream).await;
        let stream = stream.map_err(|error| format!("no connection over TLS: {error}; {HINT}"))?;
        handshake(stream).await
    }
}

async fn handshake(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Result<Connection, String> {
    let made = Builder::new()
        .initial_window_size(MOST_ANSWER as u32)
        .max_header_list_size(MOST_HEADERS)
        .handshake(stream)
        .await;
    let (send, driver) = made.map_err(|error| explained(&error))?;
    Ok(Connection {
        send,
        driver: Box::pin(driver),
        used: Instant::now(),
    })
}

impl Connection {
    /// One call. The connection comes back where it can be used again.
    async fn call(mut self, request: Request<()>, body: &Bytes) -> Result<(Answer, Option<Self>), h2::Error> {
        let exchange = exchange(self.send.clone(), request, body.clone());
        tokio::pin!(exchange);
        tokio::select! {
            biased;
            answer = &mut exchange => {
                self.used = Instant::now();
                return answer.map(|answer| (answer, Some(self)));
            }
            _ = &mut self.driver => {}
        }
        // The connection has ended. Dropping it settles what is under way: the answer that came with its last bytes, or an
        // error.
        drop(self.driver);
        exchange.await.map(|answer| (answer, None))
    }
}

async fn exchange(send: SendRequest<Bytes>, request: Request<()>, body: Bytes) -> Result<Answer, h2::Error> {
    let mut send = send.ready().await?;
    let (response, mut out) = send.send_request(request, false)?;
    out.send_data(body, true)?;
    let (head, mut stream) = response.await?.into_parts();
    let mut answer = Answer {
        http: head.status.as_u16(),
        fields: head.headers,
        body: None,
    };
    let mut body = BytesMut::new();
    while let Some(chunk) = stream.data().await {
        let chunk = chunk?;
        if body.len() + chunk.len() > MOST_ANSWER {
            return Ok(answer);
        }
        stream.flow_control().release_capacity(chunk.len())?;
        body.extend_from_slice(&chunk);
    }
    answer.body = Some(body);
    if let Some(trailers) = stream.trailers().await? {
        answer.fields.extend(trailers);
    }
    Ok(answer)
}

impl Answer {
    fn outcome(&self) -> Outcome {
        let Some(body) = &self.body else {
            return Outcome::Refused(format!("it answered with more than {MOST_ANSWER} bytes"));
        };
        let Some(code) = self.text("grpc-status") else {
            return self.without_status();
        };
        // A number that is none is no known code.
        let code = Code::from_number(code.parse().unwrap_or(i32::from(u8::MAX)));
        if code == Code::Ok {
            let (count, why) = proto::refused(message(body));
            return Outcome::Taken(count, why);
        }
        let details = self
            .fields
            .get("grpc-status-details-bin")
            .map(HeaderValue::as_bytes)
            .unwrap_or_default();
        let (_, retry) = proto::error(&BASE64.decode(details).unwrap_or_default());
        let why = told(code.name(), &percent_decoded(self.text("grpc-message").unwrap_or_default()));
        match (code, retry) {
            (Code::Canceled | Code::DeadlineExceeded | Code::Aborted | Code::OutOfRange | Code::Unavailable | Code::DataLoss, _)
            // Only what says when can recover.
            | (Code::ResourceExhausted, Some(_)) => Outcome::Later(why, retry.filter(|delay| !delay.is_zero())),
            _ => Outcome::Refused(why),
        }
    }

    /// HTTP without gRPC: of the codes that stand for it, `Unavailable` alone may be sent again.
    fn without_status(&self) -> Outcome {
        let why = format!("it answered HTTP {} and no gRPC status; {HINT}", self.http);
        match self.http {
            429 | 502 | 503 | 504 => Outcome::Later(why, None),
            _ => Outcome::Refused(why),
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name)?.to_str().ok()
    }
}

/// The message of an answer; what is compressed or cut short is none.
fn message(body: &[u8]) -> &[u8] {
    match body {
        [0, a, b, c, d, rest @ ..] if u32::from_be_bytes([*a, *b, *c, *d]) as usize == rest.len() => rest,
        _ => &[],
    }
}

/// As gRPC encodes messages; a percent sign that begins nothing stands for itself.
fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digit = |at: usize| char::from(*tail.get(at)?).to_digit(16);
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
