//! A plugin for tests: its side of the protocol, blocking, one thread.

use crate::frame::{self, Kind, Lane, Reader};
use crate::wire::ttrpc::{Request, Response, Status};
use crate::wire::{self, Event, RUNTIME_SERVICE};
use prost::Message;
use std::collections::HashMap;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// What a plugin does when it is asked.
pub(super) enum Reply {
    Answer(Vec<u8>),
    Error(i32, &'static str),
    Silence,
    HangUp,
    /// Bytes in place of a frame.
    Garbage(Vec<u8>),
}

impl Reply {
    pub(super) fn of(message: &impl Message) -> Self {
        Self::Answer(message.encode_to_vec())
    }
}

type Answer = Box<dyn Fn(&[u8]) -> Reply + Send>;

/// A plugin that is to come.
pub(super) struct Fake {
    idx: &'static str,
    name: &'static str,
    configured: wire::ConfigureResponse,
    answers: HashMap<&'static str, Answer>,
    asked: Arc<Mutex<Vec<String>>>,
}

/// A plugin that is connected.
pub(super) struct Connected {
    socket: UnixStream,
    answers: Mutex<(u32, Receiver<Response>)>,
}

pub(super) fn mask(events: &[Event]) -> i32 {
    events.iter().fold(0, |mask, event| mask | 1 << (*event as i32 - 1))
}

impl Fake {
    pub(super) fn new(idx: &'static str, name: &'static str) -> Self {
        Self {
            idx,
            name,
            configured: Default::default(),
            answers: HashMap::new(),
            asked: Default::default(),
        }
    }

    /// Which events it wants; all where this is not called.
    pub(super) fn wants(mut self, events: &[Event]) -> Self {
        self.configured.events = mask(events);
        self
    }

    pub(super) fn policy(mut self, fail_request: bool, keep_connected: bool) -> Self {
        self.configured.failure_policy = Some(wire::FailurePolicy {
            fail_request,
            keep_connected,
        });
        self
    }

    /// Where to write down `name:method` for each question.
    pub(super) fn asked(mut self, asked: &Arc<Mutex<Vec<String>>>) -> Self {
        self.asked = Arc::clone(asked);
        self
    }

    /// What it does when a method is called; where nothing is said, an empty answer.
    pub(super) fn on(mut self, method: &'static str, answer: impl Fn(&[u8]) -> Reply + Send + 'static) -> Self {
        self.answers.insert(method, Box::new(answer));
        self
    }

    /// Answers CreateContainer with an adjustment.
    pub(super) fn adjusts(self, adjust: wire::ContainerAdjustment) -> Self {
        self.on("CreateContainer", move |_| {
            Reply::of(&wire::CreateContainerResponse {
                adjust: Some(adjust.clone()),
                ..Default::default()
            })
        })
    }

    /// Connects and registers.
    pub(super) fn connect(self, socket: &Path) -> Connected {
        self.join(UnixStream::connect(socket).unwrap())
    }

    /// Registers over a connection that is there.
    pub(super) fn join(self, socket: UnixStream) -> Connected {
        let (give, take) = channel();
        let registration = wire::RegisterPluginRequest {
            plugin_name: self.name.into(),
            plugin_idx: self.idx.into(),
            ..Default::default()
        };
        let connected = Connected {
            socket: socket.try_clone().unwrap(),
            answers: Mutex::new((1, take)),
        };
        std::thread::spawn(move || self.serve(socket, &give));
        // Whatever the runtime answers, the test sees by other means.
        connected.call("RegisterPlugin", &registration);
        connected
    }

    /// Registers and serves until the connection ends.
    pub(super) fn run(self, socket: UnixStream) {
        let (give, _take) = channel();
        let registration = wire::RegisterPluginRequest {
            plugin_name: self.name.into(),
            plugin_idx: self.idx.into(),
            ..Default::default()
        };
        send(&socket, 1, "RegisterPlugin", &registration);
        self.serve(socket, &give);
    }

    fn serve(self, mut socket: UnixStream, answers: &Sender<Response>) {
        let mut reader = Reader::default();
        let mut from = socket.try_clone().unwrap();
        while let Ok(messages) = reader.read(&mut from) {
            for (lane, message) in messages {
                if lane == Lane::Runtime {
                    let _ = answers.send(Response::decode(message.payload.as_slice()).unwrap());
                    continue;
                }
                let request = Request::decode(message.payload.as_slice()).unwrap();
                assert_eq!((message.kind, request.service.as_str()), (Kind::Request, wire::PLUGIN_SERVICE));
                self.asked.lock().unwrap().push(format!("{}:{}", self.name, request.method));
                let (status, payload) = match self.answer(&request) {
                    Reply::Answer(payload) => (None, payload),
                    Reply::Error(code, message) => (
                        Some(Status {
                            code,
                            message: message.into(),
                        }),
                        Vec::new(),
                    ),
                    Reply::Silence => continue,
                    Reply::HangUp => return drop(socket.shutdown(Shutdown::Both)),
                    Reply::Garbage(bytes) => {
                        let _ = socket.write_all(&bytes);
                        continue;
                    }
                };
                let response = Response { status, payload }.encode_to_vec();
                let _ = socket.write_all(&frame::encode(Lane::Plugin, Kind::Response, message.stream, &response));
            }
        }
    }

    fn answer(&self, request: &Request) -> Reply {
        match self.answers.get(request.method.as_str()) {
            Some(answer) => answer(&request.payload),
            None if request.method == "Configure" => Reply::of(&self.configured),
            None if request.method == "Synchronize" => {
                let more = wire::SynchronizeRequest::decode(request.payload.as_slice()).unwrap().more;
                Reply::of(&wire::SynchronizeResponse {
                    more,
                    ..Default::default()
                })
            }
            None => Reply::Answer(Vec::new()),
        }
    }
}

fn send(mut socket: &UnixStream, stream: u32, method: &str, request: &impl Message) {
    let request = Request {
        service: RUNTIME_SERVICE.to_owned(),
        method: method.to_owned(),
        payload: request.encode_to_vec(),
        ..Default::default()
    };
    let bytes = frame::encode(Lane::Runtime, Kind::Request, stream, &request.encode_to_vec());
    // The runtime may have closed already.
    let _ = socket.write_all(&bytes);
}

impl Connected {
    /// Calls the runtime; `None` where the connection ends.
    pub(super) fn call(&self, method: &str, request: &impl Message) -> Option<Response> {
        let mut answers = self.answers.lock().unwrap();
        send(&self.socket, answers.0, method, request);
        answers.0 += 2;
        answers.1.recv().ok()
    }

    pub(super) fn hang_up(&self) {
        self.socket.shutdown(Shutdown::Both).unwrap();
    }
}
