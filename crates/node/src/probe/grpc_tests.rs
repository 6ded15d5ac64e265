#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// The frames of a request: kind, flags, stream, payload.
type Frame = (u8, u8, u32, Vec<u8>);

fn read_frame(stream: &mut TcpStream) -> Frame {
    let mut head = [0; 9];
    stream.read_exact(&mut head).unwrap();
    let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
    stream.read_exact(&mut payload).unwrap();
    (head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload)
}

/// A server of one connection, which is asked and then says `bytes`.
fn server(bytes: Vec<u8>) -> (u16, Receiver<Vec<Frame>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, asked) = channel();
    std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).unwrap();
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let _ = sender.send((0..3).map(|_| read_frame(&mut stream)).collect());
        let _ = stream.write_all(&bytes);
        // Whoever asked goes first.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    (port, asked)
}

fn headers(fields: &[(&str, &str)], flags: u8) -> Vec<u8> {
    let mut block = Vec::new();
    fields.iter().for_each(|(name, value)| put(&mut block, name, value));
    framed(HEADERS, flags, 1, &block)
}

fn framed(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame(&mut out, kind, flags, stream, payload);
    out
}

fn message(status: u8) -> Vec<u8> {
    framed(DATA, 0, 1, &[0, 0, 0, 0, 2, 8, status])
}

fn ended(status: &str, text: &str) -> Vec<u8> {
    headers(&[("grpc-status", status), ("grpc-message", text)], END_HEADERS | END_STREAM)
}

fn begun() -> Vec<u8> {
    headers(&[(":status", "200"), ("content-type", "application/grpc")], END_HEADERS)
}

fn ask(bytes: Vec<u8>, time: Duration) -> Result<(), String> {
    let (port, _asked) = server(bytes);
    check("127.0.0.1", port, "db", "1s", &Patience::of(time))
}

#[test]
fn answers_good_bad_and_hostile() {
    let all = |parts: &[Vec<u8>]| parts.concat();
    let rpc = |code: &str, why: &str| Err(format!("error: health rpc probe failed: rpc error: code = {code} desc = {why}"));
    let unhealthy = |state: &str| Err(format!("service unhealthy (responded with {state:?})"));
    let read = |why: &str| rpc("Unavailable", &format!("error reading from server: {why}"));
    let settings = framed(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]);
    let ping = framed(PING, 0, 0, &[7; 8]);
    let window = framed(8, 0, 0, &[0, 0, 1, 0]);
    let split = {
        let whole = ended("0", "");
        let half = 9 + (whole.len() - 9) / 2;
        all(&[
            framed(HEADERS, END_STREAM, 1, &whole[9..half]),
            framed(CONTINUATION, END_HEADERS, 1, &whole[half..]),
        ])
    };
    let padded = framed(DATA, PADDED, 1, &[3, 0, 0, 0, 0, 2, 8, 1, 0, 0, 0]);
    let rows = vec![
        ("healthy", all(&[settings.clone(), begun(), message(1), ended("0", "")]), Ok(())),
        (
            "with all that HTTP/2 may add",
            all(&[settings, ping, window, begun(), padded, split]),
            Ok(()),
        ),
        ("not serving", all(&[begun(), message(2), ended("0", "")]), unhealthy("NOT_SERVING")),
        (
            "unknown",
            all(&[begun(), framed(DATA, 0, 1, &[0; 5]), ended("0", "")]),
            unhealthy("UNKNOWN"),
        ),
        ("beyond the enum", all(&[begun(), message(9), ended("0", "")]), unhealthy("9")),
        (
            "no such service",
            headers(
                &[(":status", "200"), ("grpc-status", "5"), ("grpc-message", "unknown%20service")],
                END_HEADERS | END_STREAM,
            ),
            rpc("NotFound", "unknown service"),
        ),
        (
            "no health service",
            headers(
                &[(":status", "200"), ("grpc-status", "12"), ("grpc-message", "x")],
                END_HEADERS | END_STREAM,
            ),
            Err("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): x".into()),
        ),
        (
            "serving without a status",
            all(&[begun(), framed(DATA, END_STREAM, 1, &[0, 0, 0, 0, 2, 8, 1])]),
            rpc("Internal", "server closed the stream without sending trailers"),
        ),
        (
            "no grpc",
            headers(&[(":status", "404")], END_HEADERS | END_STREAM),
            rpc("Unknown", "unexpected HTTP status code received from server: 404"),
        ),
        (
            "a message cut short",
            all(&[begun(), framed(DATA, 0, 1, &[0, 0, 0, 0, 9, 8, 1]), ended("0", "")]),
            rpc("Internal", "the answer is no HealthCheckResponse"),
        ),
        (
            "too long a frame",
            [framed(8, 0, 3, &[0; 17_000]), begun(), message(1), ended("0", "")].concat(),
            read("it sends too much"),
        ),
        ("no HTTP/2", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), read("it sends too much")),
        ("goodbye", framed(GOAWAY, 0, 0, &[0; 8]), read("it sent GOAWAY")),
        (
            "reset",
            framed(RST_STREAM, 0, 1, &[0, 0, 0, 7]),
            read("stream terminated by RST_STREAM with error code 7"),
        ),
        (
            "an endless message",
            all(&[begun(), framed(DATA, 0, 1, &[0; 5000])]),
            read("its message is too long"),
        ),
        (
            "endless headers",
            all(&[framed(HEADERS, 0, 1, &[0x82; 9000]), framed(CONTINUATION, 0, 1, &[0x82; 9000])]),
            read("its headers are too long"),
        ),
        (
            "bad headers",
            framed(HEADERS, END_HEADERS, 1, &[0xff, 0xff, 0xff, 0xff, 0xff]),
            read("its headers cannot be read"),
        ),
        (
            "headers within headers",
            all(&[framed(HEADERS, 0, 1, &[]), begun()]),
            read("a block of headers is interrupted"),
        ),
        (
            "padding beyond the frame",
            framed(DATA, PADDED, 1, &[9, 0]),
            read("a frame is shorter than it says"),
        ),
        (
            "pings for ever",
            framed(PING, ACK, 0, &[0; 8]).repeat(MAX_FRAMES),
            read("it sends too many frames"),
        ),
        (
            "frames for ever",
            framed(8, 0, 3, &[0; 16_000]).repeat(20),
            read("it sends too much"),
        ),
    ];
    for (what, bytes, expected) in rows {
        assert_eq!(ask(bytes, Duration::from_secs(60)), expected, "{what}");
    }
}

#[test]
fn silence_and_nobody() {
    let late = ask(begun(), Duration::from_millis(200));
    assert_eq!(late, Err("timeout: health rpc did not complete within 1s".to_owned()));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let gone = check("127.0.0.1", port, "", "1s", &Patience::of(Duration::from_secs(20)));
    let address = format!("127.0.0.1:{port}");
    assert_eq!(
        gone,
        Err(format!(
            "error: failed to connect service at \"{address}\": dial tcp {address}: connect: connection refused"
        ))
    );
}

#[test]
fn what_is_asked() {
    let (port, asked) = server([begun(), message(1), ended("0", "")].concat());
    let service = "s".repeat(200);
    check("127.0.0.1", port, &service, "1s", &Patience::of(Duration::from_secs(20))).unwrap();
    let asked = asked.recv().unwrap();
    assert_eq!(
        (asked[0].0, asked[1].0, asked[1].2, asked[2].0, asked[2].1),
        (SETTINGS, HEADERS, 1, DATA, END_STREAM)
    );
    let said = Decoder::default().read(&asked[1].3).unwrap();
    let path = said.iter().find(|(name, _)| name == b":path").unwrap();
    assert_eq!(path.1, b"/grpc.health.v1.Health/Check");
    // One byte that says it is not compressed, four of length, the key of field 1, two of its length.
    assert_eq!(asked[2].3[..8], [0, 0, 0, 0, 203, 0x0a, 200, 1]);
    assert_eq!(&asked[2].3[8..], service.as_bytes());
}
