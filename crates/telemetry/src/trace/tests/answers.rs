#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
//! What collectors answer, and what becomes of the spans.

use super::exporting_as;
use crate::metrics::Own;
use crate::tests::collector::{Collector, Raw, Reply, Verdict, answering, silent};
use crate::tests::{LONG, until};
use crate::trace::proto::{Any, ExportResponse, PartialSuccess, RetryInfo, RpcStatus, WireDuration};
use crate::{Protocol, Telemetry};
use base64::Engine as _;
use prost::Message;
use std::io::Write as _;
use std::time::{Duration, Instant};
use tonic::Code;

const SOON: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "10");

fn partly(rejected: i64, why: &str) -> ExportResponse {
    ExportResponse {
        partial_success: Some(PartialSuccess {
            rejected_spans: rejected,
            error_message: why.to_owned(),
        }),
    }
}

fn status(message: &str, details: Vec<Any>) -> Vec<u8> {
    RpcStatus {
        code: 0,
        message: message.to_owned(),
        details,
    }
    .encode_to_vec()
}

fn retry_info(seconds: i64, nanos: i32) -> Any {
    let info = RetryInfo {
        retry_delay: Some(WireDuration { seconds, nanos }),
    };
    Any {
        type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
        value: info.encode_to_vec(),
    }
}

/// A gRPC answer that takes all.
pub(super) fn taken() -> Raw {
    Raw {
        status: 200,
        headers: vec![("content-type", "application/grpc".to_owned())],
        body: vec![0; 5].into(),
        trailers: Some(vec![("grpc-status", "0".to_owned())]),
        closes: false,
    }
}

/// Ends one call, and waits until its span has left, or was refused.
fn one_span(telemetry: &Telemetry) -> Own {
    telemetry.call("Status", "", None).end(Ok(()));
    telemetry.shutdown(LONG);
    telemetry.inner.own_counts()
}

#[test]
fn answers_over_http_are_honoured() {
    let json = |text: &str| text.as_bytes().to_vec();
    let busy = || (503, "", status("too busy", vec![]));
    // (form, answer, posts seen, exported, rejected, what is told)
    let table: Vec<(Protocol, Reply, usize, u64, u64, &str)> = vec![
        (Protocol::HttpJson, (200, "", json("{}")), 1, 1, 0, ""),
        (Protocol::HttpJson, (200, "", json("not json")), 1, 1, 0, ""),
        (
            Protocol::HttpJson,
            (200, "", json(r#"{"partialSuccess":{"rejectedSpans":"1","errorMessage":"no"}}"#)),
            1,
            0,
            1,
            "error=no",
        ),
        (
            Protocol::HttpJson,
            (200, "", json(r#"{"partialSuccess":{"rejectedSpans":99}}"#)),
            1,
            0,
            1,
            "",
        ),
        (
            Protocol::HttpJson,
            (400, "", json(r#"{"message":"odd ids"}"#)),
            1,
            0,
            1,
            "it answered 400: odd ids",
        ),
        (Protocol::HttpProtobuf, (200, "", vec![]), 1, 1, 0, ""),
        (Protocol::HttpProtobuf, (202, "", vec![0xff; 40]), 1, 1, 0, ""),
        (
            Protocol::HttpProtobuf,
            (200, "", partly(1, "no").encode_to_vec()),
            1,
            0,
            1,
            "error=no",
        ),
        (Protocol::HttpProtobuf, (200, "", partly(99, "").encode_to_vec()), 1, 0, 1, ""),
        (
            Protocol::HttpProtobuf,
            (200, "", partly(0, "only a word").encode_to_vec()),
            1,
            1,
            0,
            "warning=\"only a word\"",
        ),
        (Protocol::HttpProtobuf, (200, "", partly(-7, "").encode_to_vec()), 1, 1, 0, ""),
        (Protocol::HttpProtobuf, (200, "", vec![0; 70_000]), 1, 0, 1, "more than 65536 bytes"),
        (
            Protocol::HttpProtobuf,
            (400, "", status("odd ids", vec![])),
            1,
            0,
            1,
            "it answered 400: odd ids",
        ),
        (Protocol::HttpProtobuf, (404, "", vec![]), 1, 0, 1, "it answered 404"),
        (Protocol::HttpProtobuf, (413, "", vec![]), 1, 0, 1, "it answered 413"),
        (Protocol::HttpProtobuf, (500, "", vec![]), 1, 0, 1, "it answered 500"),
        (
            Protocol::HttpProtobuf,
            (301, "location: http://127.0.0.1:1/\r\n", vec![]),
            1,
            0,
            1,
            "it answered 301",
        ),
        (Protocol::HttpProtobuf, (429, "", vec![]), 2, 1, 0, "it answered 429"),
        (Protocol::HttpProtobuf, (502, "", vec![]), 2, 1, 0, "it answered 502"),
        (Protocol::HttpProtobuf, busy(), 2, 1, 0, "it answered 503: too busy"),
        (Protocol::HttpProtobuf, (504, "", vec![]), 2, 1, 0, "it answered 504"),
    ];
    for (protocol, answer, posts, exported, rejected, told) in table {
        let collector = Collector::<Reply>::start();
        let name = format!("{} {} {}", protocol.name(), answer.0, answer.2.len());
        collector.answers.send(answer).unwrap();
        let (telemetry, sink) = exporting_as(Some(protocol), &collector.url(), &[SOON]);
        let counts = one_span(&telemetry);
        assert_eq!(
            (counts.exported, counts.rejected, counts.dropped),
            (exported, rejected, 0),
            "{name}"
        );
        assert_eq!(collector.posts.try_iter().count(), posts, "{name}");
        assert!(sink.text().contains(told), "{name}: {}", sink.text());
    }
}

#[test]
fn codes_of_grpc_are_honoured() {
    let details = |any| status("", vec![any]);
    let with = |code, any| tonic::Status::with_details(code, "not now: 100%", details(any).into());
    let odd = Any {
        type_url: "type.googleapis.com/google.rpc.BadRequest".to_owned(),
        value: vec![1],
    };
    let plain = |code| Err(tonic::Status::new(code, "not now: 100%"));
    // (answer, exports seen, exported, rejected)
    let mut table: Vec<(Verdict, usize, u64, u64)> = vec![
        (Ok(ExportResponse::default()), 1, 1, 0),
        (Ok(partly(1, "no")), 1, 0, 1),
        (Ok(partly(0, "only a word")), 1, 1, 0),
        (plain(Code::ResourceExhausted), 1, 0, 1),
        (Err(with(Code::ResourceExhausted, odd)), 1, 0, 1),
        (Err(with(Code::ResourceExhausted, retry_info(0, 1_000_000))), 2, 1, 0),
        (Err(with(Code::Unavailable, retry_info(0, 1_000_000))), 2, 1, 0),
        (Err(with(Code::InvalidArgument, retry_info(0, 1))), 1, 0, 1),
    ];
    for code in [
        Code::Cancelled,
        Code::DeadlineExceeded,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unavailable,
        Code::DataLoss,
    ] {
        table.push((plain(code), 2, 1, 0));
    }
    for code in [
        Code::Unknown,
        Code::InvalidArgument,
        Code::NotFound,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::FailedPrecondition,
        Code::Unimplemented,
        Code::Internal,
        Code::Unauthenticated,
    ] {
        table.push((plain(code), 1, 0, 1));
    }
    for (answer, exports, exported, rejected) in table {
        let collector = Collector::<Verdict>::start_grpc();
        let (name, failed) = (format!("{answer:?}"), answer.is_err());
        collector.answers.send(answer).unwrap();
        let (telemetry, sink) = exporting_as(Some(Protocol::Grpc), &collector.url(), &[SOON]);
        let counts = one_span(&telemetry);
        assert_eq!(
            (counts.exported, counts.rejected, counts.dropped),
            (exported, rejected, 0),
            "{name}: {}",
            sink.text()
        );
        assert_eq!(collector.posts.try_iter().count(), exports, "{name}");
        assert!(!failed || sink.text().contains(": not now: 100%"), "{name}: {}", sink.text());
    }
}

#[test]
fn a_collector_that_says_when_is_asked_no_sooner() {
    let http = Collector::<Reply>::start();
    http.answers.send((429, "retry-after: 2\r\n", vec![])).unwrap();
    let grpc = Collector::<Verdict>::start_grpc();
    let details = status("", vec![retry_info(2, 0)]);
    grpc.answers
        .send(Err(tonic::Status::with_details(Code::Unavailable, "later", details.into())))
        .unwrap();
    for (protocol, url) in [(Protocol::HttpProtobuf, http.url()), (Protocol::Grpc, grpc.url())] {
        let began = Instant::now();
        let (telemetry, _) = exporting_as(Some(protocol), &url, &[SOON]);
        telemetry.call("Status", "", None).end(Ok(()));
        until("it is exported", || telemetry.inner.own_counts().exported == 1);
        // Without the word of the collector it would be a second at most.
        assert!(began.elapsed() >= Duration::from_secs(2));
    }
}

#[test]
fn what_is_no_grpc_costs_a_line_and_nothing_else() {
    let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD_NO_PAD.encode(bytes);
    let only = |status: &str, more: Vec<(&'static str, String)>| Raw {
        status: 200,
        headers: [vec![("grpc-status", status.to_owned())], more].concat(),
        ..Raw::default()
    };
    let details = |text: String| vec![("grpc-status-details-bin", text)];
    let http = |status| Raw { status, ..Raw::default() };
    let message = |bytes: Vec<u8>| Raw {
        body: bytes.into(),
        ..taken()
    };
    let framed = |bytes: &[u8]| [&[0][..], &(bytes.len() as u32).to_be_bytes(), bytes].concat();
    // (name, answer, exported, rejected, whether it is tried again, what is told)
    let table: Vec<(&str, Raw, u64, u64, bool, &str)> = vec![
        ("no message", message(vec![]), 1, 0, false, ""),
        ("a frame cut short", message(vec![0, 0, 0, 0, 9, 1]), 1, 0, false, ""),
        ("compressed", message(vec![1, 0, 0, 0, 0]), 1, 0, false, ""),
        ("no protobuf", message(framed(&[0xff; 9])), 1, 0, false, ""),
        (
            "half refused",
            message(framed(&partly(1, "no").encode_to_vec())),
            0,
            1,
            false,
            "error=no",
        ),
        ("too long", message(vec![0; 70_000]), 0, 1, false, "more than 65536 bytes"),
        ("closing", Raw { closes: true, ..taken() }, 1, 0, false, ""),
        (
            "odd details",
            only("8", details("%%%".to_owned())),
            0,
            1,
            false,
            "ResourceExhausted",
        ),
        (
            "details without padding",
            only("8", details(base64(&status("", vec![retry_info(0, 1)])))),
            0,
            0,
            true,
            "ResourceExhausted",
        ),
        (
            "details that say nothing",
            only("14", details(base64(&[0xff; 7]))),
            0,
            0,
            true,
            "Unavailable",
        ),
        (
            "a delay that is none",
            only("14", details(base64(&status("", vec![retry_info(-1, -1)])))),
            0,
            0,
            true,
            "Unavailable",
        ),
        ("an odd status", only("x", vec![]), 0, 1, false, "Unknown"),
        ("a status of tomorrow", only("99", vec![]), 0, 1, false, "Unknown"),
        (
            "a message that is encoded",
            only("3", vec![("grpc-message", "a%20b%zz%".to_owned())]),
            0,
            1,
            false,
            "a b%zz%",
        ),
        (
            "HTTP alone",
            http(200),
            0,
            1,
            false,
            "no gRPC status; is this the collector's gRPC port",
        ),
        ("HTTP's 404", http(404), 0, 1, false, "it answered HTTP 404"),
        ("HTTP's 503", http(503), 0, 0, true, "it answered HTTP 503"),
    ];
    for (name, raw, exported, rejected, again, told) in table {
        let (address, requests) = answering(raw, None);
        let (telemetry, sink) = exporting_as(Some(Protocol::Grpc), &format!("http://{address}"), &[SOON]);
        telemetry.call("Status", "", None).end(Ok(()));
        requests.recv_timeout(LONG).unwrap();
        if again {
            requests.recv_timeout(LONG).unwrap();
        } else {
            until(name, || telemetry.inner.own_counts().queued == 0);
        }
        telemetry.shutdown(Duration::from_millis(1));
        let counts = telemetry.inner.own_counts();
        assert_eq!((counts.exported, counts.rejected), (exported, rejected), "{name}: {}", sink.text());
        assert!(sink.text().contains(told), "{name}: {}", sink.text());
    }
}

#[test]
fn the_wrong_port_is_told_as_such() {
    // What a gRPC server says first (settings of HTTP/2), and what an HTTP server answers to HTTP/2.
    let settings = &b"\0\0\0\x04\0\0\0\0\0"[..];
    let refusal = &b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"[..];
    for (protocol, says, hint) in [
        (Protocol::HttpProtobuf, settings, "is this the collector's HTTP port, usually 4318?"),
        (Protocol::Grpc, refusal, "is this the collector's gRPC port, usually 4317?"),
    ] {
        let (address, listener) = silent();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                stream.write_all(says).unwrap();
                // Until the other side has had enough.
                let _ = std::io::copy(&mut stream, &mut std::io::sink());
            }
        });
        let (telemetry, sink) = exporting_as(Some(protocol), &format!("http://{address}"), &[SOON]);
        telemetry.call("Status", "", None).end(Ok(()));
        until("it was tried", || telemetry.inner.own_counts().export_failures > 0);
        telemetry.shutdown(Duration::from_millis(1));
        assert_eq!(telemetry.inner.own_counts().exported, 0);
        assert!(sink.text().contains(hint), "{}", sink.text());
    }
}

#[test]
fn a_collector_that_says_nothing_is_given_up_in_time_and_the_daemon_ends() {
    for protocol in [Protocol::HttpProtobuf, Protocol::Grpc] {
        let (address, _listener) = silent();
        let variables = [SOON, ("OTEL_EXPORTER_OTLP_TIMEOUT", "50"), ("OTEL_BSP_MAX_QUEUE_SIZE", "4")];
        let (telemetry, sink) = exporting_as(Some(protocol), &format!("http://{address}"), &variables);
        for _ in 0..10 {
            telemetry.call("Status", "", None).end(Ok(()));
        }
        until("it was tried twice", || telemetry.inner.own_counts().export_failures >= 2);
        let counts = telemetry.inner.own_counts();
        assert_eq!((counts.exported, counts.dropped, counts.queued), (0, 6, 4), "{}", sink.text());
        telemetry.shutdown(Duration::from_millis(100));
        until("the rest is dropped", || telemetry.inner.own_counts().dropped == 10);
    }
}

#[test]
fn a_connection_is_used_again_and_a_new_one_is_made_where_it_broke() {
    // One that closes after each answer, and one that does not.
    for closes in [false, true] {
        let (address, requests) = answering(Raw { closes, ..taken() }, None);
        let variables = [("OTEL_BSP_SCHEDULE_DELAY", "1")];
        let (telemetry, sink) = exporting_as(Some(Protocol::Grpc), &format!("http://{address}"), &variables);
        for count in 1..=5 {
            telemetry.call("Status", "", None).end(Ok(()));
            until("it is exported", || telemetry.inner.own_counts().exported == count);
        }
        assert_eq!(telemetry.inner.own_counts().export_failures, 0, "{}", sink.text());
        let connections: Vec<usize> = requests.try_iter().collect();
        assert_eq!(connections, if closes { [1, 2, 3, 4, 5] } else { [1; 5] });
    }
}
