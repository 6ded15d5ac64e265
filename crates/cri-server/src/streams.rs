//! Exec, attach and port-forward behind the streaming server: the engine's blocking streams as channels.

use crate::core::{BEGUN, BEGUN_OF_ONE};
use crate::shares::{Place, Shares};
use cofferdam_engine::Engine;
use cofferdam_model::cri::{self};
use cofferdam_model::{ContainerId, PodId};
use cofferdam_monitor::client::{AttachReader, AttachStream, AttachWriter};
use cofferdam_monitor::protocol::{Exit, Frame};
use cofferdam_streaming::{AttachRequest, Backend, Duplex, Error, ExecRequest, Input, Output, Process};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;

/// Pieces that wait on their way, each direction.
const PIECES: usize = 8;
/// Stack of a thread that carries one direction, bytes. What of it is not used is no memory.
const STACK: usize = 1 << 20;

/// The engine, as the streaming server asks it.
#[derive(Debug)]
pub(crate) struct Bridge {
    engine: Arc<Engine>,
    /// For ports that are connected to, by pod: one that never answers holds a thread for seconds.
    dials: Shares,
    /// For commands and attached clients that are begun, by container.
    beginnings: Shares,
}

impl Bridge {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        let places = || Shares::new(BEGUN, BEGUN_OF_ONE);
        Self {
            engine,
            dials: places(),
            beginnings: places(),
        }
    }
}

/// What becomes of a process when its client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parting {
    /// Its input ends, and its output is read to its end: it was run for this client.
    CloseInput,
    /// It does not notice: it is the container's own.
    Detach,
}

fn backend(error: impl std::fmt::Display) -> Error {
    Error::Backend(error.to_string())
}

/// Runs what blocks on a thread of its own, which has a place for as long.
async fn blocking<T: Send + 'static>(place: Option<Place>, work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let work = move || {
        let _place = place;
        work()
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(backend(e)))
}

fn container_id(text: &str) -> Result<ContainerId, Error> {
    ContainerId::new(text).map_err(backend)
}

impl Backend for Bridge {
    async fn exec(&self, request: ExecRequest) -> Result<Process, Error> {
        let engine = self.engine.clone();
        blocking(self.beginnings.take(&request.container).await, move || {
            let id = container_id(&request.container)?;
            let asked = cri::ExecRequest {
                command: request.command,
                tty: request.tty,
                stdin: request.stdin,
            };
            let session = engine.exec(&id, &asked, (0, 0)).map_err(backend)?;
            let stream = match engine.attach_session(&session) {
                Ok(stream) => stream,
                Err(why) => {
                    engine.finish(&session);
                    return Err(backend(why));
                }
            };
            let code = move |exit: Option<&Exit>| {
                let code = exit.map_or(Err("the process's end cannot be told".to_owned()), |exit| {
                    engine.session_code(&session, exit).map_err(|e| e.to_string())
                });
                engine.finish(&session);
                code
            };
            carry(stream, Parting::CloseInput, code)
        })
        .await
    }

    async fn attach(&self, request: AttachRequest) -> Result<Process, Error> {
        let engine = self.engine.clone();
        blocking(self.beginnings.take(&request.container).await, move || {
            let id = container_id(&request.container)?;
            let stream = engine.attach_container(&id).map_err(backend)?;
            let code = move |exit: Option<&Exit>| match exit {
                // What the driver makes of it is in the container's status.
                Some(exit) => Ok(engine.container_status(&id).map_or(exit.code, |status| status.exit_code)),
                None => Err("the container's stream broke off".to_owned()),
            };
            carry(stream, Parting::Detach, code)
        })
        .await
    }

    async fn dial(&self, pod: String, port: u16) -> Result<Box<dyn Duplex>, Error> {
        let engine = self.engine.clone();
        let fd = blocking(self.dials.take(&pod).await, move || {
            let id = PodId::new(pod).map_err(backend)?;
            engine.dial(&id, port).map_err(backend)
        });
        duplex(fd.await?).map_err(backend)
    }
}

/// A connected socket, whichever family a driver gave.
fn duplex(fd: OwnedFd) -> std::io::Result<Box<dyn Duplex>> {
    if rustix::net::sockopt::socket_domain(&fd)? == rustix::net::AddressFamily::UNIX {
        let stream = std::os::unix::net::UnixStream::from(fd);
        stream.set_nonblocking(true)?;
        return Ok(Box::new(UnixStream::from_std(stream)?));
    }
    let stream = std::net::TcpStream::from(fd);
    stream.set_nonblocking(true)?;
    Ok(Box::new(TcpStream::from_std(stream)?))
}

/// A thread for each direction of a stream. `end` is told the exit, `None` where the stream broke, and gives
/// the code.
fn carry(
    stream: AttachStream,
    parting: Parting,
    end: impl FnOnce(Option<&Exit>) -> Result<i32, String> + Send + 'static,
) -> Result<Process, Error> {
    let (input, from_client) = mpsc::channel(PIECES);
    let (to_client, output) = mpsc::channel(PIECES);
    let AttachStream { reader, writer } = stream;
    thread("stream-in", move || take_in(writer, from_client, parting))?;
    thread("stream-out", move || {
        let exit = give_out(reader, &to_client, parting);
        let last = end(exit.as_ref()).map_or_else(Output::Failed, Output::Exited);
        // The client may have left.
        let _ = to_client.blocking_send(last);
    })?;
    Ok(Process { input, output })
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    std::thread::Builder::new()
        .name(name.into())
        .stack_size(STACK)
        .spawn(work)
        .map(drop)
        .map_err(backend)
}

/// From the client to the process, until the client leaves or the process is gone.
fn take_in(mut writer: AttachWriter, mut from_client: mpsc::Receiver<Input>, parting: Parting) {
    while let Some(input) = from_client.blocking_recv() {
        let sent = match input {
            Input::Data(bytes) => writer.stdin(&bytes),
            Input::Eof => writer.close_stdin(),
            Input::Resize { rows, cols } => writer.resize(rows, cols),
        };
        if sent.is_err() {
            return;
        }
    }
    match parting {
        // It fails where the process has ended.
        Parting::CloseInput => drop(writer.close_stdin()),
        Parting::Detach => writer.detach(),
    }
}

/// From the process to the client; the exit, where it came.
fn give_out(reader: AttachReader, to_client: &mpsc::Sender<Output>, parting: Parting) -> Option<Exit> {
    let mut here = true;
    for frame in reader {
        let output = match frame.ok()? {
            Frame::Stdout(bytes) => Output::Stdout(bytes.into()),
            Frame::Stderr(bytes) => Output::Stderr(bytes.into()),
            Frame::Exited(exit) => return Some(exit),
            Frame::Stdin(_) | Frame::Resize(..) => continue,
        };
        here = here && to_client.blocking_send(output).is_ok();
        if !here && parting == Parting::Detach {
            return None;
        }
    }
    None
}

/// An error of the streaming server, as gRPC tells it.
pub(crate) fn status(error: Error) -> tonic::Status {
    match error {
        Error::Invalid(text) => tonic::Status::invalid_argument(text),
        Error::TooManyInFlight => tonic::Status::resource_exhausted(error.to_string()),
        Error::Random(_) | Error::Backend(_) => tonic::Status::unknown(error.to_string()),
    }
}
