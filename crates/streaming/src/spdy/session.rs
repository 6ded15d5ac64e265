//! A session: one connection with its streams, its two tasks and its bounds.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

use crate::idle::Idle;

use super::frame::Frame;
use super::headers::Headers;
use super::stream::{Half, StreamShared, lock};
pub use super::stream::{Stream, StreamError, StreamReader, StreamWriter};
use super::tasks::{Reading, read_until_the_end, write_until_the_end};

/// The window that the draft gives every stream and session at first, in bytes.
pub(super) const WINDOW: i64 = 64 * 1024;
/// Consumed bytes are told to the peer in steps of this.
const WINDOW_STEP: u32 = 32 * 1024;
/// The most bytes in a data frame that we send, and in a piece of one that we read.
pub(super) const PIECE: usize = 32 * 1024;
/// Bytes that one stream may hold unread before the connection is read no further. More than a window,
/// so that a peer that heeds windows never finds the connection blocked.
pub(super) const STREAM_BUFFER: usize = 256 * 1024;
/// The same for all streams of a session together.
pub(super) const SESSION_BUFFER: usize = 2 * 1024 * 1024;
/// Streams that may be open at once.
pub(super) const MAX_STREAMS: usize = 256;
/// Frames that may wait to be written.
const QUEUE: usize = 8;
/// How long a peer may take to close the connection after GOAWAY.
const LINGER: Duration = Duration::from_secs(2);

/// Which end of the connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The end that asked for the upgrade; its streams have odd ids.
    Client,
    /// The end that granted it.
    Server,
}

/// What all parts of a session share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) state: std::sync::Mutex<State>,
    /// Bytes that streams hold unread.
    pub(super) buffered: AtomicUsize,
    /// Told when `buffered`, or one stream's part of it, has become less.
    pub(super) room: Notify,
    /// Told when a WINDOW_UPDATE is due.
    pub(super) updates: Notify,
    updates_due: AtomicBool,
    pub(super) idle: Idle,
    pub(super) closed: watch::Sender<bool>,
}

/// The part of it behind a lock, held for moments only.
#[derive(Debug)]
pub(super) struct State {
    pub(super) streams: HashMap<u32, Arc<StreamShared>>,
    /// The last id that the peer opened.
    pub(super) last_peer: u32,
    next_own: u32,
    pub(super) going_away: bool,
    /// Whether the peer was seen to have windows.
    pub(super) peer_has_windows: bool,
    pub(super) send_window: i64,
    pub(super) initial_window: i64,
    pub(super) credit: u32,
    /// The session is being ended: what still comes is thrown away.
    pub(super) discard: bool,
}

impl Shared {
    pub(super) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Ends every stream: readers and writers find the session closed.
    pub(super) fn close(&self) {
        self.closed.send_replace(true);
        for stream in lock(&self.state).streams.values() {
            stream.wake();
        }
        self.room.notify_one();
    }

    /// `count` bytes of `stream` were read or thrown away.
    pub(super) fn consumed(&self, stream: &StreamShared, count: usize, buffered: bool) {
        let step = u32::try_from(count).unwrap_or(u32::MAX);
        if buffered {
            self.buffered.fetch_sub(count, Relaxed);
            self.room.notify_one();
        }
        let due = {
            let mut state = lock(&self.state);
            state.credit = state.credit.saturating_add(step);
            let mut half = lock(&stream.half);
            half.credit = half.credit.saturating_add(step);
            state.credit >= WINDOW_STEP || half.credit >= WINDOW_STEP
        };
        if due {
            self.updates_due.store(true, Relaxed);
            self.updates.notify_one();
        }
    }

    /// The WINDOW_UPDATE frames that are due.
    pub(super) fn take_updates(&self) -> Vec<Frame> {
        if !self.updates_due.swap(false, Relaxed) {
            return Vec::new();
        }
        let mut state = lock(&self.state);
        let mut frames = Vec::new();
        if state.credit >= WINDOW_STEP {
            frames.push(Frame::WindowUpdate {
                stream: 0,
                delta: std::mem::take(&mut state.credit),
            });
        }
        for stream in state.streams.values() {
            let mut half = lock(&stream.half);
            if half.credit >= WINDOW_STEP && !half.remote_done {
                frames.push(Frame::WindowUpdate {
                    stream: stream.id,
                    delta: std::mem::take(&mut half.credit),
                });
            }
        }
        frames
    }

    /// Forgets a stream that neither side sends on any more.
    pub(super) fn forget_if_done(&self, stream: &StreamShared) {
        let mut state = lock(&self.state);
        let half = lock(&stream.half);
        if half.reset.is_some() || (half.local_done && half.remote_done) {
            state.streams.remove(&stream.id);
        }
    }

    pub(super) fn stream(&self, id: u32) -> Option<Arc<StreamShared>> {
        lock(&self.state).streams.get(&id).cloned()
    }

    fn wake_writers(state: &State) {
        for stream in state.streams.values() {
            stream.writable.notify_one();
        }
    }

    pub(super) fn add_window(&self, id: u32, delta: u32) {
        let mut state = lock(&self.state);
        state.peer_has_windows = true;
        if id == 0 {
            state.send_window = state.send_window.saturating_add(i64::from(delta));
            Self::wake_writers(&state);
        } else if let Some(stream) = state.streams.get(&id) {
            let mut half = lock(&stream.half);
            half.send_window = half.send_window.saturating_add(i64::from(delta));
            stream.writable.notify_one();
        }
    }

    /// The peer has windows of this size; the streams that are open change with it.
    pub(super) fn set_initial_window(&self, size: u32) {
        let mut state = lock(&self.state);
        let change = i64::from(size) - state.initial_window;
        state.initial_window = i64::from(size);
        state.peer_has_windows = true;
        for stream in state.streams.values() {
            let mut half = lock(&stream.half);
            half.send_window = half.send_window.saturating_add(change);
        }
        Self::wake_writers(&state);
    }
}

/// The streams that the peer opens, in order. Each must be accepted or refused.
#[derive(Debug)]
pub struct Incoming(mpsc::Receiver<Stream>);

impl Incoming {
    /// The next stream; `None` when the session has ended.
    pub async fn next(&mut self) -> Option<Stream> {
        self.0.recv().await
    }
}

/// One SPDY connection. Dropping it cuts the connection.
#[derive(Debug)]
pub struct Session {
    shared: Arc<Shared>,
    out: mpsc::Sender<Outgoing>,
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
}

/// What the writing task is given.
#[derive(Debug)]
pub(super) enum Outgoing {
    Frame(Frame),
    /// Says GOAWAY with this status and ends the sending direction.
    End(u32),
}

impl Drop for Session {
    fn drop(&mut self) {
        self.reader.abort();
        self.writer.abort();
        self.shared.close();
    }
}

impl Session {
    /// Speaks SPDY on a connection that was upgraded to it. It ends by itself after `idle` without a frame.
    pub fn start<T: AsyncRead + AsyncWrite + Send + 'static>(io: T, role: Role, idle: Duration) -> (Self, Incoming) {
        let shared = Arc::new(Shared {
            state: std::sync::Mutex::new(State {
                streams: HashMap::new(),
                last_peer: 0,
                next_own: if role == Role::Client { 1 } else { 2 },
                going_away: false,
                peer_has_windows: false,
                send_window: WINDOW,
                initial_window: WINDOW,
                credit: 0,
                discard: false,
            }),
            buffered: AtomicUsize::new(0),
            room: Notify::new(),
            updates: Notify::new(),
            updates_due: AtomicBool::new(false),
            idle: Idle::new(idle),
            closed: watch::Sender::new(false),
        });
        let (out, frames) = mpsc::channel(QUEUE);
        let (opened, incoming) = mpsc::channel(QUEUE);
        if role == Role::Client {
            // A queue this young has room.
            let _ = out.try_send(Outgoing::Frame(settings()));
        }
        let (read, write) = tokio::io::split(io);
        let input = Reading::new(read, role, shared.clone(), out.clone(), opened);
        let reader = tokio::spawn(read_until_the_end(input));
        let writer = tokio::spawn(write_until_the_end(write, frames, shared.clone()));
        (
            Self {
                shared,
                out,
                reader,
                writer,
            },
            Incoming(incoming),
        )
    }

    /// Opens a stream; data may be sent on it at once.
    ///
    /// # Errors
    /// The session has ended, or the peer takes no more streams.
    pub async fn open(&self, headers: Headers) -> Result<Stream, StreamError> {
        let shared = {
            let mut state = lock(&self.shared.state);
            if state.going_away || state.streams.len() >= MAX_STREAMS {
                return Err(StreamError::Closed);
            }
            let id = state.next_own;
            state.next_own += 2;
            let stream = Arc::new(StreamShared::new(id, headers.clone(), state.initial_window));
            state.streams.insert(id, stream.clone());
            stream
        };
        let frame = Frame::SynStream {
            stream: shared.id,
            fin: false,
            unidirectional: false,
            headers,
        };
        self.out.send(Outgoing::Frame(frame)).await.map_err(|_| StreamError::Closed)?;
        Ok(Stream::new(shared, self.shared.clone(), self.out.clone()))
    }

    /// Waits until the connection has ended, whoever ended it.
    pub async fn closed(&self) {
        let mut closed = self.shared.closed.subscribe();
        // The sender lives as long as `self`.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    /// Ends the session well: what was written is delivered, then GOAWAY, then the connection is closed
    /// once the peer has closed it too, or after a moment.
    pub async fn finish(self) {
        lock(&self.shared.state).discard = true;
        self.shared.room.notify_one();
        let end = async {
            if self.out.send(Outgoing::End(0)).await.is_ok() {
                self.closed().await;
            }
        };
        let _ = tokio::time::timeout(LINGER, end).await;
    }
}

pub(super) fn settings() -> Frame {
    Frame::Settings {
        initial_window: u32::try_from(WINDOW).ok(),
    }
}

/// Splits bytes to what one data frame carries.
pub(super) fn next_piece(data: &mut Bytes, most: usize) -> Bytes {
    data.split_to(data.len().min(most))
}

/// Kept here so that a stream's file need not know the defaults.
pub(super) fn new_half(send_window: i64) -> Half {
    Half {
        inbound: BytesMut::new(),
        remote_done: false,
        local_done: false,
        reset: None,
        unread: false,
        send_window,
        credit: 0,
    }
}
