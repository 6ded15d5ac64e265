//! Exec and port-forward over websockets, with tungstenite as the client.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use cofferdam_streaming::spdy::{Role, Session};
use cofferdam_streaming::{Options, PortForwardRequest, Server};
use futures_util::{SinkExt, StreamExt};
use support::{exec, serve, settled};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

type Socket = WebSocketStream<TcpStream>;

async fn connect(server: &Server, url: &str, protocol: &str) -> Socket {
    let mut request = url.replace("http://", "ws://").into_client_request().unwrap();
    if !protocol.is_empty() {
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocol.parse().unwrap());
    }
    let stream = TcpStream::connect(server.address()).await.unwrap();
    tokio_tungstenite::client_async(request, stream).await.unwrap().0
}

async fn run(server: &Server, streams: &str, command: &str, protocol: &str) -> Socket {
    connect(server, &server.exec_url(exec(streams, command)).unwrap(), protocol).await
}

async fn send(socket: &mut Socket, channel: u8, data: &[u8]) {
    let bytes = [&[channel], data].concat();
    socket.send(Message::Binary(bytes.into())).await.unwrap();
}

/// All that a channel says until the connection is closed; it must be closed well.
async fn rest(socket: &mut Socket, channel: u8) -> String {
    let mut text = Vec::new();
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Binary(data) if data[0] == channel => text.extend_from_slice(&data[1..]),
            Message::Binary(_) => {}
            Message::Close(frame) => {
                assert_eq!(u16::from(frame.unwrap().code), 1000);
                return String::from_utf8(text).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn the_end_is_told_in_every_version() {
    let (server, _) = serve(Options::default()).await;
    let rows = [
        ("v5.channel.k8s.io", "exit 3", r#"{"reason":"ExitCode","message":"3"}"#),
        ("v4.channel.k8s.io", "exit 3", r#"{"reason":"ExitCode","message":"3"}"#),
        ("v4.channel.k8s.io", "exit 0", r#"{"metadata":{},"status":"Success"}"#),
        ("channel.k8s.io", "exit 3", "command terminated with non-zero exit code"),
        ("", "exit 3", "command terminated with non-zero exit code"),
        ("channel.k8s.io", "exit 0", ""),
        ("v4.channel.k8s.io", "break", "the connection to the process was lost"),
    ];
    for (protocol, command, wanted) in rows {
        let mut socket = run(&server, "o", command, protocol).await;
        assert_eq!(
            socket.next().await.unwrap().unwrap(),
            Message::Binary(Bytes::from_static(&[1])),
            "the greeting"
        );
        let error = rest(&mut socket, 3).await;
        assert!(
            error.contains(wanted) && error.is_empty() == wanted.is_empty(),
            "{protocol} {command}: {error}"
        );
    }
}

#[tokio::test]
async fn standard_input_is_closed_by_the_signal_of_v5_alone() {
    let (server, fake) = serve(Options::default()).await;
    let mut socket = run(&server, "io", "cat", "v5.channel.k8s.io").await;
    send(&mut socket, 0, b"some").await;
    send(&mut socket, 255, &[0]).await;
    assert_eq!(rest(&mut socket, 1).await, "some<eof>");

    let mut socket = run(&server, "io", "cat", "v4.channel.k8s.io").await;
    send(&mut socket, 255, &[0]).await;
    send(&mut socket, 0, b"on").await;
    socket.next().await.unwrap().unwrap();
    assert_eq!(
        socket.next().await.unwrap().unwrap(),
        Message::Binary(Bytes::from_static(b"\x01on"))
    );
    drop(socket);
    while fake.abandoned.load(std::sync::atomic::Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_terminals_size_arrives() {
    let (server, _) = serve(Options::default()).await;
    let mut socket = run(&server, "tio", "cat", "v5.channel.k8s.io").await;
    send(&mut socket, 4, b"{\"Width\":80,\"Height\":24}").await;
    send(&mut socket, 255, &[0]).await;
    assert_eq!(rest(&mut socket, 1).await, "[24x80]<eof>");
}

#[tokio::test]
async fn base64_goes_both_ways() {
    let (server, _) = serve(Options::default()).await;
    let mut socket = run(&server, "io", "cat", "v4.base64.channel.k8s.io").await;
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("1"));
    socket.send(Message::text("0Zm9vCg==")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("1Zm9vCg=="));
}

#[tokio::test]
async fn a_client_that_reads_slowly_holds_the_process_back() {
    const TOTAL: usize = 64 << 20;
    let (server, fake) = serve(Options::default()).await;
    let mut socket = run(&server, "o", &format!("flood {TOTAL}"), "v4.channel.k8s.io").await;
    // What the kernel's two socket buffers hold is all that goes.
    let moved = settled(&fake.moved).await;
    assert!((1..24 << 20).contains(&moved), "{moved} bytes left the process though nobody reads");
    assert_eq!(rest(&mut socket, 1).await.len(), TOTAL);
}

#[tokio::test]
async fn unknown_protocols_are_refused() {
    let (server, _) = serve(Options::default()).await;
    let headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Protocol", "v9"),
    ];
    let url = server.exec_url(exec("o", "echo")).unwrap().replacen("POST", "GET", 1);
    let (head, _) = support::request(&url, &headers).await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
}

#[tokio::test]
async fn ports_are_reached_over_channels() {
    let (server, _) = serve(Options::default()).await;
    let url = server
        .port_forward_url(PortForwardRequest {
            pod: "p".into(),
            ports: vec![7, 99],
        })
        .unwrap();
    let mut socket = connect(&server, &url, "v4.channel.k8s.io").await;
    for wanted in [&[0, 7, 0], &[1, 7, 0], &[2, 99, 0], &[3, 99, 0]] {
        assert_eq!(
            socket.next().await.unwrap().unwrap(),
            Message::Binary(Bytes::copy_from_slice(wanted))
        );
    }
    let refusal = socket.next().await.unwrap().unwrap().into_data();
    assert_eq!(
        refusal,
        &b"\x03error forwarding port 99 to pod p, uid : nothing listens on port 99 of p"[..]
    );
    send(&mut socket, 0, b"there and back").await;
    assert_eq!(socket.next().await.unwrap().unwrap().into_data(), &b"\x00there and back"[..]);
}

#[tokio::test]
async fn ports_are_reached_through_a_tunnel() {
    let (server, _) = serve(Options::default()).await;
    let url = server
        .port_forward_url(PortForwardRequest {
            pod: "p".into(),
            ports: vec![],
        })
        .unwrap();
    let socket = connect(&server, &url, "SPDY/3.1+portforward.k8s.io").await;
    let (near, far) = tokio::io::duplex(4096);
    tokio::spawn(carry(socket, far));
    let (session, _incoming) = Session::start(near, Role::Client, Duration::from_secs(3600));
    let header = |name: &str, value: &str| (name.to_string(), value.to_string());
    let open = |kind: &str| session.open(vec![header("streamtype", kind), header("port", "7"), header("requestid", "1")]);
    let _error = open("error").await.unwrap();
    let (mut data, mut to_data) = open("data").await.unwrap().split();
    to_data.write(Bytes::from(vec![b'y'; 200_000])).await.unwrap();
    to_data.finish().await.unwrap();
    let mut total = 0;
    while let Some(piece) = data.read().await.unwrap() {
        total += piece.len();
    }
    assert_eq!(total, 200_000);
}

/// The client's end of a tunnel.
async fn carry(socket: Socket, far: tokio::io::DuplexStream) {
    let (mut sink, mut stream) = socket.split();
    let (mut read, mut write) = tokio::io::split(far);
    let outward = async {
        let mut piece = vec![0; 1000];
        while let Ok(count @ 1..) = read.read(&mut piece).await {
            sink.send(Message::Binary(Bytes::copy_from_slice(&piece[..count]))).await.unwrap();
        }
    };
    let inward = async {
        while let Some(Ok(Message::Binary(data))) = stream.next().await {
            if write.write_all(&data).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(outward, inward);
}
