//! The standard streams of a process, from the monitor's side.

use crate::console::Console;
use crate::cri_log::{Log, Stream};
use crate::stdin::Stdin;
use cofferdam_monitor::protocol::{MAX_CAPTURE, Stdio};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Most that is read of a stream at once.
pub(crate) const CHUNK: usize = 16 << 10;

/// What the child's standard streams become; `None` leaves the monitor's own, `/dev/null`.
#[derive(Debug, Default)]
pub(crate) struct ChildStdio {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

/// The monitor's side.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    pub(crate) stdin: Option<Stdin>,
    /// Standard output (or the terminal) and standard error.
    pub(crate) outputs: [Option<Output>; 2],
    pub(crate) log: Option<Log>,
    pub(crate) console: Option<Console>,
    /// How much of each output is kept, where it is.
    capture: Option<u32>,
    pub(crate) captured: [Vec<u8>; 2],
    /// Whether more was written than is kept.
    pub(crate) truncated: bool,
    pub(crate) stdin_once: bool,
    /// Whether a client has ever attached.
    pub(crate) attached: bool,
    /// Whether the command still runs that leaves the process behind. It must end before a client
    /// attaches, so that it must not wait for one.
    pub(crate) commanding: bool,
    /// Frames for the first client, of what was read while the command ran.
    pub(crate) ahead: Vec<u8>,
}

/// Most that is read ahead, bytes.
const AHEAD: usize = 1 << 20;

/// An output stream that is open.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) fd: OwnedFd,
    /// The beginning of a line that goes to the log once it is whole.
    line: Vec<u8>,
}

/// What came of reading an output stream.
pub(crate) enum Read<'a> {
    Data(&'a [u8]),
    Nothing,
    Ended,
}

/// Output stream `which` of [`Streams::outputs`].
fn stream(which: usize) -> Stream {
    if which == 0 { Stream::Stdout } else { Stream::Stderr }
}

impl Output {
    fn new(fd: OwnedFd) -> Self {
        Self { fd, line: Vec::new() }
    }
}

/// A pipe whose end for the monitor does not block. The child's end does, as programs expect.
fn pipe(ours_reads: bool) -> Result<(OwnedFd, OwnedFd), String> {
    let failed = |e: Errno| format!("A pipe cannot be made: {e}");
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    let (ours, theirs) = if ours_reads { (read, write) } else { (write, read) };
    rustix::io::ioctl_fionbio(&ours, true).map_err(failed)?;
    Ok((ours, theirs))
}

impl Streams {
    /// Makes what `stdio` asks for: our side and the child's.
    pub(crate) fn prepare(stdio: &Stdio) -> Result<(Self, ChildStdio), String> {
        let mut ours = Self::default();
        let mut child = ChildStdio::default();
        match stdio {
            Stdio::Null => {}
            Stdio::Pipes { log, stdin, stdin_once } => {
                ours.open_log(log.as_deref())?;
                ours.output_pipes(&mut child)?;
                ours.stdin_once = *stdin_once;
                if *stdin {
                    let (fd, theirs) = pipe(false)?;
                    ours.stdin = Some(Stdin::new(fd, false));
                    child.stdin = Some(theirs);
                }
            }
            Stdio::Terminal { log, console_socket, size } => {
                ours.open_log(log.as_deref())?;
                ours.console = Some(Console::listen(console_socket, *size)?);
            }
            Stdio::Capture { max } => {
                ours.output_pipes(&mut child)?;
                ours.capture = Some((*max).min(MAX_CAPTURE));
            }
        }
        Ok((ours, child))
    }

    fn open_log(&mut self, path: Option<&Path>) -> Result<(), String> {
        self.log = path.map(|p| Log::open(p.to_owned())).transpose()?;
        Ok(())
    }

    fn output_pipes(&mut self, child: &mut ChildStdio) -> Result<(), String> {
        let (out, theirs) = pipe(true)?;
        child.stdout = Some(theirs);
        let (err, theirs) = pipe(true)?;
        child.stderr = Some(theirs);
        self.outputs = [Some(Output::new(out)), Some(Output::new(err))];
        Ok(())
    }

    /// Whether output must be read whatever becomes of attached clients.
    pub(crate) fn must_flow(&self) -> bool {
        self.log.is_some() || self.capture.is_some()
    }

    /// Whether output is read at all: without log it waits for its first client, once the command is over.
    pub(crate) fn flows(&self) -> bool {
        self.must_flow() || self.attached || (self.commanding && self.ahead.len() < AHEAD)
    }

    /// Whether there is an output that has not ended.
    pub(crate) fn open(&self) -> bool {
        self.outputs.iter().any(Option::is_some)
    }

    /// Whether output waits to be read.
    pub(crate) fn unread(&self) -> bool {
        self.outputs.iter().flatten().any(|o| rustix::io::ioctl_fionread(&o.fd).is_ok_and(|n| n > 0))
    }

    /// Reads a chunk of an output into `buffer`, and gives it to the log and the capture.
    pub(crate) fn read<'a>(&mut self, which: usize, buffer: &'a mut [MaybeUninit<u8>; CHUNK]) -> Read<'a> {
        let Some(output) = &mut self.outputs[which] else {
            return Read::Nothing;
        };
        match rustix::io::read(&output.fd, &mut buffer[..]) {
            Err(Errno::AGAIN | Errno::INTR) => Read::Nothing,
            // EIO is how a terminal says that its other side is closed.
            Ok(([], _)) | Err(_) => {
                self.end(which);
                Read::Ended
            }
            Ok((chunk, _)) => {
                if let Some(log) = &mut self.log {
                    log.chunk(stream(which), &mut output.line, chunk);
                }
                if let Some(max) = self.capture {
                    let captured = &mut self.captured[which];
                    let room = (max as usize).saturating_sub(captured.len());
                    self.truncated |= chunk.len() > room;
                    captured.extend_from_slice(&chunk[..room.min(chunk.len())]);
                }
                Read::Data(chunk)
            }
        }
    }

    fn end(&mut self, which: usize) {
        if let (Some(mut output), Some(log)) = (self.outputs[which].take(), &mut self.log) {
            log.end(stream(which), &mut output.line);
        }
    }

    /// Takes what was captured for the exit: later output is read and dropped.
    pub(crate) fn take_captured(&mut self) -> [Vec<u8>; 2] {
        if let Some(max) = &mut self.capture {
            *max = 0;
        }
        std::mem::take(&mut self.captured)
    }

    /// Goes on with the console socket: the terminal may have come.
    pub(crate) fn step_console(&mut self) {
        let Some(console) = &mut self.console else {
            return;
        };
        if let Some(terminal) = console.step() {
            // One description for both directions; where it cannot be had twice, output matters more.
            self.stdin = terminal.try_clone().ok().map(|fd| Stdin::new(fd, true));
            self.outputs[0] = Some(Output::new(terminal));
            self.console = None;
        }
    }

    /// Sets the terminal's size, or remembers it for when the terminal comes.
    pub(crate) fn resize(&mut self, rows: u16, cols: u16) -> Result<(), String> {
        match (&mut self.console, &self.stdin) {
            (Some(console), _) => {
                console.size = (rows, cols);
                Ok(())
            }
            (None, Some(stdin)) if stdin.terminal => set_size(stdin.fd.as_fd(), rows, cols)
                .map_err(|e| format!("The terminal cannot be given {rows} rows and {cols} columns: {e}")),
            _ => Err("The process has no terminal.".to_owned()),
        }
    }
}

/// Sets a terminal's size; 0 leaves it.
pub(crate) fn set_size(terminal: BorrowedFd<'_>, rows: u16, cols: u16) -> Result<(), Errno> {
    let mut size = rustix::termios::tcgetwinsize(terminal)?;
    if rows > 0 {
        size.ws_row = rows;
    }
    if cols > 0 {
        size.ws_col = cols;
    }
    rustix::termios::tcsetwinsize(terminal, size)
}
