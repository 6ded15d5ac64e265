//! How things look: tables, sizes, durations, colour on a terminal only.

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use std::fmt::Display;
use std::io::{IsTerminal, Write};

/// A table without lines, as kubectl prints them.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    // Piped output is not wrapped: programs read it by line.
    if std::io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table.set_header(header.iter().map(|h| h.to_uppercase()));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// A line to standard output. Whether anybody reads it must not matter to pods, and `println!` panics
/// where nobody does.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// A line to standard error, likewise: a terminal may have gone away.
pub(crate) fn tell(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Prints a value as JSON.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    say(serde_json::to_string_pretty(value)?);
    Ok(())
}

/// What a pod said, for a terminal: its control characters would be orders to it (CVE-2021-25743). They are
/// shown as kubectl shows them, `^[` for escape; lines and tabs stay.
pub(crate) fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match (c, u8::try_from(u32::from(c))) {
            ('\n' | '\t', _) => out.push(c),
            (_, Ok(byte @ (0..0x20 | 0x7f))) => out.extend(['^', char::from(byte ^ 0x40)]),
            _ if c.is_control() => out.push('\u{fffd}'),
            _ => out.push(c),
        }
    }
    out
}

/// Bytes for people: `12.3Mi`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["", "Ki", "Mi", "Gi", "Ti"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count}") } else { format!("{value:.1}{}", UNITS[unit]) }
}

/// A start time for people: `12.3 ms`.
pub(crate) fn micros(count: u64) -> String {
    if count < 1_000_000 { format!("{:.1} ms", count as f64 / 1e3) } else { format!("{:.2} s", count as f64 / 1e6) }
}

/// Time since a moment, as kubectl shows ages: `5s`, `3m`, `2h`, `4d`.
pub(crate) fn age(since_nanos: i64) -> String {
    if since_nanos == 0 {
        return "-".into();
    }
    let seconds = (cofferdam_host::ids::now_nanos() - since_nanos).max(0) / 1_000_000_000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

/// Text in a colour, where standard output is a terminal and `NO_COLOR` is not set.
pub(crate) fn paint(text: &str, colour: Colour) -> String {
    if !std::io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some() {
        return text.to_owned();
    }
    let code = match colour {
        Colour::Good => 32,
        Colour::Bad => 31,
        Colour::Busy => 33,
        Colour::Faint => 2,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// What a colour says.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Colour {
    Good,
    Bad,
    Busy,
    Faint,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pod_said_gives_a_terminal_no_orders() {
        assert_eq!(harmless("a\x1b]0;t\x07\r\x7f\u{9b}2J\n\té"), "a^[]0;t^G^M^?\u{fffd}2J\n\té");
    }

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!(bytes(512), "512");
        assert_eq!(bytes(1536), "1.5Ki");
        assert_eq!(bytes(64 << 20), "64.0Mi");
        assert_eq!(micros(12_345), "12.3 ms");
        assert_eq!(micros(2_500_000), "2.50 s");
    }
}
