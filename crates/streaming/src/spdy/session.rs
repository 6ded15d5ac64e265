//! A session: one connection with its streams, its two tasks and its bounds.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

use crate::idle::Idle;

use super::frame::{Frame, Prefix, ProtocolError, Status, decode, decode_prefix, encode};
use super::headers::{HeaderReader, HeaderWriter, Headers};
use super::stream::{Half, StreamShared, lock};
pub use super::stream::{Stream, StreamError, StreamReader, StreamWriter};

/// The window that the draft gives every stream and session at first, in bytes.
pub(super) const WINDOW: i64 = 64 * 1024;
/// Consumed bytes are told to the peer in steps of this.
const WINDOW_STEP: u32 = 32 * 1024;
/// The most bytes in a data frame that we send, and in a piece of one that we read.
pub(super) const PIECE: usize = 32 * 1024;
/// Bytes that one stream may hold unread before the connection is read no further. More than a window,
/// so that a peer that heeds windows never finds the connection blocked.
const STREAM_BUFFER: usize = 256 * 1024;
/// The same for all streams of a session together.
const SESSION_BUFFER: usize = 2 * 1024 * 1024;
/// Streams that may be open at once.
const MAX_STREAMS: usize = 256;
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
    buffered: AtomicUsize,
    /// Told when `buffered`, or one stream's part of it, has become less.
    room: Notify,
    /// Told when a WINDOW_UPDATE is due.
    updates: Notify,
    updates_due: AtomicBool,
    idle: Idle,
    pub(super) closed: watch::Sender<bool>,
}

/// The part of it behind a lock, held for moments only.
#[derive(Debug)]
pub(super) struct State {
    streams: HashMap<u32, Arc<StreamShared>>,
    /// The last id that the peer opened.
    last_peer: u32,
    next_own: u32,
    going_away: bool,
    /// Whether the peer was seen to have windows.
    pub(super) peer_has_windows: bool,
    pub(super) send_window: i64,
    initial_window: i64,
    credit: u32,
    /// The session is being ended: what still comes is thrown away.
    discard: bool,
}

impl Shared {
    pub(super) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Ends every stream: readers and writers find the session closed.
    fn close(&self) {
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
    fn take_updates(&self) -> Vec<Frame> {
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

    fn stream(&self, id: u32) -> Option<Arc<StreamShared>> {
        lock(&self.state).streams.get(&id).cloned()
    }

    fn wake_writers(state: &State) {
        for stream in state.streams.values() {
            stream.writable.notify_one();
        }
    }

    fn add_window(&self, id: u32, delta: u32) {
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
    fn set_initial_window(&self, size: u32) {
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
        let input = Reading {
            io: BufReader::new(read),
            shared: shared.clone(),
            out: out.clone(),
            opened,
            role,
            headers: HeaderReader::default(),
        };
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

fn settings() -> Frame {
    Frame::Settings {
        initial_window: u32::try_from(WINDOW).ok(),
    }
}

async fn write_until_the_end<T: AsyncWrite>(io: WriteHalf<T>, frames: mpsc::Receiver<Outgoing>, shared: Arc<Shared>) {
    // Whatever the reason, the connection is of no use without this direction, unless it was ended on purpose.
    if write_frames(io, frames, &shared).await.is_err() {
        shared.close();
    }
}

async fn write_frames<T: AsyncWrite>(mut io: WriteHalf<T>, mut frames: mpsc::Receiver<Outgoing>, shared: &Shared) -> std::io::Result<()> {
    let mut headers = HeaderWriter::default();
    let mut bytes = BytesMut::new();
    let mut ended = false;
    while !ended {
        let mut next = tokio::select! {
            frame = frames.recv() => match frame {
                Some(frame) => Some(frame),
                None => return Ok(()),
            },
            () = shared.updates.notified() => None,
        };
        while let Some(outgoing) = next.take() {
            let frame = match outgoing {
                Outgoing::Frame(frame) => frame,
                Outgoing::End(status) => {
                    ended = true;
                    Frame::GoAway {
                        last: lock(&shared.state).last_peer,
                        status,
                    }
                }
            };
            encode(&frame, &mut headers, &mut bytes).map_err(std::io::Error::other)?;
            if !ended && bytes.len() < 2 * PIECE {
                next = frames.try_recv().ok();
            }
        }
        for update in shared.take_updates() {
            encode(&update, &mut headers, &mut bytes).map_err(std::io::Error::other)?;
        }
        io.write_all(&bytes).await?;
        io.flush().await?;
        bytes.clear();
        shared.idle.touch();
    }
    io.shutdown().await
}

async fn read_until_the_end<T: AsyncRead + Send>(mut input: Reading<T>) {
    let shared = input.shared.clone();
    let out = input.out.clone();
    let broken = tokio::select! {
        end = input.read_frames() => end.err(),
        () = shared.idle.expired() => None,
    };
    if let Some(ReadError::Protocol) = broken {
        // Best effort: the peer may not read.
        let _ = out.try_send(Outgoing::End(1));
    }
    shared.close();
}

enum ReadError {
    Io,
    Protocol,
}

impl From<std::io::Error> for ReadError {
    fn from(_: std::io::Error) -> Self {
        Self::Io
    }
}

impl From<ProtocolError> for ReadError {
    fn from(_: ProtocolError) -> Self {
        Self::Protocol
    }
}

/// The reading task's own things.
struct Reading<T> {
    io: BufReader<ReadHalf<T>>,
    shared: Arc<Shared>,
    out: mpsc::Sender<Outgoing>,
    opened: mpsc::Sender<Stream>,
    role: Role,
    headers: HeaderReader,
}

impl<T: AsyncRead + Send> Reading<T> {
    /// Reads until the peer closes the connection, which is the only end without an error.
    async fn read_frames(&mut self) -> Result<(), ReadError> {
        loop {
            let mut prefix = [0; 8];
            self.io.read_exact(&mut prefix).await?;
            self.shared.idle.touch();
            match decode_prefix(prefix)? {
                Prefix::Data { stream, fin, length } => self.read_data(stream, fin, length).await?,
                Prefix::Control { kind, flags, length } => {
                    let mut payload = vec![0; length];
                    self.io.read_exact(&mut payload).await?;
                    if let Some(frame) = decode(kind, flags, &payload, &mut self.headers)?
                        && self.obey(frame).await
                    {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Does what a control frame says; `true` when the session is over by it.
    async fn obey(&mut self, frame: Frame) -> bool {
        match frame {
            Frame::SynStream { stream, fin, headers, .. } => self.take_stream(stream, fin, headers).await,
            Frame::SynReply { stream, fin, .. } | Frame::Headers { stream, fin, .. } => {
                if fin && let Some(stream) = self.shared.stream(stream) {
                    self.end_of(&stream);
                }
            }
            Frame::Rst { stream, status } => {
                if let Some(stream) = self.shared.stream(stream) {
                    lock(&stream.half).reset = Some(status);
                    stream.wake();
                    self.shared.forget_if_done(&stream);
                    self.shared.room.notify_one();
                }
            }
            Frame::Settings { initial_window } => {
                if let Some(size) = initial_window {
                    self.shared.set_initial_window(size);
                    if self.role == Role::Server {
                        self.say(settings()).await;
                    }
                }
            }
            // Each side's own pings have its own parity; what comes with ours is an answer.
            Frame::Ping(id) => {
                if (id % 2 == 1) == (self.role == Role::Server) {
                    self.say(Frame::Ping(id)).await;
                }
            }
            Frame::GoAway { .. } => {
                let mut state = lock(&self.shared.state);
                state.going_away = true;
                return state.streams.is_empty() && !state.discard;
            }
            Frame::WindowUpdate { stream, delta } => self.shared.add_window(stream, delta),
            // Data is read piece by piece, never decoded to a frame.
            Frame::Data { .. } => {}
        }
        false
    }

    async fn say(&mut self, frame: Frame) {
        // Fails when the writing task is gone; then the session is closed anyway.
        let _ = self.out.send(Outgoing::Frame(frame)).await;
    }

    async fn take_stream(&mut self, id: u32, fin: bool, headers: Headers) {
        let taken = {
            let mut state = lock(&self.shared.state);
            if (id % 2 == 1) != (self.role == Role::Server) || id <= state.last_peer {
                Err(Status::PROTOCOL_ERROR)
            } else {
                state.last_peer = id;
                if state.streams.len() >= MAX_STREAMS || state.going_away || state.discard {
                    Err(Status::REFUSED_STREAM)
                } else {
                    let stream = Arc::new(StreamShared::new(id, headers, state.initial_window));
                    lock(&stream.half).remote_done = fin;
                    state.streams.insert(id, stream.clone());
                    Ok(stream)
                }
            }
        };
        match taken {
            Err(status) => self.say(Frame::Rst { stream: id, status }).await,
            Ok(stream) => {
                let stream = Stream::new(stream, self.shared.clone(), self.out.clone());
                if let Err(mpsc::error::SendError(stream)) = self.opened.send(stream).await {
                    stream.reset(Status::REFUSED_STREAM).await;
                }
            }
        }
    }

    fn end_of(&self, stream: &StreamShared) {
        lock(&stream.half).remote_done = true;
        stream.readable.notify_one();
        self.shared.forget_if_done(stream);
    }

    /// Moves a data frame's bytes to their stream, piece by piece, waiting while it is full.
    async fn read_data(&mut self, id: u32, fin: bool, length: usize) -> Result<(), ReadError> {
        let stream = self.shared.stream(id);
        if stream.is_none() && id > lock(&self.shared.state).last_peer && self.role == Role::Server {
            self.say(Frame::Rst {
                stream: id,
                status: Status::INVALID_STREAM,
            })
            .await;
        }
        let mut left = length;
        let mut piece = vec![0; left.min(PIECE)];
        while left > 0 {
            if let Some(stream) = &stream {
                self.wait_for_room(stream).await;
            }
            let count = left.min(PIECE);
            let Some(part) = piece.get_mut(..count) else { break };
            self.io.read_exact(part).await?;
            self.shared.idle.touch();
            left -= count;
            match &stream {
                Some(stream) => self.deliver(stream, part_of(&piece, count)),
                None => {
                    let mut state = lock(&self.shared.state);
                    state.credit = state.credit.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
                }
            }
        }
        if fin && let Some(stream) = &stream {
            self.end_of(stream);
        }
        Ok(())
    }

    async fn wait_for_room(&mut self, stream: &StreamShared) {
        loop {
            if lock(&self.shared.state).discard || self.shared.is_closed() {
                return;
            }
            let unread = {
                let half = lock(&stream.half);
                if half.discards() { 0 } else { half.inbound.len() }
            };
            if unread == 0 || (unread < STREAM_BUFFER && self.shared.buffered.load(Relaxed) < SESSION_BUFFER) {
                return;
            }
            self.shared.room.notified().await;
        }
    }

    fn deliver(&self, stream: &StreamShared, part: &[u8]) {
        let discard = lock(&self.shared.state).discard;
        let kept = {
            let mut half = lock(&stream.half);
            let kept = !(discard || half.discards() || half.remote_done);
            if kept {
                half.inbound.extend_from_slice(part);
                self.shared.buffered.fetch_add(part.len(), Relaxed);
            }
            kept
        };
        if kept {
            stream.readable.notify_one();
        } else {
            self.shared.consumed(stream, part.len(), false);
        }
    }
}

fn part_of(piece: &[u8], count: usize) -> &[u8] {
    piece.get(..count).unwrap_or_default()
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
