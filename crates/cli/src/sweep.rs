//! Folders of pods that are gone: a process that was killed between a pod's sandbox and its volumes
//! leaves them, and no record of a sandbox leads there.

use crate::commands::run;
use crate::{ended, owner};
use cofferdam_engine::Engine;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Removes the volumes, secrets and logs of pods that have no sandbox, belong to no living process and
/// are not kept as ended. Returns one sentence a finding.
pub(crate) fn sweep(engine: &Engine) -> Vec<String> {
    // Looked at first: whoever made one of these had told its UID before, and nobody makes the UID anew.
    let found = folders(engine);
    if found.is_empty() {
        return vec![];
    }
    let Some(known) = known(engine) else { return vec![] };
    let stale: Vec<_> = found.into_iter().filter(|(uid, _)| !known.contains(uid)).collect();
    let mut said = Vec::new();
    let mut removed = BTreeSet::new();
    for (uid, folder) in stale {
        match ended::clear(&folder) {
            Ok(()) => drop(removed.insert(uid)),
            Err(e) => said.push(format!("{} is of no pod and could not be removed: {e}", folder.display())),
        }
    }
    if !removed.is_empty() {
        said.push(format!("folders of {} pods that are gone are removed", removed.len()));
    }
    said
}

/// The folders of pods, each with the pod's UID.
fn folders(engine: &Engine) -> Vec<(String, PathBuf)> {
    let dirs = run::dirs(engine.layout());
    let by_uid = [dirs.volumes, dirs.secrets].into_iter().flat_map(|dir| entries(&dir));
    let of_log = |(name, path): (String, PathBuf)| (name.rsplit('_').next().unwrap_or_default().to_owned(), path);
    by_uid.chain(entries(&dirs.logs).map(of_log)).collect()
}

fn entries(dir: &Path) -> impl Iterator<Item = (String, PathBuf)> + use<> {
    let all = std::fs::read_dir(dir).into_iter().flatten().flatten();
    all.map(|e| (e.file_name().to_string_lossy().into_owned(), e.path()))
}

/// The UIDs of all pods that there are; `None` where that cannot be known. A pod goes from its owner's
/// views to the ended ones, so those are looked at last.
fn known(engine: &Engine) -> Option<BTreeSet<String>> {
    let peers = owner::peers(engine.layout());
    if !peers.silent.is_empty() {
        return None;
    }
    let mut all: BTreeSet<String> = peers.views().filter_map(|v| v["uid"].as_str().map(str::to_owned)).collect();
    all.extend(engine.list_sandboxes().ok()?.into_iter().map(|s| s.config.uid));
    all.extend(ended::all(engine.layout()).iter().map(|e| e.text("uid").to_owned()));
    Some(all)
}
