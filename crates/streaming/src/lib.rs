//! Exec, attach and port-forward for API servers: SPDY/3.1 and websockets.
//!
//! A kubelet asks its runtime for a URL and hands the client's connection on to it. [`Server`] gives
//! out those URLs and speaks what the clients speak, as `k8s.io/kubelet/pkg/cri/streaming` does;
//! what runs behind it is a [`Backend`]. It knows neither the engine nor CRI's messages.

mod backend;
mod client;
mod idle;
mod outcome;
mod portforward;
mod remote;
mod remote_spdy;
mod remote_websocket;
mod server;
pub mod spdy;
mod tokens;
mod waiting;
mod websocket;

pub use backend::{AttachRequest, Backend, Duplex, Error, ExecRequest, Input, Output, PortForwardRequest, Process};
pub use server::{Options, Server};
