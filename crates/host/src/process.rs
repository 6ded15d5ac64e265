//! Processes that cannot be mistaken for another after their id was used again.
#![allow(unsafe_code)]

use crate::{Error, Result, files};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// A signal.
pub use rustix::process::Signal;

/// Which process: an id alone may come back for another, its start time does not. Valid in one
/// boot; records keep the boot's id beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Process id.
    pub pid: i32,
    /// Clock ticks from boot to its start: field 22 of `/proc/<pid>/stat`.
    pub start_ticks: u64,
}

impl Identity {
    /// The process that has `pid` now; `None` where there is none.
    pub fn of(pid: i32) -> Result<Option<Self>> {
        Ok(stat(pid)?.map(|s| Self {
            pid,
            start_ticks: s.start_ticks,
        }))
    }

    /// This process.
    pub fn own() -> Result<Self> {
        let pid = rustix::process::getpid().as_raw_pid();
        Self::of(pid)?.ok_or_else(|| Error::process("find", pid)(rustix::io::Errno::SRCH))
    }

    /// Whether it still runs. One that has ended and was not waited for (a zombie) does not.
    pub fn is_alive(&self) -> Result<bool> {
        Ok(stat(self.pid)?.is_some_and(|s| {
            s.start_ticks == self.start_ticks && !matches!(s.state, b'Z' | b'X' | b'x')
        }))
    }
}

struct Stat {
    state: u8,
    start_ticks: u64,
}

fn stat(pid: i32) -> Result<Option<Stat>> {
    let path = format!("/proc/{pid}/stat");
    let bytes = match files::read_bounded(&path, 4096) {
        Ok(bytes) => bytes,
        Err(e) if e.is_absent() => return Ok(None),
        Err(e) => return Err(e),
    };
    parse_stat(&bytes)
        .map(Some)
        .ok_or_else(|| Error::Malformed {
            path: path.into(),
            reason: "its fields are not those of proc(5)".to_owned(),
        })
}

/// Kills a process and all that descend from it, but those that were given to another parent. They are
/// stopped first, so that none of them makes another meanwhile.
///
/// # Errors
/// Where a process cannot be signalled.
pub fn kill_tree(root: Process) -> Result<()> {
    let mut held = vec![root];
    loop {
        for process in &held {
            process.signal(Signal::STOP)?;
        }
        let known: std::collections::BTreeSet<i32> = held.iter().map(|p| p.identity.pid).collect();
        let before = held.len();
        for pid in children_of(&known)?.difference(&known) {
            // Its parent is stopped: its id is nobody else's, unless somebody kills it just now.
            held.extend(Process::open_pid(*pid)?);
        }
        if held.len() == before || held.len() > MAX_TREE {
            break;
        }
    }
    held.iter().try_for_each(|process| process.signal(Signal::KILL).map(|_| ()))
}

/// Most processes of one tree that are stopped before all are killed.
const MAX_TREE: usize = 4096;

/// The processes whose parent is one of these.
fn children_of(parents: &std::collections::BTreeSet<i32>) -> Result<std::collections::BTreeSet<i32>> {
    let proc = std::path::Path::new("/proc");
    let entries = std::fs::read_dir(proc).map_err(Error::path("list", proc))?;
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    let parent = |pid: i32| {
        let bytes = files::read_bounded(format!("/proc/{pid}/stat"), 4096).ok()?;
        let close = bytes.iter().rposition(|b| *b == b')')?;
        // State, then the parent.
        std::str::from_utf8(bytes.get(close + 1..)?).ok()?.split_ascii_whitespace().nth(1)?.parse::<i32>().ok()
    };
    Ok(pids.filter(|pid| parent(*pid).is_some_and(|p| parents.contains(&p))).collect())
}

/// The command name, in brackets, may hold anything, brackets too; what is counted follows the last.
fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let close = bytes.iter().rposition(|b| *b == b')')?;
    let rest = std::str::from_utf8(bytes.get(close + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    // The state is field 3, the start time field 22.
    let start_ticks = fields.nth(18)?.parse().ok()?;
    Some(Stat { state, start_ticks })
}

/// A hold on one process: what is done through it reaches that process or none.
#[derive(Debug)]
pub struct Process {
    fd: OwnedFd,
    identity: Identity,
}

impl Process {
    /// Opens the process; `None` where it is gone, be its id in use again or not.
    pub fn open(identity: Identity) -> Result<Option<Self>> {
        let Some(fd) = open_pidfd(identity.pid)? else {
            return Ok(None);
        };
        // First the descriptor, then the look: if the look shows the start time that we know, the
        // process was alive after the descriptor was made, so that one is of this process too.
        match Identity::of(identity.pid)? {
            Some(found) if found == identity => Ok(Some(Self { fd, identity })),
            _ => Ok(None),
        }
    }

    /// Opens whatever process has `pid` now; `None` where there is none.
    pub fn open_pid(pid: i32) -> Result<Option<Self>> {
        let Some(fd) = open_pidfd(pid)? else {
            return Ok(None);
        };
        let Some(identity) = Identity::of(pid)? else {
            return Ok(None);
        };
        // The descriptor's process may have ended in between and the id come back.
        let process = Self { fd, identity };
        Ok(if process.signal_raw(0)? {
            Some(process)
        } else {
            None
        })
    }

    /// Which process this is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Sends a signal; false where the process has ended and was waited for.
    pub fn signal(&self, signal: Signal) -> Result<bool> {
        match rustix::process::pidfd_send_signal(&self.fd, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(e) => Err(Error::process("signal", self.identity.pid)(e)),
        }
    }

    /// As [`Process::signal`] with a number; 0 only looks whether the process is there.
    pub fn signal_raw(&self, signal: i32) -> Result<bool> {
        pidfd_signal(self.fd.as_fd(), signal).map_err(Error::process("signal", self.identity.pid))
    }

    /// Waits until the process has ended, at most `timeout`; false where it still runs. Its exit
    /// code goes to its parent alone.
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
            let limit = Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: left.subsec_nanos().into(),
            };
            match rustix::event::poll(&mut fds, Some(&limit)) {
                Ok(ready) => return Ok(ready > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(Error::process("wait for", self.identity.pid)(e)),
            }
        }
    }
}

impl AsFd for Process {
    /// The pidfd: readable once the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn open_pidfd(pid: i32) -> Result<Option<OwnedFd>> {
    // rustix asserts that the number is not negative.
    let Some(raw) = Some(pid).filter(|p| *p > 0).and_then(Pid::from_raw) else {
        return Ok(None);
    };
    match rustix::process::pidfd_open(raw, PidfdFlags::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(e) => Err(Error::process("open", pid)(e)),
    }
}

/// `pidfd_send_signal(2)` with any number, 0 and the real-time signals too, which rustix's type
/// leaves out. False where the process is gone.
fn pidfd_signal(fd: BorrowedFd<'_>, signal: i32) -> std::io::Result<bool> {
    // SAFETY: the descriptor is open for the call's duration; a null siginfo is allowed.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            fd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0u32,
        )
    };
    if answer == 0 {
        return Ok(true);
    }
    match std::io::Error::last_os_error() {
        e if e.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        e => Err(e),
    }
}

/// Proportional set size of a process, bytes: its private memory and its share of what it shares.
/// `None` where the process is gone. Costs the kernel a walk over its page tables.
pub fn pss(pid: i32) -> Result<Option<u64>> {
    let path = format!("/proc/{pid}/smaps_rollup");
    match files::read_bounded(&path, 1 << 16) {
        Ok(bytes) => Ok(Some(parse_pss(&String::from_utf8_lossy(&bytes)))),
        Err(e) if e.is_absent() => Ok(None),
        Err(e) => Err(e),
    }
}

/// A kernel thread or zombie has no such line, and no memory.
fn parse_pss(text: &str) -> u64 {
    text.lines()
        .find_map(|l| l.strip_prefix("Pss:"))
        .and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::process::Command;

    #[test]
    fn stat_is_read_past_any_name() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
        for name in ["sh", "a b", "x) R 1 (y", "))"] {
            let found = parse_stat(format!("12 ({name}) {tail}\n").as_bytes()).unwrap();
            assert_eq!((found.state, found.start_ticks), (b'S', 4711), "{name}");
        }
        for bad in ["", "12 (sh", "12 (sh) S 1 2", "12 (sh)"] {
            assert!(parse_stat(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_process_is_signalled_waited_for_and_not_mistaken() {
        let mut child = Command::new("sleep").arg("100").spawn().unwrap();
        let identity = Identity::of(child.id() as i32).unwrap().unwrap();
        let process = Process::open(identity).unwrap().unwrap();
        assert!(identity.is_alive().unwrap());
        assert!(!process.wait(Duration::from_millis(5)).unwrap());
        // The same id with another start time is another process.
        let other = Identity {
            start_ticks: identity.start_ticks + 1,
            ..identity
        };
        assert!(Process::open(other).unwrap().is_none());
        assert!(!other.is_alive().unwrap());

        assert!(process.signal(Signal::KILL).unwrap());
        assert!(process.wait(Duration::from_secs(10)).unwrap());
        assert!(!identity.is_alive().unwrap(), "a zombie does not run");
        child.wait().unwrap();
        assert!(!process.signal(Signal::KILL).unwrap());
        assert!(Process::open(identity).unwrap().is_none());
        for none in [0, -1, i32::MAX] {
            assert!(Process::open_pid(none).unwrap().is_none(), "{none}");
        }
    }

    #[test]
    fn pss_counts_kibibytes() {
        assert_eq!(
            parse_pss(
                "7f00-7fff ---p 0 00:00 0 [rollup]\nRss:  8 kB\nPss:   3 kB\nPss_Dirty: 1 kB\n"
            ),
            3072
        );
        assert_eq!(parse_pss(""), 0);
        assert!(pss(std::process::id() as i32).unwrap().unwrap() > 4096);
        assert!(pss(i32::MAX).unwrap().is_none());
    }
}
