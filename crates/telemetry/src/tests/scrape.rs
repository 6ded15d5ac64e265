#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::metrics::store::Store;
use crate::metrics::text::Format;
use crate::metrics::{self, Own};
use crate::{Code, Gauges};

/// A scrape of a small scenario, without the families of the process, which differ from run to run.
fn scenario(format: Format) -> String {
    let store = Store::default();
    store.set_handlers(["runc", "gv\"is\\or\n"]);
    let millis = Duration::from_millis;
    store.begin("RunPodSandbox");
    store.end(
        "RunPodSandbox",
        "runc",
        Code::Ok,
        millis(30),
        [("cgroup", millis(1)), ("network", millis(20))].into_iter(),
    );
    store.begin("RunPodSandbox");
    store.end("RunPodSandbox", "nope", Code::InvalidArgument, millis(400_000), std::iter::empty());
    store.begin("ListContainers");
    let gauges = Gauges {
        pods: vec![
            ("runc".into(), "ready", 2),
            ("gone-a".into(), "ready", 1),
            ("gone-b".into(), "ready", 3),
        ],
        containers: vec![("gv\"is\\or\n".into(), "running", 1)],
        cleanups_failed: 4,
        pulls_in_progress: 1,
    };
    let own = Own {
        exported: 5,
        dropped: 2,
        lines: [("error", 1), ("warn", 2), ("info", 3), ("debug", 0)],
        ..Own::default()
    };
    let text = metrics::write(format, &store, Some(&gauges), &own, "1.2.3");
    let (ours, process) = text.split_once("# HELP process_cpu").unwrap();
    let end = if process.ends_with("# EOF\n") { "# EOF\n" } else { "" };
    format!("{ours}{end}")
}

#[test]
fn the_text_of_prometheus_is_exact() {
    let (text, expected) = (scenario(Format::Prometheus), include_str!("scrape.txt"));
    assert_eq!(text, expected);
}

#[test]
fn openmetrics_differs_in_the_names_of_counters_and_the_end() {
    let mut expected = include_str!("scrape.txt").to_owned();
    for name in [
        "cofferdam_cri_requests",
        "cofferdam_trace_spans",
        "cofferdam_trace_export_failures",
        "cofferdam_log_lines",
    ] {
        for word in ["HELP", "TYPE"] {
            expected = expected.replace(&format!("# {word} {name}_total "), &format!("# {word} {name} "));
        }
    }
    for name in ["cofferdam_log_lines_held_back", "cofferdam_telemetry_connections_refused"] {
        for word in ["HELP", "TYPE"] {
            expected = expected.replace(&format!("# {word} {name}_total "), &format!("# {word} {name} "));
        }
    }
    assert_eq!(scenario(Format::OpenMetrics), format!("{expected}# EOF\n"));
}

#[test]
fn the_format_follows_the_accept_header() {
    // (header, whether OpenMetrics)
    let table = [
        ("", false),
        ("*/*", false),
        ("text/plain", false),
        ("application/openmetrics-text", true),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
            true,
        ),
        ("application/openmetrics-text; version=0.0.1, text/plain;q=0.5", true),
        ("text/plain;q=0.9, application/openmetrics-text;q=0.4", false),
        ("application/openmetrics-text;q=0", false),
        ("application/openmetrics-text;version=2.0.0", false),
        ("application/openmetrics-text;q=x", false),
        ("APPLICATION/OPENMETRICS-TEXT; Q=1", true),
        (";;;,,,=;q", false),
    ];
    for (header, open) in table {
        assert_eq!(Format::of_accept(header) == Format::OpenMetrics, open, "{header}");
    }
}

#[test]
fn the_daemon_itself_is_measured() {
    let (telemetry, _) = listening();
    let text = get(&telemetry, "/metrics").1;
    let value = |name: &str| -> f64 {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")))
            .unwrap_or_else(|| panic!("no {name}"));
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    for name in [
        "process_open_fds",
        "process_max_fds",
        "process_threads",
        "cofferdam_process_proportional_memory_bytes",
    ] {
        assert!(value(name) >= 1.0, "{name}");
    }
    assert!(value("process_virtual_memory_bytes") > value("process_resident_memory_bytes"));
    assert!(value("process_start_time_seconds") > 1.7e9);
    assert!(value("process_cpu_seconds_total") >= 0.0);
    assert_eq!(value("cofferdam_build_info{version=\"1.2.3\"}"), 1.0);
}

#[test]
fn an_engine_that_hangs_costs_the_gauges_alone() {
    let (telemetry, _) = listening();
    assert!(get(&telemetry, "/metrics").1.contains("cofferdam_engine_answers 0\n"));
    telemetry.set_gauges(|| Gauges {
        cleanups_failed: 7,
        ..Gauges::default()
    });
    let text = get(&telemetry, "/metrics").1;
    assert!(
        text.contains("cofferdam_engine_answers 1\n") && text.contains("cofferdam_cleanups_failed 7\n"),
        "{text}"
    );
    telemetry.set_gauges(|| {
        std::thread::sleep(LONG);
        Gauges::default()
    });
    for _ in 0..2 {
        let text = get(&telemetry, "/metrics").1;
        assert!(
            text.contains("cofferdam_engine_answers 0\n") && !text.contains("cofferdam_cleanups_failed"),
            "{text}"
        );
    }
}
