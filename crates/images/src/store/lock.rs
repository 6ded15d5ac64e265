//! Locks, temporary things, and files that appear whole.

use super::Store;
use crate::error::{IoContext, Result};
use crate::tree;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Held while names, records or layers change.
pub(crate) struct Guard<'a> {
    store: &'a Store,
    _lock: File,
}

impl Store {
    /// Waits until nobody else changes the store.
    pub(crate) fn write(&self) -> Result<Guard<'_>> {
        let path = self.root.join("lock");
        let lock = lock_file(&path)?;
        lock.lock().at("lock", &path)?;
        Ok(Guard {
            store: self,
            _lock: lock,
        })
    }

    /// Keeps the collector away until dropped.
    pub(crate) fn keep_layers(&self) -> Result<File> {
        let path = self.root.join("use.lock");
        let lock = lock_file(&path)?;
        lock.lock_shared().at("lock", &path)?;
        Ok(lock)
    }

    /// Keeps loads away until dropped; `None` where one is under way.
    pub(crate) fn keep_loads_away(&self) -> Result<Option<File>> {
        let path = self.root.join("use.lock");
        let lock = lock_file(&path)?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(lock)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(e).at("lock", &path),
        }
    }

    /// Removes the temporary things whose owner is gone.
    pub(crate) fn clear_temporaries(&self) -> Result<()> {
        let dir = self.root.join("tmp");
        let mut left = Vec::new();
        {
            let _guard = self.write()?;
            for entry in fs::read_dir(&dir).at("read", &dir)? {
                let path = entry.at("read", &dir)?.path();
                let flags = rustix::fs::OFlags::NOFOLLOW
                    .union(rustix::fs::OFlags::NONBLOCK)
                    .bits();
                let opened = OpenOptions::new()
                    .read(true)
                    .custom_flags(flags.cast_signed())
                    .open(&path);
                match opened {
                    Ok(file) if file.try_lock().is_ok() => left.push(Temp { path, _lock: file }),
                    _ => {}
                }
            }
        }
        drop(left);
        Ok(())
    }
}

fn lock_file(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .at("open", path)
}

impl Guard<'_> {
    /// A new directory under `tmp`, with a directory `trash` in it.
    pub(crate) fn temporary_dir(&self) -> Result<Temp> {
        let path = self.temporary_path()?;
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .at("create", &path)?;
        let lock = File::open(&path).at("open", &path)?;
        lock.lock().at("lock", &path)?;
        let temp = Temp { path, _lock: lock };
        let trash = temp.path.join("trash");
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&trash)
            .at("create", &trash)?;
        Ok(temp)
    }

    /// Writes `data` to `path`, so that after a crash at any moment there is the old file or the new.
    pub(crate) fn write_file(&self, path: &Path, data: &[u8]) -> Result<()> {
        let temporary = self.temporary_path()?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .at("create", &temporary)?;
        file.lock().at("lock", &temporary)?;
        let temp = Temp {
            path: temporary,
            _lock: file.try_clone().at("open", path)?,
        };
        file.write_all(data)
            .and_then(|()| file.sync_all())
            .at("write", &temp.path)?;
        fs::rename(&temp.path, path).at("replace", path)?;
        sync_parent(path)
    }

    fn temporary_path(&self) -> Result<PathBuf> {
        let dir = self.store.root.join("tmp");
        let mut random = [0u8; 16];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .at("name a file in", &dir)?;
        Ok(dir.join(
            random
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect::<String>(),
        ))
    }
}

/// Makes the entry `path` of its directory last.
pub(crate) fn sync_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    File::open(parent)
        .and_then(|dir| dir.sync_all())
        .at("sync", parent)
}

/// A file or directory under `tmp` that is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Temp {
    pub(crate) path: PathBuf,
    _lock: File,
}

impl Temp {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Removes what can be removed; the next who opens the store tries again.
    fn dispose(&self) -> Result<()> {
        if !fs::symlink_metadata(&self.path)
            .at("read", &self.path)?
            .is_dir()
        {
            return fs::remove_file(&self.path).at("remove", &self.path);
        }
        let trash_path = self.path("trash");
        if !trash_path.is_dir() {
            return fs::remove_dir(&self.path).at("remove", &self.path);
        }
        let open = |path: &Path| File::open(path).at("open", path);
        let (dir, trash) = (open(&self.path)?, open(&trash_path)?);
        for within in [&self.path, &trash_path] {
            for entry in fs::read_dir(within).at("read", within)? {
                let name = entry.at("read", within)?.file_name();
                if within == &self.path && name == "trash" {
                    continue;
                }
                let parent = if within == &self.path { &dir } else { &trash };
                tree::remove(parent, name.as_encoded_bytes(), trash.as_fd())
                    .at("remove", &within.join(&name))?;
            }
        }
        fs::remove_dir(&trash_path).at("remove", &trash_path)?;
        fs::remove_dir(&self.path).at("remove", &self.path)
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        // Nobody is left to tell: whoever opens the store next tries again.
        let _ = self.dispose();
    }
}
