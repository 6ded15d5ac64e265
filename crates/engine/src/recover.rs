//! What a killed process left: found by the pods' ids, decided by [`cofferdam_plan::recovery`], one
//! pod after another, so that one bad record does not stop the others.

use crate::Engine;
use crate::record::{self, SandboxRecord, SandboxResult};
use crate::sandbox::{Known, failed, names_in};
use cofferdam_host::{files, ids};
use cofferdam_model::PodId;
use cofferdam_model::cri::{Result, SandboxState};
use cofferdam_plan::layout::PodDirs;
use cofferdam_plan::recovery::{Action, Found, Record, ResultState, decide};
use std::collections::BTreeSet;

impl Engine {
    /// Puts right what a killed process left; one sentence a finding.
    pub fn recover(&self) -> Vec<String> {
        let mut findings = Vec::new();
        let ids = match self.traces() {
            Ok(ids) => ids,
            Err(e) => return vec![e.to_string()],
        };
        for id in &ids {
            match self.recover_pod(id) {
                Ok(None) => {}
                Ok(Some(said)) => findings.push(format!("pod {}: {said}", id.short())),
                Err(e) => findings.push(format!("pod {}: it could not be put right and is tried again: {e}", id.short())),
            }
        }
        if let Err(e) = self.wire.recover(|| Ok(self.traces()?.iter().map(|id| id.as_str().to_owned()).collect())) {
            findings.push(format!("network: {e}"));
        }
        self.collect_unwanted();
        findings
    }

    /// The ids of all pods of which anything is left. The run-time directory is made first and goes
    /// last, so that nothing is left without it or, after a reboot, the record. A cgroup tells
    /// nothing: pods of other layouts have theirs beside ours.
    pub(crate) fn traces(&self) -> Result<BTreeSet<PodId>> {
        let mut names = names_in(&self.layout.pods())?;
        names.extend(names_in(&self.layout.run_pods())?);
        Ok(names.into_iter().filter_map(|name| PodId::new(name).ok()).collect())
    }

    fn recover_pod(&self, id: &PodId) -> Result<Option<String>> {
        let dirs = self.dirs(id)?;
        if !dirs.dir.exists() && !dirs.run.exists() {
            return Ok(None); // it went since it was listed
        }
        files::private_dir(&dirs.run).map_err(failed)?;
        let lock = match files::Lock::try_exclusive(dirs.lock()) {
            Err(cofferdam_host::Error::Locked { .. }) => return Ok(None), // somebody works on it
            Err(e) if e.is_absent() => return Ok(None),                   // it went just now
            taken => taken.map_err(failed)?,
        };
        let found = self.look_at(&dirs);
        match decide(found) {
            Action::Keep => {
                let Some(mut known) = self.known(id)? else { return Ok(None) };
                let mut findings = self.finish_changing(&mut known)?;
                if found.result == Some(ResultState::Ready) {
                    findings.extend(self.recover_containers(&known)?);
                    findings.extend(self.collect_commands(&known)?);
                }
                Ok((!findings.is_empty()).then(|| findings.join("; ")))
            }
            Action::Undo => {
                self.undo(id)?;
                // Without a record there was a directory at most, and perhaps its maker makes it again.
                let made = found.record != Record::Absent;
                Ok(made.then(|| "it was half made or half removed; what there was of it is undone".to_owned()))
            }
            Action::Fail(reason) => {
                drop(lock); // taken again by the verb
                self.fail_sandbox(id, reason)?;
                Ok(Some(format!("{reason}; what was left of it is gone, and it is kept as not ready")))
            }
            Action::PutAside => {
                let aside = self.layout.aside().join(format!("{id}-{}", ids::now_nanos()));
                files::private_dir(self.layout.aside()).map_err(failed)?;
                self.put_aside(id, &dirs, &aside)?;
                Ok(Some(format!("its record cannot be read; its processes are ended, and the record is kept at {}", aside.display())))
            }
        }
    }

    /// A change of limits that was begun is finished.
    fn finish_changing(&self, known: &mut Known) -> Result<Vec<String>> {
        let Some(change) = known.result.changing.clone() else { return Ok(vec![]) };
        self.finish_change(known, &change)?;
        Ok(vec!["a change of its limits that was begun is finished".to_owned()])
    }

    /// Ends what derives from the id, and moves the record away.
    fn put_aside(&self, id: &PodId, dirs: &PodDirs, aside: &std::path::Path) -> Result<()> {
        self.end(dirs, id)?;
        std::fs::rename(&dirs.dir, aside).map_err(|e| failed(format!("{}: {e}", dirs.dir.display())))?;
        cofferdam_host::remove::remove_tree(&dirs.run).map_err(failed)
    }

    /// What is found of a pod.
    fn look_at(&self, dirs: &PodDirs) -> Found {
        let record = record::read::<SandboxRecord>(&dirs.record());
        let result = record::read::<SandboxResult>(&dirs.status());
        let same_boot = matches!(&record, Ok(Some(r)) if r.boot_id == self.boot_id);
        let monitor_alive = !monitor_is_gone(&dirs.socket());
        Found {
            orphan: matches!(&record, Ok(Some(r)) if crate::prove::is_orphan(r)),
            record: match (&record, &result) {
                (Err(_), _) | (_, Err(_)) => Record::Unreadable,
                (Ok(None), _) => Record::Absent,
                (Ok(Some(_)), _) => Record::Readable,
            },
            result: result.ok().flatten().map(|r| match (r.removing, r.state) {
                (true, _) => ResultState::Removing,
                (_, SandboxState::Ready) => ResultState::Ready,
                (_, SandboxState::NotReady) => ResultState::NotReady,
            }),
            same_boot,
            monitor_alive,
        }
    }
}

/// Whether nobody listens at a monitor's socket. One that is slow, stopped or busy is not gone: its
/// pod is well.
pub(crate) fn monitor_is_gone(socket: &std::path::Path) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    std::os::unix::net::UnixStream::connect(socket).is_err_and(|e| matches!(e.kind(), ConnectionRefused | NotFound))
}
