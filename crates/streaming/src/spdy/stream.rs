//! One stream of a session, and its two directions.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::{Notify, mpsc};

use super::frame::{Frame, Status};
use super::headers::Headers;
use super::session::{Outgoing, PIECE, Shared, new_half, next_piece};

/// Why a stream cannot be read or written any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The peer or we reset the stream, with this status.
    #[error("the stream was reset with status {}", .0.0)]
    Reset(Status),
    /// The connection has ended.
    #[error("the connection has ended")]
    Closed,
}

/// The data under these locks is valid after every statement, so a panic elsewhere does not matter.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the reading task and a stream's owner share.
#[derive(Debug)]
pub(super) struct StreamShared {
    pub(super) id: u32,
    headers: Headers,
    pub(super) half: Mutex<Half>,
    pub(super) readable: Notify,
    pub(super) writable: Notify,
}

/// A stream's state, both ways.
#[derive(Debug)]
pub(super) struct Half {
    /// Bytes that came and were not read.
    pub(super) inbound: BytesMut,
    pub(super) remote_done: bool,
    pub(super) local_done: bool,
    pub(super) reset: Option<Status>,
    /// Nobody will read what comes.
    pub(super) unread: bool,
    /// Bytes that may be sent, where the peer has windows.
    pub(super) send_window: i64,
    /// Bytes consumed that the peer was not told of.
    pub(super) credit: u32,
}

impl Half {
    /// Whether bytes that come are thrown away.
    pub(super) fn discards(&self) -> bool {
        self.unread || self.reset.is_some()
    }
}

impl StreamShared {
    pub(super) fn new(id: u32, headers: Headers, send_window: i64) -> Self {
        Self {
            id,
            headers,
            half: Mutex::new(new_half(send_window)),
            readable: Notify::new(),
            writable: Notify::new(),
        }
    }

    pub(super) fn wake(&self) {
        self.readable.notify_one();
        self.writable.notify_one();
    }
}

/// A stream, until it is split.
#[derive(Debug)]
pub struct Stream {
    reader: StreamReader,
    writer: StreamWriter,
}

impl Stream {
    pub(super) fn new(stream: Arc<StreamShared>, session: Arc<Shared>, out: mpsc::Sender<Outgoing>) -> Self {
        let reader = StreamReader {
            stream: stream.clone(),
            session: session.clone(),
        };
        Self {
            reader,
            writer: StreamWriter { stream, session, out },
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.reader.stream.id
    }

    /// The value of a header that it was opened with; names are compared without case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .reader
            .stream
            .headers
            .iter()
            .find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Answers the peer's SYN_STREAM: data may flow both ways. It must come before any data of ours.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn accept(&self) -> Result<(), StreamError> {
        self.writer
            .say(Frame::SynReply {
                stream: self.id(),
                fin: false,
                headers: Headers::new(),
            })
            .await
    }

    /// Ends the stream at once, both ways.
    pub async fn reset(self, status: Status) {
        self.writer.reset(status).await;
    }

    /// The two directions.
    #[must_use]
    pub fn split(self) -> (StreamReader, StreamWriter) {
        (self.reader, self.writer)
    }
}

/// The direction from the peer. When it is dropped, what still comes is thrown away.
#[derive(Debug)]
pub struct StreamReader {
    stream: Arc<StreamShared>,
    session: Arc<Shared>,
}

impl StreamReader {
    /// The next bytes; `None` when the peer has ended its direction. Nothing is lost when it is cancelled.
    ///
    /// # Errors
    /// The stream was reset, or the connection has ended. Bytes that came before are still given.
    pub async fn read(&mut self) -> Result<Option<Bytes>, StreamError> {
        loop {
            if let Some(result) = self.try_read() {
                return result;
            }
            self.stream.readable.notified().await;
        }
    }

    /// Waits until the stream was reset or the connection has ended, for one who does not read meanwhile.
    pub async fn cut(&self) {
        while lock(&self.stream.half).reset.is_none() && !self.session.is_closed() {
            // What else it is told for, [`StreamReader::read`] finds without being told.
            self.stream.readable.notified().await;
        }
    }

    fn try_read(&self) -> Option<Result<Option<Bytes>, StreamError>> {
        let mut half = lock(&self.stream.half);
        if !half.inbound.is_empty() {
            let count = half.inbound.len().min(PIECE);
            let data = half.inbound.split_to(count).freeze();
            drop(half);
            self.session.consumed(&self.stream, count, true);
            return Some(Ok(Some(data)));
        }
        if let Some(status) = half.reset {
            return Some(Err(StreamError::Reset(status)));
        }
        if half.remote_done {
            return Some(Ok(None));
        }
        self.session.is_closed().then_some(Err(StreamError::Closed))
    }
}

impl Drop for StreamReader {
    fn drop(&mut self) {
        let rest = {
            let mut half = lock(&self.stream.half);
            half.unread = true;
            std::mem::take(&mut half.inbound).len()
        };
        self.session.consumed(&self.stream, rest, true);
    }
}

/// The direction to the peer.
#[derive(Debug)]
pub struct StreamWriter {
    stream: Arc<StreamShared>,
    session: Arc<Shared>,
    out: mpsc::Sender<Outgoing>,
}

impl StreamWriter {
    /// Sends bytes, waiting for the peer's window and the connection.
    ///
    /// # Errors
    /// The stream was reset, or the connection has ended.
    pub async fn write(&mut self, mut data: Bytes) -> Result<(), StreamError> {
        while !data.is_empty() {
            match self.may_send(data.len().min(PIECE))? {
                0 => self.stream.writable.notified().await,
                count => {
                    let data = next_piece(&mut data, count);
                    self.say(Frame::Data {
                        stream: self.stream.id,
                        fin: false,
                        data,
                    })
                    .await?;
                }
            }
        }
        Ok(())
    }

    /// How many of `wanted` bytes may be sent now; they are counted as sent.
    fn may_send(&self, wanted: usize) -> Result<usize, StreamError> {
        if self.session.is_closed() {
            return Err(StreamError::Closed);
        }
        let mut state = lock(&self.session.state);
        let mut half = lock(&self.stream.half);
        if let Some(status) = half.reset {
            return Err(StreamError::Reset(status));
        }
        let window = half.send_window.min(state.send_window).max(0);
        let allowed = if state.peer_has_windows {
            wanted.min(usize::try_from(window).unwrap_or(0))
        } else {
            wanted
        };
        let sent = i64::try_from(allowed).unwrap_or(0);
        state.send_window -= sent;
        half.send_window -= sent;
        Ok(allowed)
    }

    /// Ends this direction; the other goes on.
    ///
    /// # Errors
    /// The stream was reset, or the connection has ended.
    pub async fn finish(self) -> Result<(), StreamError> {
        {
            let mut half = lock(&self.stream.half);
            if let Some(status) = half.reset {
                return Err(StreamError::Reset(status));
            }
            half.local_done = true;
        }
        self.say(Frame::Data {
            stream: self.stream.id,
            fin: true,
            data: Bytes::new(),
        })
        .await?;
        self.session.forget_if_done(&self.stream);
        Ok(())
    }

    /// Ends the stream at once, both ways. Nothing is said about one that has ended already.
    pub async fn reset(self, status: Status) {
        let ended = {
            let mut half = lock(&self.stream.half);
            let ended = half.reset.is_some() || (half.local_done && half.remote_done);
            half.reset.get_or_insert(status);
            ended
        };
        self.stream.wake();
        self.session.forget_if_done(&self.stream);
        if !ended {
            // Fails when the connection has ended; then the stream has, too.
            let _ = self
                .say(Frame::Rst {
                    stream: self.stream.id,
                    status,
                })
                .await;
        }
    }

    async fn say(&self, frame: Frame) -> Result<(), StreamError> {
        self.out.send(Outgoing::Frame(frame)).await.map_err(|_| StreamError::Closed)
    }
}
