//! Saving: images as archives that other tools load.

use super::Store;
use super::records::{ImageRecord, LayerRef};
use crate::compress::{self, Format};
use crate::digest::{Digest, Metered};
use crate::error::{Error, IoContext, Result};
use crate::manifest::{CONFIG_TYPES, MANIFEST_TYPES, Parsed, parse};
use crate::reference::Reference;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};

/// Form of a saved archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveFormat {
    /// A tar file with an OCI image layout; blobs as they came, so that digests stay.
    OciArchive,
    /// What `docker save` wrote before version 25; layers uncompressed.
    DockerArchive,
}

impl Store {
    /// Writes images to `out`. Each of `names` is a reference, which goes with its image, or an id.
    /// The configurations are written as they are, so that the images load with the ids they have;
    /// the manifests too, where all content is kept as the registry had it.
    ///
    /// # Errors
    /// [`Error::Save`] where content was not kept or is damaged, and those of [`Store::resolve`].
    pub fn save(&self, names: &[&str], out: impl Write, format: SaveFormat) -> Result<()> {
        let _keep = self.keep_layers()?;
        let mut images: Vec<Item> = Vec::new();
        let known = self.read_names()?;
        for text in names {
            let id = self.find(text, &known)?;
            let record = self.read_record(&id)?.ok_or_else(|| Error::NotFound((*text).to_owned()))?;
            let name = Reference::parse(text)
                .ok()
                .filter(|name| known.get(name).is_some_and(|(_, found)| found.image == id));
            match images.iter_mut().find(|item| item.record.id == id) {
                Some(item) => item.names.extend(name),
                None => images.push(Item {
                    record,
                    text: (*text).to_owned(),
                    names: name.into_iter().collect(),
                }),
            }
        }
        let mut archive = Archive {
            store: self,
            out: tar::Builder::new(out),
            written: BTreeSet::new(),
        };
        match format {
            SaveFormat::OciArchive => archive.oci(&images)?,
            SaveFormat::DockerArchive => archive.docker(&images)?,
        }
        archive.out.into_inner().and_then(|mut out| out.flush()).at("write", &self.root)
    }
}

/// One image to be saved.
struct Item {
    record: ImageRecord,
    /// What the user called it.
    text: String,
    names: Vec<Reference>,
}

impl Item {
    fn fail(&self, why: impl Into<String>) -> Error {
        Error::Save {
            image: self.text.clone(),
            why: why.into(),
        }
    }
}

struct Archive<'a, W: Write> {
    store: &'a Store,
    out: tar::Builder<W>,
    written: BTreeSet<String>,
}

impl<W: Write> Archive<'_, W> {
    fn oci(&mut self, images: &[Item]) -> Result<()> {
        let mut manifests = Vec::new();
        self.bytes("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        for item in images {
            let descriptor = self.oci_image(item)?;
            if item.names.is_empty() {
                manifests.push(descriptor.clone());
            }
            for name in &item.names {
                let mut named = descriptor.clone();
                // The first is containerd's name for a whole reference; the other the format's own,
                // which most tools take for a tag.
                named["annotations"] = json!({"io.containerd.image.name": name.to_string(), "org.opencontainers.image.ref.name": name.tag().unwrap_or("latest")});
                manifests.push(named);
            }
        }
        let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests});
        self.bytes("index.json", index.to_string().as_bytes())
    }

    /// Writes the blobs of an image; returns the descriptor of its manifest.
    fn oci_image(&mut self, item: &Item) -> Result<Value> {
        let config = self.config(item)?;
        let kept = item
            .record
            .manifest
            .as_ref()
            .map(|digest| self.store.verified_blob(digest))
            .transpose()?
            .flatten();
        let promised = match kept.as_deref().map(|data| parse(data, "")) {
            Some(Ok(Parsed::Manifest { layers, .. })) => layers,
            _ => Vec::new(),
        };
        let mut layers = Vec::new();
        let mut same = kept.is_some();
        for (index, layer) in item.record.layers.iter().enumerate() {
            let promised = promised.get(index).map(|layer| &layer.digest);
            let blob = self.content(item, layer, promised)?;
            same &= promised == Some(&blob);
            let (size, media_type) = self.blob(item, &blob)?;
            layers.push(json!({"mediaType": media_type, "digest": blob, "size": size}));
        }
        self.bytes(&blob_path(&item.record.id), &config)?;
        let made = || {
            let config = json!({"mediaType": CONFIG_TYPES[0], "digest": item.record.id, "size": config.len()});
            json!({"schemaVersion": 2, "mediaType": MANIFEST_TYPES[0], "config": config, "layers": layers})
                .to_string()
                .into_bytes()
        };
        let manifest = kept.filter(|_| same).unwrap_or_else(made);
        let digest = Digest::of(&manifest);
        self.bytes(&blob_path(&digest), &manifest)?;
        let told: Value = serde_json::from_slice(&manifest).unwrap_or_default();
        let media_type = told["mediaType"].as_str().unwrap_or(MANIFEST_TYPES[0]);
        let platform: Value = serde_json::from_slice(&config).unwrap_or_default();
        let mut shown = json!({"os": platform["os"], "architecture": platform["architecture"]});
        if let Some(variant) = platform["variant"].as_str().filter(|v| !v.is_empty()) {
            shown["variant"] = variant.into();
        }
        Ok(json!({"mediaType": media_type, "digest": digest, "size": manifest.len(), "platform": shown}))
    }

    fn docker(&mut self, images: &[Item]) -> Result<()> {
        let mut manifest = Vec::new();
        for item in images {
            let config = self.config(item)?;
            let name = format!("{}.json", item.record.id.hex());
            self.bytes(&name, &config)?;
            let mut layers = Vec::new();
            for layer in &item.record.layers {
                let name = format!("{}.tar", layer.diff_id.hex());
                self.plain_layer(item, layer, &name)?;
                layers.push(name);
            }
            let tags: Vec<_> = item
                .names
                .iter()
                .filter(|name| name.tag().is_some())
                .map(|name| tagged(name).familiar())
                .collect();
            manifest.push(json!({"Config": name, "RepoTags": tags, "Layers": layers}));
        }
        self.bytes("manifest.json", Value::from(manifest).to_string().as_bytes())
    }

    fn config(&self, item: &Item) -> Result<Vec<u8>> {
        let found = self.store.verified_blob(&item.record.id)?;
        found.ok_or_else(|| item.fail("its configuration is damaged: repair the store first"))
    }

    /// Which of the blobs of a layer is kept.
    fn content(&self, item: &Item, layer: &LayerRef, promised: Option<&Digest>) -> Result<Digest> {
        let unpacked = self.store.read_layer(&layer.chain_id)?.and_then(|known| known.blob);
        let candidates = [promised.cloned(), layer.blob.clone(), layer.other.clone()];
        let kept = candidates
            .into_iter()
            .flatten()
            .find(|digest| self.store.blob(digest).is_file() && (unpacked.as_ref() == Some(digest) || self.is_of(digest, layer)));
        kept.ok_or_else(|| {
            item.fail(format!(
                "the content of layer {} was not kept: pull or load the image again",
                layer.diff_id
            ))
        })
    }

    /// Whether a blob is the layer: of one that the store had, a registry alone has said so, and it may
    /// have named somebody else's.
    fn is_of(&self, digest: &Digest, layer: &LayerRef) -> bool {
        let most = self.store.limits.image_bytes.saturating_mul(2);
        let unpacked = File::open(self.store.blob(digest))
            .and_then(|file| compress::decoder(BufReader::with_capacity(256 << 10, file)))
            .and_then(|plain| Metered::new(plain, most, "it is too large").finish());
        unpacked.is_ok_and(|(found, _)| found == layer.diff_id)
    }

    /// Writes a layer as it is kept; returns its size and media type.
    fn blob(&mut self, item: &Item, digest: &Digest) -> Result<(u64, &'static str)> {
        let path = self.store.blob(digest);
        let file = File::open(&path).at("open", &path)?;
        let size = file.metadata().at("read", &path)?.len();
        let media_type = match crate::source::format(&file).at("read", &path)? {
            Format::Plain => "application/vnd.oci.image.layer.v1.tar",
            Format::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Format::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        };
        if self.written.insert(blob_path(digest)) {
            let mut reader = Metered::new(file, size, "it grows while it is read");
            self.entry(&blob_path(digest), size, &mut reader)?;
            let (found, _) = reader.finish().at("read", &path)?;
            damaged(item, digest, &found)?;
        }
        Ok((size, media_type))
    }

    /// Writes a layer decompressed. It is read twice: a tar file wants to know a size first.
    fn plain_layer(&mut self, item: &Item, layer: &LayerRef, name: &str) -> Result<()> {
        if !self.written.insert(name.to_owned()) {
            return Ok(());
        }
        let blob = self.content(item, layer, None)?;
        let path = self.store.blob(&blob);
        let open = || -> Result<Box<dyn Read>> {
            let file = BufReader::with_capacity(256 << 10, File::open(&path).at("open", &path)?);
            compress::decoder(file).at("read", &path)
        };
        let most = self.store.limits.image_bytes.saturating_mul(2);
        let read = Metered::new(open()?, most, "it is too large").finish();
        let (found, size) = read.map_err(|e| item.fail(format!("the content of layer {} is damaged: {e}", layer.diff_id)))?;
        damaged(item, &layer.diff_id, &found)?;
        self.entry(name, size, &mut open()?.take(size))
    }

    fn bytes(&mut self, name: &str, data: &[u8]) -> Result<()> {
        if name.starts_with("blobs/") && !self.written.insert(name.to_owned()) {
            return Ok(());
        }
        self.entry(name, data.len() as u64, &mut &data[..])
    }

    fn entry(&mut self, name: &str, size: u64, data: &mut dyn Read) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o644);
        // The same images give the same archive.
        header.set_mtime(0);
        let written = self.out.append_data(&mut header, name, Exact { data, left: size });
        written.at("write the archive's", std::path::Path::new(name))
    }
}

/// Gives exactly as many bytes as were announced, or an error.
struct Exact<'a> {
    data: &'a mut dyn Read,
    left: u64,
}

impl Read for Exact<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.data.read(&mut buffer[..want])?;
        if n == 0 && want > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= n as u64;
        Ok(n)
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn damaged(item: &Item, wanted: &Digest, found: &Digest) -> Result<()> {
    match found == wanted {
        true => Ok(()),
        false => Err(item.fail(format!("the kept content {wanted} is damaged: repair the store first"))),
    }
}

/// Without the digest, which a docker archive has no place for.
fn tagged(name: &Reference) -> Reference {
    Reference::parse(&name.key()).unwrap_or_else(|_| name.clone())
}

/// Bytes that a file or tree takes on disk.
pub(super) fn disk_usage(path: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let (mut sum, mut left) = (0, vec![path.to_path_buf()]);
    let mut seen = BTreeSet::new();
    while let Some(path) = left.pop() {
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if meta.nlink() < 2 || meta.is_dir() || seen.insert(meta.ino()) {
            sum += meta.blocks() * 512;
        }
        if meta.is_dir() {
            left.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    sum
}
