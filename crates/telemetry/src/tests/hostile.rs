#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
//! Nothing that comes from outside makes anything panic, or leaves its line.

use super::{Sink, start};
use crate::metrics::families::REQUESTS;
use crate::metrics::text::{Format, Writer};
use crate::trace::context::Context;
use crate::trace::{json, proto, settings};
use crate::{Code, Level, Log, LogFormat, Options, attribute};
use proptest::prelude::*;

proptest! {
    #[test]
    fn headers_and_variables(text in ".{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Context::parse(&text);
        let _ = Format::of_accept(&text);
        let _ = (json::refused(&bytes), json::error(&bytes), proto::refused(&bytes), proto::error(&bytes));
        let _ = settings::resolve(Some(&text), None, None, &|_| None);
        let (found, _) = settings::resolve(Some("http://c"), None, None, &|_| Some(text.clone())).unwrap();
        for (name, value) in found.map(|found| found.headers).unwrap_or_default() {
            prop_assert!(ureq::http::HeaderName::from_bytes(name.as_bytes()).is_ok(), "{name:?}");
            prop_assert!(ureq::http::HeaderValue::from_str(&value).is_ok(), "{value:?}");
        }
    }

    #[test]
    fn a_near_traceparent(at in 0..55_usize, byte in any::<char>()) {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let near = format!("{}{byte}{}", &good[..at], &good[at + 1..]);
        let _ = Context::parse(&near);
    }

    #[test]
    fn an_event_is_one_line(message in any::<String>(), name in any::<String>(), value in any::<String>()) {
        for format in [LogFormat::Text, LogFormat::Json, LogFormat::Journal] {
            let sink = Sink::default();
            Log::to(format, Level::Info, Box::new(sink.clone())).info(&message, &[(&name, &value)]);
            let text = sink.text();
            prop_assert!(text.ends_with('\n') && text.matches('\n').count() == 1 && !text.contains(['\r', '\u{1b}']), "{text:?}");
        }
    }

    #[test]
    fn a_sample_is_one_line(label in any::<String>()) {
        let mut out = Writer::new(Format::Prometheus);
        out.sample(&REQUESTS, &["v", &label, "OK"], 1.0);
        let text = out.finish();
        prop_assert_eq!(text.matches('\n').count(), 1);
        let inner = text.strip_prefix("cofferdam_cri_requests_total{verb=\"v\",handler=\"").unwrap();
        let inner = inner.strip_suffix("\",code=\"OK\"} 1\n").unwrap();
        let back = inner.replace("\\\\", "\u{0}").replace("\\n", "\n").replace("\\\"", "\"").replace('\u{0}', "\\");
        prop_assume!(!label.contains('\u{0}'));
        prop_assert_eq!(back, label);
    }

    #[test]
    fn a_call_takes_anything(text in any::<String>(), micros in any::<u64>(), number in any::<i32>()) {
        let (telemetry, sink) = start(Options::default(), &[]);
        let mut call = telemetry.call("RunPodSandbox", &text, Some(&text));
        call.attribute(attribute::POD, &text);
        call.stages([(text.as_str(), micros), ("x", u64::MAX)]);
        call.end(Err((Code::from_number(number), &text)));
        prop_assert_eq!(sink.text().lines().count(), 1);
    }
}
