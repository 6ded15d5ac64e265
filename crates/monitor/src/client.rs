//! The blocking client of a monitor, and how one is started.

use crate::frame::{self, Garbage};
use crate::protocol::{Exit, Frame, MAX_FRAME, MountOp, Process, Request, Response, Spawn, Start, Started, VERSION};
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a request that a monitor answers at once may take. It spawns and mounts within.
const PROMPT: Duration = Duration::from_secs(30);
/// How long a monitor may take to start.
const STARTUP: Duration = Duration::from_secs(30);
/// Most standard input that is sent in a frame.
const PIECE: usize = 32 << 10;

/// Why a monitor could not be asked, or did not do what it was asked.
#[derive(Debug)]
pub enum Error {
    /// Nobody answers at the socket: the monitor has ended, or ended while it was asked.
    Gone {
        /// The socket.
        socket: PathBuf,
        /// What the socket says.
        source: io::Error,
    },
    /// The monitor refused or failed; it is well.
    Refused(String),
    /// The monitor did not answer in time.
    Timeout {
        /// The socket.
        socket: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// What came is not of this protocol.
    Protocol {
        /// The socket.
        socket: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A monitor could not be started.
    Start(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone { socket, source } => write!(f, "the monitor at {} is gone: {source}", socket.display()),
            Self::Refused(why) | Self::Start(why) => f.write_str(why),
            Self::Timeout { socket, waited } => {
                write!(f, "the monitor at {} did not answer within {} ms", socket.display(), waited.as_millis())
            }
            Self::Protocol { socket, what } => {
                write!(f, "the monitor at {} does not keep to the protocol: {what}", socket.display())
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Gone { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Result of a request.
pub type Result<T> = std::result::Result<T, Error>;

/// Starts a monitor and connects to it. The child is a child of the caller's, who should wait for
/// it once it is gone; dropping it leaves the monitor running.
///
/// # Errors
/// [`Error::Start`] with the reason; no process is left then.
pub fn start_monitor(binary: &Path, start: &Start) -> Result<(Client, Child)> {
    let failed = |what: &dyn fmt::Display| Error::Start(format!("monitor {}: {what}", binary.display()));
    let mut request = Vec::new();
    frame::encode(start, MAX_FRAME, &mut request).map_err(|e| failed(&e))?;
    let mut child = Command::new(binary)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| failed(&e))?;
    let result = converse(&mut child, &request).and_then(|started| match started {
        Started::Ok { .. } => Client::connect(&start.socket).map_err(|e| e.to_string()),
        Started::Failed(why) => Err(why),
    });
    match result {
        Ok(client) => Ok((client, child)),
        Err(why) => {
            // It may have ended by itself; what is left of it must not stay.
            let _ = child.kill();
            let _ = child.wait();
            Err(failed(&why))
        }
    }
}

fn converse(child: &mut Child, request: &[u8]) -> std::result::Result<Started, String> {
    let (Some(mut stdin), Some(mut stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("it has no pipes".to_owned());
    };
    stdin.write_all(request).map_err(|e| format!("it does not read: {e}"))?;
    drop(stdin);
    let mut ready = [rustix::event::PollFd::new(&stdout, rustix::event::PollFlags::IN)];
    let limit = rustix::event::Timespec { tv_sec: STARTUP.as_secs() as i64, tv_nsec: 0 };
    match rustix::io::retry_on_intr(|| rustix::event::poll(&mut ready, Some(&limit))) {
        Ok(0) => return Err(format!("it did not start within {} s", STARTUP.as_secs())),
        Ok(_) => {}
        Err(e) => return Err(e.to_string()),
    }
    let answer = frame::read(&mut stdout, MAX_FRAME).map_err(|e| format!("it ended without an answer: {e}"))?;
    answer.map_err(|e| e.to_string())
}

/// A connection to a monitor. One request at a time; each blocks until it is answered.
///
/// After [`Error::Gone`], [`Error::Timeout`] or [`Error::Protocol`] it is of no further use.
#[derive(Debug)]
pub struct Client {
    link: Link,
    pid: i32,
}

impl Client {
    /// Connects and says hello.
    ///
    /// # Errors
    /// [`Error::Gone`] where nobody listens.
    pub fn connect(socket: &Path) -> Result<Self> {
        let gone = |source| Error::Gone { socket: socket.to_owned(), source };
        let stream = UnixStream::connect(socket).map_err(gone)?;
        let mut link = Link { stream, socket: socket.to_owned() };
        link.limit(Some(PROMPT))?;
        link.send(&Request::Hello { version: VERSION })?;
        match link.receive()? {
            Response::Hello { pid, .. } => Ok(Self { link, pid }),
            Response::Failed(why) => Err(Error::Refused(why)),
            other => Err(link.unexpected(&other)),
        }
    }

    /// Process id of the monitor: `/proc/<pid>/ns` has the pod's namespaces.
    pub fn monitor_pid(&self) -> i32 {
        self.pid
    }

    /// Spawns; [`Response::Spawned`], or [`Response::Failed`] where the command could not be started
    /// or left no process to keep. Where the spawn has a timeout, so has the answer.
    ///
    /// # Errors
    /// Of the connection only.
    pub fn spawn(&mut self, spawn: &Spawn) -> Result<Response> {
        let limit = match spawn.timeout_ms {
            0 => None,
            ms => Some(PROMPT + Duration::from_millis(ms.into())),
        };
        let answer = self.ask(&Request::Spawn(Box::new(spawn.clone())), limit)?;
        match answer {
            Response::Spawned { .. } | Response::Failed(_) => Ok(answer),
            other => Err(self.link.unexpected(&other)),
        }
    }

    /// Waits, however long, until the process has ended.
    ///
    /// # Errors
    /// [`Error::Refused`] where the key is unknown, or will have no exit.
    pub fn wait(&mut self, key: &str) -> Result<Exit> {
        let answer = self.ask(&Request::Wait { key: key.to_owned() }, None)?;
        self.exit(answer)
    }

    /// Like [`Self::wait`], but `None` when `limit` has passed. It has a connection of its own.
    ///
    /// # Errors
    /// As those of [`Self::wait`] and [`Self::connect`].
    pub fn wait_timeout(&self, key: &str, limit: Duration) -> Result<Option<Exit>> {
        Self::wait_at(&self.link.socket, key, limit)
    }

    /// As [`Self::wait_timeout`], of the monitor at `socket`: the wait's connection is the only one that it
    /// takes, of the [`MAX_CONNECTIONS`](crate::protocol::MAX_CONNECTIONS) that the monitor has.
    ///
    /// # Errors
    /// As those of [`Self::wait_timeout`].
    pub fn wait_at(socket: &Path, key: &str, limit: Duration) -> Result<Option<Exit>> {
        let mut other = Self::connect(socket)?;
        match other.ask(&Request::Wait { key: key.to_owned() }, Some(limit.max(Duration::from_millis(1)))) {
            Ok(answer) => other.exit(answer).map(Some),
            Err(Error::Timeout { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Sends a signal to a kept process.
    ///
    /// # Errors
    /// [`Error::Refused`] where it has ended, or is not the monitor's to signal.
    pub fn signal(&mut self, key: &str, signal: i32) -> Result<()> {
        self.done(&Request::Signal { key: key.to_owned(), signal })
    }

    /// Mount operations in the pod's mount namespace.
    ///
    /// # Errors
    /// [`Error::Refused`] at the first that fails; those before it are done.
    pub fn mounts(&mut self, ops: &[MountOp]) -> Result<()> {
        self.done(&Request::Mounts(ops.to_vec()))
    }

    /// Keeps the exit of a process that a server knows. `socket` is a path or `@name`.
    ///
    /// # Errors
    /// [`Error::Refused`] where the server cannot be connected to, or the key is taken.
    pub fn await_reply(&mut self, key: &str, socket: &str, payload: &[u8]) -> Result<()> {
        self.done(&Request::Await { key: key.to_owned(), socket: socket.to_owned(), payload: payload.to_vec() })
    }

    /// What the monitor has keys for; exits without reply and output.
    ///
    /// # Errors
    /// Of the connection only.
    pub fn list(&mut self) -> Result<Vec<Process>> {
        match self.ask(&Request::List, Some(PROMPT))? {
            Response::Processes(processes) => Ok(processes),
            other => Err(self.link.unexpected(&other)),
        }
    }

    /// Drops an ended process and its exit file.
    ///
    /// # Errors
    /// [`Error::Refused`] where it is unknown or has not ended.
    pub fn forget(&mut self, key: &str) -> Result<()> {
        self.done(&Request::Forget { key: key.to_owned() })
    }

    /// Sets the size of a process's terminal.
    ///
    /// # Errors
    /// [`Error::Refused`] where it has none.
    pub fn resize(&mut self, key: &str, rows: u16, cols: u16) -> Result<()> {
        self.done(&Request::Resize { key: key.to_owned(), rows, cols })
    }

    /// Opens a process's log file anew, after it was rotated.
    ///
    /// # Errors
    /// [`Error::Refused`] where there is no log or the file cannot be opened; the old one stays then.
    pub fn reopen_log(&mut self, key: &str) -> Result<()> {
        self.done(&Request::ReopenLog { key: key.to_owned() })
    }

    /// Kills and reaps all that the monitor has, and ends it.
    ///
    /// # Errors
    /// [`Error::Refused`] where something would not die; the monitor stays then.
    pub fn shutdown(mut self) -> Result<()> {
        self.done(&Request::Shutdown)
    }

    /// Attaches to a process's streams.
    ///
    /// # Errors
    /// [`Error::Refused`] where the key is unknown.
    pub fn attach(mut self, key: &str) -> Result<AttachStream> {
        self.done(&Request::Attach { key: key.to_owned() })?;
        let other = self.link.stream.try_clone().map_err(|e| self.link.error(e, None))?;
        let writer = AttachWriter { link: Link { stream: other, socket: self.link.socket.clone() } };
        self.link.limit(None)?;
        Ok(AttachStream { reader: AttachReader { link: self.link, done: false }, writer })
    }

    /// All exits that are not forgotten, then those to come. It ends with [`Error::Gone`].
    ///
    /// # Errors
    /// Of the connection only.
    pub fn events(mut self) -> Result<Events> {
        self.link.send(&Request::Events)?;
        self.link.limit(None)?;
        Ok(Events { link: self.link, done: false })
    }

    fn ask(&mut self, request: &Request, limit: Option<Duration>) -> Result<Response> {
        self.link.limit(limit)?;
        self.link.send(request)?;
        self.link.receive()
    }

    fn done(&mut self, request: &Request) -> Result<()> {
        match self.ask(request, Some(PROMPT))? {
            Response::Ok => Ok(()),
            Response::Failed(why) => Err(Error::Refused(why)),
            other => Err(self.link.unexpected(&other)),
        }
    }

    fn exit(&self, answer: Response) -> Result<Exit> {
        match answer {
            Response::Exited(exit) => Ok(exit),
            Response::Failed(why) => Err(Error::Refused(why)),
            other => Err(self.link.unexpected(&other)),
        }
    }
}

/// Exits, as they come.
#[derive(Debug)]
pub struct Events {
    link: Link,
    done: bool,
}

impl Events {
    /// A handle that ends the iterator from another thread.
    ///
    /// # Errors
    /// Of the operating system.
    pub fn closer(&self) -> Result<Closer> {
        self.link.closer()
    }
}

impl Iterator for Events {
    type Item = Result<Exit>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let exit = match self.link.receive() {
            Ok(Response::Exited(exit)) => Ok(exit),
            Ok(other) => Err(self.link.unexpected(&other)),
            Err(e) => Err(e),
        };
        self.done = exit.is_err();
        Some(exit)
    }
}

/// Ends a connection that another thread reads from.
#[derive(Debug)]
pub struct Closer(UnixStream);

impl Closer {
    /// Ends it; the reader gets [`Error::Gone`].
    pub fn close(&self) {
        // One that is not connected any more is closed.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// An attached stream: both halves may be used at a time, from two threads.
#[derive(Debug)]
pub struct AttachStream {
    /// From the process.
    pub reader: AttachReader,
    /// To the process.
    pub writer: AttachWriter,
}

/// Yields what the process writes. The last is [`Frame::Exited`], unless the monitor disconnects:
/// [`Error::Gone`].
#[derive(Debug)]
pub struct AttachReader {
    link: Link,
    done: bool,
}

impl AttachReader {
    /// Waits at most so long for each piece from now on; then it is [`Error::Timeout`], and the stream
    /// is of no use any more.
    ///
    /// # Errors
    /// Of the operating system.
    pub fn limit(&mut self, limit: Option<Duration>) -> Result<()> {
        self.link.limit(limit)
    }

    /// A handle that ends the iterator from another thread.
    ///
    /// # Errors
    /// Of the operating system.
    pub fn closer(&self) -> Result<Closer> {
        self.link.closer()
    }
}

impl Iterator for AttachReader {
    type Item = Result<Frame>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let frame = self.link.receive();
        self.done = matches!(frame, Err(_) | Ok(Frame::Exited(_)));
        Some(frame)
    }
}

/// Sends to the process.
#[derive(Debug)]
pub struct AttachWriter {
    link: Link,
}

impl AttachWriter {
    /// Writes to standard input. It waits while the process does not read.
    ///
    /// # Errors
    /// [`Error::Gone`] where the monitor disconnected.
    pub fn stdin(&mut self, input: &[u8]) -> Result<()> {
        input.chunks(PIECE).try_for_each(|piece| self.link.send(&Frame::Stdin(piece.to_vec())))
    }

    /// Closes standard input for good; a terminal's stays open.
    ///
    /// # Errors
    /// [`Error::Gone`] where the monitor disconnected.
    pub fn close_stdin(&mut self) -> Result<()> {
        self.link.send(&Frame::Stdin(Vec::new()))
    }

    /// Tells the terminal's size.
    ///
    /// # Errors
    /// [`Error::Gone`] where the monitor disconnected.
    pub fn resize(&mut self, rows: u16, cols: u16) -> Result<()> {
        self.link.send(&Frame::Resize(rows, cols))
    }

    /// Leaves; the reader gets [`Error::Gone`].
    pub fn detach(self) {
        let _ = self.link.stream.shutdown(Shutdown::Both);
    }
}

/// A connection that frames travel over.
#[derive(Debug)]
struct Link {
    stream: UnixStream,
    socket: PathBuf,
}

impl Link {
    fn limit(&self, limit: Option<Duration>) -> Result<()> {
        self.stream.set_read_timeout(limit).map_err(|e| self.error(e, None))
    }

    fn send<T: serde::Serialize>(&mut self, value: &T) -> Result<()> {
        let mut bytes = Vec::new();
        frame::encode(value, MAX_FRAME, &mut bytes)
            .map_err(|e| Error::Refused(format!("The request was not sent: {e}.")))?;
        self.stream.write_all(&bytes).map_err(|e| self.error(e, None))
    }

    fn receive<T: serde::de::DeserializeOwned>(&mut self) -> Result<T> {
        let limit = self.stream.read_timeout().ok().flatten();
        frame::read(&mut self.stream, MAX_FRAME).map_err(|e| self.error(e, limit))?.map_err(|e| self.garbage(e))
    }

    fn closer(&self) -> Result<Closer> {
        self.stream.try_clone().map(Closer).map_err(|e| self.error(e, None))
    }

    fn error(&self, source: io::Error, limit: Option<Duration>) -> Error {
        let socket = self.socket.clone();
        match (source.kind(), limit) {
            (ErrorKind::WouldBlock | ErrorKind::TimedOut, Some(waited)) => Error::Timeout { socket, waited },
            _ => Error::Gone { socket, source },
        }
    }

    fn garbage(&self, garbage: Garbage) -> Error {
        Error::Protocol { socket: self.socket.clone(), what: garbage.to_string() }
    }

    fn unexpected(&self, response: &Response) -> Error {
        let what = match response {
            Response::Failed(why) => return Error::Refused(why.clone()),
            Response::Hello { .. } => "it said hello in answer to something else",
            Response::Ok => "it answered that all is done where more was asked",
            Response::Spawned { .. } => "it answered that something was spawned",
            Response::Exited(_) => "it answered that something exited",
            Response::Processes(_) => "it answered with a list",
        };
        Error::Protocol { socket: self.socket.clone(), what: what.to_owned() }
    }
}
