//! The event loop. One thread, level-triggered `poll`: what is waited for is computed anew from the
//! state each time, so there is nothing that could be forgotten to be registered.

use crate::conn::{Conn, Mode};
use crate::life::Orphans;
use crate::process::{Life, Proc};
use crate::sys;
use cofferdam_monitor::protocol::{MAX_CONNECTIONS, MAX_FRAME, Response};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SocketFlags, accept_with};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The state of a monitor.
#[derive(Debug)]
pub(crate) struct Monitor {
    pub(crate) socket: PathBuf,
    pub(crate) listener: OwnedFd,
    /// Readable when a child has ended.
    pub(crate) signals: OwnedFd,
    pub(crate) exit_dir: OwnedFd,
    pub(crate) procs: Vec<Proc>,
    pub(crate) conns: Vec<Conn>,
    pub(crate) orphans: Orphans,
    pub(crate) next_id: u64,
}

/// What a descriptor that is waited for is.
#[derive(Debug, Clone, Copy)]
enum Token {
    Listener,
    Signals,
    Conn(u64),
    Output(u64, usize),
    Stdin(u64),
    Console(u64),
    Awaited(u64),
}

impl Monitor {
    pub(crate) fn new(socket: PathBuf, listener: OwnedFd, signals: OwnedFd, exit_dir: OwnedFd) -> Self {
        Self {
            socket,
            listener,
            signals,
            exit_dir,
            procs: Vec::new(),
            conns: Vec::new(),
            orphans: Orphans::default(),
            next_id: 0,
        }
    }

    /// Serves until it is shut down, which ends the process.
    pub(crate) fn run(mut self) -> ! {
        loop {
            let timeout = self.deadlines(Instant::now());
            for (token, flags) in self.wait(timeout) {
                self.handle(token, flags);
            }
            // Requests that came together with one that had to wait.
            for id in self.conns.iter().map(|c| c.id).collect::<Vec<_>>() {
                self.take_input(id);
            }
        }
    }

    pub(crate) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(crate) fn conn(&mut self, id: u64) -> Option<&mut Conn> {
        self.conns.iter_mut().find(|c| c.id == id)
    }

    pub(crate) fn proc(&mut self, id: u64) -> Option<&mut Proc> {
        self.procs.iter_mut().find(|p| p.id == id)
    }

    /// The connections attached to a process.
    pub(crate) fn attached(&mut self, id: u64) -> impl Iterator<Item = &mut Conn> {
        self.conns.iter_mut().filter(move |c| c.mode == Mode::Attached(id))
    }

    fn wait(&self, timeout: Option<Duration>) -> Vec<(Token, PollFlags)> {
        let mut tokens = Vec::new();
        let mut fds = Vec::new();
        let mut want = |token, fd, flags| {
            tokens.push(token);
            fds.push(PollFd::new(fd, flags));
        };
        want(Token::Listener, &self.listener, PollFlags::IN);
        want(Token::Signals, &self.signals, PollFlags::IN);
        for conn in &self.conns {
            want(Token::Conn(conn.id), &conn.fd, self.conn_interest(conn));
        }
        for proc in &self.procs {
            self.proc_interest(proc, &mut want);
        }
        let timeout = timeout.map(|t| Timespec { tv_sec: t.as_secs() as i64, tv_nsec: i64::from(t.subsec_nanos()) });
        // An interrupted poll is one that found nothing.
        let _ = poll(&mut fds, timeout.as_ref());
        let found = fds.iter().map(PollFd::revents);
        tokens.into_iter().zip(found).filter(|(_, flags)| !flags.is_empty()).collect()
    }

    fn conn_interest(&self, conn: &Conn) -> PollFlags {
        let reads = match conn.mode {
            Mode::New | Mode::Idle => conn.backlog() == 0,
            Mode::Attached(id) => {
                let stdin = self.procs.iter().find(|p| p.id == id).and_then(|p| p.streams.stdin.as_ref());
                stdin.is_none_or(|stdin| stdin.has_room())
            }
            _ => false,
        };
        let mut flags = if reads { PollFlags::IN } else { PollFlags::RDHUP };
        flags.set(PollFlags::OUT, conn.backlog() > 0);
        flags
    }

    fn proc_interest<'a>(&'a self, proc: &'a Proc, want: &mut impl FnMut(Token, &'a OwnedFd, PollFlags)) {
        let streams = &proc.streams;
        let flows = streams.flows() && !self.held_back(proc);
        for (which, output) in streams.outputs.iter().enumerate() {
            match output {
                Some(output) if flows => want(Token::Output(proc.id, which), &output.fd, PollFlags::IN),
                // Nobody reads it, but its end is the entry's end.
                Some(output) if proc.only_streams() && !streams.flows() => {
                    want(Token::Output(proc.id, which), &output.fd, PollFlags::empty());
                }
                _ => {}
            }
        }
        if let Some(stdin) = streams.stdin.as_ref().filter(|stdin| stdin.waits()) {
            want(Token::Stdin(proc.id), &stdin.fd, PollFlags::OUT);
        }
        if let Some(console) = &streams.console {
            want(Token::Console(proc.id), console.fd(), PollFlags::IN);
        }
        if let Life::Awaited(awaited) = &proc.life {
            want(Token::Awaited(proc.id), &awaited.fd, awaited.interest());
        }
    }

    fn handle(&mut self, token: Token, flags: PollFlags) {
        match token {
            Token::Listener => self.accept(),
            Token::Signals => {
                self.clear_signals();
                self.reap();
            }
            Token::Conn(id) => self.serve(id, flags),
            Token::Output(id, which) => self.output_ready(id, which),
            Token::Stdin(id) => self.flush_stdin(id),
            Token::Console(id) => {
                if let Some(proc) = self.proc(id) {
                    proc.streams.step_console();
                }
            }
            Token::Awaited(id) => self.step_awaited(id),
        }
    }

    /// Takes what signalfd has; children are found by waiting for them.
    pub(crate) fn clear_signals(&self) {
        let mut buffer = [MaybeUninit::<u8>::uninit(); 512];
        while rustix::io::read(&self.signals, &mut buffer[..]).is_ok() {}
    }

    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = match accept_with(&self.listener, flags) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) => {
                // The client stays in the queue; a rest keeps this from spinning meanwhile.
                return std::thread::sleep(Duration::from_millis(10));
            }
            Err(_) => return,
        };
        let id = self.new_id();
        let mut conn = Conn::new(id, fd);
        if self.conns.len() < MAX_CONNECTIONS {
            self.conns.push(conn);
        } else {
            let why = format!("The monitor has {MAX_CONNECTIONS} connections already; close one.");
            // As much of it as the socket takes; then it is closed.
            let _ = conn.push(&Response::Failed(why));
            conn.flush();
        }
    }

    fn serve(&mut self, id: u64, flags: PollFlags) {
        let Some(conn) = self.conn(id) else {
            return;
        };
        let gone = PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR;
        let alive = if flags.contains(PollFlags::IN) { conn.fill() } else { !flags.intersects(gone) };
        let alive = alive && (!flags.contains(PollFlags::OUT) || conn.flush());
        if !alive {
            return self.close(id);
        }
        self.take_input(id);
    }

    /// Acts on the whole frames that a connection has sent, as far as its mode allows.
    fn take_input(&mut self, id: u64) {
        while let Some(conn) = self.conn(id) {
            let good = match conn.mode {
                Mode::New | Mode::Idle if conn.backlog() == 0 => match conn.take(MAX_FRAME) {
                    Ok(Some(request)) => self.request(id, request),
                    Ok(None) => return,
                    Err(_) => false,
                },
                Mode::Attached(proc) => match self.attached_input(id, proc) {
                    Some(good) => good,
                    None => return,
                },
                _ => return,
            };
            if !good {
                return self.close(id);
            }
        }
    }

    /// Queues an answer, after which the connection may ask again.
    pub(crate) fn reply(&mut self, id: u64, response: &Response) {
        let Some(conn) = self.conn(id) else {
            return;
        };
        conn.mode = Mode::Idle;
        // Every answer fits a frame: captures, replies and keys are bounded for it.
        let good = conn.push(response).is_ok() && conn.flush();
        if !good {
            self.close(id);
        }
    }

    /// Drops a connection.
    pub(crate) fn close(&mut self, id: u64) {
        let Some(at) = self.conns.iter().position(|c| c.id == id) else {
            return;
        };
        let conn = self.conns.swap_remove(at);
        if let Mode::Attached(proc) = conn.mode {
            self.detached(proc);
        }
    }

    /// Does what is due and says how long until the next deadline.
    fn deadlines(&mut self, now: Instant) -> Option<Duration> {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        for id in self.procs.iter().map(|p| p.id).collect::<Vec<_>>() {
            let Some(proc) = self.proc(id) else {
                continue;
            };
            if due(proc.kill_at) {
                proc.kill_at = None;
                proc.timed_out = true;
                if let Some(group) = proc.group() {
                    sys::kill(-group, libc::SIGKILL);
                }
            }
            if due(proc.drain_until) {
                proc.drain_until = None;
                self.drained(id);
            }
        }
        let deadlines = self.procs.iter().flat_map(|p| [p.kill_at, p.drain_until]).flatten();
        deadlines.min().map(|at| at.saturating_duration_since(now))
    }
}
