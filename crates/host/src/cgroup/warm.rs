//! Keeping the kernel's lock for moving processes between cgroups in its fast state for a moment.
//!
//! Moving a whole process (a write to `cgroup.procs`) takes the lock `cgroup_threadgroup_rwsem` for
//! writing, and its first taker after a pause waits for a grace period of RCU, 9 ms here
//! (`kernel/cgroup/cgroup.c`, `cgroup_attach_lock`; `kernel/rcu/sync.c`). A runtime that moves its
//! container's process pays that on every start. While somebody else has just taken the lock, it
//! is free: so a thread of ours takes it by moving this process to where it is already, again and
//! again for as long as the runtime works. Nothing moves, and nothing stays set afterwards.

use super::Cgroups;
use crate::Result;
use crate::files;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The fast state lasts a grace period or two after each taking.
const EVERY: Duration = Duration::from_millis(3);
/// It ends by itself, whatever becomes of its owner.
const LONGEST: Duration = Duration::from_secs(2);

/// Keeps moves fast while it lives.
#[derive(Debug)]
pub struct FastMoves {
    over: Arc<AtomicBool>,
}

impl Drop for FastMoves {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl Cgroups {
    /// Begins to keep moves fast. Where that cannot be done, moves take as long as they do.
    pub fn keep_moves_fast(&self) -> FastMoves {
        let over = Arc::new(AtomicBool::new(false));
        if let Ok(file) = self.own_procs_file() {
            let (over, pid) = (over.clone(), std::process::id().to_string());
            let work = move || {
                let start = Instant::now();
                while !over.load(Ordering::Relaxed) && start.elapsed() < LONGEST && std::fs::write(&file, &pid).is_ok() {
                    std::thread::sleep(EVERY);
                }
            };
            // Without a thread nothing is lost but time.
            let _ = std::thread::Builder::new().name("fast-moves".into()).stack_size(64 * 1024).spawn(work);
        }
        FastMoves { over }
    }

    /// `cgroup.procs` of the group that this process is in, in a hierarchy of ours.
    fn own_procs_file(&self) -> Result<PathBuf> {
        let text = files::read_text("/proc/self/cgroup", 1 << 20)?;
        let named = |line: &str| {
            let mut fields = line.splitn(3, ':');
            let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let point = match controllers {
                "" => self.unified().map(Path::to_owned),
                names => names.split(',').find_map(|n| self.mounts().get(n).cloned()),
            };
            Some(point?.join(path.trim_start_matches('/')).join("cgroup.procs"))
        };
        let all: Vec<PathBuf> = text.lines().filter_map(named).filter(|f| f.exists()).collect();
        all.into_iter().next().ok_or(crate::Error::NoCgroups)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_process_stays_where_it_is() {
        let before = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let cgroups = Cgroups::detect().unwrap();
        let fast = cgroups.keep_moves_fast();
        std::thread::sleep(Duration::from_millis(20));
        drop(fast);
        assert_eq!(std::fs::read_to_string("/proc/self/cgroup").unwrap(), before);
    }
}
