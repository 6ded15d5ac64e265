//! Commands of others: no input, little output, and a time limit after which they are killed by id.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long a command may take.
pub(super) const LIMIT: Duration = Duration::from_secs(5);
/// How often its end is looked for.
const STEP: Duration = Duration::from_millis(2);
/// How long its last output is waited for: a child of its own may hold the pipe.
const DRAIN: Duration = Duration::from_millis(200);

/// Runs a command and gives what it printed, at most `max` bytes. The error is the end of a sentence.
pub(super) fn output_of(command: &Path, arguments: &[&str], max: u64, limit: Duration) -> Result<String, String> {
    let mut starting = Command::new(command);
    starting
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that it can be killed whole and no terminal's Ctrl-C reaches it.
        .process_group(0);
    let mut child = spawn(&mut starting).map_err(|e| format!("cannot be run: {e}"))?;
    let (out, err) = (collect(child.stdout.take(), max), collect(child.stderr.take(), 4096));
    let status = wait(&mut child, limit)?;
    let text = |receiver: Receiver<Vec<u8>>| {
        let mut bytes = Vec::new();
        while let Ok(chunk) = receiver.recv_timeout(DRAIN) {
            bytes.extend(chunk);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (out, err) = (text(out), text(err));
    if status.success() {
        return Ok(out);
    }
    let why = err
        .lines()
        .find(|l| !l.trim().is_empty())
        .map(|l| format!(": {}", crate::names::shown(l, 200)));
    Err(format!("ended with {status}{}", why.unwrap_or_default()))
}

/// A binary that is being replaced cannot be run for a moment.
fn spawn(command: &mut Command) -> std::io::Result<Child> {
    for _ in 0..20 {
        match command.spawn() {
            Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy => std::thread::sleep(5 * STEP),
            other => return other,
        }
    }
    command.spawn()
}

fn wait(child: &mut Child, limit: Duration) -> Result<std::process::ExitStatus, String> {
    let begin = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Err(e) => return Err(format!("cannot be waited for: {e}")),
            Ok(None) if begin.elapsed() >= limit => break,
            Ok(None) => std::thread::sleep(STEP),
        }
    }
    // Not reaped yet, so its id, which is its group's, is still its own.
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.wait();
    Err(format!("did not end within {} s and was killed", limit.as_secs_f32()))
}

/// Reads a pipe to its end in a thread of its own; what is beyond `max` is read and dropped, so that
/// the command is not stopped by a full pipe.
fn collect(pipe: Option<impl Read + Send + 'static>, max: u64) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    if let Some(mut pipe) = pipe {
        // Where no thread can be had there is no output, which says enough.
        let _ = std::thread::Builder::new().stack_size(128 << 10).spawn(move || {
            let (mut chunk, mut left) = (vec![0; 8 << 10], max as usize);
            while let Ok(got @ 1..) = pipe.read(&mut chunk) {
                let kept = got.min(left);
                left -= kept;
                if kept > 0 && sender.send(chunk[..kept].to_vec()).is_err() {
                    return;
                }
            }
        });
    }
    receiver
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn sh(script: &str, limit: Duration) -> Result<String, String> {
        output_of(Path::new("/bin/sh"), &["-c", script], 100, limit)
    }

    #[test]
    fn commands_are_bounded_in_output_and_time() {
        assert_eq!(sh("echo yes", LIMIT).unwrap(), "yes\n");
        assert_eq!(sh("head -c 1000000 /dev/zero; echo", LIMIT).unwrap().len(), 100);
        assert_eq!(sh("echo no >&2; exit 3", LIMIT).unwrap_err(), "ended with exit status: 3: no");
        assert!(
            output_of(Path::new("/nonexistent"), &[], 1, LIMIT)
                .unwrap_err()
                .starts_with("cannot be run")
        );
        // A child that holds the pipe is no reason to wait.
        assert_eq!(sh("sleep 2 & echo yes", Duration::from_secs(30)).unwrap(), "yes\n");
        let late = sh("sleep 60 & sleep 60", Duration::from_millis(50)).unwrap_err();
        assert!(late.contains("was killed"), "{late}");
    }
}
