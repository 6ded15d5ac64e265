//! A process in a container as a reader or a writer of bytes.

use super::Inside;
use anyhow::{Result, bail};
use cofferdam_engine::exec::Session;
use cofferdam_monitor::client::{AttachReader, AttachWriter};
use cofferdam_monitor::protocol::{Exit, Frame};
use std::io::{self, Read, Write};

/// Most that is kept of what a process says on its standard error, bytes.
const MAX_SAID: usize = 4096;
/// Bytes of one piece that is sent.
const PIECE: usize = 32 * 1024;

/// Reads a process's standard output.
pub(super) struct Output {
    reader: AttachReader,
    piece: Vec<u8>,
    at: usize,
    said: Vec<u8>,
    exit: Option<Exit>,
}

impl Output {
    pub(super) fn new(reader: AttachReader) -> Self {
        Self {
            reader,
            piece: Vec::new(),
            at: 0,
            said: Vec::new(),
            exit: None,
        }
    }

    /// Reads the rest, and fails where the process did.
    pub(super) fn end(mut self, inside: &Inside, session: &Session, what: &str) -> Result<()> {
        io::copy(&mut self, &mut io::sink())?;
        let code = match &self.exit {
            Some(exit) => inside.engine.session_code(session, exit)?,
            None => bail!("{what}: the pod's monitor broke off"),
        };
        if code == 0 {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&self.said);
        let plain: String = said.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        bail!("{what}: tar in the container ended with {code}: {plain}")
    }
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            if self.exit.is_some() {
                return Ok(0);
            }
            match self.reader.next() {
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(Err(e)) => return Err(io::Error::other(e.to_string())),
                Some(Ok(Frame::Stdout(bytes))) => (self.piece, self.at) = (bytes, 0),
                Some(Ok(Frame::Stderr(bytes))) => {
                    let room = MAX_SAID.saturating_sub(self.said.len());
                    self.said.extend(bytes.iter().take(room));
                }
                Some(Ok(Frame::Exited(exit))) => self.exit = Some(exit),
                Some(Ok(Frame::Stdin(_) | Frame::Resize(..))) => {}
            }
        }
        let count = buffer.len().min(self.piece.len() - self.at);
        buffer[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// Writes a process's standard input.
pub(super) struct Input(pub(super) AttachWriter);

impl Write for Input {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(PIECE)];
        self.0
            .stdin(piece)
            .map_err(|e| io::Error::new(io::ErrorKind::BrokenPipe, e.to_string()))?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
