//! Making room: images that nobody uses, and what is left of broken pulls.

use super::save::disk_usage;
use super::{Removed, Store, records};
use crate::digest::Digest;
use crate::error::{IoContext, Result};
use std::collections::HashSet;
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Parts of layers of broken pulls that are this old go when the store is opened.
const ABANDONED: Duration = Duration::from_secs(7 * 24 * 3600);

type InUse<'a> = &'a dyn Fn(&Digest) -> Option<String>;

/// What to remove.
#[derive(Clone, Copy)]
pub struct PruneOptions<'a> {
    /// All images that nobody uses, not only those without a name.
    pub all: bool,
    /// The compressed content of the layers that stay: see [`Store::keep_content`].
    pub content: bool,
    /// What broken pulls left, where nothing came to it for so long.
    pub partial_older: Duration,
    /// Who runs from an image, if anybody.
    pub in_use: &'a dyn Fn(&Digest) -> Option<String>,
}

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Images.
    pub images: Vec<Removed>,
    /// Bytes on disk that were freed.
    pub bytes: u64,
    /// Whether layers stay for the moment, because an image is being pulled or loaded or because a
    /// record cannot be read.
    pub deferred: bool,
}

impl Store {
    /// Removes images that nobody needs, then what no image needs any more.
    ///
    /// # Errors
    /// Where the store cannot be changed.
    pub fn prune(&self, options: &PruneOptions<'_>) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        {
            let guard = self.write()?;
            let mut names = self.read_names()?;
            let mut gone = Vec::new();
            for id in self.image_ids()? {
                let own = names.of(&id);
                if (own.is_empty() || options.all) && (options.in_use)(&id).is_none() {
                    own.iter().for_each(|name| names.remove(name));
                    names.remove_digests(&id);
                    gone.push(id.clone());
                    pruned.images.push(Removed {
                        names: own,
                        image: Some(id),
                    });
                }
            }
            if !gone.is_empty() {
                let path = self.names_path();
                guard.write_file(&path, &records::to_json(&names, &path)?)?;
            }
            for id in gone {
                let path = self.record_path(&id);
                fs::remove_file(&path).at("remove", &path)?;
                super::lock::sync_parent(&path)?;
            }
        }
        pruned.bytes += self.drop_partials(options.partial_older)?;
        if options.content {
            pruned.bytes += self.drop_content()?;
        }
        pruned.bytes += self.drop_replaced(Some(options.in_use))?;
        match self.collect()? {
            Some(bytes) => pruned.bytes += bytes,
            None => pruned.deferred = true,
        }
        Ok(pruned)
    }

    /// Removes what was left of broken pulls long ago, and layers that were replaced before the
    /// machine was booted.
    pub(super) fn clear_old(&self) -> Result<()> {
        self.drop_partials(ABANDONED)?;
        self.drop_replaced(None)?;
        Ok(())
    }

    fn drop_partials(&self, older: Duration) -> Result<u64> {
        let dir = self.root.join("partial");
        let mut bytes = 0;
        for entry in fs::read_dir(&dir).at("read", &dir)? {
            let path = entry.at("read", &dir)?.path();
            let Ok(file) = File::open(&path) else { continue };
            let age = file
                .metadata()
                .and_then(|meta| meta.modified())
                .map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
            if age.is_ok_and(|age| age >= older) && file.try_lock().is_ok() {
                bytes += remove_file(&path)?;
            }
        }
        Ok(bytes)
    }

    /// Removes the compressed content of layers, unless an image is being pulled, loaded or saved.
    fn drop_content(&self) -> Result<u64> {
        let Some(_no_loads) = self.keep_loads_away()? else { return Ok(0) };
        let _guard = self.write()?;
        let mut content = HashSet::new();
        for id in self.image_ids()? {
            let layers = self.read_record(&id)?.map(|record| record.layers).unwrap_or_default();
            content.extend(layers.into_iter().flat_map(|layer| layer.blob.into_iter().chain(layer.other)));
        }
        let paths = content.iter().map(|digest| self.blob(digest)).filter(|path| path.is_file());
        paths.map(|path| remove_file(&path)).sum()
    }

    /// Removes layers that a repair replaced, where no container can have them any more.
    fn drop_replaced(&self, in_use: Option<InUse<'_>>) -> Result<u64> {
        let all = self.replaced()?;
        if all.is_empty() {
            return Ok(0);
        }
        let mut used = HashSet::new();
        for id in self.image_ids()? {
            if in_use.is_none_or(|in_use| in_use(&id).is_some()) {
                let layers = self.read_record(&id).ok().flatten().map(|record| record.layers).unwrap_or_default();
                used.extend(layers.into_iter().map(|layer| layer.chain_id.hex().to_owned()));
            }
        }
        let (mut bytes, guard) = (0, self.write()?);
        let bin = guard.temporary_dir()?;
        for (path, chain, old) in all {
            if old || (in_use.is_some() && !used.contains(&chain)) {
                bytes += disk_usage(&path);
                fs::rename(&path, bin.path(&chain)).at("remove", &path)?;
            }
        }
        drop(guard);
        Ok(bytes)
    }
}

fn remove_file(path: &Path) -> Result<u64> {
    let bytes = disk_usage(path);
    fs::remove_file(path).at("remove", path)?;
    Ok(bytes)
}
