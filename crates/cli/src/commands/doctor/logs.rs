//! The end of what a container printed, from its logs in CRI's format.

use crate::commands::pods::text;
use crate::commands::run;
use crate::ended::log_name;
use cofferdam_doctor::pod::MAX_LOG;
use cofferdam_plan::Layout;
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The end of what a container printed in its last two runs: the last may have just begun. Empty where
/// nothing can be read.
pub(super) fn tail(layout: &Layout, view: &Value, container: &str) -> String {
    let pod = log_name(text(view, "namespace"), text(view, "name"), text(view, "uid"));
    let Some(pod) = pod.filter(|_| !container.contains('/') && !container.starts_with('.')) else {
        return String::new();
    };
    let dir = run::dirs(layout).logs.join(pod).join(container);
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let number = |path: &Path| path.file_stem()?.to_str()?.parse::<u32>().ok();
    let mut runs: Vec<(u32, PathBuf)> = entries.filter_map(|e| Some((number(&e.path())?, e.path()))).collect();
    runs.sort();
    let last = runs.split_off(runs.len().saturating_sub(2));
    last.iter()
        .filter_map(|(_, path)| end_of(path))
        .map(|bytes| plain(&bytes))
        .collect()
}

/// Its last [`MAX_LOG`] bytes.
fn end_of(path: &Path) -> Option<Vec<u8>> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok().filter(|meta| meta.is_file())?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_LOG as u64))).ok()?;
    let mut bytes = Vec::new();
    file.take(MAX_LOG as u64).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// What was printed: each line of the log without its time, stream and tag; parts of a line (`P`) are
/// joined. A first line that was cut is left out.
fn plain(log: &[u8]) -> String {
    let mut all = String::new();
    for line in String::from_utf8_lossy(log).split_inclusive('\n') {
        let fields: Vec<&str> = line.splitn(4, ' ').collect();
        if let [_, "stdout" | "stderr", tag, said] = fields.as_slice() {
            all += if *tag == "P" { said.trim_end_matches('\n') } else { said };
        }
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn parts_are_joined_and_what_is_cut_is_left_out() {
        let log = b"stdout F cut\n2026-01-01T00:00:00Z stdout P one, \n2026-01-01T00:00:00Z stdout F two\n2026-01-01T00:00:00Z stderr F three \xff\nnoise\n";
        assert_eq!(plain(log), "one, two\nthree \u{fffd}\n");
    }

    #[test]
    fn the_last_two_runs_count_and_of_each_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), dir.path());
        let logs = run::dirs(&layout).logs.join("default_p_u/app");
        std::fs::create_dir_all(&logs).unwrap();
        let line = |text: &str| format!("t stdout F {text}\n");
        std::fs::write(logs.join("8.log"), line("first")).unwrap();
        std::fs::write(logs.join("9.log"), line(&"x".repeat(MAX_LOG)) + &line("second")).unwrap();
        std::fs::write(logs.join("10.log"), line("third")).unwrap();
        std::fs::write(logs.join("other"), line("fourth")).unwrap();
        let view = serde_json::json!({"namespace": "default", "name": "p", "uid": "u"});
        assert_eq!(tail(&layout, &view, "app"), "second\nthird\n");
        assert_eq!(tail(&layout, &view, "../app"), "");
        assert_eq!(tail(&layout, &view, "none"), "");
    }
}
