//! The log of a container, in the format that the kubelet reads:
//! `2016-10-06T00:17:09.669794202Z stdout F line`, with `P` for a line that goes on in the next
//! entry (kubernetes/community, contributors/design-proposals/node/kubelet-cri-logging.md).

use crate::sys;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A line longer than this is written in pieces, as containerd does it.
pub(crate) const MAX_LINE: usize = 16 << 10;
/// Entries are written once this much of them is there.
const BATCH: usize = 32 << 10;

/// Which output stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A log file that is open.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: OwnedFd,
    /// Bytes of entries that could not be written.
    pub(crate) lost: u64,
    /// The last write broke off within an entry.
    broken: bool,
}

impl Log {
    pub(crate) fn open(path: PathBuf) -> Result<Self, String> {
        let file = open_file(&path)?;
        Ok(Self { path, file, lost: 0, broken: false })
    }

    /// Opens the file anew; the old one stays where that fails.
    pub(crate) fn reopen(&mut self) -> Result<(), String> {
        self.file = open_file(&self.path)?;
        self.broken = false;
        Ok(())
    }

    /// Writes entries. A full disk loses them, never the container: what is lost is counted.
    fn write(&mut self, mut entries: &[u8]) {
        if self.broken && rustix::io::write(&self.file, b"\n") == Ok(1) {
            self.broken = false;
        }
        while !entries.is_empty() {
            match rustix::io::write(&self.file, entries) {
                Ok(n) => {
                    self.broken = n < entries.len() && n > 0;
                    entries = &entries[n..];
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => {
                    self.lost += entries.len() as u64;
                    return;
                }
            }
        }
    }

    /// Writes the lines of `chunk`; an unfinished last one waits in `rest` for the next chunk.
    pub(crate) fn chunk(&mut self, stream: Stream, rest: &mut Vec<u8>, chunk: &[u8]) {
        let stamp = now();
        let mut batch = Vec::new();
        for piece in chunk.split_inclusive(|&b| b == b'\n') {
            let (mut line, ended) = match piece.strip_suffix(b"\n") {
                Some(line) => (line, true),
                None => (piece, false),
            };
            while rest.len() + line.len() > MAX_LINE {
                let (now, later) = line.split_at(MAX_LINE - rest.len());
                entry(&mut batch, &stamp, stream, 'P', rest, now);
                *rest = Vec::new();
                line = later;
            }
            if ended {
                entry(&mut batch, &stamp, stream, 'F', rest, line);
                *rest = Vec::new();
            } else {
                rest.extend_from_slice(line);
            }
            if batch.len() > BATCH {
                self.write(&batch);
                batch.clear();
            }
        }
        self.write(&batch);
    }

    /// Writes what was left of a line when the stream ended.
    pub(crate) fn end(&mut self, stream: Stream, rest: &mut Vec<u8>) {
        if !rest.is_empty() {
            let mut batch = Vec::new();
            entry(&mut batch, &now(), stream, 'P', rest, b"");
            *rest = Vec::new();
            self.write(&batch);
        }
    }
}

fn entry(batch: &mut Vec<u8>, stamp: &str, stream: Stream, tag: char, head: &[u8], tail: &[u8]) {
    // Writing to a vector cannot fail.
    let _ = write!(batch, "{stamp} {} {tag} ", stream.name());
    batch.extend_from_slice(head);
    batch.extend_from_slice(tail);
    batch.push(b'\n');
}

/// Nothing but a plain file will do: opening or writing a fifo could stop the monitor.
fn open_file(path: &Path) -> Result<OwnedFd, String> {
    use rustix::fs::{FileType, Mode, OFlags};
    let flags = OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::CLOEXEC;
    let failed = |e| sys::sentence(path, "cannot be opened as a log", e);
    let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o640)).map_err(failed)?;
    let stat = rustix::fs::fstat(file.as_fd()).map_err(failed)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(format!("{} cannot be a log: it is not a plain file", path.display()));
    }
    Ok(file)
}

fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(since.as_secs(), since.subsec_nanos())
}

/// RFC 3339 with nine digits of nanoseconds, UTC. The calendar is that of Howard Hinnant's
/// `civil_from_days`.
fn rfc3339(seconds: u64, nanos: u32) -> String {
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468; // days since 0000-03-01
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let rows = [
            (0, 0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_399, 1, "2000-02-28T23:59:59.000000001Z"),
            (951_782_400, 0, "2000-02-29T00:00:00.000000000Z"),
            (951_868_800, 0, "2000-03-01T00:00:00.000000000Z"),
            (1_475_713_029, 669_794_202, "2016-10-06T00:17:09.669794202Z"),
            (1_709_164_800, 999_999_999, "2024-02-29T00:00:00.999999999Z"),
            (1_735_689_599, 5, "2024-12-31T23:59:59.000000005Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000000000Z"),
        ];
        for (seconds, nanos, text) in rows {
            assert_eq!(rfc3339(seconds, nanos), text);
        }
    }
}
