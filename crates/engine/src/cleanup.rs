//! Sandboxes of which something is left that could not be cleaned up: told, and tried again.

use crate::Engine;
use cofferdam_model::PodId;
use cofferdam_model::cri::Result;

impl Engine {
    /// Sandboxes that could not be stopped or removed wholly, or have a command that was to end and does not, each
    /// with the reason.
    pub fn failed_cleanups(&self) -> Vec<(PodId, String)> {
        let ids = self.pod_ids().unwrap_or_default();
        let known = ids.into_iter().filter_map(|id| self.known(&id).ok().flatten());
        let mut failed: Vec<_> = known.filter_map(|k| k.result.left.map(|why| (k.record.id, why))).collect();
        let unended = self.unended().clone();
        failed.extend(unended.into_iter().filter(|(id, _)| failed.iter().all(|(other, _)| other != id)).collect::<Vec<_>>());
        failed
    }

    /// Tries each of [`Engine::failed_cleanups`] again: what was to be removed is removed, what was to be
    /// stopped is stopped. What came of each.
    pub fn retry_cleanups(&self) -> Vec<(PodId, Result<()>)> {
        let again = |id: &PodId| match self.known(id)? {
            Some(known) if known.result.removing => self.remove_sandbox(id),
            Some(known) if known.result.left.is_some() => self.stop_sandbox(id),
            _ => self.retry_commands(id),
        };
        self.failed_cleanups().into_iter().map(|(id, _)| (again(&id), id)).map(|(outcome, id)| (id, outcome)).collect()
    }
}
