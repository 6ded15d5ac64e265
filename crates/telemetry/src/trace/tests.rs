#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use crate::tests::{Collector, LONG, Sink, listening, start, until};
use crate::{Code, Options, Telemetry, attribute};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

fn exporting(url: &str, variables: &[(&str, &str)]) -> (Telemetry, Sink) {
    start(
        Options {
            version: "1.2.3".to_owned(),
            otlp: Some(url.to_owned()),
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
    let collector = Collector::start();
    let variables = [
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-scope=team%2Fa"),
        ("OTEL_RESOURCE_ATTRIBUTES", "host.name=n1"),
    ];
    let (telemetry, _) = exporting(&collector.url(), &variables);
    let mut call = telemetry.call("RunPodSandbox", "gvisor", Some(PARENT));
    call.attribute(attribute::POD, "web");
    std::thread::sleep(Duration::from_millis(5));
    call.stages([("cgroup", 1000), ("network", 2000), ("create", 500)]);
    call.end(Err((Code::Unknown, "the sandbox did not start")));
    telemetry.shutdown(LONG);
    let (head, body) = collector.posts.recv_timeout(LONG).unwrap();
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
    assert!(
        head.contains("content-type: application/json\r\n") && head.contains("x-scope: team/a\r\n"),
        "{head}"
    );
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
fn spans_never_leave_their_call() {
    let collector = Collector::start();
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
        let collector = Collector::start();
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
    let collector = Collector::start();
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
    // A port that is taken, so that nobody else gets it, and that nobody listens on.
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let dead: std::net::SocketAddr = rustix::net::getsockname(&socket).unwrap().try_into().unwrap();
    let (telemetry, sink) = exporting(
        &format!("http://{dead}"),
        &[("OTEL_BSP_MAX_QUEUE_SIZE", "20"), ("OTEL_BSP_SCHEDULE_DELAY", "10")],
    );
    for _ in 0..500 {
        telemetry.call("Status", "", None).end(Ok(()));
    }
    until("it was tried twice", || telemetry.inner.own_counts().export_failures >= 2);
    let counts = telemetry.inner.own_counts();
    assert_eq!((counts.exported, counts.dropped, counts.queued), (0, 480, 20));
    let complaints: Vec<String> = sink
        .text()
        .lines()
        .filter(|line| line.starts_with("<4>"))
        .map(str::to_owned)
        .collect();
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(
        complaints[0].contains(&format!("endpoint=http://{dead}/v1/traces")),
        "{complaints:?}"
    );
    telemetry.shutdown(Duration::from_millis(600));
    until("the rest is dropped", || telemetry.inner.own_counts().dropped == 500);
    assert_eq!(telemetry.inner.own_counts().queued, 0);
}

#[test]
fn answers_are_honoured() {
    // (answer, text, posts seen, exported, rejected)
    let table = [
        (200, "{}", 1, 1, 0),
        (200, "not json", 1, 1, 0),
        (200, r#"{"partialSuccess":{"rejectedSpans":"1","errorMessage":"no"}}"#, 1, 0, 1),
        (200, r#"{"partialSuccess":{"rejectedSpans":99}}"#, 1, 0, 1),
        (400, "{}", 1, 0, 1),
        (404, "", 1, 0, 1),
        (301, "", 1, 0, 1),
        (429, "", 2, 1, 0),
        (503, "", 2, 1, 0),
    ];
    for (status, text, posts, exported, rejected) in table {
        let collector = Collector::start();
        collector.answers.send((status, text.to_owned())).unwrap();
        let (telemetry, _) = exporting(&collector.url(), &[("OTEL_BSP_SCHEDULE_DELAY", "10")]);
        telemetry.call("Status", "", None).end(Ok(()));
        telemetry.shutdown(LONG);
        let counts = telemetry.inner.own_counts();
        assert_eq!(
            (counts.exported, counts.rejected, counts.dropped),
            (exported, rejected, 0),
            "{status} {text}"
        );
        assert_eq!(collector.posts.try_iter().count(), posts, "{status} {text}");
    }
}

#[test]
fn certificates_are_looked_at_when_the_daemon_starts() {
    let log = crate::Log::to(crate::LogFormat::Text, crate::Level::Error, Box::new(std::io::sink()));
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    for path in ["/does/not/exist.pem", file] {
        let options = Options {
            otlp: Some("https://127.0.0.1:1".to_owned()),
            ..Options::default()
        };
        let environment = |name: &str| (name == "OTEL_EXPORTER_OTLP_CERTIFICATE").then(|| path.to_owned());
        let error = Telemetry::start_with(options, log.clone(), &environment).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("the collector at https://127.0.0.1:1/v1/traces cannot be checked"),
            "{error}"
        );
    }
}

#[test]
fn a_collector_over_tls_is_believed_by_the_named_authority_alone() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let config = std::sync::Arc::new(config);
    let stranger = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    for (name, pem, arrives) in [("own.pem", made.cert.pem(), true), ("stranger.pem", stranger.cert.pem(), false)] {
        let path = directory.path().join(name);
        std::fs::write(&path, pem).unwrap();
        let collector = Collector::start_over(Some(config.clone()));
        let url = format!("https://127.0.0.1:{}", collector.address.port());
        let variables = [
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", path.to_str().unwrap()),
            ("OTEL_BSP_SCHEDULE_DELAY", "10"),
        ];
        let (telemetry, sink) = exporting(&url, &variables);
        telemetry.call("Status", "", None).end(Ok(()));
        until("it was tried", || {
            let counts = telemetry.inner.own_counts();
            counts.exported + counts.export_failures > 0
        });
        telemetry.shutdown(Duration::from_millis(1));
        assert_eq!(collector.posts.try_recv().is_ok(), arrives, "{name}: {}", sink.text());
    }
}
