//! Reading what OCI runtimes leave: their logs, their start fifo.

use crate::failpoint::reach;
use crate::{Error, MAX_REASON, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Most that is read of a runtime's log, bytes.
const MAX_LOG: u64 = 256 * 1024;

/// The last error in a runtime's JSON log, or its plain tail.
pub(crate) fn last_error(log: &Path) -> Option<String> {
    let mut file = std::fs::File::open(log).ok()?;
    // The end is where the last error is; a line cut in two is none that can be read.
    let from = file.metadata().ok()?.len().saturating_sub(MAX_LOG);
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut bytes = Vec::new();
    file.take(MAX_LOG).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let of_line = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).ok()?;
        // runc, crun and runsc write `msg`, youki writes `message` and its level in capitals.
        let message = value.get("msg").or_else(|| value.get("message"))?.as_str()?.trim().to_owned();
        let level = value.get("level").and_then(|l| l.as_str()).map(str::to_ascii_lowercase);
        let grave = level.is_none_or(|l| l == "error" || l == "fatal");
        (grave && !message.is_empty()).then_some(message)
    };
    text.lines().rev().find_map(of_line).map(|m| clip(&m))
}

/// Bounds a text and keeps it on one line.
pub(crate) fn clip(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(MAX_REASON).collect()
}

/// Starts a container that crun created by writing to its `exec.fifo`, as `crun start` does (crun,
/// `src/libcrun/status.c`): there the container reads. The fifo goes after that, where crun itself has it
/// go before: a kill in between would leave a container that nobody can start.
pub(crate) fn release_by_writing(fifo: &Path) -> Result<()> {
    let fail = |reason: String| Error::File { path: fifo.to_owned(), reason };
    let fd = rustix::fs::open(fifo, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).map_err(|e| match e {
        rustix::io::Errno::NXIO => {
            // Nobody waits at it: it was let go, or it has ended. While the fifo is there, crun takes it for one
            // that was not started.
            let _ = std::fs::remove_file(fifo);
            fail("the container ended before it was started".into())
        }
        e => fail(format!("the container cannot be started: {e}")),
    })?;
    match rustix::io::write(&fd, &[0]) {
        Ok(1) => {}
        Ok(_) => return Err(fail("the container did not take its start".into())),
        Err(e) => return Err(fail(format!("the container did not take its start: {e}"))),
    }
    reach("release.written");
    std::fs::remove_file(fifo).map_err(|e| fail(e.to_string()))
}

/// Starts a container that runc created by reading its `exec.fifo`, as `runc start` does (runc,
/// `container_linux.go`), without the cost of a process. Its removal tells the runtime's own tools
/// that the container was started.
pub(crate) fn release_by_reading(fifo: &Path, timeout_secs: i64) -> Result<()> {
    let fail = |reason: String| Error::File { path: fifo.to_owned(), reason };
    let fd = rustix::fs::open(fifo, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| fail(format!("the container cannot be started: {e}")))?;
    let mut polled = [PollFd::new(&fd, PollFlags::IN)];
    let soon = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    if poll(&mut polled, Some(&soon)).map_err(|e| fail(e.to_string()))? == 0 {
        if has_gone_on(fifo.parent().unwrap_or(fifo)) {
            // While the fifo is there, runc takes it for one that was not started.
            let _ = std::fs::remove_file(fifo);
            return Err(fail("the container was started before".into()));
        }
        let limit = Timespec { tv_sec: timeout_secs, tv_nsec: 0 };
        poll(&mut polled, Some(&limit)).map_err(|e| fail(e.to_string()))?;
    }
    let mut byte = [0u8; 1];
    match rustix::io::read(&fd, &mut byte) {
        Ok(1) => {}
        Ok(_) => return Err(fail("the container ended before it was started".into())),
        Err(e) => return Err(fail(format!("the container did not take its start within {timeout_secs} s: {e}"))),
    }
    reach("release.read");
    std::fs::remove_file(fifo).map_err(|e| fail(e.to_string()))
}

/// Whether the first process of a container that runc created is not `runc init` any more, which waits at the
/// start fifo (runc, `process_linux.go` and `state.json`).
fn has_gone_on(dir: &Path) -> bool {
    let pid = || {
        let text = std::fs::read(dir.join("state.json")).ok()?;
        serde_json::from_slice::<serde_json::Value>(&text).ok()?["init_process_pid"].as_i64()
    };
    pid().is_some_and(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).map_or(true, |line| !line.ends_with(b"\0init\0")))
}

/// Starts a container that youki created, as `youki start` does: the container waits for one
/// connection to `notify.sock` to be written and closed (libcontainer, `notify_socket.rs`), and the
/// state must say `running`, or later commands refuse it.
pub(crate) fn release_by_notifying(dir: &Path) -> Result<()> {
    let (socket, state) = (dir.join("notify.sock"), dir.join("state.json"));
    let fail = |path: &Path, reason: String| Error::File { path: path.to_owned(), reason };
    let mut stream = UnixStream::connect(&socket).map_err(|e| fail(&socket, format!("the container cannot be started: {e}")))?;
    stream.write_all(b"start container").map_err(|e| fail(&socket, format!("the container did not take its start: {e}")))?;
    drop(stream);
    let text = std::fs::read(&state).map_err(|e| fail(&state, e.to_string()))?;
    let mut value: serde_json::Value = serde_json::from_slice(&text).map_err(|e| fail(&state, e.to_string()))?;
    value["status"] = "running".into();
    std::fs::write(&state, value.to_string()).map_err(|e| fail(&state, e.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_last_error_of_a_log_is_told_in_one_line() {
        let long = "{\"level\":\"info\",\"msg\":\"x\"}\n".repeat(20_000);
        let rows = [
            ("{\"level\":\"error\",\"msg\":\"first\"}\n{\"level\":\"error\",\"msg\":\"the  last\\nof all\"}\n", Some("the last of all")),
            ("{\"level\":\"error\",\"msg\":\"bad\"}\n{\"level\":\"warning\",\"msg\":\"note\"}\n", Some("bad")),
            ("{\"timestamp\":\"t\",\"level\":\"ERROR\",\"message\":\"youki's\",\"target\":\"youki\"}\n", Some("youki's")),
            ("{\"msg\":\"crun has no level\"}\n", Some("crun has no level")),
            ("no json\n{\"level\":\"info\",\"msg\":\"x\"}\n", None),
            (&(long + "{\"level\":\"error\",\"msg\":\"at the end of a long log\"}\n"), Some("at the end of a long log")),
        ];
        let dir = tempfile::tempdir().unwrap();
        for (text, wanted) in rows {
            let path = dir.path().join("log");
            std::fs::write(&path, text).unwrap();
            assert_eq!(last_error(&path).as_deref(), wanted, "{}", clip(text));
        }
        assert_eq!(last_error(&dir.path().join("none")), None);
    }
}
