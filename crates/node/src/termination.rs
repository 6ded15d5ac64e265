//! A container's last word: its termination message file, or the end of its log
//! (`pkg/kubelet/kuberuntime/kuberuntime_container.go`).

use rustix::fs::{CWD, Mode, OFlags, openat};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Where the message file is mounted, where a container names no place.
pub(crate) const DEFAULT_PATH: &str = "/dev/termination-log";
/// Most bytes that are read of a message file, from its end (`tail.ReadAtMost`).
const MAX_MESSAGE: i64 = 4096;
/// Most bytes of the messages of all containers of a pod together (`MaxPodTerminationMessageLogLength`).
const MAX_POD: usize = 12 * 1024;
/// Most bytes that are taken from a log.
const MAX_LOG: usize = 2048;
/// Most lines that are taken from a log.
const MAX_LOG_LINES: usize = 80;

/// The message of a container that ended with `exit_code`.
pub(crate) fn message(file: &Path, log: &Path, policy: Option<&str>, exit_code: i32) -> String {
    let text = read_end(file, MAX_MESSAGE);
    if !text.is_empty() || exit_code == 0 || policy != Some("FallbackToLogsOnError") {
        return text;
    }
    // A line of a log carries a time, a stream and a tag before its text: read more than is kept.
    let raw = read_end(log, 64 * 1024);
    log_tail(&raw)
}

/// A container wrote the file: only a regular file is read, no link is followed, and a missing or
/// unreadable one is an empty message.
fn read_end(path: &Path, most: i64) -> String {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = openat(CWD, path, flags, Mode::empty()) else {
        return String::new();
    };
    let mut file = File::from(file);
    if !file.metadata().is_ok_and(|m| m.is_file()) {
        return String::new();
    }
    // Seeking before the start fails: then the whole file is short enough.
    let cut = file.seek(SeekFrom::End(-most)).is_ok();
    let mut bytes = Vec::new();
    if file.take(most.unsigned_abs()).read_to_end(&mut bytes).is_err() {
        return String::new();
    }
    // The rest of a character that was cut in two is no part of the text.
    let rest = bytes.iter().take(if cut { 3 } else { 0 }).take_while(|b| (0x80..0xc0).contains(*b)).count();
    String::from_utf8_lossy(&bytes[rest..]).into_owned()
}

/// What is told of a container's end: what the runtime says, then the container's last word
/// (`convertToKubeContainerStatus`).
pub(crate) fn joined(of_runtime: String, last_word: String) -> String {
    match (of_runtime.is_empty(), last_word.is_empty()) {
        (true, _) => last_word,
        (_, true) => of_runtime,
        _ => format!("{of_runtime}: {last_word}"),
    }
}

/// The beginning of a message that its container may have, as all `containers` of a pod share one bound
/// (`pkg/kubelet/status/status_manager.go`, `normalizeStatus`).
pub(crate) fn share(message: String, containers: usize) -> String {
    let mut end = MAX_POD / containers.max(1);
    if message.len() <= end {
        return message;
    }
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message[..end].to_owned()
}

/// The texts of the last lines of a log in CRI's format (`TIME STREAM TAG TEXT`).
fn log_tail(raw: &str) -> String {
    let mut text = String::new();
    let lines: Vec<&str> = raw.lines().collect();
    for line in &lines[lines.len().saturating_sub(MAX_LOG_LINES)..] {
        let mut fields = line.splitn(4, ' ');
        let (Some(_), Some("stdout" | "stderr"), Some(tag)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        text.push_str(fields.next().unwrap_or_default());
        if tag != "P" {
            text.push('\n');
        }
    }
    let mut start = text.len().saturating_sub(MAX_LOG);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.split_off(start)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn where_the_message_comes_from() {
        let dir = tempfile::tempdir().unwrap();
        let (file, log) = (dir.path().join("file"), dir.path().join("log"));
        std::fs::write(&log, "2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:01Z stderr P tw\n2026-01-01T00:00:01Z stderr F o\n").unwrap();
        let fallback = Some("FallbackToLogsOnError");
        for (content, policy, code, expected) in [
            ("word", None, 1, "word"),
            ("word", fallback, 1, "word"),
            ("", None, 1, ""),
            ("", Some("File"), 1, ""),
            ("", fallback, 0, ""),
            ("", fallback, 1, "one\ntwo\n"),
        ] {
            std::fs::write(&file, content).unwrap();
            assert_eq!(
                message(&file, &log, policy, code),
                expected,
                "{content:?} {policy:?} {code}"
            );
        }
    }

    #[test]
    fn containers_share_the_bound_of_their_pod() {
        let text = "é".repeat(2000);
        for (containers, expected) in [(1, 4000), (3, 4000), (4, 3072), (5, 2456)] {
            assert_eq!(share(text.clone(), containers).len(), expected, "{containers}");
        }
    }

    #[test]
    fn the_runtime_speaks_first() {
        for (of_runtime, last, expected) in [("", "", ""), ("oom", "", "oom"), ("", "bye", "bye"), ("oom", "bye", "oom: bye")] {
            assert_eq!(joined(of_runtime.into(), last.into()), expected);
        }
    }

    #[test]
    fn bounded_and_never_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        std::fs::write(&file, format!("{}é{}end", "x".repeat(5000), "y".repeat(4092))).unwrap();
        assert_eq!(message(&file, Path::new("/"), None, 1), "y".repeat(4092) + "end", "the end stands, of whole characters");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(message(&link, Path::new("/"), None, 1), "");
        assert_eq!(
            message(&dir.path().join("none"), Path::new("/"), None, 1),
            ""
        );
        let line = format!("t stdout F {}é\n", "x".repeat(3000));
        std::fs::write(link.with_extension("log"), line).unwrap();
        let tail = message(
            &dir.path().join("none"),
            &link.with_extension("log"),
            Some("FallbackToLogsOnError"),
            1,
        );
        assert!(tail.len() <= 2048 && tail.ends_with("é\n"));
    }
}
