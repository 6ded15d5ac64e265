//! Layers looked at as overlayfs would merge them, without a mount.

use super::{is_opaque, is_whiteout, kind, lstat, open_dir};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::{Errno, Result};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

/// Symbolic links that one path may lead through; Linux's own bound.
const MAX_LINKS: usize = 40;

/// A directory of the merged tree: the directories that are merged, top first.
type Merged = Rc<Vec<OwnedFd>>;

/// What a name in a merged directory is.
pub(crate) enum Found {
    /// A directory; the first is what gives it its attributes.
    Dir(Merged),
    /// Anything else: the directory that has it, and its attributes.
    Node(OwnedFd, Box<Stat>),
}

/// Layers, top first.
pub(crate) struct Stack {
    root: Merged,
}

impl Stack {
    /// Opens the trees of the layers, top first.
    pub(crate) fn open<'a>(trees: impl IntoIterator<Item = &'a Path>) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut root = Vec::new();
        for tree in trees {
            let fd = rustix::fs::open(tree, flags, Mode::empty())?;
            let opaque = is_opaque(&fd);
            root.push(fd);
            if opaque {
                break;
            }
        }
        Ok(Self {
            root: Rc::new(root),
        })
    }

    /// Whether there are no layers.
    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_empty()
    }

    /// What the path of `parts` is, where no part but the last is a symbolic link.
    pub(crate) fn find(&self, parts: &[&[u8]]) -> Result<Option<Found>> {
        let mut at = self.root.clone();
        for (i, part) in parts.iter().enumerate() {
            match child(&at, part)? {
                Some(Found::Dir(dir)) => at = dir,
                Some(node) if i + 1 == parts.len() => return Ok(Some(node)),
                _ => return Ok(None),
            }
        }
        Ok(Some(Found::Dir(at)))
    }

    /// Opens the regular file `path`, following links with the merged tree as `/`. `None` where
    /// there is none.
    pub(crate) fn open_file(&self, path: &[u8]) -> Result<Option<File>> {
        let mut links = 0;
        let mut above: Vec<Merged> = Vec::new();
        let mut at = self.root.clone();
        // Parts still to walk, the next one last.
        let mut rest: Vec<Vec<u8>> = split(path);
        while let Some(part) = rest.pop() {
            match &part[..] {
                b"" | b"." => continue,
                b".." => {
                    at = above.pop().unwrap_or_else(|| self.root.clone());
                    continue;
                }
                _ => {}
            }
            match child(&at, &part)? {
                None => return Ok(None),
                Some(Found::Dir(dir)) => above.push(std::mem::replace(&mut at, dir)),
                Some(Found::Node(dir, stat)) => match kind(&stat) {
                    FileType::Symlink => {
                        links += 1;
                        let target = rustix::fs::readlinkat(&dir, &part, Vec::new())?.into_bytes();
                        if links > MAX_LINKS {
                            return Err(Errno::LOOP);
                        }
                        if target.starts_with(b"/") {
                            at = self.root.clone();
                            above.clear();
                        }
                        rest.extend(split(&target));
                    }
                    FileType::RegularFile if rest.is_empty() => {
                        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                        return rustix::fs::openat(&dir, &part, flags, Mode::empty())
                            .map(|fd| Some(fd.into()));
                    }
                    _ => {
                        return Err(if rest.is_empty() {
                            Errno::INVAL
                        } else {
                            Errno::NOTDIR
                        });
                    }
                },
            }
        }
        Err(Errno::ISDIR)
    }
}

fn split(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|b| *b == b'/')
        .rev()
        .map(<[u8]>::to_vec)
        .collect()
}

/// `name` in a merged directory, by overlayfs's rules: the topmost layer wins, directories merge
/// until an opaque one or something else ends it, and a whiteout ends the search.
pub(crate) fn child(dirs: &[OwnedFd], name: &[u8]) -> Result<Option<Found>> {
    let mut merged = Vec::new();
    for dir in dirs {
        let Some(stat) = lstat(dir, name)? else {
            continue;
        };
        if kind(&stat) != FileType::Directory {
            if merged.is_empty() && !is_whiteout(&stat) {
                return Ok(Some(Found::Node(
                    dir.try_clone().map_err(|_| Errno::MFILE)?,
                    Box::new(stat),
                )));
            }
            break;
        }
        let fd = open_dir(dir, name)?;
        let opaque = is_opaque(&fd);
        merged.push(fd);
        if opaque {
            break;
        }
    }
    Ok((!merged.is_empty()).then(|| Found::Dir(Rc::new(merged))))
}
