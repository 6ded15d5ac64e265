//! The text formats of Prometheus.
//!
//! Sources: Prometheus "Exposition formats" (text 0.0.4) and the OpenMetrics 1.0 specification. They differ in what a
//! counter's family is called, in what help texts escape, and in the last line.

use std::fmt::Write as _;

use super::families::{BOUNDS, Family, Kind};
use super::store::Histogram;

/// Which text a scraper takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Prometheus text 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The one that an `Accept` header asks for; Prometheus' own where it says nothing of either.
    pub(crate) fn of_accept(accept: &str) -> Self {
        let (mut open, mut plain) = (0.0, 0.0);
        for range in accept.split(',').take(32) {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let (mut weight, mut version) = (1.0_f64, "");
            for parameter in parts {
                match parameter.split_once('=') {
                    Some((name, value)) if name.trim().eq_ignore_ascii_case("q") => weight = value.trim().parse().unwrap_or(0.0),
                    Some((name, value)) if name.trim().eq_ignore_ascii_case("version") => version = value.trim(),
                    _ => {}
                }
            }
            if kind.eq_ignore_ascii_case("application/openmetrics-text") && matches!(version, "" | "0.0.1" | "1.0.0") {
                open = weight.max(open);
            } else if kind.eq_ignore_ascii_case("text/plain") && matches!(version, "" | "0.0.4") {
                plain = weight.max(plain);
            }
        }
        if open > 0.0 && open >= plain {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// The `Content-Type` of the answer.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Writes one scrape.
pub(crate) struct Writer {
    out: String,
    format: Format,
}

impl Writer {
    pub(crate) fn new(format: Format) -> Self {
        Self {
            out: String::with_capacity(8 * 1024),
            format,
        }
    }

    /// The lines before a family's samples.
    pub(crate) fn family(&mut self, family: &Family) {
        let name = match (self.format, family.kind) {
            (Format::OpenMetrics, Kind::Counter) => family.name.trim_end_matches("_total"),
            _ => family.name,
        };
        let _ = writeln!(self.out, "# HELP {name} {}", family.help);
        let _ = writeln!(self.out, "# TYPE {name} {}", family.kind.name());
    }

    /// One sample, its labels' values in the family's order.
    pub(crate) fn sample(&mut self, family: &Family, values: &[&str], value: f64) {
        self.line(family, "", values, None, value);
    }

    /// A family of one sample without labels.
    pub(crate) fn single(&mut self, family: &Family, value: f64) {
        self.family(family);
        self.sample(family, &[], value);
    }

    /// All samples of one histogram.
    pub(crate) fn histogram(&mut self, family: &Family, values: &[&str], histogram: &Histogram) {
        let mut below = 0;
        for (bound, count) in BOUNDS.iter().zip(histogram.buckets) {
            below += count;
            // Debug writes 1.0 as OpenMetrics wants it, so that one bucket has one name in both formats.
            self.line(family, "_bucket", values, Some(&format!("{bound:?}")), below as f64);
        }
        self.line(family, "_bucket", values, Some("+Inf"), histogram.count as f64);
        self.line(family, "_sum", values, None, histogram.sum());
        self.line(family, "_count", values, None, histogram.count as f64);
    }

    /// The whole text.
    pub(crate) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }

    fn line(&mut self, family: &Family, suffix: &str, values: &[&str], bound: Option<&str>, value: f64) {
        self.out.push_str(family.name);
        self.out.push_str(suffix);
        let labels = family
            .labels
            .iter()
            .copied()
            .zip(values.iter().copied())
            .chain(bound.map(|bound| ("le", bound)));
        let mut mark = '{';
        for (name, value) in labels {
            let _ = write!(self.out, "{mark}{name}=\"");
            escape(&mut self.out, value);
            self.out.push('"');
            mark = ',';
        }
        if mark == ',' {
            self.out.push('}');
        }
        let _ = if value.is_finite() {
            writeln!(self.out, " {value}")
        } else {
            writeln!(self.out, " +Inf")
        };
    }
}

fn escape(out: &mut String, value: &str) {
    for char in value.chars() {
        match char {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            _ => out.push(char),
        }
    }
}
