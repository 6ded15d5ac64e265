#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::collector::{Collector, Reply};
use super::*;
use crate::{Code, attribute};
use std::time::Instant;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn a_failed_call_is_logged_once_with_what_it_is_about() {
    let (telemetry, sink) = start(Options::default(), &[]);
    telemetry.set_handlers(["runc"]);
    let mut call = telemetry.call("RunPodSandbox", "runc", Some(PARENT));
    call.attribute(attribute::POD, "web");
    call.attribute(attribute::NAMESPACE, "default");
    call.attribute("cofferdam.secret", "not in the log");
    call.end(Err((Code::Internal, "the bridge\nis gone")));
    let text = sink.text();
    let (line, rest) = text.split_once(" duration_ms=").unwrap();
    assert_eq!(
        line,
        "<3>RunPodSandbox failed verb=RunPodSandbox code=Internal error=\"the bridge\\nis gone\" handler=runc pod=web namespace=default"
    );
    assert!(rest.ends_with(" trace_id=0af7651916cd43dd8448eb211c80319c\n"), "{rest}");
    assert_eq!(text.lines().count(), 1);
}

#[test]
fn how_grave_an_outcome_is() {
    let table = [
        (Ok(()), "<7>", "done"),
        (Err(Code::Canceled), "<6>", "was cancelled"),
        (Err(Code::NotFound), "<6>", "found nothing"),
        (Err(Code::InvalidArgument), "<4>", "was refused"),
        (Err(Code::FailedPrecondition), "<4>", "was refused"),
        (Err(Code::Unknown), "<3>", "failed"),
        (Err(Code::Unavailable), "<3>", "failed"),
        (Err(Code::DeadlineExceeded), "<3>", "failed"),
    ];
    for (outcome, priority, word) in table {
        let (telemetry, sink) = start(Options::default(), &[]);
        telemetry
            .call("StopContainer", "", None)
            .end(outcome.map_err(|code| (code, "so it is")));
        assert!(
            sink.text().starts_with(&format!("{priority}StopContainer {word} ")),
            "{outcome:?}: {}",
            sink.text()
        );
    }
}

#[test]
fn a_dropped_call_is_cancelled_and_no_longer_in_flight() {
    let (telemetry, sink) = listening();
    let call = telemetry.call("ExecSync", "", None);
    assert!(
        get(&telemetry, "/metrics")
            .1
            .contains("cofferdam_cri_requests_in_flight{verb=\"ExecSync\"} 1\n")
    );
    drop(call);
    let text = get(&telemetry, "/metrics").1;
    assert!(text.contains("cofferdam_cri_requests_in_flight{verb=\"ExecSync\"} 0\n"), "{text}");
    assert!(
        text.contains("cofferdam_cri_requests_total{verb=\"ExecSync\",handler=\"\",code=\"Canceled\"} 1\n"),
        "{text}"
    );
    assert!(sink.text().starts_with("<6>ExecSync was cancelled"));
}

#[test]
fn a_slow_call_tells_its_stages() {
    let slow = Options {
        slow: Some(Duration::ZERO),
        ..Options::default()
    };
    let (telemetry, sink) = start(slow.clone(), &[]);
    let mut call = telemetry.call("RunPodSandbox", "", None);
    call.stages([("cgroup", 1500), ("network", 20_250)]);
    call.end(Ok(()));
    assert!(sink.text().starts_with("<4>RunPodSandbox was slow"), "{}", sink.text());
    assert!(sink.text().contains("stages=\"cgroup=1.5ms,network=20.2ms\""), "{}", sink.text());
    let (telemetry, sink) = start(slow, &[]);
    let mut call = telemetry.call("GetContainerEvents", "", None);
    call.expect_long();
    call.end(Ok(()));
    assert!(sink.text().starts_with("<7>GetContainerEvents done"));
}

#[test]
fn labels_are_bounded() {
    let (telemetry, _) = listening();
    telemetry.set_handlers(["runc", "gvisor"]);
    for index in 0..500 {
        let mut call = telemetry.call("RunPodSandbox", &format!("made-up-{index}"), None);
        call.stage(&format!("stage-{index}"), Instant::now(), Duration::ZERO);
        call.end(Err((Code::InvalidArgument, "no runtime")));
    }
    let text = get(&telemetry, "/metrics").1;
    assert!(!text.contains("made-up"));
    assert!(text.contains("cofferdam_cri_requests_total{verb=\"RunPodSandbox\",handler=\"unknown\",code=\"InvalidArgument\"} 500\n"));
    assert_eq!(
        text.lines()
            .filter(|line| line.starts_with("cofferdam_cri_stage_duration_seconds_count"))
            .count(),
        65
    );
    assert!(text.contains("stage=\"other\"} 436\n"), "{text}");
}

#[test]
fn a_call_takes_no_more_than_its_bounds() {
    let collector = Collector::<Reply>::start();
    let (telemetry, _) = start(
        Options {
            otlp: Some(collector.url()),
            ..Options::default()
        },
        &[],
    );
    const NAMES: [&str; 50] = {
        let mut names = ["x"; 50];
        let mut index = 0;
        let all = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWX";
        while index < 50 {
            names[index] = all.split_at(index).1.split_at(1).0;
            index += 1;
        }
        names
    };
    let mut call = telemetry.call("RunPodSandbox", "", None);
    for name in NAMES {
        call.attribute(name, &"é".repeat(1 << 16));
        call.attribute(name, "again");
    }
    call.stages((0..1000).map(|_| ("s", u64::MAX)));
    call.end(Ok(()));
    telemetry.shutdown(LONG);
    let spans = collector.spans();
    assert_eq!(spans.len(), 65);
    assert_eq!(spans[0]["attributes"].as_array().unwrap().len(), 4 + 32);
    assert_eq!(spans[0]["droppedAttributesCount"], 36);
}
