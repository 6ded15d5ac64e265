//! Records that were read before, and which pod a container is in: what a process that lives long asks
//! again and again. Other processes may change things too, so that nothing is taken from here before
//! the file was looked at (stat(2)); records are replaced whole, never written in place.

use crate::record;
use cofferdam_model::cri::{Error, Result};
use cofferdam_model::{ContainerId, PodId};
use serde::de::DeserializeOwned;
use std::any::Any;
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Most records that are kept; then all are forgotten.
const MAX: usize = 16_384;
/// A file younger than this may be replaced by another with the same stamp: the kernel's clock for files
/// ticks slowly, and inodes are used again. Nanoseconds.
const SETTLED: i128 = 100_000_000;

/// Tells a file from the one that replaced it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    len: u64,
    changed: i128,
}

type Kept = (Stamp, Arc<dyn Any + Send + Sync>);

/// See the module.
#[derive(Default)]
pub(crate) struct Cache {
    records: Mutex<HashMap<PathBuf, Kept>>,
    pods: Mutex<HashMap<ContainerId, PodId>>,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").finish_non_exhaustive()
    }
}

impl Cache {
    /// As [`record::read`].
    pub(crate) fn read<T: DeserializeOwned + Clone + Send + Sync + 'static>(&self, path: &Path) -> Result<Option<T>> {
        let meta = match std::fs::symlink_metadata(path) {
            Ok(meta) => meta,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                self.records.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
                return Ok(None);
            }
            Err(e) => return Err(Error::Failed(format!("record {}: {e}", path.display()))),
        };
        let changed = i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec());
        let stamp = Stamp { inode: meta.ino(), len: meta.len(), changed };
        let found = self.records.lock().unwrap_or_else(PoisonError::into_inner).get(path).filter(|(s, _)| *s == stamp).map(|(_, r)| r.clone());
        if let Some(record) = found.as_ref().and_then(|r| r.downcast_ref::<T>()) {
            return Ok(Some(record.clone()));
        }
        let Some(record) = record::read::<T>(path)? else { return Ok(None) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i128::try_from(d.as_nanos()).unwrap_or(0));
        if now - changed > SETTLED {
            let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            if records.len() >= MAX {
                records.clear();
            }
            records.insert(path.to_owned(), (stamp, Arc::new(record.clone())));
        }
        Ok(Some(record))
    }

    /// The pod that a container was in.
    pub(crate) fn pod_of(&self, container: &ContainerId) -> Option<PodId> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).get(container).cloned()
    }

    pub(crate) fn remember(&self, container: &ContainerId, pod: &PodId) {
        let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        if pods.len() >= MAX {
            pods.clear();
        }
        pods.insert(container.clone(), pod.clone());
    }

    /// A container that is gone.
    pub(crate) fn forget(&self, container: &ContainerId) {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).remove(container);
    }

    /// A pod that is gone.
    pub(crate) fn forget_pod(&self, pod: &PodId, dir: &Path) {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).retain(|path, _| !path.starts_with(dir));
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, of| of != pod);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::record::ContainerResult;
    use cofferdam_host::files::Durability;

    #[test]
    fn what_another_process_changed_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r");
        let cache = Cache::default();
        let write = |started_at| record::write(&path, &ContainerResult { started_at, ..ContainerResult::default() }, Durability::Cached).unwrap();
        let read = || cache.read::<ContainerResult>(&path).unwrap().map(|r| r.started_at);
        assert_eq!(read(), None);
        for number in 1..200 {
            write(number);
            assert_eq!((read(), read()), (Some(number), Some(number)));
        }
        std::thread::sleep(std::time::Duration::from_millis(150));
        assert_eq!((read(), cache.records.lock().unwrap().len()), (Some(199), 1));
        write(7);
        assert_eq!(read(), Some(7));
        std::fs::remove_file(&path).unwrap();
        assert_eq!((read(), cache.records.lock().unwrap().len()), (None, 0));
    }
}
