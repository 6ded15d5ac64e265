//! Structured logs: one line an event, with fields, to standard error.

mod format;
mod repeat;

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};

use crate::lock;
use repeat::{Repeats, Verdict};

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// Something failed that should not.
    Error,
    /// Something is not as it should be, or a caller asked for what cannot be.
    Warn,
    /// What happens in the ordinary course.
    #[default]
    Info,
    /// Every call.
    Debug,
}

impl Level {
    /// All, the gravest first.
    pub(crate) const ALL: [Self; 4] = [Self::Error, Self::Warn, Self::Info, Self::Debug];

    /// `error`, `warn`, `info` or `debug`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

impl std::str::FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|level| level.name() == text);
        found.ok_or_else(|| format!("log level {text:?} is not known; write error, warn, info or debug"))
    }
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// `time LEVEL message key=value`.
    #[default]
    Text,
    /// One JSON object a line: `time`, `level`, `message` and the fields.
    Json,
    /// As text without time and level, behind the priority that journald reads (sd-daemon(3)): `<4>message key=value`.
    Journal,
}

impl std::str::FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "journal" => Ok(Self::Journal),
            _ => Err(format!("log format {text:?} is not known; write text, json or journal")),
        }
    }
}

/// A field of an event: name and value.
pub type Field<'a> = (&'a str, &'a str);

/// Where events go. Cheap to clone; every clone writes to the same place.
///
/// A line that stands in the log already more than a few times within the last minute, with the same fields, is held
/// back and counted; fields that tell one occurrence from the next (`trace_id`, `duration_ms`, `stages`) do not count as
/// a difference. Values are cut at 4 KiB and control characters are written as escapes, so an event is always one line.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    level: Level,
    format: LogFormat,
    out: Mutex<Out>,
    written: [AtomicU64; 4],
    held: AtomicU64,
}

struct Out {
    sink: Box<dyn Write + Send>,
    repeats: Repeats,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Log")
            .field("level", &self.inner.level)
            .field("format", &self.inner.format)
            .finish_non_exhaustive()
    }
}

impl Log {
    /// A log to standard error.
    pub fn new(format: LogFormat, level: Level) -> Self {
        Self::to(format, level, Box::new(std::io::stderr()))
    }

    /// A log to any sink; what cannot be written is lost, never an error.
    pub fn to(format: LogFormat, level: Level, sink: Box<dyn Write + Send>) -> Self {
        let out = Mutex::new(Out {
            sink,
            repeats: Repeats::default(),
        });
        Self {
            inner: Arc::new(Inner {
                level,
                format,
                out,
                written: Default::default(),
                held: AtomicU64::new(0),
            }),
        }
    }

    /// Writes an event at level error.
    pub fn error(&self, message: &str, fields: &[Field<'_>]) {
        self.write(Level::Error, message, fields);
    }

    /// Writes an event at level warn.
    pub fn warn(&self, message: &str, fields: &[Field<'_>]) {
        self.write(Level::Warn, message, fields);
    }

    /// Writes an event at level info.
    pub fn info(&self, message: &str, fields: &[Field<'_>]) {
        self.write(Level::Info, message, fields);
    }

    /// Writes an event at level debug.
    pub fn debug(&self, message: &str, fields: &[Field<'_>]) {
        self.write(Level::Debug, message, fields);
    }

    /// Whether events of this level are written at all.
    pub fn writes(&self, level: Level) -> bool {
        level <= self.inner.level
    }

    /// Writes an event.
    pub fn write(&self, level: Level, message: &str, fields: &[Field<'_>]) {
        if self.writes(level) {
            self.write_at(level, message, fields, Instant::now(), SystemTime::now());
        }
    }

    fn write_at(&self, level: Level, message: &str, fields: &[Field<'_>], now: Instant, time: SystemTime) {
        let mut out = lock(&self.inner.out);
        for late in out.repeats.expired(now) {
            self.tell_repeats(&mut out, &late, time);
        }
        match out.repeats.judge(level, message, fields, now) {
            Verdict::Write => self.put(&mut out, level, &format::line(self.inner.format, level, message, fields, time)),
            Verdict::Hold => {
                self.inner.held.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Tells of lines that are still held back.
    pub(crate) fn flush(&self) {
        let mut out = lock(&self.inner.out);
        for late in out.repeats.drain() {
            self.tell_repeats(&mut out, &late, SystemTime::now());
        }
        let _ = out.sink.flush();
    }

    /// Lines written by level, and lines held back.
    pub(crate) fn counts(&self) -> ([(&'static str, u64); 4], u64) {
        let written = Level::ALL.map(|level| (level.name(), self.inner.written[level as usize].load(Ordering::Relaxed)));
        (written, self.inner.held.load(Ordering::Relaxed))
    }

    fn tell_repeats(&self, out: &mut Out, late: &repeat::Held, time: SystemTime) {
        let count = late.count.to_string();
        let line = format::line(self.inner.format, late.level, &late.message, &[("repeated", &count)], time);
        self.put(out, late.level, &line);
    }

    fn put(&self, out: &mut Out, level: Level, line: &str) {
        self.inner.written[level as usize].fetch_add(1, Ordering::Relaxed);
        // One write a line, so that lines of several processes on one pipe do not mix.
        let _ = out.sink.write_all(line.as_bytes());
    }
}

#[cfg(test)]
mod tests;
