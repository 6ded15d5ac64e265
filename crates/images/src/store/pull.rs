//! Pulling: from a registry's manifest to an image of the store.

use super::import::{Event, How};
use super::{Image, Store};
use crate::archive::{LayerBlob, Offer};
use crate::config;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::{self, DEEPEST, Descriptor, Parsed};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::remote::Remote;
use crate::source::Blobs;
use std::io::Read;

/// Layers that are fetched and unpacked at once where nobody says otherwise. Each has three threads
/// and 4 MiB of buffers; measured on two processors, more than three gain nothing.
const PARALLEL: usize = 3;
/// The most that may be asked for.
const MOST_PARALLEL: usize = 16;

/// How to pull.
#[derive(Default, Clone, Copy)]
pub struct PullOptions<'a> {
    /// Platform to choose from an index; this machine's where `None`.
    pub platform: Option<&'a Platform>,
    /// Layers at once, 1 to 16; 3 where `None`.
    pub parallel: Option<usize>,
    /// Is told how the pull gets on, in the thread that pulls.
    pub progress: Option<&'a dyn Fn(&PullEvent)>,
}

/// How a pull gets on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullEvent {
    /// The manifest is known. Each layer: digest of its blob, and its compressed size in bytes.
    Resolved {
        /// Lowest first.
        layers: Vec<(Digest, u64)>,
    },
    /// So many bytes of a layer have come; those that were here already count.
    Layer {
        /// Its number, from 0.
        index: usize,
        /// Bytes so far.
        done: u64,
        /// Bytes of the whole.
        total: u64,
    },
    /// A layer is there.
    LayerDone {
        /// Its number, from 0.
        index: usize,
        /// Whether nothing of it had to be fetched.
        reused: bool,
    },
    /// All layers are there; the image is synced and recorded.
    Commit,
}

/// What a pull brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// Digest of the configuration: the image's id.
    pub id: Digest,
    /// Digest of what the reference named: an index or a manifest.
    pub digest: Digest,
    /// The image, with all its names.
    pub image: Image,
    /// Bytes of layers that the registry sent.
    pub bytes_fetched: u64,
    /// Layers of the image.
    pub layers: usize,
    /// Those of which nothing was fetched.
    pub layers_reused: usize,
    /// Sentences for the user: attributes that were left out.
    pub notes: Vec<String>,
}

impl Store {
    /// Pulls what `name` names from `remote`, which is its repository. Layers that the store has, by
    /// their place in an image or by the digest of their kept content, are not fetched; what an
    /// earlier pull left of one is continued. The image appears when all of it is there, verified
    /// and synced.
    ///
    /// # Errors
    /// [`Error::Pull`] with the registry's sentence or with what is wrong with what it sent,
    /// [`Error::DigestMismatch`], [`Error::Platform`], [`Error::Unpack`], or a failure of the file
    /// system.
    pub fn pull(&self, name: &Reference, remote: &dyn Remote, options: PullOptions<'_>) -> Result<Pulled> {
        let _keep = self.keep_layers()?;
        let text = name.to_string();
        let source = RemoteBlobs { remote, image: &text };
        let offer = self.offer(name, &source, options.platform.unwrap_or(&self.host))?;
        let digest = offer.target.clone().ok_or_else(|| source.fail("it has no manifest".into()))?;
        let layers = offer.layers.len();
        let tell = |event: PullEvent| {
            if let Some(progress) = options.progress {
                progress(&event);
            }
        };
        tell(PullEvent::Resolved {
            layers: offer.layers.iter().filter_map(|layer| layer.promised.clone()).collect(),
        });
        let parallel = options.parallel.unwrap_or(PARALLEL).clamp(1, MOST_PARALLEL);
        let mut left = layers;
        let imported = self.import(
            &offer,
            &source,
            &How {
                name: &text,
                parallel,
                reuse: true,
            },
            &mut |event| {
                tell(match event {
                    Event::Bytes { index, done, total } => PullEvent::Layer { index, done, total },
                    Event::Done { index, reused } => PullEvent::LayerDone { index, reused },
                });
                left -= usize::from(matches!(event, Event::Done { .. }));
                if left == 0 {
                    tell(PullEvent::Commit);
                }
            },
        )?;
        Ok(Pulled {
            id: imported.image.id.clone(),
            digest,
            image: imported.image,
            bytes_fetched: imported.fetched,
            layers,
            layers_reused: imported.reused,
            notes: imported.notes,
        })
    }

    /// The image that the registry offers for `wanted`.
    pub(super) fn offer(&self, name: &Reference, source: &RemoteBlobs<'_>, wanted: &Platform) -> Result<Offer> {
        let fail = |why| source.fail(why);
        let asked = match (name.digest(), name.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or("latest").to_owned(),
        };
        let (bytes, parsed) = source.manifest(&asked, name.digest(), None, self.limits.json_bytes)?;
        let target = Digest::of(&bytes);
        let (bytes, config, layers) = source.image(bytes, parsed, wanted, self)?;
        if layers.len() > self.limits.layers {
            return Err(fail(format!(
                "it has {} layers, and no more than {} are taken",
                layers.len(),
                self.limits.layers
            )));
        }
        if layers
            .iter()
            .try_fold(0u64, |sum, layer| sum.checked_add(layer.size))
            .is_none_or(|sum| sum > self.limits.image_bytes)
        {
            return Err(fail(format!("its layers have more than {} bytes", self.limits.image_bytes)));
        }
        let config = match self.verified_blob(&config.digest)? {
            Some(data) => data,
            None => source.small(&config, self.limits.json_bytes)?,
        };
        let (parsed, diff_ids) = config::parse(&config).map_err(fail)?;
        if diff_ids.len() != layers.len() {
            return Err(fail(format!(
                "it has {} layers, but its configuration names {}",
                layers.len(),
                diff_ids.len()
            )));
        }
        if parsed.platform.rank(wanted).is_none() {
            return Err(foreign(name, parsed.platform.to_string(), wanted));
        }
        Ok(Offer {
            config,
            layers: layers
                .into_iter()
                .map(|layer| LayerBlob {
                    name: layer.digest.to_string(),
                    promised: Some((layer.digest, layer.size)),
                })
                .collect(),
            manifest: Some(bytes),
            target: Some(target),
            names: vec![name.clone()],
            notes: Vec::new(),
            pulled: true,
        })
    }
}

fn foreign(name: impl ToString, found: String, wanted: &Platform) -> Error {
    Error::Platform {
        image: name.to_string(),
        found,
        machine: wanted.to_string(),
    }
}

/// A registry's repository as a source of blobs.
pub(super) struct RemoteBlobs<'a> {
    pub(super) remote: &'a dyn Remote,
    /// What messages call the image.
    pub(super) image: &'a str,
}

impl RemoteBlobs<'_> {
    pub(super) fn fail(&self, why: String) -> Error {
        Error::Pull {
            image: self.image.to_owned(),
            why,
        }
    }

    /// The manifest that `asked` names, verified where its digest is known.
    fn manifest(&self, asked: &str, digest: Option<&Digest>, size: Option<u64>, most: u64) -> Result<(Vec<u8>, Parsed)> {
        let got = self.remote.manifest(asked).map_err(|why| self.fail(why))?;
        if got.bytes.len() as u64 > most {
            return Err(self.fail(format!("its manifest is larger than {most} bytes")));
        }
        if let Some(digest) = digest {
            super::import::check(format!("the manifest of image {}", self.image), digest, Digest::of(&got.bytes))?;
        }
        if let Some(size) = size.filter(|size| *size != got.bytes.len() as u64) {
            return Err(self.fail(format!("manifest {asked} has {} bytes, but {size} were promised", got.bytes.len())));
        }
        let parsed = manifest::parse(&got.bytes, &got.media_type).map_err(|why| self.fail(why))?;
        Ok((got.bytes, parsed))
    }

    /// Goes through indexes to the manifest for `wanted`.
    fn image(
        &self,
        mut bytes: Vec<u8>,
        mut parsed: Parsed,
        wanted: &Platform,
        store: &Store,
    ) -> Result<(Vec<u8>, Descriptor, Vec<Descriptor>)> {
        for _ in 0..=DEEPEST {
            let entries = match parsed {
                Parsed::Manifest { config, layers } => return Ok((bytes, config, layers)),
                Parsed::Index(entries) => entries,
            };
            let chosen = manifest::choose(entries, wanted).map_err(|found| foreign(self.image, found, wanted))?;
            if chosen.size > store.limits.json_bytes {
                return Err(self.fail(format!("its manifest is larger than {} bytes", store.limits.json_bytes)));
            }
            (bytes, parsed) = self.manifest(
                &chosen.digest.to_string(),
                Some(&chosen.digest),
                Some(chosen.size),
                store.limits.json_bytes,
            )?;
        }
        Err(self.fail(format!("its indexes are nested more than {DEEPEST} deep")))
    }

    /// All of a small blob, verified.
    pub(super) fn small(&self, blob: &Descriptor, most: u64) -> Result<Vec<u8>> {
        if blob.size > most {
            return Err(self.fail(format!("blob {} is larger than {most} bytes", blob.digest)));
        }
        let mut data = Vec::new();
        let reader = self.remote.blob(&blob.digest, blob.size, 0).map_err(|why| self.fail(why))?;
        let broken = |e| self.fail(format!("blob {} cannot be read: {e}", blob.digest));
        reader.take(blob.size.saturating_add(1)).read_to_end(&mut data).map_err(broken)?;
        if data.len() as u64 != blob.size {
            return Err(self.fail(format!(
                "blob {} has {} bytes, but {} were promised",
                blob.digest,
                data.len(),
                blob.size
            )));
        }
        super::import::check(
            format!("blob {} of image {}", blob.digest, self.image),
            &blob.digest,
            Digest::of(&data),
        )?;
        Ok(data)
    }
}

impl Blobs for RemoteBlobs<'_> {
    fn open(&self, name: &str) -> Result<(Box<dyn Read + Send + '_>, u64)> {
        Err(self.fail(format!("blob {name} has no promised size")))
    }

    fn is_remote(&self, _: &Digest, _: u64) -> bool {
        true
    }

    fn resume(&self, digest: &Digest, size: u64, offset: u64) -> Option<Result<Box<dyn Read + Send + '_>>> {
        Some(
            self.remote
                .blob(digest, size, offset)
                .map_err(|why| self.fail(format!("layer {digest}: {why}"))),
        )
    }
}
