//! Exec, attach and port-forward: the address from the gRPC server, the stream over a websocket, the
//! process in a real container. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use cofferdam_cri_api::v1;
use common::{PATIENCE, World};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tonic::Code;

/// Channels of `v5.channel.k8s.io` (KEP-4006).
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const CLOSE: u8 = 255;

async fn open(url: &str) -> WebSocketStream<TcpStream> {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, _) = rest.split_once('/').unwrap();
    assert!(host.starts_with("127.0.0.1:"), "{url}");
    let mut request = format!("ws://{rest}").into_client_request().unwrap();
    request
        .headers_mut()
        .insert("Sec-WebSocket-Protocol", "v5.channel.k8s.io".parse().unwrap());
    let stream = TcpStream::connect(host).await.unwrap();
    tokio_tungstenite::client_async(request, stream).await.unwrap().0
}

async fn send(socket: &mut WebSocketStream<TcpStream>, channel: u8, bytes: &[u8]) {
    socket.send(Message::binary([&[channel], bytes].concat())).await.unwrap();
}

/// What comes until the server closes: standard output, standard error, and the status.
async fn to_the_end(socket: &mut WebSocketStream<TcpStream>) -> (String, String, serde_json::Value) {
    let mut all = [vec![], vec![], vec![], vec![]];
    while let Ok(Some(Ok(message))) = tokio::time::timeout(PATIENCE, socket.next()).await {
        if let Message::Binary(bytes) = message
            && let Some((channel, bytes)) = bytes.split_first()
        {
            all[usize::from(*channel)].extend_from_slice(bytes);
        }
    }
    let text = |channel: u8| String::from_utf8(all[usize::from(channel)].clone()).unwrap();
    (
        text(STDOUT),
        text(STDERR),
        serde_json::from_slice(&all[usize::from(ERROR)]).unwrap_or_default(),
    )
}

fn exec(container: &str, script: &str, tty: bool) -> v1::ExecRequest {
    v1::ExecRequest {
        container_id: container.into(),
        cmd: ["sh", "-c", script].map(str::to_owned).to_vec(),
        tty,
        stdin: true,
        stdout: true,
        stderr: !tty,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_takes_input_and_tells_its_code() {
    let mut world = World::new().await;
    let pod = world.pod("web").await;
    let container = world.start(&pod, "main", "sleep 1000").await;
    let url = world
        .runtime
        .exec(exec(&container, "cat; echo bad >&2; exit 5", false))
        .await
        .unwrap()
        .into_inner()
        .url;
    let mut socket = open(&url).await;
    send(&mut socket, STDIN, b"hello\n").await;
    send(&mut socket, CLOSE, &[STDIN]).await;
    let (out, err, status) = to_the_end(&mut socket).await;
    assert_eq!((out.as_str(), err.as_str()), ("hello\n", "bad\n"));
    assert_eq!(status["details"]["causes"][0]["message"], "5", "{status}");

    let url = world
        .runtime
        .exec(exec(&container, "test -t 0 && echo terminal", true))
        .await
        .unwrap()
        .into_inner()
        .url;
    let (out, _, status) = to_the_end(&mut open(&url).await).await;
    assert_eq!((out.trim(), &status["status"]), ("terminal", &"Success".into()));
    let wrong = v1::ExecRequest {
        stderr: true,
        ..exec(&container, "true", true)
    };
    assert_eq!(world.runtime.exec(wrong).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_attaches_leaves_the_container_running() {
    let mut world = World::new().await;
    let pod = world.pod("web").await;
    let mut config = world.container_config("main", "while read line; do echo got $line; done; exit 6");
    config.stdin = true;
    let container = world.create_with(&pod, config).await.unwrap();
    world
        .runtime
        .start_container(v1::StartContainerRequest {
            container_id: container.clone(),
        })
        .await
        .unwrap();
    let attach = v1::AttachRequest {
        container_id: container.clone(),
        stdin: true,
        tty: false,
        stdout: true,
        stderr: true,
    };
    for word in ["one", "two"] {
        let url = world.runtime.attach(attach.clone()).await.unwrap().into_inner().url;
        let mut socket = open(&url).await;
        send(&mut socket, STDIN, format!("{word}\n").as_bytes()).await;
        let mut got = Vec::new();
        while !got.ends_with(b"\n") {
            let message = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
            if message.is_binary() && message.clone().into_data().first() == Some(&STDOUT) {
                got.extend_from_slice(&message.into_data()[1..]);
            }
        }
        assert_eq!(got, format!("got {word}\n").into_bytes());
        drop(socket);
        assert_eq!(world.container(&container).await.state(), v1::ContainerState::ContainerRunning);
    }
    let url = world.runtime.attach(attach).await.unwrap().into_inner().url;
    let mut socket = open(&url).await;
    send(&mut socket, CLOSE, &[STDIN]).await;
    to_the_end(&mut socket).await;
    assert_eq!(world.ended(&container).await.exit_code, 6);
}
