//! Asking a runtime's binary for its version.

use crate::state::clip;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a binary may take to tell its version; a busy machine is slow.
const LIMIT: Duration = Duration::from_secs(10);
/// Pause between looks at a binary that has not ended.
const PAUSE: Duration = Duration::from_millis(2);
/// Most that is read of what it prints, bytes.
const MAX_OUTPUT: u64 = 64 * 1024;

/// Runs `binary --version` and returns its first line.
pub(crate) fn version_of(binary: &Path) -> Result<String, String> {
    output_of(binary, "--version").map(|text| first_line(&text))
}

/// The first line of what a binary prints, bounded.
pub(crate) fn first_line(text: &str) -> String {
    clip(text.lines().next().unwrap_or_default())
}

/// Runs a binary with one argument and returns what it prints.
pub(crate) fn output_of(binary: &Path, argument: &str) -> Result<String, String> {
    output_within(binary, argument, LIMIT)
}

fn output_within(binary: &Path, argument: &str, limit: Duration) -> Result<String, String> {
    let shown = binary.display();
    let mut child = Command::new(binary)
        .arg(argument)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("{shown} cannot be run: {e}"))?;
    let begun = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begun.elapsed() < limit => std::thread::sleep(PAUSE),
            waited => {
                // Where it cannot be killed it is reaped no earlier either: there is nothing to add.
                let _ = child.kill().and_then(|()| child.wait());
                let why = waited.err().map_or_else(|| format!("did not end within {} s and was killed", limit.as_secs_f32()), |e| e.to_string());
                return Err(format!("{shown} {argument} {why}"));
            }
        }
    };
    if !status.success() {
        return Err(format!("{shown} {argument} ended with {status}"));
    }
    let mut bytes = Vec::new();
    if let Some(output) = child.stdout.take() {
        // What it started may hold the pipe open; what it printed itself is in there already.
        rustix::fs::fcntl_setfl(&output, rustix::fs::OFlags::NONBLOCK).map_err(|e| format!("{shown} {argument}: {e}"))?;
        let _ = output.take(MAX_OUTPUT).read_to_end(&mut bytes);
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if text.lines().next().is_none_or(|line| line.trim().is_empty()) { Err(format!("{shown} {argument} printed nothing")) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn asked(script: &str) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runtime");
        // Written by another process: no copy of this one holds it open for writing when it is run.
        let made = Command::new("sh").args(["-c", "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\""]).arg(&path).arg(script).status();
        assert!(made.unwrap().success());
        output_within(&path, "--version", Duration::from_millis(500)).map(|text| first_line(&text)).map_err(|e| e.replace(&path.display().to_string(), "X"))
    }

    #[test]
    fn a_version_is_the_first_line_and_each_failure_has_its_sentence() {
        let rows = [
            ("#!/bin/sh\necho 'runc version 1'; echo more", Ok("runc version 1")),
            ("#!/bin/sh\nexit 3", Err("X --version ended with exit status: 3")),
            ("#!/bin/sh\nexit 0", Err("X --version printed nothing")),
            ("#!/bin/sh\nexec sleep 60", Err("X --version did not end within 0.5 s and was killed")),
            ("#!/bin/sh\nsleep 1 & echo early", Ok("early")),
        ];
        for (script, wanted) in rows {
            assert_eq!(asked(script), wanted.map(str::to_owned).map_err(str::to_owned), "{script}");
        }
        assert!(version_of(Path::new("/none/such")).unwrap_err().contains("cannot be run"));
    }
}
