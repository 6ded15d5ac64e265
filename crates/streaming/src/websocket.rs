//! Websockets: messages whose first byte says which channel they are of
//! (`k8s.io/apimachinery/pkg/util/httpstream/wsstream/conn.go`).

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use crate::idle::Idle;

/// The most bytes of one message from a client.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;
/// The most bytes of a stream in one message to a client.
pub(crate) const PIECE: usize = 32 * 1024;
/// How long a client may take to answer our close.
const LINGER: Duration = Duration::from_secs(2);

/// One message of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) channel: u8,
    pub(crate) data: Bytes,
}

/// How packets are written into messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// Binary messages: the channel's number, the bytes.
    Binary,
    /// Text messages: the channel's digit, the bytes in base64.
    Base64,
}

impl Coding {
    pub(crate) fn of(protocol: &str) -> Self {
        if protocol.contains("base64.") { Self::Base64 } else { Self::Binary }
    }

    fn encode(self, channel: u8, data: &[u8]) -> Message {
        match self {
            Self::Binary => {
                let mut bytes = BytesMut::with_capacity(1 + data.len());
                bytes.put_u8(channel);
                bytes.put_slice(data);
                Message::Binary(bytes.freeze())
            }
            Self::Base64 => {
                let mut text = String::from(char::from(b'0'.wrapping_add(channel)));
                STANDARD.encode_string(data, &mut text);
                Message::text(text)
            }
        }
    }

    /// `None` for a message that says nothing: upstream passes over it.
    fn decode(self, message: &[u8]) -> Option<Packet> {
        let (first, rest) = message.split_first()?;
        Some(match self {
            Self::Binary => Packet {
                channel: *first,
                data: Bytes::copy_from_slice(rest),
            },
            Self::Base64 => Packet {
                channel: first.wrapping_sub(b'0'),
                data: STANDARD.decode(rest).ok()?.into(),
            },
        })
    }
}

/// The connection, upgraded.
pub(crate) async fn accept<T: AsyncRead + AsyncWrite + Unpin>(io: T) -> WebSocketStream<T> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
        .read_buffer_size(16 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(8 * PIECE);
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// A connection's packets, both ways.
pub(crate) fn channels<T: AsyncRead + AsyncWrite + Unpin>(
    io: WebSocketStream<T>,
    coding: Coding,
    idle: Arc<Idle>,
) -> (PacketReader<T>, PacketWriter<T>) {
    let (sink, stream) = io.split();
    (
        PacketReader {
            stream,
            coding,
            idle: idle.clone(),
        },
        PacketWriter { sink, coding, idle },
    )
}

/// The packets from the client.
pub(crate) struct PacketReader<T> {
    stream: SplitStream<WebSocketStream<T>>,
    coding: Coding,
    idle: Arc<Idle>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> PacketReader<T> {
    /// The next packet; `None` when the client is gone. Nothing is lost when it is cancelled.
    pub(crate) async fn next(&mut self) -> Option<Packet> {
        loop {
            let message = self.stream.next().await?.ok()?;
            self.idle.touch();
            let packet = match &message {
                Message::Binary(data) => self.coding.decode(data),
                Message::Text(text) => self.coding.decode(text.as_bytes()),
                Message::Close(_) => return None,
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => None,
            };
            if packet.is_some() {
                return packet;
            }
        }
    }

    /// Waits for the client to close too, after our close, for a moment.
    pub(crate) async fn linger(mut self) {
        let rest = async { while let Some(Ok(_)) = self.stream.next().await {} };
        let _ = tokio::time::timeout(LINGER, rest).await;
    }
}

/// The packets to the client.
pub(crate) struct PacketWriter<T> {
    sink: SplitSink<WebSocketStream<T>, Message>,
    coding: Coding,
    idle: Arc<Idle>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> PacketWriter<T> {
    /// Sends bytes on a channel, in pieces; no bytes make one empty packet.
    pub(crate) async fn send(&mut self, channel: u8, mut data: Bytes) -> Result<(), Gone> {
        loop {
            let piece = data.split_to(data.len().min(PIECE));
            self.sink.send(self.coding.encode(channel, &piece)).await.map_err(|_| Gone)?;
            self.idle.touch();
            if data.is_empty() {
                return Ok(());
            }
        }
    }

    /// Closes the connection well.
    pub(crate) async fn close(mut self) {
        let _ = self.sink.send(normal_close()).await;
    }
}

/// The client is gone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gone;

fn normal_close() -> Message {
    Message::Close(Some(CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    }))
}

/// Carries a byte stream in binary messages: `SPDY/3.1+portforward.k8s.io`
/// (`k8s.io/client-go/tools/portforward/tunneling_connection.go`). It ends when either side does.
pub(crate) async fn tunnel<T: AsyncRead + AsyncWrite + Unpin>(io: WebSocketStream<T>, far: DuplexStream) {
    let (mut sink, mut stream) = io.split();
    let (mut read, mut write) = tokio::io::split(far);
    let inward = async {
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Binary(data) if write.write_all(&data).await.is_ok() => {}
                Message::Ping(_) | Message::Pong(_) => {}
                _ => break,
            }
        }
        let _ = write.shutdown().await;
        stream
    };
    let outward = async {
        let mut piece = vec![0; PIECE];
        while let Ok(count @ 1..) = read.read(&mut piece).await {
            let data = Bytes::copy_from_slice(piece.get(..count).unwrap_or_default());
            if sink.send(Message::Binary(data)).await.is_err() {
                break;
            }
        }
        let _ = sink.send(normal_close()).await;
    };
    // When SPDY ends it has said so; the client is given a moment to close, too.
    tokio::pin!(inward);
    tokio::select! {
        _ = &mut inward => {}
        () = outward => {
            let _ = tokio::time::timeout(LINGER, inward).await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn packets_are_as_upstream_writes_them() {
        assert_eq!(Coding::Binary.encode(1, b"\n"), Message::Binary(Bytes::from_static(&[1, 10])));
        assert_eq!(Coding::Base64.encode(1, b"\n"), Message::text("1Cg=="));
        assert_eq!(
            Coding::Base64.decode(b"0Zm9vCg=="),
            Some(Packet {
                channel: 0,
                data: Bytes::from_static(b"foo\n")
            })
        );
        assert_eq!(Coding::Base64.decode(b"0!"), None);
        assert_eq!(Coding::Binary.decode(b""), None);
        let rows = [
            ("v4.base64.channel.k8s.io", Coding::Base64),
            ("base64.channel.k8s.io", Coding::Base64),
            ("v5.channel.k8s.io", Coding::Binary),
            ("", Coding::Binary),
        ];
        for (protocol, coding) in rows {
            assert_eq!(Coding::of(protocol), coding, "{protocol}");
        }
    }
}
