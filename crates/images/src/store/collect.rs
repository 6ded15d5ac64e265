//! Removing images, and what no image needs any more.

use super::{Store, Temp, records};
use crate::digest::Digest;
use crate::error::{Error, IoContext, Result};
use crate::reference::Reference;
use std::collections::HashSet;
use std::fs;
use std::path::Path;

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

    /// Removes layers and blobs that no record names. Does nothing while an image is being loaded,
    /// or while a record could not be read.
    pub(super) fn collect(&self) -> Result<()> {
        let Some(_no_loads) = self.keep_loads_away()? else {
            return Ok(());
        };
        let guard = self.write()?;
        if self.has_unreadable()? {
            return Ok(());
        }
        let (mut layers, mut shorts, mut blobs) = (HashSet::new(), HashSet::new(), HashSet::new());
        for id in self.image_ids()? {
            let Some(record) = self.read_record(&id)? else {
                continue;
            };
            blobs.insert(id.hex().to_owned());
            blobs.extend(record.manifest.map(|digest| digest.hex().to_owned()));
            for layer in record.layers {
                layers.insert(layer.chain_id.hex().to_owned());
                shorts.insert(layer.short);
            }
        }
        let mut bin: Option<Temp> = None;
        for (dir, keep) in [
            ("l", &shorts),
            ("layers", &layers),
            ("blobs/sha256", &blobs),
        ] {
            let dir = self.root.join(dir);
            for name in unknown(&dir, keep)? {
                if bin.is_none() {
                    bin = Some(guard.temporary_dir()?);
                }
                if let Some(bin) = &bin {
                    let to = bin.path(&format!(
                        "{}-{name}",
                        dir.file_name().and_then(|n| n.to_str()).unwrap_or_default()
                    ));
                    fs::rename(dir.join(&name), to).at("remove", &dir.join(&name))?;
                }
            }
        }
        drop(guard);
        drop(bin);
        Ok(())
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
