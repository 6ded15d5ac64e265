//! Reading what OCI runtimes leave: their logs, their start fifo.

use crate::{Error, MAX_REASON, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use std::io::Read;
use std::path::Path;

/// The last error in a runtime's JSON log, or its plain tail.
pub(crate) fn last_error(log: &Path) -> Option<String> {
    let mut text = String::new();
    let file = std::fs::File::open(log).ok()?;
    file.take(256 * 1024).read_to_string(&mut text).ok()?;
    let of_line = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).ok()?;
        let message = value.get("msg")?.as_str()?.trim().to_owned();
        let grave = value.get("level").and_then(|l| l.as_str()).is_none_or(|l| l == "error" || l == "fatal");
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
/// `src/libcrun/status.c`): there the container reads.
pub(crate) fn release_by_writing(fifo: &Path) -> Result<()> {
    let fail = |reason: String| Error::File { path: fifo.to_owned(), reason };
    let fd = rustix::fs::open(fifo, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).map_err(|e| match e {
        rustix::io::Errno::NXIO => fail("the container ended before it was started".into()),
        e => fail(format!("the container cannot be started: {e}")),
    })?;
    std::fs::remove_file(fifo).map_err(|e| fail(e.to_string()))?;
    match rustix::io::write(&fd, &[0]) {
        Ok(1) => Ok(()),
        Ok(_) => Err(fail("the container did not take its start".into())),
        Err(e) => Err(fail(format!("the container did not take its start: {e}"))),
    }
}

/// Starts a container that runc created by reading its `exec.fifo`, as `runc start` does (runc,
/// `container_linux.go`), without the cost of a process. Its removal tells the runtime's own tools
/// that the container was started.
pub(crate) fn release_by_reading(fifo: &Path, timeout_secs: i64) -> Result<()> {
    let fail = |reason: String| Error::File { path: fifo.to_owned(), reason };
    let fd = rustix::fs::open(fifo, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| fail(format!("the container cannot be started: {e}")))?;
    let mut polled = [PollFd::new(&fd, PollFlags::IN)];
    let limit = Timespec { tv_sec: timeout_secs, tv_nsec: 0 };
    poll(&mut polled, Some(&limit)).map_err(|e| fail(e.to_string()))?;
    let mut byte = [0u8; 1];
    match rustix::io::read(&fd, &mut byte) {
        Ok(1) => {}
        Ok(_) => return Err(fail("the container ended before it was started".into())),
        Err(e) => return Err(fail(format!("the container did not take its start within {timeout_secs} s: {e}"))),
    }
    std::fs::remove_file(fifo).map_err(|e| fail(e.to_string()))
}
