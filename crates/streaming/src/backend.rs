//! What the server asks of the runtime behind it.

use std::future::Future;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// Why a request for a stream, or the stream's backend, failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The request contradicts itself or lacks something: gRPC's `InvalidArgument`.
    #[error("{0}")]
    Invalid(String),
    /// As many URLs as may wait for their client do so already: gRPC's `ResourceExhausted`.
    #[error("maximum number of in-flight requests exceeded")]
    TooManyInFlight,
    /// The operating system gave no random bytes for a token.
    #[error("no random bytes for a streaming URL's token: {0}")]
    Random(String),
    /// The backend could not do it; its own sentence.
    #[error("{0}")]
    Backend(String),
}

/// A command to run in a container, and which of its streams the client wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecRequest {
    /// The container's id.
    pub container: String,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Whether the command gets a terminal; never together with `stderr`.
    pub tty: bool,
    /// Whether the client sends standard input.
    pub stdin: bool,
    /// Whether the client takes standard output.
    pub stdout: bool,
    /// Whether the client takes standard error.
    pub stderr: bool,
}

/// A container's main process to attach to, and which of its streams the client wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttachRequest {
    /// The container's id.
    pub container: String,
    /// Whether the container has a terminal; never together with `stderr`.
    pub tty: bool,
    /// Whether the client sends standard input.
    pub stdin: bool,
    /// Whether the client takes standard output.
    pub stdout: bool,
    /// Whether the client takes standard error.
    pub stderr: bool,
}

/// A pod whose ports the client wants to reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortForwardRequest {
    /// The pod sandbox's id.
    pub pod: String,
    /// The ports; only the websocket channel protocols need them, a SPDY client names its own.
    pub ports: Vec<u16>,
}

/// A running process's streams. Both channels are bounded by whoever made them: that is the back-pressure.
#[derive(Debug)]
pub struct Process {
    /// To the process. It is dropped when the client is gone; the process itself is not the server's to end.
    pub input: mpsc::Sender<Input>,
    /// From the process; closed without [`Output::Exited`] or [`Output::Failed`] means that the stream broke.
    pub output: mpsc::Receiver<Output>,
}

/// What a client sends to a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Bytes of standard input.
    Data(Bytes),
    /// Standard input has ended; output goes on.
    Eof,
    /// The client's terminal has this size now, in characters.
    Resize {
        /// Lines.
        rows: u16,
        /// Characters in a line.
        cols: u16,
    },
}

/// What a process sends to its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Bytes of standard output, or of the terminal.
    Stdout(Bytes),
    /// Bytes of standard error.
    Stderr(Bytes),
    /// The process ended with this code; all its output came before.
    Exited(i32),
    /// The process could not be run or watched to its end; a sentence for the client.
    Failed(String),
}

/// A connection's two directions.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// The runtime behind the server.
pub trait Backend: Send + Sync + 'static {
    /// Runs a command in a container.
    ///
    /// # Errors
    /// The command could not be started; the client is told so on its error stream.
    fn exec(&self, request: ExecRequest) -> impl Future<Output = Result<Process, Error>> + Send;

    /// Attaches to a container's main process.
    ///
    /// # Errors
    /// There is no such process, or it has ended.
    fn attach(&self, request: AttachRequest) -> impl Future<Output = Result<Process, Error>> + Send;

    /// Connects to a port of a pod, within the pod.
    ///
    /// # Errors
    /// Nothing listens there, or the pod is gone.
    fn dial(&self, pod: String, port: u16) -> impl Future<Output = Result<Box<dyn Duplex>, Error>> + Send;
}
