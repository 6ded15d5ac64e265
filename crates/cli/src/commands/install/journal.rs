//! What was written, and what was there before: enough to put everything back exactly.
//!
//! The journal and the copies of what was there are on the disk before the first file is changed, so
//! that a command that was killed anywhere can be run again, or undone.

use anyhow::{Context, Result, bail};
use cofferdam_host::files::{self, Durability, Lock};
use cofferdam_images::Digest;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

/// Where the journal is, below the prefix.
pub(super) const DIR: &str = "/var/lib/cofferdam/install";
/// Largest journal, and largest file that is kept aside, bytes.
const MAX: u64 = 4 << 20;
/// Version of the journal's form.
const VERSION: u32 = 1;

/// A folder that stands for `/`.
#[derive(Debug, Clone)]
pub(super) struct Prefix(PathBuf);

impl Prefix {
    /// `None` is `/` itself.
    pub(super) fn new(dir: Option<&Path>) -> Result<Self> {
        let dir = dir.unwrap_or(Path::new("/"));
        let full = dir
            .canonicalize()
            .with_context(|| format!("--root-dir {} is not there", dir.display()))?;
        if !full.is_dir() {
            bail!("--root-dir {} is not a folder", dir.display());
        }
        Ok(Self(full))
    }

    pub(super) fn is_machine(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// An absolute path below the prefix.
    pub(super) fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// As [`Prefix::join`], for what is written: links of the folder lead out of it where they would lead
    /// within the machine that it becomes, as `/etc -> /usr/etc` does, and then nothing is written.
    pub(super) fn place(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let full = self.join(path);
        let folder = full.ancestors().skip(1).find_map(|dir| dir.canonicalize().ok());
        match folder {
            Some(folder) if folder.starts_with(&self.0) => Ok(full),
            _ => bail!(
                "{} leads out of {} through a link; make it a folder, or a relative link within",
                full.display(),
                self.0.display()
            ),
        }
    }

    /// A path below the prefix as it is in there.
    pub(super) fn strip(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.0)
            .map_or_else(|_| path.to_owned(), |rest| Path::new("/").join(rest))
    }
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    Absent,
    File { bytes: Vec<u8>, mode: u32, uid: u32, gid: u32 },
    Link(PathBuf),
}

impl Seen {
    pub(super) fn at(path: &Path) -> Result<Self> {
        let meta = match fs::symlink_metadata(path) {
            // A file in a folder's place is told of where the folder is made.
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Self::Absent),
            meta => meta.with_context(|| format!("{} cannot be looked at", path.display()))?,
        };
        if meta.is_symlink() {
            return Ok(Self::Link(fs::read_link(path)?));
        }
        if !meta.is_file() {
            bail!("{} is neither a file nor a link; move it away", path.display());
        }
        let bytes = files::read_bounded(path, MAX)?;
        Ok(Self::File {
            bytes,
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
        })
    }

    /// The text of a file; `None` where there is none.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::File { bytes, .. } => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    fn digest(&self) -> Option<String> {
        match self {
            Self::File { bytes, .. } => Some(digest(bytes)),
            _ => None,
        }
    }
}

pub(super) fn digest(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

/// What was at a path before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub(super) enum Before {
    Absent,
    /// Its copy has this name in [`DIR`].
    File {
        kept: String,
        digest: String,
        mode: u32,
        uid: u32,
        gid: u32,
    },
    Link {
        target: PathBuf,
    },
}

/// One file that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Where, without the prefix.
    pub(super) path: PathBuf,
    /// Digests of all that was ever written there.
    pub(super) ours: Vec<String>,
    pub(super) before: Before,
}

/// How a path is now, against its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Now {
    Ours,
    AsBefore,
    Gone,
    Changed,
}

impl Entry {
    pub(super) fn now(&self, seen: &Seen) -> Now {
        let digest = seen.digest();
        let is_before = match (&self.before, seen) {
            (Before::Absent, Seen::Absent) => true,
            (Before::File { digest: before, .. }, Seen::File { .. }) => digest.as_ref() == Some(before),
            (Before::Link { target }, Seen::Link(now)) => target == now,
            _ => false,
        };
        match seen {
            _ if digest.is_some_and(|d| self.ours.contains(&d)) => Now::Ours,
            _ if is_before => Now::AsBefore,
            Seen::Absent => Now::Gone,
            _ => Now::Changed,
        }
    }
}

/// All that was written.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Journal {
    version: u32,
    /// Folders that were made, outermost first, without the prefix.
    pub(super) dirs: Vec<PathBuf>,
    pub(super) entries: Vec<Entry>,
}

/// The journal on the disk, held by this process alone.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) journal: Journal,
    dir: PathBuf,
    prefix: Prefix,
    _lock: Lock,
}

/// Reads the journal without making anything; `None` where nothing was installed.
pub(super) fn read(prefix: &Prefix) -> Result<Option<Journal>> {
    let path = prefix.join(DIR).join("journal.json");
    if !path.exists() {
        return Ok(None);
    }
    let text = files::read_text(&path, MAX)?;
    let journal: Journal = serde_json::from_str(&text).with_context(|| {
        format!(
            "{} is no journal of `cofferdam install`; what it wrote must be undone by hand",
            path.display()
        )
    })?;
    if journal.version != VERSION {
        bail!(
            "{} is of version {}, and this binary knows {VERSION}; use the one that wrote it",
            path.display(),
            journal.version
        );
    }
    // What is joined to the prefix and written to must be in it.
    let plain = |p: &Path| p.is_absolute() && !p.components().any(|c| c == std::path::Component::ParentDir);
    let names = |e: &Entry| matches!(&e.before, Before::File { kept, .. } if kept.contains('/'));
    if journal.entries.iter().any(|e| !plain(&e.path) || names(e)) || journal.dirs.iter().any(|d| !plain(d)) {
        bail!(
            "{} names files outside its folder; it was not written by `cofferdam install`",
            path.display()
        );
    }
    Ok(Some(journal))
}

impl Held {
    pub(super) fn open(prefix: &Prefix) -> Result<Self> {
        let dir = prefix.place(DIR)?;
        let mut made = missing(prefix, Path::new(DIR));
        files::private_dir(&dir)?;
        let lock = Lock::try_exclusive(dir.join("lock")).context("another install or uninstall is at work")?;
        let mut journal = read(prefix)?.unwrap_or(Journal {
            version: VERSION,
            ..Journal::default()
        });
        made.retain(|d| !journal.dirs.contains(d));
        journal.dirs.extend(made);
        Ok(Self {
            journal,
            dir,
            prefix: prefix.clone(),
            _lock: lock,
        })
    }

    fn save(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(&self.journal)?;
        Ok(files::atomic_write(self.dir.join("journal.json"), &text, Durability::Synced)?)
    }

    /// Notes that `bytes` are to be at `path`, where `seen` is now, and keeps that aside. With `anew`, what
    /// is there and not ours takes the place of what was kept before.
    pub(super) fn intend(&mut self, path: &Path, bytes: &[u8], seen: &Seen, anew: bool) -> Result<()> {
        let digest = digest(bytes);
        let at = self.journal.entries.iter().position(|e| e.path == path);
        let known = at.and_then(|at| self.journal.entries.get_mut(at));
        match known {
            Some(entry) if !(anew && entry.now(seen) == Now::Changed) => {
                if !entry.ours.contains(&digest) {
                    entry.ours.push(digest);
                }
            }
            _ => {
                let before = self.keep(path, seen)?;
                self.journal.entries.retain(|e| e.path != path);
                self.journal.entries.push(Entry {
                    path: path.to_owned(),
                    ours: vec![digest],
                    before,
                });
            }
        }
        let made = missing(&self.prefix, path.parent().unwrap_or(Path::new("/")));
        self.journal.dirs.extend(made);
        let mut known = std::collections::BTreeSet::new();
        self.journal.dirs.retain(|d| known.insert(d.clone()));
        self.save()
    }

    fn keep(&self, path: &Path, seen: &Seen) -> Result<Before> {
        Ok(match seen {
            Seen::Absent => Before::Absent,
            Seen::Link(target) => Before::Link { target: target.clone() },
            Seen::File { bytes, mode, uid, gid } => {
                let digest = digest(bytes);
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let kept = format!("{name}.{}", Digest::of(bytes).short());
                files::atomic_write(self.dir.join(&kept), bytes, Durability::Synced)?;
                Before::File {
                    kept,
                    digest,
                    mode: *mode,
                    uid: *uid,
                    gid: *gid,
                }
            }
        })
    }

    /// Writes a file that was noted.
    pub(super) fn write(&self, path: &Path, bytes: &[u8], mode: u32, owner: Option<(u32, u32)>) -> Result<()> {
        let full = self.prefix.place(path)?;
        let folder = full.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        sweep(&full);
        files::atomic_write_mode(&full, bytes, Durability::Synced, mode)?;
        if let Some((uid, gid)) = owner {
            std::os::unix::fs::chown(&full, Some(uid), Some(gid)).with_context(|| format!("{} keeps a wrong owner", full.display()))?;
        }
        Ok(())
    }

    /// Puts back what was at a path before.
    pub(super) fn put_back(&self, entry: &Entry) -> Result<()> {
        let full = self.prefix.place(&entry.path)?;
        match &entry.before {
            Before::Absent => remove(&full)?,
            Before::Link { target } => {
                remove(&full)?;
                fs::create_dir_all(full.parent().unwrap_or(Path::new("/")))?;
                symlink(target, &full).with_context(|| format!("{} cannot be made a link again", full.display()))?;
            }
            Before::File {
                kept,
                digest: before,
                mode,
                uid,
                gid,
            } => {
                let bytes = files::read_bounded(self.dir.join(kept), MAX)?;
                if digest(&bytes) != *before {
                    bail!(
                        "{} is not what was kept of {} any more; put that back by hand",
                        self.dir.join(kept).display(),
                        full.display()
                    );
                }
                self.write(&entry.path, &bytes, *mode, Some((*uid, *gid)))?;
            }
        }
        Ok(())
    }

    /// Removes what a killed write left beside an entry's file.
    pub(super) fn tidy(&self, entry: &Entry) {
        sweep(&self.prefix.join(&entry.path));
    }

    /// Everything is as it was: removes the journal, what was kept, and the folders that were made and are
    /// empty.
    pub(super) fn close(self) -> Result<()> {
        // The journal goes first: what is kept without one is only in the way.
        remove(&self.dir.join("journal.json"))?;
        cofferdam_host::remove::remove_tree(&self.dir)?;
        // Innermost first; one with something in it stays.
        for dir in self.journal.dirs.iter().rev() {
            let _ = fs::remove_dir(self.prefix.join(dir));
        }
        Ok(())
    }
}

/// Removes a file or a link; one that is not there is no error.
pub(super) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
        done => done.with_context(|| format!("{} cannot be removed", path.display())),
    }
}

/// The folders of a path that are not there yet, outermost first.
fn missing(prefix: &Prefix, path: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = path
        .ancestors()
        .filter(|dir| !prefix.join(dir).exists())
        .map(Path::to_owned)
        .collect();
    all.reverse();
    all
}

/// Removes what a killed write of `path` left beside it.
fn sweep(path: &Path) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return;
    };
    let start = format!(".{}.", name.to_string_lossy());
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&start) && files::is_temporary(&name) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
