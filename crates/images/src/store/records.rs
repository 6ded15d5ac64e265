//! Records on disk: what an image and what a layer is.

use super::Store;
use crate::digest::Digest;
use crate::error::{Error, IoContext, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// Form of the records that this program writes and reads.
const VERSION: u32 = 1;
const LONGEST_RECORD: u64 = 64 << 20;

/// One image; never changed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ImageRecord {
    pub(super) version: u32,
    pub(super) id: Digest,
    pub(super) layers: Vec<LayerRef>,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) manifest: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<Digest>,
}

/// A layer of an image.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LayerRef {
    pub(super) diff_id: Digest,
    pub(super) chain_id: Digest,
    pub(super) short: String,
    /// Of the blob, compressed as it came: a registry's name for the layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) blob: Option<Digest>,
    /// Of the blob that the layer was unpacked from, where another image brought another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) other: Option<Digest>,
}

/// An unpacked layer; never changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LayerRecord {
    pub(super) version: u32,
    pub(super) diff_id: Digest,
    pub(super) chain_id: Digest,
    pub(super) short: String,
    pub(super) size: u64,
    /// Of the tree, see [`crate::tree::digest`]; missing where an older program unpacked it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tree: Option<Digest>,
    /// Of the blob that it was unpacked from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) blob: Option<Digest>,
}

impl ImageRecord {
    pub(super) fn new(id: Digest, layers: Vec<LayerRef>, size: u64) -> Self {
        Self {
            version: VERSION,
            id,
            layers,
            size,
            manifest: None,
            target: None,
        }
    }
}

impl LayerRecord {
    /// Its short name is given when it appears.
    pub(super) fn new(
        diff_id: Digest,
        chain_id: Digest,
        size: u64,
        tree: Option<Digest>,
        blob: Option<Digest>,
    ) -> Self {
        Self {
            version: VERSION,
            diff_id,
            chain_id,
            short: String::new(),
            size,
            tree,
            blob,
        }
    }
}

impl LayerRef {
    pub(super) fn new(layer: &LayerRecord, blob: Option<Digest>) -> Self {
        let blob = blob.or_else(|| layer.blob.clone());
        Self {
            diff_id: layer.diff_id.clone(),
            chain_id: layer.chain_id.clone(),
            short: layer.short.clone(),
            other: layer.blob.clone().filter(|other| blob.as_ref() != Some(other)),
            blob,
        }
    }
}

impl Store {
    pub(super) fn read_record(&self, id: &Digest) -> Result<Option<ImageRecord>> {
        let path = self.record_path(id);
        let Some(record) = read::<ImageRecord>(&path)? else {
            return Ok(None);
        };
        let why = match () {
            () if record.version != VERSION => format!(
                "it has version {}, and this program knows {VERSION}",
                record.version
            ),
            () if record.id != *id => "it is the record of another image".to_owned(),
            () if record.layers.iter().any(|layer| !is_short(&layer.short)) => {
                "the short name of a layer is not valid".to_owned()
            }
            () => return Ok(Some(record)),
        };
        Err(Error::Record { path, why })
    }

    pub(super) fn read_layer(&self, chain_id: &Digest) -> Result<Option<LayerRecord>> {
        let path = self.layer(chain_id).join("layer.json");
        let Some(record) = read::<LayerRecord>(&path)? else {
            return Ok(None);
        };
        if record.version != VERSION || record.chain_id != *chain_id || !is_short(&record.short) {
            return Err(Error::Record {
                path,
                why: "it is not the record of this layer".into(),
            });
        }
        Ok(Some(record))
    }

    pub(super) fn record_path(&self, id: &Digest) -> std::path::PathBuf {
        self.root.join("images").join(format!("{}.json", id.hex()))
    }

    pub(super) fn image_ids(&self) -> Result<Vec<Digest>> {
        let dir = self.root.join("images");
        let mut ids = Vec::new();
        for entry in fs::read_dir(&dir).at("read", &dir)? {
            let name = entry.at("read", &dir)?.file_name();
            ids.extend(
                name.to_str()
                    .and_then(|n| n.strip_suffix(".json"))
                    .and_then(Digest::from_hex),
            );
        }
        ids.sort();
        Ok(ids)
    }

    /// Renames what cannot be read, and says so.
    pub(super) fn put_aside_unreadable(&self) -> Result<Vec<String>> {
        let _guard = self.write()?;
        let mut problems = Vec::new();
        let mut check = |path: &Path, result: Result<()>| -> Result<()> {
            let Err(error) = result else { return Ok(()) };
            let aside = path.with_extension("json.unreadable");
            fs::rename(path, &aside).at("put aside", path)?;
            problems.push(format!("{error}; it was put aside as {}", aside.display()));
            Ok(())
        };
        for id in self.image_ids()? {
            check(&self.record_path(&id), self.read_record(&id).map(drop))?;
        }
        check(&self.names_path(), self.read_names().map(drop))?;
        if problems.is_empty() && self.has_unreadable()? {
            problems.push(format!(
                "{}: a record that could not be read lies there as .unreadable: repair or remove it, until then no layer is removed",
                self.root.display()
            ));
        }
        Ok(problems)
    }

    /// Whether a record was put aside whose layers are not known.
    pub(super) fn has_unreadable(&self) -> Result<bool> {
        let dir = self.root.join("images");
        for entry in fs::read_dir(&dir).at("read", &dir)? {
            if entry
                .at("read", &dir)?
                .file_name()
                .as_encoded_bytes()
                .ends_with(b".unreadable")
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Reads a record, or `None` where there is none.
pub(super) fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).at("open", path),
    };
    let mut data = Vec::new();
    file.take(LONGEST_RECORD)
        .read_to_end(&mut data)
        .at("read", path)?;
    let record = serde_json::from_slice(&data);
    record.map(Some).map_err(|e| Error::Record {
        path: path.to_path_buf(),
        why: format!("it cannot be read: {e}"),
    })
}

pub(super) fn to_json(record: &impl Serialize, path: &Path) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(record).map_err(|e| Error::Record {
        path: path.to_path_buf(),
        why: format!("it cannot be written: {e}"),
    })
}

fn is_short(short: &str) -> bool {
    short.len() == super::commit::SHORT && short.bytes().all(|b| b.is_ascii_alphanumeric())
}
