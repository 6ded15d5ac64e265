//! A line of a container's log in CRI's form: time, stream, `P` (a part) or `F` (the end of a line), text
//! (kubernetes/community, contributors/design-proposals/node/kubelet-cri-logging.md).

/// One entry of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEntry<'a> {
    /// RFC 3339 with nanoseconds, as it stands there.
    pub time: &'a str,
    /// Whether it came by standard error.
    pub stderr: bool,
    /// Whether the line goes on in the next entry of its stream.
    pub partial: bool,
    /// What was written, without a line feed.
    pub text: &'a [u8],
}

impl<'a> LogEntry<'a> {
    /// Reads a line, with its line feed or without; `None` where it has not this form.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let mut fields = line.splitn(4, |b| *b == b' ');
        let (time, stream, tag, text) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let time = std::str::from_utf8(time).ok().filter(|t| !t.is_empty() && t.is_ascii())?;
        let stderr = match stream {
            b"stdout" => false,
            b"stderr" => true,
            _ => return None,
        };
        // Tags may be added behind a colon.
        let partial = match tag.split(|b| *b == b':').next() {
            Some(b"P") => true,
            Some(b"F") => false,
            _ => return None,
        };
        Some(Self { time, stderr, partial, text })
    }

    /// Seconds since 1970 of its time; `None` where that is not in UTC as our logs have it.
    pub fn seconds(&self) -> Option<i64> {
        let (date, rest) = self.time.split_once('T')?;
        let clock = rest.strip_suffix('Z')?.split('.').next()?;
        let numbers = |text: &str, by: char| -> Option<[i64; 3]> {
            let mut parts = text.split(by).map(|p| p.parse::<u16>().ok().map(i64::from));
            let all = [parts.next()??, parts.next()??, parts.next()??];
            parts.next().is_none().then_some(all)
        };
        let ([year, month, day], [hours, minutes, seconds]) = (numbers(date, '-')?, numbers(clock, ':')?);
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hours > 23 || minutes > 59 || seconds > 60 {
            return None;
        }
        // Days since 1970 with years that begin in March (Howard Hinnant, "chrono-Compatible
        // Low-Level Date Algorithms").
        let year = if month <= 2 { year - 1 } else { year };
        let era = year.div_euclid(400);
        let of_era = year.rem_euclid(400);
        let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
        Some(days * 86_400 + hours * 3600 + minutes * 60 + seconds)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_entry_has_four_fields() {
        let entry = LogEntry::parse(b"2016-10-06T00:17:09.669794202Z stderr P a b  c\n").unwrap();
        assert_eq!((entry.stderr, entry.partial, entry.text), (true, true, &b"a b  c"[..]));
        assert_eq!(entry.seconds(), Some(1_475_713_029));
        assert_eq!(LogEntry::parse(b"t stdout F:x \n").unwrap().text, b"");
        for bad in [&b""[..], b"\n", b"t stdout F", b"t stdin F x", b"t stdout X x", b" stdout F x", b"\xff stdout F x"] {
            assert_eq!(LogEntry::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn times_are_counted_from_1970() {
        let seconds = |time| LogEntry { time, stderr: false, partial: false, text: b"" }.seconds();
        for (time, wanted) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:00:00.5Z", Some(951_825_600)),
            ("2100-03-01T00:00:00Z", Some(4_107_542_400)),
            ("2024-13-01T00:00:00Z", None),
            ("2024-01-01T00:00:00+01:00", None),
            ("x", None),
        ] {
            assert_eq!(seconds(time), wanted, "{time}");
        }
    }
}
