//! One client after its upgrade: the request and the wire decide who serves it.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::backend::{Backend, PortForwardRequest};
use crate::idle::Idle;
use crate::portforward;
use crate::remote::Job;
use crate::server::Options;
use crate::spdy::{Role, Session};
use crate::tokens::Request;
use crate::{remote_spdy, remote_websocket, websocket};

/// Bytes that may be between a websocket and the SPDY within it.
const TUNNEL_BUFFER: usize = 64 * 1024;

/// What was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    /// SPDY/3.1 with this stream protocol.
    Spdy(&'static str),
    /// A websocket with this sub-protocol, or with none.
    Websocket(&'static str),
}

/// Serves a client until its stream or its connection ends.
pub(crate) async fn serve<B, T>(request: Request, wire: Wire, io: T, backend: Arc<B>, options: &Options)
where
    B: Backend,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match request {
        Request::Exec(request) => remote(Job::Exec(request), wire, io, &*backend, options).await,
        Request::Attach(request) => remote(Job::Attach(request), wire, io, &*backend, options).await,
        Request::PortForward(request) => forward(request, wire, io, backend, options).await,
    }
}

async fn remote<B, T>(job: Job, wire: Wire, io: T, backend: &B, options: &Options)
where
    B: Backend,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match wire {
        Wire::Spdy(protocol) => {
            let (session, incoming) = Session::start(io, Role::Server, options.idle_timeout);
            let version = remote_spdy::Version::of(protocol);
            remote_spdy::serve(job, backend, session, incoming, version, options.stream_creation_timeout).await;
        }
        Wire::Websocket(protocol) => {
            let idle = Arc::new(Idle::new(options.idle_timeout));
            remote_websocket::serve(job, backend, websocket::accept(io).await, protocol, idle).await;
        }
    }
}

async fn forward<B, T>(request: PortForwardRequest, wire: Wire, io: T, backend: Arc<B>, options: &Options)
where
    B: Backend,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let PortForwardRequest { pod, ports } = request;
    let patience = options.stream_creation_timeout;
    match wire {
        Wire::Spdy(_) => {
            let (session, incoming) = Session::start(io, Role::Server, options.idle_timeout);
            portforward::serve_spdy(pod, backend, session, incoming, patience).await;
        }
        Wire::Websocket(portforward::TUNNEL) => {
            let (near, far) = tokio::io::duplex(TUNNEL_BUFFER);
            let (session, incoming) = Session::start(near, Role::Server, options.idle_timeout);
            let carrying = websocket::tunnel(websocket::accept(io).await, far);
            tokio::join!(carrying, portforward::serve_spdy(pod, backend, session, incoming, patience));
        }
        Wire::Websocket(protocol) => {
            let idle = Arc::new(Idle::new(options.idle_timeout));
            portforward::serve_websocket(pod, ports, backend, websocket::accept(io).await, protocol, idle).await;
        }
    }
}
