//! Port-forwarding over SPDY, plain or within a websocket, and over websocket channels
//! (`k8s.io/kubelet/pkg/cri/streaming/portforward`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;

use crate::backend::{Backend, Duplex, Error};
use crate::idle::Idle;
use crate::spdy::{Incoming, Session, Status, Stream, StreamError, StreamReader, StreamWriter};
use crate::websocket::{Coding, PIECE, Packet, channels};

/// The protocol over SPDY.
pub(crate) const PROTOCOL: &str = "portforward.k8s.io";
/// The same, its SPDY frames carried in binary websocket messages.
pub(crate) const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// The websocket sub-protocols; a client that names none gets binary channels.
pub(crate) const WEBSOCKET_PROTOCOLS: [&str; 3] = [TUNNEL, "v4.channel.k8s.io", "v4.base64.channel.k8s.io"];
/// Ports over websocket channels: two channels each, and a channel is a byte that must not be 255.
pub(crate) const MAX_PORTS: usize = 127;

/// Connections of one client that are forwarded or wait for their second stream: as many as it may have
/// streams, reset ones among them until they are given up.
const MAX_FORWARDS: usize = 256;

/// The two streams of one forwarded connection, until both are there.
struct Pair {
    data: Option<Stream>,
    error: Option<Stream>,
    port: u16,
    end: Instant,
}

/// Serves one client until it leaves: any number of connections to any of the pod's ports.
pub(crate) async fn serve_spdy<B: Backend>(pod: String, backend: Arc<B>, session: Session, mut incoming: Incoming, patience: Duration) {
    let mut pairs: HashMap<String, Pair> = HashMap::new();
    // Dropped with this future: every forwarded connection ends with its client.
    let mut running = JoinSet::new();
    loop {
        let next_end = pairs.values().map(|pair| pair.end).min();
        tokio::select! {
            stream = incoming.next() => match stream {
                Some(stream) if pairs.len() + running.len() >= MAX_FORWARDS => stream.reset(Status::REFUSED_STREAM).await,
                Some(stream) => {
                    if let Some((data, error, port)) = add(&mut pairs, stream, patience).await {
                        running.spawn(forward_spdy(pod.clone(), backend.clone(), data, error, port));
                    }
                }
                None => return,
            },
            Some(_) = running.join_next() => {}
            () = sleep_until(next_end) => give_up(&mut pairs).await,
            () = session.closed() => return,
        }
    }
}

async fn sleep_until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// Puts a stream to its pair; both streams and the port when that completes it.
async fn add(pairs: &mut HashMap<String, Pair>, stream: Stream, patience: Duration) -> Option<(Stream, Stream, u16)> {
    let port = stream
        .header("port")
        .and_then(|port| port.parse::<u16>().ok())
        .filter(|port| *port > 0);
    let is_data = match stream.header("streamType") {
        Some("data") => true,
        Some("error") => false,
        _ => return refuse(stream).await,
    };
    let Some(port) = port else { return refuse(stream).await };
    let request = request_id(&stream, is_data);
    let pair = pairs.entry(request.clone()).or_insert_with(|| Pair {
        data: None,
        error: None,
        port,
        end: Instant::now() + patience,
    });
    let slot = if is_data { &mut pair.data } else { &mut pair.error };
    // A second stream of its kind, or one for another port: the client contradicts itself.
    if slot.is_some() || pair.port != port {
        return refuse(stream).await;
    }
    stream.accept().await.ok()?;
    *slot = Some(stream);
    if pair.data.is_none() || pair.error.is_none() {
        return None;
    }
    let pair = pairs.remove(&request)?;
    Some((pair.data?, pair.error?, pair.port))
}

async fn refuse<T>(stream: Stream) -> Option<T> {
    stream.reset(Status::REFUSED_STREAM).await;
    None
}

/// Clients of before Kubernetes 1.1 name no request; theirs open the error stream first, the data stream next.
fn request_id(stream: &Stream, is_data: bool) -> String {
    match stream.header("requestID") {
        Some(id) if !id.is_empty() => id.to_string(),
        _ if is_data => stream.id().saturating_sub(2).to_string(),
        _ => stream.id().to_string(),
    }
}

async fn give_up(pairs: &mut HashMap<String, Pair>) {
    let now = Instant::now();
    let late: Vec<String> = pairs.iter().filter(|(_, pair)| pair.end <= now).map(|(id, _)| id.clone()).collect();
    for id in late {
        let Some(pair) = pairs.remove(&id) else { continue };
        if let Some(error) = pair.error {
            tell(error.split().1, format!("request {id} timed out waiting for streams")).await;
        }
        if let Some(data) = pair.data {
            data.reset(Status::CANCEL).await;
        }
    }
}

/// Ends an error stream with a sentence.
async fn tell(mut error: StreamWriter, text: String) {
    // A client that does not listen any more has no need of it.
    if error.write(Bytes::from(text)).await.is_ok() {
        let _ = error.finish().await;
    }
}

fn sentence(pod: &str, port: u16, error: &Error) -> String {
    format!("error forwarding port {port} to pod {pod}, uid : {error}")
}

async fn forward_spdy<B: Backend>(pod: String, backend: Arc<B>, data: Stream, error: Stream, port: u16) {
    // The client only listens on the error stream; its reading half is dropped here.
    let error = error.split().1;
    let (mut from_client, to_client) = data.split();
    match backend.dial(pod.clone(), port).await {
        Ok(connection) => {
            let (read, write) = tokio::io::split(connection);
            let (inward, outward) = (client_to_port(&mut from_client, write), port_to_client(read, to_client));
            tokio::pin!(inward, outward);
            let well = tokio::select! {
                ended = &mut inward => {
                    // A port that says nothing more would never notice a client that reset the stream.
                    if ended.is_ok() {
                        outward.await;
                    }
                    ended.is_ok()
                }
                () = &mut outward => inward.await.is_ok(),
            };
            if well {
                let _ = error.finish().await;
            } else {
                error.reset(Status::CANCEL).await;
            }
        }
        Err(failure) => {
            tell(error, sentence(&pod, port, &failure)).await;
            to_client.reset(Status::CANCEL).await;
        }
    }
}

/// Copies until the client ends its direction, then ends the port's.
async fn client_to_port(from: &mut StreamReader, mut to: WriteHalf<Box<dyn Duplex>>) -> Result<(), StreamError> {
    while let Some(data) = from.read().await? {
        let written = tokio::select! {
            written = to.write_all(&data) => written,
            // A port that takes nothing more would keep this waiting for ever.
            () = from.cut() => return Err(StreamError::Closed),
        };
        if written.is_err() {
            return Ok(());
        }
    }
    let _ = to.shutdown().await;
    Ok(())
}

/// Copies until the port ends its direction, then ends the client's.
async fn port_to_client(mut from: ReadHalf<Box<dyn Duplex>>, mut to: StreamWriter) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIECE);
        match from.read_buf(&mut buffer).await {
            Ok(1..) => {
                if to.write(buffer.split().freeze()).await.is_err() {
                    return;
                }
            }
            Ok(0) => {
                let _ = to.finish().await;
                return;
            }
            Err(_) => return to.reset(Status::CANCEL).await,
        }
    }
}

/// Serves one client over websocket channels: 2n carries the bytes of the n-th port, 2n + 1 its error.
/// The port's number opens both channels, little-endian.
pub(crate) async fn serve_websocket<B, T>(
    pod: String,
    ports: Vec<u16>,
    backend: Arc<B>,
    io: WebSocketStream<T>,
    protocol: &str,
    idle: Arc<Idle>,
) where
    B: Backend,
    T: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut reader, mut writer) = channels(io, Coding::of(protocol), idle.clone());
    let (out, mut packets) = mpsc::channel(4);
    let mut inputs = Vec::new();
    let mut running = JoinSet::new();
    for (channel, port) in (0u8..).step_by(2).zip(ports) {
        for channel in [channel, channel + 1] {
            if writer.send(channel, Bytes::copy_from_slice(&port.to_le_bytes())).await.is_err() {
                return;
            }
        }
        let (input, data) = mpsc::channel(4);
        inputs.push(input);
        running.spawn(forward_channel(pod.clone(), port, channel, backend.clone(), data, out.clone()));
    }
    drop(out);
    let inward = async {
        while let Some(Packet { channel, data }) = reader.next().await {
            if channel % 2 == 0
                && let Some(input) = inputs.get(usize::from(channel / 2))
            {
                // A port that takes no more is no reason to stop the others.
                let _ = input.send(data).await;
            }
        }
    };
    let outward = async {
        while let Some(Packet { channel, data }) = packets.recv().await {
            if writer.send(channel, data).await.is_err() {
                return false;
            }
        }
        true
    };
    let ended = tokio::select! {
        () = inward => false,
        ended = outward => ended,
        () = idle.expired() => false,
    };
    if ended {
        writer.close().await;
        reader.linger().await;
    }
}

async fn forward_channel<B: Backend>(
    pod: String,
    port: u16,
    channel: u8,
    backend: Arc<B>,
    mut data: mpsc::Receiver<Bytes>,
    out: mpsc::Sender<Packet>,
) {
    let connection = match backend.dial(pod.clone(), port).await {
        Ok(connection) => connection,
        Err(error) => {
            // Fails when the client is gone.
            let _ = out
                .send(Packet {
                    channel: channel + 1,
                    data: Bytes::from(sentence(&pod, port, &error)),
                })
                .await;
            return;
        }
    };
    let (mut read, mut write) = tokio::io::split(connection);
    let inward = async {
        while let Some(bytes) = data.recv().await {
            if write.write_all(&bytes).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let outward = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(PIECE);
            match read.read_buf(&mut buffer).await {
                Ok(1..)
                    if out
                        .send(Packet {
                            channel,
                            data: buffer.split().freeze(),
                        })
                        .await
                        .is_ok() => {}
                _ => return,
            }
        }
    };
    tokio::select! {
        () = inward => {}
        () = outward => {}
    }
}
