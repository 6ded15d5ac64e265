//! Finds what is damaged in the store, and mends it.

use super::lock::sync_parent;
use super::pull::RemoteBlobs;
use super::records::{self, ImageRecord, LayerRecord, LayerRef};
use super::{Store, names::Names};
use crate::archive::Offer;
use crate::config;
use crate::digest::{Digest, Metered};
use crate::error::{Error, IoContext, Result};
use crate::reference::Reference;
use crate::remote::Remote;
use crate::tree;
use rustix::fs::RenameFlags;
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Gives the repository that a reference names, where it can be reached.
pub type Repair<'a> = &'a dyn Fn(&Reference) -> Option<Box<dyn Remote>>;

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong and where, and what was done or is to be done: one sentence.
    pub sentence: String,
    /// Whether it is mended.
    pub repaired: bool,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FsckReport {
    /// Images that were looked at.
    pub images: usize,
    /// Layers that were looked at.
    pub layers: usize,
    /// Layers whose files could not be compared: an older program unpacked them and took no digest.
    pub unverified: usize,
    /// Bytes that were read.
    pub bytes: u64,
    /// What is wrong; empty where all is well.
    pub findings: Vec<Finding>,
}

impl Store {
    /// Reads every record, blob and file of the store. Without `repair` nothing is changed. With it,
    /// what is damaged is made anew from the kept content or, where that does not do, from the
    /// registries that `repair` gives. A layer that is made anew takes the place of the damaged one
    /// at once; containers that run keep the damaged files, which stay under `replaced` until the
    /// machine is booted or [`Store::prune`] finds them unused. `seen` is told the bytes read so far.
    ///
    /// # Errors
    /// Where the store cannot be listed or locked; what is wrong in it is a finding.
    pub fn fsck(&self, repair: Option<Repair<'_>>, seen: &dyn Fn(u64)) -> Result<FsckReport> {
        let keep = self.keep_layers()?;
        let mut check = Check {
            store: self,
            repair,
            seen,
            report: FsckReport::default(),
            layers: HashSet::new(),
        };
        check.unreadable()?;
        check.names()?;
        let names = self.read_names().unwrap_or_default();
        for id in self.image_ids()? {
            match self.read_record(&id) {
                Ok(Some(record)) => check.image(&record, &names)?,
                Ok(None) => {}
                Err(error) => check.find(format!("{error}; pull or load the image again"), false),
            }
        }
        check.orphans()?;
        drop(keep);
        let report = check.report;
        if repair.is_some() {
            self.collect()?;
        }
        Ok(report)
    }

    /// Puts a new tree of a layer, at `new` with its record, in the place of the one there.
    fn replace_layer(&self, chain_id: &Digest, new: &Path) -> Result<()> {
        let to = self.layer(chain_id);
        // The temporary directory's name is like no other.
        let unique = new.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        let aside = self
            .root
            .join("replaced")
            .join(format!("{}.{}.{unique}", chain_id.hex(), boot_id()?));
        let _guard = self.write()?;
        // The new one waits where the old one is to stay: no moment is without a layer, and whoever
        // is killed between the two steps takes nothing from a running container.
        fs::rename(new, &aside).at("create", &aside)?;
        match rustix::fs::renameat_with(rustix::fs::CWD, &aside, rustix::fs::CWD, &to, RenameFlags::EXCHANGE) {
            Err(rustix::io::Errno::NOENT) => fs::rename(&aside, &to).at("create", &to)?,
            result => result.at("replace", &to)?,
        }
        sync_parent(&to)
    }

    /// Names of replaced layers, with the digest of each and whether it is of an earlier boot.
    pub(super) fn replaced(&self) -> Result<Vec<(PathBuf, String, bool)>> {
        let (dir, boot) = (self.root.join("replaced"), boot_id()?);
        let mut all = Vec::new();
        for entry in fs::read_dir(&dir).at("read", &dir)? {
            let path = entry.at("read", &dir)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            let mut parts = name.split('.');
            let chain = parts.next().unwrap_or_default().to_owned();
            let old = parts.next() != Some(boot.as_str());
            all.push((path, chain, old));
        }
        Ok(all)
    }
}

fn boot_id() -> Result<String> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    Ok(fs::read_to_string(path).at("read", path)?.trim().to_owned())
}

/// A check under way.
struct Check<'a> {
    store: &'a Store,
    repair: Option<Repair<'a>>,
    seen: &'a dyn Fn(u64),
    report: FsckReport,
    /// Layers and contents that were looked at; images share them.
    layers: HashSet<Digest>,
}

impl Check<'_> {
    fn find(&mut self, sentence: String, repaired: bool) {
        self.report.findings.push(Finding { sentence, repaired });
    }

    fn read(&mut self, bytes: u64) {
        self.report.bytes += bytes;
        (self.seen)(self.report.bytes);
    }

    /// Records that were put aside.
    fn unreadable(&mut self) -> Result<()> {
        let dirs = [self.store.root.join("images"), self.store.root.clone()];
        for dir in dirs {
            for entry in fs::read_dir(&dir).at("read", &dir)? {
                let path = entry.at("read", &dir)?.path();
                if path.extension().is_some_and(|e| e == "unreadable") {
                    let path = path.display();
                    self.find(
                        format!("{path}: this record could not be read: pull or load its image again, then remove the file"),
                        false,
                    );
                }
            }
        }
        if let Err(error) = self.store.read_names() {
            self.find(error.to_string(), false);
        }
        Ok(())
    }

    /// Names without an image.
    fn names(&mut self) -> Result<()> {
        let Ok(names) = self.store.read_names() else { return Ok(()) };
        for name in names.dangling(&|id| self.store.record_path(id).exists()) {
            let pulled = Reference::parse(&name).ok().and_then(|name| {
                let remote = self.repair?(&name)?;
                Some(self.store.pull(&name, &*remote, super::PullOptions::default()))
            });
            let said = match &pulled {
                Some(Ok(_)) => "it was pulled again".to_owned(),
                Some(Err(error)) => format!("it could not be pulled again: {error}"),
                None => "pull or load it again".to_owned(),
            };
            self.find(format!("name {name} has no image: {said}"), matches!(pulled, Some(Ok(_))));
        }
        Ok(())
    }

    fn image(&mut self, record: &ImageRecord, names: &Names) -> Result<()> {
        self.report.images += 1;
        let mut offer = None;
        for (what, digest) in [("configuration", Some(&record.id)), ("manifest", record.manifest.as_ref())] {
            if let Some(digest) = digest {
                self.small(what, digest, record, names, &mut offer)?;
            }
        }
        let mut trees = Vec::new();
        for (index, layer) in record.layers.iter().enumerate() {
            for blob in layer.blob.iter().chain(&layer.other) {
                if self.layers.insert(blob.clone()) {
                    self.content(blob, index, record, names, &mut offer)?;
                }
            }
            if self.layers.insert(tagged(&layer.chain_id)) {
                self.report.layers += 1;
                self.layer(layer, index, &trees, record, names, &mut offer)?;
            }
            trees.push(self.store.layer(&layer.chain_id).join("tree"));
        }
        Ok(())
    }

    /// A configuration or manifest.
    fn small(
        &mut self,
        what: &str,
        digest: &Digest,
        record: &ImageRecord,
        names: &Names,
        offer: &mut Option<Option<Source>>,
    ) -> Result<()> {
        let good = self.store.verified_blob(digest)?;
        self.read(good.as_ref().map_or(0, |data| data.len() as u64));
        if good.is_some() {
            return Ok(());
        }
        let from = self.source(record, names, offer);
        let data = from.map(|source| {
            if *digest == record.id {
                source.offer.config.clone()
            } else {
                source.offer.manifest.clone().unwrap_or_default()
            }
        });
        let fits = data.filter(|data| Digest::of(data) == *digest);
        if let Some(data) = &fits {
            self.store.write()?.write_file(&self.store.blob(digest), data)?;
        }
        let said = if fits.is_some() {
            "it was fetched again"
        } else {
            "pull or load the image again"
        };
        self.find(
            format!("the {what} of image {} ({digest}) is damaged or missing: {said}", record.id),
            fits.is_some(),
        );
        Ok(())
    }

    /// The compressed bytes of a layer. That there are none is no fault.
    fn content(
        &mut self,
        blob: &Digest,
        index: usize,
        record: &ImageRecord,
        names: &Names,
        offer: &mut Option<Option<Source>>,
    ) -> Result<()> {
        let path = self.store.blob(blob);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e).at("open", &path),
        };
        let length = file.metadata().at("read", &path)?.len();
        let found = Metered::new(file, u64::MAX, "").finish();
        self.read(length);
        if found.is_ok_and(|(found, _)| found == *blob) {
            return Ok(());
        }
        let mut said = "its layer is not repaired from it".to_owned();
        if self.repair.is_some() {
            fs::remove_file(&path).at("remove", &path)?;
            said = match self.fetch(blob, index, record, names, offer) {
                Some(Ok(())) => "it was fetched again".to_owned(),
                Some(Err(error)) => format!("it was removed, and could not be fetched again: {error}"),
                None => "it was removed; the layer itself does not need it".to_owned(),
            };
        }
        self.find(
            format!("the kept content {blob} of image {} is damaged: {said}", record.id),
            self.repair.is_some(),
        );
        Ok(())
    }

    /// An unpacked layer.
    fn layer(
        &mut self,
        layer: &LayerRef,
        index: usize,
        trees: &[PathBuf],
        record: &ImageRecord,
        names: &Names,
        offer: &mut Option<Option<Source>>,
    ) -> Result<()> {
        let path = self.store.layer(&layer.chain_id);
        let known = self.store.read_layer(&layer.chain_id);
        let wrong = match &known {
            Err(error) => Some(error.to_string()),
            Ok(None) => Some("it is missing".to_owned()),
            Ok(Some(LayerRecord { tree: None, .. })) => {
                self.report.unverified += 1;
                (!path.join("tree").is_dir()).then(|| "its files are missing".to_owned())
            }
            Ok(Some(LayerRecord { tree: Some(digest), .. })) => {
                let read = std::cell::Cell::new(0);
                let before = self.report.bytes;
                let found = tree::digest::of(&path.join("tree"), &|n| {
                    read.set(read.get() + n);
                    (self.seen)(before + read.get());
                });
                self.report.bytes += read.get();
                match found {
                    Ok(found) if found == *digest => None,
                    Ok(_) => Some("its files are not those that were unpacked".to_owned()),
                    Err(error) => Some(error.to_string()),
                }
            }
        };
        if let Some(wrong) = wrong {
            let what = format!("layer {} of image {}: {wrong}", layer.diff_id, record.id);
            if self.repair.is_none() {
                self.find(format!("{what}: repair the store, or pull or load the image again"), false);
                return Ok(());
            }
            match self.unpack_again(layer, index, trees, record, names, offer) {
                Ok(()) => self.find(
                    format!("{what}: it was unpacked again; containers that run keep the old files until they are started again"),
                    true,
                ),
                Err(error) => self.find(format!("{what}: it could not be unpacked again: {error}"), false),
            }
        }
        self.link(layer)
    }

    /// The short name by which mounts know a layer.
    fn link(&mut self, layer: &LayerRef) -> Result<()> {
        let link = self.store.root.join("l").join(&layer.short);
        let target = PathBuf::from("../layers").join(layer.chain_id.hex()).join("tree");
        if fs::read_link(&link).is_ok_and(|there| there == target) {
            return Ok(());
        }
        if self.repair.is_some() {
            let _guard = self.store.write()?;
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(&target, &link).at("create", &link)?;
            sync_parent(&link)?;
        }
        let said = if self.repair.is_some() {
            "it was made again"
        } else {
            "repair the store"
        };
        self.find(
            format!(
                "{}: the link to layer {} is missing or wrong: {said}",
                link.display(),
                layer.diff_id
            ),
            self.repair.is_some(),
        );
        Ok(())
    }

    fn unpack_again(
        &mut self,
        layer: &LayerRef,
        index: usize,
        trees: &[PathBuf],
        record: &ImageRecord,
        names: &Names,
        offer: &mut Option<Option<Source>>,
    ) -> Result<()> {
        let from = |digest: &Digest| File::open(self.store.blob(digest)).ok();
        let kept = layer.blob.iter().chain(&layer.other).find_map(from);
        let gone = || Error::Record {
            path: self.store.layer(&layer.chain_id),
            why: "its content was not kept, and no registry has it: load the image again".into(),
        };
        let temp = self.store.write()?.temporary_dir()?;
        let first = kept.map(|file| self.store.unpack_kept(file, &layer.diff_id, trees, &temp));
        let done = match first {
            Some(Ok(done)) => done,
            other => {
                let source = self.source(record, names, offer).ok_or_else(gone);
                let wanted = source.and_then(|source| source.offer.layers.get(index).and_then(|l| l.promised.clone()).ok_or_else(gone));
                let blob = match (wanted, other) {
                    (Ok((blob, _)), _) => blob,
                    (Err(_), Some(Err(error))) => return Err(error),
                    (Err(error), _) => return Err(error),
                };
                self.fetch(&blob, index, record, names, offer).ok_or_else(gone)??;
                let path = self.store.blob(&blob);
                self.store
                    .unpack_kept(File::open(&path).at("open", &path)?, &layer.diff_id, trees, &temp)?
            }
        };
        let (report, tree) = done;
        let mut new = LayerRecord::new(
            layer.diff_id.clone(),
            layer.chain_id.clone(),
            report.bytes,
            Some(tree),
            layer.blob.clone(),
        );
        new.short = layer.short.clone();
        let path = temp.path("layer").join("layer.json");
        self.store.write()?.write_file(&path, &records::to_json(&new, &path)?)?;
        let root = File::open(&self.store.root).at("open", &self.store.root)?;
        rustix::fs::syncfs(&root).at("sync", &self.store.root)?;
        self.store.replace_layer(&layer.chain_id, &temp.path("layer"))?;
        // Block images may have been made from the damaged files.
        for id in self.store.image_ids()? {
            let other = self.store.read_record(&id).ok().flatten();
            if other.is_some_and(|other| other.layers.iter().any(|one| one.chain_id == layer.chain_id)) {
                self.store.drop_block_image(&id);
            }
        }
        Ok(())
    }

    /// Where an image can be fetched from; asked once for each image.
    fn source<'s>(&self, record: &ImageRecord, names: &Names, offer: &'s mut Option<Option<Source>>) -> Option<&'s Source> {
        let known = offer.get_or_insert_with(|| {
            let references = names.digests_of(&record.id).into_iter().chain(names.of(&record.id));
            references.filter_map(|text| Reference::parse(&text).ok()).find_map(|reference| {
                let remote = self.repair?(&reference)?;
                let name = reference.to_string();
                let config = self.store.verified_blob(&record.id).ok().flatten();
                let platform = config.and_then(|data| config::parse(&data).ok()).map(|(config, _)| config.platform);
                let blobs = RemoteBlobs {
                    remote: &*remote,
                    image: &name,
                };
                let offer = self
                    .store
                    .offer(&reference, &blobs, platform.as_ref().unwrap_or(&self.store.host))
                    .ok()?;
                // What has the name today may be another image.
                (Digest::of(&offer.config) == record.id).then_some(Source { remote, name, offer })
            })
        });
        known.as_ref()
    }

    /// Fetches the content of a layer into the content store; `None` where nobody has it.
    fn fetch(
        &mut self,
        blob: &Digest,
        index: usize,
        record: &ImageRecord,
        names: &Names,
        offer: &mut Option<Option<Source>>,
    ) -> Option<Result<()>> {
        let source = self.source(record, names, offer)?;
        let (digest, size) = source.offer.layers.get(index)?.promised.clone()?;
        if digest != *blob {
            return None;
        }
        Some(fetch(self.store, source, &digest, size))
    }

    /// Layers and content that no image has.
    fn orphans(&mut self) -> Result<()> {
        if self.store.has_unreadable()? {
            return Ok(());
        }
        let said = if self.repair.is_some() {
            "it goes as soon as no image is being loaded"
        } else {
            "it goes when the store is opened next"
        };
        // Where a record cannot be read, nobody knows what it needs.
        for path in self.store.unneeded().unwrap_or_default() {
            self.find(format!("{}: no image needs it: {said}", path.display()), self.repair.is_some());
        }
        Ok(())
    }
}

/// An image as a registry has it.
struct Source {
    remote: Box<dyn Remote>,
    name: String,
    offer: Offer,
}

/// Tells a layer's place in an image from the digest of its content in one set.
fn tagged(chain_id: &Digest) -> Digest {
    Digest::of(format!("chain {chain_id}").as_bytes())
}

fn fetch(store: &Store, source: &Source, digest: &Digest, size: u64) -> Result<()> {
    let blobs = RemoteBlobs {
        remote: &*source.remote,
        image: &source.name,
    };
    let temp = store.write()?.temporary_dir()?;
    let path = temp.path("content");
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .at("create", &path)?;
    let reader = source.remote.blob(digest, size, 0).map_err(|why| blobs.fail(why))?;
    let mut reader = Metered::new(reader, size, format!("layer {digest} is longer than promised"));
    io::copy(&mut reader, &mut file).map_err(|e| blobs.fail(format!("layer {digest} breaks off: {e}")))?;
    let (found, _) = reader.finish().map_err(|e| blobs.fail(e.to_string()))?;
    super::import::check(format!("layer {digest}"), digest, found)?;
    let to = store.blob(digest);
    fs::rename(&path, &to).at("keep", &to)
}
