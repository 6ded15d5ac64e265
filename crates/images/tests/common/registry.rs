//! A registry in memory, with faults.

use cofferdam_images::{Digest, Remote, RemoteManifest};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};
use std::sync::{Arc, Mutex};

pub(crate) const OCI: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.oci.image.layer.v1.tar",
];
pub(crate) const DOCKER: [&str; 4] = [
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.docker.image.rootfs.diff.tar",
];

/// What goes wrong with a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The registry refuses it.
    Refused,
    /// An error after so many bytes of an answer; once.
    CutOnce(usize),
    /// The same, every time.
    Cut(usize),
    /// It ends early, without an error.
    Short(usize),
    /// It goes on and on.
    Endless,
    /// One bit is wrong.
    Flipped,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) blobs: BTreeMap<Digest, Vec<u8>>,
    pub(crate) manifests: BTreeMap<String, (String, Vec<u8>)>,
    pub(crate) faults: BTreeMap<Digest, Fault>,
    /// Blobs that were asked for, and from where on.
    pub(crate) asked: Vec<(Digest, u64)>,
}

#[derive(Default, Clone)]
pub(crate) struct Registry(pub(crate) Arc<Mutex<State>>);

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(data).unwrap();
    gzip.finish().unwrap()
}

impl Registry {
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    pub(crate) fn blob_of(&self, data: &[u8]) -> Digest {
        let digest = Digest::of(data);
        self.with(|s| s.blobs.insert(digest.clone(), data.to_vec()));
        digest
    }

    /// Puts a document under its digest, and under a tag; returns its descriptor.
    pub(crate) fn document(&self, media_type: &str, document: &Value, tag: Option<&str>) -> Value {
        let bytes = document.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        let size = bytes.len();
        self.with(|s| {
            s.manifests.insert(digest.to_string(), (media_type.to_owned(), bytes.clone()));
            tag.map(|tag| s.manifests.insert(tag.to_owned(), (media_type.to_owned(), bytes)));
        });
        json!({"mediaType": media_type, "digest": digest, "size": size})
    }

    /// An image of these layers, packed as they are given beside what they unpack to.
    pub(crate) fn image(&self, kinds: &[&str; 4], architecture: &str, layers: &[(Vec<u8>, Vec<u8>)], tag: Option<&str>) -> Value {
        let ids: Vec<_> = layers.iter().map(|(plain, _)| Digest::of(plain)).collect();
        let config = json!({"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}}).to_string();
        let config_digest = self.blob_of(config.as_bytes());
        let layers: Vec<_> = layers
            .iter()
            .map(|(_, packed)| {
                let gzip = if packed.starts_with(&[0x1f, 0x8b]) { "+gzip" } else { "" };
                json!({"mediaType": format!("{}{gzip}", kinds[3]), "digest": self.blob_of(packed), "size": packed.len()})
            })
            .collect();
        let config = json!({"mediaType": kinds[2], "digest": config_digest, "size": config.len()});
        self.document(
            kinds[1],
            &json!({"schemaVersion": 2, "mediaType": kinds[1], "config": config, "layers": layers}),
            tag,
        )
    }

    /// An image of gzip layers under a tag.
    pub(crate) fn simple(&self, layers: &[Vec<u8>], tag: &str) -> Value {
        let layers: Vec<_> = layers.iter().map(|plain| (plain.clone(), gzip(plain))).collect();
        self.image(&OCI, "amd64", &layers, Some(tag))
    }

    pub(crate) fn fault(&self, packed: &[u8], fault: Fault) {
        self.with(|s| s.faults.insert(Digest::of(packed), fault));
    }

    pub(crate) fn asked(&self) -> Vec<(Digest, u64)> {
        self.with(|s| std::mem::take(&mut s.asked))
    }
}

impl Remote for Registry {
    fn manifest(&self, reference: &str) -> Result<RemoteManifest, String> {
        self.with(|s| {
            let (media_type, bytes) = s
                .manifests
                .get(reference)
                .ok_or_else(|| format!("manifest {reference} is unknown to the registry"))?
                .clone();
            Ok(RemoteManifest { media_type, bytes })
        })
    }

    fn blob(&self, digest: &Digest, _: u64, offset: u64) -> Result<Box<dyn Read + Send + '_>, String> {
        self.with(|s| {
            s.asked.push((digest.clone(), offset));
            let mut data = s
                .blobs
                .get(digest)
                .ok_or_else(|| format!("blob {digest} is unknown to the registry"))?
                .clone();
            let fault = s.faults.get(digest).copied();
            if fault == Some(Fault::Flipped) {
                let last = data.len() - 1;
                data[last] ^= 1;
            }
            let rest = data.get(offset as usize..).ok_or("the range cannot be satisfied")?.to_vec();
            let reader: Box<dyn Read + Send> = match fault {
                Some(Fault::Refused) => return Err("the registry answered 500 Internal Server Error".into()),
                Some(Fault::CutOnce(at) | Fault::Cut(at)) => {
                    if matches!(fault, Some(Fault::CutOnce(_))) {
                        s.faults.remove(digest);
                    }
                    let at = at.min(rest.len());
                    Box::new(Cursor::new(rest[..at].to_vec()).chain(Broken))
                }
                Some(Fault::Short(at)) => Box::new(Cursor::new(rest[..at.min(rest.len())].to_vec())),
                Some(Fault::Endless) => Box::new(Cursor::new(rest).chain(std::io::repeat(0))),
                _ => Box::new(Cursor::new(rest)),
            };
            Ok(reader)
        })
    }
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("the registry closed the connection"))
    }
}
