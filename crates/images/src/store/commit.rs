//! The last step of an import: everything is synced, and appears.

use super::content::Place;
use super::records::{self, ImageRecord, LayerRecord, LayerRef};
use super::{Image, Store, Temp, lock};
use crate::archive::Offer;
use crate::digest::Digest;
use crate::error::{Error, IoContext, Result};
use crate::reference::Reference;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::PathBuf;

/// Characters of a layer's short name.
pub(super) const SHORT: usize = 10;

/// A layer that is to be part of an image.
pub(super) struct NewLayer {
    record: LayerRecord,
    blob: Option<Digest>,
    place: Place,
    /// Where it was unpacked, unless the store has it already.
    temp: Option<Temp>,
    known: bool,
}

impl NewLayer {
    /// One of the store. `temp` may hold its content.
    pub(super) fn known(record: LayerRecord, blob: Option<Digest>, place: Place, temp: Option<Temp>) -> Self {
        Self {
            record,
            blob,
            place,
            temp,
            known: true,
        }
    }

    /// One that was unpacked in `temp`.
    pub(super) fn new(record: LayerRecord, blob: Option<Digest>, place: Place, temp: Option<Temp>) -> Self {
        Self {
            record,
            blob,
            place,
            temp,
            known: false,
        }
    }
}

/// What appeared.
pub(super) struct Stored {
    pub(super) image: Image,
    /// Names that it was given.
    pub(super) names: Vec<String>,
}

impl Store {
    /// Syncs the trees, then lets content, layers, blobs, record and names appear, in that order.
    pub(super) fn commit(&self, id: &Digest, offer: &Offer, mut layers: Vec<NewLayer>) -> Result<Stored> {
        if layers.iter().any(|layer| !layer.known) {
            let root = File::open(&self.root).at("open", &self.root)?;
            rustix::fs::syncfs(&root).at("sync", &self.root)?;
        }
        let guard = self.write()?;
        for new in &mut layers {
            self.keep(new)?;
            place(self, &guard, new)?;
        }
        let manifest = offer.manifest.as_deref().map(|data| (Digest::of(data), data));
        for (digest, data) in [(id.clone(), &offer.config[..])].into_iter().chain(manifest.clone()) {
            if self.verified_blob(&digest)?.is_none() {
                guard.write_file(&self.blob(&digest), data)?;
            }
        }
        let path = self.record_path(id);
        // A later source may know more of an image than an earlier one: what a registry calls it.
        if self.read_record(id)?.is_none_or(|old| old.manifest.is_none() && manifest.is_some()) {
            let size = layers.iter().map(|layer| layer.record.size).sum();
            let refs = layers.iter().map(|new| LayerRef::new(&new.record, new.blob.clone()));
            let mut record = ImageRecord::new(id.clone(), refs.collect(), size);
            record.manifest = manifest.map(|(digest, _)| digest);
            record.target = offer.target.clone();
            guard.write_file(&path, &records::to_json(&record, &path)?)?;
        }
        let mut names = self.read_names()?;
        for reference in &offer.names {
            names.set(reference, id, offer.target.as_ref());
        }
        if offer.pulled {
            let targets = offer.target.iter();
            targets.for_each(|target| offer.names.iter().for_each(|name| names.set_digest(name.repository(), target, id)));
        }
        if !offer.names.is_empty() {
            let path = self.names_path();
            guard.write_file(&path, &records::to_json(&names, &path)?)?;
        }
        let image = self.image(id, &names)?.ok_or_else(|| Error::NotFound(id.to_string()))?;
        let given: BTreeSet<String> = offer.names.iter().map(Reference::key).collect();
        Ok(Stored {
            image,
            names: given.into_iter().collect(),
        })
    }

    /// Moves the compressed bytes of a layer into the content store, or discards them.
    fn keep(&self, new: &NewLayer) -> Result<()> {
        let (Place::File(path), Some(digest)) = (&new.place, &new.blob) else {
            return Ok(());
        };
        if !self.keep_content {
            new.place.remove();
            return Ok(());
        }
        let to = self.blob(digest);
        match fs::rename(path, &to) {
            // The same layer twice in one image, or in another's pull.
            Err(e) if e.kind() == ErrorKind::NotFound && to.exists() => Ok(()),
            result => result.at("keep", &to),
        }
    }
}

/// Lets an unpacked layer appear, unless somebody was faster.
fn place(store: &Store, guard: &lock::Guard<'_>, new: &mut NewLayer) -> Result<()> {
    let Some(temp) = new.temp.as_ref().filter(|_| !new.known) else {
        return Ok(());
    };
    if let Some(other) = store.read_layer(&new.record.chain_id)? {
        new.record.short = other.short;
        return Ok(());
    }
    let links = store.root.join("l");
    let target = PathBuf::from("../layers").join(new.record.chain_id.hex()).join("tree");
    let mut salt = 0u32;
    // Ten characters may collide, by intent too: then the next name is tried.
    new.record.short = loop {
        let short = short_name(&new.record.chain_id, salt);
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
    guard.write_file(&record, &records::to_json(&new.record, &record)?)?;
    let to = store.layer(&new.record.chain_id);
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
    let nibble = |b: u8| if b.is_ascii_digit() { b - b'0' } else { b - b'a' + 10 };
    let nibbles: Vec<u8> = digest.hex().bytes().map(nibble).collect();
    let letters = nibbles
        .chunks(2)
        .take(SHORT)
        .map(|pair| char::from(ALPHABET[usize::from(pair[0] << 4 | pair[1]) % 32]));
    letters.collect()
}
