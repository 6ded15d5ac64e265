//! The caller's standard streams as those of a process in a container.

use anyhow::{Context, Result, bail};
use cofferdam_monitor::client::{AttachStream, AttachWriter, Closer};
use cofferdam_monitor::protocol::{Exit, Frame};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Ctrl-P, Ctrl-Q: leaves a terminal and what runs in it, as docker and podman have it.
const DETACH: [u8; 2] = [0x10, 0x11];

/// Which of the caller's streams are passed on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Streams {
    /// Standard input.
    pub(crate) stdin: bool,
    /// The caller's terminal is the process's.
    pub(crate) tty: bool,
    /// Ctrl-P Ctrl-Q in a terminal leaves the process alone.
    pub(crate) detachable: bool,
}

/// How a conversation ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The process ended.
    Exited(Box<Exit>),
    /// The caller left it.
    Detached,
}

/// Refuses a terminal where there is none.
pub(crate) fn insist_on_terminal(tty: bool) -> Result<()> {
    if tty && !isatty(std::io::stdin()) {
        bail!("-t needs a terminal, and standard input is none; leave -t away");
    }
    Ok(())
}

/// Rows and columns of the caller's terminal; 0 where it has none.
pub(crate) fn window() -> (u16, u16) {
    tcgetwinsize(std::io::stdin()).map_or((0, 0), |w| (w.ws_row, w.ws_col))
}

/// Passes the streams on until the process ends or the caller leaves it.
pub(crate) fn converse(stream: AttachStream, streams: Streams) -> Result<End> {
    let _raw = if streams.tty { Some(Raw::set()?) } else { None };
    let left = Arc::new(AtomicBool::new(false));
    let writer = Arc::new(Mutex::new(stream.writer));
    if streams.tty {
        follow_window(writer.clone())?;
    }
    if streams.stdin {
        let leave = Leave {
            flag: left.clone(),
            closer: stream.reader.closer()?,
            watch: streams.tty && streams.detachable,
        };
        // Ends with the process: a read from a terminal cannot be broken off.
        std::thread::Builder::new()
            .name("stdin".into())
            .spawn(move || pass_on(&writer, &leave))?;
    }
    for frame in stream.reader {
        match frame {
            Ok(Frame::Stdout(bytes)) => write(std::io::stdout().lock(), &bytes)?,
            Ok(Frame::Stderr(bytes)) => write(std::io::stderr().lock(), &bytes)?,
            Ok(Frame::Exited(exit)) => return Ok(End::Exited(Box::new(exit))),
            Ok(Frame::Stdin(_) | Frame::Resize(..)) => {}
            Err(_) if left.load(Ordering::Acquire) => return Ok(End::Detached),
            Err(e) => return Err(e).context("the pod's monitor broke off"),
        }
    }
    if left.load(Ordering::Acquire) {
        return Ok(End::Detached);
    }
    bail!("the pod's monitor broke off before the process ended")
}

fn write(mut to: impl Write, bytes: &[u8]) -> Result<()> {
    to.write_all(bytes)?;
    Ok(to.flush()?)
}

/// How the thread that reads standard input ends the conversation.
struct Leave {
    flag: Arc<AtomicBool>,
    closer: Closer,
    watch: bool,
}

fn pass_on(writer: &Mutex<AttachWriter>, leave: &Leave) {
    let mut buffer = vec![0u8; 16 * 1024];
    let mut input = std::io::stdin().lock();
    let mut half = false;
    loop {
        let read = input.read(&mut buffer).unwrap_or(0);
        let typed = &buffer[..read];
        if leave.watch && leaves(&mut half, typed) {
            leave.flag.store(true, Ordering::Release);
            leave.closer.close();
            return;
        }
        let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
        // The command may have ended: then nobody takes what is typed.
        let sent = if read == 0 { writer.close_stdin() } else { writer.stdin(typed) };
        if read == 0 || sent.is_err() {
            return;
        }
    }
}

/// Whether the keys that leave were typed; `half` tells whether the first of them came last.
fn leaves(half: &mut bool, typed: &[u8]) -> bool {
    for byte in typed {
        if *half && *byte == DETACH[1] {
            return true;
        }
        *half = *byte == DETACH[0];
    }
    false
}

fn follow_window(writer: Arc<Mutex<AttachWriter>>) -> Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGWINCH])?;
    std::thread::Builder::new().name("window".into()).spawn(move || {
        for _ in signals.forever() {
            let (rows, cols) = window();
            if writer.lock().unwrap_or_else(PoisonError::into_inner).resize(rows, cols).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

/// The terminal in raw mode, put back when dropped.
struct Raw(Termios);

impl Raw {
    fn set() -> Result<Self> {
        let old = tcgetattr(std::io::stdin()).context("the terminal cannot be read")?;
        let mut raw = old.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).context("the terminal cannot be set")?;
        Ok(Self(old))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_keys_leave_in_one_read_or_in_two_and_in_that_order_only() {
        let typed = |reads: &[&[u8]]| {
            let mut half = false;
            reads.iter().any(|read| leaves(&mut half, read))
        };
        assert!(typed(&[b"ls\r\x10\x11"]));
        assert!(typed(&[b"\x10", b"\x11"]));
        assert!(typed(&[b"\x10\x10\x11"]));
        for other in [&[&b"\x11\x10"[..]][..], &[b"\x10", b"x", b"\x11"], &[b"\x10x\x11"]] {
            assert!(!typed(other));
        }
    }
}
