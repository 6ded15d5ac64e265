//! `cofferdam exec`: a command in a container, with the caller's streams.

use crate::args::Global;
use crate::commands::pods;
use crate::settings::Settings;
use anyhow::{Context, Result, bail};
use cofferdam_engine::Engine;
use cofferdam_engine::exec::Session;
use cofferdam_model::cri::ExecRequest;
use cofferdam_monitor::client::AttachWriter;
use cofferdam_monitor::protocol::Frame;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// Runs a command in a container; its exit code is ours.
pub(crate) fn exec(global: &Global, pod: &str, container: Option<&str>, stdin: bool, tty: bool, command: Vec<String>) -> Result<u8> {
    if tty && !isatty(std::io::stdin()) {
        bail!("-t needs a terminal, and standard input is none; leave -t away");
    }
    let settings = Settings::read(global).insist()?;
    let engine = settings.open()?;
    let pod = pods::find(&engine, pod)?;
    let container = pods::container(&engine, &pod, container, true)?;
    let size = if tty { window() } else { (0, 0) };
    let session = engine.exec(&container.id, &ExecRequest { command, tty, stdin }, size)?;
    let code = converse(&engine, &session, stdin, tty);
    engine.finish(&session);
    code
}

fn window() -> (u16, u16) {
    tcgetwinsize(std::io::stdin()).map_or((0, 0), |w| (w.ws_row, w.ws_col))
}

fn converse(engine: &Engine, session: &Session, stdin: bool, tty: bool) -> Result<u8> {
    let stream = engine.attach_session(session)?;
    let _raw = if tty { Some(Raw::set()?) } else { None };
    let writer = Arc::new(Mutex::new(stream.writer));
    if tty {
        follow_window(writer.clone())?;
    }
    if stdin {
        let writer = writer.clone();
        // Ends with the process: a read from a terminal cannot be broken off.
        std::thread::Builder::new().name("stdin".into()).spawn(move || pass_on(&writer))?;
    }
    for frame in stream.reader {
        match frame.context("the pod's monitor broke off")? {
            Frame::Stdout(bytes) => write(std::io::stdout().lock(), &bytes)?,
            Frame::Stderr(bytes) => write(std::io::stderr().lock(), &bytes)?,
            Frame::Exited(exit) => {
                let code = engine.session_code(session, &exit)?;
                return Ok(u8::try_from(code).unwrap_or(u8::MAX));
            }
            Frame::Stdin(_) | Frame::Resize(..) => {}
        }
    }
    bail!("the pod's monitor broke off before the command ended")
}

fn write(mut to: impl Write, bytes: &[u8]) -> Result<()> {
    to.write_all(bytes)?;
    Ok(to.flush()?)
}

fn pass_on(writer: &Mutex<AttachWriter>) {
    let mut buffer = vec![0u8; 16 * 1024];
    let mut input = std::io::stdin().lock();
    loop {
        let read = input.read(&mut buffer).unwrap_or(0);
        let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
        // The command may have ended: then nobody takes what is typed.
        let sent = if read == 0 { writer.close_stdin() } else { writer.stdin(&buffer[..read]) };
        if read == 0 || sent.is_err() {
            return;
        }
    }
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
