//! Exec, attach and port-forward over websockets, as a client of the API server's speaks.

use super::Kubelet;
use crate::common;
use cofferdam_cri_api::v1;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tonic::Status;

/// Channels of `v5.channel.k8s.io` (KEP-4006).
pub(crate) const STDIN: u8 = 0;
pub(crate) const STDOUT: u8 = 1;
pub(crate) const ERROR: u8 = 3;

/// How a stream ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The server told the process's end on the error channel, and closed.
    Told(String),
    /// The connection broke: no status, no close handshake.
    Broken,
}

/// An open stream.
pub(crate) struct Stream<'a> {
    kubelet: &'a Kubelet,
    socket: WebSocketStream<TcpStream>,
    /// What came on channel 0 or 1 and was not asked for yet.
    said: String,
}

impl<'a> Stream<'a> {
    #[track_caller]
    pub(crate) fn exec(kubelet: &'a Kubelet, container: &str, script: &str) -> Self {
        Self::try_exec(kubelet, container, script).unwrap()
    }

    /// An error where the connection breaks before there is a stream.
    pub(crate) fn try_exec(kubelet: &'a Kubelet, container: &str, script: &str) -> Result<Self, Status> {
        let request = v1::ExecRequest {
            container_id: container.into(),
            cmd: ["sh", "-c", script].map(str::to_owned).to_vec(),
            tty: false,
            stdin: true,
            stdout: true,
            stderr: true,
        };
        let url = kubelet.ask(async |mut c| c.exec(request).await)?.into_inner().url;
        Self::try_open(kubelet, &url, "v5.channel.k8s.io")
    }

    #[track_caller]
    pub(crate) fn attach(kubelet: &'a Kubelet, container: &str, tty: bool) -> Self {
        let request = v1::AttachRequest {
            container_id: container.into(),
            stdin: true,
            tty,
            stdout: true,
            stderr: !tty,
        };
        let url = kubelet.ask(async |mut c| c.attach(request).await).unwrap().into_inner().url;
        Self::open(kubelet, &url, "v5.channel.k8s.io")
    }

    #[track_caller]
    pub(crate) fn forward(kubelet: &'a Kubelet, pod: &str, port: u16) -> Self {
        Self::forward_to(kubelet, pod, &[port])
    }

    /// To several ports at once.
    #[track_caller]
    pub(crate) fn forward_to(kubelet: &'a Kubelet, pod: &str, ports: &[u16]) -> Self {
        let request = v1::PortForwardRequest {
            pod_sandbox_id: pod.into(),
            port: ports.iter().map(|port| (*port).into()).collect(),
        };
        let url = kubelet.ask(async |mut c| c.port_forward(request).await).unwrap().into_inner().url;
        Self::open(kubelet, &url, "v4.channel.k8s.io")
    }

    #[track_caller]
    fn open(kubelet: &'a Kubelet, url: &str, protocol: &'static str) -> Self {
        Self::try_open(kubelet, url, protocol).unwrap()
    }

    #[track_caller]
    fn try_open(kubelet: &'a Kubelet, url: &str, protocol: &'static str) -> Result<Self, Status> {
        let rest = url.strip_prefix("http://").unwrap();
        let (host, _) = rest.split_once('/').unwrap();
        assert!(host.starts_with("127.0.0.1:"), "{url}");
        let mut request = format!("ws://{rest}").into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocol.parse().unwrap());
        let socket = kubelet.block_on(async {
            let stream = TcpStream::connect(host).await.unwrap();
            let opened = tokio_tungstenite::client_async(request, stream).await;
            opened.map(|(socket, _)| socket).map_err(|e| Status::unavailable(e.to_string()))
        })?;
        Ok(Self {
            kubelet,
            socket,
            said: String::new(),
        })
    }

    #[track_caller]
    pub(crate) fn send(&mut self, text: &str) {
        let message = Message::binary([&[STDIN], text.as_bytes()].concat());
        self.kubelet.block_on(self.socket.send(message)).unwrap();
    }

    /// Waits until the process (channel 1) or the port (channel 0) has said this.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) {
        while !self.said.contains(text) {
            let (patience, next) = (common::patience(), self.socket.next());
            let message = self.kubelet.block_on(async { tokio::time::timeout(patience, next).await });
            match message {
                Ok(Some(Ok(Message::Binary(bytes)))) => {
                    if let Some((&(STDIN | STDOUT), bytes)) = bytes.split_first() {
                        self.said.push_str(&String::from_utf8_lossy(bytes));
                    }
                }
                Ok(Some(Ok(_))) => {}
                other => panic!("never said {text:?}, but {:?}: {other:?}", self.said),
            }
        }
        let end = self.said.find(text).unwrap() + text.len();
        self.said.drain(..end);
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn end(mut self) -> End {
        let mut told = Vec::new();
        loop {
            let (patience, next) = (common::patience(), self.socket.next());
            let message = self.kubelet.block_on(async { tokio::time::timeout(patience, next).await });
            match message.expect("the stream never ended") {
                Some(Ok(Message::Binary(bytes))) => {
                    if let Some((&ERROR, bytes)) = bytes.split_first() {
                        told.extend_from_slice(bytes);
                    }
                }
                Some(Ok(Message::Close(_))) => return End::Told(String::from_utf8(told).unwrap()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None if told.is_empty() => return End::Broken,
                Some(Err(_)) | None => return End::Told(String::from_utf8(told).unwrap()),
            }
        }
    }
}
