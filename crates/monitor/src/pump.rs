//! Moving output from processes to logs and clients, and input the other way.

use crate::conn::Mode;
use crate::monitor::Monitor;
use crate::process::{Life, Proc};
use crate::streams::{CHUNK, Read};
use cofferdam_monitor::frame;
use cofferdam_monitor::protocol::{Frame, MAX_ATTACH_FRAME, MAX_FRAME};
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

/// A process without a log waits while more than this waits for one of its clients.
const HOLD: usize = 64 << 10;
/// A client of a process with a log is dropped when more than this waits for it.
const DROP: usize = 256 << 10;
/// Chunks of one stream that are read before others get their turn.
const TURN: usize = 8;
/// How long the end of a process waits for its output, which a descendant may hold open.
pub(crate) const GRACE: Duration = Duration::from_millis(200);

impl Monitor {
    /// Whether a process has to wait for a client to take its output.
    pub(crate) fn held_back(&self, proc: &Proc) -> bool {
        let slow = |mode, backlog| mode == Mode::Attached(proc.id) && backlog > HOLD;
        !proc.streams.must_flow() && self.conns.iter().any(|c| slow(c.mode, c.backlog()))
    }

    /// Reads an output that is ready.
    pub(crate) fn pump(&mut self, id: u64, which: usize) {
        let mut buffer = [MaybeUninit::uninit(); CHUNK];
        for _ in 0..TURN {
            let Some(at) = self.procs.iter().position(|p| p.id == id) else {
                return;
            };
            if self.held_back(&self.procs[at]) {
                return;
            }
            let streams = &mut self.procs[at].streams;
            if !streams.flows() {
                return;
            }
            match streams.read(which, &mut buffer) {
                Read::Data(chunk) => self.fan_out(id, which, chunk),
                Read::Nothing => return,
                Read::Ended => return self.settle(id),
            }
        }
    }

    /// Poll reported something of an output.
    pub(crate) fn output_ready(&mut self, id: u64, which: usize) {
        if let Some(proc) = self.proc(id).filter(|p| p.only_streams() && !p.streams.flows()) {
            // It was watched for its end only.
            proc.streams.outputs[which] = None;
            self.settle(id);
        } else {
            self.pump(id, which);
        }
    }

    fn fan_out(&mut self, id: u64, which: usize, chunk: &[u8]) {
        let limit = self.proc(id).filter(|p| p.streams.must_flow()).map_or(usize::MAX, |_| DROP);
        let nobody = self.attached(id).next().is_none();
        let keeps = nobody && self.proc(id).is_some_and(|p| p.streams.commanding && !p.streams.must_flow());
        if nobody && !keeps {
            return;
        }
        let message = if which == 0 { Frame::Stdout(chunk.to_vec()) } else { Frame::Stderr(chunk.to_vec()) };
        let mut encoded = Vec::new();
        if frame::encode(&message, MAX_FRAME, &mut encoded).is_err() {
            return; // a chunk is far below a frame
        }
        if let Some(proc) = self.proc(id).filter(|_| keeps) {
            proc.streams.ahead.extend_from_slice(&encoded);
            return;
        }
        let mut dead = Vec::new();
        for conn in self.attached(id) {
            conn.push_encoded(&encoded);
            if !conn.flush() || conn.backlog() > limit {
                dead.push(conn.id);
            }
        }
        dead.into_iter().for_each(|conn| self.close(conn));
    }

    /// An output has ended, or nothing more is waited for: goes on with what that held up.
    pub(crate) fn settle(&mut self, id: u64) {
        let Some(proc) = self.proc(id) else {
            return;
        };
        let silent = !proc.streams.open() || !proc.streams.flows();
        match &proc.life {
            Life::Ended(_) if silent => self.tell(id),
            Life::Told(_) if !proc.streams.open() => self.say_goodbye(id),
            Life::None if proc.only_streams() && !proc.streams.open() => self.drop_proc(id, ""),
            _ => {}
        }
    }

    /// The time that an end waits for output is over.
    pub(crate) fn drained(&mut self, id: u64) {
        self.tell(id);
        let Some(at) = self.procs.iter().position(|p| p.id == id) else {
            return;
        };
        let proc = &self.procs[at];
        if proc.streams.unread() && self.held_back(proc) {
            // A client that is slow, not a descendant that is silent.
            self.procs[at].drain_until = Some(Instant::now() + GRACE);
        } else {
            self.say_goodbye(id);
        }
    }

    /// Tells attached clients that this was all.
    fn say_goodbye(&mut self, id: u64) {
        let Some(exit) = self.proc(id).and_then(|p| p.exit()).cloned() else {
            return;
        };
        let goodbye = Frame::Exited(exit);
        let mut done = Vec::new();
        for conn in self.attached(id) {
            conn.mode = Mode::Closing;
            if conn.push(&goodbye).is_err() || !conn.flush() {
                done.push(conn.id);
            }
        }
        done.into_iter().for_each(|conn| self.close(conn));
    }

    /// A client attaches. What a process without a log has written so far comes now.
    pub(crate) fn attach(&mut self, id: u64) {
        if let Some(proc) = self.proc(id) {
            proc.streams.attached = true;
            let ahead = std::mem::take(&mut proc.streams.ahead);
            for conn in self.attached(id) {
                conn.push_encoded(&ahead);
            }
        }
        if let Some(proc) = self.proc(id).filter(|p| p.exit().is_some()) {
            proc.drain_until = Some(Instant::now() + GRACE);
        }
        self.settle(id);
    }

    /// An attached client has left.
    pub(crate) fn detached(&mut self, id: u64) {
        if let Some(proc) = self.proc(id).filter(|p| p.streams.stdin_once) {
            if let Some(stdin) = &mut proc.streams.stdin {
                stdin.push(b"");
            }
            self.flush_stdin(id);
        }
    }

    /// Acts on one frame of an attached client; `None` where there is none to be had now, `false`
    /// where it is garbage.
    pub(crate) fn attached_input(&mut self, conn: u64, id: u64) -> Option<bool> {
        let stdin = self.proc(id).and_then(|p| p.streams.stdin.as_ref());
        if stdin.is_some_and(|stdin| !stdin.has_room()) {
            return None;
        }
        match self.conn(conn)?.take(MAX_ATTACH_FRAME) {
            Ok(None) => return None,
            Ok(Some(Frame::Stdin(input))) => {
                if let Some(stdin) = self.proc(id).and_then(|p| p.streams.stdin.as_mut()) {
                    stdin.push(&input);
                }
                self.flush_stdin(id);
            }
            Ok(Some(Frame::Resize(rows, cols))) => {
                // A client may tell its size to a process without terminal.
                let _ = self.proc(id).map(|p| p.streams.resize(rows, cols));
            }
            _ => return Some(false),
        }
        Some(true)
    }

    /// Writes input that waits.
    pub(crate) fn flush_stdin(&mut self, id: u64) {
        if let Some(proc) = self.proc(id)
            && proc.streams.stdin.as_mut().is_some_and(|stdin| !stdin.flush())
        {
            proc.streams.stdin = None;
        }
    }
}
