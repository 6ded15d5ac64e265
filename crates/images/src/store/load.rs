//! Loading: from what an archive offers to an image of the store.

use super::records::{self, ImageRecord, LayerRecord, LayerRef};
use super::{Image, Store, Temp, lock};
use crate::archive::{self, LayerBlob, Offer};
use crate::compress::{self, Format};
use crate::config;
use crate::digest::{Digest, Metered};
use crate::error::{Error, IoContext, Result};
use crate::limits::{Progress, Stage};
use crate::reference::Reference;
use crate::source::{self, Blobs, Source};
use crate::tree::stack::Stack;
use crate::unpack::{Budget, Unpacker};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Characters of a layer's short name.
pub(super) const SHORT: usize = 10;

/// Where an archive is.
pub enum Input<'a> {
    /// A docker archive or OCI layout, as a file (compressed or not), a directory or a pipe.
    Path(&'a Path),
    /// The same as a stream.
    Stream(&'a mut dyn Read),
}

/// How to load.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The image's name, in the place of those in the archive. Where the archive names its images
    /// by a tag alone and this has the tag `latest`, it is their repository.
    pub name: Option<Reference>,
}

/// One image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The image, with all its names.
    pub image: Image,
    /// Names that this load gave it.
    pub names: Vec<String>,
    /// Sentences for the user: names and attributes that were left out.
    pub notes: Vec<String>,
}

impl Store {
    /// Loads the images of an archive that fit this machine. Every blob and layer is verified
    /// against its digest; nothing of an image appears before all of it is there and synced.
    ///
    /// # Errors
    /// What is wrong with the archive, a bound that it exceeds, or a failure of the file system.
    pub fn load(
        &self,
        input: Input<'_>,
        options: &LoadOptions,
        progress: &dyn Progress,
    ) -> Result<Vec<Loaded>> {
        let _keep = self.keep_layers()?;
        let (source, _spool) = self.source(input, progress)?;
        let offers = archive::offers(&source, options.name.as_ref(), &self.host, &self.limits)?;
        offers
            .iter()
            .map(|offer| self.import(offer, &source, progress))
            .collect()
    }

    /// Makes the archive one that can be read anywhere in it.
    fn source(&self, input: Input<'_>, progress: &dyn Progress) -> Result<(Source, Option<Temp>)> {
        let path = match input {
            Input::Stream(stream) => {
                return self.spool(Path::new("the stream"), stream, None, progress);
            }
            Input::Path(path) => path,
        };
        let meta = fs::metadata(path).at("open", path)?;
        if meta.is_dir() {
            return Ok((Source::dir(path)?, None));
        }
        let file = File::open(path).at("open", path)?;
        if !meta.is_file() {
            return self.spool(path, file, None, progress);
        }
        let format = source::format(&file).map_err(|e| Error::Archive {
            archive: path.display().to_string(),
            why: format!("it {e}"),
        })?;
        match format {
            Format::Plain => Ok((Source::tar(path, file, &self.limits)?, None)),
            _ => self.spool(path, file, Some(meta.len()), progress),
        }
    }

    fn spool(
        &self,
        path: &Path,
        from: impl Read,
        total: Option<u64>,
        progress: &dyn Progress,
    ) -> Result<(Source, Option<Temp>)> {
        let temp = self.write()?.temporary_dir()?;
        let spooled = temp.path("archive");
        let mut file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&spooled)
            .at("create", &spooled)?;
        source::spool(from, &mut file, &self.limits, &|done| {
            progress.progress(&Stage::Spool, done, total)
        })
        .map_err(|e| Error::Archive {
            archive: path.display().to_string(),
            why: format!("it cannot be read: {e}"),
        })?;
        Ok((Source::tar(path, file, &self.limits)?, Some(temp)))
    }

    /// Unpacks what is not there yet and records the image. The caller keeps the collector away.
    pub(crate) fn import(
        &self,
        offer: &Offer,
        blobs: &dyn Blobs,
        progress: &dyn Progress,
    ) -> Result<Loaded> {
        let id = Digest::of(&offer.config);
        let fail = |why: String| Error::Archive {
            archive: format!("image {id}"),
            why,
        };
        let (_, diff_ids) = config::parse(&offer.config).map_err(fail)?;
        if diff_ids.len() != offer.layers.len() {
            return Err(fail(format!(
                "it has {} layers, but its configuration names {}",
                offer.layers.len(),
                diff_ids.len()
            )));
        }
        if diff_ids.len() > self.limits.layers {
            return Err(fail(format!(
                "it has {} layers, and no more than {} are taken",
                diff_ids.len(),
                self.limits.layers
            )));
        }
        let mut import = Import {
            store: self,
            budget: Budget {
                bytes: self.limits.image_bytes,
                entries: self.limits.entries,
            },
            trees: Vec::new(),
            layers: Vec::new(),
            notes: offer.notes.clone(),
        };
        for (i, (blob, chain_id)) in offer
            .layers
            .iter()
            .zip(config::chain(&diff_ids))
            .enumerate()
        {
            let stage = Stage::Layer {
                number: i + 1,
                count: offer.layers.len(),
            };
            import.layer(
                blob,
                diff_ids[i].clone(),
                chain_id,
                blobs,
                &|done, total| progress.progress(&stage, done, Some(total)),
            )?;
        }
        progress.progress(&Stage::Commit, 0, None);
        import.commit(&id, offer)
    }
}

/// One image on its way into the store.
struct Import<'a> {
    store: &'a Store,
    budget: Budget,
    /// Trees of the layers so far, lowest first.
    trees: Vec<PathBuf>,
    layers: Vec<NewLayer>,
    notes: Vec<String>,
}

struct NewLayer {
    layer: LayerRef,
    size: u64,
    /// Where it was unpacked, unless the store has it already.
    temp: Option<Temp>,
}

impl Import<'_> {
    fn layer(
        &mut self,
        blob: &LayerBlob,
        diff_id: Digest,
        chain_id: Digest,
        blobs: &dyn Blobs,
        seen: &dyn Fn(u64, u64),
    ) -> Result<()> {
        let known = self.store.read_layer(&chain_id)?;
        let temp = match &known {
            Some(_) => None,
            None => Some(self.store.write()?.temporary_dir()?),
        };
        let (reader, length) = blobs.open(&blob.name)?;
        let watch = |done| seen(done, length);
        let mut packed = Metered::new(
            reader,
            length,
            format!("layer {} is longer than promised", blob.name),
        )
        .watched(&watch);
        let io_error = |e: std::io::Error| Error::Unpack {
            layer: diff_id.to_string(),
            entry: String::new(),
            why: e.to_string(),
        };
        let mut size = known.as_ref().map_or(0, |layer| layer.size);
        let (found, _) = {
            let decoded = compress::decoder(&mut packed).map_err(io_error)?;
            let (bound, over) = self.bound(length);
            let mut plain = Metered::new(decoded, bound, over);
            if let Some(temp) = &temp {
                size = self.unpack(temp, &mut plain, &diff_id)?;
            }
            plain.finish().map_err(io_error)?
        };
        check(format!("layer {} (unpacked)", blob.name), &diff_id, found)?;
        let (found, found_length) = packed.finish().map_err(io_error)?;
        if let Some((promised, promised_length)) = &blob.promised {
            check(blob.name.clone(), promised, found.clone())?;
            if *promised_length != found_length {
                let why =
                    format!("it has {found_length} bytes, but {promised_length} were promised");
                return Err(Error::Archive {
                    archive: blob.name.clone(),
                    why,
                });
            }
        }
        let tree = temp.as_ref().map_or_else(
            || self.store.layer(&chain_id).join("tree"),
            |temp| temp.path("layer").join("tree"),
        );
        self.trees.push(tree);
        let short = known.map(|layer| layer.short).unwrap_or_default();
        self.layers.push(NewLayer {
            layer: LayerRef {
                diff_id,
                chain_id,
                short,
                blob: Some(found),
            },
            size,
            temp,
        });
        Ok(())
    }

    /// Bytes that a blob of `length` may unpack to, and the sentence for more.
    fn bound(&self, length: u64) -> (u64, String) {
        let limits = &self.store.limits;
        let grown = limits
            .free_growth_bytes
            .max(length.saturating_mul(limits.ratio));
        // Headers and padding come on top of the files' own bytes.
        let total = limits
            .image_bytes
            .saturating_add(limits.entries.saturating_mul(2048));
        if grown < total {
            (
                grown,
                format!(
                    "it unpacks to more than {grown} bytes, {} times its compressed size: it looks like a bomb",
                    limits.ratio
                ),
            )
        } else {
            (
                total,
                format!("the image has more than {} bytes", limits.image_bytes),
            )
        }
    }

    fn unpack(&mut self, temp: &Temp, data: impl Read, diff_id: &Digest) -> Result<u64> {
        let dir = temp.path("layer");
        let tree = dir.join("tree");
        fs::create_dir_all(&tree).at("create", &tree)?;
        rustix::fs::chmod(&tree, rustix::fs::Mode::from_raw_mode(0o755)).at("protect", &tree)?;
        let (root, trash) = (
            File::open(&tree).at("open", &tree)?,
            File::open(temp.path("trash")).at("open", &temp.path("trash"))?,
        );
        let lower = Stack::open(self.trees.iter().rev().map(PathBuf::as_path))
            .at("open the layers of", &self.store.root)?;
        let unpacker = Unpacker::new(
            root.into(),
            trash.as_fd(),
            &lower,
            &self.store.limits,
            &mut self.budget,
        );
        let report = unpacker.run(data, &diff_id.to_string())?;
        self.notes.extend(report.warnings);
        Ok(report.bytes)
    }

    /// Syncs the trees, then lets layers, blobs, record and names appear, in that order.
    fn commit(mut self, id: &Digest, offer: &Offer) -> Result<Loaded> {
        let store = self.store;
        if self.layers.iter().any(|layer| layer.temp.is_some()) {
            let root = File::open(&store.root).at("open", &store.root)?;
            rustix::fs::syncfs(&root).at("sync", &store.root)?;
        }
        let guard = store.write()?;
        for new in &mut self.layers {
            place(store, &guard, new)?;
        }
        let manifest = offer
            .manifest
            .as_deref()
            .map(|data| (Digest::of(data), data));
        for (digest, data) in [(id.clone(), &offer.config[..])]
            .into_iter()
            .chain(manifest.clone())
        {
            let path = store.blob(&digest);
            if fs::read(&path)
                .ok()
                .is_none_or(|old| Digest::of(&old) != digest)
            {
                guard.write_file(&path, data)?;
            }
        }
        let path = store.record_path(id);
        if store.read_record(id)?.is_none() {
            let size = self.layers.iter().map(|layer| layer.size).sum();
            let mut record = ImageRecord::new(
                id.clone(),
                self.layers.iter().map(|new| new.layer.clone()).collect(),
                size,
            );
            record.manifest = manifest.map(|(digest, _)| digest);
            record.target = offer.target.clone();
            guard.write_file(&path, &records::to_json(&record, &path)?)?;
        }
        let mut names = store.read_names()?;
        for reference in &offer.names {
            names.set(reference, id, offer.target.as_ref());
        }
        if !offer.names.is_empty() {
            let path = store.names_path();
            guard.write_file(&path, &records::to_json(&names, &path)?)?;
        }
        let image = store
            .image(id, &names)?
            .ok_or_else(|| Error::NotFound(id.to_string()))?;
        let given: BTreeSet<String> = offer.names.iter().map(Reference::key).collect();
        Ok(Loaded {
            image,
            names: given.into_iter().collect(),
            notes: self.notes,
        })
    }
}

fn check(what: String, expected: &Digest, found: Digest) -> Result<()> {
    if *expected == found {
        return Ok(());
    }
    Err(Error::DigestMismatch {
        what,
        expected: expected.to_string(),
        found: found.to_string(),
    })
}

/// Lets an unpacked layer appear, unless somebody was faster.
fn place(store: &Store, guard: &lock::Guard<'_>, new: &mut NewLayer) -> Result<()> {
    let Some(temp) = &new.temp else { return Ok(()) };
    if let Some(other) = store.read_layer(&new.layer.chain_id)? {
        new.layer.short = other.short;
        return Ok(());
    }
    let links = store.root.join("l");
    let target = PathBuf::from("../layers")
        .join(new.layer.chain_id.hex())
        .join("tree");
    let mut salt = 0u32;
    // Ten characters may collide, by intent too: then the next name is tried.
    new.layer.short = loop {
        let short = short_name(&new.layer.chain_id, salt);
        let link = links.join(&short);
        match fs::read_link(&link) {
            Ok(there) if there == target => break short,
            Ok(_) => salt += 1,
            Err(_) => {
                std::os::unix::fs::symlink(&target, &link).at("create", &link)?;
                lock::sync_parent(&link)?;
                break short;
            }
        }
    };
    let record = temp.path("layer").join("layer.json");
    guard.write_file(
        &record,
        &records::to_json(&LayerRecord::new(&new.layer, new.size), &record)?,
    )?;
    let to = store.layer(&new.layer.chain_id);
    fs::rename(temp.path("layer"), &to).at("create", &to)?;
    lock::sync_parent(&to)
}

/// Ten characters of base 32.
fn short_name(chain_id: &Digest, salt: u32) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let digest = if salt == 0 {
        chain_id.clone()
    } else {
        Digest::of(format!("{chain_id} {salt}").as_bytes())
    };
    let nibbles = digest.hex().bytes().map(|b| {
        if b.is_ascii_digit() {
            b - b'0'
        } else {
            b - b'a' + 10
        }
    });
    let nibbles: Vec<u8> = nibbles.collect();
    nibbles
        .chunks(2)
        .take(SHORT)
        .map(|pair| char::from(ALPHABET[usize::from(pair[0] << 4 | pair[1]) % 32]))
        .collect()
}
