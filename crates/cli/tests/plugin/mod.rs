//! An NRI plugin of a test: its side of the protocol, written anew from upstream's (`pkg/net/multiplex`, ttrpc's
//! `PROTOCOL.md`, `pkg/api/api.proto`), so that ours is held against it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use prost::Message;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(string, tag = "1")]
    service: String,
    #[prost(string, tag = "2")]
    method: String,
    #[prost(bytes, tag = "3")]
    payload: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
    #[prost(bytes, tag = "2")]
    payload: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// Name and value, in both its uses: a plugin's name and index, a variable.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Pair {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Mount {
    #[prost(string, tag = "1")]
    pub(crate) destination: String,
    #[prost(string, tag = "2")]
    pub(crate) kind: String,
    #[prost(string, tag = "3")]
    pub(crate) source: String,
    #[prost(string, repeated, tag = "4")]
    pub(crate) options: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Adjustment {
    #[prost(message, repeated, tag = "3")]
    pub(crate) mounts: Vec<Mount>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) env: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Created {
    #[prost(message, optional, tag = "1")]
    pub(crate) adjust: Option<Adjustment>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) update: Vec<Update>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) evict: Vec<Pair>,
}

/// Of a container: its id and its memory.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Update {
    #[prost(string, tag = "1")]
    pub(crate) container: String,
    #[prost(message, optional, tag = "2")]
    linux: Option<Linux>,
}

#[derive(Clone, PartialEq, Message)]
struct Linux {
    #[prost(message, optional, tag = "1")]
    resources: Option<Resources>,
}

#[derive(Clone, PartialEq, Message)]
struct Resources {
    #[prost(message, optional, tag = "1")]
    memory: Option<Memory>,
}

#[derive(Clone, PartialEq, Message)]
struct Memory {
    #[prost(message, optional, tag = "1")]
    limit: Option<Int64>,
}

#[derive(Clone, PartialEq, Message)]
struct Int64 {
    #[prost(int64, tag = "1")]
    value: i64,
}

impl Update {
    /// A limit of memory, bytes.
    pub(crate) fn memory(container: &str, bytes: i64) -> Self {
        let memory = Memory {
            limit: Some(Int64 { value: bytes }),
        };
        let resources = Resources { memory: Some(memory) };
        let linux = Linux {
            resources: Some(resources),
        };
        Self {
            container: container.into(),
            linux: Some(linux),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Unsolicited {
    #[prost(message, repeated, tag = "1")]
    pub(crate) update: Vec<Update>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) evict: Vec<Pair>,
}

/// A pod as the runtime tells it, as far as tests look.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Pod {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    #[prost(string, tag = "7")]
    pub(crate) handler: String,
    #[prost(uint32, tag = "9")]
    pub(crate) pid: u32,
}

/// A container likewise.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Container {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(string, tag = "2")]
    pub(crate) pod: String,
    #[prost(string, tag = "3")]
    pub(crate) name: String,
    #[prost(string, repeated, tag = "7")]
    pub(crate) args: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Told {
    #[prost(message, optional, tag = "1")]
    pod: Option<Pod>,
    #[prost(message, optional, tag = "2")]
    container: Option<Container>,
}

/// The state, as a plugin that comes is told.
#[derive(Clone, PartialEq, Message)]
struct State {
    #[prost(message, repeated, tag = "1")]
    pods: Vec<Pod>,
    #[prost(message, repeated, tag = "2")]
    containers: Vec<Container>,
}

/// What a plugin was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) pods: Vec<Pod>,
    pub(crate) containers: Vec<Container>,
}

/// What it answers: a message, or an error's sentence.
pub(crate) type Answer = Result<Vec<u8>, &'static str>;

/// A plugin that is connected; it leaves when this is dropped.
pub(crate) struct Plugin {
    socket: UnixStream,
    pub(crate) asked: Receiver<Asked>,
    answers: Receiver<()>,
    stream: u32,
}

/// The two logical connections, and ttrpc's two kinds.
const TO_PLUGIN: u32 = 1;
const TO_RUNTIME: u32 = 2;
const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;

impl Plugin {
    /// Connects as `10-name`, registers, and waits until the state was told. `answer` is asked about every call but
    /// Configure and Synchronize.
    #[track_caller]
    pub(crate) fn connect(socket: &Path, name: &str, answer: impl Fn(&Asked) -> Answer + Send + 'static) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        let (tell, asked) = channel();
        let (got, answers) = channel();
        let served = stream.try_clone().unwrap();
        std::thread::spawn(move || serve(served, &tell, &got, answer));
        let mut plugin = Self {
            socket: stream,
            asked,
            answers,
            stream: 1,
        };
        plugin.call(
            "RegisterPlugin",
            &Pair {
                key: name.into(),
                value: "10".into(),
            },
        );
        plugin
    }

    /// Calls the runtime, and waits for its answer.
    #[track_caller]
    pub(crate) fn call(&mut self, method: &str, message: &impl Message) {
        let request = Request {
            service: "nri.pkg.api.v1alpha1.Runtime".into(),
            method: method.into(),
            payload: message.encode_to_vec(),
        };
        put(&mut self.socket, TO_RUNTIME, self.stream, REQUEST, &request.encode_to_vec());
        self.stream += 2;
        self.answers
            .recv_timeout(super::common::patience())
            .expect("the runtime does not answer");
    }

    /// Waits until it is asked this.
    #[track_caller]
    pub(crate) fn wait_for(&self, method: &str) -> Asked {
        loop {
            let asked = self.asked.recv_timeout(super::common::patience());
            let asked = asked.unwrap_or_else(|e| panic!("never asked {method}: {e}"));
            if asked.method == method {
                return asked;
            }
        }
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

fn put(to: &mut UnixStream, lane: u32, stream: u32, kind: u8, payload: &[u8]) {
    let mut message = (payload.len() as u32).to_be_bytes().to_vec();
    message.extend(stream.to_be_bytes());
    message.extend([kind, 0]);
    message.extend(payload);
    let mut frame = lane.to_be_bytes().to_vec();
    frame.extend((message.len() as u32).to_be_bytes());
    frame.extend(message);
    // The runtime may be gone.
    let _ = to.write_all(&frame);
}

/// The next frame: its logical connection and its bytes.
fn frame(from: &mut UnixStream) -> Option<(u32, Vec<u8>)> {
    let mut head = [0; 8];
    from.read_exact(&mut head).ok()?;
    let mut bytes = vec![0; u32::from_be_bytes(head[4..].try_into().unwrap()) as usize];
    from.read_exact(&mut bytes).ok()?;
    Some((u32::from_be_bytes(head[..4].try_into().unwrap()), bytes))
}

fn serve(mut socket: UnixStream, tell: &Sender<Asked>, got: &Sender<()>, answer: impl Fn(&Asked) -> Answer) {
    let mut pending = Vec::new();
    while let Some((lane, bytes)) = frame(&mut socket) {
        if lane == TO_RUNTIME {
            let _ = got.send(());
            continue;
        }
        // A message may come in two frames.
        pending.extend(bytes);
        let length = u32::from_be_bytes(pending[..4].try_into().unwrap()) as usize + 10;
        if pending.len() < length {
            continue;
        }
        let stream = u32::from_be_bytes(pending[4..8].try_into().unwrap());
        let request = Request::decode(&pending[10..length]).unwrap();
        pending.drain(..length);
        let asked = read(&request);
        let outcome = match request.method.as_str() {
            "Configure" | "Synchronize" => Ok(Vec::new()),
            _ => answer(&asked),
        };
        let (status, payload) = match outcome {
            Ok(payload) => (None, payload),
            Err(message) => (
                Some(Status {
                    code: 2,
                    message: message.into(),
                }),
                Vec::new(),
            ),
        };
        // Before the answer: who waits for what the answer brings about finds it told.
        let _ = tell.send(asked);
        put(
            &mut socket,
            TO_PLUGIN,
            stream,
            RESPONSE,
            &Response { status, payload }.encode_to_vec(),
        );
    }
}

fn read(request: &Request) -> Asked {
    let (pods, containers) = match request.method.as_str() {
        "Configure" => (vec![], vec![]),
        "Synchronize" => {
            let state = State::decode(&*request.payload).unwrap();
            (state.pods, state.containers)
        }
        _ => {
            let told = Told::decode(&*request.payload).unwrap();
            (told.pod.into_iter().collect(), told.container.into_iter().collect())
        }
    };
    Asked {
        method: request.method.clone(),
        pods,
        containers,
    }
}
