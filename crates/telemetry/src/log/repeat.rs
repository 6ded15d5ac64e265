//! Lines that come again and again.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use super::{Field, Level};

/// For so long the same line counts as a repetition.
const WINDOW: Duration = Duration::from_secs(60);
/// So many of them are written.
const BURST: u32 = 5;
/// So many different lines are remembered; beyond it, lines are written without being remembered.
const MOST_LINES: usize = 512;
/// Expired entries are looked for so often.
const SWEEP: Duration = Duration::from_secs(1);
/// Fields that differ between occurrences of one and the same event.
const OCCURRENCE: [&str; 3] = ["trace_id", "duration_ms", "stages"];

/// What becomes of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Write,
    Hold,
}

/// A line that was held back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) level: Level,
    pub(super) message: String,
    pub(super) count: u64,
}

#[derive(Debug)]
struct Entry {
    since: Instant,
    seen: u32,
    held: Option<Held>,
}

/// The lines of the last minute.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    lines: HashMap<u64, Entry>,
    swept: Option<Instant>,
}

impl Repeats {
    /// Judges a line, and remembers it.
    pub(super) fn judge(&mut self, level: Level, message: &str, fields: &[Field<'_>], now: Instant) -> Verdict {
        let key = key(level, message, fields);
        let Some(entry) = self.lines.get_mut(&key) else {
            if self.lines.len() < MOST_LINES {
                self.lines.insert(
                    key,
                    Entry {
                        since: now,
                        seen: 1,
                        held: None,
                    },
                );
            }
            return Verdict::Write;
        };
        entry.seen = entry.seen.saturating_add(1);
        if entry.seen <= BURST {
            return Verdict::Write;
        }
        entry
            .held
            .get_or_insert_with(|| Held {
                level,
                message: message.to_owned(),
                count: 0,
            })
            .count += 1;
        Verdict::Hold
    }

    /// Forgets the lines whose minute is over, and gives what was held back of them.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<Held> {
        if self.swept.is_some_and(|at| now.saturating_duration_since(at) < SWEEP) {
            return vec![];
        }
        self.swept = Some(now);
        let over = |entry: &Entry| now.saturating_duration_since(entry.since) >= WINDOW;
        let (gone, kept): (Vec<_>, Vec<_>) = self.lines.drain().partition(|(_, entry)| over(entry));
        self.lines.extend(kept);
        gone.into_iter().filter_map(|(_, entry)| entry.held).collect()
    }

    /// Forgets all.
    pub(super) fn drain(&mut self) -> Vec<Held> {
        self.lines.drain().filter_map(|(_, entry)| entry.held).collect()
    }
}

fn key(level: Level, message: &str, fields: &[Field<'_>]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (level as u8, message).hash(&mut hasher);
    for field in fields.iter().filter(|(name, _)| !OCCURRENCE.contains(name)) {
        field.hash(&mut hasher);
    }
    hasher.finish()
}
