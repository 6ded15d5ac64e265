//! What is to be written, and what is there: decided whole before the first file is touched.

use super::journal::{Entry, Held, Journal, Now, Prefix, Seen};
use anyhow::{Result, bail};
use serde::Serialize;
use std::path::PathBuf;

/// Mode of what is new.
const MODE: u32 = 0o644;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only where there is none: it is the machine's owner's from then on.
    First,
    /// In place of what is there.
    Whole,
    /// From what is there, changed in a place.
    Edit,
}

/// A file that is to be.
#[derive(Debug)]
pub(super) struct Target {
    /// Where, without the prefix.
    pub(super) path: PathBuf,
    pub(super) what: &'static str,
    pub(super) text: String,
    pub(super) kind: Kind,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Action {
    /// There is none.
    New,
    /// What is there is kept aside.
    Replace,
    /// An older one of ours is there.
    Update,
    /// It is as it is to be.
    Same,
    /// Somebody else's, which stays.
    Stays,
    /// Changed since it was written: refused, unless by force.
    Changed,
}

impl Action {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::New => "written",
            Self::Replace => "written; what was there is kept aside",
            Self::Update => "written anew",
            Self::Same => "is so already",
            Self::Stays => "stays as it is: yours",
            Self::Changed => "was changed since",
        }
    }
}

/// A file with what becomes of it.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) target: Target,
    pub(super) action: Action,
    seen: Seen,
}

/// What becomes of a file.
pub(super) fn step(prefix: &Prefix, journal: &Journal, target: Target) -> Result<Step> {
    let seen = Seen::at(&prefix.place(&target.path)?)?;
    let entry = journal.entries.iter().find(|e| e.path == target.path);
    let action = judge(&target, &seen, entry);
    Ok(Step { target, action, seen })
}

fn judge(target: &Target, seen: &Seen, entry: Option<&Entry>) -> Action {
    if seen.text() == Some(&target.text) {
        return Action::Same;
    }
    let now = entry.map(|entry| entry.now(seen));
    match (target.kind, now) {
        (_, _) if *seen == Seen::Absent => Action::New,
        (_, Some(Now::Ours)) => Action::Update,
        (Kind::First, _) => Action::Stays,
        (Kind::Whole, Some(Now::Changed)) => Action::Changed,
        _ => Action::Replace,
    }
}

/// Refuses before anything is written where a file was changed since.
pub(super) fn insist(steps: &[Step]) -> Result<()> {
    let changed: Vec<String> = steps
        .iter()
        .filter(|s| s.action == Action::Changed)
        .map(|s| s.target.path.display().to_string())
        .collect();
    if !changed.is_empty() {
        bail!(
            "changed since `cofferdam install` wrote it: {}; nothing is written; --force writes over it",
            changed.join(", ")
        );
    }
    Ok(())
}

/// Carries all out: first what was there is kept and all is noted, then file after file is written.
pub(super) fn carry_out(held: &mut Held, steps: &[Step]) -> Result<()> {
    let wanted = |s: &&Step| !matches!(s.action, Action::Same | Action::Stays);
    for step in steps.iter().filter(wanted) {
        let target = &step.target;
        held.intend(&target.path, target.text.as_bytes(), &step.seen, target.kind == Kind::Edit)?;
    }
    for step in steps.iter().filter(wanted) {
        let (mode, owner) = match &step.seen {
            Seen::File { mode, uid, gid, .. } => (*mode, Some((*uid, *gid))),
            _ => (MODE, None),
        };
        held.write(&step.target.path, step.target.text.as_bytes(), mode, owner)?;
    }
    Ok(())
}
