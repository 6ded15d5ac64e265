//! User namespaces: which ids a pod gets, and how its own root comes to its files.

use crate::Engine;
use crate::record::{self, SandboxRecord};
use crate::sandbox::failed;
use cofferdam_host::files;
use cofferdam_model::cri::{Error, NamespaceMode, Result, SandboxConfig, SandboxState};
use cofferdam_plan::layout::PodDirs;
use cofferdam_plan::userns::{self, IdRange, Pool};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

impl Engine {
    /// The ids of a pod that is to have a user namespace, and the lock under which they are chosen: it is
    /// held until they are recorded.
    pub(crate) fn claim_ids(&self, config: &SandboxConfig) -> Result<Option<(files::Lock, IdRange)>> {
        if !config.user_namespace {
            return Ok(None);
        }
        let asked = [(config.network, "hostNetwork"), (config.pid, "hostPID"), (config.ipc, "hostIPC")];
        if let Some((_, what)) = asked.iter().find(|(mode, _)| *mode == NamespaceMode::Node) {
            return Err(Error::Invalid(format!("hostUsers: false cannot go with {what}: the machine's namespaces belong to the machine's users")));
        }
        let lock = files::Lock::exclusive(self.layout.state.join("userns.lock")).map_err(failed)?;
        let mut taken = BTreeSet::new();
        for id in self.pod_ids()? {
            taken.extend(record::read::<SandboxRecord>(&self.layout.pod(&id).record())?.and_then(|record| record.ids));
        }
        if let Some(chosen) = config.ids {
            let range = IdRange::chosen(chosen.host_id, chosen.length).map_err(Error::Invalid)?;
            self.check_nobody_has(range)?;
            return Ok(Some((lock, range)));
        }
        let text = |path: &str| files::read_text(path, userns::MAX_FILE).or_else(|e| if e.is_absent() { Ok(String::new()) } else { Err(failed(e)) });
        let pool = Pool::of(&text("/etc/subuid")?, &text("/etc/subgid")?).map_err(Error::Failed)?;
        let range = pool.next(&taken).map_err(Error::Failed)?;
        Ok(Some((lock, range)))
    }

    /// Two pods that run with the same ids are no strangers to each other. One that has ended may have had
    /// them: a kubelet gives them again.
    fn check_nobody_has(&self, range: IdRange) -> Result<()> {
        for id in self.pod_ids()? {
            let Some(known) = self.known(&id)? else { continue };
            let same = known.record.ids.is_some_and(|ids| ids.overlaps(range));
            if same && known.result.state == SandboxState::Ready {
                let (first, count, config) = (range.first, range.count, &known.record.config);
                return Err(Error::Precondition(format!(
                    "the user namespace's {count} ids from {first} are in use by pod \"{}/{}\"; stop that, or choose others",
                    config.namespace, config.name
                )));
            }
        }
        Ok(())
    }

    /// Lets a pod's root through to what is in the pod's directories: of the directories above, everybody,
    /// who sees nothing there; of its own, its group alone.
    pub(crate) fn let_through(&self, dirs: &PodDirs, ids: IdRange) -> Result<()> {
        for dir in [&self.layout.root, &self.layout.pods(), &self.layout.state, &self.layout.run_pods()] {
            let wrong = |e: std::io::Error| failed(format!("{}: {e}", dir.display()));
            let mode = std::fs::metadata(dir).map_err(wrong)?.permissions().mode() & 0o7777;
            if mode & 0o001 == 0 {
                std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode | 0o001)).map_err(wrong)?;
            }
        }
        open_to(&dirs.dir, Some(ids))?;
        open_to(&dirs.run, Some(ids))
    }
}

/// Lets the root of a pod's user namespace, where it has one, through a directory.
pub(crate) fn open_to(dir: &Path, ids: Option<IdRange>) -> Result<()> {
    let Some(ids) = ids else { return Ok(()) };
    let wrong = |e: std::io::Error| failed(format!("{}: {e}", dir.display()));
    std::os::unix::fs::chown(dir, None, Some(ids.first)).map_err(wrong)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o710)).map_err(wrong)
}
