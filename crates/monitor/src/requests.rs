//! What a client asks, and the answer.

use crate::awaited::Awaited;
use crate::conn::Mode;
use crate::monitor::Monitor;
use crate::mounts;
use crate::process::{Life, Proc, valid_key, without_output};
use crate::streams::Streams;
use crate::sys;
use cofferdam_monitor::protocol::{MAX_KEYS, Request, Response, VERSION};
use std::os::fd::AsFd;

impl Monitor {
    /// Answers a request, now or later; `false` where the client does not keep to the protocol.
    pub(crate) fn request(&mut self, conn: u64, request: Request) -> bool {
        let new = self.conn(conn).is_some_and(|c| c.mode == Mode::New);
        if new != matches!(request, Request::Hello { .. }) {
            return false;
        }
        match self.answer(conn, request) {
            Ok(None) => {}
            Ok(Some(response)) => self.reply(conn, &response),
            Err(why) => self.reply(conn, &Response::Failed(why)),
        }
        true
    }

    /// The answer; `None` where it comes later or was given.
    fn answer(&mut self, conn: u64, request: Request) -> Result<Option<Response>, String> {
        match request {
            Request::Hello { .. } => {
                let pid = rustix::process::getpid().as_raw_nonzero().get();
                return Ok(Some(Response::Hello { version: VERSION, pid }));
            }
            Request::Mounts(ops) => mounts::apply(&ops)?,
            Request::Spawn(spawn) => return self.spawn(conn, *spawn),
            Request::Await { key, socket, payload } => self.await_reply(key, &socket, payload)?,
            Request::Wait { key } => return self.wait_for(conn, &key),
            Request::Events => {
                self.subscribe(conn);
                return Ok(None);
            }
            Request::Signal { key, signal } => self.signal(&key, signal)?,
            Request::Attach { key } => {
                self.start_attach(conn, &key)?;
                return Ok(None);
            }
            Request::Resize { key, rows, cols } => self.named(&key)?.streams.resize(rows, cols)?,
            Request::ReopenLog { key } => match &mut self.named(&key)?.streams.log {
                Some(log) => log.reopen()?,
                None => return Err(format!("{key} has no log.")),
            },
            Request::List => {
                return Ok(Some(Response::Processes(self.procs.iter().map(Proc::listed).collect())));
            }
            Request::Forget { key } => self.forget(&key)?,
            Request::Shutdown => self.shutdown(conn)?,
        }
        Ok(Some(Response::Ok))
    }

    /// The entry of a key.
    pub(crate) fn named(&mut self, key: &str) -> Result<&mut Proc, String> {
        let found = self.procs.iter_mut().find(|p| p.key == key);
        found.ok_or_else(|| format!("The monitor knows no process {key:?}."))
    }

    /// Checks that a key may be taken.
    pub(crate) fn check_new_key(&self, key: &str) -> Result<(), String> {
        if !valid_key(key) {
            return Err(format!("{key:?} is no key: it takes 1 to 80 letters, digits, '.', '_' and '-'."));
        }
        if self.procs.iter().any(|p| p.key == key) {
            return Err(format!("{key} is taken: forget it when it has ended, or use another key."));
        }
        if self.procs.len() >= MAX_KEYS {
            return Err(format!("The monitor knows {MAX_KEYS} processes already; forget some."));
        }
        Ok(())
    }

    /// Keeps an exit that a server knows; with streams that a spawn left under the key.
    fn await_reply(&mut self, key: String, socket: &str, payload: Vec<u8>) -> Result<(), String> {
        let left = self.procs.iter().position(|p| p.key == key && p.only_streams());
        if left.is_none() {
            self.check_new_key(&key)?;
        }
        let life = Life::Awaited(Awaited::connect(socket, payload)?);
        match left {
            Some(at) => self.procs[at].life = life,
            None => {
                let id = self.new_id();
                self.procs.push(Proc { life, ..Proc::new(id, key, Streams::default()) });
            }
        }
        Ok(())
    }

    fn wait_for(&mut self, conn: u64, key: &str) -> Result<Option<Response>, String> {
        let proc = self.named(key)?;
        let id = proc.id;
        if let Some(exit) = proc.exit() {
            return Ok(Some(Response::Exited(exit.clone())));
        }
        if let Some(conn) = self.conn(conn) {
            conn.mode = Mode::Waiting(id);
        }
        Ok(None)
    }

    fn subscribe(&mut self, conn: u64) {
        let past: Vec<_> = self.procs.iter().filter_map(Proc::exit).map(without_output).collect();
        let Some(conn) = self.conn(conn) else {
            return;
        };
        conn.mode = Mode::Events;
        let pushed = past.into_iter().all(|exit| conn.push(&Response::Exited(exit)).is_ok());
        if !(pushed && conn.flush()) {
            let id = conn.id;
            self.close(id);
        }
    }

    fn signal(&mut self, key: &str, signal: i32) -> Result<(), String> {
        match &self.named(key)?.life {
            Life::Running { pidfd, .. } => sys::pidfd_signal(pidfd.as_fd(), signal)
                .map_err(|e| format!("{key} cannot be sent signal {signal}: {e}")),
            Life::Ended(_) | Life::Told(_) => Err(format!("{key} has ended.")),
            Life::None | Life::Awaited(_) => Err(format!("{key} has no process of the monitor's.")),
        }
    }

    fn start_attach(&mut self, conn: u64, key: &str) -> Result<(), String> {
        let id = self.named(key)?.id;
        self.reply(conn, &Response::Ok);
        if let Some(conn) = self.conn(conn) {
            conn.mode = Mode::Attached(id);
            self.attach(id);
        }
        Ok(())
    }

    fn forget(&mut self, key: &str) -> Result<(), String> {
        let proc = self.named(key)?;
        let id = proc.id;
        if proc.exit().is_none() {
            return Err(format!("{key} has not ended."));
        }
        // Whoever is told that it is forgotten need not find its file.
        let _ = rustix::fs::unlinkat(&self.exit_dir, key, rustix::fs::AtFlags::empty());
        self.drop_proc(id, "it was forgotten");
        Ok(())
    }
}
