//! Removing images, and what no image needs any more.

use super::save::disk_usage;
use super::{Store, Temp, records};
use crate::digest::Digest;
use crate::error::{Error, IoContext, Result};
use crate::reference::Reference;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What a removal did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Removed {
    /// Names that are gone.
    pub names: Vec<String>,
    /// The image, where it is gone too.
    pub image: Option<Digest>,
}

impl Store {
    /// Removes a name, and its image with the last one; or an image with all its names, where
    /// `text` is an id. Layers that no image has any more go too, at once or, while an image is
    /// being loaded, later. `in_use` says who runs from an image, if anybody.
    ///
    /// # Errors
    /// [`Error::InUse`] where the image would go, and those of [`Store::resolve`].
    pub fn remove(
        &self,
        text: &str,
        in_use: &dyn Fn(&Digest) -> Option<String>,
    ) -> Result<Removed> {
        let removed = {
            let guard = self.write()?;
            let mut names = self.read_names()?;
            let id = self.find(text, &names)?;
            let record = self.record_path(&id);
            if !record.exists() {
                return Err(Error::NotFound(text.to_owned()));
            }
            let all = names.of(&id);
            let one = Reference::parse(text)
                .ok()
                .and_then(|r| names.get(&r).map(|(name, _)| name.to_owned()));
            let gone = one
                .filter(|name| all.contains(name))
                .map_or_else(|| all.clone(), |name| vec![name]);
            let last = gone.len() == all.len();
            if last && let Some(by) = in_use(&id) {
                return Err(Error::InUse {
                    image: text.to_owned(),
                    by,
                });
            }
            for name in &gone {
                names.remove(name);
            }
            if last {
                names.remove_digests(&id);
            }
            let path = self.names_path();
            guard.write_file(&path, &records::to_json(&names, &path)?)?;
            if last {
                fs::remove_file(&record).at("remove", &record)?;
                super::lock::sync_parent(&record)?;
            }
            Removed {
                names: gone,
                image: last.then_some(id),
            }
        };
        self.collect()?;
        Ok(removed)
    }

    /// Takes all names of an image, which stays: returns them.
    ///
    /// # Errors
    /// Where the names cannot be read or written.
    pub fn untag(&self, id: &Digest) -> Result<Vec<String>> {
        let guard = self.write()?;
        let mut names = self.read_names()?;
        let gone = names.of(id);
        for name in &gone {
            names.remove(name);
        }
        names.remove_digests(id);
        let path = self.names_path();
        guard.write_file(&path, &records::to_json(&names, &path)?)?;
        Ok(gone)
    }

    /// Removes layers, blobs and block images that no record names; returns the bytes on disk. Does
    /// nothing while an image is being loaded, or while a record could not be read.
    pub(super) fn collect(&self) -> Result<Option<u64>> {
        let Some(_no_loads) = self.keep_loads_away()? else {
            return Ok(None);
        };
        let guard = self.write()?;
        if self.has_unreadable()? {
            return Ok(None);
        }
        let mut bin: Option<Temp> = None;
        let mut bytes = 0;
        for (number, path) in self.unneeded()?.into_iter().enumerate() {
            let bin = match &mut bin {
                Some(bin) => bin,
                none => none.insert(guard.temporary_dir()?),
            };
            bytes += disk_usage(&path);
            fs::rename(&path, bin.path(&format!("{number}"))).at("remove", &path)?;
        }
        drop(guard);
        drop(bin);
        Ok(Some(bytes))
    }

    /// What no record names.
    pub(super) fn unneeded(&self) -> Result<Vec<PathBuf>> {
        let (mut layers, mut shorts) = (HashSet::new(), HashSet::new());
        let (mut blobs, mut ids) = (HashSet::new(), HashSet::new());
        for id in self.image_ids()? {
            let Some(record) = self.read_record(&id)? else {
                continue;
            };
            ids.insert(id.hex().to_owned());
            blobs.insert(id.hex().to_owned());
            blobs.extend(record.manifest.map(|digest| digest.hex().to_owned()));
            for layer in record.layers {
                let both = layer.blob.into_iter().chain(layer.other);
                blobs.extend(both.map(|digest| digest.hex().to_owned()));
                layers.insert(layer.chain_id.hex().to_owned());
                shorts.insert(layer.short);
            }
        }
        let mut all = Vec::new();
        for (dir, keep) in [
            ("l", &shorts),
            ("layers", &layers),
            ("blobs/sha256", &blobs),
            ("erofs", &ids),
        ] {
            let dir = self.root.join(dir);
            all.extend(unknown(&dir, keep)?.into_iter().map(|name| dir.join(name)));
        }
        Ok(all)
    }
}

/// Names in `dir` that are not in `keep`.
fn unknown(dir: &Path, keep: &HashSet<String>) -> Result<Vec<String>> {
    let mut unknown = Vec::new();
    for entry in fs::read_dir(dir).at("read", dir)? {
        let name = entry.at("read", dir)?.file_name();
        unknown.extend(
            name.to_str()
                .filter(|name| !keep.contains(*name))
                .map(str::to_owned),
        );
    }
    Ok(unknown)
}
