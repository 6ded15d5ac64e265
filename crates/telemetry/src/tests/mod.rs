#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
//! What tests share, and tests of the whole.

mod calls;
mod document;
mod hostile;
mod scrape;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::{Level, Log, LogFormat, Options, Telemetry, lock};

/// Longer than anything takes; a test that waits so long has failed.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A log's sink that can be read.
#[derive(Clone, Default)]
pub(crate) struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(lock(&self.0).clone()).unwrap()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Telemetry with a readable log and no environment but this.
pub(crate) fn start(options: Options, variables: &[(&str, &str)]) -> (Telemetry, Sink) {
    let sink = Sink::default();
    let log = Log::to(LogFormat::Journal, Level::Debug, Box::new(sink.clone()));
    let variables: Vec<(String, String)> = variables
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let environment = move |name: &str| variables.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    (Telemetry::start_with(options, log, &environment).unwrap(), sink)
}

/// Telemetry that listens on some port.
pub(crate) fn listening() -> (Telemetry, Sink) {
    start(
        Options {
            version: "1.2.3".to_owned(),
            listen: Some("127.0.0.1:0".parse().unwrap()),
            ..Options::default()
        },
        &[],
    )
}

/// Waits until something is so.
pub(crate) fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..3000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("never: {what}");
}

/// Sends bytes, gives the whole answer.
pub(crate) fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

/// Status and body of a GET.
pub(crate) fn get(telemetry: &Telemetry, path: &str) -> (u16, String) {
    let answer = exchange(
        telemetry.address().unwrap(),
        format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes(),
    );
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

/// A collector: hands out each POST (head, body) and answers as told, by default with 200.
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    pub(crate) posts: Receiver<(String, serde_json::Value)>,
    pub(crate) answers: Sender<(u16, String)>,
}

impl Collector {
    pub(crate) fn start() -> Self {
        Self::start_over(None)
    }

    /// One that speaks TLS, where it is given how.
    pub(crate) fn start_over(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (told, posts) = channel();
        let (answers, to_answer) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                match &tls {
                    None => collect(stream, &told, &to_answer),
                    Some(config) => {
                        let session = rustls::ServerConnection::new(config.clone()).unwrap();
                        collect(rustls::StreamOwned::new(session, stream), &told, &to_answer);
                    }
                }
            }
        });
        Self { address, posts, answers }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The spans of the next POST.
    pub(crate) fn spans(&self) -> Vec<serde_json::Value> {
        let (_, body) = self.posts.recv_timeout(LONG).unwrap();
        body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone()
    }
}

fn collect(stream: impl Read + Write, told: &Sender<(String, serde_json::Value)>, to_answer: &Receiver<(u16, String)>) {
    let mut reader = BufReader::new(stream);
    while let Some((head, body)) = read_post(&mut reader) {
        let _ = told.send((head, body));
        let (status, text): (u16, String) = to_answer.try_recv().unwrap_or((200, "{}".to_owned()));
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{text}", text.len());
        reader.get_mut().write_all(answer.as_bytes()).unwrap();
        reader.get_mut().flush().unwrap();
    }
}

fn read_post(reader: &mut BufReader<impl Read>) -> Option<(String, serde_json::Value)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let lower = head.to_ascii_lowercase();
    let length: usize = lower.split("content-length: ").nth(1)?.split("\r\n").next()?.parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((head, serde_json::from_slice(&body).unwrap()))
}
