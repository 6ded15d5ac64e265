//! A backend in memory: commands by name, ports by number.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};

use bytes::Bytes;
use cofferdam_streaming::{AttachRequest, Backend, Duplex, Error, ExecRequest, Input, Output, Process};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// The fake, and what it counted.
#[derive(Debug, Default)]
pub struct Fake {
    /// Bytes that `flood` could hand over, or that `hoard` took.
    pub moved: Arc<AtomicUsize>,
    /// Processes whose input channel was closed by the server.
    pub abandoned: Arc<AtomicUsize>,
}

impl Backend for Fake {
    async fn exec(&self, request: ExecRequest) -> Result<Process, Error> {
        let words: Vec<&str> = request.command.iter().map(String::as_str).collect();
        if words == ["missing"] {
            return Err(Error::Backend("no such command".into()));
        }
        let (input, from_client) = mpsc::channel(1);
        let (to_client, output) = mpsc::channel(1);
        let words = request.command.clone();
        let (moved, abandoned) = (self.moved.clone(), self.abandoned.clone());
        tokio::spawn(async move { play(&words, from_client, to_client, &moved, &abandoned).await });
        Ok(Process { input, output })
    }

    async fn attach(&self, request: AttachRequest) -> Result<Process, Error> {
        if request.container == "gone" {
            return Err(Error::Backend("container gone is not running".into()));
        }
        let exec = ExecRequest {
            container: request.container,
            command: vec!["cat".into(), "7".into()],
            ..ExecRequest::default()
        };
        self.exec(exec).await
    }

    async fn dial(&self, pod: String, port: u16) -> Result<Box<dyn Duplex>, Error> {
        let (near, far) = tokio::io::duplex(4096);
        match port {
            7 => {
                tokio::spawn(echo(far));
            }
            // Says nothing, and counts when it is left.
            8 => {
                let abandoned = self.abandoned.clone();
                tokio::spawn(async move {
                    let mut far = far;
                    let _ = far.read_u8().await;
                    abandoned.fetch_add(1, SeqCst);
                });
            }
            9 => return Ok(Box::new(Stuck(self.abandoned.clone()))),
            13 => {
                tokio::spawn(async move {
                    let mut far = far;
                    far.write_all(b"noon\n").await.unwrap();
                });
            }
            _ => return Err(Error::Backend(format!("nothing listens on port {port} of {pod}"))),
        }
        Ok(Box::new(near))
    }
}

/// A port that neither takes nor gives anything, and counts when it is left.
struct Stuck(Arc<AtomicUsize>);

impl Drop for Stuck {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl AsyncRead for Stuck {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Stuck {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

async fn echo(io: tokio::io::DuplexStream) {
    let (mut read, mut write) = tokio::io::split(io);
    let _ = tokio::io::copy(&mut read, &mut write).await;
    let _ = write.shutdown().await;
}

async fn play(
    words: &[String],
    mut input: mpsc::Receiver<Input>,
    output: mpsc::Sender<Output>,
    moved: &AtomicUsize,
    abandoned: &AtomicUsize,
) {
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<usize>().ok()).unwrap_or(0);
    let say = |text: String| output.send(Output::Stdout(Bytes::from(text)));
    match words[0].as_str() {
        // Echoes until the end of input, then exits with the given code.
        "cat" => loop {
            match input.recv().await {
                Some(Input::Data(data)) => output.send(Output::Stdout(data)).await.unwrap(),
                Some(Input::Resize { rows, cols }) => say(format!("[{rows}x{cols}]")).await.unwrap(),
                Some(Input::Eof) => {
                    say("<eof>".into()).await.unwrap();
                    break output.send(Output::Exited(number(1) as i32)).await.unwrap();
                }
                None => {
                    abandoned.fetch_add(1, SeqCst);
                    break;
                }
            }
        },
        "echo" => {
            say(words[1..].join(" ")).await.unwrap();
            output.send(Output::Stderr(Bytes::from_static(b"warned"))).await.unwrap();
            output.send(Output::Exited(0)).await.unwrap();
        }
        "exit" => output.send(Output::Exited(number(1) as i32)).await.unwrap(),
        "fail" => output.send(Output::Failed("it went wrong".into())).await.unwrap(),
        "break" => say("half".into()).await.unwrap(),
        // Writes this many bytes.
        "flood" => {
            let mut left = number(1);
            while left > 0 {
                let count = left.min(16 * 1024);
                if output.send(Output::Stdout(Bytes::from(vec![b'x'; count]))).await.is_err() {
                    return;
                }
                moved.fetch_add(count, SeqCst);
                left -= count;
            }
            output.send(Output::Exited(0)).await.unwrap();
        }
        // Never reads its input.
        "hoard" => output.closed().await,
        // Counts its input.
        "count" => {
            let mut total = 0;
            while let Some(Input::Data(data)) = input.recv().await {
                total += data.len();
            }
            say(total.to_string()).await.unwrap();
            output.send(Output::Exited(0)).await.unwrap();
        }
        other => panic!("the fake knows no {other}"),
    }
}

/// A server on a free port with a fresh fake.
pub async fn serve(options: cofferdam_streaming::Options) -> (cofferdam_streaming::Server, Arc<Fake>) {
    let fake = Arc::new(Fake::default());
    let server = cofferdam_streaming::Server::start("127.0.0.1:0".parse().unwrap(), fake.clone(), options)
        .await
        .unwrap();
    (server, fake)
}

/// A command; `streams` has a letter for each of tty, stdin, stdout and stderr (t, i, o, e).
pub fn exec(streams: &str, command: &str) -> ExecRequest {
    let has = |letter| streams.contains(letter);
    let command = command.split(' ').map(String::from).collect();
    ExecRequest {
        container: "c".into(),
        command,
        tty: has('t'),
        stdin: has('i'),
        stdout: has('o'),
        stderr: has('e'),
    }
}

/// Sends an upgrade request; the answer's head, and the connection after it.
pub async fn request(url: &str, headers: &[(&str, &str)]) -> (String, TcpStream) {
    let rest = url.strip_prefix("http://").unwrap();
    let (address, path) = rest.split_once('/').unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut text = format!("POST /{path} HTTP/1.1\r\nHost: {address}\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    stream.write_all((text + "\r\n").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    (String::from_utf8(head).unwrap(), stream)
}

/// A connection upgraded to SPDY.
pub async fn spdy(url: &str, protocol: &str) -> TcpStream {
    let headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "SPDY/3.1"),
        ("X-Stream-Protocol-Version", protocol),
    ];
    let (head, stream) = request(url, &headers).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains(&format!("x-stream-protocol-version: {protocol}\r\n")), "{head}");
    stream
}

/// Waits until a count has stood still for a while or is past any bound, and gives it.
pub async fn settled(count: &AtomicUsize) -> usize {
    let mut last = count.load(SeqCst);
    let mut quiet = 0;
    while quiet < 20 && last < 256 << 20 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        let now = count.load(SeqCst);
        quiet = if now == last { quiet + 1 } else { 0 };
        last = now;
    }
    last
}
