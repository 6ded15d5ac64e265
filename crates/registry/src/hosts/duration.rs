//! Durations as Go writes them, which is how containerd reads them.

use std::time::Duration;

/// A duration: numbers, each with its unit, together a day at most; `None` where it is none.
pub(super) fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = next;
    }
    // More than this is no time-out, and adding it to a clock could overflow.
    (total <= Duration::from_secs(24 * 3600)).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, wanted) in [
            ("5s", Some(5_000_000_000)),
            ("500ms", Some(500_000_000)),
            ("1m1.5s", Some(61_500_000_000)),
            ("24h", Some(86_400_000_000_000)),
            ("+7us", Some(7_000)),
            ("7µs", Some(7_000)),
            ("3ns", Some(3)),
            (".5s", Some(500_000_000)),
            ("", None),
            ("+", None),
            ("5", None),
            ("s", None),
            ("5 s", None),
            ("5x", None),
            ("-5s", None),
            ("1.2.3s", None),
            ("25h", None),
            ("99999999999999999999999h", None),
        ] {
            assert_eq!(go_duration(text).map(|duration| duration.as_nanos()), wanted, "{text}");
        }
    }
}
