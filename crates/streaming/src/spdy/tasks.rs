//! A session's two tasks: one reads frames and obeys them, one writes what is due.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use super::frame::{Frame, Prefix, ProtocolError, Status, decode, decode_prefix, encode};
use super::headers::{HeaderReader, HeaderWriter, Headers};
use super::session::{MAX_STREAMS, Outgoing, PIECE, Role, SESSION_BUFFER, STREAM_BUFFER, Shared, settings};
use super::stream::{Stream, StreamShared, lock};

pub(super) async fn write_until_the_end<T: AsyncWrite>(io: WriteHalf<T>, frames: mpsc::Receiver<Outgoing>, shared: Arc<Shared>) {
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

pub(super) async fn read_until_the_end<T: AsyncRead + Send>(mut input: Reading<T>) {
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
pub(super) struct Reading<T> {
    io: BufReader<ReadHalf<T>>,
    shared: Arc<Shared>,
    out: mpsc::Sender<Outgoing>,
    opened: mpsc::Sender<Stream>,
    role: Role,
    headers: HeaderReader,
}

impl<T: AsyncRead + Send> Reading<T> {
    pub(super) fn new(io: ReadHalf<T>, role: Role, shared: Arc<Shared>, out: mpsc::Sender<Outgoing>, opened: mpsc::Sender<Stream>) -> Self {
        Self {
            io: BufReader::new(io),
            shared,
            out,
            opened,
            role,
            headers: HeaderReader::default(),
        }
    }

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
