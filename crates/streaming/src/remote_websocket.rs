//! Exec and attach over websockets: channels 0 to 4 are stdin, stdout, stderr, error and resize
//! (`k8s.io/kubelet/pkg/cri/streaming/remotecommand/websocket.go`).

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;

use crate::backend::{Backend, Input};
use crate::idle::Idle;
use crate::remote::{Job, Sink, Sizes, Source, Wanted, run};
use crate::websocket::{Coding, Packet, PacketReader, PacketWriter, channels};

/// The sub-protocols; a client that names none gets the first version in binary.
pub(crate) const PROTOCOLS: [&str; 5] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
];

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// From v5 on: the next byte's channel is closed.
const CLOSE: u8 = 255;

/// Serves one client on a connection that was upgraded to a websocket.
pub(crate) async fn serve<B, T>(job: Job, backend: &B, io: WebSocketStream<T>, protocol: &str, idle: Arc<Idle>)
where
    B: Backend,
    T: AsyncRead + AsyncWrite + Unpin + Send,
{
    let wanted = job.wanted();
    let (reader, writer) = channels(io, Coding::of(protocol), idle.clone());
    let mut source = WsSource {
        reader,
        wanted,
        closes: protocol.starts_with("v5."),
        sizes: Sizes::default(),
    };
    let mut sink = WsSink { writer, wanted };
    // An empty message on the lowest channel that is written to tells the client that it is connected.
    let first = if wanted.stdout {
        STDOUT
    } else if wanted.stderr {
        STDERR
    } else {
        ERROR
    };
    if sink.writer.send(first, Bytes::new()).await.is_err() {
        return;
    }
    let outcome = tokio::select! {
        outcome = run(job, backend, &mut source, &mut sink) => outcome,
        () = idle.expired() => None,
    };
    let Some(outcome) = outcome else { return };
    let json = protocol.starts_with("v4.") || protocol.starts_with("v5.");
    if let Some(text) = outcome.text(json)
        && sink.writer.send(ERROR, Bytes::from(text)).await.is_err()
    {
        return;
    }
    sink.writer.close().await;
    source.reader.linger().await;
}

struct WsSource<T> {
    reader: PacketReader<T>,
    wanted: Wanted,
    closes: bool,
    sizes: Sizes,
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Source for WsSource<T> {
    async fn next(&mut self) -> Option<Input> {
        loop {
            let Packet { channel, data } = self.reader.next().await?;
            match channel {
                STDIN if self.wanted.stdin && !data.is_empty() => return Some(Input::Data(data)),
                RESIZE => {
                    self.sizes.push(&data);
                    if let Some(size) = self.sizes.take() {
                        return Some(size);
                    }
                }
                // Anything but one channel's number after it is a protocol error, which ends the connection.
                CLOSE if self.closes => match data.as_ref() {
                    [STDIN] if self.wanted.stdin => {
                        self.wanted.stdin = false;
                        return Some(Input::Eof);
                    }
                    [STDIN..=RESIZE] => {}
                    _ => return None,
                },
                _ => {}
            }
        }
    }
}

struct WsSink<T> {
    writer: PacketWriter<T>,
    wanted: Wanted,
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Sink for WsSink<T> {
    async fn stdout(&mut self, data: Bytes) {
        if self.wanted.stdout && !data.is_empty() {
            // That the client is gone is seen by reading from it.
            let _ = self.writer.send(STDOUT, data).await;
        }
    }

    async fn stderr(&mut self, data: Bytes) {
        if self.wanted.stderr && !data.is_empty() {
            let _ = self.writer.send(STDERR, data).await;
        }
    }
}
