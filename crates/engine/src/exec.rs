//! Further processes in a container: run and collected, or attached to the caller's streams.

use crate::commands::{self, KILLED};
use crate::failpoint::reach;
use crate::Engine;
use crate::container::KnownContainer;
use crate::sandbox::{Known, failed};
use cofferdam_host::{files, ids};
use cofferdam_model::{ContainerId, PodId};
use cofferdam_model::cri::{ContainerState, ContainerStatus, Error, SandboxState, ExecOutput, ExecRequest, Result};
use cofferdam_monitor::client::AttachStream;
use cofferdam_monitor::protocol::{Exit, Frame, Stdio};
use cofferdam_plan::spec::Process;
use cofferdam_runtimes::Exec;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Most that [`Engine::exec_sync`] keeps of each stream, bytes, as containerd does
/// (`maxExecSyncSize`); the rest is read and dropped.
const MAX_CAPTURE: usize = 16 << 20;

/// A process that was started in a container.
#[derive(Debug)]
pub struct Session {
    key: String,
    dir: PathBuf,
    known: Known,
}

impl Engine {
    /// Runs a command in a container and collects its output.
    pub fn exec_sync(&self, id: &ContainerId, command: &[String], timeout: Duration) -> Result<ExecOutput> {
        self.exec_sync_within(id, command, timeout, MAX_CAPTURE)
    }

    /// As [`Engine::exec_sync`]; of each stream at most `most` bytes are kept, and the rest is read and dropped.
    pub fn exec_sync_within(&self, id: &ContainerId, command: &[String], timeout: Duration, most: usize) -> Result<ExecOutput> {
        let request = ExecRequest { command: command.to_vec(), ..ExecRequest::default() };
        let limit = Some(timeout).filter(|t| !t.is_zero()).and_then(|t| Instant::now().checked_add(t));
        let (session, driver) = self.begin(id, &request, true, None, |_| Stdio::Pipes { log: None, stdin: false, stdin_once: false })?;
        let mut output = ExecOutput::default();
        let waited = self.collect(&session, limit, most, &mut output);
        if !matches!(waited, Ok(Some(_))) {
            // An error here is a process that ended just now.
            let _ = driver.kill_exec(&session.known.pod(self)?, &session.key, &session.dir, id);
            // Only one that has ended can be forgotten.
            let _ = self.monitor(&session.known).map(|monitor| monitor.wait_timeout(&session.key, KILLED));
        }
        reach("exec.ended");
        self.finish(&session);
        match waited? {
            Some(exit) => Ok(ExecOutput { exit_code: driver.exit_code(&exit), ..output }),
            None => Err(Error::Timeout(format!("the command did not end within {} ms and was killed", timeout.as_millis()))),
        }
    }

    /// Reads a session to its end; `None` where it did not end in time.
    fn collect(&self, session: &Session, limit: Option<Instant>, most: usize, output: &mut ExecOutput) -> Result<Option<Exit>> {
        let mut stream = self.attach_session(session)?;
        loop {
            if let Some(limit) = limit {
                let left = limit.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(None);
                }
                stream.reader.limit(Some(left)).map_err(failed)?;
            }
            match stream.reader.next() {
                Some(Ok(Frame::Stdout(piece))) => keep(&mut output.stdout, &piece, most),
                Some(Ok(Frame::Stderr(piece))) => keep(&mut output.stderr, &piece, most),
                Some(Ok(Frame::Exited(exit))) => return Ok(Some(exit)),
                Some(Ok(Frame::Stdin(_) | Frame::Resize(..))) => {}
                Some(Err(cofferdam_monitor::client::Error::Timeout { .. })) => return Ok(None),
                Some(Err(e)) => return Err(failed(e)),
                None => return Err(Error::Failed("the monitor ended before it told how the command ended".into())),
            }
        }
    }

    /// Starts a command in a container, to be attached to with [`Engine::attach_session`].
    pub fn exec(&self, id: &ContainerId, request: &ExecRequest, size: (u16, u16)) -> Result<Session> {
        let stdio = |dir: &Path| {
            if request.tty {
                Stdio::Terminal { log: None, console_socket: dir.join("console.sock"), size }
            } else {
                Stdio::Pipes { log: None, stdin: request.stdin, stdin_once: true }
            }
        };
        self.begin(id, request, false, Some(size).filter(|s| request.tty && *s != (0, 0)), stdio).map(|(session, _)| session)
    }

    /// The streams of a session.
    pub fn attach_session(&self, session: &Session) -> Result<AttachStream> {
        self.monitor(&session.known)?.attach(&session.key).map_err(failed)
    }

    /// The streams of a container's first process.
    pub fn attach_container(&self, id: &ContainerId) -> Result<AttachStream> {
        let (known, ..) = self.running(id)?;
        self.monitor(&known)?.attach(id.as_str()).map_err(failed)
    }

    /// A byte stream to a TCP port of a pod, as its own processes reach it on their loopback.
    pub fn dial(&self, pod: &PodId, port: u16) -> Result<OwnedFd> {
        let known = self.must_know(pod)?;
        if known.result.state != SandboxState::Ready {
            return Err(Error::Precondition(format!("pod sandbox {pod} is not ready; port {port} cannot be reached")));
        }
        let stream = known.driver()?.dial(&known.pod(self)?, port).map_err(failed)?;
        // It still answers, so that the namespace was its own, and not of a process that has its number since.
        if self.monitor(&known)?.monitor_pid() != known.result.monitor_pid {
            return Err(Error::Precondition(format!("pod sandbox {pod} has just ended; port {port} cannot be reached")));
        }
        Ok(stream)
    }

    /// The exit code in what the monitor said of a session.
    pub fn session_code(&self, session: &Session, exit: &Exit) -> Result<i32> {
        Ok(session.known.driver()?.exit_code(exit))
    }

    /// Drops what is kept of a session, as soon as it has ended.
    pub fn finish(&self, session: &Session) {
        let Session { key, known, .. } = session;
        let forgotten = self.monitor(known).is_ok_and(|mut monitor| monitor.forget(key).is_ok());
        if !forgotten && self.command_runs(known, key) {
            return self.disown_command(known, key);
        }
        reach("exec.forgot");
        commands::remove(&known.dirs, key);
    }

    fn begin(
        &self,
        id: &ContainerId,
        request: &ExecRequest,
        collected: bool,
        size: Option<(u16, u16)>,
        stdio: impl FnOnce(&Path) -> Stdio,
    ) -> Result<(Session, Box<dyn cofferdam_runtimes::Driver>)> {
        if request.command.is_empty() {
            return Err(Error::Invalid("no command was given".into()));
        }
        let (known, container, now) = self.running(id)?;
        crate::prove::require(self, &known.record.handler, &known.record.definition)?;
        let driver = known.driver()?;
        let random: String = ids::random_bytes().map_err(failed)?[..6].iter().map(|b| format!("{b:02x}")).collect();
        let key = format!("{}{random}", commands::PREFIX);
        let dir = commands::directory(&known.dirs, &key);
        let exec = Exec {
            key: key.clone(),
            container: id,
            dir: dir.clone(),
            process: Process { console_size: size, ..self.exec_process(&known, &container, request)? },
            cgroup_files: self.further_join_files(&known, id, &now)?,
            stdio: stdio(&dir),
        };
        let session = Session { key, dir, known };
        match self.begin_session(&session, driver.as_ref(), exec, collected) {
            Ok(()) => Ok((session, driver)),
            Err(error) => {
                self.finish(&session);
                Err(error)
            }
        }
    }

    fn begin_session(&self, session: &Session, driver: &dyn cofferdam_runtimes::Driver, exec: Exec<'_>, collected: bool) -> Result<()> {
        let pod = session.known.pod(self)?;
        commands::own(&session.known.dirs, &session.key, exec.container, collected)?;
        reach("exec.owned");
        files::private_dir(&session.dir).map_err(failed)?;
        driver.exec(&pod, exec).map_err(failed)?;
        reach("exec.began");
        Ok(())
    }

    /// The process description that the container itself was made with, with another command.
    fn exec_process(&self, known: &Known, container: &KnownContainer, request: &ExecRequest) -> Result<Process> {
        let mut config = container.record.config.clone();
        config.command.clone_from(&request.command);
        config.args.clear();
        config.tty = request.tty;
        let image = match container.record.image_id.as_str() {
            "" => None,
            id => Some(self.store.resolve(id).map_err(failed)?),
        };
        self.process(&known.record.definition.defaults, &config, image.as_ref())
    }

    fn running(&self, id: &ContainerId) -> Result<(Known, KnownContainer, ContainerStatus)> {
        let (known, container) = self.must_know_container(id)?;
        let now = self.container_status(id)?;
        if now.state == ContainerState::Running {
            return Ok((known, container, now));
        }
        Err(Error::Precondition(format!("container \"{}\" is not running: it is {:?}", container.record.config.name, now.state)))
    }
}

/// What the monitor wrote of a process's end: a line `code nanoseconds timed-out`, then the reply
/// of a server, where one was asked.
pub(crate) fn read_exit(dir: &Path, key: &str) -> Result<Option<Exit>> {
    let path = dir.join(key);
    let bytes = match files::read_bounded(&path, 1 << 20) {
        Ok(bytes) => bytes,
        Err(e) if e.is_absent() => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    parse_exit(key, &bytes)
        .map(Some)
        .ok_or_else(|| Error::Failed(format!("{} is not what a monitor writes", path.display())))
}

fn parse_exit(key: &str, bytes: &[u8]) -> Option<Exit> {
    let end = bytes.iter().position(|b| *b == b'\n')?;
    let line = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut fields = line.split(' ');
    let exit = Exit {
        key: key.to_owned(),
        code: fields.next()?.parse().ok()?,
        at: fields.next()?.parse().ok()?,
        timed_out: fields.next()? != "0",
        reply: bytes[end + 1..].to_vec(),
        stdout: vec![],
        stderr: vec![],
        truncated: false,
    };
    Some(exit)
}

/// Appends what there is room for.
fn keep(stream: &mut Vec<u8>, piece: &[u8], most: usize) {
    let room = most.saturating_sub(stream.len());
    stream.extend_from_slice(&piece[..room.min(piece.len())]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_a_line_and_a_reply() {
        let exit = parse_exit("k", b"137 1234 1\n{\"a\":1}\n");
        assert_eq!(exit.as_ref().map(|e| (e.code, e.at, e.timed_out)), Some((137, 1234, true)));
        assert_eq!(exit.map(|e| e.reply), Some(b"{\"a\":1}\n".to_vec()));
        for bad in [&b""[..], b"1 2\n", b"x 2 1\n", b"1 2 1"] {
            assert_eq!(parse_exit("k", bad), None);
        }
    }
}
