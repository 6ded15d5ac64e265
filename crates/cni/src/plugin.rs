//! One call of a plugin's executable: bounded in time and in what it may say.

use crate::error::Failure;
use crate::result::MAX_RESULT;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use serde_json::Value;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What is kept of stderr, bytes.
const MAX_WORDS: usize = 16 << 10;
/// Characters of a plugin's words in an error.
const MAX_SENTENCE: usize = 600;
/// A file that another process has just finished writing may still be open in a third one, forked
/// meanwhile: libcni tries again, too.
const BUSY_TRIES: u32 = 20;

/// A call.
pub(crate) struct Call<'a> {
    pub(crate) path: &'a Path,
    pub(crate) verb: &'static str,
    /// `CNI_…`.
    pub(crate) environment: Vec<(&'static str, OsString)>,
    pub(crate) input: &'a [u8],
    pub(crate) timeout: Duration,
}

/// The executable of a plugin's type, in the first directory that has one.
pub(crate) fn find(kind: &str, dirs: &[PathBuf]) -> Result<PathBuf, Failure> {
    let mut unusable = None;
    for dir in dirs {
        let path = dir.join(kind);
        match std::fs::metadata(&path) {
            Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => return Ok(path),
            Ok(_) => unusable = unusable.or(Some(path)),
            Err(_) => {}
        }
    }
    Err(match unusable {
        Some(path) => Failure::Start {
            path,
            source: io::Error::new(ErrorKind::PermissionDenied, "it is no executable file"),
        },
        None => Failure::Missing { dirs: dirs.to_vec() },
    })
}

/// Runs it and gives what it wrote to stdout, where it ended well.
pub(crate) fn run(call: &Call<'_>) -> Result<Vec<u8>, Failure> {
    let mut child = start(call).map_err(|source| Failure::Start {
        path: call.path.to_owned(),
        source,
    })?;
    let outcome = Talk::begin(&mut child, call).and_then(|mut talk| talk.go().map(|()| talk));
    let talk = match outcome {
        Ok(talk) => talk,
        Err(e) => {
            end(&mut child);
            return Err(e);
        }
    };
    let status = child.wait().map_err(|source| Failure::Io { verb: call.verb, source })?;
    if status.success() {
        Ok(talk.output)
    } else {
        Err(refusal(call.verb, status, &talk.output, &talk.words))
    }
}

fn start(call: &Call<'_>) -> io::Result<Child> {
    let mut command = Command::new(call.path);
    command.envs(call.environment.iter().map(|(k, v)| (k, v)));
    // A group of its own, so that what it starts is ended with it.
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .current_dir("/");
    let mut tries = 0;
    loop {
        match command.spawn() {
            Err(e) if e.kind() == ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(50));
            }
            other => return other,
        }
    }
}

/// Kills the group. The leader is not waited for yet, so its id is nobody else's.
fn end(child: &mut Child) {
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    let _ = child.wait();
}

/// Ends what still runs of calls of `verbs` for a pod whose caller was killed: plugins, and what they
/// started, are known by their environment. What an ADD that succeeded left running is not to be among them.
pub(crate) fn end_strays(id: &str, dirs: &[PathBuf], verbs: &[&str]) {
    let dirs: Vec<_> = dirs.iter().map(|dir| dir.as_os_str().as_bytes()).collect();
    let (id, path) = (format!("CNI_CONTAINERID={id}").into_bytes(), [b"CNI_PATH=", dirs.join(&b':').as_slice()].concat());
    let verbs: Vec<Vec<u8>> = verbs.iter().map(|verb| format!("CNI_COMMAND={verb}").into_bytes()).collect();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| Pid::from_raw(name.parse().ok()?));
        // Opened before it is looked at, so that what is ended is what was seen.
        let Some(Ok(process)) = pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())) else { continue };
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        let has = |wanted: &Vec<u8>| environment.split(|byte| *byte == 0).any(|variable| variable == wanted);
        if has(&id) && has(&path) && verbs.iter().any(has) {
            // One that cannot be ended does not keep DEL from taking back what it can.
            let _ = pidfd_send_signal(&process, Signal::KILL);
            let _ = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&Timespec { tv_sec: 1, tv_nsec: 0 }));
        }
    }
}

/// A child's three streams and its end, all watched at once.
struct Talk<'a> {
    call: &'a Call<'a>,
    deadline: Instant,
    process: OwnedFd,
    stdin: Option<std::process::ChildStdin>,
    stdout: Option<std::process::ChildStdout>,
    stderr: Option<std::process::ChildStderr>,
    written: usize,
    output: Vec<u8>,
    words: Vec<u8>,
}

impl<'a> Talk<'a> {
    fn begin(child: &mut Child, call: &'a Call<'a>) -> Result<Self, Failure> {
        let mut open = || -> io::Result<Self> {
            let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
            let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
            let fds = [
                stdin.as_ref().map(AsFd::as_fd),
                stdout.as_ref().map(AsFd::as_fd),
                stderr.as_ref().map(AsFd::as_fd),
            ];
            for fd in fds.into_iter().flatten() {
                rustix::io::ioctl_fionbio(fd, true)?;
            }
            let deadline = Instant::now() + call.timeout;
            Ok(Self {
                call,
                deadline,
                process,
                stdin,
                stdout,
                stderr,
                written: 0,
                output: Vec::new(),
                words: Vec::new(),
            })
        };
        open().map_err(|source| Failure::Io { verb: call.verb, source })
    }

    /// Until it has ended. A grandchild that keeps the streams open is not waited for.
    fn go(&mut self) -> Result<(), Failure> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::Hung {
                    verb: self.call.verb,
                    seconds: self.call.timeout.as_secs(),
                });
            }
            let ended = self.wait(left).map_err(|source| Failure::Io {
                verb: self.call.verb,
                source,
            })?;
            self.write();
            self.read()?;
            if ended {
                return Ok(());
            }
        }
    }

    /// Waits for anything to happen, and tells whether it is the end.
    fn wait(&self, left: Duration) -> io::Result<bool> {
        let mut fds = vec![PollFd::new(&self.process, PollFlags::IN)];
        fds.extend(self.stdin.as_ref().map(|fd| PollFd::new(fd, PollFlags::OUT)));
        fds.extend(self.stdout.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
        fds.extend(self.stderr.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
        let timeout = Timespec {
            tv_sec: left.as_secs().min(1 << 30) as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(fds[0].revents().contains(PollFlags::IN))
    }

    /// A plugin that does not want all of it may close its end.
    fn write(&mut self) {
        let Some(stdin) = &mut self.stdin else { return };
        let rest = self.call.input.get(self.written..).unwrap_or_default();
        match stdin.write(rest) {
            Ok(count) => self.written += count,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return,
            Err(_) => self.written = self.call.input.len(),
        }
        if self.written >= self.call.input.len() {
            self.stdin = None;
        }
    }

    fn read(&mut self) -> Result<(), Failure> {
        if drain(&mut self.stdout, &mut self.output, MAX_RESULT + 1) {
            self.stdout = None;
        }
        if self.output.len() > MAX_RESULT {
            return Err(Failure::TooMuch {
                verb: self.call.verb,
                max: MAX_RESULT,
            });
        }
        if drain(&mut self.stderr, &mut self.words, MAX_WORDS * 2) {
            self.stderr = None;
        }
        // The last words are those that tell.
        if self.words.len() > MAX_WORDS {
            self.words.drain(..self.words.len() - MAX_WORDS);
        }
        Ok(())
    }
}

/// Reads what is there, up to `max` in all; true at the stream's end.
fn drain(stream: &mut Option<impl Read>, into: &mut Vec<u8>, max: usize) -> bool {
    let Some(stream) = stream else { return false };
    let mut chunk = [0; 8192];
    while into.len() < max {
        match stream.read(&mut chunk) {
            Ok(0) => return true,
            Ok(count) => into.extend(&chunk[..count]),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return e.kind() != ErrorKind::WouldBlock,
        }
    }
    false
}

/// What a plugin that failed says of it.
fn refusal(verb: &'static str, status: ExitStatus, output: &[u8], words: &[u8]) -> Failure {
    if let Some((code, msg, details)) = parse_error(output) {
        return Failure::Refused { verb, code, msg, details };
    }
    let said = if words.iter().all(u8::is_ascii_whitespace) { output } else { words };
    Failure::Died {
        verb,
        status,
        words: sentence(&String::from_utf8_lossy(said)),
    }
}

/// Reads an error as a plugin writes it: its code, message and details.
pub(crate) fn parse_error(output: &[u8]) -> Option<(u64, String, String)> {
    let value: Value = serde_json::from_slice(output).ok()?;
    let code = value.get("code")?.as_u64()?;
    let text = |key| value.get(key).and_then(Value::as_str).map(sentence).unwrap_or_default();
    Some((code, text("msg"), text("details")))
}

/// One line, bounded.
fn sentence(text: &str) -> String {
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|w| !w.is_empty())
        .collect();
    let line = words.join(" ");
    match line.char_indices().nth(MAX_SENTENCE) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}
