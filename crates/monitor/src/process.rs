//! What the monitor knows under a key.

use crate::awaited::Awaited;
use crate::streams::Streams;
use cofferdam_monitor::protocol::{Exit, Keep, Process};
use std::os::fd::OwnedFd;
use std::time::Instant;

/// A command that was spawned and has not ended. With [`Keep::Command`] there is none: it is the
/// kept process.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) pid: i32,
    pub(crate) keep: Keep,
    /// The connection that waits for its end.
    pub(crate) requester: u64,
    /// The file of its standard error.
    pub(crate) stderr: Option<OwnedFd>,
}

/// How it stands with the process that is kept.
#[derive(Debug)]
pub(crate) enum Life {
    /// None is known (yet).
    None,
    /// It runs.
    Running { pid: i32, pidfd: OwnedFd },
    /// A server will tell of its end.
    Awaited(Awaited),
    /// It has ended; output may still be there.
    Ended(Exit),
    /// It has ended and this was told.
    Told(Exit),
}

/// An entry.
#[derive(Debug)]
pub(crate) struct Proc {
    pub(crate) id: u64,
    pub(crate) key: String,
    pub(crate) command: Option<Command>,
    pub(crate) life: Life,
    pub(crate) streams: Streams,
    /// When it is killed.
    pub(crate) kill_at: Option<Instant>,
    pub(crate) timed_out: bool,
    /// How long its end waits for output.
    pub(crate) drain_until: Option<Instant>,
}

impl Proc {
    pub(crate) fn new(id: u64, key: String, streams: Streams) -> Self {
        Self { id, key, command: None, life: Life::None, streams, kill_at: None, timed_out: false, drain_until: None }
    }

    /// The exit, once it was told.
    pub(crate) fn exit(&self) -> Option<&Exit> {
        match &self.life {
            Life::Told(exit) => Some(exit),
            _ => None,
        }
    }

    /// Whether only streams are left of it.
    pub(crate) fn only_streams(&self) -> bool {
        self.command.is_none() && matches!(self.life, Life::None)
    }

    /// The process group that the timeout kills.
    pub(crate) fn group(&self) -> Option<i32> {
        match (&self.command, &self.life) {
            (Some(command), _) => Some(command.pid),
            (None, Life::Running { pid, .. }) => Some(*pid),
            _ => None,
        }
    }

    /// As a list shows it.
    pub(crate) fn listed(&self) -> Process {
        let pid = match &self.life {
            Life::Running { pid, .. } => Some(*pid),
            _ => None,
        };
        let exit = self.exit().map(|exit| Exit { reply: Vec::new(), ..without_output(exit) });
        let log_lost = self.streams.log.as_ref().map_or(0, |log| log.lost);
        Process { key: self.key.clone(), pid, exit, log_lost }
    }
}

/// An exit as events carry it.
pub(crate) fn without_output(exit: &Exit) -> Exit {
    Exit {
        key: exit.key.clone(),
        code: exit.code,
        at: exit.at,
        timed_out: exit.timed_out,
        reply: exit.reply.clone(),
        stdout: Vec::new(),
        stderr: Vec::new(),
        truncated: exit.truncated,
    }
}

/// Whether a key may name a file.
pub(crate) fn valid_key(key: &str) -> bool {
    let fits = (1..=80).contains(&key.len()) && key != "." && key != "..";
    fits && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::valid_key;

    #[test]
    fn keys() {
        for good in ["a", "c1.exec-7_x", "...", &"k".repeat(80)] {
            assert!(valid_key(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a~", "a b", "\u{e9}", "a\n", &"k".repeat(81)] {
            assert!(!valid_key(bad), "{bad}");
        }
    }
}
