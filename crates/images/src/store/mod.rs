//! The store: a directory that several processes share.
//!
//! ```text
//! lock                      held alone while names, records or layers change
//! use.lock                  shared by loads, whose layers no record names yet; alone by the collector
//! blobs/sha256/<hex>        configurations, manifests, and layers, compressed as they came
//! partial/<hex>             what a pull has of a layer, locked while it grows
//! layers/<chain>/tree/      one layer, unpacked, as overlayfs wants it
//! layers/<chain>/layer.json what it is
//! l/<10 characters>         link to a tree: mount options must fit a page
//! images/<hex>.json         one image, never changed
//! names.json                name to image
//! replaced/<chain>.<boot>…   damaged layers that containers may still run from
//! erofs/<hex>               block images, by image
//! tmp/                      half-made things, each locked by its owner
//! empty/                    the tree of an image without layers
//! ```
//!
//! Everything appears by rename, layers before the record that names them, and is synced before.
//! What a killed process leaves in `tmp` or without a record goes when the store is opened next.

mod block;
mod collect;
mod commit;
mod content;
mod fsck;
mod import;
mod load;
mod lock;
mod names;
mod pipe;
mod prune;
mod pull;
mod records;
mod save;

pub use block::{BlockRoot, ErofsSnapshotter, OverlaySnapshotter, Root, Snapshotter};
pub use collect::Removed;
pub use fsck::{Finding, FsckReport, Repair};
pub use load::{Input, LoadOptions, Loaded};
pub use prune::{PruneOptions, Pruned};
pub use pull::{PullEvent, PullOptions, Pulled};
pub use save::SaveFormat;
pub(crate) use lock::Temp;

use crate::config::{self, ImageConfig};
use crate::digest::Digest;
use crate::error::{Error, IoContext, Result};
use crate::limits::Limits;
use crate::platform::Platform;
use crate::tree;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// An image of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Digest of the configuration.
    pub id: Digest,
    /// Complete references, sorted.
    pub names: Vec<String>,
    /// Bytes of all layers, unpacked.
    pub size: u64,
    /// Trees of the layers, lowest first. For a mount, see [`Store::lower_dirs`].
    pub layers: Vec<PathBuf>,
    /// How to run it.
    pub config: ImageConfig,
    /// Digest of the manifest or index that it came from, where it had one.
    pub target: Option<Digest>,
    /// `repository@digest`, sorted: what the registries call it from which it was pulled.
    pub repo_digests: Vec<String>,
    short: Vec<String>,
}

/// The images of this machine.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    limits: Limits,
    host: Platform,
    problems: Vec<String>,
    keep_content: bool,
}

impl Store {
    /// Opens the store under `root`, which is made where it is missing, and clears away what killed
    /// processes left. What cannot be read is put aside; see [`Store::problems`].
    ///
    /// # Errors
    /// Where the directory cannot be made or locked.
    pub fn open(root: &Path) -> Result<Self> {
        Self::open_with(root, Limits::default(), Platform::host())
    }

    /// As [`Store::open`], with bounds and a platform other than this machine's.
    pub fn open_with(root: &Path, limits: Limits, host: Platform) -> Result<Self> {
        let root = std::path::absolute(root).at("find", root)?;
        for dir in ["", "blobs/sha256", "partial", "layers", "l", "images", "tmp", "empty", "replaced", "erofs"] {
            let path = root.join(dir);
            // Layers have setuid programs and devices: the users of the host must not reach them.
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .at("create", &path)?;
        }
        for (dir, mode) in [("", 0o700), ("empty", 0o755)] {
            let path = root.join(dir);
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).at("protect", &path)?;
        }
        let mut store = Self {
            root,
            limits,
            host,
            problems: Vec::new(),
            keep_content: true,
        };
        store.problems = store.put_aside_unreadable()?;
        store.clear_temporaries()?;
        store.clear_old()?;
        store.collect()?;
        Ok(store)
    }

    /// Whether the compressed layers of images that are pulled or loaded from now on stay; they do
    /// where nobody says otherwise. Without them images cannot be saved, and a damaged layer is
    /// repaired from the registry alone.
    #[must_use]
    pub fn keep_content(mut self, keep: bool) -> Self {
        self.keep_content = keep;
        self
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The platform that images are chosen and built for.
    pub fn host(&self) -> &Platform {
        &self.host
    }

    /// Sentences about records that could not be read when the store was opened. While there are
    /// any, no layer is removed.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// All images, by their first name.
    ///
    /// # Errors
    /// Where a record cannot be read.
    pub fn list(&self) -> Result<Vec<Image>> {
        let names = self.read_names()?;
        let mut images = Vec::new();
        for id in self.image_ids()? {
            // Another process may remove one meanwhile.
            images.extend(self.image(&id, &names)?);
        }
        images.sort_by(|a, b| {
            (a.names.is_empty(), &a.names, &a.id).cmp(&(b.names.is_empty(), &b.names, &b.id))
        });
        Ok(images)
    }

    /// The image of a reference, an id (`sha256:` before it or not), or the first eight or more
    /// digits of an id. A reference comes before the beginning of an id.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`], [`Error::Reference`], or a record that cannot be read.
    pub fn resolve(&self, text: &str) -> Result<Image> {
        let names = self.read_names()?;
        let id = self.find(text, &names)?;
        self.image(&id, &names)?
            .ok_or_else(|| Error::NotFound(text.to_owned()))
    }

    /// As [`Store::resolve`], for an image that is to run on this machine.
    ///
    /// # Errors
    /// [`Error::Platform`] where it is for another one.
    pub fn resolve_for_run(&self, text: &str) -> Result<Image> {
        let image = self.resolve(text)?;
        if image.config.platform.rank(&self.host).is_none() {
            let (found, machine) = (image.config.platform.to_string(), self.host.to_string());
            return Err(Error::Platform {
                image: text.to_owned(),
                found,
                machine,
            });
        }
        Ok(image)
    }

    /// The lower directories of an overlay mount, topmost first, each `<root>/l/<10 characters>`.
    /// 127 of them relative to [`Store::root`] are 1650 bytes, so that a mount from there fits
    /// a page with its other options; so does `lowerdir+` of newer kernels. The merged root takes
    /// owner and mode from the upper directory: give that one those of the first directory here.
    ///
    /// # Errors
    /// [`Error::Record`] where a layer is gone.
    pub fn lower_dirs(&self, image: &Image) -> Result<Vec<PathBuf>> {
        if image.short.is_empty() {
            return Ok(vec![self.root.join("empty")]);
        }
        let mut dirs = Vec::new();
        for short in image.short.iter().rev() {
            let path = self.root.join("l").join(short);
            let gone = || Error::Record {
                path: path.clone(),
                why: format!(
                    "a layer of image {} is gone: load the image again",
                    image.id
                ),
            };
            let dir = fs::File::open(&path).map_err(|_| gone())?;
            dirs.push(path);
            // overlayfs merges the roots of all layers, whatever their attributes say.
            if tree::is_opaque(&dir) {
                break;
            }
        }
        Ok(dirs)
    }

    /// An image's configuration as it came, JSON.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn configuration(&self, image: &Image) -> Result<Vec<u8>> {
        let path = self.blob(&image.id);
        fs::read(&path).at("read", &path)
    }

    /// The image with this id, or `None` where there is none.
    fn image(&self, id: &Digest, names: &names::Names) -> Result<Option<Image>> {
        let Some(record) = self.read_record(id)? else {
            return Ok(None);
        };
        let path = self.blob(id);
        let data = fs::read(&path).at("read", &path)?;
        if Digest::of(&data) != *id {
            return Err(Error::Record {
                path,
                why: "it is damaged: load the image again".into(),
            });
        }
        let (config, _) = config::parse(&data).map_err(|why| Error::Record { path, why })?;
        Ok(Some(Image {
            id: id.clone(),
            names: names.of(id),
            repo_digests: names.digests_of(id),
            size: record.size,
            layers: record
                .layers
                .iter()
                .map(|layer| self.layer(&layer.chain_id).join("tree"))
                .collect(),
            short: record
                .layers
                .iter()
                .map(|layer| layer.short.clone())
                .collect(),
            config,
            target: record.target,
        }))
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    fn layer(&self, chain_id: &Digest) -> PathBuf {
        self.root.join("layers").join(chain_id.hex())
    }
}
