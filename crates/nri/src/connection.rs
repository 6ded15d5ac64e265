//! ttrpc both ways over one socket: calls to the plugin, and its calls to us.
//!
//! Two threads a connection: one reads; one answers the plugin's calls, which may take time (an update of
//! containers), so that answers to our own calls do not wait behind them.

use crate::frame::{self, Kind, Lane, Message, Reader};
use crate::wire::ttrpc::{Request, Response, Status};
use crate::wire::{PLUGIN_SERVICE, RUNTIME_SERVICE};
use prost::Message as _;
use std::collections::HashMap;
use std::io::{self, BufReader, ErrorKind, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// gRPC code: the call does not exist.
pub(crate) const UNIMPLEMENTED: i32 = 12;
/// gRPC code: wrong call.
const INVALID: i32 = 3;
/// gRPC code: anything else.
const UNKNOWN: i32 = 2;
/// Most calls of a plugin that wait for their answer.
const MAX_WAITING: usize = 64;
/// How long an answer may take to be taken by the plugin.
const ANSWER: Duration = Duration::from_secs(5);

/// Why a call brought no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CallError {
    /// The connection is closed, or was while the call waited.
    Closed,
    /// The plugin did not answer (or not read) in time.
    Timeout,
    /// It answered what cannot be understood.
    Protocol(String),
    /// The question is longer than a message may be.
    TooLong(usize),
    /// It answered with an error.
    Status(Status),
}

impl CallError {
    /// In words.
    pub(crate) fn why(&self, timeout: Duration) -> String {
        match self {
            Self::Closed => "its connection is closed".to_owned(),
            Self::Timeout => format!("it did not answer within {} ms", timeout.as_millis()),
            Self::Protocol(what) => format!("it does not keep to the protocol: {what}"),
            Self::TooLong(length) => format!("the request has {length} bytes, more than {}", frame::MAX_MESSAGE),
            Self::Status(status) => status.message.clone(),
        }
    }
}

/// Answers a plugin's call: its method and message; the answer, or an error in words.
pub(crate) type Handler = Box<dyn Fn(&str, &[u8]) -> Result<Vec<u8>, String> + Send>;
/// What is done once when a connection has ended.
pub(crate) type OnClose = Box<dyn FnOnce() + Send>;

/// A connection to a plugin.
pub(crate) struct Connection {
    socket: UnixStream,
    /// Stream id of the next call; held while a call or an answer is written.
    next: Mutex<u32>,
    waiting: Mutex<HashMap<u32, SyncSender<Result<Response, CallError>>>>,
    closed: AtomicBool,
}

/// A poisoned lock is as good: nothing here leaves data half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    /// A connection; nothing is read before [`Connection::run`].
    pub(crate) fn new(socket: UnixStream) -> Arc<Self> {
        Arc::new(Self {
            socket,
            next: Mutex::new(1),
            waiting: Mutex::default(),
            closed: AtomicBool::new(false),
        })
    }

    /// Starts its threads.
    pub(crate) fn run(self: &Arc<Self>, handler: Handler, on_close: OnClose) -> io::Result<()> {
        let (give, take) = sync_channel(MAX_WAITING);
        let (reading, answering) = (Arc::clone(self), Arc::clone(self));
        let socket = self.socket.try_clone()?;
        std::thread::Builder::new()
            .name("nri-answer".to_owned())
            .spawn(move || answering.answer(&take, &handler))?;
        std::thread::Builder::new().name("nri-read".to_owned()).spawn(move || {
            // Whatever ends it, the plugin is gone with the connection; nobody could use the reason.
            let _ = reading.read(socket, &give);
            reading.close();
            on_close();
        })?;
        Ok(())
    }

    /// Whether it is of no further use.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Ends it: calls that wait fail, its threads end.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let _ = self.socket.shutdown(Shutdown::Both);
        lock(&self.waiting).clear();
    }

    /// Calls a method of the plugin and waits for its answer, until `deadline`.
    pub(crate) fn call(&self, method: &str, payload: Vec<u8>, deadline: Instant) -> Result<Vec<u8>, CallError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let request = Request {
            service: PLUGIN_SERVICE.to_owned(),
            method: method.to_owned(),
            payload,
            timeout_nano: i64::try_from(left.as_nanos()).unwrap_or(i64::MAX),
            metadata: Vec::new(),
        }
        .encode_to_vec();
        if request.len() > frame::MAX_MESSAGE {
            return Err(CallError::TooLong(request.len()));
        }
        let (stream, answer) = self.send(&request, deadline)?;
        let response = answer.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        lock(&self.waiting).remove(&stream);
        match response {
            Ok(Ok(Response { status: Some(status), .. })) if status.code != 0 => Err(CallError::Status(status)),
            Ok(Ok(response)) => Ok(response.payload),
            Ok(Err(error)) => Err(error),
            Err(RecvTimeoutError::Timeout) => Err(CallError::Timeout),
            Err(RecvTimeoutError::Disconnected) => Err(CallError::Closed),
        }
    }

    /// Sends a request under a stream id of its own.
    #[allow(clippy::type_complexity)]
    fn send(&self, request: &[u8], deadline: Instant) -> Result<(u32, Receiver<Result<Response, CallError>>), CallError> {
        let (give, take) = sync_channel(1);
        // Ids must rise on the wire: the lock is held until the request is written.
        let mut next = lock(&self.next);
        let stream = *next;
        *next = stream.checked_add(2).ok_or(CallError::Closed)?;
        lock(&self.waiting).insert(stream, give);
        if self.is_closed() {
            return Err(CallError::Closed);
        }
        self.write(&frame::encode(Lane::Plugin, Kind::Request, stream, request), deadline)
            .map_err(|e| {
                // Half a message may be out: nothing can follow it.
                self.close();
                if is_timeout(&e) { CallError::Timeout } else { CallError::Closed }
            })?;
        Ok((stream, take))
    }

    /// Writes all of it until `deadline`, however slowly the plugin reads.
    fn write(&self, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.socket.set_write_timeout(Some(left))?;
            match (&self.socket).write(bytes) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn read(&self, socket: UnixStream, calls: &SyncSender<(u32, Request)>) -> io::Result<()> {
        let mut from = BufReader::with_capacity(4096, socket);
        let mut reader = Reader::default();
        let mut last = 0;
        loop {
            for (lane, message) in reader.read(&mut from)? {
                match (lane, message.kind) {
                    (Lane::Plugin, _) => self.deliver(message),
                    (Lane::Runtime, Kind::Request) => {
                        let call = accept(&message, &mut last).map_err(io::Error::other)?;
                        // A plugin that asks faster than it can be answered, without waiting, is none.
                        if let Err(TrySendError::Full(_)) = calls.try_send(call) {
                            return Err(io::Error::other("too many calls at once"));
                        }
                    }
                    // Part of a stream; no call of NRI has one.
                    (Lane::Runtime, _) => {}
                }
            }
        }
    }

    /// Hands an answer to who waits for it; one that came too late goes nowhere.
    fn deliver(&self, message: Message) {
        let Some(waiting) = lock(&self.waiting).remove(&message.stream) else {
            return;
        };
        let answer = match message.kind {
            Kind::Response => Response::decode(message.payload.as_slice()).map_err(|e| CallError::Protocol(format!("its answer: {e}"))),
            _ => Err(CallError::Protocol("its answer is no response".to_owned())),
        };
        let _ = waiting.try_send(answer);
    }

    fn answer(&self, calls: &Receiver<(u32, Request)>, handler: &Handler) {
        while let Ok((stream, request)) = calls.recv() {
            let response = if request.service == RUNTIME_SERVICE {
                respond(handler, &request)
            } else {
                refusal(UNIMPLEMENTED, format!("service {}", request.service))
            };
            let mut bytes = response.encode_to_vec();
            if bytes.len() > frame::MAX_MESSAGE {
                bytes = refusal(UNKNOWN, "the answer is too long".to_owned()).encode_to_vec();
            }
            let guard = lock(&self.next);
            let written = self.write(
                &frame::encode(Lane::Runtime, Kind::Response, stream, &bytes),
                Instant::now() + ANSWER,
            );
            drop(guard);
            if written.is_err() {
                return self.close();
            }
        }
    }
}

/// Checks a plugin's call as upstream's server does: client ids are odd and rise.
fn accept(message: &Message, last: &mut u32) -> Result<(u32, Request), String> {
    if message.stream % 2 != 1 || message.stream <= *last {
        return Err(format!("stream {} after {last}", message.stream));
    }
    *last = message.stream;
    let request = Request::decode(message.payload.as_slice()).map_err(|e| e.to_string())?;
    Ok((message.stream, request))
}

fn respond(handler: &Handler, request: &Request) -> Response {
    match request.method.as_str() {
        "RegisterPlugin" | "UpdateContainers" => match handler(&request.method, &request.payload) {
            Ok(payload) => Response { status: None, payload },
            Err(why) => refusal(INVALID, why),
        },
        method => refusal(UNIMPLEMENTED, format!("method {method}")),
    }
}

fn refusal(code: i32, message: String) -> Response {
    Response {
        status: Some(Status { code, message }),
        payload: Vec::new(),
    }
}

fn is_timeout(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
