//! A collector that takes spans over gRPC, by tonic; of OTLP's messages what the tests look at, by the field numbers of
//! opentelemetry-proto.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::common::patience;
use prost::Message;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::transport::server::TcpIncoming;

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<Resource>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<Scope>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Span {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) trace: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) parent: Vec<u8>,
    #[prost(string, tag = "5")]
    pub(crate) name: String,
    #[prost(message, repeated, tag = "9")]
    pub(crate) attributes: Vec<Pair>,
    #[prost(message, repeated, tag = "11")]
    pub(crate) events: Vec<Event>,
    #[prost(message, optional, tag = "15")]
    pub(crate) status: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Event {
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) attributes: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Status {
    #[prost(string, tag = "2")]
    pub(crate) message: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Pair {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
    #[prost(int64, optional, tag = "3")]
    number: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Response {}

/// The value of an attribute, numbers in figures.
#[track_caller]
pub(crate) fn attribute(pairs: &[Pair], key: &str) -> String {
    let pair = pairs
        .iter()
        .find(|pair| pair.key == key)
        .unwrap_or_else(|| panic!("{key} is not in {pairs:?}"));
    let value = pair.value.clone().unwrap();
    value.text.or(value.number.map(|number| number.to_string())).unwrap()
}

/// A collector on the loopback; it ends with its test.
pub(crate) struct Collector {
    pub(crate) url: String,
    spans: Receiver<Span>,
    _threads: tokio::runtime::Runtime,
}

impl Collector {
    pub(crate) fn start() -> Self {
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (told, spans) = channel();
        let incoming = {
            let _inside = threads.enter();
            TcpIncoming::bind(([127, 0, 0, 1], 0).into()).unwrap()
        };
        let url = format!("http://{}", incoming.local_addr().unwrap());
        let server = tonic::transport::Server::builder().add_service(Service(told));
        threads.spawn(server.serve_with_incoming(incoming));
        Self {
            url,
            spans,
            _threads: threads,
        }
    }

    /// The next span of this name; others before it are passed over.
    #[track_caller]
    pub(crate) fn next(&self, name: &str) -> Span {
        loop {
            let span = self
                .spans
                .recv_timeout(patience())
                .unwrap_or_else(|e| panic!("no span {name:?} came: {e}"));
            if span.name == name {
                return span;
            }
        }
    }
}

#[derive(Clone)]
struct Service(Sender<Span>);

impl tonic::server::NamedService for Service {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

type Answering<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl tower::Service<http::Request<Body>> for Service {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answering<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        let codec = tonic_prost::ProstCodec::<Response, Request>::default();
        Box::pin(async move { Ok(tonic::server::Grpc::new(codec).unary(service, request).await) })
    }
}

impl tonic::server::UnaryService<Request> for Service {
    type Response = Response;
    type Future = Answering<tonic::Response<Response>, tonic::Status>;

    fn call(&mut self, request: tonic::Request<Request>) -> Self::Future {
        let scopes = request.into_inner().resources.into_iter().flat_map(|resource| resource.scopes);
        for span in scopes.flat_map(|scope| scope.spans) {
            let _ = self.0.send(span);
        }
        Box::pin(async { Ok(tonic::Response::new(Response {})) })
    }
}
