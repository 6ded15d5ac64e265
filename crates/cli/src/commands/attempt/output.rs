//! What a container wrote, from its log in CRI's format: `TIME STREAM P|F TEXT`.

use serde::Serialize;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Most that is kept of a stream, bytes.
pub(crate) const MAX_STREAM: usize = 1 << 20;
/// Most that is read of a log, bytes: the other stream may fill it.
const MAX_LOG: u64 = 16 << 20;

/// What was written to one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Stream {
    /// The text; what is no UTF-8 is replaced.
    pub(crate) text: String,
    /// Whether there was more than is kept.
    pub(crate) truncated: bool,
}

impl Stream {
    /// The first part of what was written.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let kept = &bytes[..bytes.len().min(MAX_STREAM)];
        Self {
            text: String::from_utf8_lossy(kept).into_owned(),
            truncated: kept.len() < bytes.len(),
        }
    }
}

/// What was written to both streams.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Output {
    /// Standard output; a container with a terminal has only this.
    pub(crate) stdout: Stream,
    /// Standard error.
    pub(crate) stderr: Stream,
}

impl Output {
    /// Whether nothing was written.
    pub(crate) fn is_empty(&self) -> bool {
        self.stdout.text.is_empty() && self.stderr.text.is_empty()
    }
}

/// Reads a log. A container that never began has none.
pub(crate) fn read(path: &Path) -> std::io::Result<Output> {
    match File::open(path) {
        Ok(file) => parse(BufReader::new(file)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Output::default()),
        Err(e) => Err(e),
    }
}

fn parse(log: impl BufRead) -> std::io::Result<Output> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut log = log.take(MAX_LOG);
    let mut line = Vec::new();
    // A line that is not complete is being written, or was cut off by the bound.
    while log.read_until(b'\n', &mut line)? > 0 && line.last() == Some(&b'\n') {
        let mut fields = line.splitn(4, |b| *b == b' ').skip(1);
        if let (Some(stream), Some(tag), Some(text)) = (fields.next(), fields.next(), fields.next()) {
            let text = if tag == b"P" {
                text.strip_suffix(b"\n").unwrap_or(text)
            } else {
                text
            };
            let kept: &mut Vec<u8> = if stream == b"stderr" { &mut err } else { &mut out };
            // One byte more than is kept tells that there was more.
            kept.extend(&text[..text.len().min((MAX_STREAM + 1).saturating_sub(kept.len()))]);
        }
        line.clear();
    }
    let mut output = Output {
        stdout: Stream::of(&out),
        stderr: Stream::of(&err),
    };
    if log.limit() == 0 {
        (output.stdout.truncated, output.stderr.truncated) = (true, true);
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn streams_are_told_apart_and_parts_put_together() {
        let log = b"2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:00Z stderr F bad thing\n\
            2026-01-01T00:00:00Z stdout P tw\n2026-01-01T00:00:00Z stdout F o\nno log\n2026-01-01T00:00:00Z stdout F cut";
        let output = parse(&log[..]).unwrap();
        assert_eq!(
            (output.stdout.text.as_str(), output.stderr.text.as_str()),
            ("one\ntwo\n", "bad thing\n")
        );
        assert!(!output.stdout.truncated && !output.is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let line = format!("t stdout F {}\n", "x".repeat(1000));
        let output = parse(line.repeat(2000).as_bytes()).unwrap();
        assert_eq!(
            (output.stdout.text.len(), output.stdout.truncated, output.stderr.truncated),
            (MAX_STREAM, true, false)
        );
        let output = parse(line.repeat(20_000).as_bytes()).unwrap();
        assert!(output.stderr.truncated, "not all was read");
    }

    #[test]
    fn a_container_that_never_began_wrote_nothing() {
        assert!(read(Path::new("/nonexistent/0.log")).unwrap().is_empty());
    }
}
