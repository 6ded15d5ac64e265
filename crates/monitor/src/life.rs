//! How processes come, are adopted, and end.

use crate::awaited::Awaited;
use crate::conn::Mode;
use crate::monitor::Monitor;
use crate::process::{Command, Life, Proc, without_output};
use crate::pump::GRACE;
use crate::spawn;
use crate::streams::Streams;
use crate::sys::{self, sentence};
use cofferdam_monitor::protocol::{Exit, Keep, Response, Spawn};
use rustix::fs::{Mode as FileMode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, WaitOptions, WaitStatus, pidfd_open, wait, waitid};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How much of a command's standard error is told.
const TAIL: u64 = 4096;
/// Events that wait for a subscriber, bytes.
const EVENTS: usize = 256 << 10;
/// How long a shutdown waits for killed processes.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// An end: code and time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    code: i32,
    at: i64,
}

/// Ends of processes that nobody knew. A runtime's command starts a process that may end, and be
/// reaped here, before the command tells its id.
#[derive(Debug, Default)]
pub(crate) struct Orphans(Vec<(i32, End)>);

impl Orphans {
    const MAX: usize = 1024;

    fn put(&mut self, pid: i32, end: End) {
        if self.0.len() == Self::MAX {
            self.0.remove(0);
        }
        self.0.push((pid, end));
    }

    /// The latest, as an id may be used again.
    fn take(&mut self, pid: i32) -> Option<End> {
        let at = self.0.iter().rposition(|(p, _)| *p == pid)?;
        Some(self.0.remove(at).1)
    }
}

fn end_of(status: WaitStatus) -> End {
    let signal = status.terminating_signal().map(|s| 128 + s);
    End { code: status.exit_status().or(signal).unwrap_or(-1), at: now() }
}

/// Nanoseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn pidfd(pid: i32) -> Result<OwnedFd, Errno> {
    pidfd_open(Pid::from_raw(pid).ok_or(Errno::SRCH)?, PidfdFlags::empty())
}

/// Whether this is a child of the monitor's that was not reaped yet.
fn is_child(pid: i32) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Pid::from_raw(pid).is_some_and(|pid| waitid(WaitId::Pid(pid), options).is_ok())
}

impl Monitor {
    /// Spawns; the answer comes later unless the command is what is kept.
    pub(crate) fn spawn(&mut self, conn: u64, spawn: Spawn) -> Result<Option<Response>, String> {
        self.check_new_key(&spawn.key)?;
        let (streams, mut child) = Streams::prepare(&spawn.stdio)?;
        let stderr = spawn.stderr_file.as_deref().map(open_stderr).transpose()?;
        if let Some(file) = &stderr {
            let file = file.try_clone().map_err(|e| format!("A descriptor cannot be had: {e}"))?;
            child.stderr = Some(file);
        }
        let pid = spawn::start(&spawn, &child)?;
        drop(child);
        let id = self.new_id();
        let mut proc = Proc::new(id, spawn.key, streams);
        if spawn.timeout_ms > 0 {
            proc.kill_at = Some(Instant::now() + Duration::from_millis(spawn.timeout_ms.into()));
        }
        if matches!(spawn.keep, Keep::Command) {
            let pidfd = pidfd(pid).map_err(|e| {
                sys::kill(-pid, libc::SIGKILL);
                format!("Process {pid} was killed, as it cannot be kept: {e}")
            })?;
            proc.life = Life::Running { pid, pidfd };
            self.procs.push(proc);
            let stderr = String::new();
            return Ok(Some(Response::Spawned { code: None, pid: Some(pid), stderr, timed_out: false }));
        }
        proc.streams.commanding = true;
        proc.command = Some(Command { pid, keep: spawn.keep, requester: conn, stderr });
        self.procs.push(proc);
        if let Some(conn) = self.conn(conn) {
            conn.mode = Mode::Busy;
        }
        Ok(None)
    }

    /// Reaps what has ended; `false` once there is no child left.
    pub(crate) fn reap(&mut self) -> bool {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.ended(pid.as_raw_nonzero().get(), end_of(status)),
                Ok(None) => return true,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    fn ended(&mut self, pid: i32, end: End) {
        let command = |p: &Proc| p.command.as_ref().is_some_and(|c| c.pid == pid);
        let kept = |p: &Proc| matches!(p.life, Life::Running { pid: kept, .. } if kept == pid);
        if let Some(at) = self.procs.iter().position(command) {
            self.command_ended(self.procs[at].id, end);
        } else if let Some(at) = self.procs.iter().position(kept) {
            self.process_ended(self.procs[at].id, end, Vec::new());
        } else if self.adopting() {
            self.orphans.put(pid, end);
        }
    }

    /// Whether a command runs that will tell a process id.
    fn adopting(&self) -> bool {
        let pid_file = |p: &Proc| p.command.as_ref().is_some_and(|c| matches!(c.keep, Keep::PidFile(_)));
        self.procs.iter().any(pid_file)
    }

    fn command_ended(&mut self, id: u64, end: End) {
        // What the command wrote is there now: it goes to the log before anything else happens.
        self.pump(id, 0);
        self.pump(id, 1);
        let Some(proc) = self.proc(id) else {
            return;
        };
        let Some(command) = proc.command.take() else {
            return;
        };
        proc.kill_at = None;
        proc.streams.commanding = false;
        proc.streams.step_console();
        let terminal_missing = proc.streams.console.take().is_some();
        let stderr = tail(command.stderr.as_ref(), &proc.streams.captured[1]);
        let timed_out = std::mem::take(&mut proc.timed_out);
        let mut pid = None;
        let kept = match command.keep {
            _ if terminal_missing && end.code == 0 => {
                Err("it ended without sending a terminal to its console socket".to_owned())
            }
            Keep::Nothing => Ok(true),
            _ if end.code != 0 || timed_out => Ok(false),
            Keep::PidFile(path) => self.adopt(id, &path).map(|adopted| {
                pid = Some(adopted);
                true
            }),
            Keep::Await { socket, payload } => self.await_after(id, &socket, payload).map(|()| true),
            Keep::Command => Ok(true), // has no command apart
        };
        if !self.adopting() {
            self.orphans = Orphans::default();
        }
        let key = self.proc(id).map(|p| p.key.clone()).unwrap_or_default();
        let response = match &kept {
            Ok(_) => Response::Spawned { code: Some(end.code), pid, stderr, timed_out },
            Err(why) => Response::Failed(format!("The command of {key} is of no use: {why}.")),
        };
        self.reply(command.requester, &response);
        if kept == Ok(true) {
            self.settle(id);
        } else {
            self.drop_proc(id, "its command failed");
        }
    }

    /// Makes the process that a command left behind the one that is kept.
    fn adopt(&mut self, id: u64, path: &Path) -> Result<i32, String> {
        let pid = read_pid(path)?;
        if is_child(pid) {
            // Alive or not yet reaped, so the id cannot be another's.
            let pidfd = pidfd(pid).map_err(|e| format!("process {pid} cannot be kept: {e}"))?;
            if let Some(proc) = self.proc(id) {
                proc.life = Life::Running { pid, pidfd };
            }
        } else if let Some(end) = self.orphans.take(pid) {
            self.process_ended(id, end, Vec::new());
        } else {
            return Err(format!("process {pid}, which {} names, was not left to the monitor", path.display()));
        }
        Ok(pid)
    }

    fn await_after(&mut self, id: u64, socket: &str, payload: Vec<u8>) -> Result<(), String> {
        let awaited = Awaited::connect(socket, payload)?;
        if let Some(proc) = self.proc(id) {
            proc.life = Life::Awaited(awaited);
        }
        Ok(())
    }

    /// Goes on with an awaited exit.
    pub(crate) fn step_awaited(&mut self, id: u64) {
        if let Some(Life::Awaited(awaited)) = self.proc(id).map(|p| &mut p.life)
            && let Some(reply) = awaited.step()
        {
            self.process_ended(id, End { code: -1, at: now() }, reply);
        }
    }

    fn process_ended(&mut self, id: u64, end: End, reply: Vec<u8>) {
        let Some(proc) = self.proc(id) else {
            return;
        };
        proc.life = Life::Ended(Exit {
            key: proc.key.clone(),
            code: end.code,
            at: end.at,
            timed_out: proc.timed_out,
            reply,
            stdout: Vec::new(),
            stderr: Vec::new(),
            truncated: false,
        });
        proc.kill_at = None;
        proc.drain_until = Some(Instant::now() + GRACE);
        self.settle(id);
    }

    /// Tells an end: to the exit directory, to who waits and to who listens. Repeatable.
    pub(crate) fn tell(&mut self, id: u64) {
        let Some(proc) = self.proc(id) else {
            return;
        };
        let Life::Ended(exit) = &mut proc.life else {
            return;
        };
        [exit.stdout, exit.stderr] = proc.streams.take_captured();
        exit.truncated = proc.streams.truncated;
        let exit = exit.clone();
        proc.life = Life::Told(exit.clone());
        // Where it cannot be written, clients are told still; only a monitor's death would lose it.
        let _ = write_exit(&self.exit_dir, &exit);
        let event = Response::Exited(without_output(&exit));
        let waited = Response::Exited(exit);
        for (conn, mode) in self.conns.iter().map(|c| (c.id, c.mode)).collect::<Vec<_>>() {
            match mode {
                Mode::Waiting(waits) if waits == id => self.reply(conn, &waited),
                Mode::Events => self.send_event(conn, &event),
                _ => {}
            }
        }
        self.settle(id);
    }

    fn send_event(&mut self, conn: u64, event: &Response) {
        let Some(conn) = self.conn(conn) else {
            return;
        };
        if conn.push(event).is_err() || !conn.flush() || conn.backlog() > EVENTS {
            let id = conn.id;
            self.close(id);
        }
    }

    /// Drops an entry; who waits for it is told why.
    pub(crate) fn drop_proc(&mut self, id: u64, why: &str) {
        let Some(at) = self.procs.iter().position(|p| p.id == id) else {
            return;
        };
        let proc = self.procs.swap_remove(at);
        for (conn, mode) in self.conns.iter().map(|c| (c.id, c.mode)).collect::<Vec<_>>() {
            if mode == Mode::Waiting(id) {
                self.reply(conn, &Response::Failed(format!("{} has no exit: {why}.", proc.key)));
            }
            if mode == Mode::Attached(id) {
                self.close(conn);
            }
        }
    }

    /// Kills and reaps every child, answers, and ends this process; returns where some child would
    /// not die.
    pub(crate) fn shutdown(&mut self, conn: u64) -> Result<(), String> {
        let deadline = Instant::now() + SHUTDOWN;
        self.kill_children();
        while self.reap() {
            if Instant::now() > deadline {
                let left = children().len();
                return Err(format!("{left} killed processes have not ended within {} s.", SHUTDOWN.as_secs()));
            }
            let mut ready = [rustix::event::PollFd::new(&self.signals, rustix::event::PollFlags::IN)];
            let moment = rustix::event::Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
            let _ = rustix::event::poll(&mut ready, Some(&moment));
            self.clear_signals();
            // What an ended child leaves behind becomes a child of the monitor's.
            self.kill_children();
        }
        for id in self.procs.iter().map(|p| p.id).collect::<Vec<_>>() {
            self.step_awaited(id);
            self.pump(id, 0);
            self.pump(id, 1);
            self.drained(id);
        }
        let _ = rustix::fs::unlink(&self.socket);
        self.procs.clear(); // removes console sockets
        self.reply(conn, &Response::Ok);
        sys::exit_now(0);
    }

    fn kill_children(&self) {
        // By group too: a command's helpers are not children yet.
        self.procs
            .iter()
            .filter(|p| p.command.is_some())
            .filter_map(Proc::group)
            .for_each(|g| sys::kill(-g, libc::SIGKILL));
        let kept = self.procs.iter().filter_map(|p| match p.life {
            Life::Running { pid, .. } => Some(pid),
            _ => None,
        });
        kept.chain(children()).for_each(|pid| sys::kill(pid, libc::SIGKILL));
    }
}

/// The children of this process; none where the kernel does not list them.
fn children() -> Vec<i32> {
    let text = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// The process id in a file that a runtime wrote.
fn read_pid(path: &Path) -> Result<i32, String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|e| sentence(path, "cannot be read", e))?;
    file.take(32).read_to_string(&mut text).map_err(|e| sentence(path, "cannot be read", e))?;
    let pid = text.trim().parse().ok().filter(|pid| *pid > 1);
    pid.ok_or_else(|| format!("{} holds no process id but {text:?}", path.display()))
}

fn open_stderr(path: &Path) -> Result<OwnedFd, String> {
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, FileMode::from_raw_mode(0o640))
        .map_err(|e| sentence(path, "cannot be opened for standard error", e))
}

/// The last of a command's standard error: of its file, else of what was captured.
fn tail(file: Option<&OwnedFd>, captured: &[u8]) -> String {
    let mut buffer = [0; TAIL as usize];
    let bytes = match file {
        None => &captured[captured.len().saturating_sub(TAIL as usize)..],
        Some(file) => {
            let size = rustix::fs::fstat(file).map_or(0, |s| s.st_size as u64);
            let read = rustix::io::pread(file, &mut buffer, size.saturating_sub(TAIL)).unwrap_or(0);
            &buffer[..read]
        }
    };
    String::from_utf8_lossy(bytes).into_owned()
}

/// Writes an exit where it outlives the monitor. The name of the temporary file is no key.
fn write_exit(dir: &OwnedFd, exit: &Exit) -> Result<(), Errno> {
    let (name, flags) = (format!("{}~", exit.key), OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW);
    let file = rustix::fs::openat(dir, name.as_str(), flags | OFlags::CLOEXEC, FileMode::from_raw_mode(0o640))?;
    let mut content = format!("{} {} {}\n", exit.code, exit.at, u8::from(exit.timed_out)).into_bytes();
    content.extend_from_slice(&exit.reply);
    let mut rest = content.as_slice();
    while !rest.is_empty() {
        rest = &rest[rustix::io::write(&file, rest)?..];
    }
    rustix::fs::renameat(dir, name.as_str(), dir, exit.key.as_str())
}
