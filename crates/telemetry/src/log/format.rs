//! How one event becomes one line.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Field, Level, LogFormat};
use crate::cut;

/// Longest message or value, in bytes.
const MOST_VALUE: usize = 4096;
/// Most fields of one event.
const MOST_FIELDS: usize = 32;

/// One line with its end.
pub(super) fn line(format: LogFormat, level: Level, message: &str, fields: &[Field<'_>], time: SystemTime) -> String {
    let fields = &fields[..fields.len().min(MOST_FIELDS)];
    let message = cut(message, MOST_VALUE);
    match format {
        LogFormat::Text => {
            let mut out = format!("{} {:5} ", timestamp(time), level.name().to_ascii_uppercase());
            text(&mut out, message, fields);
            out
        }
        LogFormat::Journal => {
            let mut out = format!("<{}>", priority(level));
            text(&mut out, message, fields);
            out
        }
        LogFormat::Json => json(level, message, fields, time),
    }
}

fn text(out: &mut String, message: &str, fields: &[Field<'_>]) {
    escape(out, message, false);
    for (name, value) in fields {
        let value = cut(value, MOST_VALUE);
        out.push(' ');
        escape(out, name, false);
        out.push('=');
        if value.is_empty() || value.contains(|char: char| char.is_whitespace() || is_odd(char) || "\"=\\".contains(char)) {
            out.push('"');
            escape(out, value, true);
            out.push('"');
        } else {
            out.push_str(value);
        }
    }
    out.push('\n');
}

/// Control characters, line separators and direction marks: what lets a text pose as another line.
fn is_odd(char: char) -> bool {
    char.is_control() || matches!(char, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Odd characters as escapes.
fn escape(out: &mut String, text: &str, quoted: bool) {
    for char in text.chars() {
        match char {
            '"' | '\\' if quoted => {
                out.push('\\');
                out.push(char);
            }
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            _ if is_odd(char) => {
                let _ = write!(out, "\\u{{{:x}}}", char as u32);
            }
            _ => out.push(char),
        }
    }
}

fn json(level: Level, message: &str, fields: &[Field<'_>], time: SystemTime) -> String {
    let mut object = serde_json::Map::new();
    for (name, value) in [("time", timestamp(time).as_str()), ("level", level.name()), ("message", message)] {
        object.insert(name.to_owned(), value.into());
    }
    for (name, value) in fields {
        // A field must not stand in for the time or the message.
        object.entry(*name).or_insert_with(|| cut(value, MOST_VALUE).into());
    }
    let mut out = serde_json::Value::Object(object).to_string();
    out.push('\n');
    out
}

/// syslog(3)'s number.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug => 7,
    }
}

/// RFC 3339 in UTC, with milliseconds.
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, millis) = (since.as_secs(), since.subsec_millis());
    let (year, month, day) = date(seconds / 86_400);
    let second = seconds % 86_400;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{millis:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Year, month and day of a day since 1970, reckoned from the first of March of year 0, which puts the leap day last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, late) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + late, month, day)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_rfc_3339() {
        // (milliseconds since 1970, text), checked with `date -u`.
        let table = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_704_067_199_001, "2023-12-31T23:59:59.001Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ];
        for (millis, text) in table {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_millis(millis)), text);
        }
    }
}
