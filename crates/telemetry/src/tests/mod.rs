#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
//! What tests share, and tests of the whole.

mod calls;
pub(crate) mod collector;
mod document;
mod hostile;
mod scrape;
mod works;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
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
