#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod answers;
mod wire;

use crate::tests::collector::{Collector, Reply, Verdict, dead};
use crate::tests::{LONG, Sink, listening, start, until};
use crate::{Code, Options, Protocol, Telemetry, attribute};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

fn exporting(url: &str, variables: &[(&str, &str)]) -> (Telemetry, Sink) {
    exporting_as(None, url, variables)
}

fn exporting_as(protocol: Option<Protocol>, url: &str, variables: &[(&str, &str)]) -> (Telemetry, Sink) {
    start(
        Options {
            version: "1.2.3".to_owned(),
            otlp: Some(url.to_owned()),
            otlp_protocol: protocol,
            ..Options::default()
        },
        variables,
    )
}

fn nanos(span: &Value, key: &str) -> u64 {
    span[key].as_str().unwrap().parse().unwrap()
}

#[test]
fn a_call_and_its_stages_arrive_as_spans() {
    for (protocol, content_type) in [
        (Protocol::HttpProtobuf, "application/x-protobuf"),
        (Protocol::HttpJson, "application/json"),
    ] {
        let collector = Collector::<Reply>::start();
        let head = arrives(Some(protocol), &collector);
        assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("content-type: {content_type}\r\n")), "{head}");
    }
    let collector = Collector::<Verdict>::start_grpc();
    let head = arrives(Some(Protocol::Grpc), &collector);
    assert!(
        head.contains("content-type: application/grpc\r\n") && head.contains("te: trailers\r\n"),
        "{head}"
    );
    assert!(head.contains("grpc-timeout: ") && !head.contains("grpc-encoding"), "{head}");
}

/// Fails unless a call's spans arrive; the headers that they came with.
fn arrives<A>(protocol: Option<Protocol>, collector: &Collector<A>) -> String {
    let variables = [
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-scope=team%2Fa"),
        ("OTEL_RESOURCE_ATTRIBUTES", "host.name=n1"),
    ];
    let (telemetry, _) = exporting_as(protocol, &collector.url(), &variables);
    let mut call = telemetry.call("RunPodSandbox", "gvisor", Some(PARENT));
    call.attribute(attribute::POD, "web");
    std::thread::sleep(Duration::from_millis(5));
    call.stages([("cgroup", 1000), ("network", 2000), ("create", 500)]);
    call.end(Err((Code::Unknown, "the sandbox did not start")));
    telemetry.shutdown(LONG);
    let (head, body) = collector.posts.recv_timeout(LONG).unwrap();
    assert!(head.contains("x-scope: team/a\r\n"), "{head}");
    assert!(head.contains("user-agent: "), "{head}");
    assert!(
        head.to_ascii_lowercase().contains("cofferdam-otlp-exporter-rust/1.2.3\r\n"),
        "{head}"
    );
    assert_call(&body);
    head
}

fn assert_call(body: &Value) {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    assert_eq!(
        body["resourceSpans"][0]["resource"]["attributes"],
        json!([text("service.name", "cofferdam"), text("host.name", "n1")])
    );
    let scope = &body["resourceSpans"][0]["scopeSpans"][0];
    assert_eq!(scope["scope"], json!({"name": "cofferdam", "version": "1.2.3"}));
    let [call, stages @ ..] = scope["spans"].as_array().unwrap().as_slice() else {
        panic!("no spans")
    };
    assert_eq!(call["traceId"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(call["parentSpanId"], "b7ad6b7169203331");
    assert_eq!(call["name"], "runtime.v1.RuntimeService/RunPodSandbox");
    assert_eq!((&call["kind"], &call["flags"]), (&json!(2), &json!(0x301)));
    assert_eq!(call["status"], json!({"code": 2, "message": "the sandbox did not start"}));
    let attributes = json!([
        text("rpc.system", "grpc"),
        text("rpc.service", "runtime.v1.RuntimeService"),
        text("rpc.method", "RunPodSandbox"),
        {"key": "rpc.grpc.status_code", "value": {"intValue": "2"}},
        text("cofferdam.handler", "gvisor"),
        text("k8s.pod.name", "web"),
    ]);
    assert_eq!(call["attributes"], attributes);
    let names: Vec<&str> = stages.iter().map(|stage| stage["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["cgroup", "network", "create"]);
    let mut last = nanos(call, "startTimeUnixNano");
    let mut ids = vec![call["spanId"].as_str().unwrap()];
    for (stage, micros) in stages.iter().zip([1000, 2000, 500]) {
        assert_eq!(
            (&stage["traceId"], &stage["parentSpanId"], &stage["kind"]),
            (&call["traceId"], &call["spanId"], &json!(1))
        );
        assert!(nanos(stage, "startTimeUnixNano") >= last, "stages follow each other");
        last = nanos(stage, "endTimeUnixNano");
        assert_eq!(last - nanos(stage, "startTimeUnixNano"), micros * 1000);
        assert!(stage.get("status").is_none());
        ids.push(stage["spanId"].as_str().unwrap());
    }
    assert!(nanos(call, "endTimeUnixNano") >= last);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    assert!(ids.iter().all(|id| id.len() == 16));
}

#[test]
fn a_batch_that_no_window_holds_arrives_whole() {
    let of = |protocol, url: &str| {
        let (telemetry, sink) = exporting_as(Some(protocol), url, &[("OTEL_BSP_SCHEDULE_DELAY", "600000")]);
        for _ in 0..500 {
            let mut call = telemetry.call("Status", "", None);
            call.attribute(attribute::POD, &"x".repeat(4096));
            call.end(Ok(()));
        }
        telemetry.shutdown(LONG);
        assert_eq!(telemetry.inner.own_counts().exported, 500, "{}", crate::cut(&sink.text(), 1000));
    };
    let http = Collector::<Reply>::start();
    for protocol in [Protocol::HttpProtobuf, Protocol::HttpJson] {
        of(protocol, &http.url());
        assert_eq!(http.spans().len(), 500);
    }
    let grpc = Collector::<Verdict>::start_grpc();
    of(Protocol::Grpc, &grpc.url());
    assert_eq!(grpc.spans().len(), 500);
}

#[test]
fn spans_never_leave_their_call() {
    let collector = Collector::<Reply>::start();
    let (telemetry, _) = exporting(&collector.url(), &[]);
    let early = Instant::now();
    let mut call = telemetry.call("PullImage", "", None);
    call.stages([("long", 3_600_000_000), ("longer", u64::MAX)]);
    call.stage("before", early, LONG);
    call.end(Ok(()));
    telemetry.shutdown(LONG);
    let spans = collector.spans();
    assert_eq!(
        (spans.len(), spans[0]["name"].as_str().unwrap()),
        (4, "runtime.v1.ImageService/PullImage")
    );
    assert!(spans[0].get("parentSpanId").is_none() && spans[0].get("status").is_none());
    let (start, end) = (nanos(&spans[0], "startTimeUnixNano"), nanos(&spans[0], "endTimeUnixNano"));
    for span in &spans {
        let (from, to) = (nanos(span, "startTimeUnixNano"), nanos(span, "endTimeUnixNano"));
        assert!(start <= from && from <= to && to <= end, "{span}");
    }
}

#[test]
fn parents_decide_unless_the_sampler_says_otherwise() {
    // (sampler, its argument, header, whether a span leaves, whether it is the parent's trace)
    let table = [
        ("", "", Some(PARENT), true, true),
        ("", "", Some(UNSAMPLED), false, true),
        ("", "", Some("00-zz"), true, false),
        ("", "", None, true, false),
        ("parentbased_always_off", "", Some(PARENT), true, true),
        ("parentbased_always_off", "", None, false, false),
        ("parentbased_traceidratio", "0", None, false, false),
        ("always_off", "", Some(PARENT), false, true),
        ("always_on", "", Some(UNSAMPLED), true, true),
        ("traceidratio", "0", Some(PARENT), false, true),
    ];
    for (sampler, argument, header, leaves, of_parent) in table {
        let collector = Collector::<Reply>::start();
        let variables = [("OTEL_TRACES_SAMPLER", sampler), ("OTEL_TRACES_SAMPLER_ARG", argument)];
        let (telemetry, _) = exporting(&collector.url(), &variables);
        let call = telemetry.call("Status", "", header);
        assert_eq!(
            call.trace_id().unwrap() == "0af7651916cd43dd8448eb211c80319c",
            of_parent,
            "{sampler} {header:?}"
        );
        call.end(Ok(()));
        telemetry.shutdown(LONG);
        assert_eq!(collector.posts.try_recv().is_ok(), leaves, "{sampler} {header:?}");
    }
}

#[test]
fn without_a_collector_a_parent_still_names_the_trace() {
    let (telemetry, _) = listening();
    assert_eq!(
        telemetry.call("Status", "", Some(PARENT)).trace_id().unwrap(),
        "0af7651916cd43dd8448eb211c80319c"
    );
    assert_eq!(telemetry.call("Status", "", None).trace_id(), None);
}

#[test]
fn batches_leave_when_full_or_when_time_is_up() {
    let collector = Collector::<Reply>::start();
    let (telemetry, _) = exporting(
        &collector.url(),
        &[("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4"), ("OTEL_BSP_SCHEDULE_DELAY", "600000")],
    );
    for _ in 0..9 {
        telemetry.call("Status", "", None).end(Ok(()));
    }
    assert_eq!((collector.spans().len(), collector.spans().len()), (4, 4));
    telemetry.shutdown(LONG);
    assert_eq!(collector.spans().len(), 1);
    let (telemetry, _) = exporting(&collector.url(), &[("OTEL_BSP_SCHEDULE_DELAY", "20")]);
    telemetry.call("Status", "", None).end(Ok(()));
    assert_eq!(collector.spans().len(), 1);
    until("it is counted", || telemetry.inner.own_counts().exported == 1);
}

#[test]
fn a_dead_collector_costs_a_bounded_queue_and_one_line() {
    for (protocol, path) in [
        (Protocol::HttpProtobuf, "/v1/traces"),
        (Protocol::HttpJson, "/v1/traces"),
        (Protocol::Grpc, ""),
    ] {
        let (address, _held) = dead();
        let (telemetry, sink) = exporting_as(
            Some(protocol),
            &format!("http://{address}"),
            &[("OTEL_BSP_MAX_QUEUE_SIZE", "20"), ("OTEL_BSP_SCHEDULE_DELAY", "10")],
        );
        for _ in 0..500 {
            telemetry.call("Status", "", None).end(Ok(()));
        }
        until("it was tried twice", || telemetry.inner.own_counts().export_failures >= 2);
        let counts = telemetry.inner.own_counts();
        assert_eq!((counts.exported, counts.dropped, counts.queued), (0, 480, 20));
        let text = sink.text();
        let complaints: Vec<&str> = text.lines().filter(|line| line.starts_with("<4>")).collect();
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        assert!(
            complaints[0].contains(&format!("endpoint=http://{address}{path} ")) && complaints[0].contains("refused"),
            "{complaints:?}"
        );
        telemetry.shutdown(Duration::from_millis(600));
        until("the rest is dropped", || telemetry.inner.own_counts().dropped == 500);
        assert_eq!(telemetry.inner.own_counts().queued, 0);
    }
}

#[test]
fn certificates_are_looked_at_when_the_daemon_starts() {
    let log = crate::Log::to(crate::LogFormat::Text, crate::Level::Error, Box::new(std::io::sink()));
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    for protocol in [Protocol::HttpProtobuf, Protocol::Grpc] {
        for path in ["/does/not/exist.pem", file] {
            let options = Options {
                otlp: Some("https://127.0.0.1:1".to_owned()),
                otlp_protocol: Some(protocol),
                ..Options::default()
            };
            let environment = |name: &str| (name == "OTEL_EXPORTER_OTLP_CERTIFICATE").then(|| path.to_owned());
            let error = Telemetry::start_with(options, log.clone(), &environment).unwrap_err();
            let error = error.to_string();
            assert!(error.starts_with("the collector at https://127.0.0.1:1"), "{error}");
            assert!(error.contains("cannot be checked over TLS"), "{error}");
        }
    }
}

/// A certificate for 127.0.0.1, and a server's side of it that speaks these protocols above TLS.
fn certified(above: &[&[u8]]) -> (String, std::sync::Arc<rustls::ServerConfig>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut config = rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    config.alpn_protocols = above.iter().map(|name| name.to_vec()).collect();
    (made.cert.pem(), std::sync::Arc::new(config))
}

#[test]
fn a_collector_over_tls_is_believed_by_the_named_authority_alone() {
    let (stranger, _) = certified(&[]);
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, pem: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let stranger = file("stranger.pem", &stranger);
    for protocol in [Protocol::HttpProtobuf, Protocol::Grpc] {
        let (pem, config) = certified(if protocol == Protocol::Grpc { &[b"h2"] } else { &[] });
        let own = file("own.pem", &pem);
        for (authority, arrives) in [(&own, true), (&stranger, false)] {
            let (address, exported): (_, Box<dyn Fn() -> bool>) = if protocol == Protocol::Grpc {
                let (address, requests) = crate::tests::collector::answering(answers::taken(), Some(config.clone()));
                (address, Box::new(move || requests.try_recv().is_ok()))
            } else {
                let collector = Collector::<Reply>::start_over(Some(config.clone()));
                (collector.address, Box::new(move || collector.posts.try_recv().is_ok()))
            };
            let variables = [
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", authority.as_str()),
                ("OTEL_BSP_SCHEDULE_DELAY", "10"),
            ];
            let (telemetry, sink) = exporting_as(Some(protocol), &format!("https://{address}"), &variables);
            telemetry.call("Status", "", None).end(Ok(()));
            until("it was tried", || {
                let counts = telemetry.inner.own_counts();
                counts.exported + counts.export_failures > 0
            });
            telemetry.shutdown(Duration::from_millis(1));
            assert_eq!(exported(), arrives, "{authority}: {}", sink.text());
            assert_eq!(telemetry.inner.own_counts().exported, u64::from(arrives), "{}", sink.text());
        }
    }
}
