//! Pods that are over and that nobody keeps any more: how each ended, until `stop` removes it. One
//! small file a pod, `<root>/ended/<uid>.json`; its logs stay as long.

use crate::commands::run;
use crate::owner::desk::seen;
use anyhow::{Context, Result};
use cofferdam_host::files::{self, Durability, atomic_write};
use cofferdam_host::{ids, remove};
use cofferdam_node::PodView;
use cofferdam_plan::Layout;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// How many are kept: the oldest go first, with their logs.
const MOST: usize = 256;
/// Greatest size of a file, bytes. A view has a bounded number of events and containers.
const MAX_FILE: u64 = 4 << 20;

/// A pod that is over.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ended {
    /// When it was found to be over, nanoseconds since 1970.
    pub(crate) ended_at: i64,
    /// Its last view, with its exit code.
    pub(crate) view: Value,
}

fn dir(layout: &Layout) -> PathBuf {
    layout.root.join("ended")
}

/// Keeps how a pod ended.
pub(crate) fn write(layout: &Layout, view: &PodView) -> Result<()> {
    let dir = dir(layout);
    files::private_dir(&dir)?;
    let ended = Ended {
        ended_at: ids::now_nanos(),
        view: seen(view),
    };
    let name = plain(&view.uid).context("a pod without a UID is not kept")?;
    atomic_write(dir.join(format!("{name}.json")), &serde_json::to_vec(&ended)?, Durability::Cached)?;
    let all = all(layout);
    for old in all.iter().take(all.len().saturating_sub(MOST)) {
        old.remove(layout)?;
    }
    Ok(())
}

/// All of them, oldest first. A file that cannot be read tells nothing of a pod.
pub(crate) fn all(layout: &Layout) -> Vec<Ended> {
    let entries = std::fs::read_dir(dir(layout)).into_iter().flatten().flatten();
    let paths = entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "json"));
    let read = |path: PathBuf| serde_json::from_slice::<Ended>(&files::read_bounded(path, MAX_FILE).ok()?).ok();
    let mut all: Vec<Ended> = paths.filter_map(read).collect();
    all.sort_by_key(|e| e.ended_at);
    all
}

impl Ended {
    /// A text of its view; empty where there is none.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.view[key].as_str().unwrap_or_default()
    }

    /// Removes its logs, then what is known of it.
    pub(crate) fn remove(&self, layout: &Layout) -> Result<()> {
        let logs = run::dirs(layout).logs;
        if let Some(name) = log_name(self.text("namespace"), self.text("name"), self.text("uid")) {
            clear(&logs.join(name))?;
        }
        match plain(self.text("uid")) {
            Some(uid) => clear(&dir(layout).join(format!("{uid}.json"))),
            None => Ok(()),
        }
    }
}

/// Removes all of them.
pub(crate) fn clear_all(layout: &Layout) -> Result<()> {
    clear(&dir(layout))
}

/// Removes the logs of a pod.
pub(crate) fn remove_logs(layout: &Layout, view: &PodView) -> Result<()> {
    match log_name(&view.namespace, &view.name, &view.uid) {
        Some(name) => clear(&run::dirs(layout).logs.join(name)),
        None => Ok(()),
    }
}

/// The name of the folder of a pod's logs, as the kubelet names it. A pod whose name is no file name
/// was refused before it had logs.
pub(crate) fn log_name(namespace: &str, name: &str, uid: &str) -> Option<String> {
    Some(format!("{}_{}_{}", plain(namespace)?, plain(name)?, plain(uid)?))
}

fn plain(text: &str) -> Option<&str> {
    (!text.is_empty() && !text.starts_with('.') && !text.contains(['/', '\0', '_'])).then_some(text)
}

/// Removes a tree, which another process may be removing too.
pub(crate) fn clear(dir: &Path) -> Result<()> {
    // Whoever meets what the other has just removed begins again, until there is nothing.
    for _ in 0..16 {
        match remove::remove_tree(dir) {
            Err(e) if e.is_absent() => {}
            done => return Ok(done?),
        }
    }
    Ok(remove::remove_tree(dir)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn layout(dir: &Path) -> Layout {
        Layout::new(dir.join("l"), dir.join("s"))
    }

    fn view(uid: &str) -> PodView {
        PodView {
            name: "p".into(),
            namespace: "default".into(),
            uid: uid.into(),
            ended: true,
            ..PodView::default()
        }
    }

    #[test]
    fn the_oldest_go_with_their_logs_where_there_are_too_many() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        let logs = |n: usize| run::dirs(&layout).logs.join(format!("default_p_uid-{n}"));
        for n in 0..MOST + 3 {
            std::fs::create_dir_all(logs(n)).unwrap();
            write(&layout, &view(&format!("uid-{n}"))).unwrap();
        }
        let kept = all(&layout);
        assert_eq!((kept.len(), kept[0].text("uid")), (MOST, "uid-3"));
        assert!(!logs(2).exists() && logs(3).exists());
        kept[0].remove(&layout).unwrap();
        assert!(!logs(3).exists());
        assert_eq!(all(&layout)[0].text("uid"), "uid-4");
    }

    #[test]
    fn what_is_no_record_is_left_out_and_what_is_no_file_name_is_never_removed() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        write(&layout, &view("good")).unwrap();
        std::fs::write(super::dir(&layout).join("bad.json"), "{").unwrap();
        assert_eq!(all(&layout).len(), 1);
        for bad in ["", "..", "a/b", ".hidden"] {
            assert!(write(&layout, &view(bad)).is_err(), "{bad:?}");
        }
    }
}
