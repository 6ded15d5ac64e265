//! What a registry is to this crate: manifests by tag or digest, and blobs by digest.

use crate::digest::Digest;
use std::io::Read;

/// A manifest as a registry gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteManifest {
    /// The media type that the registry told; empty where it told none.
    pub media_type: String,
    /// The bytes; their digest is the manifest's name.
    pub bytes: Vec<u8>,
}

/// One repository of a registry. Nothing that it says is believed: sizes are bounded and digests are
/// computed by [`crate::Store::pull`]. It is asked by several threads at once.
pub trait Remote: Sync {
    /// The manifest or index that a tag or a digest (`sha256:…`) names.
    ///
    /// # Errors
    /// A sentence for the user.
    fn manifest(&self, reference: &str) -> Result<RemoteManifest, String>;

    /// The bytes of a blob of `size` bytes from `offset` on. A reader that breaks off gives an
    /// error; what was read until then is kept for the next pull.
    ///
    /// # Errors
    /// A sentence for the user.
    fn blob(&self, digest: &Digest, size: u64, offset: u64) -> Result<Box<dyn Read + Send + '_>, String>;
}
