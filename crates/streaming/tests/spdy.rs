//! Exec, attach and port-forward over SPDY, with the crate's own client half over real connections.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cofferdam_streaming::spdy::{Frame, HeaderWriter, Role, Session, Status, Stream, StreamError, StreamReader, StreamWriter, encode};
use cofferdam_streaming::{AttachRequest, Error, Options, PortForwardRequest};
use support::{exec, serve, settled, spdy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HOURS: Duration = Duration::from_secs(3600);

/// A client with its streams open.
struct Client {
    session: Session,
    streams: Vec<(String, StreamReader, StreamWriter)>,
}

impl Client {
    async fn connect(url: &str, protocol: &str, kinds: &[&str]) -> Self {
        let (session, _) = Session::start(spdy(url, protocol).await, Role::Client, HOURS);
        let mut streams = Vec::new();
        for kind in kinds {
            let (reader, writer) = open(&session, &[("streamType", kind)]).await.split();
            streams.push(((*kind).to_string(), reader, writer));
        }
        Self { session, streams }
    }

    fn take(&mut self, kind: &str) -> (StreamReader, StreamWriter) {
        let at = self.streams.iter().position(|(other, ..)| other == kind).unwrap();
        let (_, reader, writer) = self.streams.remove(at);
        (reader, writer)
    }

    async fn text(&mut self, kind: &str) -> String {
        let (mut reader, _writer) = self.take(kind);
        all(&mut reader).await.unwrap()
    }
}

async fn open(session: &Session, headers: &[(&str, &str)]) -> Stream {
    session
        .open(
            headers
                .iter()
                .map(|(name, value)| ((*name).to_string(), (*value).to_string()))
                .collect(),
        )
        .await
        .unwrap()
}

async fn all(reader: &mut StreamReader) -> Result<String, StreamError> {
    let mut text = String::new();
    while let Some(data) = reader.read().await? {
        text += std::str::from_utf8(&data).unwrap();
    }
    Ok(text)
}

#[tokio::test]
async fn output_and_status_come_and_the_token_is_used_up() {
    let (server, _) = serve(Options::default()).await;
    let url = server.exec_url(exec("oe", "echo hello world")).unwrap();
    let mut client = Client::connect(&url, "v4.channel.k8s.io", &["error", "stdout", "stderr"]).await;
    assert_eq!(client.text("stdout").await, "hello world");
    assert_eq!(client.text("stderr").await, "warned");
    assert_eq!(client.text("error").await, r#"{"metadata":{},"status":"Success"}"#);
    let (head, _) = support::request(&url, &[]).await;
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
}

#[tokio::test]
async fn the_end_is_told_in_every_version() {
    let (server, _) = serve(Options::default()).await;
    let rows = [
        (
            "v4.channel.k8s.io",
            "exit 3",
            r#""reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}"#,
        ),
        (
            "v3.channel.k8s.io",
            "exit 3",
            "command terminated with non-zero exit code: exit status 3",
        ),
        ("v2.channel.k8s.io", "exit 3", "command terminated with non-zero exit code"),
        ("channel.k8s.io", "exit 3", "command terminated with non-zero exit code"),
        ("channel.k8s.io", "exit 0", ""),
        (
            "v4.channel.k8s.io",
            "missing",
            "error executing command in container: no such command",
        ),
        ("v4.channel.k8s.io", "fail", "error executing command in container: it went wrong"),
        ("v4.channel.k8s.io", "break", "the connection to the process was lost"),
    ];
    for (protocol, command, wanted) in rows {
        let url = server.exec_url(exec("o", command)).unwrap();
        let mut client = Client::connect(&url, protocol, &["error", "stdout"]).await;
        let error = client.text("error").await;
        assert!(
            error.contains(wanted) && error.is_empty() == wanted.is_empty(),
            "{protocol} {command}: {error}"
        );
    }
}

#[tokio::test]
async fn standard_input_ends_and_output_goes_on() {
    let (server, _) = serve(Options::default()).await;
    let url = server.exec_url(exec("io", "cat 5")).unwrap();
    let mut client = Client::connect(&url, "v4.channel.k8s.io", &["error", "stdin", "stdout"]).await;
    let (_reader, mut stdin) = client.take("stdin");
    stdin.write(Bytes::from_static(b"some")).await.unwrap();
    stdin.finish().await.unwrap();
    assert_eq!(client.text("stdout").await, "some<eof>");
    assert!(client.text("error").await.contains(r#""message":"5""#));
}

#[tokio::test]
async fn a_terminals_size_arrives() {
    let (server, _) = serve(Options::default()).await;
    let url = server.exec_url(exec("tio", "cat")).unwrap();
    let mut client = Client::connect(&url, "v4.channel.k8s.io", &["error", "stdin", "stdout", "resize"]).await;
    let (_, mut resize) = client.take("resize");
    resize.write(Bytes::from_static(b"{\"Width\":80,\"Height\":24}\n")).await.unwrap();
    let (mut stdout, _) = client.take("stdout");
    assert_eq!(stdout.read().await.unwrap().unwrap(), "[24x80]");
}

#[tokio::test]
async fn attach_tells_no_exit_code() {
    let (server, _) = serve(Options::default()).await;
    let request = AttachRequest {
        container: "c".into(),
        stdin: true,
        stdout: true,
        ..AttachRequest::default()
    };
    let mut client = Client::connect(
        &server.attach_url(request).unwrap(),
        "v4.channel.k8s.io",
        &["error", "stdin", "stdout"],
    )
    .await;
    client.take("stdin").1.finish().await.unwrap();
    assert_eq!(client.text("error").await, r#"{"metadata":{},"status":"Success"}"#);

    let request = AttachRequest {
        container: "gone".into(),
        stdout: true,
        ..AttachRequest::default()
    };
    let mut client = Client::connect(&server.attach_url(request).unwrap(), "v4.channel.k8s.io", &["error", "stdout"]).await;
    assert!(
        client
            .text("error")
            .await
            .contains("error attaching to container: container gone is not running")
    );
}

#[tokio::test]
async fn a_client_that_reads_slowly_holds_the_process_back() {
    const TOTAL: usize = 32 << 20;
    let (server, fake) = serve(Options::default()).await;
    let url = server.exec_url(exec("o", &format!("flood {TOTAL}"))).unwrap();
    let mut client = Client::connect(&url, "v4.channel.k8s.io", &["error", "stdout"]).await;
    let moved = settled(&fake.moved).await;
    assert!(
        (32 << 10..1 << 20).contains(&moved),
        "{moved} bytes left the process though nobody reads"
    );
    assert_eq!(client.text("stdout").await.len(), TOTAL);
    assert!(client.text("error").await.contains("Success"));
}

#[tokio::test]
async fn a_process_that_does_not_read_holds_a_client_without_windows_back() {
    let (server, _) = serve(Options::default()).await;
    let url = server.exec_url(exec("io", "hoard")).unwrap();
    let mut raw = Raw::connect(&url).await;
    for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout")] {
        raw.open(stream, kind).await;
    }
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let writing = tokio::spawn(async move {
        loop {
            raw.send(Frame::Data {
                stream: 3,
                fin: false,
                data: Bytes::from(vec![0; 1 << 16]),
            })
            .await;
            counted.fetch_add(1 << 16, SeqCst);
        }
    });
    // What the kernel's two socket buffers hold comes on top of the session's bound.
    let sent = settled(&sent).await;
    assert!((64 << 10..24 << 20).contains(&sent), "{sent} bytes were taken though nobody reads");
    writing.abort();
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed() {
    let (server, fake) = serve(Options::default()).await;
    let url = server.exec_url(exec("io", "cat")).unwrap();
    let mut client = Client::connect(&url, "v4.channel.k8s.io", &["error", "stdin", "stdout"]).await;
    let (_reader, mut stdin) = client.take("stdin");
    stdin.write(Bytes::from_static(b"x")).await.unwrap();
    let (mut stdout, _) = client.take("stdout");
    assert_eq!(stdout.read().await.unwrap().unwrap(), "x");
    drop(client);
    while fake.abandoned.load(SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_server_that_stops_cuts_its_clients() {
    let (server, _) = serve(Options::default()).await;
    let url = server.exec_url(exec("io", "cat")).unwrap();
    let mut client = Client::connect(&url, "v4.channel.k8s.io", &["error", "stdin", "stdout"]).await;
    server.shutdown();
    let (mut error, _) = client.take("error");
    assert_eq!(error.read().await, Err(StreamError::Closed));
    client.session.closed().await;
    while TcpStream::connect(server.address()).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn clients_that_do_nothing_are_cut() {
    let short = Duration::from_millis(50);
    for options in [
        Options {
            stream_creation_timeout: short,
            ..Options::default()
        },
        Options {
            idle_timeout: short,
            ..Options::default()
        },
    ] {
        let (server, _) = serve(options).await;
        let url = server.exec_url(exec("io", "cat")).unwrap();
        let mut stream = spdy(&url, "v4.channel.k8s.io").await;
        let mut rest = Vec::new();
        // The end: by GOAWAY or at once.
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.len() <= 16, "{rest:?}");
    }
}

#[tokio::test]
async fn requests_that_contradict_themselves_are_refused() {
    let (server, _) = serve(Options::default()).await;
    let invalid = |text: &str| Err(Error::Invalid(text.into()));
    assert_eq!(server.exec_url(exec("toe", "x")), invalid("tty and stderr cannot both be true"));
    assert_eq!(
        server.exec_url(exec("", "x")),
        invalid("one of stdin, stdout, or stderr must be set")
    );
    assert_eq!(
        server.attach_url(AttachRequest::default()),
        invalid("missing required container_id")
    );
    assert_eq!(
        server.port_forward_url(PortForwardRequest::default()),
        invalid("missing required pod_sandbox_id")
    );
}

#[tokio::test]
async fn what_is_not_understood_is_refused_before_the_upgrade() {
    let (server, _) = serve(Options::default()).await;
    let upgrade = ("Connection", "Upgrade");
    let rows: [(&[(&str, &str)], &str); 4] = [
        (&[upgrade, ("Upgrade", "SPDY/3.1")], "400"),
        (&[("X-Stream-Protocol-Version", "v4.channel.k8s.io")], "400"),
        (
            &[upgrade, ("Upgrade", "SPDY/3.1"), ("X-Stream-Protocol-Version", "v9.channel.k8s.io")],
            "403",
        ),
        (&[upgrade, ("Upgrade", "websocket")], "400"),
    ];
    for (headers, status) in rows {
        let (head, _) = support::request(&server.exec_url(exec("o", "echo")).unwrap(), headers).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{headers:?}: {head}");
    }
    let url = server.exec_url(exec("o", "echo")).unwrap();
    let (head, _) = support::request(&url.replace("/exec/", "/attach/"), &[]).await;
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
}

async fn forward(server: &cofferdam_streaming::Server) -> Session {
    let url = server
        .port_forward_url(PortForwardRequest {
            pod: "p".into(),
            ports: vec![],
        })
        .unwrap();
    Session::start(spdy(&url, "portforward.k8s.io").await, Role::Client, HOURS).0
}

#[tokio::test]
async fn ports_are_reached_many_at_once() {
    let (server, _) = serve(Options::default()).await;
    let session = forward(&server).await;
    let mut open_streams = Vec::new();
    for request in ["0", "1", "2"] {
        let error = open(&session, &[("streamType", "error"), ("port", "7"), ("requestID", request)]).await;
        let data = open(&session, &[("streamType", "data"), ("port", "7"), ("requestID", request)]).await;
        open_streams.push((request, error.split(), data.split()));
    }
    for (request, (mut error, to_error), (mut data, mut to_data)) in open_streams {
        to_error.finish().await.unwrap();
        to_data.write(Bytes::from(request)).await.unwrap();
        to_data.finish().await.unwrap();
        assert_eq!(all(&mut data).await.unwrap(), request);
        assert_eq!(all(&mut error).await.unwrap(), "");
    }
}

#[tokio::test]
async fn a_port_that_refuses_is_told_and_clients_of_old_are_served() {
    let (server, _) = serve(Options::default()).await;
    let session = forward(&server).await;
    // Without request ids.
    let (mut error, _) = open(&session, &[("streamType", "error"), ("port", "99")]).await.split();
    let (mut data, _keep) = open(&session, &[("streamType", "data"), ("port", "99")]).await.split();
    let text = all(&mut error).await.unwrap();
    assert_eq!(text, "error forwarding port 99 to pod p, uid : nothing listens on port 99 of p");
    assert_eq!(data.read().await, Err(StreamError::Reset(Status::CANCEL)));
    for headers in [
        &[("streamType", "data"), ("port", "0")][..],
        &[("streamType", "data")],
        &[("streamType", "x"), ("port", "7")],
    ] {
        let (mut data, _keep) = open(&session, headers).await.split();
        assert_eq!(data.read().await, Err(StreamError::Reset(Status::REFUSED_STREAM)), "{headers:?}");
    }
}

#[tokio::test]
async fn a_silent_port_is_left_when_its_client_resets() {
    let (server, fake) = serve(Options::default()).await;
    let session = forward(&server).await;
    let _error = open(&session, &[("streamType", "error"), ("port", "8"), ("requestID", "1")]).await;
    let data = open(&session, &[("streamType", "data"), ("port", "8"), ("requestID", "1")]).await;
    data.reset(Status::CANCEL).await;
    while fake.abandoned.load(SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn half_a_pair_is_given_up() {
    let (server, _) = serve(Options {
        stream_creation_timeout: Duration::from_millis(50),
        ..Options::default()
    })
    .await;
    let session = forward(&server).await;
    let (mut error, _keep) = open(&session, &[("streamType", "error"), ("port", "7"), ("requestID", "4")])
        .await
        .split();
    assert_eq!(all(&mut error).await.unwrap(), "request 4 timed out waiting for streams");
}

/// Its two streams are left by the client while the port takes nothing.
#[tokio::test]
async fn a_port_that_takes_nothing_is_left_when_its_client_resets() {
    let (server, fake) = serve(Options::default()).await;
    let session = forward(&server).await;
    let _error = open(&session, &[("streamType", "error"), ("port", "9"), ("requestID", "1")]).await;
    let (reader, mut writer) = open(&session, &[("streamType", "data"), ("port", "9"), ("requestID", "1")])
        .await
        .split();
    writer.write(Bytes::from(vec![0; 1000])).await.unwrap();
    // It has come as far as it can.
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(reader);
    writer.reset(Status::CANCEL).await;
    while fake.abandoned.load(SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn streams_that_are_opened_and_reset_do_not_pile_up() {
    let (server, _) = serve(Options::default()).await;
    let session = forward(&server).await;
    let headers = |id: &str| [("streamType", "error"), ("port", "7"), ("requestID", id)].map(|(n, v)| (n.to_string(), v.to_string()));
    for number in 0..256 {
        let stream = session.open(headers(&number.to_string()).to_vec()).await.unwrap();
        stream.reset(Status::CANCEL).await;
    }
    let (mut one_more, _keep) = session.open(headers("one more").to_vec()).await.unwrap().split();
    assert_eq!(one_more.read().await, Err(StreamError::Reset(Status::REFUSED_STREAM)));
}

#[tokio::test]
async fn a_crowd_without_tokens_keeps_no_client_out() {
    let (server, _) = serve(Options::default()).await;
    let mut crowd = Vec::new();
    for _ in 0..300 {
        crowd.push(TcpStream::connect(server.address()).await.unwrap());
    }
    let url = server.exec_url(exec("o", "echo hello")).unwrap();
    let mut client = Client::connect(&url, "v4.channel.k8s.io", &["error", "stdout"]).await;
    assert_eq!(client.text("stdout").await, "hello");
    // The first of them were cut for those who came after.
    let cut = tokio::time::timeout(Duration::from_secs(20), crowd[0].read(&mut [0])).await;
    assert_eq!(cut.expect("it is not cut").unwrap_or(0), 0);
}

/// A client that writes what it likes.
struct Raw {
    stream: TcpStream,
    headers: HeaderWriter,
}

impl Raw {
    async fn connect(url: &str) -> Self {
        Self {
            stream: spdy(url, "v4.channel.k8s.io").await,
            headers: HeaderWriter::default(),
        }
    }

    async fn send(&mut self, frame: Frame) {
        let mut bytes = BytesMut::new();
        encode(&frame, &mut self.headers, &mut bytes).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }

    async fn open(&mut self, stream: u32, kind: &str) {
        let headers = vec![("streamtype".to_string(), kind.to_string())];
        self.send(Frame::SynStream {
            stream,
            fin: false,
            unidirectional: false,
            headers,
        })
        .await;
    }

    /// The next frame that is a reset: its stream and status.
    async fn reset(&mut self) -> (u32, u32) {
        loop {
            let mut prefix = [0; 8];
            self.stream.read_exact(&mut prefix).await.unwrap();
            let length = u32::from_be_bytes([0, prefix[5], prefix[6], prefix[7]]) as usize;
            let mut payload = vec![0; length];
            self.stream.read_exact(&mut payload).await.unwrap();
            if prefix[..4] == [0x80, 3, 0, 3] {
                let word = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
                return (word(0), word(4));
            }
        }
    }
}

#[tokio::test]
async fn frames_that_break_the_protocol_end_the_connection() {
    let (server, _) = serve(Options::default()).await;
    let rows: [&[u8]; 5] = [
        &[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff],
        &[0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1],
        &[0x80, 3, 0, 6, 0, 0, 0, 5, 0, 0, 0, 1, 0],
        &[0x80, 3, 0, 1, 0, 0, 0, 14, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, b'b', b'a', b'd', b'!'],
        &[0x80, 3, 0, 4, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff],
    ];
    for bytes in rows {
        let mut raw = Raw::connect(&server.exec_url(exec("io", "cat")).unwrap()).await;
        raw.stream.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        let _ = raw.stream.read_to_end(&mut rest).await;
    }
    // A frame that ends early.
    let mut raw = Raw::connect(&server.exec_url(exec("io", "cat")).unwrap()).await;
    raw.stream.write_all(&[0, 0, 0, 1, 0, 0xff, 0xff, 0xff, 1, 2, 3]).await.unwrap();
    raw.stream.shutdown().await.unwrap();
    let _ = raw.stream.read_to_end(&mut Vec::new()).await;
}

#[tokio::test]
async fn streams_that_are_not_allowed_are_reset() {
    let (server, _) = serve(Options::default()).await;
    let mut raw = Raw::connect(&server.exec_url(exec("io", "cat")).unwrap()).await;
    raw.send(Frame::Data {
        stream: 9,
        fin: false,
        data: Bytes::from_static(b"x"),
    })
    .await;
    assert_eq!(raw.reset().await, (9, Status::INVALID_STREAM.0));
    raw.open(2, "error").await;
    assert_eq!(raw.reset().await, (2, Status::PROTOCOL_ERROR.0));
    raw.open(3, "nonsense").await;
    assert_eq!(raw.reset().await, (3, Status::REFUSED_STREAM.0));
    raw.open(3, "error").await;
    assert_eq!(raw.reset().await, (3, Status::PROTOCOL_ERROR.0));
    raw.open(5, "error").await;
    raw.open(7, "error").await;
    assert_eq!(raw.reset().await, (7, Status::REFUSED_STREAM.0));
}
