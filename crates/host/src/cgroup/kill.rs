//! Ending all processes of a group.

use super::group::write;
use super::{Controller, Group, Mode};
use crate::process::{Process, Signal};
use crate::{Error, Result};
use std::time::{Duration, Instant};

impl Group {
    /// Kills the processes of the group and below it until none is left, at most `timeout`; then
    /// says which are. They cannot escape by forking: v2 kills a group in one step, and on v1 the
    /// group is frozen while its processes are signalled. A group that is not there is no error.
    pub fn kill_all(&self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        let mut pause = Duration::from_micros(200);
        loop {
            let left = self.procs()?;
            let Some(first) = left.first() else {
                return Ok(());
            };
            if Instant::now() >= deadline {
                return Err(Error::StillAlive {
                    group: self.path.clone(),
                    count: left.len(),
                    pid: *first,
                    millis: timeout.as_millis(),
                });
            }
            self.kill_once()?;
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    fn kill_once(&self) -> Result<()> {
        if self.cgroups.mode() == Mode::V2 {
            // Since Linux 5.14; before, the loop of the caller catches what forked meanwhile.
            match write(
                &self.file(Controller::Freezer, "cgroup.kill", "killing")?,
                "1",
            ) {
                Err(e) if e.is_absent() => self.signal_all()?,
                other => other?,
            }
            return Ok(());
        }
        let freezer = self
            .file(Controller::Freezer, "freezer.state", "killing")
            .ok();
        let set = |state: &str| match &freezer {
            Some(file) => match write(file, state) {
                Err(e) if e.is_absent() => Ok(()),
                other => other,
            },
            None => Ok(()),
        };
        set("FROZEN")?;
        let signalled = self.signal_all();
        // A frozen process takes its signal when it thaws; it must never stay frozen.
        set("THAWED")?;
        signalled
    }

    fn signal_all(&self) -> Result<()> {
        let held: Vec<Process> = self
            .procs()?
            .into_iter()
            .filter_map(|pid| Process::open_pid(pid).transpose())
            .collect::<Result<_>>()?;
        // What is still listed after it was opened is the process that was opened.
        let members = self.procs()?;
        for process in held.iter().filter(|p| members.contains(&p.identity().pid)) {
            process.signal(Signal::KILL)?;
        }
        Ok(())
    }
}
