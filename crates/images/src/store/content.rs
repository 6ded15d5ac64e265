//! The compressed bytes of layers: kept, on their way, or given up.
//!
//! They need no syncing: whoever uses them verifies them. A part is named by the digest of the whole
//! and locked while it grows; what a killed pull leaves of it is where the next one goes on.

use super::{Store, Temp};
use crate::archive::LayerBlob;
use crate::digest::Digest;
use crate::error::{Error, IoContext, Result};
use crate::source::Blobs;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where the compressed bytes of a layer are.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// Nowhere.
    None,
    /// In the content store, under its digest.
    Kept(PathBuf),
    /// In a file that is to move there.
    File(PathBuf),
}

impl Place {
    /// Removes damaged or useless bytes.
    pub(super) fn remove(&self) {
        if let Self::Kept(path) | Self::File(path) = self {
            // Whoever finds them verifies them: that they are there harms nobody.
            let _ = fs::remove_file(path);
        }
    }

    /// Opens the bytes; another pull may have moved them into the content store.
    pub(super) fn open(&self, store: &Store, digest: Option<&Digest>) -> Result<File> {
        let (Self::Kept(path) | Self::File(path)) = self else {
            return Err(Error::Record {
                path: store.root.clone(),
                why: "the content of a layer is gone: pull or load the image again".into(),
            });
        };
        match (File::open(path), digest) {
            (Err(e), Some(digest)) if e.kind() == ErrorKind::NotFound => File::open(store.blob(digest)).at("open", &store.blob(digest)),
            (result, _) => result.at("open", path),
        }
    }
}

/// A layer's compressed bytes on their way.
pub(super) struct Incoming {
    /// What is here already, read from its beginning.
    pub(super) kept: Option<File>,
    /// Bytes of that.
    pub(super) prefix: u64,
    /// Where the rest is written, at its end.
    pub(super) copy: Option<File>,
    /// Bytes of the whole.
    pub(super) total: u64,
    pub(super) promised: Option<Digest>,
    pub(super) place: Place,
}

impl Incoming {
    /// Looks for what is here already. Waits while another pull fetches the same layer.
    pub(super) fn open(store: &Store, layer: &LayerBlob, blobs: &dyn Blobs, temp: &Temp) -> Result<Self> {
        let remote = layer.promised.as_ref().filter(|(digest, size)| blobs.is_remote(digest, *size));
        let Some((digest, total)) = remote else {
            return Self::at_hand(store, layer, blobs, temp);
        };
        let (total, promised) = (*total, Some(digest.clone()));
        let (whole, path) = (store.blob(digest), store.partial(digest));
        loop {
            if let Some(kept) = with_length(&whole, total)? {
                return Ok(Self {
                    kept: Some(kept),
                    prefix: total,
                    copy: None,
                    total,
                    promised,
                    place: Place::Kept(whole),
                });
            }
            let mut copy = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)
                .at("create", &path)?;
            copy.lock().at("lock", &path)?;
            let meta = copy.metadata().at("read", &path)?;
            // Whoever held it may have moved it into the store, or removed it.
            if !fs::symlink_metadata(&path).is_ok_and(|now| (now.dev(), now.ino()) == (meta.dev(), meta.ino())) {
                continue;
            }
            let prefix = if meta.len() > total { 0 } else { meta.len() };
            copy.set_len(prefix).at("shorten", &path)?;
            copy.seek(SeekFrom::Start(prefix)).at("read", &path)?;
            let kept = File::open(&path).at("open", &path)?;
            return Ok(Self {
                kept: Some(kept),
                prefix,
                copy: Some(copy),
                total,
                promised,
                place: Place::File(path),
            });
        }
    }

    /// A layer of an archive: nothing is gained from what is here.
    fn at_hand(store: &Store, layer: &LayerBlob, blobs: &dyn Blobs, temp: &Temp) -> Result<Self> {
        let (_, length) = blobs.open(&layer.name)?;
        let promised = layer.promised.as_ref().map(|(digest, _)| digest.clone());
        let total = layer.promised.as_ref().map_or(length, |(_, size)| *size);
        let path = temp.path("content");
        let (copy, place) = match &promised {
            Some(digest) if with_length(&store.blob(digest), total)?.is_some() => (None, Place::Kept(store.blob(digest))),
            _ => {
                let file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&path)
                    .at("create", &path)?;
                (Some(file), Place::File(path))
            }
        };
        Ok(Self {
            kept: None,
            prefix: 0,
            copy,
            total,
            promised,
            place,
        })
    }
}

fn with_length(path: &Path, length: u64) -> Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok((file.metadata().at("read", path)?.len() == length).then_some(file)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).at("open", path),
    }
}

impl Store {
    /// Where a layer's bytes lie while they are fetched.
    pub(super) fn partial(&self, digest: &Digest) -> PathBuf {
        self.root.join("partial").join(digest.hex())
    }

    /// Removes what was fetched of a layer, unless somebody fetches it now.
    pub(super) fn drop_partial(&self, digest: &Digest) {
        let path = self.partial(digest);
        if File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
            // What stays is found and verified by the next pull.
            let _ = fs::remove_file(&path);
        }
    }

    /// A document of the content store whose bytes fit its digest; `None` where there is none or a
    /// damaged one, or where it is larger than documents are: what a stranger's manifest calls its
    /// configuration may be somebody's layer, and is not read into memory.
    pub(super) fn verified_blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let (path, most) = (self.blob(digest), self.limits.json_bytes);
        let read = || -> std::io::Result<Vec<u8>> {
            let mut data = Vec::new();
            File::open(&path)?.take(most.saturating_add(1)).read_to_end(&mut data)?;
            Ok(data)
        };
        match read() {
            Ok(data) => Ok(Some(data).filter(|data| data.len() as u64 <= most && Digest::of(data) == *digest)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).at("read", &path),
        }
    }
}
