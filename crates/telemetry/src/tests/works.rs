#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
//! Work that nobody called for.

use super::collector::{Collector, Reply};
use super::{LONG, listening, start};
use crate::Options;
use serde_json::{Value, json};

fn named<'a>(spans: &'a [Value], name: &str) -> &'a Value {
    spans.iter().find(|span| span["name"] == name).unwrap()
}

#[test]
fn work_and_its_parts_are_one_trace() {
    for protocol in ["http/json", "http/protobuf"] {
        let collector = Collector::<Reply>::start();
        let options = Options {
            otlp: Some(collector.url()),
            otlp_protocol: Some(protocol.parse().unwrap()),
            ..Options::default()
        };
        let (telemetry, _) = start(options, &[]);
        let whole = telemetry.work("start");
        let mut part = whole.part("recovery");
        part.count("findings", 2);
        part.attribute("boot", "first");
        for finding in ["pod a", "pod b"] {
            part.event("finding", &[("finding", finding)]);
        }
        part.end(Err("not all could be put right"));
        let given_up = whole.part("serve");
        drop(given_up);
        whole.end(Ok(()));
        telemetry.shutdown(LONG);
        let spans = collector.spans();
        assert_eq!(spans.len(), 3);
        let (whole, part) = (named(&spans, "start"), named(&spans, "recovery"));
        assert!(whole.get("parentSpanId").is_none() && whole.get("status").is_none() && whole.get("events").is_none());
        assert_eq!((&whole["kind"], &whole["flags"]), (&json!(1), &json!(0x101)));
        assert_eq!((&part["parentSpanId"], &part["traceId"]), (&whole["spanId"], &whole["traceId"]));
        assert_ne!(part["spanId"], whole["spanId"]);
        let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
        assert_eq!(
            part["attributes"],
            json!([{"key": "findings", "value": {"intValue": "2"}}, text("boot", "first")])
        );
        assert_eq!(part["status"], json!({"code": 2, "message": "not all could be put right"}));
        let at = |value: &Value| -> u64 { value.as_str().unwrap().parse().unwrap() };
        let (from, to) = (at(&part["startTimeUnixNano"]), at(&part["endTimeUnixNano"]));
        for (event, finding) in part["events"].as_array().unwrap().iter().zip(["pod a", "pod b"]) {
            assert_eq!(
                (&event["name"], &event["attributes"]),
                (&json!("finding"), &json!([text("finding", finding)]))
            );
            assert!((from..=to).contains(&at(&event["timeUnixNano"])), "{part}");
        }
        assert_eq!(part["events"].as_array().unwrap().len(), 2);
        assert_eq!(named(&spans, "serve")["status"]["message"], "it was given up");
    }
}

#[test]
fn a_piece_of_work_is_bounded() {
    let collector = Collector::<Reply>::start();
    let options = Options {
        otlp: Some(collector.url()),
        ..Options::default()
    };
    let (telemetry, _) = start(options, &[]);
    let mut work = telemetry.work("recovery");
    for _ in 0..200 {
        work.event("finding", &[("finding", &"x".repeat(100_000))]);
        work.attribute("a", "b");
    }
    work.end(Ok(()));
    telemetry.shutdown(LONG);
    let span = &collector.spans()[0];
    assert_eq!(span["events"].as_array().unwrap().len(), 128);
    assert_eq!(
        (&span["droppedEventsCount"], &span["droppedAttributesCount"]),
        (&json!(72), &json!(168))
    );
    let value = &span["events"][0]["attributes"][0]["value"]["stringValue"];
    assert_eq!(value.as_str().unwrap().len(), 4096);
}

#[test]
fn without_a_collector_or_a_sample_nothing_is_kept() {
    let (telemetry, _) = listening();
    let mut work = telemetry.work("start");
    work.part("recovery").end(Ok(()));
    work.event("finding", &[]);
    work.end(Ok(()));
    let collector = Collector::<Reply>::start();
    let options = Options {
        otlp: Some(collector.url()),
        ..Options::default()
    };
    let (telemetry, _) = start(options, &[("OTEL_TRACES_SAMPLER", "parentbased_always_off")]);
    telemetry.work("start").part("recovery").end(Ok(()));
    telemetry.shutdown(LONG);
    assert!(collector.posts.try_recv().is_err());
}
