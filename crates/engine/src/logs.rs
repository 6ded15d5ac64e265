//! Logs that somebody rotates.

use crate::Engine;
use crate::failpoint::reach;
use cofferdam_model::ContainerId;
use cofferdam_model::cri::{ContainerState, Error, Result};
use cofferdam_monitor::client;

impl Engine {
    /// Opens a running container's log anew, under the same path, after it was renamed.
    ///
    /// # Errors
    /// [`Error::Precondition`] where the container does not run, or its monitor is gone.
    pub fn reopen_log(&self, id: &ContainerId) -> Result<()> {
        let (known, _) = self.must_know_container(id)?;
        let status = self.container_status(id)?;
        if status.state != ContainerState::Running {
            return Err(Error::Precondition(format!("container {id} is not running: its log is not written any more")));
        }
        let reopened = client::Client::connect(&known.dirs.socket()).and_then(|mut monitor| monitor.reopen_log(id.as_str()));
        reopened.map_err(|e| match e {
            client::Error::Gone { .. } => Error::Precondition(format!("container {id} has no monitor any more: {e}")),
            e => Error::Failed(format!("the log of container {id} cannot be opened anew: {e}")),
        })?;
        reach("log.reopened");
        Ok(())
    }
}
