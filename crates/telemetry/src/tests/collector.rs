#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
//! Collectors that tests export to: over HTTP in both forms, over gRPC by tonic, and one that answers what no collector
//! should.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use serde_json::{Value, json};

use super::LONG;
use crate::lock;
use crate::trace::context::to_hex;
use crate::trace::proto::{AnyKind, ExportRequest, ExportResponse, KeyValue, WireSpan};

/// Hands out each export (its headers, lines in lower case; its message, in JSON's form) and answers as told, by default
/// with all taken.
pub(crate) struct Collector<A> {
    pub(crate) address: SocketAddr,
    pub(crate) posts: Receiver<(String, Value)>,
    pub(crate) answers: Sender<A>,
}

impl<A> Collector<A> {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The spans of the next export.
    pub(crate) fn spans(&self) -> Vec<Value> {
        let (_, body) = self.posts.recv_timeout(LONG).unwrap();
        body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone()
    }
}

/// An answer over HTTP: status, more header lines, body.
pub(crate) type Reply = (u16, &'static str, Vec<u8>);

impl Collector<Reply> {
    pub(crate) fn start() -> Self {
        Self::start_over(None)
    }

    /// One that speaks TLS, where it is given how.
    pub(crate) fn start_over(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (told, posts) = channel();
        let (answers, to_answer) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                match &tls {
                    None => collect(stream, &told, &to_answer),
                    Some(config) => {
                        let session = rustls::ServerConnection::new(config.clone()).unwrap();
                        collect(rustls::StreamOwned::new(session, stream), &told, &to_answer);
                    }
                }
            }
        });
        Self { address, posts, answers }
    }
}

fn collect(stream: impl Read + Write, told: &Sender<(String, Value)>, to_answer: &Receiver<Reply>) {
    let mut reader = BufReader::new(stream);
    while let Some((head, body)) = read_post(&mut reader) {
        let _ = told.send((head, body));
        let (status, headers, body) = to_answer.try_recv().unwrap_or((200, "", vec![]));
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
        let answered = reader
            .get_mut()
            .write_all(head.as_bytes())
            .and_then(|()| reader.get_mut().write_all(&body));
        if answered.and_then(|()| reader.get_mut().flush()).is_err() {
            return;
        }
    }
}

fn read_post(reader: &mut BufReader<impl Read>) -> Option<(String, Value)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let head = head.to_ascii_lowercase();
    let length: usize = head.split("content-length: ").nth(1)?.split("\r\n").next()?.parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let message = if head.contains("content-type: application/json\r\n") {
        serde_json::from_slice(&body).unwrap()
    } else {
        assert!(head.contains("content-type: application/x-protobuf\r\n"), "{head}");
        as_json(&ExportRequest::decode(body.as_slice()).unwrap())
    };
    Some((head, message))
}

/// A message in JSON's form, so that one test tells of all protocols.
pub(crate) fn as_json(request: &ExportRequest) -> Value {
    let resources = request.resource_spans.iter().map(|of_resource| {
        let scopes = of_resource.scope_spans.iter().map(|of_scope| {
            let scope = of_scope.scope.as_ref().unwrap();
            json!({
                "scope": {"name": scope.name, "version": scope.version},
                "spans": of_scope.spans.iter().map(span).collect::<Value>(),
            })
        });
        json!({
            "resource": {"attributes": pairs(&of_resource.resource.as_ref().unwrap().attributes)},
            "scopeSpans": scopes.collect::<Value>(),
        })
    });
    json!({"resourceSpans": resources.collect::<Value>()})
}

fn span(span: &WireSpan) -> Value {
    let mut out = json!({
        "traceId": to_hex(&span.trace_id),
        "spanId": to_hex(&span.span_id),
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": span.start_time_unix_nano.to_string(),
        "endTimeUnixNano": span.end_time_unix_nano.to_string(),
        "attributes": pairs(&span.attributes),
        "droppedAttributesCount": span.dropped_attributes_count,
        "flags": span.flags,
    });
    if !span.parent_span_id.is_empty() {
        out["parentSpanId"] = to_hex(&span.parent_span_id).into();
    }
    if !span.events.is_empty() {
        let events = span.events.iter().map(
            |event| json!({"timeUnixNano": event.time_unix_nano.to_string(), "name": event.name, "attributes": pairs(&event.attributes)}),
        );
        out["events"] = events.collect();
        out["droppedEventsCount"] = span.dropped_events_count.into();
    }
    if let Some(status) = &span.status {
        out["status"] = json!({"code": status.code, "message": status.message});
    }
    out
}

fn pairs(attributes: &[KeyValue]) -> Value {
    let value = |pair: &KeyValue| match pair.value.clone().unwrap().kind.unwrap() {
        AnyKind::Text(text) => json!({"stringValue": text}),
        AnyKind::Number(number) => json!({"intValue": number.to_string()}),
    };
    attributes
        .iter()
        .map(|pair| json!({"key": pair.key, "value": value(pair)}))
        .collect()
}

/// An answer over gRPC.
pub(crate) type Verdict = Result<ExportResponse, tonic::Status>;

/// The service `TraceService`, as tonic serves it.
#[derive(Clone)]
struct TraceService {
    told: Sender<(String, Value)>,
    to_answer: Arc<Mutex<Receiver<Verdict>>>,
}

impl tonic::server::NamedService for TraceService {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

type Answering<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl tower::Service<http::Request<tonic::body::Body>> for TraceService {
    type Response = http::Response<tonic::body::Body>;
    type Error = std::convert::Infallible;
    type Future = Answering<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let service = self.clone();
        assert!(request.uri().path().ends_with("/Export"), "{}", request.uri());
        Box::pin(async move {
            let codec = tonic_prost::ProstCodec::<ExportResponse, ExportRequest>::default();
            Ok(tonic::server::Grpc::new(codec).unary(service, request).await)
        })
    }
}

impl tonic::server::UnaryService<ExportRequest> for TraceService {
    type Response = ExportResponse;
    type Future = Answering<tonic::Response<ExportResponse>, tonic::Status>;

    fn call(&mut self, request: tonic::Request<ExportRequest>) -> Self::Future {
        let headers = request.metadata().clone().into_headers();
        let lines = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap()));
        let _ = self.told.send((lines.collect(), as_json(request.get_ref())));
        let answer = lock(&self.to_answer).try_recv().unwrap_or(Ok(ExportResponse::default()));
        Box::pin(async move { answer.map(tonic::Response::new) })
    }
}

impl Collector<Verdict> {
    pub(crate) fn start_grpc() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let (told, posts) = channel();
        let (answers, to_answer) = channel();
        let service = TraceService {
            told,
            to_answer: Arc::new(Mutex::new(to_answer)),
        };
        std::thread::spawn(move || {
            one_thread().block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
                let server = tonic::transport::Server::builder().add_service(service);
                server.serve_with_incoming(incoming).await.unwrap();
            });
        });
        Self { address, posts, answers }
    }
}

fn one_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// An answer of HTTP/2 as it is told, be it gRPC or not.
#[derive(Clone, Default)]
pub(crate) struct Raw {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<Vec<(&'static str, String)>>,
    /// Closes the connection after the answer.
    pub(crate) closes: bool,
}

/// Answers every request with the same, over TLS where it is given how. The address, and of each request which
/// connection it came by.
pub(crate) fn answering(raw: Raw, tls: Option<Arc<rustls::ServerConfig>>) -> (SocketAddr, Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let (told, requests) = channel();
    std::thread::spawn(move || {
        one_thread().block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            for number in 1.. {
                let (stream, _) = listener.accept().await.unwrap();
                let told = || {
                    let _ = told.send(number);
                };
                match &tls {
                    None => answer(stream, &raw, told).await,
                    Some(config) => {
                        let acceptor = tokio_rustls::TlsAcceptor::from(config.clone());
                        if let Ok(stream) = acceptor.accept(stream).await {
                            answer(stream, &raw, told).await;
                        }
                    }
                }
            }
        });
    });
    (address, requests)
}

async fn answer<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(stream: S, raw: &Raw, told: impl Fn()) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        // What was sent is read as far as the window lets it come.
        drop(request);
        told();
        let mut response = http::Response::builder().status(raw.status);
        for (name, value) in &raw.headers {
            response = response.header(*name, value);
        }
        let response = response.body(()).unwrap();
        let Ok(mut body) = respond.send_response(response, raw.body.is_empty() && raw.trailers.is_none()) else {
            continue;
        };
        let _ = body.send_data(raw.body.clone(), raw.trailers.is_none());
        if let Some(trailers) = &raw.trailers {
            let pairs = trailers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            let _ = body.send_trailers(pairs.collect());
        }
        if raw.closes {
            // Long enough for the answer to leave; what is asked meanwhile is never answered.
            let _ = tokio::time::timeout(Duration::from_millis(20), connection.accept()).await;
            return;
        }
    }
}

/// Somebody who takes connections and says nothing.
pub(crate) fn silent() -> (SocketAddr, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (listener.local_addr().unwrap(), listener)
}

/// A port that nobody listens on and nobody else gets, for as long as the socket lives.
pub(crate) fn dead() -> (SocketAddr, rustix::fd::OwnedFd) {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    (rustix::net::getsockname(&socket).unwrap().try_into().unwrap(), socket)
}
