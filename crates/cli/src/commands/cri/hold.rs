//! The lock of the daemon: one of a layout, and a sign to other commands that a kubelet keeps pods here.

use anyhow::{Context, Result, bail};
use cofferdam_host::Error;
use cofferdam_host::files::Lock;
use cofferdam_plan::Layout;
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Somebody who only looks holds the lock for less than this.
const GLANCE: Duration = Duration::from_secs(1);

/// The right to be the daemon of a layout, until it is dropped or the process ends.
#[derive(Debug)]
pub(super) struct Hold {
    _locks: Vec<Lock>,
}

impl Hold {
    pub(super) fn take(layout: &Layout) -> Result<Self> {
        // Either directory alone makes two daemons one too many.
        let locks = [layout.root.clone(), layout.state.clone()].map(|dir| {
            std::fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
            lock(dir.join(NAME))
        });
        Ok(Self {
            _locks: locks.into_iter().collect::<Result<_>>()?,
        })
    }
}

const NAME: &str = "cri.lock";

fn lock(path: PathBuf) -> Result<Lock> {
    let began = Instant::now();
    loop {
        match Lock::try_exclusive(&path) {
            Ok(lock) => return Ok(lock),
            Err(Error::Locked { .. }) if began.elapsed() < GLANCE => std::thread::sleep(GLANCE / 20),
            Err(Error::Locked { pid, .. }) => {
                let dir = path.parent().unwrap_or(&path).display();
                bail!("a daemon serves {dir} already (process {pid}); end that first, or choose other directories with --root and --state")
            }
            Err(e) => return Err(e).context("the daemon's lock cannot be taken"),
        }
    }
}

/// The process id of a layout's daemon, where one runs; 0 where it has not told it yet.
pub(crate) fn holder(layout: &Layout) -> Option<u32> {
    let mut file = File::open(layout.state.join(NAME)).ok()?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(rustix::io::Errno::WOULDBLOCK) => {}
        _ => return None,
    }
    let mut text = String::new();
    let _ = (&mut file).take(32).read_to_string(&mut text);
    Some(text.trim().parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_layout_has_one_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let layout = |root: &str, state: &str| Layout::new(dir.path().join(root), dir.path().join(state));
        let first = layout("r", "s");
        assert_eq!(holder(&first), None);
        let held = Hold::take(&first).unwrap();
        assert_eq!(holder(&first), Some(std::process::id()));
        for other in [layout("r", "s"), layout("r", "other"), layout("other", "s")] {
            let error = Hold::take(&other).unwrap_err().to_string();
            assert!(error.contains("already (process ") && error.contains("end that first"), "{error}");
        }
        drop(held);
        assert_eq!(holder(&first), None);
        Hold::take(&first).unwrap();
    }
}
