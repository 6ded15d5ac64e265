#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::tests::Sink;
use std::time::{Duration, UNIX_EPOCH};

fn lines(format: LogFormat, level: Level, message: &str, fields: &[Field<'_>]) -> String {
    let sink = Sink::default();
    let log = Log::to(format, Level::Debug, Box::new(sink.clone()));
    log.write_at(
        level,
        message,
        fields,
        Instant::now(),
        UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
    );
    sink.text()
}

#[test]
fn a_line_is_one_line_whatever_is_in_it() {
    // (message, field, text)
    let table = [
        ("it is so", ("pod", "ns/web"), "it is so pod=ns/web"),
        ("it is so", ("pod", ""), "it is so pod=\"\""),
        ("a\nERROR b", ("pod", "a b"), "a\\nERROR b pod=\"a b\""),
        (
            "m",
            ("error", "say \"no\"\\\n\u{1b}[2K"),
            "m error=\"say \\\"no\\\"\\\\\\n\\u{1b}[2K\"",
        ),
        ("m", ("x", "a=b"), "m x=\"a=b\""),
        ("m", ("x", "\u{202e}txt"), "m x=\"\\u{202e}txt\""),
    ];
    for (message, field, text) in table {
        let time = "2023-11-14T22:13:20.123Z";
        assert_eq!(
            lines(LogFormat::Text, Level::Warn, message, &[field]),
            format!("{time} WARN  {text}\n")
        );
        assert_eq!(lines(LogFormat::Journal, Level::Warn, message, &[field]), format!("<4>{text}\n"));
        let json = lines(LogFormat::Json, Level::Warn, message, &[field]);
        assert_eq!(json.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        let expected = serde_json::json!({"time": time, "level": "warn", "message": message, field.0: field.1});
        assert_eq!(value, expected);
    }
}

#[test]
fn long_values_are_cut_and_reserved_names_kept() {
    let long = "é".repeat(10_000);
    let text = lines(LogFormat::Text, Level::Info, &long, &[("x", &long)]);
    assert!(text.len() < 9000, "{}", text.len());
    let json = lines(LogFormat::Json, Level::Info, "true", &[("message", "false"), ("level", "x")]);
    assert!(json.contains(r#""level":"info","message":"true"}"#), "{json}");
}

#[test]
fn levels_below_are_not_written() {
    let sink = Sink::default();
    let log = Log::to(LogFormat::Journal, Level::Warn, Box::new(sink.clone()));
    log.info("i", &[]);
    log.debug("d", &[]);
    log.warn("w", &[]);
    log.error("e", &[]);
    assert_eq!(sink.text(), "<4>w\n<3>e\n");
    assert_eq!(log.counts(), ([("error", 1), ("warn", 1), ("info", 0), ("debug", 0)], 0));
}

#[test]
fn the_same_line_is_held_back_and_counted() {
    let sink = Sink::default();
    let log = Log::to(LogFormat::Journal, Level::Info, Box::new(sink.clone()));
    let start = Instant::now();
    let at = |second| (start + Duration::from_secs(second), UNIX_EPOCH);
    for index in 0..100 {
        let (now, time) = at(index / 10);
        let trace = index.to_string();
        log.write_at(Level::Warn, "again", &[("pod", "a"), ("trace_id", &trace)], now, time);
    }
    assert_eq!(sink.text().matches("again").count(), 5);
    assert_eq!(log.counts().1, 95);
    let (now, time) = at(9);
    log.write_at(Level::Warn, "again", &[("pod", "b")], now, time);
    assert_eq!(sink.text().matches("pod=b").count(), 1, "another pod is another line");
    let (now, time) = at(61);
    log.write_at(Level::Info, "other", &[], now, time);
    assert!(sink.text().ends_with("<4>again repeated=95\n<6>other\n"), "{}", sink.text());
    let (now, time) = at(62);
    log.write_at(Level::Warn, "again", &[("pod", "a")], now, time);
    assert!(sink.text().ends_with("<4>again pod=a\n"));
}

#[test]
fn what_is_held_back_is_told_at_the_end() {
    let sink = Sink::default();
    let log = Log::to(LogFormat::Journal, Level::Info, Box::new(sink.clone()));
    for _ in 0..8 {
        log.info("again", &[]);
    }
    log.flush();
    assert!(sink.text().ends_with("<6>again repeated=3\n"));
}

#[test]
fn many_different_lines_are_all_written_and_memory_stays_bounded() {
    let sink = Sink::default();
    let log = Log::to(LogFormat::Journal, Level::Info, Box::new(sink.clone()));
    for index in 0..5000 {
        log.info(&format!("line {index}"), &[]);
    }
    assert_eq!(sink.text().lines().count(), 5000);
}

#[test]
fn names_of_levels_and_formats() {
    for level in Level::ALL {
        assert_eq!(level.name().parse(), Ok(level));
    }
    assert_eq!("json".parse(), Ok(LogFormat::Json));
    assert_eq!("journal".parse(), Ok(LogFormat::Journal));
    assert_eq!("text".parse(), Ok(LogFormat::Text));
    assert!("INFO".parse::<Level>().unwrap_err().contains("error, warn, info or debug"));
    assert!("xml".parse::<LogFormat>().is_err());
}
